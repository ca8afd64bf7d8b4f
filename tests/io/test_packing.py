# SPDX-License-Identifier: Apache-2.0
"""Packed codes: read back by the oracle, in as many bytes as their bits take."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.io.packing import pack, packed_bits, unpack


@given(bits=st.integers(1, 8), shape=st.tuples(st.integers(0, 5), st.integers(0, 7)), data=st.data())
def test_codes_of_every_width_come_back(bits: int, shape: tuple[int, int], data: st.DataObject) -> None:
    count = shape[0] * shape[1]
    each = st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
    codes = np.array(data.draw(st.lists(each, min_size=count, max_size=count)), np.int8).reshape(shape)
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.nbytes == -(-count * bits // 8)
    assert oracle.unpack(packed.tolist(), bits, count) == codes.ravel().tolist()
    again = unpack(packed, bits, shape)
    assert again.dtype == np.int8
    assert np.array_equal(again, codes)


def test_the_first_code_stands_in_the_lowest_bits() -> None:
    assert pack(np.array([1, -1, 0, -8], np.int8), 4).tolist() == [0xF1, 0x80]
    assert pack(np.array([-4, 3, 1], np.int8), 3).tolist() == [0b01_011_100, 0]


@pytest.mark.parametrize("columns", [slice(None, None, 2), slice(None, None, -1)])
def test_views_are_packed_in_their_own_order(columns: slice) -> None:
    codes = np.arange(-8, 8, dtype=np.int8).reshape(2, 8)[:, columns].T
    assert np.array_equal(unpack(pack(codes, 4), 4, codes.shape), codes)


@pytest.mark.parametrize(
    ("codes", "bits"),
    [
        ([0], 1),
        ([-1, 0], 1),
        ([1], 2),
        ([-2, 1], 2),
        ([-3], 3),
        ([-7, 7], 4),
        ([8], 5),
        ([-128], 8),
        ([127], 8),
        ([], 1),
    ],
)
def test_the_fewest_bits_that_hold_every_code_are_found(codes: list[int], bits: int) -> None:
    array = np.array(codes, np.int8)
    assert packed_bits(array) == bits
    assert np.array_equal(unpack(pack(array, bits), bits, array.shape), array)
    if bits > 1:
        assert not np.array_equal(unpack(pack(array, bits - 1), bits - 1, array.shape), array)


@pytest.mark.parametrize(
    "packed", [np.zeros(2, np.uint8), np.zeros(4, np.uint8), np.zeros(3, np.int8), np.zeros((3, 1), np.uint8)]
)
def test_another_number_of_bytes_is_refused(packed: np.ndarray) -> None:
    with pytest.raises(ValueError, match="packed codes must be 3 bytes"):
        unpack(packed, 4, (2, 3))


@pytest.mark.parametrize("bits", [-1, 0, 9])
def test_widths_that_no_code_has_are_refused(bits: int) -> None:
    packed = np.zeros(max(-(-6 * bits // 8), 0), np.uint8)
    with pytest.raises(ValueError, match=f"got {bits}"):
        unpack(packed, bits, (2, 3))
