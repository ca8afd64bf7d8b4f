# SPDX-License-Identifier: Apache-2.0
"""Rows of softmax and of norms, and the parameters of norms."""

import math
from typing import Final, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray

from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange
from intsim.ops.layer_norm import LayerNormParams
from intsim.strategies import draws
from intsim.strategies.draws import Shape, Shapes
from intsim.strategies.integers import codes, dyadics

__all__ = ["SoftmaxRows", "layer_norm_params", "layer_norm_rows", "softmax_rows"]

MAX_EPS: Final = 2**61 - 1
MAX_CHANNELS: Final = 2**14
ROW_BITS: Final = 16  # of what norms take the root mean square of


class SoftmaxRows(NamedTuple):
    """The arguments of ``ops.softmax``, all but the profile."""

    acc: Integers
    ratio: Dyadic
    mask: NDArray[np.bool_] | None


def softmax_rows(
    *, ratio: Dyadic | st.SearchStrategy[Dyadic] | None = None, shape: Shapes = None, masked: bool | None = None
) -> st.SearchStrategy[SoftmaxRows]:
    """Return int32 scores (..., T) with their ratio and a mask.

    Each row is of one kind: all equal; one-hot, the others as low as they may be; on the ties of the ratio below the
    maximum; or anything. Masks leave out all of a row, nothing, the maximum, or anything; what is masked may lie above
    the maximum of the rest. The maximum itself is dense in the edges of int32.

    Parameters
    ----------
    ratio
        One positive dyadic, a strategy for them, or None for any.
    shape
        Shape with at least one position on the last axis, a strategy, or None for up to three small axes.
    masked
        True always draws a mask, False never does, None either.

    Notes
    -----
    Scores are drawn no further apart than int64 has room for: difference * multiplier + 2**(shift-1) < 2**63, which
    only binds for multipliers near 2**31 with shifts near 62.
    """
    if isinstance(ratio, Dyadic):
        if ratio.multiplier.shape != () or ratio.multiplier < 1:
            msg = f"ratio must be one positive dyadic, got {ratio}"
            raise InvalidArgument(msg)
        ratio = st.just(ratio)
    elif ratio is not None:
        draws.require_type("ratio", ratio, st.SearchStrategy)
    ratios = dyadics(shape=(), min_multiplier=1) if ratio is None else ratio
    shapes = draws.shapes(shape, default=array_shapes(max_dims=3, max_side=4), last_axis=True)
    masks = st.booleans() if masked is None else st.just(masked)
    return _softmax_rows(ratios, shapes, masks)


