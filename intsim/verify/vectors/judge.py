# SPDX-License-Identifier: Apache-2.0
"""Judge a device: read operands and its results, recompute, report every case that differs.

The header names the seed, so the cases themselves are known: one that is missing, doubled or in another place is seen,
and answers may come without their operands. Text is a stream; memh, npz and safetensors are read whole.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim._progress import watched
from intsim.errors import IntsimError
from intsim.io.bounded import MAX_DATA, bounded_lines
from intsim.profile import INTSIM, Profile, find_profile
from intsim.verify.vectors.cases import LEVELS, Level, generate, minimum
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.files import arrays_of, cases_of_arrays, cases_of_memory, memory_of
from intsim.verify.vectors.operators import Field, Operator, bind
from intsim.verify.vectors.text import (
    Header,
    Parsed,
    format_words,
    is_answer_alone,
    is_case,
    parse_header,
    parse_lines,
)

__all__ = ["Answers", "Mismatch", "Verdict", "read_answers", "verify"]

BATCH_BYTES: Final = 1 << 20
HEAD_BYTES: Final = 64  # of an npz or safetensors file, the first of them hold a NUL
MAX_HEADER_LINES: Final = 1000
"""Lines before the first case: the longest header has 40, and a device may add remarks."""
OPTIONS: Final = ("to", "activations")
EVER: Final = 1 << 40  # cases


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A case whose observed result is not the expected one.

    Parameters
    ----------
    place
        Its line, ``line: 7``, or the case from 1.
    unknown
        Which of the words of operands and result have a digit X or Z. Where an operand has one and no seed tells the
        case, nothing is expected.
    """

    operator: Operator
    place: str
    operands: Int64
    observed: Int64
    expected: Int64
    unknown: NDArray[np.bool_]

    def __str__(self) -> str:
        """Return ``<operands>  => <observed>  expected: <expected>``, then observed minus expected and the place."""
        result, count = [self.operator.result], self.operator.words
        observed = _shown(result, self.observed, self.unknown[count:])
        operands = _shown(self.operator.operands, self.operands, self.unknown[:count])
        if self.unknown[:count].any():
            return f"{operands}  => {observed}  expected: operands without X  {self.place}"
        difference = self.observed - self.expected
        scalar = self.operator.result.count == 1
        told = [
            ("" if scalar else f"[{j}] ") + ("X" if self.unknown[count + j] else f"{difference[j]:+d}")
            for j in np.flatnonzero((difference != 0) | self.unknown[count:]).tolist()
        ]
        return (
            f"{operands}  => {observed}  expected: {format_words(result, self.expected)}"
            f"  difference: {', '.join(told)} LSB  {self.place}"
        )


def _shown(fields: Sequence[Field], words: Int64, unknown: NDArray[np.bool_]) -> str:
    """Return words as text, X for every digit of one that is not known."""
    text = format_words(fields, words).split(" ")
    return " ".join("x" * len(word) if is_x else word for word, is_x in zip(text, unknown.tolist(), strict=True))


@dataclass(slots=True)
class Verdict:
    """How many cases were read, how many differed, and which lines were none: their numbers and text."""

    operator: Operator
    cases: int = 0
    mismatches: int = 0
    skipped: int = 0
    first_skipped: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Cases with the results that stand beside them, the expected ones, and their lines, or numbers from 1.

    ``unknown`` tells which words of operands and result have a digit X or Z: they are 0 here.
    """

    operator: Operator
    places: Sequence[int]
    operands: Int64
    observed: Int64
    expected: Int64
    unknown: NDArray[np.bool_]
    unit: str = "line"
    skipped: Sequence[tuple[int, bytes]] = ()

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Which cases are not as expected."""
        return (self.observed != self.expected).any(axis=1) | self.unknown.any(axis=1)


