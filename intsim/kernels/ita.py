# SPDX-License-Identifier: Apache-2.0
"""ITA, the transformer accelerator of the PULP platform: requantizer, base-2 softmax and i-GELU of its circuit.

Its Python model agrees with the circuit but for floats (a rounding that adds 2**-23, see ``requantize``) and 16-bit
squares (see ``gelu``).

Source: Islamoglu et al. 2023 (ITA); src/ita_requantizer.sv, ita_softmax.sv, ita_gelu.sv and PyITA of its repository.
"""

from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.fixedpoint import INT8, INT16, UINT8, IntRange, Rounding, rounding_divide, rounding_right_shift, saturate

__all__ = ["gelu", "gelu_constants", "requantize", "softmax", "streaming_softmax"]

Int64: TypeAlias = NDArray[np.int64]

ACCUMULATOR: Final = IntRange(26)
ONE: Final = np.array(1 << 8)  # exp(0)
DIVIDEND: Final = np.array(255 << 8)
LOWEST: Final = -128
COLUMNS: Final = 16  # that the circuit reads at a time
SQRT2: Final = Fraction("1.41421356237309504880168872420969807857")
ERF_A: Final = Fraction("-0.2888")
ERF_B: Final = Fraction("-1.769")


def requantize(acc: Int64, *, multiplier: ArrayLike, shift: ArrayLike, add: ArrayLike) -> NDArray[np.integer]:
    """Return saturate8(RHU(clip26(acc) * multiplier / 2**shift) + add).

    Parameters
    ----------
    acc
        int64.
    multiplier, shift
        In [0, 255], one or one per head, broadcasting to ``acc``. PyITA clips its multipliers at 127.
    add
        In [-128, 127], likewise.

    Returns
    -------
    ndarray
        int8.

    Bounds
    ------
    |product| < 2**33, so a shift above 62 gives the 0 that 62 gives.

    Source
    ------
    ``ita_requantizer``: its comment says half away from zero, its circuit adds bit shift - 1, which is half up. PyITA
    adds 2**-23 before it floors: from shift 24 on it rounds up some values just below a tie.
    """
    product = acc.clip(ACCUMULATOR.min, ACCUMULATOR.max) * np.asarray(multiplier, np.int64)
    rounded = rounding_right_shift(product, np.minimum(shift, 62), Rounding.HALF_UP)
    return saturate(rounded + np.asarray(add, np.int64), INT8)


def _halved(one: Int64, x: Int64, largest: Int64, keep: NDArray[np.bool_]) -> Int64:
    """Return floor(one / 2**s) with s = RHU((largest - x) / 32), 0 where masked."""
    s = _halvings(largest - x).clip(0)  # a masked x may lie above the largest
    return np.where(keep, rounding_right_shift(one, s, Rounding.FLOOR), 0)


def _halvings(difference: Int64) -> Int64:
    return rounding_right_shift(difference, 5, Rounding.HALF_UP)


def _probabilities(x: Int64, largest: Int64, total: Int64, keep: NDArray[np.bool_]) -> NDArray[np.integer]:
    inverse = rounding_divide(DIVIDEND, np.maximum(total, 1), Rounding.FLOOR)
    return saturate(_halved(inverse, x, largest, keep), UINT8)


def _unmasked(x_q: NDArray[np.int8], mask: NDArray[np.bool_] | None) -> tuple[Int64, NDArray[np.bool_]]:
    keep = np.ones(x_q.shape, np.bool_) if mask is None else np.broadcast_to(mask, x_q.shape)
    return x_q.astype(np.int64), keep


