# SPDX-License-Identifier: Apache-2.0
"""What a task asks of a model: sequences of tokens, which of the logits count, and how they are scored.

Shapes: B batch, T tokens, C logits, or channels where a model has no head; n answers of a sequence.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError, said
from intsim.io.bounded import MAX_DATA, MAX_LINE, read_text
from intsim.io.tokenizer import Encoding, Line
from intsim.models.world import Head

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "Ask",
    "Batch",
    "Inquiry",
    "Keep",
    "Method",
    "Reader",
    "Runner",
    "Unit",
    "check_head",
    "data_lines",
    "every_sequence",
    "every_token",
    "keep_logits",
]

Batch: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]  # ids, mask, types, each (B, T)
Runner: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]], NDArray[Any]]
Ask: TypeAlias = Callable[[Runner, Batch], Iterator[NDArray[Any]]]
Unit: TypeAlias = NDArray[np.float64] | np.float64
Keep: TypeAlias = Callable[[NDArray[Any], Unit, NDArray[np.int64]], NDArray[Any]]

NAMES: Final[dict[Head, str]] = {
    "none": "no head",
    "sentence-embedding": "sentence embeddings",
    "sequence-classification": "a classifier",
    "token-classification": "a token classifier",
    "question-answering": "a question answering head",
    "masked-lm": "a masked language model's head",
    "causal-lm": "a causal language model's head",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What a model brings along to read a task.

    Parameters
    ----------
    head
        What it ends in.
    labels
        Names of its logits, where it classifies.
    tokenizer
        Its tokenizer.
    longest
        Tokens of the longest sequence it can read.
    truncate
        Whether texts that are longer are shortened, not refused.
    pad_id
        What batches are padded with.
    """

    head: Head
    labels: Sequence[str]
    tokenizer: "Tokenizer"
    longest: int
    truncate: bool = False
    pad_id: int = 0


def every_sequence(run: Runner, batch: Batch) -> Iterator[NDArray[Any]]:
    """Yield the output of each sequence of a batch, (C,)."""
    yield from run(*batch)


def every_token(run: Runner, batch: Batch) -> Iterator[NDArray[Any]]:
    """Yield the outputs of each sequence's own tokens, (n, C)."""
    mask = batch[1]
    for values, own in zip(run(*batch), mask, strict=True):
        yield values[own]


def keep_logits(logits: NDArray[Any], _unit: Unit, _ids: NDArray[np.int64]) -> NDArray[Any]:
    """Return the logits as they are."""
    return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a batch is run, and what is left of its outputs where it ran. Made of functions that processes can be sent.

    Parameters
    ----------
    ask
        From a runner and a batch to the outputs of each sequence in turn, (C,) or (n, C).
    keep
        From a sequence's outputs, what 1 is in them, and the ids of its tokens (T,) to what is scored.
    hashed
        Whether a digest takes in the SHA-256 of a sequence's outputs in their place, so that they need not be kept.
    """

    ask: Ask = every_sequence
    keep: Keep = keep_logits
    hashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """The sequences a model is to run, and what becomes of its outputs.

    Parameters
    ----------
    encodings
        The sequences, in the order of the data.
    method
        How they are run.
    score
        From what was kept of each sequence, in the same order, to the metrics.
    pad_id
        What batches are padded with.
    """

    encodings: Sequence[Encoding]
    method: Method
    score: Callable[[Sequence[NDArray[Any]]], dict[str, float]]
    pad_id: int = 0


def check_head(reader: Reader, head: Head, task: str) -> None:
    """Refuse a model that has another head.

    Raises
    ------
    IntsimError
        If it does.
    """
    if reader.head != head:
        msg = f"model must have {NAMES[head]} for {task}, got {NAMES[reader.head]}"
        raise IntsimError(msg)


def data_lines(path: str | Path) -> list[Line]:
    r"""Return the lines of a text file, which end in \n or \r\n and nowhere else; a byte order mark is no text.

    Raises
    ------
    IntsimError
        If the file cannot be read.
    """
    try:
        text = read_text(path, most=MAX_DATA, longest_line=MAX_LINE, encoding="utf-8-sig", newline="")
    except (OSError, ValueError) as error:
        msg = f"data {path} must be a readable UTF-8 file, got {said(error)}"
        raise IntsimError(msg) from None
    lines = enumerate(text.split("\n"), start=1)
    return [Line(line.removesuffix("\r"), f"{path} line {number}") for number, line in lines]
