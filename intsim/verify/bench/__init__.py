# SPDX-License-Identifier: Apache-2.0
"""Benches to start from: reference RTL of four units, what drives it in three simulators, a Makefile that judges it.

The files beside this one are data: SystemVerilog that Icarus Verilog 11 and Verilator 5.006 take, a cocotb bench, a C
model for DPI-C. ``write_bench`` copies those of one unit.
"""

from importlib import resources
from pathlib import Path
from typing import Final

from intsim.errors import IntsimError, said

__all__ = ["BENCHES", "write_bench"]

COMMON: Final = ("Makefile", "bench.sv", "cocotb_bench.py")
BENCHES: Final = {
    "requantize": ("requantize.sv", "tb_requantize.sv", "tb_requantize_dpi.sv", "requantize_dpi.c"),
    "softmax": ("softmax.sv", "i_exp.sv", "divide.sv", "tb_softmax.sv"),
    "layer_norm": ("layer_norm.sv", "isqrt.sv", "divide.sv", "tb_layer_norm.sv"),
    "matmul": ("matmul.sv", "tb_matmul.sv"),
}
"""Operator -> the files of its unit, with its bench."""


def write_bench(name: str, folder: Path) -> list[Path]:
    """Copy the unit that computes an operator, its benches and their Makefile into a new or empty folder.

    Raises
    ------
    IntsimError
        If there is no such unit, or the folder is not empty or cannot be written.
    """
    if name not in BENCHES:
        msg = f"bench must be of one of {', '.join(BENCHES)}, got {name!r}"
        raise IntsimError(msg)
    source = resources.files("intsim.verify.bench")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            msg = f"{folder} must be a new or empty folder, got one with files in it"
            raise IntsimError(msg)
        written = [folder / file for file in (*COMMON, *BENCHES[name])]
        for path in written:
            path.write_bytes((source / path.name).read_bytes())
    except OSError as error:
        msg = f"{folder} must be a folder that can be written, got: {said(error)}"
        raise IntsimError(msg) from None
    return written
