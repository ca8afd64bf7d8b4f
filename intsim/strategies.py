# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for integer operators and their parameters: every legal value, dense in edges and ties.

Random integers certify nothing about rounding. RND(acc * m / 2**t) meets a tie only where acc * m is an odd multiple of
2**(t-1). Write m = o * 2**v with o odd and n = t - v: the tie is acc * o = 2**(n-1) modulo 2**n, and since an odd o
permutes the odd multiples of 2**(n-1), it is reached by exactly

    acc = j * 2**(n-1), j odd.

So one accumulator in 2**n is a tie: for a scale of 2**-8, one in 256; for the odd 31-bit multiplier and the shift of
about 40 that a random scale gives, none of int32. Half up, half away and half even agree everywhere else, and only
tests that aim at these accumulators can tell them apart.

Strategies are plural nouns; they reject impossible arguments with ``hypothesis.errors.InvalidArgument`` when called.
Those that draw the operands of an operator return a named tuple with the names of its parameters, so that
``ops.matmul(**operands._asdict())`` is a call it accepts. ``st.from_type`` knows Dyadic, IntRange, Profile, Scheme,
AffineParams and LayerNormParams wherever intsim is installed.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

try:
    from hypothesis import strategies as st
    from hypothesis.errors import InvalidArgument
    from hypothesis.extra.numpy import array_shapes, arrays
except ImportError as error:
    _msg = "intsim.strategies needs hypothesis; install it with: pip install 'intsim[test]'"
    raise ImportError(_msg) from error

from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding
from intsim.ops.layer_norm import LayerNormParams
from intsim.ops.rotary import TURN_FRACTION
from intsim.profile import NATIVE, Profile
from intsim.quantizers import AffineParams, Scheme
from intsim.requantization import FLOAT32_BITS, RULES, Requantization

__all__ = [
    "CausalMaskArguments",
    "MatmulOperands",
    "MultiplyOperands",
    "RotaryOperands",
    "SampleTokenArguments",
    "SoftmaxRows",
    "accumulators",
    "affine_params",
    "causal_mask_arguments",
    "code_arrays",
    "codes",
    "dyadics",
    "int_ranges",
    "layer_norm_params",
    "layer_norm_rows",
    "matmul_operands",
    "multiply_operands",
    "profiles",
    "real_arrays",
    "requantizations",
    "rotary_operands",
    "sample_token_arguments",
    "schemes",
    "softmax_rows",
]

_T = TypeVar("_T")
_Reals: TypeAlias = Literal["float32", "float64"]
Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = int | Shape | st.SearchStrategy[Shape] | None

MAX_SHIFT: Final = 62
MAX_MULTIPLIER: Final = 2**31 - 1
MIN_SCALE: Final = 2.0**-1022
MAX_SCALE: Final = float(np.finfo(np.float64).max)
MAX_EPS: Final = 2**61 - 1
MAX_CHANNELS: Final = 2**14
FLOAT32_EXACT: Final = 2**24
ROW_BITS: Final = 16  # of what norms take the root mean square of
SIDE: Final = 6  # largest side of a default shape
DRAWN: Final = 48  # elements that are drawn one by one: what hypothesis can draw has an end
ROWS: Final = 6  # and rows
SEEDS: Final = st.integers(0, 2**32 - 1)


# Integers


def codes(to: IntRange) -> st.SearchStrategy[int]:
    """Return integers of the range; its ends, 0, the powers of two, walking zeros and their neighbours often."""
    _require_type("to", to, IntRange)
    return _edge_dense(to.min, to.max)


def code_arrays(to: IntRange, *, shape: Shapes = None) -> st.SearchStrategy[Integers]:
    """Return integer arrays of the range, in its dtype.

    Parameters
    ----------
    to
        The codes.
    shape
        A shape, a strategy for shapes, or None for up to three axes of up to six elements, 0-d and empty ones included.
    """
    _require_type("to", to, IntRange)
    shapes = _shapes(shape, default=array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=SIDE))
    return _filled(to.dtype, shapes, codes(to))


