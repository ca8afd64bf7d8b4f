# SPDX-License-Identifier: Apache-2.0
"""neighbours: every token between its next and its previous one."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.fixedpoint import INT8
from intsim.ops import neighbours
from intsim.strategies import code_arrays


@given(
    x=code_arrays(INT8, shape=(2, 5, 3)),
    mask=st.lists(st.booleans(), min_size=10, max_size=10),
    zero_point=st.integers(-128, 127),
)
def test_neighbours_are_those_of_the_oracle(x: np.ndarray, mask: list[bool], zero_point: int) -> None:
    keep = np.array(mask).reshape(2, 5)
    y = neighbours(x, mask=keep, zero_point=zero_point)
    assert y.dtype == x.dtype
    rows = zip(x.tolist(), keep.tolist(), strict=True)
    assert y.tolist() == [oracle.neighbours(tokens, kept, zero_point) for tokens, kept in rows]


def test_one_token_stands_between_zeros() -> None:
    x = np.array([[[5, 6]]], np.int8)
    assert neighbours(x, mask=np.ones((1, 1), np.bool_), zero_point=-3).tolist() == [[[-3, -3, 5, 6, -3, -3]]]
    assert neighbours(x, mask=np.ones((1, 1), np.bool_)).tolist() == [[[0, 0, 5, 6, 0, 0]]]


@pytest.mark.parametrize("dtype", [np.float64, np.bool_])
def test_what_is_not_an_integer_is_refused(dtype: type) -> None:
    with pytest.raises(TypeError, match="x_q must"):
        neighbours(np.ones((1, 2, 3), dtype), mask=np.ones((1, 2), np.bool_))
