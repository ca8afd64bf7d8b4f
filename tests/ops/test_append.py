# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.ops import append


@given(data=st.data(), batch=st.integers(1, 3), channels=st.integers(1, 3), columns=st.integers(0, 4))
def test_new_rows_follow_the_earlier_ones(data, batch, channels, columns):
    tokens = data.draw(st.integers(1, 4))
    count = batch * (columns + tokens) * channels
    whole = np.arange(count, dtype=np.int16).reshape(batch, columns + tokens, channels)
    found = append(whole[:, :columns], whole[:, columns:])
    assert found.dtype == np.int16
    assert np.array_equal(found, whole)


def test_dtypes_are_one_and_of_integers():
    codes = np.zeros((1, 2, 3), np.int8)
    with pytest.raises(TypeError, match="new must have the dtype of past, int8, got int16"):
        append(codes, codes.astype(np.int16))
    with pytest.raises(TypeError, match="past"):
        append(codes.astype(np.float32), codes.astype(np.float32))
