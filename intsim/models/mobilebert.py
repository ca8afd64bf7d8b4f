# SPDX-License-Identifier: Apache-2.0
"""MobileBERT (Sun et al. 2020): narrow layers between bottlenecks, stacked feed-forward networks, NoNorm.

Shapes: B batch, T tokens, C channels, K channels inside the bottlenecks, E of the embeddings, F of the feed-forward
networks, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from intsim.models import bert
from intsim.models.bert import BertConfig
from intsim.models.config import Count, Size, refuse
from intsim.models.family import Family
from intsim.models.heads import head, word_table
from intsim.models.world import Function, Value, World

__all__ = ["MOBILEBERT", "MobileBertConfig", "mobilebert"]

OTHER_EPS: Final = 1e-5  # of two norms, if they are LayerNorms: torch's own


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileBertConfig(BertConfig):
    """The configuration of a MobileBERT."""

    embedding_size: Size = 128
    intra_bottleneck_size: Size = 128
    num_feedforward_networks: Count = 4
    trigram_input: bool = True
    use_bottleneck: bool = True
    use_bottleneck_attention: bool = False
    key_query_shared_bottleneck: bool = True
    classifier_activation: bool = True
    normalization_type: Literal["no_norm", "layer_norm"] = "no_norm"
    hidden_act: Function = "relu"

    def __post_init__(self) -> None:
        super(MobileBertConfig, self).__post_init__()
        if self.normalization_type not in ("no_norm", "layer_norm"):
            refuse("normalization_type", "'no_norm' or 'layer_norm'", self.normalization_type)
        if self.inner % self.num_attention_heads:
            refuse(
                "intra_bottleneck_size", f"a multiple of num_attention_heads, {self.num_attention_heads}", self.inner
            )

    @property
    def inner(self) -> int:
        """K: the channels of a layer."""
        return self.intra_bottleneck_size if self.use_bottleneck else self.hidden_size


def mobilebert(w: World, ids: Value, mask: Value, types: Value) -> Value:
    """Run a MobileBERT."""
    c = w.config
    x = embeddings(w, ids, mask, types)
    for n in (f"encoder.layer.{i}" for i in range(c.num_hidden_layers)):
        a, b, skip = f"{n}.attention", f"{n}.bottleneck", x
        inner = shared = x
        if c.use_bottleneck:
            h = w.read(f"{b}.input", x)
            inner = narrow(w, f"{b}.input", h)
            shared = inner if c.use_bottleneck_attention else x
            if c.key_query_shared_bottleneck and not c.use_bottleneck_attention:
                shared = narrow(w, f"{b}.attention", h)
        value = inner if c.use_bottleneck_attention and c.use_bottleneck else x
        h = w.read(f"{a}.self.input", shared)
        q, k = (w.linear(f"{a}.self.{p}", h, c.inner, role="attention") for p in ("query", "key"))
        v = w.linear(f"{a}.self.value", w.read(f"{a}.self.value.input", value), c.inner, role="attention")
        x = w.attention(f"{a}.self", q, k, v, mask, heads=c.num_attention_heads)
        x = w.linear(f"{a}.output.dense", w.read(f"{a}.output.input", x), c.inner, role="attention")
        x = w.sum(f"{a}.output.sum", x, inner, role="residual.attention")
        x = norm(w, f"{a}.output.LayerNorm", x, eps=c.layer_norm_eps, role="ffn-input")
        for m in (f"{n}.ffn.{j}" for j in range(c.num_feedforward_networks - 1)):
            x = norm(w, f"{m}.output.LayerNorm", feed_forward(w, m, x), eps=c.layer_norm_eps, role="ffn-input")
        x = norm(w, f"{n}.output.LayerNorm", feed_forward(w, n, x), eps=OTHER_EPS, role="norm")
        if c.use_bottleneck:
            b = f"{n}.output.bottleneck"
            x = w.linear(f"{b}.dense", w.read(f"{b}.input", x), c.hidden_size, role="ffn")
            x = w.sum(f"{b}.sum", x, skip, role="residual.ffn")
            x = norm(w, f"{b}.LayerNorm", x, eps=c.layer_norm_eps, role="norm")
    return head(w, x, classify=classify, predict=predict)


def embeddings(w: World, ids: Value, mask: Value, types: Value) -> Value:
    """Return the norm of the sum of words and their neighbours, positions and segments: (B, T) -> (B, T, C)."""
    c, n = w.config, "embeddings"
    x = w.embedding(f"{n}.word_embeddings", ids, c.vocab_size, c.embedding_size, role="embedding.word")
    if c.trigram_input or c.embedding_size != c.hidden_size:
        x = w.sum(f"{n}.word_embeddings.sum", x, role="embedding")
        if c.trigram_input:
            x = w.neighbours(f"{n}.trigrams", x, mask)  # (B, T, 3 E)
        x = w.read(f"{n}.embedding_transformation.input", x)
        x = w.linear(f"{n}.embedding_transformation", x, c.hidden_size, role="attention")
    rows, columns = c.max_position_embeddings, c.hidden_size
    places = w.embedding(f"{n}.position_embeddings", w.positions(ids), rows, columns, role="embedding.position")
    kinds = w.embedding(f"{n}.token_type_embeddings", types, c.type_vocab_size, columns, role="embedding.type")
    x = w.sum(f"{n}.sum", x, places, kinds, role="embedding")
    return norm(w, f"{n}.LayerNorm", x, eps=OTHER_EPS, role="norm")


def norm(w: World, name: str, x: Value, **options: Any) -> Value:
    """Return LayerNorm, or NoNorm as the configuration has it."""
    if w.config.normalization_type == "layer_norm":
        return w.layer_norm(name, x, **options)
    return w.affine(name, x, role=options["role"])


def narrow(w: World, n: str, h: Value) -> Value:
    """Enter a bottleneck: (B, T, C) -> (B, T, K)."""
    x = w.requantize(w.linear(f"{n}.dense", h, w.config.inner, role="attention"), role="residual.attention")
    return norm(w, f"{n}.LayerNorm", x, eps=w.config.layer_norm_eps, role="norm")


def feed_forward(w: World, n: str, x: Value) -> Value:
    """Return a feed-forward network of ``x`` and ``x`` itself, summed: (B, T, K) -> (B, T, K)."""
    c = w.config
    h = w.linear(f"{n}.intermediate.dense", w.read(f"{n}.intermediate.input", x), c.intermediate_size, role="ffn")
    h = w.activation(f"{n}.intermediate", h, function=c.hidden_act, role="ffn-hidden")  # (B, T, F)
    h = w.linear(f"{n}.output.dense", w.read(f"{n}.output.input", h), c.inner, role="ffn")
    return w.sum(f"{n}.output.sum", h, x, role="residual.ffn")


def classify(w: World, x: Value) -> Value:
    """Classify the first token, pooled or as it is: (B, T, C) -> (B, labels)."""
    if w.config.classifier_activation:
        return bert.classify(w, x)
    return w.logits("classifier", w.read("classifier.input", w.first(x)), len(w.config.labels))


def predict(w: World, x: Value) -> Value:
    """Return a score for every token of the vocabulary: (B, T, C) -> (B, T, V)."""
    c, n = w.config, "cls.predictions"
    view = dict(word_table(w, c.embedding_size) or {f"{n}.decoder.weight": c.embedding_size})
    if c.hidden_size > c.embedding_size:  # the other columns are no words, and stored as rows
        view[f"^{n}.dense.weight"] = c.hidden_size - c.embedding_size
    return bert.predict(w, x, view=view)


MOBILEBERT: Final = Family(forward=mobilebert, config=MobileBertConfig, architecture="MobileBert", prefix="mobilebert.")
