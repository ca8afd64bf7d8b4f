# SPDX-License-Identifier: Apache-2.0
"""The tool that plants mutants, and its list of those that no test can find."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import mutants, mutations

SOURCE: Final = '''
def at_most_7(x):
    """Return x, at most 7."""
    while x > 7:
        x -= 1
    return x
'''
TEST: Final = """
import tiny

def test_it():
    assert [tiny.at_most_7(x) for x in (7, 8)] == [7, 7]

def test_of_something_else():
    assert tiny.at_most_7(7) == 7
"""
PLANT: Final = """
import json, pathlib
from tests import mutants, mutations

mutants.ROOT = pathlib.Path.cwd()
found = {m.change: m for m in mutations.mutants("tiny.py", pathlib.Path("tiny.py").read_text())}
test, other = "test_tiny.py::test_it", "test_tiny.py::test_of_something_else"
print(json.dumps({
    "killed": mutants.survives(found["> -> >="], [test], seconds=60),
    "killed by time": mutants.survives(found["1 -> 0"], [test], seconds=3),
    "not looked for": mutants.survives(found["1 -> 2"], [other], seconds=60),
}))
"""


def changes(source: str) -> list[str]:
    return [mutant.change for mutant in mutations.mutants("x.py", source)]


def test_planted_faults_are_killed_by_the_tests_that_see_them(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SOURCE)
    (tmp_path / "test_tiny.py").write_text(TEST)
    path = {"PYTHONPATH": str(mutants.ROOT), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", PLANT], cwd=tmp_path, env=path, capture_output=True, check=True)
    assert json.loads(run.stdout) == {"killed": False, "killed by time": False, "not looked for": True}
    assert (tmp_path / "tiny.py").read_text() == SOURCE


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b < c <= d", ["< -> <=", "< -> >=", "<= -> <", "<= -> >"]),
        ("a = b << 3 | c", ["| -> &", "<< -> >>", "3 -> 4", "3 -> 2"]),
        ("a = 1 + 1", ["+ -> -", "1 -> 2", "1 -> 0", "1 -> 2 (2)", "1 -> 0 (2)"]),
        ("a = not b and (c or d)", ["and -> or", "not dropped", "or -> and"]),
        ("a = -b if c.any() else abs(b)", ["branches swapped", "any -> all", "- dropped", "abs dropped"]),
        ("a = np.where(b, c, x.clip(d))", ["branches swapped", "clip dropped"]),
        ("f(x, axis=-1)", ["f dropped", "without axis", "- dropped", "1 -> 2", "1 -> 0"]),
        ("if a:\n    b = True", ["negated", "True -> False"]),
        ("a: int = 0.5", ["0.5 -> 1.5", "0.5 -> -0.5"]),
    ],
)
def test_every_change_has_a_name_of_its_own(source: str, expected: list[str]) -> None:
    assert sorted(changes(source)) == sorted(expected)


@pytest.mark.parametrize(
    "source",
    [
        'msg = f"x must be {1 + 1}"',
        "raise ValueError(1 + 1)",
        '"""Return 1 + 1."""',
        "Small: TypeAlias = int | bool",
        "y = zip(a, b, strict=True)",
        "@cache(maxsize=1)\ndef f(x: int | None) -> int | None: ...",
    ],
)
def test_what_is_for_the_reader_is_left_alone(source: str) -> None:
    assert changes(source) == []


def test_every_equivalent_mutant_still_has_its_line_and_a_reason() -> None:
    known = mutants.equivalents()
    found = {m.key for file in mutants.FILES for m in mutations.mutants(file, (mutants.ROOT / file).read_text())}
    assert known.keys() <= found
    assert all(known.values())


def test_every_file_has_tests_of_its_own() -> None:
    for file in mutants.FILES:
        if not file.endswith("__init__.py"):
            assert mutants.test_files(file), file
    for test in {test for file in mutants.FILES for test in mutants.test_files(file)}:
        assert (mutants.ROOT / test).is_file(), test
