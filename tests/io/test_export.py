# SPDX-License-Identifier: Apache-2.0
"""Models and traces in files that hardware and C read: every integer, and nothing half written."""

import json
import shutil
import subprocess
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import intsim
from intsim import ops
from intsim._trace import Trace
from intsim.errors import IntsimError
from intsim.io.atomic import complete_folder
from intsim.io.c_header import write_header
from intsim.io.dumps import read_dump
from intsim.io.export_kind import EXPORT
from intsim.io.exported import Contents, Exported, model_contents
from intsim.io.identifiers import identifiers
from intsim.io.layout import Layout
from intsim.io.memh_export import write_memh
from intsim.io.npz_export import write_npz
from intsim.io.trace_export import read_trace_contents, save_trace, trace_form
from intsim.verify.compare import compare
from tests.io.test_layout import read_as_described

MODEL: Final = intsim.load(str(resources.files("intsim.embedded")))
STORIES: Final = intsim.load(str(resources.files("intsim.embedded") / "stories"))
IDS: Final = [[2, 187, 1194, 16, 994, 3]]


@pytest.fixture(scope="module")
def trace() -> Trace:
    with intsim.trace("steps") as found:
        MODEL(IDS)
    return found


def _memory(file: Path) -> list[int]:
    lines = file.read_text().splitlines()
    return [int(line, 16) for line in lines if not line.startswith("//")]


@pytest.mark.parametrize("model", [MODEL, STORIES], ids=["classifier", "decoder"])
def test_all_integers_of_a_model_are_exported(model: intsim.IntegerModel) -> None:
    tensors = model_contents(model).tensors
    for name, values in model.tensors.items():
        np.testing.assert_array_equal(tensors[name].values, values, strict=True)
    for name, found in model.formats.items():
        assert tensors[f"{name}.zero_point"].values.tolist() == found.zero_point
        assert tensors[f"{name}.range"].values.tolist() == [found.range.min, found.range.max]
    for name, tensor in tensors.items():
        low, high = (
            (-(1 << tensor.bits - 1), (1 << tensor.bits - 1) - 1) if tensor.signed else (0, (1 << tensor.bits) - 1)
        )
        assert low <= int(tensor.values.min()) <= int(tensor.values.max()) <= high, name


def test_tables_are_what_the_operators_compute() -> None:
    profile, codes = MODEL.profile, np.arange(-(2**15), 2**15).astype(np.int16)
    tensors = model_contents(MODEL).tensors
    negative = codes[codes <= 0]
    assert (tensors["exp.table"].values[-negative.astype(int)] == ops.exp(negative, profile=profile)).all()
    assert (tensors["gelu.table"].values[codes.astype(int) % 2**16] == ops.gelu(codes, profile=profile)).all()
    assert (tensors["tanh.table"].values[codes.astype(int) % 2**16] == ops.tanh(codes, profile=profile)).all()
    assert tensors["exp.constants"].values.tolist() == [*profile.exp.constants(profile.step_rounding)]
    assert {"rotary.cos", "rotary.sin", "silu.table"} <= model_contents(STORIES).tensors.keys()


@pytest.mark.parametrize(
    "layout",
    [
        Layout(),
        Layout(word_bits=32, lanes=4, tile=(16, 8), tile_order="columns", transposed=True, banks=2),
        Layout(word_bits=128, tile=(8, 8)),
        Layout(word_bits=12),
    ],
)
def test_a_folder_of_memory_images_is_read_back_equal(layout: Layout, tmp_path: Path) -> None:
    contents = model_contents(MODEL, layer="encoder.layer.0")
    write_memh(tmp_path / "out", contents, layout)
    found = read_dump(tmp_path / "out")
    assert list(found) == list(contents.tensors)
    for name, tensor in contents.tensors.items():
        np.testing.assert_array_equal(found[name], tensor.values, strict=True)
        assert found.bits[name] == tensor.bits
    assert found.model_digest == MODEL.digest


def test_the_manifest_and_the_files_are_enough_without_this_package(tmp_path: Path) -> None:
    layout = Layout(word_bits=64, tile=(16, 4), transposed=True, banks=2)
    write_memh(tmp_path / "out", model_contents(MODEL, layer="pooler*"), layout)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["model_digest"] == MODEL.digest
    for name in ("pooler.dense.weight", "pooler.dense.bias", "pooler.dense.shift", "pooler.range"):
        entry = manifest["tensors"][name]
        told = entry["layout"]
        words = [_memory(tmp_path / "out" / entry["file"].replace("%d", str(bank))) for bank in range(told["banks"])]
        assert {len(bank) for bank in words} == {told["words"]}
        found = read_as_described(words, tuple(entry["shape"]), told, bits=entry["bits"], signed=entry["signed"])
        values = model_contents(MODEL).tensors[name].values
        assert (entry["shape"], entry["dtype"]) == (list(values.shape), values.dtype.name)
        assert found == values.reshape(-1).tolist()


