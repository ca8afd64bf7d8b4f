# SPDX-License-Identifier: Apache-2.0
"""A recipe: which tensor gets how many bits, which granularity and which range estimator. Data, not code."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from intsim._checked import made
from intsim.errors import IntsimError, said
from intsim.io.bounded import MAX_RECIPE, check_depth, read_text
from intsim.models.world import ROLES, WEIGHT_ROLES, is_role
from intsim.quantizers import (
    PER_TENSOR,
    AffineParams,
    Granularity,
    MeanSquaredError,
    MinMax,
    Percentile,
    RangeEstimator,
    RunningMinMax,
    Scheme,
)

__all__ = [
    "ActivationRule",
    "InputRule",
    "Recipe",
    "Smoothing",
    "WeightRule",
    "load_recipe",
    "parse_recipe",
    "recipe_names",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRule:
    """How the weights of one of ``roles``, or whose name matches one of ``names`` (shell patterns), are quantized.

    Symmetric, narrow codes.

    One scale for the ``tensor``, for each ``channel`` of its output, or for each ``group`` of consecutive output
    channels (``axis = "output"``) or input channels, in ``groups`` of equal length. ``estimator`` is ``min-max`` or
    ``mse``; ``rounding`` is ``nearest``, ``adaround`` or ``gptq``.
    """

    names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    bits: int
    granularity: Literal["tensor", "channel", "group"]
    groups: int = 1
    axis: Literal["output", "input"] = "output"
    estimator: Literal["min-max", "mse"] = "min-max"
    rounding: Literal["nearest", "adaround", "gptq"] = "nearest"

    def __post_init__(self) -> None:
        _check_roles(self.roles, WEIGHT_ROLES)
        _check("bits of a weight", self.bits, range(2, 9))
        _check("granularity", self.granularity, ("tensor", "channel", "group"))
        _check("groups of a weight", self.groups, range(1, 1 << 14))
        _check("axis", self.axis, ("output", "input"))
        _check("estimator of a weight", self.estimator, ("min-max", "mse"))
        _check("rounding of a weight", self.rounding, ("nearest", "adaround", "gptq"))
        if (self.groups > 1) != (self.granularity == "group") or (self.axis == "input" and self.groups == 1):
            msg = f"groups and axis must go with granularity 'group', got {self.granularity!r} and {self.groups} groups"
            raise ValueError(msg)

    @property
    def scheme(self) -> Scheme:
        """Scheme of the weights."""
        return Scheme(bits=self.bits, symmetric=True, convention="narrow")

    @property
    def input_groups(self) -> int:
        """How many groups of input channels have a scale of their own."""
        return self.groups if self.axis == "input" else 1

    def params(self, w: NDArray[np.float64], *, embedding: bool) -> AffineParams:
        """Return scale and codes for a weight (N, K), or for an embedding table, whose channels are its columns.

        Raises
        ------
        ValueError
            If the weight is not finite, or the groups do not divide its channels.
        """
        axis = 1 if embedding or self.axis == "input" else 0
        groups = self.groups if self.granularity == "group" else None
        granularity = PER_TENSOR
        if self.granularity != "tensor":
            granularity = Granularity(kind=self.granularity, axis=axis, groups=groups)
        estimator = MinMax(granularity=granularity)
        if self.estimator == "mse":
            estimator = MeanSquaredError(scheme=self.scheme, granularity=granularity)
        estimator.update(w)
        return self.scheme.params(*estimator.range())


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRule:
    """How the activations of one of ``roles``, or whose name matches one of ``names`` (shell patterns), are quantized.

    Symmetric codes are narrow, or with ``codes = "by-range"`` full, and from 0 where the range has no negative part
    (Bondarenko et al.); asymmetric ones use the full range. ``groups`` of consecutive channels have a range each
    (Bondarenko et al.'s per-embedding-group quantization).

    ``estimator`` is ``min-max``, ``running-min-max`` (with ``momentum``), ``percentile`` (with ``percentile``) or
    ``mse``.
    """

    names: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    bits: int
    symmetric: bool
    codes: Literal["narrow", "by-range"] = "narrow"
    groups: int = 1
    estimator: str = "min-max"
    momentum: float = 0.9
    percentile: float = 99.99

    def __post_init__(self) -> None:
        _check_roles(self.roles, ROLES)
        _check("bits of an activation", self.bits, range(2, 33))
        _check("symmetric", self.symmetric, (True, False))
        _check("codes", self.codes, ("narrow", "by-range") if self.symmetric else ("narrow",))
        _check("groups of an activation", self.groups, range(1, 1 << 14))
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
        if self.codes == "by-range":
            return Scheme(bits=self.bits, symmetric=True, convention="full", signed="by-range")
        return Scheme(bits=self.bits, symmetric=self.symmetric, convention="narrow" if self.symmetric else "full")

    def new_estimator(self) -> RangeEstimator:
        """Return a range estimator that has seen nothing yet."""
        granularity = PER_TENSOR if self.groups == 1 else Granularity(kind="group", axis=-1, groups=self.groups)
        match self.estimator:
            case "running-min-max":
                return RunningMinMax(momentum=self.momentum, granularity=granularity)
            case "percentile":
                return Percentile(percentile=self.percentile, granularity=granularity)
            case "mse":
                return MeanSquaredError(scheme=self.scheme, granularity=granularity)
            case _:
                return MinMax(granularity=granularity)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRule(ActivationRule):
    """How products read activations, where they take fewer bits than the activation has.

    ``names`` are those of the inputs, ``roles`` those of the activations they are taken from.

    ``range`` is ``static``, or found while running for each ``token`` or each ``sequence``; the latter are symmetric,
    and ``clip = "tm-iqr"`` clips that of a sequence.
    """

    range: Literal["static", "token", "sequence"] = "static"
    clip: Literal["none", "tm-iqr"] = "none"

    def __post_init__(self) -> None:
        super(InputRule, self).__post_init__()
        _check("range", self.range, ("static", "token", "sequence"))
        _check("clip", self.clip, ("none", "tm-iqr"))
        if self.range != "static" and not self.symmetric:
            msg = (
                f"inputs must be symmetric to be quantized while running, got symmetric=false for range {self.range!r}"
            )
            raise ValueError(msg)
        if self.codes != "narrow" and self.range != "static":
            msg = f"codes must be 'narrow' where inputs are quantized while running, got {self.codes!r}"
            raise ValueError(msg)
        if self.clip != "none" and self.range != "sequence":
            msg = f"clip must go with range 'sequence', got {self.range!r}"
            raise ValueError(msg)
        if self.groups > 1:
            msg = "groups must be those of the activation, not of the input of a product"
            raise ValueError(msg)
        _check("bits of an input", self.bits, range(2, 9) if self.range != "static" else range(2, 17))


Rule = TypeVar("Rule", WeightRule, ActivationRule, InputRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """How much of the range of a norm's output goes into the weights that read it: ``intsim.convert.smoothing``.

    ``alpha`` alone asks it of every norm, and what stands against it is refused. With ``roles`` it is for norms of
    these, where only products read them and neither their ranges nor those weights are given.
    """

    alpha: float
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_roles(self.roles, ROLES)
        if type(self.alpha) not in (float, int) or not 0 <= self.alpha <= 1:  # TOML tells 1 from 1.0
            msg = f"smooth must be a number from 0.0 to 1.0, got {self.alpha!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named quantization recipe; the first rule that matches a tensor's name decides.

    ``permutation = "range"`` orders the channels of the hidden states by their range.
    """

    name: str
    profile: str
    weights: tuple[WeightRule, ...]
    activations: tuple[ActivationRule, ...]
    inputs: tuple[InputRule, ...]
    permutation: Literal["none", "range"]
    bias_correction: bool
    smooth: Smoothing | None
    source: Mapping[str, Any]

    @property
    def needs_moments(self) -> bool:
        """Whether conversion looks at the moments of what layers read."""
        return self.bias_correction or any(rule.rounding != "nearest" for rule in self.weights)


def recipe_names() -> list[str]:
    """Return the names of the presets."""
    return sorted(Path(entry.name).stem for entry in _PRESETS.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str | Path) -> Recipe:
    """Return a preset by its name, or a recipe from a TOML file.

    Parameters
    ----------
    name
        ``NAME``, or ``NAME:parameter=value,...`` to give the recipe's own parameters other values.

    Raises
    ------
    IntsimError
        If there is no such preset or file, or the file breaks a rule.
    """
    file, _, changes = str(name).partition(":") if not Path(name).exists() else (str(name), "", "")
    if file in recipe_names():
        text = (_PRESETS / f"{file}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = read_text(file, most=MAX_RECIPE)
        except (OSError, ValueError) as error:
            known = ", ".join(recipe_names())
            reason = "" if isinstance(error, OSError) else f": {said(error)}"
            msg = f"recipe must be one of {known}, or a readable TOML file, got {file!r}{reason}"
            raise IntsimError(msg) from None
    try:
        data = tomllib.loads(text)
        check_depth(data)
        return parse_recipe(_fill_in(data, changes))
    except RecursionError:
        msg = (
            f"recipe {str(name)!r} must follow the form of the presets, got tables or lists too deep inside each other"
        )
        raise IntsimError(msg) from None
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        msg = f"recipe {str(name)!r} must follow the form of the presets, got: {said(error)}"
        raise IntsimError(msg) from None


_PRESETS: Final = resources.files("intsim.recipes")


def _fill_in(data: dict[str, Any], changes: str) -> dict[str, Any]:
    """Put the values of [parameters] where ``"$name"`` stands, the changes first."""
    given: object = data.pop("parameters", {})
    if not isinstance(given, dict):
        msg = f"parameters must be a table, got {given!r}"
        raise TypeError(msg)
    parameters = cast("dict[str, Any]", given)
    for change in filter(None, changes.split(",")):
        key, _, value = change.partition("=")
        if key not in parameters:
            msg = f"parameter must be one of {', '.join(parameters) or 'none'}, got {key!r}"
            raise ValueError(msg)
        parameters[key] = value if isinstance(parameters[key], str) else tomllib.loads(f"value = {value}")["value"]

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in cast("dict[str, Any]", value).items()}
        if isinstance(value, list):
            return [fill(inner) for inner in cast("list[Any]", value)]
        if isinstance(value, str) and value.startswith("$"):
            if value[1:] not in parameters:
                msg = f"{value} must stand in [parameters]"
                raise ValueError(msg)
            return parameters[value[1:]]
        return value

    return fill(data)


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that ``data`` holds: a TOML file's, its parameters filled in, or ``Recipe.source``.

    Raises
    ------
    TypeError, ValueError
        If it breaks a rule.
    """
    known = {"name", "profile", "weights", "activations", "inputs", "permutation", "bias_correction", "smooth"}
    if unknown := data.keys() - known:
        msg = f"unknown key {min(unknown)!r}"
        raise ValueError(msg)
    for key in ("name", "profile"):
        if not isinstance(data.get(key, ""), str):
            msg = f"{key} must be a text, got {data[key]!r}"
            raise TypeError(msg)
    _check("permutation", data.get("permutation", "none"), ("none", "range"))
    _check("bias_correction", data.get("bias_correction", False), (True, False))

    def rules(kind: type[Rule], key: str) -> tuple[Rule, ...]:
        tables = _tables(key, data.get(key, []))
        keys = ("names", "roles")
        fields: list[dict[str, Any]] = [
            {**table, **{key: _texts(key, table[key]) for key in keys if key in table}} for table in tables
        ]
        if any(not table.keys() & {*keys} for table in tables):
            msg = f"{key} must say which names or roles each is for"
            raise ValueError(msg)
        return tuple(made(kind, each) for each in fields)

    return Recipe(
        name=data.get("name", ""),
        profile=data.get("profile", "intsim"),
        weights=rules(WeightRule, "weights"),
        activations=rules(ActivationRule, "activations"),
        inputs=rules(InputRule, "inputs"),
        permutation=data.get("permutation", "none"),
        bias_correction=data.get("bias_correction", False),
        smooth=_smoothing(data["smooth"]) if "smooth" in data else None,
        source=data,
    )


def _smoothing(value: object) -> Smoothing:
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {"alpha": value}
    return made(Smoothing, {**table, "roles": _texts("roles", table.get("roles", []))})


def _tables(key: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in cast("list[object]", value)):
        msg = f"{key} must be tables, each under [[{key}]], got {value!r}"
        raise TypeError(msg)
    return cast("list[dict[str, Any]]", value)


def _texts(key: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in cast("list[object]", texts)):
        msg = f"{key} must be a text or a list of texts, got {value!r}"
        raise ValueError(msg)
    return tuple(cast("list[str]", texts))


def _check_roles(roles: Sequence[str], known: Sequence[str]) -> None:
    for role in roles:
        if not any(is_role(role, each) for each in known):
            msg = f"roles must be among {', '.join(known)}, or what stands before a dot, got {role!r}"
            raise ValueError(msg)


def _check(name: str, value: object, allowed: Sequence[object]) -> None:
    # a bool is an int in Python, and 8.0 == 8
    if value not in allowed or type(value) is not type(allowed[0]):
        shown = f"[{allowed[0]}, {allowed[-1]}]" if isinstance(allowed, range) else ", ".join(map(repr, allowed))
        msg = f"{name} must be in {shown}, got {value!r}"
        raise ValueError(msg)
