# SPDX-License-Identifier: Apache-2.0
"""Words of a memory as text: what ``$readmemh`` reads and ``$writememh`` writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_WORD", "Words", "format_memh", "parse_memh"]

Bytes = NDArray[np.uint8]

MAX_WORD: Final = 2048
"""Hexadecimal digits of a word: 8192 bits."""
MAX_BYTES: Final = 1 << 27
"""Bytes of the words of a file, those that an address leaves out included."""
MAX_MIXED: Final = 1 << 26
"""Bytes of a file that is not one word of one width a line: its words are objects of Python meanwhile."""
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


def format_memh(words: Bytes, word_bits: int) -> bytes:
    """Return the words (n, bytes of a word), the lowest byte first, as lines of hexadecimal digits."""
    digits = -(-word_bits // 4)
    text = np.full((len(words), digits + 1), NEWLINE, np.uint8)
    text[:, :-1] = HEX_OF_BYTE[words[:, ::-1]].reshape(len(words), 2 * words.shape[1])[:, -digits:]
    return text.tobytes()


def parse_memh(text: bytes) -> Words:
    r"""Return the words of a file: hexadecimal digits, x, z and _, in any number a line.

    Comments (``//`` and ``/* */``) are skipped. ``@`` and a hexadecimal number is the address of the next word; the
    lowest one is that of the first word returned, and what no address has is unknown.

    Raises
    ------
    ValueError
        Naming the line, if something else is there, or there are too many words.
    """
    if (words := _lines(text)) is not None:
        return words
    if len(text) > MAX_MIXED:
        msg = f"more than {MAX_MIXED} bytes that are not words of one width, one a line"
        raise ValueError(msg)
    plain = COMMENT.sub(lambda found: b" " + b"\n" * found[0].count(b"\n"), text) if b"/" in text else text
    tokens = plain.split()
    marks = [index for index, token in enumerate(tokens) if token.startswith(b"@")] if b"@" in plain else []
    if not marks:
        return _words(tokens, plain)
    segments: list[tuple[int, list[bytes]]] = []
    if marks[0]:
        segments.append((0, tokens[: marks[0]]))
    for mark, end in pairwise([*marks, len(tokens)]):
        segments.append((_address(tokens[mark], plain), tokens[mark + 1 : end]))
    words = _words([token for _, part in segments for token in part], plain)
    filled = [(address, len(part)) for address, part in segments if part]
    if not filled:
        return words
    first, end = min(address for address, _ in filled), max(address + count for address, count in filled)
    if (end - first) * words.data.shape[1] > MAX_BYTES:
        msg = f"addresses from {first:x} to {end - 1:x}, more words than the {MAX_BYTES} bytes that are read"
        raise ValueError(msg)
    data = np.zeros((end - first, words.data.shape[1]), np.uint8)
    unknown = np.full_like(data, 255)
    at = 0
    for address, count in filled:
        place = slice(address - first, address - first + count)
        data[place] = words.data[at : at + count]
        unknown[place] = 0 if words.unknown is None else words.unknown[at : at + count]
        at += count
    return Words(data, unknown if unknown.any() else None, words.word_bits)


def _lines(text: bytes) -> Words | None:
    """Return the words of a file that has one a line, all of one width, behind comments: most files are such."""
    start = 0
    while text.startswith(b"//", start):
        start = text.find(b"\n", start) + 1 or len(text)
    digits = text.find(b"\n", start) - start
    if not 0 < digits <= MAX_WORD or digits % 2 or (len(text) - start) % (digits + 1):
        return None
    lines = np.frombuffer(text, np.uint8, offset=start).reshape(-1, digits + 1)
    values = VALUE_OF[lines[:, -2::-1]]
    if (lines[:, -1] != NEWLINE).any() or (values >= UNKNOWN).any():
        return None
    return Words(_octets(values), None, 4 * digits)


def _address(token: bytes, text: bytes) -> int:
    digits = token[1:].replace(b"_", b"")
    if not digits or len(digits) > 16 or not (VALUE_OF[np.frombuffer(digits, np.uint8)] < 16).all():
        raise _complaint(token, text, "where an address in hexadecimal must be")
    return int(digits, 16)


def _words(tokens: Sequence[bytes], text: bytes) -> Words:
    """Return the words, all as wide as the longest."""
    if b"_" in text:
        tokens = [token.replace(b"_", b"") for token in tokens]
    longest = max(map(len, tokens), default=1)
    if longest > MAX_WORD:
        token = next(token for token in tokens if len(token) > MAX_WORD)
        raise _complaint(token, text, f"a word of {len(token)} digits, more than {MAX_WORD}")
    digits = longest + longest % 2
    if len(tokens) * digits > 2 * MAX_BYTES:
        msg = f"{len(tokens)} words as wide as the longest, of {longest} digits, more than {MAX_BYTES} bytes"
        raise ValueError(msg)
    joined = b"".join(token.rjust(digits, b"0") for token in tokens)
    values = VALUE_OF[np.frombuffer(joined, np.uint8)].reshape(len(tokens), digits)[:, ::-1]
    if (wrong := (values == NOT_HEX).any(axis=1)).any():
        raise _complaint(tokens[int(wrong.argmax())], text, "where a hexadecimal word must be")
    unknown = (values == UNKNOWN) * np.uint8(15)
    known = values & np.uint8(15)
    return Words(_octets(known), _octets(unknown) if unknown.any() else None, 4 * max(1, longest))


def _octets(digits: Bytes) -> Bytes:
    return digits[:, ::2] | digits[:, 1::2] << np.uint8(4)


def _complaint(token: bytes, text: bytes, rule: str) -> ValueError:
    lines = enumerate(text.replace(b"_", b"").split(b"\n"), start=1)
    number = next((number for number, line in lines if token.replace(b"_", b"") in line.split()), 1)
    return ValueError(f"{token.decode('ascii', 'backslashreplace')!r:.60} in line {number}, {rule}")