def test_weights_of_fewer_than_8_bits_are_packed(tmp_path: Path) -> None:
    values = np.array([[-8, 7, 1], [0, -1, 2]], np.int8)
    contents = Contents(
        tensors={"w": Exported(values=values, bits=4, signed=True)}, about={"contents": "model", "model_digest": ""}
    )
    write_memh(tmp_path / "plain", contents, Layout())
    assert (tmp_path / "plain" / "w.memh").read_text().splitlines()[2:] == ["8", "7", "1", "0", "f", "2"]
    write_memh(tmp_path / "words", contents, Layout(word_bits=16))
    assert (tmp_path / "words" / "w.memh").read_text().splitlines()[2:] == ["0178", "002f"]
    for folder in ("plain", "words"):
        np.testing.assert_array_equal(read_dump(tmp_path / folder)["w"], values, strict=True)


def test_an_npz_has_the_same_names_and_tells_true_widths(tmp_path: Path) -> None:
    contents = model_contents(MODEL)
    write_npz(tmp_path / "out.npz", contents)
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays.files == list(contents.tensors)
        for name, tensor in contents.tensors.items():
            np.testing.assert_array_equal(arrays[name], tensor.values, strict=True)
    assert read_dump(tmp_path / "out.npz").bits == {name: tensor.bits for name, tensor in contents.tensors.items()}
    before = (tmp_path / "out.npz").read_bytes()
    write_npz(tmp_path / "out.npz", contents)
    assert (tmp_path / "out.npz").read_bytes() == before


def test_a_trace_is_exported_with_operands_and_constants_of_its_calls(trace: Trace, tmp_path: Path) -> None:
    save_trace(str(tmp_path / "trace.safetensors"), trace, MODEL)
    save_trace(f"{tmp_path}/direct/", trace, MODEL)
    contents = read_trace_contents(tmp_path / "trace.safetensors", MODEL)
    write_memh(tmp_path / "later", contents, Layout())
    files = sorted(file.name for file in (tmp_path / "direct").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "later").iterdir())
    for file in files:
        assert (tmp_path / "direct" / file).read_bytes() == (tmp_path / "later" / file).read_bytes(), file
    calls = {call["name"]: call for call in contents.about["calls"]}
    assert list(calls) == list(trace.calls)
    query = "encoder.layer.0.attention.self.query"
    assert calls[f"{query}.acc"]["operator"] == "matmul"
    x, w = (contents.tensors[each["tensor"]].values for each in calls[f"{query}.acc"]["operands"])
    bias = contents.tensors[calls[f"{query}.acc"]["constants"]["bias"]["tensor"]].values
    assert (x.astype(int) @ w.astype(int).T + bias == contents.tensors[f"{query}.acc"].values).all()
    scale = MODEL.formats[query].scale
    assert Fraction(contents.tensors[query].scale) == Fraction(int(scale.multiplier), 1 << int(scale.shift))
    assert contents.tensors[query].zero_point == 0


def test_a_layer_alone_is_exported_with_what_its_calls_read(trace: Trace, tmp_path: Path) -> None:
    save_trace(str(tmp_path / "trace"), trace, MODEL)
    query = "encoder.layer.0.attention.self.query"
    names = read_trace_contents(tmp_path / "trace", MODEL, layer=query).tensors
    assert {query, f"{query}.acc", f"{query}.acc@1", f"{query}@1.shift", "embeddings.LayerNorm"} <= names.keys()
    assert not any("key" in name for name in names)
    assert model_contents(MODEL, layer=f"{query}.w*").tensors.keys() == {f"{query}.weight"}
    with pytest.raises(
        IntsimError, match="layer must be the name or a pattern of something that is exported, got 'nix'"
    ):
        model_contents(MODEL, layer="nix")


