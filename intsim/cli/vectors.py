# SPDX-License-Identifier: Apache-2.0
"""``intsim vectors``: write test vectors, and judge what a device makes of them."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click
import numpy as np

from intsim._status import MISMATCH
from intsim.errors import IntsimError, said
from intsim.io.atomic import check_writable, complete_file
from intsim.io.bounded import standard_input
from intsim.profile import NATIVE, find_profile
from intsim.verify.vectors import formats
from intsim.verify.vectors.cases import Level, generate, minimum
from intsim.verify.vectors.judge import Mismatch, verify
from intsim.verify.vectors.operators import OPERATORS, Operator, bind, parse_size
from intsim.verify.vectors.text import format_header, format_lines

__all__ = ["COMMANDS", "vectors"]


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the numbers of ``16`` or ``4x4x16``."""
    try:
        return None if value is None else parse_size(value)
    except IntsimError as error:
        raise click.BadParameter(str(error), context, parameter) from None


operator_argument = click.argument("name", metavar="OP", type=click.Choice(list(OPERATORS)))
size_option = click.option(
    "--size",
    metavar="SIZE",
    callback=_size,
    help="Row of softmax, layer_norm and rms_norm (16), or tile MxNxK of matmul (4x4x16).",
)


@click.group(short_help="Write test vectors for an operator; judge the answers.")
def vectors() -> None:
    """Test vectors for one operator: gen OP | your device | verify OP."""


