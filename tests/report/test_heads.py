# SPDX-License-Identifier: Apache-2.0
"""Tasks on real models of every head: what is asked, run on integers and beside it in float, and shown of one text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import families
import numpy as np
import pytest

import intsim
from intsim.cli import cli
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.report.evaluate import Evaluation, evaluate, read_task
from intsim.report.report import report

CALIBRATION: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good ?\tthe movie is good")
LABELS: Final = ("O", "B-THING", "I-THING")
Made = Callable[..., tuple[Path, intsim.IntegerModel]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return a function that makes a tiny checkpoint of a family and head, and its integer model."""

    def make(family: str, head: str, **config: Any) -> tuple[Path, intsim.IntegerModel]:
        path = families.tiny(family, head, tmp_path_factory.mktemp(family), **config)
        return path, intsim.quantize(path, calibration=CALIBRATION, truncate=True)

    return make


def _scored(model: intsim.IntegerModel, task: Any, file: Path, reference: Path) -> Evaluation:
    """Evaluate beside the float model."""
    result = evaluate(model, task, read_task(task, file), reference=reference)
    assert result.reference is not None
    assert result.reference.keys() == result.metrics.keys()
    assert result.cosine is not None
    assert result.cosine > 0.9
    return result


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_tagger_is_scored_by_its_entities(made: Made, tmp_path: Path, family: str) -> None:
    path, model = made(family, "token-classification", labels=LABELS)
    file = tmp_path / "tags.txt"
    file.write_text("a O\ngood B-THING\nmovie I-THING\n\nthe O\nplot B-THING\n")
    result = _scored(model, "ner", file, path)
    assert result.n == 2
    assert {"precision", "recall", "f1", "accuracy"} == result.metrics.keys()
    assert all(0 <= value <= 1 for value in result.metrics.values())
    if family == "bert":
        assert result == evaluate(model, "ner", read_task("ner", file), reference=path, jobs=2)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_question_answerer_is_scored_by_its_spans(made: Made, tmp_path: Path, family: str) -> None:
    path, model = made(family, "question-answering")
    context = "the plot is not bad , not good . a good movie ."
    asked = {"id": "1", "question": "is the movie good", "answers": [{"text": "good", "answer_start": 35}]}
    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [asked]}]}]}))
    result = _scored(model, "squad", file, path)
    assert result.metrics.keys() == {"exact_match", "f1"}


@pytest.mark.parametrize("family", ["bert", "roberta", "albert"])
def test_a_masked_language_model_is_scored_by_its_perplexity(made: Made, tmp_path: Path, family: str) -> None:
    path, model = made(family, "masked-lm")
    file = tmp_path / "texts.txt"
    file.write_text("a good movie .\nthe plot is not bad\n")
    result = _scored(model, "mlm", file, path)
    assert result.reference is not None
    assert result.metrics["perplexity"] == pytest.approx(result.reference["perplexity"], rel=0.2)
    assert result.metrics["tokens"] == result.reference["tokens"] > 0


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return what ``intsim run --json`` shows of a model and a text."""

    def run(folder: Path, *options: str) -> Any:
        cli(["run", str(folder), *options, "--json"], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    return run


def test_run_shows_a_label_for_every_token(made: Made, tmp_path: Path, shown: Callable[..., Any]) -> None:
    _, model = made("bert", "token-classification", labels=LABELS)
    model.save(tmp_path)
    found = shown(tmp_path, "--text", "a good movie")
    assert len(found["labels"]) == len(found["tokens"])
    assert found["labels"] == [LABELS[int(np.argmax(row))] for row in found["output"]]


def test_run_shows_the_answer_where_it_stands_in_the_context(
    made: Made, tmp_path: Path, shown: Callable[..., Any]
) -> None:
    _, model = made("bert", "question-answering")
    model.save(tmp_path)
    context = "the plot is not bad , not good"
    found = shown(tmp_path, "--text", "is the movie good", "--pair", context)
    assert found["answer"] == context[found["start"] : found["end"]] != ""
    encoding = encode(parse_tokenizer(model.tokenizer or ""), f"is the movie good\t{context}", longest=40)
    inside = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
    sums = {
        (first, last): found["output"][first][0] + found["output"][last][1]
        for first in inside
        for last in inside
        if first <= last < first + 30
    }
    first, last = max(sums, key=lambda span: sums[span])
    assert (found["start"], found["end"]) == (encoding.offsets[first][0], encoding.offsets[last][1])


def test_run_shows_the_best_tokens_of_each_mask(made: Made, tmp_path: Path, shown: Callable[..., Any]) -> None:
    _, model = made("bert", "masked-lm")
    model.save(tmp_path)
    found = shown(tmp_path, "--text", "a [MASK] movie [MASK]")
    places = [i for i, token in enumerate(found["tokens"]) if token == "[MASK]"]  # noqa: S105 - no password
    assert len(places) == len(found["masks"]) == 2
    for place, best in zip(places, found["masks"], strict=True):
        logits = found["output"][place]
        expected = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: len(best)]
        assert [(each["id"], each["logit"]) for each in best] == [(i, logits[i]) for i in expected]


def test_run_shows_every_label_a_text_can_have_at_once(made: Made, tmp_path: Path, shown: Callable[..., Any]) -> None:
    _, model = made("bert", "multi-label")
    model.save(tmp_path)
    found = shown(tmp_path, "--text", "a good movie")
    names = model.config.labels
    assert found["labels"] == [name for name, logit in zip(names, found["output"], strict=True) if logit > 0]
    assert found["label"] is None


def test_a_question_without_a_context_is_refused(made: Made, tmp_path: Path, shown: Callable[..., Any]) -> None:
    _, model = made("bert", "question-answering")
    model.save(tmp_path)
    with pytest.raises(intsim.IntsimError, match="text must be a question and its context"):
        shown(tmp_path, "--text", "is the movie good")


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "albert", "mobilebert"])
def test_a_report_splits_the_errors_of_every_family(made: Made, tmp_path: Path, family: str) -> None:
    path, model = made(family, "two-classes", id2label={0: "bad", 1: "good"})
    file = tmp_path / "sst2.tsv"
    file.write_text("label\ttext_a\n1\ta good movie\n0\tthe plot is not good , not bad\n")
    examples = read_task("sst2", file)
    (row,) = report(path, ["intsim"], "sst2", examples, calibration=CALIBRATION).recipes
    assert [error.name for error in row.errors] == [*model.outline.hidden_states, "output"]
    for error in row.errors:
        assert sum(error.parts.values()) == pytest.approx(error.squared)
        assert error.parts["quantization"] > 0
        assert error.squared < 0.3
