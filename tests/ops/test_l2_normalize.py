# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import both_presets, edge_integers, every_other_dtype_than_integers, every_rounding, profiles
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim._trace import call, trace
from intsim.carrier import blocks
from intsim.fixedpoint import Rounding
from intsim.ops import l2_normalize
from intsim.profile import INTSIM
from intsim.reference.ops.l2_normalize import l2_normalize as real

INT16 = edge_integers(-(2**15), 2**15 - 1)


@given(
    x=hnp.arrays(np.int16, hnp.array_shapes(min_dims=1, max_dims=2, max_side=7), elements=st.integers(-3, 3) | INT16),
    profile=profiles,
)
def test_rows_are_those_of_the_oracle(x, profile):
    y = l2_normalize(x, profile=profile)
    assert y.dtype == np.int32
    numbers = profile.to_json()
    rows = [oracle.l2_normalize(row, numbers) for row in x.reshape(-1, x.shape[-1]).tolist()]
    assert y.reshape(-1, x.shape[-1]).tolist() == rows


@both_presets
def test_every_pair_of_codes_of_7_bits_agrees_with_the_oracle(profile):
    codes = np.arange(-64, 64)
    x = np.stack(np.meshgrid(codes, codes), axis=-1).reshape(-1, 2).astype(np.int8)
    numbers = profile.to_json()
    assert l2_normalize(x, profile=profile).tolist() == [oracle.l2_normalize(row, numbers) for row in x.tolist()]


@every_rounding
def test_ties_go_where_the_rounding_says(rounding):
    rng = np.random.default_rng(0)
    x = rng.integers(8000, 8300, (40, 256)) | 1  # the root is 2**25, so that y = x / 2
    for row in x:  # a sum of squares of 2**34
        row[-4:] = 0
        for place in range(-4, 0):
            row[place] = math.isqrt(2**34 - int((row * row).sum()))
    assert (abs((x * x).sum(axis=-1) - 2**34) < 8).all()
    x *= rng.choice([-1, 1], x.shape)
    x[:, -1] += (x * x).sum(axis=-1) < 2**34  # or a little more
    profile = replace(INTSIM, step_rounding=Rounding(rounding))
    numbers = profile.to_json()
    y = l2_normalize(x.astype(np.int16), profile=profile)
    assert y.tolist() == [oracle.l2_normalize(row, numbers) for row in x.tolist()]
    tied = np.array([math.isqrt(int(s) << 16) == 2**25 for s in (x * x).sum(axis=-1)])
    assert tied.sum() > 10
    assert (np.abs(2 * y[tied] - x[tied]) <= 1 + (rounding in ("floor", "toward-zero"))).all()


@given(x=hnp.arrays(np.int16, (3, 40), elements=INT16))
def test_the_error_is_within_its_bound(x):
    y = l2_normalize(x, profile=INTSIM) * 2.0**-16
    exact = real(x.astype(np.float64))
    length = np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)
    bound = 2.0**-17 + np.abs(exact) / np.maximum(256 * length - 1, 1)
    assert (np.abs(y - exact) <= bound * (1 + 1e-9)).all()
    assert (np.abs(y) <= 1).all()


@both_presets
def test_a_single_channel_becomes_one_and_zeros_stay(profile):
    x = np.zeros((5, 3), np.int16)
    x[:4, 1] = [1, -1, 2**15 - 1, -(2**15)]
    assert l2_normalize(x, profile=profile)[:, 1].tolist() == [2**16, -(2**16), 2**16, -(2**16), 0]


@both_presets
def test_codes_of_any_dtype_give_the_same(profile):
    x = np.random.default_rng(0).integers(-128, 128, (4, 5, 9))
    y = l2_normalize(x.astype(np.int8), profile=profile)
    assert y.shape == x.shape
    for dtype in ("int16", "int32", "int64"):
        assert np.array_equal(l2_normalize(x.astype(dtype), profile=profile), y)


@both_presets
def test_many_blocks_give_what_one_gives(profile, monkeypatch):
    x = np.random.default_rng(1).integers(-(2**15), 2**15, (300, 70)).astype(np.int16)
    y = l2_normalize(x, profile=profile)
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    assert np.array_equal(l2_normalize(x, profile=profile), y)


def test_the_largest_row_is_exact_and_a_longer_one_is_refused():
    x = np.full((1, 2**14), -(2**15), np.int16)
    assert set(l2_normalize(x, profile=INTSIM).ravel().tolist()) == {-(2**9)}
    with pytest.raises(ValueError, match="at most 16384 channels, got 16385"):
        l2_normalize(np.ones((1, 2**14 + 1), np.int8), profile=INTSIM)


@both_presets
def test_a_trace_shows_the_sum_of_squares_and_the_root(profile):
    x = np.array([[3, 4], [0, 0]], np.int16)
    with trace("steps") as steps:
        call("normalize", l2_normalize, x, profile=profile)
    assert steps["normalize:squares"].tolist() == [[25], [0]]
    assert steps["normalize:root"].tolist() == [[5 * 256], [0]]


def test_codes_of_more_than_16_bits_are_refused():
    with pytest.raises(ValueError, match="at most 16 bits, got up to 32769"):
        l2_normalize(np.array([0, -(2**15) - 1]), profile=INTSIM)


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have an integer dtype"):
        l2_normalize(np.zeros((2, 3), dtype), profile=INTSIM)
