# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.isqrt``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["isqrt"]


def isqrt(n: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the square root, of which the integer operator keeps the integer part."""
    return np.sqrt(n)
