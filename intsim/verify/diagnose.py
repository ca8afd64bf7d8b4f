# SPDX-License-Identifier: Apache-2.0
"""Why a device differs: the first operator that does, run again under every single change of its rules."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim._trace import Trace
from intsim.errors import IntsimError, said
from intsim.io.dumps import Values, read_dump, seekable
from intsim.io.trace_file import read_trace
from intsim.verify.alike import read_alike
from intsim.verify.bugs import CONTROL, changes_of_call, changes_of_operator
from intsim.verify.bugs.feeds import Run
from intsim.verify.compare import Comparison, compare
from intsim.verify.vectors.judge import Answers, read_answers
from intsim.verify.vectors.operators import Operator

__all__ = ["Cause", "Diagnosis", "diagnose", "diagnose_answers", "diagnose_files"]

HEAD_BYTES: Final = 64  # of a trace or npz, the first of them hold a NUL


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One change: how many of the mismatches it gives exactly, and how many other elements it spoils."""

    change: str
    explained: int
    spoiled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The outcome of a diagnosis.

    Parameters
    ----------
    comparison
        Of the two dumps, or of the results of an operator's vectors.
    operator
        The operator that gave the first differing tensor, if it is known.
    mismatches
        How many of its elements differ.
    explain_all
        Changes that give the device's tensor to the bit.
    explain_some
        Changes that give some of its mismatches, most first.
    """

    comparison: Comparison
    operator: str | None
    mismatches: int
    explain_all: tuple[str, ...]
    explain_some: tuple[Cause, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as plain JSON values."""
        return {**asdict(self), "comparison": self.comparison.to_json()}


def diagnose(expected: Trace, actual: Mapping[str, Values]) -> Diagnosis:
    """Find the first operator of ``actual`` that differs and say which changes of its rules explain the difference.

    The operator runs from the *expected* operands, so an earlier difference does not hide the cause of this one.

    Parameters
    ----------
    expected
        Our trace, taken at level ``steps``, whose calls can be repeated.
    actual
        The device's dump.

    Raises
    ------
    IntsimError
        If the trace cannot be repeated, or the dumps have no tensor in common.
    """
    if not expected.calls:
        msg = "expected must be a trace of level steps, got one whose calls cannot be repeated; run with --level steps"
        raise IntsimError(msg)
    results = Trace(expected.level)
    results.update((name, expected[name]) for name in expected.calls)
    results.model_digest, results.bits = expected.model_digest, expected.bits
    comparison = compare(results, actual)
    if (first := comparison.first) is None:
        return Diagnosis(comparison=comparison, operator=None, mismatches=0, explain_all=(), explain_some=())
    call = expected.calls[first.name]
    found = read_alike(first.name, call.result, actual[first.name], bits=expected.bits.get(first.name), layout=None)
    observed = call.result if found is None else found.values  # of another shape: nothing is asked of the values
    return _diagnosis(comparison, call.operator.__name__, changes_of_call(call), call.result, observed)


def diagnose_answers(expected: Answers, actual: Answers) -> Diagnosis:
    """Say which changes of an operator's rules explain how a device's answers differ from the expected ones.

    Raises
    ------
    IntsimError
        If the expected results are not ours, or the answers are to other cases.
    """
    operator, golden = expected.operator, expected.expected
    if not np.array_equal(expected.observed, golden):
        wrong = int((expected.observed != golden).any(axis=1).sum())
        msg = f"expected must be what intsim vectors gen prints, got {wrong} other results; actual comes second"
        raise IntsimError(msg)
    if not np.array_equal(expected.operands, actual.operands):
        msg = f"actual must answer the {len(golden)} cases of expected in their order, got other operands"
        raise IntsimError(msg)

    def run(name: str) -> Run:
        return lambda: devices[name].results(expected.operands)

    devices = changes_of_operator(operator)
    dtype = np.dtype(f"{'' if operator.result.signed else 'u'}int{4 * operator.result.digits}")
    wanted, given = ({operator.name: results.astype(dtype)} for results in (golden, actual.observed))
    return _diagnosis(
        compare(wanted, given), operator.name, {name: run(name) for name in devices}, golden, actual.observed
    )


def _diagnosis(
    comparison: Comparison,
    operator: str,
    changes: Mapping[str, Run],
    result: NDArray[np.integer],
    observed: NDArray[Any],
) -> Diagnosis:
    first = comparison.first
    causes: list[Cause] = []
    if first is not None and first.kind == "values":
        causes = [_cause(name, run, result, observed) for name, run in changes.items() if name != CONTROL]
    mismatches = 0 if first is None else first.count
    some = [cause for cause in causes if cause.explained and (cause.explained < mismatches or cause.spoiled)]
    return Diagnosis(
        comparison=comparison,
        operator=None if first is None else operator,
        mismatches=mismatches,
        explain_all=tuple(cause.change for cause in causes if cause.explained == mismatches and not cause.spoiled),
        explain_some=tuple(sorted(some, key=lambda cause: cause.spoiled - cause.explained)),
    )


def _cause(change: str, run: Run, result: NDArray[np.integer], observed: NDArray[Any]) -> Cause:
    wrong = observed != result
    try:
        matches = run() == observed
    except ValueError:  # the change leaves the operator's bounds: no device could have computed it so
        matches = np.zeros_like(wrong)
    return Cause(
        change=change,
        explained=int(np.count_nonzero(matches & wrong)),
        spoiled=int(np.count_nonzero(~matches & ~wrong)),
    )


def diagnose_files(expected: str, actual: str) -> Diagnosis:
    """Diagnose a device's dump against a trace, or its answers to the vectors of an operator against ours.

    Parameters
    ----------
    expected
        A trace of level ``steps``, or what ``intsim vectors gen`` prints; ``-`` for standard input.
    actual
        As ``read_dump`` or ``intsim vectors verify`` reads it; ``-`` for standard input.

    Raises
    ------
    IntsimError
        If one is vectors and the other is not, or as ``diagnose`` and ``diagnose_answers``.
    """
    with seekable(expected) as golden, seekable(actual) as found:
        kinds = ["vectors" if _is_text(path) else "a dump" for path in (golden, found)]
        if kinds[0] != kinds[1]:
            msg = f"expected and actual must both be vectors or both be dumps, got {kinds[0]} and {kinds[1]}"
            raise IntsimError(msg)
        try:
            if kinds[0] == "vectors":
                ours = _answers(golden)
                return diagnose_answers(ours, _answers(found, like=ours.operator))
            return diagnose(read_trace(golden)[0], read_dump(found))
        except IntsimError as error:
            told = str(error)
            for path, given in ((golden, expected), (found, actual)):
                told = told.replace(str(path), "standard input" if given == "-" else given)
            raise IntsimError(told) from None


def _is_text(path: Path) -> bool:
    if path.is_dir():
        return False
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(HEAD_BYTES)
    except OSError as error:
        msg = f"{path} must be a readable file, got: {said(error)}"
        raise IntsimError(msg) from None


def _answers(path: Path, *, like: Operator | None = None) -> Answers:
    try:
        with path.open("rb") as file:
            return read_answers(file, like=like)
    except IntsimError as error:
        msg = f"{path}: {error}"
        raise IntsimError(msg) from None
