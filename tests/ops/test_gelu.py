# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import all_inputs, both_presets, every_other_dtype_than_int16, every_preset, every_rounding

from intsim.carrier import blocks
from intsim.fixedpoint import Rounding
from intsim.ops import gelu
from intsim.profile import INTSIM, PROFILES

DOMAIN = np.arange(-(2**15), 2**15).astype(np.int16)


@all_inputs
def test_every_input_agrees_with_the_oracle(profile, some):
    numbers = profile.to_json()
    y = gelu(DOMAIN[some], profile=profile)
    assert y.dtype == np.int32
    assert y.tolist() == [oracle.gelu(x, numbers) for x in DOMAIN[some].tolist()]


@every_preset
@every_rounding
def test_every_step_rounding_agrees_with_the_oracle(profile, rounding):
    other = replace(
        profile, step_rounding=Rounding(rounding), rounding=Rounding.FLOOR if rounding != "floor" else Rounding.HALF_UP
    )
    numbers = other.to_json()
    x = DOMAIN[::13]
    assert gelu(x, profile=other).tolist() == [oracle.gelu(value, numbers) for value in x.tolist()]


@both_presets
def test_beyond_the_clip_it_is_0_or_linear(profile):
    q_b, q_1 = profile.gelu.constants(profile.step_rounding)
    y = gelu(DOMAIN, profile=profile)
    assert not y[q_b >= DOMAIN].any()
    beyond = DOMAIN[-q_b <= DOMAIN].tolist()
    shift, mode = profile.gelu.output_shift, profile.step_rounding
    assert y[-q_b <= DOMAIN].tolist() == [oracle.rounding_shift(-x * 2 * q_1, shift, mode) for x in beyond]


@every_preset
def test_gelu_of_0_is_0(profile):
    assert gelu(np.zeros(3, np.int16), profile=profile).tolist() == [0, 0, 0]


@every_preset
def test_no_result_is_cut_off_by_int32(profile):
    y = gelu(DOMAIN, profile=profile)
    assert -(2**31) < y.min() < 0 < y.max() < 2**31 - 1


@every_preset
def test_every_shape_is_kept(profile):
    x = DOMAIN[:24].reshape(2, 3, 4)
    y = gelu(x, profile=profile)
    assert y.shape == x.shape
    assert np.array_equal(y.ravel(), gelu(x.ravel(), profile=profile))
    assert gelu(np.empty((0, 4), np.int16), profile=profile).shape == (0, 4)
    assert gelu(x[::-1, ::2], profile=profile).tolist() == y[::-1, ::2].tolist()


@every_preset
def test_a_tensor_of_many_blocks_is_looked_up_like_a_row(profile, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    x = np.random.default_rng(0).permutation(DOMAIN)[:30_000].reshape(4, 75, 100)
    assert np.array_equal(gelu(x, profile=profile).ravel(), gelu(x.ravel(), profile=profile))


@every_preset
def test_the_result_may_be_changed_without_changing_the_next(profile):
    first = gelu(DOMAIN, profile=profile)
    before = first.copy()
    first[:] = 7
    assert np.array_equal(gelu(DOMAIN, profile=profile), before)


@pytest.mark.parametrize("name", ["ita", "ita-2024"])
def test_a_rule_of_another_project_takes_the_dtype_of_its_range(name):
    profile = PROFILES[name]
    codes = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(gelu(codes, profile=profile), profile.gelu(codes))
    with pytest.raises(TypeError, match="x_q must have dtype int8, got int16"):
        gelu(codes.astype(np.int16), profile=profile)


@every_other_dtype_than_int16
def test_any_other_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have dtype int16"):
        gelu(np.zeros(3, dtype), profile=INTSIM)
