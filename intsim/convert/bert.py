# SPDX-License-Identifier: Apache-2.0
"""From a float BERT and the ranges of its activations to the constants of the integer one, in forward order.

Every float scale ends here: s_x is the scale of an input, s_w that of a weight, s_y that of an output, each a number,
one per channel, or one per group of channels. What leaves is integers, among them dyadics for ratios of scales.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers
from intsim.convert.adaround import adaround
from intsim.convert.calibrate import Moments
from intsim.convert.gptq import gptq
from intsim.errors import CheckpointError
from intsim.fixedpoint import INT16, INT32, MAX_SHIFT, Dyadic
from intsim.io.huggingface import BertConfig
from intsim.models.integer_model import Dynamic, Format
from intsim.profile import LayerNorm, Profile
from intsim.quantizers import AffineParams, dequantize, quantize
from intsim.recipes import Recipe

__all__ = ["activation_names", "convert_bert", "input_sources"]

Reals = NDArray[np.float64]

LOGIT_FRACTION = 16  # logits are int32 with 16 fraction bits
WIDE_FRACTION = 8  # what a dynamically quantized layer's output has beyond the residual sum it goes into
FEWEST_BITS = 8  # of a multiplier
ROUNDINGS = {"adaround": adaround, "gptq": gptq}  # that look at what a layer reads


def activation_names(config: BertConfig, *, classifier: bool) -> list[str]:
    """Return the names of the activations that need a range, in forward order."""
    names = ["embeddings.sum", "embeddings.LayerNorm"]
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        names += [f"{layer}.attention.self.{part}" for part in ("query", "key", "value", "context")]
        names += [f"{layer}.attention.output.sum", f"{layer}.attention.output.LayerNorm"]
        names += [f"{layer}.intermediate", f"{layer}.output.sum", f"{layer}.output.LayerNorm"]
    return [*names, "pooler"] if classifier else names


def input_sources(config: BertConfig, *, classifier: bool) -> dict[str, str]:
    """Return the name of every product's input and the activation it is taken from, in forward order."""
    sources: dict[str, str] = {}
    x = "embeddings.LayerNorm"
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        sources[f"{layer}.attention.self.input"] = x
        sources[f"{layer}.attention.output.input"] = f"{layer}.attention.self.context"
        sources[f"{layer}.intermediate.input"] = f"{layer}.attention.output.LayerNorm"
        sources[f"{layer}.output.input"] = f"{layer}.intermediate"
        x = f"{layer}.output.LayerNorm"
    return sources | {"pooler.input": x, "classifier.input": "pooler"} if classifier else sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulator:
    """What a product gives: one scale per group of input channels and output channel, (K, N) or (K, 1).

    ``bias`` is set where the rows have yet to be scaled by a bound, and ``bound`` is then a bound on the scaled row.
    """

    scale: Reals
    bias: Reals | None = None
    bound: int = 0


