# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.tasks.squad: the layout, the spans of windows, exact match and F1."""

import hashlib
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from intsim.errors import IntsimError
from intsim.io.tokenizer import Encoding, parse_tokenizer, windows
from intsim.report.evaluate import evaluate_runner, prepare, read_task
from intsim.report.tasks import squad
from intsim.report.tasks.inquiry import Reader
from intsim.report.tasks.squad import Example, Span, best_span, normalise, score

TinyBert = Callable[..., Path]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: TinyBert) -> Tokenizer:
    return parse_tokenizer((tiny_bert() / "tokenizer.json").read_text())


@pytest.fixture(scope="module")
def reader(tokenizer: Tokenizer) -> Reader:
    return Reader(head="question-answering", labels=["LABEL_0", "LABEL_1"], tokenizer=tokenizer, longest=24)


def _example(*answers: str) -> Example:
    return Example(question="", context="", answers=answers)


# ---- metrics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat", "cat"),
        ("a cat, an owl; the END.", "cat owl end"),
        ("theatre and anthem", "theatre and anthem"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("the-cat", "thecat"),  # punctuation goes first, without a space in its place
        ("'the' cat", "cat"),
        ("a.b", "ab"),
        ("\tcat\n\u00a0dog ", "cat dog"),
        ("$3.50 (about)", "350 about"),
        ("cat\u2019s \u2014 tail", "cat\u2019s \u2014 tail"),  # ASCII punctuation only
        ("\u00c9TUDE", "\u00e9tude"),
        ("red\u2014the\u2014boat", "red\u2014 \u2014boat"),
        ("The", ""),
        ("", ""),
    ],
)
def test_answers_are_compared_without_case_punctuation_articles_and_spaces(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("answer", "given", "exact", "f1"),
    [
        ("the red boat", ["Red boat."], 1, Fraction(1)),
        ("red", ["red boat"], 0, Fraction(2, 3)),
        ("red red boat", ["red boat boat"], 0, Fraction(2, 3)),  # words count as often as both have them
        ("red red", ["red red boat"], 0, 2 * Fraction(2, 2) * Fraction(2, 3) / (Fraction(2, 2) + Fraction(2, 3))),
        ("big red boat", ["boat house"], 0, 2 * Fraction(1, 3) * Fraction(1, 2) / (Fraction(1, 3) + Fraction(1, 2))),
        ("boat red", ["red boat"], 0, Fraction(1)),  # in any order
        ("blue", ["red boat"], 0, Fraction(0)),
        ("red sail", ["blue", "red boat", "the sail red"], 0, Fraction(1)),  # the best of all, for each
        ("red sail", ["x", "Red, sail"], 1, Fraction(1)),
        ("", ["red"], 0, Fraction(0)),
        ("the", ["a"], 1, Fraction(0)),  # equal, and no words in common
    ],
)
def test_exact_match_and_f1_are_those_by_hand(answer: str, given: list[str], exact: int, f1: Fraction) -> None:
    metrics = score([answer], [_example(*given)])
    assert metrics == {"exact_match": exact, "f1": pytest.approx(float(f1), abs=1e-15)}


def test_metrics_are_means_over_the_questions() -> None:
    metrics = score(["red", "a boat", "sail"], [_example("red"), _example("red boat"), _example("mast")])
    assert metrics["exact_match"] == pytest.approx(1 / 3)
    assert metrics["f1"] == pytest.approx(float((1 + Fraction(2, 3)) / 3))


# ---- spans


def _window(sequences: Sequence[int | None]) -> Encoding:
    count = len(sequences)
    offsets = [(10 * i, 10 * i + 7) for i in range(count)]
    return Encoding(
        ids=range(count), type_ids=[0] * count, tokens=["x"] * count, offsets=offsets, sequence_ids=sequences
    )


@given(st.data(), st.integers(0, 3), st.integers(1, 40))
def test_the_best_span_is_that_of_all_pairs(data: st.DataObject, question: int, context: int) -> None:
    sequences = [None, *[0] * question, None, *[1] * context, None]
    logits = data.draw(
        st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=2), min_size=len(sequences), max_size=len(sequences))
    )
    first = question + 2
    found = best_span(np.array(logits, np.int32).T, _window(sequences))
    pairs = [
        (logits[i][0] + logits[j][1], -i, -j)
        for i in range(first, first + context)
        for j in range(i, min(i + 30, first + context))
    ]
    logit, i, j = max(pairs)
    assert found == Span(start=-10 * i, end=-10 * j + 7, logit=logit)


