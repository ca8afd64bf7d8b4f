# SPDX-License-Identifier: Apache-2.0
"""Tanh: from i-exp, or correctly rounded."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT16, rounding_divide, saturate
from intsim.ops.exp import exp
from intsim.ops.tabulated import tabulated
from intsim.profile import Profile
from intsim.rounded import RoundedTanh, table

__all__ = ["tanh"]


@tabulated
def tanh(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    """Return tanh(x) = sgn(x) (1 - e**-2|x|) / (1 + e**-2|x|) for any int16.

    The input is one bit finer than that of exp, so exp(-|x_q|) is already e**-2|x|. With e = exp(-|x_q|), one = exp(0)
    and rounding P = profile.step_rounding, y_q = sgn(x_q) * P((one - e) * 2**output_fraction / (one + e)). With
    ``RoundedTanh``, y_q is the integer nearest to tanh(x) * 2**output_fraction.

    Parameters
    ----------
    x_q
        int16, x = x_q * 2**-(profile.exp.input_fraction + 1).
    profile
        The rules ``profile.exp`` and ``profile.tanh``.

    Returns
    -------
    ndarray
        int16, fraction profile.tanh.output_fraction; odd, within [-1, 1].

    Raises
    ------
    TypeError
        If ``x_q`` is not int16.

    Bounds
    ------
    one < 2**24, so the dividend is below 2**38.
    """
    fraction = profile.tanh.output_fraction
    if isinstance(profile.tanh, RoundedTanh):
        return saturate(table("tanh", profile.exp.input_fraction + 1, fraction).take(x_q, mode="wrap"), INT16)
    one = exp(np.zeros(1, np.int16), profile=profile).astype(np.int64)
    e = exp(saturate(-np.abs(x_q), INT16), profile=profile).astype(np.int64)
    magnitude = rounding_divide((one - e) << fraction, one + e, profile.step_rounding)
    return saturate(np.sign(x_q) * magnitude, INT16)
