# SPDX-License-Identifier: Apache-2.0
"""The fused multiply-add against exact rationals rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.float32 import Float32, add, multiply
from intsim.kernels.fused_multiply_add import fused_multiply_add

SIGNIFICANDS = st.one_of(
    st.integers(1 - 2**24, 2**24 - 1),
    st.sampled_from([0, 1, -1, 2**23, 2**23 + 1, 2**24 - 1, 1 - 2**24]),
    st.builds(lambda n, k: n << k, st.integers(-255, 255), st.integers(0, 16)),
)


def scalar(significand: int, exponent: int) -> Float32:
    return Float32(np.array(significand), np.array(exponent))


def exact(x: Float32) -> Fraction:
    return Fraction(int(x.significand)) * Fraction(2) ** int(x.exponent)


def rounded(value: Fraction) -> Fraction:
    """To 24 bits, ties to even."""
    if not value:
        return value
    place = value.numerator.bit_length() - value.denominator.bit_length() - 24
    place += abs(value) >= Fraction(2) ** (place + 24)
    return round(value / Fraction(2) ** place) * Fraction(2) ** place


@given(SIGNIFICANDS, SIGNIFICANDS, SIGNIFICANDS, st.integers(-30, 30), st.integers(-30, 30), st.integers(-90, 90))
def test_it_rounds_once(x, y, z, x_exponent, y_exponent, z_exponent):
    x, y, z = scalar(x, x_exponent), scalar(y, y_exponent), scalar(z, z_exponent)
    assert exact(fused_multiply_add(x, y, z)) == rounded(exact(x) * exact(y) + exact(z))


@given(SIGNIFICANDS, SIGNIFICANDS, st.integers(-12, 12), st.sampled_from([-1, 1]))
def test_it_returns_the_rest_of_a_rounded_product(x, y, exponent, sign):
    x, y = scalar(x, exponent), scalar(y, -exponent)
    product = multiply(x, y)
    rest = fused_multiply_add(
        x, scalar(-sign * int(y.significand), -exponent), scalar(sign * int(product.significand), int(product.exponent))
    )
    assert exact(rest) == sign * (exact(product) - exact(x) * exact(y))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("apart", range(20, 90))
def test_a_far_addend_decides_a_tie(apart, sign):
    x, y, low = scalar(2**12 + 1, 0), scalar(2**12 + 1, 0), scalar(sign, -apart)  # 2**24 + 2**13 + 1, a tie
    assert exact(fused_multiply_add(x, y, low)) == 2**24 + 2**13 + (2 if sign > 0 else 0)
    assert exact(add(multiply(x, y), low)) == 2**24 + 2**13 - (1 if sign < 0 and apart < 1 else 0)


def test_it_broadcasts():
    x = Float32(np.arange(6).reshape(3, 2), np.zeros((3, 2), np.int64))
    y = fused_multiply_add(x, scalar(3, -1), Float32(np.array([5, 6]), np.array([0, 1])))
    assert np.ldexp(y.significand.astype(float), y.exponent).tolist() == [[5, 13.5], [8, 16.5], [11, 19.5]]


@given(SIGNIFICANDS, SIGNIFICANDS, st.integers(-170, -90))
def test_a_subnormal_result_is_a_multiple_of_the_least_one(x, y, exponent):
    product = fused_multiply_add(scalar(x, 0), scalar(y, exponent), scalar(0, 0))
    assert exact(product) == exact(multiply(scalar(x, 0), scalar(y, exponent)))


def test_a_result_beyond_the_largest_number_is_refused():
    largest = scalar(2**24 - 1, 104)
    assert exact(fused_multiply_add(largest, scalar(1, 0), scalar(2**22, 80))) == exact(largest)
    with pytest.raises(OverflowError, match=r"result must be below 2\*\*128, got one of 2\*\*128 or more"):
        fused_multiply_add(largest, scalar(1, 0), scalar(2**23, 80))
