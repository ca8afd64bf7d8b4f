# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints where, its JSON, its exit status, and one sentence for every mistake."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import intsim
from intsim.cli import main
from intsim.cli.scoring import figure
from intsim.io.trace_file import read_trace
from intsim.recipes import recipe_names
from intsim.report.inspect import _row

TinyBert = Callable[..., Path]

ROOT: Final = Path(__file__).resolve().parents[1]
SHOWN: Final = [
    "text",
    "tokens",
    "ids",
    "output",
    "scale",
    "digest",
    "profile",
    "profile_hash",
    "model_digest",
    "label",
]
CALIBRATION: Final = ("a good movie .", "the plot is not bad\tnot good", "not good , not bad")
FLOAT_EMBEDDED: Final = ROOT / "tests" / "data" / "embedded-float"
DATA: Final = {
    "sst2": ["label\ttext_a", "1\ta good movie .", "0\ta bad plot", "1\tnot bad", "0\tnot good"],
    "cola": ["x\t1\t\tthe movie is good .", "x\t0\t*\tgood is the the", "x\t1\t\tthe plot is bad .", "x\t0\t*\tis is"],
    "stsb": [
        "g\tf\t2012\t1\t5.0\ta good movie\ta good movie .",
        "g\tf\t2012\t2\t0.2\tthe plot\tx y z",
        "g\tf\t2012\t3\t2.5\ta bad plot\ta good plot\tsource\tsource",
        "g\tf\t2012\t4\t4.0\tbad , bad .\tbad",
    ],
}


