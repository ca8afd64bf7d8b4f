# SPDX-License-Identifier: Apache-2.0
"""What the edges of several operators are made of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice, product
from typing import Any, Final, Literal, TypeAlias, get_args

from intsim.fixedpoint import INT32
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = [
    "INT8_EDGES",
    "LEVELS",
    "MAX_MULTIPLIER",
    "RUN",
    "Case",
    "Drawn",
    "Edges",
    "Level",
    "Row",
    "crossed",
    "edge_table",
    "is_huge",
    "near_ties",
]

Level: TypeAlias = Literal[0, 1, 2]
LEVELS: Final = get_args(Level)
Row: TypeAlias = Sequence[int]
Case: TypeAlias = tuple[int, ...]
Edges: TypeAlias = Mapping[str, Callable[[Operator, Level], Iterator[Case]]]  # by the operator's name
Drawn: TypeAlias = Mapping[str, Callable[[Operator, Draw, int], Int64]]

HUGE: Final = 10_000  # bytes of a line of text
RUN: Final = 16  # random rows that share their constants
MAX_MULTIPLIER: Final = (1 << 31) - 1
INT8_EDGES: Final = (0, -128, 127, 3, -1, 1, -127)


def edge_table(low: int, high: int) -> list[int]:
    """Return the integers of [low, high] beside 0, the powers of two, their complements, the bounds and their halves.

    Walking ones, walking zeros and runs of sign bits are all of these. Small magnitudes come first.
    """
    around = {0, low, high, low // 2, high // 2} | {sign << k for sign in (1, -1) for k in range(64)}
    near = {value + step for value in around for step in (-2, -1, 0, 1)}
    return sorted((value for value in near if low <= value <= high), key=lambda value: (abs(value), value))


def is_huge(operator: Operator) -> bool:
    """Say whether a case is a line so long that a level takes fewer."""
    return operator.line_bytes > HUGE


def crossed(operator: Operator, *lists: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield all combinations, or of a huge operator one for every element of the longest list, the others in turn."""
    if not is_huge(operator):
        yield from product(*lists)
        return
    longest = max(map(len, lists))
    yield from islice(zip(*(cycle(values) for values in lists), strict=False), longest)


def near_ties(quotients: Sequence[int], multiplier: int, shift: int, offset: int = 0) -> Iterator[int]:
    """Yield int32 x with (x * multiplier + offset) / 2**shift at, and right beside, each quotient plus a half."""
    for quotient in quotients:
        x = ((2 * quotient + 1) * (1 << shift) // 2 - offset) // multiplier
        yield from (value for value in range(x - 1, x + 3) if INT32.min <= value <= INT32.max)
