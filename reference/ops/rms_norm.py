# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.rms_norm``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rms_norm"]


def rms_norm(
    x: NDArray[np.floating],
    *,
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
    eps: float,
) -> NDArray[np.floating]:
    """Divide by the root mean square over the last axis: x / sqrt(mean x**2 + eps) * weight + bias.

    Zhang & Sennrich 2019, with eps inside the root as in LLaMA.
    """
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight + bias
