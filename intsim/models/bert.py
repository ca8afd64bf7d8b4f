# SPDX-License-Identifier: Apache-2.0
"""BERT on integers, in forward order (Devlin et al. 2019, post-LayerNorm).

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, F channels of the feed-forward layer. Names are
those of the Hugging Face checkpoint; ``.acc`` is the int32 accumulator of a product.
"""

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import call
from intsim.carrier import Carrier, Integers
from intsim.fixedpoint import INT16, Dyadic, IntRange
from intsim.models.integer_model import IntegerModel

__all__ = ["bert"]


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

    def residual(name: str, x: Integers, skip: Integers, skip_zero_point: int) -> Integers:
        acc = product(f"{name}.dense", x)
        skip = skip.astype(np.int32) - np.int32(skip_zero_point)
        ratios = [model.ratio(f"{name}.dense"), model.ratio(f"{name}.residual")]
        return layer_norm(f"{name}.LayerNorm", add(f"{name}.sum", [acc, skip], ratios))  # of dense(x) + skip

    def heads(x: Integers) -> Integers:  # (B, T, C) -> (B, H, T, D)
        return x.reshape(*x.shape[:2], model.config["num_attention_heads"], -1).swapaxes(1, 2)

    tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
    ids: list[Integers] = [input_ids, np.arange(input_ids.shape[1], like=input_ids), token_type_ids]
    parts = [  # (B, T, C), but (T, C) for positions
        call(table, ops.embedding, rows, tensors[f"{table}.weight"]) for table, rows in zip(tables, ids, strict=True)
    ]
    x = add("embeddings.sum", parts, [model.ratio(table) for table in tables])
    x = layer_norm("embeddings.LayerNorm", x)
    zero_point = model.formats["embeddings.LayerNorm"].zero_point

    for i in range(model.config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        query = heads(rescale(f"{self}.query", product(f"{self}.query", x)))  # (B, H, T, D)
        key = heads(rescale(f"{self}.key", product(f"{self}.key", x)))
        value = heads(rescale(f"{self}.value", product(f"{self}.value", x)))
        scores = call(f"{self}.scores.acc", ops.matmul, query, key, carrier=carrier)  # (B, H, T, T)
        ratio = model.ratio(f"{self}.scores")
        probs = call(f"{self}.probs", ops.softmax, scores, ratio, profile=profile, mask=mask[:, None, None, :])
        context = call(f"{self}.context.acc", ops.matmul, probs, value.swapaxes(-1, -2), carrier=carrier)
        context = context.swapaxes(1, 2).reshape(x.shape)  # (B, H, T, D) -> (B, T, C)
        context = rescale(f"{self}.context", context)
        x = residual(f"{layer}.attention.output", context, x, zero_point)
        zero_point = model.formats[f"{layer}.attention.output.LayerNorm"].zero_point

        hidden = product(f"{layer}.intermediate.dense", x)  # (B, T, F)
        hidden = rescale(f"{layer}.intermediate.dense", hidden, INT16)
        if model.config["hidden_act"] == "relu":
            hidden = call(f"{layer}.intermediate.relu", ops.relu, hidden)
        else:  # gelu_new differs from gelu by at most 5e-4, i-GELU by thirty times that
            hidden = call(f"{layer}.intermediate.gelu", ops.gelu, hidden, profile=profile)
        hidden = rescale(f"{layer}.intermediate", hidden)
        x = residual(f"{layer}.output", hidden, x, zero_point)  # (B, T, C)
        zero_point = model.formats[f"{layer}.output.LayerNorm"].zero_point

    if not model.has_classifier:
        return x
    first = rescale("pooler.dense", product("pooler.dense", x[:, 0]), INT16)  # (B, C)
    pooled = rescale("pooler", call("pooler.tanh", ops.tanh, first, profile=profile))
    return rescale("classifier", product("classifier", pooled))  # (B, labels)
