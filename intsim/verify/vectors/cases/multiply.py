# SPDX-License-Identifier: Apache-2.0
"""Cases of multiply."""

from collections.abc import Iterator
from itertools import cycle, product
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16
from intsim.verify.vectors.cases.edges import Case, Drawn, Edges, Level, edge_table, near_ties
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]

MOST: Final = (1 << 30) - 1  # of a multiplier: the product of 16-bit codes and zero points fits whatever they are
# of the factors and the result; the operator takes one of each
ZERO_POINTS: Final = (
    *((0, 0, 0), (0, 0, 5), (3, 0, 0), (0, -7, -1), (-128, 127, 3), (300, -300, -32_768), (-1, 1, 32_767)),
    *((32_767, -32_768, 0), (-32_768, 32_767, -100), (-32_768, -32_768, 128), (32_767, 32_767, -1)),
)
TARGETS: Final = (-32_770, -32_769, -32_768, 32_766, 32_767, 32_768, 65_535, 1 << 17)  # about the ends of the result
QUOTIENTS: Final = (0, -1, 1, -2, 2, -3, 126, 127, -128, -129, 32_766, 32_767, -32_768, -32_769)


def _edges(_: Operator, level: Level) -> Iterator[Case]:
    codes, zero_points = edge_table(INT16.min, INT16.max), cycle(ZERO_POINTS)
    dyadics = [(1, 0), (1, 1), (-1, 1), (1, 15), (1 << 29, 44), (-MOST, 45), (MOST, 46), (715_827_883, 60), (0, 0)]
    for (m, t), turn in product(dyadics, range(level * level)):
        others = codes[17 * turn + 5 :] + codes
        yield from ((a, b, m, t, *next(zero_points)) for a, b in zip(codes, others, strict=False))
    ends = (INT16.min, INT16.max, 0, -1)
    for a, b, (m, t), zeros in product(ends, ends, [(1, 0), (MOST, 60), (-MOST, 46), (1, 17)], ZERO_POINTS):
        yield a, b, m, t, *zeros
    ties = [(1, 1), (1, 2), (1, 9), (1 << 29, 37), (1 << 29, 44), (-1, 3), (805_306_457, 44), (MOST, 43), (600_001, 31)]
    others = [1, 3, -1, 5, 127, -128, 255, 1001, 16_385, -32_768, 32_767]
    for (m, t), b, (za, zb, z) in product(ties, others, ZERO_POINTS if level == 2 else ZERO_POINTS[:5]):
        if b != zb:
            near = (a + za for a in near_ties(QUOTIENTS, m * (b - zb), t))
            yield from ((a, b, m, t, za, zb, z) for a in near if INT16.min <= a <= INT16.max)
    for target, (za, zb, z) in product(TARGETS, ZERO_POINTS):
        for a, b in product((za + target - z, za - target + z), (zb + 1, zb - 1)):
            if INT16.min <= a <= INT16.max and INT16.min <= b <= INT16.max:
                yield a, b, 1, 0, za, zb, z


def _random(_: Operator, draw: Draw, n: int) -> Int64:
    zero_points = np.array(ZERO_POINTS)[draw.integers(0, 2 * len(ZERO_POINTS), n) % (len(ZERO_POINTS) + 1) - 1]
    za, zb, z = zero_points.T
    width = np.where(draw.integers(0, 1, n), 30, draw.integers(1, 30, n))
    top = np.int64(1) << width - 1
    m = np.where(draw.integers(0, 2, n) == 0, top, top + (draw.integers(0, MOST, n) & top - 1))
    m = np.where(draw.integers(0, 7, n) == 0, -m, m)
    b = draw.any_width(INT16.min, INT16.max, n)
    # |2 k + 1| < 2**17 and shift <= 45: the tie is below 2**62
    t = (width + draw.integers(0, 15, n)).clip(1, 45)
    tie = (2 * draw.any_width(-33_000, 33_000, n) + 1) << t - 1
    near = za + tie // np.where(b == zb, 1, m * (b - zb)) + draw.integers(0, 1, n)
    is_tie = (draw.integers(0, 2, n) > 0) & (near >= INT16.min) & (near <= INT16.max)
    a = np.where(is_tie, near, draw.any_width(INT16.min, INT16.max, n))
    return np.column_stack([a, b, m, t, za, zb, z])


EDGES: Final[Edges] = {"multiply": _edges}
DRAWN: Final[Drawn] = {"multiply": _random}
