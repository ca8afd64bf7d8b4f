# SPDX-License-Identifier: Apache-2.0
"""Cases of softmax and matmul."""

from collections.abc import Iterator
from itertools import product
from typing import Final

import numpy as np

from intsim.fixedpoint import INT32, MAX_SHIFT
from intsim.verify.vectors.cases.edges import (
    MAX_MULTIPLIER,
    RUN,
    Case,
    Drawn,
    Edges,
    Level,
    Row,
    crossed,
    is_huge,
    near_ties,
)
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator, max_bias

__all__ = ["DRAWN", "EDGES"]

FEW: Final = 48  # keys of long rows of which most are masked, so that probabilities show the bits of exp
ONE_HOT: Final = 48  # one-hot rows of a huge tile


def _softmax_edges(operator: Operator, level: Level) -> Iterator[Case]:
    (length,) = operator.size
    everything = [1] * length

    def filled(winners: int, low: int, high: int = 0) -> list[int]:
        return ([high] * min(winners, length) + [low] * length)[:length]

    def alone(position: int) -> list[int]:
        return [int(j == position) for j in range(length)]

    positions = sorted({0, length // 2, length - 1})
    alternating = [j % 2 for j in range(length)]
    patterns: list[tuple[Row, Row]] = [([v] * length, everything) for v in (0, 7, INT32.min, INT32.max, 1 << 29)]
    patterns += [(filled(c, low), everything) for c in range(1, min(length, 64) + 1) for low in (-(1 << 30), -1, -1420)]
    patterns += [([1 << 20 if j == p else 0 for j in range(length)], everything) for p in positions]
    patterns += [([-step * j for j in range(length)], everything) for step in (1, 2, 100, 355, 1000, 1 << 12, 1 << 16)]
    patterns += [(filled(1, low), everything) for low in range(-(1 << 15) - 2, -(1 << 15) + 3)]
    patterns += [(filled(1, INT32.min, -1), everything), (filled(2, 0, INT32.max), everything)]
    masks = [[0] * length, *map(alone, positions), alternating, [1 - bit for bit in alternating]]
    masks += [filled(kept, 0, 1) for kept in (1, 2, 3, length // 2, length - 1)]
    rows = [[0] * length, [INT32.max] * length, [INT32.min] * length, [-300 * j for j in range(length)]]
    rows += [[100 * (j % 3) for j in range(length)], [-(j % 2) * 500 for j in range(length)]]
    patterns += list(product(rows, masks))
    patterns += [  # what is masked lies above, and far below, what is not
        ([away if bit == 0 else 40 * j for j, bit in enumerate(mask)], mask)
        for away, mask in product((INT32.max, INT32.min, 1 << 20), masks)
    ]
    dyadics = [(1, 0), (1 << 30, 30), (1, 1), (MAX_MULTIPLIER, 31), (1_583_594_044, 34), (1 << 30, 36)]
    for (multiplier, shift), (acc, mask) in crossed(operator, dyadics, patterns):
        yield *acc, *mask, multiplier, shift

    for multiplier, shift in ((1, 1), (1 << 28, 30), (1_583_594_044, 33)):  # ties of the difference, its code in view
        for k in range(0, 1000 * level * level, 20 * level * level if is_huge(operator) else 1):
            acc = list(near_ties([-k - 1], multiplier, shift))[1]
            yield *filled(1 + k % 3, acc), *filled(2 + k % 5, 0, 1), multiplier, shift


def _matmul_edges(operator: Operator, level: Level) -> Iterator[Case]:
    rows, columns, depth = operator.size
    codes = operator.formats.x
    most = max_bias(depth, codes)
    patterns = [[v] for v in (0, 1, -1, -128, 127, 64)] + [[-128, 127], [127, -128, 0], [1, 2, 3, 5, 7]]
    patterns += [[1 << k for k in range(7)] + [-128], [~(1 << k) for k in range(7)] + [127]]

    def tile(pattern: Row, height: int) -> list[int]:
        return (list(pattern) * -(-height * depth // len(pattern)))[: height * depth]

    biases = [[0], [1, -1], [most, -most], [-128, 127, 255, -32_768], [1 << k for k in range(30)]]
    pairs = [*product(patterns, patterns)]
    for (x, w), bias in crossed(operator, pairs, biases if level == 2 else biases[:3]):
        yield (
            *tile([value & 255 for value in x] if codes.min == 0 else x, rows),
            *tile(w, columns),
            *(list(bias) * -(-columns // len(bias)))[:columns],
        )
    places = product(range(rows), range(depth))
    if is_huge(operator):
        places = ((k * (rows // 7 | 1) % rows, k * depth // ONE_HOT) for k in range(ONE_HOT))
    for i, k in places:  # one-hot rows read single weights
        x = [0] * (rows * depth)
        x[i * depth + k] = (1, codes.min or codes.max, 127)[k % 3]
        w = [(37 * j + 11 * k + i) % 256 - 128 for j in range(columns * depth)]
        yield *x, *w, *(list(biases[3]) * -(-columns // len(biases[3])))[:columns]


# Random cases


def _random_softmax(operator: Operator, draw: Draw, n: int) -> Int64:
    (length,) = operator.size
    runs = -(-n // RUN)
    width = draw.integers(4, 29, runs)  # of the scores
    multiplier = draw.integers(1 << 30, MAX_MULTIPLIER, runs)
    # the spread of the scores becomes 2**10 ... 2**16 codes of the input of exp
    shift = (31 + width - draw.integers(10, 16, runs) + 3 * is_huge(operator)).clip(0, MAX_SHIFT)
    power = draw.integers(0, 2, runs) == 0
    multiplier = np.where(power, 1 << 30, multiplier)
    width, multiplier, shift = (np.repeat(values, RUN)[:n] for values in (width, multiplier, shift))
    limit = (np.int64(1) << width)[:, None]
    acc = draw.integers(-(1 << 40), 1 << 40, (n, length)) % (2 * limit) - limit
    peaked = np.where(draw.integers(0, 3, (n, 1)) == 0, acc >> draw.integers(0, 12, (n, length)), acc)
    kept = draw.integers(0, min(length, FEW) if is_huge(operator) else length, (n, 1))
    padding = np.arange(length) < np.where(draw.integers(0, 1, (n, 1)) > is_huge(operator) * (kept > 2), length, kept)
    holes = draw.integers(0, 7, (n, length)) > 0
    mask = np.where(draw.integers(0, 3, (n, 1)) == 0, holes, padding)
    return np.column_stack([peaked, mask, multiplier, shift])


def _random_matmul(operator: Operator, draw: Draw, n: int) -> Int64:
    rows, columns, depth = operator.size
    codes = operator.formats.x
    most = max_bias(depth, codes)
    x = draw.integers(codes.min, codes.max, (n, rows * depth))
    w = draw.integers(-128, 127, (n, columns * depth))
    bias = draw.any_width(-most, most, (n, columns))
    return np.column_stack([x, w, bias])


EDGES: Final[Edges] = {
    "softmax": _softmax_edges,
    "matmul": _matmul_edges,
}
DRAWN: Final[Drawn] = {
    "softmax": _random_softmax,
    "matmul": _random_matmul,
}
