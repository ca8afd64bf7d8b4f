# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.evaluate: what is scored, and what must not depend on the batches."""

import dataclasses
import hashlib
import itertools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import intsim
from intsim import _progress
from intsim.carrier import blocks
from intsim.cli import cli
from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.world import run
from intsim.report import evaluate as module
from intsim.report.evaluate import Example, evaluate
from intsim.report.tasks import glue, squad, tagging

TinyBert = Callable[..., Path]
TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good", "not good , not bad")
SENTENCES: Final = (
    "a good movie .",
    "bad",
    "the plot is not good , not bad .",
    "x y z",
    "is the movie good",
    "good good good good good good good",
    "the plot",
)
CLASSES: Final = [Example(texts=(text,), target=i % 2) for i, text in enumerate(SENTENCES)]
PAIRS: Final = [
    Example(texts=(SENTENCES[i], SENTENCES[j]), target=score)
    for i, j, score in ((0, 4, 3.8), (1, 1, 5.0), (2, 6, 2.0), (3, 5, 0.0), (6, 3, 2.2))
]


@pytest.fixture(scope="module")
def source(tiny_bert: TinyBert) -> Path:
    return tiny_bert()


@pytest.fixture(scope="module")
def headless(tiny_bert: TinyBert) -> Path:
    return tiny_bert(labels=None)


@pytest.fixture(scope="module")
def classifier(source: Path) -> intsim.IntegerModel:
    return intsim.quantize(source, calibration=TEXTS)


def _scored(task: Any, outputs: np.ndarray, targets: Sequence[float], labels: int | None) -> dict[str, float]:
    return glue.score(task, outputs.astype(np.float64), np.array(targets), labels)


@pytest.fixture(scope="module")
def encoder(headless: Path) -> intsim.IntegerModel:
    return intsim.quantize(headless, calibration=TEXTS)


# ---- the integer model


def _outputs(model: intsim.IntegerModel, texts: Sequence[str]) -> np.ndarray:
    """Run each text alone and return its logits, or its pooled integers by Python arithmetic."""
    tokenizer = parse_tokenizer(model.tokenizer or "")
    outputs = []
    for text in texts:
        encoding = encode(tokenizer, text, longest=32)
        values = model([encoding.ids], token_type_ids=[encoding.type_ids]).values[0]
        if model.head == "none":
            total = values.astype(int).sum(axis=0)
            values = (2 * total + len(values)) // (2 * len(values))  # the mean, halves up: the profile's step rounding
        outputs.append(values)
    return np.array(outputs)


@pytest.mark.parametrize("task", ["sst2", "cola"])
def test_a_classifier_is_scored_by_its_integers(classifier: intsim.IntegerModel, task: Any) -> None:
    outputs = _outputs(classifier, SENTENCES)
    result = evaluate(classifier, task, CLASSES)
    assert (result.task, result.n, result.reference, result.cosine) == (task, len(CLASSES), None, None)
    assert result.metrics == _scored(task, outputs, [example.target for example in CLASSES], 2)
    assert result.digest == hashlib.sha256(outputs.astype("<i4").tobytes()).hexdigest()


def test_an_encoder_is_scored_by_its_pooled_integers(encoder: intsim.IntegerModel) -> None:
    texts = [text for example in PAIRS for text in example.texts]
    outputs = _outputs(encoder, texts)
    result = evaluate(encoder, "stsb", PAIRS)
    assert result.digest == hashlib.sha256(outputs.astype("<i4").tobytes()).hexdigest()
    assert result.metrics == pytest.approx(_scored("stsb", outputs, [example.target for example in PAIRS], None))


