# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.softmax``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["softmax"]


def softmax(x: NDArray[np.floating], *, mask: NDArray[np.bool_] | None = None) -> NDArray[np.floating]:
    """Return softmax along the last axis over the positions where ``mask`` is true.

    Masked positions are exactly 0, and so is a fully masked row: the integer operator's convention.
    """
    keep = np.True_ if mask is None else mask
    row_max = np.max(x, axis=-1, keepdims=True, where=keep, initial=np.finfo(x.dtype).min)
    e = np.where(keep, np.exp(np.minimum(x - row_max, 0)), 0)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total > 0, total, 1)