class Outcome(NamedTuple):
    """What a command leaves behind."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command line here; an exception that leaves it would be a traceback there."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def source(tiny_bert: TinyBert) -> Path:
    return tiny_bert()


@pytest.fixture(scope="module")
def classifier(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _quantized(source, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def encoder(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _quantized(tiny_bert(labels=None), tmp_path_factory.mktemp("encoder"))


def _quantized(source: Path, folder: Path) -> Path:
    intsim.quantize(source, calibration=CALIBRATION).save(folder)
    return folder


def _process(*arguments: str | Path, cwd: Path) -> Outcome:
    """Run the command line as a user does, in a process of its own, away from the project."""
    program = [sys.executable, "-c", "from intsim.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def _object(outcome: Outcome) -> dict[str, Any]:
    """Return the one JSON object on stdout."""

    def refuse(constant: str) -> None:
        msg = f"{constant} is not JSON"
        raise ValueError(msg)

    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.endswith("}\n")
    assert outcome.stdout.count("\n") == 1
    value = json.loads(outcome.stdout, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def _sentence(outcome: Outcome) -> str:
    """Return the one sentence of an invalid input."""
    assert outcome.status == 3
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("intsim: ")
    assert outcome.stderr.count("\n") == 1
    assert outcome.stderr.endswith("\n")
    assert not outcome.stderr.endswith(".\n")
    return outcome.stderr.removeprefix("intsim: ").rstrip("\n")


def _write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# ---- demo


def test_demo_shows_the_integers_of_the_embedded_model(command: Command) -> None:
    outcome = command("demo", "a", "truly", "wonderful film")
    assert outcome.status == 0
    assert outcome.stderr == ""
    assert outcome.stdout.startswith("text      a truly wonderful film\n")
    for name in ("embeddings.sum", "encoder.layer.0.attention.self.probs", "classifier.acc"):
        assert f"\n{name} " in outcome.stdout
    assert "\nlabel     positive\n" in outcome.stdout


def test_demo_has_a_sentence_of_its_own(command: Command) -> None:
    shown = _object(command("demo", "--json"))
    assert list(shown) == SHOWN
    assert shown["text"]
    assert shown["label"] == "positive"
    assert shown["tokens"][0] == "[CLS]"


def test_demo_equals_a_run_of_the_embedded_model(command: Command) -> None:
    text = "dull and far too long"
    folder = str(resources.files("intsim.embedded"))
    assert command("demo", text, "--json") == command("run", folder, "--text", text, "--json")
    assert _object(command("demo", text, "--json"))["label"] == "negative"


@pytest.mark.parametrize("text", ["", " ", "a\tb\tc", "word " * 200])
def test_demo_refuses_a_text_it_cannot_read(command: Command, text: str) -> None:
    assert _sentence(command("demo", text)).startswith("text must ")


# ---- quantize


def test_quantize_writes_what_python_writes(command: Command, source: Path, tmp_path: Path) -> None:
    calibration = _write(tmp_path / "texts.txt", [*CALIBRATION, "", "  "])
    outcome = command("quantize", source, "-o", tmp_path / "out", "--calibration", calibration)
    assert outcome.status == 0
    assert outcome.stdout == ""
    assert "calibrating" not in outcome.stderr  # no terminal, no progress
    assert f"wrote {tmp_path / 'out'}: " in outcome.stderr
    intsim.quantize(source, calibration=CALIBRATION).save(tmp_path / "python")
    written, expected = (tmp_path / name / "model.safetensors" for name in ("out", "python"))
    assert written.read_bytes() == expected.read_bytes()


def test_quantize_takes_recipe_profile_and_the_first_texts(command: Command, source: Path, tmp_path: Path) -> None:
    calibration = _write(tmp_path / "texts.txt", CALIBRATION)
    options = ("--recipe", "ibert", "--profile", "intsim", "--calibration", calibration, "--calibration-size", "2")
    assert command("quantize", source, "--output", tmp_path / "out", *options).status == 0
    expected = intsim.quantize(source, recipe="ibert", profile="intsim", calibration=CALIBRATION[:2])
    found = intsim.load(tmp_path / "out")
    assert (found.recipe["name"], found.profile.name) == ("ibert", "intsim")
    assert found.formats == expected.formats
    assert found.formats != intsim.quantize(source, recipe="ibert", calibration=CALIBRATION[:1]).formats


def test_quantize_brings_calibration_of_its_own(command: Command, tmp_path: Path) -> None:
    assert command("quantize", FLOAT_EMBEDDED, "-o", tmp_path / "out", "--calibration-size", "3").status == 0
    shown = _object(command("run", tmp_path / "out", "--text", "a wonderful film", "--json"))
    assert shown["label"] == "positive"


def test_quantize_takes_a_recipe_file_without_a_name(command: Command, source: Path, tmp_path: Path) -> None:
    lines = ["[[weights]]", 'names = "*"', "bits = 4", 'granularity = "channel"']
    lines += ["[[activations]]", 'names = "*"', "bits = 8", "symmetric = true"]
    recipe = _write(tmp_path / "recipe.toml", lines)
    calibration = _write(tmp_path / "texts.txt", CALIBRATION)
    out = tmp_path / "out"
    assert command("quantize", source, "-o", out, "--recipe", recipe, "--calibration", calibration).status == 0
    summary = _object(command("inspect", out, "--json"))
    assert summary["recipe"] == ""
    assert {row["bits"] for row in summary["tensors"] if row["name"].endswith(".weight")} == {4}


# ---- run


def test_run_prints_one_json_object(command: Command, classifier: Path) -> None:
    outcome = command("run", classifier, "--text", "a good movie .", "--json")
    shown = _object(outcome)
    assert outcome.stderr == ""
    assert list(shown) == SHOWN
    assert shown["text"] == "a good movie ."
    assert shown["tokens"] == ["[CLS]", "a", "good", "movie", ".", "[SEP]"]
    assert shown["scale"] == {"multiplier": 1, "shift": 16}
    assert shown["profile"] == "intsim"
    assert shown["profile_hash"] == intsim.PROFILES["intsim"].hash
    assert shown["label"] == ("negative", "positive")[int(np.argmax(shown["output"]))]
    assert shown["output"] == intsim.load(classifier)([[2, 5, 6, 8, 13, 3]]).values[0].tolist()
    assert shown["digest"] == hashlib.sha256(np.array(shown["output"], "<i4").tobytes()).hexdigest()


def test_quantize_shortens_calibration_texts_on_demand(command: Command, source: Path, tmp_path: Path) -> None:
    for name, words in (("long", 40), ("short", 30)):
        texts = _write(tmp_path / name, ["good", "bad " * words])
        assert (
            command("quantize", source, "-o", tmp_path / f"{name}.out", "--calibration", texts, "--truncate").status
            == 0
        )
    long, short = (tmp_path / f"{name}.out" / "model.safetensors" for name in ("long", "short"))
    assert long.read_bytes() == short.read_bytes()


def test_run_takes_the_second_text_of_a_pair_by_itself(command: Command, classifier: Path) -> None:
    outcome = command("run", classifier, "--text", "not bad", "--pair", "a good movie", "--json")
    assert outcome == command("run", classifier, "--text", "not bad\ta good movie", "--json")
    assert _object(outcome)["tokens"].count("[SEP]") == 2
    refused = command("run", classifier, "--text", "not\tbad", "--pair", "good")
    assert _sentence(refused) == "text must have at most one TAB, which separates a pair, got 2"


def test_run_shortens_a_text_on_demand(command: Command, classifier: Path) -> None:
    long = command("run", classifier, "--text", "good " * 40, "--truncate", "--json")
    assert _object(long)["digest"] == _object(command("run", classifier, "--text", "good " * 30, "--json"))["digest"]


def test_eval_shortens_texts_on_demand(command: Command, classifier: Path, tmp_path: Path) -> None:
    long = _write(tmp_path / "long", ["1\tgood", "0\t" + "bad " * 40])
    short = _write(tmp_path / "short", ["1\tgood", "0\t" + "bad " * 30])
    outcome = command("eval", classifier, "--task", "sst2", "--data", long, "--truncate", "--json")
    assert outcome.stdout == command("eval", classifier, "--task", "sst2", "--data", short, "--json").stdout


def test_run_prints_the_last_hidden_state_of_an_encoder(command: Command, encoder: Path) -> None:
    shown = _object(command("run", encoder, "--text", "good\tbad bad", "--json"))
    output = np.array(shown["output"])
    assert output.shape == (6, 16)
    assert shown["label"] is None
    assert shown["digest"] == hashlib.sha256(output.astype("<i2").tobytes()).hexdigest()
    model = intsim.load(encoder)
    assert shown["scale"]["multiplier"] == int(model.output_format.scale.multiplier)
    assert shown["scale"]["shift"] == int(model.output_format.scale.shift)
    types = [[0, 0, 0, 1, 1, 1]]
    assert shown["digest"] == model([[2, 6, 3, 7, 7, 3]], token_type_ids=types).digest


@pytest.mark.parametrize("content", ["2 5 6 8 13 3", "2,5,6\n8\t13, 3\n\n"])
def test_run_reads_ids(command: Command, classifier: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "ids").write_text(content)
    shown = _object(command("run", classifier, "--ids", tmp_path / "ids", "--json"))
    assert list(shown) == SHOWN
    assert shown["text"] is None
    assert shown["tokens"] is None
    text = _object(command("run", classifier, "--text", "a good movie .", "--json"))
    assert shown["digest"] == text["digest"]


def test_run_prints_lines_for_people(command: Command, classifier: Path) -> None:
    outcome = command("run", classifier, "--text", "a good movie .")
    shown = _object(command("run", classifier, "--text", "a good movie .", "--json"))
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == [
        f"tokens  {shown['tokens']}",
        f"ids     {shown['ids']}",
        f"output  {shown['output']}",
        f"scale   {shown['scale']}",
        f"label   {shown['label']}",
        f"digest  {shown['digest']}",
    ]


def test_trace_file_holds_every_integer_in_forward_order(command: Command, classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "trace.safetensors"
    outcome = command("run", classifier, "--text", "a good movie .", "--trace", path, "--json")
    with intsim.trace() as expected:
        intsim.load(classifier)([[2, 5, 6, 8, 13, 3]])
    with safe_open(path, framework="numpy") as file:
        (key,) = file.metadata()
        metadata = json.loads(file.metadata()[key])
    tensors = load_file(path)
    assert [entry["name"] for entry in metadata["trace"]] == list(expected)
    assert tensors.keys() == expected.keys()
    for entry in metadata["trace"]:
        values = tensors[entry["name"]]
        assert values.dtype.kind in "iu"
        assert (entry["shape"], entry["dtype"]) == (list(values.shape), str(values.dtype))
        assert np.array_equal(values, expected[entry["name"]])
    assert metadata["profile"] == intsim.PROFILES["intsim"].to_json()
    assert metadata["profile_hash"] == intsim.PROFILES["intsim"].hash
    assert tensors["classifier"][0].tolist() == _object(outcome)["output"]


def test_a_run_records_nothing_unless_it_is_to_be_written(
    command: Command, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intsim, "trace", None)
    assert _object(command("run", classifier, "--text", "a good movie .", "--json"))["ids"] == [2, 5, 6, 8, 13, 3]


def test_trace_files_of_equal_runs_are_equal_byte_for_byte(command: Command, classifier: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        command("run", classifier, "--text", "not bad", "--trace", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


# ---- inspect


def test_inspect_summarises_an_integer_checkpoint(command: Command, classifier: Path) -> None:
    summary = _object(command("inspect", classifier, "--json"))
    model = intsim.load(classifier)
    assert summary["kind"] == "integer checkpoint"
    assert summary["recipe"] == summary["profile"] == "intsim"
    assert summary["profile_hash"] == model.profile.hash
    assert summary["config"] == model.config.to_json()
    assert (summary["model_type"], summary["head"]) == ("bert", "sequence-classification")
    assert summary["bytes"] == sum(values.nbytes for values in model.tensors.values())
    assert summary["activations"].keys() == model.formats.keys()
    assert [row["name"] for row in summary["tensors"]] == list(model.tensors)
    for row in summary["tensors"]:
        values = model.tensors[row["name"]]
        assert (row["dtype"], row["shape"]) == (str(values.dtype), list(values.shape))
        assert (row["min"], row["max"]) == (values.min(), values.max())
        bits = row["bits"]
        assert -(2 ** (bits - 1)) <= row["min"] <= row["max"] < 2 ** (bits - 1)
        assert bits == 1 or row["min"] < -(2 ** (bits - 2)) or row["max"] >= 2 ** (bits - 2)


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        (0, 0, 1),
        (-1, 0, 1),
        (0, 1, 2),
        (-2, 1, 2),
        (-128, 127, 8),
        (-129, 0, 9),
        (0, 128, 9),
        (-(2**63), 2**63 - 1, 64),
        (-128, -128, 8),
    ],
)
def test_inspect_counts_the_bits_of_twos_complement(low: int, high: int, bits: int) -> None:
    row = _row("x", np.array([[low], [high]]))
    assert row == {"name": "x", "dtype": "int64", "shape": [2, 1], "bits": bits, "min": low, "max": high}


def test_inspect_summarises_a_float_checkpoint(command: Command, source: Path) -> None:
    summary = _object(command("inspect", source, "--json"))
    assert summary["kind"] == "checkpoint"
    assert (summary["model_type"], summary["head"]) == ("bert", "sequence-classification")
    assert summary["ignored"] == []
    row = {"name": "classifier.weight", "dtype": "F32", "shape": [2, 16]}
    assert row in summary["tensors"]


def test_inspect_summarises_a_trace(command: Command, classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.safetensors"
    command("run", classifier, "--text", "not bad", "--trace", path)
    summary = _object(command("inspect", path, "--json"))
    with intsim.trace() as expected:
        intsim.load(classifier)([[2, 12, 7, 3]])
    assert summary["kind"] == "trace"
    assert summary["profile_hash"] == intsim.PROFILES["intsim"].hash
    assert [row["name"] for row in summary["tensors"]] == list(expected)
    for row in summary["tensors"]:
        values = expected[row["name"]]
        assert (row["shape"], row["min"], row["max"]) == (list(values.shape), values.min(), values.max())


@pytest.mark.parametrize("kind", ["integer checkpoint", "checkpoint", "trace"])
def test_inspect_prints_a_line_for_every_tensor(
    command: Command, source: Path, classifier: Path, tmp_path: Path, kind: str
) -> None:
    command("run", classifier, "--text", "not bad", "--trace", tmp_path / "trace")
    path = {"integer checkpoint": classifier, "checkpoint": source, "trace": tmp_path / "trace"}[kind]
    outcome = command("inspect", path)
    summary = _object(command("inspect", path, "--json"))
    assert outcome.status == 0
    assert outcome.stderr == ""
    assert outcome.stdout.startswith(f"kind          {kind}\n")
    lines = outcome.stdout.splitlines()
    assert len(lines) == len(summary) - 1 + len(summary["tensors"])
    for line, row in zip(lines[-len(summary["tensors"]) :], summary["tensors"], strict=True):
        assert line.split()[:2] == [row["name"], row["dtype"]]


def test_inspect_shows_the_widths_of_every_intermediate(command: Command, classifier: Path) -> None:
    outcome = command("inspect", classifier, "--widths")
    summary = _object(command("inspect", classifier, "--widths", "--json"))
    with intsim.trace("steps") as trace:
        intsim.load(classifier)([[2, 12, 7, 3]])
    assert list(summary) == ["kind", "profile", "profile_hash", "model_digest", "tensors"]
    assert [row["name"] for row in summary["tensors"]] == list(trace)
    for row in summary["tensors"]:
        assert list(row) == ["name", "bits", "given", "dtype", "min", "max"]
        assert row["min"] <= trace[row["name"]].min()
        assert trace[row["name"]].max() <= row["max"]
        assert row["bits"] <= row["given"]
    lines = [line.split() for line in outcome.stdout.splitlines()]
    assert lines[:4] == [[key, summary[key]] for key in ("kind", "profile", "profile_hash", "model_digest")]
    assert lines[4] == list(summary["tensors"][0])
    assert lines[5:] == [[str(cell) for cell in row.values()] for row in summary["tensors"]]
    assert len({len(line) for line in outcome.stdout.splitlines()[4:]}) == 1
    assert outcome.stderr == ""


def test_inspect_shows_the_ranges_that_texts_reach(command: Command, classifier: Path, tmp_path: Path) -> None:
    texts = ["a good movie .", "the plot is\tnot bad"]
    file = _write(tmp_path / "texts.txt", ["", *texts])
    outcome = command("inspect", classifier, "--widths", "--observe", file, "--json")
    rows = _object(outcome)["tensors"]
    assert "observing" not in outcome.stderr
    traces = []
    for text in texts:
        command("run", classifier, "--text", text, "--level", "steps", "--trace", tmp_path / "trace")
        traces.append(read_trace(tmp_path / "trace")[0])
    for row in rows:
        assert list(row) == ["name", "bits", "given", "dtype", "min", "max", "seen_bits", "seen_min", "seen_max"]
        assert row["seen_min"] == min(trace[row["name"]].min() for trace in traces)
        assert row["seen_max"] == max(trace[row["name"]].max() for trace in traces)
        assert row["min"] <= row["seen_min"] <= row["seen_max"] <= row["max"]
        assert row["seen_bits"] <= row["bits"]
    assert any(row["seen_bits"] < row["bits"] for row in rows)
    printed = command("inspect", classifier, "--widths", "--observe", file).stdout.splitlines()
    assert [line.split() for line in printed[5:]] == [[str(cell) for cell in row.values()] for row in rows]


def test_inspect_says_what_widths_it_cannot_show(
    command: Command, source: Path, classifier: Path, tmp_path: Path
) -> None:
    assert "must carry intsim's metadata" in _sentence(command("inspect", source, "--widths"))
    empty = _write(tmp_path / "empty", ["", " "])
    for file, why in ((empty, "must hold a text on a line, got none"), (tmp_path / "missing", "readable UTF-8 file")):
        assert why in _sentence(command("inspect", classifier, "--widths", "--observe", file))
    usage = command("inspect", classifier, "--observe", empty)
    assert usage.status == 2
    assert "give --observe together with --widths" in usage.stderr


# ---- eval


@pytest.mark.parametrize(("task", "metrics"), [("sst2", ["accuracy"]), ("cola", ["matthews"])])
def test_eval_scores_a_classifier(
    command: Command, source: Path, classifier: Path, tmp_path: Path, task: str, metrics: list[str]
) -> None:
    data = _write(tmp_path / "data.tsv", DATA[task])
    outcome = command("eval", classifier, "--task", task, "--data", data, "--json")
    result = _object(outcome)
    assert outcome.stderr == ""  # no terminal, no progress
    assert list(result) == ["task", "n", "metrics", "reference", "cosine", "digest", "model_digest"]
    assert result["model_digest"] == intsim.load(classifier).digest
    assert (result["task"], result["n"]) == (task, 4)
    assert list(result["metrics"]) == metrics
    assert all(-1 <= value <= 1 for value in result["metrics"].values())
    assert result["reference"] is None
    assert result["cosine"] is None
    beside = _object(command("eval", classifier, "--task", task, "--data", data, "--reference", source, "--json"))
    assert beside["metrics"] == result["metrics"]
    assert list(beside["reference"]) == metrics
    assert beside["digest"] == result["digest"]
    assert 0.9 < beside["cosine"] <= 1


def test_eval_scores_an_encoder_by_cosine(command: Command, encoder: Path, tiny_bert: TinyBert, tmp_path: Path) -> None:
    data = _write(tmp_path / "data.csv", DATA["stsb"])
    arguments = ("eval", encoder, "--task", "stsb", "--data", data, "--reference", tiny_bert(labels=None))
    result = _object(command(*arguments, "--json"))
    assert (result["task"], result["n"]) == ("stsb", 4)
    assert sorted(result["metrics"]) == sorted(result["reference"]) == ["pearson", "spearman"]
    assert result["cosine"] > 0.99
    lines = command(*arguments).stdout.splitlines()
    assert lines[0] == "task        stsb, 4 examples"
    percent = 100 * result["metrics"]["spearman"], 100 * result["reference"]["spearman"]
    assert f"spearman    {percent[0]:.2f}   float {percent[1]:.2f}" in lines
    assert lines[-1] == f"digest      {result['digest']}"


def test_eval_scores_a_regression_head(command: Command, tiny_bert: TinyBert, tmp_path: Path) -> None:
    model = _quantized(tiny_bert(labels=("score",)), tmp_path / "model")
    data = _write(tmp_path / "data.csv", DATA["stsb"])
    result = _object(command("eval", model, "--task", "stsb", "--data", data, "--json"))
    assert sorted(result["metrics"]) == ["pearson", "spearman"]
    assert _object(command("run", model, "--text", "good\tbad", "--json"))["label"] is None  # a score is no class


@pytest.mark.parametrize(
    ("task", "labels", "lines", "metrics"),
    [
        ("mrpc", 2, ["Quality\t#1 String\t#2 String", "1\tgood\tgood", "0\tbad\tgood"], ["accuracy", "f1"]),
        ("qqp", 2, ["question1\tquestion2\tis_duplicate", "good\tgood\t1", "bad\tgood\t0"], ["accuracy", "f1"]),
        ("mnli", 3, ["sentence1\tsentence2\tgold_label", "good\tbad\tneutral"], ["accuracy"]),
        ("qnli", 2, ["question\tsentence\tlabel", "good\tbad\tentailment"], ["accuracy"]),
        ("rte", 2, ["sentence1\tsentence2\tlabel", "good\tbad\tnot_entailment"], ["accuracy"]),
    ],
)
def test_eval_scores_pairs(
    command: Command, tiny_bert: TinyBert, tmp_path: Path, task: str, labels: int, lines: list[str], metrics: list[str]
) -> None:
    model = _quantized(tiny_bert(labels=["a", "b", "c"][:labels]), tmp_path / "model")
    data = _write(tmp_path / "dev.tsv", lines)
    result = _object(command("eval", model, "--task", task, "--data", data, "--json"))
    assert (result["task"], result["n"], list(result["metrics"])) == (task, len(lines) - 1, metrics)


def test_fractions_are_shown_in_percent_and_perplexities_are_not() -> None:
    shown = [figure(*each) for each in (("f1", 0.12345), ("perplexity", 12.3456), ("tokens", 12345))]
    assert shown == ["12.35", "12.35", "12345"]


def test_eval_joins_several_files(command: Command, classifier: Path, tmp_path: Path) -> None:
    whole = _write(tmp_path / "whole", DATA["cola"])
    halves = _write(tmp_path / "first", DATA["cola"][:2]), _write(tmp_path / "second", DATA["cola"][2:])
    one = command("eval", classifier, "--task", "cola", "--data", whole, "--json")
    two = command("eval", classifier, "--task", "cola", "--data", halves[0], "--data", halves[1], "--json")
    assert _object(one) == _object(two)


# ---- compare


def test_compare_of_equal_traces_ends_with_status_0_and_of_others_with_1(
    command: Command, classifier: Path, tmp_path: Path
) -> None:
    for name, text in (("first", "not bad"), ("second", "not bad"), ("other", "not good")):
        assert command("run", classifier, "--text", text, "--trace", tmp_path / name).status == 0
    equal = command("compare", tmp_path / "first", tmp_path / "second")
    assert (equal.status, equal.stderr) == (0, "")
    _object(command("compare", tmp_path / "first", tmp_path / "second", "--json"))
    different = command("compare", tmp_path / "first", tmp_path / "other")
    assert different.status == 1
    assert "first embeddings.word_embeddings" in different.stdout
    shown = command("compare", tmp_path / "first", tmp_path / "other", "--json", "--max-errors", "1")
    assert shown.status == 1
    assert isinstance(json.loads(shown.stdout), dict)


def test_compare_refuses_what_it_cannot_read(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for name in ("absent", "text"):
        _sentence(command("compare", tmp_path / name, tmp_path / name))


# ---- profiles


def test_profiles_lists_names_and_hashes(command: Command) -> None:
    profiles = intsim.PROFILES.values()
    assert _object(command("profiles", "--json")) == {profile.name: profile.hash for profile in profiles}
    lines = command("profiles").stdout.splitlines()
    assert [line.split() for line in lines] == [[p.name, "version", str(p.version), p.hash] for p in profiles]


@pytest.mark.parametrize("name", list(intsim.PROFILES))
def test_profiles_prints_one_in_full(command: Command, name: str) -> None:
    shown = _object(command("profiles", name, "--json"))
    assert shown == {**intsim.PROFILES[name].to_json(), "hash": intsim.PROFILES[name].hash}
    assert json.loads(command("profiles", name).stdout) == shown
    canonical = {key: value for key, value in shown.items() if key != "hash"}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == shown["hash"]


# ---- in a process of its own


def test_a_user_gets_data_on_stdout_and_status_0(classifier: Path, tmp_path: Path) -> None:
    outcome = _process("run", classifier, "--text", "Ünïcode, good .", "--json", cwd=tmp_path)
    assert _object(outcome)["text"] == "Ünïcode, good ."
    assert outcome.stderr == ""


def test_a_user_gets_a_sentence_and_status_3(tmp_path: Path) -> None:
    assert "must be a readable safetensors file" in _sentence(_process("run", "absent", "--text", "a", cwd=tmp_path))


def test_a_user_gets_usage_and_status_2(tmp_path: Path) -> None:
    outcome = _process("run", "absent", cwd=tmp_path)
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.endswith("Error: give either --text or --ids\n")


def test_a_user_gets_the_demo_from_anywhere(tmp_path: Path) -> None:
    assert _process("demo", cwd=tmp_path).status == 0


def test_a_user_who_quantizes_gets_the_same_bytes_from_a_process_of_its_own(source: Path, tmp_path: Path) -> None:
    _write(tmp_path / "texts.txt", CALIBRATION)
    outcome = _process("quantize", source, "-o", "out", "--calibration", "texts.txt", cwd=tmp_path)
    assert outcome.status == 0
    assert outcome.stdout == ""
    intsim.quantize(source, calibration=CALIBRATION).save(tmp_path / "here")
    there, here = (tmp_path / name / "model.safetensors" for name in ("out", "here"))
    assert there.read_bytes() == here.read_bytes()


# ---- wrong usage: status 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("surprise",),
        ("run",),
        ("run", "DIR"),
        ("run", "DIR", "--text", "a", "--ids", "b"),
        ("run", "DIR", "--ids", "b", "--pair", "a"),
        ("run", "DIR", "--ids", "b", "--truncate"),
        ("run", "DIR", "--surprise"),
        ("quantize", "DIR"),
        ("quantize", "-o", "OUT"),
        ("quantize", "DIR", "-o", "OUT", "--calibration-size", "0"),
        ("quantize", "DIR", "-o", "OUT", "--calibration-size", "many"),
        ("inspect",),
        ("eval", "DIR", "--data", "FILE"),
        ("eval", "DIR", "--task", "sst2"),
        ("eval", "DIR", "--task", "wnli", "--data", "FILE"),
        ("profiles", "intsim", "ibert"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_explained(command: Command, arguments: tuple[str, ...]) -> None:
    outcome = command(*arguments)
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert "Usage: " in outcome.stderr
    assert "Error: " in outcome.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("run", "--help"), ("eval", "-h")], ids=str)
def test_help_is_data(command: Command, arguments: tuple[str, ...]) -> None:
    outcome = command(*arguments)
    assert outcome.status == 0
    assert outcome.stdout
    assert outcome.stderr == ""


def test_version_is_that_of_the_package(command: Command) -> None:
    try:
        version = importlib.metadata.version("intsim")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs intsim installed, not run from its folder")
    outcome = command("--version")
    assert outcome.status == 0
    assert outcome.stdout.split()[-1] == version


# ---- invalid input: status 3, one sentence, nothing written


def _damage(source: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a float checkpoint with other tensors."""
    shutil.copytree(source, path)
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")
    return path


