# SPDX-License-Identifier: Apache-2.0
"""permute: a gather of channels, undone by the inverse permutation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.fixedpoint import INT16
from intsim.ops import permute
from intsim.strategies import code_arrays


@given(x=code_arrays(INT16, shape=(2, 3, 5)), order=st.permutations(range(5)))
def test_every_channel_comes_from_its_place_in_the_order(x: np.ndarray, order: list[int]) -> None:
    y = permute(x, np.array(order))
    assert y.dtype == x.dtype
    assert y.tolist() == [[[row[c] for c in order] for row in rows] for rows in x.tolist()]
    assert np.array_equal(permute(y, np.argsort(order)), x)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("dtype", [np.float64, np.bool_])
def test_what_is_not_an_integer_is_refused(which: int, dtype: type) -> None:
    operands = [np.ones((2, 2), np.int8), np.zeros(2, np.int64)]
    operands[which] = operands[which].astype(dtype)
    with pytest.raises(TypeError, match="must"):
        permute(*operands)
