# SPDX-License-Identifier: Apache-2.0
"""Words as $readmemh and $writememh have them."""

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.io import memh
from intsim.io.memh import MAX_WORD, format_memh, parse_memh


def _values(text: bytes) -> list[int]:
    return [int.from_bytes(bytes(word), "little") for word in parse_memh(text).data]


@given(st.integers(1, 80), st.data())
def test_what_is_written_is_read(word_bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, (1 << word_bits) - 1), max_size=9))
    size = -(-word_bits // 8)
    words = np.array([list(value.to_bytes(size, "little")) for value in values], np.uint8).reshape(-1, size)
    text = format_memh(words, word_bits)
    assert text.decode().split() == [f"{value:0{-(-word_bits // 4)}x}" for value in values]
    assert _values(text) == values
    assert _values(b"// one\n" + text.upper()) == values
    assert _values(text.replace(b"\n", b" \r\n\t")) == values


def test_comments_underscores_and_any_number_of_words_a_line_are_skipped() -> None:
    assert _values(b"/* a\n 1f */ 0a 1_0 // 77\n\n3 /*/ 5 */ ff") == [0x0A, 0x10, 3, 0xFF]
    assert _values(b"") == _values(b"// nothing") == []


def test_an_address_places_the_words_behind_it() -> None:
    assert _values(b"@10 01 02\n@0000_0014 05\n@12\n03 04\n") == [1, 2, 3, 4, 5]
    gap = parse_memh(b"@4 01 @6 0x")
    assert gap.unknown is not None
    assert gap.data.tolist() == [[1], [0], [0]]
    assert gap.unknown.tolist() == [[0], [255], [0x0F]]
    assert _values(b"07 @0 08") == [8]


def test_x_and_z_are_unknown_bits_of_their_word() -> None:
    words = parse_memh(b"1x xx Z3 00")
    assert words.unknown is not None
    assert words.unknown[:, 0].tolist() == [0x0F, 0xFF, 0xF0, 0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"0a\nxyz", "'xyz' in line 2, where a hexadecimal word must be"),
        (b"0a\n/* open", r"'/\*' in line 2, where a hexadecimal word must be"),
        (b"00 @ 1", "'@' in line 1, where an address in hexadecimal must be"),
        (b"00\n@x 1", "'@x' in line 2, where an address in hexadecimal must be"),
        (b"00 @ffffffff 1", "addresses from 0 to ffffffff, more words than"),
        (b"0\n" + b"f" * (MAX_WORD + 1), f"in line 2, a word of {MAX_WORD + 1} digits, more than {MAX_WORD}"),
    ],
)
def test_what_is_no_memory_image_is_refused_by_its_line(text: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_memh(text)


def test_what_takes_more_memory_than_its_file_is_bounded_before_it_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memh, "MAX_BYTES", 1000)
    assert len(_values(b"0 " * 999 + b"f")) == 1000
    assert _values(b"01\n@3f1 02") == [1, *[0] * 0x3F0, 2]
    with pytest.raises(ValueError, match="601 words as wide as the longest, of 10 digits, more than 2210 bytes"):
        parse_memh(b"0 " * 600 + b"ffffffffff")
    with pytest.raises(ValueError, match="addresses from 0 to 3fd, more words than the 2034 bytes that are read"):
        parse_memh(b"0001\n@3fd 0002" + b" " * 1020)
    monkeypatch.setattr(memh, "PIECE", 600)
    with pytest.raises(ValueError, match="addresses from 0 to 258, more words than the 2811 bytes that are read"):
        parse_memh(b"00\n" * 600 + b"ffffffffff\n")


TEXTS: Final = st.lists(
    st.sampled_from(
        [
            "0a\n",
            "1_0\n",
            "7 8\n",
            "// 05\n",
            "// /*\n",
            "/* 05\n06 */\n",
            "xZ\n",
            "@20 11\n",
            "@4\n",
            "fff\r\n",
            "\n",
            "0b",
        ]
    ),
    max_size=25,
).map("".join)


@given(TEXTS, st.integers(1, 40))
def test_a_file_is_read_in_pieces_as_it_is_at_once(text: str, piece: int) -> None:
    def read() -> object:
        try:
            words = parse_memh(text.encode())
        except ValueError as error:
            return str(error)
        return words.data.tolist(), None if words.unknown is None else words.unknown.tolist(), words.word_bits

    expected = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memh, "PIECE", piece)
        patch.setattr(memh, "MOST_PIECES", 1 << 20)
        assert read() == expected


def test_lines_and_comments_across_many_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memh, "PIECE", 10)
    assert _values(b"/*" + b"\n" * 30 + b"*/\n" + b"00 " * 12) == [0] * 12
    with pytest.raises(ValueError, match="a line 2 of more than 47 bytes"):
        parse_memh(b"0a\n" + b"00 " * 100)
    with pytest.raises(ValueError, match=r"'/\*' in line 3, where a hexadecimal word must be"):
        parse_memh(b"0a\n0b\n/*\n" + b"00\n" * 100)
