# SPDX-License-Identifier: Apache-2.0
"""The fixed-point arithmetic of gemmlowp: int32 numbers Qm.(31 - m) that stand for raw * 2**(m - 31), m integer bits.

RHU rounds halves up, RHA away from zero. A product of Qm.(31 - m) and Qn.(31 - n) is Q(m+n).(31 - m - n), its raw
integer the high half of twice the product. Arrays are int64 that hold int32 values; every function keeps them there.
``bits=16`` gives the same on int16 numbers Qm.(15 - m), the constants rounded to 16 bits.

Source: gemmlowp, ``fixedpoint/fixedpoint.h``; the names are its names. ``exp_on_negative_values`` and the reciprocal
are what LiteRT's int8 softmax runs on, ``logistic`` and ``tanh`` of
16 bits its optimized LOGISTIC and TANH, ``inverse_sqrt`` (``GetInvSqrtQuantizedMultiplierExp``) its RSQRT and
L2_NORMALIZATION.
"""

from fractions import Fraction
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT32, IntRange, Rounding, bit_length, round_fraction, rounding_right_shift

__all__ = [
    "CONSTANTS",
    "exp_on_negative_values",
    "inverse_sqrt",
    "logistic",
    "one_minus_x_over_one_plus_x_for_x_in_0_1",
    "one_over_one_plus_x_for_x_in_0_1",
    "rescale",
    "rounding_divide_by_pot",
    "rounding_half_sum",
    "saturating_rounding_doubling_high_mul",
    "saturating_rounding_multiply_by_pot",
    "tanh",
]

Int64: TypeAlias = NDArray[np.int64]

EXP_MINUS_ONE_EIGHTH: Final = 1_895_147_668
ONE_THIRD: Final = 715_827_883
FORTY_EIGHT_SEVENTEENTHS: Final = 1_515_870_810  # Q2.29
MINUS_THIRTY_TWO_SEVENTEENTHS: Final = -1_010_580_540  # Q2.29
HALF_SQRT_2: Final = 1_518_500_250
EXP_MINUS_POWERS: Final = {  # k: exp(-2**k) in Q0.31
    -2: 1_672_461_947,
    -1: 1_302_514_674,
    0: 790_015_084,
    1: 290_630_308,
    2: 39_332_535,
    3: 720_401,
    4: 242,
}

CONSTANTS: Final = {  # raw integer, integer bits: the rational constants, for the test that checks them
    Fraction(1, 3): (ONE_THIRD, 0),
    Fraction(48, 17): (FORTY_EIGHT_SEVENTEENTHS, 2),
    Fraction(-32, 17): (MINUS_THIRTY_TWO_SEVENTEENTHS, 2),
}


def saturating_rounding_doubling_high_mul(a: Int64, b: Int64 | int, bits: int = 32) -> Int64:
    """Return RHU(a b / 2**(bits - 1)); the lowest code times itself, which does not fit, the highest. ARM: SQRDMULH."""
    return np.minimum(rounding_right_shift(a * b, bits - 1, Rounding.HALF_UP), IntRange(bits).max)


def rounding_divide_by_pot(x: Int64, exponent: Int64 | int) -> Int64:
    """Return RHA(x / 2**exponent), 0 <= exponent <= 31."""
    return rounding_right_shift(x, exponent, Rounding.HALF_AWAY)


def rounding_half_sum(a: Int64, b: Int64 | int) -> Int64:
    """Return RHA((a + b) / 2)."""
    return rounding_right_shift(a + b, 1, Rounding.HALF_AWAY)


def saturating_rounding_multiply_by_pot(x: Int64, exponent: int, bits: int = 32) -> Int64:
    """Return x * 2**exponent, saturated where exponent > 0, RHA where it is negative."""
    codes = IntRange(bits)
    return (x << exponent).clip(codes.min, codes.max) if exponent > 0 else rounding_divide_by_pot(x, -exponent)


def rescale(x: Int64, integer_bits: int, to_integer_bits: int, bits: int = 32) -> Int64:
    """Return the same number with another count of integer bits, saturated or RHA."""
    return saturating_rounding_multiply_by_pot(x, integer_bits - to_integer_bits, bits)


def exp_on_interval_between_negative_one_quarter_and_0_excl(a: Int64, bits: int = 32) -> Int64:
    """Return exp(a) in Q0.31 for a in [-1/4, 0) in Q0.31.

    With x = a + 1/8 and c = exp(-1/8)::

        exp(a) ~ c + c (x + x**2/2 + x**3/6 + x**4/24),   the last three as ((x**4/4 + x**3) / 3 + x**2) / 2
    """
    mul = partial(saturating_rounding_doubling_high_mul, bits=bits)
    c, third = _constant(EXP_MINUS_ONE_EIGHTH, bits), _constant(ONE_THIRD, bits)
    x = a + (1 << bits - 4)
    x2 = mul(x, x)
    x3, x4 = mul(x2, x), mul(x2, x2)
    tail = mul(saturating_rounding_multiply_by_pot(x4, -2) + x3, third) + x2
    return np.minimum(c + mul(x + saturating_rounding_multiply_by_pot(tail, -1), c), IntRange(bits).max)


