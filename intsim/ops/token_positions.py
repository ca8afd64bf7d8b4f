# SPDX-License-Identifier: Apache-2.0
"""Positions of the last tokens of a text, counted over the tokens of a mask."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["token_positions"]


def token_positions(mask: NDArray[np.bool_], *, queries: int, first: int = 0) -> NDArray[np.int64]:
    """Return ``first`` + the number of tokens before each of the last columns: (B, S) -> (B, ``queries``). Exact.

    Parameters
    ----------
    mask
        True where there is a token. A column without one gets the position of the token before it, or ``first``.
    queries
        How many columns are asked for.
    first
        The position of the first token.

    Returns
    -------
    ndarray
        int64 in [first, first + S).

    Raises
    ------
    TypeError
        If ``mask`` is not a boolean array.
    """
    if mask.dtype != np.bool_:
        msg = f"mask must have dtype bool, got {mask.dtype}"
        raise TypeError(msg)
    count = mask.cumsum(axis=-1, dtype=np.int64)
    return (count[..., -queries:] - 1).clip(min=0) + first
