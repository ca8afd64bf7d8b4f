# SPDX-License-Identifier: Apache-2.0
"""Sigmoid: from i-exp, or correctly rounded."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT16, rounding_divide, saturate
from intsim.ops.exp import exp
from intsim.ops.tabulated import tabulated
from intsim.profile import Profile
from intsim.rounded import RoundedSigmoid, table

__all__ = ["sigmoid"]


@tabulated
def sigmoid(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    """Return 1 / (1 + e**-x) for any int16.

    With e = exp(-|x_q|), one = exp(0), f = output_fraction and rounding P = profile.step_rounding, y_q = P(one * 2**f /
    (one + e)) for x >= 0, and 2**f - y_q(-x) for x < 0. With ``RoundedSigmoid``, y_q is the integer nearest to
    2**f / (1 + e**-x).

    Parameters
    ----------
    x_q
        int16, x = x_q * 2**-profile.exp.input_fraction.
    profile
        The rules ``profile.exp`` and ``profile.sigmoid``.

    Returns
    -------
    ndarray
        int16, fraction profile.sigmoid.output_fraction; within [0, 1], and y_q(x) + y_q(-x) = 1 exactly for x != 0.

    Raises
    ------
    TypeError
        If ``x_q`` is not int16.

    Bounds
    ------
    one < 2**24, so the dividend is below 2**38.
    """
    fraction = profile.sigmoid.output_fraction
    if isinstance(profile.sigmoid, RoundedSigmoid):
        return saturate(table("sigmoid", profile.exp.input_fraction, fraction).take(x_q, mode="wrap"), INT16)
    one = exp(np.zeros(1, np.int16), profile=profile).astype(np.int64)
    e = exp(saturate(-np.abs(x_q), INT16), profile=profile).astype(np.int64)
    y_q = rounding_divide(one << fraction, one + e, profile.step_rounding)
    return saturate(np.where(x_q >= 0, y_q, (1 << fraction) - y_q), INT16)
