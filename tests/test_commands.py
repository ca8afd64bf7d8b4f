# SPDX-License-Identifier: Apache-2.0
"""Every command on every recipe and every head."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import intsim
from intsim import ops
from intsim.cli import main
from intsim.io.trace_file import read_trace
from intsim.recipes import recipe_names
from intsim.verify.replay import replay

TEXT: Final = "is it [MASK]\ta good movie ."
CALIBRATION: Final = ("a good movie .", "the plot is not bad\tnot good")
SQUAD: Final = {
    "version": "1.1",
    "data": [
        {
            "title": "film",
            "paragraphs": [
                {
                    "context": "the movie is good . the plot is bad .",
                    "qas": [
                        {"id": "1", "question": "the plot is", "answers": [{"text": "bad", "answer_start": 32}]},
                        {"id": "2", "question": "the movie is", "answers": [{"text": "good", "answer_start": 13}]},
                    ],
                }
            ],
        }
    ],
}
STSB: Final = "".join(
    f"g\tf\t2012\t{i}\t{score}\t{pair}\n"
    for i, (score, pair) in enumerate(
        (("5.0", "a good movie\ta good movie ."), ("0.2", "the plot\tx y z"), ("2.5", "a bad plot\ta good plot"))
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stands behind the body of a tiny checkpoint, and the task that it is for."""

    head: str
    task: str
    data: str
    labels: tuple[str, ...] | None = None
    architecture: str | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None


HEADS: Final = {
    "classes": Head(
        head="sequence-classification",
        task="sst2",
        data="label\ttext_a\n1\ta good movie .\n0\ta bad plot\n1\tnot bad\n",
        labels=("negative", "positive"),
    ),
    "score": Head(head="sequence-classification", task="stsb", data=STSB, labels=("score",)),
    "tokens": Head(
        head="token-classification",
        task="ner",
        data="a O\ngood B-PER\nmovie I-PER\n\nbad B-PER\nplot O\n",
        labels=("O", "B-PER", "I-PER"),
        architecture="BertForTokenClassification",
    ),
    "answers": Head(
        head="question-answering",
        task="squad",
        data=json.dumps(SQUAD),
        architecture="BertForQuestionAnswering",
        shapes={"qa_outputs.weight": (2, 16), "qa_outputs.bias": (2,)},
    ),
    "words": Head(
        head="masked-lm",
        task="mlm",
        data="a good movie .\nthe plot is bad .\n",
        architecture="BertForMaskedLM",
        shapes={
            "cls.predictions.bias": (66,),
            "cls.predictions.transform.dense.weight": (16, 16),
            "cls.predictions.transform.dense.bias": (16,),
            "cls.predictions.transform.LayerNorm.weight": (16,),
            "cls.predictions.transform.LayerNorm.bias": (16,),
        },
    ),
    "sentences": Head(head="sentence-embedding", task="stsb", data=STSB),
    "states": Head(head="none", task="stsb", data=STSB),
}
ALL: Final = [(recipe, head) for recipe in recipe_names() for head in HEADS]
FAST: Final = {(recipe, [*HEADS][i % len(HEADS)]) for i, recipe in enumerate(recipe_names())}


