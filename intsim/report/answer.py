# SPDX-License-Identifier: Apache-2.0
"""What the logits of a text say: its label, a label a token, an answer, what a mask stands for, or what comes next."""

from typing import Any, Final

import numpy as np

from intsim.errors import IntsimError
from intsim.integer_model import IntegerModel, Result
from intsim.io.tokenizer import Encoding, decoded, parse_tokenizer

__all__ = ["answer"]

BEST: Final = 5  # tokens that are shown for a mask


def answer(model: IntegerModel, result: Result, encoding: Encoding, text: str) -> dict[str, Any]:
    """Return what ``result`` says of one text, as plain JSON values; ties go to the lowest index.

    Parameters
    ----------
    model, result
        The model, and what it gave for the text alone.
    encoding
        Its tokens, where the head needs them; those of masked language models and question answering do.
    text
        The text, a TAB before the context of a question.

    Returns
    -------
    dict
        ``label``: the name of the largest logit, None where there is none or it stands for a number. ``labels``: one a
        token, or those whose logit is positive where a text can have several. ``answer``, ``start``, ``end``: the best
        span of the context, in characters. ``masks``: of each mask the best tokens, with ``token``, ``id``, ``logit``;
        ``next``: the same of the token that follows, and ``label`` the text of the best of them.

    Raises
    ------
    IntsimError
        If a question has no context.
    """
    values, names = result.values[0], model.config.labels
    match model.head:
        case "sequence-classification" if model.config.problem_type == "multi_label_classification":
            return {"label": None, "labels": [name for name, logit in zip(names, values, strict=True) if logit > 0]}
        case "sequence-classification" if len(names) > 1 and model.config.problem_type != "regression":
            return {"label": names[int(result.labels[0])]}
        case "token-classification":
            return {"label": None, "labels": [names[int(label)] for label in result.labels[0]]}
        case "question-answering" if encoding.tokens:
            from intsim.report.tasks.squad import best_span  # noqa: PLC0415  a classifier starts without it

            _question, *context = text.split("\t")
            if not context:
                msg = "text must be a question and its context, a TAB between them, got one text"
                raise IntsimError(msg)
            span = best_span(values.T, encoding)
            found = context[0][span.start : span.end]
            return {"label": None, "answer": found, "start": span.start, "end": span.end}
        case "masked-lm" if model.tokenizer is not None:
            from intsim.report.tasks.masked import mask_id  # noqa: PLC0415  a classifier starts without it

            tokenizer = parse_tokenizer(model.tokenizer)
            places = np.flatnonzero(np.array(encoding.ids) == mask_id(tokenizer))
            return {"label": None, "masks": [_best(values[place], tokenizer) for place in places]}
        case "causal-lm" if model.tokenizer is not None:
            tokenizer = parse_tokenizer(model.tokenizer)
            best = _best(values, tokenizer)
            return {"label": "".join(decoded(tokenizer, encoding.ids, [best[0]["id"]])), "next": best}
        case _:
            return {"label": None}


def _best(logits: Any, tokenizer: Any) -> list[dict[str, Any]]:
    best = np.argsort(-logits.astype(np.int64), kind="stable")[:BEST].tolist()
    return [{"token": tokenizer.id_to_token(i), "id": i, "logit": int(logits[i])} for i in best]
