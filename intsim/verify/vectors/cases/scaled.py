# SPDX-License-Identifier: Apache-2.0
"""Cases of requantize and add."""

from collections.abc import Callable, Iterator
from itertools import cycle, product
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16, INT32, MAX_SHIFT, IntRange
from intsim.verify.vectors.cases.edges import (
    INT8_EDGES,
    MAX_MULTIPLIER,
    Case,
    Drawn,
    Edges,
    Level,
    edge_table,
    near_ties,
)
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]

ADD_ZEROS: Final = (0, -1, 1, 5, INT16.min, INT16.max, 128)


def _zero_points(to: IntRange) -> tuple[int, ...]:
    """Return edges of the codes that stand for 0, in a range and in an order that ``INT8_EDGES`` gives for int8."""
    if to.bits == 8 and to.signed:
        return INT8_EDGES
    middle = 0 if to.signed else to.max // 2 + 1
    return middle, to.min, to.max, middle + 3, middle - 1, middle + 1, to.min + 1


def _requantize_edges(operator: Operator, level: Level) -> Iterator[Case]:
    to = operator.formats.to
    own = _zero_points(to)
    accs, zero_points = edge_table(INT32.min, INT32.max), cycle(own)
    dyadics = [(1, 0), (1, 1), (1, 8), (-1, 0), (0, 0), (1 << 30, 31), (1 << 30, 53), (MAX_MULTIPLIER, 31)]
    dyadics += [(MAX_MULTIPLIER, 54), (MAX_MULTIPLIER, 62), (-MAX_MULTIPLIER, 61), (1_583_594_044, 40), (1, 62)]
    if level == 2:
        dyadics += [(multiplier, shift) for multiplier in edge_table(1, MAX_MULTIPLIER)[::6] for shift in (0, 30, 57)]
    for multiplier, shift in dyadics:
        yield from ((acc, multiplier, shift, next(zero_points)) for acc in accs)

    yield 7984, 1_583_594_044, 40, 0  # 11.499...: one rounding gives 11, two give 12
    quotients = [0, -1, 1, -2, 2, -3, 10, 11, 63, -64, 125, 126, 127, -127, -128, -129, -130]
    powers = [(1, 1), (1, 2), (1, 9), (1, 23), (1 << 8, 31), (1 << 30, 31), (1 << 30, 38), (1 << 30, 53), (-1, 1)]
    others = [(1_583_594_044, 40), (1_431_655_765, 39), (MAX_MULTIPLIER, 38), ((1 << 30) + 1, 40), (-(1 << 30), 36)]
    others += [(-1_583_594_044, 40), (1_234_567_891, 45), (2_015_213_371, 52), (3, 12), (1_859_775_393, 35)]
    for (multiplier, shift), zero_point in product(powers + others, own if level == 2 else (own[0], own[4], own[3])):
        yield from ((acc, multiplier, shift, zero_point) for acc in near_ties(quotients, multiplier, shift))

    low, high, both = -to.max - 1 if to.signed else to.min, to.max, 2 * to.max
    targets = [*range(low - 2, low + 3), *range(high - 2, high + 3), both + 1, both + 2, -both - 2, 300, -300]
    targets += [1 << 16, -(1 << 16)]
    for zero_point, target, (multiplier, shift) in product(own, targets, ((1, 0), (1 << 30, 30), (1, 8))):
        exact = (target - zero_point) * (1 << shift) // multiplier
        accs = (exact + step for step in (0, multiplier == 1 and shift >> 1))
        yield from ((acc, multiplier, shift, zero_point) for acc in accs if INT32.min <= acc <= INT32.max)
    if to.bits == 32:  # the ends are reached by a ratio above 1
        for zero_point, target, multiplier in product(own, targets, (3, 1 << 30, -5)):
            for near in range(-2, 3):
                acc = ((target - zero_point) << 20) // multiplier + near
                yield from ((a, multiplier, 20, zero_point) for a in (acc,) if INT32.min <= a <= INT32.max)


