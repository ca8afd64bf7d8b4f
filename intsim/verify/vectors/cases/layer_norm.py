# SPDX-License-Identifier: Apache-2.0
"""Cases of layer_norm."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import cycle
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16, IntRange, round_fraction
from intsim.kernels.rules import CodeLayerNorm
from intsim.profile import LayerNorm, native
from intsim.verify.vectors.cases.edges import (
    MAX_MULTIPLIER,
    RUN,
    Case,
    Drawn,
    Edges,
    Level,
    Row,
    crossed,
)
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES", "affine_edges", "random_constants"]

BORROWED_FRACTION: Final = 16
MANY: Final = 256  # channels of which not every third begins a row
MAX_BIAS: Final = 1 << 62


def _layer_norm_edges(operator: Operator, level: Level) -> Iterator[Case]:
    (channels,) = operator.size
    rule = operator.profile.layer_norm
    fraction = rule.output_fraction if isinstance(rule, LayerNorm) else BORROWED_FRACTION
    one = 1 << fraction

    def row(pattern: Sequence[int]) -> list[int]:
        return (list(pattern) * -(-channels // len(pattern)))[:channels]

    def case(x: Row, multiplier: Row, bias: Row, shift: int, eps: int) -> Case:
        codes = np.array([row(x)], np.int64).clip(INT16.min, INT16.max)  # a long ramp passes them
        return *_defined(operator, codes)[0].tolist(), *row(multiplier), *row(bias), shift, eps

    def one_hot(value: int, position: int) -> list[int]:
        return [value if j == position else 0 for j in range(channels)]

    rows = [row([v]) for v in (0, 1, -1, 7, -7, INT16.min, INT16.max)]  # zero variance
    rows += [one_hot(v, p) for v in (1, -1, 3, INT16.min, INT16.max) for p in sorted({0, channels // 2, channels - 1})]
    rows += [
        row([INT16.min, INT16.max]),
        row([-1, 1]),
        row([0, 1]),
        row([-1, 0]),
        row([INT16.max, INT16.max, INT16.min]),
    ]
    rows += [[sign * j + at for j in range(channels)] for sign in (1, -1, 100) for at in (0, -5, 1000)]
    rows += [
        [value] * count + [0] * (channels - count)
        for value in (1, -1, 3)
        for count in range(0, channels, 3 if channels <= MANY else channels // 8)
    ]
    rows += [row([at, at, at + 1]) for at in (-32_768, -2, 0, 20_000)]  # mean near, and on, a half
    rows += [one_hot(sign * (channels >> 1) * odd, 1) for sign in (1, -1) for odd in (1, 3, 5)]

    gain = 1 << 30  # with shift 41 a normalised 1.0 becomes the code 32
    constants: list[tuple[Row, Row, int, int]] = [([1], [0], fraction - 5, 1), ([gain], [0], 41, 1)]
    constants += [([gain, -gain, 0, 3 << 28], [0, 5 << 41, -(3 << 40), 1 << 40], 41, 1)]
    constants += [([-MAX_MULTIPLIER, MAX_MULTIPLIER], [-(1 << 48), 1 << 47], 40, 7), ([gain], [-128 << 41], 41, 1000)]
    constants += [([1], [0], 0, (1 << 61) - 1), ([gain], [1 << 61, -(1 << 62)], 62, 1), ([1, -1], [0], 10, 1 << 40)]
    for values, x in crossed(operator, constants, rows):
        multiplier, bias, shift, eps = values
        yield case(x, multiplier, bias, shift, eps)

    for shift in (1, 2, 16, 41, 53):  # the affine part on and beside every tie and on the saturation edges
        biases = affine_edges(operator.formats.to, shift)
        for start in range(0, len(biases), channels):
            yield case([0], [0], biases[start : start + channels], shift, 1)
            yield case([1, -1], [1], biases[start : start + channels], shift, 1 << 40)

    if not isinstance(rule, LayerNorm):  # another project's, whose eps is its own
        return

    # The deviation is made 2**(f+1) by eps, so that an odd centred value is normalised to an exact tie.
    for low, high in crossed(operator, range(-9, 10), (3, 4, 5) if level == 1 else range(1, 16)):
        for x in (
            row([low, low + high]),
            one_hot(low * 2 + 1, 0),
            row([low, 0, high, 1]),
            row([low, low, high, low + 1]),
        ):
            eps = (2 * one) ** 2 - _moments(x, operator)[1]
            if eps > 0:
                yield case(x, [1], [0], 0, eps)
                yield case(x, [1, -1], [0], 0, eps + 4 * one)  # one short of the next square

    # The bias takes the normalised values into the range of the result, so that all their bits show; eps makes the
    # variance a square, one less, or a number on which Newton's iteration takes long.
    roots = [3, 100, 4097, 20_000, 33_000, 46_341, 65_536, 99_991, 524_287]
    variances = [1_105_030_547, *(k * k + near for k in roots for near in (-1, 0, k, 2 * k))]
    wide = [one_hot(v, 0) for v in (1, -9, 2047, 8000, INT16.min, INT16.max)]
    wide += [row([v, -v]) for v in (5, 4095, INT16.max)] + [[31 * j - 77 for j in range(channels)]]
    for total, x in crossed(operator, variances, wide):
        centred, variance = _moments(x, operator)
        if total > variance:
            normalised = [(c << fraction) // math.isqrt(total) for c in centred]
            yield case(x, [1], [-y for y in normalised], 0, total - variance)
            yield case(
                x, [gain, -gain], [-y * sign << 30 for y, sign in zip(normalised, cycle((1, -1)))], 30, total - variance
            )


def _defined(operator: Operator, x: Int64) -> Int64:
    """Return rows (n, channels) of which I-BERT's code, that divides by what it has shifted, divides none by 0."""
    if not isinstance(operator.profile.layer_norm, CodeLayerNorm):
        return x
    least = 4 << operator.profile.layer_norm.shift
    is_flat = x.max(axis=1) - x.min(axis=1) < least
    other = x.copy()
    other[:, 0] += np.where(x[:, 0] < 0, 2 * least, -2 * least)
    return np.where(is_flat[:, None], other, x)


