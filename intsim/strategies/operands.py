# SPDX-License-Identifier: Apache-2.0
"""Operands of products, of decoders, and of the choice of a token."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray

from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, IntRange
from intsim.ops.rotary import TURN_FRACTION
from intsim.strategies import draws
from intsim.strategies.draws import Shape, Shapes
from intsim.strategies.integers import code_arrays, codes, dyadics

__all__ = [
    "CausalMaskArguments",
    "MatmulOperands",
    "MultiplyOperands",
    "RotaryOperands",
    "SampleTokenArguments",
    "causal_mask_arguments",
    "matmul_operands",
    "multiply_operands",
    "rotary_operands",
    "sample_token_arguments",
]

FLOAT32_EXACT: Final = 2**24


class MatmulOperands(NamedTuple):
    """The arguments of ``ops.matmul``."""

    x_q: Integers
    w_q: Integers
    x_zero_point: int
    w_zero_point: int
    bias: Integers | None


def matmul_operands(
    *,
    x: IntRange = INT8,
    w: IntRange = INT8,
    max_side: int = 3,
    max_depth: int = 8,
    zero_points: bool = True,
    batched: bool | None = None,
) -> st.SearchStrategy[MatmulOperands]:
    """Return operands whose accumulator fits int32, up to a sum that is exactly 2**31 - 1 or -(2**31 - 1).

    With X = max|x - x_zero_point| by the dtype of x, what ``ops.matmul`` demands of every output channel n is
    X sum_k |w_nk - w_zero_point| + |bias_n| < 2**31. Weights beyond it are cut down to it, and the bias often takes
    exactly what they leave, or what they leave of 2**24, where float32 stops being exact.

    Parameters
    ----------
    x, w
        Codes of the operands, of at most 16 bits.
    max_side, max_depth
        Largest number of rows and columns, and largest K.
    zero_points
        Whether zero points other than 0 are drawn.
    batched
        Whether the weights have the leading axes of ``x``, as keys do in attention; None for either.
    """
    for name, to in (("x", x), ("w", w)):
        draws.require_type(name, to, IntRange)
        if to.bits > 16:
            msg = f"{name} must have at most 16 bits, got {to.bits}"
            raise InvalidArgument(msg)
    draws.require_order("side", 1, 1, max_side)
    draws.require_order("depth", 1, 1, max_depth)
    return _matmul_operands(x, w, max_side, max_depth, zero_points=zero_points, batched=batched)


@st.composite
def _matmul_operands(
    draw: st.DrawFn, x: IntRange, w: IntRange, max_side: int, max_depth: int, *, zero_points: bool, batched: bool | None
) -> MatmulOperands:
    sides = st.integers(1, max_side)
    leading = draw(array_shapes(min_dims=0, max_dims=2, max_side=2))
    m, n, k = draw(sides), draw(sides), draw(st.integers(1, max_depth))
    stacked = draw(st.booleans()) if batched is None else batched
    x_zero_point = draw(st.just(0) | codes(x)) if zero_points else 0
    w_zero_point = draw(st.just(0) | codes(w)) if zero_points else 0
    x_q = draw(code_arrays(x, shape=(*leading, m, k)))
    w_q = draw(code_arrays(w, shape=(*(leading if stacked else ()), n, k)))

    info = np.iinfo(x.dtype)
    largest = max(-int(info.min), int(info.max)) + abs(x_zero_point)
    rows = w_q.reshape(-1, k)
    extreme = draw(st.booleans())
    if extreme:  # one row of weights of one sign, met by a row of x that is as far from its zero point as it can be
        far = max((x.min, x.max), key=lambda code: abs(code - x_zero_point))
        x_q[(*(0,) * len(leading), 0)] = far
        ends = [code for code in (w.min, w.max) if code != w_zero_point]
        rows[0] = draw(st.sampled_from(ends))
    room = INT32.max // largest
    weights = rows.astype(np.int64) - w_zero_point
    reached = np.minimum(np.abs(weights).cumsum(axis=1), room)  # and no further
    rows[...] = np.sign(weights) * np.diff(reached, axis=1, prepend=0) + w_zero_point
    sums = np.abs(rows.astype(np.int64) - w_zero_point).sum(axis=1).reshape(-1, n).max(axis=0)
    used = [largest * int(total) for total in sums]
    bias = None
    if draw(st.booleans()):
        bias = np.zeros(n, np.int32)  # beyond what is drawn
        bias[: draws.DRAWN] = [draw(_biases(INT32.max - each, FLOAT32_EXACT - each)) for each in used[: draws.DRAWN]]
    if extreme and bias is not None and draw(st.booleans()):
        products = (x_q[(*(0,) * len(leading), 0)].astype(np.int64) - x_zero_point) @ (
            rows[0].astype(np.int64) - w_zero_point
        )
        bias[0] = (INT32.max - used[0]) * (1 if products >= 0 else -1)
    return MatmulOperands(x_q, w_q, x_zero_point, w_zero_point, bias)


def _biases(room: int, float32_room: int) -> st.SearchStrategy[int]:
    """Return integers of [-room, room], often at its ends and where the sum passes 2**24."""
    special = {sign * (float32_room + step) for sign in (1, -1) for step in (-1, 0, 1)}
    special = {bias for bias in special if abs(bias) <= room} | {room, -room, 0}
    return st.sampled_from(sorted(special)) | draws.edge_dense(-room, room)


class RotaryOperands(NamedTuple):
    """The arguments of ``ops.rotary``, all but the pairing and the rounding."""

    x_q: Integers
    cos: Integers
    sin: Integers


def rotary_operands(*, max_side: int = 3, max_pairs: int = 3) -> st.SearchStrategy[RotaryOperands]:
    """Return int16 heads (B, H, T, D) with tables for all sequences, or for each.

    Odd codes meet cosines and sines of 1 / 2, where both results are ties, and of 0 and 1; some channels are in no
    pair. The tables need not be those of angles: what ``ops.rotary`` demands is |cos|, |sin| <= 1.

    Parameters
    ----------
    max_side
        Largest B, H, T and number of channels that stay.
    max_pairs
        Largest number of pairs.
    """
    draws.require_order("side", 1, 1, max_side)
    draws.require_order("pairs", 1, 1, max_pairs)
    return _rotary_operands(max_side, max_pairs)


@st.composite
def _rotary_operands(draw: st.DrawFn, max_side: int, max_pairs: int) -> RotaryOperands:
    batch, heads, tokens = (draw(st.integers(1, max_side)) for _ in range(3))
    pairs, rest = draw(st.integers(1, max_pairs)), draw(st.integers(0, max_side))
    shape = (tokens, pairs) if draw(st.booleans()) else (batch, tokens, pairs)
    one = 1 << TURN_FRACTION
    turns = st.sampled_from([0, one, -one, one // 2, -one // 2]) | draws.edge_dense(-one, one)
    x_q = draw(code_arrays(INT16, shape=(batch, heads, tokens, 2 * pairs + rest)))
    cos, sin = (draw(draws.filled(np.int16, st.just(shape), turns)) for _ in range(2))
    return RotaryOperands(x_q, cos, sin)


class MultiplyOperands(NamedTuple):
    """The arguments of ``ops.multiply``, all but the result's format and the rounding."""

    a_q: Integers
    b_q: Integers
    ratio: Dyadic
    a_zero_point: int
    b_zero_point: int


