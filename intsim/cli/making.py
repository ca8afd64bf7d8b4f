# SPDX-License-Identifier: Apache-2.0
"""What makes a model: recipes, quantize, export."""

import json
from pathlib import Path
from typing import Any, Final

import click

import intsim
from intsim.cli.options import as_json, quiet, truncated
from intsim.cli.printing import print_json, print_table, say
from intsim.cli.texts import calibration_texts
from intsim.io.atomic import check_writable
from intsim.io.integer_checkpoint import check_folder
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
    help="One text per line, TAB separates a pair; to a decoder all lines are one text.",
)
@click.option("--calibration-size", type=click.IntRange(min=1), help="Use the first N lines.")
@click.option("--window", type=click.IntRange(min=2), help="Tokens a decoder reads at a time; by default up to 512.")
@click.option(
    "--ranges", type=click.Path(path_type=Path), help="JSON file {activation: [min, max]}; texts serve others."
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
    quiet: bool,
) -> None:
    """Turn a CHECKPOINT, a Hugging Face folder or a GGUF file, into an integer checkpoint."""
    from intsim.convert.quantize import reads_on  # noqa: PLC0415  brings SciPy
    from intsim.io.huggingface import open_checkpoint  # noqa: PLC0415

    check_folder(output)
    running = reads_on(open_checkpoint(checkpoint, head=head))
    texts = calibration_texts(calibration, calibration_size, running=running)
    options: dict[str, Any] = {"head": head, "profile": profile, "truncate": truncate, "window": window}
    options |= {"progress": not quiet}
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


@click.command(short_help="Write a model as standard ONNX operators on integers.")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--onnx", required=True, type=click.Path(path_type=Path), help="ONNX file to write.")
def export(model: Path, onnx: Path) -> None:
    """Write the integer checkpoint in DIR as an ONNX model of standard integer operators, equal to the bit."""
    from intsim.io.onnx import KIND  # noqa: PLC0415
    from intsim.io.onnx import export as export_onnx  # noqa: PLC0415

    check_writable(onnx, KIND)
    size = export_onnx(intsim.load(model), onnx)
    click.echo(f"wrote {onnx}: {size} bytes", err=True)


COMMANDS: Final = (quantize, recipes, export)
