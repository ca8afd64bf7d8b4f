# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on terminals, for what takes a while, and where they are wanted."""

import importlib
import sys
import time
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tqdm import tqdm

import intsim
from intsim import _progress, ops
from intsim._progress import bars, clear_bars, counted, counting, watched
from intsim.carrier import blocks
from intsim.cli import cli

EMBEDDED = Path(__file__).parent / "data" / "embedded-float"
MODEL = Path(intsim.__file__).parent / "embedded"
simulator = importlib.import_module("intsim.verify.simulator")

Capture = pytest.CaptureFixture[str]


def watch(capsys: Capture, monkeypatch: pytest.MonkeyPatch, *, wanted: bool | None = True, patience: float = 0) -> str:
    """Return what a terminal gets while some work is watched."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", patience)
    with bars(wanted):
        assert list(watched([3, 1, 4], "working", unit="step")) == [3, 1, 4]
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_terminal_shows_a_bar_and_nothing_of_it_remains(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    told = watch(capsys, monkeypatch)
    assert "working" in told
    assert told.endswith("\r")


@pytest.mark.parametrize("wanted", [False, None])
def test_none_is_shown_that_nobody_wants(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, *, wanted: bool | None
) -> None:
    assert watch(capsys, monkeypatch, wanted=wanted) == ""


def test_what_is_wanted_holds_in_the_block() -> None:
    seen: list[bool] = []
    with bars(True):
        with bars(None):
            seen.append(_progress._wanted.get())
        with bars(False):
            seen.append(_progress._wanted.get())
        seen.append(_progress._wanted.get())
    assert seen == [True, False, True]
    assert not _progress._wanted.get()


def test_short_work_shows_none(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(capsys, monkeypatch, patience=60).strip() == ""


def test_what_is_printed_meanwhile_stands_on_a_line_without_the_bar(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    with bars(True):
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
    with bars(True), counting("counting", unit="step"):
        assert list(watched([3, 1, 4], "working", unit="step")) == [3, 1, 4]
        counted(1)
    assert capsys.readouterr() == ("", "")


def test_one_long_item_shows_its_time(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0.01)
    monkeypatch.setattr(_progress, "TICK", 0.01)
    with bars(True), counting("thinking", unit="thought"):
        told = ""
        while "thinking" not in told:
            time.sleep(0.01)
            told += capsys.readouterr().err
    assert capsys.readouterr().err.endswith("\r")


def test_a_pass_moves_the_bar_around_it_by_its_products(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    model = intsim.load(MODEL)
    for threads in (1, 2):
        monkeypatch.setattr(blocks, "THREADS", threads)
        with bars(True), counting("running", unit="product"):
            model(np.arange(1, 20)[None])
            (bar,) = tqdm._instances
            assert (bar.n, bar.total) == (len(model.outline.products),) * 2
        assert "running" in capsys.readouterr().err
        assert not tqdm._instances


class Silent:
    """A bar that shows nothing."""

    total = 0

    def update(self) -> None:
        """Show nothing."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return what is said to be done in the bars that are asked for."""
    said: set[str] = set()

    def record(items: Iterable[Any] | None, doing: str, *_: Any, unit: str) -> Any:
        assert unit
        said.add(doing)
        return nullcontext(Silent()) if items is None else items

    monkeypatch.setattr(_progress, "_bar", record)
    return said


@pytest.mark.parametrize("quiet", [False, True])
def test_commands_leave_bars_out_where_quiet_is_asked_for(
    said: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, quiet: bool
) -> None:
    lines = [tmp_path / "texts.txt", tmp_path / "data.tsv"]
    lines[0].write_text("a fine film\n", encoding="utf-8")
    lines[1].write_text("sentence\tlabel\na fine film\t1\n", encoding="utf-8")
    monkeypatch.setattr(simulator, "simulated", lambda *_, **__: {"softmax": ops.softmax})
    (tmp_path / "wrong.txt").write_text("00000001\n" * 200, encoding="utf-8")  # answers alone
    scored, model, trace = ["--task", "sst2", "--data", lines[1]], tmp_path / "out", tmp_path / "trace"
    for arguments, doing in (
        (["quantize", EMBEDDED, "-o", model, "--calibration", lines[0]], "calibrating converting checking writing"),
        (["eval", model, *scored], "reading checking evaluating"),
        (["report", EMBEDDED, "--recipes", "intsim", "--calibration", lines[0], *scored], "calibrating evaluating"),
        (["inspect", model], "reading checking looking"),
        (["inspect", model, "--widths", "--observe", lines[0]], "reading checking observing"),
        (["export", model, "--memh", tmp_path / "memh"], "reading checking writing"),
        (["export", model, "--npz", tmp_path / "out.npz"], "reading checking writing"),
        (["export", model, "--c", tmp_path / "c"], "reading checking exporting writing"),
        (["vectors", "gen", "isqrt", "--level", "0", "-o", tmp_path / "right.txt"], "generating"),
        (["vectors", "verify", "isqrt", tmp_path / "right.txt"], "judging"),
        (["vectors", "gen", "isqrt", "--level", "0", "--format", "memh", "-o", tmp_path / "right.memh"], "generating"),
        (["vectors", "verify", "isqrt", tmp_path / "right.memh"], "reading judging"),
        (["vectors", "kill", "isqrt", "--coverage", "table"], "trying"),
        (["diagnose", tmp_path / "right.txt", tmp_path / "wrong.txt"], "trying"),
        (["run", model, "--text", "a fine film", "--trace", trace, "--level", "steps"], "running writing"),
        (["generate", "--text", "Once", "--max-new-tokens", "1"], "reading checking"),
        (["compare", trace, trace], "reading comparing"),
        (["compare", tmp_path / "memh", tmp_path / "out.npz"], "reading comparing"),
        (["vectors", "replay", trace, "--out", tmp_path / "device.npz", "--work", tmp_path / "sim"], "replaying"),
    ):
        assert_said(said, arguments, doing, quiet=quiet, status=int(arguments[0] == "diagnose"))


@pytest.mark.parametrize("quiet", [False, True])
def test_exports_to_onnx_have_bars(said: set[str], tmp_path: Path, *, quiet: bool) -> None:
    pytest.importorskip("onnx", reason="needs onnx")
    export = ["export", MODEL, "--onnx", tmp_path / "out.onnx"]
    assert_said(said, export, "reading checking exporting writing", quiet=quiet)


@pytest.mark.parametrize("quiet", [False, True])
def test_pictures_have_bars(said: set[str], tmp_path: Path, *, quiet: bool) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    trace = tmp_path / "trace"
    assert_said(said, ["run", MODEL, "--text", "a fine film", "--trace", trace], "running writing", quiet=quiet)
    drawn = ["inspect", trace, "--plot", tmp_path / "trace.png"]
    assert_said(said, drawn, "reading looking measuring drawing writing", quiet=quiet)


def assert_said(said: set[str], arguments: list[Any], doing: str, *, quiet: bool, status: int = 0) -> None:
    """Run a command, and hold what its bars say against what they should, or against nothing."""
    said.clear()
    outcome = CliRunner().invoke(cli, [*map(str, arguments), *(["--quiet"] if quiet else [])])
    assert outcome.exit_code == status, outcome.output
    assert quiet or said >= {*doing.split()}, (arguments, said)
    assert not (quiet and said)