@pytest.fixture(scope="module")
def checkpoints(tiny_bert: Callable[..., Path]) -> Callable[[str], Path]:
    """Return a function that writes the checkpoint of a head, once."""
    written: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in written:
            head, rng = HEADS[name], np.random.default_rng(1)
            shapes = head.shapes or {}
            tensors = {name: rng.normal(0.3, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
            config = {"architectures": [head.architecture]} if head.architecture else None
            written[name] = tiny_bert(labels=head.labels, config=config, tensors=tensors)
        return written[name]

    return write


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that runs a command, requires that it is done, and returns what it printed."""

    def run(*arguments: object, status: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert (left.value.code or 0) == status, f"{arguments}: {err}"
        assert "Traceback" not in err
        return json.loads(out) if "--json" in arguments else out

    return run


@pytest.mark.parametrize(
    ("recipe", "head"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in ALL]
)
def test_every_command_runs(
    checkpoints: Callable[[str], Path], command: Callable[..., Any], tmp_path: Path, recipe: str, head: str
) -> None:
    source, model, what = checkpoints(head), tmp_path / "model", HEADS[head]
    calibration, data = tmp_path / "texts", tmp_path / f"data.{what.task}"
    calibration.write_text("\n".join(CALIBRATION), encoding="utf-8")
    data.write_text(what.data, encoding="utf-8")

    rules = command("recipes", recipe, "--checkpoint", source, "--head", what.head, "--json")
    assert len(rules["weights"]) > 12
    command("quantize", source, "-o", model, "--recipe", recipe, "--head", what.head, "--calibration", calibration)
    digest = intsim.load(model).digest
    summary = command("inspect", model, "--json")
    assert (summary["digest"], summary["head"], summary["recipe"]) == (digest, what.head, recipe)
    assert f"digest        {digest}\n" in command("inspect", model)

    shown = command("run", model, "--text", TEXT, "--json")
    assert shown["model_digest"] == digest
    traces = {level: tmp_path / level for level in ("tensors", "steps")}
    for level, trace in traces.items():
        traced = command("run", model, "--text", TEXT, "--trace", trace, "--level", level, "--json")
        assert traced == shown
        assert command("inspect", trace, "--json")["model_digest"] == digest

    steps, _ = read_trace(traces["steps"])
    widths = command("inspect", model, "--widths", "--json")
    assert widths["model_digest"] == digest
    assert [row["name"] for row in widths["tensors"]] == list(steps)
    for row in widths["tensors"]:
        assert row["min"] <= steps[row["name"]].min() <= steps[row["name"]].max() <= row["max"], row

    compared = command("compare", traces["steps"], traces["tensors"], "--json")
    assert (compared["equal"], compared["models"], compared["compared"]) == (True, None, len(steps.calls))
    diagnosed = command("diagnose", traces["steps"], traces["tensors"], "--json")
    assert diagnosed["comparison"]["equal"]
    operators = {call.operator.__name__ for call in steps.calls.values()}
    replayed = replay(traces["steps"], {name: getattr(ops, name) for name in operators})
    assert (replayed.compared, replayed.first) == (len(steps.calls), None)

    scored = command("eval", model, "--task", what.task, "--data", data, "--json")
    assert (scored["model_digest"], scored["task"]) == (digest, what.task)


@pytest.mark.parametrize(
    ("recipe", "head"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in ALL]
)
def test_every_model_exports(
    checkpoints: Callable[[str], Path], command: Callable[..., Any], tmp_path: Path, recipe: str, head: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    model = intsim.quantize(checkpoints(head), recipe=recipe, head=HEADS[head].head, calibration=CALIBRATION)
    model.save(tmp_path / "model")
    command("export", tmp_path / "model", "--onnx", tmp_path / "model.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert metadata["model_digest"] == model.digest


def test_traces_of_different_models_are_told_apart(
    checkpoints: Callable[[str], Path],
    command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models: list[intsim.IntegerModel] = []
    for recipe in ("w8a8", "w6"):
        model = intsim.quantize(checkpoints("classes"), recipe=recipe, calibration=CALIBRATION)
        model.save(tmp_path / recipe)
        models.append(model)
        command("run", tmp_path / recipe, "--text", "bad", "--trace", tmp_path / f"{recipe}-trace", "--level", "steps")
    pair, digests = (tmp_path / "w8a8-trace", tmp_path / "w6-trace"), [model.digest for model in models]
    assert command("compare", *pair, "--json", status=1)["models"] == digests
    assert command("diagnose", *pair, "--json", status=1)["comparison"]["models"] == digests
    for name in ("compare", "diagnose"):
        monkeypatch.setattr(sys, "argv", ["intsim", name, *map(str, pair)])
        with pytest.raises(SystemExit):
            main()
        said = f"expected is of model {digests[0]}, actual of another, {digests[1]}"
        assert said in capsys.readouterr().err.splitlines()
    replayed = [replay(pair[0], {"requantize": ops.requantize}, model=model) for model in (models[1], models[0], None)]
    assert [result.models for result in replayed] == [(digests[0], digests[1]), None, None]
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, **read_trace(pair[1])[0])
    assert command("compare", pair[0], arrays, "--json", status=1)["models"] is None