@st.composite
def _softmax_rows(
    draw: st.DrawFn,
    ratios: st.SearchStrategy[Dyadic],
    shapes: st.SearchStrategy[Shape],
    masks: st.SearchStrategy[bool],
) -> SoftmaxRows:
    ratio, shape = draw(ratios), draw(shapes)
    multiplier, shift = int(ratio.multiplier), int(ratio.shift)
    span = min(2**32 - 1, (2**63 - 1 - (1 << shift >> 1)) // multiplier)
    kinds = {
        "equal": st.just(0),
        "one-hot": st.just(-span),
        "ties": draws.tie_dense(multiplier, shift, -span, 0),
        "any": draws.edge_dense(-span, 0),
    }
    with_mask = draw(masks)

    def row() -> tuple[Integers, NDArray[np.bool_]]:
        peak = draw(draws.edge_dense(INT32.min, INT32.max))
        differences = draws.draw_each(draw, kinds[draw(st.sampled_from(list(kinds)))], shape[-1])
        acc, mask = np.maximum(peak + np.array(differences, np.int64), INT32.min), np.ones(shape[-1], np.bool_)
        top = draw(st.integers(0, shape[-1] - 1))
        acc[top] = peak
        if with_mask:
            match draw(st.sampled_from(["all", "none", "top", "any"])):
                case "all":
                    mask[:] = False
                case "none":
                    pass
                case "top":
                    mask[top] = False
                case _:
                    mask[:] = draws.draw_each(draw, st.booleans(), shape[-1])
            if draw(st.booleans()):  # what is masked may be anything
                acc[~mask] = draw(draws.edge_dense(INT32.min, INT32.max))
        return acc, mask

    rows = draws.several(draw, row, math.prod(shape[:-1]), draws.ROWS)
    acc = np.array([acc for acc, _ in rows], np.int32).reshape(shape)
    mask = np.array([mask for _, mask in rows], np.bool_).reshape(shape)
    if with_mask and (mask == mask[(0,) * (len(shape) - 1)]).all() and draw(st.booleans()):
        mask = mask[(0,) * (len(shape) - 1)]  # one row for all: it broadcasts
    return SoftmaxRows(acc, ratio, mask if with_mask else None)


def layer_norm_rows(
    *, to: IntRange | None = None, shape: Shapes = None, channels: int | None = None
) -> st.SearchStrategy[Integers]:
    """Return rows of codes (..., N) for ``layer_norm`` and ``rms_norm``.

    Each row is of one kind: constant, so of no variance; constant but for one code that is 1 off; of the two ends of
    the range, so of the largest variance; constant with one end of the range in it; or anything. Of more than 16 bits
    there are also rows whose largest code has any width, the others being ties of the power of two by which it is
    brought to 16 bits where no mean is taken off.

    Parameters
    ----------
    to
        The codes, whose dtype fits int32, or None for int8, uint8, int16 and int32.
    shape
        Shape with at least one channel, a strategy, or None for up to three small axes.
    channels
        N, in place of ``shape``.
    """
    ranges = st.sampled_from([INT8, UINT8, INT16, INT32])
    if to is not None:
        draws.require_type("to", to, IntRange)
        if not np.can_cast(to.dtype, np.int32):
            msg = f"to must have codes that fit int32, got {to}"
            raise InvalidArgument(msg)
        ranges = st.just(to)
    if channels is not None:
        if shape is not None:
            msg = f"channels must not go with shape, got channels={channels} and shape={shape}"
            raise InvalidArgument(msg)
        draws.require_order("channels", 1, 1, channels, MAX_CHANNELS)
        shape = array_shapes(min_dims=1, max_dims=3, max_side=3).map(lambda drawn: (*drawn[1:], channels))
    shapes = draws.shapes(shape, default=array_shapes(max_dims=3, max_side=draws.SIDE), last_axis=True)
    return _layer_norm_rows(ranges, shapes)


@st.composite
def _layer_norm_rows(
    draw: st.DrawFn, ranges: st.SearchStrategy[IntRange], shapes: st.SearchStrategy[Shape]
) -> Integers:
    to, shape = draw(ranges), draw(shapes)
    wide = ["shifted"] if to.bits > ROW_BITS else []

    def row() -> list[int]:
        kind = draw(st.sampled_from(["constant", "one off", "ends", "outlier", "any", *wide]))
        match kind:
            case "shifted":
                return draws.draw_each(draw, _shifted(to, draw(st.integers(0, to.bits - ROW_BITS))), shape[-1])
            case "ends":
                return draws.draw_each(draw, st.sampled_from([to.min, to.max]), shape[-1])
            case "any":
                return draws.draw_each(draw, codes(to), shape[-1])
            case _:
                code = draw(codes(to))
        x_q, place = [code] * shape[-1], draw(st.integers(0, shape[-1] - 1))
        if kind == "one off":
            x_q[place] = code + (1 if code < to.max else -1)
        elif kind == "outlier":
            x_q[place] = draw(st.sampled_from([to.min, to.max]))
        return x_q

    return np.array(draws.several(draw, row, math.prod(shape[:-1]), draws.ROWS), to.dtype).reshape(shape)


def _shifted(to: IntRange, shift: int) -> st.SearchStrategy[int]:
    """Return codes that a norm shifts by so many bits where one of them is an end; halves of that power often."""
    limit = 1 << ROW_BITS - 1 + shift
    low, high = max(to.min, -limit + 1), min(to.max, limit - 1)
    return draws.tie_dense(1, shift, low, high) | st.sampled_from([low, high])


def layer_norm_params(*, channels: int | None = None, max_eps: int = MAX_EPS) -> st.SearchStrategy[LayerNormParams]:
    """Return the integer parameters of both norms; gamma 0 and negative, biases on ties, eps 1 often.

    Parameters
    ----------
    channels
        N, or None for 1 to 6.
    max_eps
        Largest eps; the smallest is 1.

    Notes
    -----
    Biases leave room for any normalised int32: 2**31 max|multiplier| + |bias| + 2**(shift-1) < 2**63, which makes the
    parameters legal for any row under any profile.
    """
    if channels is not None:
        draws.require_order("channels", 1, 1, channels, MAX_CHANNELS)
    draws.require_order("eps", 1, 1, max_eps, MAX_EPS)
    return _layer_norm_params(st.integers(1, draws.SIDE) if channels is None else st.just(channels), max_eps)


@st.composite
def _layer_norm_params(draw: st.DrawFn, channels: st.SearchStrategy[int], max_eps: int) -> LayerNormParams:
    weight = draw(dyadics(shape=(draw(channels),), aligned=True))
    shift = int(weight.shift[0])
    half = 1 << shift >> 1
    room = 2**63 - 1 - half - 2**31 * int(np.abs(weight.multiplier).max())
    ties = draws.edge_dense(-room >> shift, (room - half) >> shift).map(lambda k: max((k << shift) + half, -room))
    return LayerNormParams(
        weight=weight,
        bias=draw(draws.filled(np.int64, st.just(weight.multiplier.shape), draws.edge_dense(-room, room) | ties)),
        eps=draw(draws.edge_dense(1, max_eps)),
    )
