# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on terminals, for what takes a while, and where they are wanted."""

import sys

import pytest

from intsim import _progress
from intsim._progress import watched


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  its stderr
    """Let stderr pass for a terminal, and every work for a long one."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0)


def watch(capsys: pytest.CaptureFixture[str], *, shown: bool = True) -> str:
    assert list(watched([3, 1, 4], "working", unit="step", shown=shown)) == [3, 1, 4]
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_a_bar_and_nothing_of_it_remains(capsys: pytest.CaptureFixture[str]) -> None:
    told = watch(capsys)
    assert "working" in told
    assert "3/3" in told or "step" in told
    assert told.endswith("\r")


@pytest.mark.usefixtures("terminal")
def test_quiet_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(capsys, shown=False) == ""


@pytest.mark.usefixtures("terminal")
def test_short_work_shows_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "PATIENCE", 60)
    assert watch(capsys).strip() == ""


def test_a_file_or_a_pipe_gets_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    assert watch(capsys) == ""
