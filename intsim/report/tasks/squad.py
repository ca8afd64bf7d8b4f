# SPDX-License-Identifier: Apache-2.0
"""SQuAD v1.1 (Rajpurkar et al. 2016): a question, a context, and the span of it that answers.

A context longer than the model reads is cut into windows that overlap; the answer is the best span of all of them.
Shapes: T tokens of a window.
"""

import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from intsim._checked import check_kind
from intsim.errors import IntsimError, said
from intsim.io.bounded import read_json
from intsim.io.tokenizer import Encoding, windows
from intsim.report.tasks.inquiry import Batch, Inquiry, Method, Reader, Runner, check_head, every_token

__all__ = ["Example", "Span", "best_span", "normalise", "prepare", "read", "score"]

WINDOW: Final = 384
"""Tokens of a window (Devlin et al. 2019), fewer where the model reads fewer; a third of them overlap."""
ANSWER: Final = 30
"""Tokens of the longest answer (the same)."""
PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
ARTICLES: Final = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question about a context, and the answers that people gave."""

    question: str
    context: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The characters [start, end) of a context, and the sum of the logits they were chosen by."""

    start: int
    end: int
    logit: float


def read(path: str | Path) -> list[Example]:
    """Read the questions of a JSON file in the layout of SQuAD v1.1.

    Raises
    ------
    IntsimError
        If the file cannot be read, has another layout, or a question has no answer.
    """
    try:
        articles: Any = read_json(path)["data"]
        examples = [
            Example(
                question=_text(question["question"]),
                context=_text(paragraph["context"]),
                answers=tuple(_text(answer["text"]) for answer in question["answers"]),
            )
            for article in articles
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except OSError as error:
        msg = f"data {path} must be a readable file, got {said(error)}"
        raise IntsimError(msg) from None
    except (ValueError, LookupError, TypeError) as error:
        msg = f"data {path} must be JSON in the layout of SQuAD v1.1, got {said(error)}"
        raise IntsimError(msg) from None
    if not examples:
        msg = f"data {path} must have a question, got none"
        raise IntsimError(msg)
    for example in examples:
        if not example.answers:
            msg = f"every question of {path} must have an answer, got none for {example.question!r}"
            raise IntsimError(msg)
    return examples


def _text(value: object) -> str:
    check_kind("a question, context or answer", value, str)
    return cast("str", value)


def prepare(examples: Sequence[Example], reader: Reader) -> Inquiry:
    """Return what is asked of a model: every window of every context.

    Raises
    ------
    IntsimError
        If the model answers no questions, or a question leaves no room for its context.
    """
    check_head(reader, "question-answering", "squad")
    longest = min(WINDOW, reader.longest)
    cut = [
        windows(reader.tokenizer, example.question, example.context, longest=longest, stride=longest // 3)
        for example in examples
    ]

    def score_windows(outputs: Sequence[NDArray[Any]]) -> dict[str, float]:
        logits = iter(outputs)
        answers: list[str] = []
        for example, parts in zip(examples, cut, strict=True):
            spans = [best_span(next(logits), part) for part in parts]
            best = max(spans, key=lambda span: span.logit)  # the first of equals
            answers.append(example.context[best.start : best.end])
        return score(answers, examples)

    encodings = [part for parts in cut for part in parts]
    return Inquiry(encodings=encodings, method=Method(ask=starts_and_ends), score=score_windows)


def starts_and_ends(run: Runner, batch: Batch) -> Iterator[NDArray[Any]]:
    """Yield the logits of each window's own tokens: those of the starts, then those of the ends, (2, T)."""
    for values in every_token(run, batch):
        yield values.T


def best_span(logits: NDArray[Any], window: Encoding) -> Span:
    """Return the span of a window with the largest sum of the logits of its first and its last token.

    It lies in the context, ends where it starts or later, and has at most ``ANSWER`` tokens. Of equals it is the one
    that starts first, then the shortest. A window without a token of the context gives the empty span, of -infinity.

    Parameters
    ----------
    logits
        Of a start and of an end at each token, (2, T).
    window
        The tokens, of the question (sequence 0) and the context (sequence 1).
    """
    inside = np.array([sequence == 1 for sequence in window.sequence_ids])
    starts, ends = np.where(inside, logits.astype(np.float64), -np.inf)
    ends = np.concatenate([ends, np.full(ANSWER - 1, -np.inf)])
    sums = starts[:, None] + sliding_window_view(ends, ANSWER)  # (T, ANSWER)
    first, more = divmod(int(sums.argmax()), ANSWER)
    logit = float(sums[first, more])
    if logit == -np.inf:
        return Span(start=0, end=0, logit=logit)
    return Span(start=window.offsets[first][0], end=window.offsets[first + more][1], logit=logit)


def score(answers: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """Return how many answers are one of those people gave, and the mean F1 of their words, each with its best.

    Both after ``normalise``, as the official script of SQuAD v1.1 counts them.
    """
    pairs = [(answer, example.answers) for answer, example in zip(answers, examples, strict=True)]
    exact = [any(normalise(answer) == normalise(each) for each in given) for answer, given in pairs]
    return {
        "exact_match": sum(exact) / len(pairs),
        "f1": sum(max(_f1(answer, each) for each in given) for answer, given in pairs) / len(pairs),
    }


def normalise(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation and articles, a single space between its words."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def _f1(answer: str, given: str) -> float:
    words, expected = (normalise(text).split() for text in (answer, given))
    common = (Counter(words) & Counter(expected)).total()
    return 2 * common / (len(words) + len(expected)) if common else 0.0