def int_ranges(
    *, min_bits: int = 2, max_bits: int = 32, signed: bool | None = None, narrow: bool | None = None
) -> st.SearchStrategy[IntRange]:
    """Return ranges of ``min_bits`` to ``max_bits`` bits; None leaves ``signed`` or ``narrow`` open."""
    _require_order("bits", 2, min_bits, max_bits, 32)
    kinds = [
        kind
        for kind in ((True, False), (True, True), (False, False))
        if signed in {None, kind[0]} and narrow in {None, kind[1]}
    ]
    if not kinds:
        msg = "narrow must go with signed, got signed=False and narrow=True"
        raise InvalidArgument(msg)
    widths = st.sampled_from([bits for bits in (8, 16, 32) if min_bits <= bits <= max_bits] or [min_bits])
    return st.tuples(widths | st.integers(min_bits, max_bits), st.sampled_from(kinds)).map(
        lambda drawn: IntRange(drawn[0], signed=drawn[1][0], narrow=drawn[1][1])
    )


# Requantization


def dyadics(
    *,
    shape: Shapes = None,
    min_multiplier: int = -MAX_MULTIPLIER,
    max_multiplier: int = MAX_MULTIPLIER,
    min_shift: int = 0,
    max_shift: int = MAX_SHIFT,
    aligned: bool = False,
) -> st.SearchStrategy[Dyadic]:
    """Return dyadics; multipliers that divide by a high power of two, which have ties, often.

    Parameters
    ----------
    shape
        ``()`` for one ratio, ``(C,)`` for one per channel, a strategy for shapes, or None for either.
    min_multiplier, max_multiplier, min_shift, max_shift
        Bounds of what is drawn.
    aligned
        All channels share one shift, as those of ``Dyadic.aligned`` do.
    """
    _require_order("multiplier", -MAX_MULTIPLIER, min_multiplier, max_multiplier, MAX_MULTIPLIER)
    _require_order("shift", 0, min_shift, max_shift, MAX_SHIFT)
    shapes = _shapes(shape, default=st.just(()) | array_shapes(max_dims=1, max_side=SIDE))
    multipliers = _multipliers(min_multiplier, max_multiplier)
    shifts = _shifts(min_shift, max_shift)
    return _dyadics(shapes, multipliers, shifts, aligned=aligned)


@st.composite
def _dyadics(
    draw: st.DrawFn,
    shapes: st.SearchStrategy[Shape],
    multipliers: st.SearchStrategy[int],
    shifts: st.SearchStrategy[int],
    *,
    aligned: bool,
) -> Dyadic:
    shape = draw(shapes)
    multiplier = draw(_filled(np.int64, st.just(shape), multipliers))
    shift = np.full(shape, draw(shifts)) if aligned else draw(_filled(np.int64, st.just(shape), shifts))
    return Dyadic(multiplier, shift)


def accumulators(ratio: Dyadic, *, to: IntRange = INT32, shape: Shapes = None) -> st.SearchStrategy[Integers]:
    """Return arrays to requantize by ``ratio``, dense in what separates two roundings.

    With the ratio o * 2**v / 2**t, o odd, n = t - v, these come often:

    - ties: acc = j * 2**(n-1) for odd j, of both signs and of even and odd quotients; and their neighbours;
    - one unit beside a tie: acc o = 2**(n-1) +- 1 modulo 2**n, acc = (2**(n-1) +- 1) / o in the ring of residues. The
      product is as near to a tie as a product gets, and any precision lost on the way shows;
    - the two accumulators around each k + 1/2, tie or not, with k dense in the edges of every width: where the results
      of rounding twice and of saturation begin to differ;
    - the edges of the range.

    Where n > 32 there are no ties in int32, and where n <= 0 nothing is rounded.

    Parameters
    ----------
    ratio
        One dyadic, or one per channel, which then run along the last axis.
    to
        Range of the accumulators.
    shape
        A shape, a strategy for shapes, or None for any small one that fits the ratio.
    """
    _require_type("ratio", ratio, Dyadic)
    _require_type("to", to, IntRange)
    channels: Shape = ratio.multiplier.shape
    if len(channels) > 1:
        msg = f"ratio must have the shape () or (C,), got {channels}"
        raise InvalidArgument(msg)
    leading = array_shapes(min_dims=0, max_dims=2, max_side=3)
    shapes = _shapes(shape, default=leading.map(lambda drawn: (*drawn, *channels)))
    if channels:
        shapes = shapes.map(lambda drawn: _require_channels(drawn, channels[0]))

    def each(channel: int) -> st.SearchStrategy[int]:
        return _tie_dense(int(ratio.multiplier.flat[channel]), int(ratio.shift.flat[channel]), to.min, to.max)

    return _elementwise(shapes, each, max(1, ratio.multiplier.size), to.dtype)


