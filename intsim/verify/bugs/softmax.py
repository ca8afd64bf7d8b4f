# SPDX-License-Identifier: Apache-2.0
"""Softmax with one rule changed."""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import numpy as np

from intsim.fixedpoint import INT16, Rounding, rounding_right_shift
from intsim.profile import Profile
from intsim.verify.bugs.parts import (
    AS_INT16,
    CONTROL,
    Changes,
    Divider,
    Int64,
    Part,
    Register,
    Shifter,
    carried,
    clamps,
    dividers,
    keep,
    late,
    multipliers,
    nonzero,
    prefixed,
    product_shifters,
    reciprocals,
    registers,
    replaced,
    reversed_lanes,
    wraps,
)
from intsim.verify.bugs.unary import exp_inside

__all__ = ["changes"]

LOWEST_DIFFERENCE: Final = -(1 << 32)  # of two int32 scores; times any multiplier it fits int64
Step = Literal["maximum", "lowest input", "sum", "result"]


def rule(
    acc: Int64,
    mask: Int64,
    multiplier: Int64,
    shift: Int64,
    *,
    one: int,
    shifted: Shifter,
    divided: Divider,
    exp: Part,
    masked_in: tuple[Step, ...] = ("maximum", "sum", "result"),
    mask_of: Part = keep,
    scores: Part = keep,
    maximum: Callable[[Int64], Int64] = lambda seen: seen.max(axis=-1, keepdims=True),
    difference: Part = keep,
    m: Part = keep,
    x_of: Part = AS_INT16,
    summed: Part = keep,
    total: Part = keep,
    narrow: Part,
    empty: Callable[[int], int] = lambda _: 0,
) -> Int64:
    """Return P(e one / sum e), saturated, e = exp(R((acc - max acc) m / 2**shift)) where the mask is 1, else 0."""
    acc, kept = scores(acc), np.broadcast_to(mask_of(mask) != 0, acc.shape)
    peak = maximum(np.where(kept, acc, acc.min(initial=0) - 1) if "maximum" in masked_in else acc)
    below = np.where(kept, difference(acc - peak), acc - peak).clip(LOWEST_DIFFERENCE, 0)
    x = x_of(shifted(below * m(multiplier), shift)).clip(INT16.min, 0)
    e = exp(np.where(kept, x, INT16.min) if "lowest input" in masked_in else x)
    sums = np.where(kept, e, 0) if "sum" in masked_in else e
    shown = np.where(kept, e, 0) if "result" in masked_in else e
    probs = narrow(divided(shown * one, nonzero(total(summed(sums).sum(axis=-1, keepdims=True)))))
    is_defined = kept.any(axis=-1, keepdims=True) | ("lowest input" in masked_in)
    return np.where(is_defined, probs, empty(acc.shape[-1]))


def changes(profile: Profile) -> Changes:
    """Return softmax on (acc, mask, multiplier, shift), and every change of it."""
    one, exps = profile.softmax.one, exp_inside(profile)
    shifting, dividing = product_shifters(profile.rounding), dividers(profile.step_rounding)
    greatest = profile.probability_range.max
    golden = partial(
        rule,
        one=one,
        shifted=shifting[CONTROL],
        divided=dividing[CONTROL],
        exp=exps[CONTROL],
        narrow=clamps(0, greatest),
    )

    def by_reciprocal(dividend: Int64, divisor: Int64) -> Int64:  # as I-BERT's code: floor(2**32 / sum), then 24 bits
        return rounding_right_shift(dividend // one * ((1 << 32) // divisor), np.array(24), Rounding.FLOOR)

    def highest(seen: Int64) -> Int64:
        return seen.max(axis=-1, keepdims=True)

    def never_cleared(seen: Int64) -> Int64:
        return np.maximum.accumulate(highest(seen).reshape(-1)).reshape(*seen.shape[:-1], 1)

    def without_last(seen: Int64) -> Int64:
        return seen[..., : max(seen.shape[-1] - 1, 1)].max(axis=-1, keepdims=True)

    def masked_scores_as_0(acc: Int64, mask: Int64, multiplier: Int64, shift: Int64) -> Int64:
        return golden(acc * mask, np.ones_like(mask), multiplier, shift)

    masked_in: dict[str, tuple[Step, ...]] = {
        "masked positions in the maximum": ("sum", "result"),
        "masked positions in the sum": ("maximum", "result"),
        "masked positions not zeroed": ("maximum", "sum"),
        "mask applied to the result only": ("result",),
        "masked positions as the lowest input of exp": ("maximum", "lowest input"),
    }
    return {
        **replaced(
            golden,
            shifted=shifting,
            divided={
                **prefixed("probabilities", dividing),
                **reciprocals(),
                "reciprocal of 32 bits, as I-BERT's code": by_reciprocal,
            },
            one={f"one = {other}": other for other in (greatest + 1, greatest, greatest - 1, 128, 127) if other != one},
            narrow={
                f"{greatest + 1} wraps": wraps(profile.probability_range.bits, signed=False),
                f"saturates at {greatest // 2}": clamps(0, greatest // 2),
            },
            mask_of={
                "mask left out": np.ones_like,
                "mask inverted": lambda mask: 1 - mask,
                "last key masked": lambda mask: mask & np.roll(mask, -1, axis=-1),
                "mask lanes reversed": reversed_lanes,
            },
            masked_in=masked_in,
            empty={"fully masked row uniform": lambda length: -(-one // length)},
            maximum={
                "maximum at least 0": lambda seen: highest(seen).clip(0),
                "maximum not cleared between rows": never_cleared,
                "maximum of the row before": lambda seen: late(highest(seen)),
                "maximum without the last key": without_last,
                "maximum not subtracted": lambda seen: np.zeros_like(seen[..., :1]),
            },
            scores={"scores wrap at 16 bits": Register(bits=16, signed=True, saturating=False)},
            difference=registers("difference", 16),
            m=multipliers(),
            x_of={**registers("input of exp", 12, 13, 15), "input of exp wraps at 16 bits": wraps(16)},
            total={
                **registers("sum", 16, 18),
                **registers("sum", 16, signed=False),
                **carried("sum", 32, signed=False),
                "sum of the row before": late,
            },
            summed={"sum without the last key": lambda e: e[..., :-1]},
            exp=prefixed("exp", exps),
        ),
        "masked scores as 0": masked_scores_as_0,
    }