def softmax(x_q: NDArray[np.int8], *, mask: NDArray[np.bool_] | None = None) -> NDArray[np.integer]:
    """Return 2**x over its sum along the last axis, from whole rows, in codes of 2**-8.

    With the largest m of the row and s_j = floor((m - x_j + 16) / 32)::

        probs_j = floor(floor(255 * 2**8 / sum floor(2**8 / 2**s)) / 2**s_j)

    Parameters
    ----------
    x_q
        (..., T) int8 of scale ln 2 / 32.
    mask
        True where a position counts; elsewhere its probability is 0, and all are in a row of none.

    Returns
    -------
    ndarray
        uint8, at most 255: the largest adds 2**8 to the sum.

    Source
    ------
    ``fastSoftmax`` of PyITA, before it stores the result as int8.
    """
    x, keep = _unmasked(x_q, mask)
    largest = np.where(keep, x, LOWEST).max(axis=-1, keepdims=True)
    return _probabilities(x, largest, _halved(ONE, x, largest, keep).sum(axis=-1, keepdims=True), keep)


def streaming_softmax(x_q: NDArray[np.int8], *, mask: NDArray[np.bool_] | None = None) -> NDArray[np.integer]:
    """Return what the circuit returns: as ``softmax``, its sum taken 16 columns at a time.

    Where columns bring a larger maximum, the sum so far is shifted down by floor((m_new - m_old + 16) / 32) once,
    which is not what its terms would have been shifted by.

    Parameters
    ----------
    x_q, mask
        As ``softmax``.

    Returns
    -------
    ndarray
        uint8.

    Source
    ------
    ``ita_softmax``; ``streamingPartialSoftmax`` of PyITA.
    """
    x, keep = _unmasked(x_q, mask)
    largest = np.full((*x.shape[:-1], 1), LOWEST, np.int64)
    total = np.zeros_like(largest)
    for start in range(0, x.shape[-1], COLUMNS):
        columns = np.s_[..., start : start + COLUMNS]
        before = largest
        largest = np.maximum(before, np.where(keep[columns], x[columns], LOWEST).max(axis=-1, keepdims=True))
        total = rounding_right_shift(total, _halvings(largest - before), Rounding.FLOOR)
        total = total + _halved(ONE, x[columns], largest, keep[columns]).sum(axis=-1, keepdims=True)
    return _probabilities(x, largest, total, keep)


def gelu(x_q: NDArray[np.int8], *, scale: Fraction) -> Int64:
    """Return x Phi(x) before requantization, in codes of a S**3 / 4, which is negative.

    With q_b = sat16(RHU(b sqrt(2) / S)) and q_1 = q_c = sat16(RHU(2 / (a S**2)))::

        q_erf = sgn(x_q) * ((min(|x_q|, -q_b) + q_b)**2 + q_c),   y_q = x_q (q_erf + q_1)

    Parameters
    ----------
    x_q
        int8.
    scale
        S of the input, exactly. Below 0.0146 q_c saturates, and y_q is no GELU any more.

    Returns
    -------
    ndarray
        int64 of 26 bits.

    Raises
    ------
    ValueError
        As ``gelu_constants``.

    Source
    ------
    ``ita_gelu``. PyITA takes -128 for -127 and squares in int16, which wraps from |x_q + q_b| = 182 on.
    """
    q_b, q_1 = gelu_constants(scale)
    x = x_q.astype(np.int64)
    q_erf = np.sign(x) * ((np.minimum(np.abs(x), -q_b) + q_b) ** 2 + q_1)
    return x * (q_erf + q_1)


def gelu_constants(scale: Fraction) -> tuple[int, int]:
    """Return q_b and q_1 of ``gelu``, both negative.

    Parameters
    ----------
    scale
        S of the input.

    Raises
    ------
    ValueError
        If a product could take more than the circuit's 26 bits, from about S = 0.0057 on.
    """
    area = ERF_A * scale**2
    # RHU(p / q) = floor((2 p + q) / 2 q)
    q_b = max((2 * ERF_B * SQRT2 + scale) // (2 * scale), INT16.min)
    q_1 = max((4 + area) // (2 * area), INT16.min)
    if -LOWEST * (q_b**2 - 2 * q_1) > ACCUMULATOR.max:
        msg = f"scale must keep the products of gelu within 26 bits, got {scale}"
        raise ValueError(msg)
    return q_b, q_1