# Quantizers


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
        _require_type("to", to, st.SearchStrategy)
    default = st.sampled_from([(), (1,), (3,), (1, 1), (3, 1)])
    return _affine_params(int_ranges() if to is None else to, _shapes(shape, default=default), min_scale, max_scale)


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
    zero_points = _edge_dense(to.min, to.max - unused_top)
    return AffineParams(
        scale=draw(_filled(np.float64, st.just(shape), scales)),
        zero_point=draw(_filled(np.int64, st.just(shape), zero_points)),
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
    _require_type("params", params, AffineParams)
    if dtype not in get_args(_Reals):
        msg = f"dtype must be one of {', '.join(get_args(_Reals))}, got {dtype!r}"
        raise InvalidArgument(msg)
    sides = params.scale.shape
    of_sets = st.just((*sides[:-1], 3) if sides[-1:] == (1,) else (3, *sides))
    small = array_shapes(min_dims=max(1, len(sides)), max_dims=max(2, len(sides)), max_side=SIDE)
    default = small if math.prod(sides) == 1 else of_sets
    return _real_arrays(params, _shapes(shape, default=default, last_axis=True), np.dtype(dtype))


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
                values = _draw_each(draw, small, shape[-1])
                values[draw(st.integers(0, shape[-1] - 1))] = draw(st.sampled_from([1e3, -1e3, 1e30, -largest]))
                return values
            case name:
                return _draw_each(draw, kinds[name], shape[-1])

    rows = _several(draw, row, math.prod(shape[:-1]), ROWS)
    to = params.range
    halves = draw(_filled(np.int64, st.just(shape), _edge_dense(to.min - 1, to.max))) + 0.5
    beside = draw(_filled(np.int8, st.just(shape), st.sampled_from([-1, 0, 1])))
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
    _require_order("bits", 2, min_bits, max_bits, 16)
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


def requantizations() -> st.SearchStrategy[Requantization]:
    """Return the rules in the field, and rules that take every axis from one of them."""
    axes = [field.name for field in dataclasses.fields(Requantization) if field.name != "name"]
    mixed = st.fixed_dictionaries(
        {axis: st.sampled_from([getattr(rule, axis) for rule in RULES.values()]) for axis in axes}
    )
    return st.sampled_from(list(RULES.values())) | mixed.filter(
        lambda drawn: drawn["arithmetic"] != "binary32" or drawn["multiplier_bits"] <= FLOAT32_BITS
    ).map(lambda drawn: Requantization(name="mixed", **drawn))


def profiles() -> st.SearchStrategy[Profile]:
    """Return the native presets, and profiles that take every rule from one of them and the roundings freely.

    An operator that reads the wrong rounding, or another operator's rule, agrees with the presets; not with these.
    """
    presets = list(NATIVE.values())
    rules = ("sum", "exp", "softmax", "gelu", "tanh", "sigmoid", "silu", "layer_norm")
    fields: dict[str, st.SearchStrategy[Any]] = {
        rule: st.sampled_from([getattr(preset, rule) for preset in presets]) for rule in rules
    }
    fields["rounding"] = fields["step_rounding"] = st.sampled_from(Rounding)
    fields["requantization"] = requantizations()
    mixed = st.fixed_dictionaries(fields).map(lambda drawn: dataclasses.replace(presets[0], name="mixed", **drawn))
    return st.sampled_from(presets) | mixed


# Matrix products


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
        _require_type(name, to, IntRange)
        if to.bits > 16:
            msg = f"{name} must have at most 16 bits, got {to.bits}"
            raise InvalidArgument(msg)
    _require_order("side", 1, 1, max_side)
    _require_order("depth", 1, 1, max_depth)
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
        bias[:DRAWN] = [draw(_biases(INT32.max - each, FLOAT32_EXACT - each)) for each in used[:DRAWN]]
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
    return st.sampled_from(sorted(special)) | _edge_dense(-room, room)


# Rows


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
        _require_type("ratio", ratio, st.SearchStrategy)
    ratios = dyadics(shape=(), min_multiplier=1) if ratio is None else ratio
    shapes = _shapes(shape, default=array_shapes(max_dims=3, max_side=4), last_axis=True)
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
        "ties": _tie_dense(multiplier, shift, -span, 0),
        "any": _edge_dense(-span, 0),
    }
    with_mask = draw(masks)

    def row() -> tuple[Integers, NDArray[np.bool_]]:
        peak = draw(_edge_dense(INT32.min, INT32.max))
        differences = _draw_each(draw, kinds[draw(st.sampled_from(list(kinds)))], shape[-1])
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
                    mask[:] = _draw_each(draw, st.booleans(), shape[-1])
            if draw(st.booleans()):  # what is masked may be anything
                acc[~mask] = draw(_edge_dense(INT32.min, INT32.max))
        return acc, mask

    rows = _several(draw, row, math.prod(shape[:-1]), ROWS)
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
        _require_type("to", to, IntRange)
        if not np.can_cast(to.dtype, np.int32):
            msg = f"to must have codes that fit int32, got {to}"
            raise InvalidArgument(msg)
        ranges = st.just(to)
    if channels is not None:
        if shape is not None:
            msg = f"channels must not go with shape, got channels={channels} and shape={shape}"
            raise InvalidArgument(msg)
        _require_order("channels", 1, 1, channels, MAX_CHANNELS)
        shape = array_shapes(min_dims=1, max_dims=3, max_side=3).map(lambda drawn: (*drawn[1:], channels))
    shapes = _shapes(shape, default=array_shapes(max_dims=3, max_side=SIDE), last_axis=True)
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
                return _draw_each(draw, _shifted(to, draw(st.integers(0, to.bits - ROW_BITS))), shape[-1])
            case "ends":
                return _draw_each(draw, st.sampled_from([to.min, to.max]), shape[-1])
            case "any":
                return _draw_each(draw, codes(to), shape[-1])
            case _:
                code = draw(codes(to))
        x_q, place = [code] * shape[-1], draw(st.integers(0, shape[-1] - 1))
        if kind == "one off":
            x_q[place] = code + (1 if code < to.max else -1)
        elif kind == "outlier":
            x_q[place] = draw(st.sampled_from([to.min, to.max]))
        return x_q

    return np.array(_several(draw, row, math.prod(shape[:-1]), ROWS), to.dtype).reshape(shape)