def test_a_span_does_not_end_before_it_starts() -> None:
    logits = np.array([[0, 0, 0, 9, 0, 0], [0, 0, 9, 0, 5, 0]])
    assert best_span(logits, _window([None, None, 1, 1, 1, None])) == Span(start=30, end=47, logit=14)


def test_a_span_has_at_most_30_tokens() -> None:
    logits = np.zeros((2, 42), np.int32)
    logits[0, 5] = logits[1, 34] = 9
    window = _window([None, None, *[1] * 39, None])
    assert best_span(logits, window) == Span(start=50, end=347, logit=18)  # 5 to 34: 30 tokens
    logits[1, 34], logits[1, 35] = 0, 9
    assert best_span(logits, window) == Span(start=50, end=57, logit=9)  # 5 to 35 is one more


def test_a_span_lies_in_the_context() -> None:
    logits = np.array([[99, 99, 99, 1, 0, 99], [99, 99, 99, 0, 1, 99]])
    assert best_span(logits, _window([None, 0, None, 1, 1, None])) == Span(start=30, end=47, logit=2)


def test_a_window_without_context_never_wins() -> None:
    assert best_span(np.ones((2, 3)), _window([None, 0, None])) == Span(start=0, end=0, logit=-np.inf)


def test_sums_of_large_integers_are_exact() -> None:
    top = 2**31 - 1
    logits = np.array([[0, top - 1, top], [0, top, top - 2]], np.int32)
    assert best_span(logits, _window([None, 1, 1])) == Span(start=10, end=17, logit=2 * top - 1)


def test_sums_of_floats_do_not_tie_by_rounding() -> None:
    logits = np.array([[0, 2**24, 0], [0, 0, 1]], np.float32)  # 2**24 + 1 is no float32
    assert best_span(logits, _window([None, 1, 1])) == Span(start=10, end=27, logit=2**24 + 1)


# ---- data

DATA: Final = {
    "version": "1.1",
    "data": [
        {
            "title": "Boats",
            "paragraphs": [
                {
                    "context": "the plot is good . the movie is not bad .",
                    "qas": [
                        {
                            "id": "1",
                            "question": "is the movie bad",
                            "answers": [{"answer_start": 31, "text": "not bad"}, {"answer_start": 35, "text": "bad"}],
                        },
                        {"id": "2", "question": "the plot", "answers": [{"answer_start": 12, "text": "good"}]},
                    ],
                },
            ],
        },
        {
            "title": "More",
            "paragraphs": [
                {
                    "context": "a b c",
                    "qas": [{"id": "3", "question": "x", "answers": [{"answer_start": 0, "text": "b"}]}],
                }
            ],
        },
    ],
}


def test_every_question_of_every_paragraph_is_read(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps(DATA))
    context = "the plot is good . the movie is not bad ."
    assert read_task("squad", tmp_path / "dev.json") == [
        Example(question="is the movie bad", context=context, answers=("not bad", "bad")),
        Example(question="the plot", context=context, answers=("good",)),
        Example(question="x", context="a b c", answers=("b",)),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "must be JSON in the layout of SQuAD v1.1, got Expecting property name"),
        ("\x00\xff", "must be JSON in the layout of SQuAD v1.1, got "),
        ("[]", "must be JSON in the layout of SQuAD v1.1, got a value of another kind"),
        ('{"version": "1.1"}', "must be JSON in the layout of SQuAD v1.1, got no 'data'"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "must have a question, got none"),
        ('{"data": [{"paragraphs": [{"qas": [{"question": "x"}], "context": "y"}]}]}', "got no 'answers'"),
        ('{"data": []}', "must have a question, got none"),
        (
            '{"data": [{"paragraphs": [{"context": "y", "qas": [{"question": "x", "answers": []}]}]}]}',
            "must have an answer, got none for 'x'",
        ),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "dev.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(IntsimError) as caught:
        squad.read(tmp_path / "dev.json")
    assert complaint in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntsimError, match="must be a readable file, got "):
        squad.read(tmp_path / "absent")


# ---- from contexts to answers


