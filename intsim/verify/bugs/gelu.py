# SPDX-License-Identifier: Apache-2.0
"""i-GELU with one rule changed."""

from dataclasses import replace
from functools import partial

import numpy as np

from intsim.fixedpoint import IntRange, Rounding
from intsim.profile import PROFILES, Profile
from intsim.verify.bugs.parts import (
    AS_INT16,
    AS_INT32,
    CONTROL,
    Changes,
    Int64,
    Part,
    Shifter,
    keep,
    saturates,
    shifters,
    wraps,
)

__all__ = ["changes"]


def rule(
    x: Int64,
    *,
    q_b: int,
    q_c: int,
    q_1: int,
    output_shift: int,
    shifted: Shifter,
    x_of: Part = keep,
    clip: int,
    sign: Part = np.sign,
    square: Part = keep,
    product: Part = keep,
    narrow: Part = AS_INT32,
) -> Int64:
    """Return RND(-x (sgn x ((min(|x|, clip) + q_b)**2 + q_c) + q_1) / 2**output_shift), each part replaceable."""
    x = x_of(x)
    magnitude = np.minimum(np.abs(x), clip)
    q_erf = sign(x) * (square((magnitude + q_b) ** 2) + q_c)
    return narrow(shifted(product(-x * (q_erf + q_1)), np.array(output_shift)))


def changes(profile: Profile) -> Changes:
    """Return gelu on (x,), and every change of it."""
    own, rounding = profile.gelu, profile.step_rounding
    (q_b, q_1), shifting = own.constants(rounding), shifters(rounding)
    golden = partial(
        rule, clip=-q_b, q_b=q_b, q_c=q_1, q_1=q_1, output_shift=own.output_shift, shifted=shifting[CONTROL]
    )
    floor_b, floor_1 = own.constants(Rounding.FLOOR)
    others = {f"constants rounded {other}": own.constants(other) for other in Rounding}
    others["constants rounded ceiling"] = (floor_b + 1, floor_1 + 1)
    for other in PROFILES.values():
        theirs = replace(own, a=other.gelu.a, b=other.gelu.b)
        others[f"polynomial of profile {other.name}"] = theirs.constants(rounding)
    return {
        **{name: partial(golden, shifted=other) for name, other in shifting.items()},
        **{f"q_b {step:+d}": partial(golden, clip=-q_b - step, q_b=q_b + step) for step in (-1, 1)},
        **{f"q_1 {step:+d}": partial(golden, q_1=q_1 + step) for step in (-1, 1)},
        **{f"q_c {step:+d}": partial(golden, q_c=q_1 + step) for step in (-1, 1)},
        **{
            name: partial(golden, clip=-b, q_b=b, q_c=c, q_1=c)
            for name, (b, c) in others.items()
            if (b, c) != (q_b, q_1)
        },
        "clip left out": partial(golden, clip=1 << 16),
        "clip one too high": partial(golden, clip=1 - q_b),
        "clip one too low": partial(golden, clip=-1 - q_b),
        "q_1 left out": partial(golden, q_1=0),
        "square wraps at 16 bits": partial(golden, square=wraps(16)),
        "square wraps at 16 unsigned bits": partial(golden, square=wraps(16, signed=False)),
        "square saturates at 16 bits": partial(golden, square=AS_INT16),
        "sign reversed": partial(golden, sign=lambda x: -np.sign(x)),
        "input wraps at 8 bits": partial(golden, x_of=wraps(8)),
        "input saturates at 12 bits": partial(golden, x_of=saturates(IntRange(12))),
        "product saturates at 32 bits": partial(golden, product=AS_INT32),
        "sign left out": partial(golden, sign=np.ones_like),
        "sign of 0 is +1": partial(golden, sign=lambda x: np.where(x >= 0, 1, -1)),
        "magnitude of the input": partial(golden, x_of=np.abs),
        "input of 8 bits": partial(golden, x_of=lambda x: x >> 8 << 8),
        "input of 12 bits": partial(golden, x_of=lambda x: x >> 4 << 4),
        "product wraps at 32 bits": partial(golden, product=wraps(32)),
        "result saturates at 16 bits": partial(golden, narrow=AS_INT16),
        "result wraps at 16 bits": partial(golden, narrow=wraps(16)),
        "result wraps at 8 bits": partial(golden, narrow=wraps(8)),
    }
