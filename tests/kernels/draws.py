# SPDX-License-Identifier: Apache-2.0
"""Operands of kernels that scale by a float32: dense in ties, in near ties and in the ends of the codes.

Rules that differ by one float32 rounding agree almost everywhere: they part where a value lies within a last place of
k + 1/2. ``near_ties`` aims a scale at one value of a draw, so that it and all that equal it lie there.
"""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim.fixedpoint import IntRange
from intsim.float32 import Float32, decode, encode
from intsim.strategies import codes

RANGES = {
    np.dtype(kind): IntRange(8 * np.dtype(kind).itemsize, signed=np.dtype(kind).kind == "i")
    for kind in ("uint8", "int8", "uint16", "int16", "int32")
}


def float32(x: Any) -> Float32:
    return decode(np.asarray(x, np.float32).view(np.uint32))


def bits(x: Any) -> NDArray[np.uint32]:
    return encode(x) if isinstance(x, Float32) else np.ascontiguousarray(x, np.float32).view(np.uint32)


def generators() -> st.SearchStrategy[np.random.Generator]:
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def scales() -> st.SearchStrategy[np.float32]:
    """Powers of two, which tie; odd multiples of them; and any 24 bits."""
    powers = st.integers(-8, 2).map(lambda e: 2.0**e)
    odd = st.builds(lambda n, e: n * 2.0**e, st.integers(1, 63), st.integers(-10, -4))
    any_bits = st.builds(lambda n, e: n * 2.0**e, st.integers(2**23, 2**24 - 1), st.integers(-32, -23))
    return st.one_of(powers, odd, any_bits, any_bits).map(np.float32)


@st.composite
def near_ties(draw, value: float, *, top: int = 120) -> np.float32:
    """Scales s for which |value| / s is a tie or within a few last places of one."""
    scale = np.float32((abs(value) or 1) / (draw(st.integers(0, top)) + 0.5))
    for _ in range(draw(st.integers(0, 2))):
        scale = np.nextafter(scale, np.float32(draw(st.sampled_from([0, 2**100]))))
    return scale


def zero_points(kind: Any) -> st.SearchStrategy[Any]:
    kind = np.dtype(kind)
    to = RANGES[kind]
    return (codes(to) | st.integers(to.min, to.max)).map(kind.type)


def code_array(rng: np.random.Generator, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Codes, a quarter of them at the ends; now and then all at one end or all the same."""
    to = RANGES[np.dtype(kind)]
    array = rng.integers(to.min, to.max + 1, shape)
    ends = rng.choice([to.min, to.max], shape)
    array = np.where(rng.random(shape) < rng.choice([0, 0.25, 1], p=[0.45, 0.45, 0.1]), ends, array)
    if rng.random() < 0.3:
        array[...] = array.reshape(-1)[: array.shape[-1]]
    return array.astype(kind)


def numbers(rng: np.random.Generator, size: int, scale: np.float32, *, reach: int) -> NDArray[np.float32]:
    """float32 numbers: ties of the scale off by up to one last place, and others of every size."""
    ties = (np.float32(scale) * (rng.integers(-reach, reach, size) + np.float32(0.5))).astype(np.float32)
    ties = np.where(rng.random(size) < 0.6, np.nextafter(ties, rng.choice([-np.inf, np.inf], size)), ties)
    others = rng.standard_normal(size) * reach * scale * np.exp(rng.uniform(-6, 2, size))
    return np.where(rng.random(size) < 0.6, ties, others).astype(np.float32)
