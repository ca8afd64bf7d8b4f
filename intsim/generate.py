# SPDX-License-Identifier: Apache-2.0
"""Texts continued by an integer decoder, token by token."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.fixedpoint import Dyadic
from intsim.ops import argmax, sample_token

__all__ = ["Sampling", "new_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen: the one with the largest logit, or one drawn by ``ops.sample_token``.

    Parameters
    ----------
    top_k
        How many tokens it is drawn from; 1 is the largest.
    temperature
        What logits are divided by before; the ratio of scales takes it in, once.
    seed
        Of the draws.
    """

    top_k: int = 1
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_integer("top_k", self.top_k, least=1)
        _check_integer("seed", self.seed)
        given: object = self.temperature
        if isinstance(given, bool) or not isinstance(given, Real) or not 0.01 <= given <= 100:
            msg = f"temperature must be in [0.01, 100], got {self.temperature!r}"
            raise IntsimError(msg)

    def chooser(self, model: Any) -> Callable[[NDArray[Any], int], NDArray[np.int64]]:
        """Return the function from logits, (B, V), and the number of the draw to the next tokens."""
        if self.top_k == 1:
            return lambda logits, _: argmax(logits)
        scale = model.output_format.scale
        real = int(scale.multiplier) * 2.0 ** -int(scale.shift) / (self.temperature * float(model.profile.score_scale))
        how: dict[str, Any] = {"ratio": Dyadic.from_real(np.asarray(real), bits=30), "seed": self.seed}
        how |= {"top_k": self.top_k, "profile": model.profile}
        return lambda logits, draw: sample_token(logits, draw=draw, **how)


def new_tokens(
    model: Any, ids: NDArray[Any], mask: NDArray[np.bool_], *, most: int, sampling: Sampling
) -> Generator[NDArray[np.int64], None, None]:
    """Yield the next token of each text, (B,), until ``most`` or the end of every text, its own or the context's.

    Of a text that has ended it is -1. Texts do not depend on each other.

    Raises
    ------
    IntsimError
        If the model has another head, ``most`` is not positive, or as ``model(...)``.
    """
    if model.head != "causal-lm":
        msg = f"model must have a causal language model's head to go on with a text, got head {model.head}"
        raise IntsimError(msg)
    _check_integer("max_new_tokens", most, least=1)
    if ids.shape[-1] == 0:
        msg = "input_ids must have a token to go on from, got none"
        raise IntsimError(msg)
    choose, ends = sampling.chooser(model), np.array(model.config.eos_token_id, np.int64)
    cache, held = model.start(), mask.astype(bool).sum(axis=1)  # tokens of each text
    texts = np.arange(len(ids))  # that go on
    for draw in range(most):
        result = model(ids, attention_mask=mask, cache=cache, last=True)
        logits = np.zeros((len(held), result.values.shape[-1]), result.values.dtype)
        logits[texts] = result.values
        tokens = np.full(len(held), -1)
        tokens[texts] = choose(logits, draw)[texts]
        yield tokens
        held[texts] += 1
        goes_on = ~np.isin(tokens[texts], ends) & (held[texts] <= model.config.longest)
        texts, cache = texts[goes_on], result.cache.of(goes_on)
        if not texts.size:
            return
        ids, mask = tokens[texts, None], np.ones((texts.size, 1), np.bool_)


def _check_integer(name: str, value: object, *, least: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and int(value) < least):
        rule = "an integer" if least is None else "a positive integer"
        msg = f"{name} must be {rule}, got {value!r}"
        raise IntsimError(msg)
