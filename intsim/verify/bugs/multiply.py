# SPDX-License-Identifier: Apache-2.0
"""Multiply of two tensors with one rule changed."""

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
    finishes,
    keep,
    multipliers,
    product_shifters,
    registers,
    replaced,
    significant,
    wraps,
)
from intsim.verify.bugs.requantize import zero_point_inside

__all__ = ["changes"]


def rule(
    a: Int64,
    b: Int64,
    multiplier: Int64,
    shift: Int64,
    a_zero_point: Int64,
    b_zero_point: Int64,
    zero_point: Int64,
    *,
    shifted: Shifter,
    finish: Finish,
    a_part: Part = keep,
    b_part: Part = keep,
    a_offset: Part = keep,
    b_offset: Part = keep,
    codes: Part = keep,
    m: Part = keep,
    product: Part = keep,
) -> Int64:
    """Return saturate(RND((a - a_zero_point) (b - b_zero_point) m / 2**t) + zero_point), each part replaceable."""
    ab = codes((a_part(a) - a_offset(a_zero_point)) * (b_part(b) - b_offset(b_zero_point)))
    return finish(shifted(product(ab * m(multiplier)), shift), zero_point)


def changes(
    a_range: IntRange, b_range: IntRange, to: IntRange, rounding: Rounding, *, per_channel: bool = False
) -> Changes:
    """Return multiply on (a, b, multiplier, shift, the zero points of a, b and the result), and every change of it."""
    shifting, finishing = product_shifters(rounding), finishes(to)
    golden = partial(rule, shifted=shifting[CONTROL], finish=finishing[CONTROL])

    def zero_point_first(
        a: Int64, b: Int64, multiplier: Int64, shift: Int64, a_zero: Int64, b_zero: Int64, zero_point: Int64
    ) -> Int64:
        total = (a - a_zero) * (b - b_zero) * multiplier
        return zero_point_inside(total, shift, zero_point, rounding=rounding, to=to)

    def without_cross_terms(
        a: Int64, b: Int64, multiplier: Int64, shift: Int64, a_zero: Int64, b_zero: Int64, zero_point: Int64
    ) -> Int64:
        total = (a * b - a_zero * b_zero) * multiplier
        return finishing[CONTROL](shifting[CONTROL](total, shift), zero_point)

    def exchanged(a: Int64, b: Int64, m: Int64, t: Int64, a_zero: Int64, b_zero: Int64, zero_point: Int64) -> Int64:
        return golden(a, b, m, t, b_zero, a_zero, zero_point)

    def factor(which: str, of: IntRange) -> dict[str, Part]:
        return {
            f"{which} factor read with the other sign": wraps(of.bits, signed=not of.signed),
            f"{which} factor one bit short": lambda x: x >> 1 << 1,
            f"magnitude of the {which} factor": np.abs,
        }

    def offset(which: str) -> dict[str, Part]:
        return {
            f"zero point of the {which} factor left out": np.zeros_like,
            f"zero point of the {which} factor added": np.negative,
        }

    def high_half(low: int, how: Rounding) -> Part:
        return lambda ab: rounding_right_shift(ab, np.array(low), how) << low

    return {
        **replaced(
            golden,
            shifted=shifting,
            finish=finishing,
            a_part=factor("first", a_range),
            b_part=factor("second", b_range),
            a_offset=offset("first"),
            b_offset=offset("second"),
            codes={
                **registers("product of codes", 16, 24, 32),
                "product of codes cut by 8 bits": high_half(8, Rounding.FLOOR),
                "product of codes rounded to its high half": high_half(15, Rounding.HALF_UP),
                "product of codes in float32": significant,
            },
            m={**multipliers(per_channel=per_channel), "multiplier in float32": significant},
            product={**registers("product", 32), "product wraps at 48 bits": wraps(48)},
        ),
        "zero point before rounding": zero_point_first,
        "cross terms of the zero points left out": without_cross_terms,
        "zero points of the factors exchanged": exchanged,
    }
