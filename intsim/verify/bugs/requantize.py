# SPDX-License-Identifier: Apache-2.0
"""Requantize with one rule changed."""

from functools import partial

import numpy as np

from intsim.fixedpoint import IntRange, Rounding, rounding_right_shift
from intsim.verify.bugs.parts import (
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
    previous_channel,
    product_shifters,
    registers,
    replaced,
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
    t: Part = keep,
) -> Int64:
    """Return saturate(RND(acc * multiplier / 2**shift) + zero_point), each part replaceable."""
    return finish(shifted(product(x(acc) * m(multiplier)), t(shift)), zero_point)


def zero_point_inside(total: Int64, shift: Int64, zero_point: Int64, *, rounding: Rounding, to: IntRange) -> Int64:
    """Return saturate(RND(total / 2**shift + zero_point))."""
    return clamps(to.min, to.max)(rounding_right_shift(total, shift, rounding, offset=zero_point))


def changes(rounding: Rounding, to: IntRange, *, per_channel: bool = False) -> Changes:
    """Return requantize on (acc, multiplier, shift, zero_point), and every change of it."""
    shifting, finishing = product_shifters(rounding), finishes(to)
    golden = partial(rule, shifted=shifting[CONTROL], finish=finishing[CONTROL])

    def zero_point_first(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return zero_point_inside(acc * multiplier, shift, zero_point, rounding=rounding, to=to)

    def zero_point_in_acc(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return golden(acc + zero_point, multiplier, shift, np.zeros_like(zero_point))

    def zero_point_in_product(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Int64:
        return golden(acc, multiplier, shift, np.zeros_like(zero_point), product=lambda y: y + zero_point)

    in_float32 = {"x": significant, "m": significant, "product": significant}
    return {
        **replaced(golden, shifted=shifting, finish=finishing),
        "zero point before rounding": zero_point_first,
        "zero point in the accumulator": zero_point_in_acc,
        "zero point in the product": zero_point_in_product,
        **replaced(
            golden,
            m={**multipliers(per_channel=per_channel), "multiplier in float32": significant},
            x=registers("accumulator", 16, 24),
            product={**registers("product", 32), "product wraps at 48 bits": wraps(48)},
            t={"shift of channel 0": channel_0, "shift of the channel before": previous_channel} if per_channel else {},
        ),
        "float32 arithmetic": partial(golden, shifted=product_shifters(Rounding.HALF_EVEN)[CONTROL], **in_float32),
    }
