# SPDX-License-Identifier: Apache-2.0
"""The command line: parse, call the library, print. Data on stdout, progress and logs on stderr.

A file for each job: what makes a model, runs it, scores it, shows it, and checks others against it.

Exit status: 0 done or equal, 1 a difference was found, 2 wrong usage, 3 unreadable or invalid input or an output that
cannot be written, 70 too little memory, a killed process of --jobs or a mistake in intsim, 130 interrupted, 141 nobody
reads the output any longer.
"""

import sys

import click

from intsim._status import run_command
from intsim.cli import checking, making, running, scoring, showing, vectors

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command line."""
    sys.exit(run_command(cli))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="intsim")
def cli() -> None:
    """Run transformers on integers alone, every bit decided by a named rule."""


for module in (making, running, scoring, showing, checking, vectors):
    for command in module.COMMANDS:
        cli.add_command(command)
