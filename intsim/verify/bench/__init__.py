# SPDX-License-Identifier: Apache-2.0
"""Benches to start from: reference RTL of six units, what drives it in three simulators, a Makefile that judges it.

The files beside this one are data: SystemVerilog that Icarus Verilog 11 and Verilator 5.006 take, a cocotb bench.
``write_bench`` copies those of one unit, and writes the C model that DPI-C calls, as ``intsim export --c`` writes it.
"""

from importlib import resources
from pathlib import Path
from typing import Final

from intsim.errors import IntsimError, said
from intsim.profile import INTSIM

__all__ = ["BENCHES", "write_bench"]

COMMON: Final = ("Makefile", "bench.sv", "cocotb_bench.py")
C_MODEL: Final = "requantize_dpi.c"
BENCHES: Final = {
    "requantize": ("requantize.sv", "tb_requantize.sv", "tb_requantize_dpi.sv", C_MODEL),
    "add": ("add.sv", "tb_add.sv"),
    "gelu": ("gelu.sv", "tb_gelu.sv"),
    "softmax": ("softmax.sv", "i_exp.sv", "divide.sv", "tb_softmax.sv"),
    "layer_norm": ("layer_norm.sv", "isqrt.sv", "divide.sv", "tb_layer_norm.sv"),
    "matmul": ("matmul.sv", "tb_matmul.sv"),
}
"""Operator -> the files of its unit, with its bench."""

C_TEXT: Final = """// SPDX-License-Identifier: Apache-2.0
// The C model of requantization to int8, as intsim export --c writes it.
#include <stdint.h>

{defined}
{text}
#ifdef __cplusplus  // Verilator compiles this as C++
extern "C"
#endif
int intsim_requantize(int acc, int multiplier, int shift, int zero_point)
{{
    return REQUANTIZED(acc, multiplier, shift, 0, zero_point, INT8_MIN, INT8_MAX);
}}
"""


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
            path.write_bytes(_c_model() if path.name == C_MODEL else (source / path.name).read_bytes())
    except OSError as error:
        msg = f"{folder} must be a folder that can be written, got: {said(error)}"
        raise IntsimError(msg) from None
    return written


def _c_model() -> bytes:
    from intsim.io.c.program import functions  # noqa: PLC0415  the commands start without it
    from intsim.io.c.rules import defines  # noqa: PLC0415

    defined, text = functions({"REQUANTIZED"}, defines(INTSIM))
    return C_TEXT.format(defined=defined, text=text).encode()
