# SPDX-License-Identifier: Apache-2.0
"""Cases of linear: a product whose bias brings its accumulators to the ties of its own multipliers."""

from collections.abc import Iterator
from itertools import cycle
from typing import Final

import numpy as np

from intsim.fixedpoint import INT32
from intsim.verify.vectors.cases.edges import MAX_MULTIPLIER, RUN, Case, Drawn, Edges, Level, crossed
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]

RATIOS: Final = [(1, 1), (1 << 30, 38), (1_583_594_044, 40), (-(1 << 30), 37), (MAX_MULTIPLIER, 38), (3, 4), (1, 0)]


def _steered(operator: Operator, x: Int64, w: Int64, zero: Int64, target: Int64) -> Int64:
    """Return biases (n, N) that bring the accumulators of each first row to ``target``, as far as int32 allows."""
    rows, columns, depth = operator.size
    first = x.reshape(-1, rows, depth)[:, :1] - zero[:, None, None]
    products = (first * w.reshape(-1, columns, depth)).sum(axis=-1)
    most = INT32.max - depth * 255 * 128
    return (target - products).clip(-most, most)


def _edges(operator: Operator, level: Level) -> Iterator[Case]:
    rows, columns, depth = operator.size
    codes, to = operator.formats.x, operator.formats.to
    middle = codes.max // 2 + 1 if codes.min == 0 else 0
    patterns = [[v] for v in (codes.min, codes.max, middle, middle + 1)] + [[codes.min, codes.max], [1, 2, 3, 5, 7]]
    weights = [[-128], [127], [1], [-128, 127], [1, 2, 3, 5, 7], [~(1 << k) for k in range(7)]]
    zeros = [codes.min, codes.max, middle, middle + 3, codes.min + 5]
    out = cycle([to.min, to.max, (to.min + to.max + 1) // 2, (to.min + to.max) // 2 + 3])
    quotients = [0, -1, 1, -2, 11, to.max - 1, to.max, to.min, to.min - 1, 2 * to.max + 1]
    for k, (pattern, weight, zero) in enumerate(crossed(operator, patterns, weights, zeros)):
        x, w = (
            np.array([(values * -(-count * depth // len(values)))[: count * depth]], np.int64)
            for values, count in ((pattern, rows), (weight, columns))
        )
        for near in range(level + 1):
            turn = [RATIOS[(k + j + near) % len(RATIOS)] for j in range(columns)]
            zero_point = next(out)
            codes_at = [quotients[(k + 3 * j) % len(quotients)] - zero_point for j in range(columns)]
            target = [
                ((2 * code + 1 << t) // 2) // m + (k + j + near) % 3 - 1
                for j, (code, (m, t)) in enumerate(zip(codes_at, turn, strict=True))
            ]
            bias = _steered(operator, x, w, np.array([zero]), np.array([target]).clip(-INT32.max, INT32.max))
            yield (
                *x[0].tolist(),
                *w[0].tolist(),
                *bias[0].tolist(),
                zero,
                *(m for m, _ in turn),
                *(t for _, t in turn),
                zero_point,
            )


def _wide_edges(operator: Operator, level: Level) -> Iterator[Case]:
    """Yield accumulators of up to 31 bits, in view behind a large shift or far beyond the result behind a small one."""
    rows, columns, depth = operator.size
    most, middle = INT32.max - depth * 255 * 128, operator.formats.to.max >> 1
    totals = [sign * ((1 << k) + near) for k in (17, 19, 23, 24, 25, 26, 30) for near in (1, 77) for sign in (1, -1)]
    w = ([1, -1] * (columns * depth))[: columns * depth]
    for k, (total, drop) in enumerate(crossed(operator, totals, range(2 * level))):
        bits = max(total.bit_length() + 1 - operator.formats.to.bits - drop, 0)
        x = [(k + i) % 3 for i in range(rows * depth)]
        for m, t in ((1 << 30, 30 + bits), ((1 << 30) + 12_345, 30 + bits), (1 << 30, 20), (3, 1)):
            bias = [min(max(total + j, -most), most) for j in range(columns)]
            yield *x, *w, *bias, 0, *[m] * columns, *[t] * columns, middle
        below = (total >> bits << bits) + (1 << bits >> 1) - 1  # one less than a tie, of which 24 bits are the tie
        bias = [min(max(below, -most), most)] * columns
        yield *[0] * len(x), *w, *bias, 0, *[1 << 30] * columns, *[30 + bits] * columns, 0


def _random(operator: Operator, draw: Draw, n: int) -> Int64:
    rows, columns, depth = operator.size
    codes, to = operator.formats.x, operator.formats.to
    runs = -(-n // RUN)
    # the spread of the accumulators becomes a few times that of the result
    drop = 14 + (depth.bit_length() >> 1) + draw.integers(-2, 2, (runs, columns)) - (to.bits - 1)
    multiplier = draw.integers(1 << 30, MAX_MULTIPLIER, (runs, columns))
    multiplier = np.where(draw.integers(0, 2, (runs, columns)) == 0, 1 << 30, multiplier)
    multiplier = multiplier * draw.choices([1, 1, 1, -1], (runs, columns))
    constants = [
        draw.integers(codes.min, codes.max, (runs, 1)),
        multiplier,
        (30 + drop).clip(1, 62),
        draw.integers(to.min - to.narrow, to.max, (runs, 1)),
    ]
    zero, multiplier, shift, zero_point = (np.repeat(values, RUN, axis=0)[:n] for values in constants)
    x = draw.integers(codes.min, codes.max, (n, rows * depth))
    w = draw.integers(-128, 127, (n, columns * depth)) >> draw.integers(0, 5, (n, 1))
    quotient = draw.integers(to.min, to.max, (n, columns)).clip(-(1 << 20), 1 << 20) - zero_point
    tie = ((2 * quotient.clip(-(1 << 20), 1 << 20) + 1) << (shift - 1).clip(0, 40)) // multiplier
    near = tie + draw.integers(-1, 1, (n, columns))
    bias = _steered(operator, x, w, zero[:, 0], near.clip(-INT32.max, INT32.max))
    return np.column_stack([x, w, bias, zero, multiplier, shift, zero_point])


def _all_edges(operator: Operator, level: Level) -> Iterator[Case]:
    yield from _edges(operator, level)
    yield from _wide_edges(operator, level)


EDGES: Final[Edges] = {"linear": _all_edges}
DRAWN: Final[Drawn] = {"linear": _random}
