# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.matmul``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["matmul"]


def matmul(
    x: NDArray[np.floating],
    w: NDArray[np.floating],
    *,
    bias: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Return x @ w.T + bias: (..., M, K), (..., N, K) -> (..., M, N)."""
    rows = x.reshape(-1, x.shape[-1]) if w.ndim == 2 else x  # one large product instead of a loop of small ones
    product = (rows @ w.swapaxes(-1, -2)).reshape(*x.shape[:-1], w.shape[-2])
    return product if bias is None else product + bias
