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

    def chooser(self, model: Any) -> Callable[[Any, int], NDArray[np.int64]]:
        """Return the function from the logits of the last tokens and the number of the draw to the next tokens."""
        if self.top_k == 1:
            return lambda result, _: argmax(result.values)
        scale = model.output_format.scale
        real = int(scale.multiplier) * 2.0 ** -int(scale.shift) / (self.temperature * float(model.profile.score_scale))
        how: dict[str, Any] = {"ratio": Dyadic.from_real(np.asarray(real), bits=30), "seed": self.seed}
        how |= {"top_k": self.top_k, "profile": model.profile}
        return lambda result, draw: sample_token(result.values, draw=draw, **how)


def new_tokens(
    model: Any, ids: NDArray[Any], mask: NDArray[np.bool_], *, most: int, sampling: Sampling
) -> Generator[NDArray[np.int64], None, None]:
    """Yield the next token of each text, (B,), until ``most``, the end of every text or that of the context.

    A text that has ended goes on with a token that ends it. Texts do not depend on each other.

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
    going = np.ones(len(ids), np.bool_)
    cache, room = model.start(), max(0, model.config.longest - ids.shape[-1])  # of a text too long the model speaks
    for draw in range(min(most, room + 1)):
        result = model(ids, attention_mask=mask, cache=cache, last=True)
        cache, tokens = result.cache, choose(result, draw)
        tokens = np.where(going, tokens, ends[0] if len(ends) else 0)
        yield tokens
        going &= ~np.isin(tokens, ends)
        if not going.any():
            return
        ids, mask = tokens[:, None], np.ones((len(tokens), 1), np.bool_)


def _check_integer(name: str, value: object, *, least: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and int(value) < least):
        rule = "an integer" if least is None else "a positive integer"
        msg = f"{name} must be {rule}, got {value!r}"
        raise IntsimError(msg)