NAME: Final = "encoder.layer.1.output.dense.weight"
BIAS: Final = "encoder.layer.1.output.dense.bias"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop(f"bert.{NAME}"), f"must hold tensor '{NAME}'"),
        (lambda t: t.update({f"bert.{NAME}": np.zeros((16, 31), np.float32)}), f"tensor '{NAME}' of "),
        (lambda t: t[f"bert.{BIAS}"].__setitem__(3, np.nan), "must hold finite numbers only, got nan at index (3,)"),
        (lambda t: t[f"bert.{BIAS}"].__setitem__(3, np.inf), "must hold finite numbers only, got inf at index (3,)"),
        (lambda t: t.update({f"bert.{NAME}": np.zeros((16, 32), np.int8)}), "must be stored as one of F32, F16, BF16"),
        (lambda t: t.update({f"bert.{NAME}": np.zeros((16, 32))}), "must be stored as one of F32, F16, BF16, got F64"),
        (
            lambda t: t.update({"bert.encoder.surprise": np.zeros(1, np.float32)}),
            "must hold the tensors that its config.json speaks of, got 'encoder.surprise'",
        ),
    ],
    ids=["missing", "mis-shaped", "NaN", "infinite", "integers", "float64", "surplus"],
)
def test_a_damaged_checkpoint_is_refused(
    command: Command, source: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    path = _damage(source, tmp_path / "damaged", change)
    calibration = _write(tmp_path / "texts.txt", CALIBRATION)
    outcome = command("quantize", path, "-o", tmp_path / "out", "--calibration", calibration)
    progress, _, sentence = outcome.stderr.rpartition("intsim: ")
    assert outcome.status == 3
    assert outcome.stdout == ""
    assert "Traceback" not in progress
    assert complaint in sentence
    assert sentence.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 4, 1_000, -10])
