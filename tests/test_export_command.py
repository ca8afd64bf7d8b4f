# SPDX-License-Identifier: Apache-2.0
"""From the embedded model to files and back: export, run --trace and compare as a verification engineer types them."""

import json
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pytest

import intsim
from intsim.cli import main
from intsim.io.memh import parse_memh

MODEL: Final = str(resources.files("intsim.embedded"))
TEXT: Final = "a film about love"
QUERY: Final = "encoder.layer.0.attention.self.query"
LAYOUT: Final = ("--word-bits", "32", "--lanes", "4", "--tile", "16x16", "--transposed", "--banks", "2")


class Outcome(NamedTuple):
    """What a command leaves behind."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command line here."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return Outcome(int(stop.value.code or 0), *capsys.readouterr())

    return run


def _flipped(file: Path, line: int) -> tuple[str, str]:
    """Change the lowest bit of the last word but some of a memory image, and return the word before and now."""
    lines = file.read_text().splitlines()
    before = lines[line]
    lines[line] = before[:-1] + f"{int(before[-1], 16) ^ 1:x}"
    file.write_text("\n".join(lines) + "\n")
    return before, lines[line]


def test_an_exported_model_is_read_back_equal_and_one_changed_value_is_named(command: Command, tmp_path: Path) -> None:
    done = command("export", MODEL, "--memh", tmp_path / "plain")
    assert (done.returncode, done.stdout) == (0, "")
    assert command("export", MODEL, "--memh", tmp_path / "placed", *LAYOUT).returncode == 0
    assert command("export", MODEL, "--npz", tmp_path / "model.npz").returncode == 0
    count = len(json.loads((tmp_path / "plain" / "manifest.json").read_text())["tensors"])
    for other in ("placed", "model.npz", MODEL):
        done = command("compare", tmp_path / "plain", tmp_path / other)
        assert (done.returncode, done.stdout) == (0, f"equal: {count} tensors, to the bit\n")
    before, after = _flipped(tmp_path / "placed" / "pooler.dense.weight.bank1.memh", -3)
    done = command("compare", tmp_path / "model.npz", tmp_path / "placed", "--json")
    first = json.loads(done.stdout)["first"]
    assert done.returncode == 1
    assert (first["name"], first["count"], abs(first["largest"])) == ("pooler.dense.weight", 1, 1)
    row, column = first["mismatches"][0]["index"]
    assert intsim.load(MODEL).tensors["pooler.dense.weight"][row, column] == first["mismatches"][0]["expected"]
    words = [parse_memh(each.encode()).data[0].tolist() for each in (before, after)]
    changed = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
    assert [value % 256 for key in ("expected", "actual") for value in [first["mismatches"][0][key]]] == [*changed[0]]


@pytest.mark.parametrize("name", ["golden.npz", "golden/", "golden.memh"])
def test_a_trace_is_written_as_its_name_says(command: Command, name: str, tmp_path: Path) -> None:
    golden = tmp_path / "golden.safetensors"
    assert command("run", MODEL, "--text", TEXT, "--trace", golden).returncode == 0
    assert command("run", MODEL, "--text", TEXT, "--trace", f"{tmp_path}/{name}").returncode == 0
    assert (tmp_path / name).is_dir() == (not name.endswith(".npz"))
    done = command("compare", golden, tmp_path / name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("equal: ")
    assert command("compare", tmp_path / name, golden).stdout == done.stdout


def test_a_trace_of_another_suffix_is_refused_before_the_run(command: Command, tmp_path: Path) -> None:
    for verb in ("run", "generate"):
        done = command(verb, MODEL, "--text", TEXT, "--trace", tmp_path / "golden.txt")
        assert done.returncode == 2
        assert "trace must be called NAME.safetensors, NAME.npz, or NAME/ or NAME.memh" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_operands_and_result_of_a_layer_are_exported_for_a_bench(command: Command, tmp_path: Path) -> None:
    trace = tmp_path / "trace.safetensors"
    assert command("run", MODEL, "--text", TEXT, "--level", "steps", "--trace", trace).returncode == 0
    out = tmp_path / "out"
    assert command("export", MODEL, "--memh", out, "--trace", trace, "--layer", f"{QUERY}.acc").returncode == 0
    manifest = json.loads((out / "manifest.json").read_text())
    (call,) = manifest["calls"]
    x, w = (_values(out, manifest, each["tensor"]) for each in call["operands"])
    bias, acc = _values(out, manifest, call["constants"]["bias"]["tensor"]), _values(out, manifest, call["name"])
    np.testing.assert_array_equal(x @ w.T + bias, acc)
    done = command("compare", trace, out)
    assert (done.returncode, done.stdout) == (0, "equal: 2 tensors, to the bit\n")
    assert command("export", MODEL, "--c", tmp_path / "c", "--trace", trace, "--layer", QUERY).returncode == 0
    assert "static const int32_t intsim_encoder_layer_0" in (tmp_path / "c" / "trace.h").read_text()


def _values(folder: Path, manifest: dict[str, dict[str, dict[str, object]]], name: str) -> np.ndarray:
    entry = manifest["tensors"][name]
    words = (folder / str(entry["file"])).read_text().splitlines()[2:]
    bits = 4 * len(words[0])
    values = np.array([(int(word, 16) ^ 1 << bits - 1) - (1 << bits - 1) for word in words])
    return values.reshape(entry["shape"])


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        ((), 2, "give one of --onnx, --memh, --npz and --c"),
        (("--npz", "a", "--c", "b"), 2, "give one of --onnx, --memh, --npz and --c"),
        (("--npz", "a.npz", "--lanes", "4"), 2, "give layout options together with --memh"),
        (("--onnx", "a.onnx", "--layer", "pooler"), 2, "give --trace and --layer together with --memh, --npz or --c"),
        (("--memh", "a", "--tile", "4by4"), 2, "--tile must be ROWSxCOLUMNS, got '4by4'"),
        (("--memh", "a", "--word-bits", "4", "--lanes", "8"), 2, "lanes must be at most word_bits, 4, got 8"),
        (("--memh", "a", "--layer", "nix"), 3, "layer must be the name or a pattern of something that is exported"),
        (("--memh", "a", "--trace", "missing"), 3, "missing must be a readable safetensors file"),
        (("--memh", "mine"), 3, "mine must be new, empty or an export of intsim to be written, got 'tb.sv' in it"),
        (("--npz", "mine/tb.sv"), 3, "tb.sv must be new, empty or an npz of intsim export to be written"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    command: Command,
    options: tuple[str, ...],
    status: int,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tb.sv").write_text("module tb; endmodule\n")
    done = command("export", MODEL, *options)
    assert (done.returncode, done.stdout) == (status, "")
    assert complaint in done.stderr.replace("\n", " ")
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
