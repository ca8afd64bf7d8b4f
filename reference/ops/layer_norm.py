# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.layer_norm``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["layer_norm"]


def layer_norm(
    x: NDArray[np.floating],
    *,
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
    eps: float,
) -> NDArray[np.floating]:
    """Normalise over the last axis: (x - mean) / sqrt(var + eps) * weight + bias (Ba et al. 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias
