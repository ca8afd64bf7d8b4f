# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.evaluate: what is read, what is scored, and what must not depend on the batches."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

import intsim
from intsim.carrier import blocks
from intsim.cli import cli
from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.world import run
from intsim.report import evaluate as module
from intsim.report.evaluate import Example, evaluate, read_task

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


@pytest.fixture(scope="module")
def encoder(headless: Path) -> intsim.IntegerModel:
    return intsim.quantize(headless, calibration=TEXTS)


# ---- metrics


def _scored(
    task: Any, outputs: Sequence[Sequence[float]], targets: Sequence[float], labels: int | None
) -> dict[str, float]:
    metrics = module.score(task, np.array(outputs, np.float64), np.array(targets, np.float64), labels)
    assert all(type(value) is float for value in metrics.values())
    return metrics


def _logits(predicted: Sequence[int]) -> list[list[int]]:
    return [[3, -1] if p == 0 else [-7, 2] for p in predicted]


def test_accuracy_counts_the_hits() -> None:
    assert _scored("sst2", _logits([1, 0, 1, 1]), [1, 0, 0, 1], 2) == {"accuracy": 0.75}
    assert _scored("sst2", _logits([1, 1]), [0, 0], 2) == {"accuracy": 0.0}


def test_equal_logits_give_the_first_class() -> None:
    assert _scored("sst2", [[4, 4], [4, 4]], [0, 1], 2) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("predicted", "targets"),
    [([1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 1, 1, 1]), ([1, 0, 0, 0, 0, 1], [1, 1, 1, 0, 1, 1])],
)
def test_matthews_is_that_of_the_confusion_matrix(predicted: list[int], targets: list[int]) -> None:
    pairs = list(zip(predicted, targets, strict=True))
    tp, tn, fp, fn = (pairs.count(pair) for pair in ((1, 1), (0, 0), (1, 0), (0, 1)))
    by_hand = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert _scored("cola", _logits(predicted), targets, 2)["matthews"] == pytest.approx(by_hand, abs=1e-15)


def test_matthews_runs_from_minus_1_to_1_and_is_0_where_nothing_varies() -> None:
    assert _scored("cola", _logits([1, 0, 1]), [1, 0, 1], 2)["matthews"] == pytest.approx(1)
    assert _scored("cola", _logits([1, 0, 1]), [0, 1, 0], 2)["matthews"] == pytest.approx(-1)
    assert _scored("cola", _logits([1, 1, 1]), [0, 1, 0], 2) == {"matthews": 0.0}
    assert _scored("cola", _logits([1, 0, 1]), [1, 1, 1], 2) == {"matthews": 0.0}


def test_correlations_equal_scipys() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 6, 50) * 0.8  # with ties
    scores = np.round(targets + rng.normal(0, 2, 50), 1)
    metrics = _scored("stsb", scores[:, None], targets, 1)
    assert metrics["spearman"] == pytest.approx(stats.spearmanr(scores, targets).statistic, abs=1e-13)
    assert metrics["pearson"] == pytest.approx(stats.pearsonr(scores, targets).statistic, abs=1e-13)
    assert metrics["spearman"] != pytest.approx(metrics["pearson"], abs=1e-4)


def test_correlations_are_those_by_hand() -> None:
    metrics = _scored("stsb", [[1], [2], [4], [3]], [0, 1, 5, 2], 1)  # one rank in order, sums by hand
    assert metrics["spearman"] == pytest.approx(1)
    assert metrics["pearson"] == pytest.approx(8 / math.sqrt(5 * 14))


def test_correlations_are_0_where_nothing_varies() -> None:
    nothing = {"spearman": 0.0, "pearson": 0.0}
    assert _scored("stsb", [[1], [1], [1]], [1, 2, 3], 1) == nothing
    assert _scored("stsb", [[1], [2], [3]], [2, 2, 2], 1) == nothing
    assert _scored("stsb", [[1]], [2], 1) == nothing


def test_sentences_without_a_head_are_scored_by_their_cosine() -> None:
    vectors = [[1, 0], [2, 0], [1, 0], [3, 3], [0, 5], [1, 0], [1, 1], [-2, -2]]  # cosines 1, 0.707, 0, -1
    metrics = _scored("stsb", vectors, [5, 4, 2, 1], None)
    assert metrics["spearman"] == pytest.approx(1)
    expected = stats.pearsonr([1, math.sqrt(0.5), 0, -1], [5, 4, 2, 1]).statistic
    assert metrics["pearson"] == pytest.approx(expected, abs=1e-13)


def test_the_cosine_with_a_vector_of_zeros_is_0() -> None:
    a, b = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [4.0, 3.0]])
    assert module.cosines(a, b).tolist() == [0.0, pytest.approx(0.96)]


# ---- data


