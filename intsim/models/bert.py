# SPDX-License-Identifier: Apache-2.0
"""BERT (Devlin et al. 2019), TinyBERT included; its encoder and head serve others.

Shapes: B batch, T tokens, C channels, F channels of the feed-forward network, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from intsim.models.config import Config, Count, Real, Size, refuse
from intsim.models.family import Family
from intsim.models.heads import head, word_table
from intsim.models.world import Function, Value, World

__all__ = ["BERT", "BertConfig", "bert", "classify", "embeddings", "encoder", "predict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig(Config):
    """The configuration of a BERT."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    }

    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Size
    intermediate_size: Size
    type_vocab_size: Size = 2
    hidden_act: Function = "gelu"
    layer_norm_eps: Real = 1e-12

    def __post_init__(self) -> None:
        super(BertConfig, self).__post_init__()
        if self.hidden_size % self.num_attention_heads:
            refuse("hidden_size", f"a multiple of num_attention_heads, {self.num_attention_heads}", self.hidden_size)


def bert(w: World, ids: Value, mask: Value, types: Value) -> Value:
    """Run a BERT."""
    x = embeddings(w, ids, w.positions(ids), types, w.config.hidden_size)
    return head(w, encoder(w, x, mask), classify=classify, predict=predict)


def embeddings(w: World, ids: Value, positions: Value, types: Value, size: int) -> Value:
    """Return LayerNorm of the sum of words, positions and segments: (B, T) -> (B, T, ``size``)."""
    c = w.config
    words = w.embedding("embeddings.word_embeddings", ids, c.vocab_size, size, role="embedding.word")
    places = w.embedding(
        "embeddings.position_embeddings", positions, c.max_position_embeddings, size, role="embedding.position"
    )
    kinds = w.embedding("embeddings.token_type_embeddings", types, c.type_vocab_size, size, role="embedding.type")
    x = w.sum("embeddings.sum", words, places, kinds, role="embedding")
    return w.layer_norm("embeddings.LayerNorm", x, eps=c.layer_norm_eps, role="norm")


def encoder(w: World, x: Value, mask: Value) -> Value:
    """Run the layers: (B, T, C) -> (B, T, C)."""
    c = w.config
    for n in (f"encoder.layer.{i}" for i in range(c.num_hidden_layers)):
        a, skip = f"{n}.attention", x
        h = w.read(f"{a}.self.input", x)
        q, k, v = (w.linear(f"{a}.self.{p}", h, c.hidden_size, role="attention") for p in ("query", "key", "value"))
        x = w.attention(f"{a}.self", q, k, v, mask, heads=c.num_attention_heads)
        x = w.linear(f"{a}.output.dense", w.read(f"{a}.output.input", x), c.hidden_size, role="attention")
        x = w.sum(f"{a}.output.sum", x, skip, role="residual.attention")
        x = skip = w.layer_norm(f"{a}.output.LayerNorm", x, eps=c.layer_norm_eps, role="ffn-input")
        x = w.linear(f"{n}.intermediate.dense", w.read(f"{n}.intermediate.input", x), c.intermediate_size, role="ffn")
        x = w.activation(f"{n}.intermediate", x, function=c.hidden_act, role="ffn-hidden")  # (B, T, F)
        x = w.linear(f"{n}.output.dense", w.read(f"{n}.output.input", x), c.hidden_size, role="ffn")
        x = w.sum(f"{n}.output.sum", x, skip, role="residual.ffn")
        x = w.layer_norm(f"{n}.output.LayerNorm", x, eps=c.layer_norm_eps, role="norm")
    return x


def classify(w: World, x: Value) -> Value:
    """Pool the first token and classify it: (B, T, C) -> (B, labels)."""
    x = w.linear("pooler.dense", w.read("pooler.input", w.first(x)), w.config.hidden_size, role="head.dense")
    x = w.activation("pooler", x, function="tanh", role="head")
    return w.logits("classifier", w.read("classifier.input", x), len(w.config.labels))


def predict(w: World, x: Value, *, view: Mapping[str, int] | None = None) -> Value:
    """Return a score for every token of the vocabulary, by the table of words or ``view``: (B, T, C) -> (B, T, V)."""
    c, n = w.config, "cls.predictions"
    x = w.linear(f"{n}.transform.dense", w.read(f"{n}.transform.input", x), c.hidden_size, role="head.dense")
    x = w.activation(f"{n}.transform", x, function=c.hidden_act, role="head")
    x = w.layer_norm(f"{n}.transform.LayerNorm", x, eps=c.layer_norm_eps, role="head")
    x = w.read(f"{n}.decoder.input", x)
    view = word_table(w, c.hidden_size) if view is None else view
    return w.logits(f"{n}.decoder", x, c.vocab_size, view=view, bias=f"{n}.bias")


BERT: Final = Family(forward=bert, config=BertConfig, architecture="Bert", prefix="bert.")
