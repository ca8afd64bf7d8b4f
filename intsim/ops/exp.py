# SPDX-License-Identifier: Apache-2.0
"""e**x for x <= 0: i-exp, a second-order polynomial and a shift, or correctly rounded."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from intsim._trace import recording_steps, step
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT16, INT32, rounding_right_shift, saturate
from intsim.profile import Profile
from intsim.rounded import RoundedExp, table

__all__ = ["exp"]


def exp(x_q: Integers, *, profile: Profile) -> Integers:
    """Return e**x for -2**15 <= x_q <= 0 by range reduction to (-ln 2, 0].

    With fraction F = input_fraction + guard_bits and rounding P = profile.step_rounding::

        q = x_q * 2**guard_bits,   q_ln2 = P(ln 2 * 2**F),   q_b = P(b * 2**F),   q_c = P(c / a * 2**2F)
        z = floor(-q / q_ln2),   p = q + z * q_ln2,   L = (p + q_b)**2 + q_c,   e_q = P(L / 2**(z + output_shift))

    With ``RoundedExp``, e_q is the integer nearest to e**x * 2**output_fraction.

    Parameters
    ----------
    x_q
        int16, x = x_q * 2**-profile.exp.input_fraction.
    profile
        The rule ``profile.exp``.

    Returns
    -------
    ndarray
        int32 codes of profile.exp.output_scale.

    Raises
    ------
    TypeError
        If ``x_q`` is not int16.
    ValueError
        If some x_q is positive.

    Bounds
    ------
    z <= 2**(15 + guard_bits) / q_ln2 < 32, L < 3 * 2**2F < 2**30: both presets by i-exp.

    Error
    -----
    See the table of largest errors in notebooks/reference/accuracy.md (exhaustive over the 2**15 + 1 inputs).

    Source
    ------
    i-exp: Kim et al. 2021 (I-BERT), Algorithm 2.
    """
    if x_q.dtype != np.int16:
        msg = f"x_q must have dtype int16, got {x_q.dtype}"
        raise TypeError(msg)
    if x_q.size and x_q.max() > 0:
        msg = f"x_q must be at most 0, got {x_q.max()}"
        raise ValueError(msg)
    if recording_steps():
        return _definition(x_q.astype(np.int64), profile)
    return _table(profile).take(x_q.astype(np.intp) - INT16.min)


@lru_cache(maxsize=16)
def _table(profile: Profile) -> Integers:
    """Return e_q of -2**15 ... 0."""
    return _definition(np.arange(INT16.min, 1), profile)


def _definition(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    rule, rounding = profile.exp, profile.step_rounding
    if isinstance(rule, RoundedExp):
        return table("exp", rule.input_fraction, rule.output_fraction).take(-x_q)
    q_ln2, q_b, q_c = rule.constants(rounding)
    q = x_q << rule.guard_bits
    z = -q // q_ln2
    p = q + z * q_ln2
    polynomial = (p + q_b) ** 2 + q_c
    step("exp.z", z)
    step("exp.p", p)
    step("exp.polynomial", polynomial)
    return saturate(rounding_right_shift(polynomial, z + rule.output_shift, rounding), INT32)
