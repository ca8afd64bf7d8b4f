# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding with one rule changed."""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from intsim.fixedpoint import Rounding
from intsim.ops.rotary import TURN_FRACTION, paired
from intsim.verify.bugs.parts import (
    CONTROL,
    Changes,
    Int64,
    Part,
    Shifter,
    channel_0,
    clamps,
    inputs,
    keep,
    next_channel,
    registers,
    replaced,
    shifters,
)

__all__ = ["changes"]

ONE: Final = 1 << TURN_FRACTION
SHIFT: Final = np.array(TURN_FRACTION)
Turn = Callable[[Int64, Int64, Int64, Int64, Part], tuple[Int64, Int64]]  # a, b, cos, sin, RND(y / 2**14)


def _turned(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    return rounded(a * cos - b * sin), rounded(b * cos + a * sin)


def _each_product(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    return rounded(a * cos) - rounded(b * sin), rounded(b * cos) + rounded(a * sin)


def _in_place(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    a = rounded(a * cos - b * sin)
    return a, rounded(b * cos + a * sin)


def _first_alone(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    return rounded(a * cos - b * sin), b


def _reflected(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    return rounded(a * cos + b * sin), rounded(b * cos + a * sin)


def _exchanged(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    return _turned(a, b, sin, cos, rounded)


def _results_exchanged(a: Int64, b: Int64, cos: Int64, sin: Int64, rounded: Part) -> tuple[Int64, Int64]:
    first, second = _turned(a, b, cos, sin, rounded)
    return second, first


def rule(
    x: Int64,
    cos: Int64,
    sin: Int64,
    neighbours: Int64,
    *,
    shifted: Shifter,
    turned: Turn = _turned,
    x_of: Part = keep,
    cos_of: Part = keep,
    sin_of: Part = keep,
    both_of: Part = keep,
    neighbours_of: Part = keep,
    total: Part = keep,
    rest: Part = keep,
    result: Part = keep,
) -> Int64:
    """Return (..., D) with pairs turned by (..., P), neighbours where ``neighbours`` (..., 1) is 1, else halves."""
    x, cos, sin, pairs = x_of(x), both_of(cos_of(cos)), both_of(sin_of(sin)), cos.shape[-1]

    def by(first: slice, second: slice) -> Int64:
        y = np.concatenate([x[..., : 2 * pairs], rest(x[..., 2 * pairs :])], axis=-1)
        rotated = turned(x[..., first], x[..., second], cos, sin, lambda y: shifted(total(y), SHIFT))
        y[..., first], y[..., second] = rotated
        return y

    halves, beside = by(*paired(pairs, "halves")), by(*paired(pairs, "neighbours"))
    return result(np.where(neighbours_of(neighbours) != 0, beside, halves))


def changes(rounding: Rounding) -> Changes:
    """Return rotary on (x, cos, sin, neighbours), and every change of it."""
    shifting = shifters(rounding)
    golden = partial(rule, shifted=shifting[CONTROL])
    below_one = clamps(-ONE, ONE - 1)
    return replaced(
        golden,
        shifted=shifting,
        turned={
            "each product rounded": _each_product,
            "second channel from the turned first": _in_place,
            "second channel not turned": _first_alone,
            "reflected in place of turned": _reflected,
            "cos and sin exchanged": _exchanged,
            "channels of a pair exchanged": _results_exchanged,
        },
        x_of=inputs(),
        cos_of={"cos of 1 as the code below": below_one, "cos left out": lambda c: np.full_like(c, ONE)},
        sin_of={
            "turned backwards": np.negative,
            "sin of 1 as the code below": below_one,
            "sin left out": np.zeros_like,
        },
        both_of={
            **{f"table of {16 - low} bits": lambda t, low=low: t >> low << low for low in (8, 4, 1)},
            "angle of the first pair for all": channel_0,
            "angle of the next pair": next_channel,
        },
        neighbours_of={"the other pairing": lambda bit: 1 - bit},
        total=registers("sum of products", 24, 30),
        rest={"channels beyond the pairs as 0": np.zeros_like, "channels beyond the pairs negated": np.negative},
        result=registers("result", 8, 16),
    )
