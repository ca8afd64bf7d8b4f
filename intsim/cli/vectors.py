# SPDX-License-Identifier: Apache-2.0
"""``intsim vectors``: write test vectors, and judge what a device makes of them."""

import sys
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click
import numpy as np

from intsim._progress import bars, clear_bars, watched
from intsim._status import MISMATCH
from intsim.cli.options import quiet
from intsim.cli.printing import say
from intsim.errors import IntsimError, said
from intsim.io.atomic import check_writable, complete_file
from intsim.io.bounded import standard_input
from intsim.profile import NATIVE, PROFILES, find_profile
from intsim.verify.bench import BENCHES, write_bench
from intsim.verify.vectors import formats
from intsim.verify.vectors.cases import LEVELS, Level, generate, minimum
from intsim.verify.vectors.draw import Draw
from intsim.verify.vectors.judge import Mismatch, verify
from intsim.verify.vectors.operators import OPERATORS, RANGES, Operator, bind, parse_size
from intsim.verify.vectors.text import format_header, format_lines

if TYPE_CHECKING:
    from intsim.verify.vectors.layers import Layer

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
    help="Row of softmax and norms (16), or tile MxNxK of matmul, linear (4x4x16), linear_add_norm (2x16x16).",
)


to_option = click.option(
    "--to",
    type=click.Choice(list(RANGES)),
    help="Range of the result of requantize, linear, layer_norm, rms_norm and linear_add_norm (int8), add (int16).",
)
activations_option = click.option(
    "--activations", type=click.Choice(["int8", "uint8"]), help="Codes that products multiply by int8 weights."
)


@click.group(short_help="Write test vectors for an operator; judge the answers.")
def vectors() -> None:
    """Test vectors for one operator: gen OP | your device | verify OP."""


@vectors.command(short_help="Write cases of an operator, edges first.")
@operator_argument
@click.option("--profile", "profile_name", default="intsim", show_default=True, type=click.Choice(list(PROFILES)))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--level",
    default="1",
    show_default=True,
    type=click.Choice([*map(str, LEVELS)]),
    help="0 at most 200 cases, 1 edges, 2 thorough.",
)
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
@click.option("--from", "model", type=click.Path(path_type=Path), help="Integer checkpoint whose --layer is meant.")
@click.option("--layer", help="Name of a call, as in a trace: its own constants.")
@size_option
@to_option
@activations_option
@quiet
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
    model: Path | None,
    layer: str | None,
    size: tuple[int, ...] | None,
    to: str | None,
    activations: str | None,
) -> None:
    """Write cases of the operator OP: operands, then the result, edges first.

    The same arguments give the same bytes, forever. Beside -o FILE, memh writes a SystemVerilog package, FILE_pkg.sv.

    With --from DIR --layer NAME, OP is requantize, add, gelu, softmax, layer_norm, rms_norm, matmul or linear_add_norm,
    whose name is the norm's; profile, formats, constants and shapes are those of that layer; what the device answers
    keeps its operands.
    """
    if form == "safetensors" and output is None:
        msg = "--format safetensors needs -o FILE"
        raise click.UsageError(msg)
    words = _word_bits(form, word_bits)
    package_file = None if form != "memh" or output is None else output.with_name(f"{output.stem}_pkg.sv")
    for path in filter(None, (output, package_file)):
        check_writable(path, formats.VECTORS)
    if (model is None) != (layer is None):
        msg = "--from DIR and --layer NAME must be given together"
        raise click.UsageError(msg)
    own = None if model is None or layer is None else _layer(model, name, layer, size)
    operator = own.operator if own else _bound(name, profile_name, size, to=to, activations=activations)
    at_level = _level(level)
    least = minimum(operator, at_level)
    cases = max(count or 0, least)
    if count is not None and count < least:
        click.echo(f"level {level} of {name} needs {least} cases at least, so -n {count} writes {least}", err=True)
    header = format_header(operator, seed=seed, level=at_level, cases=cases, operands_only=operands_only)
    batches = generate(operator, seed=seed, level=at_level, cases=cases)
    with bars(False if output is None and sys.stdout.isatty() else None):
        batches = watched(batches, "generating", unit="batch")
    if own is not None:
        header[1:1] = own.header
        header[-1] += f" --from DIR --layer {layer}"
        draw = Draw(f"intsim vectors 1 layer {seed}")
        batches = (own.constants(batch, draw) for batch in batches)

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
@click.option("--profile", "profile_name", type=click.Choice(list(PROFILES)), help="By default the header's.")
@click.option("--errors", default=20, show_default=True, type=click.IntRange(min=0), help="Show N mismatches; 0: all.")
@click.option("--seed", type=click.IntRange(min=0), help="Of answers without a header: 1 unless given.")
@click.option("--level", type=click.Choice([*map(str, LEVELS)]), help="Of answers without a header: 1 unless given.")
@size_option
@to_option
@activations_option
@quiet
def verify_(
    name: str,
    *,
    path: Path,
    profile_name: str | None,
    errors: int,
    seed: int | None,
    level: str | None,
    size: tuple[int, ...] | None,
    to: str | None,
    activations: str | None,
) -> None:
    """Recompute the cases of FILE (- or nothing: stdin) and show every result that differs.

    Operands and the device's result in, or its results alone: the text that gen prints, memh, npz or safetensors. A
    line per mismatch out: operands => observed, expected, and observed minus expected. A result with an X or Z is a
    mismatch. The header names the cases, so one that is missing, doubled or elsewhere is refused; what a simulator
    prints of itself is skipped. Exit status 0: all equal, 1: mismatches, 3: not vectors of this operator.
    """
    profile = None if profile_name is None else find_profile(profile_name)
    options = {option: value for option, value in (("to", to), ("activations", activations)) if value is not None}
    if size is not None or options:
        _bound(name, "intsim", size, **options)
    shown = 0
    with _input(path) as stream:
        at_level = None if level is None else _level(level)
        how: dict[str, Any] = {"size": size, "seed": seed, "level": at_level, "options": options}
        for found in verify(stream, name, profile=profile, **how):
            if isinstance(found, Mismatch):
                if errors == 0 or shown < errors:
                    clear_bars()
                    click.echo(str(found))
                    shown += 1
                continue
            if found.first_skipped is not None:
                number, line = found.first_skipped
                say(f"skipped as no cases: {found.skipped} of the lines, first line {number}: {line!r:.80}", err=True)
            hidden = f" ({shown} shown)" if shown < found.mismatches else ""
            click.echo(
                f"{name}: {found.mismatches} of {found.cases} cases differ{hidden}; "
                f"profile {found.operator.profile.name} {found.operator.profile.hash[:12]}",
                err=True,
            )
            if found.mismatches:
                click.echo("intsim diagnose EXPECTED FILE names a changed rule that explains them", err=True)
                sys.exit(MISMATCH)


