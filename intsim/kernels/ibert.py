# SPDX-License-Identifier: Apache-2.0
"""I-BERT as its authors' code and its port in transformers compute it, on integers.

That code differs from the paper (profile ``ibert``), and carries its integers in float tensors as multiples of a scale.
Here they are integers, quotients and roots are exact, and a scale is the exact rational that decides the constants.
Requantization is the rule ``hawq``, ratio by ratio; a residual sum rounds each operand (``Profile.sum`` "each").

Source: transformers 5.23, models/ibert/quant_modules.py; Kim et al. 2021.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT16, Dyadic, Rounding, isqrt, rounding_divide, rounding_right_shift, saturate
from intsim.float32 import Float32, divide, from_integer, multiply, to_integer

__all__ = ["exp", "exp_constants", "gelu", "gelu_constants", "layer_norm", "normalise", "quantize", "softmax"]

Int64: TypeAlias = NDArray[np.int64]

LN2: Final = Fraction("0.6931")
EXP_A: Final = Fraction("0.35815147")  # exp(p) ~ a p**2 + b p + 1, the paper's 0.3585 (p + 1.353)**2 + 0.344
EXP_B: Final = Fraction("0.96963238")
MAX_HALVINGS: Final = 30
SQRT2: Final = Fraction("1.4142")
ERF_A: Final = Fraction("-0.2888")
ERF_B: Final = Fraction("-1.769")
ERF_SHIFT: Final = 14
MAX_SHIFT: Final = 62


def quantize(x: Float32, scale: Float32, *, bits: int) -> Int64:
    """Return min(max(RHE(x * (1 / scale)), -n), n - 1) for n = 2**(bits - 1) - 1: the largest value becomes n - 1.

    Parameters
    ----------
    x, scale
        float32 numbers that broadcast; the scale is max |x| / n.
    bits
        Width of the codes.

    Bounds
    ------
    The reciprocal and the product are rounded to float32; the result is below 2**62 before it is clipped.

    Source
    ------
    ``SymmetricQuantFunction``: ``linear_quantize``, then ``clamp(-n, n - 1)``.
    """
    n = (1 << (bits - 1)) - 1
    one = from_integer(np.ones_like(scale.significand))
    return to_integer(multiply(x, divide(one, scale)), Rounding.HALF_EVEN).clip(-n, n - 1)


def exp(x_q: Int64, *, scale: Fraction) -> tuple[Int64, Int64]:
    """Return L and z of exp(x) ~ a S**2 L / 2**z for x <= 0.

    With the scale S of the input::

        x_0 = floor(-0.6931 / S),   q_b = floor(b / (a S)),   q_c = floor(1 / (a S**2))
        z = floor(max(x_q, 30 x_0) / x_0),   r = max(x_q, 30 x_0) - x_0 z,   L = (r + q_b) r + q_c

    The code's exp is L * 2**(30 - z), an integer for every z.

    Parameters
    ----------
    x_q
        int64, at most 0.
    scale
        S, exactly.

    Raises
    ------
    ValueError
        If S leaves no bit or more than 30 bits for q_c.

    Bounds
    ------
    0 <= L <= q_c < 2**30 and 0 <= z <= 30: r in (x_0, 0], and q_b + x_0 > 0.

    Source
    ------
    ``IntSoftmax.int_exp``.
    """
    x_0, q_b, q_c = exp_constants(scale)
    x_q = np.maximum(x_q, MAX_HALVINGS * x_0)
    z = rounding_divide(-x_q, np.array(-x_0), Rounding.FLOOR)
    r = x_q - x_0 * z
    return (r + q_b) * r + q_c, z


@lru_cache(maxsize=64)
def exp_constants(scale: Fraction) -> tuple[int, int, int]:
    """Return x_0, q_b and q_c of ``exp``.

    Parameters
    ----------
    scale
        S of the input, exactly.

    Raises
    ------
    ValueError
        If q_c is not in [1, 2**30).
    """
    x_0, q_b, q_c = -LN2 // scale, EXP_B // (EXP_A * scale), 1 // (EXP_A * scale**2)
    if not 1 <= q_c < 1 << 30:
        msg = f"scale must give q_c in [1, 2**30), got {scale} and {q_c}"
        raise ValueError(msg)
    return x_0, q_b, q_c


def softmax(x_q: Int64, *, scale: Fraction, ratio: Dyadic, mask: NDArray[np.bool_] | None = None) -> Int64:
    """Return softmax over the last axis, in codes of 2**-8.

    With d = x_q - max x_q and (L, z) = exp(d)::

        e = saturate16(RHE(L * multiplier / 2**(shift + z))),   probs = normalise(e)

    Parameters
    ----------
    x_q
        (..., T) int64.
    scale
        Of the input.
    ratio
        Scale of L, which is a S**2, over the scale of the 16-bit activation e; positive.
    mask
        True where a position counts; elsewhere its e is 0. The code adds a large negative number instead.

    Raises
    ------
    ValueError
        As ``exp``.

    Bounds
    ------
    L * multiplier < 2**61, so a shift above 62 gives the 0 that 62 gives.

    Source
    ------
    ``IntSoftmax``. Its ``QuantAct`` is handed exp as if it were a multiple of the scale of exp, so that the ratio there
    is 2**30 over the 16-bit scale.
    """
    seen = x_q if mask is None else np.where(mask, x_q, x_q.min(initial=0))
    polynomial, z = exp(np.minimum(x_q - seen.max(axis=-1, keepdims=True), 0), scale=scale)
    shift = np.minimum(ratio.shift + z, MAX_SHIFT)
    e = saturate(rounding_right_shift(polynomial * ratio.multiplier, shift, Rounding.HALF_EVEN), INT16)
    return normalise(e.astype(np.int64) if mask is None else np.where(mask, e, np.int64(0)))


def normalise(e: Int64) -> Int64:
    """Return floor(e * floor(2**32 / sum e) / 2**24) over the last axis, in codes of 2**-8.

    Parameters
    ----------
    e
        (..., T) int64 in [0, 2**15).

    Returns
    -------
    ndarray
        int64 in [0, 256]: 256 where a row has one nonzero e and that is a power of two. A row need not sum to 256;
        one of zeros gives zeros, where the code gives NaN.

    Bounds
    ------
    e * factor <= 2**32 because e <= sum e.
    """
    total = np.maximum(e.sum(axis=-1, keepdims=True), 1)
    factor = rounding_divide(np.array(1 << 32), total, Rounding.FLOOR)
    return rounding_right_shift(e * factor, 24, Rounding.FLOOR)


def gelu(x_q: Int64, *, scale: Fraction) -> Int64:
    """Return x Phi(x) in codes of S S_erf / 2, which is negative: S_erf = 2**14 a (S / k)**2.

    With k = 1.4142, a = -0.2888 and b = -1.769::

        q_b = floor(b k / S),   q_c = floor(k**2 / (a S**2)),   q_1 = floor(1 / S_erf)
        q_erf = floor(sgn(x_q) * ((min(|x_q|, -q_b) + q_b)**2 + q_c) / 2**14),   y_q = x_q (q_erf + q_1)

    Parameters
    ----------
    x_q
        int64, usually an int32 accumulator.
    scale
        S of the input, exactly.

    Raises
    ------
    ValueError
        If q_b**2 takes more than 61 bits, or the product could leave int64.

    Source
    ------
    ``IntGELU``.
    """
    q_b, q_c, q_1 = gelu_constants(scale)
    magnitude = np.abs(x_q)
    if x_q.size and int(magnitude.max()) * (1 - 2 * q_1) >> MAX_SHIFT:
        msg = f"x_q must keep the product below 2**62, got {magnitude.max()} at scale {scale}"
        raise ValueError(msg)
    parabola = np.sign(x_q) * ((np.minimum(magnitude, -q_b) + q_b) ** 2 + q_c)
    return x_q * (rounding_right_shift(parabola, ERF_SHIFT, Rounding.FLOOR) + q_1)


@lru_cache(maxsize=64)
def gelu_constants(scale: Fraction) -> tuple[int, int, int]:
    """Return q_b, q_c and q_1 of ``gelu``, all negative.

    Parameters
    ----------
    scale
        S of the input, exactly.

    Raises
    ------
    ValueError
        If q_b**2 or -q_c takes more than 61 bits.
    """
    area = ERF_A * scale**2
    q_b, q_c, q_1 = ERF_B * SQRT2 // scale, SQRT2**2 // area, SQRT2**2 // (area * (1 << ERF_SHIFT))
    if max(q_b**2, -q_c) >> 61:
        msg = f"scale must keep q_b**2 and q_c below 2**61, got {scale}"
        raise ValueError(msg)
    return q_b, q_c, q_1


def layer_norm(x_q: Int64, *, bias: Int64, shift: int) -> Int64:
    """Normalise over the last axis, in codes of sqrt(N) / 2**30 times the weight of the channel.

    ::

        y = x - RHE(sum x / N),   v = sum floor(y / 2**shift)**2,   std = isqrt(v) * 2**shift
        out = floor(y * floor(2**31 / std) / 2) + bias

    Parameters
    ----------
    x_q
        (..., N) int64.
    bias
        (N,) int64: floor(beta / gamma * 2**30 / sqrt(N)).
    shift
        What training found necessary to keep v below 2**32.

    Raises
    ------
    ValueError
        If v of a row is 0, where the code gives NaN (it ignores eps), or 2**62 or more.

    Bounds
    ------
    |y| < 2**32 and factor <= 2**31.

    Source
    ------
    ``IntLayerNorm``; ``isqrt`` is the "integer-sqrt kernel" that it announces.
    """
    channels = np.array(x_q.shape[-1])
    y = x_q - rounding_divide(x_q.sum(axis=-1, keepdims=True), channels, Rounding.HALF_EVEN)
    root = isqrt((rounding_right_shift(y, shift, Rounding.FLOOR) ** 2).sum(axis=-1, keepdims=True))
    if (root < 1).any():
        msg = "every row of x_q must have a positive variance after the shift, got 0"
        raise ValueError(msg)
    factor = rounding_divide(np.array(1 << 31), root << shift, Rounding.FLOOR)
    return rounding_right_shift(y * factor, 1, Rounding.FLOOR) + bias
