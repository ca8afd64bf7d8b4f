# SPDX-License-Identifier: Apache-2.0
"""Cases of rms_norm."""

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16, INT32
from intsim.profile import LayerNorm, native
from intsim.verify.vectors.cases.edges import MAX_MULTIPLIER, Case, Drawn, Edges, Level, Row, crossed
from intsim.verify.vectors.cases.layer_norm import affine_edges, random_constants
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]

GAIN: Final = 1 << 30  # with shift 41 a normalised 1.0 becomes the code 32
MAX_EPS: Final = (1 << 61) - 1


def _edges(operator: Operator, level: Level) -> Iterator[Case]:
    (channels,) = operator.size
    rule = native(operator.profile.layer_norm, LayerNorm)
    fraction, top = rule.output_fraction, 1 << rule.row_bits - 1

    def row(pattern: Sequence[int]) -> list[int]:
        return (list(pattern) * -(-channels // len(pattern)))[:channels]

    def case(x: Row, multiplier: Row, bias: Row, shift: int, eps: int) -> Case:
        return *(min(max(v, INT32.min), INT32.max) for v in row(x)), *row(multiplier), *row(bias), shift, eps

    def one_hot(value: int, position: int) -> list[int]:
        return [value if j == position else 0 for j in range(channels)]

    ends = (INT32.min, INT32.max, 1 - top, top - 1, -top, top, top + 1, 2 * top - 1, INT16.min * 3)
    rows = [row([v]) for v in (0, 1, -1, 7, *ends)]
    rows += [one_hot(v, p) for v in (1, -1, 3, *ends) for p in sorted({0, channels // 2, channels - 1})]
    rows += [row(pattern) for pattern in ([-1, 1], [0, 1], [INT32.min, INT32.max], [top - 1, -top, 5, -7])]
    rows += [[sign * j + at for j in range(channels)] for sign in (1, -1, 100, 1 << 20) for at in (0, -5, 1 << 16)]
    for k in range(1, 17, 1 if level == 2 else 3):  # quarters, halves and what is beside them are shifted out
        for low in (1 << k - 1, (1 << k - 1) + 1, (1 << k - 1) - 1, 3 << k - 1, -(1 << k - 1), -(3 << k - 1)):
            rows += [row([top << k - 1, low, -low, 5 * low]), row([low, low, -(top << k) + 1])]

    constants: list[tuple[Row, Row, int, int]] = [([1], [0], fraction - 5, 1), ([GAIN], [0], 41, 1)]
    constants += [([GAIN, -GAIN, 0, 3 << 28], [0, 5 << 41, -(3 << 40), 1 << 40], 41, 1)]
    constants += [([-MAX_MULTIPLIER, MAX_MULTIPLIER], [-(1 << 48), 1 << 47], 40, 7), ([GAIN], [-128 << 41], 41, 1000)]
    constants += [([1], [0], 0, MAX_EPS), ([GAIN], [1 << 61, -(1 << 62)], 62, 1), ([1, -1], [0], 10, 1 << 40)]
    for values, x in crossed(operator, constants, rows):
        yield case(x, *values)

    for shift in (1, 2, 16, 41, 53):  # the affine part on and beside every tie and on the saturation edges
        biases = affine_edges(operator.formats.to, shift)
        for start in range(0, len(biases), channels):
            yield case([0], [0], biases[start : start + channels], shift, 1)
            yield case([1, -1], [1], biases[start : start + channels], shift, 1 << 40)

    # eps makes the root 2**(f+1) times the power of two in N, so that an odd code is normalised to an exact tie
    root = (channels & -channels) << fraction + 1
    for low, high in crossed(operator, range(-9, 10), (3, 4, 5) if level == 1 else range(1, 16)):
        for x in (row([low, low + high]), one_hot(low * 2 + 1, 0), row([low, 0, high, 1])):
            eps = root**2 - channels * sum(v * v for v in x)
            if 0 < eps < MAX_EPS - root * 2:
                yield case(x, [1], [0], 0, eps)
                yield case(x, [1, -1], [0], 0, eps + 2 * root)  # one short of the next square

    # The bias takes the normalised values into the range of the result, so that all their bits show: of rows that are
    # shifted beside a power of two, or whose largest is rounded up to one,
    for k, sign in crossed(operator, range(17), (1, -1)):
        for largest in (-top << k, (top << k) - 1, 1 - (top << k), (top << k) - (1 << k >> 1)):
            x = [max(min(v, INT32.max), INT32.min) for v in row([largest, sign * top * 5 << k >> 3, (1 << k) + 1, -3])]
            for eps in (1, 1 << 50):
                root = math.isqrt(channels * sum(v * v for v in x) + eps)
                yield case(x, [1], [-(channels * v << fraction) // root for v in x], 0, eps)
    # and of rows where eps makes what is under the root a square, one less, or hard for Newton's iteration.
    roots = [3, 100, 4097, 20_000, 33_000, 46_341, 65_536, 99_991, 524_287, (1 << 25) + 1, (1 << 29) - 1]
    totals = [1_105_030_547, *(k * k + near for k in roots for near in (-1, 0, k, 2 * k))]
    wide = [one_hot(v, 0) for v in (1, -9, 2047, 8000, 1 - top, top - 1)]
    wide += [row([v, -v]) for v in (5, 4095, top - 1)] + [[31 * j - 77 for j in range(channels)]]
    for total, x, k in crossed(operator, totals, wide, (0, 1, 5, 13) if level == 1 else range(17)):
        eps = total - channels * sum(v * v for v in x) << 2 * k
        largest: int = max(abs(v) for v in x)
        shifts = largest >= top >> 1  # by k, where the row is multiplied by 2**k
        if 0 < eps <= MAX_EPS and (shifts or k == 0):
            normalised = [(channels * v << fraction) // math.isqrt(total) for v in x]
            raised, signs = [v << k for v in x], [GAIN, -GAIN]
            yield case(raised, [1], [-y for y in normalised], 0, eps)
            yield case(raised, signs, [-y * m for y, m in zip(normalised, cycle(signs))], 30, eps)


def _random(operator: Operator, draw: Draw, n: int) -> Int64:
    (channels,) = operator.size
    constants = random_constants(operator, draw, n)
    x = draw.integers(INT32.min, INT32.max, (n, channels)) >> draw.integers(0, 31, (n, 1))
    x = np.where(draw.integers(0, 3, (n, 1)) == 0, x >> draw.integers(0, 15, (n, channels)), x)
    return np.column_stack([x, *constants])


EDGES: Final[Edges] = {"rms_norm": _edges}
DRAWN: Final[Drawn] = {"rms_norm": _random}
