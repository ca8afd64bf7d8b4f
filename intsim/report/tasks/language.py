# SPDX-License-Identifier: Apache-2.0
"""How well a causal language model knows what comes next: its perplexity on a text, and last words (LAMBADA).

The data of ``perplexity`` are the lines of a text. Those of ``lambada`` (Paperno et al. 2016) are texts, one a line, or
JSON Lines whose ``text`` they are. Shapes: T tokens of a window or text, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.io.bounded import parse_json
from intsim.io.tokenizer import WINDOW, Encoding, cut, running
from intsim.report.tasks.inquiry import Batch, Inquiry, Method, Reader, Runner, Unit, check_head, data_lines
from intsim.report.tasks.masked import negative_log_likelihoods

__all__ = ["each_alone", "hits", "prepare_last_words", "prepare_perplexity", "read_lines", "read_texts", "surprises"]

ROWS: Final = 64
"""Tokens whose probabilities are formed at a time: each has V reals."""


def read_lines(path: str | Path) -> Sequence[str]:
    """Read the lines of a text, blank ones too.

    Raises
    ------
    IntsimError
        If the file cannot be read or holds no text.
    """
    lines = data_lines(path)
    if not any(line.strip() for line in lines):
        msg = f"data {path} must hold a text, got none"
        raise IntsimError(msg)
    return lines


def read_texts(path: str | Path) -> Sequence[str]:
    """Read texts, one a line, or the ``text`` of each object of JSON Lines.

    Raises
    ------
    IntsimError
        If the file cannot be read, holds no text, or a text is a single word.
    """
    lines = [line for line in data_lines(path) if line.strip()]
    are_objects = bool(lines) and lines[0].startswith("{")
    texts = [_text_of(line, line.place) if are_objects else str(line) for line in lines]
    if not texts:
        msg = f"data {path} must hold a text on a line, got none"
        raise IntsimError(msg)
    for text, line in zip(texts, lines, strict=True):
        if len(text.split()) < 2:
            msg = f"{line.place} must have a word before its last one, got {text!r:.40}"
            raise IntsimError(msg)
    return texts


def _text_of(line: str, place: str) -> str:
    try:
        row: Any = parse_json(line)
    except ValueError:
        row = None
    text = cast("dict[str, Any]", row).get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        msg = f"{place} must be a JSON object with a text, got {line!r:.40}"
        raise IntsimError(msg)
    return text


def prepare_perplexity(
    lines: Sequence[str], reader: Reader, *, window: int | None = None, stride: int | None = None
) -> Inquiry:
    """Return what is asked of a model: each token of a text once, in the window that shows most of what precedes it.

    Parameters
    ----------
    lines
        As ``read_lines`` returns them.
    reader
        What the model brings along. What its tokenizer puts in front of a text stands in front of every window; if that
        is nothing, a token without any before it is not asked for.
    window
        Tokens of a window, by default ``WINDOW``, or the context where that is shorter.
    stride
        How many tokens the next window begins later, see ``cut``.

    Raises
    ------
    IntsimError
        If the model has another head, the window or the stride is out of range, or no token is asked for.
    """
    check_head(reader, "causal-lm", "perplexity")
    if window is not None and window > reader.longest:
        msg = f"window must be at most the context, {reader.longest} tokens, got {window}"
        raise IntsimError(msg)
    window = min(reader.longest, WINDOW) if window is None else window
    before, ids = running(reader.tokenizer, "\n".join(lines))
    encodings = cut(before, ids, window=window, stride=stride)
    again = 0 if stride is None else window - len(before) - stride  # tokens that the window before has asked for
    skipped = [max(0, len(before) + (again if i else 0) - 1) for i in range(len(encodings))]
    if sum(len(each.ids) - 1 - skip for each, skip in zip(encodings, skipped, strict=True)) < 1:
        msg = f"text must have two tokens or more, got {len(ids)}"
        raise IntsimError(msg)

    def score(outputs: Sequence[NDArray[np.float64]]) -> dict[str, float]:
        every = np.concatenate([values[skip:] for values, skip in zip(outputs, skipped, strict=True)])
        return {"perplexity": float(np.exp(every.mean())), "tokens": len(every)}

    return Inquiry(encodings=encodings, method=Method(ask=each_alone, keep=surprises, hashed=True), score=score)


def prepare_last_words(texts: Sequence[str], reader: Reader) -> Inquiry:
    """Return what is asked of a model: the tokens of each text's last word, all of which must be the likeliest.

    Raises
    ------
    IntsimError
        If the model has another head, or a text is too long; with ``truncate`` it loses its beginning instead.
    """
    check_head(reader, "causal-lm", "lambada")
    encodings, asked = list[Encoding](), list[int]()
    for text in texts:
        stem = text.rstrip()[: -len(text.split()[-1])].rstrip()
        before, ids = running(reader.tokenizer, text.rstrip())
        _, known = running(reader.tokenizer, stem)
        pairs = zip(ids, known, strict=False)
        shared = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(known)))
        room = reader.longest - len(before)
        if len(ids) > room and not reader.truncate:
            msg = f"text must be at most {room} tokens long, got {len(ids)}; --truncate shortens it"
            raise IntsimError(msg)
        kept = [*before, *ids[-room:]]
        encodings.append(Encoding(ids=kept, type_ids=[0] * len(kept), tokens=()))
        asked.append(min(len(ids) - shared, len(kept) - 1))

    def score(outputs: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
        right = [values[len(values) - count :].all() for values, count in zip(outputs, asked, strict=True)]
        return {"accuracy": float(np.mean(right))}

    return Inquiry(encodings=encodings, method=Method(ask=each_alone, keep=hits, hashed=True), score=score)


def each_alone(run: Runner, batch: Batch) -> Iterator[NDArray[Any]]:
    """Yield the logits of each text's tokens, (T, V), of one text at a time."""
    for ids, mask, types in zip(*batch, strict=True):
        text, segments = ids[mask], types[mask]
        yield run(text[None], np.ones((1, len(text)), np.bool_), segments[None])[0]


def surprises(logits: NDArray[Any], unit: Unit, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -ln p of every token but the first, in float64: (T, V) -> (T - 1,)."""
    parts = [slice(start, min(start + ROWS, len(ids) - 1)) for start in range(0, len(ids) - 1, ROWS)]
    found = [negative_log_likelihoods(logits[part], unit, ids[1:][part], added=()) for part in parts]
    return np.concatenate([np.empty(0), *found])


def hits(logits: NDArray[Any], _unit: Unit, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of every token but the first whether it is the likeliest; of equal ones the lowest id is: -> (T - 1,)."""
    return logits[:-1].argmax(axis=-1) == ids[1:]
