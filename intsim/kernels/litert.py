# SPDX-License-Identifier: Apache-2.0
"""LiteRT: how scales become multipliers, and the six requantizations behind FULLY_CONNECTED and BATCH_MATMUL.

A scale is the ``Fraction`` that its float32 is exactly. LiteRT combines scales in float32 or float64 when a model is
prepared; ``nearest`` is that rounding, so that no float is needed here. RHU, RHA and RHE round halves up, away from
zero and to even; sat clips to the output's codes.

===================================== =======================================================================
``requantize_reference``              the reference resolver; int16 activations with int64 bias, every resolver
``requantize_ruy``                    the optimized resolver on x86
``requantize_gemmlowp``               BATCH_MATMUL, both resolvers
``requantize_single``                 FULLY_CONNECTED and BATCH_MATMUL of builds that round once, CMSIS-NN's too
``requantize_int64``                  int16 activations and weights, every resolver
``requantize_xnnpack``                XNNPACK, the default delegate, on x86
===================================== =======================================================================

LiteRT, TFLM and CMSIS-NN are compiled to scale integers in one of two ways, an ``Mbqm``: gemmlowp's two roundings,
``multiply_by_quantized_multiplier``, which is the default of all three, or ``multiply_by_quantized_multiplier_single``.

Source: LiteRT 2.3.0, ``kernels/fully_connected.cc`` and ``kernels/internal/{common,quantization_util}.cc``; XNNPACK's
``src/microparams-init.c``; ruy's rule was found by experiment. Held against them in tests/kernels/litert_witnesses.py.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import (
    INT32,
    Dyadic,
    IntRange,
    Rounding,
    bit_length,
    round_fraction,
    round_to_significant,
    rounding_right_shift,
    saturate,
)
from intsim.float32 import Float32
from intsim.kernels.gemmlowp import saturating_rounding_doubling_high_mul

__all__ = [
    "FLOAT32",
    "FLOAT64",
    "Mbqm",
    "Requantize",
    "by_blocks",
    "float32_of",
    "matmul",
    "multipliers",
    "multipliers_int64",
    "multiply_by_quantized_multiplier",
    "multiply_by_quantized_multiplier_single",
    "nearest",
    "quantize_multiplier",
    "requantize_gemmlowp",
    "requantize_int64",
    "requantize_reference",
    "requantize_ruy",
    "requantize_single",
    "requantize_xnnpack",
]

Int64: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.integer]
Mbqm: TypeAlias = Callable[[Int64, Dyadic], Int64]
Requantize: TypeAlias = Callable[[Int64, Sequence[Fraction], Fraction], Int64]

FLOAT32: Final = 24  # bits of the significand
FLOAT64: Final = 53


def nearest(x: Fraction, bits: int) -> Fraction:
    """Return x rounded to ``bits`` significant bits, ties to even: what a float of that precision holds of it."""
    if x == 0:
        return x
    numerator, denominator = abs(x.numerator), x.denominator
    shift = bits - numerator.bit_length() + denominator.bit_length()
    if (
        numerator * Fraction(2) ** shift >= denominator << bits
    ):  # before, |x| * 2**shift is in [2**(bits-1), 2**(bits+1))
        shift -= 1
    return round_fraction(x * Fraction(2) ** shift, Rounding.HALF_EVEN) * Fraction(2) ** -shift


def float32_of(x: Fraction) -> Float32:
    """Return a positive number of at most 24 significant bits as a ``Float32``."""
    significand, shift = _significand(x, FLOAT32)
    return Float32(np.array(significand, np.int64), np.array(-shift, np.int64))


def quantize_multiplier(real: Fraction) -> Dyadic:
    """Return m / 2**(31 - e) for real = q * 2**e, q in [1/2, 1): m = RHA(q * 2**31), renormalised at 2**31.

    Anything with e < -31 is 0.

    Raises
    ------
    ValueError
        If ``real`` is 2**31 or more.
    """
    if real == 0:
        return Dyadic(0, 31)
    e = real.numerator.bit_length() - real.denominator.bit_length()
    e += real >= Fraction(2) ** e
    m = round_fraction(real * Fraction(2) ** (31 - e), Rounding.HALF_AWAY)
    if m == 1 << 31:
        m, e = 1 << 30, e + 1
    return Dyadic(m, 31 - e) if e >= -31 else Dyadic(0, 31)


def multiply_by_quantized_multiplier(x: Int64, ratio: Dyadic, rounding: Rounding = Rounding.HALF_AWAY) -> Int64:
    """Return RND(RHU(x * 2**max(e, 0) * m / 2**31) / 2**max(-e, 0)), e = 31 - ratio.shift.

    Bounds
    ------
    x * 2**max(e, 0) within int32: not checked, and the kernel wraps beyond.
    """
    e = 31 - ratio.shift
    high = saturating_rounding_doubling_high_mul(x << np.maximum(e, 0), ratio.multiplier)
    return rounding_right_shift(high, np.maximum(-e, 0), rounding)


def multiply_by_quantized_multiplier_single(x: Int64, ratio: Dyadic) -> Int64:
    """Return RHU(x * m / 2**(31 - e)), one rounding; m / 2**(31 - e) at 2**30 or above is (2**31 - 1) / 2.

    Rule ``tflite-single``, of builds with TFLITE_SINGLE_ROUNDING or CMSIS_NN_USE_SINGLE_ROUNDING.

    Bounds
    ------
    x within int32; the result in int32, where kernels wrap.
    """
    multiplier = np.where(ratio.shift, ratio.multiplier, INT32.max)
    return rounding_right_shift(x * multiplier, np.maximum(ratio.shift, 1), Rounding.HALF_UP)


def requantize_gemmlowp(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return RHA(RHU(acc * m / 2**31) / 2**-e): gemmlowp's two roundings, rule ``tflite-double``."""
    return multiply_by_quantized_multiplier(acc, multipliers(scales, y_scale))