@vectors.command(short_help="Write RTL and what drives it, to start from.")
@click.argument("name", metavar="OP", type=click.Choice(list(BENCHES)))
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="A new or empty folder.")
def bench(name: str, *, folder: Path) -> None:
    """Write a bench of OP to start from: a unit of reference RTL, what drives it, a Makefile.

    OP is requantize, add, gelu, softmax, layer_norm or matmul; the rules are those of profile intsim. Then, in the
    folder:

    \b
        make icarus       the SystemVerilog bench, in Icarus Verilog
        make verilator    the same, in Verilator
        make cocotb       a bench in Python, in Icarus Verilog

    Each runs the unit on the vectors of OP with random stalls and resets and judges its answers; where they are wrong,
    diagnose says why. Behind make, FROM=DIR LAYER=NAME takes the constants and formats of a layer of a model, by its
    name in a trace. Put your own unit in the place of the reference: ports and handshake are its first lines.
    """  # noqa: D301
    for path in write_bench(name, folder):
        click.echo(path, err=True)


@vectors.command("replay", short_help="Run RTL on the calls of a trace.")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--layer", default="*", show_default=True, metavar="PATTERN", help="Names of the calls, as * and ? match them."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The results, as FILE.npz for compare.")
@click.option("--work", required=True, type=click.Path(path_type=Path), help="A new or empty folder for the benches.")
@click.option(
    "--units", type=click.Path(path_type=Path), help="RTL in the place of the reference's files of its names."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="The folder of export --memh whose weights and constants the units read, instead of the trace's.",
)
@click.option("--stall", default=0, show_default=True, type=click.IntRange(0, 99), help="Percent of stalled cycles.")
@click.option("--resets", default=0, show_default=True, type=click.IntRange(min=0), help="Resets in each call.")
@quiet
def replay_(
    trace: Path,
    *,
    layer: str,
    out: Path,
    work: Path,
    units: Path | None,
    weights: Path | None,
    stall: int,
    resets: int,
) -> None:
    """Run the units of bench, in Icarus Verilog, on the calls of a trace of level steps.

    \b
        intsim run DIR --text T --trace trace.safetensors --level steps
        intsim vectors replay trace.safetensors --layer 'encoder.layer.0.*' --out device.npz --work sim
        intsim compare trace.safetensors device.npz

    The folder of --work has a bench for each call, with its vectors and answers. With --weights, the folder that
    'intsim export DIR --memh' wrote, units read its weights and constants, and activations of the trace. Calls that no
    unit computes are skipped, which stderr says.
    """  # noqa: D301
    from intsim.io.dumps import read_dump  # noqa: PLC0415
    from intsim.io.trace_file import read_trace  # noqa: PLC0415
    from intsim.verify.replay import run_calls  # noqa: PLC0415
    from intsim.verify.simulator import RESULTS, simulated  # noqa: PLC0415

    check_writable(out, RESULTS)
    recorded, _ = read_trace(trace)
    exported = None if weights is None else read_dump(weights)
    kernels = simulated(work, units=units, stall=stall, resets=resets)
    skipped: dict[str, str] = {}
    results = run_calls(recorded, kernels, layer=layer, weights=exported, skipped=skipped)
    with complete_file(out, RESULTS) as file:
        np.savez(file, allow_pickle=False, **results)
    click.echo(f"calls replayed: {len(results)}, skipped: {len(skipped)}", err=True)
    for reason, count in Counter(skipped.values()).items():
        first = next(name for name, why in skipped.items() if why == reason)
        say(f"skipped {count}, first {first}: {reason}", err=True)


