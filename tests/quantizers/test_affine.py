# SPDX-License-Identifier: Apache-2.0
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import IntRange
from intsim.quantizers import AffineParams, dequantize, quantize

INT8 = IntRange(bits=8)
RANGES = [
    IntRange(bits=bits, signed=signed, narrow=narrow)
    for bits in range(2, 17)
    for signed, narrow in ((True, False), (True, True), (False, False))
]
FLOAT32_MAX = float(np.finfo(np.float32).max)

scales = st.floats(2.0**-126, 2.0**20, width=32)
ranges = st.sampled_from(RANGES)


def oracle(x: float, scale: float, zero_point: int, low: int, high: int) -> int:
    """The rational x / scale, rounded half to even by Python, saturated."""
    return min(max(round(Fraction(x) / Fraction(scale)) + zero_point, low), high)


@st.composite
def maps(draw):
    """Parameters of any range, with a float32 scale and any zero point."""
    codes = draw(ranges)
    zero_point = draw(st.sampled_from([codes.min, 0, codes.max]) | st.integers(codes.min, codes.max))
    return AffineParams(scale=draw(scales), zero_point=zero_point, range=codes)


@st.composite
def maps_and_reals(draw, *, inside: bool = False):
    """A map and a real: on a tie, a float beside it, or anywhere; ``inside`` the reals of the codes."""
    params = draw(maps())
    low, high = ((code - int(params.zero_point)) * float(params.scale) for code in (params.range.min, params.range.max))
    code = draw(st.integers(params.range.min - 2, params.range.max + 2))
    tie = (code - int(params.zero_point) + 0.5) * float(params.scale)
    x = draw(
        st.sampled_from([tie, float(np.nextafter(tie, np.inf)), float(np.nextafter(tie, -np.inf)), low, high])
        | st.floats(low, high)
        | st.floats(-FLOAT32_MAX, FLOAT32_MAX)
    )
    return params, min(max(x, low), high) if inside else x


@given(maps_and_reals())
def test_quantize_is_the_exact_rational_rounded_half_to_even(case):
    params, x = case
    expected = oracle(x, float(params.scale), int(params.zero_point), params.range.min, params.range.max)
    assert int(quantize(x, params)) == expected


@pytest.mark.parametrize("codes", RANGES, ids=str)
def test_every_tie_and_its_neighbours_agree_with_the_exact_rational(codes):
    scale = float(np.float32(0.0123))
    params = AffineParams(scale=scale, zero_point=0, range=codes)
    steps = np.unique(np.linspace(codes.min - 1, codes.max, 4096).astype(np.int64))
    ties = (steps + 0.5) * scale
    for x in (ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)):
        expected = [oracle(v, scale, 0, codes.min, codes.max) for v in x.tolist()]
        assert quantize(x, params).tolist() == expected


def test_a_scale_beyond_float32_can_make_a_false_tie():
    params = AffineParams(scale=0.1, zero_point=0, range=INT8)
    assert Fraction(0.75) / Fraction(0.1) < Fraction(15, 2)
    assert 0.75 / 0.1 == 7.5
    assert quantize(0.75, params) == 8
    assert oracle(0.75, 0.1, 0, -128, 127) == 7


@pytest.mark.parametrize("exponent", [-20, -3, 0, 5])
def test_ties_go_to_the_even_code(exponent):
    params = AffineParams(scale=2.0**exponent, zero_point=0, range=INT8)
    k = np.arange(-128, 127)
    x = (k + 0.5) * 2.0**exponent
    assert np.array_equal(quantize(x, params), np.where(k % 2 == 0, k, k + 1))
    assert quantize(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]) * 2.0**exponent, params).tolist() == [
        -2,
        -2,
        0,
        0,
        2,
        2,
    ]


def test_the_zero_point_is_added_after_rounding():
    params = AffineParams(scale=1.0, zero_point=1, range=INT8)
    assert quantize([0.5, 1.5, -0.5], params).tolist() == [1, 3, 1]  # before it: 2, 2, 0


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("codes", RANGES, ids=str)
def test_every_code_survives_dequantize_and_quantize(codes, reciprocal):
    every = np.arange(codes.min, codes.max + 1)
    rng = np.random.default_rng(codes.bits)
    wide = np.exp2(rng.uniform(-300, 300, 4))
    narrow = np.exp2(rng.uniform(-126, 100, 4)).astype(np.float32).astype(np.float64)
    for scale in (*wide, *narrow):
        for zero_point in (codes.min, 0, codes.max):
            params = AffineParams(scale=scale, zero_point=zero_point, range=codes)
            assert np.array_equal(quantize(dequantize(every, params), params, reciprocal=reciprocal), every)


@given(maps_and_reals(inside=True))
def test_a_real_inside_the_range_comes_back_within_half_a_scale(case):
    params, x = case
    back = float(dequantize(quantize(x, params), params))
    assert abs(Fraction(back) - Fraction(x)) <= Fraction(float(params.scale)) / 2


@given(maps(), st.integers(0, 2**16))
def test_dequantize_is_exact_for_float32_scales(params, offset):
    code = min(params.range.min + offset, params.range.max)
    expected = (code - int(params.zero_point)) * Fraction(float(params.scale))
    assert Fraction(float(dequantize(np.array(code), params))) == expected


@given(maps(), st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=50))
def test_codes_never_decrease_where_reals_increase(params, x):
    codes = quantize(np.sort(x), params).astype(np.int64)
    assert (np.diff(codes) >= 0).all()


@given(maps())
def test_zero_is_the_zero_point_and_comes_back_as_zero(params):
    assert quantize(0.0, params) == params.zero_point
    assert quantize(-0.0, params) == params.zero_point
    assert dequantize(params.zero_point, params) == 0.0