def test_a_truncated_checkpoint_is_refused(command: Command, source: Path, tmp_path: Path, size: int) -> None:
    shutil.copytree(source, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    for arguments in (("quantize", tmp_path / "cut", "-o", tmp_path / "out"), ("inspect", tmp_path / "cut")):
        assert "must be a complete safetensors file" in _sentence(command(*arguments))
    assert not (tmp_path / "out").exists()


def test_a_report_of_several_processes_says_once_what_is_not_used(source: Path, tmp_path: Path) -> None:
    odd = _damage(source, tmp_path / "odd", lambda t: t.update(surprise=np.zeros(1, np.float32)))
    data = _write(tmp_path / "dev.tsv", ["sentence\tlabel", "good\t1", "bad\t0"])
    calibration = _write(tmp_path / "texts.txt", CALIBRATION)
    task = ("--recipes", "intsim", "--task", "sst2", "--data", data, "--calibration", calibration, "--jobs", "2")
    outcome = _process("report", odd, *task, cwd=tmp_path)
    assert (outcome.status, outcome.stderr.count("1 tensors are not used, such as surprise")) == (0, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update({f"bert.{NAME}": np.zeros((16, 32), np.float32)}), ""),
        (lambda t: t.update(surprise=np.zeros(1, np.float32)), "1 tensors are not used, such as surprise"),
    ],
    ids=["zeros", "surplus"],
)
def test_zeros_and_surplus_tensors_are_no_damage(
    command: Command,
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    calibration = _write(tmp_path / "texts.txt", CALIBRATION)
    path = _damage(source, tmp_path / "odd", change)
    outcome = command("quantize", path, "-o", tmp_path / "out", "--calibration", calibration)
    assert outcome.status == 0
    assert said in caplog.text
    assert ("not used" in caplog.text) == bool(said)
    assert np.array_equal(intsim.load(tmp_path / "out").tensors[NAME], np.zeros((16, 32))) == (not said)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        (
            "architectures",
            ["BertForMaskedLM"],
            "must hold tensor 'cls.predictions.transform.dense.weight' to be Bert",
        ),
        ("architectures", ["LlamaForCausalLM"], "architectures in config.json must be"),
        ("model_type", "t5", "model_type in config.json must be one of albert, bert, "),
        ("model_type", "distilbert", "dim in config.json must be a positive integer, got nothing"),
        ("hidden_act", "mish", "hidden_act in config.json must be one of"),
        ("position_embedding_type", "relative_key", "position_embedding_type in config.json must be 'absolute'"),
        ("hidden_size", "16", "hidden_size in config.json must be a positive integer, got '16'"),
    ],
)
def test_an_unknown_architecture_is_refused(
    command: Command, source: Path, tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    shutil.copytree(source, tmp_path / "other")
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {field: value}))
    for arguments in (("quantize", tmp_path / "other", "-o", tmp_path / "out"), ("inspect", tmp_path / "other")):
        assert complaint in _sentence(command(*arguments))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["absent", "empty", "file"])
