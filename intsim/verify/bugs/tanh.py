# SPDX-License-Identifier: Apache-2.0
"""Tanh with one rule changed."""

from functools import partial

import numpy as np

from intsim.fixedpoint import IntRange
from intsim.profile import Profile
from intsim.verify.bugs import exp as exp_bugs
from intsim.verify.bugs.parts import (
    AS_INT16,
    CONTROL,
    Changes,
    Divider,
    Int64,
    Part,
    dividers,
    keep,
    nonzero,
    prefixed,
    reciprocals,
    saturates,
    wraps,
)

__all__ = ["changes"]


def rule(
    x: Int64,
    *,
    fraction: int,
    divided: Divider,
    exp: Part,
    x_of: Part = keep,
    sign: Part = np.sign,
    sign_first: bool = False,
    denominator: Divider = np.add,
    narrow: Part = AS_INT16,
) -> Int64:
    """Return sgn x P((one - e) 2**fraction / (one + e)), e = exp(-|x|), one = exp(0), each part replaceable."""
    x = x_of(x)
    one, e = exp(np.zeros(1, np.int64)), exp(-np.abs(x))
    dividend, total = (one - e) << fraction, nonzero(denominator(one, e))
    if sign_first:
        return narrow(divided(sign(x) * dividend, total))
    return narrow(sign(x) * divided(dividend, total))


def changes(profile: Profile) -> Changes:
    """Return tanh on (x,), and every change of it."""
    dividing, exps, fraction = (
        dividers(profile.step_rounding),
        exp_bugs.inner_changes(profile),
        profile.tanh.output_fraction,
    )
    golden = partial(rule, fraction=fraction, divided=dividing[CONTROL], exp=exps[CONTROL])
    return {
        **{name: partial(golden, divided=other) for name, other in dividing.items()},
        "rounded after the sign": partial(golden, sign_first=True),
        "one fraction bit too many": partial(golden, fraction=fraction + 1),
        "one fraction bit too few": partial(golden, fraction=fraction - 1),
        "sign left out": partial(golden, sign=np.ones_like),
        "input of 8 bits": partial(golden, x_of=lambda x: x >> 8 << 8),
        "input of 12 bits": partial(golden, x_of=lambda x: x >> 4 << 4),
        "input wraps at 8 bits": partial(golden, x_of=wraps(8)),
        "input saturates at 12 bits": partial(golden, x_of=saturates(IntRange(12))),
        "argument not doubled": partial(golden, x_of=lambda x: np.sign(x) * (np.abs(x) // 2)),
        "denominator e alone": partial(golden, denominator=lambda _, e: e),
        **{name: partial(golden, divided=other) for name, other in reciprocals().items()},
        "result wraps at 8 bits": partial(golden, narrow=wraps(8)),
        **prefixed("exp", {name: partial(golden, exp=other) for name, other in exps.items()}),
    }
