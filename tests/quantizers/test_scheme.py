# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.fixedpoint import IntRange
from intsim.quantizers import Scheme, dequantize, quantize

every_convention = pytest.mark.parametrize(
    "scheme",
    [
        *(
            Scheme(bits=8, symmetric=True, convention=convention)
            for convention in ("narrow", "ibert-code", "full", "power-of-two")
        ),
        Scheme(bits=8, symmetric=True, convention="full", signed="by-range"),
        *(
            Scheme(bits=8, symmetric=False, convention=convention, signed=signed)
            for convention in ("full", "power-of-two")
            for signed in (True, False)
        ),
    ],
    ids=str,
)
widths = st.integers(2, 16)
reals = st.floats(-(2.0**100), 2.0**100)
bounds = st.tuples(reals, reals).map(sorted).filter(any)


def eight_bits(*, symmetric, convention, signed=True):
    return Scheme(bits=8, symmetric=symmetric, convention=convention, signed=signed)


def half_scales(scheme):
    """How many half scales the convention may be off by, at worst, because the highest real has no code."""
    if scheme.convention == "power-of-two":
        return 2 if scheme.symmetric else 3
    return 2 if scheme.convention == "ibert-code" else 1


# The scale is 2**-5 in each: a range of 127 steps, or of 128 for the power of two.
@pytest.mark.parametrize(
    ("convention", "limit", "expected"),
    [
        #                               -limit limit  -9     9   1/64  3/64 -3/64
        ("narrow", 127 / 32, [-127, 127, -127, 127, 0, 2, -2]),
        ("ibert-code", 127 / 32, [-127, 126, -127, 126, 0, 2, -2]),
        ("full", 127 / 32, [-127, 127, -128, 127, 0, 2, -2]),
        ("power-of-two", 128 / 32, [-128, 127, -128, 127, 0, 2, -2]),
    ],
)
def test_symmetric_conventions_by_hand(convention, limit, expected):
    for low, high in ((-limit, 1.0), (-1.0, limit)):
        params = eight_bits(symmetric=True, convention=convention).params(low, high)
        assert (float(params.scale), int(params.zero_point)) == (2.0**-5, 0)
        assert quantize([-limit, limit, -9, 9, 1 / 64, 3 / 64, -3 / 64], params).tolist() == expected


# The scale is 2**-6 in each: 255 steps from -1 to 191/64, or 256 to 3; the zero point is 64 codes above the lowest.
@pytest.mark.parametrize(("convention", "high"), [("full", 191 / 64), ("power-of-two", 3.0)])
@pytest.mark.parametrize(("signed", "lowest"), [(False, 0), (True, -128)])
def test_asymmetric_conventions_by_hand(convention, high, signed, lowest):
    params = eight_bits(symmetric=False, convention=convention, signed=signed).params(-1.0, high)
    assert (float(params.scale), int(params.zero_point)) == (2.0**-6, lowest + 64)
    codes = quantize([-9, -1, 0, 1 / 128, 3 / 128, high, 9], params)
    assert codes.dtype == (np.int8 if signed else np.uint8)
    assert (codes.astype(int) - lowest).tolist() == [0, 0, 64, 64, 66, 255, 255]


def test_the_zero_point_rounds_half_to_even():
    scheme = eight_bits(symmetric=False, convention="full", signed=False)
    assert [int(scheme.params(-half / 2, 255 - half / 2).zero_point) for half in (1, 3, 5)] == [0, 2, 2]


def test_a_narrow_scheme_of_each_width_by_hand():
    for bits, limit in ((2, 1), (3, 3), (4, 7), (8, 127), (16, 32767)):
        scheme = Scheme(bits=bits, symmetric=True, convention="narrow")
        assert (scheme.range, scheme.divisor) == (IntRange(bits=bits, narrow=True), limit)
        assert float(scheme.params(-0.25 * limit, 0.0).scale) == 0.25


