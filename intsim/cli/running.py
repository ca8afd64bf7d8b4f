# SPDX-License-Identifier: Apache-2.0
"""What runs a model: demo, run."""

from importlib import resources
from pathlib import Path
from typing import Any, Final

import click

import intsim
from intsim.cli.options import as_json, truncated
from intsim.cli.printing import print_json, say
from intsim.cli.texts import read_ids
from intsim.errors import IntsimError
from intsim.integer_model import IntegerModel
from intsim.io.atomic import check_writable, is_stdout
from intsim.io.tokenizer import Encoding, encode, parse_tokenizer
from intsim.io.trace_file import TRACE, write_trace

__all__ = ["COMMANDS"]

DEMO_TEXT: Final = "An honest, moving and quietly powerful film."


@click.command()
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
        print_json(shown)
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


@click.command()
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
        shown = _run_text(loaded, text, truncate=truncate) if text is not None else _run_ids(loaded, read_ids(ids))
    if trace_file is not None:
        write_trace(trace_file, trace, loaded)
    aside = trace_file is not None and is_stdout(trace_file)  # the trace alone is on stdout
    if json_:
        print_json(shown, err=aside)
        return
    for key in ("tokens", "output", "scale", "label", "labels", "answer", "masks", "digest"):
        if shown.get(key) is None or (key == "output" and loaded.head in ("question-answering", "masked-lm")):
            continue
        if key == "masks":
            for best in shown[key]:
                line = "  ".join(f"{each['token']} ({each['logit']})" for each in best)
                say(f"{'mask':<8}{line}", err=aside)
        else:
            say(f"{key:<8}{shown[key]}", err=aside)


def _run_text(model: IntegerModel, text: str, *, truncate: bool = False) -> dict[str, Any]:
    if model.tokenizer is None:
        msg = "model must carry a tokenizer to read text, got none; give --ids"
        raise IntsimError(msg)
    longest = model.config.longest
    encoding = encode(parse_tokenizer(model.tokenizer), text, longest=longest, truncate=truncate)
    return _run_encoding(model, encoding, text)


def _run_ids(model: IntegerModel, ids: list[int]) -> dict[str, Any]:
    return _run_encoding(model, Encoding(ids=ids, type_ids=[0] * len(ids), tokens=()), None)


def _run_encoding(model: IntegerModel, encoding: Encoding, text: str | None) -> dict[str, Any]:
    from intsim.report.answer import answer  # noqa: PLC0415

    result = model([list(encoding.ids)], token_type_ids=[list(encoding.type_ids)])
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


COMMANDS: Final = (demo, run)
