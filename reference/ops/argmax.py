# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.argmax``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["argmax"]


def argmax(x: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the index of the largest value along the last axis, the first of equals."""
    return x.argmax(axis=-1)
