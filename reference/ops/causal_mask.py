# SPDX-License-Identifier: Apache-2.0
"""Twin of ``intsim.ops.causal_mask``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["causal_mask"]


def causal_mask(mask: NDArray[np.bool_], queries: int, *, window: int | None = None) -> NDArray[np.bool_]:
    """Return which tokens each of the last ``queries`` columns sees, (B, S) -> (B, 1, T, S), row by row."""
    batch, columns = mask.shape
    seen = np.zeros((batch, 1, queries, columns), np.bool_)
    for sequence, tokens in enumerate(mask):
        for row, column in enumerate(range(columns - queries, columns)):
            before = np.flatnonzero(tokens[: column + 1])
            seen[sequence, 0, row, before if window is None else before[-window:]] = True
    return seen
