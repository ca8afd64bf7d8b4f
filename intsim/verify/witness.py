# SPDX-License-Identifier: Apache-2.0
"""Hold a kernel against its definition in integers, on as many drawn operands as it takes to believe it.

A ``Witness`` pairs a kernel that someone else wrote with the integer function it is said to equal; ``examine`` draws
operands, runs both and counts the bits that differ. The neighbours, rules that differ in one place, show that the draw
could have told.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Row", "Witness", "examine", "telling_neighbours"]

Kernel: TypeAlias = Callable[..., NDArray[Any]]

CASES: Final = 20_000
DRAWS: Final = 1_000_000  # enough is a count of cases, not of draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A kernel and the integer rule it is said to equal.

    Parameters
    ----------
    operator
        What it computes, in intsim's words.
    kernel
        What ran: node, types, device.
    package
        Distribution whose version is reported, or whatever else ``version`` is of; "" for none.
    rule
        Name of the rule, or of the function of ``intsim``, that it equals.
    operands
        Strategy of the positional arguments of one call, as a tuple.
    device
        The kernel: operands -> array.
    golden
        The rule: operands -> array of the same dtype and shape.
    neighbours
        Nearest other rules, by name.
    note
        Under which condition it holds.
    version
        Of what is no distribution.
    """

    operator: str
    kernel: str
    package: str
    rule: str
    operands: "SearchStrategy[tuple[Any, ...]]"
    device: Kernel
    golden: Kernel
    neighbours: Mapping[str, Kernel]
    note: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What an examination found: ``differing`` of ``cases`` output elements.

    ``forced`` says what was found where a setting forced the kernel onto a lesser processor, by setting; one under
    which no bit differed is not named.
    """

    operator: str
    kernel: str
    package: str
    version: str
    rule: str
    cases: int
    differing: int
    note: str
    forced: Mapping[str, str] = field(default_factory=dict[str, str])


def examine(witness: Witness, *, cases: int = CASES) -> Row:
    """Run kernel and rule on drawn operands until ``cases`` output elements have been compared.

    The draw is the same every time. A difference does not stop it: the row counts them all.

    Parameters
    ----------
    witness
        The pair.
    cases
        Elements to compare, at least.

    Returns
    -------
    Row
        ``differing`` is 0 if the kernel is what it is said to be; another dtype or shape makes every element differ.
    """
    compared = differing = 0

    def compare(operands: tuple[Any, ...]) -> bool:
        nonlocal compared, differing
        actual, expected = witness.device(*operands), witness.golden(*operands)
        compared += expected.size
        differing += _differing(actual, expected)
        return compared >= cases

    _draw(witness, compare)
    return Row(
        operator=witness.operator,
        kernel=witness.kernel,
        package=witness.package,
        version=witness.version or (metadata.version(witness.package) if witness.package else ""),
        rule=witness.rule,
        cases=compared,
        differing=differing,
        note=witness.note,
    )


def telling_neighbours(witness: Witness, *, cases: int = CASES) -> set[str]:
    """Return the neighbours that the draw tells from the kernel within ``cases`` elements.

    Parameters
    ----------
    witness
        The pair.
    cases
        As in ``examine``.
    """
    compared, told = 0, set[str]()

    def compare(operands: tuple[Any, ...]) -> bool:
        nonlocal compared
        actual = witness.device(*operands)
        compared += actual.size
        for name, neighbour in witness.neighbours.items():
            if name not in told and _differing(actual, neighbour(*operands)):
                told.add(name)
        return compared >= cases or len(told) == len(witness.neighbours)

    _draw(witness, compare)
    return told


def _differing(actual: NDArray[Any], expected: NDArray[Any]) -> int:
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return max(actual.size, expected.size)
    return int(np.count_nonzero(actual != expected))


def _draw(witness: Witness, done: Callable[[tuple[Any, ...]], bool]) -> None:
    """Draw operands until ``done`` says so, the same ones every time."""
    from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415  an extra, needed only here

    class Enough(Exception):  # noqa: N818  not an error
        pass

    @settings(
        max_examples=DRAWS,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(witness.operands)
    def run(operands: tuple[Any, ...]) -> None:
        nonlocal enough
        if enough or done(operands):
            enough = True  # hypothesis replays what raised
            raise Enough

    enough = False
    with suppress(Enough):  # not raised where the strategy has fewer operands than that: all were tried
        run()