def test_a_path_that_is_no_checkpoint_is_refused(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    data = _write(tmp_path / "data", DATA["cola"])
    for arguments in (
        ("quantize", tmp_path / name, "-o", tmp_path / "out"),
        ("run", tmp_path / name, "--text", "a"),
        ("inspect", tmp_path / name),
        ("eval", tmp_path / name, "--task", "cola", "--data", data),
    ):
        assert str(tmp_path / name) in _sentence(command(*arguments))
    assert not (tmp_path / "out").exists()


def test_a_float_checkpoint_cannot_be_run(command: Command, source: Path) -> None:
    assert "make one with intsim quantize" in _sentence(command("run", source, "--text", "a"))


def test_a_truncated_integer_checkpoint_is_refused(command: Command, classifier: Path, tmp_path: Path) -> None:
    content = (classifier / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-1])
    for arguments in (("run", tmp_path, "--text", "a"), ("inspect", tmp_path)):
        assert "must be a readable safetensors file" in _sentence(command(*arguments))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "text must have more than white space, got ''"),
        (" \n", "text must have more than white space, got ' \\n'"),
        ("good\t", "text must have more than white space on both sides of its TAB"),
        ("a\tb\tc", "text must have at most one TAB, which separates a pair, got 2"),
        ("good " * 31, "text must be at most 32 tokens long, got 33"),
    ],
)
def test_a_text_that_cannot_be_run_is_refused(command: Command, classifier: Path, text: str, complaint: str) -> None:
    assert _sentence(command("run", classifier, "--text", text, "--json")).startswith(complaint)


