# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.tasks.language: what follows is known how well, token by token, and last words."""

import hashlib
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from families import tiny
from numpy.typing import NDArray

import intsim
from intsim.errors import IntsimError
from intsim.io.tokenizer import parse_tokenizer, running
from intsim.report.evaluate import evaluate, evaluate_runner, prepare, read_task
from intsim.report.tasks import language
from intsim.report.tasks.inquiry import Reader

LINES: Final = ["Once upon a time there was a boy .", "", "He had a red ball, and a dog."]
TOKENIZER: Final = parse_tokenizer(intsim.load(resources.files("intsim.embedded") / "stories").tokenizer or "")
BARE: Final = parse_tokenizer(json.dumps(json.loads(TOKENIZER.to_str()) | {"post_processor": None}))
"""Puts nothing in front of a text."""


def reader(**changes: Any) -> Reader:
    values: dict[str, Any] = {"head": "causal-lm", "labels": [], "tokenizer": TOKENIZER, "longest": 64}
    return Reader(**(values | changes))


def logit(before: list[int], token: int) -> int:
    """Return what the model of these tests thinks of a token after others."""
    return (sum((i + 3) * each for i, each in enumerate(before)) + token * token * 13) % 41 - 20


def run(ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
    assert mask.all()
    assert not types.any()
    assert len(ids) == 1
    row = ids[0].tolist()
    return np.array([[[logit(row[: i + 1], token) for token in range(512)] for i in range(len(row))]], np.int32)


def by_hand(before: list[int], ids: list[int], room: int, stride: int, unit: float) -> tuple[float, int]:
    total, count, asked, start = 0.0, 0, 0, 0
    while True:
        part = [*before, *ids[start : start + room]]
        for place in range(max(1, len(before) + asked - start), len(part)):
            logits = [unit * logit(part[:place], token) for token in range(512)]
            total -= logits[part[place]] - math.log(math.fsum(map(math.exp, logits)))
            count += 1
        asked = start + room
        if asked >= len(ids):
            return math.exp(total / count), count
        start += stride


def test_what_follows_the_end_of_the_last_line_is_no_line() -> None:
    lines = [*LINES, ""]
    assert evaluate_runner("perplexity", lines, prepare("perplexity", lines, reader()), run).n == len(LINES)


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize(("window", "stride"), [(None, None), (64, 10), (9, None), (9, 1), (12, 11), (12, 5)])
@pytest.mark.parametrize("tokenizer", [TOKENIZER, BARE], ids=["bos", "bare"])
def test_the_perplexity_is_that_by_hand(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Any, window: int | None, stride: int | None, rows: int
) -> None:
    monkeypatch.setattr(language, "ROWS", rows)
    before, ids = running(tokenizer, "\n".join(LINES))
    inquiry = prepare("perplexity", LINES, reader(tokenizer=tokenizer), window=window, stride=stride)
    result = evaluate_runner("perplexity", LINES, inquiry, run, unit=0.125)
    room = (window or 64) - len(before)
    perplexity, count = by_hand(before, ids, room, stride or room, 0.125)
    assert result.metrics == {"perplexity": pytest.approx(perplexity, rel=1e-13), "tokens": count}
    assert type(result.metrics["tokens"]) is int
    assert result.n == len(LINES)
    if before:
        assert count == len(ids)
    assert result.n == 3
    assert max(len(each.ids) for each in inquiry.encodings) == min(window or 64, len(before) + len(ids))


def test_a_window_has_512_tokens_where_nothing_else_is_said() -> None:
    lines = ["a b c d"] * 400
    for longest, expected in ((100, 100), (4096, 512)):
        inquiry = prepare("perplexity", lines, reader(longest=longest))
        assert {len(each.ids) for each in inquiry.encodings[:-1]} == {expected}


def test_the_digest_is_of_every_integer_logit() -> None:
    inquiry = prepare("perplexity", LINES, reader(), window=20)
    digests = b"".join(
        hashlib.sha256(run(ids, np.ones_like(ids), np.zeros_like(ids)).astype("<i4").tobytes()).digest()
        for ids in (np.array([each.ids]) for each in inquiry.encodings)
    )
    result = evaluate_runner("perplexity", LINES, inquiry, run)
    assert result.digest == hashlib.sha256(digests).hexdigest()


@pytest.mark.parametrize(
    ("lines", "change", "how", "message"),
    [
        (LINES, {"head": "none"}, {}, "model must have a causal language model's head for perplexity, got no head"),
        (LINES, {}, {"window": 65}, "window must be at most the context, 64 tokens, got 65"),
        (LINES, {}, {"window": 9, "stride": 9}, r"stride must be in \[1, 8\]"),
        (["a"], {"tokenizer": BARE}, {}, "text must have two tokens or more, got 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(lines: Any, change: Any, how: Any, message: str) -> None:
    with pytest.raises(IntsimError, match=message):
        prepare("perplexity", lines, reader(**change), **how)


# ---- last words


def likeliest(*texts: str) -> Any:
    """Return a model that knows what follows in these texts, and nothing else."""
    known = [[token for part in running(TOKENIZER, text) for token in part] for text in texts]

    def run(ids: NDArray[Any], _mask: Any, _types: Any) -> NDArray[Any]:
        row = ids[0].tolist()
        logits = np.zeros((1, len(row), 512), np.int32)
        logits[..., 511] = 5
        for i in range(len(row)):
            for text in known:
                if text[: i + 1] == row[: i + 1] and len(text) > i + 1:
                    logits[0, i, text[i + 1]] = 9
        return logits

    return run


def test_a_word_is_known_where_all_its_tokens_are() -> None:
    texts = ["he saw the red balloon", "he saw a big dog", "she said elephant"]
    before, ids = running(TOKENIZER, texts[0])
    assert len(ids) - len(running(TOKENIZER, "he saw the red")[1]) > 1
    inquiry = prepare("lambada", texts, reader())
    almost = TOKENIZER.decode(ids[:-1])  # its last token is not known
    for known, accuracy in ((texts, 1), (texts[:1], 1 / 3), ([almost, *texts[1:]], 2 / 3), (["x y"], 0)):
        result = evaluate_runner("lambada", texts, inquiry, likeliest(*known))
        assert result.metrics == {"accuracy": pytest.approx(accuracy)}
    assert inquiry.encodings[0].ids == [*before, *ids]


def test_only_the_last_word_counts() -> None:
    texts = ["he saw the dog"]
    inquiry = prepare("lambada", texts, reader())
    before, stem = running(TOKENIZER, "he saw the")

    def run(ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
        logits = likeliest(*texts)(ids, mask, types)
        logits[0, : len(before) + len(stem) - 1] = 0
        return logits

    assert evaluate_runner("lambada", texts, inquiry, run).metrics == {"accuracy": 1}


def test_white_space_behind_a_text_is_none_of_it() -> None:
    plain, spaced = (prepare("lambada", [text], reader()) for text in ("he saw the dog", "he saw the dog \n"))
    assert plain.encodings == spaced.encodings


def test_a_text_that_is_too_long_is_refused_or_loses_its_beginning() -> None:
    text = "a " * 30 + "dog"
    before, ids = running(TOKENIZER, text)
    with pytest.raises(IntsimError, match=rf"text must be at most 9 tokens long, got {len(ids)}; --truncate"):
        prepare("lambada", [text], reader(longest=10))
    inquiry = prepare("lambada", [text], reader(longest=10, truncate=True))
    assert inquiry.encodings[0].ids == [*before, *ids[-9:]]


def test_texts_are_lines_or_objects(tmp_path: Path) -> None:
    texts = ["he saw the dog", 'a "big" cat\n{ and more']
    (tmp_path / "objects").write_text("".join(json.dumps({"text": text, "id": 3}) + "\n\n" for text in texts))
    assert read_task("lambada", tmp_path / "objects") == texts
    (tmp_path / "lines").write_text("he saw the dog\n\n\ta cat\n")
    assert read_task("lambada", tmp_path / "lines") == ["he saw the dog", "\ta cat"]
    (tmp_path / "text").write_text("one\n\n two\n")
    assert read_task("perplexity", tmp_path / "text") == ["one", "", " two", ""]


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("lambada", "", "must hold a text on a line, got none"),
        ("lambada", "a b\nword\n", "line 2 must have a word before its last one, got 'word'"),
        ("lambada", '{"text": "a b"}\n{"txt": 1}\n', "line 2 must be a JSON object with a text"),
        ("lambada", '{"text": "a b"}\na b\n', "line 2 must be a JSON object with a text"),
        ("perplexity", "\n \n", "must hold a text, got none"),
    ],
)
def test_what_is_laid_out_otherwise_is_refused(tmp_path: Path, task: Any, content: str, message: str) -> None:
    (tmp_path / "data").write_text(content)
    with pytest.raises(IntsimError, match=message):
        read_task(task, tmp_path / "data")


# ---- models


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_float_model_is_scored_beside_the_integers(tmp_path: Path, jobs: int) -> None:
    path = tiny("llama", "causal-lm", tmp_path)
    model = intsim.quantize(path, recipe="zeroquant:groups=4")
    lines = ["a good movie .", "the plot is not bad , not good"] * 3
    result = evaluate(model, "perplexity", lines, reference=path, window=8, stride=3, jobs=jobs)
    assert result.reference is not None
    assert result.metrics["tokens"] == result.reference["tokens"]
    assert result.metrics["perplexity"] == pytest.approx(result.reference["perplexity"], rel=0.05)
    assert result.metrics["perplexity"] != result.reference["perplexity"]
    assert result.cosine is not None
    assert result.cosine > 0.98
    assert result.model_digest == model.digest
    word = evaluate(model, "lambada", lines, reference=path, jobs=jobs)
    assert word.reference is not None
    assert set(word.metrics) == set(word.reference) == {"accuracy"}


def test_the_float_reference_is_transformers_loss(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    path = tiny("llama", "causal-lm", tmp_path)
    model = intsim.quantize(path)
    lines = ["a good movie .", "the plot is not bad , not good"]
    result = evaluate(model, "perplexity", lines, reference=path)
    assert result.reference is not None
    before, ids = running(parse_tokenizer(model.tokenizer or ""), "\n".join(lines))
    tokens = torch.tensor([[*before, *ids]])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path)
    with torch.no_grad():
        loss = theirs(tokens, labels=tokens).loss
    assert result.reference["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
