# SPDX-License-Identifier: Apache-2.0
"""BERT on integers, in forward order (Devlin et al. 2019, post-LayerNorm).

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, F channels of the feed-forward layer. Names are
those of the Hugging Face checkpoint; ``.acc`` is the int32 accumulator of a product.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import call, observed
from intsim.blocks import in_blocks
from intsim.carrier import Carrier, Integers, on_integers
from intsim.fixedpoint import INT16, Dyadic, IntRange
from intsim.models import fused
from intsim.models.integer_model import IntegerModel

__all__ = ["bert"]

BLOCK: Final = 512  # tokens at a time
SCORES: Final = 1 << 16  # scores at a time


def bert(
    model: IntegerModel,
    input_ids: Integers,
    *,
    mask: NDArray[np.bool_],
    token_type_ids: Integers,
    carrier: Carrier = "auto",
) -> Integers:
    """Run the encoder, and the pooler and classifier where the model has them.

    Parameters
    ----------
    model
        Integer tensors, formats and profile.
    input_ids, mask, token_type_ids
        (B, T); ``mask`` is true where there is a token.
    carrier
        Of the matrix products.

    Returns
    -------
    ndarray
        Logits (B, labels) int32, or the last hidden state (B, T, C) in the format of the last LayerNorm.
    """
    profile, tensors = model.profile, model.tensors

    def product(name: str, x: Integers) -> Integers:  # (..., K) -> (..., N)
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return call(f"{name}.acc", ops.matmul, x, weight, bias=bias, carrier=carrier)

    def rescale(name: str, x: Integers, to: IntRange | None = None) -> Integers:
        ratio, rounding = model.ratio(name), profile.requantization
        if to is not None:  # a fixed format of the profile
            return call(name, ops.requantize, x, ratio, to=to, rounding=rounding)
        out = model.formats[name]
        return call(name, ops.requantize, x, ratio, to=out.range, rounding=rounding, zero_point=out.zero_point)

    def add(name: str, operands: list[Integers], ratios: list[Dyadic]) -> Integers:
        out = model.formats[name]
        return call(name, ops.add, operands, ratios, to=out.range, profile=profile, zero_point=out.zero_point)

    def layer_norm(name: str, x: Integers) -> Integers:
        params, to = model.layer_norm_params(name), model.formats[name].range
        return call(name, ops.layer_norm, x, params, to=to, profile=profile)

    def dense(name: str, x: Integers, x_name: str) -> Integers:
        out = model.formats[name]
        if not whole and (step := fused.dense(model, name, model.formats[x_name].range, out.range, out.zero_point)):
            return step(x)
        return rescale(name, product(name, x))

    def residual(name: str, x: Integers, skip: Integers, skip_name: str) -> Integers:  # of dense(x) + skip
        skipped = model.formats[skip_name]
        if not whole and (step := fused.dense_residual(model, name, skipped.range, skipped.zero_point)):
            return step(x, skip)
        acc = product(f"{name}.dense", x)
        skip = skip.astype(np.int32) - np.int32(skipped.zero_point)
        ratios = [model.ratio(f"{name}.dense"), model.ratio(f"{name}.residual")]
        return layer_norm(f"{name}.LayerNorm", add(f"{name}.sum", [acc, skip], ratios))

    def heads(x: Integers) -> Integers:  # (B, T, C) -> (B, H, T, D)
        return x.reshape(*x.shape[:2], model.config["num_attention_heads"], -1).swapaxes(1, 2)

    def joined(x: Integers) -> Integers:  # (B, H, T, D) -> (B, T, C)
        return x.swapaxes(1, 2).reshape(*input_ids.shape, -1)

    def embed(*ids: Integers) -> Integers:  # word, position and segment: (B, T), or (T,) -> (B, T, C)
        tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
        parts = [
            call(table, ops.embedding, rows, tensors[f"{table}.weight"])
            for table, rows in zip(tables, ids, strict=True)
        ]
        x = add("embeddings.sum", parts, [model.ratio(table) for table in tables])
        return layer_norm("embeddings.LayerNorm", x)

    def project(layer: str, x_name: str, x: Integers) -> tuple[Integers, ...]:  # (B, T, C) -> query, key, value
        return tuple(dense(f"{layer}.attention.self.{part}", x, x_name) for part in ("query", "key", "value"))

    def attend(layer: str, query: Integers, key: Integers, value: Integers) -> Integers:  # (B, T, C)
        self, keep = f"{layer}.attention.self", mask[:, None, None, :]
        if not whole and (step := fused.attention(model, layer)):
            at_once = max(1, SCORES // input_ids.shape[1] ** 2)
            return joined(in_blocks(step, query, key, value, keep, core=2, rows=at_once))
        scores = call(f"{self}.scores.acc", ops.matmul, query, key, carrier=carrier)  # (B, H, T, T)
        ratio = model.ratio(f"{self}.scores")
        probs = call(f"{self}.probs", ops.softmax, scores, ratio, profile=profile, mask=keep)
        context = call(f"{self}.context.acc", ops.matmul, probs, value.swapaxes(-1, -2), carrier=carrier)
        return rescale(f"{self}.context", joined(context))

    def activate(layer: str, hidden: Integers) -> Integers:  # int16 -> codes
        if model.config["hidden_act"] == "relu":
            hidden = call(f"{layer}.intermediate.relu", ops.relu, hidden)
        else:  # gelu_new differs from gelu by at most 5e-4, i-GELU by thirty times that
            hidden = call(f"{layer}.intermediate.gelu", ops.gelu, hidden, profile=profile)
        return rescale(f"{layer}.intermediate", hidden)

    def expand(layer: str, x: Integers, x_name: str) -> Integers:  # (B, T, C) -> (B, T, F)
        name, function = f"{layer}.intermediate.dense", partial(activate, layer)
        if not whole and (step := fused.dense_activated(model, name, model.formats[x_name].range, function)):
            return step(x)
        return function(rescale(name, product(name, x), INT16))

    def feed_forward(layer: str, x_name: str, context: Integers, x: Integers) -> Integers:  # (B, T, C)
        x = residual(f"{layer}.attention.output", context, x, x_name)
        x_name = f"{layer}.attention.output.LayerNorm"
        return residual(f"{layer}.output", expand(layer, x, x_name), x, x_name)

    # Tokens depend on each other in attention only, and heads never do: each step runs in blocks, spread over threads,
    # unless somebody looks at its intermediates.
    whole = observed() or on_integers(carrier)
    spread = _whole if whole else in_blocks
    x = spread(embed, input_ids, np.arange(input_ids.shape[1]), token_type_ids, core=0, rows=BLOCK)
    x_name = "embeddings.LayerNorm"
    for i in range(model.config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        query, key, value = map(heads, spread(partial(project, layer, x_name), x, rows=BLOCK))
        context = attend(layer, query, key, value)
        x = spread(partial(feed_forward, layer, x_name), context, x, rows=BLOCK)
        x_name = f"{layer}.output.LayerNorm"

    if not model.has_classifier:
        return x
    first = rescale("pooler.dense", product("pooler.dense", x[:, 0]), INT16)  # (B, C)
    pooled = rescale("pooler", call("pooler.tanh", ops.tanh, first, profile=profile))
    return rescale("classifier", product("classifier", pooled))  # (B, labels)


def _whole(function: Callable[..., Any], *arrays: Any, **_blocks: int) -> Any:
    return function(*arrays)
