# SPDX-License-Identifier: Apache-2.0
"""Simulated quantization: the float model with the quantizers of an integer model in its way, and no more of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.convert.permutation import permute_channels
from intsim.convert.smoothing import readers, smooth_channels
from intsim.convert.weights import Weights
from intsim.errors import IntsimError
from intsim.fixedpoint import Rounding
from intsim.integer_model import IntegerModel
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.models.formats import Format
from intsim.quantizers import dequantize
from intsim.recipes import match, parse_recipe
from intsim.reference.fake_quant import Affine, dynamic_bound, fake_quantize, fake_quantize_dynamic
from intsim.reference.world import run as run_floats

__all__ = ["open_reference", "simulation", "ties"]

Reals: TypeAlias = NDArray[np.floating]
Half: TypeAlias = Literal["up", "even"]

HALVES: Final[dict[Rounding, Half]] = {Rounding.HALF_UP: "up", Rounding.HALF_EVEN: "even"}


def open_reference(path: str | Path, model: IntegerModel) -> Checkpoint:
    """Open the float checkpoint of an integer model.

    Raises
    ------
    IntsimError
        If it is invalid, or has another family, configuration or head than the integer model.
    """
    checkpoint = open_checkpoint(path, head=model.head)
    if checkpoint.model_type != model.model_type:
        msg = f"reference {path} must be of the integer model's family, {model.model_type}, got {checkpoint.model_type}"
        raise IntsimError(msg)
    theirs, ours = checkpoint.config.in_full(), model.config.in_full()
    for name in theirs | ours:
        if theirs.get(name) != ours.get(name):
            msg = f"reference {path} must have the integer model's {name}, {ours.get(name)!r}, got {theirs.get(name)!r}"
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
    checkpoint = open_reference(path, model)
    recipe = parse_recipe({key: value for key, value in model.recipe.items() if key != "stored"})
    half = ties(model)
    if recipe.bias_correction:
        msg = f"recipe of a simulation must leave biases as they are, got bias_correction = true in {recipe.name!r}"
        raise IntsimError(msg)
    floats = Weights(checkpoint.names, checkpoint.load)
    order = model.tensors.get("order")
    if order is not None:
        floats = permute_channels(floats, checkpoint.outline, np.argsort(order))
    smoothed = [name for name in readers(model.outline) if f"{name}.smooth.shift" in model.tensors]
    scales = {name: model.ratio(f"{name}.smooth") for name in smoothed}
    weights = dict(smooth_channels(floats, checkpoint.outline, scales))
    for name, rule in match(recipe, checkpoint.outline).weights.items():
        if name in checkpoint.quantized:  # and its reals are those of its codes
            continue
        params = rule.params(weights[name], embedding=checkpoint.outline.tensors[name].is_embedding)
        weights[name] = dequantize(model.codes(name), params)

    def run(ids: NDArray[np.integer], mask: NDArray[np.bool_], types: NDArray[np.integer]) -> Reals:
        def observe(name: str, x: NDArray[Any]) -> NDArray[Any]:
            if name in model.formats and model.formats[name].range.bits <= 24:
                return fake_quantize(x, _affine(model.formats[name], x.shape[-1]))
            return x

        def read(name: str, x: NDArray[Any]) -> NDArray[Any]:
            if (how := model.dynamic.get(name)) is None:
                return observe(name, x)
            bound = dynamic_bound(x, per=how.per, clip=how.clip, mask=mask if x.ndim > 2 else None)
            return fake_quantize_dynamic(x, bound, bits=how.range.bits, half=half)

        values = run_floats(
            checkpoint.family,
            weights,
            checkpoint.config,
            checkpoint.head,
            ids,
            attention_mask=mask,
            token_type_ids=types,
            observe=observe,
            read=read,
        )
        return values if order is None or checkpoint.head not in ("none", "sentence-embedding") else values[..., order]

    return run


def _affine(form: Format, channels: int) -> Affine:
    """Return the fake quantizer of a format, of every channel."""
    every, zero_point = channels // form.groups, np.asarray(form.zero_point, np.float64)
    return Affine(np.repeat(form.scale.to_real(), every), np.repeat(zero_point, every), form.range.min, form.range.max)
