# SPDX-License-Identifier: Apache-2.0
"""The command line: parse, call the library, print. Data on stdout, progress and logs on stderr.

Exit status: 0 done or equal, 1 a difference was found, 2 wrong usage, 3 unreadable or invalid input or an output that
cannot be written, 70 too little memory, a killed process of --jobs or a mistake in intsim, 130 interrupted, 141 nobody
reads the output any longer.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Final, cast

import click

import intsim
from intsim._status import MISMATCH, run_command
from intsim.errors import IntsimError, said
from intsim.integer_model import IntegerModel
from intsim.io.atomic import check_writable, is_stdout
from intsim.io.bounded import MAX_LINE, read_text
from intsim.io.integer_checkpoint import check_folder
from intsim.io.tokenizer import Encoding, encode, parse_tokenizer, read_lines, running
from intsim.io.trace_file import TRACE, write_trace
from intsim.models.world import HEADS
from intsim.profile import PROFILES, find_profile
from intsim.report.tasks import GLUE, TASKS
from intsim.verify.vectors.cli import vectors

__all__ = ["main"]

DEMO_TEXT: Final = "An honest, moving and quietly powerful film."

truncated = click.option("--truncate", is_flag=True, help="Shorten texts that are too long; else they are refused.")
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")


def main() -> None:
    """Run the command line."""
    sys.exit(run_command(cli))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="intsim")
def cli() -> None:
    """Run transformers on integers alone, every bit decided by a named rule."""


cli.add_command(vectors)


@cli.command()
@click.argument("text", nargs=-1)
@as_json
def demo(text: tuple[str, ...], json_: bool) -> None:
    """Classify TEXT with the embedded integer model and show the integers."""
    with resources.as_file(resources.files("intsim.embedded")) as path:
        model = intsim.load(path)
    sentence = " ".join(text) if text else DEMO_TEXT
    with intsim.trace() as trace:
        shown = _run_text(model, sentence)
    if json_:
        _print_json(shown)
        return
    click.echo(f"text      {sentence}")
    click.echo(f"tokens    {' '.join(shown['tokens'])}")
    click.echo(f"profile   {shown['profile']} ({shown['profile_hash'][:12]})\n")
    names, states = list(trace), model.outline.hidden_states
    first_layer, head = names[: names.index(states[1]) + 1], names[names.index(states[-1]) + 1 :]
    for name in first_layer + head:
        values = trace[name]
        first = " ".join(f"{value:7d}" for value in values.reshape(-1)[:6])
        click.echo(f"{name:<42} {values.dtype!s:<6} {values.shape!s:<17} {first}{' ...' if values.size > 6 else ''}")
    scale = shown["scale"]
    click.echo(f"\nlogits    {shown['output']}  (each times {scale['multiplier']} / 2**{scale['shift']})")
    click.echo(f"label     {shown['label']}")
    click.echo(f"digest    {shown['digest']}")


@cli.command()
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
@truncated
def quantize(
    checkpoint: Path,
    output: Path,
    recipe: str,
    head: str | None,
    profile: str | None,
    calibration: Path | None,
    calibration_size: int | None,
    window: int | None,
    truncate: bool,
) -> None:
    """Turn a Hugging Face CHECKPOINT folder into an integer checkpoint."""
    from intsim.convert.quantize import reads_on  # noqa: PLC0415  brings SciPy
    from intsim.io.huggingface import open_checkpoint  # noqa: PLC0415

    check_folder(output)
    running = reads_on(open_checkpoint(checkpoint, head=head))
    texts = _calibration_texts(calibration, calibration_size, running=running)
    how: dict[str, Any] = {"head": head, "profile": profile, "truncate": truncate, "window": window}
    model = intsim.quantize(checkpoint, recipe=recipe, calibration=texts, progress=True, **how)
    model.save(output)
    size = sum(values.nbytes for values in model.tensors.values())
    click.echo(f"wrote {output}: {len(model.tensors)} integer tensors, {size} bytes", err=True)


@cli.command()
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--text", help="A text; a TAB separates a pair.")
@click.option("--pair", help="The second text of a pair.")
@click.option("--ids", type=click.Path(path_type=Path), help="File of token ids, separated by white space.")
@click.option("--trace", "trace_file", type=click.Path(path_type=Path), help="Write every intermediate here.")
@click.option(
    "--level",
    type=click.Choice(["tensors", "steps"]),
    default="tensors",
    show_default=True,
    help="Trace results, or what happens inside operators too, as diagnose needs it.",
)
@truncated
@as_json
def run(
    model: Path,
    text: str | None,
    pair: str | None,
    ids: Path | None,
    trace_file: Path | None,
    level: Any,
    truncate: bool,
    json_: bool,
) -> None:
    """Run the integer checkpoint in DIR on a text or on token ids."""
    if (text is None) == (ids is None):
        msg = "give either --text or --ids"
        raise click.UsageError(msg)
    if text is None and (pair is not None or truncate):
        msg = "give --pair and --truncate together with --text"
        raise click.UsageError(msg)
    if text is not None and pair is not None:
        text = f"{text}\t{pair}"
    if trace_file is not None:
        check_writable(trace_file, TRACE)
    loaded = intsim.load(model)
    with intsim.trace(level) as trace:
        shown = _run_text(loaded, text, truncate=truncate) if text is not None else _run_ids(loaded, _read_ids(ids))
    if trace_file is not None:
        write_trace(trace_file, trace, loaded)
    aside = trace_file is not None and is_stdout(trace_file)  # the trace alone is on stdout
    if json_:
        _print_json(shown, err=aside)
        return
    large = loaded.head in ("question-answering", "masked-lm", "causal-lm")  # an integer a token, or a word
    for key in ("tokens", "output", "scale", "label", "labels", "answer", "masks", "next", "digest"):
        if shown.get(key) is None or (key == "output" and large):
            continue
        if key in ("masks", "next"):
            for best in shown[key] if key == "masks" else [shown[key]]:
                line = "  ".join(f"{each['token']} ({each['logit']})" for each in best)
                click.echo(f"{key.removesuffix('s'):<8}{line}", err=aside)
        else:
            click.echo(f"{key:<8}{shown[key]}", err=aside)


@cli.command()
@click.argument("model", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--text", help="What to go on from.")
@click.option("--ids", type=click.Path(path_type=Path), help="File of token ids, separated by white space.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="1 takes the likeliest token.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="What logits are divided by.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn, the same on every machine.")
@click.option(
    "--trace", "trace_file", type=click.Path(path_type=Path), help="Write every intermediate of the last step."
)
@click.option(
    "--level", type=click.Choice(["tensors", "steps"]), default="tensors", show_default=True, help="As run's."
)
@as_json
def generate(
    model: Path | None,
    text: str | None,
    ids: Path | None,
    max_new_tokens: int,
    top_k: int,
    temperature: float,
    seed: int,
    trace_file: Path | None,
    level: Any,
    json_: bool,
) -> None:
    """Go on with a text or token ids by the integer decoder in DIR, or by the stories model that comes with intsim."""
    from intsim.generate import Sampling  # noqa: PLC0415
    from intsim.report.continuation import go_on  # noqa: PLC0415

    if (text is None) == (ids is None):
        msg = "give either --text or --ids"
        raise click.UsageError(msg)
    if top_k == 1 and (temperature, seed) != (1.0, 0):
        msg = "give --temperature and --seed together with a --top-k of more than 1"
        raise click.UsageError(msg)
    sampling = Sampling(top_k=top_k, temperature=temperature, seed=seed)
    if trace_file is not None:
        check_writable(trace_file, TRACE)
    with resources.as_file(resources.files("intsim.embedded") / "stories") as stories:
        loaded = intsim.load(stories if model is None else model)
    aside = trace_file is not None and is_stdout(trace_file)  # the trace alone is on stdout

    def show(piece: str) -> None:
        if not json_:
            click.echo(piece, nl=False, err=aside)
            (sys.stderr if aside else sys.stdout).flush()

    start = text if text is not None else _read_ids(ids)
    how: dict[str, Any] = {"level": None if trace_file is None else level, "show": show}
    done = go_on(loaded, start, most=max_new_tokens, sampling=sampling, **how)
    show("\n")
    if done.stopped == "context":
        click.echo(f"stopped at the end of the context, {loaded.config.longest} tokens", err=True)
    if trace_file is not None and done.trace is not None:
        write_trace(trace_file, done.trace, loaded)
    if json_:
        _print_json(done.to_json(loaded), err=aside)


@cli.command()
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--onnx", required=True, type=click.Path(path_type=Path), help="ONNX file to write.")
def export(model: Path, onnx: Path) -> None:
    """Write the integer checkpoint in DIR as an ONNX model of standard integer operators, equal to the bit."""
    from intsim.io.onnx import KIND  # noqa: PLC0415
    from intsim.io.onnx import export as export_onnx  # noqa: PLC0415

    check_writable(onnx, KIND)
    size = export_onnx(intsim.load(model), onnx)
    click.echo(f"wrote {onnx}: {size} bytes", err=True)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--widths", is_flag=True, help="Show the range that no text can leave, and its bits.")
@click.option("--observe", type=click.Path(path_type=Path), help="Texts, one per line: show the ranges they reach too.")
@as_json
def inspect(path: Path, widths: bool, observe: Path | None, json_: bool) -> None:
    """Summarise an integer checkpoint, a Hugging Face checkpoint or a trace."""
    from intsim.report.inspect import summarise, summarise_widths  # noqa: PLC0415

    if observe is not None and not widths:
        msg = "give --observe together with --widths"
        raise click.UsageError(msg)
    texts = None if observe is None else _read_texts(observe)
    summary = summarise_widths(path, texts) if widths else summarise(path)
    if json_:
        _print_json(summary)
        return
    for key, value in summary.items():
        if key != "tensors":
            click.echo(f"{key:<14}{value if isinstance(value, str) else json.dumps(value)}")
    if widths:
        _print_table(summary["tensors"])
        return
    for row in summary["tensors"]:
        click.echo("  ".join(f"{cell!s:<{width}}" for cell, width in zip(row.values(), (52, 7, 16, 5), strict=False)))


@cli.command("eval")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--task", required=True, type=click.Choice(TASKS))
@click.option("--data", required=True, multiple=True, type=click.Path(path_type=Path), help="Repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="Score the first N examples.")
@click.option("--reference", type=click.Path(path_type=Path), help="Float checkpoint to score beside it.")
@click.option("--window", type=click.IntRange(min=2), help="Of perplexity: tokens of a window; by default up to 512.")
@click.option("--stride", type=click.IntRange(min=1), help="Of perplexity: tokens between the starts of two windows.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes. Same digest.")
@truncated
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
    result = evaluate(loaded, task, examples, reference=reference, progress=True, **how)
    if json_:
        _print_json(result.to_json())
        return
    click.echo(f"{'task':<12}{task}, {result.n} examples")
    for name, value in result.metrics.items():
        beside = "" if result.reference is None else f"   float {_figure(name, result.reference[name])}"
        click.echo(f"{name:<12}{_figure(name, value)}{beside}")
    if result.cosine is not None:
        click.echo(f"{'cosine':<12}{result.cosine:.5f}")
    click.echo(f"{'digest':<12}{result.digest}")


def _figure(metric: str, value: float) -> str:
    """Return a metric as it is read: fractions of 1 in percent."""
    return str(value) if metric == "tokens" else f"{value if metric == 'perplexity' else 100 * value:.2f}"


@cli.command()
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
@click.option("--plot", type=click.Path(path_type=Path), help="PNG file to write; needs matplotlib.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes. Same figures.")
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
    """Compare recipes on a Hugging Face CHECKPOINT: accuracy, size, and the error of each layer by its kind."""
    from intsim.report.evaluate import read_task  # noqa: PLC0415  brings SciPy
    from intsim.report.report import format_report  # noqa: PLC0415
    from intsim.report.report import report as report_on  # noqa: PLC0415

    if plot is not None:  # refused before anything runs, also where there is no matplotlib
        check_writable(plot, import_module("intsim.report.plot").PICTURE)
    examples = [example for path in data for example in read_task(task, path)][:limit]
    texts = _calibration_texts(calibration, calibration_size)
    result = report_on(checkpoint, _recipe_list(recipes), task, examples, calibration=texts, jobs=jobs, progress=True)
    if json_:
        _print_json(result.to_json())
    else:
        click.echo(format_report(result))
    if plot is not None:
        from intsim.report.plot import plot_report  # noqa: PLC0415

        plot_report(result, plot)


@cli.command()
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
            _print_json({each: recipe.source for each, recipe in summaries.items()})
        else:
            _print_table([{"name": each, "profile": recipe.profile} for each, recipe in summaries.items()])
        return
    recipe = load_recipe(name)
    if checkpoint is None:
        click.echo(json.dumps(recipe.source, indent=None if json_ else 2))
        return
    summary = summarise_rules(recipe, checkpoint, head=head)
    if json_:
        _print_json(summary)
        return
    for note in summary["notes"]:
        click.echo(note, err=True)
    for part in ("weights", "activations", "inputs"):
        if summary[part]:
            click.echo(part)
            _print_table(summary[part])


@cli.command()
@click.argument("name", required=False)
@click.option("--witnesses", is_flag=True, help="Show which kernels were found equal to which rules, and how often.")
@as_json
def profiles(name: str | None, witnesses: bool, json_: bool) -> None:
    """List the numerics profiles, or print the one called NAME in full."""
    if witnesses:
        rows = json.loads((resources.files("intsim") / "witnesses.json").read_text(encoding="utf-8"))
        if json_:
            click.echo(json.dumps(rows))
        else:
            _print_table([{**row, "version": f"{row['package']} {row['version']}"} for row in rows])
    elif name is not None:
        profile = find_profile(name)
        shown: dict[str, Any] = {**profile.to_json(), "hash": profile.hash}
        click.echo(json.dumps(shown, indent=None if json_ else 2))
    elif json_:
        _print_json({profile.name: profile.hash for profile in PROFILES.values()})
    else:
        for profile in PROFILES.values():
            click.echo(f"{profile.name:<12} version {profile.version}  {profile.hash}")


@cli.command()
@as_json
def info(json_: bool) -> None:
    """Print what a bug report needs: versions, BLAS, processor, and whether the embedded models are the committed ones."""
    from intsim.report.info import summarise_machine  # noqa: PLC0415

    summary = summarise_machine()
    if json_:
        _print_json(summary)
        return
    for key, value in summary.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{name} {each}" for name, each in cast("dict[str, Any]", value).items())
        else:
            shown = " ".join(map(str, cast("list[str]", value))) if isinstance(value, list) else str(value)
        click.echo(f"{key:<18}{shown}")


@cli.command()
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
        _print_json(result.to_json())
    else:
        _print_comparison(result)
    if result.first is not None:
        sys.exit(MISMATCH)


@cli.command()
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
        _print_json(result.to_json())
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
            click.echo(f"only in {side}: {len(names)} tensors, first {names[0]}", err=True)
    if result.models is not None:
        click.echo(f"expected is of model {result.models[0]}, actual of another, {result.models[1]}", err=True)
    if (first := result.first) is None:
        click.echo(f"equal: {result.compared} tensors, to the bit")
        return
    click.echo(f"{len(result.differing)} of {result.compared} tensors differ, first {first.name}")
    if first.kind != "values":
        click.echo(f"  {first.kind} {first.actual}, expected {first.expected}")
        return
    click.echo(f"  {first.count} of {first.size} elements, largest difference {first.largest} LSB")
    click.echo(f"  {'index':>20} {'actual':>12} {'expected':>12} {'diff':>8}  hex")
    for mismatch in first.mismatches:
        index = ", ".join(map(str, mismatch.index))
        click.echo(
            f"  {f'({index})':>20} {mismatch.actual:>12} {mismatch.expected:>12} {mismatch.difference:>+8}"
            f"  {mismatch.actual_hex} != {mismatch.expected_hex}"
        )


def _run_text(model: IntegerModel, text: str, *, truncate: bool = False) -> dict[str, Any]:
    if model.tokenizer is None:
        msg = "model must carry a tokenizer to read text, got none; give --ids"
        raise IntsimError(msg)
    longest, tokenizer = model.config.longest, parse_tokenizer(model.tokenizer)
    if model.head == "causal-lm":
        before, ids = running(tokenizer, text)
        return _run_ids(model, [*before, *(ids[-(longest - len(before)) :] if truncate else ids)], text)
    return _run_encoding(model, encode(tokenizer, text, longest=longest, truncate=truncate), text)


def _run_ids(model: IntegerModel, ids: list[int], text: str | None = None) -> dict[str, Any]:
    tokens: list[str] = []
    if text is not None and model.tokenizer is not None:
        tokenizer = parse_tokenizer(model.tokenizer)
        tokens = [tokenizer.id_to_token(each) or "" for each in ids]
    return _run_encoding(model, Encoding(ids=ids, type_ids=[0] * len(ids), tokens=tokens), text)


def _run_encoding(model: IntegerModel, encoding: Encoding, text: str | None) -> dict[str, Any]:
    from intsim.report.answer import answer  # noqa: PLC0415

    last = model.head == "causal-lm"
    result = model([list(encoding.ids)], token_type_ids=[list(encoding.type_ids)], last=last)
    return {
        "text": text,
        "tokens": list(encoding.tokens) or None,
        "output": result.values[0].tolist(),
        "scale": {"multiplier": int(result.scale.multiplier), "shift": int(result.scale.shift)},
        "digest": result.digest,
        "profile": model.profile.name,
        "profile_hash": model.profile.hash,
        "model_digest": model.digest,
    } | answer(model, result, encoding, text or "")


def _calibration_texts(file: Path | None, size: int | None, *, running: bool = False) -> Sequence[str] | None:
    if file is not None:
        return read_lines(file, blank=running)[:size]
    if size is None:
        return None
    from intsim.convert import default_calibration, default_running_text  # noqa: PLC0415  brings SciPy

    return (default_running_text() if running else default_calibration())[:size]


def _recipe_list(values: tuple[str, ...]) -> list[str]:
    """Split at commas, but leave the ``key=value`` of a recipe's parameters with it."""
    recipes: list[str] = []
    for value in values:
        for i, piece in enumerate(value.split(",")):
            if i and "=" in piece and ":" not in piece:
                recipes[-1] += f",{piece}"
            else:
                recipes.append(piece)
    return recipes


