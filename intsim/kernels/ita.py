# SPDX-License-Identifier: Apache-2.0
"""ITA, the transformer accelerator of the PULP platform: requantizer, base-2 softmax and i-GELU of its circuit.

Its Python model parts from the circuit in ``requantize`` (see ``requantize_pyita``) and in 16-bit squares (``gelu``).
The softmax changed once, and both are here: ``SHIFT`` for the circuit up to commit 40564cf, ``SHIFT_2024`` since
39236c9 (November 2024).

Source: Islamoglu et al. 2023 (ITA); src/ita_requantizer.sv, ita_softmax.sv, ita_gelu.sv and PyITA of
github.com/pulp-platform/ITA, read at ba96519 (April 2025).
"""

from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.fixedpoint import INT8, INT16, UINT8, IntRange, Rounding, rounding_divide, rounding_right_shift, saturate

__all__ = [
    "SHIFT",
    "SHIFT_2024",
    "gelu",
    "gelu_constants",
    "requantize",
    "requantize_pyita",
    "softmax",
    "streaming_softmax",
]

Int64: TypeAlias = NDArray[np.int64]

ACCUMULATOR: Final = IntRange(26)
PRODUCT_BITS: Final = 35
PYITA_NUDGE: Final = 23  # np.finfo(np.float32).eps is 2**-23
SHIFT: Final = 5  # of the softmax: its codes are 32nds of a halving
SHIFT_2024: Final = 0  # every code is a halving
ONE: Final = np.array(1 << 8)  # exp(0)
DIVIDEND: Final = np.array(255 << 8)
LOWEST: Final = -128
COLUMNS: Final = 16  # that the circuit reads at a time
SQRT2: Final = Fraction("1.41421356237309504880168872420969807857")
ERF_A: Final = Fraction("-0.2888")
ERF_B: Final = Fraction("-1.769")


def requantize(acc: Int64, *, multiplier: ArrayLike, shift: ArrayLike, add: ArrayLike) -> NDArray[np.integer]:
    """Return saturate8(RHU(clip26(acc) * multiplier / 2**shift) + add), as the circuit computes it.

    From shift 36 on, the quotient is floored: -1 for negative products, where half up would be 0.

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
    |product| < 2**33.

    Source
    ------
    ``ita_requantizer``: its comment says half away from zero, its circuit adds bit shift - 1 of the 35-bit product,
    which is half up. Bit 35 is none: a simulator reads x there, which is not true.
    """
    product, shift = _product(acc, multiplier), np.asarray(shift, np.int64)
    half_up = rounding_right_shift(product, np.minimum(shift, PRODUCT_BITS), Rounding.HALF_UP)
    rounded = np.where(shift <= PRODUCT_BITS, half_up, -(product < 0).astype(np.int64))
    return saturate(rounded + np.asarray(add, np.int64), INT8)


def requantize_pyita(acc: Int64, *, multiplier: ArrayLike, shift: ArrayLike, add: ArrayLike) -> NDArray[np.integer]:
    """Return saturate8(floor(clip26(acc) * multiplier / 2**shift + 1/2 + 2**-23) + add), as PyITA computes it.

    It is ``requantize`` up to shift 22; from 23 on, what lies up to 2**-23 below a tie is rounded up.

    Parameters
    ----------
    acc, multiplier, add
        As ``requantize``.
    shift
        In [0, 31].

    Returns
    -------
    ndarray
        int8.

    Raises
    ------
    ValueError
        If a shift is above 31: PyITA divides by 2**shift of 32 bits, which is then 0.

    Source
    ------
    ``requantize`` of PyITA/util.py. Its float64 holds every sum of such a shift exactly.
    """
    shift = np.asarray(shift, np.int64)
    if (shift > 31).any():
        msg = f"shift must be in [0, 31], got {shift.max()}; PyITA divides by 0 there"
        raise ValueError(msg)
    nudge = (1 << shift) >> PYITA_NUDGE
    rounded = rounding_right_shift(_product(acc, multiplier) + nudge, shift, Rounding.HALF_UP)
    return saturate(rounded + np.asarray(add, np.int64), INT8)


