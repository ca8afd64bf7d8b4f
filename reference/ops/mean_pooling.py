# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.mean_pooling``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_pooling"]


def mean_pooling(x: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return the mean over the tokens where ``mask`` is true: (B, T, C), (B, T) -> (B, C)."""
    keep = mask[..., None]
    return (x * keep).sum(axis=-2) / keep.sum(axis=-2)
