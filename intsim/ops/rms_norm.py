# SPDX-License-Identifier: Apache-2.0
"""Integer RMSNorm: a shift for each row, exact sums, integer square root, one division per element."""

import numpy as np

from intsim._trace import recording_steps
from intsim.carrier import rowwise
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers
from intsim.fixedpoint import IntRange
from intsim.ops.layer_norm import LayerNormParams, require_channels
from intsim.ops.row_shift import over_root_mean_square
from intsim.profile import LayerNorm, Profile, native

__all__ = ["carried_rms_norm", "rms_norm"]


def rms_norm(x_q: Integers, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Integers:
    """Divide by the root mean square over the last axis, scale and shift by channel.

    With R = profile.rounding, P = profile.step_rounding and f = output_fraction::

        k = max(0, bits(max |x|) - 15),   x' = P(x / 2**k),   eps' = max(1, P(eps / 2**(2 k)))
        v = N sum x'**2 + eps',   y = P(N x' * 2**f / isqrt(v))
        out = saturate(R((y * multiplier + bias) / 2**t))

    Nothing is lost of a row that is shifted but what its own largest value hides.

    Parameters
    ----------
    x_q
        (..., N) codes that fit int32, whose zero point is 0.
    params
        Weight, bias and eps in integers: eps is N**2 times what is added to the mean of x**2.
    to
        Range of the result; its zero point is inside the bias.
    profile
        ``profile.layer_norm.output_fraction``, and the roundings.

    Returns
    -------
    ndarray
        (..., N) codes in the dtype of ``to``. A row of 0 gives the bias alone.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array whose dtype fits int32.
    ValueError
        If there are more than 2**14 channels, or the affine part could leave int64.
    IntsimError
        If the profile's LayerNorm is another project's.

    Bounds
    ------
    |x| <= 2**31 and N <= 2**14: k <= 17, |x'| <= 2**15, v < 2**62 for eps < 2**61, |y| <= 2**f * sqrt(3 N) < 2**24.

    Error
    -----
    With P to nearest, x' is off by 2**-15 of the row's largest value at most, and by nothing where k = 0.

    Source
    ------
    Zhang & Sennrich 2019 (RMSNorm), eq. (4); the root and the quotient as in ``layer_norm``.
    """
    require_channels(x_q, np.int32)
    rule = native(profile.layer_norm, LayerNorm)

    norm = None if recording_steps() else carried_rms_norm(params, to=to, profile=profile)
    if norm is None:

        def rows(x_q: Integers) -> Integers:
            y = over_root_mean_square(x_q.astype(np.int64), eps=params.eps, rule=rule, profile=profile)
            return params.applied(y, to=to, rounding=profile.rounding)

        return in_blocks(rows, x_q)

    def carried(x_q: Integers) -> Integers:
        return norm(rowwise.carried(x_q))

    return in_blocks(carried, x_q)


def carried_rms_norm(params: LayerNormParams, *, to: IntRange, profile: Profile) -> rowwise.Norm | None:
    """Return the function that does the same on int32 codes carried by float64, where it provably does."""
    return rowwise.Norm.build(
        params.weight,
        params.bias,
        eps=params.eps,
        fraction=native(profile.layer_norm, LayerNorm).output_fraction,
        centring="none",
        shifted=True,
        to=to,
        rounding=profile.rounding,
        step_rounding=profile.step_rounding,
    )
