# SPDX-License-Identifier: Apache-2.0
"""Cases of linear_add_norm: the edges of each of its parts, so that the other two let them be seen."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from intsim.fixedpoint import INT16
from intsim.verify.vectors.cases import layer_norm, rows, scaled
from intsim.verify.vectors.cases.edges import RUN, Case, Drawn, Edges, Level, is_huge
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator, bind, max_bias

__all__ = ["DRAWN", "EDGES"]

FEW: Final = 64  # cases of a part that a huge operator gets
LOW_BITS: Final = (9, 12, 16)  # of an accumulator, which a residual times their power of two leaves to the sum


def _part(operator: Operator, name: str) -> Operator:
    """Return product, sum or norm as the operator ``name`` of its own."""
    options = operator.options
    match name:
        case "matmul":
            return bind(name, operator.profile, operator.size, activations=options.get("activations"))
        case "layer_norm":
            return bind(name, operator.profile, operator.size[1:2], to=options.get("to"))
        case _:
            return bind(name, operator.profile)


def _listed(operator: Operator, name: str, level: Level) -> Int64:
    """Return the edges of a part, each once; few of them where a case is a long line."""
    edges = {"matmul": rows.EDGES, "add": scaled.EDGES, "layer_norm": layer_norm.EDGES}[name][name]
    cases = np.array(list(dict.fromkeys(edges(_part(operator, name), level))), np.int64)
    most = FEW if is_huge(operator) and name != "add" else len(cases)  # pairs fill rows first
    return cases[np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(np.intp)]


def _shown(operator: Operator, *fields: Int64) -> Int64:
    """Return (n, words) cases of the fields before norm's, whose constants show every change of the first row's codes.

    With the factor 1, the bias takes a channel's normalised value to a small code; what else becomes of it is seen.
    """
    (_, columns, _), n = operator.size, len(fields[0])
    plain = np.tile(np.array([1] * columns + [0] * columns + [0, 1]), (n, 1))
    options = {"activations": operator.options.get("activations")}
    wide = bind(operator.name, operator.profile, operator.size, to="int32", **options)
    cases = np.column_stack([*fields, plain])
    normalised = wide.results(cases)[:, :columns]
    middle = operator.formats.to.max + operator.formats.to.min + 1 >> 1
    cases[:, -columns - 2 : -2] = middle + np.arange(columns) % 5 - normalised
    return cases


def _scaled(operator: Operator, n: int, shift: Any, other: Any, zero_point: Any = 0) -> Int64:
    """Return the columns of the sum's shifts, one or one an operand, and its zero point."""
    both = np.column_stack([np.broadcast_to(values, n) for values in (shift, other)])
    shifts = both if operator.profile.sum == "each" else both[:, :1]
    return np.column_stack([shifts, np.broadcast_to(zero_point, n)])


def _norm_edges(operator: Operator, level: Level) -> Iterator[Int64]:
    """Yield rows of the norm as residuals, the product left out."""
    count, columns, depth = operator.size
    cases = _listed(operator, "layer_norm", level)
    n, first = len(cases), cases[:, :columns]
    residual = [first if k % 2 == 0 else first[:, ::-1] for k in range(count)]
    none = np.zeros((n, (count + columns) * depth + columns), np.int64)
    ones = np.ones((n, columns + 1), np.int64)
    yield np.column_stack([none, *residual, ones, _scaled(operator, n, 0, 0), cases[:, columns:]])


def _product_edges(operator: Operator, level: Level) -> Iterator[Int64]:
    """Yield accumulators of which the residual leaves the low bits, that the sum takes as they are."""
    columns = operator.size[1]
    cases = _listed(operator, "matmul", level)
    acc = _part(operator, "matmul").results(cases)
    for k, bits in enumerate(LOW_BITS):
        of = slice(None) if level == 2 else slice(k, None, len(LOW_BITS))
        part, here = cases[of], acc[of]
        residual = -(here + (1 << bits - 1) >> bits).clip(INT16.min + 1, INT16.max)
        ones = np.ones((len(part), columns), np.int64)
        unit = np.full(len(part), 1 << bits)
        yield _shown(operator, part, residual, ones, unit, _scaled(operator, len(part), 0, 0))


def _sum_edges(operator: Operator, level: Level) -> Iterator[Int64]:
    """Yield pairs of operands of the sum as accumulators, which are biases, and residuals of one row."""
    count, columns, depth = operator.size
    most = max_bias(depth, operator.formats.x)
    table = np.unique(_listed(operator, "add", level), axis=0)
    by_constants = table[np.lexsort(table[:, [0, 1, *range(table.shape[1] - 1, 2, -1)]].T)]
    starts = np.flatnonzero((np.diff(by_constants[:, 3:], axis=0) != 0).any(axis=1)) + 1
    beyond = np.array([[sign * most, sign * near, 1, 1 << 16] for sign in (1, -1) for near in (INT16.max, 1)], np.int64)
    beyond = np.column_stack([beyond, _scaled(operator, len(beyond), 0, 0)])  # 32 bits
    groups = [*np.split(by_constants, starts), beyond]
    for group in groups[:: max(1, len(groups) // FEW)] if is_huge(operator) else groups:
        filled = np.zeros((-(-len(group) // columns) * columns, group.shape[1]), np.int64)
        filled[: len(group)], filled[:, 3:] = group, group[0, 3:]  # a norm does not see what is added to a whole row
        filled = filled.reshape(-1, columns, group.shape[1])
        n = len(filled)
        none = np.zeros((n, (count + columns) * depth), np.int64)
        bias, residual = filled[:, :, 0].clip(-most, most), filled[:, :, 1]
        others = [np.roll(residual, k, axis=1) for k in range(count)]
        yield _shown(operator, none, bias, *others, filled[:, :, 2], filled[:, 0, 3:])


def _edges(operator: Operator, level: Level) -> Iterator[Case]:
    for part in (_norm_edges, _product_edges, _sum_edges):
        for cases in part(operator, level):
            yield from map(tuple, cases.tolist())


def _random(operator: Operator, draw: Draw, n: int) -> Int64:
    count, columns, depth = operator.size
    codes, runs = operator.formats.x, -(-n // RUN)
    x = draw.integers(codes.min, codes.max, (n, count * depth))
    w = draw.integers(-128, 127, (n, columns * depth)) >> draw.integers(0, 5, (n, 1))
    bias = draw.integers(-(1 << 16), 1 << 16, (n, columns))
    residual = draw.any_width(INT16.min, INT16.max, (n, count * columns))
    shape = (runs, columns)
    multiplier = draw.integers(1 << 28, 1 << 30, shape) * draw.choices([1, 1, 1, -1], shape)
    multiplier = np.where(draw.integers(0, 2, shape) == 0, 1 << 30, multiplier)
    other = draw.integers(1 << 29, (1 << 30) - 1, runs)
    shift = draw.integers(29, 34, runs)
    zero_point = draw.any_width(INT16.min, INT16.max, runs)
    constants = (np.repeat(values, RUN, axis=0)[:n] for values in (multiplier, other, shift, zero_point))
    multiplier, other, shift, zero_point = constants
    of_norm = layer_norm.random_constants(_part(operator, "layer_norm"), draw, n)
    of_sum = _scaled(operator, n, shift, shift - 1, zero_point)
    return np.column_stack([x, w, bias, residual, multiplier, other, of_sum, *of_norm])


EDGES: Final[Edges] = {"linear_add_norm": _edges}
DRAWN: Final[Drawn] = {"linear_add_norm": _random}
