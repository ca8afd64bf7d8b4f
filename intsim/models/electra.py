# SPDX-License-Identifier: Apache-2.0
"""ELECTRA (Clark et al. 2020): a BERT whose embeddings may be narrower than its layers.

Shapes: B batch, T tokens, C channels, E channels of the embeddings, V vocabulary.
"""

from dataclasses import dataclass
from typing import Final

from intsim.models.bert import BertConfig, embeddings, encoder
from intsim.models.config import Size
from intsim.models.family import Family
from intsim.models.heads import head, word_table
from intsim.models.world import Value, World

__all__ = ["ELECTRA", "ElectraConfig", "electra"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectraConfig(BertConfig):
    """The configuration of an ELECTRA."""

    embedding_size: Size = 128


def electra(w: World, ids: Value, mask: Value, types: Value) -> Value:
    """Run an ELECTRA."""
    c = w.config
    x = embeddings(w, ids, w.positions(ids), types, c.embedding_size)  # (B, T, E)
    if c.embedding_size != c.hidden_size:
        x = w.linear("embeddings_project", w.read("embeddings_project.input", x), c.hidden_size, role="attention")
        x = w.requantize(x, role="norm")  # (B, T, C)
    return head(w, encoder(w, x, mask), classify=classify, predict=predict)


def classify(w: World, x: Value) -> Value:
    """Classify the first token: (B, T, C) -> (B, labels)."""
    x = w.linear("classifier.dense", w.read("classifier.input", w.first(x)), w.config.hidden_size, role="head.dense")
    x = w.activation("classifier", x, function="gelu", role="head")
    return w.logits("classifier.out_proj", w.read("classifier.out_proj.input", x), len(w.config.labels))


def predict(w: World, x: Value) -> Value:
    """Return a score for every token of the vocabulary, as the generator does: (B, T, C) -> (B, T, V)."""
    c, n = w.config, "generator_predictions"
    x = w.linear(f"{n}.dense", w.read(f"{n}.input", x), c.embedding_size, role="head.dense")
    x = w.activation(n, x, function="gelu", role="head")
    x = w.layer_norm(f"{n}.LayerNorm", x, eps=c.layer_norm_eps, role="head")  # (B, T, E)
    x = w.read("generator_lm_head.input", x)
    return w.logits("generator_lm_head", x, c.vocab_size, view=word_table(w, c.embedding_size))


ELECTRA: Final = Family(forward=electra, config=ElectraConfig, architecture="Electra", prefix="electra.")
