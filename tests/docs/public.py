# SPDX-License-Identifier: Apache-2.0
"""What users may name: modules with their ``__all__``, and commands."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from intsim.cli import cli

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = ROOT / "notebooks"


def public_modules(folder: Path = ROOT / "intsim", name: str = "intsim") -> Iterator[str]:
    """Yield every public module: a package that has an ``__all__`` speaks for what is in it."""
    for path in sorted(folder.iterdir()):
        package, module = path / "__init__.py", f"{name}.{path.stem}"
        if path.name.startswith("_") or module == "intsim.cli":
            continue
        if path.suffix == ".py" or (package.exists() and names(package)):
            yield module
        elif package.exists():
            yield from public_modules(path, module)


def names(path: Path) -> list[str]:
    """Return ``__all__``, without an import: some modules need what is not installed."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return ast.literal_eval(statement.value)
    return []


def source(module: str) -> Path:
    """Return the file of a module."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def commands(group: click.Group = cli, name: str = "intsim") -> Iterator[str]:
    """Yield every command by what is typed."""
    for each, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}"
