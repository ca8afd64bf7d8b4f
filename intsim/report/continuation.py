# SPDX-License-Identifier: Apache-2.0
"""A text that a decoder goes on with, shown as it comes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from intsim._progress import counting
from intsim._trace import Level, Trace, trace
from intsim.errors import IntsimError
from intsim.generate import Sampling, new_tokens
from intsim.integer_model import IntegerModel
from intsim.io.tokenizer import decoded, parse_tokenizer, running

__all__ = ["Continuation", "go_on"]

Stopped: TypeAlias = Literal["end", "context", "count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What a decoder made of a text.

    Parameters
    ----------
    prompt, text
        The text, and what follows it; None without a tokenizer.
    ids
        The new tokens.
    stopped
        By what: a token that ends a text, the end of the context, or as many tokens as were asked for.
    trace
        Every intermediate of the last step, where it was asked for.
    """

    prompt: str | None
    ids: Sequence[int]
    text: str | None
    stopped: Stopped
    trace: Trace | None

    @property
    def digest(self) -> str:
        """SHA-256 of the new ids, as int64 little-endian, in hex."""
        return hashlib.sha256(np.array(self.ids, "<i8").tobytes()).hexdigest()

    def to_json(self, model: IntegerModel) -> dict[str, Any]:
        """Return it as plain JSON values, with what decides the bits of ``model``."""
        return {
            "prompt": self.prompt,
            "ids": list(self.ids),
            "text": self.text,
            "stopped": self.stopped,
            "digest": self.digest,
            "profile": model.profile.name,
            "profile_hash": model.profile.hash,
            "model_digest": model.digest,
        }


def go_on(
    model: IntegerModel,
    start: str | Sequence[int],
    *,
    most: int,
    sampling: Sampling,
    level: Level | None = None,
    show: Callable[[str], None],
) -> Continuation:
    """Let a decoder go on with a text.

    Parameters
    ----------
    model
        With a causal language model's head.
    start
        A text, or its ids.
    most, sampling
        As ``new_tokens`` takes them.
    level
        Of the trace of the last step: one new token of what is in the cache, or the whole text where it is the first.
    show
        Called with the text first, and then with each piece of what follows as soon as its characters are whole; with
        ids in their place where the model has no tokenizer.

    Raises
    ------
    IntsimError
        If the text is empty or too long, an id out of range, the model has another head, or no tokenizer for a text.
    """
    tokenizer = None if model.tokenizer is None else parse_tokenizer(model.tokenizer)
    if isinstance(start, str):
        if tokenizer is None:
            msg = "model must carry a tokenizer to read text, got none; give --ids"
            raise IntsimError(msg)
        prompt, ids = start, [token for part in running(tokenizer, start) for token in part]
    else:
        prompt, ids = None, list(start)
    found, traces = list[int](), list[Trace]()
    steps = new_tokens(model, np.array([ids]), np.ones((1, len(ids)), np.bool_), most=most, sampling=sampling)

    def tokens() -> Iterator[int]:
        while True:
            reading = nullcontext() if found else counting("reading", unit="product")
            with reading, nullcontext() if level is None else trace(level) as traced:
                step = next(steps, None)
            if step is None:
                return
            if traced is not None:
                traces[:] = [traced]
            if not found and prompt is None and tokenizer is not None:
                show(tokenizer.decode(ids))
            elif not found and prompt is not None:
                show(prompt)
            found.append(int(step[0]))
            yield found[-1]

    pieces = list[str]()
    for piece in _pieces(tokens(), ids, tokenizer):
        show(piece)
        pieces.append(piece)
    config: Any = model.config
    room = config.longest - len(ids) + 1
    stopped: Stopped = "context" if len(found) == room < most else "count"
    if found[-1] in config.eos_token_id:
        stopped = "end"
    return Continuation(
        prompt=prompt if prompt is not None or tokenizer is None else tokenizer.decode(ids),
        ids=found,
        text=None if tokenizer is None else "".join(pieces),
        stopped=stopped,
        trace=traces[0] if traces else None,
    )


def _pieces(tokens: Iterable[int], ids: Sequence[int], tokenizer: Any) -> Iterator[str]:
    if tokenizer is None:
        return (f"{token} " for token in tokens)
    return decoded(tokenizer, ids, tokens)
