# SPDX-License-Identifier: Apache-2.0
"""LiteRT, two operands element by element: ADD, SUB, MUL.

Scales are the ``Fraction`` that their float32 is. MBQM is ``litert.multiply_by_quantized_multiplier``, gemmlowp's two
roundings, or the parameter ``mbqm`` (``litert.Mbqm``), QM ``litert.quantize_multiplier``; F rounds to the 24 bits of
float32, D to the 53 of float64. The operands broadcast unless an operator says otherwise.

Source: LiteRT 2.3.0, ``kernels/{add,sub,mul}.cc`` and the headers they name; XNNPACK's
``src/microparams-init.c``. Held against them in tests/kernels/litert_elementwise_witnesses.py.
"""

from fractions import Fraction
from functools import partial
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, Dyadic, IntRange, Rounding, round_fraction, rounding_right_shift, saturate
from intsim.kernels.litert import (
    FLOAT32,
    FLOAT64,
    Mbqm,
    by_blocks,
    multiply_by_quantized_multiplier,
    nearest,
    quantize_multiplier,
    requantize_xnnpack,
)

__all__ = [
    "add",
    "add_multipliers",
    "add_optimized",
    "add_xnnpack",
    "multiply",
    "multiply_by_ratio",
    "multiply_optimized",
    "multiply_xnnpack",
    "product_ratio",
]

Int64: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.integer]
Scales: TypeAlias = tuple[Fraction, Fraction, Fraction]
ZeroPoints: TypeAlias = tuple[int, int, int]
Sign: TypeAlias = Literal[1, -1]

BLOCK: Final = 16  # elements of a loop of the optimized resolver
LEFT_SHIFT: Final = {8: 20, 16: 15}  # bits the operands of ADD are moved up by, so that their sum stays in int32