def convert_bert(
    weights: Mapping[str, Reals],
    config: BertConfig,
    activations: Mapping[str, AffineParams],
    dynamic: Mapping[str, Dynamic],
    *,
    groups_of: Mapping[str, int],
    moments: Mapping[str, Moments],
    recipe: Recipe,
    profile: Profile,
) -> tuple[dict[str, Integers], dict[str, Format]]:
    """Return the tensors and the activation formats of the integer model.

    Parameters
    ----------
    weights, config
        The float model, Hugging Face names without the ``bert.`` prefix.
    activations
        Scale, zero point and codes of every activation in ``activation_names``, and of the inputs of products that are
        quantized anew; one of each, or one for each group of channels, repeated.
    dynamic
        Inputs of products that are quantized while running.
    groups_of
        Activation name -> how many groups of channels have a scale of their own.
    moments
        Activation name -> its moments, where the recipe corrects biases or chooses roundings by them.
    recipe
        Decides the weights' bits, granularity, ranges and rounding.
    profile
        Decides the fixed-point formats of the nonlinear operators.

    Raises
    ------
    CheckpointError
        If a tensor cannot be quantized, or a bias does not fit its integer.
    """
    tensors: dict[str, Integers] = {}
    biases = {name.removesuffix(".bias"): weights[name] for name in weights if name.endswith(".bias")}

    def scale(name: str) -> Reals:  # () or (C,)
        return activations[name].scale

    def put_ratio(name: str, ratio: Dyadic) -> None:
        tensors[f"{name}.multiplier"], tensors[f"{name}.shift"] = ratio.multiplier, ratio.shift

    def put_ratios(ratios: Mapping[str, Reals]) -> None:  # of the operands of one sum; several terms along axis 0
        terms = [term for ratio in ratios.values() for term in (ratio if ratio.ndim > 1 else [ratio])]
        if profile.sum == "once":
            dyadics = iter(Dyadic.aligned(*terms))
        else:
            dyadics = iter([profile.requantization.ratio(term) for term in terms])
        for name, ratio in ratios.items():
            if ratio.ndim < 2:
                put_ratio(name, next(dyadics))
            else:
                rows = [next(dyadics) for _ in ratio]
                put_ratio(name, Dyadic(np.stack([r.multiplier for r in rows]), np.stack([r.shift for r in rows])))

    def rescale(name: str, x: Reals | float | Accumulator, y: Reals | float) -> None:
        """Store the ratio of the scales of x and y, and the bias that is added in its units."""
        if not isinstance(x, Accumulator):
            put_ratio(name, profile.requantization.ratio(np.asarray(x / y, np.float64)))
        elif x.bias is not None:
            room = MAX_SHIFT - 1 - x.bound.bit_length()
            if room < FEWEST_BITS:
                msg = f"layer '{name}' must leave {FEWEST_BITS} bits for a multiplier, got {room}; give its input fewer"
                raise CheckpointError(msg)
            bits = min(room, profile.requantization.multiplier_bits)
            ratio = Dyadic.from_real(_squeezed((x.scale / y)[0]), bits=bits)
            addend = np.ldexp(x.bias / y, ratio.shift)
            # a channel whose weights all but vanish beside its bias takes a multiplier whose units the bias fits
            excess = np.maximum(np.frexp(addend)[1] - (MAX_SHIFT - 2), 0)
            excess = excess if ratio.shift.ndim else excess.max()
            ratio = Dyadic(np.rint(np.ldexp(ratio.multiplier, -excess)).astype(np.int64), ratio.shift - excess)
            put_ratio(name, ratio)
            addend = np.ldexp(x.bias / y, ratio.shift)
            tensors[f"{name.removesuffix('.wide')}.bias"] = np.rint(addend).astype(np.int64)
        elif len(x.scale) == 1:
            put_ratio(name, profile.requantization.ratio(_squeezed((x.scale / y)[0])))
        else:
            put_ratios({name: x.scale / y})

    def weight(name: str, smallest: Reals | float = 0.0, source: str = "") -> Reals:
        """Quantize the weight; return s_w, at least ``smallest``: (), (N, 1), or (C,) where input channels differ."""
        rule, w = recipe.weight(f"{name}.weight"), weights[f"{name}.weight"]
        try:
            params = rule.params(w, embedding=name.startswith("embeddings."))
            per_row = params.scale.ndim == 2 and np.ndim(smallest)
            floor = np.reshape(smallest, params.scale.shape) if per_row else np.max(smallest)
            params = replace(params, scale=np.maximum(params.scale, floor))
        except ValueError as error:
            msg = f"tensor '{name}.weight' must be quantizable, got: {error}"
            raise CheckpointError(msg) from None
        if source and rule.rounding != "nearest":
            w = ROUNDINGS[rule.rounding](w, params, moments[source].second)
        tensors[f"{name}.weight"] = quantize(w, params)
        if recipe.bias_correction and source:
            # The mean of what rounding adds to the output. What clipping takes off is no shift: it is missing in the
            # few tokens that the clipped weights were for, and would be added to all the others.
            top = params.range.max * params.scale
            error = dequantize(tensors[f"{name}.weight"], params) - weights[f"{name}.weight"].clip(-top, top)
            biases[name] = weights[f"{name}.bias"] - error @ moments[source].mean
        return params.scale

    def dense(name: str, reads: str, source: str) -> Accumulator:
        """Quantize weight and bias of a layer that reads the activation ``source`` by way of ``reads``."""
        groups = recipe.weight(f"{name}.weight").input_groups
        if reads in dynamic:
            if not profile.requantization.is_one_rounding:
                rule = profile.requantization.name
                msg = f"layer '{name}' must round its int64 product once to be quantized while running, got rule {rule}"
                raise CheckpointError(msg)
            how, codes = dynamic[reads], activations[source].range
            if groups_of.get(source, 1) > 1 or groups > 1:
                msg = f"layer '{name}' must have one scale for all its input channels to be quantized while running"
                raise CheckpointError(msg)
            s_x = scale(source) / (how.unit * how.range.max)
            s_w = weight(name, source=source)
            sums = np.abs(tensors[f"{name}.weight"], dtype=np.int64).sum(axis=-1).max()
            bound = int(sums) * how.range.max * how.unit * (codes.max - codes.min)
            return Accumulator(scale=_rows(s_x * s_w, 1), bias=biases[name], bound=bound)
        codes = reads if reads in activations else source
        s_x, zero_point = scale(codes), activations[codes].zero_point
        if 1 != groups != groups_of.get(codes, 1) != 1:
            msg = f"layer '{name}' must have as many groups of weights as of inputs, got {groups} for {codes}"
            raise CheckpointError(msg)
        groups = max(groups, groups_of.get(codes, 1))
        # a channel whose weights all but vanish beside its bias takes a scale that the bias fits
        smallest = np.abs(biases[name]) / (s_x.min() * 2**30)
        acc_scale = _rows(s_x * weight(name, smallest if groups == 1 else smallest.max(), source), groups)
        offsets = (
            (tensors[f"{name}.weight"].astype(np.int64) * zero_point)
            .reshape(len(biases[name]), groups, -1)
            .sum(axis=-1)
            .T
        )
        bias_q = -offsets  # (K, N)
        bias_q[0] += np.rint(biases[name] / acc_scale[0]).astype(np.int64)
        if (np.abs(bias_q) > INT32.max).any():
            msg = f"layer '{name}' must have a bias that fits its int32 accumulator, got {np.abs(bias_q).max():.0f}"
            raise CheckpointError(msg)
        tensors[f"{name}.bias"] = bias_q.astype(np.int32) if groups > 1 else bias_q[0].astype(np.int32)
        return Accumulator(scale=acc_scale)

    def layer_norm(name: str, source: str) -> None:
        """Fold gamma, beta and the output's zero point into one multiply-add per channel."""
        s_x = float(scale(source).max())
        if groups_of.get(source, 1) > 1:  # brought to one scale first, whose 16 bits hold the widest group
            params = activations[source]
            reach = (
                np.maximum(params.range.max - params.zero_point, params.zero_point - params.range.min) * params.scale
            )
            s_x = float(reach.max()) / INT16.max
            rescale(f"{source}.wide", scale(source), s_x)
        rule, channels = profile.layer_norm, config.hidden_size
        unit = math.sqrt(rule.squared_unit(channels))
        (ratio,) = Dyadic.aligned(weights[f"{name}.weight"] / scale(name) * unit)
        put_ratio(name, ratio)
        bias = np.ldexp(weights[f"{name}.bias"] / scale(name) + activations[name].zero_point, ratio.shift)
        if (np.abs(bias) >= 2.0**61).any():
            msg = (
                f"LayerNorm '{name}' must have a bias below 2**61 in units of its product, got {np.abs(bias).max():.3g}"
            )
            raise CheckpointError(msg)
        tensors[f"{name}.bias"] = np.rint(bias).astype(np.int64)
        exact = isinstance(rule, LayerNorm) and rule.centring == "exact"
        eps = config.layer_norm_eps * ((channels if exact else 1) / s_x) ** 2
        if eps >= 2.0**61:
            msg = f"LayerNorm '{name}' must have an eps below 2**61 in units of its variance, got {eps:.3g}"
            raise CheckpointError(msg)
        tensors[f"{name}.eps"] = np.array(max(1, round(eps)), np.int64)

    def residual(name: str, source: str, skip: str) -> None:
        total = f"{name}.sum"
        acc = dense(f"{name}.dense", read(f"{name}.input", source), source)
        terms = _squeezed(acc.scale[0]) if len(acc.scale) == 1 else acc.scale
        if acc.bias is not None:
            terms = scale(total) / 2**WIDE_FRACTION
            rescale(f"{name}.dense.wide", acc, terms)
        put_ratios({f"{name}.dense": terms / scale(total), f"{name}.residual": scale(skip) / scale(total)})
        layer_norm(f"{name}.LayerNorm", total)

    def read(name: str, source: str) -> str:
        if name in activations:  # codes of fewer bits
            rescale(name, scale(source), scale(name))
        return name

    tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
    put_ratios({table: weight(table) / scale("embeddings.sum") for table in tables})
    layer_norm("embeddings.LayerNorm", "embeddings.sum")
    x = "embeddings.LayerNorm"

    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        reads = read(f"{self}.input", x)
        for part in ("query", "key", "value"):
            rescale(f"{self}.{part}", dense(f"{self}.{part}", reads, x), scale(f"{self}.{part}"))
        score_scale = scale(f"{self}.query") * scale(f"{self}.key")
        head_size = config.hidden_size // config.num_attention_heads
        rescale(f"{self}.scores", score_scale / math.sqrt(head_size), float(profile.score_scale))
        rescale(f"{self}.context", scale(f"{self}.value") / profile.softmax.one, scale(f"{self}.context"))
        residual(f"{layer}.attention.output", f"{self}.context", x)
        x = f"{layer}.attention.output.LayerNorm"

        hidden = f"{layer}.intermediate"
        fraction = profile.gelu.input_fraction
        rescale(f"{hidden}.dense", dense(f"{hidden}.dense", read(f"{hidden}.input", x), x), 2.0**-fraction)
        relu = config.hidden_act == "relu"
        rescale(hidden, 2.0**-fraction if relu else float(profile.gelu.output_scale), scale(hidden))
        residual(f"{layer}.output", hidden, x)
        x = f"{layer}.output.LayerNorm"

    if "classifier.weight" in weights:
        tanh_input = 2.0 ** -(profile.exp.input_fraction + 1)
        rescale("pooler.dense", dense("pooler.dense", read("pooler.input", x), x), tanh_input)
        rescale("pooler", 2.0**-profile.tanh.output_fraction, scale("pooler"))
        acc = dense("classifier", read("classifier.input", "pooler"), "pooler")
        rescale("classifier", acc, 2.0**-LOGIT_FRACTION)

    formats = {name: _format(params, groups_of.get(name, 1)) for name, params in activations.items()}
    if "classifier.weight" in weights:
        formats["classifier"] = Format(range=INT32, zero_point=0, scale=Dyadic(1, LOGIT_FRACTION))
    return tensors, formats


def _format(params: AffineParams, groups: int) -> Format:
    """Return the format of parameters, of which groups of channels repeat theirs."""
    if groups == 1:
        scale = Dyadic.exactly(float(params.scale))
        return Format(range=params.range, zero_point=int(params.zero_point), scale=scale)
    every = len(params.scale) // groups
    scales = [Dyadic.exactly(float(value)) for value in params.scale[::every]]
    return Format(
        range=params.range,
        zero_point=tuple(params.zero_point[::every].tolist()),
        scale=Dyadic(np.array([s.multiplier for s in scales]), np.array([s.shift for s in scales])),
    )


def _rows(scale: Reals, groups: int) -> Reals:
    """Return s_x s_w as (K, N) or (K, 1), from (), (C,), (N, 1) or (N, C) with C channels in K groups."""
    if scale.ndim < 2:
        scale = np.broadcast_to(scale, (1, *scale.shape)) if scale.ndim else scale.reshape(1, 1)
    every = max(scale.shape[1] // groups, 1)
    return scale[:, ::every].T


def _squeezed(row: Reals) -> Reals:
    """Return one number for a row that holds one."""
    return row[0] if len(row) == 1 else row
