# SPDX-License-Identifier: Apache-2.0
"""Rows brought to length 1, with one rule changed."""

from functools import partial
from typing import Final

import numpy as np

from intsim.ops.l2_normalize import ROOT_FRACTION, UNIT_FRACTION
from intsim.profile import Profile
from intsim.verify.bugs import isqrt as isqrt_bugs
from intsim.verify.bugs.parts import (
    CONTROL,
    Changes,
    Divider,
    Int64,
    Part,
    carried,
    dividers,
    keep,
    late,
    prefixed,
    reciprocals,
    registers,
    replaced,
)

__all__ = ["changes"]

TOP: Final = (1 << 62) - 1  # what isqrt takes


def rule(
    x: Int64,
    *,
    divided: Divider,
    root: Part,
    fraction: int = UNIT_FRACTION,
    whole: int = 0,
    summed: Part = keep,
    squares: Part = np.square,
    total_of: Part = keep,
    length_of: Part = keep,
    result: Part = keep,
) -> Int64:
    """Return P(x 2**(fraction + 8) / isqrt(2**16 sum x**2)), each part replaceable.

    ``whole`` of the 8 fraction bits of the root are lost.
    """
    total = total_of(summed(squares(x)).sum(axis=-1, keepdims=True))
    length = root((total << 2 * (ROOT_FRACTION - whole)).clip(0, TOP)) << whole
    return result(divided(x << fraction + ROOT_FRACTION, np.maximum(length_of(length), 1)))


def changes(profile: Profile) -> Changes:
    """Return l2_normalize on (x,), and every change of it."""
    dividing, roots = dividers(profile.step_rounding), isqrt_bugs.changes()
    golden = partial(rule, divided=dividing[CONTROL], root=roots[CONTROL])
    # a float64 root is exact at the sizes of vectors
    roots = {name: part for name, part in roots.items() if "float64" not in name}
    return replaced(
        golden,
        divided={**dividing, **reciprocals()},
        root=prefixed("root", roots),
        fraction={
            "one fraction bit too few": UNIT_FRACTION - 1,
            "one fraction bit too many": UNIT_FRACTION + 1,
        },
        whole={"root without fraction bits": ROOT_FRACTION, "root with one fraction bit too few": 1},
        summed={"sum without the last channel": lambda x: x[..., :-1], **registers("square", 16)},
        squares={
            "magnitudes in place of squares": np.abs,
            "squares about the mean": lambda x: np.square(x - x.sum(axis=-1, keepdims=True) // x.shape[-1]),
        },
        total_of={
            **registers("sum of squares", 32),
            **registers("sum of squares", 32, signed=False),
            **carried("sum of squares", 40, signed=False),
            "sum of squares of the row before": late,
        },
        length_of={"root left out": lambda length: np.full_like(length, 1 << ROOT_FRACTION)},
        result=registers("result", 16),
    )
