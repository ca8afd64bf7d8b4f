# SPDX-License-Identifier: Apache-2.0
"""What checks a device against a trace: compare, diagnose."""

import sys
from pathlib import Path
from typing import Any, Final, cast

import click

from intsim._status import MISMATCH
from intsim.cli.options import as_json, layout_options, options_read, quiet
from intsim.cli.printing import print_json, say
from intsim.errors import IntsimError, said
from intsim.io.layout import Layout

__all__ = ["COMMANDS"]


@click.command(short_help="Find where a device's integers first differ.")
@click.argument("expected")
@click.argument("actual")
@click.option("--max-errors", type=click.IntRange(min=0), default=20, show_default=True, help="0 lists all.")
@click.option("--names", type=click.Path(path_type=Path), help="JSON: name in ACTUAL -> name in EXPECTED.")
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="[PATTERN=]SLICE",
    help="What ACTUAL holds of the tensors called like PATTERN: ':, :3' is the first 3 of the second axis.",
)
@layout_options
@quiet
@as_json
def compare(
    expected: str,
    actual: str,
    max_errors: int,
    names: Path | None,
    slices: tuple[str, ...],
    layout: Layout | None,
    json_: bool,
) -> None:
    """Find where ACTUAL first differs from EXPECTED, by value: dtype, byte order and width of a word do not matter.

    Either is a trace, any safetensors or npz, an integer checkpoint, a folder that export --memh wrote, or a device's
    files: one, or a folder of NAME.memh (hexadecimal words as $readmemh and $writememh take them, @address, comments
    and x included), NAME.npy, NAME.bin (little-endian) or NAME.txt (decimal). An x or z is a mismatch of its element.
    - is standard input. The layout options say how the words of such files are packed; an export tells it itself.
    """
    from intsim.io.dumps import read_dump  # noqa: PLC0415
    from intsim.verify.compare import compare as compare_dumps  # noqa: PLC0415
    from intsim.verify.compare import parse_slice  # noqa: PLC0415

    with options_read():
        cuts = {pattern or "*": parse_slice(where) for pattern, _, where in (each.rpartition("=") for each in slices)}
    golden, found = (read_dump(path, layout=layout) for path in (expected, actual))
    given = None if names is None else _read_names(names)
    result = compare_dumps(golden, found, max_errors=max_errors, layout=layout, names=given, slices=cuts)
    if json_:
        print_json(result.to_json())
    else:
        _print_comparison(result)
    if result.first is not None:
        sys.exit(MISMATCH)


def _read_names(path: Path) -> dict[str, str]:
    from intsim.io.bounded import read_json  # noqa: PLC0415

    try:
        names = read_json(path)
    except (OSError, ValueError) as error:
        msg = f"{path} must be a JSON file, got {said(error)}"
        raise IntsimError(msg) from None
    if not isinstance(names, dict) or not all(isinstance(each, str) for each in cast("dict[str, Any]", names).values()):
        msg = f"{path} must be a JSON object of names, got another"
        raise IntsimError(msg)
    return cast("dict[str, str]", names)


@click.command(short_help="Say which changed rule explains the difference.")
@click.argument("expected")
@click.argument("actual")
@quiet
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
        count = len(result.explain_all)
        click.echo("explained in full by " + ("one changed rule" if count == 1 else f"any of {count} changed rules"))
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
    else:
        say(f"{len(result.differing)} of {result.compared} tensors differ, first {first.name}")
        _print_difference(first)
    for each in result.notes:
        say(f"  {each.note}: {_listed(each.names)}")


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} tensors, first {names[0]}"


def _print_difference(first: Any) -> None:
    if first.kind == "shape":
        say(f"  shape {first.actual}, expected {first.expected}")
        if first.slice is not None:
            click.echo(f"  equal to the first ones of it: give --slice '{first.slice}'")
        return
    unknown = f", {first.unknown} of them x or z" if first.unknown else ""
    click.echo(f"  {first.count} of {first.size} elements, largest difference {first.largest} LSB{unknown}")
    if first.order is not None:
        click.echo(f"  right values in another order: {first.order}")
    click.echo(f"  {'index':>20} {'actual':>12} {'expected':>12} {'diff':>8}  hex")
    for mismatch in first.mismatches:
        index = ", ".join(map(str, mismatch.index))
        actual, expected = ("x" if value is None else value for value in (mismatch.actual, mismatch.expected))
        difference = "" if mismatch.difference is None else f"{mismatch.difference:+}"
        click.echo(
            f"  {f'({index})':>20} {actual:>12} {expected:>12} {difference:>8}"
            f"  {mismatch.actual_hex} != {mismatch.expected_hex}"
        )
    if len(first.histogram) > 1 or first.count > len(first.mismatches):
        click.echo(f"  {'difference in LSB':>20} {'elements':>12}")
        for each in first.histogram:
            span = f"{each.lowest:+}" if each.lowest == each.highest else f"{each.lowest:+} to {each.highest:+}"
            click.echo(f"  {span:>20} {each.count:>12}")


COMMANDS: Final = (compare, diagnose)
