# SPDX-License-Identifier: Apache-2.0
"""What follows the body of an encoder: the heads that all families share, and where their own go."""

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeAlias

from intsim.errors import CheckpointError
from intsim.models.world import OWN, Value, World

__all__ = ["HeadFunction", "head", "refuse_head", "word_table"]

HeadFunction: TypeAlias = Callable[[World, Value], Value]


def head(w: World, x: Value, *, classify: HeadFunction, predict: HeadFunction) -> Value:
    """Return the output of the world's head for hidden states ``x``, (B, T, C).

    Parameters
    ----------
    w, x
        The world and the hidden states.
    classify
        The family's way from the hidden states to (B, labels).
    predict
        The family's way from the hidden states to (B, T, V).
    """
    match w.head:
        case "none":
            return w.output(x)  # (B, T, C)
        case "sentence-embedding":
            x = w.pool("pooling", x, w.config.pooling)
            return w.output(w.normalize("normalize", x) if w.config.normalize else x)  # (B, C)
        case "sequence-classification":
            return classify(w, x)  # (B, labels)
        case "token-classification":
            return w.logits("classifier", w.read("classifier.input", x), len(w.config.labels))  # (B, T, labels)
        case "question-answering":
            return w.logits("qa_outputs", w.read("qa_outputs.input", x), 2)  # (B, T, start and end)
        case "masked-lm":
            return predict(w, x)  # (B, T, V)
        case "causal-lm":
            return refuse_head(w, "an encoder")


def refuse_head(w: World, model: str) -> NoReturn:
    """Refuse the world's head.

    Raises
    ------
    CheckpointError
        Always.
    """
    msg = f"head must be one that {model} can have, got {w.head}"
    raise CheckpointError(msg)


def word_table(w: World, columns: int) -> Mapping[str, int]:
    """Return the view of a decoder's weight that is the table of words, where the configuration ties them."""
    return {"embeddings.word_embeddings.weight": columns} if w.config.tie_word_embeddings else OWN
