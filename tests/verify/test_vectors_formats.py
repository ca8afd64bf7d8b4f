# SPDX-License-Identifier: Apache-2.0
"""Vectors as npz, safetensors, memh and C headers hold what the text holds."""

import re
import shutil
import subprocess
from functools import cache
from itertools import chain
from typing import Final

import numpy as np
import pytest
from edges import edge_integers
from hypothesis import given
from hypothesis import strategies as st
from verify.vector_files import bounds, call, every_operator, fields, generated, split, text_of

from intsim.io.safetensors_file import read
from intsim.profile import INTSIM
from intsim.verify.vectors import OPERATORS, bind
from intsim.verify.vectors.formats import pack_lanes, unpack_lanes


@pytest.fixture(params=[True, False], ids=["whole", "operands-only"])
def results(request):
    return request.param


FEW: Final = ("--level", 0)  # cases: how a file is written does not depend on which they are


@cache
def all_columns(name):
    operator = bind(name, INTSIM)
    lines = [line.decode().split() for line in split(text_of(name, *FEW))[1]]
    arrays, start = {}, 0
    for field in [*operator.operands, operator.result]:
        words = [[int(word, 16) for word in line[start : start + field.count]] for line in lines]
        signs = 1 << field.bits - 1 if field.signed else 0
        arrays[field.name] = [[(word ^ signs) - signs for word in row] for row in words]
        start += field.count
    return operator, arrays


def columns(name, *, results):
    """Return the integers of the text, one array per field, and the operator."""
    operator, arrays = all_columns(name)
    return operator, {field: arrays[field] for field in arrays if results or field != operator.result.name}


def options(*, results):
    return [*FEW, *([] if results else ["--operands-only"])]


def assert_equal_to_text(arrays, name, *, results):
    operator, expected_arrays = columns(name, results=results)
    sides = {field.name: "inputs" for field in operator.operands} | {operator.result.name: "outputs"}
    assert set(arrays) == {f"{sides[field]}.{field}" for field in expected_arrays}
    for field, values in expected_arrays.items():
        array = arrays[f"{sides[field]}.{field}"]
        assert array.dtype.kind in "iu"
        assert array.reshape(len(values), -1).tolist() == values


@every_operator
def test_npz_holds_what_the_text_holds(name, tmp_path, results):
    path = tmp_path / "vectors.npz"
    assert call("gen", name, "--format", "npz", "-o", path, *options(results=results))[:2] == (0, b"")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    header = arrays.pop("header")
    assert f"operator: {name}" in header.tolist()
    assert_equal_to_text(arrays, name, results=results)
    first = path.read_bytes()
    assert generated(name, "--format", "npz", *options(results=results)) == first


@every_operator
def test_safetensors_hold_what_the_text_holds(name, tmp_path, results):
    path = tmp_path / "vectors.safetensors"
    assert call("gen", name, "--format", "safetensors", "-o", path, *options(results=results))[:2] == (0, b"")
    arrays, metadata = read(path)
    assert f"operator: {name}" in metadata["vectors"]
    assert_equal_to_text(arrays, name, results=results)


def parameters(package):
    return {key: int(value) for key, value in re.findall(r"localparam (?:int|bit) (\w+) = (-?\d+);", package)}


def decoded(memory, package, field):
    """Read a field of every case from the memory as the package says, little-endian lanes."""
    number, name = parameters(package), field.name.upper()
    word_bits, lanes, lane_bits = number["WORD_BITS"], number[f"{name}_LANES"], number[f"{name}_LANE_BITS"]
    rows = []
    for case in range(number["CASES"]):
        start = case * number["CASE_WORDS"] + number[f"{name}_OFFSET"]
        words = memory[start : start + number[f"{name}_WORDS"]]
        whole = sum(word << word_bits * k for k, word in enumerate(words))
        values = [whole >> lane_bits * lane & (1 << lane_bits) - 1 for lane in range(lanes)]
        sign = 1 << lane_bits - 1 if number[f"{name}_SIGNED"] else 0
        rows.append([(value ^ sign) - sign for value in values])
    return rows


