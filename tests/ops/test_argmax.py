# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from edges import edge_integers, every_other_dtype_than_integers
from hypothesis import given
from hypothesis import strategies as st

from intsim.ops import argmax


@given(st.lists(st.integers(-2, 2) | edge_integers(-(2**31), 2**31 - 1), min_size=1, max_size=8))
def test_the_first_of_the_largest_is_found(row):
    index = argmax(np.array([row, row[::-1]], np.int32))
    assert index.dtype == np.int64
    assert index.tolist() == [row.index(max(row)), row[::-1].index(max(row))]


def test_the_last_axis_is_searched():
    x = np.array([[[1, 5, 3], [9, 9, 0]]], np.int8)
    assert argmax(x).tolist() == [[1, 0]]


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have an integer dtype"):
        argmax(np.zeros((2, 3), dtype))
