# SPDX-License-Identifier: Apache-2.0
"""What the ``hypothesis`` entry point runs when hypothesis is imported: ``st.from_type`` learns intsim's types."""

from importlib import import_module
from typing import Any, Final

__all__ = ["register"]

TYPES: Final = {
    "intsim.fixedpoint.Dyadic": "dyadics",
    "intsim.fixedpoint.IntRange": "int_ranges",
    "intsim.ops.layer_norm.LayerNormParams": "layer_norm_params",
    "intsim.profile.Profile": "profiles",
    "intsim.requantization.Requantization": "requantizations",
    "intsim.quantizers.affine.AffineParams": "affine_params",
    "intsim.quantizers.scheme.Scheme": "schemes",
}


def register() -> None:
    """Register a strategy for each type, itself imported only when it is first asked for."""
    from hypothesis import strategies as st  # noqa: PLC0415  at the top it would import this module again, unfinished

    for path, name in TYPES.items():
        module, _, kind = path.rpartition(".")

        def strategy(_: type, name: str = name) -> Any:
            return getattr(import_module("intsim.strategies"), name)()

        st.register_type_strategy(getattr(import_module(module), kind), strategy)
