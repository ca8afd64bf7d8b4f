# SPDX-License-Identifier: Apache-2.0
"""BERT on integers, in forward order (Devlin et al. 2019, post-LayerNorm).

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, F channels of the feed-forward layer. Names are
those of the Hugging Face checkpoint; ``.acc`` is the int32 accumulator of a product, ``.input`` what a product reads
where that is not the activation itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import call, observed
from intsim.carrier.blocks import in_blocks, is_alone, one_thread
from intsim.carrier.exact import Carrier, Integers, on_integers
from intsim.fixedpoint import INT16, INT32, IntRange
from intsim.models import fused
from intsim.models.integer_model import IntegerModel

__all__ = ["bert"]

BLOCK: Final = 1024  # tokens at a time
SCORES: Final = 1 << 17  # scores at a time


class Operand(NamedTuple):
    """What a product reads: codes, their range, and the bound they are relative to, where it is found while running."""

    codes: Integers
    range: IntRange
    bound: Integers | None = None

    @property
    def arrays(self) -> tuple[Integers, ...]:
        """What there is of codes and bound."""
        return (self.codes,) if self.bound is None else (self.codes, self.bound)


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
    whole = observed() or on_integers(carrier)
    if not whole and len(input_ids) > 1 and not is_alone():  # sequences never depend on each other

        @one_thread()
        def run(*sequences: Any) -> Integers:
            return bert(model, sequences[0], mask=sequences[1], token_type_ids=sequences[2], carrier=carrier)

        return in_blocks(run, input_ids, mask, token_type_ids, rows=max(1, BLOCK // input_ids.shape[1]))

    # Tokens depend on each other only by what attention reads of them, and where a range is found per sequence.
    spread = not whole and len(input_ids) == 1 and not any(how.per == "sequence" for how in model.dynamic.values())
    if spread:
        input_ids, mask, token_type_ids = input_ids[0], mask[0], token_type_ids[0]
    profile, tensors = model.profile, model.tensors
    relu = model.config["hidden_act"] == "relu"

    def zero_point(name: str) -> int | tuple[int, ...]:
        return model.formats[name].zero_point

    def nonzero(**names: str) -> dict[str, Any]:  # constant -> the zero point of an activation
        return {constant: value for constant, name in names.items() if (value := zero_point(name))}

    def centred(x: Integers, source: str) -> Integers:  # the codes of ``source`` less their zero point
        return x.astype(np.int32) - np.int32(model.formats[source].offset(x.shape[-1]))

    def into(name: str, x: Integers, to: IntRange | None) -> dict[str, Any]:  # a fixed format of the profile, or ours
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

    def read(  # what products take of ``source``: it, or fewer bits of it
        name: str, x: Integers, source: str, tokens: NDArray[np.bool_] | None = None
    ) -> Operand:
        if (how := model.dynamic.get(name)) is not None:
            constants: dict[str, Any] = {"zero_point": zero_point(source)}
            kept = tokens[:, 0] if spread and tokens is not None else tokens
            bound = call(f"{name}.bound", ops.dynamic_bound, x, per=how.per, clip=how.clip, mask=kept, **constants)
            constants |= {"unit": how.unit, "to": how.range, "rounding": profile.rounding}
            return Operand(call(name, ops.quantize_dynamic, x, bound, **constants), how.range, bound)
        if name in model.formats:  # codes of fewer bits
            return Operand(rescale(name, Sum([centred(x, source)])), model.formats[name].range)
        return Operand(x, model.formats[source].range)

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

    def dense(name: str, x: Operand) -> Integers:
        if not whole and (step := fused.dense(model, name, x.range)) is not None:
            return step(*x.arrays)
        return rescale(name, product(name, x))

    def residual(name: str, x: Operand, skip: Integers, source: str) -> Integers:  # LayerNorm of dense(x) + skip
        if not whole and (step := fused.dense_residual(model, name, source)) is not None:
            return step(*x.arrays, skip)
        dense = product(f"{name}.dense", x)
        if dense.addend is not None:
            dense = Sum([rescale(f"{name}.dense.wide", dense, INT32)])
        ratios = [*model.ratios(f"{name}.dense"), model.ratio(f"{name}.residual")]
        terms = [*dense.terms, centred(skip, source)]
        total = call(f"{name}.sum", ops.add, terms, ratios, profile=profile, **into(f"{name}.sum", skip, None))
        return layer_norm(f"{name}.LayerNorm", total, f"{name}.sum")

    def heads(x: Integers) -> Integers:  # (..., T, C) -> (..., H, T, D)
        return x.reshape(*x.shape[:-1], model.config["num_attention_heads"], -1).swapaxes(-3, -2)

    def joined(x: Integers) -> Integers:  # (..., H, T, D) -> (..., T, C)
        x = x.swapaxes(-3, -2)
        return x.reshape(*x.shape[:-2], -1)

    def embed(*ids: Integers) -> Integers:  # word, position and segment: (..., T), or (T,) -> (..., T, C)
        tables = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
        parts = [
            call(table, ops.embedding, rows, tensors[f"{table}.weight"])
            for table, rows in zip(tables, ids, strict=True)
        ]
        ratios = [model.ratio(table) for table in tables]
        x = call("embeddings.sum", ops.add, parts, ratios, profile=profile, **into("embeddings.sum", parts[0], None))
        return layer_norm("embeddings.LayerNorm", x, "embeddings.sum")

    def project(  # (..., T, C) -> query, key, value
        layer: str, source: str, x: Integers, tokens: NDArray[np.bool_]
    ) -> tuple[Integers, ...]:
        self = f"{layer}.attention.self"
        hidden = read(f"{self}.input", x, source, tokens)
        return tuple(dense(f"{self}.{part}", hidden) for part in ("query", "key", "value"))

    def attend(layer: str, query: Integers, key: Integers, value: Integers) -> Integers:  # (..., T, C)
        self, keep = f"{layer}.attention.self", mask[..., None, None, :]
        query, key, value = heads(query), heads(key), heads(value)
        if not whole and (step := fused.attention(model, layer)) is not None:
            at_once = max(1, SCORES // (query.shape[-2] * key.shape[-2]))
            return joined(in_blocks(step, query, key, value, keep, core=2, rows=at_once))
        zero_points = nonzero(x_zero_point=f"{self}.query", w_zero_point=f"{self}.key")
        scores = call(f"{self}.scores.acc", ops.matmul, query, key, carrier=carrier, **zero_points)  # (..., H, T, T)
        probs = call(f"{self}.probs", ops.softmax, scores, model.ratio(f"{self}.scores"), profile=profile, mask=keep)
        value, zero_points = value.swapaxes(-1, -2), nonzero(w_zero_point=f"{self}.value")
        context = call(f"{self}.context.acc", ops.matmul, probs, value, carrier=carrier, **zero_points)
        return rescale(f"{self}.context", Sum([joined(context)]))

    def activate(layer: str, hidden: Integers) -> Integers:  # of the rule's format -> codes
        if relu:
            hidden = call(f"{layer}.intermediate.relu", ops.relu, hidden)
        else:  # gelu_new differs from gelu by at most 5e-4, i-GELU by thirty times that
            hidden = call(f"{layer}.intermediate.gelu", ops.gelu, hidden, profile=profile)
        return rescale(f"{layer}.intermediate", Sum([hidden]))

    def expand(layer: str, x: Operand) -> Integers:  # (..., T, C) -> (..., T, F)
        name, function = f"{layer}.intermediate.dense", partial(activate, layer)
        if not whole and (step := fused.dense_activated(model, name, x.range, function)) is not None:
            return step(*x.arrays)
        return function(rescale(name, product(name, x), INT16 if relu else profile.gelu.input_range))

    def encode(  # (..., T, C); of all tokens ``key`` and ``value`` alone
        layer: str,
        source: str,
        key: Integers,
        value: Integers,
        query: Integers,
        x: Integers,
        tokens: NDArray[np.bool_],
    ) -> Integers:
        context = attend(layer, query, key, value)
        output = f"{layer}.attention.output"
        context_read = read(f"{output}.input", context, f"{layer}.attention.self.context", tokens)
        x, source = residual(output, context_read, x, source), f"{output}.LayerNorm"
        hidden = expand(layer, read(f"{layer}.intermediate.input", x, source, tokens))
        output = f"{layer}.output"
        return residual(output, read(f"{output}.input", hidden, f"{layer}.intermediate", tokens), x, source)

    of_tokens: Callable[..., Any] = partial(in_blocks, rows=BLOCK) if spread else _whole
    positions: Integers = np.arange(input_ids.shape[-1], dtype=np.int64, like=input_ids)
    x, source = of_tokens(embed, input_ids, positions, token_type_ids, core=0), "embeddings.LayerNorm"
    tokens = mask[:, None] if spread else mask
    for i in range(model.config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        query, key, value = of_tokens(partial(project, layer, source), x, tokens)
        x = of_tokens(partial(encode, layer, source, key, value), query, x, tokens)
        source = f"{layer}.output.LayerNorm"
    if spread:
        x = x[None]

    if not model.has_classifier:
        return call("last_hidden_state", ops.permute, x, tensors["order"]) if "order" in tensors else x
    pooled = rescale("pooler.dense", product("pooler.dense", read("pooler.input", x[:, 0], source)), INT16)  # (B, C)
    pooled = rescale("pooler", Sum([call("pooler.tanh", ops.tanh, pooled, profile=profile)]))
    return rescale("classifier", product("classifier", read("classifier.input", pooled, "pooler")))  # (B, labels)


def _whole(function: Callable[..., Any], *arrays: Any, **_blocks: int) -> Any:
    return function(*arrays)