def test_a_regression_head_reads_pairs_together(tiny_bert: TinyBert) -> None:
    model = intsim.quantize(tiny_bert(labels=("score",)), calibration=TEXTS)
    outputs = _outputs(model, ["\t".join(example.texts) for example in PAIRS])
    result = evaluate(model, "stsb", PAIRS)
    assert outputs.shape == (len(PAIRS), 1)
    assert result.digest == hashlib.sha256(outputs.astype("<i4").tobytes()).hexdigest()
    scores, targets = outputs[:, 0], [example.target for example in PAIRS]
    assert result.metrics["spearman"] == pytest.approx(stats.spearmanr(scores, targets).statistic)


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_the_batches_change_nothing(
    classifier: intsim.IntegerModel,
    encoder: intsim.IntegerModel,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    expected = evaluate(classifier, "sst2", CLASSES, reference=source), evaluate(encoder, "stsb", PAIRS)
    monkeypatch.setattr(module, "BATCH", batch)
    found = evaluate(classifier, "sst2", CLASSES, reference=source), evaluate(encoder, "stsb", PAIRS)
    assert found[0].digest == expected[0].digest
    assert found[0].metrics == expected[0].metrics
    assert found[0].reference == expected[0].reference
    assert found[0].cosine == pytest.approx(expected[0].cosine, abs=1e-6)
    assert found[1] == expected[1]


def test_the_order_of_the_examples_changes_the_digest_alone(encoder: intsim.IntegerModel) -> None:
    forward, backward = evaluate(encoder, "stsb", PAIRS), evaluate(encoder, "stsb", PAIRS[::-1])
    assert forward.metrics == pytest.approx(backward.metrics)
    assert forward.digest != backward.digest
    vectors = _outputs(encoder, [text for example in PAIRS[::-1] for text in example.texts])
    assert backward.digest == hashlib.sha256(vectors.astype("<i4").tobytes()).hexdigest()


@pytest.mark.parametrize("jobs", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_the_same_evaluation(
    encoder: intsim.IntegerModel, headless: Path, jobs: int
) -> None:
    texts = ["a good movie .", "the plot is bad", "good", "is the movie good ?"] * 40
    examples = [Example(texts=pair, target=i % 7) for i, pair in enumerate(itertools.pairwise(texts))]
    alone = evaluate(encoder, "stsb", examples, reference=headless)
    assert evaluate(encoder, "stsb", examples, reference=headless, jobs=jobs) == alone


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(8, 3, 2), (8, 4, 2), (2, 2, 1), (2, 5, 1)])
def test_each_process_takes_its_share_of_the_cores(
    encoder: intsim.IntegerModel, monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, threads: int
) -> None:
    class Pool:  # of one process: this one
        def __init__(self, _jobs: int, _context: Any, initializer: Callable[..., None], arguments: Any) -> None:
            initializer(*arguments)

        def shutdown(self, *, cancel_futures: bool) -> None: ...

        map = staticmethod(map)

    monkeypatch.setattr(blocks, "THREADS", cores)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)  # a process of a pool dies at once, this one tells
    monkeypatch.setattr(logging.getLogger("intsim.io.huggingface"), "disabled", False)  # and speaks afterwards
    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    shared = evaluate(encoder, "stsb", PAIRS, jobs=jobs)
    assert threads == blocks.THREADS
    assert shared == evaluate(encoder, "stsb", PAIRS)


def test_an_evaluation_is_plain_json(classifier: intsim.IntegerModel, source: Path) -> None:
    result = evaluate(classifier, "cola", CLASSES, reference=source)
    plain = result.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == ["task", "n", "metrics", "reference", "cosine", "digest", "model_digest"]


def test_progress_is_shown_on_stderr_where_asked_for(
    classifier: intsim.IntegerModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    evaluate(classifier, "sst2", CLASSES)
    assert capsys.readouterr() == ("", "")
    evaluate(classifier, "sst2", CLASSES, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "evaluating" in shown.err


# ---- the float reference beside it


def _floats(path: Path, texts: Sequence[str]) -> np.ndarray:
    checkpoint = open_checkpoint(path)
    tokenizer = parse_tokenizer((path / "tokenizer.json").read_text())
    outputs = []
    for text in texts:
        ids, mask, types = pad([encode(tokenizer, text, longest=32)])
        values = run(
            checkpoint.family,
            {name: checkpoint.load(name) for name in checkpoint.names},
            checkpoint.config,
            checkpoint.head,
            ids,
            attention_mask=mask,
            token_type_ids=types,
        )
        outputs.append((values if checkpoint.head != "none" else mean_pooling(values, mask))[0])
    return np.array(outputs)


def test_a_classifiers_reference_is_the_float_model(classifier: intsim.IntegerModel, source: Path) -> None:
    floats, integers = _floats(source, SENTENCES), _outputs(classifier, SENTENCES)
    result = evaluate(classifier, "sst2", CLASSES, reference=source)
    targets = [example.target for example in CLASSES]
    assert np.abs(floats[:, 0] - floats[:, 1]).min() > 0.01  # no rounding of float32 can change a class
    assert result.reference == {"accuracy": float((floats.argmax(axis=1) == targets).mean())}
    norms = np.linalg.norm(floats, axis=1) * np.linalg.norm(integers, axis=1)
    assert result.cosine == pytest.approx(((floats * integers).sum(axis=1) / norms).mean(), abs=1e-6)
    assert result.cosine is not None
    assert 0.95 < result.cosine < 1


def test_an_encoders_reference_is_the_pooled_float_model(encoder: intsim.IntegerModel, headless: Path) -> None:
    floats = _floats(headless, [text for example in PAIRS for text in example.texts])
    result = evaluate(encoder, "stsb", PAIRS, reference=str(headless))
    cosines = module.cosines(floats[0::2], floats[1::2])
    assert np.diff(np.sort(cosines)).min() > 0.01  # no rounding of float32 can change a rank
    expected = _scored("stsb", floats, [example.target for example in PAIRS], None)
    assert result.reference == pytest.approx(expected, abs=1e-5)
    assert result.cosine is not None
    assert 0.99 < result.cosine < 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"labels": ("a", "b")}, "must have the integer model's labels, ['negative', 'positive'], got ['a', 'b']"),
        ({"config": {"vocab_size": 20}}, "must have the integer model's vocab_size, 66, got 20"),
        (
            {"config": {"max_position_embeddings": 16}},
            "must have the integer model's max_position_embeddings, 32, got 16",
        ),
    ],
)
def test_another_models_reference_is_refused(
    classifier: intsim.IntegerModel, tiny_bert: TinyBert, options: dict[str, Any], complaint: str
) -> None:
    path = tiny_bert(**options)
    with pytest.raises(IntsimError) as caught:
        evaluate(classifier, "sst2", CLASSES, reference=path)
    assert str(caught.value) == f"reference {path} {complaint}"


