# SPDX-License-Identifier: Apache-2.0
"""LiteRT's integer SOFTMAX, RSQRT, L2_NORMALIZATION and MEAN.

Scales are the ``Fraction`` that their float32 is. MBQM is ``litert.multiply_by_quantized_multiplier``, or the parameter
``mbqm`` (``litert.Mbqm``), QM ``litert.quantize_multiplier``; F rounds to the 24 bits of float32, D to the 53 of
float64.

Source: LiteRT 2.3.0, ``kernels/{activations,elementwise,l2norm,reduce}.cc`` and the headers they name. Held against
them in tests/kernels/litert_nonlinear_witnesses.py.
"""

import math
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import (
    INT8,
    INT16,
    Dyadic,
    IntRange,
    Rounding,
    bit_length,
    round_fraction,
    rounding_right_shift,
    saturate,
)
from intsim.kernels import gemmlowp
from intsim.kernels.litert import FLOAT32, FLOAT64, Mbqm, multiply_by_quantized_multiplier, nearest, quantize_multiplier
from intsim.kernels.litert_sigmoid import PRECISION, exponentials

__all__ = [
    "exp_table",
    "l2_normalization",
    "lookup",
    "mean",
    "quotients_int16",
    "ratio_int16",
    "reciprocal_table",
    "rsqrt",
    "softmax",
    "softmax_int16",
]

Int64: TypeAlias = NDArray[np.int64]
Integers: TypeAlias = NDArray[np.integer]
HALF_UP: Final = Rounding.HALF_UP

INTEGER_BITS: Final = 5  # of what exp is taken of
SUM_BITS: Final = 12  # integer bits of the sum of a row
SUM_LIMITS: Final = {8: 512, 16: 4096}  # by bits of the result: quotients shift by up to 31; the sum fits int32
INTERVALS: Final = 512  # of a table of 16 bits


def softmax(
    x_q: Integers,
    *,
    scale: Fraction,
    beta: Fraction = Fraction(1),
    to: IntRange,
    mask: NDArray[np.bool_] | None = None,
) -> Integers:
    """Return softmax of 8-bit codes along the last axis: SOFTMAX, reference resolver.

    With (m, e) = QM(min(D(beta scale) 2**26, 2**31 - 1)) and the fixed-point functions of ``gemmlowp``::

        d_j = x_j - max x,   E_j = exp(RHU(d_j 2**e m / 2**31)) of Q5.26 where d_j >= -floor(31 2**26 / 2**e), else 0
        S = sum RHA(E_j / 2**12) in Q12.19,   r = 1 / (1 + s), S = (1 + s) 2**n, s in [0, 1)
        y_j = sat(RHA(RHU(r E_j / 2**31) / 2**(n + 31 - bits)) - 2**(bits - 1))

    Parameters
    ----------
    x_q
        (..., T) codes.
    scale, beta
        Of the codes; of the operator.
    to
        ``INT8``, codes of 1/256 with zero point -128, or ``INT16``, codes of 2**-16 with zero point -2**15.
    mask
        True where a position counts; LiteRT has none. Elsewhere the probability is 0, and in a row without positions.

    Bounds
    ------
    beta scale 2**26 > 1.

    Raises
    ------
    ValueError
        If S of some row is 512 or more to ``INT8``, 4096 or more to ``INT16``: rows that long, and flat. LiteRT aborts
        at 512, where n + 31 - 8 is above the 31 bits that a quotient is shifted by; at 4096 S leaves int32.
    """
    ratio = quantize_multiplier(min(nearest(beta * scale, FLOAT64) * (1 << 31 - INTEGER_BITS), Fraction((1 << 31) - 1)))
    e = 31 - int(ratio.shift)
    kept = np.ones(x_q.shape, np.bool_) if mask is None else np.broadcast_to(mask, x_q.shape)
    x = np.where(kept, x_q, np.iinfo(x_q.dtype).min).astype(np.int64)
    d = x - x.max(axis=-1, keepdims=True)
    inside = kept & (d >= -round_fraction(Fraction(31 << 31 - INTEGER_BITS, 1 << e), Rounding.FLOOR))
    scaled = gemmlowp.saturating_rounding_doubling_high_mul((d * inside) << e, ratio.multiplier)
    exps = gemmlowp.exp_on_negative_values(scaled, INTEGER_BITS) * inside
    total = np.maximum(gemmlowp.rescale(exps, 0, SUM_BITS).sum(axis=-1, keepdims=True), 1)
    limit, largest = SUM_LIMITS[to.bits], int(total.max(initial=0)) >> 31 - SUM_BITS
    if largest >= limit:
        msg = f"exponentials of a row must sum to less than {limit} for {to.bits}-bit probabilities, got {largest}"
        raise ValueError(msg)
    headroom = 32 - bit_length(total)
    reciprocal = gemmlowp.one_over_one_plus_x_for_x_in_0_1((total << headroom) - (1 << 31))
    product = gemmlowp.saturating_rounding_doubling_high_mul(reciprocal, exps)
    y = gemmlowp.rounding_divide_by_pot(product, SUM_BITS - headroom + 31 - to.bits)
    return saturate(y + to.min, to)


