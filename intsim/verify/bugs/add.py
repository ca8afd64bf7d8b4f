# SPDX-License-Identifier: Apache-2.0
"""Add of tensors of different scales with one rule changed."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np

from intsim.fixedpoint import MAX_SHIFT, IntRange, Rounding, rounding_right_shift
from intsim.profile import Profile
from intsim.verify.bugs.parts import (
    AS_INT32,
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
    saturates,
    significant,
    wraps,
)
from intsim.verify.bugs.requantize import zero_point_inside

__all__ = ["changes"]

Fields = Sequence[Int64]  # one of each operand
Of = Callable[[Fields], Fields]


def _each(part: Part) -> Of:
    return lambda fields: [part(field) for field in fields]


def _only(i: int, part: Part) -> Of:
    return lambda fields: [part(field) if j == i else field for j, field in enumerate(fields)]


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
    x: Of = list,
    m: Of = list,
    t: Of = list,
    product: Part = keep,
    total: Part = keep,
) -> Int64:
    """Return saturate(RND(sum_i x_i m_i / 2**t) + zero_point), or with RND of each product before the sum."""
    products = [product(a * b) for a, b in zip(x(operands), m(ratios), strict=True)]
    if once:
        return finish(shifted(*_once(products, t(shifts), total=total)), zero_point)
    scaled = [AS_INT32(shifted(p, s)) for p, s in zip(products, t(shifts), strict=True)]
    return finish(total(reduce(np.add, scaled)), zero_point)


def changes(profile: Profile, to: IntRange, count: int, *, per_channel: bool = False) -> Changes:
    """Return add of ``count`` operands on (operands, multipliers, shifts, zero_point), and every change of it."""
    shifting, finishing, once = product_shifters(profile.rounding), finishes(to), profile.sum == "once"
    golden = partial(rule, once=once, shifted=shifting[CONTROL], finish=finishing[CONTROL])

    def zero_point_first(operands: Fields, ratios: Fields, shifts: Fields, zero_point: Int64) -> Int64:
        products = [a * b for a, b in zip(operands, ratios, strict=True)]
        return zero_point_inside(*_once(products, shifts), zero_point, rounding=profile.rounding, to=to)

    def zero_point_for_each(scaled: Int64, zero_point: Int64) -> Int64:
        return finishing[CONTROL](scaled, count * zero_point)

    def at_15_bits(total: Int64, shift: Int64) -> Int64:
        first = np.minimum(shift, 15)
        return shifting[CONTROL](rounding_right_shift(total, first, Rounding.HALF_UP), shift - first)

    alone: dict[str, Part] = {
        "left out": np.zeros_like,
        "subtracted": np.negative,
        "saturates at 8 bits": saturates(8),
    }
    return {
        **replaced(
            golden,
            shifted={**shifting, "two roundings, at 15 bits": at_15_bits},
            finish={**finishing, "zero point once per operand": zero_point_for_each},
            m={
                **{name: _each(part) for name, part in multipliers(per_channel=per_channel).items()},
                **{f"multiplier {i} in float32": _only(i, significant) for i in range(count)},
                "multipliers exchanged": lambda ratios: [*ratios[1:2], ratios[0], *ratios[2:]],
                "first multiplier for all": lambda ratios: [ratios[0]] * count,
            },
            x={
                "operands wrap at 16 bits": _each(wraps(16)),
                **{f"operand {i} {how}": _only(i, part) for i in range(count) for how, part in alone.items()},
            },
            product=registers("product", 32),
            total=registers("sum", 32),
            once={"rounded each" if once else "rounded once": not once},
            t={} if once else {"shifts exchanged": lambda shifts: shifts[::-1]},
        ),
        **({"zero point before rounding": zero_point_first} if once else {}),
    }
