# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import numpy as np
import oracle
import pytest
from edges import every_rounding
from hypothesis import example, given
from hypothesis import strategies as st

from intsim import float32
from intsim.fixedpoint import Rounding
from intsim.float32 import Float32, decode, encode, from_integer, to_dyadic, to_integer

# Fields that meet: subnormals, the smallest and largest exponents, significands of all ones and one bit, plain random
EXPONENTS = [0, 1, 2, 23, 24, 25, 100, 126, 127, 128, 150, 151, 253, 254]
FRACTIONS = [0, 1, 2, 0x3FFFFF, 0x400000, 0x400001, 0x555555, 0x7FFFFE, 0x7FFFFF]


@st.composite
def words(draw, size=2000):
    """Return bits of finite float32 numbers, half of them from the edges."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    exponent = np.where(rng.random(size) < 0.5, rng.choice(EXPONENTS, size), rng.integers(0, 255, size))
    if draw(st.booleans()):  # near one another, so that sums cancel and products stay finite
        exponent = 127 + exponent % 26 - 13
    fraction = np.where(rng.random(size) < 0.5, rng.choice(FRACTIONS, size), rng.integers(0, 2**23, size))
    return (rng.integers(0, 2, size) << 31 | exponent << 23 | fraction).astype(np.uint32)


def at(x, where):
    return Float32(x.significand[where], x.exponent[where])


def same(bits, expected):
    """Say whether bits are those of the floats, a negative zero counting as zero."""
    return np.array_equal(bits, (expected + np.float32(0)).view(np.uint32))


@given(bits=words())
def test_decoding_gives_the_number_and_encoding_its_bits(bits):
    x = decode(bits)
    assert np.array_equal(np.ldexp(x.significand.astype(np.float64), x.exponent), bits.view(np.float32))
    assert same(encode(x), bits.view(np.float32))
    assert np.array_equal(encode(x), encode(decode(bits.view(np.int32))))


@pytest.mark.parametrize(
    ("ours", "ieee"), [(float32.multiply, np.multiply), (float32.add, np.add), (float32.divide, np.divide)]
)
@given(a=words(), b=words())
def test_arithmetic_is_that_of_the_processor(ours, ieee, a, b):
    with np.errstate(all="ignore"):
        expected = ieee(a.view(np.float32), b.view(np.float32))
    finite = np.isfinite(expected)
    x, y = at(decode(a), finite), at(decode(b), finite)
    assert same(encode(ours(x, y)), expected[finite])
    with_itself = at(decode(a), a.view(np.float32) != 0)
    assert (to_integer(float32.divide(with_itself, with_itself), Rounding.FLOOR) == 1).all()


@given(seed=st.integers(0, 2**32), bits=st.integers(1, 61))
def test_integers_are_converted_as_the_processor_does(seed, bits):
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2**bits), 2**bits, 500)
    x = np.concatenate([x, x >> 24 << 24 | 1 << 22, [0, 2**24, 2**24 + 1, 2**24 + 3, -(2**25) - 2, 2**61 - 1]])
    assert same(encode(from_integer(x)), x.astype(np.float32))


@every_rounding
@given(bits=words(size=50))
def test_a_number_is_rounded_as_its_exact_rational(rounding, bits):
    x = decode(bits)
    x = at(x, x.exponent <= 38)
    expected = [
        oracle.round_fraction(Fraction(int(s)) * Fraction(2) ** int(e), rounding)
        for s, e in zip(x.significand, x.exponent, strict=True)
    ]
    assert to_integer(x, rounding).tolist() == expected


@given(bits=words())
def test_a_dyadic_is_the_same_number(bits):
    x = decode(bits)
    fits = (np.abs(bits.view(np.float32)) < 2**31) & (
        np.fmod(np.ldexp(bits.view(np.float32).astype(float), 62), 1) == 0
    )
    ratio = to_dyadic(at(x, fits))
    real = ratio.multiplier.astype(np.float64) / 2.0**ratio.shift
    assert np.array_equal(real, bits.view(np.float32)[fits])


def pairs(*numbers):
    """Numbers from significands and exponents, as they stand."""
    significands, exponents = zip(*numbers, strict=True)
    return Float32(np.array(significands), np.array(exponents))


def test_numbers_with_fewer_than_24_bits_are_numbers_too():
    x = pairs((1, -3), (-1, -3), (1, 30), (-1, 30), (0, 104), (-1, 0), (1, -62), (2**23, -85))
    assert to_dyadic(x).multiplier.tolist() == [1, -1, 2**30, -(2**30), 0, -1, 1, 1]
    assert to_dyadic(x).shift.tolist() == [3, 3, 0, 0, 0, 0, 62, 62]
    assert to_integer(pairs((1, 38), (-(2**24) + 1, 38), (0, 104)), Rounding.FLOOR).tolist() == [
        2**38,
        -(2**62) + 2**38,
        0,
    ]
    product = float32.multiply(pairs((1, 63), (-(2**23) - 1, 0), (2**24 - 1, 50)), pairs((1, 64), (1, 0), (1, 54)))
    assert product.significand.tolist() == [2**23, -(2**23) - 1, 2**24 - 1]
    assert product.exponent.tolist() == [104, 0, 104]
    total = float32.add(pairs((0, 104), (1, 5), (-1, 5), (0, 104)), pairs((1, -149), (1, 5), (0, 104), (0, -149)))
    assert total.significand.tolist() == [1, 2**23, -(2**23), 0]
    assert total.exponent.tolist() == [-149, -17, -18, 0]


@pytest.mark.parametrize("number", [2.0**31, -(2.0**31), 2.0**-63, 3 * 2.0**-63])
def test_what_no_dyadic_holds_is_refused(number):
    with pytest.raises(ValueError, match="must be"):
        to_dyadic(decode(np.array([1, number], np.float32).view(np.uint32)))
    with pytest.raises(ValueError, match="must be"):
        to_dyadic(pairs((1, 31), (0, 0)))


def test_what_could_reach_2_to_62_is_no_integer():
    for number in ((1, 39), (-1, 39), (1, 104)):
        with pytest.raises(ValueError, match=r"numbers must be below 2\*\*62"):
            to_integer(pairs((1, 0), number), Rounding.FLOOR)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_refused(number):
    with pytest.raises(ValueError, match="an infinity or a NaN"):
        decode(np.array([1, number], np.float32).view(np.uint32))


def test_results_beyond_the_largest_number_are_refused():
    largest = decode(np.array([np.finfo(np.float32).max]).view(np.uint32))
    one = from_integer(np.array([1]))
    assert same(encode(float32.multiply(largest, one)), np.array([np.finfo(np.float32).max]))
    with pytest.raises(OverflowError, match="must be a finite float32"):
        float32.add(largest, largest)
    for beyond in (pairs((1, 0), (1, 64)), pairs((1, 0), (2**23, 104))):
        with pytest.raises(OverflowError, match="must be a finite float32"):
            float32.multiply(beyond, pairs((1, 0), (1, 64)))


def test_division_by_zero_is_refused():
    with pytest.raises(ValueError, match="divisor must not be 0"):
        float32.divide(from_integer(np.array([1, 1])), from_integer(np.array([1, 0])))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
@example([1.0, 1.0000001192092896])
@example([-1e-45, 1e-45])
@example([1e-45, 0.0])  # a difference of 1 in the significand
@example([2.0**100, -(2.0**100)])
def test_the_larger_and_the_opposite_are_numpy_s(pair):
    x, y = (np.array(each, np.float32) + np.float32(0) for each in pair)
    a, b = (decode(each.view(np.uint32)) for each in (x, y))
    assert encode(float32.negate(a)).view(np.float32) == -x
    if abs(float(x) - float(y)) < 2.0**127:
        assert encode(float32.maximum(a, b)).view(np.float32) == np.maximum(x, y)
