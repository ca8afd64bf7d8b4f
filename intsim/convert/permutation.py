# SPDX-License-Identifier: Apache-2.0
"""One order of the embedding channels for the whole model, folded into the weights around the residual stream."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from intsim.convert.weights import Reals, Weights
from intsim.models.outline import Outline

__all__ = ["permute_channels", "range_order"]


def range_order(ranges: Mapping[str, Reals]) -> NDArray[np.int64]:
    """Return the channels by increasing range, each activation's ranges taken relative to its median.

    Parameters
    ----------
    ranges
        Activation name -> max - min of each channel, (C,).

    Source
    ------
    Bondarenko et al. 2021, section 4: argsort(max - min), here one order for all layers, so that none is left to do
    while running.
    """
    relative = [row / max(float(np.median(row)), float(np.finfo(np.float64).tiny)) for row in ranges.values()]
    return np.argsort(np.max(relative, axis=0), kind="stable")


def permute_channels(weights: Mapping[str, Reals], outline: Outline, order: NDArray[np.int64]) -> Weights:
    """Return the weights of the same model with the channels of its hidden states in another order.

    The output of an encoder without a head comes in that order too.

    Parameters
    ----------
    weights
        By the names of the outline.
    outline
        Of the model: says which axes of which tensors are channels of its hidden states.
    order
        (C,): channel c of the new model is channel order[c] of the old one.
    """

    def load(name: str) -> Reals:
        w = weights[name]
        for axis, number in enumerate(outline.tensors[name].axes):
            if number >= 0 and outline.axis(number) == outline.stream:
                w = w.take(order, axis=axis)
        return w

    return Weights(weights, load)
