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


def softmax_oracle(row, keep, columns, code):
    """Take the sum so many columns at a time, a term at a time; ``code`` is how many halvings a code stands for."""
    largest, total = -128, 0
    for start in range(0, len(row), columns):
        block = [x for x, kept in zip(row[start : start + columns], keep[start : start + columns], strict=True) if kept]
        new = max([largest, *block])
        total = total // 2 ** half_up((new - largest) * code)
        largest = new
        total += sum(256 // 2 ** half_up((largest - x) * code) for x in block)
    inverse = 65280 // total if total else 0
    return [inverse // 2 ** half_up((largest - x) * code) if kept else 0 for x, kept in zip(row, keep, strict=True)]


def circuit(acc, multiplier, shift, add):
    """The circuit bit by bit: a product of 35 bits shifted arithmetically, plus its bit shift - 1 where it has one."""
    product = [saturated(acc, 26) * multiplier >> bit & 1 for bit in range(35)]
    sign = product[-1]
    shifted = (product + [sign] * 300)[shift : shift + 35]
    value = sum(bit << place for place, bit in enumerate(shifted)) - (sign << 35)
    carry = product[shift - 1] if 0 < shift <= 35 else 0
    return saturated(value + carry + add, 8)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 255), st.integers(0, 255), INT8)
@example(2**25, 255, 27, 0)  # the accumulator is clipped
@example(-5, 1, 1, 0)  # -2.5
@example(2**25 - 1, 255, 33, 0)
@example(-1, 1, 35, 0)
@example(-1, 1, 36, 0)
@example(1, 1, 36, 0)
def test_requantize_is_the_circuit(acc, multiplier, shift, add):
    expected = circuit(acc, multiplier, shift, add)
    assert ita.requantize(np.array([acc]), multiplier=multiplier, shift=shift, add=add).tolist() == [expected]
    if shift < 36:
        product = saturated(acc, 26) * multiplier
        assert expected == saturated(half_up(Fraction(product, 2**shift)) + add, 8)


def test_the_circuit_rounds_half_up_whatever_its_comment_says():
    halves = np.array([-5, -3, -1, 1, 3, 5])
    assert ita.requantize(halves, multiplier=1, shift=1, add=0).tolist() == [-2, -1, 0, 1, 2, 3]
    bit = [(x >> 1) + (x & 1) for x in halves.tolist()]
    assert ita.requantize(halves, multiplier=1, shift=1, add=0).tolist() == bit


def test_from_shift_36_on_the_circuit_floors():
    acc = np.array([-(2**25), -1, 0, 1, 2**25 - 1])
    assert ita.requantize(acc, multiplier=255, shift=35, add=7).tolist() == [7, 7, 7, 7, 7]
    for shift in (36, 63, 64, 255):
        assert ita.requantize(acc, multiplier=255, shift=shift, add=7).tolist() == [6, 6, 7, 7, 7]


def pyita(acc, multiplier, shift, add):
    """PyITA's own expression, in its dtypes."""
    product = np.uint32(multiplier) * np.int64(saturated(acc, 26))
    return saturated(int(np.floor(product / 2 ** np.uint32(shift) + np.int32(add) + 0.5 + np.finfo(np.float32).eps)), 8)


@st.composite
def below_a_tie(draw):
    multiplier, shift = draw(st.sampled_from([1, 3, 127])), draw(st.integers(0, 31))
    tie = (2 * draw(st.integers(-100, 100)) + 1) * 2**shift // (2 * multiplier)
    return tie - draw(st.integers(0, 2)), multiplier, shift


@given(below_a_tie() | st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 127), st.integers(0, 31)), INT8)
@example((2**22 - 1, 1, 23), 0)
def test_the_python_model_is_its_expression(operands, add):
    acc, multiplier, shift = operands
    got = ita.requantize_pyita(np.array([acc]), multiplier=multiplier, shift=shift, add=add).tolist()
    assert got == [pyita(acc, multiplier, shift, add)]
    if shift < 23:
        assert got == ita.requantize(np.array([acc]), multiplier=multiplier, shift=shift, add=add).tolist()


def test_the_python_model_rounds_up_just_below_a_tie_from_shift_23_on():
    for shift, parts in ((22, False), (23, True), (24, True)):
        acc = np.array([2 ** (shift - 1) - 1])
        assert ita.requantize(acc, multiplier=1, shift=shift, add=0).tolist() == [0]
        assert ita.requantize_pyita(acc, multiplier=1, shift=shift, add=0).tolist() == [int(parts)]


def test_the_python_model_divides_by_0_from_shift_32_on():
    with np.errstate(divide="ignore"):
        assert np.int64(1) / 2 ** np.uint32(32) == np.inf
    with pytest.raises(ValueError, match=r"^shift must be in \[0, 31\], got 32; PyITA divides by 0 there$"):
        ita.requantize_pyita(np.array([1]), multiplier=1, shift=[3, 32], add=0)


