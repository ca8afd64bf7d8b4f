# SPDX-License-Identifier: Apache-2.0
"""Cases of the operators of one integer: exp, gelu, gelu_tanh, tanh, sigmoid, silu and isqrt."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16, MAX_SHIFT
from intsim.profile import Gelu, native
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh
from intsim.verify.vectors.cases.edges import Case, Drawn, Edges, Level, edge_table
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator, input_range

__all__ = ["DRAWN", "EDGES"]

ROUNDED: Final = (RoundedTanh, RoundedSigmoid, RoundedSilu)


def _exp_edges(operator: Operator, _: Level) -> Iterator[Case]:
    rule = operator.profile.exp
    if isinstance(rule, RoundedExp):
        yield from ((x,) for x in [*edge_table(INT16.min, 0), *range(-3, -2000, -1), *range(0, INT16.min, -61)])
        return
    q_ln2 = rule.constants(operator.profile.step_rounding)[0]
    steps = [-(z * q_ln2 >> rule.guard_bits) + near for z in range(40) for near in (-2, -1, 0, 1, 2)]  # z changes here
    yield from ((x,) for x in dict.fromkeys([*edge_table(INT16.min, 0), *steps]) if INT16.min <= x <= 0)
    yield from ((x,) for x in range(-3, -2000, -1))  # the first halving, where every bit of the polynomial shows


def _gelu_edges(operator: Operator, _: Level) -> Iterator[Case]:
    rule = operator.profile.gelu
    if isinstance(rule, RoundedGelu):
        yield from _rounded_edges(operator, _)
        return
    if not isinstance(rule, Gelu):  # another project's, on codes of its own
        codes = rule.input_range
        yield from ((x,) for x in edge_table(codes.min, codes.max))
        yield from ((x,) for x in range(codes.min, codes.max + 1, 1 if codes.bits == 8 else 61))
        return
    q_b = native(operator.profile.gelu, Gelu).constants(operator.profile.step_rounding)[0]
    yield from ((x,) for x in edge_table(INT16.min, INT16.max))
    yield from ((x,) for x in range(q_b - 8, -q_b + 9))  # up to the clip, where every bit of the polynomial shows
    yield from ((x,) for x in range(INT16.min, INT16.max, 61))


def _rounded_edges(_: Operator, __: Level) -> Iterator[Case]:
    yield from ((x,) for x in edge_table(INT16.min, INT16.max))
    yield from ((x,) for x in range(-2000, 2000))  # where entries differ most from those beside them
    yield from ((x,) for x in range(INT16.min, INT16.max, 61))


def _sigmoid_edges(operator: Operator, level: Level) -> Iterator[Case]:
    rule = getattr(operator.profile, operator.name)
    edges = _rounded_edges if isinstance(rule, ROUNDED) else _exp_based_edges
    yield from edges(operator, level)


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


# Random cases


def _random_exp(_: Operator, draw: Draw, n: int) -> Int64:
    return -abs(draw.any_width(INT16.min, 0, n))[:, None]


def _random_code(operator: Operator, draw: Draw, n: int) -> Int64:
    codes = input_range(operator.name, operator.profile)
    spread = draw.integers(codes.min, codes.max, n)
    return np.where(draw.integers(0, 1, n), spread, draw.any_width(codes.min, codes.max, n))[:, None]


def _random_isqrt(_: Operator, draw: Draw, n: int) -> Int64:
    root = abs(draw.any_width(0, (1 << 31) - 2, n))
    square = root * root + draw.choices([0, -1, 1], n) + root * draw.choices([0, 0, 1, 2], n)
    anything = draw.any_width(0, (1 << 62) - 1, n)
    return np.where(draw.integers(0, 1, n), square, anything).clip(0, (1 << 62) - 1)[:, None]


EDGES: Final[Edges] = {
    "exp": _exp_edges,
    "gelu": _gelu_edges,
    "gelu_tanh": _gelu_edges,
    "tanh": _sigmoid_edges,
    "sigmoid": _sigmoid_edges,
    "silu": _sigmoid_edges,
    "isqrt": _isqrt_edges,
}
DRAWN: Final[Drawn] = {
    "exp": _random_exp,
    "gelu": _random_code,
    "gelu_tanh": _random_code,
    "tanh": _random_code,
    "sigmoid": _random_code,
    "silu": _random_code,
    "isqrt": _random_isqrt,
}