def verify(
    stream: BinaryIO,
    name: str,
    *,
    profile: Profile | None = None,
    size: tuple[int, ...] | None = None,
    seed: int | None = None,
    level: Level | None = None,
    options: Mapping[str, str] | None = None,
) -> Iterator[Mismatch | Verdict]:
    """Yield every mismatch of a file of vectors, then the verdict. Memory does not grow with a stream of text.

    Parameters
    ----------
    stream
        Operands and the device's results, or its results alone, after their header if there is one: text, memh, npz or
        safetensors. Of text and memh, remarks and what a simulator prints of itself are skipped and counted.
    name
        The operator.
    profile, size, seed, level, options
        As the header has them, else the ``intsim`` profile, the default size and formats. Answers alone are to the
        cases of seed 1 and level 1 unless something says otherwise; without a seed, operands may be any.

    Raises
    ------
    IntsimError
        If a case is malformed, the header speaks of other vectors, operands are outside the operator's domain or not
        those of the seed in their order, or there are more or fewer cases than announced, or none. The mismatches of
        the cases before come first.
    """
    verdict = None
    asked = _Asked(name=name, profile=profile, size=size, seed=seed, level=level, options=options or {})
    for batch in _batches(stream, asked):
        verdict = verdict or Verdict(batch.operator)
        verdict.cases += len(batch.places)
        verdict.skipped += len(batch.skipped)
        if batch.skipped and verdict.first_skipped is None:
            number, line = batch.skipped[0]
            verdict.first_skipped = number, line.rstrip(b"\r\n").decode("ascii", "backslashreplace")
        for k in np.flatnonzero(batch.differs).tolist():
            verdict.mismatches += 1
            yield Mismatch(
                operator=batch.operator,
                place=f"{batch.unit}: {batch.places[k]}",
                operands=batch.operands[k],
                observed=batch.observed[k],
                expected=batch.expected[k],
                unknown=batch.unknown[k],
            )
    if verdict is not None:  # without a case, an error was raised
        yield verdict


def read_answers(stream: BinaryIO, *, like: Answers | None = None) -> Answers:
    """Return all cases of a file of vectors.

    Parameters
    ----------
    stream
        As ``verify`` reads it.
    like
        The cases that are answered, whose operator it is; by default the header tells.

    Raises
    ------
    IntsimError
        As ``verify``, or if neither names the operator.
    """
    asked = _Asked()
    if like is not None:
        own = like.operator
        asked = replace(asked, name=own.name, profile=own.profile, size=own.size, cases=like.operands, operator=own)
    parts = list(_batches(stream, asked))
    return Answers(
        operator=parts[0].operator,
        places=[place for part in parts for place in part.places],
        operands=np.concatenate([part.operands for part in parts]),
        observed=np.concatenate([part.observed for part in parts]),
        expected=np.concatenate([part.expected for part in parts]),
        unknown=np.concatenate([part.unknown for part in parts]),
        unit=parts[0].unit,
        skipped=[line for part in parts for line in part.skipped],
    )


