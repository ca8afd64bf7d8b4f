# SPDX-License-Identifier: Apache-2.0
"""Sum of tensors that have different scales: residual connections and embeddings."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from intsim.carrier.exact import Integers, require_integers, rescale
from intsim.fixedpoint import INT32, Dyadic, IntRange, saturate
from intsim.profile import Profile

__all__ = ["add"]


def add(
    operands: Sequence[Integers],
    ratios: Sequence[Dyadic],
    *,
    to: IntRange,
    profile: Profile,
    zero_point: int | Integers = 0,
) -> Integers:
    """Bring every operand to the scale of the result, add, saturate.

    Parameters
    ----------
    operands
        Integers that broadcast to the shape of the first, each less its own zero point.
    ratios
        Operand scale over result scale, one per operand, per tensor or per channel.
    to
        Range of the result.
    profile
        R = profile.rounding, and where it is applied: profile.sum ``once`` is
        saturate(R(sum_i x_i m_i / 2**t) + zero_point), all ratios sharing the shift t (``Dyadic.aligned``);
        ``each`` is saturate(sum_i R(x_i m_i / 2**t_i) + zero_point), as HAWQ and I-BERT's code do.
    zero_point
        Code of the result that stands for 0, one or one per channel.

    Returns
    -------
    ndarray
        Codes in the dtype of ``to``.

    Raises
    ------
    TypeError
        If an operand is not an integer array.
    ValueError
        If a product could leave int64, or ``once`` gets ratios of different shifts.

    Bounds
    ------
    ``once``: sum_i |x_i m_i| + 2**(t-1) < 2**63; int32 operands with 30-bit multipliers pass two at a time.
    ``each``: every rescaled operand saturates at int32 before the sum.
    """
    for i, operand in enumerate(operands):
        require_integers(f"operands[{i}]", operand)
    if profile.sum == "once":
        return rescale(operands, ratios, zero_point=zero_point, to=to, rounding=profile.rounding)
    terms = [
        rescale([x], [ratio], zero_point=0, to=INT32, rounding=profile.rounding).astype(np.int64)
        for x, ratio in zip(operands, ratios, strict=True)
    ]
    return saturate(reduce(np.add, terms) + zero_point, to)
