# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding: pairs of channels turned by angles that grow with the position."""

from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from intsim._checked import check_choice
from intsim._trace import step
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers, shifted_right
from intsim.fixedpoint import Rounding

__all__ = ["TURN_FRACTION", "Pairing", "paired", "rotary"]

Pairing: TypeAlias = Literal["halves", "neighbours"]

TURN_FRACTION: Final = 14  # of cos and sin


def rotary(x_q: Integers, cos: Integers, sin: Integers, *, pairing: Pairing, rounding: Rounding) -> Integers:
    """Return x with the first R of its D channels turned, pair (a, b) by pair; the other channels pass through.

    With RND as ``rounding`` says, and cos and sin those of the token and the pair::

        y_a = RND((x_a cos - x_b sin) / 2**14),   y_b = RND((x_b cos + x_a sin) / 2**14)

    Parameters
    ----------
    x_q
        (..., H, T, D) int16 codes whose zero point is 0.
    cos, sin
        (..., T, R / 2) int16 with 14 fraction bits, the same for all heads; ``convert.rotary_table`` makes them.
    pairing
        Pair i is the channels ``halves`` (i, i + R / 2), or ``neighbours`` (2 i, 2 i + 1).
    rounding
        Of both results.

    Returns
    -------
    ndarray
        (..., H, T, D) int32 codes on the scale of ``x_q``.

    Raises
    ------
    TypeError
        If an operand is not int16.
    ValueError
        If an entry of ``cos`` or ``sin`` is beyond 1, or they have more pairs than ``x_q`` has.

    Bounds
    ------
    |x| <= 2**15 and |cos|, |sin| <= 2**14: each product is at most 2**29, their sum 2**30, its half 2**13: int32 holds
    it. Entries within 1/2 of those of an angle have cos**2 + sin**2 <= (2**14 + 0.71)**2, so |y| <= 2**15 sqrt 2 + 3,
    below 2**16: 17 bits, and nothing to saturate.

    Source
    ------
    Su et al. 2021 (RoFormer), section 3.2.2, whose pairs are neighbours; halves are those of GPT-NeoX and LLaMA.
    """
    for name, operand in (("x_q", x_q), ("cos", cos), ("sin", sin)):
        if operand.dtype != np.int16:
            msg = f"{name} must have dtype int16, got {operand.dtype}"
            raise TypeError(msg)
    check_choice("pairing", pairing, get_args(Pairing))
    for name, table in (("cos", cos), ("sin", sin)):
        largest = max(-int(table.min(initial=0)), int(table.max(initial=0)))
        if largest > 1 << TURN_FRACTION:
            msg = f"{name} must be within [-2**14, 2**14], got up to {largest} in magnitude"
            raise ValueError(msg)
    if 2 * cos.shape[-1] > x_q.shape[-1]:
        msg = f"cos and sin must have at most {x_q.shape[-1] // 2} pairs of channels, got {cos.shape[-1]}"
        raise ValueError(msg)
    first, second = paired(cos.shape[-1], pairing)

    def heads(x: Integers, cos: Integers, sin: Integers) -> Integers:
        y = x.astype(np.int32)
        a, b, c, s = y[..., first], y[..., second], cos.astype(np.int32), sin.astype(np.int32)
        turned_a, turned_b = a * c, b * c
        turned_a -= b * s
        turned_b += a * s
        step("first", turned_a)
        step("second", turned_b)
        y[..., first] = shifted_right(turned_a, TURN_FRACTION, rounding)
        y[..., second] = shifted_right(turned_b, TURN_FRACTION, rounding)
        return y

    return in_blocks(
        heads, x_q, *(table if table.ndim == 2 else table[..., None, :, :] for table in (cos, sin)), core=2
    )


def paired(pairs: int, pairing: Pairing) -> tuple[slice, slice]:
    """Return the first and the second channel of every pair."""
    if pairing == "halves":
        return slice(0, pairs), slice(pairs, 2 * pairs)
    return slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