def requantize_single(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return RHU(acc * m / 2**(31 - e)): one rounding, rule ``tflite-single``."""
    return multiply_by_quantized_multiplier_single(acc, multipliers(scales, y_scale))


def requantize_ruy(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return RHU(RHU(acc * m / 2**31) / 2**-e): two roundings as well, but both send halves up."""
    return multiply_by_quantized_multiplier(acc, multipliers(scales, y_scale), Rounding.HALF_UP)


def requantize_int64(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return RHU(acc * m / 2**(15 - e)), m = min(RHU(m31 / 2**16), 2**15 - 1): one rounding, 15-bit multiplier.

    Bounds
    ------
    |acc| < 2**47, -31 <= e < 8, the result in int32.
    """
    ratio = multipliers_int64(scales, y_scale)
    return rounding_right_shift(acc * ratio.multiplier, ratio.shift, Rounding.HALF_UP)


def requantize_reference(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return RHA(F(acc * F(scale / y_scale))), F rounding to the 53 significant bits of float64.

    The inner F decides: F(0.3) is below 0.3 and 5 F(0.3) below 1.5, but F(5 F(0.3)) is 1.5, so that the result is 2.

    Bounds
    ------
    |acc| < 2**53, the result in int32.
    """
    ratios = [_significand(nearest(Fraction(scale, y_scale), FLOAT64), FLOAT64) for scale in scales]
    significand, shift = (np.array(part, np.int64) for part in zip(*ratios, strict=True))
    length = bit_length(np.abs(acc))
    a = np.abs(acc) << FLOAT64 - length
    # a * significand, 105 or 106 bits, in limbs of 27, without its lowest 44 bits. What lies beside an integer and a
    # half becomes it from exactly halfway on, since its significand is even, and halfway is a multiple of 2**51.
    mask = (1 << 27) - 1
    (a1, a0), (s1, s0) = ((rounding_right_shift(x, 27, Rounding.FLOOR), x & mask) for x in (a, significand))
    middle = a1 * s0 + a0 * s1 + rounding_right_shift(a0 * s0, 27, Rounding.FLOOR)
    product = (a1 * s1 << 10) + rounding_right_shift(middle, 17, Rounding.FLOOR)
    rounded = rounding_right_shift(round_to_significant(product, FLOAT64), 8, Rounding.FLOOR)  # exact
    drop = shift + FLOAT64 - length - 44 - 8
    return np.sign(acc) * rounding_right_shift(rounded, drop.clip(0, 62), Rounding.HALF_AWAY)


def requantize_xnnpack(acc: Int64, scales: Sequence[Fraction], y_scale: Fraction) -> Int64:
    """Return RHE(F(F(acc) * F(F(scale) / y_scale))), F rounding to the 24 significant bits of float32.

    Rule ``xnnpack-fp32``.

    Bounds
    ------
    |acc| < 2**31, 2**-32 <= F(F(scale) / y_scale) < 2**8, outside of which XNNPACK declines.
    """
    ratios = [_significand(nearest(Fraction(nearest(scale, FLOAT32), y_scale), FLOAT32), FLOAT32) for scale in scales]
    significand, shift = (np.array(part, np.int64) for part in zip(*ratios, strict=True))
    product = round_to_significant(round_to_significant(acc, FLOAT32) * significand, FLOAT32)
    return rounding_right_shift(product, shift, Rounding.HALF_EVEN)


def by_blocks(size: int, block: Callable[..., Integers], rest: Callable[..., Integers], *arrays: Integers) -> Integers:
    """Return ``block`` of the elements in whole blocks of ``size``, in memory order, and ``rest`` of those left over.

    The optimized resolver runs NEON intrinsics, translated to SSE on x86, over whole blocks and scalar code over the
    rest, and the two do not round alike.
    """
    whole = arrays[0].size - arrays[0].size % size
    flat = [array.ravel() for array in arrays]
    parts = block(*(array[:whole] for array in flat)), rest(*(array[whole:] for array in flat))
    return np.concatenate(parts).reshape(arrays[0].shape)


def matmul(
    x_q: Integers,
    w_q: Integers,
    bias: Integers | None = None,
    *,
    scales: tuple[Fraction, Sequence[Fraction], Fraction],
    zero_points: tuple[int, int, int],
    to: IntRange,
    requantize: Requantize,
) -> Integers:
    """Return sat(requantize(sum_k (x_k - zx) (w_nk - zw) + bias_n) + zy): FULLY_CONNECTED, BATCH_MATMUL with adj_y.

    Parameters
    ----------
    x_q, w_q
        (..., M, K) and (..., N, K) codes.
    bias
        (N,) integers of scale x w, or None.
    scales
        Of x, of w (one, or one per n), and of the result.
    zero_points
        Of x, of w and of the result.
    to
        Codes of the result.
    requantize
        One of this module's, each for the kernels it names.

    Returns
    -------
    ndarray
        (..., M, N) codes.

    Bounds
    ------
    The sum in int32, where kernels wrap; in the bounds of ``requantize`` for 16-bit activations.
    """
    x_scale, w_scales, y_scale = scales
    x_zero_point, w_zero_point, y_zero_point = zero_points
    acc = (x_q.astype(np.int64) - x_zero_point) @ (w_q.astype(np.int64) - w_zero_point).swapaxes(-1, -2)
    if bias is not None:
        acc = acc + bias
    return saturate(requantize(acc, [x_scale * w_scale for w_scale in w_scales], y_scale) + y_zero_point, to)


def multipliers(scales: Sequence[Fraction], y_scale: Fraction) -> Dyadic:
    """Return m and 31 - e of D(scale / y_scale), or of D(F(scale) / y_scale) where there is one scale for all.

    D rounds to float64, F to float32.
    """
    products = scales if len(scales) > 1 else [nearest(scales[0], FLOAT32)]
    ratios = [quantize_multiplier(nearest(Fraction(product, y_scale), FLOAT64)) for product in products]
    return Dyadic([int(ratio.multiplier) for ratio in ratios], [int(ratio.shift) for ratio in ratios])


def multipliers_int64(scales: Sequence[Fraction], y_scale: Fraction) -> Dyadic:
    """Return the m and 15 - e of ``requantize_int64``."""
    ratio = multipliers(scales, y_scale)
    narrow = np.minimum(rounding_right_shift(ratio.multiplier, 16, Rounding.HALF_UP), (1 << 15) - 1)
    return Dyadic(narrow, ratio.shift - 16)


def _significand(ratio: Fraction, bits: int) -> tuple[int, int]:
    """Return (s, t) with ratio = s / 2**t exactly and 2**(bits-1) <= s < 2**bits."""
    shift = bits - ratio.numerator.bit_length() + ratio.denominator.bit_length() - 1  # the denominator is 2**k
    return int(ratio * Fraction(2) ** shift), shift
