# SPDX-License-Identifier: Apache-2.0
"""Requantization: a wide integer of one scale to a narrow one of another."""

from intsim.carrier import Integers, require_integers, rescale
from intsim.fixedpoint import Dyadic, IntRange, Rounding

__all__ = ["requantize"]


def requantize(acc: Integers, ratio: Dyadic, *, to: IntRange, rounding: Rounding, zero_point: int = 0) -> Integers:
    """Return saturate(RND(acc * multiplier / 2**shift) + zero_point): one exact product, one rounding.

    Parameters
    ----------
    acc
        (..., C) integers, usually the int32 accumulator.
    ratio
        Input scale over output scale, per tensor, or per channel with shape (C,).
    to
        Range of the result.
    rounding
        How the dropped bits are rounded.
    zero_point
        Code of the result that stands for 0, added after rounding.

    Returns
    -------
    ndarray
        Codes in the dtype of ``to``.

    Raises
    ------
    TypeError
        If ``acc`` is not an integer array.
    ValueError
        If acc * multiplier could leave int64.

    Bounds
    ------
    |acc| <= 2**31 with any multiplier and shift of a ``Dyadic``.

    Source
    ------
    Jacob et al. 2018, section 2.2, with a single rounding; Yao et al. 2021 (HAWQ-V3) for dyadic numbers.
    """
    require_integers("acc", acc)
    return rescale([acc], [ratio], zero_point=zero_point, to=to, rounding=rounding)
