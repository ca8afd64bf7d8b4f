# SPDX-License-Identifier: Apache-2.0
"""Why a device differs: the first operator that does, run again under every single-change variant of its rules."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from intsim._trace import Call, Trace
from intsim.errors import IntsimError
from intsim.io.dumps import Dump, HexWords
from intsim.profile import Profile
from intsim.verify.compare import Comparison, compare
from intsim.verify.variants import variants

__all__ = ["Cause", "Diagnosis", "diagnose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One variant: how many of the mismatches it gives exactly, and how many other elements it spoils."""

    change: str
    explained: int
    spoiled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The outcome of a diagnosis.

    Parameters
    ----------
    comparison
        Of the two dumps.
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


def diagnose(expected: Trace, actual: Dump) -> Diagnosis:
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
    results: Dump = {name: expected[name] for name in expected.calls}
    comparison = compare(results, actual)
    first = comparison.first
    if first is None or first.kind != "values":
        operator = None if first is None else expected.calls[first.name].operator.__name__
        return Diagnosis(comparison=comparison, operator=operator, mismatches=0, explain_all=(), explain_some=())
    call = expected.calls[first.name]
    values = actual[first.name]
    observed = values.like(call.result) if isinstance(values, HexWords) else values
    causes = sorted(_causes(call, observed), key=lambda cause: (cause.spoiled - cause.explained, cause.change))
    return Diagnosis(
        comparison=comparison,
        operator=call.operator.__name__,
        mismatches=first.count,
        explain_all=tuple(cause.change for cause in causes if cause.explained == first.count and not cause.spoiled),
        explain_some=tuple(
            cause for cause in causes if cause.explained and (cause.explained < first.count or cause.spoiled)
        ),
    )


def _causes(call: Call, observed: Any) -> list[Cause]:
    profile: Profile | None = call.constants.get("profile")
    if profile is not None and call.operator.__name__ in profile.borrowed:  # no change of its rule is known
        return []
    wrong = observed != call.result
    try:
        candidates = variants(call)
    except KeyError:
        return []
    causes: list[Cause] = []
    for change, run in candidates.items():
        try:
            given = run()
        except ValueError:  # the change leaves the operator's bounds: no device could have computed it so
            continue
        matches = given == observed
        causes.append(
            Cause(
                change=change,
                explained=int(np.count_nonzero(matches & wrong)),
                spoiled=int(np.count_nonzero(~matches & ~wrong)),
            )
        )
    return causes
