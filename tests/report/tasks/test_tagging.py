# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.tasks.tagging: columns, entities as conlleval and seqeval find them, words of many tokens."""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from intsim.errors import IntsimError
from intsim.io.tokenizer import encode_words, parse_tokenizer
from intsim.report.evaluate import evaluate_runner, prepare, read_task
from intsim.report.tasks import tagging
from intsim.report.tasks.inquiry import Reader
from intsim.report.tasks.tagging import Entity, Example, entities, read, score

TinyBert = Callable[..., Path]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: TinyBert) -> Tokenizer:
    return parse_tokenizer((tiny_bert() / "tokenizer.json").read_text())


# ---- entities


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-P I-P O", [("P", 0, 2)]),
        ("B-P B-P", [("P", 0, 1), ("P", 1, 2)]),
        ("B-P I-P I-P", [("P", 0, 3)]),
        ("I-P I-P O", [("P", 0, 2)]),  # I without a B begins one
        ("O I-P", [("P", 1, 2)]),
        ("I-P B-P I-P", [("P", 0, 1), ("P", 1, 3)]),  # as in IOB1
        ("B-P I-L", [("P", 0, 1), ("L", 1, 2)]),  # another type begins one
        ("I-P I-L I-L I-P", [("P", 0, 1), ("L", 1, 3), ("P", 3, 4)]),
        ("B-P O I-P", [("P", 0, 1), ("P", 2, 3)]),
        ("S-P", [("P", 0, 1)]),
        ("B-P E-P", [("P", 0, 2)]),
        ("B-P I-P E-P S-P O", [("P", 0, 3), ("P", 3, 4)]),
        ("B-P E-P E-P", [("P", 0, 2), ("P", 2, 3)]),  # after an end nothing goes on
        ("B-P E-P I-P", [("P", 0, 2), ("P", 2, 3)]),
        ("S-P I-P", [("P", 0, 1), ("P", 1, 2)]),
        ("S-P E-P", [("P", 0, 1), ("P", 1, 2)]),
        ("E-P", [("P", 0, 1)]),
        ("O E-P S-P", [("P", 1, 2), ("P", 2, 3)]),
        ("I-P E-P", [("P", 0, 2)]),
        ("B-P E-L", [("P", 0, 1), ("L", 1, 2)]),
        ("B-P S-P", [("P", 0, 1), ("P", 1, 2)]),
        ("I-P S-P I-P", [("P", 0, 1), ("P", 1, 2), ("P", 2, 3)]),
        ("B-x-y I-x-y I-x", [("x-y", 0, 2), ("x", 2, 3)]),
    ],
)
def test_entities_are_those_by_hand(tags: str, expected: list[tuple[str, int, int]]) -> None:
    found = entities(tags.split())
    assert found == [Entity(kind=kind, start=start, end=end) for kind, start, end in expected]


# ---- metrics


def _score(*pairs: tuple[str, str]) -> dict[str, float]:
    examples = [Example(words=tuple("w" * len(tags.split())), tags=tuple(tags.split())) for _, tags in pairs]
    return score([predicted.split() for predicted, _ in pairs], examples)


def _f1(precision: Fraction, recall: Fraction) -> float:
    return float(2 * precision * recall / (precision + recall))


def test_an_entity_counts_if_its_words_and_its_type_are_right() -> None:
    metrics = _score(
        ("B-P I-P O B-L", "B-P I-P O B-O"),  # one of two; another type
        ("B-P O O B-L I-L", "B-P I-P O B-L I-L"),  # too short; right
        ("O O B-L", "B-P O O"),  # missed; made up
    )
    precision, recall = Fraction(2, 5), Fraction(2, 5)
    assert metrics == {
        "precision": float(precision),
        "recall": float(recall),
        "f1": pytest.approx(_f1(precision, recall)),
        "accuracy": float(Fraction(3 + 4 + 1, 12)),
    }


def test_precision_and_recall_are_of_all_types_together() -> None:
    metrics = _score(("B-P B-P B-P O O", "B-P O O O B-L"), ("S-L O O O O", "B-L O B-P O O"))
    precision, recall = Fraction(2, 4), Fraction(2, 4)
    assert (metrics["precision"], metrics["recall"]) == (precision, recall)
    more = _score(("B-P B-P B-P O O", "B-P O O O O"))
    assert (more["precision"], more["recall"]) == (pytest.approx(1 / 3), 1)
    assert more["f1"] == pytest.approx(_f1(Fraction(1, 3), Fraction(1)))
    assert more["accuracy"] == pytest.approx(3 / 5)


