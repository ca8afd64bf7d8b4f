# SPDX-License-Identifier: Apache-2.0
"""Pooling by its name in the configuration of a model."""

import numpy as np
from numpy.typing import NDArray

from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.ops.pick_token import pick_token

__all__ = ["pool"]


def pool(x: NDArray[np.floating], mask: NDArray[np.bool_], mode: str) -> NDArray[np.floating]:
    """Return the mean over the tokens where ``mask`` is true, or the first (cls) or last of them: (B, T, C) -> (B, C).

    Source
    ------
    Reimers & Gurevych 2019 (Sentence-BERT), section 3.
    """
    if mode == "mean":
        return mean_pooling(x, mask)
    return pick_token(x, mask, which={"cls": "first", "last": "last"}[mode])