def exp_on_negative_values(a: Int64, integer_bits: int, bits: int = 32) -> Int64:
    """Return exp(a) in Q0.31 for a <= 0 with ``integer_bits`` integer bits, 0 to 5.

    a = r - sum of the powers 2**k whose bit is set in r - a, where r = (a mod 1/4) - 1/4 is in [-1/4, 0)::

        exp(a) = exp(r) * product over these k of exp(-2**k),   k = -2 ... 4;   exp(0) = 2**31 - 1

    Error
    -----
    At most 500 units of 2**-31 (tests/kernels/test_gemmlowp.py).
    """
    fraction_bits = bits - 1 - integer_bits
    quarter = 1 << fraction_bits - 2
    r = (a & quarter - 1) - quarter
    result = exp_on_interval_between_negative_one_quarter_and_0_excl(rescale(r, integer_bits, 0, bits), bits)
    for k, factor in EXP_MINUS_POWERS.items():
        if k < integer_bits:
            bit = (r - a) & (1 << fraction_bits + k)
            scaled = saturating_rounding_doubling_high_mul(result, _constant(factor, bits), bits)
            result = np.where(bit, scaled, result)
    return np.where(a == 0, IntRange(bits).max, result)


def _reciprocal_of_half_sum(a: Int64, bits: int) -> Int64:
    """Return 2 / (1 + a) in Q2.29 for a in [0, 1) in Q0.31.

    Newton's iteration for 1/d, d = (a + 1) / 2: x = 48/17 - 32/17 d, then x + x (1 - d x), three times.
    """
    mul = partial(saturating_rounding_doubling_high_mul, bits=bits)
    d = rounding_half_sum(a, IntRange(bits).max)
    x = _constant(FORTY_EIGHT_SEVENTEENTHS, bits) + mul(d, _constant(MINUS_THIRTY_TWO_SEVENTEENTHS, bits))
    for _ in range(3):
        x = x + rescale(mul(x, (1 << bits - 3) - mul(d, x)), 4, 2, bits)
    return x


def one_over_one_plus_x_for_x_in_0_1(a: Int64, bits: int = 32) -> Int64:
    """Return 1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31."""
    return rescale(_reciprocal_of_half_sum(a, bits), 1, 0, bits)


def one_minus_x_over_one_plus_x_for_x_in_0_1(a: Int64, bits: int = 32) -> Int64:
    """Return (1 - a) / (1 + a) = 2 / (1 + a) - 1 in Q0.31 for a in [0, 1) in Q0.31."""
    return rescale(_reciprocal_of_half_sum(a, bits) - (1 << bits - 3), 2, 0, bits)


def logistic(a: Int64, integer_bits: int, bits: int = 32) -> Int64:
    """Return 1 / (1 + exp(-a)) in Q0.31: of |a|, and 1 less that where a < 0; 1/2 at 0.

    ``integer_bits`` is 0 to 5.

    Error
    -----
    At most 200 units of 2**-31 (tests/kernels/test_gemmlowp.py).
    """
    e = exp_on_negative_values(-np.abs(a), integer_bits, bits)
    positive = one_over_one_plus_x_for_x_in_0_1(e, bits)
    return np.where(a > 0, positive, np.where(a < 0, IntRange(bits).max - positive, 1 << bits - 2))


def tanh(a: Int64, integer_bits: int, bits: int = 32) -> Int64:
    """Return tanh(a) in Q0.31: sgn(a) (1 - e) / (1 + e) with e = exp(-2 |a|); 0 at 0.

    ``integer_bits`` is 0 to 4, for 2 a has one more.

    Error
    -----
    At most 400 units of 2**-31 (tests/kernels/test_gemmlowp.py).
    """
    e = exp_on_negative_values(-np.abs(a), integer_bits + 1, bits)
    return np.sign(a) * one_minus_x_over_one_plus_x_for_x_in_0_1(e, bits)


def inverse_sqrt(n: Int64) -> tuple[Int64, Int64]:
    """Return (m, e) with 1 / sqrt(n) ~ m * 2**(e - 31); n below 2 counts as 1.

    n * 4**j in [2**27, 2**29) is read as v in [1/8, 1/2) of Q3.28 after halving; five steps of Newton from 1::

        x <- 3/2 x - v/2 x**3,   m = x sqrt(2) / 2

    Bounds
    ------
    0 <= n < 2**31. n of 2**29 or more is divided by 4, toward zero.

    Source
    ------
    ``GetInvSqrtQuantizedMultiplierExp`` of LiteRT's ``kernels/internal/common.h``.
    """
    mul = saturating_rounding_doubling_high_mul
    one_or_less = n <= 1
    n = np.where(one_or_less, 2, n)
    large = n >> 29 > 0
    quartered = np.where(large, rounding_right_shift(n, 2, Rounding.FLOOR), n)
    pairs = rounding_right_shift(31 - bit_length(quartered), 1, Rounding.FLOOR) - 1
    half = rounding_right_shift(quartered << 2 * pairs, 1, Rounding.FLOOR)
    quarter = rounding_divide_by_pot(half, 1)
    x = np.full_like(n, 1 << 28)
    for _ in range(5):
        cube = rescale(mul(mul(x, x), x), 9, 3)
        x = rescale(mul(x, 3 << 27) - mul(quarter, cube), 6, 3)
    shift = 11 + large - pairs
    m = mul(x, HALF_SQRT_2) << np.maximum(-shift, 0)
    return np.where(one_or_less, INT32.max, m), np.where(one_or_less, 0, -np.maximum(shift, 0))


def _constant(raw: int, bits: int) -> int:
    """Return a constant of 32 bits rounded to ``bits``."""
    return round_fraction(Fraction(raw, 1 << 32 - bits), Rounding.HALF_AWAY)
