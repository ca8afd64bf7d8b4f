# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.multiply``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["multiply"]


def multiply(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return a b, element by element."""
    return a * b
