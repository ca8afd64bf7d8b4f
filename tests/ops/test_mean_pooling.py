# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import both_presets, edge_integers, every_other_dtype_than_integers, profiles
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.fixedpoint import Rounding
from intsim.ops import mean_pooling
from intsim.profile import INTSIM


@st.composite
def sequences(draw):
    """Codes (T, C) of any dtype, a mask with one token at least, a zero point."""
    dtype = np.dtype(draw(st.sampled_from(["int8", "uint8", "int16", "int32"])))
    info = np.iinfo(dtype)
    tokens, channels = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    codes = st.integers(-3, 3) if info.min else st.integers(0, 6)
    x = draw(hnp.arrays(dtype, (tokens, channels), elements=codes | edge_integers(int(info.min), int(info.max))))
    mask = draw(hnp.arrays(np.bool_, tokens))
    mask[draw(st.integers(0, tokens - 1))] = True
    zero_point = draw(st.sampled_from([0, 1, -3, int(max(info.min, -(2**15)))]))
    return x, mask, zero_point


@given(case=sequences(), profile=profiles)
def test_the_mean_is_that_of_the_oracle(case, profile):
    x, mask, zero_point = case
    y = mean_pooling(x, mask, profile=profile, zero_point=zero_point)
    mean = oracle.mean_pooling(x.tolist(), mask.tolist(), zero_point, profile.to_json())
    assert y.dtype == np.int32
    assert y.tolist() == [oracle.saturate(value, -(2**31), 2**31 - 1) for value in mean]


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [("floor", -2), ("toward-zero", -1), ("half-up", -1), ("half-away", -2), ("half-even", -2)],
)
def test_a_mean_of_minus_three_halves_goes_where_the_rounding_says(rounding, expected):
    x, mask = np.array([[-1], [-2]], np.int8), np.ones(2, bool)
    profile = replace(INTSIM, step_rounding=Rounding(rounding))
    assert mean_pooling(x, mask, profile=profile).tolist() == [expected]


@both_presets
def test_masked_tokens_count_for_nothing(profile):
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (3, 9, 5)).astype(np.int8)
    mask = np.arange(9) < np.array([[9], [4], [1]])
    y = mean_pooling(x, mask, profile=profile, zero_point=7)
    other = np.where(mask[..., None], x, rng.integers(-128, 128, x.shape)).astype(np.int8)
    assert np.array_equal(y, mean_pooling(other, mask, profile=profile, zero_point=7))
    for i, count in enumerate((9, 4, 1)):
        alone = mean_pooling(x[i, :count], np.ones(count, bool), profile=profile, zero_point=7)
        assert np.array_equal(y[i], alone)
    assert y[2].tolist() == (x[2, 0].astype(int) - 7).tolist()


@both_presets
def test_the_order_of_the_tokens_does_not_matter(profile):
    rng = np.random.default_rng(1)
    x, mask, order = rng.integers(-128, 128, (9, 5)).astype(np.int8), rng.random(9) < 0.5, rng.permutation(9)
    mask[0] = True
    y = mean_pooling(x, mask, profile=profile)
    assert np.array_equal(y, mean_pooling(x[order], mask[order], profile=profile))


def test_a_long_sequence_of_the_lowest_int32_is_exact():
    x = np.full((1000, 1), -(2**31), np.int32)
    assert mean_pooling(x, np.ones(1000, bool), profile=INTSIM).tolist() == [-(2**31)]


@both_presets
def test_a_sequence_without_a_token_is_refused(profile):
    x, mask = np.zeros((2, 3, 4), np.int8), np.array([[True, False, False], [False] * 3])
    with pytest.raises(ValueError, match="mask must be true at one token at least"):
        mean_pooling(x, mask, profile=profile)


@pytest.mark.parametrize("dtype", ["int64", ">i8"])
def test_codes_of_more_than_32_bits_are_refused(dtype):
    with pytest.raises(TypeError, match="at most 32 bits"):
        mean_pooling(np.full((4, 1), 2**62, dtype), np.ones(4, bool), profile=INTSIM)


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have an integer dtype"):
        mean_pooling(np.zeros((2, 3), dtype), np.ones(2, bool), profile=INTSIM)


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_a_mask_that_is_not_boolean_is_refused(dtype):
    with pytest.raises(TypeError):
        mean_pooling(np.zeros((2, 3), np.int8), np.ones(2, dtype), profile=INTSIM)
