# SPDX-License-Identifier: Apache-2.0
"""I-ViT's Shiftmax, ShiftGELU and I-LayerNorm, on integers.

The released code carries integers in float32 tensors; here quotients are exact. exp(x) = 2**(x log2 e) with
log2 e ~ 1.0111 in binary and 2**r ~ 1 + r / 2 on (-1, 0], so that nothing is multiplied but what is divided.

Source: Li & Gu 2023 (I-ViT), as in models/quantization_utils/quant_modules.py; requantization is the rule ``hawq``.
"""

from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import Rounding, rounding_divide, rounding_right_shift

__all__ = ["isqrt", "layer_norm", "shift_exp", "shiftgelu", "shiftmax"]

Int64: TypeAlias = NDArray[np.int64]

FLOOR: Final = Rounding.FLOOR
LARGEST: Final = (1 << 31) - 1  # what sums are clamped to, and the dividend of reciprocals
OUTPUT_SHIFT: Final = 24  # from 31 bits to 7
SIGMOID_SLOPE: Final = Fraction("1.702")
NEWTON_START: Final = 1 << 16
NEWTON_STEPS: Final = 10


def shift_exp(x_q: Int64, *, scale: Fraction, bits: int) -> Int64:
    """Return exp(x) in codes of scale / 2**bits.

    With the scale S of the input::

        p = x + floor(x / 2) - floor(x / 16),   x_0 = floor(-1 / S),   q = floor(max(p, bits x_0) / x_0)
        r = max(p, bits x_0) - x_0 q,   e = floor((r / 2 - x_0) * 2**(bits - q))

    Parameters
    ----------
    x_q
        int64. Positive only where a row of ShiftGELU has only negative inputs.
    scale
        S, exactly.
    bits
        How far exp falls before it is cut off.

    Raises
    ------
    ValueError
        If e could leave int64.

    Bounds
    ------
    r in (x_0, 0], so |x_0| < r - 2 x_0 <= 2 |x_0|; q <= bits, and r = 0 where they are equal: no floor drops anything
    of e, which is at least |x_0|.
    """
    x_0 = -1 // scale
    p = x_q + rounding_right_shift(x_q, 1, FLOOR) - rounding_right_shift(x_q, 4, FLOOR)
    p = np.maximum(p, bits * x_0)
    q = rounding_divide(-p, np.array(-x_0), FLOOR)
    left = bits - 1 - q
    if left.size and (-2 * x_0).bit_length() + int(left.max()) > 62:
        msg = f"x_q must keep exp below 2**62, got {x_q.max()} at scale {scale}"
        raise ValueError(msg)
    r = p - x_0 * q
    return rounding_right_shift((r - 2 * x_0) << np.maximum(left, 0), np.maximum(-left, 0), FLOOR)


def _share(e: Int64, total: Int64) -> Int64:
    """Return floor(e * floor((2**31 - 1) / total) / 2**24): e over total in codes of 2**-7."""
    factor = rounding_divide(np.array(LARGEST), np.minimum(total, LARGEST), FLOOR)
    return rounding_right_shift(e * factor, OUTPUT_SHIFT, FLOOR)


def shiftmax(x_q: Int64, *, scale: Fraction, bits: int = 15, mask: NDArray[np.bool_] | None = None) -> Int64:
    """Return softmax over the last axis, in codes of 2**-7.

    With e = shift_exp(x_q - max x_q)::

        probs = floor(e * floor((2**31 - 1) / min(sum e, 2**31 - 1)) / 2**24)

    Parameters
    ----------
    x_q
        (..., T) int64.
    scale
        Of the input.
    bits
        15 in the released code, where it depends on the model.
    mask
        True where a position counts; elsewhere its e is 0. The released code has none.

    Returns
    -------
    ndarray
        int64 in [0, 127] while sum e < 2**31, that is about T / S < 2**16 for 15 bits; beyond it nothing is normalised.

    Raises
    ------
    ValueError
        As ``shift_exp``.
    """
    seen = x_q if mask is None else np.where(mask, x_q, x_q.min(initial=0))
    e = shift_exp(np.minimum(x_q - seen.max(axis=-1, keepdims=True), 0), scale=scale, bits=bits)
    e = e if mask is None else np.where(mask, e, 0)
    return _share(e, np.maximum(e.sum(axis=-1, keepdims=True), 1))


def shiftgelu(x_q: Int64, *, scale: Fraction, bits: int = 23) -> Int64:
    """Return x sigmoid(1.702 x) in codes of scale / 2**7.

    With e = shift_exp at the scale 1.702 S and the largest m of the row::

        sigmoid = floor(e(x - m) * floor((2**31 - 1) / min(e(x - m) + e(-m), 2**31 - 1)) / 2**24),   y_q = x_q sigmoid

    An element's result depends on its row.

    Parameters
    ----------
    x_q
        (..., C) int64.
    scale
        S, exactly.
    bits
        23 in the released code, where it depends on the model.

    Returns
    -------
    ndarray
        int64; sigmoid is in [0, 127] while the sum is below 2**31, that is S > 2**-7 / 1.702 for 23 bits.

    Raises
    ------
    ValueError
        As ``shift_exp``.
    """
    slope = scale * SIGMOID_SLOPE
    largest = x_q.max(axis=-1, keepdims=True)
    e = shift_exp(x_q - largest, scale=slope, bits=bits)
    enough = (32 - bits) * -(-1 // slope)  # exp of it is beyond 2**31, and so is the sum
    return x_q * _share(e, e + shift_exp(np.minimum(-largest, enough), scale=slope, bits=bits))


def isqrt(n: Int64) -> Int64:
    """Return k after ten steps k <- floor((k + floor(n / k)) / 2) from 2**16: no square root below about 180 000.

    Parameters
    ----------
    n
        int64, at least 0. 0 to 4 give 64, 1000 gives 68; k**2 - 1 may give k.
    """
    k = np.full_like(n, NEWTON_START)
    for _ in range(NEWTON_STEPS):  # k is at least 64: it loses at most one bit a step
        k = rounding_right_shift(k + rounding_divide(n, k, FLOOR), 1, FLOOR)
    return k


def layer_norm(x_q: Int64, *, bias: Int64) -> Int64:
    """Normalise over the last axis, in codes of sqrt(N) / 2**30 times the weight of the channel.

    ::

        y = x - RHE(sum x / N),   v = sum y**2,   out = floor(y * floor((2**31 - 1) / isqrt(v)) / 2) + bias

    Parameters
    ----------
    x_q
        (..., N) int64.
    bias
        (N,) int64: floor(beta / gamma * 2**30 / sqrt(N)).

    Bounds
    ------
    |y| < 2**31, and v < 2**62.
    """
    channels = np.array(x_q.shape[-1])
    y = x_q - rounding_divide(x_q.sum(axis=-1, keepdims=True), channels, Rounding.HALF_EVEN)
    factor = rounding_divide(np.array(LARGEST), isqrt((y * y).sum(axis=-1, keepdims=True)), FLOOR)
    return rounding_right_shift(y * factor, 1, FLOOR) + bias
