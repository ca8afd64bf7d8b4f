# SPDX-License-Identifier: Apache-2.0
"""LiteRT's LOGISTIC and TANH: tables of 256 codes for 8 bits, an interpolated one or gemmlowp's functions for 16.

Scales are the ``Fraction`` that their float32 is; F rounds to the 24 bits of float32. Exponentials are integers of 200
fractional bits, so that every table entry is rounded from a number known far beyond it.

Source: LiteRT 2.3.0, ``kernels/activations.cc`` and the headers it names. Held against it in
tests/kernels/litert_sigmoid_witnesses.py.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, Rounding, round_fraction, rounding_right_shift, saturate
from intsim.kernels import gemmlowp
from intsim.kernels.litert import FLOAT32, nearest

__all__ = [
    "PRECISION",
    "exponentials",
    "logistic",
    "logistic_int16",
    "logistic_int16_optimized",
    "sigmoid_table",
    "tanh",
    "tanh_int16",
    "tanh_int16_optimized",
]

Int64: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.integer]

PRECISION: Final = 200  # fractional bits of the exponentials behind the tables


def logistic(x_q: Integers, *, scale: Fraction, zero_point: int) -> Integers:
    """Return RHA(2**8 s) - 128, s = F(1 / F(1 + F(exp(-d)))), d = F(scale (x - zero_point)): LOGISTIC of 8 bits.

    Both resolvers look codes up in a table made with the C library's ``expf``: here exp is rounded correctly, and no
    entry was seen to differ.
    """

    def entry(code: int) -> int:
        e = nearest(_exp(-nearest(scale * (code - zero_point), FLOAT32)), FLOAT32)
        s = nearest(Fraction(1, nearest(1 + e, FLOAT32)), FLOAT32)
        return round_fraction(s * (1 << 8), Rounding.HALF_AWAY) - (1 << 7)

    return _by_table(x_q, entry)


def tanh(x_q: Integers, *, scales: tuple[Fraction, Fraction], zero_points: tuple[int, int]) -> Integers:
    """Return sat8(RHA(F(F(tanh(d)) F(1 / sy))) + zy), d = F(sx (x - zx)): TANH of 8 bits, every resolver.

    A table as in ``logistic``, of ``tanhf``.
    """
    (x_scale, y_scale), (x_zero_point, y_zero_point) = scales, zero_points
    reciprocal = nearest(Fraction(1, y_scale), FLOAT32)

    def entry(code: int) -> int:
        d = nearest(x_scale * (code - x_zero_point), FLOAT32)
        e = _exp(-2 * abs(d))
        t = nearest(Fraction(1 - e, 1 + e), FLOAT32) * (1 if d >= 0 else -1)
        return round_fraction(nearest(t * reciprocal, FLOAT32), Rounding.HALF_AWAY) + y_zero_point

    return _by_table(x_q, entry)


def logistic_int16(x_q: Integers, *, scale: Fraction) -> Integers:
    """Return the logistic function of int16 codes, in codes of 2**-15: LOGISTIC, reference resolver.

    |x|, brought to codes of 1 / 12_288, is looked up in ``sigmoid_table`` with linear interpolation over 9 bits.

    Bounds
    ------
    ``scale`` <= 2, and 2**-12 or 1 part in 1000 away from it.
    """
    x = _twelve_thousandths(x_q, scale, {Fraction(1, 1 << 12): 3})
    y = _interpolated(np.abs(x), 9, saturated=0x7FFF << 10)
    return rounding_right_shift(
        np.where(x >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1), 10, Rounding.FLOOR
    ).astype(np.int16)


def tanh_int16(x_q: Integers, *, scale: Fraction) -> Integers:
    """Return tanh of int16 codes, in codes of 2**-15: TANH, reference resolver.

    2 sigmoid(2 x) - 1, as ``logistic_int16``.

    Bounds
    ------
    ``scale`` <= 2, and 2**-12, 2**-11 or 1 part in 1000 away from them.
    """
    x = _twelve_thousandths(x_q, scale, {Fraction(1, 1 << 12): 3, Fraction(1, 1 << 11): 6})
    y = _interpolated(np.abs(x), 8, saturated=0xFFFF << 8)
    half = 1 << 23
    return rounding_right_shift(np.where(x >= 0, y - half + 128, half - y + 127), 8, Rounding.FLOOR).astype(np.int16)


def logistic_int16_optimized(x_q: Integers, *, scale: Fraction) -> Integers:
    """Return ``gemmlowp.logistic`` of Q3.12 where ``scale`` is 2**-12, else ``logistic_int16``: LOGISTIC, optimized."""
    if scale == Fraction(1, 1 << 12):
        return gemmlowp.logistic(x_q.astype(np.int64), 3, bits=16).astype(np.int16)
    return logistic_int16(x_q, scale=scale)


def tanh_int16_optimized(x_q: Integers, *, scale: Fraction) -> Integers:
    """Return ``gemmlowp.tanh`` of Q3.12 where ``scale`` is 2**-12 or 2**-11, else ``tanh_int16``: TANH, optimized."""
    if scale in (Fraction(1, 1 << 12), Fraction(1, 1 << 11)):
        x = (x_q.astype(np.int64) * int(scale * (1 << 12))).clip(INT16.min, INT16.max)
        return gemmlowp.tanh(x, 3, bits=16).astype(np.int16)
    return tanh_int16(x_q, scale=scale)


@cache
def sigmoid_table() -> Int64:
    """Return 256 values of s(i) = 2**16 / (1 + exp(-i / 24)), raised by half of what interpolation misses beside them.

    Entry i is RHA(s(i) + (M(i) + M(i - 1)) / 4), M(i) = s(i + 1/2) - (s(i) + s(i + 1)) / 2, but the last, 2**16 - 1.
    """
    one = 1 << PRECISION
    s = [Fraction(one << 16, one + power) for power in exponentials(Fraction(-1, 48), 510)]  # of halves
    s = [(1 << 16) - s[2], (1 << 16) - s[1], *s]  # from -1
    entries = [
        here + (s[i + 1] + s[i - 1] - here - (s[i + 2] + s[i - 2]) * Fraction(1, 2)) * Fraction(1, 4)
        for i, here in list(enumerate(s))[2:-2:2]
    ]
    return np.array([*(round_fraction(entry, Rounding.HALF_AWAY) for entry in entries), (1 << 16) - 1], np.int64)


def exponentials(x: Fraction, count: int) -> list[int]:
    """Return exp(x j) * 2**PRECISION for j = 0 to count, x in [-1, 0]."""
    factor = sum((x**n * Fraction(1, math.factorial(n)) for n in range(40)), Fraction(0))
    powers = [1 << PRECISION]
    for _ in range(count):
        powers.append(round_fraction(powers[-1] * factor, Rounding.HALF_EVEN))
    return powers


def _by_table(x_q: Integers, entry: Callable[[int], int]) -> Integers:
    table = saturate(np.array([entry(code) for code in range(INT8.min, INT8.max + 1)], np.int64), INT8)
    return table[x_q.astype(np.int64) - INT8.min]


def _exp(x: Fraction) -> Fraction:
    """Return exp(x) to some 180 binary places, |x| < 2**10: the series at x / 2**10, squared ten times."""
    one = 1 << PRECISION
    small = round_fraction(x * (1 << PRECISION - 10), Rounding.FLOOR)
    term = total = one
    for n in range(1, 40):
        term = term * small // (n * one)
        total += term
    for _ in range(10):
        total = total * total // one
    return Fraction(total, one)


def _twelve_thousandths(x_q: Integers, scale: Fraction, powers_of_two: dict[Fraction, int]) -> Int64:
    """Return RHU(x floor(12_288 scale 2**n) / 2**n), 2**n bringing the multiplier to at least 2**14 - 1/2."""
    if scale in powers_of_two:
        return x_q.astype(np.int64) * powers_of_two[scale]
    multiplier, shift = scale * 3 * (1 << 12), 0
    while 2 * multiplier <= INT16.max and shift <= 30:
        multiplier, shift = 2 * multiplier, shift + 1
    return rounding_right_shift(x_q.astype(np.int64) * int(multiplier), shift, Rounding.HALF_UP)


def _interpolated(x: Int64, bits: int, *, saturated: int) -> Int64:
    """Return 2**bits times the sigmoid table at x / 2**bits, x >= 0, interpolated; ``saturated`` from 255 on."""
    table, index = sigmoid_table(), rounding_right_shift(x, bits, Rounding.FLOOR)
    below = np.minimum(index, 254)
    y = (table[below] << bits) + (x & (1 << bits) - 1) * (table[below + 1] - table[below])
    return np.where(index >= 255, saturated, y)