# Which cases


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is known of the vectors before they are read."""

    name: str | None = None
    profile: Profile | None = None
    size: tuple[int, ...] | None = None
    seed: int | None = None
    level: Level | None = None
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    cases: Int64 | None = None
    operator: Operator | None = None

    def bound(self, header: Header) -> Operator:
        """Return the operator that the header and the caller agree on."""
        name, profile = self.name, self.profile
        if name is None:
            line = header.get("operator")
            if line is None:
                msg = "the vectors must name their operator in a header, got none; write them with intsim vectors gen"
                raise IntsimError(msg)
            name = line[1]
        header.require("operator", name)
        if profile is None:
            line = header.get("profile")
            profile = INTSIM
            if line is not None:
                try:
                    profile = find_profile(line[1].partition(" ")[0])
                except IntsimError as error:
                    msg = f"line {line[0]}: {error}"
                    raise IntsimError(msg) from None
        if self.operator is not None:
            operator = self.operator
        else:
            size = header.size if self.size is None else self.size
            told = {option: line[1] for option in OPTIONS if (line := header.get(option))}
            operator = bind(name, profile, size, **(told | {**self.options}))
        header.require_operator(operator, profile)
        return operator

    def count(self, header: Header, operator: Operator) -> int:
        """Return how many cases there should be."""
        if self.cases is not None:
            return len(self.cases)
        announced, level = header.number("cases"), self.level or 1
        return minimum(operator, level) if announced is None else announced

    def seeded(self, header: Header, operator: Operator, *, alone: bool) -> "_Seeded | None":
        """Return the cases that the file must have in their order, if anything tells which."""
        announced = header.number("cases")
        if self.cases is not None:
            count = len(self.cases)
            return _Seeded(operator, [self.cases], "expected", announced=count, source="expected has", least=count)
        seed, level = header.number("seed"), header.number("level")
        if self.seed is not None:
            header.require("seed", str(self.seed))
        if self.level is not None:
            header.require("level", str(self.level))
        seed, level = (own if own is not None else told for own, told in ((self.seed, seed), (self.level, level)))
        if header.get("layer") is not None:  # only the model knows its constants
            if alone:
                msg = (
                    "answers alone must be to cases that a seed tells, got those of a model's layer; keep the operands"
                )
                raise IntsimError(msg)
            return None
        if not alone and (seed is None or (announced is None and self.seed is None)):
            return None
        seed, level = 1 if seed is None else seed, 1 if level is None else level
        at = next((each for each in LEVELS if each == level), None)
        if at is None:
            msg = f"level of the vectors must be one of {', '.join(map(str, LEVELS))}, got {level}"
            raise IntsimError(msg)
        batches = generate(operator, seed=seed, level=at, cases=EVER if announced is None else announced)
        least = minimum(operator, at) if announced is None else 0
        return _Seeded(operator, batches, f"seed {seed}", announced=announced, source="their header says", least=least)


class _Seeded:
    """The cases that a file must have, in their order."""

    def __init__(
        self,
        operator: Operator,
        batches: Iterable[Int64],
        name: str,
        *,
        announced: int | None,
        source: str,
        least: int,
    ) -> None:
        self.name, self.source, self.least = name, source, least
        self._operator, self._batches, self._announced = operator, iter(batches), announced
        self._ahead, self._taken = np.empty((0, operator.words), np.int64), 0

    def take(self, count: int) -> Int64:
        """Return the next cases, fewer if there are no more."""
        parts = [self._ahead]
        while sum(map(len, parts)) < count and (batch := next(self._batches, None)) is not None:
            parts.append(batch)
        ahead = np.concatenate(parts)
        limit = count if self._announced is None else min(count, self._announced - self._taken)
        taken, self._ahead = ahead[:limit], ahead[limit:]
        self._taken += len(taken)
        return taken

    def misplaced(self, operands: Int64, number: int, nearby: Int64) -> str:
        """Say which case stands where case ``number``, from 1, should; ``nearby`` are the ones about it."""
        start = self._taken - len(nearby) + 1
        ahead = np.concatenate([nearby, self._ahead])
        found = (np.flatnonzero((ahead == operands).all(axis=1)) + start).tolist()
        other = f"those of case {min(found, key=lambda k: abs(k - number))}" if found else "others"
        return f"operands must be those of case {number} of {self.name}, got {other}"


# Reading


def _batches(stream: BinaryIO, asked: _Asked) -> Iterator[Answers]:
    head = stream.read(HEAD_BYTES)
    if b"\0" in head:
        yield from _batches_of_arrays(head, stream, asked)
        return
    lines = _lines(io.BufferedReader(_Resumed(head, stream)))
    if head.lstrip().startswith((b"//", b"@")):
        yield from _batches_of_memory(lines, asked)
    else:
        yield from _batches_of_text(lines, asked)


class _Resumed(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data, self._head = self._head or self._stream.read(len(buffer)), b""
        buffer[: len(data)] = data
        return len(data)


def _batches_of_arrays(head: bytes, stream: BinaryIO, asked: _Asked) -> Iterator[Answers]:
    with NamedTemporaryFile() as copy:
        copy.write(head)
        size = len(head)
        while block := stream.read(BATCH_BYTES):
            size += len(block)
            if size > MAX_DATA:
                msg = f"the vectors must have at most {MAX_DATA} bytes as npz or safetensors, got more"
                raise IntsimError(msg)
            copy.write(block)
        copy.flush()
        header, arrays = arrays_of(Path(copy.name), "the file")
    operator = asked.bound(header)
    parsed = cases_of_arrays(operator, header, arrays)
    seeded = asked.seeded(header, operator, alone=parsed.operands is None)
    yield from _judged(operator, _parts(parsed, operator), seeded, header, unit="case")


def _batches_of_memory(lines: Iterator[bytes], asked: _Asked) -> Iterator[Answers]:
    numbered, size = list[tuple[int, bytes]](), 0
    for number, line in enumerate(lines, start=1):
        size += len(line)
        if size > MAX_DATA:
            msg = f"the vectors must have at most {MAX_DATA} bytes as memh, got more"
            raise IntsimError(msg)
        numbered.append((number, line))
    memory = memory_of(numbered)
    operator = asked.bound(memory.header)
    parsed = cases_of_memory(operator, memory, asked=asked.count(memory.header, operator))
    seeded = asked.seeded(memory.header, operator, alone=parsed.operands is None)
    yield from _judged(operator, _parts(parsed, operator), seeded, memory.header, unit="case")


def _batches_of_text(lines: Iterator[bytes], asked: _Asked) -> Iterator[Answers]:
    remarks, before, number = list[tuple[int, bytes]](), list[tuple[int, bytes]](), 1
    operator: Operator | None = None
    first = b""
    for line in lines:
        if line.startswith(b"#"):
            remarks.append((number, line))
        else:
            if operator is None and (asked.name is not None or parse_header(remarks).get("operator")):
                operator = asked.bound(parse_header(remarks))
            if is_case(line, operator):
                first = line
                break
            before.append((number, line))
        if number > MAX_HEADER_LINES:
            msg = f"the vectors must have at most {MAX_HEADER_LINES} lines before their first case, got more"
            raise IntsimError(msg)
        number += 1
    header = parse_header(remarks)
    operator = asked.bound(header)
    alone = is_answer_alone(operator, first)

    def parsed() -> Iterator[Parsed]:
        yield Parsed(
            places=(),
            operands=None if alone else np.empty((0, operator.words), np.int64),
            observed=np.empty((0, operator.result.count), np.int64),
            unknown=np.empty((0, operator.result.count + (0 if alone else operator.words)), np.bool_),
            skipped=before,
        )
        rest, start = chain([first] if first else [], lines), number
        while batch := _batch(rest):
            yield parse_lines(operator, range(start, start + len(batch)), batch, alone=alone)
            start += len(batch)

    yield from _judged(operator, parsed(), asked.seeded(header, operator, alone=alone), header, unit="line")


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    try:
        yield from bounded_lines(stream)
    except ValueError as error:
        msg = f"the vectors must be lines of text, got {error}"
        raise IntsimError(msg) from None


def _batch(lines: Iterator[bytes]) -> list[bytes]:
    """Return the next lines, about BATCH_BYTES of them."""
    batch: list[bytes] = []
    size = 0
    while size < BATCH_BYTES and (line := next(lines, b"")):
        batch.append(line)
        size += len(line)
    return batch


# Judging


def _parts(parsed: Parsed, operator: Operator) -> Iterator[Parsed]:
    """Yield the cases of a file, about BATCH_BYTES of them at a time."""
    length = -(-BATCH_BYTES // operator.line_bytes)
    for start in range(0, max(len(parsed.places), 1), length):
        cut = slice(start, start + length)
        yield Parsed(
            places=parsed.places[cut],
            operands=None if parsed.operands is None else parsed.operands[cut],
            observed=parsed.observed[cut],
            unknown=parsed.unknown[cut],
            skipped=() if start else parsed.skipped,
        )


def _judged(
    operator: Operator, parts: Iterable[Parsed], seeded: _Seeded | None, header: Header, *, unit: str
) -> Iterator[Answers]:
    """Yield the cases of a file with what is expected of them, up to one that is wrong, whose error is raised."""
    announced, cases = header.number("cases"), 0
    for part in watched(parts, "judging", unit="batch"):
        answers, error = _expected(operator, part, seeded, cases, unit)
        yield answers
        if error is not None:
            raise error
        cases += len(answers.places)
        if announced is not None and cases > announced:
            break
    if announced is not None and announced != cases:
        got = cases if cases < announced else "more"
        msg = f"the vectors must have {announced} cases as their header says, got {got}"
        raise IntsimError(msg)
    if cases == 0:
        msg = "the vectors must have a case at least, got none; nothing was verified"
        raise IntsimError(msg)
    if seeded is not None and cases < seeded.least:
        msg = f"the vectors must have the {seeded.least} cases of {seeded.name} at least, got {cases}"
        raise IntsimError(msg)


def _expected(
    operator: Operator, part: Parsed, seeded: _Seeded | None, before: int, unit: str
) -> tuple[Answers, IntsimError | None]:
    """Return the cases of a part that are as asked and defined, and the error of the one behind them."""
    count, error = len(part.places), part.error
    asked = part.operands if seeded is None else seeded.take(count)
    operands = cast("Int64", asked if part.operands is None else part.operands)  # answers alone have a seed
    unknown = part.unknown
    if part.operands is None:
        unknown = np.concatenate([np.zeros((count, operator.words), np.bool_), unknown], axis=1)
    spoiled: NDArray[np.bool_] = np.any(unknown[:, : operator.words], axis=1)
    if seeded is not None and asked is not None:
        if len(asked) < count:
            count = len(asked)
            error = IntsimError(f"the vectors must have {before + count} cases as {seeded.source}, got more")
        if part.operands is None and np.array_equal(part.observed, asked) and (asked[:1] != asked).any():
            msg = "the vectors must have results, got their operands again; the result is missing"
            raise IntsimError(msg)
        operands = np.where(spoiled[:count, None], asked[:count], operands[:count])
        other = np.flatnonzero((operands != asked[:count]).any(axis=1))
        if other.size:
            count = int(other[0])
            told = seeded.misplaced(operands[count], before + count + 1, asked)
            error = IntsimError(f"{unit} {part.places[count]}: {told}")
    sure = np.flatnonzero(~spoiled[:count])
    expected = np.zeros((count, operator.result.count), np.int64)
    results, refused = _results(operator, operands[sure], [part.places[k] for k in sure.tolist()], unit)
    expected[sure[: len(results)]] = results
    if refused is not None:
        count, error = int(sure[len(results)]), refused
    return Answers(
        operator=operator,
        places=part.places[:count],
        operands=operands[:count],
        observed=part.observed[:count],
        expected=expected[:count],
        unknown=unknown[:count],
        unit=unit,
        skipped=part.skipped,
    ), error


def _results(operator: Operator, operands: Int64, places: Sequence[int], unit: str) -> tuple[Int64, IntsimError | None]:
    """Return the expected results up to the first case outside the operator's domain, and the error of that one."""
    try:
        return operator.results(operands), None
    except ValueError:
        low, high = 0, len(operands) - 1  # a defined prefix, and a case at or after which one is not defined
        while low < high:
            middle = (low + high) // 2
            if _refusal(operator, operands[low : middle + 1]) is None:
                low = middle + 1
            else:
                high = middle
        return operator.results(operands[:low]), IntsimError(
            f"{unit} {places[low]}: {_refusal(operator, operands[low : low + 1])}"
        )


def _refusal(operator: Operator, operands: Int64) -> ValueError | None:
    try:
        operator.results(operands)
    except ValueError as error:
        return error
    return None
