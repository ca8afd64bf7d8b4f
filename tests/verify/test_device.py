# SPDX-License-Identifier: Apache-2.0
"""The flow of a user with a device: gen | device | verify, then diagnose, the device being a C program."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from edges import both_presets
from verify.vector_files import call, generated

from intsim.cli import cli
from intsim.profile import IBERT, INTSIM
from intsim.verify.bugs import changes_of_operator
from intsim.verify.vectors import bind

SOURCE: Final = Path(__file__).with_name("device.c")
OPERATORS: Final = ["requantize", "isqrt", "exp"]

# operator, what the device is told to do wrong, what diagnose calls it
BUGS: Final = [
    ("requantize", "away", "rounding half-away"),
    ("requantize", "wrap", "result wraps"),
    ("requantize", "shift", "shift one too small"),
    ("requantize", "truncate", "half added, then truncated"),
    ("requantize", "twice", "two roundings (TFLite)"),
    ("requantize", "narrow", "multiplier of 24 bits"),
    ("isqrt", "newton", "5 Newton updates"),
    ("isqrt", "float", "float32 square root"),
    ("isqrt", "ceiling", "square root rounded up"),
    ("exp", "quotient", "quotient rounded up"),
    ("exp", "constant", "q_b +1"),
    ("exp", "shift", "shift one too large"),
]


def run(*command, data=None):
    return subprocess.run([str(word) for word in command], input=data, capture_output=True, timeout=120, check=False)


def intsim(*arguments, data=None):
    return run(sys.executable, "-c", "from intsim.cli import main; main()", *arguments, data=data)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """Return the program, compiled."""
    gcc = shutil.which("gcc")
    if gcc is None:
        reason = "gcc is not installed, and the device under test is a C program"
        if os.environ.get("INTSIM_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    program = tmp_path_factory.mktemp("device") / "device"
    plain = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-ffp-contract=off"]
    for options in ([*plain, "-fsanitize=undefined", "-fno-sanitize-recover"], plain):  # its sanitizer may be missing
        if run(gcc, *options, SOURCE, "-o", program, "-lm").returncode == 0:
            return program
    pytest.fail(run(gcc, *plain, SOURCE, "-o", program, "-lm").stderr.decode())


def answers(device, operator, profile, *bug, level=1):
    operands = intsim("vectors", "gen", operator, "--profile", profile.name, "--level", str(level), "--operands-only")
    assert operands.returncode == 0, operands.stderr
    given = run(device, *bug, data=operands.stdout)
    assert given.returncode == 0, given.stderr
    assert given.stdout.count(b"\n") == operands.stdout.count(b"\n")
    return given.stdout


@pytest.mark.parametrize(
    ("profile", "operator"),
    [
        pytest.param(profile, operator, marks=[] if i % 2 == k else [pytest.mark.slow])
        for k, profile in enumerate((INTSIM, IBERT))
        for i, operator in enumerate(OPERATORS)
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_device_made_from_the_published_rules_passes(device, profile, operator):
    verdict = intsim("vectors", "verify", operator, data=answers(device, operator, profile))
    assert (verdict.returncode, verdict.stdout) == (0, b"")
    assert verdict.stderr.startswith(f"{operator}: 0 of ".encode())


@pytest.mark.slow
@both_presets
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_device_made_from_the_published_rules_passes_level_2(device, profile, operator):
    data = answers(device, operator, profile, level=2)
    assert intsim("vectors", "verify", operator, data=data).returncode == 0


@cache
def vectors(operator, profile, *options):
    """Return what gen prints, in this process: that it is the same in one of its own is shown above."""
    return generated(operator, "--profile", profile, *options)


@both_presets
@pytest.mark.parametrize(("operator", "bug", "change"), BUGS)
def test_a_planted_bug_is_caught_and_named(device, tmp_path, profile, operator, bug, change):
    given = run(device, bug, data=vectors(operator, profile.name, "--operands-only"))
    assert given.returncode == 0, given.stderr
    status, out, _ = call("verify", operator, data=given.stdout)
    assert status == 1
    first = out.decode().splitlines()[0]
    assert "  => " in first
    assert "  expected: " in first

    expected = tmp_path / "expected"
    expected.write_bytes(vectors(operator, profile.name))
    found = CliRunner().invoke(cli, ["diagnose", str(expected), "-"], input=given.stdout)
    assert found.exit_code == 1, found.output
    named = [line.partition(": ")[2] for line in found.stdout.splitlines() if line.startswith("explains all")]
    assert named[0] == change  # the others are equal to it on all of the vectors


def test_a_bug_is_caught_and_named_in_processes_of_their_own(device, tmp_path):
    data = answers(device, "requantize", INTSIM, "away")
    assert intsim("vectors", "verify", "requantize", data=data).returncode == 1
    expected = tmp_path / "expected"
    expected.write_bytes(intsim("vectors", "gen", "requantize").stdout)
    found = intsim("diagnose", expected, "-", data=data)
    assert found.returncode == 1, found.stderr
    assert b": rounding half-away" in found.stdout


def test_every_operator_of_the_device_has_bugs_of_known_names():
    assert {operator for operator, _, _ in BUGS} == set(OPERATORS)
    for operator, _, change in BUGS:
        for profile in (INTSIM, IBERT):
            assert change in changes_of_operator(bind(operator, profile))


def test_a_device_that_dies_is_not_passed(device):
    data = answers(device, "isqrt", INTSIM)
    verdict = intsim("vectors", "verify", "isqrt", data=data[: len(data) // 25 * 25 // 2])
    assert verdict.returncode == 3
    assert b"Traceback" not in verdict.stderr


def test_a_reader_that_leaves_early_is_no_error():
    arguments = ["vectors", "gen", "requantize", "-n", "200000"]
    command = [sys.executable, "-c", "from intsim.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"# intsim vectors: 1\n"
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
