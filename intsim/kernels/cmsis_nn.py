# SPDX-License-Identifier: Apache-2.0
"""CMSIS-NN, where it is not LiteRT: what wraps, and the rows that its 16-bit softmax does not saturate.

Everything else of it that this package was held against is LiteRT's rule: ADD, MUL and FULLY_CONNECTED with either way
of scaling (``litert.Mbqm``), softmax of int8 codes while its exponentials sum to less than 512.

Source: CMSIS-NN at commit 99f736a (July 2026), ``arm_nnsupportfunctions.h`` and ``arm_softmax_s16.c``. Held against its
C code in tests/kernels/cmsis_nn_witnesses.py, but for the rule of its vector instructions.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT16, INT32, Dyadic, IntRange, Rounding, rounding_right_shift, saturate
from intsim.kernels import litert
from intsim.kernels.litert_nonlinear import exp_table, quotients_int16, ratio_int16, reciprocal_table

__all__ = ["requantize_int64", "requantize_mve_single", "softmax_int16"]

Int64: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.integer]


def requantize_mve_single(x: Int64, ratio: Dyadic) -> Int64:
    """Return RHU(floor(wrap32(x * 2**left) * m / 2**31) / 2**right), right = max(1, -e), left = e + right.

    With single rounding on cores with vector instructions (Cortex-M55, M85). It is ``tflite-single`` until the operand
    wraps: at e >= 0, from |x| 2**(e + 1) = 2**31 on, half of what the scalar code takes.

    Source
    ------
    ``arm_requantize_mve``: VSHL, which wraps, VQDMULH, which floors, VRSHL.
    """
    right = np.maximum(ratio.shift - 31, 1)
    shifted = _wrap(x << 31 - ratio.shift + right, INT32)
    high = rounding_right_shift(shifted * ratio.multiplier, 31, Rounding.FLOOR)
    return rounding_right_shift(high, right, Rounding.HALF_UP)


def requantize_int64(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return floor(wrap32(floor(acc * m / 2**(14 - e)) + 1) / 2): ``litert.requantize_int64`` until it wraps.

    The quotient with one bit left is an int32, so that results of 2**30 and above, or below -2**30, come out wrapped.

    Source
    ------
    ``arm_nn_requantize_s64``, of FULLY_CONNECTED and BATCH_MATMUL of int16 codes.
    """
    ratio = litert.multipliers_int64(scales, y_scale)
    quotient = rounding_right_shift(acc * ratio.multiplier, ratio.shift - 1, Rounding.FLOOR)
    return rounding_right_shift(_wrap(quotient + 1, INT32), 1, Rounding.FLOOR)


def softmax_int16(
    x_q: Integers,
    *,
    scale: Fraction,
    beta: Fraction = Fraction(1),
    mbqm: litert.Mbqm = litert.multiply_by_quantized_multiplier,
) -> Integers:
    """Return ``litert_nonlinear.softmax_int16``, wrapped where that saturates: -2**15 in a row of one column.

    In longer rows exponentials of at least 1 leave no quotient above 2**15 - 1.

    Source
    ------
    ``arm_softmax_s16``.
    """
    ratio = ratio_int16(litert.nearest(scale * beta, litert.FLOAT32))
    y = quotients_int16(x_q, ratio=ratio, tables=(exp_table(), reciprocal_table()), mbqm=mbqm)
    return saturate(_wrap(y, INT16), INT16)


def _wrap(x: Int64, to: IntRange) -> Int64:
    return ((x - to.min) & (1 << to.bits) - 1) + to.min
