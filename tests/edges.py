# SPDX-License-Identifier: Apache-2.0
"""Inputs dense in edges and ties, and the axes that most tests run along.

Random integers certify nothing about rounding: on random scales the half-way modes agree all but always. So the tables
of edges come first and every strategy mixes them with uniform draws.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Final

import pytest
from hypothesis import strategies as st

from intsim.fixedpoint import Dyadic, IntRange, Rounding
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, Profile

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MAX_SHIFT: Final = 62
MAX_MULTIPLIER: Final = 2**31 - 1
RANGES: Final = [
    IntRange(bits, signed=signed, narrow=narrow)
    for bits in range(2, 33)
    for signed, narrow in ((True, False), (True, True), (False, False))
]

# The presets, each with every pair of its two roundings: an operator that reads the wrong one of them is caught.
CROSSED: Final = [
    replace(preset, name=f"{preset.name}-{rounding}-{step_rounding}", rounding=rounding, step_rounding=step_rounding)
    for preset, rounding, step_rounding in product((INTSIM, IBERT), Rounding, Rounding)
]
# Every rounding once as ROUNDING and once as STEP_ROUNDING, never the same as both.
TURNED: Final = [CROSSED[25 * preset + 5 * i + (i + 1 + preset) % 5] for preset in range(2) for i in range(5)]

every_rounding = pytest.mark.parametrize("rounding", list(Rounding), ids=str)
every_preset = pytest.mark.parametrize("profile", [INTSIM, IBERT, INTSIM_WIDE], ids=lambda profile: profile.name)
# A third of the inputs of each of the presets is all of them; every input of every preset takes seconds.
all_inputs = pytest.mark.parametrize(
    ("profile", "some"),
    [
        *((profile, slice(k, None, 3)) for k, profile in enumerate((INTSIM, IBERT, INTSIM_WIDE))),
        *(pytest.param(profile, slice(None), marks=pytest.mark.slow) for profile in (INTSIM, IBERT, INTSIM_WIDE)),
    ],
    ids=lambda value: value.name if isinstance(value, Profile) else "all" if value == slice(None) else "third",
)
both_presets = pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
profiles: st.SearchStrategy[Profile] = st.sampled_from([INTSIM, IBERT, *CROSSED])
ranges: st.SearchStrategy[IntRange] = st.sampled_from(RANGES)


def edge_table(low: int, high: int) -> list[int]:
    """Return the integers of [low, high] next to 0, to the powers of two, to the bounds and to their middles."""
    around = {low, high, low // 2, high // 2, 0}
    around |= {sign * 2**k for sign in (1, -1) for k in range(64)}
    return sorted(x for x in {value + step for value in around for step in (-1, 0, 1)} if low <= x <= high)


def edge_integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Every integer of [low, high], the edges often."""
    return st.sampled_from(edge_table(low, high)) | st.integers(low, high)


def near_tie(k: int, shift: int, step: int) -> int:
    """Return (k + 1/2) * 2**shift + step, or k + step where nothing is shifted out, brought into int64."""
    x = k * 2**shift + (1 << shift >> 1) + step
    return min(max(x, INT64_MIN), INT64_MAX)


def ties(shift: int) -> st.SearchStrategy[int]:
    """int64 integers on a tie of a right shift, or right beside one."""
    return st.builds(
        near_tie,
        edge_integers(INT64_MIN >> shift, INT64_MAX >> shift),
        st.just(shift),
        st.sampled_from([0, 0, -1, 1]),
    )


@st.composite
def dyadics(draw, *, max_multiplier: int = MAX_MULTIPLIER, positive: bool = False) -> tuple[int, int]:
    """Multiplier and shift of any dyadic; powers of two, which are dense in ties, often."""
    powers = st.sampled_from([2**k for k in range(32) if 2**k <= max_multiplier])
    multiplier = draw(powers | edge_integers(1 if positive else -max_multiplier, max_multiplier))
    return multiplier, draw(st.sampled_from([0, 1, 8, 30, 31, 61, 62]) | st.integers(0, MAX_SHIFT))


def per_channel(pairs: Sequence[tuple[int, int]]) -> Dyadic:
    """Return the dyadic of one (multiplier, shift) per channel."""
    multipliers, shifts = zip(*pairs, strict=True)
    return Dyadic(list(multipliers), list(shifts))


NOT_INTEGERS: Final = ["float16", "float32", "float64", "complex64", "bool", "uint64", "object"]
every_other_dtype_than_integers = pytest.mark.parametrize("dtype", NOT_INTEGERS)
every_other_dtype_than_int16 = pytest.mark.parametrize(
    "dtype", [*NOT_INTEGERS, "int8", "uint8", "uint16", "int32", "int64"]
)