def _product(acc: Int64, multiplier: ArrayLike) -> Int64:
    return acc.clip(ACCUMULATOR.min, ACCUMULATOR.max) * np.asarray(multiplier, np.int64)


def _halved(one: Int64, x: Int64, largest: Int64, keep: NDArray[np.bool_], shift: int) -> Int64:
    """Return floor(one / 2**s) with s = RHU((largest - x) / 2**shift), 0 where masked."""
    s = _halvings(largest - x, shift).clip(0)  # a masked x may lie above the largest
    return np.where(keep, rounding_right_shift(one, s, Rounding.FLOOR), 0)


def _halvings(difference: Int64, shift: int) -> Int64:
    """Return RHU(difference / 2**shift), at most the 62 halvings that leave nothing of a sum."""
    return np.minimum(rounding_right_shift(difference, shift, Rounding.HALF_UP), 62)


def _probabilities(x: Int64, largest: Int64, total: Int64, keep: NDArray[np.bool_], shift: int) -> NDArray[np.integer]:
    inverse = rounding_divide(DIVIDEND, np.maximum(total, 1), Rounding.FLOOR)
    return saturate(_halved(inverse, x, largest, keep, shift), UINT8)


def _unmasked(x_q: NDArray[np.int8], mask: NDArray[np.bool_] | None) -> tuple[Int64, NDArray[np.bool_]]:
    keep = np.ones(x_q.shape, np.bool_) if mask is None else np.broadcast_to(mask, x_q.shape)
    return x_q.astype(np.int64), keep


def softmax(x_q: NDArray[np.int8], *, shift: int, mask: NDArray[np.bool_] | None = None) -> NDArray[np.integer]:
    """Return 2**x over its sum along the last axis, from whole rows, in codes of 2**-8.

    With the largest m of the row and s_j = RHU((m - x_j) / 2**shift)::

        probs_j = floor(floor(255 * 2**8 / sum floor(2**8 / 2**s)) / 2**s_j)

    Parameters
    ----------
    x_q
        (..., T) int8 of scale ln 2 / 2**shift.
    shift
        ``SHIFT`` or ``SHIFT_2024``.
    mask
        True where a position counts; elsewhere its probability is 0, and all are in a row of none.

    Returns
    -------
    ndarray
        uint8, at most 255: the largest adds 2**8 to the sum.

    Source
    ------
    ``fastSoftmax`` of PyITA, before it stores the result as int8; its ``eps_max`` is 2**-shift.
    """
    x, keep = _unmasked(x_q, mask)
    largest = np.where(keep, x, LOWEST).max(axis=-1, keepdims=True)
    total = _halved(ONE, x, largest, keep, shift).sum(axis=-1, keepdims=True)
    return _probabilities(x, largest, total, keep, shift)


def streaming_softmax(
    x_q: NDArray[np.int8], *, shift: int, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.integer]:
    """Return what the circuit returns: as ``softmax``, its sum taken 16 columns at a time.

    Where columns bring a larger maximum, the sum so far is shifted down by RHU((m_new - m_old) / 2**shift) once, which
    is not what its terms would have been shifted by, unless ``shift`` is 0; floored, it loses bits even then.

    Parameters
    ----------
    x_q, shift, mask
        As ``softmax``.

    Returns
    -------
    ndarray
        uint8.

    Bounds
    ------
    T < 2048: the circuit's sum has 19 bits.

    Source
    ------
    ``ita_softmax``, whose ``SoftmaxShift`` is ``shift``; ``streamingPartialSoftmax`` of PyITA.
    """
    x, keep = _unmasked(x_q, mask)
    largest = np.full((*x.shape[:-1], 1), LOWEST, np.int64)
    total = np.zeros_like(largest)
    for start in range(0, x.shape[-1], COLUMNS):
        columns = np.s_[..., start : start + COLUMNS]
        before = largest
        largest = np.maximum(before, np.where(keep[columns], x[columns], LOWEST).max(axis=-1, keepdims=True))
        total = rounding_right_shift(total, _halvings(largest - before, shift), Rounding.FLOOR)
        total = total + _halved(ONE, x[columns], largest, keep[columns], shift).sum(axis=-1, keepdims=True)
    return _probabilities(x, largest, total, keep, shift)


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
