# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on terminals, for what takes a while, and where they are wanted."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from intsim import _progress, ops
from intsim._progress import clear_bars, watched
from intsim.cli import cli, texts, vectors

EMBEDDED = Path(__file__).parent / "data" / "embedded-float"
calibrate, quantize = (importlib.import_module(f"intsim.convert.{name}") for name in ("calibrate", "quantize"))
evaluate, report = (importlib.import_module(f"intsim.report.{name}") for name in ("evaluate", "report"))
diagnosis, replaying, simulator = (
    importlib.import_module(f"intsim.verify.{name}") for name in ("diagnose", "replay", "simulator")
)
judge, files = (importlib.import_module(f"intsim.verify.vectors.{name}") for name in ("judge", "files"))
exports = [importlib.import_module(f"intsim.io.{name}") for name in ("c_header", "memh_export", "npz_export")]

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


def test_what_is_printed_meanwhile_stands_on_a_line_without_the_bar(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    taken = iter(watched([3, 1, 4], "working", unit="step"))
    next(taken)
    assert "working" in capsys.readouterr().err
    clear_bars()
    assert capsys.readouterr().err.endswith("\r")
    assert list(taken) == [1, 4]
    capsys.readouterr()
    clear_bars()
    assert capsys.readouterr().err == ""


def test_a_file_or_a_pipe_gets_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    assert list(watched([3, 1, 4], "working", unit="step")) == [3, 1, 4]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [False, True])
def test_commands_leave_bars_out_where_quiet_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, quiet: bool
) -> None:
    asked: dict[str, bool] = {}

    def record(items: Iterable[Any], doing: str, *, shown: bool, **_: Any) -> Iterable[Any]:
        asked[doing] = shown
        return items

    for module in (calibrate, evaluate, quantize, report, texts, vectors, diagnosis, replaying, judge, files, *exports):
        monkeypatch.setattr(module, "watched", record)
    lines = [tmp_path / "texts.txt", tmp_path / "data.tsv"]
    lines[0].write_text("a fine film\n", encoding="utf-8")
    lines[1].write_text("sentence\tlabel\na fine film\t1\n", encoding="utf-8")
    monkeypatch.setattr(simulator, "simulated", lambda *_, **__: {"softmax": ops.softmax})
    (tmp_path / "wrong.txt").write_text("00000001\n" * 200, encoding="utf-8")  # answers alone
    scored = ["--task", "sst2", "--data", lines[1]]
    for arguments in (
        ["quantize", EMBEDDED, "-o", tmp_path / "out", "--calibration", lines[0]],
        ["eval", tmp_path / "out", *scored],
        ["report", EMBEDDED, "--recipes", "intsim", "--calibration", lines[0], *scored],
        ["inspect", tmp_path / "out", "--widths", "--observe", lines[0]],
        ["export", tmp_path / "out", "--memh", tmp_path / "memh"],
        ["export", tmp_path / "out", "--npz", tmp_path / "out.npz"],
        ["export", tmp_path / "out", "--c", tmp_path / "c"],
        ["vectors", "gen", "isqrt", "--level", "0", "-o", tmp_path / "right.txt"],
        ["vectors", "verify", "isqrt", tmp_path / "right.txt"],
        ["vectors", "gen", "isqrt", "--level", "0", "--format", "memh", "-o", tmp_path / "right.memh"],
        ["vectors", "verify", "isqrt", tmp_path / "right.memh"],
        ["vectors", "kill", "isqrt", "--coverage", "table"],
        ["diagnose", tmp_path / "right.txt", tmp_path / "wrong.txt"],
        ["run", tmp_path / "out", "--text", "a fine film", "--trace", tmp_path / "trace", "--level", "steps"],
        ["vectors", "replay", tmp_path / "trace", "--out", tmp_path / "device.npz", "--work", tmp_path / "sim"],
    ):
        asked.clear()
        given = [*map(str, arguments), *(["--quiet"] if quiet and arguments[0] != "run" else [])]
        outcome = CliRunner().invoke(cli, given)
        assert outcome.exit_code == (arguments[0] == "diagnose")
        if arguments[0] == "run":
            continue
        assert asked
        assert set(asked.values()) == {not quiet}
