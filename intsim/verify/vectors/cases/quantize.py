# SPDX-License-Identifier: Apache-2.0
"""Cases of quantize: float32 by their bits."""

import struct
from collections.abc import Iterator
from itertools import cycle, product
from typing import Final

import numpy as np

from intsim.verify.vectors.cases.edges import INT8_EDGES, Case, Drawn, Edges, Level
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import Operator

__all__ = ["DRAWN", "EDGES"]


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


EDGES: Final[Edges] = {
    "quantize": _quantize_edges,
}
DRAWN: Final[Drawn] = {
    "quantize": _random_quantize,
}
