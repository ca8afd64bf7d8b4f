# SPDX-License-Identifier: Apache-2.0
"""The cases of each operator: edges first, then random ones, the same forever for the same arguments.

Random scales certify nothing about rounding, so edges and random cases are dense in ties for the dyadic at hand, and
rows come in runs that share their constants, as the tokens of one layer do.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from intsim.verify.vectors.cases import (
    l2_normalize,
    layer_norm,
    linear,
    linear_add_norm,
    multiply,
    quantize,
    rms_norm,
    rotary,
    rows,
    scaled,
    unary,
)
from intsim.verify.vectors.cases.edges import LEVELS, Drawn, Edges, Level, is_huge
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator, input_range

__all__ = ["LEVELS", "SCALAR", "UNARY", "Level", "generate", "minimum"]

BLOCK: Final = 4096  # random cases drawn from one key, so that a longer file begins with the shorter one
HUGE_BLOCK: Final = 64  # of cases that are long lines
LEVEL_1_BYTES: Final = 48_000_000  # of their text
LEAST_RANDOM: Final = 64
SMOKE: Final = (136, 64)  # edges and random cases of level 0
UNARY: Final = ("exp", "gelu", "gelu_tanh", "tanh", "sigmoid", "silu")  # of one int16: level 2 is every input
SCALAR: Final = ("requantize", "add", "multiply", "isqrt", "quantize")

_FAMILIES: Final = (
    scaled,
    unary,
    rows,
    layer_norm,
    rms_norm,
    l2_normalize,
    quantize,
    multiply,
    rotary,
    linear,
    linear_add_norm,
)
EDGES: Final[Edges] = {name: edges for family in _FAMILIES for name, edges in family.EDGES.items()}
DRAWN: Final[Drawn] = {name: draw for family in _FAMILIES for name, draw in family.DRAWN.items()}


def _least_random(operator: Operator, level: Level, edges: int) -> int:
    if level == 0:
        return SMOKE[1]
    if operator.name in UNARY:
        return 1000 if level == 1 else 0
    if operator.name in SCALAR:
        return 4000 if level == 1 else 200_000
    if level == 1 and is_huge(operator):
        return min(512, max(LEAST_RANDOM, LEVEL_1_BYTES // operator.line_bytes - edges))
    return 512 if level == 1 else 20_000


def _edges(operator: Operator, level: Level) -> Int64:
    rows = dict.fromkeys(EDGES[operator.name](operator, level or 1))
    if level == 2 and operator.name in UNARY:  # every input there is
        codes = input_range(operator.name, operator.profile)
        top = 0 if operator.name == "exp" else codes.max
        rows |= dict.fromkeys((x,) for x in range(codes.min, top + 1))
    edges = np.array(list(rows), np.int64)
    most = len(edges)
    if level == 0:
        most = SMOKE[0]
    elif level == 1 and is_huge(operator):
        most = max(LEVEL_1_BYTES // operator.line_bytes - LEAST_RANDOM, 1)
    if len(edges) > most:  # spread over all of them
        return edges[np.linspace(0, len(edges) - 1, most).astype(np.int64)]
    return edges


def minimum(operator: Operator, level: Level) -> int:
    """Return the fewest cases that a level stands for."""
    edges = len(_edges(operator, level))
    return edges + _least_random(operator, level, edges)


def generate(operator: Operator, *, seed: int, level: Level, cases: int) -> Iterator[Int64]:
    """Yield ``cases`` cases, at least the level's minimum, in batches of (cases, operand words)."""
    edges, length = _edges(operator, level), HUGE_BLOCK if is_huge(operator) else BLOCK
    for start in range(0, len(edges), length):
        yield edges[start : start + length]
    size = "x".join(map(str, operator.size))
    for start in range(0, cases - len(edges), length):
        key = f"intsim vectors 1 {operator.name} {operator.profile.sum} {size} seed {seed} block {start // length}"
        block = DRAWN[operator.name](operator, Draw(key), length)
        yield block[: cases - len(edges) - start]
