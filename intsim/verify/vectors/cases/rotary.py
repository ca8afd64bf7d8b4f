# SPDX-License-Identifier: Apache-2.0
"""Cases of rotary."""

from collections.abc import Iterator
from itertools import product
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16
from intsim.ops.rotary import TURN_FRACTION
from intsim.verify.vectors.cases.edges import Case, Drawn, Edges, Level, edge_table
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]

ONE: Final = 1 << TURN_FRACTION
HALF: Final = ONE >> 1  # of it an odd code makes a tie
QUARTERS: Final = ((ONE, 0), (0, ONE), (-ONE, 0), (0, -ONE))
TIED: Final = ((HALF, 0), (0, HALF), (-HALF, HALF))
TURNS: Final = (*QUARTERS, *TIED, (11_585, 11_585), (1, -1))


def _edges(operator: Operator, level: Level) -> Iterator[Case]:
    channels, pairs = operator.size

    def case(x: list[int], turns: list[tuple[int, int]], neighbours: int) -> Case:
        cos, sin = zip(*(turns * pairs)[:pairs], strict=True)
        return *(x * channels)[:channels], *cos, *sin, neighbours

    codes, tables = edge_table(INT16.min, INT16.max), edge_table(-ONE, ONE)
    counting = list(range(3, channels + 3))
    for turn, neighbours in product(TURNS, (0, 1)):
        yield from (case(x, [turn], neighbours) for x in ([0], [1], counting, [INT16.min], [INT16.max, INT16.min]))
        yield case(counting, [turn, (ONE, 0)], neighbours)
    ends = (INT16.min, INT16.max)
    for a, b, cos, sin, neighbours in product(ends, ends, (-ONE, ONE), (-ONE, ONE), (0, 1)):
        yield case([a, b], [(cos, sin)], neighbours)
        yield case([a] * (2 * pairs) + [b], [(cos, sin)], neighbours)
    for i, code in enumerate(codes):
        for turn in TURNS if level == 2 else (TURNS[i % len(TURNS)], TURNS[(i + 4) % len(TURNS)]):
            yield case([code, codes[-i], 7], [turn], i % 2)
    for i, (cos, neighbours) in enumerate(product(tables, (0, 1))):
        yield case([codes[i % len(codes)], -12_345, 1001], [(cos, tables[-i % len(tables)]), TURNS[i % 9]], neighbours)
    odd = range(-9 * level, 9 * level + 1, 2)
    for a, b, (cos, sin), neighbours in product(odd, odd, TIED, (0, 1)):  # ties of either sum, or of both
        yield case([a, b, b, a], [(cos, sin)], neighbours)


def _random(operator: Operator, draw: Draw, n: int) -> Int64:
    channels, pairs = operator.size
    x = draw.integers(INT16.min, INT16.max, (n, channels)) >> draw.integers(0, 15, (n, 1))
    coarse = draw.choices([ONE, -ONE, HALF, -HALF, HALF >> 1, -HALF >> 1, 3 * HALF >> 1, 0], (n, 2 * pairs))
    tables = np.where(draw.integers(0, 1, (n, 1)), coarse, draw.integers(-ONE, ONE, (n, 2 * pairs)))
    return np.column_stack([x, tables, draw.integers(0, 1, n)])


EDGES: Final[Edges] = {"rotary": _edges}
DRAWN: Final[Drawn] = {"rotary": _random}
