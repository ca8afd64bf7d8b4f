# SPDX-License-Identifier: Apache-2.0
"""Words of a memory as text: what ``$readmemh`` reads and ``$writememh`` writes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_WORD", "Words", "format_memh", "parse_memh", "read_memh"]

Bytes = NDArray[np.uint8]

MAX_WORD: Final = 2048
"""Hexadecimal digits of a word: 8192 bits."""
MAX_BYTES: Final = 1 << 27
"""Bytes that words may have beyond those of their file: what an address leaves out, narrow words beside a wide one."""
PIECE: Final = 1 << 22
"""Bytes of a file that are read at a time: words that are not one a line, all of one width, are objects of Python
meanwhile."""
MOST_PIECES: Final = 4
"""Pieces that a line or a comment may have."""
NEWLINE: Final = ord("\n")
HEX_OF_BYTE: Final = np.array([list(b"%02x" % byte) for byte in range(256)], np.uint8)
NOT_HEX: Final = 255
UNKNOWN: Final = 16
VALUE_OF: Final = np.full(256, NOT_HEX, np.uint8)
VALUE_OF[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
VALUE_OF[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)
VALUE_OF[np.frombuffer(b"xXzZ?", np.uint8)] = UNKNOWN
COMMENT: Final = re.compile(rb"//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a memory: bits whose meaning the other side of a comparison or a manifest gives.

    Parameters
    ----------
    data
        (words, bytes of a word), the lowest byte first.
    unknown
        As ``data``, a 1 for each bit that is x or z, or was never written; None where none is.
    word_bits
        Bits of a word.
    raw
        Whether a word is a byte of a file that does not tell how many of them make one.
    """

    data: Bytes
    unknown: Bytes | None
    word_bits: int
    raw: bool = False

    def in_words(self, word_bits: int) -> "Words":
        """Return raw bytes as words of so many bits, the lowest byte first; other words as they are.

        Raises
        ------
        ValueError
            If the bytes do not make whole words.
        """
        if not self.raw:
            return self
        size = -(-word_bits // 8)
        if len(self.data) % size:
            msg = f"raw bytes must make words of {size} bytes, got {len(self.data)}"
            raise ValueError(msg)
        return Words(self.data.reshape(-1, size), None, word_bits)

    def part(self, of: slice) -> "Words":
        """Return some of the words."""
        return Words(self.data[of], None if self.unknown is None else self.unknown[of], self.word_bits)


class Segment(NamedTuple):
    """Words in turn, and the address of the first; None where they are behind those before."""

    address: int | None
    words: Words


def format_memh(words: Bytes, word_bits: int) -> bytes:
    """Return the words (n, bytes of a word), the lowest byte first, as lines of hexadecimal digits."""
    digits = -(-word_bits // 4)
    text = np.full((len(words), digits + 1), NEWLINE, np.uint8)
    text[:, :-1] = HEX_OF_BYTE[words[:, ::-1]].reshape(len(words), 2 * words.shape[1])[:, -digits:]
    return text.tobytes()


def parse_memh(text: bytes) -> Words:
    """Return the words of a text, as ``read_memh`` does.

    Raises
    ------
    ValueError
        As there.
    """
    return read_memh(BytesIO(text))


def read_memh(file: BinaryIO) -> Words:
    """Return the words of a file of any size: hexadecimal digits, x, z and _, in any number a line.

    Comments (``//`` and ``/* */``) are skipped. ``@`` and a hexadecimal number is the address of the next word; the
    lowest one is that of the first word returned, and what no address has is unknown. The file is read in pieces, so
    that little more memory is taken than the words have bytes, and MAX_BYTES more at most than the file has.

    Raises
    ------
    ValueError
        Naming the line, if something else is there, or there are too many words.
    """
    segments: list[Segment] = []
    size = 0
    for line, text in _pieces(file):
        size += len(text)
        segments += _segments(text, line)
    return _joined(segments, most=size + MAX_BYTES)


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines without their comments, about PIECE bytes of them, and the number of the first."""
    rest, line = b"", 1
    while block := file.read(PIECE):
        text = rest + block
        end = text.rfind(b"\n") + 1
        plain = _without_comments(text[:end])
        if (not plain or b"/*" in plain) and len(text) <= MOST_PIECES * PIECE:  # the line or the comment goes on
            rest = text
            continue
        if not plain:
            msg = f"a line {line} of more than {len(text)} bytes"
            raise ValueError(msg)
        yield line, plain
        rest, line = text[end:], line + plain.count(b"\n")
    yield line, _without_comments(rest)


def _without_comments(text: bytes) -> bytes:
    if b"/" in text:
        text = COMMENT.sub(lambda found: b" " + b"\n" * found[0].count(b"\n"), text)
    return text.replace(b"\r\n", b"\n")


def _segments(text: bytes, line: int) -> list[Segment]:
    """Return the words of some lines, whose first has the number ``line``."""
    if (words := _lines(text)) is not None:
        return [Segment(None, words)]
    tokens = text.split()
    marks = [index for index, token in enumerate(tokens) if token.startswith(b"@")] if b"@" in text else []
    addresses = [None, *(_address(tokens[mark], text, line) for mark in marks)]
    words = _words([token for token in tokens if not token.startswith(b"@")] if marks else tokens, text, line)
    starts = [0, *(mark - number for number, mark in enumerate(marks)), len(words.data)]
    return [
        Segment(address, words.part(slice(start, end)))
        for address, (start, end) in zip(addresses, pairwise(starts), strict=True)
    ]


def _joined(segments: Sequence[Segment], *, most: int) -> Words:
    """Return the words of all segments, as wide as the widest, each at its address."""
    placed: list[tuple[int, Words]] = []
    at = 0
    for address, words in segments:
        at = at if address is None else address
        if len(words.data):
            placed.append((at, words))
        at += len(words.data)
    if not placed:
        return Words(np.empty((0, 1), np.uint8), None, 4)
    first, end = min(at for at, _ in placed), max(at + len(words.data) for at, words in placed)
    width = max(words.data.shape[1] for _, words in placed)
    if (end - first) * width > most:
        msg = f"addresses from {first:x} to {end - 1:x}, more words than the {most} bytes that are read"
        raise ValueError(msg)
    data, unknown = np.zeros((end - first, width), np.uint8), None
    if any(address is not None or words.unknown is not None for address, words in segments):
        unknown = np.full_like(data, 255)
    for at, words in placed:
        place, own = slice(at - first, at - first + len(words.data)), words.data.shape[1]
        data[place, :own], data[place, own:] = words.data, 0
        if unknown is not None:
            unknown[place] = 0
            unknown[place, :own] = 0 if words.unknown is None else words.unknown
    word_bits = max(words.word_bits for _, words in placed)
    return Words(data, unknown if unknown is not None and unknown.any() else None, word_bits)


def _lines(text: bytes) -> Words | None:
    """Return the words of lines that have one each, all of one width: most have."""
    text = text.lstrip()
    digits = text.find(b"\n") if b"\n" in text else len(text)
    if len(text) % (digits + 1) == digits:  # the last line of a file
        text += b"\n"
    if not 0 < digits <= MAX_WORD or len(text) % (digits + 1):
        return None
    lines = np.frombuffer(text, np.uint8).reshape(-1, digits + 1)
    values = VALUE_OF[lines[:, -2::-1]]
    if (lines[:, -1] != NEWLINE).any() or (values > UNKNOWN).any():
        return None
    return _of_digits(np.pad(values, ((0, 0), (0, digits % 2))), digits)


def _address(token: bytes, text: bytes, line: int) -> int:
    digits = token[1:].replace(b"_", b"")
    if not digits or len(digits) > 16 or not (VALUE_OF[np.frombuffer(digits, np.uint8)] < 16).all():
        raise _complaint(token, text, "where an address in hexadecimal must be", line)
    return int(digits, 16)


def _words(tokens: Sequence[bytes], text: bytes, line: int) -> Words:
    """Return the words, all as wide as the longest."""
    if b"_" in text:
        tokens = [token.replace(b"_", b"") for token in tokens]
    longest = max(map(len, tokens), default=1)
    if longest > MAX_WORD:
        token = next(token for token in tokens if len(token) > MAX_WORD)
        raise _complaint(token, text, f"a word of {len(token)} digits, more than {MAX_WORD}", line)
    digits = longest + longest % 2
    if len(tokens) * digits > 2 * (most := len(text) + MAX_BYTES):
        msg = f"{len(tokens)} words as wide as the longest, of {longest} digits, more than {most} bytes"
        raise ValueError(msg)
    joined = b"".join(token.rjust(digits, b"0") for token in tokens)
    values = VALUE_OF[np.frombuffer(joined, np.uint8)].reshape(len(tokens), digits)[:, ::-1]
    if (wrong := (values == NOT_HEX).any(axis=1)).any():
        raise _complaint(tokens[int(wrong.argmax())], text, "where a hexadecimal word must be", line)
    return _of_digits(values, max(1, longest))


def _of_digits(values: Bytes, digits: int) -> Words:
    """Return words of so many digits, the lowest first, an even number of them; UNKNOWN is an x."""
    unknown = (values == UNKNOWN) * np.uint8(15)
    return Words(_octets(values & np.uint8(15)), _octets(unknown) if unknown.any() else None, 4 * digits)


def _octets(digits: Bytes) -> Bytes:
    return digits[:, ::2] | digits[:, 1::2] << np.uint8(4)


def _complaint(token: bytes, text: bytes, rule: str, line: int) -> ValueError:
    lines = enumerate(text.replace(b"_", b"").split(b"\n"), start=line)
    number = next((number for number, each in lines if token.replace(b"_", b"") in each.split()), 1)
    return ValueError(f"{token.decode('ascii', 'backslashreplace')!r:.60} in line {number}, {rule}")