@pytest.mark.parametrize(("low", "high"), [(2.0, 5.1), (0.0, 5.1), (-5.1, 0.0), (-5.1, -2.0)])
def test_the_range_is_widened_to_contain_zero(low, high):
    params = eight_bits(symmetric=False, convention="full").params(low, high)
    assert float(params.scale) == np.float32(5.1 / 255)
    assert int(params.zero_point) == (-128 if high > 0 else 127)


@every_convention
@given(bits=widths, bounds=bounds, weight=st.floats(0, 1))
def test_reals_of_the_range_come_back_as_close_as_the_convention_says(scheme, bits, bounds, weight):
    scheme = replace(scheme, bits=bits)
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    params = scheme.params(*bounds)
    bound = Fraction(float(params.scale)) * half_scales(scheme) / 2
    if not scheme.symmetric or half_scales(scheme) > 1:
        bound += (Fraction(high) - Fraction(low)) / 2**24
    for x in (low, high, low + weight * (high - low)):
        back = float(dequantize(quantize(x, params), params))
        assert abs(Fraction(back) - Fraction(x)) <= bound
    assert float(dequantize(quantize(0.0, params), params)) == 0.0


@every_convention
def test_the_highest_real_is_off_by_the_stated_error(scheme):
    low = -1.5  # asymmetric: half a scale, lost where the zero point is rounded up to 2
    high = scheme.divisor + (0 if scheme.symmetric else low)
    params = scheme.params(low, high)
    assert float(params.scale) == 1.0
    lost = {1: 0.0 if scheme.symmetric else 0.5, 2: 1.0, 3: 1.5}[half_scales(scheme)]
    assert high - float(dequantize(quantize(high, params), params)) == lost


@every_convention
@given(bits=widths, bounds=bounds)
def test_the_scale_is_the_nearest_float32(scheme, bits, bounds):
    scheme = replace(scheme, bits=bits)
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = scheme.params(*bounds).scale
    exact = (
        max(-Fraction(low), Fraction(high)) if scheme.symmetric else Fraction(high) - Fraction(low)
    ) / scheme.divisor
    single = scale.astype(np.float32)
    assert single == scale
    if exact <= 2.0**-126:
        assert scale == 2.0**-126
    else:
        neighbours = [float(np.nextafter(single, np.float32(to))) for to in (-np.inf, np.inf)]
        gap = abs(Fraction(float(scale)) - exact)
        # high - low and the quotient are rounded to float64 first: a hair beside the middle of two float32
        assert all(gap <= abs(Fraction(v) - exact) * (1 + Fraction(1, 2**20)) for v in neighbours)


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_a_symmetric_float32_range_has_the_scale_of_float32_division(limit):
    for bits in range(2, 17):
        scheme = Scheme(bits=bits, symmetric=True, convention="narrow")
        assert scheme.params(-limit, 0.0).scale == np.float32(limit) / np.float32(scheme.divisor)


@every_convention
def test_a_range_too_small_for_float32_has_the_smallest_normal_scale(scheme):
    params = scheme.params(0.0, 2.0**-149)
    assert float(params.scale) == 2.0**-126
    assert float(dequantize(quantize(2.0**-149, params), params)) == 0.0


@every_convention
def test_a_channel_of_zeros_takes_the_largest_scale_and_zero_codes(scheme):
    low, high = np.array([[-1.0], [0.0], [-3.0]]), np.array([[2.0], [0.0], [0.5]])
    params = scheme.params(low, high)
    assert params.scale.shape == params.zero_point.shape == (3, 1)
    assert params.scale[1] == params.scale.max() == params.scale[2] > params.scale[0]
    assert params.zero_point[1] == (0 if scheme.symmetric else params.range.min)
    assert (quantize(np.zeros((3, 2)), params) == params.zero_point).all()


@pytest.mark.parametrize("zeros", [0.0, [0.0, 0.0]])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_tensor_of_zeros_has_the_scale_1_and_is_exact(zeros, symmetric):
    params = eight_bits(symmetric=symmetric, convention="full").params(zeros, zeros)
    assert (params.scale == 1).all()
    assert (params.zero_point == (0 if symmetric else -128)).all()
    x = np.zeros((3, 2))
    assert np.array_equal(dequantize(quantize(x, params), params), x)


