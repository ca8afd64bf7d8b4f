# SPDX-License-Identifier: Apache-2.0
"""I-ViT's operators against rationals, and the square root that ten steps do not reach."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import isqrt
from intsim.kernels import ivit

SCALES = st.one_of(
    st.integers(-12, -1).map(lambda e: Fraction(2) ** e),
    st.floats(2**-12, 2, width=32).map(Fraction),
    st.fractions(Fraction(1, 5000), 2, max_denominator=5000),
)
CODES = st.integers(-(2**15), 2**15) | st.integers(-40, 40)
ROWS = st.lists(CODES, min_size=1, max_size=9)
BITS = st.integers(8, 23)


def exp_oracle(x, scale, bits):
    """Work as the code is written: halves and powers of two as rationals, one floor at the end."""
    x += math.floor(Fraction(x, 2)) - math.floor(Fraction(x, 16))
    x_0 = math.floor(-1 / scale)
    x = max(x, bits * x_0)
    q = math.floor(Fraction(x, x_0))
    r = x - x_0 * q
    return max(math.floor((Fraction(r, 2) - x_0) * Fraction(2) ** (bits - q)), 0)


def share_oracle(e, total):
    return math.floor(Fraction(e * math.floor(Fraction(2**31 - 1, min(total, 2**31 - 1))), 2**24))


def shiftmax_oracle(row, keep, scale, bits):
    largest = max((x for x, kept in zip(row, keep, strict=True) if kept), default=0)
    e = [exp_oracle(x - largest, scale, bits) if kept else 0 for x, kept in zip(row, keep, strict=True)]
    return [share_oracle(each, max(sum(e), 1)) for each in e]


def shiftgelu_oracle(row, scale, bits):
    slope = scale * Fraction(1702, 1000)
    floor = exp_oracle(-max(row), slope, bits)
    e = [exp_oracle(x - max(row), slope, bits) for x in row]
    return [x * share_oracle(each, each + floor) for x, each in zip(row, e, strict=True)]


def ten_steps(n):
    k = 2**16
    for _ in range(10):
        k = math.floor(Fraction(k + math.floor(Fraction(n, k)), 2))
    return k


def layer_norm_oracle(row, bias):
    mean = round(Fraction(sum(row), len(row)))
    factor = math.floor(Fraction(2**31 - 1, ten_steps(sum((x - mean) ** 2 for x in row))))
    return [math.floor(Fraction((x - mean) * factor, 2)) + b for x, b in zip(row, bias, strict=True)]


@given(st.integers(-(2**15), 40), SCALES, BITS)
@example(-(2**15), Fraction(1, 3), 8)  # cut off, half a code dropped
def test_shift_exp_equals_the_oracle(x, scale, bits):
    expected = exp_oracle(x, scale, bits)
    if expected < 2**60:
        assert ivit.shift_exp(np.array([x]), scale=scale, bits=bits).tolist() == [expected]


@given(st.lists(st.tuples(CODES, st.booleans()), min_size=1, max_size=9), SCALES, BITS)
@example([(0, True), (-1, True)], Fraction(2), 8)  # x_0 = -1
@example([(0, True), (-(2**15), True), (9, False)], Fraction(1, 100), 15)  # cut off
def test_shiftmax_equals_the_oracle(cells, scale, bits):
    row, keep = zip(*cells, strict=True)
    expected = [shiftmax_oracle(row, keep, scale, bits)]
    assert ivit.shiftmax(np.array([row]), scale=scale, bits=bits, mask=np.array([keep])).tolist() == expected
    if all(keep):
        assert ivit.shiftmax(np.array([row]), scale=scale, bits=bits).tolist() == expected


@given(ROWS, SCALES, BITS)
@example([-20, -30], Fraction(1, 4), 23)  # the largest is negative: exp(-m) passes 1
@example([-9, -20], Fraction(1), 23)  # and 2**31
@example([-8, -20], Fraction(1, 2), 24)
def test_shiftgelu_equals_the_oracle(row, scale, bits):
    assert ivit.shiftgelu(np.array([row]), scale=scale, bits=bits).tolist() == [shiftgelu_oracle(row, scale, bits)]


@given(st.lists(st.integers(-(2**22), 2**22), min_size=1, max_size=12), st.data())
@example([5, 5], st.data())
def test_layer_norm_equals_the_oracle(row, data):
    bias = [0] * len(row)
    if len(row) > 2:
        bias = data.draw(st.lists(st.integers(-(2**31), 2**31), min_size=len(row), max_size=len(row)))
    assert ivit.layer_norm(np.array([row]), bias=np.array(bias)).tolist() == [layer_norm_oracle(row, bias)]


def test_ten_steps_are_no_square_root_of_a_small_number():
    numbers = np.array([0, 1, 2, 3, 4, 10, 100, 1000, 3000])
    assert ivit.isqrt(numbers).tolist() == [64, 64, 64, 64, 64, 64, 64, 68, 78]
    assert [ten_steps(n) for n in numbers.tolist()] == ivit.isqrt(numbers).tolist()
    every = np.arange(1, 300_000)
    wrong = every[ivit.isqrt(every) != isqrt(every)]
    assert (len(wrong), wrong.max()) == (51_100, 183_183)


def test_ten_steps_end_above_the_root_of_half_the_numbers_before_a_square():
    k = np.arange(430, 2**16)
    root = ivit.isqrt(k * k - 1)
    assert set(np.unique(root - k)) == {-1, 0}  # k - 1 is the root; from k one step leads to k - 1, and back
    assert np.count_nonzero(root == k) == 31_715


def test_a_constant_row_gives_the_bias():
    assert ivit.layer_norm(np.array([[9, 9, 9]]), bias=np.array([1, -2, 3])).tolist() == [[1, -2, 3]]


def test_shiftmax_is_close_to_softmax():
    x_q = np.arange(-64, 1)[None]
    probs = np.exp(x_q / 16) / np.exp(x_q / 16).sum()
    assert np.abs(ivit.shiftmax(x_q, scale=Fraction(1, 16)) / 128 - probs).max() < 0.013


def test_shiftgelu_is_close_to_gelu_and_depends_on_the_row():
    x_q = np.arange(-64, 65)
    real = x_q / 16 * [0.5 * (1 + math.erf(x / 16 / math.sqrt(2))) for x in x_q.tolist()]
    whole = ivit.shiftgelu(x_q, scale=Fraction(1, 16))
    assert np.abs(whole / (16 * 128) - real).max() < 0.16  # the reciprocal of the sum has 5 bits
    alone = ivit.shiftgelu(x_q[:, None], scale=Fraction(1, 16))[:, 0]
    assert (alone != whole).any()


def test_the_reciprocal_of_a_large_sum_has_few_bits_and_at_last_none():
    row = np.zeros((1, 2), np.int64)
    for bits, half in ((6, 63), (13, 48), (14, 32), (16, 128)):
        assert ivit.shiftmax(row, scale=Fraction(1, 2**bits)).tolist() == [[half, half]]


def test_an_exp_that_could_leave_int64_is_refused():
    assert ivit.shift_exp(np.array([26]), scale=Fraction(1), bits=23).tolist() == [2**61] == [exp_oracle(26, 1, 23)]
    with pytest.raises(ValueError, match=r"^x_q must keep exp below 2\*\*62, got 27 at scale 1$"):
        ivit.shift_exp(np.array([27]), scale=Fraction(1), bits=23)
