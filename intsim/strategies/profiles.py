# SPDX-License-Identifier: Apache-2.0
"""Numerics: rules of requantization, and whole profiles."""

import dataclasses
from typing import Any

from hypothesis import strategies as st

from intsim.fixedpoint import Rounding
from intsim.profile import NATIVE, Profile
from intsim.requantization import FLOAT32_BITS, RULES, Requantization

__all__ = ["profiles", "requantizations"]


def requantizations() -> st.SearchStrategy[Requantization]:
    """Return the rules in the field, and rules that take every axis from one of them."""
    axes = [field.name for field in dataclasses.fields(Requantization) if field.name != "name"]
    mixed = st.fixed_dictionaries(
        {axis: st.sampled_from([getattr(rule, axis) for rule in RULES.values()]) for axis in axes}
    )
    return st.sampled_from(list(RULES.values())) | mixed.filter(
        lambda drawn: drawn["arithmetic"] != "binary32" or drawn["multiplier_bits"] <= FLOAT32_BITS
    ).map(lambda drawn: Requantization(name="mixed", **drawn))


def profiles() -> st.SearchStrategy[Profile]:
    """Return the native presets, and profiles that take every rule from one of them and the roundings freely.

    An operator that reads the wrong rounding, or another operator's rule, agrees with the presets; not with these.
    """
    presets = list(NATIVE.values())
    rules = ("sum", "exp", "softmax", "gelu", "tanh", "sigmoid", "silu", "layer_norm")
    fields: dict[str, st.SearchStrategy[Any]] = {
        rule: st.sampled_from([getattr(preset, rule) for preset in presets]) for rule in rules
    }
    fields["rounding"] = fields["step_rounding"] = st.sampled_from(Rounding)
    fields["requantization"] = requantizations()
    mixed = st.fixed_dictionaries(fields).map(lambda drawn: dataclasses.replace(presets[0], name="mixed", **drawn))
    return st.sampled_from(presets) | mixed
