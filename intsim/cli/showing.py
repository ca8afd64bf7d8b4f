# SPDX-License-Identifier: Apache-2.0
"""What shows what there is: inspect, profiles, info."""

import json
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Final, cast

import click

from intsim.cli.options import as_json, options_read, quiet
from intsim.cli.printing import print_json, print_table, say
from intsim.cli.texts import read_texts
from intsim.errors import IntsimError
from intsim.io.atomic import check_writable
from intsim.profile import PROFILES, find_profile

__all__ = ["COMMANDS"]


@click.command(short_help="Show what a checkpoint or a trace holds, and how wide.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--widths", is_flag=True, help="Show the range that no text can leave, and its bits.")
@click.option("--observe", type=click.Path(path_type=Path), help="Texts, one per line: show the ranges they reach too.")
@click.option("--plot", type=click.Path(path_type=Path), help="Of a trace: picture to write, .png or .html.")
@click.option(
    "--reference", type=click.Path(path_type=Path), help="Of a plot: float checkpoint to draw errors against."
)
@quiet
@as_json
def inspect(
    path: Path,
    widths: bool,
    observe: Path | None,
    plot: Path | None,
    reference: Path | None,
    json_: bool,
) -> None:
    """Summarise an integer checkpoint, a Hugging Face folder, a GGUF file or a trace."""
    from intsim.report.inspect import summarise, summarise_widths  # noqa: PLC0415

    if observe is not None and not widths:
        msg = "give --observe together with --widths"
        raise click.UsageError(msg)
    if reference is not None and plot is None:
        msg = "give --reference together with --plot"
        raise click.UsageError(msg)
    if plot is not None and widths:
        msg = "give --plot without --widths"
        raise click.UsageError(msg)
    if plot is not None:
        drawing = import_module("intsim.report.trace_plot")  # says so where there is no matplotlib
        with options_read():
            kind = drawing.kind_of(plot)
        check_writable(plot, kind)
    texts = None if observe is None else read_texts(observe)
    summary = summarise_widths(path, texts) if widths else summarise(path)
    if plot is not None:
        if summary["kind"] != "trace":
            msg = f"a plot must be of a trace, got the {summary['kind']} {path}"
            raise IntsimError(msg)
        import_module("intsim.report.trace_plot").plot_trace(path, plot, reference=reference)
    if json_:
        print_json(summary)
        return
    for key, value in summary.items():
        if key != "tensors":
            say(f"{key:<14}{value if isinstance(value, str) else json.dumps(value)}")
    if widths:
        print_table(summary["tensors"])
        return
    for row in summary["tensors"]:
        say("  ".join(f"{cell!s:<{width}}" for cell, width in zip(row.values(), (52, 7, 16, 5), strict=False)))


@click.command(short_help="List the rules that decide a bit, and who follows them.")
@click.argument("name", required=False)
@click.option("--witnesses", is_flag=True, help="Show which kernels were found equal to which rules, and how often.")
@click.option("--spec", type=click.Path(path_type=Path), help="Write NAME's specification to FILE.md or FILE.html.")
@as_json
def profiles(name: str | None, witnesses: bool, spec: Path | None, json_: bool) -> None:
    """List the numerics profiles, or print the one called NAME in full.

    Its specification has every rule as equations, widths, constants and worked examples: what hardware is built from.
    """
    if spec is not None:
        from intsim.specification import KINDS, write_specification  # noqa: PLC0415

        if name is None:
            msg = "give --spec together with NAME"
            raise click.UsageError(msg)
        if spec.suffix not in KINDS:
            msg = f"--spec must be a file of {' or '.join(KINDS)}, got {spec}"
            raise click.UsageError(msg)
        write_specification(find_profile(name), spec)
    elif witnesses:
        text = (resources.files("intsim") / "witnesses.json").read_text(encoding="utf-8")
        rows: list[dict[str, Any]] = json.loads(text)
        if json_:
            click.echo(json.dumps(rows))
        else:
            for row in rows:
                row["version"] = f"{row['package']} {row['version']}"
                row["forced"] = "; ".join(f"{name}: {said}" for name, said in row["forced"].items())
            print_table(rows)
    elif name is not None:
        profile = find_profile(name)
        shown: dict[str, Any] = {**profile.to_json(), "hash": profile.hash}
        click.echo(json.dumps(shown, indent=None if json_ else 2))
    elif json_:
        print_json({profile.name: profile.hash for profile in PROFILES.values()})
    else:
        for profile in PROFILES.values():
            click.echo(f"{profile.name:<12} version {profile.version}  {profile.hash}")


@click.command(short_help="Print what a bug report needs.")
@as_json
def info(json_: bool) -> None:
    """Print what a bug report needs: versions, BLAS, processor, whether the embedded models are the committed ones."""
    from intsim.report.info import summarise_machine  # noqa: PLC0415

    summary = summarise_machine()
    if json_:
        print_json(summary)
        return
    for key, value in summary.items():
        if isinstance(value, dict):
            pairs = cast("dict[str, Any]", value).items()
            shown = ", ".join(f"{name} {each}" for name, each in pairs if each is not None) or "none"
        else:
            shown = " ".join(map(str, cast("list[str]", value))) if isinstance(value, list) else str(value)
        click.echo(f"{key:<18}{shown}")


COMMANDS: Final = (inspect, profiles, info)
