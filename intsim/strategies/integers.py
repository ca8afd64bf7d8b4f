# SPDX-License-Identifier: Apache-2.0
"""Integers, arrays and ranges of them, dyadics and what they requantize."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.extra.numpy import array_shapes

from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT32, Dyadic, IntRange
from intsim.strategies import draws
from intsim.strategies.draws import Shape, Shapes

__all__ = ["accumulators", "code_arrays", "codes", "dyadics", "int_ranges"]


def codes(to: IntRange) -> st.SearchStrategy[int]:
    """Return integers of the range; its ends, 0, the powers of two, walking zeros and their neighbours often."""
    draws.require_type("to", to, IntRange)
    return draws.edge_dense(to.min, to.max)


def code_arrays(to: IntRange, *, shape: Shapes = None) -> st.SearchStrategy[Integers]:
    """Return integer arrays of the range, in its dtype.

    Parameters
    ----------
    to
        The codes.
    shape
        A shape, a strategy for shapes, or None for up to three axes of up to six elements, 0-d and empty ones included.
    """
    draws.require_type("to", to, IntRange)
    shapes = draws.shapes(shape, default=array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=draws.SIDE))
    return draws.filled(to.dtype, shapes, codes(to))


def int_ranges(
    *, min_bits: int = 2, max_bits: int = 32, signed: bool | None = None, narrow: bool | None = None
) -> st.SearchStrategy[IntRange]:
    """Return ranges of ``min_bits`` to ``max_bits`` bits; None leaves ``signed`` or ``narrow`` open."""
    draws.require_order("bits", 2, min_bits, max_bits, 32)
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


def dyadics(
    *,
    shape: Shapes = None,
    min_multiplier: int = -draws.MAX_MULTIPLIER,
    max_multiplier: int = draws.MAX_MULTIPLIER,
    min_shift: int = 0,
    max_shift: int = draws.MAX_SHIFT,
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
    draws.require_order("multiplier", -draws.MAX_MULTIPLIER, min_multiplier, max_multiplier, draws.MAX_MULTIPLIER)
    draws.require_order("shift", 0, min_shift, max_shift, draws.MAX_SHIFT)
    shapes = draws.shapes(shape, default=st.just(()) | array_shapes(max_dims=1, max_side=draws.SIDE))
    multipliers = draws.multipliers(min_multiplier, max_multiplier)
    shifts = draws.shifts(min_shift, max_shift)
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
    multiplier = draw(draws.filled(np.int64, st.just(shape), multipliers))
    shift = np.full(shape, draw(shifts)) if aligned else draw(draws.filled(np.int64, st.just(shape), shifts))
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
    draws.require_type("ratio", ratio, Dyadic)
    draws.require_type("to", to, IntRange)
    channels: Shape = ratio.multiplier.shape
    if len(channels) > 1:
        msg = f"ratio must have the shape () or (C,), got {channels}"
        raise InvalidArgument(msg)
    leading = array_shapes(min_dims=0, max_dims=2, max_side=3)
    shapes = draws.shapes(shape, default=leading.map(lambda drawn: (*drawn, *channels)))
    if channels:
        shapes = shapes.map(lambda drawn: draws.require_channels(drawn, channels[0]))

    def each(channel: int) -> st.SearchStrategy[int]:
        return draws.tie_dense(int(ratio.multiplier.flat[channel]), int(ratio.shift.flat[channel]), to.min, to.max)

    return draws.elementwise(shapes, each, max(1, ratio.multiplier.size), to.dtype)
