# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.ops import token_positions

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 12)))


@given(mask=MASKS, first=st.integers(0, 5), data=st.data())
def test_positions_are_the_oracles(mask, first, data):
    queries = data.draw(st.integers(1, mask.shape[1]))
    found = token_positions(mask, queries=queries, first=first)
    assert found.dtype == np.int64
    assert found.tolist() == [oracle.token_positions(row, queries, first) for row in mask.tolist()]


def test_padding_counts_nowhere():
    left, right = [[False, False, True, True, True]], [[True, True, True, False, False]]
    assert token_positions(np.array(left), queries=5).tolist() == [[0, 0, 0, 1, 2]]
    assert token_positions(np.array(right), queries=5).tolist() == [[0, 1, 2, 2, 2]]
    assert token_positions(np.array(left), queries=2, first=2).tolist() == [[3, 4]]


def test_a_mask_that_is_not_boolean_is_refused():
    with pytest.raises(TypeError, match="mask must have dtype bool, got int8"):
        token_positions(np.ones((1, 2), np.int8), queries=1)
