# SPDX-License-Identifier: Apache-2.0
"""The table of what is there after the writing of a real checkpoint was killed or refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
OLD, NEW = "the old file, 644", "the new file, 644"
CELLS: Final = ("happening", "before", "end", "afterwards", "beside", "next_run")
OTHERS: Final = [
    ("umask 077", "nothing", "done", "the new file, 600", "nothing", "the new file, 600"),
    ("full disk: RLIMIT_FSIZE", "nothing", "refused: File too large", "nothing", "nothing", NEW),
    ("umask 077", OLD, "done", NEW, "nothing", NEW),
    ("full disk: RLIMIT_FSIZE", OLD, "refused: File too large", OLD, "nothing", NEW),
    ("symbolic link", f"a link to {OLD}", "done", f"a link to {NEW}", "nothing", f"a link to {NEW}"),
    ("device", "a link to a device", "done", "a link to a device", "nothing", "a link to a device"),
    ("full device", "a link to a device", "refused: No space left on device", "a link to a device", "nothing", "-"),
    ("pipe", "a pipe", "done", "a pipe that gave the new file", "nothing", "-"),
    ("read-only folder", OLD, "refused: Permission denied", OLD, "nothing", NEW),
    (
        "read-only file",
        "the old file, 444",
        "refused: Permission denied",
        "the old file, 444",
        "nothing",
        "the new file, 444",
    ),
]
MOUNTED: Final = [
    ("full disk: tmpfs", "nothing", "refused: No space left on device", "nothing", "nothing", "-"),
    ("full disk: tmpfs", OLD, "refused: No space left on device", OLD, "nothing", "-"),
    ("read-only tmpfs", OLD, "refused: Permission denied", OLD, "nothing", "-"),
]


def _rows(moments: int) -> tuple[list[tuple[str, ...]], str]:
    command = [sys.executable, "-m", "tests.io.kill_table", str(moments), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return [tuple(row[cell] for cell in CELLS) for row in rows], done.stderr


@pytest.mark.parametrize("moments", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_whenever_writing_is_killed_the_old_or_the_new_file_is_there_and_the_next_run_cleans_up(moments: int) -> None:
    rows = [row for row in _rows(moments)[0] if row[0] == "kill -9"]
    assert len(rows) == 2 * moments
    for before in ("nothing", OLD):
        left = [(then, beside) for _, was, _, then, beside, _ in rows if was == before]
        assert left == sorted(left, key=[(before, "nothing"), (before, "a temporary file"), (NEW, "nothing")].index)
        assert {then for then, _ in left} == {before, NEW}
        assert (before, "a temporary file") in left
    assert {(end, after) for *_, end, _, _, after in rows} == {("SIGKILL", NEW)}


def test_what_is_there_when_the_writing_is_refused_or_the_file_is_not_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows, told = _rows(1)
    others = [row for row in rows if row[0] != "kill -9"]
    in_the_way = "full disk and read-only file system: no tmpfs, "
    if in_the_way in told:
        with capsys.disabled():
            print(told)
        refusals = ("not permitted", "denied", "not mount point")  # the last in a chroot, whose root is no mount
        assert os.geteuid() != 0 or any(refusal in told for refusal in refusals)
        assert others == OTHERS
    else:
        assert others == OTHERS + MOUNTED
