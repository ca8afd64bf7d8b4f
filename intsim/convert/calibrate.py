# SPDX-License-Identifier: Apache-2.0
"""What the float reference model computes over text: activation ranges, and the moments of what its layers read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from intsim._progress import watched
from intsim.io.huggingface import Checkpoint
from intsim.io.tokenizer import Encoding, pad
from intsim.reference.world import run

__all__ = ["Moments", "calibrate"]

BATCH: Final = 16
"""Texts that the float model reads at once, at most,"""
TOKENS: Final = 4096
"""and tokens, padding included: what a layer gives for them is in memory, beside one of its weights at a time."""


class Moments:
    """Mean of x and of x x.T over the vectors seen along the last axis."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: NDArray[np.float64] | float = 0.0
        self.products: NDArray[np.float64] | float = 0.0

    def update(self, x: NDArray[np.floating]) -> None:
        """Take in a batch, (vectors, C)."""
        self.count += len(x)
        self.sum = self.sum + x.sum(axis=0)
        self.products = self.products + x.T @ x

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean vector, (C,)."""
        return np.asarray(self.sum) / self.count

    @property
    def second(self) -> NDArray[np.float64]:
        """Mean of the outer products, (C, C)."""
        return np.asarray(self.products) / self.count


def calibrate(
    checkpoint: Checkpoint,
    weights: Mapping[str, NDArray[np.float64]],
    encodings: Sequence[Encoding],
    observers: Mapping[str, Sequence[Callable[[NDArray[np.floating]], None]]],
) -> None:
    """Show every activation to its observers, real tokens only, a batch of texts at a time.

    Every tensor is asked for once a batch. Of a decoder's logits, which nothing observes, those of the last tokens are
    all that is computed.

    Parameters
    ----------
    checkpoint, weights
        The float model, and its tensors.
    encodings
        The tokens of each text.
    observers
        Activation name -> functions that are shown its vectors, (vectors, C).
    """
    batches = list(_batches(encodings))
    for batch in watched(batches, "calibrating", unit="batch"):
        ids, mask, types = pad(batch, pad_id=checkpoint.config.pad_token_id)

        def observe(name: str, x: NDArray[np.floating], mask: NDArray[np.bool_] = mask) -> NDArray[np.floating]:
            for see in observers.get(name, ()):
                see(x[mask] if x.ndim == 3 else x)
            return x

        run(
            checkpoint.family,
            weights,
            checkpoint.config,
            checkpoint.head,
            ids,
            attention_mask=mask,
            token_type_ids=types,
            observe=observe,
            last=checkpoint.head == "causal-lm",
        )


def _batches(encodings: Sequence[Encoding]) -> Iterator[list[Encoding]]:
    """Yield the texts in their order, as many at a time as BATCH and TOKENS allow, at least one."""
    batch: list[Encoding] = []
    for encoding in encodings:
        longest = max(len(each.ids) for each in (*batch, encoding))
        if batch and (len(batch) == BATCH or longest * (len(batch) + 1) > TOKENS):
            yield batch
            batch = []
        batch.append(encoding)
    yield batch
