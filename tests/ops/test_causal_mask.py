# SPDX-License-Identifier: Apache-2.0
from itertools import product

import numpy as np
import oracle
import pytest

from intsim._trace import call, trace
from intsim.ops import causal_mask


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6])
def test_every_mask_of_up_to_6_columns_is_that_of_the_oracle(columns):
    masks = np.array(list(product([False, True], repeat=columns)))
    for queries, window in product(range(1, columns + 1), [None, *range(1, columns + 2)]):
        seen = causal_mask(masks, queries, window=window)
        assert seen.dtype == np.bool_
        assert seen.shape == (len(masks), 1, queries, columns)
        assert seen[:, 0].tolist() == [oracle.causal_mask(mask, queries, window) for mask in masks.tolist()]


def test_without_padding_it_is_the_lower_triangle_and_with_a_window_a_band():
    mask = np.ones((1, 5), np.bool_)
    assert causal_mask(mask, 5)[0, 0].tolist() == np.tri(5, dtype=bool).tolist()
    assert causal_mask(mask, 5, window=2)[0, 0].tolist() == (np.tri(5) - np.tri(5, k=-2)).astype(bool).tolist()


@pytest.mark.parametrize("window", [None, 1, 3])
def test_the_rows_of_fewer_queries_are_the_last_rows_of_all(window):
    mask = np.random.default_rng(0).random((4, 9)) < 0.7
    whole = causal_mask(mask, 9, window=window)
    for queries in range(1, 10):
        assert np.array_equal(causal_mask(mask, queries, window=window), whole[:, :, -queries:])


def test_padding_takes_no_place_in_a_window():
    mask = np.array([[True, True, False, False, True, False, True]])
    assert causal_mask(mask, 1, window=3)[0, 0, 0].tolist() == [False, True, False, False, True, False, True]


def test_a_mask_is_returned_by_a_call_and_not_recorded():
    with trace() as recorded:
        seen = call("mask", causal_mask, np.ones((1, 2), np.bool_), 2)
    assert seen.tolist() == [[[[True, False], [True, True]]]]
    assert recorded == {}
    assert not recorded.calls


def test_a_mask_that_is_not_boolean_is_refused():
    with pytest.raises(TypeError, match="mask must have dtype bool, got int64"):
        causal_mask(np.ones((1, 3), np.int64), 3)


@pytest.mark.parametrize("queries", [-1, 0, 4])
def test_other_numbers_of_queries_than_columns_hold_are_refused(queries):
    with pytest.raises(ValueError, match=rf"queries must be in \[1, 3\], the columns there are, got {queries}"):
        causal_mask(np.ones((1, 3), np.bool_), queries)


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_holds_nothing_is_refused(window):
    with pytest.raises(ValueError, match=f"window must be at least 1, got {window}"):
        causal_mask(np.ones((1, 3), np.bool_), 3, window=window)