def test_a_trace_of_another_model_is_refused(tmp_path: Path) -> None:
    with intsim.trace() as trace:
        STORIES([[1, 5]])
    save_trace(str(tmp_path / "trace"), trace, STORIES)
    with pytest.raises(IntsimError, match=f"must be a trace of this model, {MODEL.digest[:12]}, got one of"):
        read_trace_contents(tmp_path / "trace", MODEL)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a", "safetensors"),
        ("a.safetensors", "safetensors"),
        ("a.npz", "npz"),
        ("a/", "memh"),
        ("a.memh", "memh"),
        ("/dev/fd/1", "safetensors"),
    ],
)
def test_the_name_of_a_trace_says_what_it_is_written_as(name: str, form: str) -> None:
    assert trace_form(name) == form


def test_another_suffix_of_a_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntsimError, match=r"trace must be called .* got 'golden.txt'"):
        trace_form("golden.txt")
    assert trace_form(str(tmp_path)) == "memh"


@pytest.mark.parametrize("form", ["trace.npz", "trace.memh"])
def test_a_trace_in_any_form_equals_the_trace(form: str, trace: Trace, tmp_path: Path) -> None:
    save_trace(str(tmp_path / form), trace, MODEL)
    result = compare(trace, read_dump(tmp_path / form))
    assert (result.first, result.compared, result.only_expected) == (None, len(trace), ())


# ---- what is there already


def test_a_folder_with_anything_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    contents = model_contents(MODEL, layer="pooler*")
    write_memh(out, contents, Layout())
    write_memh(out, model_contents(MODEL, layer="classifier*"), Layout())
    assert not (out / "pooler.dense.weight.memh").exists()
    (out / "tb.sv").write_text("module tb; endmodule\n")
    with pytest.raises(IntsimError, match=r"must be new, empty or an export of intsim .*, got 'tb.sv' in it"):
        write_memh(out, contents, Layout())
    assert (out / "classifier.weight.memh").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        with complete_folder(path, EXPORT) as folder:
            (folder / "half").write_text("// intsim export")
            assert not (path / "half").exists()
            msg = "full"
            raise IntsimError(msg)

    for path in (tmp_path / "new", tmp_path / "old"):
        if path.name == "old":
            write_memh(path, model_contents(MODEL, layer="classifier.bias"), Layout())
        before = sorted(each.name for each in tmp_path.rglob("*"))
        with pytest.raises(IntsimError, match="full"):
            fail(path)
        assert sorted(each.name for each in tmp_path.rglob("*")) == before


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".intsim-0123456789abcdef.tmp"
    left.mkdir()
    (left / "half.memh").write_text("00")
    write_memh(tmp_path / "out", model_contents(MODEL, layer="classifier.bias"), Layout())
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(IntsimError, match="out must be writable, got: Not a directory"):
        write_memh(tmp_path / "out", model_contents(MODEL, layer="classifier.bias"), Layout())


# ---- other languages


def test_identifiers_are_unique_in_upper_case() -> None:
    names = ["a.b@0", "a_b.0", "A.B.0", "a.b.0_x2", "0", "é"]
    found = identifiers(names)
    assert list(found.values())[:3] == ["a_b_0", "a_b_0_x2", "A_B_0_x3"]
    assert len({each.upper() for each in found.values()}) == len(names)
    assert all(each.isidentifier() and each.isascii() for each in found.values())


def _run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:2000]
    return done.stdout


def _extremes() -> dict[str, Exported]:
    """One tensor of each C type, with the ends of its range, in up to three axes."""
    tensors: dict[str, Exported] = {}
    for bits in (1, 4, 8, 16, 26, 32, 64):
        for signed in (True, False):
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            size = max(8, 1 << (bits - 1).bit_length())
            dtype = np.dtype(f"{'' if signed else 'u'}int{size}")
            values = np.array([[[low, high]], [[low + 1, 0]]], dtype)
            tensors[f"x.{bits}{'s' if signed else 'u'}"] = Exported(values=values, bits=bits, signed=signed)
    tensors["one"] = Exported(values=np.array(-(2**63)), bits=64, signed=True)
    tensors["none"] = Exported(values=np.zeros((2, 0), np.int8), bits=8, signed=True)
    return tensors


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_header_compiles_without_a_warning_and_holds_the_integers(tmp_path: Path) -> None:
    tensors = {**_extremes(), **model_contents(MODEL, layer="pooler*").tensors}
    about = {**model_contents(MODEL, layer="pooler*").about}
    write_header(tmp_path, Contents(tensors=tensors, about=about))
    lines = ['#include "constants.h"', "#include <inttypes.h>", "#include <stdio.h>", "int main(void) {"]
    for name, identifier in identifiers(tensors).items():
        values = tensors[name].values
        if values.size:
            pointer = f"{'&' if values.ndim == 0 else ''}intsim_{identifier}{'[0]' * (values.ndim - 1)}"
            form, kind = ("PRId64", "int64_t") if tensors[name].signed else ("PRIu64", "uint64_t")
            lines.append(f'  for (int i = 0; i < {values.size}; i++) printf("%" {form} "\\n", ({kind})({pointer})[i]);')
    lines += ["  return intsim_pooler_scale.shift == 255;", "}"]
    (tmp_path / "main.c").write_text("\n".join(lines))
    flags = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
    _run("cc", *flags, "main.c", "-o", "main", folder=tmp_path)
    expected = [value for tensor in tensors.values() for value in tensor.values.reshape(-1).tolist()]
    assert [int(line) for line in _run(tmp_path / "main", folder=tmp_path).split()] == expected


