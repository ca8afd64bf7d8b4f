# SPDX-License-Identifier: Apache-2.0
"""Vectors as text: one case a line, fixed-width lower-case hex in two's complement, single spaces; ``#`` is the header.

Lines are written and read a batch at a time: every word of a batch has its columns, so both are array operations. What
comes back may be written otherwise: upper case, more white space, remarks behind ``#`` and ``//``, digits X and Z.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.profile import Profile
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.operators import Field, Operator, parse_size

__all__ = [
    "Header",
    "Parsed",
    "format_header",
    "format_lines",
    "format_words",
    "is_answer_alone",
    "is_case",
    "parse_header",
    "parse_lines",
]

VERSION: Final = "1"
HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
NOT_HEX: Final = 255
VALUE_OF: Final = np.full(256, NOT_HEX, np.uint8)
VALUE_OF[HEX] = np.arange(16)
SPACE, NEWLINE = b" \n"
WORD: Final = re.compile(rb"[0-9a-fxz_]+")
UNKNOWN: Final = bytes.maketrans(b"xz", b"00")
QUOTED: Final = 80
"""Characters of a line that is quoted."""


def format_header(operator: Operator, *, seed: int, level: int, cases: int, operands_only: bool = False) -> list[str]:
    """Return the header without its ``#``: what the words are, and the command that makes them again."""
    size = "x".join(map(str, operator.size))
    command = f"intsim vectors gen {operator.name} --profile {operator.profile.name} --seed {seed} --level {level}"
    command += f" -n {cases}" + (f" --size {size}" if size else "")
    command += "".join(f" --{option} {value}" for option, value in operator.options.items())
    command += " --operands-only" if operands_only else ""
    return [
        f"intsim vectors: {VERSION}",
        f"operator: {operator.name}",
        f"profile: {operator.profile.name} {operator.profile.hash}",
        *([f"size: {size}"] if size else []),
        *(f"{option}: {value}" for option, value in operator.options.items()),
        f"seed: {seed}",
        f"level: {level}",
        f"cases: {cases}",
        *(f"constant: {name} {value}" for name, value in operator.constants.items()),
        *(f"operand: {field}" for field in operator.operands),
        f"result: {operator.result}",
        f"command: {command}",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header of a file says, with the number of the line that says it; nothing of it has to be there."""

    lines: Sequence[tuple[int, str, str]] = ()  # number, key, value

    def get(self, key: str) -> tuple[int, str] | None:
        """Return the line number and the value of the last line with a key."""
        found = [(number, value) for number, name, value in self.lines if name == key]
        return found[-1] if found else None

    @property
    def size(self) -> tuple[int, ...] | None:
        """The size, if there is one."""
        if (line := self.get("size")) is None:
            return None
        try:
            return parse_size(line[1])
        except IntsimError as error:
            msg = f"line {line[0]}: {error}"
            raise IntsimError(msg) from None

    def number(self, key: str) -> int | None:
        """Return the number behind a key, such as ``cases``, if it is there.

        Raises
        ------
        IntsimError
            If there is something else.
        """
        if (line := self.get(key)) is None:
            return None
        number, text = line
        if not (text.isascii() and text.isdecimal() and len(text) < 19):
            msg = f"line {number}: {key} must be a number, got {text!r}"
            raise IntsimError(msg)
        return int(text)

    def require(self, key: str, expected: str) -> None:
        """Refuse a header that has another value for a key.

        Raises
        ------
        IntsimError
            If it has.
        """
        line = self.get(key)
        if line is not None and line[1] != expected:
            msg = f"line {line[0]}: {key} of the vectors must be {expected!r}, got {line[1]!r}"
            raise IntsimError(msg)

    def require_operator(self, operator: Operator, profile: Profile) -> None:
        """Refuse a header written for another operator, profile, size or field width.

        Raises
        ------
        IntsimError
            If it was.
        """
        self.require("intsim vectors", VERSION)
        self.require("operator", operator.name)
        self.require("profile", f"{profile.name} {profile.hash}")
        self.require("size", "x".join(map(str, operator.size)))
        expected = [("operand", str(field)) for field in operator.operands] + [("result", str(operator.result))]
        declared = [line for line in self.lines if line[1] in ("operand", "result")]
        if not declared:
            return
        for (number, key, value), field in zip(declared, expected, strict=False):
            if (key, value) != field:
                msg = f"line {number}: field of {operator.name} must be {' '.join(field)!r}, got {f'{key} {value}'!r}"
                raise IntsimError(msg)
        if len(declared) != len(expected):
            number = declared[-1][0]
            msg = f"line {number}: fields of {operator.name} must be {len(expected)}, got {len(declared)} declared"
            raise IntsimError(msg)


def parse_header(lines: Sequence[tuple[int, bytes]]) -> Header:
    """Return what numbered lines that begin with ``#`` or ``//`` say; those without a colon are remarks."""
    parsed: list[tuple[int, str, str]] = []
    for number, line in lines:
        key, colon, value = line.lstrip(b"#/").decode("ascii", "backslashreplace").partition(":")
        if colon:
            parsed.append((number, key.strip(), value.strip()))
    return Header(lines=parsed)


def _width(fields: Sequence[Field]) -> int:
    return sum(field.count * (field.digits + 1) for field in fields)


def format_lines(fields: Sequence[Field], words: Int64) -> NDArray[np.uint8]:
    """Return the characters (cases, width) of (cases, words): every line ends in a newline.

    Bounds
    ------
    Words of any int64 whose field, if signed, has a whole number of digits, as all have.
    """
    text = np.empty((len(words), _width(fields)), np.uint8)
    column = word = 0
    for field in fields:
        step = field.digits + 1
        values = words[:, word : word + field.count]
        part = np.empty((*values.shape, step), np.uint8)
        for digit in range(field.digits):
            part[..., digit] = HEX[values >> 4 * (field.digits - 1 - digit) & 15]
        part[..., -1] = SPACE
        text[:, column : column + field.count * step] = part.reshape(len(words), -1)
        column, word = column + field.count * step, word + field.count
    text[:, -1] = NEWLINE
    return text


def format_words(fields: Sequence[Field], case: Int64) -> str:
    """Return one case without its newline."""
    return format_lines(fields, case[None])[0, :-1].tobytes().decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Cases that were read, up to the first malformed one, and the error of that one.

    Parameters
    ----------
    places
        Their numbers: of lines, or of cases from 1.
    operands
        (cases, operand words); None where the file holds answers alone.
    observed
        (cases, result words). A result is as wide as its digits: an unsigned one may exceed its bits, which is wrong
        but well-formed.
    unknown
        (cases, words) of operands, if they are there, and result: which have a digit X or Z, and are 0 here.
    error
        Of the case behind the last.
    skipped
        Numbers and text of lines that are no cases: remarks, blank lines, what a simulator says of itself.
    """

    places: Sequence[int]
    operands: Int64 | None
    observed: Int64
    unknown: NDArray[np.bool_]
    error: IntsimError | None = None
    skipped: Sequence[tuple[int, bytes]] = ()


def is_case(line: bytes, operator: Operator | None) -> bool:
    """Say whether a line is meant as a case: more than half of its words are hexadecimal, or half of as many."""
    tokens = _tokens(line)
    hexadecimal = sum(WORD.fullmatch(token) is not None for token in tokens)
    counts = [] if operator is None else [operator.words + operator.result.count, operator.result.count]
    return 2 * hexadecimal > len(tokens) - (len(tokens) in counts)


def is_answer_alone(operator: Operator, line: bytes) -> bool:
    """Say whether the first case of a file has as many words as a result."""
    return len(_tokens(line)) == operator.result.count


def parse_lines(operator: Operator, numbers: Sequence[int], lines: Sequence[bytes], *, alone: bool = False) -> Parsed:
    """Return the cases of lines, whose results stand behind their operands or ``alone``."""
    fields: list[Field] = [*(() if alone else operator.operands), _whole_digits(operator.result)]
    places, skipped, error = list(numbers), list[tuple[int, bytes]](), None
    unknown = np.zeros((len(lines), sum(field.count for field in fields)), np.bool_)
    words = _parse(fields, b"".join(lines), len(lines))
    if words is None:
        places, kept, tokens_of = [], list[bytes](), list[list[bytes]]()
        for number, line in zip(numbers, lines, strict=True):
            if not is_case(line, operator):
                skipped.append((number, line))
                continue
            tokens = _tokens(line)
            known = [token.translate(UNKNOWN) for token in tokens]
            if complaint := _complaint(operator, fields, tokens, known):
                error = IntsimError(f"line {number}: {complaint}; the line is {_quoted(line)}")
                break
            places.append(number)
            kept.append(b" ".join(known) + b"\n")
            tokens_of.append(tokens)
        words = cast("Int64", _parse(fields, b"".join(kept), len(kept)))
        unknown = np.array([[b"x" in t or b"z" in t for t in tokens] for tokens in tokens_of], np.bool_)
        unknown = unknown.reshape(words.shape)
    return Parsed(
        places=places,
        operands=None if alone else words[:, : operator.words],
        observed=words[:, 0 if alone else operator.words :],
        unknown=unknown,
        error=error,
        skipped=skipped,
    )


def _tokens(line: bytes) -> list[bytes]:
    """Return the words of a line in lower case, without what stands behind ``#`` or ``//``."""
    return line.partition(b"#")[0].partition(b"//")[0].lower().split()


def _quoted(line: bytes) -> str:
    text = line.rstrip(b"\r\n").decode("ascii", "backslashreplace")
    return f"{text[:QUOTED]!r}{' ...' if len(text) > QUOTED else ''}"


def _whole_digits(field: Field) -> Field:
    return Field(name=field.name, bits=4 * field.digits, signed=field.signed, count=field.count)


def _parse(fields: Sequence[Field], text: bytes, count: int) -> Int64 | None:
    """Return the words (cases, words) of ``count`` lines, or None if some line is malformed."""
    if len(text) != count * _width(fields):
        return None
    characters = np.frombuffer(text, np.uint8).reshape(count, _width(fields))
    if not (characters[:, -1] == NEWLINE).all():
        return None
    words: list[Int64] = []
    column = 0
    for field in fields:
        step = field.digits + 1
        part = characters[:, column : column + field.count * step].reshape(count, field.count, step)
        column += field.count * step
        digits = VALUE_OF[part[..., :-1]]
        is_last = column == characters.shape[1]
        spaces = part[:, :-1, -1] if is_last else part[..., -1]
        if (digits == NOT_HEX).any() or not (spaces == SPACE).all():
            return None
        value = np.zeros(part.shape[:2], np.uint64)
        for digit in range(field.digits):
            value = value << np.uint64(4) | digits[..., digit]
        if field.bits < 64 and (value >> np.uint64(field.bits)).any():
            return None
        unused = np.int64(64 - field.bits) if field.signed else np.int64(0)
        words.append(value.view(np.int64) << unused >> unused)  # the top bit becomes the sign
    return np.concatenate(words, axis=1)


def _complaint(operator: Operator, fields: Sequence[Field], tokens: Sequence[bytes], known: Sequence[bytes]) -> str:
    """Say what is wrong with the words of a case, if anything is; ``known`` has 0 where they have X or Z."""
    expected = [(field, index) for field in fields for index in range(field.count)]
    if len(tokens) != len(expected):
        names = " ".join(field.name + (f"[{field.count}]" if field.count > 1 else "") for field in fields)
        hint = "; the result is missing" if len(tokens) == operator.words else ""
        return f"a case of {operator.name} must have {len(expected)} words ({names}), got {len(tokens)}{hint}"
    for token, digits, (field, index) in zip(tokens, known, expected, strict=True):
        name, word = (f"{field.name}[{index}]" if field.count > 1 else field.name), token.decode("ascii", "replace")
        if len(token) != field.digits or not set(digits) <= set(HEX.tobytes()):
            hint = "; the result is missing" if len(token) == operator.operands[0].digits and len(tokens) == 1 else ""
            return f"{name} must be {field.digits} hex digits, got {word!r}{hint}"
        if int(digits, 16) >> field.bits:
            return f"{name} must fit {field.bits} bits, got {word!r}"
    return ""
