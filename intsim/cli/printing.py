# SPDX-License-Identifier: Apache-2.0
"""How results are printed."""

import json
from typing import Any

import click

__all__ = ["print_json", "print_table"]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of the same keys under their names."""
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for name, *cells in lines:
        numbers = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        click.echo("  ".join([f"{name:<{widths[0]}}", *numbers]))


def print_json(value: Any, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(json.dumps(value), err=err)
