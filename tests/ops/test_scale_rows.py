# SPDX-License-Identifier: Apache-2.0
"""scale_rows: exact up to the end of int64, refused beyond it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.fixedpoint import INT32
from intsim.ops import scale_rows
from intsim.strategies import code_arrays


@given(acc=code_arrays(INT32, shape=(2, 3, 4)), data=st.data())
def test_products_are_exact(acc: np.ndarray, data: st.DataObject) -> None:
    for shape in ((2, 3, 1), (2, 1, 1)):
        size = int(np.prod(shape))
        drawn = data.draw(st.lists(st.integers(0, 8 * 65535), min_size=size, max_size=size))
        bound = np.array(drawn, np.int32).reshape(shape)
        scaled = scale_rows(acc, bound)
        assert scaled.dtype == np.int64
        assert scaled.tolist() == (acc.astype(object) * bound.astype(object)).tolist()


def test_every_accumulator_goes_with_every_bound_of_32_bits() -> None:
    acc = np.array([[-(2**31), 2**31 - 1]])
    assert scale_rows(acc, np.array([[2**31]])).tolist() == [[-(2**62), 2**62 - 2**31]]
    assert scale_rows(acc // 4, np.array([[2**33]])).tolist() == [[-(2**62), 2**62 - 2**33]]


def test_the_last_of_int64_is_reached_and_one_more_is_refused() -> None:
    bound = np.array([[7]])
    acc = np.array([[(2**63 - 1) // 7, -((2**63 - 1) // 7)]])
    assert scale_rows(acc, bound).tolist() == [[2**63 - 1, -(2**63) + 1]]
    with pytest.raises(ValueError, match=r"acc \* bound must stay below 2\*\*63"):
        scale_rows(acc + 1, bound)
    with pytest.raises(ValueError, match=r"acc \* bound must stay below 2\*\*63"):
        scale_rows(np.array([[1 << 31]]), np.array([[1 << 32]]))


@pytest.mark.parametrize("which", [0, 1])
def test_reals_are_refused(which: int) -> None:
    operands = [np.ones((2, 2), np.int32), np.ones((2, 1), np.int32)]
    operands[which] = operands[which].astype(np.float64)
    with pytest.raises(TypeError, match="must"):
        scale_rows(*operands)
