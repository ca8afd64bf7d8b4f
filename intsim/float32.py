# SPDX-License-Identifier: Apache-2.0
"""IEEE 754 binary32 computed with integers: kernels that multiply by a float scale are matched without a float.

A finite float32 is significand * 2**exponent with |significand| < 2**24. Every operation computes the exact result, or
as much of it as decides the rounding, and rounds once to nearest, ties to even, subnormals included. There is no
infinity, NaN or negative zero.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import Dyadic, Rounding, bit_length, round_to_significant, rounding_right_shift

__all__ = [
    "Float32",
    "add",
    "decode",
    "divide",
    "encode",
    "from_integer",
    "maximum",
    "multiply",
    "negate",
    "to_dyadic",
    "to_integer",
]

Int64: TypeAlias = NDArray[np.int64]

SIGNIFICAND_BITS: Final = 24
MIN_EXPONENT: Final = -149  # of the lowest bit
MAX_EXPONENT: Final = 104  # of the lowest bit of the largest number, (2**24 - 1) * 2**104
FAR: Final = 37  # an operand this many places below the other only decides ties


@dataclass(frozen=True, slots=True, eq=False)
class Float32:
    """significand * 2**exponent, elementwise.

    Parameters
    ----------
    significand, exponent
        int64 of one shape, |significand| < 2**24, exponent in [-149, 104]. Zero has significand 0.
    """

    significand: Int64
    exponent: Int64


def decode(bits: NDArray[np.integer]) -> Float32:
    """Return the numbers whose 32 bits are given, as (u)int32.

    Raises
    ------
    ValueError
        If one is an infinity or a NaN.
    """
    word = bits.astype(np.int64) & 0xFFFFFFFF
    biased, fraction = word >> 23 & 0xFF, word & 0x7FFFFF
    if (biased == 0xFF).any():
        msg = "bits must be those of finite numbers, got an infinity or a NaN"
        raise ValueError(msg)
    magnitude = fraction | (biased > 0).astype(np.int64) << 23
    return Float32(np.where(word >> 31, -magnitude, magnitude), np.maximum(biased, 1) - 150)


def encode(x: Float32) -> NDArray[np.uint32]:
    """Return the 32 bits of the numbers; of zero, the positive one's."""
    magnitude = np.abs(x.significand)
    room = np.minimum(SIGNIFICAND_BITS - bit_length(magnitude), x.exponent - MIN_EXPONENT)  # to the left
    fraction = magnitude << room
    biased = np.where(fraction >> 23, x.exponent - room + 150, 0)
    word = (x.significand < 0).astype(np.int64) << 31 | biased << 23 | fraction & 0x7FFFFF
    return word.astype(np.uint32)


def from_integer(x: NDArray[np.integer]) -> Float32:
    """Return the numbers nearest to integers |x| < 2**62: what a C cast from int does."""
    x = x.astype(np.int64)
    return _round(x, np.zeros_like(x))


def to_integer(x: Float32, rounding: Rounding) -> Int64:
    """Return RND(x).

    Raises
    ------
    ValueError
        If |x| could reach 2**62.
    """
    if x.exponent.size and (x.exponent[x.significand != 0] > 38).any():
        msg = "numbers must be below 2**62 in magnitude to become integers"
        raise ValueError(msg)
    return rounding_right_shift(x.significand << x.exponent.clip(0, 38), (-x.exponent).clip(0, 62), rounding)


def to_dyadic(x: Float32) -> Dyadic:
    """Return the same numbers as dyadics.

    Raises
    ------
    ValueError
        If one is 2**31 or more, or takes bits below 2**-62.
    """
    left = x.exponent.clip(0, 31)
    drop = np.maximum(-x.exponent - 62, 0)
    multiplier = rounding_right_shift(x.significand, drop.clip(0, 62), Rounding.FLOOR)
    if ((multiplier << drop.clip(0, 38)) != x.significand).any():
        msg = "numbers must be multiples of 2**-62 to be dyadics"
        raise ValueError(msg)
    return Dyadic(multiplier << left, np.where(x.significand == 0, 0, (-x.exponent - drop).clip(0, 62)))


def multiply(x: Float32, y: Float32) -> Float32:
    """Return x * y rounded."""
    return _round(x.significand * y.significand, x.exponent + y.exponent)


def divide(x: Float32, y: Float32) -> Float32:
    """Return x / y rounded.

    Raises
    ------
    ValueError
        If some y is 0.
    """
    if (y.significand == 0).any():
        msg = "divisor must not be 0"
        raise ValueError(msg)
    x, y = _normalised(x), _normalised(y)
    # 2**50 over 2**24: at least 26 bits of quotient, then one that says whether anything is left
    dividend, divisor = np.abs(x.significand) << 27, np.abs(y.significand)
    quotient = dividend // divisor << 1 | (dividend % divisor > 0)
    return _round(
        np.where((x.significand < 0) != (y.significand < 0), -quotient, quotient), x.exponent - y.exponent - 28
    )


def add(x: Float32, y: Float32) -> Float32:
    """Return x + y rounded."""
    x, y = _normalised(x), _normalised(y)
    swap = y.exponent > x.exponent
    high, low = np.where(swap, y.significand, x.significand), np.where(swap, x.significand, y.significand)
    top, bottom = np.maximum(x.exponent, y.exponent), np.minimum(x.exponent, y.exponent)
    near = np.minimum(top - bottom, FAR)
    # farther than that, the low number is less than a quarter of the high one's last place: its sign will do
    addend: Int64 = np.where(top - bottom > FAR, np.sign(low), low)
    return _round((high << near) + addend, top - near)


def negate(x: Float32) -> Float32:
    """Return -x."""
    return Float32(-x.significand, x.exponent)


def maximum(x: Float32, y: Float32) -> Float32:
    """Return the larger of x and y."""
    larger = add(x, negate(y)).significand > 0  # a difference has the sign of the exact one
    return Float32(np.where(larger, x.significand, y.significand), np.where(larger, x.exponent, y.exponent))


def _normalised(x: Float32) -> Float32:
    """Return the same numbers with 24-bit significands; zero with the lowest exponent."""
    room = SIGNIFICAND_BITS - bit_length(np.abs(x.significand))
    zero = x.significand == 0
    return Float32(x.significand << room, np.where(zero, 2 * MIN_EXPONENT, x.exponent - room))


def _round(exact: Int64, exponent: Int64) -> Float32:
    """Return exact * 2**exponent rounded, |exact| < 2**62.

    Raises
    ------
    OverflowError
        If it is beyond the largest float32.
    """
    unit = (MIN_EXPONENT - exponent).clip(0, 62)
    rounded = round_to_significant(exact, SIGNIFICAND_BITS, unit=unit)
    drop = np.maximum(bit_length(np.abs(rounded)) - SIGNIFICAND_BITS, unit)
    significand = rounded >> drop
    zero = significand == 0
    result = Float32(significand, np.where(zero, 0, exponent + drop))
    if (result.exponent > MAX_EXPONENT).any():  # the significand has all its bits if it was dropped to
        result = _lowered(result)
    return result


def _lowered(x: Float32) -> Float32:
    left = (x.exponent - MAX_EXPONENT).clip(0, SIGNIFICAND_BITS)
    significand = x.significand << left
    if (np.abs(significand) >= 1 << SIGNIFICAND_BITS).any() or (x.exponent - left > MAX_EXPONENT).any():
        msg = "result must be a finite float32, got one of 2**128 or more"
        raise OverflowError(msg)
    return Float32(significand, x.exponent - left)