@vectors.command(short_help="Write cases of an operator, edges first.")
@operator_argument
@click.option("--profile", "profile_name", default="intsim", show_default=True, type=click.Choice(list(NATIVE)))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0))
@click.option("--level", default="1", show_default=True, type=click.Choice(["1", "2"]), help="1 edges, 2 thorough.")
@click.option("-n", "count", type=click.IntRange(min=1), help="Cases; never fewer than the level needs.")
@click.option("--operands-only", is_flag=True, help="Leave the expected result out.")
@click.option(
    "--format",
    "form",
    default="text",
    show_default=True,
    type=click.Choice(["text", "memh", "npz", "safetensors", "c-header"]),
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write instead of stdout.")
@click.option(
    "--word-bits",
    type=click.Choice(["8", "16", "32", "64", "128", "256", "512"]),
    help="Pack little-endian lanes into words: 32 by default for memh, none for other files; not for text.",
)
@size_option
def gen(
    name: str,
    *,
    profile_name: str,
    seed: int,
    level: str,
    count: int | None,
    operands_only: bool,
    form: str,
    output: Path | None,
    word_bits: str | None,
    size: tuple[int, ...] | None,
) -> None:
    """Write cases of the operator OP: operands, then the result, edges first.

    The same arguments give the same bytes, forever. Beside -o FILE, memh writes a SystemVerilog package, FILE_pkg.sv.
    """
    if form == "safetensors" and output is None:
        msg = "--format safetensors needs -o FILE"
        raise click.UsageError(msg)
    words = _word_bits(form, word_bits)
    package_file = None if form != "memh" or output is None else output.with_name(f"{output.stem}_pkg.sv")
    for path in filter(None, (output, package_file)):
        check_writable(path, formats.VECTORS)
    operator = _bound(name, profile_name, size)
    at_level: Level = 1 if level == "1" else 2
    least = minimum(operator, at_level)
    cases = max(count or 0, least)
    if count is not None and count < least:
        click.echo(f"level {level} of {name} needs {least} cases at least, so -n {count} writes {least}", err=True)
    header = format_header(operator, seed=seed, level=at_level, cases=cases, operands_only=operands_only)
    batches = generate(operator, seed=seed, level=at_level, cases=cases)

    if form == "text":
        fields = [*operator.operands] if operands_only else [*operator.operands, operator.result]
        with _output(output) as file:
            file.write("".join(f"# {line}\n" for line in header).encode())
            for batch in batches:
                words = batch if operands_only else np.concatenate([batch, operator.results(batch)], axis=1)
                file.write(format_lines(fields, words).tobytes())
        return

    operands = np.concatenate(list(batches))
    results = None if operands_only else operator.results(operands)
    if form == "memh" and words is not None:
        with _output(output) as file:
            file.writelines(formats.memh(operator, header, operands, results, word_bits=words))
        if package_file is not None:
            package = formats.system_verilog_package(operator, header, operands, results, word_bits=words)
            with complete_file(package_file, formats.VECTORS) as file:
                file.write(package.encode())
        return
    if words is not None:
        header = formats.packed_header(header, words)
    arrays = formats.named_arrays(operator, operands, results, word_bits=words)
    if form == "safetensors" and output is not None:
        formats.write_safetensors(output, header, arrays)
        return
    with _output(output) as file:
        if form == "npz":
            formats.write_npz(file, header, arrays)
        else:
            file.writelines(part.encode() for part in formats.c_header(operator, header, arrays))


@vectors.command("verify", short_help="Judge a device's results.")
@operator_argument
@click.argument("path", metavar="[FILE]", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--profile", "profile_name", type=click.Choice(list(NATIVE)), help="By default the header's.")
@click.option("--errors", default=20, show_default=True, type=click.IntRange(min=0), help="Show N mismatches; 0: all.")
@size_option
def verify_(name: str, *, path: Path, profile_name: str | None, errors: int, size: tuple[int, ...] | None) -> None:
    """Recompute the cases of FILE (- or nothing: stdin) and show every result that differs.

    A line of operands and the device's result in, a line per mismatch out: operands => observed, expected, and observed
    minus expected. Exit status 0: all equal, 1: mismatches, 3: not vectors of this operator.
    """
    profile = None if profile_name is None else find_profile(profile_name)
    if size is not None:
        _bound(name, "intsim", size)
    shown = 0
    with _input(path) as stream:
        for found in verify(stream, name, profile=profile, size=size):
            if isinstance(found, Mismatch):
                if errors == 0 or shown < errors:
                    click.echo(str(found))
                    shown += 1
                continue
            hidden = f" ({shown} shown)" if shown < found.mismatches else ""
            click.echo(
                f"{name}: {found.mismatches} of {found.cases} cases differ{hidden}; "
                f"profile {found.operator.profile.name} {found.operator.profile.hash[:12]}",
                err=True,
            )
            if found.mismatches:
                click.echo("intsim diagnose EXPECTED FILE names a changed rule that explains them", err=True)
                sys.exit(MISMATCH)


@vectors.command(short_help="Say which known bugs the vectors catch.")
@click.option("--profile", "profile_name", default="intsim", show_default=True, type=click.Choice(list(NATIVE)))
@click.argument("names", metavar="[OP]...", nargs=-1, type=click.Choice(list(OPERATORS)))
def kill(names: tuple[str, ...], *, profile_name: str) -> None:
    """Say at which level the vectors of the operators OP (all by default) catch each known bug.

    A Markdown table; exit status 1 if level 1 misses a bug that some input shows.
    """
    from intsim.verify.kill import kill_matrix  # noqa: PLC0415  a test of the tests, not of a device

    click.echo("| operator | bug | caught at | cases |\n|---|---|---|---|")
    missed = 0
    for name in names or tuple(OPERATORS):
        profile = find_profile(profile_name)
        thorough = {fate.bug: fate for fate in kill_matrix(profile, 2, names=(name,))}
        for fate in kill_matrix(profile, 1, names=(name,)):
            beyond = thorough[fate.bug]
            if fate.equivalent is not None:
                shown, count = f"never: {fate.equivalent}", "0"
            elif fate.caught:
                shown, count = "level 1", f"{fate.caught} of {fate.cases}"
            else:
                shown, count = ("level 2", f"{beyond.caught} of {beyond.cases}") if beyond.caught else ("nowhere", "0")
                missed += 1
            click.echo(f"| {name} | {fate.bug} | {shown} | {count} |")
    if missed:
        sys.exit(MISMATCH)


def _word_bits(form: str, given: str | None) -> int | None:
    """Return the bits of the words that a file is packed in, if it is."""
    if given is None:
        return 32 if form == "memh" else None
    if form == "text":
        msg = "--word-bits must be left out of --format text, which has one value a word"
        raise click.UsageError(msg)
    if form != "memh" and int(given) > 64:
        msg = f"--word-bits must be at most 64 for --format {form}, got {given}"
        raise click.UsageError(msg)
    return int(given)


def _bound(name: str, profile_name: str, size: tuple[int, ...] | None) -> Operator:
    try:
        return bind(name, find_profile(profile_name), size)
    except IntsimError as error:
        raise click.BadParameter(str(error), param_hint="--size") from None


@contextmanager
def _output(path: Path | None) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    with complete_file(path, formats.VECTORS) as file:
        yield file


@contextmanager
def _input(path: Path) -> Generator[BinaryIO]:
    if str(path) == "-":
        yield standard_input()
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        msg = f"{path} must be a readable file, got: {said(error)}"
        raise IntsimError(msg) from None


COMMANDS: Final = (vectors,)
