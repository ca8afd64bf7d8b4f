# SPDX-License-Identifier: Apache-2.0
"""LiteRT, codes of one scale to codes of another: QUANTIZE, DEQUANTIZE, LEAKY_RELU, ABS.

Scales are the ``Fraction`` that their float32 is. MBQM is ``litert.multiply_by_quantized_multiplier``, gemmlowp's two
roundings, or the parameter ``mbqm`` (``litert.Mbqm``), QM ``litert.quantize_multiplier``; F rounds to the 24 bits of
float32, D to the 53 of float64.

Source: LiteRT 2.3.0, ``kernels/{quantize,dequantize,activations,elementwise}.cc`` and the headers they name; XNNPACK's
``src/microparams-init.c``. Held against them in tests/kernels/litert_conversion_witnesses.py.
"""

from fractions import Fraction
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim import float32
from intsim.fixedpoint import INT8, IntRange, Rounding, round_fraction, rounding_divide, rounding_right_shift, saturate
from intsim.float32 import Float32
from intsim.kernels.litert import (
    FLOAT32,
    FLOAT64,
    Mbqm,
    by_blocks,
    float32_of,
    multiply_by_quantized_multiplier,
    nearest,
    quantize_multiplier,
)
from intsim.kernels.litert_elementwise import product_ratio

__all__ = [
    "absolute",
    "dequantize",
    "dequantize_optimized",
    "leaky_relu",
    "leaky_relu_xnnpack",
    "quantize",
    "quantize_optimized",
    "quantize_xnnpack",
    "requantize",
    "requantize_optimized",
    "requantize_xnnpack",
]

Integers: TypeAlias = NDArray[np.integer]
Scales: TypeAlias = tuple[Fraction, Fraction]
ZeroPoints: TypeAlias = tuple[int, int]

FLOAT_BLOCK: Final = 8  # elements of a loop of the optimized resolver
BLOCK: Final = 16


def quantize(x: Float32, *, scale: Fraction, zero_point: int, to: IntRange) -> Integers:
    """Return sat(RHA(F(x / scale)) + zero_point): QUANTIZE of float32, reference resolver.

    Bounds
    ------
    |x / scale| < 2**31.
    """
    quotient = float32.divide(x, float32_of(scale))
    return saturate(float32.to_integer(quotient, Rounding.HALF_AWAY) + zero_point, to)


def quantize_xnnpack(x: Float32, *, scale: Fraction, zero_point: int, to: IntRange = INT8) -> Integers:
    """Return sat(RHE(F(x F(1 / scale))) + zero_point): a product with the reciprocal, not a quotient.

    Bounds
    ------
    2**-32 <= scale < 2**8; |x / scale| < 2**31.
    """
    product = float32.multiply(x, float32_of(nearest(Fraction(1, scale), FLOAT32)))
    return saturate(float32.to_integer(product, Rounding.HALF_EVEN) + zero_point, to)


def quantize_optimized(x: Float32, *, scale: Fraction, zero_point: int, to: IntRange) -> Integers:
    """Return ``quantize_xnnpack`` of every whole block of 8 elements, sat(RHA(x / scale) + zero_point) of the rest.

    QUANTIZE of float32, optimized resolver; to 16 bits under XNNPACK too, which declines it. The rest is divided in
    float64, and no tie is so near that the rounding of that quotient shows.

    Bounds
    ------
    2**-32 <= scale < 2**8; |x / scale| < 2**28.
    """

    def block(significand: Integers, exponent: Integers) -> Integers:
        numbers = Float32(significand.astype(np.int64), exponent.astype(np.int64))
        return quantize_xnnpack(numbers, scale=scale, zero_point=zero_point, to=to)

    def rest(significand: Integers, exponent: Integers) -> Integers:
        divisor = float32_of(scale)
        shift = exponent - divisor.exponent
        dividend = significand.astype(np.int64) << shift.clip(0, 38)
        quotient = rounding_divide(dividend, divisor.significand << (-shift).clip(0, 38), Rounding.HALF_AWAY)
        return saturate(quotient + zero_point, to)

    return by_blocks(FLOAT_BLOCK, block, rest, x.significand, x.exponent)


def dequantize(x_q: Integers, *, scale: Fraction, zero_point: int) -> Float32:
    """Return F(scale (x - zero_point)): DEQUANTIZE, reference resolver and XNNPACK, 16 bits of the optimized one."""
    return float32.multiply(float32.from_integer(x_q.astype(np.int64) - zero_point), float32_of(scale))


