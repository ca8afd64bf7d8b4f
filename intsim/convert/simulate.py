# SPDX-License-Identifier: Apache-2.0
"""Simulated quantization: the float model with the quantizers of an integer model in its way, and no more of it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.convert.permutation import permute_channels
from intsim.errors import IntsimError
from intsim.fixedpoint import Rounding
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.models import IntegerModel
from intsim.models.integer_model import Format
from intsim.quantizers import dequantize
from intsim.recipes import parse_recipe
from intsim.reference.fake_quant import Affine, dynamic_bound, fake_quantize, fake_quantize_dynamic
from intsim.reference.models.bert import bert

__all__ = ["open_reference", "simulation", "ties"]

Reals: TypeAlias = NDArray[np.floating]
Half: TypeAlias = Literal["up", "even"]

HALVES: Final[dict[Rounding, Half]] = {Rounding.HALF_UP: "up", Rounding.HALF_EVEN: "even"}


def open_reference(path: str | Path, model: IntegerModel) -> Checkpoint:
    """Open the float checkpoint of an integer model.

    Raises
    ------
    IntsimError
        If it is invalid, or has another head or configuration than the integer model.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint.has_classifier != model.has_classifier:
        msg = f"reference {path} must have a classifier just where the integer model has one"
        raise IntsimError(msg)
    for name, value in asdict(checkpoint.config).items():
        if (list(value) if name == "labels" else value) != model.config[name]:
            msg = f"reference {path} must have the integer model's {name}, {model.config[name]!r}, got {value!r}"
            raise IntsimError(msg)
    return checkpoint


def ties(model: IntegerModel) -> Half:
    """Return where ties go in what ``model`` quantizes while running, as ``reference.fake_quant`` calls it.

    Raises
    ------
    IntsimError
        If it rounds otherwise than to nearest, ties up or to even.
    """
    if model.profile.rounding in HALVES:
        return HALVES[model.profile.rounding]
    if model.dynamic:
        msg = f"rounding of a simulation must be half-up or half-even, got {model.profile.rounding.value}"
        raise IntsimError(msg)
    return "even"  # there are none


def simulation(
    path: str | Path, model: IntegerModel
) -> Callable[[NDArray[np.integer], NDArray[np.bool_], NDArray[np.integer]], Reals]:
    """Return the float model as its recipe quantizes it: what is lost to codes alone, without integer arithmetic.

    Weights and embeddings are what their codes stand for. Every activation that has a format, and every input of a
    product that is quantized anew or while running, is moved to the real of its nearest code. All else is float64:
    biases, sums, probabilities, LayerNorm, GELU, tanh, exp.

    Parameters
    ----------
    path
        Hugging Face folder that ``model`` was made from.
    model
        By any recipe without bias correction, whose biases the folder does not hold.

    Returns
    -------
    Callable
        From input_ids, attention_mask (true where there is a token) and token_type_ids, each (B, T), to what
        ``model(...)`` gives, in reals: logits (B, labels), or the last hidden state (B, T, C).

    Raises
    ------
    IntsimError
        If the checkpoint is invalid, ``model`` has corrected biases, or a rounding while running that is not to
        nearest, ties up or to even.
    """
    checkpoint, rules = open_reference(path, model), parse_recipe(model.recipe)
    config, half = checkpoint.config, ties(model)
    if rules.bias_correction:
        msg = f"recipe of a simulation must leave biases as they are, got bias_correction = true in {rules.name!r}"
        raise IntsimError(msg)
    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    order = model.tensors.get("order")
    if order is not None:
        weights = permute_channels(weights, np.argsort(order))
    for name in weights.keys() & model.tensors.keys():
        if name.endswith(".weight"):
            params = rules.weight(name).params(weights[name], embedding=name.startswith("embeddings."))
            weights[name] = dequantize(model.tensors[name], params)

    def run(ids: NDArray[np.integer], mask: NDArray[np.bool_], types: NDArray[np.integer]) -> Reals:
        def observe(name: str, x: NDArray[Any]) -> NDArray[Any]:
            if name in model.formats and name != "classifier":
                return fake_quantize(x, _affine(model.formats[name], x.shape[-1]))
            return x

        def read(name: str, x: NDArray[Any]) -> NDArray[Any]:
            if (how := model.dynamic.get(name)) is None:
                return observe(name, x)
            bound = dynamic_bound(x, per=how.per, clip=how.clip, mask=mask if x.ndim > 2 else None)
            return fake_quantize_dynamic(x, bound, bits=how.range.bits, half=half)

        values = bert(
            weights,
            ids,
            num_heads=config.num_attention_heads,
            num_layers=config.num_hidden_layers,
            hidden_act=config.hidden_act,
            eps=config.layer_norm_eps,
            attention_mask=mask,
            token_type_ids=types,
            observe=observe,
            read=read,
        )
        return values if order is None or checkpoint.has_classifier else values[..., order]

    return run


def _affine(form: Format, channels: int) -> Affine:
    """Return the fake quantizer of a format, of every channel."""
    scale = np.ldexp(form.scale.multiplier.astype(np.float64), -form.scale.shift)
    every, zero_point = channels // form.groups, np.asarray(form.zero_point, np.float64)
    return Affine(np.repeat(scale, every), np.repeat(zero_point, every), form.range.min, form.range.max)
