# SPDX-License-Identifier: Apache-2.0
"""A recipe laid on a model: the rule of each of its tensors."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeVar

from intsim.errors import IntsimError
from intsim.models.outline import Outline
from intsim.models.world import is_role
from intsim.recipes.recipe import ActivationRule, InputRule, Recipe, WeightRule

__all__ = ["Matched", "match", "nearest_divisor"]

Rule = TypeVar("Rule", WeightRule, ActivationRule, InputRule)

WHOLE = ("query", "key", "value", "rotation", "gate", "output")  # roles of activations that are read with one scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The rules of a model.

    Parameters
    ----------
    weights, activations
        Name -> rule, its groups fitted to the channels. An activation in the format of another has none.
    inputs
        Name of a product's input -> rule, where it is not the activation itself.
    notes
        What was fitted, and which names of the recipe are nobody's: a sentence each.
    """

    weights: Mapping[str, WeightRule]
    activations: Mapping[str, ActivationRule]
    inputs: Mapping[str, InputRule]
    notes: Sequence[str]


def match(recipe: Recipe, outline: Outline, *, taken: Collection[str] = ()) -> Matched:
    """Return the first rule for each tensor of a model.

    Where a number of groups does not divide the channels, the nearest that does is taken.

    Parameters
    ----------
    recipe, outline
        The recipe, and the tensors of the model.
    taken
        Weights that are quantized already: nothing is said of what was fitted to them.

    Raises
    ------
    IntsimError
        If a tensor has no rule, or groups where it is read with one scale.
    """
    notes: dict[str, None] = {}

    def fitted(name: str, asked: int, channels: int) -> int:
        groups = nearest_divisor(channels, asked)
        if groups != asked and name not in taken:
            notes[f"{channels} channels are in {groups} groups, the nearest to {asked} that divides them"] = None
        return groups

    weights: dict[str, WeightRule] = {}
    for name, tensor in outline.tensors.items():
        if not tensor.role:
            continue
        rule = _first(recipe.weights, name, tensor.role)
        if rule.granularity == "group":
            groups = fitted(name, rule.groups, tensor.shape[1 if rule.axis == "input" or tensor.is_embedding else 0])
            whole = {"granularity": "tensor", "axis": "output"} if groups == 1 else {}
            rule = replace(rule, groups=groups, **whole)
        weights[name] = rule

    shared = {activation.like: name for name, activation in outline.activations.items()}
    activations: dict[str, ActivationRule] = {}
    for name, activation in outline.activations.items():
        if activation.like:
            continue
        rule = _first(recipe.activations, name, activation.role)
        if rule.groups > 1 and (activation.role in WHOLE or name in shared):
            why = f"'{shared[name]}' has its format" if name in shared else f"it is the {activation.role}"
            msg = f"activation '{name}' must have one group of channels, {why}, got {rule.groups}"
            raise IntsimError(msg)
        groups = 1 if rule.groups == 1 else fitted(name, rule.groups, activation.channels)
        activations[name] = replace(rule, groups=groups)

    inputs: dict[str, InputRule] = {}
    for name, read in outline.inputs.items():
        role = outline.activations[read.source].role
        if (found := next((rule for rule in recipe.inputs if _matches(rule, name, role)), None)) is not None:
            inputs[name] = found

    asked: list[tuple[str, Sequence[WeightRule | ActivationRule], Collection[str]]] = [
        ("weight", recipe.weights, weights),
        ("activation", recipe.activations, activations),
        ("input", recipe.inputs, outline.inputs),
    ]
    for kind, rules, names in asked:
        for pattern in (pattern for rule in rules for pattern in rule.names):
            if not any(fnmatchcase(name, pattern) for name in names):
                notes[f"no {kind} is called {pattern!r}"] = None
    return Matched(weights=weights, activations=activations, inputs=inputs, notes=tuple(notes))


def nearest_divisor(channels: int, groups: int) -> int:
    """Return the number of groups of one length that is nearest to ``groups``, the larger of two."""
    divisors = (count for count in range(1, channels + 1) if channels % count == 0)
    return min(divisors, key=lambda count: (abs(count - groups), -count))


def _matches(rule: WeightRule | ActivationRule, name: str, role: str) -> bool:
    return any(is_role(each, role) for each in rule.roles) or any(fnmatchcase(name, each) for each in rule.names)


def _first(rules: Sequence[Rule], name: str, role: str) -> Rule:
    for rule in rules:
        if _matches(rule, name, role):
            return rule
    msg = f'recipe must have a rule for every tensor, got none for {name!r}, role {role!r}; end with names = "*"'
    raise IntsimError(msg)
