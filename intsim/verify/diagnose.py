# SPDX-License-Identifier: Apache-2.0
"""Why a device differs: the first operator that does, run again under every single change of its rules.

The listed changes come first; where none of them explains every mismatch, registers, running sums and reciprocals are
tried at every width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from intsim._progress import watched
from intsim._trace import Trace
from intsim.errors import CheckpointError, IntsimError, said
from intsim.io.dumps import Values, read_dump, seekable
from intsim.io.trace_file import TRACE, read_trace, repeated
from intsim.verify.alike import read_alike
from intsim.verify.bugs import (
    CONTROL,
    Run,
    Sized,
    changes_of_call,
    changes_of_operator,
    widths_of_call,
    widths_of_operator,
)
from intsim.verify.compare import Comparison, compare
from intsim.verify.vectors.formats import VECTORS
from intsim.verify.vectors.judge import Answers, read_answers
from intsim.verify.vectors.operators import Operator

__all__ = ["Cause", "Diagnosis", "diagnose", "diagnose_answers", "diagnose_files"]

T = TypeVar("T")

HEAD_BYTES: Final = 64  # of a trace or npz, the first of them hold a NUL
SAMPLE: Final = 32  # cases that differ, and as many that do not, on which widths are tried first
FINALISTS: Final = 8  # widths that explain some of the sample, tried on all cases


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
    unknown
        How many of its elements are X or Z, which count neither as equal nor as mismatches.
    explain_all
        Changes that give the device's tensor to the bit, in the order of the list.
    explain_some
        Changes that explain more mismatches than they spoil other elements, by that difference; if there is none, those
        that explain some.
    """

    comparison: Comparison
    operator: str | None
    mismatches: int
    unknown: int
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
        If the trace cannot be repeated, the call in question gives something else than it records, or the dumps have
        no tensor in common.
    """
    if not expected.calls:
        msg = "expected must be a trace of level steps, got one whose calls cannot be repeated; run with --level steps"
        raise IntsimError(msg)
    results = Trace(expected.level)
    results.update((name, expected[name]) for name in expected.calls)
    results.model_digest, results.bits = expected.model_digest, expected.bits
    comparison = compare(results, actual)
    if (first := comparison.first) is None:
        return _nothing(comparison)
    call = expected.calls[first.name]
    found = read_alike(first.name, call.result, actual[first.name], bits=expected.bits.get(first.name), layout=None)
    if found is None:  # of another shape: nothing is asked of the values
        return _diagnosis(comparison, call.operator.__name__, first.count, [])
    unknown = np.zeros(call.result.shape, np.bool_) if found.unknown is None else found.unknown
    judge = _Judge(call.result, np.where(unknown, call.result, found.values), unknown)
    if not np.array_equal(repeated(call.operator, call.operands, call.constants), call.result):
        msg = f"expected must record at {first.name} what its operator gives, got other integers; run the model again"
        raise CheckpointError(msg)
    changes = watched(changes_of_call(call).items(), "trying", unit="change")
    causes = [judge.cause(name, run) for name, run in changes if name != CONTROL]
    if not any(map(judge.is_whole, causes)):
        causes += [cause for cause, _ in _searched(widths_of_call(call), call.result, lambda run: run, judge)]
    return _diagnosis(comparison, call.operator.__name__, judge.count, causes, unknown=int(unknown.sum()))


def diagnose_answers(expected: Answers, actual: Answers) -> Diagnosis:
    """Say which changes of an operator's rules explain how a device's answers differ from the expected ones.

    Raises
    ------
    IntsimError
        If the expected results are not ours, or the answers are to other cases.
    """
    operator, golden = expected.operator, expected.expected
    if expected.differs.any():
        wrong = int(expected.differs.sum())
        msg = f"expected must be what intsim vectors gen prints, got {wrong} other results; actual comes second"
        raise IntsimError(msg)
    if not np.array_equal(expected.operands, actual.operands):
        msg = f"actual must answer the {len(golden)} cases of expected in their order, got other operands"
        raise IntsimError(msg)
    spoiled: NDArray[np.bool_] = np.any(actual.unknown[:, : operator.words], axis=1, keepdims=True)
    unknown = actual.unknown[:, operator.words :] | spoiled
    observed = np.where(unknown, golden, actual.observed)
    dtype = np.dtype(f"{'' if operator.result.signed else 'u'}int{4 * operator.result.digits}")
    wanted, given = ({operator.name: results.astype(dtype)} for results in (golden, observed))
    comparison = compare(wanted, given)
    if comparison.first is None:
        return _nothing(comparison, unknown=int(unknown.sum()))
    judge = _Judge(golden, observed, unknown)
    devices = watched(changes_of_operator(operator).items(), "trying", unit="change")
    causes = [
        judge.cause(name, lambda device=device: device.results(expected.operands))
        for name, device in devices
        if name != CONTROL
    ]
    if not any(map(judge.is_whole, causes)):
        differs = (observed != golden).any(axis=1)
        sample = np.concatenate([_spread(np.flatnonzero(rows)) for rows in (differs, ~differs)])

        def on(cases: Any) -> Callable[[Operator], Run]:
            return lambda device: lambda: device.results(cases)

        on_all, sampled = on(expected.operands), _Judge(golden[sample], observed[sample], unknown[sample])
        sized = widths_of_operator(operator)
        alone = {name: each for name, each in sized.items() if not each.reads_all_rows}
        found = list(_searched(alone, golden[sample], on(expected.operands[sample]), sampled))
        found.sort(key=lambda pair: pair[0].spoiled - pair[0].explained)
        causes += [judge.cause(cause.change, on_all(device)) for cause, device in found[:FINALISTS]]
        running = {name: each for name, each in sized.items() if each.reads_all_rows}
        causes += [cause for cause, _ in _searched(running, golden, on_all, judge)]
    return _diagnosis(comparison, operator.name, judge.count, causes, unknown=int(unknown.sum()))


def _spread(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return some rows, evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(np.intp)] if len(rows) else rows


class _Judge:
    """What changes are measured by: the expected result, the device's, and which elements of it are not known."""

    def __init__(self, result: NDArray[Any], observed: NDArray[Any], unknown: NDArray[np.bool_]) -> None:
        self._observed, self._known = observed, ~unknown
        self._wrong = (observed != result) & self._known
        self.count = int(np.count_nonzero(self._wrong))

    def cause(self, change: str, run: Run) -> Cause:
        """Return what a change explains and spoils."""
        try:
            matches = run() == self._observed
        except ValueError:  # the change leaves the operator's bounds: no device could have computed it so
            matches = np.zeros_like(self._wrong)
        return Cause(
            change=change,
            explained=int(np.count_nonzero(matches & self._wrong)),
            spoiled=int(np.count_nonzero(~matches & ~self._wrong & self._known)),
        )

    def is_whole(self, cause: Cause) -> bool:
        """Say whether a change explains every mismatch and spoils nothing."""
        return cause.explained == self.count and not cause.spoiled