def softmax_int16(
    x_q: Integers,
    *,
    scale: Fraction,
    beta: Fraction = Fraction(1),
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return softmax of int16 codes along the last axis, in codes of 2**-15: SOFTMAX, every resolver.

    With ``lookup`` in the tables of exp over [-10, 0] and of 1 / (1 + x) over [0, 1]::

        E_j = exp(sat16(MBQM(x_j - max x, QM(D(F(scale beta) / D(10 / 65_535)))) + 32_767))
        S = sum E_j = (1 + s) 2**n,   r = 1 / (1 + s), s rounded half up to 16 bits,   y_j = sat(RHU(E_j r / 2**n))

    Bounds
    ------
    T <= 2**16, so that the sum fits int32.
    """
    ratio = ratio_int16(nearest(scale * beta, FLOAT32))
    return saturate(quotients_int16(x_q, ratio=ratio, tables=(exp_table(), reciprocal_table()), mbqm=mbqm), INT16)


def ratio_int16(scale: Fraction) -> Dyadic:
    """Return QM(D(scale / D(10 / 65_535))): from the codes of ``softmax_int16`` to those of its table of exp."""
    return quantize_multiplier(nearest(Fraction(scale, nearest(Fraction(10, 65_535), FLOAT64)), FLOAT64))


def quotients_int16(x_q: Integers, *, ratio: Dyadic, tables: tuple[Int64, Int64], mbqm: Mbqm) -> Int64:
    """Return what ``softmax_int16`` saturates, of a ratio and of tables of exp and 1 / (1 + x), at least 0."""
    x = x_q.astype(np.int64)
    d = mbqm(x - x.max(axis=-1, keepdims=True), ratio)
    exps = lookup((d + INT16.max).clip(INT16.min, INT16.max), tables[0])
    total = exps.sum(axis=-1, keepdims=True)
    n = bit_length(total) - 1
    s = rounding_right_shift(total << 30 - n, 14, HALF_UP) - (1 << 15) - (1 << 16)
    reciprocal = lookup(s.clip(INT16.min, INT16.max), tables[1])
    return rounding_right_shift(exps * reciprocal, n, HALF_UP).clip(0)


def rsqrt(x_q: Integers, *, scales: tuple[Fraction, Fraction], zero_points: tuple[int, int]) -> Integers:
    """Return sat8(MBQM(MBQM(1, i 2**20), r / 2**20) + zy), i = ``gemmlowp.inverse_sqrt`` (x - zx).

    r = QM(D(1 / F(F(sqrt(sx)) sy))); the highest code where x = zx. RSQRT of int8, every resolver.

    Bounds
    ------
    x >= zx, as LiteRT demands.
    """
    x_scale, y_scale = scales
    real = Fraction(1, nearest(_sqrt(x_scale) * y_scale, FLOAT32))
    ratio = quantize_multiplier(nearest(real, FLOAT64))
    x = x_q.astype(np.int64) - zero_points[0]
    m, e = gemmlowp.inverse_sqrt(x)
    root = multiply_by_quantized_multiplier(np.ones_like(x), Dyadic(m, 31 - e - 20))
    y = multiply_by_quantized_multiplier(root, Dyadic(ratio.multiplier, ratio.shift + 20)) + zero_points[1]
    return saturate(np.where(x == 0, INT8.max, y), INT8)


def l2_normalization(x_q: Integers, *, zero_point: int) -> Integers:
    """Return sat8(MBQM(x - zx, i 2**7)), i = ``gemmlowp.inverse_sqrt`` (sum (x - zx)**2): codes of 2**-7.

    L2_NORMALIZATION of int8 along the last axis, every resolver.

    Bounds
    ------
    The sum below 2**31: 33_000 channels.
    """
    x = x_q.astype(np.int64) - zero_point
    m, e = gemmlowp.inverse_sqrt(np.square(x).sum(axis=-1, keepdims=True))
    return saturate(multiply_by_quantized_multiplier(x, Dyadic(m, 31 - e - 7)), INT8)


def mean(
    x_q: Integers,
    *,
    scales: tuple[Fraction, Fraction],
    zero_points: tuple[int, int],
    to: IntRange,
    mbqm: Mbqm = multiply_by_quantized_multiplier,
) -> Integers:
    """Return sat(MBQM(sum (x - zx), m floor(2**k / n)) + zy) along the last axis: MEAN.

    (m, e) = QM(D(sx / sy)); the multiplier is floor(m 2**k / n) / 2**(31 - e + k), k = floor(log2 n). Both resolvers;
    XNNPACK takes 8 bits and differs.

    Bounds
    ------
    |sum| < 2**31.
    """
    ratio = quantize_multiplier(nearest(Fraction(*scales), FLOAT64))
    n = x_q.shape[-1]
    k = n.bit_length() - 1
    multiplier = round_fraction(Fraction(int(ratio.multiplier) << k, n), Rounding.FLOOR)
    total = (x_q.astype(np.int64) - zero_points[0]).sum(axis=-1)
    return saturate(mbqm(total, Dyadic(multiplier, ratio.shift + k)) + zero_points[1], to)


# tables


def lookup(x: Int64, table: Int64) -> Int64:
    """Return base + RHU(slope (x mod 2**7) / 2**7) of 513 entries over [-2**15, 2**15]."""
    index = rounding_right_shift(x, 7, Rounding.FLOOR) + (INTERVALS >> 1)
    base = table[index]
    return base + rounding_right_shift((table[index + 1] - base) * (x & 0x7F), 7, HALF_UP)


@cache
def exp_table() -> Int64:
    """Return exp over [-10, 0] in Q0.15 for ``lookup``."""
    powers = exponentials(Fraction(-10, 2 * INTERVALS), 2 * INTERVALS)
    return _table([Fraction(power, 1 << PRECISION) for power in reversed(powers)])


@cache
def reciprocal_table() -> Int64:
    """Return 1 / (1 + x) over [0, 1] in Q0.15 for ``lookup``."""
    return _table([Fraction(2 * INTERVALS, 2 * INTERVALS + i) for i in range(2 * INTERVALS + 1)])


def _table(values: list[Fraction]) -> Int64:
    """Return entries from a function's values at the 513 points and halfway between, in units of 2**-15.

    Each is lowered by half of what interpolation would miss halfway to the next: RHA(v) - RHA((RHA((v' + RHA(v)) / 2) -
    RHA(v_half)) / 2), clipped.
    """

    def rha(x: Fraction) -> int:
        return round_fraction(x, Rounding.HALF_AWAY)

    scaled = [value * (1 << 15) for value in values]
    entries = [rha(scaled[-1])]
    for here, half, after in zip(scaled[-3::-2], scaled[-2::-2], scaled[::-2], strict=False):
        middle = rha((after + rha(here)) * Fraction(1, 2)) - rha(half)
        entries.append(rha(here) - rha(Fraction(middle, 2)))
    return np.array(entries[::-1], np.int64).clip(INT16.min, INT16.max)


def _sqrt(x: Fraction) -> Fraction:
    """Return F(sqrt(x)) of a float32."""
    shift = 64 + x.denominator.bit_length()
    shift += shift % 2
    scaled = int(x * (1 << shift))  # an integer: the denominator is a power of two
    root = math.isqrt(scaled)
    return nearest(Fraction(2 * root + (root * root < scaled), 2 << shift // 2), FLOAT32)