def multiply_operands(
    *, a: IntRange = INT8, b: IntRange = INT8, shape: Shapes = None, zero_points: bool = True
) -> st.SearchStrategy[MultiplyOperands]:
    """Return codes of one shape (..., C) with a ratio, for all channels or for each.

    With the ratio o * 2**v / 2**t, o odd, n = t - v, a product of codes is a tie where it is an odd multiple of
    2**(n-1): b is often that far from its zero point, and a an odd number from its own.

    Parameters
    ----------
    a, b
        Codes of at most 16 bits.
    shape
        Shape with at least one channel, a strategy, or None for up to three small axes.
    zero_points
        Whether zero points other than 0 are drawn.
    """
    for name, to in (("a", a), ("b", b)):
        draws.require_type(name, to, IntRange)
        if to.bits > 16:
            msg = f"{name} must have at most 16 bits, got {to.bits}"
            raise InvalidArgument(msg)
    shapes = draws.shapes(shape, default=array_shapes(max_dims=3, max_side=4), last_axis=True)
    return _multiply_operands(a, b, shapes, zero_points=zero_points)


@st.composite
def _multiply_operands(
    draw: st.DrawFn, a: IntRange, b: IntRange, shapes: st.SearchStrategy[Shape], *, zero_points: bool
) -> MultiplyOperands:
    shape = draw(shapes)
    a_zero_point, b_zero_point = (draw(st.just(0) | codes(to)) if zero_points else 0 for to in (a, b))
    # of |a b| < 2**32 a product fits int64
    bound = draws.MAX_MULTIPLIER if a_zero_point == b_zero_point == 0 else 2**30
    sizes: dict[str, Any] = {"shape": draw(st.sampled_from([(), shape[-1:]])), "max_multiplier": bound}
    sizes["min_multiplier"] = -bound
    ratio = draw(dyadics(**sizes) | dyadics(**sizes, min_shift=1, max_shift=b.bits))
    halves: list[st.SearchStrategy[int]] = []
    for m, t in zip(ratio.multiplier.flat, ratio.shift.flat, strict=True):
        n = int(t) - (int(m & -m).bit_length() - 1) if m else 0
        ties = [code for sign in (1, -1) if n > 0 and b.min <= (code := b_zero_point + sign * (1 << n - 1)) <= b.max]
        halves.append(st.sampled_from(ties) | codes(b) if ties else codes(b))
    odd = codes(a).map(lambda code: code if (code - a_zero_point) % 2 else min(code + 1, a.max))
    a_q = draw(draws.filled(a.dtype, st.just(shape), codes(a) | odd))
    b_q = draw(draws.elementwise(st.just(shape), halves.__getitem__, len(halves), b.dtype))
    return MultiplyOperands(a_q, b_q, ratio, a_zero_point, b_zero_point)