def test_a_reference_without_the_models_head_is_refused(classifier: intsim.IntegerModel, headless: Path) -> None:
    with pytest.raises(IntsimError, match=r"must hold tensor 'classifier\.weight' to be Bert"):
        evaluate(classifier, "sst2", CLASSES, reference=headless)


def test_the_head_of_a_reference_is_not_read_for_a_model_without(source: Path) -> None:
    bare = intsim.quantize(source, calibration=TEXTS, head="none")
    result = evaluate(bare, "stsb", PAIRS, reference=source)
    assert result.cosine is not None
    assert 0.99 < result.cosine < 1


def test_a_reference_that_is_no_checkpoint_is_refused(classifier: intsim.IntegerModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="got nothing there"):
        evaluate(classifier, "sst2", CLASSES, reference=tmp_path / "absent")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_reference_with_a_nan_is_refused_in_one_sentence(
    classifier: intsim.IntegerModel, tiny_bert: TinyBert, jobs: int
) -> None:
    path = tiny_bert(tensors={"classifier.bias": np.array([0, np.nan], np.float32)})
    with pytest.raises(CheckpointError, match=r"classifier.bias"):
        evaluate(classifier, "sst2", CLASSES, reference=path, jobs=jobs)


# ---- models that do not fit


@pytest.mark.parametrize(
    ("labels", "task", "complaint"),
    [
        (("negative", "positive"), "stsb", "no classifier, or one of a single label for stsb, got 2 labels"),
        (("a", "b", "c"), "sst2", "a classifier of two labels for sst2, got 3 labels"),
        (("score",), "cola", "a classifier of two labels for cola, got 1 labels"),
        (None, "sst2", "a classifier of two labels for sst2, got none"),
    ],
)
def test_a_head_that_does_not_fit_the_task_is_refused(
    tiny_bert: TinyBert, labels: Sequence[str] | None, task: Any, complaint: str
) -> None:
    model = intsim.quantize(tiny_bert(labels=labels), calibration=TEXTS)
    with pytest.raises(IntsimError) as caught:
        evaluate(model, task, PAIRS if task == "stsb" else CLASSES)
    assert str(caught.value) == f"model must have {complaint}"


@pytest.mark.parametrize(
    ("task", "example", "needed"),
    [
        ("squad", squad.Example(question="a", context="good", answers=("good",)), "a question answering head"),
        ("ner", tagging.Example(words=("good",), tags=("O",)), "a token classifier"),
        ("mlm", "good", "a masked language model's head"),
    ],
)
def test_a_classifier_is_refused_where_another_head_is_asked(
    classifier: intsim.IntegerModel, encoder: intsim.IntegerModel, task: Any, example: Any, needed: str
) -> None:
    for model, got in ((classifier, "a classifier"), (encoder, "no head")):
        with pytest.raises(IntsimError) as caught:
            evaluate(model, task, [example])
        assert str(caught.value) == f"model must have {needed} for {task}, got {got}"


def test_a_model_without_tokenizer_is_refused(classifier: intsim.IntegerModel) -> None:
    with pytest.raises(IntsimError, match="model must carry a tokenizer to read text, got none"):
        evaluate(dataclasses.replace(classifier, tokenizer=None), "sst2", CLASSES)


def test_a_text_too_long_is_refused(classifier: intsim.IntegerModel) -> None:
    with pytest.raises(IntsimError, match="text must be at most 32 tokens long, got 42"):
        evaluate(classifier, "sst2", [*CLASSES, Example(texts=("good " * 40,), target=1)])


# ---- the command


def test_limit_scores_the_first_examples_of_all_files(classifier: intsim.IntegerModel, tmp_path: Path) -> None:
    classifier.save(tmp_path / "model")
    lines = [f"{example.target}\t{example.texts[0]}\n" for example in CLASSES]
    (tmp_path / "a.tsv").write_text("".join(lines[:3]))
    (tmp_path / "b.tsv").write_text("".join(lines[3:]))
    arguments = [
        "eval",
        tmp_path / "model",
        "--task",
        "sst2",
        "--data",
        tmp_path / "a.tsv",
        "--data",
        tmp_path / "b.tsv",
    ]
    for limit, n in ((2, 2), (5, 5), (100, len(CLASSES))):
        outcome = CliRunner().invoke(cli, [*map(str, arguments), "--limit", str(limit), "--json"])
        assert json.loads(outcome.stdout) == evaluate(classifier, "sst2", CLASSES[:n]).to_json()
    assert CliRunner().invoke(cli, [*map(str, arguments), "--limit", "0"]).exit_code == 2
