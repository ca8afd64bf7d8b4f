# SPDX-License-Identifier: Apache-2.0
"""SiLU (swish), x sigmoid(x): by the sigmoid of the profile, or correctly rounded."""

import numpy as np
from numpy.typing import NDArray

from intsim._trace import step
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT16, INT32, rounding_right_shift, saturate
from intsim.ops.sigmoid import sigmoid
from intsim.ops.tabulated import tabulated
from intsim.profile import Profile
from intsim.rounded import RoundedSilu, table

__all__ = ["silu"]


@tabulated
def silu(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    """Return x sigmoid(x) for any int16.

    y_q = x_q * sigmoid(x'), the exact product, where x' is x_q in the input format of exp, one of f' fraction bits:
    saturate(x_q * 2**(f' - input_fraction)), or P(x_q / 2**(input_fraction - f')) with P = profile.step_rounding. With
    ``RoundedSilu``, y_q is the integer nearest to x sigmoid(x) * 2**output_fraction.

    quick-GELU, x sigmoid(1.702 x) = silu(1.702 x) / 1.702, is this operator too, with 1.702 in the ratios of scales
    before and after it.

    Parameters
    ----------
    x_q
        int16, x = x_q * 2**-profile.silu.input_fraction.
    profile
        The rule ``profile.silu``, and with ``Silu`` those of ``exp`` and ``sigmoid``.

    Returns
    -------
    ndarray
        int32 codes of profile.silu_scale: with ``Silu``, of as many fraction bits as x and sigmoid together.

    Raises
    ------
    TypeError
        If ``x_q`` is not int16.

    Bounds
    ------
    |x_q| <= 2**15 and sigmoid <= 2**14: the product is at most 2**29. Rounded, |y_q| <= 2**30.

    Error
    -----
    |x| times that of sigmoid, or half a code; see the table of largest errors in notebooks/reference/accuracy.md
    (exhaustive over the 2**16 inputs).

    Source
    ------
    Elfwing et al. 2017; quick-GELU: Hendrycks & Gimpel 2016.
    """
    rule = profile.silu
    if isinstance(rule, RoundedSilu):
        return table("silu", rule.input_fraction, rule.output_fraction).take(x_q, mode="wrap")
    finer = profile.exp.input_fraction - rule.input_fraction
    argument = x_q << finer if finer >= 0 else rounding_right_shift(x_q, -finer, profile.step_rounding)
    gate = sigmoid(saturate(argument, INT16), profile=profile)
    step("sigmoid", gate)
    return saturate(x_q * gate, INT32)
