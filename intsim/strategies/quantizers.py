# SPDX-License-Identifier: Apache-2.0
"""Affine parameters, reals that quantizers get wrong, and schemes."""

import math
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.extra.numpy import array_shapes
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, IntRange
from intsim.quantizers import AffineParams, Scheme
from intsim.strategies import draws
from intsim.strategies.draws import Shape, Shapes
from intsim.strategies.integers import int_ranges

__all__ = ["affine_params", "real_arrays", "schemes"]

_Reals: TypeAlias = Literal["float32", "float64"]

MIN_SCALE: Final = 2.0**-1022
MAX_SCALE: Final = float(np.finfo(np.float64).max)


def affine_params(
    *,
    to: IntRange | st.SearchStrategy[IntRange] | None = None,
    shape: Shapes = None,
    min_scale: float = MIN_SCALE,
    max_scale: float = MAX_SCALE,
) -> st.SearchStrategy[AffineParams]:
    """Return affine parameters; power-of-two scales, zero points at the ends and at 0 often.

    Parameters
    ----------
    to
        The codes, a strategy for them, or None for any.
    shape
        Shape of the parameter sets, a strategy, or None for ``()``, ``(C,)`` or ``(C, 1)``.
    min_scale, max_scale
        Bounds of the scales: all normal float64 unless told otherwise.
    """
    if not MIN_SCALE <= min_scale <= max_scale <= MAX_SCALE:
        msg = f"scales must have 2**-1022 <= min_scale <= max_scale, got [{min_scale}, {max_scale}]"
        raise InvalidArgument(msg)
    if isinstance(to, IntRange):
        to = st.just(to)
    elif to is not None:
        draws.require_type("to", to, st.SearchStrategy)
    default = st.sampled_from([(), (1,), (3,), (1, 1), (3, 1)])
    shapes = draws.shapes(shape, default=default)
    return _affine_params(int_ranges() if to is None else to, shapes, min_scale, max_scale)


@st.composite
def _affine_params(
    draw: st.DrawFn,
    ranges: st.SearchStrategy[IntRange],
    shapes: st.SearchStrategy[Shape],
    min_scale: float,
    max_scale: float,
) -> AffineParams:
    to, shape = draw(ranges), draw(shapes)
    significand, exponent = math.frexp(min_scale)  # a power of two has the significand 1/2
    lowest, highest = exponent - (significand == 0.5), math.frexp(max_scale)[1] - 1
    powers = [st.integers(lowest, highest).map(lambda k: math.ldexp(1.0, k))] if lowest <= highest else []
    scales = st.one_of([*powers, st.floats(min_scale, max_scale)])
    unused_top = draw(st.sampled_from([0, 1]) | st.integers(0, to.max - to.min))
    zero_points = draws.edge_dense(to.min, to.max - unused_top)
    return AffineParams(
        scale=draw(draws.filled(np.float64, st.just(shape), scales)),
        zero_point=draw(draws.filled(np.int64, st.just(shape), zero_points)),
        range=to,
        unused_top=unused_top,
    )


def real_arrays(
    params: AffineParams | None = None, *, shape: Shapes = None, dtype: _Reals = "float32"
) -> st.SearchStrategy[NDArray[Any]]:
    """Return arrays of finite reals that quantizers get wrong.

    Each row of the last axis, a block, is of one kind: of 0 and -0 alone, so of no range; constant; small but for one
    outlier; of subnormals, whose range is a scale no reciprocal of which is finite; on the ties between two codes and
    one unit of ``dtype`` beside them; beyond every code, up to the largest of ``dtype``; or anything finite.

    Parameters
    ----------
    params
        Whose ties and ends are meant, of a shape that broadcasts to the arrays'; None means a scale of 1 and 8 bits.
    shape
        Shape with at least one element in its last axis, a strategy, or None for a small one that fits ``params``.
    dtype
        Of the reals.
    """
    if params is None:
        params = AffineParams(scale=np.array(1.0), zero_point=np.array(0), range=INT8)
    draws.require_type("params", params, AffineParams)
    if dtype not in get_args(_Reals):
        msg = f"dtype must be one of {', '.join(get_args(_Reals))}, got {dtype!r}"
        raise InvalidArgument(msg)
    sides = params.scale.shape
    of_sets = st.just((*sides[:-1], 3) if sides[-1:] == (1,) else (3, *sides))
    small = array_shapes(min_dims=max(1, len(sides)), max_dims=max(2, len(sides)), max_side=draws.SIDE)
    default = small if math.prod(sides) == 1 else of_sets
    return _real_arrays(params, draws.shapes(shape, default=default, last_axis=True), np.dtype(dtype))


@st.composite
def _real_arrays(
    draw: st.DrawFn, params: AffineParams, shapes: st.SearchStrategy[Shape], dtype: np.dtype[Any]
) -> NDArray[Any]:
    shape = draw(shapes)
    limits: Any = np.finfo(dtype)
    largest, least = float(limits.max), float(limits.smallest_subnormal)
    width: Any = dtype.itemsize * 8
    finite = st.floats(allow_nan=False, allow_infinity=False, width=width)
    small = st.floats(-1, 1, width=width)
    kinds: dict[str, st.SearchStrategy[float]] = {
        "zeros": st.sampled_from([0.0, -0.0]),
        "subnormals": st.integers(-1000, 1000).map(lambda k: k * least),
        "overflow": st.sampled_from([largest, -largest, largest / 2]) | finite,
        "any": finite,
    }
    names = st.sampled_from(["ties", "constant", "outlier", *kinds])

    def row() -> list[float] | None:
        match draw(names):
            case "ties":
                return None
            case "constant":
                return [draw(finite)] * shape[-1]
            case "outlier":
                values = draws.draw_each(draw, small, shape[-1])
                values[draw(st.integers(0, shape[-1] - 1))] = draw(st.sampled_from([1e3, -1e3, 1e30, -largest]))
                return values
            case name:
                return draws.draw_each(draw, kinds[name], shape[-1])

    rows = draws.several(draw, row, math.prod(shape[:-1]), draws.ROWS)
    to = params.range
    halves = draw(draws.filled(np.int64, st.just(shape), draws.edge_dense(to.min - 1, to.max))) + 0.5
    beside = draw(draws.filled(np.int8, st.just(shape), st.sampled_from([-1, 0, 1])))
    with np.errstate(over="ignore", under="ignore"):
        ties = ((halves - params.zero_point) * params.scale).clip(-largest, largest).astype(dtype)
        x = np.where(beside == 0, ties, np.nextafter(ties, np.where(beside > 0, np.inf, -np.inf).astype(dtype)))
    x = x.clip(-largest, largest).reshape(-1, shape[-1])
    for place, values in enumerate(rows):
        if values is not None:
            x[place] = values
    return x.reshape(shape)


def schemes(*, min_bits: int = 2, max_bits: int = 16) -> st.SearchStrategy[Scheme]:
    """Return every scheme of ``min_bits`` to ``max_bits`` bits."""
    draws.require_order("bits", 2, min_bits, max_bits, 16)
    rows: list[dict[str, Any]] = [
        {"symmetric": True, "convention": convention} for convention in ("narrow", "ibert-code", "full", "power-of-two")
    ]
    rows.append({"symmetric": True, "convention": "full", "signed": "by-range"})
    rows += [
        {"symmetric": False, "convention": convention, "signed": signed}
        for convention in ("full", "power-of-two")
        for signed in (True, False)
    ]
    return st.tuples(st.sampled_from(rows), st.integers(min_bits, max_bits)).map(
        lambda drawn: Scheme(bits=drawn[1], **drawn[0])
    )
