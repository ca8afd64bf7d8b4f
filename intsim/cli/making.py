# SPDX-License-Identifier: Apache-2.0
"""What makes a model: recipes, quantize, export."""

import json
from pathlib import Path
from typing import Any, Final

import click

import intsim
from intsim.cli.options import as_json, layout_options, quiet, truncated
from intsim.cli.printing import print_json, print_table, say
from intsim.cli.texts import calibration_texts
from intsim.io.atomic import check_folder_writable, check_writable
from intsim.io.c_header import FILES, write_header
from intsim.io.export_kind import EXPORT
from intsim.io.exported import Contents, model_contents
from intsim.io.integer_checkpoint import check_folder
from intsim.io.layout import Layout
from intsim.io.memh_export import write_memh
from intsim.io.npz_export import NPZ, write_npz
from intsim.io.trace_export import read_trace_contents
from intsim.models.world import HEADS

__all__ = ["COMMANDS"]


@click.command(short_help="Turn a Hugging Face or GGUF checkpoint into integers.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--recipe", default="intsim", show_default=True, help="Preset name or TOML file.")
@click.option("--head", type=click.Choice(HEADS), help="What follows the body; by default what config.json says.")
@click.option("--profile", help="Numerics profile; the recipe's by default.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="One text per line, TAB separates a pair; to a decoder all lines are one text. By default sentences that come "
    "with intsim.",
)
@click.option("--calibration-size", type=click.IntRange(min=1), help="Use the first N lines.")
@click.option("--window", type=click.IntRange(min=2), help="Tokens a decoder reads at a time; by default up to 512.")
@click.option(
    "--ranges", type=click.Path(path_type=Path), help="JSON file {activation: [min, max]}; --calibration serves others."
)
@truncated
@quiet
def quantize(
    checkpoint: Path,
    output: Path,
    recipe: str,
    head: str | None,
    profile: str | None,
    calibration: Path | None,
    calibration_size: int | None,
    window: int | None,
    ranges: Path | None,
    truncate: bool,
) -> None:
    """Turn a CHECKPOINT, a Hugging Face folder or a GGUF file, into an integer checkpoint."""
    from intsim.convert.quantize import reads_on  # noqa: PLC0415  brings SciPy
    from intsim.io.huggingface import open_checkpoint  # noqa: PLC0415

    check_folder(output)
    running = reads_on(open_checkpoint(checkpoint, head=head))
    texts = calibration_texts(calibration, calibration_size, running=running)
    options: dict[str, Any] = {"head": head, "profile": profile, "truncate": truncate, "window": window}
    model = intsim.quantize(checkpoint, recipe=recipe, calibration=texts, ranges=ranges, **options)
    model.save(output)
    size = sum(values.nbytes for values in model.tensors.values())
    click.echo(f"wrote {output}: {len(model.tensors)} integer tensors, {size} bytes", err=True)


@click.command(short_help="List the recipes, or the rule that each tensor gets.")
@click.argument("name", required=False)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Show the rule of each of its tensors.")
@click.option("--head", type=click.Choice(HEADS), help="What follows its body; by default what config.json says.")
@as_json
def recipes(name: str | None, checkpoint: Path | None, head: str | None, json_: bool) -> None:
    """List the recipes, print the one called NAME, or show which rule each tensor and activation of a model gets."""
    from intsim.recipes import load_recipe, recipe_names  # noqa: PLC0415
    from intsim.report.rules import summarise_rules  # noqa: PLC0415

    if name is None:
        if checkpoint is not None:
            msg = "give NAME together with --checkpoint"
            raise click.UsageError(msg)
        summaries = {each: load_recipe(each) for each in recipe_names()}
        if json_:
            print_json({each: recipe.source for each, recipe in summaries.items()})
        else:
            print_table([{"name": each, "profile": recipe.profile} for each, recipe in summaries.items()])
        return
    recipe = load_recipe(name)
    if checkpoint is None:
        click.echo(json.dumps(recipe.source, indent=None if json_ else 2))
        return
    summary = summarise_rules(recipe, checkpoint, head=head)
    if json_:
        print_json(summary)
        return
    for note in summary["notes"]:
        say(note, err=True)
    for part in ("weights", "activations", "inputs"):
        if summary[part]:
            click.echo(part)
            print_table(summary[part])


