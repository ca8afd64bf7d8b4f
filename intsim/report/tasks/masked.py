# SPDX-License-Identifier: Apache-2.0
"""Pseudo-perplexity of a masked language model (Salazar et al. 2020): how well it guesses each token from all others.

Files are texts, one a line. Shapes: B batch, T tokens, V vocabulary; n tokens of a text that were guessed.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.io.tokenizer import encode
from intsim.report.tasks.inquiry import Batch, Inquiry, Method, Reader, Runner, Unit, check_head, data_lines

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["guesses", "mask_id", "negative_log_likelihoods", "prepare", "read", "score"]

MASKS: Final = ("[MASK]", "<mask>")
TOKENS: Final = 1024
"""Tokens that are run together, of copies of a text with another one masked in each: all of them get V logits."""


def read(path: str | Path) -> Sequence[str]:
    """Read the texts of a file, one a line; blank lines are none.

    Raises
    ------
    IntsimError
        If the file cannot be read or holds no text.
    """
    texts = [line for line in data_lines(path) if line.strip()]
    if not texts:
        msg = f"data {path} must hold a text on a line, got none"
        raise IntsimError(msg)
    return texts


def prepare(examples: Sequence[str], reader: Reader) -> Inquiry:
    """Return what is asked of a model: every token of every text, but those the tokenizer adds to any text.

    Raises
    ------
    IntsimError
        If the model guesses no tokens, its tokenizer has no mask, or a text is too long or of no token.
    """
    check_head(reader, "masked-lm", "mlm")
    added = tuple(reader.tokenizer.encode("").ids)
    encodings = [encode(reader.tokenizer, text, longest=reader.longest, truncate=reader.truncate) for text in examples]
    for text, encoding in zip(examples, encodings, strict=True):
        if set(encoding.ids) <= set(added):
            msg = f"text must have a token to mask, got none in {text!r}"
            raise IntsimError(msg)
    method = Method(
        ask=partial(guesses, mask_id=mask_id(reader.tokenizer), added=added),
        keep=partial(negative_log_likelihoods, added=added),
        hashed=True,
    )
    return Inquiry(encodings=encodings, method=method, score=score)


def mask_id(tokenizer: "Tokenizer") -> int:
    """Return the id of the token that stands for a masked one.

    Raises
    ------
    IntsimError
        If there is none.
    """
    for token in MASKS:
        if (number := tokenizer.token_to_id(token)) is not None:
            return number
    msg = f"tokenizer must have a token for what is masked, {' or '.join(MASKS)}, got neither"
    raise IntsimError(msg)


def guesses(run: Runner, batch: Batch, *, mask_id: int, added: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield the logits of each text's tokens, each from a copy of the text where it alone is masked, (n, V).

    Parameters
    ----------
    run
        The model, whose values are logits (B, T, V).
    batch
        The texts.
    mask_id
        What takes the token's place.
    added
        Ids of the tokens that are not asked for.
    """
    for ids, mask, types in zip(*batch, strict=True):
        text, segments = ids[mask], types[mask]  # (T,)
        asked = np.flatnonzero(~np.isin(text, added))  # (n,)
        together = max(1, TOKENS // len(text))
        parts: list[NDArray[Any]] = []
        for start in range(0, len(asked), together):
            places = asked[start : start + together]
            rows = np.arange(len(places))
            copies = np.tile(text, (len(places), 1))
            copies[rows, places] = mask_id
            values = run(copies, np.ones(copies.shape, np.bool_), np.tile(segments, (len(places), 1)))
            parts.append(values[rows, places])
        yield np.concatenate(parts)


def negative_log_likelihoods(
    logits: NDArray[Any], unit: Unit, ids: NDArray[np.int64], *, added: Sequence[int]
) -> NDArray[np.float64]:
    """Return -ln p of each token of a text that was asked for, (n,).

    Parameters
    ----------
    logits
        As ``guesses`` yields them, (n, V).
    unit
        What 1 is in them.
    ids
        The text, (T,).
    added
        Ids of the tokens that were not asked for.
    """
    asked = ids[~np.isin(ids, added)]
    reals = logits.astype(np.float64) * unit
    largest = reals.max(axis=-1)
    sums = np.exp(reals - largest[:, None]).sum(axis=-1)
    return largest + np.log(sums) - reals[np.arange(len(asked)), asked]


def score(outputs: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Return the pseudo-perplexity, exp of the mean of -ln p over all tokens, and how many tokens these are."""
    every = np.concatenate(outputs)
    return {"perplexity": float(np.exp(every.mean())), "tokens": len(every)}
