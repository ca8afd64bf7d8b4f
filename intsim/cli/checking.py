# SPDX-License-Identifier: Apache-2.0
"""What checks a device against a trace: compare, diagnose."""

import sys
from typing import Any, Final

import click

from intsim._status import MISMATCH
from intsim.cli.options import as_json
from intsim.cli.printing import print_json, say

__all__ = ["COMMANDS"]


@click.command()
@click.argument("expected")
@click.argument("actual")
@click.option("--max-errors", type=click.IntRange(min=0), default=20, show_default=True, help="0 lists all.")
@as_json
def compare(expected: str, actual: str, max_errors: int, json_: bool) -> None:
    """Find where ACTUAL first differs from EXPECTED: traces, npz, memh folders, or - for standard input."""
    from intsim.io.dumps import read_dump  # noqa: PLC0415
    from intsim.verify.compare import compare as compare_dumps  # noqa: PLC0415

    result = compare_dumps(read_dump(expected), read_dump(actual), max_errors=max_errors)
    if json_:
        print_json(result.to_json())
    else:
        _print_comparison(result)
    if result.first is not None:
        sys.exit(MISMATCH)


@click.command()
@click.argument("expected")
@click.argument("actual")
@as_json
def diagnose(expected: str, actual: str, json_: bool) -> None:
    """Say which changed rule explains how ACTUAL differs from EXPECTED.

    EXPECTED is a trace of level steps and ACTUAL the device's dump, or EXPECTED is what vectors gen OP writes and
    ACTUAL the device's answers in any form that vectors verify reads. Either may be - for standard input.

    It says first whether any change explains every mismatch; if none does, the changes that explain most more than they
    spoil follow, which are then no more than a hint. Widths of registers are searched.
    """
    from intsim.verify.diagnose import diagnose_files  # noqa: PLC0415

    if expected == actual == "-":
        msg = "only one of EXPECTED and ACTUAL can be standard input"
        raise click.UsageError(msg)
    result = diagnose_files(expected, actual)
    if json_:
        print_json(result.to_json())
    else:
        _print_comparison(result.comparison)
        _print_causes(result)
    if result.comparison.first is not None or result.unknown:
        sys.exit(MISMATCH)


def _print_causes(result: Any) -> None:
    if result.unknown:
        click.echo(f"{result.unknown} elements are X or Z, left out of what follows")
    if not result.mismatches:
        return
    click.echo(f"\noperator  {result.operator}")
    if result.explain_all:
        click.echo(f"explained in full by {len(result.explain_all)} single changes of its rules")
        for change in result.explain_all:
            click.echo(f"explains all {result.mismatches}: {change}")
        return
    click.echo(f"no single change of its rules explains all {result.mismatches} mismatches")
    for cause in result.explain_some[:10]:
        click.echo(f"explains {cause.explained}, spoils {cause.spoiled}: {cause.change}")


def _print_comparison(result: Any) -> None:
    for side, names in (("expected", result.only_expected), ("actual", result.only_actual)):
        if names:
            say(f"only in {side}: {len(names)} tensors, first {names[0]}", err=True)
    if result.models is not None:
        say(f"expected is of model {result.models[0]}, actual of another, {result.models[1]}", err=True)
    if (first := result.first) is None:
        click.echo(f"equal: {result.compared} tensors, to the bit")
        return
    say(f"{len(result.differing)} of {result.compared} tensors differ, first {first.name}")
    if first.kind != "values":
        say(f"  {first.kind} {first.actual}, expected {first.expected}")
        return
    click.echo(f"  {first.count} of {first.size} elements, largest difference {first.largest} LSB")
    click.echo(f"  {'index':>20} {'actual':>12} {'expected':>12} {'diff':>8}  hex")
    for mismatch in first.mismatches:
        index = ", ".join(map(str, mismatch.index))
        click.echo(
            f"  {f'({index})':>20} {mismatch.actual:>12} {mismatch.expected:>12} {mismatch.difference:>+8}"
            f"  {mismatch.actual_hex} != {mismatch.expected_hex}"
        )


COMMANDS: Final = (compare, diagnose)