def _read_text(path: Path) -> str:
    try:
        return read_text(path, most=MAX_LINE, longest_line=MAX_LINE)
    except (OSError, ValueError) as error:
        msg = f"{path} must be a readable UTF-8 file, got {said(error)}"
        raise IntsimError(msg) from None


def _read_texts(path: Path) -> Iterable[str]:
    from tqdm import tqdm  # noqa: PLC0415

    texts = read_lines(path)
    if not texts:
        msg = f"{path} must hold a text on a line, got none"
        raise IntsimError(msg)
    return tqdm(texts, desc="observing", unit="text")


def _read_ids(path: Path | None) -> list[int]:
    words = _read_text(path).replace(",", " ").split() if path is not None else []
    if not words or not all(word.isdecimal() for word in words):
        msg = f"{path} must hold token ids separated by white space, got {' '.join(words)[:40]!r}"
        raise IntsimError(msg)
    if len(longest := max(words, key=len)) > 18:
        msg = f"ids in {path} must fit 64 bits, got one of {len(longest)} digits"
        raise IntsimError(msg)
    return [int(word) for word in words]


def _print_table(rows: list[dict[str, Any]]) -> None:
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *cells in lines:
        numbers = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        click.echo("  ".join([f"{name:<{widths[0]}}", *numbers]))


def _print_json(value: Any, *, err: bool = False) -> None:
    click.echo(json.dumps(value), err=err)
