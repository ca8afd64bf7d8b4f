# SPDX-License-Identifier: Apache-2.0
"""Add of tensors of different scales with one rule changed."""

from collections.abc import Sequence
from functools import partial, reduce

import numpy as np

from intsim.fixedpoint import INT8, MAX_SHIFT, IntRange, Rounding, rounding_right_shift
from intsim.profile import Profile
from intsim.verify.bugs.parts import (
    AS_INT32,
    CONTROL,
    Changes,
    Finish,
    Int64,
    Part,
    Shifter,
    channel_0,
    finishes,
    keep,
    multipliers,
    next_channel,
    product_shifters,
    saturates,
    significant,
    wraps,
)
from intsim.verify.bugs.requantize import zero_point_inside

__all__ = ["changes"]

Fields = Sequence[Int64]


def _once(products: Fields, shifts: Fields, *, total: Part = keep) -> tuple[Int64, Int64]:
    """Return the sum of products brought to the largest shift, as far as int64 reaches, and that shift."""
    largest = reduce(np.maximum, shifts).clip(0, MAX_SHIFT)
    aligned = [p << (largest - t).clip(0, MAX_SHIFT) for p, t in zip(products, shifts, strict=True)]
    return total(reduce(np.add, aligned)), largest


def rule(
    operands: Fields,
    ratios: Fields,
    shifts: Fields,
    zero_point: Int64,
    *,
    once: bool,
    shifted: Shifter,
    finish: Finish,
    x: Sequence[Part],
    m: Sequence[Part],
    product: Part = keep,
    total: Part = keep,
) -> Int64:
    """Return saturate(RND(sum_i x_i m_i / 2**t) + zero_point), or with RND of each product before the sum."""
    products = [product(part(a) * of(b)) for a, b, part, of in zip(operands, ratios, x, m, strict=True)]
    if once:
        return finish(shifted(*_once(products, shifts, total=total)), zero_point)
    scaled = [AS_INT32(shifted(p, t)) for p, t in zip(products, shifts, strict=True)]
    return finish(total(reduce(np.add, scaled)), zero_point)


def changes(profile: Profile, to: IntRange, count: int, *, per_channel: bool = False) -> Changes:
    """Return add of ``count`` operands on (operands, multipliers, shifts, zero_point), and every change of it."""
    shifting, finishing, once = product_shifters(profile.rounding), finishes(to), profile.sum == "once"
    kept: list[Part] = [keep] * count
    golden = partial(rule, once=once, shifted=shifting[CONTROL], finish=finishing[CONTROL], x=kept, m=kept)

    def alone(i: int, part: Part) -> list[Part]:
        return [*kept[:i], part, *kept[i + 1 :]]

    def zero_point_first(operands: Fields, ratios: Fields, shifts: Fields, zero_point: Int64) -> Int64:
        products = [a * b for a, b in zip(operands, ratios, strict=True)]
        return zero_point_inside(*_once(products, shifts), zero_point, rounding=profile.rounding, to=to)

    def multipliers_exchanged(operands: Fields, ratios: Fields, shifts: Fields, zero_point: Int64) -> Int64:
        return golden(operands, [ratios[1], ratios[0], *ratios[2:]], shifts, zero_point)

    def at_15_bits(total: Int64, shift: Int64) -> Int64:
        first = np.minimum(shift, 15)
        return shifting[CONTROL](rounding_right_shift(total, first, Rounding.HALF_UP), shift - first)

    def first_multiplier(operands: Fields, ratios: Fields, shifts: Fields, zero_point: Int64) -> Int64:
        return golden(operands, [ratios[0]] * count, shifts, zero_point)

    def zero_point_for_each(operands: Fields, ratios: Fields, shifts: Fields, zero_point: Int64) -> Int64:
        return golden(operands, ratios, shifts, count * zero_point)

    def shifts_exchanged(operands: Fields, ratios: Fields, shifts: Fields, zero_point: Int64) -> Int64:
        return golden(operands, ratios, shifts[::-1], zero_point)

    def each_operand(i: int) -> Changes:
        return {
            f"operand {i} left out": partial(golden, x=alone(i, np.zeros_like)),
            f"operand {i} subtracted": partial(golden, x=alone(i, np.negative)),
            f"operand {i} saturates at 8 bits": partial(golden, x=alone(i, saturates(INT8))),
            f"multiplier {i} in float32": partial(golden, m=alone(i, significant)),
        }

    channels: Changes = {
        "multipliers of channel 0": partial(golden, m=[channel_0] * count),
        "multipliers of the next channel": partial(golden, m=[next_channel] * count),
    }
    return {
        **(channels if per_channel else {}),
        **{name: partial(golden, shifted=other) for name, other in shifting.items()},
        "two roundings, at 15 bits": partial(golden, shifted=at_15_bits),
        "rounded each" if once else "rounded once": partial(golden, once=not once),
        **{name: partial(golden, finish=other) for name, other in finishing.items()},
        **({"zero point before rounding": zero_point_first} if once else {"shifts exchanged": shifts_exchanged}),
        **{name: partial(golden, m=[other] * count) for name, other in multipliers().items()},
        "multipliers exchanged": multipliers_exchanged,
        "first multiplier for all": first_multiplier,
        "zero point once per operand": zero_point_for_each,
        "products wrap at 32 bits": partial(golden, product=wraps(32)),
        "products saturate at 32 bits": partial(golden, product=AS_INT32),
        "sum saturates at 32 bits": partial(golden, total=AS_INT32),
        "operands wrap at 16 bits": partial(golden, x=[wraps(16)] * count),
        "sum wraps at 32 bits": partial(golden, total=wraps(32)),
        **{name: change for i in range(count) for name, change in each_operand(i).items()},
    }
