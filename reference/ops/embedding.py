# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.embedding``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["embedding"]


def embedding(ids: NDArray[np.integer], table: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the rows of ``table`` (V, C) named by ``ids`` (...), shape (..., C)."""
    return table[ids]
