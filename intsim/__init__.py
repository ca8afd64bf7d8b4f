# SPDX-License-Identifier: Apache-2.0
"""intsim: the golden model that integer transformer chips and kernels are checked against, bit for bit."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from intsim import ops, strategies, testing
    from intsim._trace import trace
    from intsim.convert import quantize
    from intsim.errors import CheckpointError, IntsimError
    from intsim.fixedpoint import Dyadic, IntRange, Rounding
    from intsim.integer_model import IntegerModel, Result, load
    from intsim.models import Format
    from intsim.profile import PROFILES, Profile

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
    "strategies",
    "testing",
    "trace",
]

# Imported when first used: the pytest plugin lives in this package, and must not bring NumPy into every pytest run.
_HOMES: Final = {
    "PROFILES": "profile",
    "CheckpointError": "errors",
    "Dyadic": "fixedpoint",
    "Format": "models",
    "IntRange": "fixedpoint",
    "IntegerModel": "integer_model",
    "IntsimError": "errors",
    "Profile": "profile",
    "Result": "integer_model",
    "Rounding": "fixedpoint",
    "load": "integer_model",
    "quantize": "convert",
    "trace": "_trace",
}
_MODULES: Final = {"ops", "strategies", "testing"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"intsim.{name}")
    if name in _HOMES:
        return getattr(import_module(f"intsim.{_HOMES[name]}"), name)
    msg = f"module 'intsim' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
