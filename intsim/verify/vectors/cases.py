# SPDX-License-Identifier: Apache-2.0
"""The cases of each operator: edges first, then random ones, the same forever for the same arguments.

Random scales certify nothing about rounding, so edges and random cases are dense in ties for the dyadic at hand, and
rows come in runs that share their constants, as the tokens of one layer do.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import cycle, product
from typing import Final, Literal, TypeAlias

import numpy as np

from intsim.fixedpoint import INT16, INT32, round_fraction
from intsim.profile import Gelu, LayerNorm, native
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["Level", "edge_table", "generate", "minimum"]

Level: TypeAlias = Literal[1, 2]
Row: TypeAlias = Sequence[int]
Case: TypeAlias = tuple[int, ...]

BLOCK: Final = 4096  # random cases drawn from one key, so that a longer file begins with the shorter one
RUN: Final = 16  # random rows that share their constants
MAX_SHIFT: Final = 62
MAX_MULTIPLIER: Final = (1 << 31) - 1
INT8_EDGES: Final = (0, -128, 127, 3, -1, 1, -127)

UNARY: Final = ("exp", "gelu", "tanh", "sigmoid")  # of one int16: level 2 is every input
SCALAR: Final = ("requantize", "add", "isqrt", "quantize")


def _least_random(name: str, level: Level) -> int:
    if name in UNARY:
        return 1000 if level == 1 else 0
    if name in SCALAR:
        return 4000 if level == 1 else 200_000
    return 512 if level == 1 else 20_000


def edge_table(low: int, high: int) -> list[int]:
    """Return the integers of [low, high] beside 0, the powers of two, their complements, the bounds and their halves.

    Walking ones, walking zeros and runs of sign bits are all of these. Small magnitudes come first.
    """
    around = {0, low, high, low // 2, high // 2} | {sign << k for sign in (1, -1) for k in range(64)}
    near = {value + step for value in around for step in (-2, -1, 0, 1)}
    return sorted((value for value in near if low <= value <= high), key=lambda value: (abs(value), value))


def _near_ties(quotients: Sequence[int], multiplier: int, shift: int, offset: int = 0) -> Iterator[int]:
    """Yield int32 x with (x * multiplier + offset) / 2**shift at, and right beside, each quotient plus a half."""
    for quotient in quotients:
        x = ((2 * quotient + 1) * (1 << shift) // 2 - offset) // multiplier
        yield from (value for value in range(x - 1, x + 3) if INT32.min <= value <= INT32.max)


# Edges


def _requantize_edges(_: Operator, level: Level) -> Iterator[Case]:
    accs, zero_points = edge_table(INT32.min, INT32.max), cycle(INT8_EDGES)
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
    for (multiplier, shift), zero_point in product(powers + others, INT8_EDGES if level == 2 else (0, -1, 3)):
        yield from ((acc, multiplier, shift, zero_point) for acc in _near_ties(quotients, multiplier, shift))

    targets = [-130, -129, -128, -127, -126, 125, 126, 127, 128, 129, 255, 256, -256, 300, -300, 1 << 16, -(1 << 16)]
    for zero_point, target, (multiplier, shift) in product(INT8_EDGES, targets, ((1, 0), (1 << 30, 30), (1, 8))):
        exact = (target - zero_point) * (1 << shift) // multiplier
        yield from ((exact + step, multiplier, shift, zero_point) for step in (0, multiplier == 1 and shift >> 1))


def _add_edges(operator: Operator, level: Level) -> Iterator[Case]:
    """Yield cases whose rescaled operands fit int32, so that their own saturation is not at stake."""
    each = operator.profile.sum == "each"

    def case(acc: int, residual: int, m: int, n: int, shift: int, zero_point: int, other: int | None = None) -> Case:
        other = shift if other is None else other
        return (acc, residual, m, n, shift, other, zero_point) if each else (acc, residual, m, n, shift, zero_point)

    def fits(acc: int, residual: int, m: int, n: int, shift: int, other: int) -> bool:
        return not each or max(abs(acc * m) >> shift, abs(residual * n) >> other) < INT32.max

    accs, residuals = edge_table(INT32.min, INT32.max), edge_table(INT16.min, INT16.max)
    zero_points = cycle((0, -1, 1, 5, INT16.min, INT16.max, 128))
    pairs = [(1, 1, 0), (1, -1, 1), (1 << 30, 1 << 30, 30), (1 << 29, 1 << 30, 31), (1 << 30, 1 << 14, 46)]
    pairs += [(1_073_741_823, 715_827_883, 33), (-536_870_913, 1_073_741_823, 45), (1 << 30, 0, 62), (0, 1 << 30, 30)]
    for m, n, shift in pairs:
        for acc, residual in zip(accs * (1 + (level == 2) * 7), cycle(residuals), strict=False):
            if fits(acc, residual, m, n, shift, shift):
                yield case(acc, residual, m, n, shift, next(zero_points))

    yield from _add_ties(case, fits)
    for acc, residual in product((INT32.max, INT32.min), (32_767, -32_768)):  # the sum passes 32 bits
        for zero_point in (0, -1, 1):
            yield case(acc, residual, (1 << 30) - 1, (1 << 30) - 1, 30, zero_point)
    for total, zero_point in product((-32_769, -32_768, 32_767, 32_768, 65_535, -65_536, 1 << 20), (0, 1, -1, 300)):
        yield case(total - zero_point - 7, 7, 1, 1, 0, zero_point)


def _add_ties(case: Callable[..., Case], fits: Callable[..., bool]) -> Iterator[Case]:
    zero_points = cycle((0, -1, 1, 5, INT16.min, INT16.max, 128))
    quotients = [0, -1, 1, -2, 2, 3, -4, 126, 127, -128, 32_766, 32_767, -32_768, -32_769]
    ties = [(1, 1, 1), (1 << 29, 1 << 29, 30), (1 << 29, 1 << 28, 31), (1 << 30, 1 << 22, 38), (-1, 1, 1), (4, 2, 3)]
    ties += [(1_073_741_789, 805_306_457, 40), (715_827_882, 1_000_000_007, 41), (600_000_001, 1_073_741_827, 43)]
    for (m, n, shift), residual in product(ties, (0, 1, -1, 2, 3, -5, 127, 1001, -32_768, 32_767)):
        for acc in _near_ties(quotients, m, shift, residual * n):
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


def _exp_edges(operator: Operator, _: Level) -> Iterator[Case]:
    rule = operator.profile.exp
    q_ln2 = rule.constants(operator.profile.step_rounding)[0]
    steps = [-(z * q_ln2 >> rule.guard_bits) + near for z in range(40) for near in (-2, -1, 0, 1, 2)]  # z changes here
    yield from ((x,) for x in dict.fromkeys([*edge_table(INT16.min, 0), *steps]) if INT16.min <= x <= 0)
    yield from ((x,) for x in range(-3, -2000, -1))  # the first halving, where every bit of the polynomial shows


def _gelu_edges(operator: Operator, _: Level) -> Iterator[Case]:
    q_b = native(operator.profile.gelu, Gelu).constants(operator.profile.step_rounding)[0]
    yield from ((x,) for x in edge_table(INT16.min, INT16.max))
    yield from ((x,) for x in range(q_b - 8, -q_b + 9))  # up to the clip, where every bit of the polynomial shows
    yield from ((x,) for x in range(INT16.min, INT16.max, 61))


def _exp_based_edges(operator: Operator, level: Level) -> Iterator[Case]:
    for (x,) in _exp_edges(operator, level):
        yield (x,)
        if 0 < -x <= INT16.max:
            yield (-x,)
    yield (INT16.max,)


def _isqrt_edges(_: Operator, level: Level) -> Iterator[Case]:
    top = 1 << MAX_SHIFT
    yield from ((n,) for n in edge_table(0, top - 1))
    roots = [*edge_table(1, (1 << 31) - 1), 4097, 67_108_865, 46_341, 65_535, 94_906_267, 1_518_500_249]
    roots += [k * 33_331 + 1 for k in range(200 * level * level)]
    for k in dict.fromkeys(roots):
        yield from ((n,) for n in (k * k - 1, k * k, k * k + 1, k * k + k, k * k + k + 1, k * k + 2 * k) if n < top)
    yield (1_105_030_547,)  # five updates of Newton's iteration


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
    for (multiplier, shift), (acc, mask) in product(dyadics, patterns):
        yield *acc, *mask, multiplier, shift

    for multiplier, shift in ((1, 1), (1 << 28, 30), (1_583_594_044, 33)):  # ties of the difference, its code in view
        for k in range(1000 * level * level):
            acc = list(_near_ties([-k - 1], multiplier, shift))[1]
            yield *filled(1 + k % 3, acc), *filled(2 + k % 5, 0, 1), multiplier, shift


def _layer_norm_edges(operator: Operator, level: Level) -> Iterator[Case]:
    (channels,) = operator.size
    fraction = native(operator.profile.layer_norm, LayerNorm).output_fraction
    one = 1 << fraction

    def row(pattern: Sequence[int]) -> list[int]:
        return (list(pattern) * channels)[:channels]

    def case(x: Row, multiplier: Row, bias: Row, shift: int, eps: int) -> Case:
        return *row(x), *row(multiplier), *row(bias), shift, eps

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
    rows += [[value] * count + [0] * (channels - count) for value in (1, -1, 3) for count in range(0, channels, 3)]
    rows += [row([at, at, at + 1]) for at in (-32_768, -2, 0, 20_000)]  # mean near, and on, a half
    rows += [one_hot(sign * (channels >> 1) * odd, 1) for sign in (1, -1) for odd in (1, 3, 5)]

    gain = 1 << 30  # with shift 41 a normalised 1.0 becomes the code 32
    constants: list[tuple[Row, Row, int, int]] = [([1], [0], fraction - 5, 1), ([gain], [0], 41, 1)]
    constants += [([gain, -gain, 0, 3 << 28], [0, 5 << 41, -(3 << 40), 1 << 40], 41, 1)]
    constants += [([-MAX_MULTIPLIER, MAX_MULTIPLIER], [-(1 << 48), 1 << 47], 40, 7), ([gain], [-128 << 41], 41, 1000)]
    constants += [([1], [0], 0, (1 << 61) - 1), ([gain], [1 << 61, -(1 << 62)], 62, 1), ([1, -1], [0], 10, 1 << 40)]
    for values, x in product(constants, rows):
        multiplier, bias, shift, eps = values
        yield case(x, multiplier, bias, shift, eps)

    for shift in (1, 2, 16, 41, 53):  # the affine part on and beside every tie and on the saturation edges
        halves = [
            (2 * k + 1 << shift - 1) + near for k in (0, -1, 1, -2, 2, 126, 127, -128, -129) for near in (0, -1, 1)
        ]
        whole = [(k << shift) + near for k in (127, 128, -128, -129, 300, -300, 255, 256) for near in (0, -1)]
        biases = halves + whole
        for start in range(0, len(biases), channels):
            yield case([0], [0], biases[start : start + channels], shift, 1)
            yield case([1, -1], [1], biases[start : start + channels], shift, 1 << 40)

    # The deviation is made 2**(f+1) by eps, so that an odd centred value is normalised to an exact tie.
    for low, high in product(range(-9, 10), (3, 4, 5) if level == 1 else range(1, 16)):
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
    for total, x in product(variances, wide):
        centred, variance = _moments(x, operator)
        if total > variance:
            normalised = [(c << fraction) // math.isqrt(total) for c in centred]
            yield case(x, [1], [-y for y in normalised], 0, total - variance)
            yield case(
                x, [gain, -gain], [-y * sign << 30 for y, sign in zip(normalised, cycle((1, -1)))], 30, total - variance
            )


def _moments(x: Row, operator: Operator) -> tuple[list[int], int]:
    """Return the centred row and its variance before eps, as the profile has them."""
    count, total = len(x), sum(x)
    if native(operator.profile.layer_norm, LayerNorm).centring == "exact":
        return [count * v - total for v in x], count * sum(v * v for v in x) - total * total
    mean = round_fraction(Fraction(total, count), operator.profile.rounding)
    return [v - mean for v in x], sum((v - mean) ** 2 for v in x) // count


def _matmul_edges(operator: Operator, level: Level) -> Iterator[Case]:
    rows, columns, depth = operator.size
    max_bias = INT32.max - (depth << 14)
    patterns = [[v] for v in (0, 1, -1, -128, 127, 64)] + [[-128, 127], [127, -128, 0], [1, 2, 3, 5, 7]]
    patterns += [[1 << k for k in range(7)] + [-128], [~(1 << k) for k in range(7)] + [127]]

    def tile(pattern: Row, height: int) -> list[int]:
        return (list(pattern) * (height * depth))[: height * depth]

    biases = [[0], [1, -1], [max_bias, -max_bias], [-128, 127, 255, -32_768], [1 << k for k in range(30)]]
    for x, w, bias in product(patterns, patterns, biases if level == 2 else biases[:3]):
        yield *tile(x, rows), *tile(w, columns), *(list(bias) * columns)[:columns]
    for i, k in product(range(rows), range(depth)):  # one-hot rows read single weights
        x = [0] * (rows * depth)
        x[i * depth + k] = (1, -128, 127)[k % 3]
        w = [(37 * j + 11 * k + i) % 256 - 128 for j in range(columns * depth)]
        yield *x, *w, *(list(biases[3]) * columns)[:columns]


def _quantize_edges(_: Operator, level: Level) -> Iterator[Case]:
    scales = [1.0, 0.5, 2.0, 49.0, 3.0, 0.0078125, 2.0**-126, 2.0**-130, 2.0**100, 1.0 / 3.0, 0.1, 1_000_003.0]
    steps = [0, -1, 1, -2, 2, 3, 63, -64, 125, 126, 127, 128, -127, -128, -129, -130, 254, 255, 256, -256, 300, 1 << 15]
    zero_points = cycle(INT8_EDGES)
    for scale, step in product(scales, steps):
        scale_bits = _bits(scale)
        (exact,) = struct.unpack("<f", struct.pack("<I", scale_bits))
        for half in (0.0, 0.5):
            x_bits = _bits((step + half) * exact)
            for near in (-1, 0, 1):
                if _is_finite(x_bits + near):
                    yield from ((x_bits + near, scale_bits, next(zero_points)) for _ in range(2 * level))
                    yield x_bits + near, scale_bits, 0
    exponents = [sign << 31 | e << 23 | fraction for sign in (0, 1) for e in range(255) for fraction in (0, 0x7F_FFFF)]
    specials = [0, 1 << 31, 1, (1 << 31) + 1, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0xFF7F_FFFF]
    for x in specials + exponents:
        yield from ((x, scale, zero_point) for scale in (1, 0x7F7F_FFFF, 0x3F80_0000) for zero_point in (0, -128, 5))


def _bits(value: float) -> int:
    """Return the bits of the nearest float32."""
    return struct.unpack("<I", struct.pack("<f", value))[0]


def _is_finite(bits: int) -> bool:
    return 0 <= bits < 1 << 32 and bits >> 23 & 0xFF != 0xFF


# Random cases


def _random_dyadics(draw: Draw, n: int) -> tuple[Int64, Int64, Int64]:
    """Return multipliers of any width, half of them powers of two, one in eight negative, and their widths."""
    width = np.where(draw.integers(0, 1, n), 31, draw.integers(1, 31, n))
    top = np.int64(1) << width - 1
    below = draw.integers(0, MAX_MULTIPLIER, n) & top - 1
    multiplier = np.where(draw.integers(0, 2, n) == 0, top, top + below)
    return multiplier, np.where(draw.integers(0, 7, n) == 0, -1, 1), width


def _random_requantize(_: Operator, draw: Draw, n: int) -> Int64:
    magnitude, sign, width = _random_dyadics(draw, n)
    shift = width + draw.integers(0, 22, n)
    quotient = draw.any_width(-160, 160, n)
    # |2 k + 1| < 2**9 and shift <= 53: the tie is below 2**62
    near_tie = ((2 * quotient + 1) << shift - 1) // magnitude + draw.integers(-1, 2, n)
    is_tie = draw.integers(0, 1, n) == 1
    acc = np.where(is_tie, sign * near_tie, draw.any_width(INT32.min, INT32.max, n)).clip(INT32.min, INT32.max)
    shift = np.where(is_tie, shift, draw.integers(0, MAX_SHIFT, n))
    return np.column_stack([acc, sign * magnitude, shift, draw.integers(-128, 127, n)])


def _random_add(operator: Operator, draw: Draw, n: int) -> Int64:
    magnitude, sign, width = _random_dyadics(draw, n)
    shift = width + draw.integers(0, 15, n)
    residual = draw.any_width(INT16.min, INT16.max, n)
    other = draw.integers(0, (1 << 30) - 1, n) >> draw.integers(0, 29, n)
    zero_point = np.where(draw.integers(0, 1, n), 0, draw.any_width(INT16.min, INT16.max, n))
    quotient = draw.any_width(-33_000, 33_000, n)
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


def _random_exp(_: Operator, draw: Draw, n: int) -> Int64:
    return -abs(draw.any_width(INT16.min, 0, n))[:, None]


def _random_int16(_: Operator, draw: Draw, n: int) -> Int64:
    spread = draw.integers(INT16.min, INT16.max, n)
    return np.where(draw.integers(0, 1, n), spread, draw.any_width(INT16.min, INT16.max, n))[:, None]


def _random_isqrt(_: Operator, draw: Draw, n: int) -> Int64:
    root = abs(draw.any_width(0, (1 << 31) - 2, n))
    square = root * root + draw.choices([0, -1, 1], n) + root * draw.choices([0, 0, 1, 2], n)
    anything = draw.any_width(0, (1 << 62) - 1, n)
    return np.where(draw.integers(0, 1, n), square, anything).clip(0, (1 << 62) - 1)[:, None]


def _random_softmax(operator: Operator, draw: Draw, n: int) -> Int64:
    (length,) = operator.size
    runs = -(-n // RUN)
    width = draw.integers(4, 29, runs)  # of the scores
    multiplier = draw.integers(1 << 30, MAX_MULTIPLIER, runs)
    # the spread of the scores becomes 2**10 ... 2**16 codes of the input of exp
    shift = (31 + width - draw.integers(10, 16, runs)).clip(0, MAX_SHIFT)
    power = draw.integers(0, 2, runs) == 0
    multiplier = np.where(power, 1 << 30, multiplier)
    width, multiplier, shift = (np.repeat(values, RUN)[:n] for values in (width, multiplier, shift))
    limit = (np.int64(1) << width)[:, None]
    acc = draw.integers(-(1 << 40), 1 << 40, (n, length)) % (2 * limit) - limit
    peaked = np.where(draw.integers(0, 3, (n, 1)) == 0, acc >> draw.integers(0, 12, (n, length)), acc)
    kept = draw.integers(0, length, (n, 1))
    padding = np.arange(length) < np.where(draw.integers(0, 1, (n, 1)), length, kept)
    holes = draw.integers(0, 7, (n, length)) > 0
    mask = np.where(draw.integers(0, 3, (n, 1)) == 0, holes, padding)
    return np.column_stack([peaked, mask, multiplier, shift])


def _random_layer_norm(operator: Operator, draw: Draw, n: int) -> Int64:
    (channels,) = operator.size
    runs = -(-n // RUN)
    shape = (runs, channels)
    gain = draw.integers(1 << 28, 1 << 30, shape) * draw.choices([1, 1, 1, 1, -1, 0], shape)
    shift = draw.integers(38, 44, (runs, 1))
    bias = draw.integers(-(140 << 40), 140 << 40, shape) >> (44 - shift)
    ties = ((2 * draw.integers(-130, 130, shape) + 1) << shift - 1) + draw.integers(-1, 1, shape)
    bias = np.where(draw.integers(0, 3, shape) == 0, ties, bias)
    eps = 1 + draw.integers(0, (1 << 40) - 1, (runs, 1)) // (np.int64(1) << draw.integers(0, 40, (runs, 1)))
    gain, bias, shift, eps = (np.repeat(values, RUN, axis=0)[:n] for values in (gain, bias, shift, eps))
    spread = draw.integers(0, 15, (n, 1))
    x = draw.integers(INT16.min, INT16.max, (n, channels)) >> spread
    centre = draw.integers(INT16.min, INT16.max, (n, 1)) >> draw.integers(0, 15, (n, 1))
    return np.column_stack([(x + centre).clip(INT16.min, INT16.max), gain, bias, shift, eps])


def _random_matmul(operator: Operator, draw: Draw, n: int) -> Int64:
    rows, columns, depth = operator.size
    x = draw.integers(-128, 127, (n, rows * depth))
    w = draw.integers(-128, 127, (n, columns * depth))
    bias = draw.any_width(-(INT32.max - (depth << 14)), INT32.max - (depth << 14), (n, columns))
    return np.column_stack([x, w, bias])


def _random_quantize(_: Operator, draw: Draw, n: int) -> Int64:
    exponent = draw.integers(20, 230, n)
    short = draw.integers(0, 0xFFF, n) << 11  # significands short enough for exact ties
    scale = exponent << 23 | np.where(draw.integers(0, 1, n), short, draw.integers(0, 0x7F_FFFF, n))
    real = scale.astype(np.uint32).view(np.float32)
    halves = draw.integers(-560, 560, n).astype(np.float32)
    tie = (real * halves * np.float32(0.5)).view(np.uint32).astype(np.int64) + draw.integers(-1, 1, n)
    near = exponent + draw.integers(-10, 10, n)
    anything = draw.integers(0, 1, n) << 31 | near << 23 | draw.integers(0, 0x7F_FFFF, n)
    is_tie = (draw.integers(0, 1, n) == 1) & (halves != 0)
    return np.column_stack([np.where(is_tie, tie, anything), scale, draw.integers(-128, 127, n)])


EDGES: Final[Mapping[str, Callable[[Operator, Level], Iterator[Case]]]] = {
    "requantize": _requantize_edges,
    "add": _add_edges,
    "exp": _exp_edges,
    "softmax": _softmax_edges,
    "gelu": _gelu_edges,
    "tanh": _exp_based_edges,
    "sigmoid": _exp_based_edges,
    "isqrt": _isqrt_edges,
    "layer_norm": _layer_norm_edges,
    "matmul": _matmul_edges,
    "quantize": _quantize_edges,
}
DRAWN: Final[Mapping[str, Callable[[Operator, Draw, int], Int64]]] = {
    "requantize": _random_requantize,
    "add": _random_add,
    "exp": _random_exp,
    "softmax": _random_softmax,
    "gelu": _random_int16,
    "tanh": _random_int16,
    "sigmoid": _random_int16,
    "isqrt": _random_isqrt,
    "layer_norm": _random_layer_norm,
    "matmul": _random_matmul,
    "quantize": _random_quantize,
}


def _edges(operator: Operator, level: Level) -> Int64:
    rows = dict.fromkeys(EDGES[operator.name](operator, level))
    if level == 2 and operator.name in UNARY:  # every input there is
        top = 0 if operator.name == "exp" else INT16.max
        rows |= dict.fromkeys((x,) for x in range(INT16.min, top + 1))
    return np.array(list(rows), np.int64)


def minimum(operator: Operator, level: Level) -> int:
    """Return the fewest cases that a level stands for."""
    return len(_edges(operator, level)) + _least_random(operator.name, level)


def generate(operator: Operator, *, seed: int, level: Level, cases: int) -> Iterator[Int64]:
    """Yield ``cases`` cases, at least the level's minimum, in batches of (cases, operand words)."""
    edges = _edges(operator, level)
    for start in range(0, len(edges), BLOCK):
        yield edges[start : start + BLOCK]
    size = "x".join(map(str, operator.size))
    for start in range(0, cases - len(edges), BLOCK):
        key = f"intsim vectors 1 {operator.name} {operator.profile.sum} {size} seed {seed} block {start // BLOCK}"
        block = DRAWN[operator.name](operator, Draw(key), BLOCK)
        yield block[: cases - len(edges) - start]
