# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from edges import every_other_dtype_than_integers

from intsim.ops import relu


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("zero_point", [0, 3, 127, None])
def test_every_code_agrees_with_the_oracle(dtype, zero_point):
    info = np.iinfo(dtype)
    zero_point = info.min if zero_point is None else zero_point
    x = np.arange(info.min, info.max + 1).astype(dtype)
    y = relu(x, zero_point=zero_point)
    assert y.dtype == x.dtype
    assert y.tolist() == [oracle.relu(value, zero_point) for value in x.tolist()]


def test_the_ends_of_int32_are_exact():
    x = np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int32)
    assert relu(x).tolist() == [0, 0, 0, 1, 2**31 - 1]


def test_the_zero_point_is_zero_unless_given():
    assert relu(np.array([-5, 5], np.int8)).tolist() == [0, 5]


def test_a_zero_point_the_codes_cannot_hold_is_refused():
    with pytest.raises(OverflowError):
        relu(np.zeros(2, np.int8), zero_point=128)


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have an integer dtype"):
        relu(np.zeros((2, 3), dtype))
