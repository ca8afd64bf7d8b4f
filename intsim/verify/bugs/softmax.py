# SPDX-License-Identifier: Apache-2.0
"""Softmax with one rule changed."""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import numpy as np

from intsim.fixedpoint import INT16, Rounding, rounding_right_shift
from intsim.profile import PROFILES, Profile
from intsim.verify.bugs import exp as exp_bugs
from intsim.verify.bugs.parts import (
    AS_INT16,
    CONTROL,
    Changes,
    Divider,
    Int64,
    Part,
    Shifter,
    clamps,
    dividers,
    keep,
    multipliers,
    nonzero,
    prefixed,
    product_shifters,
    reciprocals,
    wraps,
)

__all__ = ["changes"]

AS_UINT8: Final = clamps(0, 255)
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
    masked_in: frozenset[Step] = frozenset(("maximum", "sum", "result")),
    mask_of: Part = keep,
    scores: Part = keep,
    maximum: Callable[[Int64], Int64] = lambda seen: seen.max(axis=-1, keepdims=True),
    difference: Part = keep,
    m: Part = keep,
    x_of: Part = AS_INT16,
    summed: Part = keep,
    total: Part = keep,
    narrow: Part = AS_UINT8,
    empty: Callable[[int], int] = lambda _: 0,
) -> Int64:
    """Return min(P(e one / sum e), 255), e = exp(R((acc - max acc) m / 2**shift)) where the mask is 1, else 0."""
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
    one, exps = profile.softmax.one, exp_bugs.inner_changes(profile)
    shifting, dividing = product_shifters(profile.rounding), dividers(profile.step_rounding)
    golden = partial(rule, one=one, shifted=shifting[CONTROL], divided=dividing[CONTROL], exp=exps[CONTROL])

    def by_reciprocal(dividend: Int64, divisor: Int64) -> Int64:  # as I-BERT's code: floor(2**32 / sum), then 24 bits
        return rounding_right_shift(dividend // one * ((1 << 32) // divisor), np.array(24), Rounding.FLOOR)

    def without_last(seen: Int64) -> Int64:
        return seen[..., : max(seen.shape[-1] - 1, 1)].max(axis=-1, keepdims=True)

    def masked_scores_as_0(acc: Int64, mask: Int64, multiplier: Int64, shift: Int64) -> Int64:
        return golden(acc * mask, np.ones_like(mask), multiplier, shift)

    def masking(*steps: Step) -> Callable[..., Int64]:
        return partial(golden, masked_in=frozenset(steps))

    return {
        **{name: partial(golden, shifted=other) for name, other in shifting.items()},
        **prefixed("probabilities", {name: partial(golden, divided=other) for name, other in dividing.items()}),
        **{name: partial(golden, divided=other) for name, other in reciprocals().items()},
        "reciprocal of 32 bits, as I-BERT's code": partial(golden, divided=by_reciprocal),
        **{f"one = {other}": partial(golden, one=other) for other in (256, 255, 254, 128, 127) if other != one},
        "256 wraps": partial(golden, narrow=wraps(8, signed=False)),
        "saturates at 127": partial(golden, narrow=clamps(0, 127)),
        "mask left out": partial(golden, mask_of=np.ones_like),
        "mask inverted": partial(golden, mask_of=lambda mask: 1 - mask),
        "masked positions in the maximum": masking("sum", "result"),
        "masked positions in the sum": masking("maximum", "result"),
        "masked positions not zeroed": masking("maximum", "sum"),
        "mask applied to the result only": masking("result"),
        "masked positions as the lowest input of exp": masking("maximum", "lowest input"),
        "fully masked row uniform": partial(golden, empty=lambda length: -(-one // length)),
        "masked scores as 0": masked_scores_as_0,
        "last key masked": partial(golden, mask_of=lambda mask: mask & np.roll(mask, -1, axis=-1)),
        "maximum at least 0": partial(golden, maximum=lambda seen: seen.max(axis=-1, keepdims=True).clip(0)),
        "maximum without the last key": partial(golden, maximum=without_last),
        "maximum not subtracted": partial(golden, maximum=lambda seen: np.zeros_like(seen[..., :1])),
        "scores wrap at 16 bits": partial(golden, scores=wraps(16)),
        "difference wraps at 16 bits": partial(golden, difference=wraps(16)),
        **{name: partial(golden, m=other) for name, other in multipliers().items()},
        "input of exp wraps at 16 bits": partial(golden, x_of=wraps(16)),
        **{f"input of exp saturates at -2**{k}": partial(golden, x_of=clamps(-(1 << k), 0)) for k in (11, 12, 14)},
        "sum wraps at 16 signed bits": partial(golden, total=wraps(16)),
        "sum wraps at 16 bits": partial(golden, total=wraps(16, signed=False)),
        **{f"sum saturates at 2**{k} - 1": partial(golden, total=clamps(0, (1 << k) - 1)) for k in (15, 16, 17)},
        "sum without the last key": partial(golden, summed=lambda e: e[..., :-1]),
        **prefixed("exp", {name: partial(golden, exp=other) for name, other in exps.items()}),
        **{
            f"exp of profile {other.name}": partial(golden, exp=exp_bugs.changes(other)[CONTROL])
            for other in PROFILES.values()
            if other.exp != profile.exp
        },
    }