TOP: Final = """
module top;
  import intsim_model_pkg::*;
  reg [POOLER_DENSE_WEIGHT_WORD_BITS-1:0] weights [0:POOLER_DENSE_WEIGHT_DEPTH-1];
  reg signed [POOLER_DENSE_WEIGHT_LANE_BITS-1:0] lane;
  integer i, j;
  initial begin
    $readmemh(POOLER_DENSE_WEIGHT_FILE, weights);
    for (i = 0; i < POOLER_DENSE_WEIGHT_DEPTH; i = i + 1)
      for (j = 0; j < POOLER_DENSE_WEIGHT_LANES; j = j + 1) begin
        lane = weights[i][j * POOLER_DENSE_WEIGHT_LANE_BITS +: POOLER_DENSE_WEIGHT_LANE_BITS];
        $display("%0d", lane);
      end
    $display("%0d %0d", EMBEDDINGS_LAYERNORM_EPS, POOLER_ZERO_POINT);
    $finish;
  end
endmodule
"""


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="no Icarus Verilog")
def test_the_package_and_the_images_are_read_by_icarus(tmp_path: Path) -> None:
    write_memh(tmp_path / "out", model_contents(MODEL), Layout(word_bits=32))
    (tmp_path / "top.sv").write_text(TOP)
    _run(
        "iverilog",
        "-g2012",
        "-o",
        tmp_path / "top",
        "intsim_model_pkg.sv",
        tmp_path / "top.sv",
        folder=tmp_path / "out",
    )
    *weights, last = _run("vvp", "-n", tmp_path / "top", folder=tmp_path / "out").splitlines()
    assert [int(each) for each in weights] == MODEL.tensors["pooler.dense.weight"].reshape(-1).tolist()
    zero_point = MODEL.formats["pooler"].zero_point
    assert last == f"{int(MODEL.tensors['embeddings.LayerNorm.eps'])} {zero_point}"


@pytest.mark.skipif(shutil.which("verilator") is None, reason="no Verilator")
def test_the_package_is_read_by_verilator(trace: Trace, tmp_path: Path) -> None:
    write_memh(tmp_path / "out", model_contents(MODEL), Layout(word_bits=32))
    save_trace(f"{tmp_path}/trace/", trace, MODEL)
    (tmp_path / "top.sv").write_text(TOP)
    _run("verilator", "--lint-only", "intsim_model_pkg.sv", tmp_path / "top.sv", folder=tmp_path / "out")
    (tmp_path / "top.sv").write_text(
        "module top; import intsim_trace_pkg::*; wire [CLASSIFIER_BITS-1:0] x; endmodule\n"
    )
    _run("verilator", "--lint-only", "intsim_trace_pkg.sv", tmp_path / "top.sv", folder=tmp_path / "trace")


# ---- damage


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"file": "../pooler.range.memh"}, "an entry of 'pooler.range' that is none"),
        ({"file": "missing.memh"}, "No such file"),
        ({"shape": [1 << 39]}, "at most 2147483648 elements"),
        ({"shape": [3]}, "'pooler.range' in 2 words, which must be 3"),
        ({"bits": 65}, "must have 1 to 64 bits, got 65"),
        ({"dtype": "float32"}, "an entry of 'pooler.range' that is none"),
        ({"layout": {}}, "no 'word_bits'"),
        ({"layout": None}, "a value of another kind"),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_sentence(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_memh(out, model_contents(MODEL, layer="pooler.range"), Layout())
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["tensors"]["pooler.range"] |= change
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntsimError, match=complaint):
        read_dump(out)