@given(st.integers(2, 16), scales, st.lists(st.floats(-1e6, 1e6), min_size=1))
@example(bits=8, scale=0.5, x=[-0.25, 0.75, 1.25, 1e6])
def test_a_narrow_symmetric_code_changes_sign_with_its_real(bits, scale, x):
    params = AffineParams(scale=scale, zero_point=0, range=IntRange(bits=bits, narrow=True))
    assert np.array_equal(quantize(-np.array(x), params), -quantize(x, params))


@pytest.mark.parametrize("codes", [*RANGES, IntRange(bits=32), IntRange(bits=32, signed=False)], ids=str)
def test_quantize_saturates_instead_of_wrapping(codes):
    huge = [300.0 * 2.0**k for k in (*range(20, 70), 128, 1000)]
    for scale in (1.0, 2.0**-1022):
        for zero_point in (codes.min, codes.max):
            params = AffineParams(scale=scale, zero_point=zero_point, range=codes)
            beyond = [x for x in huge if x / scale > 2.0**32]
            assert (quantize(beyond, params) == codes.max).all()
            assert (quantize(np.negative(beyond), params) == codes.min).all()


def test_codes_are_stored_in_the_smallest_dtype():
    for bits, signed, dtype in ((4, True, "int8"), (8, False, "uint8"), (9, True, "int16"), (32, True, "int32")):
        params = AffineParams(scale=1.0, zero_point=0, range=IntRange(bits=bits, signed=signed))
        assert quantize([1.0], params).dtype == np.dtype(dtype)


def test_the_reciprocal_differs_on_a_tie():
    params = AffineParams(scale=49.0, zero_point=0, range=INT8)
    assert quantize([73.5, -73.5], params).tolist() == [2, -2]
    assert quantize([73.5, -73.5], params, reciprocal=True).tolist() == [1, -1]


@given(maps_and_reals())
def test_the_reciprocal_is_the_rounded_product_with_the_rounded_inverse(case):
    params, x = case
    inverse = float(Fraction(1) / Fraction(float(params.scale)))  # Python rounds a fraction to the nearest float64
    product = float(Fraction(x) * Fraction(inverse))
    expected = oracle(product, 1.0, int(params.zero_point), params.range.min, params.range.max)
    assert int(quantize(x, params, reciprocal=True)) == expected


def test_the_unused_top_code_is_never_produced():
    params = AffineParams(scale=1.0, zero_point=0, range=IntRange(bits=8, narrow=True), unused_top=1)
    assert params.max_code == 126
    assert quantize([-300, -127, 126, 127, 300], params).tolist() == [-127, -127, 126, 126, 126]


def test_parameters_broadcast_against_the_tensor_and_never_widen_it():
    params = AffineParams(scale=[[1.0], [2.0]], zero_point=0, range=INT8)
    assert quantize([[4.0, 6.0], [4.0, 6.0]], params).tolist() == [[4, 6], [2, 3]]
    for shape in ((3,), (1, 3), (3, 2)):
        with pytest.raises(ValueError, match=r"x must have a shape that params of shape \(2, 1\) broadcast to"):
            quantize(np.zeros(shape), params)
        with pytest.raises(ValueError, match="x_q must have a shape"):
            dequantize(np.zeros(shape, np.int8), params)


def test_scalars_and_empty_arrays_are_tensors_too():
    params = AffineParams(scale=0.5, zero_point=3, range=INT8)
    assert int(quantize(1.0, params)) == 5
    assert quantize(np.zeros((0, 4)), params).shape == (0, 4)
    assert dequantize(np.zeros((0, 4), np.int8), params).shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="x must be finite, got a NaN or an infinity"):
        quantize([0.0, value], AffineParams(scale=1.0, zero_point=0, range=INT8))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 2.0**-1023, [1.0, 0.0]])
def test_a_scale_that_is_not_positive_and_finite_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be finite and at least"):
        AffineParams(scale=scale, zero_point=0, range=INT8)


@pytest.mark.parametrize("zero_point", [-129, 128])
def test_a_zero_point_that_is_no_code_is_refused(zero_point):
    with pytest.raises(ValueError, match=r"zero_point must be in \[-128, 127\], got"):
        AffineParams(scale=1.0, zero_point=zero_point, range=INT8)
    with pytest.raises(ValueError, match=r"zero_point must be in \[-128, 126\], got"):
        AffineParams(scale=1.0, zero_point=127, range=INT8, unused_top=1)
    with pytest.raises(ValueError, match=r"zero_point must be in \[-128, 127\], got"):
        AffineParams(scale=[1.0, 1.0, 1.0], zero_point=[0, zero_point, 3], range=INT8)


def test_floats_are_refused_where_integers_belong():
    with pytest.raises(TypeError, match="zero_point must have an integer dtype, got float64"):
        AffineParams(scale=1.0, zero_point=0.5, range=INT8)
    with pytest.raises(TypeError, match="x_q must have an integer dtype, got float64"):
        dequantize([1.0], AffineParams(scale=1.0, zero_point=0, range=INT8))


def test_parameters_are_frozen_copies():
    scale = np.array([1.0, 2.0])
    params = AffineParams(scale=scale, zero_point=0, range=INT8)
    scale[0] = 9.0
    assert params.scale.tolist() == [1.0, 2.0]
    assert params.zero_point.tolist() == [0, 0]
    for array in (params.scale, params.zero_point):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(FrozenInstanceError):
        params.scale = scale


def test_the_argument_is_left_alone():
    x = np.array([1.4, -300.0])
    quantize(x, AffineParams(scale=1.0, zero_point=0, range=INT8))
    assert x.tolist() == [1.4, -300.0]
