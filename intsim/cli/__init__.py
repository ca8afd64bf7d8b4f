# SPDX-License-Identifier: Apache-2.0
"""The command line: parse, call the library, print. Data on stdout, progress and logs on stderr.

A file for each job: what makes a model, runs it, scores it, shows it, and checks others against it.

Exit status: 0 done or equal, 1 a difference was found, 2 wrong usage, 3 unreadable or invalid input or an output that
cannot be written, 70 too little memory, a killed process of --jobs or a mistake in intsim, 130 interrupted, 141 nobody
reads the output any longer.
"""

import sys
from typing import Final

import click

from intsim._status import run_command
from intsim.cli import checking, making, running, scoring, showing, vectors

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command line."""
    sys.exit(run_command(cli))


JOBS: Final = {
    "make": (making,),
    "run": (running,),
    "score": (scoring,),
    "look": (showing,),
    "verify": (checking, vectors),
}
"""What a user comes for -> where its commands are."""
WIDTH: Final = 80


class Jobs(click.Group):
    """A group that lists its commands by job, each on one line."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write a line for each command, the job in front of the first that serves it, and one for the options."""
        width = max(map(len, self.commands))
        formatter.write_paragraph()
        for job, modules in JOBS.items():
            commands = [command for module in modules for command in module.COMMANDS]
            for command, shown in zip(commands, [job, *[""] * len(commands)], strict=False):
                told = command.get_short_help_str(WIDTH - 10 - width)
                formatter.write(f"{shown:<6}  {command.name:<{width}}  {told}\n")
        formatter.write("\nOptions: --version; -h or --help, after a command too.\n")


@click.group(cls=Jobs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="intsim")
def cli() -> None:
    """Run transformers on integers alone, every bit decided by a named rule."""


for modules in JOBS.values():
    for module in modules:
        for command in module.COMMANDS:
            cli.add_command(command)
