# SPDX-License-Identifier: Apache-2.0
"""The flow of a user with a device: gen --operands-only | device | verify, the device being a C program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from edges import both_presets

SOURCE: Final = Path(__file__).with_name("device.c")
INTSIM: Final = """
from intsim import cli
from intsim.verify.vectors.cli import vectors
cli.cli.add_command(vectors)
cli.main()
"""
OPERATORS: Final = ["requantize", "isqrt", "exp"]
BUGS: Final = [
    ("BUG_TIES", "requantize"),
    ("BUG_WRAP", "requantize"),
    ("BUG_SHIFT", "requantize"),
    ("BUG_SHIFT", "exp"),
    ("BUG_TRUNCATE", "requantize"),
    ("BUG_SQRT", "isqrt"),
]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return a function that compiles the device with macros and returns the program."""
    gcc = shutil.which("gcc")
    if gcc is None:
        reason = "gcc is not installed, and the device under test is a C program"
        if os.environ.get("INTSIM_REQUIRE_SHARED") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("device")

    def compiled(*macros):
        program = folder / "-".join(["device", *macros])
        if not program.exists():
            warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-fsanitize=undefined"]
            options = [*warnings, "-fno-sanitize-recover", *(f"-D{macro}" for macro in macros)]
            command = [gcc, *options, str(SOURCE), "-o", str(program)]
            if subprocess.run(command, capture_output=True, check=False).returncode:  # its sanitizer may be missing
                plain = [option for option in options if "sanitize" not in option]
                subprocess.run([gcc, *plain, str(SOURCE), "-o", str(program)], check=True)
        return program

    return compiled


def run(program, *arguments, data=None):
    return subprocess.run([*program, *arguments], input=data, capture_output=True, timeout=120, check=False)


def intsim(*arguments, data=None):
    return run([sys.executable, "-c", INTSIM, "vectors"], *arguments, data=data)


def judged(device, operator, *arguments):
    operands = intsim("gen", operator, *arguments, "--operands-only")
    assert operands.returncode == 0, operands.stderr
    answers = run([device], data=operands.stdout)
    assert answers.returncode == 0, answers.stderr
    assert answers.stdout.count(b"\n") == operands.stdout.count(b"\n")
    return intsim("verify", operator, data=answers.stdout)


@both_presets
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_device_made_from_the_specification_passes(build, profile, operator):
    verdict = judged(build(), operator, "--profile", profile.name)
    assert verdict.stdout == b""
    assert verdict.returncode == 0
    assert verdict.stderr.startswith(f"{operator}: 0 of ".encode())


@pytest.mark.slow
@both_presets
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_device_made_from_the_specification_passes_level_2(build, profile, operator):
    assert judged(build(), operator, "--profile", profile.name, "--level", "2").returncode == 0


@both_presets
@pytest.mark.parametrize(("bug", "operator"), BUGS)
def test_level_1_catches_a_planted_bug(build, profile, bug, operator):
    verdict = judged(build(bug), operator, "--profile", profile.name)
    assert verdict.returncode == 1
    first = verdict.stdout.decode().splitlines()[0]
    assert "  => " in first
    assert "  expected: " in first


def test_no_two_bugs_are_one():
    assert len({bug for bug, _ in BUGS}) == 5


def test_a_device_that_dies_is_not_passed(build):
    operands = intsim("gen", "isqrt", "--operands-only").stdout
    answers = run([build()], data=operands).stdout
    verdict = intsim("verify", "isqrt", data=answers[: len(answers) // 25 * 25 // 2])
    assert verdict.returncode == 3
    assert b"Traceback" not in verdict.stderr


def test_a_reader_that_leaves_early_is_no_error():
    command = [sys.executable, "-c", INTSIM, "vectors", "gen", "requantize", "-n", "200000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"# intsim vectors: 1\n"
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