@vectors.command(short_help="Say which known bugs the vectors catch.")
@click.option("--profile", "profile_name", default="intsim", show_default=True, type=click.Choice(list(NATIVE)))
@click.option(
    "--coverage",
    "covered",
    type=click.Choice(["table", "covergroup"]),
    help="Count ties, saturations, masks and shifts that level 1 reaches instead; covergroup: in SystemVerilog.",
)
@click.argument("names", metavar="[OP]...", nargs=-1, type=click.Choice(list(OPERATORS)))
@quiet
def kill(names: tuple[str, ...], *, profile_name: str, covered: str | None) -> None:
    """Say at which level the vectors of the operators OP (all by default) catch each known bug.

    A Markdown table; exit status 1 if level 1 misses a bug that some input shows.
    """
    grows = sys.stdout.isatty()  # the table, an operator at a time: a bar between two of them
    with bars(False if grows else None):
        operators = watched(names or tuple(OPERATORS), "trying", unit="operator")
    if covered is not None:
        _print_coverage(operators, profile_name, covered)
        return
    from intsim.verify.kill import kill_matrix  # noqa: PLC0415  a test of the tests, not of a device

    click.echo("| operator | bug | caught at | cases |\n|---|---|---|---|")
    missed = 0
    for name in operators:
        profile = find_profile(profile_name)
        with bars(None if grows else False):
            fine, coarse = ([*kill_matrix(profile, at_level, names=(name,))] for at_level in (2, 1))
        thorough = {fate.bug: fate for fate in fine}
        for fate in coarse:
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


def _layer(model: Path, name: str, layer: str, size: tuple[int, ...] | None) -> "Layer":
    from intsim.integer_model import load  # noqa: PLC0415
    from intsim.verify.vectors.layers import layer_of  # noqa: PLC0415

    return layer_of(load(model), name, layer, size)


def _print_coverage(names: Iterable[str], profile_name: str, form: str) -> None:
    from intsim.verify.coverage import coverage, covergroup  # noqa: PLC0415

    if form == "table":
        click.echo("| operator | reached | count |\n|---|---|---|")
    for name in names:
        operator = bind(name, find_profile(profile_name))
        counts = coverage(operator)
        if form == "covergroup":
            click.echo(covergroup(operator, counts))
            continue
        for what, count in counts.items():
            click.echo(f"| {name} | {what} | {count} |")


def _level(text: str) -> Level:
    return next(level for level in LEVELS if str(level) == text)


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


def _bound(name: str, profile_name: str, size: tuple[int, ...] | None, **options: str | None) -> Operator:
    try:
        return bind(name, find_profile(profile_name), size, **options)
    except IntsimError as error:
        raise click.BadParameter(str(error)) from None


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
