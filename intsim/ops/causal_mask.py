# SPDX-License-Identifier: Apache-2.0
"""Which tokens a token may look at: those up to itself."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["causal_mask"]


def causal_mask(mask: NDArray[np.bool_], queries: int, *, window: int | None = None) -> NDArray[np.bool_]:
    """Return where the query at a column sees another: at the tokens up to there, the nearest ``window`` of them.

    Parameters
    ----------
    mask
        (B, S), true where there is a token.
    queries
        T: the last T columns ask.
    window
        How many positions a query sees, its own among them; all of them by default. The position of a column is the
        number of tokens up to there, so that padding between tokens takes no place.

    Returns
    -------
    ndarray
        (B, 1, T, S) bool, as ``softmax`` takes it for the scores of all heads.

    Raises
    ------
    TypeError
        If ``mask`` is not boolean.
    ValueError
        If there are more queries than columns, or the window is not positive.

    Source
    ------
    Vaswani et al. 2017, section 3.2.3; the window: Beltagy et al. 2020 (Longformer), Jiang et al. 2023 (Mistral).
    """
    if mask.dtype != np.bool_:
        msg = f"mask must have dtype bool, got {mask.dtype}"
        raise TypeError(msg)
    columns: int = mask.shape[-1]
    if not 1 <= queries <= columns:
        msg = f"queries must be in [1, {columns}], the columns there are, got {queries}"
        raise ValueError(msg)
    if window is not None and window < 1:
        msg = f"window must be at least 1, got {window}"
        raise ValueError(msg)
    column = np.arange(columns)
    seen = (column <= column[-queries:, None]) & mask[:, None, None, :]
    if window is None:
        return seen
    position = mask.cumsum(axis=-1)
    return seen & (position[:, None, None, :] > position[:, None, -queries:, None] - window)
