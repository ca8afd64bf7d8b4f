# SPDX-License-Identifier: Apache-2.0
"""Where elements stand in the words of a memory, against a reader that follows the description alone."""

import math
from itertools import product
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim.io import layout as layouts_module
from intsim.io.layout import Layout, arrange, restore

DTYPES: Final = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64]


def layouts() -> st.SearchStrategy[Layout]:
    """Every kind of layout."""
    sizes = st.integers(1, 9)
    words = st.one_of(
        st.fixed_dictionaries({}, optional={"word_bits": st.integers(1, 200)}),
        st.fixed_dictionaries({}, optional={"lanes": st.integers(1, 9)}),
        st.fixed_dictionaries({"word_bits": st.integers(16, 200), "lanes": st.integers(1, 9)}),
    )
    tiles = st.one_of(
        st.just({}),
        st.fixed_dictionaries({"tile": st.tuples(sizes, sizes), "tile_order": st.sampled_from(["rows", "columns"])}),
    )
    rest = st.fixed_dictionaries({"transposed": st.booleans(), "banks": st.integers(1, 4)})
    return st.builds(lambda *parts: Layout(**{k: v for part in parts for k, v in part.items()}), words, tiles, rest)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[NDArray[Any], int]:
    """Integers of any shape, and a width that holds them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    bits = draw(st.integers(1, 8 * dtype.itemsize))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(low, high, shape, dtype, endpoint=True), bits


@given(tensors(), layouts())
def test_what_is_arranged_is_restored(tensor: tuple[NDArray[Any], int], layout: Layout) -> None:
    values, bits = tensor
    words = arrange(values, layout, bits=bits)
    assert words.shape[:2] == (layout.banks, layout.words(values.shape, bits))
    signed = values.dtype.kind == "i"
    found = restore(words, values.shape, layout, bits=bits, signed=signed)
    assert found.shape == values.shape
    assert np.array_equal(found, values)
    again, packing = Layout.from_json(layout.to_json(bits))
    assert np.array_equal(restore(words, values.shape, again, bits=bits, signed=signed, packing=packing), values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts_module, "BLOCK", 3)
        assert np.array_equal(restore(words, values.shape, layout, bits=bits, signed=signed), values)


def read_as_described(
    words: list[list[int]], shape: tuple[int, ...], told: dict[str, Any], *, bits: int, signed: bool
) -> list[int]:
    """Read a tensor as the module's description says, by Python's integers: what a reader in another language does."""
    word_bits, lanes, lane_bits, banks = (told[name] for name in ("word_bits", "lanes", "lane_bits", "banks"))
    each = -(-lane_bits // word_bits)
    wide = shape if len(shape) > 1 else (1, math.prod(shape))
    rows, columns = math.prod(wide[:-1]), wide[-1]
    m, n = (told["tile"] or (1, columns or 1)) if len(shape) > 1 else (1, columns or 1)
    turned = told["transposed"] and len(shape) > 1
    if told["tile"] is None and turned:
        n = rows or 1
    height, width = (columns, rows) if turned else (rows, columns)
    across, down = -(-width // n), -(-height // m)
    found: list[int] = []
    for r, c in product(range(rows), range(columns)):
        y, x = (c, r) if turned else (r, c)
        tile = y // m * across + x // n if told["tile_order"] == "rows" else x // n * down + y // m
        place = tile * m * n + y % m * n + x % n
        lane = 0
        for part in range(each):
            index = place // lanes * each + part
            lane |= words[index % banks][index // banks] << part * word_bits
        code = lane >> place % lanes * lane_bits & (1 << bits) - 1
        found.append(code - (1 << bits) if signed and code >> bits - 1 else code)
    return found


@given(tensors(), layouts())
def test_the_description_is_all_that_a_reader_needs(tensor: tuple[NDArray[Any], int], layout: Layout) -> None:
    values, bits = tensor
    words = [[int.from_bytes(bytes(word), "little") for word in bank] for bank in arrange(values, layout, bits=bits)]
    told = layout.to_json(bits)
    assert all(word >> told["word_bits"] == 0 for bank in words for word in bank)
    assert (
        read_as_described(words, values.shape, told, bits=bits, signed=values.dtype.kind == "i")
        == values.reshape(-1).tolist()
    )


def _words(values: NDArray[Any], bits: int, **layout: Any) -> list[list[int]]:
    return [
        [int.from_bytes(bytes(word), "little") for word in bank]
        for bank in arrange(values, Layout(**layout), bits=bits)
    ]


def test_the_first_lane_has_the_lowest_bits() -> None:
    values = np.array([1, -2, 3, -4, 5], np.int8)
    assert _words(values, 8, word_bits=32) == [[0xFC03FE01, 0x00000005]]
    assert _words(values, 4, word_bits=8) == [[0xE1, 0xC3, 0x05]]
    assert _words(values, 4, lanes=2, word_bits=16) == [[0xFE01, 0xFC03, 0x0005]]
    assert _words(values[:2].astype(np.int32), 26, word_bits=26) == [[1, 0x3FFFFFE]]
    assert _words(values[:2].astype(np.int32), 26) == [[1, 0xFFFFFFFE]]
    assert _words(values[:2].astype(np.int32), 32, word_bits=16) == [[1, 0, 0xFFFE, 0xFFFF]]


def test_tiles_and_banks_are_dealt_out_in_the_described_order() -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rows = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 0, 0, 10, 11, 0, 0]
    assert _words(values, 8, tile=(2, 2)) == [rows]
    assert _words(values, 8, tile=(2, 2), tile_order="columns") == [[*rows[:4], *rows[8:12], *rows[4:8], *rows[12:]]]
    assert _words(values, 8, transposed=True) == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]
    assert _words(values.reshape(-1)[:5], 8, banks=2) == [[0, 2, 4], [1, 3, 0]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"word_bits": 0}, r"word_bits must be in \[1, 8192\], got 0"),
        ({"lanes": 2000}, r"lanes must be in \[1, 1024\], got 2000"),
        ({"banks": 0}, r"banks must be in \[1, 1024\], got 0"),
        ({"tile": (0, 4)}, r"rows and columns of tile must be in \[1, 65536\], got 0"),
        ({"tile_order": "columns"}, "tile_order must go with tile, got columns without it"),
        ({"tile_order": "snake", "tile": (1, 1)}, "tile_order must be one of rows, columns, got 'snake'"),
        ({"word_bits": 4, "lanes": 8}, "lanes must be at most word_bits, 4, got 8"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Layout(**options)


def test_zeros_around_a_tensor_are_bounded_before_there_are_any() -> None:
    with pytest.raises(ValueError, match="at most 2147483648 elements, got 4294967296"):
        arrange(np.zeros((1, 1), np.int8), Layout(tile=(1 << 16, 1 << 16)))


def test_words_that_are_not_those_of_the_tensor_are_refused() -> None:
    words = arrange(np.zeros(8, np.int8), Layout(lanes=4))
    with pytest.raises(ValueError, match=r"tensor of shape \(9,\) must have 1 x 3 words, got \(1, 2\)"):
        restore(words, (9,), Layout(lanes=4), bits=8, signed=True)


def test_bits_above_an_element_that_are_no_sign_make_another_value() -> None:
    words = np.array([[[0x7F, 0x00], [0x80, 0xFF], [0x80, 0x00], [0x7F, 0x01], [0xFF, 0x7F]]], np.uint8)
    found = restore(words, (5,), Layout(word_bits=16, lanes=1), bits=8, signed=True)
    assert found.tolist() == [127, -128, -128, 0x17F, 0x7FFF]
    found = restore(words, (5,), Layout(word_bits=16, lanes=1), bits=8, signed=False)
    assert found.tolist() == [127, 0xFF80, 128, 0x17F, 0x7FFF]
