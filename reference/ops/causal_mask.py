# SPDX-License-Identifier: Apache-2.0
"""Twin of ``intsim.ops.causal_mask``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["causal_mask"]


def causal_mask(mask: NDArray[np.bool_], *, window: int | None = None) -> NDArray[np.bool_]:
    """Return which tokens each token sees, (B, 1, T, T): those of ``mask`` up to itself, the last ``window`` of them."""
    columns = mask.shape[-1]
    keep = mask[:, None, :] & np.tri(columns, dtype=np.bool_)  # (B, T, T)
    if window is not None:
        position = mask.cumsum(axis=-1)
        keep &= position[:, None, :] > position[:, :, None] - window
    return keep[:, None]
