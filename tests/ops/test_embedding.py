# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from edges import NOT_INTEGERS, every_other_dtype_than_integers
from hypothesis import given
from hypothesis import strategies as st

from intsim.ops import embedding

TABLE = np.arange(-60, 60, dtype=np.int8).reshape(30, 4)


@given(st.lists(st.lists(st.integers(0, 29), min_size=3, max_size=3), min_size=1, max_size=4))
def test_every_id_is_replaced_by_its_row(ids):
    rows = embedding(np.array(ids), TABLE)
    assert rows.dtype == np.int8
    assert rows.tolist() == [[TABLE.tolist()[i] for i in sequence] for sequence in ids]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_ids_of_any_integer_dtype_are_let_in(dtype):
    assert embedding(np.array([0, 29], dtype), TABLE).tolist() == [[-60, -59, -58, -57], [56, 57, 58, 59]]


@pytest.mark.parametrize("ids", [[-1], [30], [-1, 3], [0, 2**40], [[-(2**63)]]], ids=str)
def test_an_id_outside_the_table_is_refused_and_does_not_count_from_the_end(ids):
    with pytest.raises(ValueError, match=r"ids must be in \[0, 30\), got"):
        embedding(np.array(ids), TABLE)


def test_no_ids_give_no_rows():
    assert embedding(np.empty((0, 5), np.int64), TABLE).shape == (0, 5, 4)


def test_the_rows_are_a_copy():
    rows = embedding(np.array([1]), TABLE)
    rows[:] = 0
    assert TABLE[1].any()


@every_other_dtype_than_integers
def test_ids_that_are_not_integers_are_refused(dtype):
    with pytest.raises(TypeError, match="ids must have an integer dtype"):
        embedding(np.zeros(3, dtype), TABLE)


def test_a_table_that_is_not_integers_is_refused():
    accepted = []
    for dtype in NOT_INTEGERS:
        try:
            embedding(np.zeros(3, np.int64), TABLE.astype(dtype))
        except TypeError:
            continue
        accepted.append(dtype)
    assert accepted == []
