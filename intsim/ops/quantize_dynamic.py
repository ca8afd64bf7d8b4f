# SPDX-License-Identifier: Apache-2.0
"""Dynamic quantization: codes relative to a bound found while running."""

from typing import Any

import numpy as np

from intsim.carrier.dynamic_steps import quotients
from intsim.carrier.exact import Integers, divide, require_integers
from intsim.fixedpoint import IntRange, Rounding

__all__ = ["quantize_dynamic"]


def quantize_dynamic(
    x_q: Integers, bound: Integers, *, unit: int, to: IntRange, rounding: Rounding, zero_point: int = 0
) -> Integers:
    """Return saturate(RND((x - zero_point) * unit * q_max / bound)), symmetric codes whose scale is bound / q_max.

    Parameters
    ----------
    x_q
        (..., T, C) integers whose dtype fits int32.
    bound
        Of ``dynamic_bound``: one for each row or each sequence. Where it is 0, so are the codes.
    unit
        What 1 is in the bound: 8 where it was clipped, else 1.
    to
        Range of the codes, symmetric; q_max is its highest.
    rounding
        Of the exact quotient.
    zero_point
        Code of ``x_q`` that stands for 0.

    Returns
    -------
    ndarray
        Codes in the dtype of ``to``. What lies beyond a clipped bound saturates.

    Raises
    ------
    TypeError
        If an operand is not an integer array, or that of ``x_q`` does not fit int32.

    Bounds
    ------
    |x - zero_point| unit q_max < 2**33 * 2**3 * 2**15, and 2**17 for 16 bits where the first is 2**33; the bound is
    below 2**36. Twice their sum is far from 2**63.

    Source
    ------
    Yao et al. 2022 (ZeroQuant); El-Kurdi et al. 2022, eq. (2).
    """
    require_integers("x_q", x_q)
    require_integers("bound", bound)
    if not np.can_cast(x_q.dtype, np.int32):
        msg = f"x_q must have codes that fit int32, got {x_q.dtype}"
        raise TypeError(msg)
    constants: dict[str, Any] = {"multiplier": unit * to.max, "to": to, "rounding": rounding}
    if (codes := quotients(x_q, bound, zero_point=zero_point, **constants)) is not None:
        return codes
    centred = x_q.astype(np.int64) - zero_point
    return divide(np.where(bound > 0, centred, 0), np.maximum(bound, 1), **constants)
