# SPDX-License-Identifier: Apache-2.0
"""Rows brought to length 1."""

from typing import Final

import numpy as np

from intsim._trace import step
from intsim.carrier.exact import Integers, divide, magnitude, require_integers
from intsim.fixedpoint import INT16, INT32, isqrt
from intsim.profile import Profile

__all__ = ["ROOT_FRACTION", "UNIT_FRACTION", "l2_normalize"]

UNIT_FRACTION: Final = 16  # of the result
ROOT_FRACTION: Final = 8  # of the length
MAX_CHANNELS: Final = 1 << 14


def l2_normalize(x_q: Integers, *, profile: Profile) -> Integers:
    """Return x / sqrt(sum x**2) along the last axis, whatever the scale of x.

    With P = profile.step_rounding::

        y = P(x * 2**24 / isqrt(2**16 sum x**2)),   0 where all of the row is 0

    Parameters
    ----------
    x_q
        (..., N) codes of at most 16 bits whose zero point is 0, in any integer dtype.
    profile
        The rule P.

    Returns
    -------
    ndarray
        int32 with 16 fraction bits.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array.
    ValueError
        If a code is beyond 16 bits, or there are more than 2**14 channels.

    Bounds
    ------
    |x| <= 2**15 and N <= 2**14: sum x**2 <= 2**44, so the root is of at most 2**60 and the dividend below 2**40. Of the
    two integers 2**8 |x| is at most the root, so |y| <= 2**16, with nothing to saturate.

    Error
    -----
    With s = sqrt(sum x**2), the root is less than 1 below 2**8 s: y is within 2**-17 (P to nearest) plus 1 / (2**8 s -
    1) of its magnitude. The second is below 1e-5 from s = 400 on, and scales the whole row alike.
    """
    require_integers("x_q", x_q)
    if magnitude(x_q) > -INT16.min:
        msg = f"x_q must have codes of at most 16 bits, got up to {magnitude(x_q)} in magnitude"
        raise ValueError(msg)
    if x_q.shape[-1] > MAX_CHANNELS:
        msg = f"x_q must have at most {MAX_CHANNELS} channels, got {x_q.shape[-1]}"
        raise ValueError(msg)
    total = np.square(x_q, dtype=np.int64).sum(axis=-1, keepdims=True)
    root = isqrt(total << 2 * ROOT_FRACTION)
    step("squares", total)
    step("root", root)
    scale = 1 << UNIT_FRACTION + ROOT_FRACTION
    return divide(x_q, np.maximum(root, 1), multiplier=scale, to=INT32, rounding=profile.step_rounding)
