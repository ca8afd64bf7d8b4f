# SPDX-License-Identifier: Apache-2.0
"""The benches in a simulator: folders with vectors and their package, compiled and run as their Makefiles do.

Without the simulator a test skips, and with INTSIM_REQUIRE_KERNELS=1 it fails.
"""

import os
import shutil
import subprocess
from functools import cache
from typing import Final

import numpy as np
import pytest

from intsim.profile import INTSIM
from intsim.verify.bench import write_bench
from intsim.verify.bugs import changes_of_operator
from intsim.verify.vectors import bind
from intsim.verify.vectors.cases import generate, minimum
from intsim.verify.vectors.formats import system_verilog_package
from intsim.verify.vectors.text import format_header, format_lines

PARTIAL: Final = ("seed", "level", "cases", "command")  # what the header of some of the cases leaves out


def require(program, *, is_there=None):
    """Skip without a program, or fail if everything must be there."""
    if not (shutil.which(program) is not None if is_there is None else is_there):
        reason = f"{program} is not installed"
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            pytest.fail(f"{reason} (INTSIM_REQUIRE_KERNELS=1)")
        pytest.skip(reason)


def run(*command, cwd, timeout=600):
    """Return the finished process of a command."""
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def make_bench(name, folder, *, count, size=None):
    """Write the bench of a unit, ``count`` of the cases of level 1, and their package."""
    write_bench(name, folder)
    operator = bind(name, INTSIM, size)
    cases = np.concatenate(list(generate(operator, seed=1, level=1, cases=minimum(operator, 1))))
    some = np.random.default_rng(1).permutation(len(cases))[:count]
    write_cases(operator, cases[np.sort(some)], folder)
    return folder


@cache
def telling_cases(name):
    """Return cases of level 1, two at least that show each known change where as many do: a simulator is slow."""
    operator, random = bind(name, INTSIM), np.random.default_rng(1)
    cases = np.concatenate(list(generate(operator, seed=1, level=1, cases=minimum(operator, 1))))
    golden, some = operator.results(cases), set()
    for device in changes_of_operator(operator).values():
        shown = np.flatnonzero((device.results(cases) != golden).any(axis=1))
        some |= set(random.permutation(shown)[:2].tolist())
    return operator, cases[sorted(some)]


def write_cases(operator, cases, folder):
    """Write vectors.txt and the package of cases that no seed gives."""
    header = [
        line
        for line in format_header(operator, seed=1, level=1, cases=len(cases))
        if line.partition(":")[0] not in PARTIAL
    ]
    words, results = [*operator.operands, operator.result], operator.results(cases)
    text = "".join(f"# {line}\n" for line in header).encode()
    (folder / "vectors.txt").write_bytes(text + format_lines(words, np.concatenate([cases, results], axis=1)).tobytes())
    package = system_verilog_package(operator, header, cases, results, word_bits=32)
    (folder / f"intsim_{operator.name}_pkg.sv").write_text(package)


def make(folder, *arguments, timeout=600):
    """Run make in the folder of a bench; its vectors and package stand there already, so nothing is generated."""
    quiet = ("INTSIM=true", "-o", "vectors.txt", "-o", *(path.name for path in folder.glob("*_pkg.sv")))
    return run("make", *quiet, *arguments, cwd=folder, timeout=timeout)
