# SPDX-License-Identifier: Apache-2.0
"""Mean over the tokens of a sequence."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers
from intsim.fixedpoint import INT32, rounding_divide, saturate
from intsim.profile import Profile

__all__ = ["mean_pooling"]


def mean_pooling(x_q: Integers, mask: NDArray[np.bool_], *, profile: Profile, zero_point: int = 0) -> Integers:
    """Return P(sum of (x - zero_point) / count) over the tokens where ``mask`` is true, in the scale of ``x_q``.

    Parameters
    ----------
    x_q
        (..., T, C) integers of at most 32 bits.
    mask
        (..., T), true at one token at least.
    profile
        P is profile.step_rounding.
    zero_point
        Code of ``x_q`` that stands for 0.

    Returns
    -------
    ndarray
        (..., C) int32.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array of at most 32 bits.
    ValueError
        If a row of ``mask`` is all false.
    """
    require_integers("x_q", x_q)
    if x_q.dtype.itemsize > 4:
        msg = f"x_q must have codes of at most 32 bits, got {x_q.dtype}"
        raise TypeError(msg)
    keep = mask[..., None]
    count = keep.sum(axis=-2, dtype=np.int64)
    if (count == 0).any():
        msg = "mask must be true at one token at least, got a row with none"
        raise ValueError(msg)
    total = (x_q.astype(np.int64) - zero_point).sum(axis=-2, where=keep)
    return saturate(rounding_divide(total, count, profile.step_rounding), INT32)
