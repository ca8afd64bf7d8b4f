# SPDX-License-Identifier: Apache-2.0
"""ALBERT (Lan et al. 2020): layers that share their weights, and embeddings narrower than they are.

The weights of a group of layers are stored once. Where a group runs again its activations have ranges of their own, and
so have the constants between them: NAME@3 is the fourth use of the layer NAME.

Shapes: B batch, T tokens, C channels, E channels of the embeddings, F of the feed-forward network, V vocabulary.
"""

from dataclasses import dataclass
from typing import Final

from intsim.models.bert import BertConfig, embeddings
from intsim.models.config import Count, Size, refuse
from intsim.models.family import Family
from intsim.models.heads import head, word_table
from intsim.models.world import Function, Value, World

__all__ = ["ALBERT", "AlbertConfig", "albert"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlbertConfig(BertConfig):
    """The configuration of an ALBERT."""

    embedding_size: Size = 128
    num_hidden_groups: Size = 1
    inner_group_num: Count = 1
    hidden_act: Function = "gelu_new"

    def __post_init__(self) -> None:
        super(AlbertConfig, self).__post_init__()
        if self.num_hidden_groups > self.num_hidden_layers:
            refuse("num_hidden_groups", f"at most num_hidden_layers, {self.num_hidden_layers}", self.num_hidden_groups)


def albert(w: World, ids: Value, mask: Value, types: Value) -> Value:
    """Run an ALBERT."""
    c = w.config
    x = embeddings(w, ids, w.positions(ids), types, c.embedding_size)  # (B, T, E)
    n = "encoder.embedding_hidden_mapping_in"
    x = w.requantize(w.linear(n, w.read(f"{n}.input", x), c.hidden_size, role="attention"), role="norm")  # (B, T, C)
    for i in range(c.num_hidden_layers):
        group = i * c.num_hidden_groups // c.num_hidden_layers
        for inner in range(c.inner_group_num):
            n = f"encoder.albert_layer_groups.{group}.albert_layers.{inner}@{i}"
            a, skip = f"{n}.attention", x
            h = w.read(f"{a}.input", x)
            q, k, v = (w.linear(f"{a}.{p}", h, c.hidden_size, role="attention") for p in ("query", "key", "value"))
            x = w.attention(a, q, k, v, mask, heads=c.num_attention_heads)
            x = w.linear(f"{a}.dense", w.read(f"{a}.dense.input", x), c.hidden_size, role="attention")
            x = w.sum(f"{a}.sum", x, skip, role="residual.attention")
            x = skip = w.layer_norm(f"{a}.LayerNorm", x, eps=c.layer_norm_eps, role="ffn-input")
            x = w.linear(f"{n}.ffn", w.read(f"{n}.ffn.input", x), c.intermediate_size, role="ffn")
            x = w.activation(f"{n}.ffn.hidden", x, function=c.hidden_act, role="ffn-hidden")  # (B, T, F)
            x = w.linear(f"{n}.ffn_output", w.read(f"{n}.ffn_output.input", x), c.hidden_size, role="ffn")
            x = w.sum(f"{n}.sum", x, skip, role="residual.ffn")
            x = w.layer_norm(f"{n}.full_layer_layer_norm", x, eps=c.layer_norm_eps, role="norm")
    return head(w, x, classify=classify, predict=predict)


def classify(w: World, x: Value) -> Value:
    """Pool the first token and classify it: (B, T, C) -> (B, labels)."""
    x = w.linear("pooler", w.read("pooler.input", w.first(x)), w.config.hidden_size, role="head.dense")
    x = w.activation("pooler.output", x, function="tanh", role="head")
    return w.logits("classifier", w.read("classifier.input", x), len(w.config.labels))


def predict(w: World, x: Value) -> Value:
    """Return a score for every token of the vocabulary: (B, T, C) -> (B, T, V)."""
    c, n = w.config, "predictions"
    x = w.linear(f"{n}.dense", w.read(f"{n}.input", x), c.embedding_size, role="head.dense")
    x = w.activation(n, x, function=c.hidden_act, role="head")
    x = w.layer_norm(f"{n}.LayerNorm", x, eps=c.layer_norm_eps, role="head")  # (B, T, E)
    x = w.read(f"{n}.decoder.input", x)
    return w.logits(f"{n}.decoder", x, c.vocab_size, view=word_table(w, c.embedding_size), bias=f"{n}.bias")


ALBERT: Final = Family(forward=albert, config=AlbertConfig, architecture="Albert", prefix="albert.")