class CausalMaskArguments(NamedTuple):
    """The arguments of ``ops.causal_mask``."""

    mask: NDArray[np.bool_]
    queries: int
    window: int | None


def causal_mask_arguments(*, max_side: int = draws.SIDE) -> st.SearchStrategy[CausalMaskArguments]:
    """Return masks (B, S), how many of the last columns ask, and no window or one of up to S + 1 columns.

    Each text is padded on the right, on the left, not at all, or throughout, or has holes anywhere.
    """
    draws.require_order("side", 1, 1, max_side)
    return _causal_mask_arguments(max_side)


@st.composite
def _causal_mask_arguments(draw: st.DrawFn, max_side: int) -> CausalMaskArguments:
    batch, columns = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    padded = st.integers(0, columns).map(lambda length: [column < length for column in range(columns)])
    holes = st.lists(st.booleans(), min_size=columns, max_size=columns)
    rows = draws.draw_each(draw, padded | padded.map(lambda row: row[::-1]) | holes, batch)
    queries = draw(st.just(columns) | st.integers(1, columns))
    return CausalMaskArguments(np.array(rows, np.bool_), queries, draw(st.none() | st.integers(1, columns + 1)))


class SampleTokenArguments(NamedTuple):
    """The arguments of ``ops.sample_token``, all but the profile."""

    logits: Integers
    ratio: Dyadic
    top_k: int
    seed: int
    draw: int


def sample_token_arguments(*, to: IntRange = INT32, shape: Shapes = None) -> st.SearchStrategy[SampleTokenArguments]:
    """Return logits (B, V) with what a token is drawn by.

    Each text's logits are of one kind: all equal; some equal, more of them than ``top_k`` keeps or fewer; one above all
    others by as much as there is; on the ties of the ratio below the largest; or anything.

    Parameters
    ----------
    to
        The logits.
    shape
        (B, V) with V of at least 1, a strategy, or None for small ones.
    """
    draws.require_type("to", to, IntRange)
    shapes = draws.shapes(shape, default=array_shapes(min_dims=2, max_dims=2, max_side=draws.SIDE), last_axis=True)
    return _sample_token_arguments(to, shapes)


@st.composite
def _sample_token_arguments(draw: st.DrawFn, to: IntRange, shapes: st.SearchStrategy[Shape]) -> SampleTokenArguments:
    shape = draw(shapes)
    ratio = draw(dyadics(shape=(), min_multiplier=1, max_multiplier=2**30 - 1))
    span = to.max - to.min
    kinds = {
        "equal": st.just(0),
        "some equal": st.sampled_from([0, 0, -1]),
        "one": st.just(-span),
        "ties": draws.tie_dense(int(ratio.multiplier), int(ratio.shift), -span, 0),
        "any": draws.edge_dense(-span, 0),
    }

    def row() -> Integers:
        peak = draw(codes(to))
        differences = draws.draw_each(draw, kinds[draw(st.sampled_from(list(kinds)))], shape[-1])
        logits = np.maximum(peak + np.array(differences, np.int64), to.min)
        logits[draw(st.integers(0, shape[-1] - 1))] = peak
        return logits

    logits = np.array(draws.several(draw, row, math.prod(shape[:-1]), draws.ROWS), to.dtype).reshape(shape)
    top_k = draw(st.sampled_from([1, 2]) | st.integers(1, shape[-1] + 1))
    return SampleTokenArguments(logits, ratio, top_k, draw(st.integers(0, 2**64)), draw(st.integers(0, 2**16)))
