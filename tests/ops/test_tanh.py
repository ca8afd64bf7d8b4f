# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import all_inputs, every_other_dtype_than_int16, every_preset, every_rounding

from intsim.carrier import blocks
from intsim.fixedpoint import Rounding
from intsim.ops import tanh
from intsim.profile import INTSIM

DOMAIN = np.arange(-(2**15), 2**15).astype(np.int16)


@all_inputs
def test_every_input_agrees_with_the_oracle(profile, some):
    numbers = profile.to_json()
    y = tanh(DOMAIN[some], profile=profile)
    assert y.dtype == np.int16
    assert y.tolist() == [oracle.tanh(x, numbers) for x in DOMAIN[some].tolist()]


@every_preset
@every_rounding
def test_every_step_rounding_agrees_with_the_oracle(profile, rounding):
    other = replace(
        profile, step_rounding=Rounding(rounding), rounding=Rounding.FLOOR if rounding != "floor" else Rounding.HALF_UP
    )
    numbers = other.to_json()
    x = DOMAIN[::13]
    assert tanh(x, profile=other).tolist() == [oracle.tanh(value, numbers) for value in x.tolist()]


@every_preset
def test_tanh_is_odd_and_within_1(profile):
    y = tanh(DOMAIN, profile=profile).astype(int)
    assert (abs(y) <= 2**14).all()
    assert np.array_equal(y[1:], -y[:0:-1])
    assert y[2**15] == 0


@every_preset
def test_tanh_saturates_at_the_ends(profile):
    one = int(tanh(DOMAIN, profile=profile)[-1])
    assert 2**14 - 2**6 < one <= 2**14


@every_preset
def test_every_shape_is_kept(profile):
    x = DOMAIN[:24].reshape(2, 3, 4)
    y = tanh(x, profile=profile)
    assert y.shape == x.shape
    assert np.array_equal(y.ravel(), tanh(x.ravel(), profile=profile))
    assert tanh(np.empty((0, 4), np.int16), profile=profile).shape == (0, 4)
    assert tanh(x[::-1, ::2], profile=profile).tolist() == y[::-1, ::2].tolist()


@every_preset
def test_a_tensor_of_many_blocks_is_looked_up_like_a_row(profile, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    x = np.random.default_rng(0).permutation(DOMAIN)[:30_000].reshape(4, 75, 100)
    assert np.array_equal(tanh(x, profile=profile).ravel(), tanh(x.ravel(), profile=profile))


@every_preset
def test_the_result_may_be_changed_without_changing_the_next(profile):
    first = tanh(DOMAIN, profile=profile)
    before = first.copy()
    first[:] = 7
    assert np.array_equal(tanh(DOMAIN, profile=profile), before)


@every_other_dtype_than_int16
def test_any_other_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have dtype int16"):
        tanh(np.zeros(3, dtype), profile=INTSIM)