def _add_edges(operator: Operator, level: Level) -> Iterator[Case]:
    """Yield cases whose rescaled operands fit int32, so that their own saturation is not at stake."""
    each = operator.profile.sum == "each"

    def case(acc: int, residual: int, m: int, n: int, shift: int, zero_point: int, other: int | None = None) -> Case:
        other = shift if other is None else other
        return (acc, residual, m, n, shift, other, zero_point) if each else (acc, residual, m, n, shift, zero_point)

    def fits(acc: int, residual: int, m: int, n: int, shift: int, other: int) -> bool:
        return not each or max(abs(acc * m) >> shift, abs(residual * n) >> other) < INT32.max

    accs, residuals = edge_table(INT32.min, INT32.max), edge_table(INT16.min, INT16.max)
    to = operator.formats.to
    zero_points = cycle(ADD_ZEROS if to == INT16 else _zero_points(to))
    pairs = [(1, 1, 0), (1, -1, 1), (1 << 30, 1 << 30, 30), (1 << 29, 1 << 30, 31), (1 << 30, 1 << 14, 46)]
    pairs += [(1_073_741_823, 715_827_883, 33), (-536_870_913, 1_073_741_823, 45), (1 << 30, 0, 62), (0, 1 << 30, 30)]
    for m, n, shift in pairs:
        for acc, residual in zip(accs * (1 + (level == 2) * 7), cycle(residuals), strict=False):
            if fits(acc, residual, m, n, shift, shift):
                yield case(acc, residual, m, n, shift, next(zero_points))

    yield from _add_ties(case, fits, ADD_ZEROS if to == INT16 else _zero_points(to))
    for acc, residual in product((INT32.max, INT32.min), (32_767, -32_768)):  # the sum passes 32 bits
        for zero_point in (0, -1, 1) if to.signed else (0, 1):
            yield case(acc, residual, (1 << 30) - 1, (1 << 30) - 1, 30, zero_point)
    low, high = to.min - to.narrow, to.max
    totals = (low - 1, low, high, high + 1, 2 * high + 1, -2 * high - 2, 1 << 20)
    for total, zero_point in product(totals, (0, 1, -1, 300) if to == INT16 else _zero_points(to)):
        acc = total - zero_point - 7
        yield from (case(a, 7, 1, 1, 0, zero_point) for a in (acc,) if INT32.min <= a <= INT32.max)


def _add_ties(case: Callable[..., Case], fits: Callable[..., bool], own: tuple[int, ...]) -> Iterator[Case]:
    zero_points = cycle(own)
    quotients = [0, -1, 1, -2, 2, 3, -4, 126, 127, -128, 32_766, 32_767, -32_768, -32_769]
    ties = [(1, 1, 1), (1 << 29, 1 << 29, 30), (1 << 29, 1 << 28, 31), (1 << 30, 1 << 22, 38), (-1, 1, 1), (4, 2, 3)]
    ties += [(1_073_741_789, 805_306_457, 40), (715_827_882, 1_000_000_007, 41), (600_000_001, 1_073_741_827, 43)]
    for (m, n, shift), residual in product(ties, (0, 1, -1, 2, 3, -5, 127, 1001, -32_768, 32_767)):
        for acc in near_ties(quotients, m, shift, residual * n):
            if fits(acc, residual, m, n, shift, shift):
                yield case(acc, residual, m, n, shift, 0)
                yield case(acc, residual, m, n, shift, next(zero_points))
    for acc, residual, shift, other in product((1, -1, 3, -3, 5, 127), (1, -1, 3, -3, 6), (1, 2, 3), (1, 2, 3)):
        yield case(acc, residual, 1, 1, shift, 0, other)  # two halves meet
    for k, residual in product(quotients, (1, -1, 3, 181, -255, 1001, 12_345, -32_767)):  # ties of the residual alone
        for shift in (40, 44, 45):
            n = ((2 * k + 1) << shift - 1) // residual
            for near in range(n - 1, n + 3):
                if abs(near) <= MAX_MULTIPLIER and fits(0, residual, 0, near, shift, shift):
                    yield case(0, residual, 0, near, shift, 0)


