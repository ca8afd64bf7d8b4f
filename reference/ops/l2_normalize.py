# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.l2_normalize``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["l2_normalize"]


def l2_normalize(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return x / sqrt(sum x**2) along the last axis, 0 where all of the row is 0."""
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / np.where(length > 0, length, 1)
