# SPDX-License-Identifier: Apache-2.0
"""Where CMSIS-NN parts from LiteRT, against Python integers that follow its instructions; its C code is a witness."""

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import Dyadic
from intsim.kernels import cmsis_nn, litert, litert_nonlinear

MULTIPLIERS = st.integers(2**30, 2**31 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)


def wrapped(x, bits=32):
    return (x + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def vector(x, multiplier, e):
    """VSHL, VQDMULH and VRSHL, of one lane."""
    right = min(-1, e)
    shifted = wrapped(x << e - right)
    high = min(2 * shifted * multiplier >> 32, 2**31 - 1)
    return high + (1 << -right - 1) >> -right


@given(INT32, MULTIPLIERS, st.integers(-31, 30))
@example(2**30 - 1, 2**30, 0)
@example(2**30, 2**30, 0)
@example(-(2**30), 2**30, 0)
@example(2**30, 2**30, -1)
def test_single_rounding_of_vectors_wraps_where_they_do(x, multiplier, e):
    ratio = Dyadic(multiplier, 31 - e)
    got = cmsis_nn.requantize_mve_single(np.array([x]), ratio).tolist()
    assert got == [vector(x, multiplier, e)]
    fits = e < 0 or -(2**31) <= x * 2 ** (e + 1) < 2**31
    same = got == litert.multiply_by_quantized_multiplier_single(np.array([x]), ratio).tolist()
    assert same or not fits


def test_the_bound_of_vectors_is_tight():
    """From |x| 2**(e + 1) = 2**31 on."""
    for e in (0, 5, 30):
        ratio, first = Dyadic(2**30, 31 - e), 2 ** (30 - e)
        below, at = np.array([first - 1]), np.array([first])
        assert cmsis_nn.requantize_mve_single(below, ratio) == litert.multiply_by_quantized_multiplier_single(
            below, ratio
        )
        assert cmsis_nn.requantize_mve_single(at, ratio) == -litert.multiply_by_quantized_multiplier_single(at, ratio)


@given(st.integers(-(2**47), 2**47 - 1), st.integers(2**23, 2**24 - 1), st.integers(-31, 7))
@example(2**31 - 1, 2**23, 0)
@example(2**31, 2**23, 0)
@example(-(2**31), 2**23, 0)
def test_a_quotient_of_int64_wraps_with_one_bit_left(acc, significand, e):
    scale = Fraction(significand, 2**24) * Fraction(2) ** e
    reduced = min(significand * 2**7 + 2**15 >> 16, 2**15 - 1)
    quotient = wrapped(acc * reduced >> 14 - e)
    got = cmsis_nn.requantize_int64(np.array([acc]), [scale], Fraction(1)).tolist()
    assert got == [wrapped(quotient + 1) >> 1]
    exact = litert.requantize_int64(np.array([acc]), [scale], Fraction(1)).tolist()[0]
    assert (got == [exact]) == (-(2**30) <= exact < 2**30)


def test_a_row_of_one_column_is_not_saturated():
    settings = {"scale": Fraction(1, 2**10)}
    one, two = np.array([[-5], [7]], np.int16), np.array([[7, -(2**15)]], np.int16)
    assert litert_nonlinear.softmax_int16(one, **settings).tolist() == [[2**15 - 1]] * 2
    assert cmsis_nn.softmax_int16(one, **settings).tolist() == [[-(2**15)]] * 2
    assert (cmsis_nn.softmax_int16(two, **settings) == litert_nonlinear.softmax_int16(two, **settings)).all()


@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.integers(4, 16))
def test_a_row_of_two_columns_never_wraps(columns, seed, fraction):
    x_q = np.random.default_rng(seed).integers(-(2**15), 2**15, (4, columns)).astype(np.int16)
    settings = {"scale": Fraction(1, 2**fraction)}
    assert (cmsis_nn.softmax_int16(x_q, **settings) == litert_nonlinear.softmax_int16(x_q, **settings)).all()