def test_a_text_for_a_model_without_tokenizer_is_refused(command: Command, classifier: Path, tmp_path: Path) -> None:
    dataclasses.replace(intsim.load(classifier), tokenizer=None).save(tmp_path)
    expected = "model must carry a tokenizer to read text, got none; give --ids"
    assert _sentence(command("run", tmp_path, "--text", "a")) == expected
    data = _write(tmp_path / "data", DATA["cola"])
    assert "must carry a tokenizer" in _sentence(command("eval", tmp_path, "--task", "cola", "--data", data))
    (tmp_path / "ids").write_text("2 5 3")
    assert _object(command("run", tmp_path, "--ids", tmp_path / "ids", "--json"))["tokens"] is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "must hold token ids separated by white space or commas, got ''"),
        (b" \n", "must hold token ids separated by white space or commas, got ''"),
        (b"2 five 3", "must hold token ids separated by white space or commas, got '2 five 3'"),
        (b"2 -5 3", "must hold token ids separated by white space or commas"),
        (b"2 5.0 3", "must hold token ids separated by white space or commas"),
        ("2 ٣ 3".encode(), "must hold token ids separated by white space or commas"),
        (b"\xff\xfe", "must be a readable UTF-8 file"),
        (b"2 66 3", "input_ids must be in [0, 66), got 66"),
        (b"2 9999999999999999999999 3", "must fit 64 bits, got one of 22 digits"),
        (b"5 " * 33, "text must be at most 32 tokens long, got 33"),
    ],
    ids=repr,
)
def test_an_invalid_ids_file_is_refused(
    command: Command, classifier: Path, tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "ids").write_bytes(content)
    assert complaint in _sentence(command("run", classifier, "--ids", tmp_path / "ids"))


