# SPDX-License-Identifier: Apache-2.0
"""Codes of fewer than 8 bits, stored without the bits they do not use."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack", "packed_bits", "unpack"]


def packed_bits(codes: NDArray[np.integer]) -> int:
    """Return how many bits two's complement needs for every code."""
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1


def pack(codes: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Return the low ``bits`` bits of every code, the first code in the lowest bits of the first byte."""
    places = np.arange(bits, dtype=np.uint8)
    return np.packbits(codes.reshape(-1, 1).view(np.uint8) >> places & 1, bitorder="little")


def unpack(packed: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the codes that ``pack`` stored.

    Raises
    ------
    ValueError
        If no code has that many bits, or there are not as many bytes as ``shape`` takes.
    """
    if bits not in range(1, 9):
        msg = f"packed codes must have 1 to 8 bits, got {bits}"
        raise ValueError(msg)
    count = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-count * bits // 8),):
        msg = f"packed codes must be {-(-count * bits // 8)} bytes, got {packed.dtype} of shape {packed.shape}"
        raise ValueError(msg)
    each = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes = np.zeros(count, np.uint8)
    for place in range(8):  # the highest bit is the sign, and fills what is above it
        codes |= each[:, min(place, bits - 1)] << np.uint8(place)
    return codes.view(np.int8).reshape(shape)
