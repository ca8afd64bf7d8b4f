# SPDX-License-Identifier: Apache-2.0
"""Quantization recipes; the presets are the TOML files beside this one."""

from intsim.recipes.match import Matched, match
from intsim.recipes.recipe import (
    ActivationRule,
    InputRule,
    Recipe,
    Smoothing,
    WeightRule,
    load_recipe,
    parse_recipe,
    recipe_names,
)

__all__ = [
    "ActivationRule",
    "InputRule",
    "Matched",
    "Recipe",
    "Smoothing",
    "WeightRule",
    "load_recipe",
    "match",
    "parse_recipe",
    "recipe_names",
]
