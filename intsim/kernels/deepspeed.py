# SPDX-License-Identifier: Apache-2.0
"""DeepSpeed's quantizers (ZeroQuant) on integers: codes of float32 quotients.

Every step is one float32 operation rounded to nearest, ties to even, in the order of the formula; RHE rounds to an
integer, ties to even.

Source: ``deepspeed/compression/utils.py`` (``SymQuantizer``, ``AsymQuantizer``) at 15dc781, on CPU. Its expressions in
torch are held against this in tests/kernels/quotient_witnesses.py.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import IntRange, Rounding, saturate
from intsim.float32 import Float32, add, divide, from_integer, multiply, negate, to_integer

__all__ = ["quantize_asymmetric", "quantize_symmetric"]

Integers: TypeAlias = NDArray[np.integer[Any]]


def quantize_symmetric(x: Float32, largest: Float32, *, bits: int) -> tuple[Integers, Float32]:
    """Return sat(RHE(x / s)) and s = 2 largest / 2**bits, all codes of ``bits`` bits.

    Parameters
    ----------
    x
        Reals.
    largest
        max |x| of each group, broadcasting to ``x``.
    bits
        Of the codes.

    Raises
    ------
    ValueError
        If a group is all 0, for which theirs gives NaN.
    """
    scale = divide(largest, from_integer(np.array(1 << bits - 1)))
    return saturate(to_integer(divide(x, scale), Rounding.HALF_EVEN), IntRange(bits)), scale


def quantize_asymmetric(x: Float32, low: Float32, high: Float32, *, bits: int) -> tuple[Integers, Float32, Float32]:
    """Return clip(RHE((x - z) / s), 0, 2**bits - 1), s = (high - low) / 2**bits, and z = RHE(low / s) s, a real.

    Parameters
    ----------
    x
        Reals.
    low, high
        Of each group, broadcasting to ``x``; 0 need not lie between.
    bits
        Of the codes.

    Raises
    ------
    ValueError
        If low = high, for which theirs gives NaN.
    """
    scale = divide(add(high, negate(low)), from_integer(np.array(1 << bits)))
    zero = multiply(from_integer(to_integer(divide(low, scale), Rounding.HALF_EVEN)), scale)
    quotient = divide(add(x, negate(zero)), scale)
    return saturate(to_integer(quotient, Rounding.HALF_EVEN), IntRange(bits, signed=False)), scale, zero
