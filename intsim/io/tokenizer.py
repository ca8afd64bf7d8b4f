# SPDX-License-Identifier: Apache-2.0
"""Text to token ids: a checkpoint's own tokenizer.json, and batches of what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intsim.errors import CheckpointError, IntsimError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Encoding", "encode", "pad", "parse_tokenizer", "read_tokenizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A text as T tokens, special tokens included: their ids, their segment ids, and what they look like."""

    ids: Sequence[int]
    type_ids: Sequence[int]
    tokens: Sequence[str]


def read_tokenizer(path: str | Path) -> str:
    """Return the text of tokenizer.json in the directory ``path``.

    Raises
    ------
    CheckpointError
        If there is none, or it cannot be read.
    """
    file = Path(path) / "tokenizer.json"
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"checkpoint {path} must have tokenizer.json in it to read text, got none"
        raise CheckpointError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} must be a readable text file, got {error}"
        raise CheckpointError(msg) from None


def parse_tokenizer(text: str) -> "Tokenizer":
    """Return the tokenizer that a tokenizer.json describes, its padding and truncation switched off.

    Raises
    ------
    CheckpointError
        If it is not a tokenizer.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy, and many commands have no text

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 - the package raises nothing narrower
        msg = f"tokenizer.json must describe a tokenizer of the tokenizers package, got {error}"
        raise CheckpointError(msg) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: "Tokenizer", text: str, *, longest: int) -> Encoding:
    """Return the tokens of a text.

    Parameters
    ----------
    tokenizer
        As ``parse_tokenizer`` returns it.
    text
        One text, or two with a TAB between them.
    longest
        How many tokens there may be: the length of the model's position table.

    Raises
    ------
    IntsimError
        If there are more than two texts, one of them is empty or not valid Unicode, or there are too many tokens.
    """
    first, *second = text.split("\t")
    if len(second) > 1:
        msg = f"text must have at most one TAB, which separates a pair, got {len(second)}"
        raise IntsimError(msg)
    if not all(part.strip() for part in (first, *second)):
        where = " on both sides of its TAB" if second else ""
        msg = f"text must have more than white space{where}, got {text!r}"
        raise IntsimError(msg)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"text must be valid Unicode, got a lone surrogate at character {error.start}"
        raise IntsimError(msg) from None
    encoding = tokenizer.encode(first, second[0] if second else None)
    if len(encoding.ids) > longest:
        msg = f"text must be at most {longest} tokens long, got {len(encoding.ids)}"
        raise IntsimError(msg)
    return Encoding(ids=encoding.ids, type_ids=encoding.type_ids, tokens=encoding.tokens)


def pad(
    encodings: Sequence[Encoding], *, pad_id: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return one batch of B sequences, padded on the right with ``pad_id`` to the longest, T tokens.

    Returns
    -------
    input_ids : ndarray
        (B, T) int64.
    attention_mask : ndarray
        (B, T) bool, true where there is a token.
    token_type_ids : ndarray
        (B, T) int64.
    """
    lengths = [len(encoding.ids) for encoding in encodings]
    attention_mask = np.arange(max(lengths)) < np.array(lengths, dtype=np.int64)[:, None]
    input_ids = np.full(attention_mask.shape, pad_id, np.int64)
    token_type_ids = np.zeros_like(input_ids)
    for row, encoding in enumerate(encodings):
        input_ids[row, : lengths[row]] = encoding.ids
        token_type_ids[row, : lengths[row]] = encoding.type_ids
    return input_ids, attention_mask, token_type_ids