def affine_edges(to: IntRange, shift: int) -> list[int]:
    """Return biases whose 2**shift-th parts are on and beside ties and the ends of the range."""
    low, high = -to.max - 1 if to.signed else to.min, to.max
    middle = (0, -1, 1, -2, 2)
    halves = [(2 * k + 1 << shift - 1) + near for k in (*middle, high - 1, high, low, low - 1) for near in (0, -1, 1)]
    whole = [
        (k << shift) + near
        for k in (high, high + 1, low, low - 1, 300, -300, 2 * high + 1, 2 * high + 2)
        for near in (0, -1)
    ]
    return [bias for bias in halves + whole if abs(bias) < MAX_BIAS]


def _moments(x: Row, operator: Operator) -> tuple[list[int], int]:
    """Return the centred row and its variance before eps, as the profile has them."""
    x = [min(max(v, INT16.min), INT16.max) for v in x]
    count, total = len(x), sum(x)
    if native(operator.profile.layer_norm, LayerNorm).centring == "exact":
        return [count * v - total for v in x], count * sum(v * v for v in x) - total * total
    mean = round_fraction(Fraction(total, count), operator.profile.rounding)
    return [v - mean for v in x], sum((v - mean) ** 2 for v in x) // count


# Random cases


def random_constants(operator: Operator, draw: Draw, n: int) -> tuple[Int64, ...]:
    """Return multipliers, biases, shifts and eps of n rows, in runs that share them."""
    (channels,), to = operator.size, operator.formats.to
    most = min(to.max + 1 >> (not to.signed), 1 << 16)
    reach = most * 140 >> 7  # beyond the ends of the result
    runs = -(-n // RUN)
    shape = (runs, channels)
    gain = draw.integers(1 << 28, 1 << 30, shape) * draw.choices([1, 1, 1, 1, -1, 0], shape)
    shift = draw.integers(38, 44, (runs, 1))
    bias = draw.integers(-(reach << 40), reach << 40, shape) >> (44 - shift)
    ties = ((2 * draw.integers(-most - 2, most + 2, shape) + 1) << shift - 1) + draw.integers(-1, 1, shape)
    bias = np.where(draw.integers(0, 3, shape) == 0, ties, bias)
    eps = 1 + draw.integers(0, (1 << 40) - 1, (runs, 1)) // (np.int64(1) << draw.integers(0, 40, (runs, 1)))
    return tuple(np.repeat(values, RUN, axis=0)[:n] for values in (gain, bias, shift, eps))


def _random_layer_norm(operator: Operator, draw: Draw, n: int) -> Int64:
    (channels,) = operator.size
    constants = random_constants(operator, draw, n)
    spread = draw.integers(0, 15, (n, 1))
    x = draw.integers(INT16.min, INT16.max, (n, channels)) >> spread
    centre = draw.integers(INT16.min, INT16.max, (n, 1)) >> draw.integers(0, 15, (n, 1))
    return np.column_stack([_defined(operator, (x + centre).clip(INT16.min, INT16.max)), *constants])


EDGES: Final[Edges] = {
    "layer_norm": _layer_norm_edges,
}
DRAWN: Final[Drawn] = {
    "layer_norm": _random_layer_norm,
}
