# SPDX-License-Identifier: Apache-2.0
"""ITA's operators against Python integers and rationals, and where its circuit and its Python model part."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.kernels import ita

INT8 = st.integers(-128, 127)
ROWS = st.lists(st.tuples(INT8, st.booleans()), min_size=1, max_size=70)
EVERY_INT8 = np.arange(-128, 128).astype(np.int8)
SQRT2 = Fraction("1.41421356237309504880")


def half_up(x):
    return math.floor(x + Fraction(1, 2))


def saturated(x, bits):
    return min(max(x, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)


def softmax_oracle(row, keep, columns):
    """Take the sum so many columns at a time, a term at a time."""
    largest, total = -128, 0
    for start in range(0, len(row), columns):
        block = [x for x, kept in zip(row[start : start + columns], keep[start : start + columns], strict=True) if kept]
        new = max([largest, *block])
        total = total // 2 ** half_up(Fraction(new - largest, 32))
        largest = new
        total += sum(256 // 2 ** half_up(Fraction(largest - x, 32)) for x in block)
    inverse = 65280 // total if total else 0
    return [
        inverse // 2 ** half_up(Fraction(largest - x, 32)) if kept else 0 for x, kept in zip(row, keep, strict=True)
    ]


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 255), st.integers(0, 255), INT8)
@example(2**25, 255, 27, 0)  # the accumulator is clipped
@example(-5, 1, 1, 0)  # -2.5
@example(2**25 - 1, 255, 33, 0)
def test_requantize_equals_the_oracle(acc, multiplier, shift, add):
    product = saturated(acc, 26) * multiplier
    expected = saturated(half_up(Fraction(product, 2**shift)) + add, 8)
    assert ita.requantize(np.array([acc]), multiplier=multiplier, shift=shift, add=add).tolist() == [expected]


def test_the_circuit_rounds_half_up_whatever_its_comment_says():
    halves = np.array([-5, -3, -1, 1, 3, 5])
    assert ita.requantize(halves, multiplier=1, shift=1, add=0).tolist() == [-2, -1, 0, 1, 2, 3]
    bit = [(x >> 1) + (x & 1) for x in halves.tolist()]
    assert ita.requantize(halves, multiplier=1, shift=1, add=0).tolist() == bit


def test_the_python_model_rounds_up_just_below_a_tie():
    acc = 2**23 - 1
    model = math.floor(acc / 2**24 + 0.5 + np.finfo(np.float32).eps)
    assert (model, ita.requantize(np.array([acc]), multiplier=1, shift=24, add=0).tolist()) == (1, [0])


def test_requantize_takes_one_multiplier_per_head():
    acc = np.arange(-300, 300).reshape(3, 2, 100)
    constants = [(3, 1, 5), (127, 6, 0), (255, 8, -7)]
    multiplier, shift, add = (np.array(c).reshape(3, 1, 1) for c in zip(*constants, strict=True))
    heads = [ita.requantize(a, multiplier=m, shift=s, add=b) for a, (m, s, b) in zip(acc, constants, strict=True)]
    assert (ita.requantize(acc, multiplier=multiplier, shift=shift, add=add) == heads).all()


@given(ROWS)
def test_softmax_equals_the_oracle(cells):
    row, keep = zip(*cells, strict=True)
    result = ita.softmax(np.array([row], np.int8), mask=np.array([keep]))
    assert result.dtype == np.uint8
    assert result.tolist() == [softmax_oracle(row, keep, len(row))]


@given(ROWS)
@example([(-128, True)] * 16 + [(127, True)] * 16)
@example([(100, False)] + [(0, True)] * 16)
@example([cell for x in (-123, -71, -22, 126) for cell in [(x, True)] + [(0, False)] * 15])  # the sum loses bits
def test_streaming_softmax_equals_the_oracle(cells):
    row, keep = zip(*cells, strict=True)
    assert ita.streaming_softmax(np.array([row], np.int8), mask=np.array([keep])).tolist() == [
        softmax_oracle(row, keep, 16)
    ]


def test_the_order_of_the_sum_changes_an_eighth_of_the_probabilities():
    x_q = np.random.default_rng(0).integers(-128, 128, (4000, 64)).astype(np.int8)
    full, streaming = ita.softmax(x_q), ita.streaming_softmax(x_q)
    assert 0.115 < np.mean(full != streaming) < 0.13
    assert (ita.softmax(x_q[:, :16]) == ita.streaming_softmax(x_q[:, :16])).all()
    first = x_q.copy()
    first[:, 0] = 127  # no larger maximum comes
    assert (ita.softmax(first) == ita.streaming_softmax(first)).all()


@pytest.mark.parametrize("softmax", [ita.softmax, ita.streaming_softmax])
def test_probabilities_are_at_most_255_and_a_row_of_none_is_0(softmax):
    assert softmax(np.array([[5]], np.int8)).tolist() == [[255]]
    assert softmax(np.array([[5, 6]], np.int8), mask=np.array([[False, False]])).tolist() == [[0, 0]]
    assert softmax(np.array([[5, 127]], np.int8), mask=np.array([[True, False]])).tolist() == [[255, 0]]


def gelu_oracle(x, scale):
    q_b = saturated(half_up(Fraction(-1769, 1000) / (scale / SQRT2)), 16)
    q_c = saturated(half_up(1 / (Fraction(-2888, 10_000) * scale**2 / 2)), 16)
    erf = (min(abs(x), -q_b) + q_b) ** 2 + q_c
    return x * ((erf if x >= 0 else -erf) + q_c)


SCALES = [
    Fraction(4, 127),
    Fraction(1, 32),
    Fraction(1, 50),
    Fraction(147, 10_000),
    Fraction(1, 100),
    Fraction(57, 10_000),
]


@pytest.mark.parametrize("scale", SCALES)
def test_gelu_equals_the_oracle(scale):
    assert ita.gelu(EVERY_INT8, scale=scale).tolist() == [gelu_oracle(x, scale) for x in range(-128, 128)]


def test_gelu_is_one_until_its_constant_saturates():
    def error(scale):
        y = ita.gelu(EVERY_INT8, scale=scale) * float(-Fraction(2888, 10_000) * scale**3 / 4)
        x = EVERY_INT8 * float(scale)
        return np.abs(y - x * [0.5 * (1 + math.erf(each / math.sqrt(2))) for each in x]).max()

    assert ita.gelu_constants(Fraction(146, 10_000))[1] == -32_488
    assert ita.gelu_constants(Fraction(145, 10_000))[1] == -32_768
    assert error(Fraction(4, 127)) < 0.03
    assert error(Fraction(146, 10_000)) < 0.03
    assert error(Fraction(1, 100)) > 0.3


def test_products_of_more_than_26_bits_are_refused():
    assert ita.gelu(EVERY_INT8, scale=Fraction(57, 10_000)).min() >= -(2**25)
    with pytest.raises(ValueError, match=r"^scale must keep the products of gelu within 26 bits, got 7/1250$"):
        ita.gelu(EVERY_INT8, scale=Fraction(56, 10_000))


def test_the_python_model_wraps_a_square_that_the_circuit_does_not():
    q_b, q_1 = ita.gelu_constants(Fraction(1, 100))
    assert q_b == -250
    square = np.array([q_b], np.int16) ** 2
    assert (square.dtype, square.tolist()) == (np.int16, [-3036])
    one = ita.gelu(np.array([1], np.int8), scale=Fraction(1, 100))
    assert one.tolist() == [249**2 + 2 * q_1]


def test_the_python_model_takes_the_lowest_code_for_its_neighbour():
    y = ita.gelu(np.array([-128, -127], np.int8), scale=Fraction(1, 60))
    assert y[0] != y[1]