@click.command(short_help="Write a model or trace as ONNX, C, memh or npz.")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--onnx", type=click.Path(path_type=Path), help="ONNX file to write, equal to the bit.")
@click.option("--memh", type=click.Path(path_type=Path), help="Folder of $readmemh files to write.")
@click.option("--npz", type=click.Path(path_type=Path), help="npz to write.")
@click.option("--c", "c", type=click.Path(path_type=Path), help="Folder of a C99 program to write, and its constants.")
@click.option("--trace", type=click.Path(path_type=Path), help="Write this trace of the model, from run, in its place.")
@click.option("--layer", metavar="PATTERN", help="Write only what is called so, or beneath such a name.")
@layout_options
@quiet
def export(
    model: Path,
    onnx: Path | None,
    memh: Path | None,
    npz: Path | None,
    c: Path | None,
    trace: Path | None,
    layer: str | None,
    layout: Layout | None,
) -> None:
    """Write the integer checkpoint in DIR, or a trace of it, in files that hardware, C and other engines read.

    Of a model all is written: weights, biases, multipliers, shifts, zero points, ranges, the tables of its functions.
    Of a trace the results, and, if it is of level steps, the operands and constants of every call. The folder of --memh
    has a file a tensor, manifest.json, which says what each is and how it is stored, and a SystemVerilog package. An
    ONNX decoder reads whole texts, and gives the logits of every token; beyond 1 GiB weights go to a file beside it.

    \b
    intsim export DIR --c OUT
    cc -std=c99 -O2 OUT/model.c -o model
    echo "2 14 7 3" | ./model

    The C program reads token ids, a line a text, and prints the output integers of each on a line: of a decoder those
    of the last token, read one by one. It has no floats and allocates nothing; -DMODEL_NO_MAIN makes a library of it,
    whose functions model.h declares, for DPI-C too. constants.h has all that is exported as arrays. Weights of more
    than 4 MB are in weights.bin, which the program finds beside itself, and in constants.h only for --layer.

    The layout options place the elements of a tensor, seen as a matrix whose columns are its last axis: transposed, if
    asked for; in tiles; so many lanes a word, the first in the lowest bits; words dealt out to banks in turn.
    """  # noqa: D301
    if sum(each is not None for each in (onnx, memh, npz, c)) != 1:
        msg = "give one of --onnx, --memh, --npz and --c"
        raise click.UsageError(msg)
    if layout is not None and memh is None:
        msg = "give layout options together with --memh"
        raise click.UsageError(msg)
    if onnx is not None:
        if trace is not None or layer is not None:
            msg = "give --trace and --layer together with --memh, --npz or --c"
            raise click.UsageError(msg)
        _export_onnx(model, onnx)
        return
    if c is not None:
        _export_c(model, c, trace=trace, layer=layer)
        return
    if npz is not None:
        check_writable(npz, NPZ)
    if memh is not None:
        check_folder_writable(memh, EXPORT)
    contents = _contents(intsim.load(model), trace, layer)
    if memh is not None:
        write_memh(memh, contents, layout or Layout())
    elif npz is not None:
        write_npz(npz, contents)
    click.echo(f"wrote {memh or npz}: {len(contents.tensors)} tensors", err=True)


def _contents(model: intsim.IntegerModel, trace: Path | None, layer: str | None) -> Contents:
    return model_contents(model, layer=layer) if trace is None else read_trace_contents(trace, model, layer=layer)


def _export_c(model: Path, folder: Path, *, trace: Path | None, layer: str | None) -> None:
    from intsim.io.c import WEIGHTS_FILE  # noqa: PLC0415
    from intsim.io.c import check_folder as check_c_folder  # noqa: PLC0415
    from intsim.io.c import export as export_c  # noqa: PLC0415

    for name in FILES.values():
        check_writable(folder / name, EXPORT)
    check_c_folder(folder)
    loaded = intsim.load(model)
    files = [] if trace is not None or layer is not None else export_c(loaded, folder)
    if WEIGHTS_FILE not in files:
        files.append(write_header(folder, _contents(loaded, trace, layer)))
    click.echo(f"wrote {folder}: {', '.join(files)}", err=True)


def _export_onnx(model: Path, path: Path) -> None:
    from intsim.io.onnx import KIND  # noqa: PLC0415
    from intsim.io.onnx import export as export_onnx  # noqa: PLC0415

    check_writable(path, KIND)
    size = export_onnx(intsim.load(model), path)
    click.echo(f"wrote {path}: {size} bytes", err=True)


COMMANDS: Final = (quantize, recipes, export)
