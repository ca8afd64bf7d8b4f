# SPDX-License-Identifier: Apache-2.0
"""Rows of wide integers over their root mean square, each brought to 16 bits by a power of two of its own."""

import numpy as np
from numpy.typing import NDArray

from intsim._trace import step
from intsim.carrier.exact import Integers, divide
from intsim.carrier.rowwise import eps_by_shift
from intsim.fixedpoint import INT32, bit_length, isqrt, rounding_right_shift
from intsim.profile import LayerNorm, Profile

__all__ = ["over_root_mean_square"]


def over_root_mean_square(c: NDArray[np.int64], *, eps: int, rule: LayerNorm, profile: Profile) -> Integers:
    """Return c / sqrt(mean c**2 + eps / N**2) along the last axis.

    With P = profile.step_rounding and f = rule.output_fraction::

        k = max(e, bits(max |c|) - 15),   c' = P(c / 2**k),   eps' = max(1, P(eps / 2**(2 k)))
        y = P(N c' * 2**f / isqrt(N sum c'**2 + eps'))

    where e = max(0, floor((bits(eps) - 60) / 2)), which is 0 for eps < 2**61, and 15 stands for rule.row_bits - 1.

    Parameters
    ----------
    c
        (..., N) int64, N <= 2**14.
    eps
        In units of N**2 times the mean square.
    rule, profile
        The rule, and what it rounds by.

    Returns
    -------
    ndarray
        int32 with f fraction bits.

    Bounds
    ------
    |c| < 2**46 and eps < 2**89: k <= 31. max |c| < 2**(15 + k), so |c'| <= 2**15 and N sum c'**2 <= 2**58; eps' <=
    2**61, so their sum v < 2**62. N |c'| <= 2**29, and at most sqrt(N v), while isqrt(v) >= sqrt(v) / sqrt(3): |y| <=
    2**f * sqrt(3 N) < 2**24.

    Error
    -----
    With P to nearest, c' is half a unit off at most, where the largest of the row has 15 bits: 2**-15 of that. Where
    k = e > 0, rows have fewer, but v >= 2**59, and half a unit of c' is less than one of y.
    """
    channels = c.shape[-1]
    least, eps_at = eps_by_shift(eps, profile.step_rounding)
    largest = np.abs(c).max(axis=-1, keepdims=True, initial=0)
    shift = np.maximum(bit_length(largest) - (rule.row_bits - 1), least)
    shifted = rounding_right_shift(c, shift, profile.step_rounding)
    variance = channels * np.square(shifted).sum(axis=-1, keepdims=True) + eps_at[shift]
    std = isqrt(variance)
    for name, values in (("shift", shift), ("shifted", shifted), ("variance", variance), ("std", std)):
        step(name, values)
    multiplier = channels << rule.output_fraction
    return divide(shifted, std, multiplier=multiplier, to=INT32, rounding=profile.step_rounding)
