# SPDX-License-Identifier: Apache-2.0
"""Argmax."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers

__all__ = ["argmax"]


def argmax(x_q: Integers) -> NDArray[np.int64]:
    """Return the index of the largest value along the last axis, the first of equals. (..., C) -> (...).

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array.
    """
    require_integers("x_q", x_q)
    return x_q.argmax(axis=-1)
