# SPDX-License-Identifier: Apache-2.0
"""i-exp with one rule changed; softmax, tanh and sigmoid are made of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from intsim.fixedpoint import MAX_SHIFT, Rounding
from intsim.profile import PROFILES, Profile
from intsim.verify.bugs.parts import (
    AS_INT16,
    AS_INT32,
    CONTROL,
    Changes,
    Int64,
    Part,
    Shifter,
    clamps,
    keep,
    shifters,
    wraps,
)

__all__ = ["changes", "inner_changes"]

LAST_BITS: Final = ("rounding", "half added", "logical shift", "two roundings", "q_b", "q_c")
Constants = tuple[int, int, int]  # q_ln2, q_b, q_c


def rule(
    x: Int64,
    *,
    constants: Constants,
    guard_bits: int,
    output_shift: int,
    shifted: Shifter,
    q_of: Part = keep,
    z_of: Callable[[Int64, int], Int64] = lambda q, q_ln2: -q // q_ln2,
    z_shift: Part = keep,
    square: Part = keep,
    polynomial: Part = keep,
    narrow: Part = AS_INT32,
) -> Int64:
    """Return RND(((q + z q_ln2 + q_b)**2 + q_c) / 2**(z + output_shift)), z = floor(-q / q_ln2)."""
    q_ln2, q_b, q_c = constants
    q = q_of(x) << guard_bits
    z = z_of(q, q_ln2)
    value = polynomial(square((q + z * q_ln2 + q_b) ** 2) + q_c)
    return narrow(shifted(value, (z_shift(z.clip(0)) + output_shift).clip(0, MAX_SHIFT)))


def changes(profile: Profile) -> Changes:
    """Return exp on (x,), and every change of it."""
    own, rounding = profile.exp, profile.step_rounding
    constants, shifting = own.constants(rounding), shifters(rounding)
    golden = partial(
        rule,
        constants=constants,
        guard_bits=own.guard_bits,
        output_shift=own.output_shift,
        shifted=shifting[CONTROL],
    )

    def moved(k: int, step: int) -> Constants:
        q_ln2, q_b, q_c = (value + step * (j == k) for j, value in enumerate(constants))
        return q_ln2, q_b, q_c

    q_ln2, q_b, q_c = own.constants(Rounding.FLOOR)
    rounded = {str(other): own.constants(other) for other in Rounding} | {"ceiling": (q_ln2 + 1, q_b + 1, q_c + 1)}
    coarse = replace(own, guard_bits=0, output_shift=max(own.output_shift - 2 * own.guard_bits, 0))
    without_guard = partial(
        golden, constants=coarse.constants(rounding), guard_bits=0, output_shift=coarse.output_shift
    )
    theirs = {other.name: replace(own, a=other.exp.a, b=other.exp.b, c=other.exp.c) for other in PROFILES.values()}
    return {
        **{name: partial(golden, shifted=other) for name, other in shifting.items()},
        **{
            f"{name} {step:+d}": partial(golden, constants=moved(k, step))
            for k, name in enumerate(("q_ln2", "q_b", "q_c"))
            for step in (-1, 1)
        },
        **{
            f"polynomial of profile {name}": partial(golden, constants=other.constants(rounding))
            for name, other in theirs.items()
            if other != own
        },
        **{
            f"constants rounded {name}": partial(golden, constants=other)
            for name, other in rounded.items()
            if other != constants
        },
        "q_c left out": partial(golden, constants=(constants[0], constants[1], 0)),
        **({"guard bits left out": without_guard} if own.guard_bits else {}),
        "shift at most 15": partial(golden, z_shift=clamps(0, 15)),
        "shift by z left out": partial(golden, z_shift=np.zeros_like),
        "shift modulo 16": partial(golden, z_shift=lambda z: z % 16),
        "quotient rounded up": partial(golden, z_of=lambda q, q_ln2: -(q // q_ln2)),
        "quotient rounded to nearest": partial(golden, z_of=lambda q, q_ln2: (-q + q_ln2 // 2) // q_ln2),
        "result wraps at 16 bits": partial(golden, narrow=wraps(16)),
        "result saturates at 16 bits": partial(golden, narrow=AS_INT16),
        "square wraps at 16 bits": partial(golden, square=wraps(16)),
        "square wraps at 16 unsigned bits": partial(golden, square=wraps(16, signed=False)),
        "square saturates at 16 bits": partial(golden, square=AS_INT16),
        "polynomial wraps at 24 bits": partial(golden, polynomial=wraps(24)),
        "polynomial wraps at 16 bits": partial(golden, polynomial=wraps(16)),
        "lowest input bit ignored": partial(golden, q_of=lambda x: x >> 1 << 1),
        "input of 15 bits wraps": partial(golden, q_of=lambda x: np.minimum(wraps(15)(x), 0)),
    }


def inner_changes(profile: Profile) -> Changes:
    """Return exp and its changes, less those of its last bits where softmax, tanh and sigmoid do not show them."""
    every = changes(profile)
    is_wide = int(every[CONTROL](np.zeros((), np.int64))) >> 16 > 0
    return {name: change for name, change in every.items() if not (is_wide and name.startswith(LAST_BITS))}