def _shifted(to: IntRange, shift: int) -> st.SearchStrategy[int]:
    """Return codes that a norm shifts by so many bits where one of them is an end; halves of that power often."""
    limit = 1 << ROW_BITS - 1 + shift
    low, high = max(to.min, -limit + 1), min(to.max, limit - 1)
    return _tie_dense(1, shift, low, high) | st.sampled_from([low, high])


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
        _require_order("channels", 1, 1, channels, MAX_CHANNELS)
    _require_order("eps", 1, 1, max_eps, MAX_EPS)
    return _layer_norm_params(st.integers(1, SIDE) if channels is None else st.just(channels), max_eps)


@st.composite
def _layer_norm_params(draw: st.DrawFn, channels: st.SearchStrategy[int], max_eps: int) -> LayerNormParams:
    weight = draw(dyadics(shape=(draw(channels),), aligned=True))
    shift = int(weight.shift[0])
    half = 1 << shift >> 1
    room = 2**63 - 1 - half - 2**31 * int(np.abs(weight.multiplier).max())
    ties = _edge_dense(-room >> shift, (room - half) >> shift).map(lambda k: max((k << shift) + half, -room))
    return LayerNormParams(
        weight=weight,
        bias=draw(_filled(np.int64, st.just(weight.multiplier.shape), _edge_dense(-room, room) | ties)),
        eps=draw(_edge_dense(1, max_eps)),
    )


# Decoders


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
    _require_order("side", 1, 1, max_side)
    _require_order("pairs", 1, 1, max_pairs)
    return _rotary_operands(max_side, max_pairs)


