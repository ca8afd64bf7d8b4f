# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.tanh``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["tanh"]


def tanh(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the hyperbolic tangent."""
    return np.tanh(x)
