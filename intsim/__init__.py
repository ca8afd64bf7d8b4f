# SPDX-License-Identifier: Apache-2.0
"""intsim: the golden model that integer transformer chips and kernels are checked against, bit for bit."""

from typing import TYPE_CHECKING, Any

from intsim import ops
from intsim._trace import trace
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import Dyadic, IntRange, Rounding
from intsim.io.integer_checkpoint import load
from intsim.models import Format, IntegerModel, Result
from intsim.profile import PROFILES, Profile

if TYPE_CHECKING:
    from intsim.convert import quantize

__all__ = [
    "PROFILES",
    "CheckpointError",
    "Dyadic",
    "Format",
    "IntRange",
    "IntegerModel",
    "IntsimError",
    "Profile",
    "Result",
    "Rounding",
    "load",
    "ops",
    "quantize",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name == "quantize":  # the compile step brings the float reference and SciPy with it: only when asked for
        from intsim.convert import quantize  # noqa: PLC0415

        return quantize
    msg = f"module 'intsim' has no attribute {name!r}"
    raise AttributeError(msg)
