# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on terminals, for what takes a while, and where they are wanted."""

import sys

import pytest

from intsim import _progress
from intsim._progress import watched

Capture = pytest.CaptureFixture[str]


def watch(capsys: Capture, monkeypatch: pytest.MonkeyPatch, *, shown: bool = True, patience: float = 0) -> str:
    """Return what a terminal gets while some work is watched."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", patience)
    assert list(watched([3, 1, 4], "working", unit="step", shown=shown)) == [3, 1, 4]
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_terminal_shows_a_bar_and_nothing_of_it_remains(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    told = watch(capsys, monkeypatch)
    assert "working" in told
    assert told.endswith("\r")


def test_quiet_shows_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(capsys, monkeypatch, shown=False) == ""


def test_short_work_shows_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(capsys, monkeypatch, patience=60).strip() == ""


def test_a_file_or_a_pipe_gets_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    assert list(watched([3, 1, 4], "working", unit="step")) == [3, 1, 4]
    assert capsys.readouterr() == ("", "")