def test_requantize_takes_one_multiplier_per_head():
    acc = np.arange(-300, 300).reshape(3, 2, 100)
    constants = [(3, 1, 5), (127, 6, 0), (255, 8, -7)]
    multiplier, shift, add = (np.array(c).reshape(3, 1, 1) for c in zip(*constants, strict=True))
    heads = [ita.requantize(a, multiplier=m, shift=s, add=b) for a, (m, s, b) in zip(acc, constants, strict=True)]
    assert (ita.requantize(acc, multiplier=multiplier, shift=shift, add=add) == heads).all()


SHIFTS = pytest.mark.parametrize(("shift", "code"), [(ita.SHIFT, Fraction(1, 32)), (ita.SHIFT_2024, Fraction(1))])


@SHIFTS
@given(cells=ROWS)
@example(cells=[(0, True), (1, True), (2, True)])
def test_softmax_equals_the_oracle(shift, code, cells):
    row, keep = zip(*cells, strict=True)
    result = ita.softmax(np.array([row], np.int8), shift=shift, mask=np.array([keep]))
    assert result.dtype == np.uint8
    assert result.tolist() == [softmax_oracle(row, keep, len(row), code)]


@SHIFTS
@given(cells=ROWS)
@example(cells=[(-128, True)] * 16 + [(127, True)] * 16)
@example(cells=[(-1, True)] * 15 + [(-3, True)] + [(0, True)] * 16)
@example(cells=[(100, False)] + [(0, True)] * 16)
@example(cells=[cell for x in (-123, -71, -22, 126) for cell in [(x, True)] + [(0, False)] * 15])  # the sum loses bits
def test_streaming_softmax_equals_the_oracle(shift, code, cells):
    row, keep = zip(*cells, strict=True)
    assert ita.streaming_softmax(np.array([row], np.int8), shift=shift, mask=np.array([keep])).tolist() == [
        softmax_oracle(row, keep, 16, code)
    ]


def test_the_order_of_the_sum_changes_an_eighth_of_the_probabilities():
    x_q = np.random.default_rng(0).integers(-128, 128, (4000, 64)).astype(np.int8)
    full, streaming = ita.softmax(x_q, shift=ita.SHIFT), ita.streaming_softmax(x_q, shift=ita.SHIFT)
    assert 0.115 < np.mean(full != streaming) < 0.13
    first = ita.softmax(x_q[:, :16], shift=ita.SHIFT)
    assert (first == ita.streaming_softmax(x_q[:, :16], shift=ita.SHIFT)).all()
    first = x_q.copy()
    first[:, 0] = 127  # no larger maximum comes
    assert (ita.softmax(first, shift=ita.SHIFT) == ita.streaming_softmax(first, shift=ita.SHIFT)).all()


def test_the_order_of_the_sum_loses_bits_of_halvings_too():
    """Sixteen terms that are 0 beside the maximum of the row are 8 together beside that of their columns."""
    x_q = np.array([[-8] * 16 + [0] + [-120] * 15], np.int8)
    assert ita.softmax(x_q, shift=ita.SHIFT_2024)[0, 16] == 65280 // (256 + 16)
    late = np.array([[-9] * 16 + [0] + [-120] * 15], np.int8)
    assert ita.softmax(late, shift=ita.SHIFT_2024)[0, 16] == 65280 // 256
    assert ita.streaming_softmax(late, shift=ita.SHIFT_2024)[0, 16] == 65280 // (256 + (16 * 256 >> 9))


@pytest.mark.parametrize("softmax", [ita.softmax, ita.streaming_softmax])
@pytest.mark.parametrize("shift", [ita.SHIFT, ita.SHIFT_2024])
def test_probabilities_are_at_most_255_and_a_row_of_none_is_0(softmax, shift):
    assert softmax(np.array([[5]], np.int8), shift=shift).tolist() == [[255]]
    assert softmax(np.array([[5, 6]], np.int8), shift=shift, mask=np.array([[False, False]])).tolist() == [[0, 0]]
    assert softmax(np.array([[5, 127]], np.int8), shift=shift, mask=np.array([[True, False]])).tolist() == [[255, 0]]


def test_a_code_is_a_halving_since_2024():
    x_q = np.array([[0, -1, -2, -31, -32]], np.int8)
    assert ita.softmax(x_q, shift=ita.SHIFT_2024).tolist() == [[145, 72, 36, 0, 0]]
    assert ita.softmax(x_q, shift=ita.SHIFT).tolist() == [[63, 63, 63, 31, 31]]


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
