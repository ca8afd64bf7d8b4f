# SPDX-License-Identifier: Apache-2.0
"""The world of tensors: a family run by torch, so that gradients go back through it.

It is ``intsim.reference.world.Floats`` with torch's operators where NumPy's stood, for all that an encoder is made of
(see ``intsim.models.world``). Shapes: B batch, T tokens, C channels, H heads, D channels of a head.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers.activations import ACT2FN

from intsim.reference.world import Floats, Named


class Tensors(Floats):
    """The world whose values are torch's tensors; it takes what ``Floats`` takes."""

    def embedding(self, name: str, ids: NDArray[np.integer], rows: int, columns: int, *, role: str) -> Named:
        return Named(name, self._weight(f"{name}.weight")[torch.from_numpy(ids)])

    def layer_norm(self, name: str, x: Named, *, eps: float, role: str) -> Named:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return Named(name, self._observe(name, functional.layer_norm(x.x, weight.shape, weight, bias, eps)))

    def linear(self, name: str, x: Named, rows: int, **_where: Any) -> Named:
        return Named(name, functional.linear(x.x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")))

    def activation(self, name: str, x: Named, *, function: str, role: str) -> Named:
        return Named(name, self._observe(name, ACT2FN[function](self._observe(x.name, x.x))))

    def attention(
        self, name: str, query: Named, key: Named, value: Named, mask: NDArray[np.bool_], *, heads: int
    ) -> Named:
        def split(x: Named) -> Tensor:  # (B, T, H D) -> (B, H, T, D)
            return self._observe(x.name, x.x).unflatten(-1, (heads, -1)).transpose(1, 2)

        q, k, v = split(query), split(key), split(value)
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, T)
        probs = scores.masked_fill(~torch.from_numpy(mask)[:, None, None, :], -math.inf).softmax(-1)
        context = (probs @ v).transpose(1, 2).flatten(2)  # (B, T, H D)
        return Named(f"{name}.context", self._observe(f"{name}.context", context))

    def neighbours(self, name: str, x: Named, mask: NDArray[np.bool_]) -> Named:
        kept = functional.pad(x.x * torch.from_numpy(mask)[..., None], (0, 0, 1, 1))
        return Named(name, self._observe(name, torch.cat([kept[:, 2:], x.x, kept[:, :-2]], dim=-1)))
