# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.relu``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["relu"]


def relu(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return max(x, 0)."""
    return np.maximum(x, 0)
