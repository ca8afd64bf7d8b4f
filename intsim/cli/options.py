# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from intsim._progress import bars
from intsim.errors import IntsimError
from intsim.io.layout import Layout
from intsim.io.trace_export import trace_form

__all__ = ["as_json", "layout_options", "options_read", "quiet", "traced", "truncated"]

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
truncated = click.option("--truncate", is_flag=True, help="Shorten texts that are too long; else they are refused.")


def quiet(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command progress bars, and an option that takes them away."""
    what = "No progress bars; there are none unless stderr is a terminal."
    return click.option("--quiet", is_flag=True, expose_value=False, callback=_want_bars, help=what)(command)


def _want_bars(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.with_resource(bars(not value))


def traced(purpose: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the option ``--trace``, whose name says what is written."""
    what = f"{purpose}: FILE.safetensors, which diagnose reads, FILE.npz, or FOLDER/ or NAME.memh for memh files."
    return click.option("--trace", "trace_file", callback=_known_form, help=what)


def _known_form(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        with options_read():
            trace_form(value)
    return value


@contextmanager
def options_read() -> Generator[None]:
    """Let what the library refuses in the block be wrong usage: an option by itself, whatever the files hold."""
    try:
        yield
    except IntsimError as error:
        raise click.UsageError(str(error)) from None


def layout_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a layout, and its parameter ``layout`` what they say, None where none is given."""

    @wraps(command)
    def laid_out(
        *,
        word_bits: int | None,
        lanes: int | None,
        tile: str | None,
        tile_order: Any,
        transposed: bool,
        banks: int | None,
        **options: Any,
    ) -> None:
        size = None if tile is None else re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", tile)
        if tile is not None and size is None:
            msg = f"--tile must be ROWSxCOLUMNS, got {tile!r}"
            raise click.UsageError(msg)
        given: dict[str, Any] = {
            "word_bits": word_bits,
            "lanes": lanes,
            "tile": None if size is None else (int(size[1]), int(size[2])),
            "tile_order": tile_order,
            "transposed": transposed or None,
            "banks": banks,
        }
        try:
            layout = Layout(**{name: value for name, value in given.items() if value is not None})
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        command(layout=None if layout == Layout() else layout, **options)

    options = (
        click.option("--word-bits", type=int, help="Bits of a word; by default one element's, 1, 2, 4, 8 ... of them."),
        click.option("--lanes", type=int, help="Elements of a word, the first in its lowest bits."),
        click.option(
            "--tile", metavar="MxN", help="Tiles of M rows and N columns, zeros around what they do not cover."
        ),
        click.option(
            "--tile-order",
            type=click.Choice(["rows", "columns"]),
            help="What follows a tile: that to its right, or below.",
        ),
        click.option("--transposed", is_flag=True, help="Columns outside, rows inside."),
        click.option("--banks", type=int, help="Memories that words go to in turn."),
    )
    for option in reversed(options):
        laid_out = option(laid_out)
    return laid_out
