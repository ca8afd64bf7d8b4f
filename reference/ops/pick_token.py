# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.pick_token``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["pick_token"]


def pick_token(x: NDArray[np.floating], mask: NDArray[np.bool_], *, which: str) -> NDArray[np.floating]:
    """Return the first or the last token where ``mask`` is true: (B, T, C), (B, T) -> (B, C)."""
    end = 0 if which == "first" else -1
    return np.stack([row[np.flatnonzero(keep)[end]] for row, keep in zip(x, mask, strict=True)])
