# SPDX-License-Identifier: Apache-2.0
"""Integer square root with one rule changed; LayerNorm is made of it."""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from intsim.fixedpoint import bit_length, isqrt
from intsim.verify.bugs.parts import CONTROL, Changes, Int64, Part, clamps, wraps

__all__ = ["changes"]


UPDATES: Final = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)


def newton(n: Int64, *, updates: int) -> Int64:
    """Return Newton's iteration stopped after a fixed count, whatever happened."""
    root = np.int64(1) << (bit_length(n) + 1) // 2
    for _ in range(updates):
        root = (root + n // np.maximum(root, 1)) >> 1
    return root


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


def one_too_large(n: Int64) -> Int64:
    """Return the square root and one more."""
    return isqrt(n) + 1


def power_of_two(n: Int64) -> Int64:
    """Return the square root's highest bit."""
    return np.int64(1) << (bit_length(isqrt(n)) - 1).clip(0)


def capped(n: Int64) -> Int64:
    """Return the square root saturated at 16 bits."""
    return np.minimum(isqrt(n), (1 << 16) - 1)


def of(part: Part) -> Callable[[Int64], Int64]:
    """Return the square root of a broken number."""
    return lambda n: isqrt(part(n))


def changes() -> Changes:
    """Return isqrt on (n,), and every change of it."""
    return {
        CONTROL: isqrt,
        **{f"{updates} Newton updates": partial(newton, updates=updates) for updates in UPDATES},
        "Newton from 2**floor(bits / 2)": from_below,
        "float32 square root": partial(in_float, dtype=np.float32),
        "float64 square root": partial(in_float, dtype=np.float64),
        "square root rounded to nearest": nearest,
        "square root rounded up": rounded_up,
        "square root one too large": one_too_large,
        "square root to a power of two": power_of_two,
        "square root of 32 bits that wrap": of(wraps(32, signed=False)),
        "square root of 32 bits that saturate": of(clamps(0, (1 << 32) - 1)),
        "square root saturates at 16 bits": capped,
    }
