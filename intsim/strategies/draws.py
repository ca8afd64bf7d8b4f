# SPDX-License-Identifier: Apache-2.0
"""What strategies are made of: integers dense in edges and in ties, arrays of any size, and the checks of arguments."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar, cast

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.extra.numpy import arrays

from intsim.carrier.exact import Integers

__all__ = [
    "DRAWN",
    "MAX_MULTIPLIER",
    "MAX_SHIFT",
    "ROWS",
    "SEEDS",
    "SIDE",
    "Shape",
    "Shapes",
    "draw_each",
    "edge_dense",
    "edges",
    "elementwise",
    "filled",
    "multipliers",
    "require_channels",
    "require_order",
    "require_type",
    "several",
    "shapes",
    "shifts",
    "tie_dense",
]

_T = TypeVar("_T")
Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = int | Shape | st.SearchStrategy[Shape] | None

MAX_SHIFT: Final = 62
MAX_MULTIPLIER: Final = 2**31 - 1
SIDE: Final = 6  # largest side of a default shape
DRAWN: Final = 48  # elements that are drawn one by one: what hypothesis can draw has an end
ROWS: Final = 6  # and rows
SEEDS: Final = st.integers(0, 2**32 - 1)


@lru_cache
def edges(low: int, high: int) -> list[int]:
    """Return the integers of [low, high] next to its ends, its middles, 0 and the powers of two, and walking zeros."""
    around = {low, high, low // 2, high // 2, 0}
    around |= {sign << k if sign > 0 else -(1 << k) for sign in (1, -1) for k in range(64)}
    values = {value + step for value in around for step in (-1, 0, 1)}
    if high > 0:  # 0111, 1011, 1101 ... of the width of the highest
        ones = (1 << high.bit_length()) - 1
        values |= {ones ^ (1 << k) for k in range(high.bit_length())}
    return sorted((value for value in values if low <= value <= high), key=lambda value: (abs(value), value < 0))


@lru_cache
def edge_dense(low: int, high: int) -> st.SearchStrategy[int]:
    """Return every integer of [low, high], the edges often, the ends and 0 most."""
    ends = [end for end in (0, 1, -1, high, low, high - 1, low + 1) if low <= end <= high]
    return st.sampled_from(ends) | st.sampled_from(edges(low, high)) | st.integers(low, high)


def multipliers(low: int, high: int) -> st.SearchStrategy[int]:
    """Return every integer of [low, high], often a small odd number times a power of two."""
    ends = max(abs(low), abs(high)).bit_length()
    dense: list[int] = sorted(
        {
            sign * (odd << k)
            for sign in (1, -1)
            for odd in (1, 3, 5, 127)
            for k in range(ends)
            if low <= sign * (odd << k) <= high
        },
        key=abs,
    )
    return st.sampled_from([*edges(low, high), *dense]) | st.integers(low, high)


def shifts(low: int, high: int) -> st.SearchStrategy[int]:
    """Return every integer of [low, high], those of 8, 16, 32 and 64 bits often."""
    usual = [shift for shift in (0, 1, 8, 16, 30, 31, 32, 61, 62) if low <= shift <= high] or [low]
    return st.sampled_from([low, high, *usual]) | st.integers(low, high)


@lru_cache
def tie_dense(multiplier: int, shift: int, low: int, high: int) -> st.SearchStrategy[int]:
    """Return every integer of [low, high], often one whose product is a tie of the shift, or next to one.

    See ``accumulators``; with no bits dropped, or a product of 0, there is nothing to tie.
    """
    edges = edge_dense(low, high)
    choices: list[st.SearchStrategy[int]] = [edges]
    trailing = (multiplier & -multiplier).bit_length() - 1 if multiplier else 0
    odd, n = multiplier >> trailing, shift - trailing
    if multiplier and n >= 1:
        inverse = pow(odd, -1, 1 << n)
        for beside in (0, 1, -1):  # units of the product's last place beside the tie
            residue = inverse * ((1 << n - 1) + beside)
            first = low + (residue - low) % (1 << n)
            if first > high:
                continue

            def reach(j: int, first: int = first) -> int:
                return first + (j << n)

            last = (high - first) >> n
            middle = min(max(-first >> n, 0), last)
            reached = edge_dense(0, last).map(reach)
            nearest = [k for k in (middle, middle + 1, middle - 1, middle + 2) if 0 <= k <= last]
            small = st.sampled_from(nearest).map(reach)  # whose results do not saturate
            choices += [reached, small]
            if beside == 0:
                choices += [reached, small, small, small]  # what this is for
                near = st.tuples(reached, st.sampled_from([1, -1]))
                choices.append(near.map(lambda drawn: min(max(sum(drawn), low), high)))
    if multiplier:
        lowest, highest = sorted((low * multiplier >> shift, high * multiplier >> shift))
        halves = edge_dense(lowest, highest)
        if eight_bits := [k for k in (-1, 0, 126, 127, -129, -128, 254, 255) if lowest <= k <= highest]:
            halves |= st.sampled_from(eight_bits)  # where int8 and uint8 change sign and saturate
        around = st.tuples(halves, st.sampled_from([0, 1]))

        def beside_half(drawn: tuple[int, int]) -> int:
            k, step = drawn
            return min(max(((2 * k + 1) << shift) // (2 * multiplier) + step, low), high)

        choices.append(around.map(beside_half))
    return st.one_of(choices)


@st.composite
def elementwise(
    draw: st.DrawFn,
    shapes: st.SearchStrategy[Shape],
    each: Callable[[int], st.SearchStrategy[int]],
    channels: int,
    dtype: np.dtype[np.integer],
) -> Integers:
    """Draw every element from the strategy of its channel; all strategies have the same range.

    Of more than DRAWN elements some channels, drawn too, are as dense as that; the others have these channels' values.
    """
    shape = draw(shapes)
    if (size := math.prod(shape)) <= DRAWN:
        elements = [draw(each(i % channels)) for i in range(size)]
        return np.array(elements, dtype).reshape(shape)
    dense = [draw(st.integers(0, channels - 1)) for _ in range(min(channels, DRAWN // 4))]
    pools = np.array([[draw(each(channel)) for _ in range(DRAWN // len(dense))] for channel in dense], dtype)
    rng = np.random.default_rng(draw(SEEDS))
    values = rng.choice(pools.ravel(), size=(size // channels, channels))
    for channel, pool in zip(dense, pools, strict=True):
        values[:, channel] = rng.choice(pool, size=len(values))
    return values.reshape(shape)


@st.composite
def filled(draw: st.DrawFn, dtype: Any, shapes: st.SearchStrategy[Shape], elements: st.SearchStrategy[Any]) -> Any:
    """Draw an array, all of its elements from one strategy."""
    shape = draw(shapes)
    if (size := math.prod(shape)) <= DRAWN:
        return draw(arrays(dtype, shape, elements=elements, fill=st.nothing()))
    return np.array(draw_each(draw, elements, size), dtype).reshape(shape)


def draw_each(draw: st.DrawFn, elements: st.SearchStrategy[_T], count: int) -> list[_T]:
    """Draw so many elements; of more than DRAWN, so many of them laid out by a drawn seed."""
    return several(draw, lambda: draw(elements), count, DRAWN)


def several(draw: st.DrawFn, make: Callable[[], _T], count: int, most: int) -> list[_T]:
    """Return ``count`` of what ``make`` draws; of more than ``most``, so many of them laid out by a drawn seed."""
    made = [make() for _ in range(min(count, most))]
    if count <= most:
        return made
    return [made[i] for i in np.random.default_rng(draw(SEEDS)).integers(most, size=count)]


def shapes(shape: Shapes, *, default: st.SearchStrategy[Shape], last_axis: bool = False) -> st.SearchStrategy[Shape]:
    """Return a strategy for shapes."""
    if shape is None:
        return default
    if isinstance(shape, st.SearchStrategy):
        return shape
    sides: Any = (shape,) if isinstance(shape, int) else shape
    if not isinstance(sides, tuple) or not all(
        isinstance(side, int) and side >= 0 for side in cast("tuple[Any, ...]", sides)
    ):
        msg = f"shape must be an integer, a tuple of integers from 0, or a strategy, got {shape!r}"
        raise InvalidArgument(msg)
    drawn = cast("Shape", sides)
    if last_axis and (not drawn or drawn[-1] < 1):
        msg = f"shape must have a last axis of at least one element, got {shape!r}"
        raise InvalidArgument(msg)
    return st.just(drawn)


def require_channels(shape: Shape, channels: int) -> Shape:
    """Return a shape that ends in so many channels; refuse another."""
    if not shape or shape[-1] != channels:
        msg = f"shape must end in the {channels} channels of the ratio, got {shape}"
        raise InvalidArgument(msg)
    return shape


def require_order(name: str, floor: int, low: int, high: int, ceiling: int | None = None) -> None:
    """Refuse bounds that are not floor <= low <= high <= ceiling."""
    if not floor <= low <= high or (ceiling is not None and high > ceiling):
        top = "" if ceiling is None else f" <= {ceiling}"
        msg = f"{name} must have {floor} <= min_{name} <= max_{name}{top}, got min_{name}={low} and max_{name}={high}"
        raise InvalidArgument(msg)


def require_type(name: str, value: object, kind: type) -> None:
    """Refuse a value that is not of this type."""
    if not isinstance(value, kind):
        msg = f"{name} must be of type {kind.__name__}, got {value!r}"
        raise InvalidArgument(msg)