@st.composite
def _rotary_operands(draw: st.DrawFn, max_side: int, max_pairs: int) -> RotaryOperands:
    batch, heads, tokens = (draw(st.integers(1, max_side)) for _ in range(3))
    pairs, rest = draw(st.integers(1, max_pairs)), draw(st.integers(0, max_side))
    shape = (tokens, pairs) if draw(st.booleans()) else (batch, tokens, pairs)
    one = 1 << TURN_FRACTION
    turns = st.sampled_from([0, one, -one, one // 2, -one // 2]) | _edge_dense(-one, one)
    x_q = draw(code_arrays(INT16, shape=(batch, heads, tokens, 2 * pairs + rest)))
    cos, sin = (draw(_filled(np.int16, st.just(shape), turns)) for _ in range(2))
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
        _require_type(name, to, IntRange)
        if to.bits > 16:
            msg = f"{name} must have at most 16 bits, got {to.bits}"
            raise InvalidArgument(msg)
    shapes = _shapes(shape, default=array_shapes(max_dims=3, max_side=4), last_axis=True)
    return _multiply_operands(a, b, shapes, zero_points=zero_points)


@st.composite
def _multiply_operands(
    draw: st.DrawFn, a: IntRange, b: IntRange, shapes: st.SearchStrategy[Shape], *, zero_points: bool
) -> MultiplyOperands:
    shape = draw(shapes)
    a_zero_point, b_zero_point = (draw(st.just(0) | codes(to)) if zero_points else 0 for to in (a, b))
    bound = MAX_MULTIPLIER if a_zero_point == b_zero_point == 0 else 2**30  # of |a b| < 2**32 a product fits int64
    sizes: dict[str, Any] = {"shape": draw(st.sampled_from([(), shape[-1:]])), "max_multiplier": bound}
    sizes["min_multiplier"] = -bound
    ratio = draw(dyadics(**sizes) | dyadics(**sizes, min_shift=1, max_shift=b.bits))
    halves: list[st.SearchStrategy[int]] = []
    for m, t in zip(ratio.multiplier.flat, ratio.shift.flat, strict=True):
        n = int(t) - (int(m & -m).bit_length() - 1) if m else 0
        ties = [code for sign in (1, -1) if n > 0 and b.min <= (code := b_zero_point + sign * (1 << n - 1)) <= b.max]
        halves.append(st.sampled_from(ties) | codes(b) if ties else codes(b))
    odd = codes(a).map(lambda code: code if (code - a_zero_point) % 2 else min(code + 1, a.max))
    a_q = draw(_filled(a.dtype, st.just(shape), codes(a) | odd))
    b_q = draw(_elementwise(st.just(shape), halves.__getitem__, len(halves), b.dtype))
    return MultiplyOperands(a_q, b_q, ratio, a_zero_point, b_zero_point)


class CausalMaskArguments(NamedTuple):
    """The arguments of ``ops.causal_mask``."""

    mask: NDArray[np.bool_]
    queries: int
    window: int | None


def causal_mask_arguments(*, max_side: int = SIDE) -> st.SearchStrategy[CausalMaskArguments]:
    """Return masks (B, S), how many of the last columns ask, and no window or one of up to S + 1 columns.

    Each text is padded on the right, on the left, not at all, or throughout, or has holes anywhere.
    """
    _require_order("side", 1, 1, max_side)
    return _causal_mask_arguments(max_side)


@st.composite
def _causal_mask_arguments(draw: st.DrawFn, max_side: int) -> CausalMaskArguments:
    batch, columns = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    padded = st.integers(0, columns).map(lambda length: [column < length for column in range(columns)])
    holes = st.lists(st.booleans(), min_size=columns, max_size=columns)
    rows = _draw_each(draw, padded | padded.map(lambda row: row[::-1]) | holes, batch)
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
    _require_type("to", to, IntRange)
    shapes = _shapes(shape, default=array_shapes(min_dims=2, max_dims=2, max_side=SIDE), last_axis=True)
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
        "ties": _tie_dense(int(ratio.multiplier), int(ratio.shift), -span, 0),
        "any": _edge_dense(-span, 0),
    }

    def row() -> Integers:
        peak = draw(codes(to))
        differences = _draw_each(draw, kinds[draw(st.sampled_from(list(kinds)))], shape[-1])
        logits = np.maximum(peak + np.array(differences, np.int64), to.min)
        logits[draw(st.integers(0, shape[-1] - 1))] = peak
        return logits

    logits = np.array(_several(draw, row, math.prod(shape[:-1]), ROWS), to.dtype).reshape(shape)
    top_k = draw(st.sampled_from([1, 2]) | st.integers(1, shape[-1] + 1))
    return SampleTokenArguments(logits, ratio, top_k, draw(st.integers(0, 2**64)), draw(st.integers(0, 2**16)))


# Building blocks


@lru_cache
def _edges(low: int, high: int) -> list[int]:
    """Return the integers of [low, high] next to its ends, its middles, 0 and the powers of two, and walking zeros."""
    around = {low, high, low // 2, high // 2, 0}
    around |= {sign << k if sign > 0 else -(1 << k) for sign in (1, -1) for k in range(64)}
    values = {value + step for value in around for step in (-1, 0, 1)}
    if high > 0:  # 0111, 1011, 1101 ... of the width of the highest
        ones = (1 << high.bit_length()) - 1
        values |= {ones ^ (1 << k) for k in range(high.bit_length())}
    return sorted((value for value in values if low <= value <= high), key=lambda value: (abs(value), value < 0))


@lru_cache
def _edge_dense(low: int, high: int) -> st.SearchStrategy[int]:
    """Return every integer of [low, high], the edges often, the ends and 0 most."""
    ends = [end for end in (0, 1, -1, high, low, high - 1, low + 1) if low <= end <= high]
    return st.sampled_from(ends) | st.sampled_from(_edges(low, high)) | st.integers(low, high)


def _multipliers(low: int, high: int) -> st.SearchStrategy[int]:
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
    return st.sampled_from([*_edges(low, high), *dense]) | st.integers(low, high)


def _shifts(low: int, high: int) -> st.SearchStrategy[int]:
    usual = [shift for shift in (0, 1, 8, 16, 30, 31, 32, 61, 62) if low <= shift <= high] or [low]
    return st.sampled_from([low, high, *usual]) | st.integers(low, high)


@lru_cache
def _tie_dense(multiplier: int, shift: int, low: int, high: int) -> st.SearchStrategy[int]:
    """Return every integer of [low, high], often one whose product is a tie of the shift, or next to one.

    See ``accumulators``; with no bits dropped, or a product of 0, there is nothing to tie.
    """
    edges = _edge_dense(low, high)
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
            reached = _edge_dense(0, last).map(reach)
            nearest = [k for k in (middle, middle + 1, middle - 1, middle + 2) if 0 <= k <= last]
            small = st.sampled_from(nearest).map(reach)  # whose results do not saturate
            choices += [reached, small]
            if beside == 0:
                choices += [reached, small, small, small]  # what this is for
                near = st.tuples(reached, st.sampled_from([1, -1]))
                choices.append(near.map(lambda drawn: min(max(sum(drawn), low), high)))
    if multiplier:
        lowest, highest = sorted((low * multiplier >> shift, high * multiplier >> shift))
        halves = _edge_dense(lowest, highest)
        if eight_bits := [k for k in (-1, 0, 126, 127, -129, -128, 254, 255) if lowest <= k <= highest]:
            halves |= st.sampled_from(eight_bits)  # where int8 and uint8 change sign and saturate
        around = st.tuples(halves, st.sampled_from([0, 1]))

        def beside_half(drawn: tuple[int, int]) -> int:
            k, step = drawn
            return min(max(((2 * k + 1) << shift) // (2 * multiplier) + step, low), high)

        choices.append(around.map(beside_half))
    return st.one_of(choices)


@st.composite
def _elementwise(
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
def _filled(draw: st.DrawFn, dtype: Any, shapes: st.SearchStrategy[Shape], elements: st.SearchStrategy[Any]) -> Any:
    """Draw an array, all of its elements from one strategy."""
    shape = draw(shapes)
    if (size := math.prod(shape)) <= DRAWN:
        return draw(arrays(dtype, shape, elements=elements, fill=st.nothing()))
    return np.array(_draw_each(draw, elements, size), dtype).reshape(shape)


def _draw_each(draw: st.DrawFn, elements: st.SearchStrategy[_T], count: int) -> list[_T]:
    return _several(draw, lambda: draw(elements), count, DRAWN)


def _several(draw: st.DrawFn, make: Callable[[], _T], count: int, most: int) -> list[_T]:
    """Return ``count`` of what ``make`` draws; of more than ``most``, so many of them laid out by a drawn seed."""
    made = [make() for _ in range(min(count, most))]
    if count <= most:
        return made
    return [made[i] for i in np.random.default_rng(draw(SEEDS)).integers(most, size=count)]


def _shapes(shape: Shapes, *, default: st.SearchStrategy[Shape], last_axis: bool = False) -> st.SearchStrategy[Shape]:
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


def _require_channels(shape: Shape, channels: int) -> Shape:
    if not shape or shape[-1] != channels:
        msg = f"shape must end in the {channels} channels of the ratio, got {shape}"
        raise InvalidArgument(msg)
    return shape


def _require_order(name: str, floor: int, low: int, high: int, ceiling: int | None = None) -> None:
    if not floor <= low <= high or (ceiling is not None and high > ceiling):
        top = "" if ceiling is None else f" <= {ceiling}"
        msg = f"{name} must have {floor} <= min_{name} <= max_{name}{top}, got min_{name}={low} and max_{name}={high}"
        raise InvalidArgument(msg)


def _require_type(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        msg = f"{name} must be of type {kind.__name__}, got {value!r}"
        raise InvalidArgument(msg)
