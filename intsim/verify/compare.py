# SPDX-License-Identifier: Apache-2.0
"""Where a dump first differs from the golden one."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intsim._trace import Trace
from intsim.errors import IntsimError
from intsim.io.dumps import Dump, HexWords

__all__ = ["Comparison", "Difference", "Mismatch", "compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One element that differs; ``difference`` is actual - expected, in LSB."""

    index: tuple[int, ...]
    expected: int
    actual: int
    difference: int
    expected_hex: str
    actual_hex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one tensor differs: in ``dtype``, in ``shape``, or in ``count`` of its ``size`` values."""

    name: str
    kind: Literal["dtype", "shape", "values"]
    expected: str
    actual: str
    count: int
    size: int
    largest: int
    mismatches: tuple[Mismatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcome over the tensors present on both sides.

    Parameters
    ----------
    compared
        How many tensors both sides have.
    first
        The first that differs, in the expected side's forward order.
    differing
        Names of all that differ.
    only_expected, only_actual
        Names that one side lacks; a partial dump is no error.
    models
        Digests of the models, where both sides are trace files that tell them, and tell different ones.
    """

    compared: int
    first: Difference | None
    differing: tuple[str, ...]
    only_expected: tuple[str, ...]
    only_actual: tuple[str, ...]
    models: tuple[str, str] | None

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {"equal": self.first is None, **asdict(self)}


def compare(expected: Dump, actual: Dump, *, max_errors: int = 20) -> Comparison:
    """Compare two dumps tensor by tensor: dtype, then shape, then values, to the bit.

    Parameters
    ----------
    expected, actual
        As ``read_dump`` returns them, in any mixture of kinds.
    max_errors
        How many elements of the first differing tensor are listed; 0 lists all.

    Raises
    ------
    IntsimError
        If no tensor is on both sides, or a tensor has no dtype on either.
    """
    digests = [dump.model_digest for dump in (expected, actual) if isinstance(dump, Trace) and dump.model_digest]
    common = [name for name in expected if name in actual]
    if not common:
        msg = "dumps must have at least one tensor name in common, got none"
        raise IntsimError(msg)
    first: Difference | None = None
    differing: list[str] = []
    for name in common:
        if _equal(pair := _typed(name, expected[name], actual[name])):
            continue
        differing.append(name)
        first = first or _difference(name, *pair, max_errors=max_errors)
    return Comparison(
        compared=len(common),
        first=first,
        differing=tuple(differing),
        only_expected=tuple(name for name in expected if name not in actual),
        only_actual=tuple(name for name in actual if name not in expected),
        models=(digests[0], digests[1]) if len({*digests}) == 2 else None,  # of both, and not the same
    )


def _typed(
    name: str, expected: NDArray[Any] | HexWords, actual: NDArray[Any] | HexWords
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give bare hexadecimal words the dtype and shape of the other side."""
    if isinstance(expected, HexWords):
        if isinstance(actual, HexWords):
            msg = f"tensor '{name}' must have a dtype on one side, got memh on both; compare with a trace or npz"
            raise IntsimError(msg)
        return expected.like(actual), actual
    return expected, actual.like(expected) if isinstance(actual, HexWords) else actual


def _equal(pair: tuple[NDArray[Any], NDArray[Any]]) -> bool:
    expected, actual = pair
    return expected.dtype == actual.dtype and np.array_equal(expected, actual)


def _difference(name: str, expected: NDArray[Any], actual: NDArray[Any], *, max_errors: int) -> Difference:
    kind: Literal["dtype", "shape"] | None = None
    if expected.dtype != actual.dtype:
        kind = "dtype"
    elif expected.shape != actual.shape:
        kind = "shape"
    if kind is not None:
        return Difference(
            name=name,
            kind=kind,
            expected=str(getattr(expected, kind)),
            actual=str(getattr(actual, kind)),
            count=0,
            size=expected.size,
            largest=0,
            mismatches=(),
        )
    where = np.argwhere(expected != actual)
    bits = 8 * expected.dtype.itemsize

    def mismatch(index: tuple[int, ...]) -> Mismatch:
        e, a = int(expected[index]), int(actual[index])
        return Mismatch(
            index=index,
            expected=e,
            actual=a,
            difference=a - e,
            expected_hex=f"{e % (1 << bits):0{bits // 4}x}",
            actual_hex=f"{a % (1 << bits):0{bits // 4}x}",
        )

    # in Python integers, where int8 127 - (-128) is 255
    largest = max(abs(int(a) - int(e)) for e, a in zip(expected[*where.T], actual[*where.T], strict=True))
    shown = where[: max_errors or None]
    return Difference(
        name=name,
        kind="values",
        expected=str(expected.dtype),
        actual=str(actual.dtype),
        count=len(where),
        size=expected.size,
        largest=largest,
        mismatches=tuple(mismatch(tuple(int(i) for i in index)) for index in shown),
    )
