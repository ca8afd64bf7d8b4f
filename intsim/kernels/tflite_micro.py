# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite for Microcontrollers, where it is not LiteRT: LOGISTIC and TANH of 8 bits, MUL, SOFTMAX of 16 bits.

Scales are the ``Fraction`` that their float32 is. MBQM is the parameter ``mbqm`` (``litert.Mbqm``), QM
``litert.quantize_multiplier``; F rounds to the 24 bits of float32, D to the 53 of float64.

Source: tflite-micro at commit 8f6596d (October 2026), ``micro/kernels/{logistic,mul,softmax}_common.cc``, ``tanh.cc``
and the headers they name. Held against its package in tests/kernels/tflite_micro_witnesses.py.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, IntRange, Rounding, round_fraction, saturate
from intsim.kernels import gemmlowp
from intsim.kernels.litert import (
    FLOAT32,
    FLOAT64,
    Mbqm,
    multiply_by_quantized_multiplier,
    nearest,
    quantize_multiplier,
)
from intsim.kernels.litert_elementwise import Scales, ZeroPoints, multiply_by_ratio
from intsim.kernels.litert_nonlinear import INTERVALS, exp_table, quotients_int16, ratio_int16

__all__ = ["logistic", "multiply", "reciprocal_table", "softmax_int16", "tanh"]

Int64: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.integer]

HALF: Final = Fraction(1, 2)
INTEGER_BITS: Final = 4  # of what LOGISTIC and TANH are taken of


def logistic(
    x_q: Integers, *, scale: Fraction, zero_point: int, mbqm: Mbqm = multiply_by_quantized_multiplier
) -> Integers:
    """Return sat8(RHA(logistic(MBQM(x - zx, scale 2**27)) / 2**23) - 128): LOGISTIC of 8 bits, codes of 1/256.

    ``gemmlowp.logistic`` of Q4.27; with 2**e the power of two above scale 2**27, codes that are floor(15 2**27 / 2**e)
    or farther from the zero point give the lowest or the highest code.

    Bounds
    ------
    2**-27 <= scale < 8.
    """
    return _of_q4(x_q, gemmlowp.logistic, scale=scale, zero_point=zero_point, drop=23, offset=INT8.min, mbqm=mbqm)


def tanh(x_q: Integers, *, scale: Fraction, zero_point: int, mbqm: Mbqm = multiply_by_quantized_multiplier) -> Integers:
    """Return sat8(RHA(tanh(MBQM(x - zx, scale 2**27)) / 2**24)): TANH of 8 bits, codes of 1/128.

    ``gemmlowp.tanh`` of Q4.27; the rest, and the bounds, as ``logistic``.
    """
    return _of_q4(x_q, gemmlowp.tanh, scale=scale, zero_point=zero_point, drop=24, offset=0, mbqm=mbqm)


def _of_q4(
    x_q: Integers,
    function: Callable[[Int64, int], Int64],
    *,
    scale: Fraction,
    zero_point: int,
    drop: int,
    offset: int,
    mbqm: Mbqm,
) -> Integers:
    one = 1 << 31 - INTEGER_BITS
    ratio = quantize_multiplier(scale * one)
    radius = round_fraction(Fraction(15 * one, 1 << 31 - int(ratio.shift)), Rounding.FLOOR)
    x = x_q.astype(np.int64) - zero_point
    inside = np.abs(x) < radius
    y = gemmlowp.rounding_divide_by_pot(function(mbqm(x * inside, ratio), INTEGER_BITS), drop) + offset
    return saturate(np.where(inside, y, np.where(x < 0, INT8.min, INT8.max)), INT8)


def multiply(
    a_q: Integers,
    b_q: Integers,
    *,
    scales: Scales,
    zero_points: ZeroPoints,
    to: IntRange,
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return sat(MBQM((a - za) (b - zb), QM(D(sa sb / sy))) + zy): MUL, its ratio from float64, not from float32."""
    ratio = quantize_multiplier(nearest(Fraction(scales[0] * scales[1], scales[2]), FLOAT64))
    return multiply_by_ratio(a_q, b_q, ratio=ratio, zero_points=zero_points, to=to, mbqm=mbqm)


def softmax_int16(
    x_q: Integers,
    *,
    scale: Fraction,
    beta: Fraction = Fraction(1),
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return ``litert_nonlinear.softmax_int16`` with scale beta exact, not F of it, and ``reciprocal_table``."""
    tables = exp_table(), reciprocal_table()
    return saturate(quotients_int16(x_q, ratio=ratio_int16(scale * beta), tables=tables, mbqm=mbqm), INT16)


@cache
def reciprocal_table() -> Int64:
    """Return ``litert_nonlinear.reciprocal_table`` as float32 makes it: entries 160 and 294 differ by 1.

    Of the table of exp, float32 and C's ``expf`` make the same as LiteRT's float64.
    """
    scale, unit = _f(Fraction(1, 65_535)), _f(Fraction(2, 65_535))
    one = _f(Fraction(65_536, _f(_f(unit * INT16.max) - _f(unit * INT16.min))))
    step = _f(Fraction(_f(scale * 65_535), INTERVALS))

    def value(x: Fraction) -> Fraction:
        return _f(_f(Fraction(1, _f(1 + x))) * one)

    points = [_f(i * step) for i in range(INTERVALS + 1)]
    entries: list[int] = []
    for x, after in pairwise(points):
        here = _rha(value(x))
        middle = _rha(_f(value(after) + here) * HALF) - _rha(value(_f(x + step * HALF)))
        entries.append(here - _rha(middle * HALF))
    return np.array([*entries, _rha(value(_f(scale * 65_535)))], np.int64).clip(INT16.min, INT16.max)


def _f(x: Fraction) -> Fraction:
    return nearest(x, FLOAT32)


def _rha(x: Fraction) -> int:
    return round_fraction(x, Rounding.HALF_AWAY)
