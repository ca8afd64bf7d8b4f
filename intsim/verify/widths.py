# SPDX-License-Identifier: Apache-2.0
"""The ranges that the intermediates of a model really take on texts, to set beside the widths proved of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from intsim._trace import interpreted_by
from intsim.carrier.exact import Integers
from intsim.errors import IntsimError
from intsim.integer_model import IntegerModel
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.models.widths import recorded

__all__ = ["observe"]


def observe(model: IntegerModel, texts: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the least and the greatest value of every intermediate over ``texts``, one operator in memory at a time.

    Parameters
    ----------
    model
        With its tokenizer.
    texts
        A TAB in one separates a pair.

    Returns
    -------
    dict
        Names and order as a trace of level ``steps``.

    Raises
    ------
    IntsimError
        If the model has no tokenizer, or a text is empty, too long or more than a pair.
    """
    if model.tokenizer is None:
        msg = "model must carry a tokenizer to read text, got none"
        raise IntsimError(msg)
    tokenizer = parse_tokenizer(model.tokenizer)
    seen: dict[str, tuple[int, int]] = {}

    def interpret(
        name: str, operator: Callable[..., Integers], operands: tuple[Any, ...], constants: Mapping[str, Any]
    ) -> Integers:
        steps = recorded(name, operator, *operands, **constants)
        for step, values in steps.items():
            low, high = int(values.min()), int(values.max())
            lowest, highest = seen.get(step, (low, high))
            seen[step] = min(low, lowest), max(high, highest)
        return steps[name]

    for text in texts:
        encoding = encode(tokenizer, text, longest=model.config.longest)
        with interpreted_by(interpret):
            model([list(encoding.ids)], token_type_ids=[list(encoding.type_ids)])
    return seen
