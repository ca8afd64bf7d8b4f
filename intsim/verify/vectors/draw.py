# SPDX-License-Identifier: Apache-2.0
"""Random integers that are the same forever: SHAKE-256 (FIPS 202) of a key, and arithmetic written here.

No library's generator or distribution decides a value, so none can change it.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draw", "Int64"]

Int64: TypeAlias = NDArray[np.int64]

WORD_BYTES: Final = 8


class Draw:
    """A stream of integers named by a key.

    The k-th call reads SHAKE-256("key k") as little-endian 64-bit words u. An integer of [low, high] is
    low + u mod (high - low + 1); the bias of the remainder is of no consequence to a test vector.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._calls = 0

    def integers(self, low: int, high: int, shape: int | tuple[int, ...]) -> Int64:
        """Return integers of [low, high], for -2**63 <= low <= high < 2**63 less than 2**64 - 1 apart."""
        name = f"{self._key} {self._calls}".encode()
        self._calls += 1
        count = int(np.prod(shape))
        words = np.frombuffer(hashlib.shake_256(name).digest(WORD_BYTES * count), "<u8").astype(np.uint64)
        return (words % np.uint64(high - low + 1)).astype(np.int64).reshape(shape) + low

    def any_width(self, low: int, high: int, shape: int | tuple[int, ...]) -> Int64:
        """Return integers of [low, high] with every number of bits equally likely, so that small ones are common."""
        width = self.integers(0, max(-low, high).bit_length(), shape)
        magnitude = self.integers(0, (1 << 62) - 1, shape) & ((np.int64(1) << width) - 1)
        negative = self.integers(0, 1, shape) if low < 0 else 0
        return np.where(negative, -magnitude, magnitude).clip(low, high)

    def choices(self, values: Sequence[int], shape: int | tuple[int, ...]) -> Int64:
        """Return elements of ``values``."""
        return np.array(values, np.int64)[self.integers(0, len(values) - 1, shape)]
