# SPDX-License-Identifier: Apache-2.0
"""BERT in floating point, in forward order (Devlin et al. 2019): the twin of ``intsim.models.bert``.

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, F channels of the feed-forward layer.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.reference.ops.embedding import embedding
from intsim.reference.ops.gelu import gelu, gelu_new
from intsim.reference.ops.layer_norm import layer_norm
from intsim.reference.ops.matmul import matmul
from intsim.reference.ops.relu import relu
from intsim.reference.ops.softmax import softmax
from intsim.reference.ops.tanh import tanh

__all__ = ["ACTIVATIONS", "Observer", "bert"]

Array: TypeAlias = NDArray[np.floating]
Observer: TypeAlias = Callable[[str, Array], Array]

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_new,
    "relu": relu,
}


def _unchanged(_name: str, x: Array) -> Array:
    return x


def bert(
    weights: Mapping[str, Array],
    input_ids: NDArray[np.integer],
    *,
    num_heads: int,
    num_layers: int,
    hidden_act: str,
    eps: float,
    attention_mask: NDArray[np.bool_],
    token_type_ids: NDArray[np.integer],
    observe: Observer = _unchanged,
    read: Observer = _unchanged,
) -> Array:
    """Run the encoder, and the pooler and classifier where ``weights`` has them.

    Parameters
    ----------
    weights
        Hugging Face tensors without the ``bert.`` prefix, all of one float dtype, which is the dtype of the arithmetic.
    input_ids, token_type_ids
        (B, T) token ids and segment ids.
    num_heads, num_layers, hidden_act, eps
        ``num_attention_heads``, ``num_hidden_layers``, ``hidden_act`` and ``layer_norm_eps`` of config.json.
    attention_mask
        (B, T), true where there is a token.
    observe
        Called with the name and the value of every activation; what it returns is used in its place.
    read
        The same for what products of a weight read: an activation, before it is read.

    Returns
    -------
    ndarray
        Logits (B, labels) where there is a classifier, else the last hidden state (B, T, C).
    """

    def linear(name: str, x: Array) -> Array:
        return matmul(x, weights[f"{name}.weight"], bias=weights[f"{name}.bias"])

    def norm(name: str, x: Array) -> Array:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return observe(name, layer_norm(x, weight=weight, bias=bias, eps=eps))

    def heads(x: Array) -> Array:  # (B, T, C) -> (B, H, T, D)
        return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)

    words = embedding(input_ids, weights["embeddings.word_embeddings.weight"])
    positions = weights["embeddings.position_embeddings.weight"][: input_ids.shape[1]]
    types = embedding(token_type_ids, weights["embeddings.token_type_embeddings.weight"])
    x = observe("embeddings.sum", words + positions + types)  # (B, T, C)
    x = norm("embeddings.LayerNorm", x)

    for i in range(num_layers):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        hidden = read(f"{self}.input", x)
        query = heads(observe(f"{self}.query", linear(f"{self}.query", hidden)))  # (B, H, T, D)
        key = heads(observe(f"{self}.key", linear(f"{self}.key", hidden)))
        value = heads(observe(f"{self}.value", linear(f"{self}.value", hidden)))
        scores = observe(f"{self}.scores", matmul(query, key) / math.sqrt(query.shape[-1]))  # (B, H, T, T)
        probs = observe(f"{self}.probs", softmax(scores, mask=attention_mask[:, None, None, :]))
        context = matmul(probs, value.swapaxes(-1, -2)).swapaxes(1, 2).reshape(x.shape)  # (B, T, C)
        context = observe(f"{self}.context", context)

        output = f"{layer}.attention.output"
        dense = linear(f"{output}.dense", read(f"{output}.input", context))
        x = norm(f"{output}.LayerNorm", observe(f"{output}.sum", dense + x))

        name = f"{layer}.intermediate"
        hidden = observe(f"{name}.dense", linear(f"{name}.dense", read(f"{name}.input", x)))  # (B, T, F)
        hidden = observe(name, ACTIVATIONS[hidden_act](hidden))
        output = f"{layer}.output"
        dense = linear(f"{output}.dense", read(f"{output}.input", hidden))  # (B, T, C)
        x = norm(f"{output}.LayerNorm", observe(f"{output}.sum", dense + x))

    if "classifier.weight" not in weights:
        return x
    first = linear("pooler.dense", read("pooler.input", x[:, 0]))  # (B, C)
    pooled = observe("pooler", tanh(observe("pooler.dense", first)))
    return observe("classifier", linear("classifier", read("classifier.input", pooled)))  # (B, labels)
