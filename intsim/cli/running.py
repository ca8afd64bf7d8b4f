# SPDX-License-Identifier: Apache-2.0
"""What runs a model: demo, run, generate."""

from contextlib import nullcontext
from importlib import resources
from pathlib import Path
from typing import Any, Final

import click

import intsim
from intsim._progress import counting
from intsim.cli.options import as_json, options_read, quiet, traced, truncated
from intsim.cli.printing import print_json, say
from intsim.cli.texts import read_ids
from intsim.errors import IntsimError, escaped
from intsim.integer_model import IntegerModel
from intsim.io.atomic import is_stdout
from intsim.io.tokenizer import Encoding, encode, parse_tokenizer, running
from intsim.io.trace_export import check_trace_writable, save_trace

__all__ = ["COMMANDS"]

DEMO_TEXT: Final = "An honest, moving and quietly powerful film."


@click.command(short_help="Classify a text with the embedded model, showing integers.")
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


@click.command(short_help="Run an integer checkpoint on a text; write a trace.")
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--text", help="A text; a TAB separates a pair.")
@click.option("--pair", help="The second text of a pair.")
@click.option("--ids", type=click.Path(path_type=Path), help="File of token ids, separated by white space or commas.")
@traced("Write every intermediate here")
@click.option(
    "--level",
    type=click.Choice(["tensors", "steps"]),
    default="tensors",
    show_default=True,
    help="Trace results, or what happens inside operators too, as diagnose needs it.",
)
@truncated
@quiet
@as_json
def run(
    model: Path,
    text: str | None,
    pair: str | None,
    ids: Path | None,
    trace_file: str | None,
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
        check_trace_writable(trace_file)
    loaded = intsim.load(model)
    with nullcontext() if trace_file is None else intsim.trace(level) as trace:
        shown = _run_text(loaded, text, truncate=truncate) if text is not None else _run_ids(loaded, read_ids(ids))
    if trace_file is not None and trace is not None:
        save_trace(trace_file, trace, loaded)
    aside = trace_file is not None and is_stdout(Path(trace_file))  # the trace alone is on stdout
    if json_:
        print_json(shown, err=aside)
        return
    large = loaded.head in ("question-answering", "masked-lm", "causal-lm")  # an integer a token, or a word
    for key in ("tokens", "ids", "output", "scale", "label", "labels", "answer", "masks", "next", "digest"):
        if shown.get(key) is None or (key == "output" and large):
            continue
        if key in ("masks", "next"):
            for best in shown[key] if key == "masks" else [shown[key]]:
                line = "  ".join(f"{each['token']} ({each['logit']})" for each in best)
                say(f"{key.removesuffix('s'):<8}{line}", err=aside)
        else:
            say(f"{key:<8}{shown[key]}", err=aside)


@click.command(short_help="Go on with a text by an integer decoder.")
@click.argument("model", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--text", help="What to go on from.")
@click.option("--ids", type=click.Path(path_type=Path), help="File of token ids, separated by white space or commas.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="1 takes the likeliest token.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="What logits are divided by.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn, the same on every machine.")
@traced("Write every intermediate of the last step here")
@click.option(
    "--level", type=click.Choice(["tensors", "steps"]), default="tensors", show_default=True, help="As run's."
)
@quiet
@as_json
def generate(
    model: Path | None,
    text: str | None,
    ids: Path | None,
    max_new_tokens: int,
    top_k: int,
    temperature: float,
    seed: int,
    trace_file: str | None,
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
    with options_read():
        sampling = Sampling(top_k=top_k, temperature=temperature, seed=seed)
    if trace_file is not None:
        check_trace_writable(trace_file)
    with resources.as_file(resources.files("intsim.embedded") / "stories") as stories:
        loaded = intsim.load(stories if model is None else model)
    aside = trace_file is not None and is_stdout(Path(trace_file))  # the trace alone is on stdout

    def show(piece: str) -> None:
        if not json_:
            click.echo("".join(c if c in "\n\t" else escaped(c) for c in piece), nl=False, err=aside)

    start = text if text is not None else read_ids(ids)
    how: dict[str, Any] = {"level": None if trace_file is None else level, "show": show}
    done = go_on(loaded, start, most=max_new_tokens, sampling=sampling, **how)
    show("\n")
    if done.stopped == "context":
        click.echo(f"stopped at the end of the context, {loaded.config.longest} tokens", err=True)
    if trace_file is not None and done.trace is not None:
        save_trace(trace_file, done.trace, loaded)
    if json_:
        print_json(done.to_json(loaded), err=aside)


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
    with counting("running", unit="product"):
        result = model([list(encoding.ids)], token_type_ids=[list(encoding.type_ids)], last=last)
    return {
        "text": text,
        "tokens": list(encoding.tokens) or None,
        "ids": list(encoding.ids),
        "output": result.values[0].tolist(),
        "scale": {"multiplier": int(result.scale.multiplier), "shift": int(result.scale.shift)},
        "digest": result.digest,
        "profile": model.profile.name,
        "profile_hash": model.profile.hash,
        "model_digest": model.digest,
    } | answer(model, result, encoding, text or "")


COMMANDS: Final = (demo, run, generate)