def add(
    a_q: Integers,
    b_q: Integers,
    *,
    scales: Scales,
    zero_points: ZeroPoints,
    to: IntRange,
    sign: Sign = 1,
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return sat(MBQM(A + sign B, QM(D(2 s / (2**left sy)))) + zy), SUB where ``sign`` is -1.

    With s the larger of the operands' scales and left = 20 for 8 bits, 15 for 16::

        A = MBQM((a - za) 2**left, QM(D(sa / (2 s)))),   B likewise

    The reference resolver; SUB of the optimized one.

    Parameters
    ----------
    a_q, b_q
        Codes.
    scales, zero_points
        Of a, of b, of the result.
    to
        Codes of the result: ``INT8`` or ``INT16``, the latter with zero points 0.
    sign
        -1 subtracts.
    mbqm
        How many roundings: ``litert.Mbqm``.

    Bounds
    ------
    D(2 s / (2**left sy)) < 1, as LiteRT demands.
    """
    left = LEFT_SHIFT[to.bits]
    a, b, ratio = add_multipliers(scales, left)
    high_a = mbqm(a_q.astype(np.int64) - zero_points[0] << left, a)
    high_b = mbqm(b_q.astype(np.int64) - zero_points[1] << left, b)
    return saturate(mbqm(high_a + sign * high_b, ratio) + zero_points[2], to)


def add_optimized(a_q: Integers, b_q: Integers, *, scales: Scales, zero_points: ZeroPoints, to: IntRange) -> Integers:
    """Return ``add`` with A = RHU((a - za) 2**(left + e) m / 2**31), one rounding, in every whole block of 16 elements.

    ADD of the optimized resolver, whose NEON code runs on x86 too; its SUB is ``add``. What is left after the last
    whole block is ``add``. The operands have one shape.
    """
    left = LEFT_SHIFT[to.bits]
    a, b, ratio = add_multipliers(scales, left)

    def block(a_q: Integers, b_q: Integers) -> Integers:
        high_a, high_b = (
            multiply_by_quantized_multiplier(x_q.astype(np.int64) - zero_point, Dyadic(x.multiplier, x.shift - left))
            for x_q, x, zero_point in zip((a_q, b_q), (a, b), zero_points, strict=False)
        )
        return saturate(multiply_by_quantized_multiplier(high_a + high_b, ratio) + zero_points[2], to)

    return by_blocks(BLOCK, block, partial(add, scales=scales, zero_points=zero_points, to=to), a_q, b_q)


def add_xnnpack(a_q: Integers, b_q: Integers, *, scales: Scales, zero_points: ZeroPoints, sign: Sign = 1) -> Integers:
    """Return sat8(RHU(((a - za) A + sign (b - zb) B) / 2**t) + zy), one rounding with 21-bit multipliers.

    With u = F(sa / sy), v = F(sb / sy): t = 20 - floor(log2 max(u, v)), A = RHE(u 2**t), B = RHE(v 2**t).

    Bounds
    ------
    2**-10 <= u, v < 2**8, outside of which XNNPACK declines.
    """
    a_scale, b_scale, y_scale = scales
    ratios = [nearest(Fraction(scale, y_scale), FLOAT32) for scale in (a_scale, b_scale)]
    largest = max(ratios)
    exponent = largest.numerator.bit_length() - largest.denominator.bit_length()  # the denominator is 2**k
    shift = 20 - exponent
    a, b = (round_fraction(ratio * (1 << shift), Rounding.HALF_EVEN) for ratio in ratios)
    total = (a_q.astype(np.int64) - zero_points[0]) * a + sign * (b_q.astype(np.int64) - zero_points[1]) * b
    return saturate(rounding_right_shift(total, shift, Rounding.HALF_UP) + zero_points[2], INT8)


def multiply(
    a_q: Integers,
    b_q: Integers,
    *,
    scales: Scales,
    zero_points: ZeroPoints,
    to: IntRange,
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return sat(MBQM((a - za) (b - zb), QM(F(F(sa sb) / sy))) + zy): MUL.

    The reference resolver; 16 bits of the optimized one.
    """
    ratio = quantize_multiplier(product_ratio(scales))
    return multiply_by_ratio(a_q, b_q, ratio=ratio, zero_points=zero_points, to=to, mbqm=mbqm)


def multiply_by_ratio(
    a_q: Integers, b_q: Integers, *, ratio: Dyadic, zero_points: ZeroPoints, to: IntRange, mbqm: Mbqm
) -> Integers:
    """Return sat(MBQM((a - za) (b - zb), ratio) + zy)."""
    product = (a_q.astype(np.int64) - zero_points[0]) * (b_q.astype(np.int64) - zero_points[1])
    return saturate(mbqm(product, ratio) + zero_points[2], to)


def multiply_optimized(a_q: Integers, b_q: Integers, *, scales: Scales, zero_points: ZeroPoints) -> Integers:
    """Return sat8(wrap16(sat16(MBQM(...)) + zy)), else as ``multiply``, in every whole block of 16 elements.

    MUL of 8 bits of the optimized resolver: a product that scales to 32_768 - zy or more comes out as the lowest code,
    not the highest. What is left after the last whole block is ``multiply``. The operands have one shape.
    """
    ratio = quantize_multiplier(product_ratio(scales))

    def block(a_q: Integers, b_q: Integers) -> Integers:
        product = (a_q.astype(np.int64) - zero_points[0]) * (b_q.astype(np.int64) - zero_points[1])
        sixteen = multiply_by_quantized_multiplier(product, ratio).clip(INT16.min, INT16.max) + zero_points[2]
        return saturate(((sixteen - INT16.min) & 0xFFFF) + INT16.min, INT8)

    return by_blocks(BLOCK, block, partial(multiply, scales=scales, zero_points=zero_points, to=INT8), a_q, b_q)


def multiply_xnnpack(a_q: Integers, b_q: Integers, *, scales: Scales, zero_points: ZeroPoints) -> Integers:
    """Return sat8(RHE(F((a - za) (b - zb) F(F(sa sb) / sy))) + zy).

    Bounds
    ------
    2**-16 <= F(F(sa sb) / sy) < 2**8, outside of which XNNPACK declines.
    """
    a_scale, b_scale, y_scale = scales
    product = (a_q.astype(np.int64) - zero_points[0]) * (b_q.astype(np.int64) - zero_points[1])
    return saturate(requantize_xnnpack(product, [a_scale * b_scale], y_scale) + zero_points[2], INT8)


def add_multipliers(scales: Scales, left: int) -> tuple[Dyadic, Dyadic, Dyadic]:
    """Return the ratios of ``add``: of a, of b and of the result."""
    a_scale, b_scale, y_scale = scales
    twice = 2 * max(a_scale, b_scale)
    ratios = (Fraction(a_scale, twice), Fraction(b_scale, twice), Fraction(twice, y_scale * (1 << left)))
    a, b, y = (quantize_multiplier(nearest(ratio, FLOAT64)) for ratio in ratios)
    return a, b, y


def product_ratio(scales: Scales) -> Fraction:
    """Return F(F(sa sb) / sy)."""
    a_scale, b_scale, y_scale = scales
    return nearest(Fraction(nearest(a_scale * b_scale, FLOAT32), y_scale), FLOAT32)