# Random cases


def _random_dyadics(draw: Draw, n: int) -> tuple[Int64, Int64, Int64]:
    """Return multipliers of any width, half of them powers of two, one in eight negative, and their widths."""
    width = np.where(draw.integers(0, 1, n), 31, draw.integers(1, 31, n))
    top = np.int64(1) << width - 1
    below = draw.integers(0, MAX_MULTIPLIER, n) & top - 1
    multiplier = np.where(draw.integers(0, 2, n) == 0, top, top + below)
    return multiplier, np.where(draw.integers(0, 7, n) == 0, -1, 1), width


def _random_requantize(operator: Operator, draw: Draw, n: int) -> Int64:
    to = operator.formats.to
    reach = min(max(to.max, 128) * 160 >> 7, 1 << 20) if to.bits > 8 or not to.signed else 160
    magnitude, sign, width = _random_dyadics(draw, n)
    shift = width + draw.integers(0, 22, n)
    shift = shift if to.bits == 8 else (shift - (reach.bit_length() - 8)).clip(1)
    quotient = draw.any_width(-reach, reach, n)
    # |2 k + 1| < 2**9 and shift <= 53: the tie is below 2**62
    near_tie = ((2 * quotient + 1) << shift - 1) // magnitude + draw.integers(-1, 2, n)
    is_tie = draw.integers(0, 1, n) == 1
    acc = np.where(is_tie, sign * near_tie, draw.any_width(INT32.min, INT32.max, n)).clip(INT32.min, INT32.max)
    shift = np.where(is_tie, shift, draw.integers(0, MAX_SHIFT, n))
    return np.column_stack([acc, sign * magnitude, shift, draw.integers(to.min - to.narrow, to.max, n)])


def _random_add(operator: Operator, draw: Draw, n: int) -> Int64:
    magnitude, sign, width = _random_dyadics(draw, n)
    shift = width + draw.integers(0, 15, n)
    residual = draw.any_width(INT16.min, INT16.max, n)
    other = draw.integers(0, (1 << 30) - 1, n) >> draw.integers(0, 29, n)
    to = operator.formats.to
    zero_point = np.where(draw.integers(0, 1, n), 0, draw.any_width(to.min - to.narrow, to.max, n))
    reach = 33_000 if to.bits >= 16 else 160
    quotient = draw.any_width(-reach, reach, n)
    tie = (2 * quotient + 1) << shift - 1  # below 2**17 * 2**45
    if operator.profile.sum == "once":
        acc = sign * ((tie - residual * other) // magnitude + draw.integers(-1, 2, n))
        acc = np.where(draw.integers(0, 1, n), acc, draw.any_width(INT32.min, INT32.max, n)).clip(INT32.min, INT32.max)
        return np.column_stack([acc, residual, sign * magnitude, other, shift, zero_point])
    # |acc m / 2**t| and |residual n / 2**s| stay inside int32, where the operator would saturate them one by one
    acc = (sign * (tie // magnitude + draw.integers(-1, 2, n))).clip(INT32.min + 1, INT32.max)
    residual_shift = draw.integers(15, 45, n)
    half = (2 * draw.any_width(0, 4000, n) + 1) << 14
    kind = draw.integers(0, 3, n)
    # |2 k + 1| < 2**17 and shift <= 45: the residual alone is on a tie
    alone = ((2 * draw.any_width(-33_000, 33_000, n) + 1) << residual_shift - 1) // np.where(residual, residual, 1)
    alone = (alone + draw.integers(-1, 2, n)).clip(-(1 << 30), 1 << 30)
    other = np.where(kind == 0, half, np.where(kind == 1, alone, other))
    return np.column_stack([acc, residual, sign * magnitude, other, shift, residual_shift, zero_point])


EDGES: Final[Edges] = {
    "requantize": _requantize_edges,
    "add": _add_edges,
}
DRAWN: Final[Drawn] = {
    "requantize": _random_requantize,
    "add": _random_add,
}