def _runner(tokenizer: Tokenizer, starts: dict[str, int], ends: dict[str, int], seen: list[Any]) -> Any:
    """Return a model that likes some tokens as starts and some as ends, padding and special tokens above all."""

    def run(ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
        seen.append((ids, mask, types))
        logits = np.full((*ids.shape, 2), -5, np.int32)
        for side, likes in enumerate((starts, ends)):
            for token, logit in likes.items():
                logits[ids == tokenizer.token_to_id(token), side] = logit
        logits[ids == tokenizer.token_to_id("[CLS]")] = 90
        logits[~mask] = 99
        return logits

    return run


def test_an_answer_is_the_best_of_all_windows(reader: Reader, tokenizer: Tokenizer) -> None:
    context = "the plot is bad . " * 6 + "x y , not good m . " + "the plot is bad . " * 6
    examples = [
        Example(question="the movie", context=context, answers=("Not good!",)),
        Example(question="a y", context="x y z .", answers=("y z", "the z")),
        Example(question="x", context="b c not .", answers=("d",)),
    ]
    inquiry = prepare("squad", examples, reader)
    cut = windows(tokenizer, "the movie", context, longest=24, stride=8)
    assert len(cut) > 4
    assert len(inquiry.encodings) == len(cut) + 2
    assert max(len(each.ids) for each in inquiry.encodings) == 24
    seen: list[Any] = []
    starts, ends = {"plot": 1, "not": 5, "y": 3, "b": 1}, {"plot": 1, "good": 4, "z": 7, "c": 2}
    run = _runner(tokenizer, starts, ends, seen)
    result = evaluate_runner("squad", examples, inquiry, run)
    assert result.n == 3
    assert result.metrics == {"exact_match": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}
    assert (result.reference, result.cosine) == (None, None)
    for ids, mask, types in seen:  # the context is the second segment
        assert ((types == 1) <= mask).all()
        assert (types[:, 0] == 0).all()
        assert (ids[~mask] == 0).all()
    digest = hashlib.sha256()
    for encoding in inquiry.encodings:
        ids = np.array([encoding.ids])
        digest.update(run(ids, np.ones(ids.shape, bool), 0)[0].T.astype("<i4").tobytes())
    assert result.digest == digest.hexdigest()


def test_the_float_model_is_scored_beside_it(reader: Reader, tokenizer: Tokenizer) -> None:
    examples = [Example(question="a y", context="x y z .", answers=("y z",))]
    inquiry = prepare("squad", examples, reader)
    right = _runner(tokenizer, {"y": 3}, {"z": 7}, [])
    wrong = _runner(tokenizer, {"z": 3}, {"z": 7}, [])
    result = evaluate_runner("squad", examples, inquiry, wrong, reference=lambda *batch: right(*batch) * 0.5)
    assert result.metrics == {"exact_match": 0.0, "f1": pytest.approx(2 / 3)}
    assert result.reference == {"exact_match": 1.0, "f1": 1.0}
    ids = np.array([inquiry.encodings[0].ids])
    a, b = (each(ids, np.ones(ids.shape, bool), 0)[0].astype(float) for each in (right, wrong))
    cosines = [a[:, i] @ b[:, i] / np.sqrt((a[:, i] @ a[:, i]) * (b[:, i] @ b[:, i])) for i in (0, 1)]
    assert result.cosine == pytest.approx(sum(cosines) / 2)
    assert cosines[0] < cosines[1] == pytest.approx(1)


def test_a_window_has_at_most_384_tokens_of_which_a_third_overlap(tokenizer: Tokenizer) -> None:
    reader = Reader(head="question-answering", labels=["a", "b"], tokenizer=tokenizer, longest=512)
    (example,) = [Example(question="x", context="good bad " * 300, answers=("good",))]
    found = squad.prepare([example], reader).encodings
    assert [len(each.ids) for each in found[:-1]] == [384] * (len(found) - 1)
    assert found == windows(tokenizer, "x", example.context, longest=384, stride=128)
    assert found[0].offsets[-2][1] > found[1].offsets[3][0] == found[0].offsets[-129][0]


def test_a_model_with_another_head_is_refused(tokenizer: Tokenizer) -> None:
    other = Reader(head="none", labels=[], tokenizer=tokenizer, longest=24)
    with pytest.raises(IntsimError, match=r"^model must have a question answering head for squad, got no head$"):
        prepare("squad", [_example("x")], other)
