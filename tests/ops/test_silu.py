# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import all_inputs, both_presets, every_other_dtype_than_int16, every_preset, every_rounding

from intsim._trace import call, trace
from intsim.carrier import blocks
from intsim.fixedpoint import Rounding
from intsim.ops import sigmoid, silu
from intsim.profile import INTSIM, Silu

DOMAIN = np.arange(-(2**15), 2**15).astype(np.int16)


@all_inputs
def test_every_input_agrees_with_the_oracle(profile, some):
    numbers = profile.to_json()
    y = silu(DOMAIN[some], profile=profile)
    assert y.dtype == np.int32
    assert y.tolist() == [oracle.silu(x, numbers) for x in DOMAIN[some].tolist()]


@every_preset
@every_rounding
def test_every_step_rounding_agrees_with_the_oracle(profile, rounding):
    other = replace(
        profile, step_rounding=Rounding(rounding), rounding=Rounding.FLOOR if rounding != "floor" else Rounding.HALF_UP
    )
    numbers = other.to_json()
    x = DOMAIN[::13]
    assert silu(x, profile=other).tolist() == [oracle.silu(value, numbers) for value in x.tolist()]


def gates(profile):
    """The sigmoid of every input, brought to the two more fraction bits of exp."""
    return sigmoid((DOMAIN.astype(int) * 4).clip(-(2**15), 2**15 - 1).astype(np.int16), profile=profile)


@both_presets
def test_every_result_is_the_exact_product_with_sigmoid(profile):
    y = silu(DOMAIN, profile=profile).astype(int)
    assert np.array_equal(y, DOMAIN.astype(int) * gates(profile))
    assert abs(y).max() <= 2 ** (15 + profile.sigmoid.output_fraction)


@both_presets
@pytest.mark.parametrize("input_fraction", [0, 8, 11, 12, 15])
def test_every_input_format_agrees_with_the_oracle(profile, input_fraction):
    other = replace(profile, silu=Silu(input_fraction=input_fraction))
    numbers = other.to_json()
    x = DOMAIN[::7]
    assert silu(x, profile=other).tolist() == [oracle.silu(value, numbers) for value in x.tolist()]


@both_presets
def test_in_the_format_of_exp_it_is_x_times_sigmoid(profile):
    other = replace(profile, silu=Silu(input_fraction=profile.exp.input_fraction))
    gate = sigmoid(DOMAIN, profile=profile).astype(int)
    assert silu(DOMAIN, profile=other).tolist() == (DOMAIN.astype(int) * gate).tolist()


@both_presets
def test_silu_of_x_less_silu_of_minus_x_is_x(profile):
    y = silu(DOMAIN, profile=profile).astype(int)
    positive = slice(2**15 + 1, None)
    assert np.array_equal(y[positive] - y[2**15 - 1 : 0 : -1], DOMAIN[positive].astype(int) << 14)
    assert y[2**15] == 0


@both_presets
def test_a_trace_shows_the_factor_sigmoid(profile):
    with trace("steps") as steps:
        y = call("act", silu, DOMAIN, profile=profile)
    assert np.array_equal(steps["act:sigmoid"], gates(profile))
    assert np.array_equal(y, silu(DOMAIN, profile=profile))


@every_preset
def test_every_shape_is_kept(profile):
    x = DOMAIN[:24].reshape(2, 3, 4)
    y = silu(x, profile=profile)
    assert y.shape == x.shape
    assert np.array_equal(y.ravel(), silu(x.ravel(), profile=profile))
    assert silu(np.empty((0, 4), np.int16), profile=profile).shape == (0, 4)
    assert silu(x[::-1, ::2], profile=profile).tolist() == y[::-1, ::2].tolist()


@every_preset
def test_a_tensor_of_many_blocks_is_looked_up_like_a_row(profile, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    x = np.random.default_rng(0).permutation(DOMAIN)[:30_000].reshape(4, 75, 100)
    assert np.array_equal(silu(x, profile=profile).ravel(), silu(x.ravel(), profile=profile))


@every_preset
def test_the_result_may_be_changed_without_changing_the_next(profile):
    first = silu(DOMAIN, profile=profile)
    before = first.copy()
    first[:] = 7
    assert np.array_equal(silu(DOMAIN, profile=profile), before)


@every_other_dtype_than_int16
def test_any_other_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have dtype int16"):
        silu(np.zeros(3, dtype), profile=INTSIM)
