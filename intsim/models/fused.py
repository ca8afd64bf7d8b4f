# SPDX-License-Identifier: Apache-2.0
"""The steps of a model that run several operators in one pass, prepared once for each of its layers."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from intsim.carrier.dynamic_steps import DynamicDense, DynamicResidual
from intsim.carrier.exact import FLOAT32_EXACT, Integers, magnitude, row_norms
from intsim.carrier.steps import Attention, Codes, Dense, Residual
from intsim.fixedpoint import INT16, Dyadic, IntRange
from intsim.models.integer_model import Format, IntegerModel
from intsim.ops.layer_norm import carried_norm
from intsim.ops.softmax import carried_softmax
from intsim.profile import Gelu

__all__ = ["attention", "dense", "dense_activated", "dense_residual"]

PARTS: Final = ("query", "key", "value")
Step: TypeAlias = Callable[..., Integers]


def dense(model: IntegerModel, name: str, x: IntRange) -> Step | None:
    """Return the step from codes of the range ``x`` through layer ``name``, where it is proved."""

    def build() -> Step | None:
        return _dense(model, name, x, model.formats[name], None)

    return model.once(name, build)


def dense_activated(
    model: IntegerModel, name: str, x: IntRange, function: Callable[[Integers], Integers]
) -> Step | None:
    """Return the same step to int16 and through a function of these, as one table."""

    def build() -> Step | None:
        if model.config["hidden_act"] != "relu" and not isinstance(model.profile.gelu, Gelu):
            return None
        table = function(np.arange(INT16.min, INT16.max + 1).astype(np.int16))
        return _dense(model, name, x, Format(range=INT16, zero_point=0, scale=Dyadic(1, 0)), table)

    return model.once(name, build)


def _dense(model: IntegerModel, name: str, x: IntRange, out: Format, table: Integers | None) -> Step | None:
    weight, bias = model.tensors[f"{name}.weight"], model.tensors[f"{name}.bias"]
    if not isinstance(out.zero_point, int):
        return None
    target: dict[str, Any] = {"to": out.range, "zero_point": out.zero_point, "table": table}
    rule = model.profile.requantization
    if _is_dynamic(bias) and rule.is_one_rounding:
        return DynamicDense.build(weight, bias, model.ratio(name), rounding=rule.rounding, **target)
    sums = magnitude(np.empty(0, x.dtype)) * row_norms(weight)
    if not _is_plain(bias) or sums.max() > FLOAT32_EXACT:
        return None
    codes = _codes(model, name, acc_bound=sums, bias=bias, **target)
    return codes and Dense(weight=weight, codes=codes)


def _is_plain(bias: Integers) -> bool:
    """Say whether a layer is one product, its input's scale known when it was converted."""
    return bias.ndim == 1 and bias.dtype == np.int32


def _is_dynamic(bias: Integers) -> bool:
    """Say whether a layer's input is quantized while running."""
    return bias.dtype == np.int64


def _codes(model: IntegerModel, name: str, **constants: Any) -> Codes | None:
    rule = model.profile.requantization
    return Codes.build(model.ratio(name), rounding=rule.rounding, **constants) if rule.is_one_rounding else None


def attention(model: IntegerModel, layer: str) -> Attention | None:
    """Return the step from query, key and value of ``layer`` to the codes of the context."""
    self = f"{layer}.attention.self"

    def build() -> Attention | None:
        config, out = model.config, model.formats[f"{self}.context"]
        if not isinstance(out.zero_point, int) or any(model.formats[f"{self}.{part}"].zero_point for part in PARTS):
            return None
        query, key, value = (magnitude(np.empty(0, model.formats[f"{self}.{part}"].range.dtype)) for part in PARTS)
        tokens = config["max_position_embeddings"]
        scores, context = config["hidden_size"] // config["num_attention_heads"] * query * key, tokens * 255 * value
        if max(scores, context) > FLOAT32_EXACT:
            return None
        softmax = carried_softmax(model.ratio(f"{self}.scores"), profile=model.profile, bound=scores, columns=tokens)
        bounds: dict[str, Any] = {"acc_bound": np.array(context), "bias": np.array(0)}
        codes = _codes(model, f"{self}.context", to=out.range, zero_point=out.zero_point, **bounds)
        return softmax and codes and Attention(softmax=softmax, codes=codes)

    return model.once(self, build)


def dense_residual(model: IntegerModel, name: str, source: str) -> Step | None:
    """Return the step LayerNorm(dense(x) + skip) of ``name``, skip the activation ``source``, where it is proved."""

    def build() -> Step | None:
        out, skip, profile = model.formats[f"{name}.sum"], model.formats[source], model.profile
        weight, bias = model.tensors[f"{name}.dense.weight"], model.tensors[f"{name}.dense.bias"]
        if not isinstance(out.zero_point, int) or not isinstance(skip.zero_point, int):
            return None
        norm_name, rule = f"{name}.LayerNorm", profile.requantization
        norm = carried_norm(model.layer_norm_params(norm_name), to=model.formats[norm_name].range, profile=profile)
        constants: dict[str, Any] = {
            "skip": skip.range,
            "skip_zero_point": skip.zero_point,
            "to": out.range,
            "zero_point": out.zero_point,
            "rounding": profile.rounding,
            "each": profile.sum == "each",
        }
        ratios = (model.ratio(f"{name}.dense"), model.ratio(f"{name}.residual"))
        if norm is not None and _is_dynamic(bias) and rule.is_one_rounding:
            ratios = (model.ratio(f"{name}.dense.wide"), *ratios)
            return DynamicResidual.build(weight, bias, ratios, norm, requantization=rule.rounding, **constants)
        return norm and Residual.build(weight, bias, ratios, norm, **constants) if _is_plain(bias) else None

    return model.once(f"{name}.sum", build)
