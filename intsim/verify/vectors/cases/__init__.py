# SPDX-License-Identifier: Apache-2.0
"""The cases of each operator: edges first, then random ones, the same forever for the same arguments.

Random scales certify nothing about rounding, so edges and random cases are dense in ties for the dyadic at hand, and
rows come in runs that share their constants, as the tokens of one layer do.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from intsim.fixedpoint import INT16
from intsim.verify.vectors.cases import (
    l2_normalize,
    layer_norm,
    multiply,
    quantize,
    rms_norm,
    rotary,
    rows,
    scaled,
    unary,
)
from intsim.verify.vectors.cases.edges import LEVELS, Drawn, Edges, Level
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["LEVELS", "SCALAR", "UNARY", "Level", "generate", "minimum"]

BLOCK: Final = 4096  # random cases drawn from one key, so that a longer file begins with the shorter one
SMOKE: Final = (136, 64)  # edges and random cases of level 0
UNARY: Final = ("exp", "gelu", "gelu_tanh", "tanh", "sigmoid", "silu")  # of one int16: level 2 is every input
SCALAR: Final = ("requantize", "add", "multiply", "isqrt", "quantize")

_FAMILIES: Final = (scaled, unary, rows, layer_norm, rms_norm, l2_normalize, quantize, multiply, rotary)
EDGES: Final[Edges] = {name: edges for family in _FAMILIES for name, edges in family.EDGES.items()}
DRAWN: Final[Drawn] = {name: draw for family in _FAMILIES for name, draw in family.DRAWN.items()}


def _least_random(name: str, level: Level) -> int:
    if level == 0:
        return SMOKE[1]
    if name in UNARY:
        return 1000 if level == 1 else 0
    if name in SCALAR:
        return 4000 if level == 1 else 200_000
    return 512 if level == 1 else 20_000


def _edges(operator: Operator, level: Level) -> Int64:
    rows = dict.fromkeys(EDGES[operator.name](operator, level or 1))
    if level == 2 and operator.name in UNARY:  # every input there is
        top = 0 if operator.name == "exp" else INT16.max
        rows |= dict.fromkeys((x,) for x in range(INT16.min, top + 1))
    edges = np.array(list(rows), np.int64)
    if level == 0:  # spread over those of level 1
        return edges[np.linspace(0, len(edges) - 1, min(SMOKE[0], len(edges))).astype(np.int64)]
    return edges


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
