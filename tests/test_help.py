# SPDX-License-Identifier: Apache-2.0
"""What ``--help`` prints: every command, by job, on one screen, nothing cut short."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from intsim.cli import JOBS, cli


def groups(group: click.Group, name: str) -> Iterator[tuple[str, click.Group]]:
    yield name, group
    for each, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, f"{name} {each}")


GROUPS = dict(groups(cli, "intsim"))


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_lists_every_command_on_a_line_that_is_whole(name: str) -> None:
    lines = CliRunner().invoke(GROUPS[name], ["--help"], prog_name=name).output.splitlines()
    listed = [line for line in lines if any(f" {each}  " in line for each in GROUPS[name].commands)]
    assert len(listed) == len(GROUPS[name].commands)
    assert all(line.endswith(".") and not line.endswith("..") for line in listed)


def test_the_commands_fit_a_screen_by_job() -> None:
    lines = CliRunner().invoke(cli, ["--help"]).output.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    jobs = [line.split()[0] for line in lines if line[:1].islower()]
    assert jobs == list(JOBS)


def test_no_help_shows_the_mark_of_lines_that_stay() -> None:
    for name, group in GROUPS.items():
        for each in group.commands:
            assert "\\b" not in CliRunner().invoke(group, [each, "--help"], prog_name=name).output
