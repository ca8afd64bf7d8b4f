# SPDX-License-Identifier: Apache-2.0
"""What scores a model: eval, report."""

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

import intsim
from intsim.cli.options import as_json, quiet, truncated
from intsim.cli.printing import print_json
from intsim.cli.texts import calibration_texts
from intsim.io.atomic import check_writable
from intsim.report.tasks import GLUE, TASKS

__all__ = ["COMMANDS", "figure", "recipe_list"]


@click.command("eval", short_help="Score an integer checkpoint on a task.")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--task", required=True, type=click.Choice(TASKS))
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="File of the task, as dev.tsv of GLUE; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Score the first N examples.")
@click.option("--reference", type=click.Path(path_type=Path), help="Float checkpoint to score beside it.")
@click.option("--window", type=click.IntRange(min=2), help="Of perplexity: tokens of a window; by default up to 512.")
@click.option("--stride", type=click.IntRange(min=1), help="Of perplexity: tokens between the starts of two windows.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes. Same digest.")
@truncated
@quiet
@as_json
def eval_(
    model: Path,
    task: Any,
    data: tuple[Path, ...],
    limit: int | None,
    reference: Path | None,
    window: int | None,
    stride: int | None,
    jobs: int,
    truncate: bool,
    json_: bool,
) -> None:
    """Score the integer checkpoint in DIR on a task, whose data are in their original layout."""
    from intsim.report.evaluate import evaluate, read_task  # noqa: PLC0415  brings SciPy

    if task != "perplexity" and (window, stride) != (None, None):
        msg = "give --window and --stride together with --task perplexity"
        raise click.UsageError(msg)
    examples = [example for path in data for example in read_task(task, path)][:limit]
    loaded = intsim.load(model)
    how: dict[str, Any] = {"truncate": truncate, "window": window, "stride": stride, "jobs": jobs}
    result = evaluate(loaded, task, examples, reference=reference, **how)
    if json_:
        print_json(result.to_json())
        return
    click.echo(f"{'task':<12}{task}, {result.n} examples")
    for name, value in result.metrics.items():
        beside = "" if result.reference is None else f"   float {figure(name, result.reference[name])}"
        click.echo(f"{name:<12}{figure(name, value)}{beside}")
    if result.cosine is not None:
        click.echo(f"{'cosine':<12}{result.cosine:.5f}")
    click.echo(f"{'digest':<12}{result.digest}")


def figure(metric: str, value: float) -> str:
    """Return a metric as it is read: fractions of 1 in percent."""
    return str(value) if metric == "tokens" else f"{value if metric == 'perplexity' else 100 * value:.2f}"


@click.command(short_help="Compare recipes: accuracy, size, the error of each layer.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--recipes",
    required=True,
    multiple=True,
    metavar="NAME[:KEY=VALUE,...],...",
    help="Presets or TOML files, by commas; repeatable.",
)
@click.option("--task", required=True, type=click.Choice(GLUE))
@click.option("--data", required=True, multiple=True, type=click.Path(path_type=Path), help="Repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="Score the first N examples.")
@click.option("--calibration", type=click.Path(path_type=Path), help="One text per line, TAB separates a pair.")
@click.option("--calibration-size", type=click.IntRange(min=1), help="Use the first N texts.")
@click.option("--plot", type=click.Path(path_type=Path), help="Picture to write, .png; needs matplotlib.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes. Same figures.")
@quiet
@as_json
def report(
    checkpoint: Path,
    recipes: tuple[str, ...],
    task: Any,
    data: tuple[Path, ...],
    limit: int | None,
    calibration: Path | None,
    calibration_size: int | None,
    plot: Path | None,
    jobs: int,
    json_: bool,
) -> None:
    """Compare recipes on a CHECKPOINT, folder or GGUF file: accuracy, size, and the error of each layer by its kind."""
    from intsim.report.evaluate import read_task  # noqa: PLC0415  brings SciPy
    from intsim.report.report import format_report  # noqa: PLC0415
    from intsim.report.report import report as report_on  # noqa: PLC0415

    if plot is not None:  # refused before anything runs, also where there is no matplotlib
        if plot.suffix != ".png":
            msg = f"a plot must be a .png file, got {str(plot)!r}"
            raise click.UsageError(msg)
        check_writable(plot, import_module("intsim.report.plot").PICTURE)
    examples = [example for path in data for example in read_task(task, path)][:limit]
    texts = calibration_texts(calibration, calibration_size)
    how: dict[str, Any] = {"calibration": texts, "jobs": jobs}
    result = report_on(checkpoint, recipe_list(recipes), task, examples, **how)
    if json_:
        print_json(result.to_json())
    else:
        click.echo(format_report(result))
    if plot is not None:
        from intsim.report.plot import plot_report  # noqa: PLC0415

        plot_report(result, plot)


def recipe_list(values: tuple[str, ...]) -> list[str]:
    """Split at commas, but leave the ``key=value`` of a recipe's parameters with it."""
    recipes: list[str] = []
    for value in values:
        for i, piece in enumerate(value.split(",")):
            if i and "=" in piece and ":" not in piece:
                recipes[-1] += f",{piece}"
            else:
                recipes.append(piece)
    return recipes


COMMANDS: Final = (eval_, report)