@pytest.mark.parametrize(
    ("name", "word_bits"),
    [*((name, 32) for name in OPERATORS), *((name, bits) for name in ("softmax", "isqrt") for bits in (8, 64, 256))],
)
def test_memh_holds_what_the_text_holds(name, word_bits, tmp_path, results):
    path = tmp_path / "vectors.memh"
    arguments = ["gen", name, "--format", "memh", "--word-bits", word_bits, *options(results=results)]
    assert call(*arguments, "-o", path)[:2] == (0, b"")
    package = (tmp_path / "vectors_pkg.sv").read_text()
    text = path.read_text()
    words = [word for line in text.splitlines() if not line.startswith("//") for word in line.split()]
    assert {len(word) for word in words} == {word_bits // 4}
    operator, arrays = columns(name, results=results)
    number = parameters(package)
    assert f"package intsim_{name}_pkg;" in package
    assert package.rstrip().endswith("endpackage")
    assert len(words) == number["CASES"] * number["CASE_WORDS"]
    memory = [int(word, 16) for word in words]
    for field in [*operator.operands, operator.result]:
        if field.name in arrays:
            assert decoded(memory, package, field) == arrays[field.name]
    assert generated(*arguments[1:]).decode() == text
    for key, value in operator.constants.items():
        if isinstance(value, int):
            assert number[key.upper()] == value


def test_lanes_are_packed_little_endian():
    rows = generated("matmul", "--format", "memh", "--size", "1x1x4").decode().splitlines()
    lines = split(generated("matmul", "--size", "1x1x4"))[1]
    for row, line in zip([row for row in rows if not row.startswith("//")], lines, strict=True):
        *lanes, bias, acc = line.decode().split()
        assert row.split() == ["".join(reversed(lanes[:4])), "".join(reversed(lanes[4:])), bias, acc]


PACKED: Final = ("softmax", "isqrt", "layer_norm", "matmul")  # lanes of 1, 8, 16, 32 and 64 bits


def packed_arrays(name, form, word_bits, path):
    """Return the words of every field in a packed file, by its name: rows of one case."""
    assert call("gen", name, *FEW, "--format", form, "--word-bits", word_bits, "-o", path)[:2] == (0, b"")
    if form == "c-header":
        text = path.read_text()
        assert f"// packed: {word_bits}-bit words, little-endian lanes\n" in text
        arrays = {}
        for field, body in re.findall(rf"uint{word_bits}_t intsim_{name}_(\w+)\[.*?= {{\n(.*?)}};", text, re.DOTALL):
            rows = [re.sub(r"UINT\d+_C\((\d+)\)", r"\1", row) for row in body.splitlines()]
            arrays[field] = [[int(word) for word in row.strip("{}, ").split(", ")] for row in rows]
        return arrays
    with path.open("rb") as file:
        arrays = dict(np.load(file)) if form == "npz" else read(path)[0]
    header = arrays.pop("header").tolist() if form == "npz" else read(path)[1]["vectors"]
    assert header[-1] == f"packed: {word_bits}-bit words, little-endian lanes"
    assert {str(array.dtype) for array in arrays.values()} == {f"uint{word_bits}"}
    return {name.partition(".")[2]: array.tolist() for name, array in arrays.items()}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("word_bits", [8, 16, 32])
@pytest.mark.parametrize("form", ["npz", "safetensors", "c-header"])
def test_packed_files_hold_what_the_text_holds(name, word_bits, form, tmp_path):
    operator, expected_arrays = columns(name, results=True)
    arrays = packed_arrays(name, form, word_bits, tmp_path / "vectors")
    assert arrays.keys() == expected_arrays.keys()
    for field in [*operator.operands, operator.result]:
        lane_bits = 1 if field.bits == 1 else next(bits for bits in (8, 16, 32, 64) if bits >= field.bits)
        sign = 1 << lane_bits - 1 if field.signed else 0
        for row, values in zip(arrays[field.name], expected_arrays[field.name], strict=True):
            assert len(row) == -(-field.count * lane_bits // word_bits)
            whole = sum(word << word_bits * k for k, word in enumerate(row))
            lanes = [whole >> lane_bits * lane & (1 << lane_bits) - 1 for lane in range(field.count)]
            assert [(lane ^ sign) - sign for lane in lanes] == values
            assert whole >> lane_bits * field.count == 0


@given(field=fields, word_bits=st.sampled_from([8, 16, 32, 64, 128]), data=st.data())
def test_packed_lanes_unpack(field, word_bits, data):
    row = st.lists(edge_integers(*bounds(field)), min_size=field.count, max_size=field.count)
    values = np.array(data.draw(st.lists(row, min_size=1, max_size=4)), np.int64)
    packed = pack_lanes(field, values, word_bits=word_bits)
    assert packed.shape[2] == word_bits // 8
    assert np.array_equal(unpack_lanes(field, packed), values)


def test_words_are_refused_where_they_have_no_meaning(tmp_path):
    status, _, err = call("gen", "exp", "--word-bits", "32")
    assert status == 2
    assert "--word-bits must be left out of --format text" in err
    for form in ("npz", "safetensors", "c-header"):
        status, _, err = call("gen", "exp", "--format", form, "--word-bits", 128, "-o", tmp_path / "file")
        assert status == 2
        assert f"--word-bits must be at most 64 for --format {form}, got 128" in err


def test_wide_lanes_have_their_low_word_first():
    rows = generated("isqrt", "--format", "memh").decode().splitlines()
    lines = split(generated("isqrt"))[1]
    for row, line in zip([row for row in rows if not row.startswith("//")], lines, strict=True):
        n, root = line.decode().split()
        assert row.split() == [n[8:], n[:8], root]


@every_operator
def test_a_c_header_compiles_and_holds_what_the_text_holds(name, tmp_path, results):
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    path = tmp_path / "vectors.h"
    assert call("gen", name, "--format", "c-header", "-o", path, *options(results=results))[:2] == (0, b"")
    operator, arrays = columns(name, results=results)
    loops = "".join(
        f"""
    {{ const unsigned count = sizeof intsim_{name}_{field} / INTSIM_{name.upper()}_CASES / sizeof *FIRST({field});
      for (unsigned k = 0; k < count; k++) printf("%lld ", (long long)FIRST({field})[i * count + k]); }}"""
        for field in arrays
    )
    first = {
        field.name: f"(&intsim_{name}_{field.name}[0]{'[0]' if field.count > 1 else ''})"
        for field in [*operator.operands, operator.result]
    }
    for field, address in first.items():
        loops = loops.replace(f"FIRST({field})", address)
    source = tmp_path / "main.c"
    source.write_text(
        f"""#include "vectors.h"
#include <stdio.h>
int main(void) {{
  for (unsigned i = 0; i < INTSIM_{name.upper()}_CASES; i++) {{{loops}
    putchar('\\n');
  }}
  return 0;
}}
"""
    )
    program = tmp_path / "program"
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    subprocess.run([gcc, *warnings, str(source), "-o", str(program)], check=True)
    out = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    rows = [[int(word) for word in line.split()] for line in out.splitlines()]
    assert rows == [list(chain.from_iterable(row)) for row in zip(*arrays.values(), strict=True)]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for form in ("text", "npz", "memh", "safetensors"):
        status, _, err = call("gen", "exp", "--format", form, "-o", tmp_path / "file" / "below")
        assert status == 3
        assert "must be writable" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
