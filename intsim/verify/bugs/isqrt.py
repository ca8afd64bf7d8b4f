# SPDX-License-Identifier: Apache-2.0
"""Integer square root with one rule changed; LayerNorm is made of it."""

from functools import partial
from typing import Final

import numpy as np

from intsim.fixedpoint import bit_length, isqrt
from intsim.verify.bugs.parts import CONTROL, Int64, Part, clamps, wraps

__all__ = ["changes"]


UPDATES: Final = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)


def newton(n: Int64, *, updates: int, start: int | None = None) -> Int64:
    """Return Newton's iteration stopped after a fixed count, whatever happened."""
    root = np.int64(1) << (bit_length(n) + 1) // 2 if start is None else np.full_like(n, start)
    for _ in range(updates):
        root = (root + n // np.maximum(root, 1)) >> 1
    return root


def one_short(n: Int64) -> Int64:
    """Return Newton's iteration stopped one update before it has the root."""
    root = before = np.int64(1) << (bit_length(n) + 1) // 2
    while ((lower := (root + n // np.maximum(root, 1)) >> 1) < root).any():
        is_lower = lower < root
        before, root = np.where(is_lower, root, before), np.where(is_lower, lower, root)
    return before


def from_below(n: Int64) -> Int64:
    """Return Newton's iteration from 2**floor(bits / 2), below the root of numbers of odd width."""
    root = np.int64(1) << bit_length(n) // 2
    while ((lower := (root + n // np.maximum(root, 1)) >> 1) < root).any():
        root = np.minimum(lower, root)
    return root


def in_float(n: Int64, *, dtype: type[np.floating]) -> Int64:
    """Return the floor of a floating-point square root."""
    return np.floor(np.sqrt(n.astype(dtype))).astype(np.int64)


def nearest(n: Int64) -> Int64:
    """Return the square root rounded to nearest."""
    root = isqrt(n)
    return root + (n - root * root > root)


def rounded_up(n: Int64) -> Int64:
    """Return the square root rounded up."""
    root = isqrt(n)
    return root + (root * root < n)


def changes() -> dict[str, Part]:
    """Return isqrt on (n,), and every change of it."""
    return {
        CONTROL: isqrt,
        **{f"{updates} Newton updates": partial(newton, updates=updates) for updates in UPDATES},
        "one Newton update too few": one_short,
        "last bit of the square root left out": lambda n: isqrt(n) >> 1 << 1,
        "4 Newton updates from 2**16": partial(newton, updates=4, start=1 << 16),
        "Newton from 2**floor(bits / 2)": from_below,
        "float32 square root": partial(in_float, dtype=np.float32),
        "float64 square root": partial(in_float, dtype=np.float64),
        "square root rounded to nearest": nearest,
        "square root rounded up": rounded_up,
        "square root one too large": lambda n: isqrt(n) + 1,
        "square root to a power of two": lambda n: np.int64(1) << (bit_length(isqrt(n)) - 1).clip(0),
        "square root of 32 bits that wrap": lambda n: isqrt(wraps(32, signed=False)(n)),
        "square root of 32 bits that saturate": lambda n: isqrt(clamps(0, (1 << 32) - 1)(n)),
    }
