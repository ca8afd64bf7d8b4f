# SPDX-License-Identifier: Apache-2.0
"""The benches pass on the reference RTL in both simulators, and catch and name what is planted in it."""

import ctypes
import os
import re
import sys
from importlib import resources
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from c_programs import compiled
from click.testing import CliRunner
from verify.rtl import make, make_bench, require, run, telling_cases, write_cases
from verify.rtl_bugs import BUGS

from intsim import ops
from intsim.cli import cli
from intsim.fixedpoint import INT8, INT32, Dyadic
from intsim.profile import INTSIM
from intsim.testing import assert_bit_exact
from intsim.verify.bench import BENCHES, write_bench
from intsim.verify.diagnose import diagnose_files
from intsim.verify.vectors import bind, generate, minimum
from intsim.verify.vectors.judge import Verdict, verify

CASES = {"requantize": 2000, "add": 1000, "gelu": 1000, "softmax": 200, "layer_norm": 120, "matmul": 150}
NAMED = 32
UNOPTIMISED = ("OPT_FAST=-O0", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0")  # compiling takes longer than running

every_unit = pytest.mark.parametrize("name", list(BENCHES))
one_unit = pytest.mark.parametrize(  # compiling takes long
    "name", [name if name == "requantize" else pytest.param(name, marks=pytest.mark.slow) for name in BENCHES]
)


def verdict(path, name):
    (last,) = [found for found in verify(BytesIO(path.read_bytes()), name) if isinstance(found, Verdict)]
    return last


def assert_all_answered(folder, simulator, name, *, cases):
    judged = verdict(folder / f"answers_{simulator}.txt", name)
    assert (judged.mismatches, judged.cases) == (0, cases)


@every_unit
def test_icarus_passes_the_reference_with_stalls_and_resets(name, tmp_path):
    require("iverilog")
    folder = make_bench(name, tmp_path / name, count=CASES[name])
    for options in ("+stall=0 +resets=0", "+stall=30 +resets=20", "+stall=85 +resets=7 +seed=5"):
        done = make(folder, "icarus", f"PLUSARGS={options}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "bench: passed" in done.stdout
        assert "warning" not in done.stderr
        assert_all_answered(folder, "icarus", name, cases=CASES[name])


@one_unit
def test_verilator_passes_the_reference_with_the_same_answers(name, tmp_path):
    require("verilator")
    cases = min(1000, minimum(bind(name, INTSIM), 1))  # of matmul all
    folder = make_bench(name, tmp_path / name, count=cases)
    lint = make(folder, "lint")
    assert (lint.returncode, lint.stderr) == (0, "")
    done = make(folder, "verilator", *UNOPTIMISED, "TRACE=", "PLUSARGS=+stall=30 +resets=20")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bench: passed" in done.stdout
    assert_all_answered(folder, "verilator", name, cases=cases)


@pytest.mark.parametrize(("name", "size"), [("softmax", (1,)), ("layer_norm", (1,)), ("matmul", (3, 5, 7))])
def test_units_of_another_size_pass(name, size, tmp_path):
    require("iverilog")
    folder = make_bench(name, tmp_path / name, count=40, size=size)
    done = make(folder, "icarus")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ("add", "gelu") else name for name in BENCHES]
)
def test_cocotb_passes_the_reference(name, tmp_path):
    require("iverilog")
    require("cocotb", is_there=find_spec("cocotb") is not None)
    folder = make_bench(name, tmp_path / name, count=30)
    done = make(folder, "cocotb", f"PYTHON={sys.executable}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_all_answered(folder, "cocotb", name, cases=30)


@pytest.mark.parametrize(
    ("name", "layer", "said"),
    [
        ("requantize", "encoder.layer.0.attention.self.query", "# to: narrow"),
        ("matmul", "encoder.layer.0.attention.self.context.acc", "# activations: uint8"),
    ],
)
def test_a_bench_takes_constants_and_formats_of_a_layer_of_a_model(name, layer, said, tmp_path):
    require("iverilog")
    folder, model = write_bench(name, tmp_path / name)[0].parent, resources.files("intsim.embedded")
    command = ("make", "icarus", f"INTSIM={sys.executable} -m intsim", "LEVEL=0", f"FROM={model}", f"LAYER={layer}")
    done = run(*command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in (folder / "vectors.txt").read_text().splitlines()
    assert re.search(r"bench: passed: 200 cases, \d+ resets, at time \d+$", done.stdout, re.MULTILINE)


def test_vectors_are_made_anew_where_an_option_is_another_one(tmp_path):
    require("iverilog")
    folder, model = write_bench("requantize", tmp_path / "bench")[0].parent, resources.files("intsim.embedded")

    def passed(*options):
        done = run("make", f"INTSIM={sys.executable} -m intsim", *options, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        (cases,) = re.findall(r"requantize: 0 of (\d+) cases differ", done.stderr)
        return int(cases), (folder / "vectors.txt").stat().st_mtime_ns

    layer = [f"FROM={model}", "LAYER=encoder.layer.0.attention.self.query", "LEVEL=0"]
    seen = [passed("LEVEL=0"), passed("LEVEL=0"), passed("LEVEL=0", "TO=narrow"), passed(*layer), passed()]
    assert [cases for cases, _ in seen] == [200, 200, 200, 200, minimum(bind("requantize", INTSIM), 1)]
    assert seen[0] == seen[1]
    assert len({when for _, when in seen}) == 4
    half = run("make", f"INTSIM={sys.executable} -m intsim", f"FROM={model}", cwd=folder)
    assert half.returncode != 0
    assert "--from DIR and --layer NAME must be given together" in half.stderr


@pytest.mark.slow
def test_a_bench_takes_the_formats_that_make_is_told_or_refuses_them(tmp_path):
    require("iverilog")
    folder = write_bench("requantize", tmp_path / "bench")[0].parent
    done = run("make", "icarus", f"INTSIM={sys.executable} -m intsim", "LEVEL=0", "TO=uint8", cwd=folder)
    assert "# to: uint8" in (folder / "vectors.txt").read_text().splitlines()
    assert "requantize.sv gives signed codes, the vectors do not" in done.stdout + done.stderr
    assert done.returncode != 0


@pytest.mark.slow
def test_the_c_model_judges_the_unit_through_dpi(tmp_path):
    require("verilator")
    folder = make_bench("requantize", tmp_path / "bench", count=1)
    unit = folder / "requantize.sv"
    unit.write_text(unit.read_text().replace("_1 <= zero_point;", "_1 <= acc == 999 ? 8'sd7 : zero_point;"))
    constants = ("MULTIPLIER=1073741824", "SHIFT=34", "FIRST=-1000")
    done = make(folder, "dpi", *UNOPTIMISED, *constants, "COUNT=1999")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dpi: passed: 1999 accumulators from -1000" in done.stdout
    done = make(folder, "dpi", *UNOPTIMISED, *constants, "COUNT=2000")
    assert done.returncode != 0
    assert "dpi: requantize(999) gives 69, expected 59" in done.stdout


EVERY = """#include "requantize_dpi.c"
void every(const int32_t *acc, const int32_t *m, const int32_t *t, const int32_t *z, int8_t *y, int64_t n);
void every(const int32_t *acc, const int32_t *m, const int32_t *t, const int32_t *z, int8_t *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = (int8_t)intsim_requantize(acc[i], m[i], t[i], z[i]);
}
"""


@pytest.fixture
def c_model(tmp_path):
    """Return the function from arrays of operands to what the C model of the bench makes of them."""
    write_bench("requantize", tmp_path / "c")
    (tmp_path / "every.c").write_text(EVERY)
    options = ("-Wno-missing-prototypes", "-O2", "-shared", "-fPIC", "-I", str(tmp_path / "c"))
    every = ctypes.CDLL(str(compiled(tmp_path / "every.c", tmp_path / "every.so", *options))).every

    def requantize(*operands):
        words = [np.ascontiguousarray(np.broadcast_to(x, operands[0].shape), np.int32) for x in operands]
        y = np.empty(words[0].shape, np.int8)
        every(*(x.ctypes.data_as(ctypes.c_void_p) for x in (*words, y)), ctypes.c_int64(y.size))
        return y

    return requantize


def test_the_c_model_of_the_dpi_bench_requantizes_as_ours_does(c_model):
    operator = bind("requantize", INTSIM)
    cases = np.concatenate(list(generate(operator, seed=1, level=2, cases=minimum(operator, 2))))
    assert len(np.unique(cases[:, 1:3], axis=0)) > 100_000  # ratios
    assert_bit_exact(c_model(*cases.T), operator.results(cases)[:, 0].astype(np.int8))


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("INTSIM_ALL_ACCUMULATORS") != "1",
    reason="takes minutes; INTSIM_ALL_ACCUMULATORS=1 runs every accumulator of one channel",
)
def test_every_accumulator_of_a_channel_is_requantized_as_ours_does_by_the_c_model_and_the_unit(c_model, tmp_path):
    multiplier, shift, zero_point = 1_583_594_044, 40, -3
    constants = {"to": INT8, "rounding": INTSIM.requantization, "zero_point": zero_point}
    block = 1 << 20
    for first in range(INT32.min, INT32.max + 1, block):
        acc = np.arange(first, first + block).astype(np.int32)
        expected = ops.requantize(acc, Dyadic(multiplier, shift), **constants)
        assert_bit_exact(c_model(acc, multiplier, shift, zero_point), expected)
    require("verilator")
    folder = make_bench("requantize", tmp_path / "bench", count=1)
    channel = (f"MULTIPLIER={multiplier}", f"SHIFT={shift}", f"ZERO_POINT={zero_point}")
    done = make(folder, "dpi", *channel, timeout=7200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"dpi: passed: {1 << 32} accumulators from {INT32.min}" in done.stdout


def test_a_bench_goes_into_an_empty_folder_only(tmp_path):
    runner = CliRunner()
    assert runner.invoke(cli, ["vectors", "bench", "softmax", "--out", str(tmp_path / "new" / "bench")]).exit_code == 0
    assert {path.name for path in (tmp_path / "new" / "bench").iterdir()} == {
        *("Makefile", "bench.sv", "cocotb_bench.py"),
        *("softmax.sv", "i_exp.sv", "divide.sv", "tb_softmax.sv"),
    }
    again = runner.invoke(cli, ["vectors", "bench", "softmax", "--out", str(tmp_path / "new" / "bench")])
    assert "must be a new or empty folder" in str(again.exception)


@pytest.mark.slow
def test_planted_bugs_are_caught_and_named(tmp_path):
    require("iverilog")
    assert len(BUGS) >= 37
    for name in BENCHES:
        write_bench(name, tmp_path / name)
        write_cases(*telling_cases(name), tmp_path / name)
    named, table = 0, []
    for bug in BUGS:
        folder, file = tmp_path / bug.unit, bug.file or f"{bug.unit}.sv"
        correct = (folder / file).read_text()
        assert correct.count(bug.old) == 1, bug.what
        (folder / file).write_text(correct.replace(bug.old, bug.new))
        done = make(folder, "icarus", f"PLUSARGS=+resets={0 if bug.names else 20}")
        (folder / file).write_text(correct)
        assert done.returncode != 0, bug.what
        assert "bench: failed" in done.stdout, (bug.what, done.stdout, done.stderr)
        first = "none" if not bug.names else _first_named(folder)
        named += first in bug.names
        table.append(f"{bug.unit}: {bug.what}: {first}")
    print("\n" + "\n".join(table))
    assert named >= NAMED, table


def _first_named(folder):
    found = diagnose_files(str(folder / "vectors.txt"), str(folder / "answers_icarus.txt"))
    return next(iter((*found.explain_all, *(cause.change for cause in found.explain_some))), "none")