@pytest.mark.parametrize(
    ("task", "lines", "texts", "targets"),
    [
        ("sst2", ["label\ttext_a", "1\tgood film", "0\tbad"], [("good film",), ("bad",)], [1, 0]),
        ("sst2", ["1\tgood film", "0\tbad"], [("good film",), ("bad",)], [1, 0]),
        ("sst2", ["sentence\tlabel", "good film\t1"], [("good film",)], [1]),
        ("sst2", ["idx\tsentence\tlabel", "7\tgood film\t1"], [("good film",)], [1]),
        (
            "cola",
            ["gj04\t1\t\tThe sailors rode .", "gj04\t0\t*\tRode the ."],
            [("The sailors rode .",), ("Rode the .",)],
            [1, 0],
        ),
        ("cola", ["sentence\tlabel\tidx", "Rode the .\t0\t5"], [("Rode the .",)], [0]),
        ("stsb", ["main\tMSRvid\t2012test\t0000\t5.000\tA man .\tA girl ."], [("A man .", "A girl .")], [5]),
        ("stsb", ["m\tf\t2015\t2\t0.4\tA .\tB .\tsource\turl"], [("A .", "B .")], [0.4]),
        (
            "stsb",
            [
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
                "0\tm\tMSRvid\t2012\t1\tnone\tnone\tA .\tB .\t2.750",
            ],
            [("A .", "B .")],
            [2.75],
        ),
        ("stsb", ["sentence1\tsentence2\tscore", "A .\tB .\t1e-1"], [("A .", "B .")], [0.1]),
    ],
)
def test_every_form_of_the_data_is_read(
    tmp_path: Path, task: Any, lines: list[str], texts: list[tuple[str, ...]], targets: list[float]
) -> None:
    expected = [Example(texts=text, target=target) for text, target in zip(texts, targets, strict=True)]
    for newline in ("\n", "\r\n"):
        for end in ("", newline, newline * 3):
            path = tmp_path / "data"
            path.write_bytes((newline.join(lines) + end).encode())
            assert read_task(task, path) == read_task(task, str(path)) == expected


def test_quotes_and_unicode_separators_are_text(tmp_path: Path) -> None:
    text = '"half a quote, \u2028 \x85 \x0b \x1c and é'
    (tmp_path / "data").write_text(f"1\t{text}\n0\tb\n", encoding="utf-8")
    assert [example.texts for example in read_task("sst2", tmp_path / "data")] == [(text,), ("b",)]


@pytest.mark.parametrize(
    ("task", "file", "n", "positive"),
    [
        ("sst2", "SST-2/dev.tsv", 872, 444),
        ("cola", "CoLA/in_domain_dev.tsv", 527, 365),
        ("cola", "CoLA/out_of_domain_dev.tsv", 516, 354),
        ("stsb", "STS-B/sts-dev.csv", 1500, None),
        ("stsb", "STS-B/sts-train.csv", 5749, None),
    ],
)
def test_the_real_data_is_read_in_full(shared: Path, task: Any, file: str, n: int, positive: int | None) -> None:
    examples = read_task(task, shared / "data" / file)
    assert len(examples) == n
    targets = [example.target for example in examples]
    if positive is None:
        assert 0 <= min(targets) < max(targets) == 5
    else:
        assert sum(targets) == positive


@pytest.mark.parametrize("target", ["", "x", "1.5.2"])
def test_a_target_that_is_no_number_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "data").write_text(f"1\ta\n{target}\tb\n")
    with pytest.raises(IntsimError, match=r"row 2 of .* must have a number for label and a text, got \["):
        read_task("sst2", tmp_path / "data")


@pytest.mark.parametrize(
    ("task", "target"), [("sst2", "2"), ("sst2", "0.5"), ("cola", "-1"), ("stsb", "nan"), ("stsb", "inf")]
)
def test_a_target_that_is_no_class_or_score_is_refused(tmp_path: Path, task: Any, target: str) -> None:
    header = "sentence1\tsentence2\tscore" if task == "stsb" else "sentence\tx\tlabel"
    (tmp_path / "data").write_text(f"{header}\na\tb\t{target}\n")
    with pytest.raises(IntsimError, match=f"must have (0 or 1|a finite number) for (label|score), got {target}$"):
        read_task(task, tmp_path / "data")


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


@pytest.mark.parametrize("jobs", [2, 3])
def test_any_number_of_processes_gives_the_same_evaluation(encoder: intsim.IntegerModel, jobs: int) -> None:
    texts = ["a good movie .", "the plot is bad", "good", "is the movie good ?"] * 40
    examples = [Example(texts=pair, target=i % 7) for i, pair in enumerate(itertools.pairwise(texts))]
    alone = evaluate(encoder, "stsb", examples)
    assert evaluate(encoder, "stsb", examples, jobs=jobs) == alone


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(8, 3, 2), (8, 4, 2), (2, 2, 1), (2, 5, 1)])
def test_each_process_takes_its_share_of_the_cores(
    encoder: intsim.IntegerModel, monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, threads: int
) -> None:
    class Pool:  # of one process: this one
        def __init__(self, _jobs: int, _context: Any, initializer: Callable[..., None], arguments: Any) -> None:
            initializer(*arguments)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None: ...

        map = staticmethod(map)

    monkeypatch.setattr(blocks, "THREADS", cores)
    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    shared = evaluate(encoder, "stsb", PAIRS, jobs=jobs)
    assert threads == blocks.THREADS
    assert shared == evaluate(encoder, "stsb", PAIRS)


def test_an_evaluation_is_plain_json(classifier: intsim.IntegerModel, source: Path) -> None:
    result = evaluate(classifier, "cola", CLASSES, reference=source)
    plain = result.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == ["task", "n", "metrics", "reference", "cosine", "digest"]


def test_progress_is_shown_on_stderr_where_asked_for(
    classifier: intsim.IntegerModel, capsys: pytest.CaptureFixture[str]
) -> None:
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
    with pytest.raises(IntsimError, match="must hold tensor 'classifier.weight' to be a Bert of 66 tokens with head seq"):
        evaluate(classifier, "sst2", CLASSES, reference=headless)


def test_the_head_of_a_reference_is_not_read_for_a_model_without(source: Path) -> None:
    bare = intsim.quantize(source, calibration=TEXTS, head="none")
    result = evaluate(bare, "stsb", PAIRS, reference=source)
    assert result.cosine is not None
    assert 0.99 < result.cosine < 1


def test_a_reference_that_is_no_checkpoint_is_refused(classifier: intsim.IntegerModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="got nothing there"):
        evaluate(classifier, "sst2", CLASSES, reference=tmp_path / "absent")


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
