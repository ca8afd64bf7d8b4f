# SPDX-License-Identifier: Apache-2.0
"""Product of two tensors, element by element: the gate of a gated feed-forward network."""

import numpy as np

from intsim._trace import step
from intsim.carrier.exact import Integers, magnitude, require_integers, rescale
from intsim.fixedpoint import Dyadic, IntRange, Rounding

__all__ = ["multiply"]


def multiply(
    a_q: Integers,
    b_q: Integers,
    ratio: Dyadic,
    *,
    to: IntRange,
    rounding: Rounding,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int | Integers = 0,
) -> Integers:
    """Return saturate(RND((a - a_zero_point) (b - b_zero_point) m / 2**t) + zero_point), with one rounding.

    Parameters
    ----------
    a_q, b_q
        Codes of one shape and at most 16 bits.
    ratio
        Product of the scales of a and b over that of the result, m / 2**t, per tensor or per channel.
    to
        Range of the result.
    rounding
        RND.
    a_zero_point, b_zero_point, zero_point
        Codes that stand for 0, of the result one for all channels or one for each.

    Returns
    -------
    ndarray
        Codes in the dtype of ``to``.

    Raises
    ------
    TypeError
        If an operand is not an integer array of at most 16 bits.
    ValueError
        If a product times the multiplier could leave int64.

    Bounds
    ------
    Codes of 16 bits without zero points: |a b| <= 2**30, with any ``Dyadic`` below 2**61. Zero points among the codes
    make it |a b| < 2**32; multipliers of up to 30 bits pass then, and longer ones where the products at hand allow it.

    Source
    ------
    Jacob et al. 2018, section 2.2, with a single rounding; Shazeer 2020 for the gate.
    """
    a, b = _centre("a_q", a_q, a_zero_point), _centre("b_q", b_q, b_zero_point)
    bound = magnitude(a) * magnitude(b)
    product = np.multiply(a, b, dtype=np.int32 if bound < 1 << 31 else np.int64)
    step("ab", product)
    return rescale([product], [ratio], zero_point=zero_point, to=to, rounding=rounding)


def _centre(name: str, x_q: Integers, zero_point: int) -> Integers:
    require_integers(name, x_q)
    if x_q.dtype.itemsize > 2:
        msg = f"{name} must have at most 16 bits, got {x_q.dtype}"
        raise TypeError(msg)
    return x_q.astype(np.int32) - np.int32(zero_point) if zero_point else x_q