def _searched(
    sized: Mapping[str, Sized[T]], result: NDArray[Any], run_of: Callable[[T], Run], judge: _Judge
) -> Iterator[tuple[Cause, T]]:
    """Yield what explains something, at every width from the narrowest to the first that changes nothing."""
    for template, each in sized.items():
        for bits in each.widths:
            changed = each.at(bits)
            try:
                values = run_of(changed)()
            except ValueError:  # beyond the operator's bounds
                continue
            if np.array_equal(values, result):
                break  # wider ones change nothing either
            cause = judge.cause(template.format(bits), lambda values=values: values)
            if cause.explained:
                yield cause, changed


def _nothing(comparison: Comparison, *, unknown: int = 0) -> Diagnosis:
    return Diagnosis(
        comparison=comparison, operator=None, mismatches=0, unknown=unknown, explain_all=(), explain_some=()
    )


def _diagnosis(
    comparison: Comparison, operator: str, mismatches: int, causes: list[Cause], *, unknown: int = 0
) -> Diagnosis:
    whole = tuple(cause.change for cause in causes if cause.explained == mismatches and not cause.spoiled)
    rest = {cause.change: cause for cause in causes if cause.explained and cause.change not in whole}
    ranked = sorted(rest.values(), key=lambda cause: cause.spoiled - cause.explained)
    gaining = [cause for cause in ranked if cause.explained > cause.spoiled]
    return Diagnosis(
        comparison=comparison,
        operator=operator,
        mismatches=mismatches,
        unknown=unknown,
        explain_all=whole,
        explain_some=tuple(gaining or ranked),
    )


def diagnose_files(expected: str, actual: str) -> Diagnosis:
    """Diagnose a device's dump against a trace, or its answers to the vectors of an operator against ours.

    Parameters
    ----------
    expected
        A trace of level ``steps``, or what ``intsim vectors gen`` writes: text, memh, npz, safetensors; ``-`` for
        standard input.
    actual
        As ``read_dump`` or ``intsim vectors verify`` reads it, answers alone too; ``-`` for standard input.

    Raises
    ------
    IntsimError
        If one is vectors and the other is not, or as ``diagnose`` and ``diagnose_answers``.
    """
    with seekable(expected) as golden, seekable(actual) as found:
        of_vectors = _is_vectors(golden)
        if of_vectors != (_may_answer(found) if of_vectors else _is_vectors(found)):
            kinds = ("vectors", "a dump") if of_vectors else ("a dump", "vectors")
            msg = f"expected and actual must both be vectors or both be dumps, got {kinds[0]} and {kinds[1]}"
            raise IntsimError(msg)
        try:
            if of_vectors:
                ours = _answers(golden)
                return diagnose_answers(ours, _answers(found, like=ours))
            return diagnose(read_trace(golden)[0], read_dump(found))
        except IntsimError as error:
            told = str(error)
            for path, given in ((golden, expected), (found, actual)):
                told = told.replace(str(path), "standard input" if given == "-" else given)
            raise IntsimError(told) from None


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"\0" not in file.read(HEAD_BYTES)
    except OSError as error:
        msg = f"{path} must be a readable file, got: {said(error)}"
        raise IntsimError(msg) from None


def _is_vectors(path: Path) -> bool:
    if path.is_dir():
        return False
    if _is_text(path):
        return True
    with path.open("rb") as file:
        return VECTORS.recognises(file)


def _may_answer(path: Path) -> bool:
    """Say whether a file may hold answers to vectors: anything but a folder and a trace."""
    if path.is_dir() or _is_text(path):
        return not path.is_dir()
    with path.open("rb") as file:
        return not TRACE.recognises(file)


def _answers(path: Path, *, like: Answers | None = None) -> Answers:
    try:
        with path.open("rb") as file:
            return read_answers(file, like=like)
    except IntsimError as error:
        msg = f"{path}: {error}"
        raise IntsimError(msg) from None
