# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from edges import every_other_dtype_than_integers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.ops import pick_token
from intsim.reference.ops.pick_token import pick_token as real

both_ends = pytest.mark.parametrize("which", ["first", "last"])


@both_ends
@given(data=st.data())
def test_the_token_is_that_of_the_oracle_and_of_the_twin(which, data):
    batch, tokens, channels = (data.draw(st.integers(1, 5)) for _ in range(3))
    x = data.draw(hnp.arrays(st.sampled_from([np.int8, np.int16, np.int32]), (batch, tokens, channels)))
    mask = data.draw(hnp.arrays(np.bool_, (batch, tokens)))
    mask[np.arange(batch), data.draw(hnp.arrays(np.int64, batch, elements=st.integers(0, tokens - 1)))] = True
    y = pick_token(x, mask, which=which)
    assert y.dtype == x.dtype
    assert y.tolist() == [oracle.pick_token(*row, which) for row in zip(x.tolist(), mask.tolist(), strict=True)]
    assert real(x.astype(np.float64), mask, which=which).tolist() == y.tolist()


@both_ends
def test_leading_axes_are_kept_and_need_not_be_there(which):
    rng = np.random.default_rng(0)
    x, mask = rng.integers(-128, 128, (2, 3, 4, 5)).astype(np.int8), rng.random((2, 3, 4)) < 0.5
    mask[..., 1] = True
    y = pick_token(x, mask, which=which)
    for index in np.ndindex(2, 3):
        alone = pick_token(x[index], mask[index], which=which)
        assert alone.tolist() == oracle.pick_token(x[index].tolist(), mask[index].tolist(), which)
        assert np.array_equal(y[index], alone)


@both_ends
def test_a_sequence_without_a_token_is_refused(which):
    mask = np.array([[True, False], [False, False]])
    with pytest.raises(ValueError, match="mask must be true at one token at least"):
        pick_token(np.zeros((2, 2, 3), np.int8), mask, which=which)


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_a_mask_that_is_not_boolean_is_refused(dtype):
    with pytest.raises(TypeError, match="mask must have dtype bool"):
        pick_token(np.zeros((1, 2, 3), np.int8), np.ones((1, 2), dtype), which="first")


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have an integer dtype"):
        pick_token(np.zeros((1, 2, 3), dtype), np.ones((1, 2), bool), which="last")
