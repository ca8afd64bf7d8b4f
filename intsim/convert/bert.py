# SPDX-License-Identifier: Apache-2.0
"""From a float BERT and the ranges of its activations to the constants of the integer one, in forward order.

Every float scale ends here: s_x is the scale of an input, s_w (one per output channel) that of a weight, s_y that of an
output. What leaves is integers, among them dyadics standing for ratios of scales.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.carrier import Integers
from intsim.errors import CheckpointError
from intsim.fixedpoint import INT32, Dyadic
from intsim.io.huggingface import BertConfig
from intsim.models.integer_model import Format
from intsim.profile import Profile
from intsim.quantizers import PER_TENSOR, AffineParams, Granularity, min_max, quantize
from intsim.recipes import Recipe

__all__ = ["activation_names", "convert_bert"]

LOGIT_FRACTION = 16  # logits are int32 with 16 fraction bits
PER_OUTPUT_CHANNEL = Granularity(kind="channel", axis=0)
PER_EMBEDDING_CHANNEL = Granularity(kind="channel", axis=1)


def activation_names(config: BertConfig, *, classifier: bool) -> list[str]:
    """Return the names of the activations that need a range, in forward order."""
    names = ["embeddings.sum", "embeddings.LayerNorm"]
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        names += [f"{layer}.attention.self.{part}" for part in ("query", "key", "value", "context")]
        names += [f"{layer}.attention.output.sum", f"{layer}.attention.output.LayerNorm"]
        names += [f"{layer}.intermediate", f"{layer}.output.sum", f"{layer}.output.LayerNorm"]
    return [*names, "pooler"] if classifier else names


def convert_bert(
    weights: Mapping[str, NDArray[np.float64]],
    config: BertConfig,
    activations: Mapping[str, AffineParams],
    *,
    recipe: Recipe,
    profile: Profile,
) -> tuple[dict[str, Integers], dict[str, Format]]:
    """Return the tensors and the activation formats of the integer model.

    Parameters
    ----------
    weights, config
        The float model, Hugging Face names without the ``bert.`` prefix.
    activations
        Scale, zero point and codes of every activation in ``activation_names``.
    recipe
        Decides the weights' bits and granularity.
    profile
        Decides the fixed-point formats of the nonlinear operators.

    Raises
    ------
    CheckpointError
        If a tensor cannot be quantized, or a bias does not fit its integer.
    """
    tensors: dict[str, Integers] = {}

    def scale(name: str) -> float:
        return float(activations[name].scale)

    def zero_point(name: str) -> int:
        return int(activations[name].zero_point)

    def put_ratio(name: str, ratio: Dyadic) -> None:
        tensors[f"{name}.multiplier"], tensors[f"{name}.shift"] = ratio.multiplier, ratio.shift

    def put_ratios(ratios: Mapping[str, ArrayLike]) -> None:  # of the operands of one sum
        dyadics = (
            Dyadic.aligned(*ratios.values())
            if profile.sum == "once"
            else [profile.requantization.ratio(ratio) for ratio in ratios.values()]
        )
        for name, dyadic in zip(ratios, dyadics, strict=True):
            put_ratio(name, dyadic)

    def rescale(name: str, ratio: ArrayLike) -> None:
        put_ratio(name, profile.requantization.ratio(ratio))

    def weight(name: str, smallest: ArrayLike = 0.0) -> NDArray[np.float64]:
        """Quantize the weight; return s_w, at least ``smallest``, one per output channel or one in all."""
        rule, w = recipe.weight(f"{name}.weight"), weights[f"{name}.weight"]
        per_channel = PER_EMBEDDING_CHANNEL if name.startswith("embeddings.") else PER_OUTPUT_CHANNEL
        granularity = PER_TENSOR if rule.granularity == "tensor" else per_channel
        try:
            params = rule.scheme.params(*min_max(w, granularity))
            per_row = params.scale.ndim and np.ndim(smallest)
            floor = np.reshape(smallest, params.scale.shape) if per_row else np.max(smallest)
            params = replace(params, scale=np.maximum(params.scale, floor))
        except ValueError as error:
            msg = f"tensor '{name}.weight' must be quantizable, got: {error}"
            raise CheckpointError(msg) from None
        tensors[f"{name}.weight"] = quantize(w, params)
        return params.scale.reshape(-1) if params.scale.ndim else params.scale

    def dense(name: str, x: str) -> NDArray[np.float64]:
        """Quantize weight and bias of a layer whose input is the activation ``x``; return the accumulator's scale."""
        # a channel whose weights all but vanish beside its bias takes a scale that the bias fits
        acc_scale = scale(x) * weight(name, np.abs(weights[f"{name}.bias"]) / (scale(x) * 2**30))
        w_q = tensors[f"{name}.weight"].astype(np.int64)
        bias = np.rint(weights[f"{name}.bias"] / acc_scale) - zero_point(x) * w_q.sum(axis=-1)
        if (np.abs(bias) > INT32.max).any():
            msg = f"layer '{name}' must have a bias that fits its int32 accumulator, got {np.abs(bias).max():.0f}"
            raise CheckpointError(msg)
        tensors[f"{name}.bias"] = bias.astype(np.int32)
        return acc_scale

    def layer_norm(name: str, x: str) -> None:
        """Fold gamma, beta and the output's zero point into one multiply-add per channel."""
        fraction = profile.layer_norm.output_fraction
        (ratio,) = Dyadic.aligned(weights[f"{name}.weight"] / (scale(name) * 2**fraction))
        put_ratio(name, ratio)
        bias = np.ldexp(weights[f"{name}.bias"] / scale(name) + zero_point(name), ratio.shift)
        if (np.abs(bias) >= 2.0**61).any():
            msg = (
                f"LayerNorm '{name}' must have a bias below 2**61 in units of its product, got {np.abs(bias).max():.3g}"
            )
            raise CheckpointError(msg)
        tensors[f"{name}.bias"] = np.rint(bias).astype(np.int64)
        channels = config.hidden_size if profile.layer_norm.centring == "exact" else 1
        eps = config.layer_norm_eps * (channels / scale(x)) ** 2
        if eps >= 2.0**61:
            msg = f"LayerNorm '{name}' must have an eps below 2**61 in units of its variance, got {eps:.3g}"
            raise CheckpointError(msg)
        tensors[f"{name}.eps"] = np.array(max(1, round(eps)), np.int64)

    def residual(name: str, x: str, skip: str) -> None:
        total = f"{name}.sum"
        acc_scale = dense(f"{name}.dense", x)
        put_ratios({f"{name}.dense": acc_scale / scale(total), f"{name}.residual": scale(skip) / scale(total)})
        layer_norm(f"{name}.LayerNorm", total)

    tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
    put_ratios({table: weight(table) / scale("embeddings.sum") for table in tables})
    layer_norm("embeddings.LayerNorm", "embeddings.sum")
    x = "embeddings.LayerNorm"

    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        for part in ("query", "key", "value"):
            rescale(f"{self}.{part}", dense(f"{self}.{part}", x) / scale(f"{self}.{part}"))
        score_scale = scale(f"{self}.query") * scale(f"{self}.key")
        head_size = config.hidden_size // config.num_attention_heads
        rescale(f"{self}.scores", score_scale / math.sqrt(head_size) * 2**profile.exp.input_fraction)
        rescale(f"{self}.context", scale(f"{self}.value") / profile.softmax.one / scale(f"{self}.context"))
        residual(f"{layer}.attention.output", f"{self}.context", x)
        x = f"{layer}.attention.output.LayerNorm"

        hidden = f"{layer}.intermediate"
        fraction = profile.gelu.input_fraction
        rescale(f"{hidden}.dense", dense(f"{hidden}.dense", x) * 2**fraction)
        relu = config.hidden_act == "relu"
        rescale(hidden, (2.0**-fraction if relu else float(profile.gelu.output_scale)) / scale(hidden))
        residual(f"{layer}.output", hidden, x)
        x = f"{layer}.output.LayerNorm"

    if "classifier.weight" in weights:
        rescale("pooler.dense", dense("pooler.dense", x) * 2 ** (profile.exp.input_fraction + 1))
        rescale("pooler", 2.0**-profile.tanh.output_fraction / scale("pooler"))
        rescale("classifier", dense("classifier", "pooler") * 2**LOGIT_FRACTION)

    formats = {
        name: Format(range=params.range, zero_point=int(params.zero_point), scale=Dyadic.exactly(float(params.scale)))
        for name, params in activations.items()
    }
    if "classifier.weight" in weights:
        formats["classifier"] = Format(range=INT32, zero_point=0, scale=Dyadic(1, LOGIT_FRACTION))
    return tensors, formats
