# SPDX-License-Identifier: Apache-2.0
"""gemmlowp's functions against the real ones, and its rounding where it is easily mistaken."""

import math

import numpy as np
import pytest

from intsim.fixedpoint import INT16, INT32
from intsim.kernels import gemmlowp

BITS = range(6)
RNG = np.random.default_rng(0)
CODES = np.concatenate([RNG.integers(INT32.min, INT32.max, 50_000), [0, 1, -1, INT32.max, INT32.min + 1]])


def real(x, integer_bits):
    return x * 2.0 ** (integer_bits - 31)


def error(y, expected):
    """In units of 2**-31."""
    return np.abs(y - expected * 2**31).max()


def test_the_constants_are_the_numbers_they_stand_for():
    for value, (raw, integer_bits) in gemmlowp.CONSTANTS.items():
        assert raw == round(value * 2 ** (31 - integer_bits))
    assert round(math.exp(-1 / 8) * 2**31) == gemmlowp.EXP_MINUS_ONE_EIGHTH
    assert round(math.sqrt(0.5) * 2**31) == gemmlowp.HALF_SQRT_2
    assert {k: round(math.exp(-(2.0**k)) * 2**31) for k in range(-2, 5)} == gemmlowp.EXP_MINUS_POWERS


def test_the_high_product_rounds_halves_up_and_saturates_once():
    a = np.array([1, -1, 3, -3, INT32.min, INT32.min])
    b = np.array([2**30, 2**30, 2**30, 2**30, INT32.min, INT32.max])
    assert gemmlowp.saturating_rounding_doubling_high_mul(a, b).tolist() == [1, 0, 2, -1, INT32.max, -INT32.max]
    lowest = np.array([INT16.min])
    assert gemmlowp.saturating_rounding_doubling_high_mul(lowest, lowest, bits=16).tolist() == [INT16.max]


def test_division_by_a_power_of_two_rounds_halves_away_from_zero():
    x = np.array([5, -5, 6, -6, 7, -7])
    assert gemmlowp.rounding_divide_by_pot(x, 2).tolist() == [1, -1, 2, -2, 2, -2]
    assert gemmlowp.rounding_half_sum(np.array([1, -1]), 2).tolist() == [2, 1]


def test_rescaling_saturates_to_the_left_and_rounds_to_the_right():
    assert gemmlowp.rescale(np.array([2**30, -(2**30) - 1]), 1, 0).tolist() == [INT32.max, INT32.min]
    assert gemmlowp.rescale(np.array([2, -2, 1]), 0, 2).tolist() == [1, -1, 0]
    assert gemmlowp.rescale(np.array([2**14]), 1, 0, bits=16).tolist() == [INT16.max]


@pytest.mark.parametrize("bits", BITS)
def test_exp_is_as_close_as_it_says(bits):
    x = -np.abs(CODES)
    assert error(gemmlowp.exp_on_negative_values(x, bits), np.exp(real(x, bits))) <= 500
    assert gemmlowp.exp_on_negative_values(np.array([0]), bits).tolist() == [INT32.max]


@pytest.mark.parametrize("bits", BITS)
def test_logistic_is_as_close_as_it_says(bits):
    y = gemmlowp.logistic(CODES, bits)
    assert error(y, 1 / (1 + np.exp(-real(CODES, bits)))) <= 200
    assert (y + gemmlowp.logistic(-CODES, bits))[CODES != 0].tolist() == [INT32.max] * np.count_nonzero(CODES)


@pytest.mark.parametrize("bits", BITS[:-1])
def test_tanh_is_as_close_as_it_says(bits):
    y = gemmlowp.tanh(CODES, bits)
    assert error(y, np.tanh(real(CODES, bits))) <= 400
    assert (y == -gemmlowp.tanh(-CODES, bits)).all()


def test_sixteen_bits_stay_sixteen_bits():
    x = np.arange(INT16.min, INT16.max + 1)
    for y, expected in (
        (gemmlowp.logistic(x, 3, bits=16), 1 / (1 + np.exp(-x / 2**12))),
        (gemmlowp.tanh(x, 3, bits=16), np.tanh(x / 2**12)),
    ):
        assert INT16.min <= y.min()
        assert y.max() <= INT16.max
        assert np.abs(y - expected * 2**15).max() <= 32


def test_the_inverse_square_root_has_nineteen_good_bits():
    n = np.concatenate([np.arange(2, 3000), 2 ** np.arange(1, 31), 2 ** np.arange(3, 31) - 1, np.abs(CODES).clip(2)])
    m, e = gemmlowp.inverse_sqrt(n)
    assert np.abs(m * 2.0 ** (e - 31) * np.sqrt(n) - 1).max() < 2**-19
    assert ((m > 0) & (m <= INT32.max) & (e <= 0)).all()
    assert [part.tolist() for part in gemmlowp.inverse_sqrt(np.array([0, 1]))] == [[INT32.max] * 2, [0, 0]]
