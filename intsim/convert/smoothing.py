# SPDX-License-Identifier: Apache-2.0
"""Scales moved from what products read into their weights, folded into the norm before (SmoothQuant)."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np

from intsim.convert.weights import Reals, Weights
from intsim.fixedpoint import Dyadic
from intsim.models.outline import Outline
from intsim.models.world import tensor_name

__all__ = ["readers", "smooth_channels", "smoothing"]

MOST: Final = 2.0**16
"""A channel is scaled by no more than this, nor by less than its inverse."""


def readers(outline: Outline) -> dict[str, tuple[str, ...]]:
    """Return every norm that scales can be folded into, and the weights that are multiplied with its output.

    Such a norm is read by products only, not by a sum, a pooling or another norm, and is none of the hidden states,
    which are given and compared. A tensor that serves twice, in a layer that runs again or as the view of another,
    belongs to none: its other use would change.
    """
    viewed = {part.removeprefix("^") for tensor in outline.tensors.values() for part in tensor.parts}
    uses = Counter(map(tensor_name, (*outline.norms, *(f"{name}.weight" for name in outline.products))))
    others = {total.skip for total in outline.sums.values()} | {norm.source for norm in outline.norms.values()}
    others |= {activation.like for activation in outline.activations.values()} | {*outline.hidden_states}

    def alone(name: str) -> bool:
        return uses[name] == 1 and name not in viewed and not outline.tensors[name].parts

    read_by: dict[str, list[str]] = {}
    for name, read in outline.products.items():
        read_by.setdefault(outline.inputs[read].source, []).append(tensor_name(f"{name}.weight"))
    return {
        norm: tuple(weights)
        for norm in outline.norms
        if (weights := read_by.get(norm)) and norm not in others and uses[tensor_name(norm)] == 1
        if all(map(alone, weights))
    }


def smoothing(largest: Reals, weights: Mapping[str, Reals], names: tuple[str, ...], *, alpha: float) -> Dyadic:
    """Return s_j = max |x_j|**alpha / max |w_j|**(1 - alpha) for every channel j; 1 where one of the two is 0.

    Parameters
    ----------
    largest
        Largest magnitude of each channel of the activation x, (C,).
    weights, names
        The float model's tensors, and which of them are multiplied with x, (N, C) each.
    alpha
        How much of x's range goes into the weights: 0 none that they do not bring themselves, 1 all of it.

    Source
    ------
    Xiao et al. 2023 (SmoothQuant), eq. (4), the weights that read x as one.
    """
    columns = np.max([np.abs(weights[name]).max(axis=0) for name in names], axis=0)
    there = (largest > 0) & (columns > 0)
    x, w = (np.where(there, values, 1) for values in (largest, columns))
    return Dyadic.from_real((x**alpha / w ** (1 - alpha)).clip(1 / MOST, MOST))


def smooth_channels(weights: Mapping[str, Reals], outline: Outline, scales: Mapping[str, Dyadic]) -> Weights:
    """Return the weights of the same model in which each norm's output is divided by its scales.

    The weight and the bias of the norm are divided by them, and the weights that read it are multiplied.

    Parameters
    ----------
    weights
        By the names of the outline.
    outline
        Of the model.
    scales
        Norm -> (C,), for those of ``readers``.
    """
    divided: dict[str, tuple[Reals, bool]] = {}
    multiplied: dict[str, Reals] = {}
    for norm, names in readers(outline).items():
        if (scale := scales.get(norm)) is not None:
            s = scale.to_real()
            of = tensor_name(norm)
            divided |= {f"{of}.weight": (s, outline.norms[norm].unit_offset), f"{of}.bias": (s, False)}
            multiplied |= dict.fromkeys(names, s)

    def load(name: str) -> Reals:
        w = weights[name]
        if name in divided:
            s, unit_offset = divided[name]
            return (w + 1) / s - 1 if unit_offset else w / s
        return w * multiplied[name] if name in multiplied else w

    return Weights(weights, load)
