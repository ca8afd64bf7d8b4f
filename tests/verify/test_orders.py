# SPDX-License-Identifier: Apache-2.0
"""Right values in another order are called by what was done to them."""

from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from intsim.io.layout import Layout, arrange
from intsim.verify.orders import find_order

X: Final = np.random.default_rng(0).integers(-128, 128, (1, 6, 64))
M: Final = X[0]


def _tiles(layout: Layout) -> NDArray[np.int64]:
    return arrange(M.astype(np.int8), layout).reshape(-1).view(np.int8).astype(np.int64)


ORDERS: Final = {
    "all elements reversed": lambda: M.reshape(-1)[::-1],
    "rows reversed": lambda: M[::-1],
    "columns reversed": lambda: M[:, ::-1],
    "transposed: columns outside, rows inside": lambda: M.T,
    "lanes reversed in words of 4": lambda: M.reshape(6, 16, 4)[:, :, ::-1],
    "groups of 16 columns (heads, words) reversed": lambda: M.reshape(6, 4, 16)[:, ::-1],
    "4 heads of 16 columns outside, rows inside": lambda: M.reshape(6, 4, 16).swapaxes(0, 1),
    "groups of 16 columns interleaved": lambda: M.reshape(6, 4, 16).swapaxes(1, 2),
    "tiles of 2x8": lambda: _tiles(Layout(tile=(2, 8))),
    "8 heads of 8 columns outside, rows inside": lambda: _tiles(Layout(tile=(2, 8), tile_order="columns")),
    "tiles of 8x2, of the transposed matrix": lambda: _tiles(Layout(tile=(8, 2), transposed=True)),
    "rows rotated: 1 late": lambda: np.roll(M, 1, 0),
    "columns rotated: 2 early": lambda: np.roll(M, -2, 1),
    "all elements rotated: 1 late": lambda: np.roll(M.reshape(-1), 1),
    "rows in the order 1 0 2 3 5 4": lambda: M[[1, 0, 2, 3, 5, 4]],
    "the same values in another order": lambda: np.random.default_rng(1).permutation(M.reshape(-1)),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_found_by_name(name: str) -> None:
    permuted: Callable[[], NDArray[np.int64]] = ORDERS[name]
    actual = np.ascontiguousarray(permuted()).reshape(X.shape)
    assert find_order(X, actual, bits=8) == name
    actual[0, 0, 0] = actual.max() + 1
    assert find_order(X, actual, bits=8) is None


def test_axes_of_a_tensor_are_found() -> None:
    values = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert (
        find_order(values, values.transpose(1, 0, 2).reshape(values.shape), bits=8)
        == "axes of (2, 3, 5) in the order (1, 0, 2)"
    )
    assert find_order(values, values[:, ::-1], bits=8) == "axis 1 of (2, 3, 5) reversed"


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64])
def test_reversed_bytes_are_found(dtype: type[np.integer]) -> None:
    values = np.array([[1, 300, -2 if np.dtype(dtype).kind == "i" else 65534]], dtype)
    bits = 8 * values.dtype.itemsize
    assert (
        find_order(values.astype(np.int64), values.byteswap().astype(np.int64), bits=bits)
        == "the bytes of every value reversed"
    )


def test_one_value_or_values_of_another_tensor_have_no_order() -> None:
    assert find_order(np.array([5]), np.array([3]), bits=8) is None
    assert find_order(np.array([1, 2, 3]), np.array([3, 2, 2]), bits=8) is None
