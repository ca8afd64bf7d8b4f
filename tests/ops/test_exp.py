# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import all_inputs, both_presets, every_other_dtype_than_int16, every_preset, every_rounding
from hypothesis import given
from hypothesis import strategies as st

from intsim.carrier import blocks
from intsim.fixedpoint import Rounding
from intsim.ops import exp
from intsim.profile import IBERT, INTSIM

DOMAIN = np.arange(-(2**15), 1).astype(np.int16)


@all_inputs
def test_every_input_agrees_with_the_oracle(profile, some):
    numbers = profile.to_json()
    e = exp(DOMAIN[some], profile=profile)
    assert e.dtype == np.int32
    assert e.tolist() == [oracle.exp(x, numbers) for x in DOMAIN[some].tolist()]


@every_preset
@every_rounding
def test_every_step_rounding_agrees_with_the_oracle(profile, rounding):
    other = replace(
        profile, step_rounding=Rounding(rounding), rounding=Rounding.FLOOR if rounding != "floor" else Rounding.HALF_UP
    )
    numbers = other.to_json()
    x = DOMAIN[::7]
    assert exp(x, profile=other).tolist() == [oracle.exp(value, numbers) for value in x.tolist()]


@given(
    input_fraction=st.integers(10, 11),
    guard_bits=st.integers(0, 3),
    output_shift=st.integers(0, 14),
    a=st.sampled_from(["0.3585", "0.3509", "0.35815147"]),
    x=st.lists(st.integers(-(2**15), 0), min_size=1, max_size=20),
)
def test_any_fixed_point_format_agrees_with_the_oracle(input_fraction, guard_bits, output_shift, a, x):
    rule = replace(INTSIM.exp, input_fraction=input_fraction, guard_bits=guard_bits, output_shift=output_shift, a=a)
    profile = replace(INTSIM, exp=rule)
    numbers = profile.to_json()
    assert exp(np.array(x, np.int16), profile=profile).tolist() == [oracle.exp(value, numbers) for value in x]


def test_a_format_whose_shift_passes_62_is_refused():
    with pytest.raises(ValueError, match="exp must shift by at most 62 bits"):
        replace(INTSIM.exp, input_fraction=6, guard_bits=0, output_shift=0)


@every_preset
def test_the_largest_value_is_that_of_0_and_none_is_negative(profile):
    e = exp(DOMAIN, profile=profile)
    assert e.max() == e[-1]
    assert e.min() >= 0
    assert e[-1] < 2**24  # the bound of tanh, sigmoid and softmax


@both_presets
def test_halving_by_ln2_halves_the_result(profile):
    q_ln2, _, _ = profile.exp.constants(profile.step_rounding)
    step = q_ln2 >> profile.exp.guard_bits
    e = exp(DOMAIN, profile=profile)
    whole = e[-1 - 2**10 : -1]
    assert (abs(e[-1 - 2**10 - step : -1 - step] * 2 - whole) <= whole[-1] // 2**10 + 2).all()


@every_preset
def test_every_shape_is_kept(profile):
    x = DOMAIN[:24].reshape(2, 3, 4)
    e = exp(x, profile=profile)
    assert e.shape == x.shape
    assert np.array_equal(e.ravel(), exp(x.ravel(), profile=profile))
    assert exp(np.empty((0, 4), np.int16), profile=profile).shape == (0, 4)
    assert exp(x[::-1, ::2], profile=profile).tolist() == e[::-1, ::2].tolist()


@every_preset
def test_a_tensor_of_many_blocks_is_looked_up_like_a_row(profile, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    x = np.random.default_rng(0).permutation(DOMAIN)[:30_000].reshape(4, 75, 100)
    assert np.array_equal(exp(x, profile=profile).ravel(), exp(x.ravel(), profile=profile))


@every_preset
def test_the_result_may_be_changed_without_changing_the_next(profile):
    first = exp(DOMAIN, profile=profile)
    before = first.copy()
    first[:] = 7
    assert np.array_equal(exp(DOMAIN, profile=profile), before)


@pytest.mark.parametrize("x", [1, 2**15 - 1])
def test_a_positive_input_is_refused(x):
    with pytest.raises(ValueError, match=f"x_q must be at most 0, got {x}"):
        exp(np.array([0, x], np.int16), profile=INTSIM)


@every_other_dtype_than_int16
def test_any_other_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have dtype int16"):
        exp(np.zeros(3, dtype), profile=IBERT)
