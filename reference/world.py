# SPDX-License-Identifier: Apache-2.0
"""The world of floats: a family run on reals, with an observer at every activation.

Nothing here names a family: it is handed in, a function of this world (see the ``World`` of ``intsim.models``).
Shapes: B batch, T tokens, C channels, H heads, D channels of a head.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.reference.ops.activations import ACTIVATIONS
from intsim.reference.ops.causal_mask import causal_mask
from intsim.reference.ops.embedding import embedding
from intsim.reference.ops.l2_normalize import l2_normalize
from intsim.reference.ops.layer_norm import layer_norm
from intsim.reference.ops.matmul import matmul
from intsim.reference.ops.pool import pool
from intsim.reference.ops.position_ids import position_ids
from intsim.reference.ops.rms_norm import rms_norm
from intsim.reference.ops.rotary import rotary
from intsim.reference.ops.softmax import softmax
from intsim.reference.rotary_frequencies import rotary_frequencies

__all__ = ["Floats", "Observer", "run"]

Array: TypeAlias = NDArray[np.floating]
Observer: TypeAlias = Callable[[str, Array], Array]


class Named(NamedTuple):
    """An array and the name of what it is."""

    name: str
    x: Array


def _unchanged(_name: str, x: Array) -> Array:
    return x


class Floats:
    """The world whose values are arrays of reals.

    Parameters
    ----------
    weights
        Name -> tensor, all of one float dtype, which is the dtype of the arithmetic.
    config, head
        Of the model.
    mask
        (B, T), true where there is a token.
    observe
        Called with the name and the value of every activation; what it returns is used in its place.
    read
        The same for what products of a weight read: an activation, before it is read.
    last
        Whether a decoder's logits are asked for the last token of each text only.
    """

    def __init__(
        self,
        weights: Mapping[str, Array],
        config: Any,
        head: str,
        *,
        mask: NDArray[np.bool_],
        observe: Observer,
        read: Observer,
        last: bool = False,
    ) -> None:
        self.weights, self.config, self.head, self.mask = weights, config, head, mask
        self._observe, self._read, self._last = observe, read, last

    def _weight(self, name: str) -> Array:
        return self.weights[re.sub(r"@\d+", "", name)]  # of a layer that runs several times, NAME@3

    def positions(
        self,
        ids: NDArray[np.integer],
        *,
        padding: int | None = None,
        mask: NDArray[np.bool_] | None = None,
        first: int = 0,
    ) -> NDArray[np.integer]:
        return position_ids(ids, padding=padding) if mask is None else (mask.cumsum(axis=-1) - 1).clip(min=0) + first

    def embedding(
        self, name: str, ids: NDArray[np.integer], rows: int, columns: int, *, role: str, root_scaled: bool = False
    ) -> Named:
        found = embedding(ids, self._weight(f"{name}.weight"))
        return Named(name, found * math.sqrt(columns) if root_scaled else found)

    def sum(self, name: str, *terms: Named, role: str) -> Named:
        total = terms[0].x
        for term in terms[1:]:
            total = total + term.x
        return Named(name, self._observe(name, total))

    def layer_norm(self, name: str, x: Named, *, eps: float, role: str) -> Named:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return Named(name, self._observe(name, layer_norm(x.x, weight=weight, bias=bias, eps=eps)))

    def rms_norm(self, name: str, x: Named, *, eps: float, role: str, unit_offset: bool = False) -> Named:
        weight = self._weight(f"{name}.weight") + (1 if unit_offset else 0)
        return Named(name, self._observe(name, rms_norm(x.x, weight=weight, bias=np.zeros_like(weight), eps=eps)))

    def affine(self, name: str, x: Named, *, role: str) -> Named:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return Named(name, self._observe(name, x.x * weight + bias))

    def read(self, name: str, x: Named) -> Named:
        return Named(name, self._read(name, x.x))

    def linear(self, name: str, x: Named, rows: int, *, bias: str | None = "", **_where: Any) -> Named:
        addend = None if bias is None else self._weight(f"{name}.bias")
        return Named(name, matmul(x.x, self._weight(f"{name}.weight"), bias=addend))

    def requantize(self, x: Named, *, role: str) -> Named:
        return Named(x.name, self._observe(x.name, x.x))

    def activation(self, name: str, x: Named, *, function: str, role: str) -> Named:
        return Named(name, self._observe(name, ACTIVATIONS[function](self._observe(x.name, x.x))))

    def multiply(self, name: str, x: Named, y: Named, *, role: str) -> Named:
        return Named(name, self._observe(name, x.x * self._observe(y.name, y.x)))

    def rotary(
        self,
        x: Named,
        positions: NDArray[np.integer],
        *,
        heads: int,
        size: int,
        pairing: Literal["halves", "neighbours"],
    ) -> Named:
        observed = self._observe(x.name, x.x)
        by_head = observed.reshape(*observed.shape[:2], heads, -1).swapaxes(1, 2)  # (B, H, T, D)
        angles = (positions[..., None] * rotary_frequencies(self.config, size)).astype(observed.dtype)  # (B, T, R / 2)
        rotated = rotary(by_head, np.cos(angles), np.sin(angles), pairing=pairing)
        return Named(f"{x.name}.rotated", rotated.swapaxes(1, 2).reshape(observed.shape))

    def attention(
        self,
        name: str,
        query: Named,
        key: Named,
        value: Named,
        mask: NDArray[np.bool_],
        *,
        heads: int,
        key_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> Named:
        def split(x: Named, heads: int) -> Array:  # (B, T, H D) -> (B, H, T, D)
            observed = self._observe(x.name, x.x)
            return observed.reshape(*observed.shape[:2], heads, -1).swapaxes(1, 2)

        q, k, v = split(query, heads), split(key, key_heads or heads), split(value, key_heads or heads)
        k, v = (x.repeat(heads // (key_heads or heads), axis=1) for x in (k, v))
        keep = causal_mask(mask, mask.shape[-1], window=window) if causal else mask[:, None, None, :]
        scores = self._observe(f"{name}.scores", matmul(q, k) / math.sqrt(q.shape[-1]))  # (B, H, T, T)
        probs = self._observe(f"{name}.probs", softmax(scores, mask=keep))
        context = matmul(probs, v.swapaxes(-1, -2)).swapaxes(1, 2)  # (B, T, H, D)
        return Named(f"{name}.context", self._observe(f"{name}.context", context.reshape(*context.shape[:2], -1)))

    def neighbours(self, name: str, x: Named, mask: NDArray[np.bool_]) -> Named:
        kept = np.pad(np.where(mask[..., None], x.x, 0), ((0, 0), (1, 1), (0, 0)))
        return Named(name, self._observe(name, np.concatenate([kept[:, 2:], x.x, kept[:, :-2]], axis=-1)))

    def first(self, x: Named) -> Named:
        return Named(x.name, x.x[:, 0])

    def asked(self, x: Named) -> Named:
        return Named(x.name, pool(x.x, self.mask, "last")) if self._last else x

    def pool(self, name: str, x: Named, mode: str) -> Named:
        return Named(name, self._observe(name, pool(x.x, self.mask, mode)))

    def normalize(self, name: str, x: Named) -> Named:
        return Named(name, self._observe(name, l2_normalize(x.x)))

    def logits(self, name: str, x: Named, rows: int, *, bias: str | None = "", **_where: Any) -> Array:
        return self.requantize(self.linear(name, x, rows, bias=bias), role="logits").x

    def output(self, x: Named) -> Array:
        return x.x


def run(
    family: Callable[..., Any],
    weights: Mapping[str, Array],
    config: Any,
    head: str,
    input_ids: NDArray[np.integer],
    *,
    attention_mask: NDArray[np.bool_],
    token_type_ids: NDArray[np.integer],
    observe: Observer = _unchanged,
    read: Observer = _unchanged,
    last: bool = False,
) -> Array:
    """Run a family on reals.

    Parameters
    ----------
    family
        Called as family(world, input_ids, attention_mask, token_type_ids).
    weights, config, head, observe, read, last
        As ``Floats`` takes them.
    input_ids, token_type_ids
        (B, T) token ids and segment ids.
    attention_mask
        (B, T), true where there is a token.

    Returns
    -------
    ndarray
        What the head gives, or the last hidden state (B, T, C).
    """
    world = Floats(weights, config, head, mask=attention_mask, observe=observe, read=read, last=last)
    return np.asarray(family(world, input_ids, attention_mask, token_type_ids))
