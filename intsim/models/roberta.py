# SPDX-License-Identifier: Apache-2.0
"""RoBERTa (Liu et al. 2019), and who has its body: XLM-R, CamemBERT, DistilRoBERTa, and I-BERT (Kim et al. 2021).

A BERT whose positions are counted over the tokens that are no padding, from ``pad_token_id`` + 1.
"""

import re
from dataclasses import dataclass
from typing import Final

from intsim.models.bert import BertConfig, embeddings, encoder
from intsim.models.config import refuse
from intsim.models.family import Family
from intsim.models.heads import head, word_table
from intsim.models.world import Value, World

__all__ = ["CAMEMBERT", "IBERT", "ROBERTA", "XLM_ROBERTA", "RobertaConfig", "roberta"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobertaConfig(BertConfig):
    """The configuration of a RoBERTa."""

    pad_token_id: int = 1

    def __post_init__(self) -> None:
        super(RobertaConfig, self).__post_init__()
        if self.longest < 1:
            refuse("pad_token_id", f"below the {self.max_position_embeddings} positions, less one", self.pad_token_id)

    @property
    def longest(self) -> int:
        """How many tokens a text may have."""
        return self.max_position_embeddings - self.pad_token_id - 1


def roberta(w: World, ids: Value, mask: Value, types: Value) -> Value:
    """Run a RoBERTa."""
    positions = w.positions(ids, padding=w.config.pad_token_id)
    x = embeddings(w, ids, positions, types, w.config.hidden_size)
    return head(w, encoder(w, x, mask), classify=classify, predict=predict)


def classify(w: World, x: Value) -> Value:
    """Classify the first token: (B, T, C) -> (B, labels)."""
    x = w.linear("classifier.dense", w.read("classifier.input", w.first(x)), w.config.hidden_size, role="head.dense")
    x = w.activation("classifier", x, function="tanh", role="head")
    return w.logits("classifier.out_proj", w.read("classifier.out_proj.input", x), len(w.config.labels))


def predict(w: World, x: Value) -> Value:
    """Return a score for every token of the vocabulary: (B, T, C) -> (B, T, V)."""
    c = w.config
    x = w.linear("lm_head.dense", w.read("lm_head.input", x), c.hidden_size, role="head.dense")
    x = w.activation("lm_head", x, function="gelu", role="head")
    x = w.layer_norm("lm_head.layer_norm", x, eps=c.layer_norm_eps, role="head")
    x = w.read("lm_head.decoder.input", x)
    return w.logits("lm_head.decoder", x, c.vocab_size, view=word_table(w, c.hidden_size), bias="lm_head.bias")


# Where I-BERT's QuantAct has found the range of an activation. Of two in a row (attention.output.output_activation and
# pre_intermediate_act, intermediate.output_activation and pre_output_act) the second counts, which the next product
# reads. What else it stores has no counterpart: ranges inside LayerNorm and softmax, LayerNorm's shift, whose place the
# profile's fixed-point formats take; embeddings_act2, which never runs; and what is found again from the weights.
TRAINED: Final = {
    "embeddings_act1": "sum",
    "output_activation": "LayerNorm",
    "attention.self.query_activation": "attention.self.query",
    "attention.self.key_activation": "attention.self.key",
    "attention.self.value_activation": "attention.self.value",
    "attention.self.output_activation": "attention.self.context",
    "attention.output.ln_input_act": "attention.output.sum",
    "pre_intermediate_act": "attention.output.LayerNorm",
    "pre_output_act": "intermediate",
    "output.ln_input_act": "output.sum",
    "output.output_activation": "output.LayerNorm",
}
QUANT_ACT: Final = re.compile(r"(embeddings\.|encoder\.layer\.\d+\.)(.*)\.(x_min|x_max)")
FOUND_AGAIN: Final = ("_integer", "_scaling_factor", ".shift")


def trained(name: str) -> str | None:
    """Return the name of a tensor of an I-BERT, ``{activation}.x_min`` and ``.x_max`` of a trained range."""
    if (found := QUANT_ACT.fullmatch(name)) is not None:
        part, module, end = found.groups()
        return f"{part}{TRAINED[module]}.{end}" if module in TRAINED else None
    return None if name.endswith((*FOUND_AGAIN, ".x_min", ".x_max")) else name


ROBERTA: Final = Family(forward=roberta, config=RobertaConfig, architecture="Roberta", prefix="roberta.")
XLM_ROBERTA: Final = Family(forward=roberta, config=RobertaConfig, architecture="XLMRoberta", prefix="roberta.")
CAMEMBERT: Final = Family(forward=roberta, config=RobertaConfig, architecture="Camembert", prefix="roberta.")
IBERT: Final = Family(forward=roberta, config=RobertaConfig, architecture="IBert", prefix="ibert.", rename=trained)