@every_convention
def test_ranges_are_taken_one_by_one_once_the_sign_is_known(scheme):
    scheme = replace(scheme, signed=bool(scheme.signed))
    low, high = np.array([-1.0, -2.5, 0.3]), np.array([0.1, 7.0, 0.4])
    params = scheme.params(low, high)
    for i in range(3):
        alone = scheme.params(low[i], high[i])
        assert alone.scale.shape == ()
        assert (alone.scale, alone.zero_point) == (params.scale[i], params.zero_point[i])


def test_impossible_ranges_are_refused():
    scheme = eight_bits(symmetric=False, convention="full")
    for low, high in ((np.nan, 1.0), (-np.inf, 1.0)):
        with pytest.raises(ValueError, match="low must be finite"):
            scheme.params(low, high)
    with pytest.raises(ValueError, match="high must be finite"):
        scheme.params(0.0, np.nan)
    with pytest.raises(ValueError, match="low must not exceed high, got low=2"):
        scheme.params(2.0, 1.0)
    with pytest.raises(ValueError, match="low must not exceed high"):
        scheme.params([0.0, 2.0], [1.0, 1.0])
    for limit in (1e300, 1.7e308):
        with pytest.raises(ValueError, match="scale must be finite"):
            scheme.params(-limit, limit)


@pytest.mark.parametrize("bits", [3, 4, 8, 16])
def test_symmetric_codes_take_the_sign_of_the_range(bits):
    scheme = Scheme(bits=bits, symmetric=True, convention="full", signed="by-range")
    signed = Scheme(bits=bits, symmetric=True, convention="full")
    top = 2**bits - 1
    for low, high in ((0.0, top / 4), (1.0, top / 4), ([0.0, 2.0], [top / 4, 3.0])):
        params = scheme.params(low, high)
        assert (params.range, params.zero_point.any()) == (IntRange(bits=bits, signed=False), False)
        assert params.scale.flat[0] == 0.25
        x = np.array([-1.0, 0, 0.125, 0.375, top / 4, top])[:, None].repeat(params.scale.size, axis=1)
        assert quantize(x, params)[:, 0].tolist() == [0, 0, 0, 2, top, top]
    for low, high in ((-0.25, 2.0), ([0.0, -1.0], [2.0, 3.0])):
        params, expected = scheme.params(low, high), signed.params(low, high)
        assert (params.range, params.scale.tolist()) == (expected.range, expected.scale.tolist())
    assert scheme.params(0.0, 0.0).scale == 1


@pytest.mark.parametrize("bits", [-1, 0, 1, 33])
def test_other_widths_are_refused(bits):
    with pytest.raises(ValueError, match=rf"bits must be in \[2, 32\], got {bits}"):
        Scheme(bits=bits, symmetric=True, convention="narrow")
    assert [Scheme(bits=each, symmetric=True, convention="narrow").range.bits for each in (2, 32)] == [2, 32]


def test_combinations_outside_the_tables_are_refused():
    with pytest.raises(
        ValueError, match="convention must be one of full, power-of-two for symmetric=False, got 'narrow'"
    ):
        Scheme(bits=8, symmetric=False, convention="narrow")
    with pytest.raises(ValueError, match="convention must be one of narrow, ibert-code, full, power-of-two"):
        Scheme(bits=8, symmetric=True, convention="max")
    with pytest.raises(ValueError, match="signed must be True for a symmetric scheme"):
        Scheme(bits=8, symmetric=True, convention="full", signed=False)
    for symmetric, convention in ((True, "narrow"), (False, "full")):
        with pytest.raises(ValueError, match="signed must be True or False but for symmetric codes of convention"):
            Scheme(bits=8, symmetric=symmetric, convention=convention, signed="by-range")
