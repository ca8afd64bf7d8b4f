# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.sigmoid``."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["sigmoid"]


def sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return 1 / (1 + e**-x)."""
    return expit(x)
