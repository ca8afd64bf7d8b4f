# SPDX-License-Identifier: Apache-2.0
"""BERT on integers, in forward order (Devlin et al. 2019, post-LayerNorm).

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, F channels of the feed-forward layer. Names are
those of the Hugging Face checkpoint; ``.acc`` is the int32 accumulator of a product, ``.input`` what products read where
that is not the activation itself.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import call
from intsim.carrier import Carrier, Integers
from intsim.fixedpoint import INT16, INT32, IntRange
from intsim.models.integer_model import IntegerModel

__all__ = ["bert"]


class Operand(NamedTuple):
    """What a product reads: codes, and the bound they are relative to where that is found while running."""

    codes: Integers
    bound: Integers | None


class Sum(NamedTuple):
    """What is to be rescaled: terms of different scales, and an addend in units of their products."""

    terms: list[Integers]
    addend: Integers | None = None


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

    def zero_point(name: str) -> int | tuple[int, ...]:
        return model.formats[name].zero_point

    def centred(x: Integers, source: str) -> Integers:  # the codes of ``source`` less their zero point
        return x.astype(np.int32) - np.int32(model.formats[source].offset(x.shape[-1]))

    def into(name: str, x: Integers, to: IntRange | None) -> dict[str, Any]:  # our format, or a fixed one of the profile
        out = model.formats.get(name)
        if to is not None or out is None:
            return {"to": to, "zero_point": 0}
        return {"to": out.range, "zero_point": out.offset(x.shape[-1])}

    def rescale(name: str, x: Sum, to: IntRange | None = None) -> Integers:
        constants = into(name, x.terms[0], to)
        if len(x.terms) > 1:
            return call(name, ops.add, x.terms, model.ratios(name), profile=profile, **constants)
        if x.addend is not None:
            constants["addend"] = x.addend
        return call(name, ops.requantize, x.terms[0], model.ratio(name), rounding=profile.requantization, **constants)

    def read(name: str, x: Integers, source: str) -> Operand:  # what products take of ``source``: it, or fewer bits of it
        if (how := model.dynamic.get(name)) is not None:
            constants: dict[str, Any] = {"zero_point": zero_point(source)}
            tokens = mask if how.per == "sequence" else None
            bound = call(f"{name}.bound", ops.dynamic_bound, x, per=how.per, clip=how.clip, mask=tokens, **constants)
            constants |= {"unit": how.unit, "to": how.range, "rounding": profile.rounding}
            return Operand(call(name, ops.quantize_dynamic, x, bound, **constants), bound)
        if name in model.formats:
            return Operand(rescale(name, Sum([centred(x, source)])), None)
        return Operand(x, None)

    def product(name: str, x: Operand) -> Sum:  # (..., K) -> (..., N)
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if x.bound is not None:
            acc = call(f"{name}.acc", ops.matmul, x.codes, weight, carrier=carrier)
            return Sum([call(f"{name}.scaled", ops.scale_rows, acc, x.bound)], addend=bias)
        if bias.ndim == 1:
            return Sum([call(f"{name}.acc", ops.matmul, x.codes, weight, bias=bias, carrier=carrier)])
        size = weight.shape[1] // len(bias)  # a product for each group of input channels (Bondarenko et al., fig. 4)
        accs: list[Integers] = []
        for group, group_bias in enumerate(bias):
            part = slice(group * size, (group + 1) * size)
            operands = x.codes[..., part], weight[:, part]
            accs.append(call(f"{name}.acc.{group}", ops.matmul, *operands, bias=group_bias, carrier=carrier))
        return Sum(accs)

    def layer_norm(name: str, x: Integers, source: str) -> Integers:
        if model.formats[source].groups > 1:  # LayerNorm reads one scale
            x = rescale(f"{source}.wide", Sum([centred(x, source)]), INT16)
        params, to = model.layer_norm_params(name), model.formats[name].range
        return call(name, ops.layer_norm, x, params, to=to, profile=profile)

    def residual(name: str, x: Operand, skip: Integers, source: str) -> Integers:  # LayerNorm of dense(x) + skip
        dense = product(f"{name}.dense", x)
        if dense.addend is not None:
            dense = Sum([rescale(f"{name}.dense.wide", dense, INT32)])
        ratios = [*model.ratios(f"{name}.dense"), model.ratio(f"{name}.residual")]
        terms = [*dense.terms, centred(skip, source)]
        total = call(f"{name}.sum", ops.add, terms, ratios, profile=profile, **into(f"{name}.sum", skip, None))
        return layer_norm(f"{name}.LayerNorm", total, f"{name}.sum")

    def heads(x: Integers) -> Integers:  # (B, T, C) -> (B, H, T, D)
        return x.reshape(*x.shape[:2], model.config["num_attention_heads"], -1).swapaxes(1, 2)

    tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
    ids: list[Integers] = [input_ids, np.arange(input_ids.shape[1], like=input_ids), token_type_ids]
    parts = [  # (B, T, C), but (T, C) for positions
        call(table, ops.embedding, rows, tensors[f"{table}.weight"]) for table, rows in zip(tables, ids, strict=True)
    ]
    ratios = [model.ratio(table) for table in tables]
    x = call("embeddings.sum", ops.add, parts, ratios, profile=profile, **into("embeddings.sum", parts[0], None))
    x, source = layer_norm("embeddings.LayerNorm", x, "embeddings.sum"), "embeddings.LayerNorm"

    for i in range(model.config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        hidden = read(f"{self}.input", x, source)
        query = heads(rescale(f"{self}.query", product(f"{self}.query", hidden)))  # (B, H, T, D)
        key = heads(rescale(f"{self}.key", product(f"{self}.key", hidden)))
        value = heads(rescale(f"{self}.value", product(f"{self}.value", hidden)))
        zero_points = {"x_zero_point": zero_point(f"{self}.query"), "w_zero_point": zero_point(f"{self}.key")}
        scores = call(f"{self}.scores.acc", ops.matmul, query, key, carrier=carrier, **zero_points)  # (B, H, T, T)
        ratio = model.ratio(f"{self}.scores")
        probs = call(f"{self}.probs", ops.softmax, scores, ratio, profile=profile, mask=mask[:, None, None, :])
        value = value.swapaxes(-1, -2)
        zero_points = {"w_zero_point": zero_point(f"{self}.value")}
        context = call(f"{self}.context.acc", ops.matmul, probs, value, carrier=carrier, **zero_points)
        context = context.swapaxes(1, 2).reshape(x.shape)  # (B, H, T, D) -> (B, T, C)
        context = rescale(f"{self}.context", Sum([context]))
        output = f"{layer}.attention.output"
        x = residual(output, read(f"{output}.input", context, f"{self}.context"), x, source)  # (B, T, C)
        source = f"{output}.LayerNorm"

        hidden = product(f"{layer}.intermediate.dense", read(f"{layer}.intermediate.input", x, source))  # (B, T, F)
        relu = model.config["hidden_act"] == "relu"
        hidden = rescale(f"{layer}.intermediate.dense", hidden, INT16 if relu else profile.gelu.input_range)
        if relu:
            hidden = call(f"{layer}.intermediate.relu", ops.relu, hidden)
        else:  # gelu_new differs from gelu by at most 5e-4, i-GELU by thirty times that
            hidden = call(f"{layer}.intermediate.gelu", ops.gelu, hidden, profile=profile)
        hidden = rescale(f"{layer}.intermediate", Sum([hidden]))
        output = f"{layer}.output"
        x = residual(output, read(f"{output}.input", hidden, f"{layer}.intermediate"), x, source)  # (B, T, C)
        source = f"{output}.LayerNorm"

    if not model.has_classifier:
        return call("last_hidden_state", ops.permute, x, tensors["order"]) if "order" in tensors else x
    first = rescale("pooler.dense", product("pooler.dense", read("pooler.input", x[:, 0], source)), INT16)  # (B, C)
    pooled = rescale("pooler", Sum([call("pooler.tanh", ops.tanh, first, profile=profile)]))
    return rescale("classifier", product("classifier", read("classifier.input", pooled, "pooler")))  # (B, labels)
