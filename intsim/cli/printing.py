# SPDX-License-Identifier: Apache-2.0
"""How results are printed."""

import json
from typing import Any

import click

from intsim.errors import escaped, one_line

__all__ = ["print_json", "print_table", "say"]


def say(line: str, *, err: bool = False) -> None:
    """Print a line that quotes a file: what a terminal would obey escaped, and beside the data nothing without end."""
    click.echo(one_line(line) if err else escaped(line), err=err)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of the same keys under their names."""
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *cells in lines:
        numbers = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        say("  ".join([f"{name:<{widths[0]}}", *numbers]))


def print_json(value: Any, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(json.dumps(value), err=err)