def test_the_same_entity_in_another_scheme_is_right() -> None:
    metrics = _score(("I-P I-P O I-L", "B-P E-P O S-L"))
    assert metrics == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "accuracy": 0.25}


def test_an_entity_does_not_go_on_into_the_next_sentence() -> None:
    metrics = _score(("O B-P", "O B-P"), ("I-P O", "B-P O"))
    assert metrics["f1"] == 1


def test_the_same_place_in_another_sentence_is_another_entity() -> None:
    assert _score(("B-P O", "O O"), ("O O", "B-P O"))["f1"] == 0


def test_metrics_are_0_where_there_is_nothing_to_count() -> None:
    assert _score(("O O", "O O")) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 1.0}
    assert _score(("O O", "B-P O"))["precision"] == 0
    assert _score(("B-P O", "O O"))["recall"] == 0


# ---- data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann NNP B-NP B-PER\nrows VBZ B-VP O\n\nBo NNP B-NP S-PER\n", [("Ann rows", "B-PER O"), ("Bo", "S-PER")]),
        ("Ann B-PER\nrows O", [("Ann rows", "B-PER O")]),
        ("-DOCSTART- -X- -X- O\n\nAnn x x I-PER\n\n\n\nBo x x O\n\n", [("Ann", "I-PER"), ("Bo", "O")]),
        ("Ann\tB-PER\nof\tO\n \t\nBo\tO\n", [("Ann of", "B-PER O"), ("Bo", "O")]),
        ("Ann   x   B-PER  \n  \n# O\n", [("Ann", "B-PER"), ("#", "O")]),
        ("Ann\u00a0Lee B-PER\n", [("Ann\u00a0Lee", "B-PER")]),  # a space that separates nothing
        ('" O\n\u2028 O\n', [('" \u2028', "O O")]),
    ],
)
def test_sentences_are_read_from_columns(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    for newline in ("\n", "\r\n"):
        (tmp_path / "dev.txt").write_bytes(text.replace("\n", newline).encode())
        found = read_task("ner", tmp_path / "dev.txt")
        assert [(" ".join(each.words), " ".join(each.tags)) for each in found] == expected


def test_a_word_between_tabs_may_hold_a_space(tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text("Ann Lee\tB-PER\n")
    assert read(tmp_path / "dev.txt") == [Example(words=("Ann Lee",), tags=("B-PER",))]


@pytest.mark.parametrize(
    "line", ["Ann", "Ann PER", "Ann B", "Ann B-", "Ann X-PER", "Ann o", "Ann U-PER", "\tO", "B-PER"]
)
def test_a_line_without_word_and_tag_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "dev.txt").write_text(f"Bo O\n{line}\n")
    with pytest.raises(IntsimError) as caught:
        read(tmp_path / "dev.txt")
    rule = "must have a word and a tag, O or B-, I-, E- or S- and a type"
    assert str(caught.value) == f"line 2 of {tmp_path / 'dev.txt'} {rule}, got {line!r}"


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART- O\n"])
def test_a_file_without_sentence_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dev.txt").write_text(text)
    with pytest.raises(IntsimError, match="must have a sentence, got none"):
        read(tmp_path / "dev.txt")


# ---- from sentences to tags

LABELS = ["O", "B-P", "I-P", "B-L"]


def _reader(tokenizer: Tokenizer, **changes: Any) -> Reader:
    values: dict[str, Any] = {"head": "token-classification", "labels": LABELS, "tokenizer": tokenizer, "longest": 16}
    return Reader(**(values | changes))


def _runner(tokenizer: Tokenizer, likes: dict[str, str]) -> Any:
    """Return a model that gives each token its tag, O by default; padding and special tokens B-L."""

    def run(ids: NDArray[Any], mask: NDArray[Any], _types: Any) -> NDArray[Any]:
        best = np.zeros(ids.shape, int)
        for token, label in ({"[CLS]": "B-L", "[SEP]": "B-L"} | likes).items():
            best[ids == tokenizer.token_to_id(token)] = LABELS.index(label)
        best[~mask] = 3
        return np.where(np.arange(4) == best[..., None], 7, ids[..., None] % 5 - 9).astype(np.int32)

    return run


def test_a_words_tag_is_that_of_its_first_token(tokenizer: Tokenizer) -> None:
    examples = [
        Example(words=("good", "xyz", "is"), tags=("B-P", "I-P", "O")),
        Example(words=("plot",), tags=("B-P",)),
        Example(words=("bad", "yx", "the", "plot", "."), tags=("O", "O", "O", "B-L", "O")),
    ]
    encoding = encode_words(tokenizer, examples[0].words, longest=16)
    assert encoding.tokens == ["[CLS]", "good", "x", "##y", "##z", "is", "[SEP]"]
    inquiry = prepare("ner", examples, _reader(tokenizer))
    run = _runner(tokenizer, {"good": "B-P", "x": "I-P", "##y": "B-L", "##z": "B-L", "plot": "B-L", "##x": "B-P"})
    result = evaluate_runner("ner", examples, inquiry, run)
    assert result.metrics == {  # found: P 0-2, L 0-1, L 3-4; expected: P 0-2, P 0-1, L 3-4
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "accuracy": pytest.approx(8 / 9),
    }
    digest = hashlib.sha256()
    for each in inquiry.encodings:
        ids = np.array([each.ids])
        digest.update(run(ids, np.ones(ids.shape, bool), 0)[0].astype("<i4").tobytes())
    assert result.digest == digest.hexdigest()


def test_the_float_model_is_scored_beside_it_and_every_token_has_its_cosine(tokenizer: Tokenizer) -> None:
    examples = [Example(words=("good", "plot"), tags=("B-P", "O")), Example(words=("bad",), tags=("B-L",))]
    inquiry = prepare("ner", examples, _reader(tokenizer))
    run, other = _runner(tokenizer, {"good": "B-P"}), _runner(tokenizer, {"good": "B-P", "bad": "B-L"})
    result = evaluate_runner("ner", examples, inquiry, run, reference=other)
    assert result.metrics["recall"] == 0.5
    assert result.reference is not None
    assert result.reference["recall"] == 1
    bad = np.array([[tokenizer.token_to_id("bad")]])
    a, b = (each(bad, np.ones((1, 1), bool), 0)[0, 0].astype(float) for each in (run, other))
    one = a @ b / np.sqrt((a @ a) * (b @ b))
    assert result.cosine == pytest.approx((6 + one) / 7)  # seven tokens, of which one differs
    assert one < 0.9


def test_a_word_without_a_token_is_no_entity(tokenizer: Tokenizer) -> None:
    examples = [Example(words=("good", "\u200b", "bad"), tags=("B-P", "O", "O"))]
    assert encode_words(tokenizer, examples[0].words, longest=16).word_ids == [None, 0, 2, None]
    inquiry = prepare("ner", examples, _reader(tokenizer))
    result = evaluate_runner("ner", examples, inquiry, _runner(tokenizer, {"good": "B-P", "bad": "B-L"}))
    assert result.metrics["accuracy"] == pytest.approx(2 / 3)


def test_words_that_are_cut_off_are_no_entities(tokenizer: Tokenizer) -> None:
    examples = [Example(words=("good", "plot", "bad"), tags=("B-P", "O", "B-L"))]
    inquiry = prepare("ner", examples, _reader(tokenizer, longest=4, truncate=True))
    assert inquiry.encodings[0].tokens == ["[CLS]", "good", "plot", "[SEP]"]
    result = evaluate_runner("ner", examples, inquiry, _runner(tokenizer, {"good": "B-P", "bad": "B-L"}))
    assert (result.metrics["precision"], result.metrics["recall"]) == (1, 0.5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"head": "sequence-classification"}, "model must have a token classifier for ner, got a classifier"),
        ({"labels": ["O", "B-P", "I-P"]}, "model must have tags for every type of the data, got none for L"),
        ({"labels": ["LABEL_0", "LABEL_1"]}, "model must have tags for every type of the data, got none for L, P"),
        ({"longest": 4}, "text must be at most 4 tokens long, got 5"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tokenizer: Tokenizer, changes: dict[str, Any], complaint: str) -> None:
    examples = [Example(words=("good", "plot", "bad"), tags=("B-P", "I-P", "B-L"))]
    with pytest.raises(IntsimError) as caught:
        tagging.prepare(examples, _reader(tokenizer, **changes))
    assert str(caught.value).startswith(complaint)


def test_tags_of_another_scheme_fit_a_model_that_has_their_types(tokenizer: Tokenizer) -> None:
    examples = [Example(words=("good", "plot"), tags=("B-P", "E-P"))]
    inquiry = prepare("ner", examples, _reader(tokenizer))
    result = evaluate_runner("ner", examples, inquiry, _runner(tokenizer, {"good": "I-P", "plot": "I-P"}))
    assert (result.metrics["f1"], result.metrics["accuracy"]) == (1, 0)
