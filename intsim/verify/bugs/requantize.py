# SPDX-License-Identifier: Apache-2.0
"""Requantize with one rule changed."""

from functools import partial

import numpy as np

from intsim.fixedpoint import IntRange, Rounding, rounding_right_shift
from intsim.verify.bugs.parts import (
    AS_INT32,
    CONTROL,
    Changes,
    Finish,
    Int64,
    Part,
    Shifter,
    channel_0,
    clamps,
    finishes,
    keep,
    multipliers,
    next_channel,
    product_shifters,
    saturates,
    significant,
    wraps,
)

__all__ = ["changes", "zero_point_inside"]


def rule(
    acc: Int64,
    multiplier: Int64,
    shift: Int64,
    zero_point: Int64,
    *,
    shifted: Shifter,
    finish: Finish,
    x: Part = keep,
    m: Part = keep,
    product: Part = keep,
) -> Int64:
    """Return saturate(RND(acc * multiplier / 2**shift) + zero_point), each part replaceable."""
    return finish(shifted(product(x(acc) * m(multiplier)), shift), zero_point)


def zero_point_inside(total: Int64, shift: Int64, zero_point: Int64, *, rounding: Rounding, to: IntRange) -> Int64:
    """Return saturate(RND(total / 2**shift + zero_point))."""
    return saturates(to)(rounding_right_shift(total, shift, rounding, offset=zero_point))


def changes(rounding: Rounding, to: IntRange, *, per_channel: bool = False) -> Changes:
    """Return requantize on (acc, multiplier, shift, zero_point), and every change of it."""
    shifting, finishing = product_shifters(rounding), finishes(to)
    golden = partial(rule, shifted=shifting[CONTROL], finish=finishing[CONTROL])

    def zero_point_first(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return zero_point_inside(acc * multiplier, shift, zero_point, rounding=rounding, to=to)

    def zero_point_in_acc(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return golden(acc + zero_point, multiplier, shift, np.zeros_like(zero_point))

    def zero_point_in_product(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return finishing[CONTROL](shifting[CONTROL](acc * multiplier + zero_point, shift), np.zeros_like(zero_point))

    def shift_of_channel_0(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return golden(acc, multiplier, channel_0(shift), zero_point)

    def in_float32(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        product = significant(significant(acc) * significant(multiplier))
        return finishing[CONTROL](rounding_right_shift(product, shift, Rounding.HALF_EVEN), zero_point)

    channels: Changes = {
        "multiplier of channel 0": partial(golden, m=channel_0),
        "multiplier of the next channel": partial(golden, m=next_channel),
        "shift of channel 0": shift_of_channel_0,
    }
    return {
        **{name: partial(golden, shifted=other) for name, other in shifting.items()},
        **{name: partial(golden, finish=other) for name, other in finishing.items()},
        "zero point before rounding": zero_point_first,
        "zero point in the accumulator": zero_point_in_acc,
        "zero point in the product": zero_point_in_product,
        "multiplier in float32": partial(golden, m=significant),
        **{name: partial(golden, m=other) for name, other in multipliers().items()},
        "accumulator wraps at 16 bits": partial(golden, x=wraps(16)),
        "accumulator wraps at 24 bits": partial(golden, x=wraps(24)),
        "accumulator saturates at 16 bits": partial(golden, x=clamps(-(1 << 15), (1 << 15) - 1)),
        "accumulator saturates at 24 bits": partial(golden, x=clamps(-(1 << 23), (1 << 23) - 1)),
        "product wraps at 32 bits": partial(golden, product=wraps(32)),
        "product saturates at 32 bits": partial(golden, product=AS_INT32),
        "product wraps at 48 bits": partial(golden, product=wraps(48)),
        "float32 arithmetic": in_float32,
        **(channels if per_channel else {}),
    }