def dequantize_optimized(x_q: Integers, *, scale: Fraction, zero_point: int) -> Float32:
    """Return F(F(scale x) + F(-scale zero_point)) of every whole block of 8 elements, ``dequantize`` of the rest.

    DEQUANTIZE of 8 bits, optimized resolver.
    """
    whole = x_q.size - x_q.size % FLOAT_BLOCK
    flat = x_q.ravel()
    zero = float32.multiply(float32.from_integer(np.full(whole, -zero_point)), float32_of(scale))
    block = float32.add(dequantize(flat[:whole], scale=scale, zero_point=0), zero)
    rest = dequantize(flat[whole:], scale=scale, zero_point=zero_point)
    significand = np.concatenate([block.significand, rest.significand])
    exponent = np.concatenate([block.exponent, rest.exponent])
    return Float32(significand.reshape(x_q.shape), exponent.reshape(x_q.shape))


def requantize(
    x_q: Integers,
    *,
    scales: Scales,
    zero_points: ZeroPoints,
    to: IntRange,
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return sat(MBQM(x - zx, QM(D(sx / sy))) + zy): QUANTIZE of integers, every resolver but for 8 bits to 8."""
    ratio = quantize_multiplier(nearest(Fraction(*scales), FLOAT64))
    return saturate(mbqm(x_q.astype(np.int64) - zero_points[0], ratio) + zero_points[1], to)


def requantize_optimized(x_q: Integers, *, scales: Scales, zero_points: ZeroPoints) -> Integers:
    """Return ``requantize`` with its second rounding up in every whole block of 16 elements: 8 bits to 8."""
    of = partial(requantize, scales=scales, zero_points=zero_points, to=INT8)
    up = partial(multiply_by_quantized_multiplier, rounding=Rounding.HALF_UP)
    return by_blocks(BLOCK, partial(of, mbqm=up), of, x_q)


def requantize_xnnpack(x_q: Integers, *, scales: Scales, zero_points: ZeroPoints) -> Integers:
    """Return sat8(RHU((x - zx) m / 2**8) + zy), m = RHE(2**8 F(sx / sy)): 8 bits to 8.

    Bounds
    ------
    2**-8 <= F(sx / sy) <= 2**7, outside of which XNNPACK declines.
    """
    multiplier = _eight_fraction_bits(nearest(Fraction(*scales), FLOAT32))
    product = (x_q.astype(np.int64) - zero_points[0]) * multiplier
    return saturate(rounding_right_shift(product, 8, Rounding.HALF_UP) + zero_points[1], INT8)


def leaky_relu(
    x_q: Integers,
    *,
    alpha: Fraction,
    scales: Scales,
    zero_points: ZeroPoints,
    to: IntRange,
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return sat(MBQM(x - zx, QM(r)) + zy), r = F(sx / sy) where x >= zx, F(F(sx alpha) / sy) below.

    LEAKY_RELU, every resolver but for 8 bits under XNNPACK.

    Bounds
    ------
    alpha >= 0.
    """
    x = x_q.astype(np.int64) - zero_points[0]
    x_scale, y_scale = scales
    identity = quantize_multiplier(nearest(Fraction(x_scale, y_scale), FLOAT32))
    slope = quantize_multiplier(product_ratio((x_scale, alpha, y_scale)))
    return saturate(np.where(x >= 0, mbqm(x, identity), mbqm(x, slope)) + zero_points[1], to)


def leaky_relu_xnnpack(x_q: Integers, *, alpha: Fraction, scales: Scales, zero_points: ZeroPoints) -> Integers:
    """Return sat8(RHU((x - zx) m / 2**8) + zy), m = RHE(2**8 r): r = F(sx / sy) where x >= zx, F(r alpha) below.

    Bounds
    ------
    alpha >= 0; both r in [2**-8, 2**7], outside of which XNNPACK declines.
    """
    x = x_q.astype(np.int64) - zero_points[0]
    identity = nearest(Fraction(*scales), FLOAT32)
    slope = nearest(identity * alpha, FLOAT32)
    product = x * np.where(x >= 0, _eight_fraction_bits(identity), _eight_fraction_bits(slope))
    return saturate(rounding_right_shift(product, 8, Rounding.HALF_UP) + zero_points[1], INT8)


def absolute(x_q: Integers, *, scales: Scales, zero_points: ZeroPoints, to: IntRange) -> Integers:
    """Return sat(MBQM(|x - zx|, QM(F(sx / sy))) + zy): ABS, every resolver; of equal scales, nothing is multiplied."""
    magnitude = np.abs(x_q.astype(np.int64) - zero_points[0])
    if scales[0] != scales[1]:
        magnitude = multiply_by_quantized_multiplier(
            magnitude, quantize_multiplier(nearest(Fraction(*scales), FLOAT32))
        )
    return saturate(magnitude + zero_points[1], to)


def _eight_fraction_bits(ratio: Fraction) -> int:
    return round_fraction(ratio * (1 << 8), Rounding.HALF_EVEN)
