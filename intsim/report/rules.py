# SPDX-License-Identifier: Apache-2.0
"""Which rule of a recipe each tensor of a checkpoint gets."""

from pathlib import Path
from typing import Any

from intsim.convert.taken import taken_inputs, taken_over
from intsim.io.huggingface import open_checkpoint
from intsim.recipes import ActivationRule, InputRule, Recipe, WeightRule, match

__all__ = ["summarise_rules"]


def summarise_rules(recipe: Recipe, path: str | Path, *, head: str | None = None) -> dict[str, Any]:
    """Return the rules as plain JSON values.

    Parameters
    ----------
    recipe
        The recipe.
    path
        Hugging Face folder.
    head
        As ``intsim.quantize`` takes it.

    Returns
    -------
    dict
        ``weights``, ``activations``, ``inputs``: a row each, in forward order, with name, role, shape or channels, and
        what the rule says; ``notes``: what was fitted, a sentence each.

    Raises
    ------
    IntsimError
        If the checkpoint is invalid, or the recipe has no rule for one of its tensors.
    """
    checkpoint = open_checkpoint(path, head=head)
    outline, stored = checkpoint.outline, {"range": "as stored", "rounding": "as stored"}
    rules, inputs = taken_over(match(recipe, outline, taken=checkpoint.quantized), checkpoint), taken_inputs(checkpoint)
    return {
        "weights": [
            {"name": name, "role": outline.tensors[name].role, "shape": list(outline.tensors[name].shape)}
            | _weight(rule)
            | (stored if name in checkpoint.quantized else {})
            for name, rule in rules.weights.items()
        ],
        "activations": [
            {"name": name, "role": activation.role, "channels": activation.channels}
            | _activation(rules.activations[activation.like or name])
            for name, activation in outline.activations.items()
        ],
        "inputs": [
            {"name": name, "of": outline.inputs[name].source}
            | _input(rule)
            | ({"range": "as stored"} if name in inputs else {})
            for name, rule in rules.inputs.items()
        ],
        "notes": list(rules.notes),
    }


def _weight(rule: WeightRule) -> dict[str, Any]:
    granularity = f"{rule.groups} groups of {rule.axis}s" if rule.granularity == "group" else rule.granularity
    return {"bits": rule.bits, "scales": granularity, "range": rule.estimator, "rounding": rule.rounding}


def _activation(rule: ActivationRule) -> dict[str, Any]:
    kind = "symmetric" if rule.symmetric else "asymmetric"
    kind += ", unsigned where positive" if rule.codes == "by-range" else ""
    return {"bits": rule.bits, "codes": kind, "groups": rule.groups, "range": rule.estimator}


def _input(rule: InputRule) -> dict[str, Any]:
    found = rule.estimator if rule.range == "static" else f"each {rule.range}"
    return {"bits": rule.bits, "range": found, "clip": rule.clip}
