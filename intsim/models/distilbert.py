# SPDX-License-Identifier: Apache-2.0
"""DistilBERT (Sanh et al. 2019): a BERT of half the layers, without segments and pooler, under names of its own.

Shapes: B batch, T tokens, C channels, F channels of the feed-forward network, V vocabulary.
"""

from dataclasses import dataclass
from typing import Final

from intsim.models.config import Config, Count, Size, refuse
from intsim.models.family import Family
from intsim.models.heads import head, word_table
from intsim.models.world import Function, Value, World

__all__ = ["DISTILBERT", "DistilBertConfig", "distilbert"]

EPS: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilBertConfig(Config):
    """The configuration of a DistilBERT."""

    dim: Size
    n_layers: Count
    n_heads: Size
    hidden_dim: Size
    activation: Function = "gelu"
    type_vocab_size: Size = 2
    """Its tokenizers mark the second text of a pair, and it does not look at the marks."""

    def __post_init__(self) -> None:
        super(DistilBertConfig, self).__post_init__()
        if self.dim % self.n_heads:
            refuse("dim", f"a multiple of n_heads, {self.n_heads}", self.dim)


def distilbert(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a DistilBERT."""
    c = w.config
    words = w.embedding("embeddings.word_embeddings", ids, c.vocab_size, c.dim, role="embedding.word")
    places = w.embedding(
        "embeddings.position_embeddings", w.positions(ids), c.max_position_embeddings, c.dim, role="embedding.position"
    )
    x = w.sum("embeddings.sum", words, places, role="embedding")
    x = w.layer_norm("embeddings.LayerNorm", x, eps=EPS, role="norm")
    for n in (f"transformer.layer.{i}" for i in range(c.n_layers)):
        a, skip = f"{n}.attention", x
        h = w.read(f"{a}.input", x)
        q, k, v = (w.linear(f"{a}.{p}_lin", h, c.dim, role="attention") for p in "qkv")
        x = w.attention(a, q, k, v, mask, heads=c.n_heads)
        x = w.linear(f"{a}.out_lin", w.read(f"{a}.out_lin.input", x), c.dim, role="attention")
        x = w.sum(f"{a}.sum", x, skip, role="residual.attention")
        x = skip = w.layer_norm(f"{n}.sa_layer_norm", x, eps=EPS, role="ffn-input")
        x = w.linear(f"{n}.ffn.lin1", w.read(f"{n}.ffn.lin1.input", x), c.hidden_dim, role="ffn")
        x = w.activation(f"{n}.ffn", x, function=c.activation, role="ffn-hidden")  # (B, T, F)
        x = w.linear(f"{n}.ffn.lin2", w.read(f"{n}.ffn.lin2.input", x), c.dim, role="ffn")
        x = w.sum(f"{n}.ffn.sum", x, skip, role="residual.ffn")
        x = w.layer_norm(f"{n}.output_layer_norm", x, eps=EPS, role="norm")
    return head(w, x, classify=classify, predict=predict)


def classify(w: World, x: Value) -> Value:
    """Classify the first token: (B, T, C) -> (B, labels)."""
    x = w.linear("pre_classifier", w.read("pre_classifier.input", w.first(x)), w.config.dim, role="head.dense")
    x = w.activation("pre_classifier.output", x, function="relu", role="head")
    return w.logits("classifier", w.read("classifier.input", x), len(w.config.labels))


def predict(w: World, x: Value) -> Value:
    """Return a score for every token of the vocabulary: (B, T, C) -> (B, T, V)."""
    c = w.config
    x = w.linear("vocab_transform", w.read("vocab_transform.input", x), c.dim, role="head.dense")
    x = w.activation("vocab_transform.output", x, function=c.activation, role="head")
    x = w.layer_norm("vocab_layer_norm", x, eps=EPS, role="head")
    x = w.read("vocab_projector.input", x)
    return w.logits("vocab_projector", x, c.vocab_size, view=word_table(w, c.dim))


DISTILBERT: Final = Family(forward=distilbert, config=DistilBertConfig, architecture="DistilBert", prefix="distilbert.")
