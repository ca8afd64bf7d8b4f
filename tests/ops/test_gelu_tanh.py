# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from edges import all_inputs, both_presets, every_other_dtype_than_int16, every_preset

from intsim.carrier import blocks
from intsim.ops import gelu, gelu_tanh
from intsim.profile import INTSIM, INTSIM_WIDE, PROFILES

DOMAIN = np.arange(-(2**15), 2**15).astype(np.int16)


@all_inputs
def test_every_input_agrees_with_the_oracle(profile, some):
    numbers = profile.to_json()
    y = gelu_tanh(DOMAIN[some], profile=profile)
    assert y.dtype == np.int32
    assert y.tolist() == [oracle.gelu_tanh(x, numbers) for x in DOMAIN[some].tolist()]


@both_presets
def test_a_polynomial_stands_for_both_forms(profile):
    assert np.array_equal(gelu_tanh(DOMAIN, profile=profile), gelu(DOMAIN, profile=profile))


def test_so_does_another_projects_rule():
    profile = PROFILES["ibert-code"]
    assert np.array_equal(gelu_tanh(DOMAIN, profile=profile), gelu(DOMAIN, profile=profile))


def test_correctly_rounded_it_is_a_function_of_its_own():
    y, erf = gelu_tanh(DOMAIN, profile=INTSIM_WIDE), gelu(DOMAIN, profile=INTSIM_WIDE)
    assert 2000 < np.count_nonzero(y != erf) < 6000  # where neither is 0 or x


@every_preset
def test_every_shape_is_kept(profile):
    x = DOMAIN[:24].reshape(2, 3, 4)
    y = gelu_tanh(x, profile=profile)
    assert y.shape == x.shape
    assert np.array_equal(y.ravel(), gelu_tanh(x.ravel(), profile=profile))
    assert gelu_tanh(np.empty((0, 4), np.int16), profile=profile).shape == (0, 4)
    assert gelu_tanh(x[::-1, ::2], profile=profile).tolist() == y[::-1, ::2].tolist()


@every_preset
def test_a_tensor_of_many_blocks_is_looked_up_like_a_row(profile, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    x = np.random.default_rng(0).permutation(DOMAIN)[:30_000].reshape(4, 75, 100)
    assert np.array_equal(gelu_tanh(x, profile=profile).ravel(), gelu_tanh(x.ravel(), profile=profile))


@every_preset
def test_the_result_may_be_changed_without_changing_the_next(profile):
    first = gelu_tanh(DOMAIN, profile=profile)
    before = first.copy()
    first[:] = 7
    assert np.array_equal(gelu_tanh(DOMAIN, profile=profile), before)


@pytest.mark.parametrize("profile", [INTSIM, INTSIM_WIDE], ids=lambda profile: profile.name)
@every_other_dtype_than_int16
def test_any_other_dtype_is_refused(dtype, profile):
    with pytest.raises(TypeError, match="x_q must have dtype int16"):
        gelu_tanh(np.zeros(3, dtype), profile=profile)
