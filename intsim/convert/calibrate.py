# SPDX-License-Identifier: Apache-2.0
"""What the float reference model computes over text: activation ranges, and the moments of what its layers read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from intsim.io.huggingface import Checkpoint
from intsim.io.tokenizer import Encoding, pad
from intsim.reference.world import run

__all__ = ["BATCH", "Moments", "calibrate"]

BATCH: Final = 16


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
    *,
    batch: int = BATCH,
    progress: bool = False,
) -> None:
    """Show every activation to its observers, real tokens only, a batch of texts at a time.

    Parameters
    ----------
    checkpoint, weights
        The float model, and its tensors.
    encodings
        The tokens of each text.
    observers
        Activation name -> functions that are shown its vectors, (vectors, C).
    batch
        How many texts it runs at once.
    progress
        Whether to draw a progress bar on stderr.
    """
    starts = range(0, len(encodings), batch)
    for start in tqdm(starts, desc="calibrating", unit="batch", disable=not progress):
        ids, mask, types = pad(encodings[start : start + batch], pad_id=checkpoint.config.pad_token_id)

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
        )
