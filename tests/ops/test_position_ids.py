# SPDX-License-Identifier: Apache-2.0
"""position_ids: counted over the tokens that are no padding."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.ops import position_ids


@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=12), padding=st.integers(0, 4))
def test_positions_are_those_of_the_oracle(ids: list[int], padding: int) -> None:
    batch = np.array([ids, ids[::-1]], np.int32)
    positions = position_ids(batch, padding=padding)
    assert positions.dtype == np.int64
    assert positions.tolist() == [oracle.position_ids(row, padding) for row in (ids, ids[::-1])]


def test_padding_anywhere_is_not_counted() -> None:
    assert position_ids(np.array([[1, 1, 0, 7, 1, 9, 1]]), padding=1).tolist() == [[1, 1, 2, 3, 1, 4, 1]]


@pytest.mark.parametrize("dtype", [np.float64, np.bool_])
def test_what_is_not_an_integer_is_refused(dtype: type) -> None:
    with pytest.raises(TypeError, match="ids must"):
        position_ids(np.ones((1, 2), dtype), padding=1)
