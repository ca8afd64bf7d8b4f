# SPDX-License-Identifier: Apache-2.0
"""The fused multiply-add of binary32: x * y + z with one rounding, what vfmadd computes."""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import Rounding, bit_length, round_to_significant, rounding_right_shift
from intsim.float32 import Float32

__all__ = ["fused_multiply_add"]

Int64: TypeAlias = NDArray[np.int64]

SIGNIFICAND_BITS: Final = 24
PRODUCT_BITS: Final = 48
ROOM: Final = 12  # 48 bits and 12 more places, and the sum of two such numbers, stay below 2**62
MIN_EXPONENT: Final = -149  # of the lowest bit
MAX_EXPONENT: Final = 104
ZERO_EXPONENT: Final = -400  # below that of any product, so that a zero is never the high operand


def fused_multiply_add(x: Float32, y: Float32, z: Float32) -> Float32:
    """Return x * y + z rounded once, to nearest, ties to even.

    Parameters
    ----------
    x, y, z
        float32 numbers that broadcast.

    Raises
    ------
    OverflowError
        If a result is 2**128 or more.

    Bounds
    ------
    Product and addend are aligned as 48-bit integers. Where they are more than 12 places apart, the bits of the low one
    that fall below are folded into its last place, which is 36 places below the last place of the result at least.
    """
    product, product_exponent = _normalised(x.significand * y.significand, x.exponent + y.exponent)
    addend, addend_exponent = _normalised(z.significand + 0 * product, z.exponent + 0 * product_exponent)
    swap = addend_exponent > product_exponent
    high, low = np.where(swap, addend, product), np.where(swap, product, addend)
    apart = np.abs(product_exponent - addend_exponent)
    fallen = (apart - ROOM).clip(0, 62)
    kept = rounding_right_shift(low, fallen, Rounding.FLOOR)
    kept = kept | (kept << fallen != low)
    near = np.minimum(apart, ROOM)
    return _round((high << near) + kept, np.maximum(product_exponent, addend_exponent) - near)


def _normalised(n: Int64, exponent: Int64) -> tuple[Int64, Int64]:
    room = PRODUCT_BITS - bit_length(np.abs(n))
    return n << room, np.where(n == 0, ZERO_EXPONENT, exponent - room)


def _round(exact: Int64, exponent: Int64) -> Float32:
    unit = (MIN_EXPONENT - exponent).clip(0, 62)
    rounded = round_to_significant(exact, SIGNIFICAND_BITS, unit=unit)
    drop = np.maximum(bit_length(np.abs(rounded)) - SIGNIFICAND_BITS, unit)
    significand = rounding_right_shift(rounded, drop, Rounding.FLOOR)
    exponent = np.where(significand == 0, 0, exponent + drop)
    if (exponent > MAX_EXPONENT).any():
        msg = f"result must be below 2**128, got one of 2**{exponent.max() + SIGNIFICAND_BITS - 1} or more"
        raise OverflowError(msg)
    return Float32(significand, exponent)
