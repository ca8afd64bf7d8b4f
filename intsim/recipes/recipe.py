# SPDX-License-Identifier: Apache-2.0
"""A recipe: which tensor gets how many bits, which granularity and which range estimator. Data, not code."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

from intsim.errors import IntsimError
from intsim.quantizers import (
    MeanSquaredError,
    MinMax,
    Percentile,
    RangeEstimator,
    RunningMinMax,
    Scheme,
)

__all__ = ["ActivationRule", "Recipe", "WeightRule", "load_recipe", "recipe_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRule:
    """How the weights whose name matches one of ``names`` (shell patterns) are quantized: symmetric, narrow."""

    names: tuple[str, ...]
    bits: int
    granularity: Literal["tensor", "channel"]

    def __post_init__(self) -> None:
        _check("bits of a weight", self.bits, range(2, 9))
        _check("granularity", self.granularity, ("tensor", "channel"))

    @property
    def scheme(self) -> Scheme:
        """Scheme of the weights."""
        return Scheme(bits=self.bits, symmetric=True, convention="narrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRule:
    """How the activations whose name matches one of ``names`` (shell patterns) are quantized.

    Symmetric codes are narrow, asymmetric ones use the full range.

    ``estimator`` is ``min-max``, ``running-min-max`` (with ``momentum``), ``percentile`` (with ``percentile``) or
    ``mse``.
    """

    names: tuple[str, ...]
    bits: int
    symmetric: bool
    estimator: str = "min-max"
    momentum: float = 0.9
    percentile: float = 99.99

    def __post_init__(self) -> None:
        _check("bits of an activation", self.bits, range(2, 17))
        _check("symmetric", self.symmetric, (True, False))
        _check("estimator", self.estimator, ("min-max", "running-min-max", "percentile", "mse"))
        for name in ("momentum", "percentile"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                msg = f"{name} must be a number, got {value!r}"
                raise TypeError(msg)
        self.new_estimator()  # which checks its number

    @property
    def scheme(self) -> Scheme:
        """Scheme of the activations."""
        return Scheme(bits=self.bits, symmetric=self.symmetric, convention="narrow" if self.symmetric else "full")

    def new_estimator(self) -> RangeEstimator:
        """Return a range estimator that has seen nothing yet."""
        match self.estimator:
            case "running-min-max":
                return RunningMinMax(momentum=self.momentum)
            case "percentile":
                return Percentile(percentile=self.percentile)
            case "mse":
                return MeanSquaredError(scheme=self.scheme)
            case _:
                return MinMax()


Rule = TypeVar("Rule", WeightRule, ActivationRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named quantization recipe; the first rule that matches a tensor's name decides."""

    name: str
    profile: str
    weights: tuple[WeightRule, ...]
    activations: tuple[ActivationRule, ...]
    source: Mapping[str, Any]

    def weight(self, name: str) -> WeightRule:
        """Return the rule of the weight ``name``."""
        return _first_match(self.weights, name)

    def activation(self, name: str) -> ActivationRule:
        """Return the rule of the activation ``name``."""
        return _first_match(self.activations, name)


def recipe_names() -> list[str]:
    """Return the names of the presets."""
    return sorted(Path(entry.name).stem for entry in _PRESETS.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path) -> Recipe:
    """Return a preset by its name, or a recipe from a TOML file.

    Raises
    ------
    IntsimError
        If there is no such preset or file, or the file breaks a rule.
    """
    if str(name) in recipe_names():
        text = (_PRESETS / f"{name}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            msg = f"recipe must be one of {', '.join(recipe_names())}, or a readable TOML file, got {str(name)!r}"
            raise IntsimError(msg) from None
    try:
        return _parse(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        msg = f"recipe {str(name)!r} must follow the form of the presets, got: {error}"
        raise IntsimError(msg) from None


_PRESETS: Final = resources.files("intsim.recipes")


def _parse(data: dict[str, Any]) -> Recipe:
    if unknown := data.keys() - {"name", "profile", "weights", "activations"}:
        msg = f"unknown key {min(unknown)!r}"
        raise ValueError(msg)
    for key in ("name", "profile"):
        if not isinstance(data.get(key, ""), str):
            msg = f"{key} must be a text, got {data[key]!r}"
            raise TypeError(msg)

    def rules(kind: type[Rule], key: str) -> tuple[Rule, ...]:
        tables = _tables(key, data.get(key, []))
        fields: list[dict[str, Any]] = [{**table, "names": _patterns(table.get("names"))} for table in tables]
        return tuple(kind(**each) for each in fields)

    return Recipe(
        name=data.get("name", ""),
        profile=data.get("profile", "intsim"),
        weights=rules(WeightRule, "weights"),
        activations=rules(ActivationRule, "activations"),
        source=data,
    )


def _tables(key: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in cast("list[object]", value)):
        msg = f"{key} must be tables, each under [[{key}]], got {value!r}"
        raise TypeError(msg)
    return cast("list[dict[str, Any]]", value)


def _patterns(names: object) -> tuple[str, ...]:
    patterns = [names] if isinstance(names, str) else names
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in cast("list[object]", patterns)):
        msg = f"names must be a pattern or a list of patterns, got {names!r}"
        raise ValueError(msg)
    return tuple(cast("list[str]", patterns))


def _first_match(rules: Sequence[Rule], name: str) -> Rule:
    for rule in rules:
        if any(fnmatchcase(name, pattern) for pattern in rule.names):
            return rule
    msg = f'recipe must have a rule for every tensor, got none for {name!r}; end with names = "*"'
    raise IntsimError(msg)


def _check(name: str, value: object, allowed: Sequence[object]) -> None:
    # a bool is an int in Python, and 8.0 == 8
    if value not in allowed or type(value) is not type(allowed[0]):
        shown = f"[{allowed[0]}, {allowed[-1]}]" if isinstance(allowed, range) else ", ".join(map(repr, allowed))
        msg = f"{name} must be in {shown}, got {value!r}"
        raise ValueError(msg)