@pytest.mark.parametrize("name", ["absent", ""])
def test_an_ids_file_that_cannot_be_read_is_refused(
    command: Command, classifier: Path, tmp_path: Path, name: str
) -> None:
    assert "must be a readable UTF-8 file, got " in _sentence(command("run", classifier, "--ids", tmp_path / name))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--recipe", "surprise"), f"recipe must be one of {', '.join(recipe_names())}"),
        (
            ("--profile", "surprise"),
            f"profile must be one of {', '.join(intsim.PROFILES)}, got 'surprise'",
        ),
        (("--calibration", "/absent"), "/absent must be a readable UTF-8 file, got "),
    ],
)
def test_unknown_names_are_refused(
    command: Command, source: Path, tmp_path: Path, options: tuple[str, ...], complaint: str
) -> None:
    assert complaint in _sentence(command("quantize", source, "-o", tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


def test_an_unknown_profile_is_refused(command: Command) -> None:
    names = "intsim, ibert, intsim-wide, ibert-code, ivit, ita, ita-2024"
    assert _sentence(command("profiles", "surprise")) == f"profile must be one of {names}, got 'surprise'"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "calibration must have at least one text, got none"),
        ("\n \n", "calibration must have at least one text, got none"),
        ("a\tb\tc\n", "FILE line 1: text must have at most one TAB, which separates a pair, got 2"),
        (
            "good\n\n" + "bad " * 40,
            "FILE line 3: text must be at most 32 tokens long, got 42; --truncate shortens it",
        ),
    ],
)
def test_invalid_calibration_is_refused(
    command: Command, source: Path, tmp_path: Path, content: str, complaint: str
) -> None:
    (tmp_path / "texts").write_text(content)
    outcome = command("quantize", source, "-o", tmp_path / "out", "--calibration", tmp_path / "texts")
    assert _sentence(outcome) == complaint.replace("FILE", str(tmp_path / "texts"))
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written_is_refused(
    command: Command, source: Path, classifier: Path, tmp_path: Path
) -> None:
    calibration = _write(tmp_path / "file", CALIBRATION)
    outcome = command("quantize", source, "-o", calibration / "out", "--calibration", calibration)
    assert outcome.status == 3
    assert outcome.stdout == ""
    assert outcome.stderr.endswith("model.safetensors must be writable, got: Not a directory\n")
    trace = calibration / "trace.safetensors"
    assert "must be writable" in _sentence(command("run", classifier, "--text", "a", "--trace", trace, "--json"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_float_checkpoint_is_never_replaced(command: Command, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(source, path)
    before = (path / "model.safetensors").read_bytes()
    calibration = _write(tmp_path / "texts", CALIBRATION)
    outcome = command("quantize", path, "-o", path, "--calibration", calibration)
    assert outcome.status == 3
    assert "must not be that of a Hugging Face checkpoint" in outcome.stderr
    assert (path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "integer checkpoint", "no profile", "tensor missing"])
def test_a_file_that_is_no_trace_cannot_be_inspected(
    command: Command, classifier: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "file"
    metadata = {"trace": [{"name": "x"}], "profile": {"name": "intsim"}, "profile_hash": ""}
    if damage == "text":
        path.write_text("text")
    elif damage == "integer checkpoint":
        path = classifier / "model.safetensors"
    else:
        if damage == "no profile":
            del metadata["profile"]
        tensors = {"y": np.zeros(1, np.int8)}
        save_file(tensors, path, metadata={"intsim": json.dumps(metadata)})
    assert str(path) in _sentence(command("inspect", path))


@pytest.mark.parametrize(
    ("task", "lines", "complaint"),
    [
        ("sst2", [], "must have rows with the columns label, text_a"),
        ("sst2", ["label\ttext_a"], "must have rows with the columns label, text_a"),
        (
            "sst2",
            ["label\tsurprise", "1\tgood"],
            "must have rows with the columns label, text_a, got columns label, surp",
        ),
        ("sst2", ["good\tgood"], "row 1 of "),
        ("sst2", ["1\tgood", "1"], "row 2 of "),
        ("sst2", ["1\tgood", "2\tbad"], "must have 0 or 1 for label, got 2"),
        ("sst2", ["1\tgood", "nan\tbad"], "must have 0 or 1 for label, got nan"),
        ("sst2", ["1\t "], "data.tsv line 1: text must have more than white space"),
        ("sst2", ["1\tbad", "", "1\t" + "good " * 40], "data.tsv line 3: text must be at most 32 tokens long, got 42"),
        ("stsb", ["score\tsentence1\tsentence2", "1\tgood\t "], "data.tsv line 2: text must have more than white"),
        ("cola", ["x\t1\tgood"], "row 1 of "),
        ("stsb", ["g\tf\t2012\t1\tinf\ta\tb"], "must have a finite number for score, got inf"),
    ],
)
def test_invalid_data_is_refused(
    command: Command,
    classifier: Path,
    encoder: Path,
    tmp_path: Path,
    task: str,
    lines: list[str],
    complaint: str,
) -> None:
    data = _write(tmp_path / "data.tsv", lines)
    model = encoder if task == "stsb" else classifier
    assert complaint in _sentence(command("eval", model, "--task", task, "--data", data, "--json"))


def test_data_that_cannot_be_read_is_refused(command: Command, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\t1")
    for name in ("absent", "", "binary"):
        outcome = command("eval", classifier, "--task", "cola", "--data", tmp_path / name)
        assert "must be a readable UTF-8 file, got " in _sentence(outcome)


@pytest.mark.parametrize("task", ["sst2", "cola", "stsb"])
def test_a_head_that_does_not_fit_the_task_is_refused(
    command: Command, classifier: Path, encoder: Path, tmp_path: Path, task: str
) -> None:
    model = classifier if task == "stsb" else encoder
    outcome = command("eval", model, "--task", task, "--data", _write(tmp_path / "data", DATA[task]))
    assert _sentence(outcome).startswith("model must have ")


def test_a_reference_that_does_not_fit_the_model_is_refused(
    command: Command, classifier: Path, tiny_bert: TinyBert, tmp_path: Path
) -> None:
    data = _write(tmp_path / "data", DATA["cola"])
    arguments = ("eval", classifier, "--task", "cola", "--data", data, "--reference")
    for reference, complaint in (
        (tmp_path / "absent", "got nothing there"),
        (tiny_bert(labels=None), "must hold tensor 'classifier.weight' to be Bert with head sequence-"),
        (tiny_bert(labels=("a", "b", "c")), "must have the integer model's labels"),
        (tiny_bert(config={"vocab_size": 10}), "must have the integer model's vocab_size, 66, got 10"),
        (tiny_bert(hidden_act="relu"), "must have the integer model's hidden_act, 'gelu', got 'relu'"),
    ):
        outcome = command(*arguments, reference)
        assert outcome.status == 3
        assert outcome.stdout == ""
        assert complaint in outcome.stderr.rpartition("intsim: ")[2]


def test_what_is_given_for_another_is_called_by_its_name(command: Command, classifier: Path, tmp_path: Path) -> None:
    words, empty = _write(tmp_path / "ids.txt", ["2 14 7 3"]), tmp_path / "empty"
    empty.write_bytes(bytes(8))
    for name in ("trace.npz", "trace.safetensors", "folder/"):
        assert command("run", classifier, "--ids", words, "--trace", f"{tmp_path}/{name}", "--level", "steps")[0] == 0
    npz, trace = tmp_path / "trace.npz", tmp_path / "trace.safetensors"
    for arguments, complaint in (
        (("inspect", npz), "must be a readable safetensors file, got: a zip archive, as an npz is"),
        (("diagnose", npz, npz), "must be a readable safetensors file, got: a zip archive, as an npz is"),
        (("inspect", words), "must be a readable safetensors file, got: a file that begins otherwise"),
        (("inspect", empty), "must be a readable safetensors file, got: a file without a header in JSON"),
        (("inspect", tmp_path / "folder"), "must be a checkpoint, got an export, of which manifest.json says"),
        (("inspect", trace, "--widths"), f"model must be the folder of an integer checkpoint, got the file {trace}"),
        (("run", words, "--text", "a"), f"model must be the folder of an integer checkpoint, got the file {words}"),
        (
            ("vectors", "replay", trace, "--layer", "absent", "--out", tmp_path / "o.npz", "--work", tmp_path / "w"),
            "named absent, got none",
        ),
    ):
        assert complaint in (said := _sentence(command(*arguments))), (arguments, said)
        assert "level steps" not in said
    assert not (tmp_path / "o.npz").exists()


def test_an_option_that_no_file_could_make_right_is_wrong_usage(command: Command) -> None:
    for arguments, complaint in (
        (("compare", "a", "b", "--slice", "foo"), "slice must be like ':, :3'"),
        (("profiles", "intsim", "--spec", "spec.pdf"), "--spec must be a file of .md or .html, got spec.pdf"),
        (("generate", "--text", "a", "--top-k", "5", "--temperature", "-1"), "temperature must be in [0.01, 100]"),
        (
            ("vectors", "gen", "gelu", "--activations", "uint8"),
            "activations of gelu must be left out, it is of matmul, linear, linear_add_norm, got 'uint8'",
        ),
    ):
        outcome = command(*arguments)
        assert (outcome.status, outcome.stdout) == (2, "")
        assert complaint in outcome.stderr
