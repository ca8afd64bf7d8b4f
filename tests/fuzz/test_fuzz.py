# SPDX-License-Identifier: Apache-2.0
"""Every file that was once taken badly, and some new ones."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from fuzz import verdict
from fuzz.campaign import read_case
from fuzz.verdict import KINDS, Case, examine

from intsim.errors import IntsimError

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = sorted((Path(__file__).parent / "corpus").glob("*.json"))


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem.replace("-", " "))
def test_what_was_taken_badly_is_taken_well(tmp_path: Path, file: Path) -> None:
    case = read_case(file)
    if case.kind == "drawn":
        pytest.importorskip("matplotlib", reason="needs matplotlib")
    found = examine(case, tmp_path / "case")
    assert not found.fault
    assert json.loads(file.read_text())["says"] in found.message


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_begins_from_is_accepted(tmp_path: Path, kind: str) -> None:
    for seed in KINDS[kind].seeds[:2]:
        found = examine(Case(kind, seed, []), tmp_path / "case")
        assert (found.outcome, found.fault) == ("accepted", ""), seed


def test_some_seconds_of_new_files_bring_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--files", "32", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\n +all +32 .*\n0 tracebacks, 0 MemoryErrors, 0 faults in all", done.stdout)
    assert not (tmp_path / "kept").exists()


def _raise(error: BaseException) -> Any:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (KeyError("x"), "status -1"),
        (SystemExit(70), "status 70"),
        (IntsimError("never ends here"), "status -1"),
        (MemoryError(), "status -1"),
    ],
)
def test_what_is_neither_taken_nor_refused_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, fault: str
) -> None:
    monkeypatch.setattr(verdict, "main", _raise(error))
    assert examine(Case("ids", "ids", []), tmp_path / "case").fault.startswith(fault)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("intsim: ids must be numbers, got 'x'", ""),
        ("intsim: ids must be numbers, got 'x'\nintsim: y", "not one line"),
        ("ids must be numbers, got 'x'", "not one line"),
        ("intsim: ids must be numbers, got 'int' object is not iterable", "Python's words"),
        (f"intsim: ids must be numbers, got {'x' * 500}", "unreadable"),
        ("intsim: ids must be numbers, got \x1b[2J", "unreadable"),
    ],
)
def test_a_refusal_is_one_line_about_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fault: str
) -> None:
    def main() -> None:
        sys.stderr.write(f"{said}\n")
        sys.exit(3)

    monkeypatch.setattr(verdict, "main", main)
    assert examine(Case("ids", "ids", []), tmp_path / "case").fault.startswith(fault)
    assert bool(examine(Case("ids", "ids", []), tmp_path / "case").fault) == bool(fault)
