# SPDX-License-Identifier: Apache-2.0
"""Twin of ``intsim.ops.position_ids``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["position_ids"]


def position_ids(ids: NDArray[np.integer], *, padding: int | None = None) -> NDArray[np.integer]:
    """Return the column of every token, (T,), or its number among those that are no ``padding``, (B, T).

    The first such token has position ``padding`` + 1, and padding ``padding``, as in RoBERTa (Liu et al. 2019).
    """
    if padding is None:
        return np.arange(ids.shape[-1], dtype=np.int64)
    positions = np.empty_like(ids)
    for row, tokens in zip(positions, ids, strict=True):
        seen = padding
        for column, token in enumerate(tokens):
            seen += int(token != padding)
            row[column] = seen if token != padding else padding
    return positions
