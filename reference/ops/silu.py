# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.silu``, and the form of it that stands for GELU."""

import numpy as np
from numpy.typing import NDArray

from intsim.reference.ops.sigmoid import sigmoid

__all__ = ["quick_gelu", "silu"]


def silu(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return x * sigmoid(x) (Elfwing et al. 2017)."""
    return x * sigmoid(x)


def quick_gelu(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return x * sigmoid(1.702 x), the sigmoid approximation of GELU (Hendrycks & Gimpel 2016)."""
    return x * sigmoid(1.702 * x)
