# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.rms_norm``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rms_norm"]


def rms_norm(x: NDArray[np.floating], *, weight: NDArray[np.floating], eps: float) -> NDArray[np.floating]:
    """Normalise over the last axis: x / sqrt(mean of x**2 + eps) * weight (Zhang & Sennrich 2019)."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight
