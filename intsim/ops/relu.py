# SPDX-License-Identifier: Apache-2.0
"""ReLU."""

import numpy as np

from intsim.carrier.exact import Integers, require_integers

__all__ = ["relu"]


def relu(x_q: Integers, *, zero_point: int = 0) -> Integers:
    """Return max(x, 0) in the codes of ``x_q``, whose code for 0 is ``zero_point``. Exact.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array.
    """
    require_integers("x_q", x_q)
    return np.maximum(x_q, x_q.dtype.type(zero_point))
