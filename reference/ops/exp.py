# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.exp``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["exp"]


def exp(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return e**x."""
    return np.exp(x)
