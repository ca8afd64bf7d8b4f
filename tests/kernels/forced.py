# SPDX-License-Identifier: Apache-2.0
"""What kernels do on lesser processors: the witnesses run again, each setting in a process of its own.

``python -m tests.kernels.forced [MODULE ...]`` examines the witnesses of the modules in this process and prints, a line
of JSON each, which one differed, in how many bits, and which of its neighbours it then equals.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from intsim.verify.witness import Witness, examine

ROOT: Final = Path(__file__).resolve().parents[2]
CASES: Final = 2000
ALL: Final = (
    *("litert_conversion_witnesses", "litert_elementwise_witnesses", "litert_nonlinear_witnesses"),
    *("litert_sigmoid_witnesses", "litert_witnesses", "onnxruntime_elementwise_witnesses"),
    *("onnxruntime_matmul_witnesses", "onnxruntime_quantize_witnesses", "onnxruntime_rows_witnesses"),
    *("torch_elementwise_witnesses", "torch_linear_witnesses", "torch_quantize_witnesses"),
)


@dataclass(frozen=True)
class Setting:
    """Variables of the environment, and the modules whose kernels may heed them."""

    modules: tuple[str, ...]
    variables: dict[str, str]


TORCH: Final = tuple(module for module in ALL if module.startswith("torch"))
SETTINGS: Final = {
    "ATEN_CPU_CAPABILITY=avx2": Setting(TORCH, {"ATEN_CPU_CAPABILITY": "avx2"}),
    "ATEN_CPU_CAPABILITY=default": Setting(TORCH, {"ATEN_CPU_CAPABILITY": "default"}),
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE": Setting(TORCH, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    "ONEDNN_MAX_CPU_ISA=AVX2": Setting(TORCH, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "glibc without AVX2, FMA": Setting(ALL, {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F"}),
}


def found(witness: Witness, cases: int) -> str:
    """Return what a witness says of this processor, "" where no bit differs."""
    row = examine(witness, cases=cases)
    if not row.differing:
        return ""
    equal = [
        name
        for name, neighbour in witness.neighbours.items()
        if not examine(replace(witness, golden=neighbour), cases=cases).differing
    ]
    return f"{row.differing:,} of {row.cases:,} differ" + (f", it is: {' or '.join(equal)}" if equal else "")


def forced(name: str, setting: Setting) -> dict[str, str]:
    """Return kernel -> what was found under a setting, of the kernels that differ.

    Raises
    ------
    RuntimeError
        If the process that ran them failed.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)])
    command = [sys.executable, "-m", "tests.kernels.forced", *setting.modules]
    environment = {**os.environ, "PYTHONPATH": path, **setting.variables}
    run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        msg = f"{name} must let the witnesses run, got status {run.returncode}"
        raise RuntimeError(msg)
    return json.loads(run.stdout.splitlines()[-1])


def main(modules: Sequence[str]) -> None:
    said: dict[str, str] = {}
    for module in modules:
        for witness in importlib.import_module(f"kernels.{module}").WITNESSES:
            if here := found(witness, CASES):
                said[witness.kernel] = here
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
