# SPDX-License-Identifier: Apache-2.0
"""Keys and values of new tokens after those of earlier ones."""

import numpy as np

from intsim.carrier.exact import Integers, require_integers

__all__ = ["append"]


def append(past: Integers, new: Integers) -> Integers:
    """Return ``past`` and after it ``new``: (..., S, C) and (..., T, C) -> (..., S + T, C) codes. Exact.

    Raises
    ------
    TypeError
        If the two are not of one integer dtype.
    """
    require_integers("past", past)
    if new.dtype != past.dtype:
        msg = f"new must have the dtype of past, {past.dtype}, got {new.dtype}"
        raise TypeError(msg)
    return np.concatenate([past, new], axis=-2)
