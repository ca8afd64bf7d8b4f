# SPDX-License-Identifier: Apache-2.0
"""Sigmoid with one rule changed."""

from functools import partial

import numpy as np

from intsim.profile import Profile
from intsim.verify.bugs import exp as exp_bugs
from intsim.verify.bugs.parts import (
    AS_INT16,
    CONTROL,
    Changes,
    Divider,
    Int64,
    Part,
    clamps,
    dividers,
    keep,
    nonzero,
    prefixed,
    reciprocals,
)

__all__ = ["changes"]


def rule(
    x: Int64,
    *,
    fraction: int,
    divided: Divider,
    exp: Part,
    x_of: Part = keep,
    is_complement: bool = True,
    narrow: Part = AS_INT16,
) -> Int64:
    """Return y = P(one 2**fraction / (one + e)) for x >= 0, else 2**fraction - y, with e = exp(-|x|), one = exp(0)."""
    x = x_of(x)
    one, e = exp(np.zeros(1, np.int64)), exp(-np.abs(x))
    total = nonzero(one + e)
    y = divided(one << fraction, total)
    below = (1 << fraction) - y if is_complement else divided(e << fraction, total)
    return narrow(np.where(x >= 0, y, below))


def changes(profile: Profile) -> Changes:
    """Return sigmoid on (x,), and every change of it."""
    fraction, exps = profile.sigmoid.output_fraction, exp_bugs.inner_changes(profile)
    dividing = dividers(profile.step_rounding)
    golden = partial(rule, fraction=fraction, divided=dividing[CONTROL], exp=exps[CONTROL])
    return {
        **{name: partial(golden, divided=other) for name, other in dividing.items()},
        "one fraction bit too many": partial(golden, fraction=fraction + 1),
        "one fraction bit too few": partial(golden, fraction=fraction - 1),
        **{name: partial(golden, divided=other) for name, other in reciprocals().items()},
        "negative side divided by itself": partial(golden, is_complement=False),
        "negative side is the positive one": partial(golden, x_of=np.abs),
        "one saturates one code below": partial(golden, narrow=clamps(0, (1 << fraction) - 1)),
        **prefixed("exp", {name: partial(golden, exp=other) for name, other in exps.items()}),
    }
