# SPDX-License-Identifier: Apache-2.0
"""What checks a device against a trace: compare, diagnose."""

import sys
from typing import Any, Final

import click

from intsim._status import MISMATCH
from intsim.cli.options import as_json
from intsim.cli.printing import print_json, say

__all__ = ["COMMANDS"]


@click.command(short_help="Find where a device's integers first differ.")
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


@click.command(short_help="Say which changed rule explains the difference.")
@click.argument("expected")
@click.argument("actual")
@as_json
def diagnose(expected: str, actual: str, json_: bool) -> None:
    """Say which changed rule explains how ACTUAL differs from EXPECTED.

    EXPECTED is a trace of level steps and ACTUAL the device's dump, or EXPECTED is what vectors gen OP prints and
    ACTUAL the device's answers. Either may be - for standard input.
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
        if result.mismatches:
            click.echo(f"\noperator  {result.operator}")
            for change in result.explain_all:
                click.echo(f"explains all {result.mismatches}: {change}")
            for cause in result.explain_some[:10]:
                click.echo(f"explains {cause.explained} of {result.mismatches}, spoils {cause.spoiled}: {cause.change}")
            if not result.explain_all and not result.explain_some:
                click.echo("no single change of its rules explains any of it")
    if result.comparison.first is not None:
        sys.exit(MISMATCH)


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
