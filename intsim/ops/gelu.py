# SPDX-License-Identifier: Apache-2.0
"""GELU, x Phi(x): by i-GELU, a second-order polynomial, correctly rounded, or another project's."""

import numpy as np
from numpy.typing import NDArray

from intsim._trace import step
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT32, rounding_right_shift, saturate
from intsim.ops.tabulated import tabulated
from intsim.profile import Gelu, Profile, native
from intsim.rounded import RoundedGelu, table

__all__ = ["gelu"]


def gelu(x_q: Integers, *, profile: Profile) -> Integers:
    """Return x Phi(x), Phi the standard normal distribution function, for any int16.

    With f = input_fraction and rounding P = profile.step_rounding (a and b are negative)::

        q_b = P(b sqrt(2) * 2**f),   q_c = q_1 = P(2 / a * 2**2f)
        q_erf = sgn(x_q) * ((min(|x_q|, -q_b) + q_b)**2 + q_c)
        y_q = P(-x_q * (q_erf + q_1) / 2**output_shift)

    With ``RoundedGelu``, y_q is the integer nearest to x Phi(x) * 2**output_fraction.

    Parameters
    ----------
    x_q
        int16, x = x_q * 2**-profile.gelu.input_fraction; for another project's rule the dtype of its input_range.
    profile
        The rule ``profile.gelu``.

    Returns
    -------
    ndarray
        int32 codes of profile.gelu.output_scale.

    Raises
    ------
    TypeError
        If ``x_q`` has another dtype.

    Bounds
    ------
    |x_q| <= 2**15 and |q_erf + q_1| <= 2 |q_1| < 2**24: the product is below 2**39, 2**31 after the presets' shifts.
    Rounded, |y_q| <= 2**30.

    Error
    -----
    See the table of largest errors in notebooks/reference/accuracy.md (exhaustive over the 2**16 inputs).

    Source
    ------
    i-GELU: Kim et al. 2021 (I-BERT), Algorithms 1 and 3.
    """
    if isinstance(profile.gelu, RoundedGelu):
        return _table(x_q, profile=profile)
    if isinstance(profile.gelu, Gelu):
        return _polynomial(x_q, profile=profile)
    if x_q.dtype != profile.gelu.input_range.dtype:
        msg = f"x_q must have dtype {profile.gelu.input_range.dtype}, got {x_q.dtype}"
        raise TypeError(msg)
    return in_blocks(profile.gelu, x_q)  # another project's, which computes itself


@tabulated
def _table(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    rule = native(profile.gelu, RoundedGelu)
    return table("gelu", rule.input_fraction, rule.output_fraction).take(x_q, mode="wrap")


@tabulated
def _polynomial(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    rule, rounding = native(profile.gelu, Gelu), profile.step_rounding
    q_b, q_1 = rule.constants(rounding)
    magnitude = np.minimum(np.abs(x_q), -q_b)
    q_erf = np.sign(x_q) * ((magnitude + q_b) ** 2 + q_1)
    product = -x_q * (q_erf + q_1)
    step("q_erf", q_erf)
    step("product", product)
    return saturate(rounding_right_shift(product, rule.output_shift, rounding), INT32)
