# SPDX-License-Identifier: Apache-2.0
"""The steps of a model that run several operators in one pass, prepared once for each of its layers."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.blocks import in_blocks
from intsim.carrier.dynamic_steps import DynamicDense, DynamicResidual, Product, Scaled
from intsim.carrier.exact import FLOAT32_EXACT, Integers, magnitude
from intsim.carrier.rowwise import carried
from intsim.carrier.steps import Attention, Codes, Dense, Residual
from intsim.fixedpoint import INT16, Dyadic, IntRange
from intsim.models.constants import Constants
from intsim.models.formats import Format
from intsim.models.world import term_name
from intsim.ops.layer_norm import carried_norm
from intsim.ops.requantize import requantize
from intsim.ops.rms_norm import carried_rms_norm
from intsim.ops.softmax import carried_softmax

__all__ = ["attention", "dense", "dense_activated", "dense_residual", "multiply", "rms_norm", "rotated"]

Step: TypeAlias = Callable[..., Integers]


def dense(model: Constants, name: str, weight: str, x: IntRange) -> Step | None:
    """Return the step from codes of the range ``x`` through layer ``name``, where it is proved."""

    def build() -> Step | None:
        return _dense(model, name, weight, x, model.formats[name], None)

    return model.once(name, build)


def dense_activated(
    model: Constants, name: str, weight: str, x: IntRange, function: Callable[[Integers], Integers]
) -> Step | None:
    """Return the same step to int16 and through a function of these, as one table."""

    def build() -> Step | None:
        table = function(np.arange(INT16.min, INT16.max + 1).astype(np.int16))
        return _dense(model, name, weight, x, Format(range=INT16, zero_point=0, scale=Dyadic(1, 0)), table)

    return model.once(name, build)


def _dense(model: Constants, name: str, weight: str, x: IntRange, out: Format, table: Integers | None) -> Step | None:
    w, bias = model.weight(weight), model.tensors[f"{name}.bias"]
    if not isinstance(out.zero_point, int):
        return None
    target: dict[str, Any] = {"to": out.range, "zero_point": out.zero_point, "table": table}
    rule = model.profile.requantization
    if _is_dynamic(model, name) and rule.is_one_rounding:
        return DynamicDense.build(w, bias, model.ratio(name), rounding=rule.rounding, **target)
    sums = magnitude(np.empty(0, x.dtype)) * w.norms
    if not _is_plain(bias) or sums.max() > FLOAT32_EXACT:
        return None
    codes = _codes(model, name, acc_bound=sums, bias=bias, **target)
    return codes and Dense(weight=w, codes=codes)


def _is_plain(bias: Integers) -> bool:
    """Say whether a layer is one product, its input's scale known when it was converted."""
    return bias.ndim == 1 and bias.dtype == np.int32


def _is_dynamic(model: Constants, name: str) -> bool:
    """Say whether a layer is one product, its input quantized while running."""
    return model.tensors[f"{name}.bias"].dtype == np.int64 and f"{name}.acc.multiplier" not in model.tensors


def _codes(model: Constants, name: str, **constants: Any) -> Codes | None:
    rule = model.profile.requantization
    return Codes.build(model.ratio(name), rounding=rule.rounding, **constants) if rule.is_one_rounding else None


def attention(model: Constants, name: str, parts: tuple[str, str, str], size: int) -> Attention | None:
    """Return the step from query, key and value, ``parts``, with heads of ``size`` channels to the codes of context."""

    def build() -> Attention | None:
        out, operands = model.formats[f"{name}.context"], [model.formats[part] for part in parts]
        if not isinstance(out.zero_point, int) or any(operand.zero_point for operand in operands):
            return None
        if model.ratio(f"{name}.context").multiplier.ndim:  # heads come one by one
            return None
        query, key, value = (magnitude(np.empty(0, operand.range.dtype)) for operand in operands)
        tokens = model.config.longest
        scores, context = size * query * key, model.profile.row_sum(tokens) * value
        if max(scores, context) > FLOAT32_EXACT:
            return None
        softmax = carried_softmax(model.ratio(f"{name}.scores"), profile=model.profile, bound=scores, columns=tokens)
        bounds: dict[str, Any] = {"acc_bound": np.array(context), "bias": np.array(0)}
        target: dict[str, Any] = {"to": out.range, "zero_point": out.zero_point}
        codes = _codes(model, f"{name}.context", **target, **bounds)
        ratio, rule = model.ratio(f"{name}.context"), model.profile.requantization

        def plain(acc: NDArray[Any]) -> Integers:  # probabilities of 16 bits pass what float64 holds
            return requantize(acc.astype(np.int32), ratio, rounding=rule, **target)

        return softmax and Attention(softmax=softmax, codes=codes or plain)

    return model.once(f"{name}.probs", build)


