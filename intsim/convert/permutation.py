# SPDX-License-Identifier: Apache-2.0
"""One order of the embedding channels for the whole model, folded into the weights around the residual stream."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["permute_channels", "range_order"]

COLUMNS = re.compile(r"embeddings\..*_embeddings\.weight|.*\.(query|key|value)\.weight|.*intermediate\.dense\.weight")
ROWS = re.compile(r".*\.output\.dense\.(weight|bias)|.*LayerNorm\.(weight|bias)")


def range_order(ranges: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
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


def permute_channels(
    weights: Mapping[str, NDArray[np.float64]], order: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the weights of the same model with its embedding channels in another order.

    The output of an encoder without a head comes in that order too.

    Parameters
    ----------
    weights
        Hugging Face names without the ``bert.`` prefix.
    order
        (C,): channel c of the new model is channel order[c] of the old one.
    """
    permuted: dict[str, NDArray[np.float64]] = {}
    for name, w in weights.items():
        if COLUMNS.fullmatch(name) or name == "pooler.dense.weight":
            permuted[name] = w[:, order]
        elif ROWS.fullmatch(name):
            permuted[name] = w[order]
        else:
            permuted[name] = w
    return permuted
