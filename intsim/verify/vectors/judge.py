# SPDX-License-Identifier: Apache-2.0
"""Judge a device: read operands and its results as a stream, recompute, report every line that differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from intsim.errors import IntsimError
from intsim.io.bounded import bounded_lines
from intsim.profile import INTSIM, Profile, find_profile
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.operators import Operator, bind
from intsim.verify.vectors.text import Header, format_words, parse_header, parse_lines

__all__ = ["Answers", "Mismatch", "Verdict", "read_answers", "verify"]

BATCH_BYTES: Final = 1 << 20
MAX_HEADER_LINES: Final = 1000
"""Lines before the first case: the longest header has 40, and a device may add remarks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A case whose observed result is not the expected one."""

    operator: Operator
    line: int
    operands: Int64
    observed: Int64
    expected: Int64

    def __str__(self) -> str:
        """Return ``<operands>  => <observed>  expected: <expected>``, then observed minus expected and the line."""
        result = [self.operator.result]
        difference = self.observed - self.expected
        wrong = np.flatnonzero(difference).tolist()
        scalar = self.operator.result.count == 1
        shown = ", ".join(f"{difference[j]:+d}" if scalar else f"[{j}] {difference[j]:+d}" for j in wrong)
        return (
            f"{format_words(self.operator.operands, self.operands)}  => {format_words(result, self.observed)}"
            f"  expected: {format_words(result, self.expected)}  difference: {shown} LSB  line: {self.line}"
        )


@dataclass(slots=True)
class Verdict:
    """How many cases were read, and how many differed."""

    operator: Operator
    cases: int = 0
    mismatches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Cases with the results that stand beside them, the expected ones, and the numbers of their lines."""

    operator: Operator
    lines: Sequence[int]
    operands: Int64
    observed: Int64
    expected: Int64


def verify(
    stream: BinaryIO, name: str, *, profile: Profile | None = None, size: tuple[int, ...] | None = None
) -> Iterator[Mismatch | Verdict]:
    """Yield every mismatch of a stream of vectors, then the verdict. Memory does not grow with the stream.

    Parameters
    ----------
    stream
        Lines of operands and the device's result, after their header if there is one.
    name
        The operator.
    profile, size
        As the header has them, else the ``intsim`` profile and the default size.

    Raises
    ------
    IntsimError
        If a line is malformed, the header speaks of other vectors, operands are outside the operator's domain, or there
        are more or fewer cases than the header announces, or none. The mismatches of the lines before come first.
    """
    verdict = None
    for batch in _batches(stream, name, profile, size):
        verdict = verdict or Verdict(batch.operator)
        verdict.cases += len(batch.lines)
        for k in np.flatnonzero((batch.observed != batch.expected).any(axis=1)).tolist():
            verdict.mismatches += 1
            yield Mismatch(
                operator=batch.operator,
                line=batch.lines[k],
                operands=batch.operands[k],
                observed=batch.observed[k],
                expected=batch.expected[k],
            )
    if verdict is not None:  # without a case, an error was raised
        yield verdict


def read_answers(stream: BinaryIO, *, like: Operator | None = None) -> Answers:
    """Return all cases of a stream of vectors.

    Parameters
    ----------
    stream
        As ``verify`` reads it.
    like
        The operator, by default the header's.

    Raises
    ------
    IntsimError
        As ``verify``, or if neither names the operator.
    """
    parts = list(
        _batches(stream, None, None, None) if like is None else _batches(stream, like.name, like.profile, like.size)
    )
    return Answers(
        operator=parts[0].operator,
        lines=[line for part in parts for line in part.lines],
        operands=np.concatenate([part.operands for part in parts]),
        observed=np.concatenate([part.observed for part in parts]),
        expected=np.concatenate([part.expected for part in parts]),
    )


def _batches(
    stream: BinaryIO, name: str | None, profile: Profile | None, size: tuple[int, ...] | None
) -> Iterator[Answers]:
    comments: list[tuple[int, bytes]] = []
    stream_lines = _lines(stream)
    first = next(stream_lines, b"")
    while first.startswith(b"#"):
        comments.append((len(comments) + 1, first))
        if len(comments) > MAX_HEADER_LINES:
            msg = f"the vectors must have at most {MAX_HEADER_LINES} lines before their first case, got more"
            raise IntsimError(msg)
        first = next(stream_lines, b"")
    header = parse_header(comments)
    operator = _bind(name, header, profile, size)
    announced = header.cases

    cases, number = 0, len(comments) + 1
    batch = [first, *_batch(stream_lines)] if first else []
    while batch:
        numbers = [number + k for k, line in enumerate(batch) if not line.startswith(b"#")]
        lines = [line for line in batch if not line.startswith(b"#")]
        operands, observed, malformed = parse_lines(operator, numbers, lines)
        expected, refused = _results(operator, operands, numbers)
        defined = len(expected)
        yield Answers(
            operator=operator,
            lines=numbers[:defined],
            operands=operands[:defined],
            observed=observed[:defined],
            expected=expected,
        )
        if (error := refused or malformed) is not None:
            raise error
        cases += len(lines)
        number += len(batch)
        if announced is not None and cases > announced:
            break
        batch = _batch(stream_lines)
    if announced is not None and announced != cases:
        got = cases if cases < announced else "more"
        msg = f"the vectors must have {announced} cases as their header says, got {got}"
        raise IntsimError(msg)
    if cases == 0:
        msg = "the vectors must have a case at least, got none; nothing was verified"
        raise IntsimError(msg)


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


def _bind(name: str | None, header: Header, profile: Profile | None, size: tuple[int, ...] | None) -> Operator:
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
    operator = bind(name, profile, header.size if size is None else size)
    header.require_operator(operator, profile)
    return operator


def _results(operator: Operator, operands: Int64, numbers: Sequence[int]) -> tuple[Int64, IntsimError | None]:
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
            f"line {numbers[low]}: {_refusal(operator, operands[low : low + 1])}"
        )


def _refusal(operator: Operator, operands: Int64) -> ValueError | None:
    try:
        operator.results(operands)
    except ValueError as error:
        return error
    return None
