# SPDX-License-Identifier: Apache-2.0
"""Recovery of masked tokens: texts with one token masked, and how often the model's first choice is that token."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class MaskedExample(NamedTuple):
    """The ids of a text in which ``position`` holds the mask and ``target`` is what stood there."""

    ids: list[int]
    position: int
    target: int


def masked(
    texts: Sequence[str], tokenizer: Tokenizer, *, mask: str, per_text: int, seed: int = 0
) -> list[MaskedExample]:
    """Mask ``per_text`` tokens of each text, one at a time, never a special one; all of them where there are fewer."""
    rng = np.random.default_rng(seed)
    examples: list[MaskedExample] = []
    for text in texts:
        encoding = tokenizer.encode(text)
        words = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        for position in sorted(rng.choice(words, min(per_text, len(words)), replace=False).tolist()):
            ids = list(encoding.ids)
            ids[position] = tokenizer.token_to_id(mask)
            examples.append(MaskedExample(ids, position, encoding.ids[position]))
    return examples


def recovery(predict: Callable[[NDArray[np.int64]], NDArray[Any]], examples: Sequence[MaskedExample]) -> float:
    """Return the share of masked tokens that ``predict``, (B, T) -> (B, T, V), finds; ties go to the lower id."""
    hits = 0
    for batch in _batches(examples):
        scores = predict(np.array([example.ids for example in batch], np.int64))
        hits += sum(scores[i, e.position].argmax() == e.target for i, e in enumerate(batch))
    return hits / len(examples)


def _batches(examples: Sequence[MaskedExample]) -> Iterator[list[MaskedExample]]:
    """Yield neighbours of the same length."""
    for _, batch in groupby(examples, key=lambda example: len(example.ids)):
        yield list(batch)
