# SPDX-License-Identifier: Apache-2.0
"""Where LiteRT itself ends: its int8 softmax aborts where the exponentials of a row sum to 512."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernels.collect import collect
from kernels.litert_bounds import SCALE, just_below_512

from intsim.fixedpoint import INT8
from intsim.kernels import litert_nonlinear

TESTS = Path(__file__).parents[1]
MISSING = collect()[1]


def litert(row: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kernels.litert_bounds", row]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif("litert_nonlinear_witnesses" in MISSING, reason="LiteRT is not installed")
def test_litert_gives_the_sum_below_512_and_aborts_at_it():
    below = litert("below")
    expected = litert_nonlinear.softmax(np.array([just_below_512()[0]], np.int8), scale=SCALE, to=INT8)
    assert below.stdout.split() == [str(code) for code in expected[0]], below.stderr
    assert litert("at").returncode == -signal.SIGABRT