def dense_residual(
    model: Constants, name: str, weight: str, total: str, source: str, norm_name: str | None = None
) -> Step | None:
    """Return the step LayerNorm(x W.T + b + skip), or the sum alone, where it is proved.

    The layer is called ``name``, the sum ``total``, skip is the activation ``source``, and the norm ``norm_name``.
    """

    def build() -> Step | None:
        out, skip, profile = model.formats[total], model.formats[source], model.profile
        w, bias = model.weight(weight), model.tensors[f"{name}.bias"]
        if not isinstance(out.zero_point, int) or not isinstance(skip.zero_point, int):
            return None
        rule = profile.requantization
        norm: Callable[[Any], Integers] | None = partial(_as_codes, dtype=out.range.dtype)
        if norm_name is not None:
            params, to = model.layer_norm_params(norm_name), model.formats[norm_name].range
            norm = carried_norm(params, to=to, profile=profile, wide=not np.can_cast(out.range.dtype, np.int16))
        constants: dict[str, Any] = {
            "skip": skip.range,
            "skip_zero_point": skip.zero_point,
            "to": out.range,
            "zero_point": out.zero_point,
            "rounding": profile.rounding,
            "each": profile.sum == "each",
        }
        ratios = (model.ratio(name), model.ratio(term_name(total)))
        if norm is not None and _is_dynamic(model, name) and rule.is_one_rounding:
            ratios = (model.ratio(f"{name}.wide"), *ratios)
            return DynamicResidual.build(w, bias, ratios, norm, requantization=rule.rounding, **constants)
        return norm and Residual.build(w, bias, ratios, norm, **constants) if _is_plain(bias) else None

    return model.once(total if norm_name else f"{total}.codes", build)


def _as_codes(y: NDArray[Any], dtype: np.dtype[Any]) -> Integers:
    return y.astype(dtype)


def rms_norm(model: Constants, name: str) -> Step | None:
    """Return the step from a sum's codes to those of the norm ``name``, where it is proved."""

    def build() -> Step | None:
        params, to = model.layer_norm_params(name), model.formats[name].range
        norm = carried_rms_norm(params, to=to, profile=model.profile)
        return norm and partial(in_blocks, partial(_carried, norm))

    return model.once(name, build)


def _carried(step: Step, x: Integers) -> Integers:
    return step(carried(x))


def multiply(model: Constants, name: str, factors: tuple[str, str]) -> Step | None:
    """Return the step from the codes of two factors, the activations ``factors``, to those of their product."""

    def build() -> Step | None:
        out = model.formats[name]
        if not isinstance(out.zero_point, int) or any(model.formats[factor].zero_point for factor in factors):
            return None
        target: dict[str, Any] = {"to": out.range, "zero_point": out.zero_point, "rounding": model.profile.rounding}
        scaled = Scaled.build(model.ratio(name), addend=np.zeros(1, np.int64), **target)
        return scaled and Product(scaled=scaled, to=out.range)

    return model.once(name, build)


def rotated(model: Constants, name: str) -> Step | None:
    """Return the step from what ``rotary`` gives to the codes ``name``."""

    def build() -> Step | None:
        out = model.formats[name]
        if not isinstance(out.zero_point, int):
            return None
        bounds: dict[str, Any] = {"acc_bound": np.array(1 << 16), "bias": np.array(0)}
        step = _codes(model, name, to=out.range, zero_point=out.zero_point, **bounds)
        return step and partial(in_blocks, step)

    return model.once(name, build)
