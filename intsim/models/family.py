# SPDX-License-Identifier: Apache-2.0
"""A family of models: one function over a world, its configuration, and what its checkpoints call things."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from intsim.models.config import Config
from intsim.models.world import HEADS, Head, Value, World

__all__ = ["ARCHITECTURES", "OF_DECODERS", "Family"]

ARCHITECTURES: Final[dict[str, Head]] = {
    "Model": "none",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "masked-lm",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
}
"""How the name of a transformers class ends -> the head it has."""


OF_ENCODERS: Final[tuple[Head, ...]] = tuple(head for head in HEADS if head != "causal-lm")
OF_DECODERS: Final[tuple[Head, ...]] = ("none", "sequence-classification", "causal-lm")


def _unchanged(name: str) -> str:
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family: calling it runs ``forward``.

    Parameters
    ----------
    forward
        From a world, token ids (B, T), a mask (B, T) that is true where there is a token, and segment ids (B, T) to the
        output of the world's head.
    config
        What it reads of config.json.
    architecture
        How the names of its transformers classes begin.
    prefix
        Of the tensors of the body in the checkpoint of a model with a head; names here go without it.
    rename
        The name in the file, without the prefix -> the name here, or None for what has no counterpart.
    heads
        What may follow it.
    """

    forward: Callable[[World, Value, Value, Value], Value]
    config: type[Config]
    architecture: str
    prefix: str
    rename: Callable[[str], str | None] = _unchanged
    heads: tuple[Head, ...] = OF_ENCODERS

    def __call__(self, w: World, ids: Value, mask: Value, types: Value) -> Value:
        """Return the output of the model in the world ``w``."""
        return self.forward(w, ids, mask, types)
