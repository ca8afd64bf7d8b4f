# SPDX-License-Identifier: Apache-2.0
"""Cases of l2_normalize."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16
from intsim.ops.l2_normalize import UNIT_FRACTION
from intsim.verify.vectors.cases.edges import Case, Drawn, Edges, Level, edge_table, is_huge
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]

TIED: Final = (
    1 << 2 * UNIT_FRACTION + 2
)  # sum of squares whose root is 2**25, so that y = x / 2 is a tie for odd x; as is one of 1000 more


def _squares(total: int, channels: int) -> list[int]:
    """Return integers whose squares sum to ``total``, the largest first, or as near below as ``channels`` allow."""
    row: list[int] = []
    for _ in range(channels):
        row.append(min(math.isqrt(total), INT16.max))
        total -= row[-1] ** 2
    return row


def _edges(operator: Operator, level: Level) -> Iterator[Case]:
    (channels,) = operator.size

    def row(*pattern: int) -> Case:
        return tuple((list(pattern) * -(-channels // len(pattern)))[:channels])

    step = 5 if is_huge(operator) else 1
    for value in edge_table(INT16.min, INT16.max)[::step]:
        yield row(value)
        for place in sorted({0, channels // 2, channels - 1}):
            yield tuple(value if j == place else j % 2 for j in range(channels))
            yield tuple(value if j == place else 0 for j in range(channels))
    yield from (row(low, high) for low in (-1, -7, INT16.min) for high in (0, 1, 2, 100, INT16.max))
    yield from (tuple(step * (j - at) for j in range(channels)) for step in (1, -3, 100) for at in (0, 5))
    for j in range(1, 100 * level, step):  # 2**16 times the sum is one less than a square, or beside it
        for total in (j * j << 14, (j * j << 14) - j, (j * j << 14) + j, j, (j * j << 14) + 2 * j):
            signs = (1, -1) * channels
            yield tuple(s * v for s, v in zip(signs, _squares(total, channels), strict=False))
    if channels > TIED >> 2 * (INT16.bits - 1):
        draw = Draw(f"intsim vectors 1 l2_normalize ties {channels}")
        usual = math.isqrt((TIED - (1 << 29)) // (channels - 3))
        shape = (64 * level * level, channels - 3)
        values = draw.integers(usual - usual // 20, usual + usual // 20, shape).clip(0, INT16.max)
        for own in (values * draw.choices([1, -1], shape)).tolist():
            rest = TIED + 1000 - sum(value * value for value in own)
            yield *own, *_squares(max(rest, 0), 3)


def _random(operator: Operator, draw: Draw, n: int) -> Int64:
    (channels,) = operator.size
    x = draw.integers(INT16.min, INT16.max, (n, channels)) >> draw.integers(0, 15, (n, 1))
    return np.where(draw.integers(0, 3, (n, 1)) == 0, x >> draw.integers(0, 15, (n, channels)), x)


EDGES: Final[Edges] = {"l2_normalize": _edges}
DRAWN: Final[Drawn] = {"l2_normalize": _random}
