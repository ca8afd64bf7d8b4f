# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds quantized is taken over: its own rules go before those of a recipe."""

from dataclasses import asdict, replace
from typing import Any

from intsim.errors import CheckpointError
from intsim.io.compressed_tensors import QuantizedTensor
from intsim.io.huggingface import Checkpoint
from intsim.models.world import tensor_name
from intsim.quantizers import AffineParams
from intsim.recipes.match import Matched
from intsim.recipes.recipe import InputRule, WeightRule

__all__ = ["taken_inputs", "taken_over", "taken_rules"]


def taken_over(rules: Matched, checkpoint: Checkpoint) -> Matched:
    """Return the rules of a recipe, with the checkpoint's own for each weight and input that it quantized.

    Raises
    ------
    CheckpointError
        If layers that read one input have it quantized in two ways.
    """
    weights, inputs = _rules(checkpoint)
    return replace(rules, weights={**rules.weights, **weights}, inputs={**rules.inputs, **inputs})


def taken_inputs(checkpoint: Checkpoint) -> dict[str, AffineParams]:
    """Return the scale, zero point and codes of each input that the checkpoint quantized to one range.

    Raises
    ------
    CheckpointError
        As ``taken_over``.
    """
    return {name: params for name, params in _inputs(checkpoint).items() if params is not None}


def taken_rules(checkpoint: Checkpoint) -> dict[str, list[dict[str, Any]]]:
    """Return the checkpoint's own rules in the words of a recipe, each with the names of what it quantized so.

    Raises
    ------
    CheckpointError
        As ``taken_over``.
    """
    weights, inputs = _rules(checkpoint)
    return {
        "weights": _by_rule({name: _said(rule, "bits", "granularity", "groups") for name, rule in weights.items()}),
        "inputs": _by_rule({name: _said(rule, "bits", "symmetric", "range") for name, rule in inputs.items()}),
    }


def _said(rule: WeightRule | InputRule, *fields: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(rule).items() if name in fields}


def _by_rule(rules: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, rule in rules.items():
        found.setdefault(tuple(rule.values()), {"names": [], **rule})["names"].append(name)
    return list(found.values())


def _rules(checkpoint: Checkpoint) -> tuple[dict[str, WeightRule], dict[str, InputRule]]:
    weights = {name: _weight(tensor) for name, tensor in checkpoint.quantized.items()}
    inputs = {
        name: InputRule(
            bits=8,
            symmetric=params is None or not params.zero_point.any(),
            range="token" if params is None else "static",
        )
        for name, params in _inputs(checkpoint).items()
    }
    return weights, inputs


def _weight(tensor: QuantizedTensor) -> WeightRule:
    if tensor.groups > 1:
        return WeightRule(bits=8, granularity="group", groups=tensor.groups, axis="input")
    return WeightRule(bits=8, granularity="channel" if tensor.per_row else "tensor")


def _inputs(checkpoint: Checkpoint) -> dict[str, AffineParams | None]:
    """Return the parameters of each input that the checkpoint quantized, None where they are found while running."""
    found: dict[str, AffineParams | None] = {}
    said_by: dict[str, str] = {}
    for name, tensor in checkpoint.quantized.items():
        source = checkpoint.outline.tensors[name].source
        params = tensor.input_params() if tensor.input == "static" else None
        for read in (each for each in checkpoint.outline.inputs if tensor_name(each) == tensor_name(source)):
            first = said_by.setdefault(read, name)
            same = checkpoint.quantized[first].input == tensor.input
            if same and params is not None and first != name:
                earlier = found[read]
                same = earlier is not None and (earlier.scale, earlier.zero_point) == (params.scale, params.zero_point)
            if not same:
                msg = f"'{first}' and '{name}' must have one quantized input, since both read '{read}', got two"
                raise CheckpointError(msg)
            if tensor.input != "open":
                found[read] = params
    return found
