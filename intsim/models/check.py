# SPDX-License-Identifier: Apache-2.0
"""What is proved of an integer BERT before it runs: every tensor is there, and no operator can overflow."""

import math

import numpy as np

from intsim.carrier import Integers, magnitude
from intsim.errors import CheckpointError
from intsim.fixedpoint import INT32, UINT8, Dyadic, IntRange
from intsim.models.integer_model import IntegerModel
from intsim.ops import LayerNormParams

__all__ = ["check_bert"]

INT64_MAX = (1 << 63) - 1


def check_bert(model: IntegerModel) -> None:
    """Refuse a model whose tensors are missing or misshapen, or whose constants could overflow an operator.

    Raises
    ------
    CheckpointError
        Naming the tensor or the layer.
    """
    config, tensors = model.config, model.tensors
    channels, hidden = config["hidden_size"], config["intermediate_size"]
    names: set[str] = set()

    def tensor(name: str, dtype: str, *shapes: tuple[int, ...]) -> Integers:
        names.add(name)
        if name not in tensors:
            msg = f"integer checkpoint must hold tensor '{name}', got none of that name"
            raise CheckpointError(msg)
        values = tensors[name]
        if values.dtype != dtype or values.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            msg = f"tensor '{name}' must be {dtype} of shape {wanted}, got {values.dtype} of shape {values.shape}"
            raise CheckpointError(msg)
        return values

    def ratio(name: str, *shapes: tuple[int, ...]) -> Dyadic:
        multiplier = tensor(f"{name}.multiplier", "int64", *shapes)
        tensor(f"{name}.shift", "int64", multiplier.shape)
        try:
            return model.ratio(name)
        except ValueError as error:
            msg = f"dyadic '{name}' must be valid, got: {error}"
            raise CheckpointError(msg) from None

    def codes(name: str, *, symmetric: bool = False) -> IntRange:
        if name not in model.formats:
            msg = f"integer checkpoint must give activation '{name}' a format, got none"
            raise CheckpointError(msg)
        if symmetric and model.formats[name].zero_point != 0:
            msg = f"activation '{name}' must have zero point 0, got {model.formats[name].zero_point}"
            raise CheckpointError(msg)
        return model.formats[name].range

    def product(name: str, depth: int, x: IntRange, y: IntRange) -> None:
        if depth * _magnitude(x) * _magnitude(y) > INT32.max:
            msg = f"product '{name}' must keep its accumulator in int32, got {depth} products of {x} and {y}"
            raise CheckpointError(msg)

    def dense(name: str, rows: int, columns: int, x: IntRange) -> int:
        """Return a bound on the accumulator."""
        weight = tensor(f"{name}.weight", "int8", (rows, columns)).astype(np.int64)
        bias = tensor(f"{name}.bias", "int32", (rows,)).astype(np.int64)
        bound = int((_magnitude(x) * np.abs(weight).sum(axis=-1) + np.abs(bias)).max())
        if bound > INT32.max:
            msg = f"layer '{name}' must keep its accumulator in int32, got a bound of {bound}"
            raise CheckpointError(msg)
        return bound

    def total(name: str, *terms: tuple[int, Dyadic]) -> None:
        """Check sum_i |x_i| |m_i| + 2**(t-1) < 2**63."""
        if model.profile.sum == "once":
            if any((term.shift != terms[0][1].shift.flat[0]).any() for _, term in terms):
                msg = f"sum '{name}' must have one common shift, got several"
                raise CheckpointError(msg)
            _check_int64(name, *terms)
        if not np.can_cast(codes(name).dtype, np.int16):
            msg = f"activation '{name}' must have codes that fit int16 for LayerNorm, got {codes(name)}"
            raise CheckpointError(msg)

    def layer_norm(name: str) -> None:
        weight = ratio(name, (channels,))
        bias = tensor(f"{name}.bias", "int64", (channels,))
        eps = tensor(f"{name}.eps", "int64", ())
        try:
            LayerNormParams(weight=weight, bias=bias, eps=int(eps))
        except ValueError as error:
            msg = f"LayerNorm '{name}' must have valid constants, got: {error}"
            raise CheckpointError(msg) from None
        y_bound = (math.isqrt(3 * channels) + 1) << model.profile.layer_norm.output_fraction
        one = Dyadic(1, weight.shift.flat[0])
        _check_int64(name, (y_bound, weight), (_largest(bias), one))
        codes(name)

    def residual(name: str, columns: int, x: IntRange, skip: IntRange) -> None:
        acc = dense(f"{name}.dense", channels, columns, x)
        acc_ratio = ratio(f"{name}.dense", (), (channels,))
        skip_bound = 2 * _magnitude(skip)  # less its zero point
        total(f"{name}.sum", (acc, acc_ratio), (skip_bound, ratio(f"{name}.residual", ())))
        layer_norm(f"{name}.LayerNorm")

    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    operands: list[tuple[int, Dyadic]] = []
    for kind, size in tables.items():
        table = f"embeddings.{kind}_embeddings"
        tensor(f"{table}.weight", "int8", (config[size], channels))
        operands.append((1 << 7, ratio(table, (), (channels,))))
    total("embeddings.sum", *operands)
    layer_norm("embeddings.LayerNorm")
    x = codes("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        for part in ("query", "key", "value"):
            dense(f"{self}.{part}", channels, channels, x)
            ratio(f"{self}.{part}", (), (channels,))
        query, key, value = (codes(f"{self}.{part}", symmetric=True) for part in ("query", "key", "value"))
        product(f"{self}.scores", channels // config["num_attention_heads"], query, key)
        product(f"{self}.context", config["max_position_embeddings"], UINT8, value)
        if ratio(f"{self}.scores", ()).multiplier <= 0:
            msg = f"dyadic '{self}.scores' must be positive, got {tensors[f'{self}.scores.multiplier']}"
            raise CheckpointError(msg)
        ratio(f"{self}.context", ())
        residual(f"{layer}.attention.output", channels, codes(f"{self}.context"), x)
        x = codes(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", hidden, channels, x)
        ratio(f"{layer}.intermediate.dense", (), (hidden,))
        ratio(f"{layer}.intermediate", ())
        residual(f"{layer}.output", hidden, codes(f"{layer}.intermediate"), x)
        x = codes(f"{layer}.output.LayerNorm")
    if model.has_classifier:
        dense("pooler.dense", channels, channels, x)
        ratio("pooler.dense", (), (channels,))
        ratio("pooler", ())
        dense("classifier", len(config["labels"]), channels, codes("pooler"))
        ratio("classifier", (), (len(config["labels"]),))
        codes("classifier", symmetric=True)
    if unexpected := sorted(tensors.keys() - names):
        msg = f"integer checkpoint must hold the tensors of its model only, got '{unexpected[0]}'"
        raise CheckpointError(msg)
    if not model.has_classifier:
        codes(f"encoder.layer.{config['num_hidden_layers'] - 1}.output.LayerNorm", symmetric=True)


def _magnitude(codes: IntRange) -> int:
    """Return the bound that the operators take from the dtype."""
    return magnitude(np.empty(0, codes.dtype))


def _largest(x: Integers) -> int:
    return max(-int(x.min()), int(x.max()))


def _check_int64(name: str, *terms: tuple[int, Dyadic]) -> None:
    half = 1 << int(terms[0][1].shift.max()) >> 1
    bound = half + sum(x * _largest(ratio.multiplier) for x, ratio in terms)
    if bound > INT64_MAX:
        msg = f"'{name}' must keep its sum of products in int64, got a bound of {bound}"
        raise CheckpointError(msg)
