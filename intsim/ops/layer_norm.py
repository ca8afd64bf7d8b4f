# SPDX-License-Identifier: Apache-2.0
"""Integer LayerNorm: exact sums, integer square root, one division per element."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from intsim.carrier import Integers, divide, require_integers, rescale
from intsim.fixedpoint import INT32, Dyadic, IntRange, isqrt, rounding_divide
from intsim.profile import Profile

__all__ = ["LayerNormParams", "layer_norm"]

MAX_CHANNELS: Final = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNormParams:
    """The affine part of LayerNorm and its eps, in integers.

    Parameters
    ----------
    weight
        (C,) dyadic of one common shift t: gamma / (2**output_fraction * output scale).
    bias
        (C,) int64: (beta / output scale + zero point) * 2**t.
    eps
        In units of the variance, at least 1, so that nothing is ever divided by 0.
    """

    weight: Dyadic
    bias: NDArray[np.int64]
    eps: int

    def __post_init__(self) -> None:
        if (self.weight.shift != self.weight.shift.flat[0]).any():
            msg = "weight must have one common shift, got several; build it with Dyadic.aligned"
            raise ValueError(msg)
        if not 1 <= self.eps < 1 << 61:
            msg = f"eps must be in [1, 2**61), got {self.eps}"
            raise ValueError(msg)


def layer_norm(x_q: Integers, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Integers:
    """Normalise over the last axis, scale and shift by channel.

    With R = profile.rounding, P = profile.step_rounding and f = output_fraction, centring ``exact``::

        s = sum x,   c = N x - s,   v = N sum x**2 - s**2 + eps

    or ``rounded-mean``: c = x - R(sum x / N), v = floor(sum c**2 / N) + eps; then in both::

        y = P(c * 2**f / isqrt(v)),   out = saturate(R((y * multiplier + bias) / 2**t))

    Parameters
    ----------
    x_q
        (..., N) integers of at most 16 bits; a zero point cancels.
    params
        Weight, bias and eps in integers.
    to
        Range of the result; its zero point is inside the bias.
    profile
        The rule ``profile.layer_norm``.

    Returns
    -------
    ndarray
        (..., N) codes in the dtype of ``to``. A constant row gives the bias alone.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array of at most 16 bits.
    ValueError
        If there are more than 2**14 channels, or the affine part could leave int64.

    Bounds
    ------
    |x| <= 2**16 and N <= 2**14: |c| <= 2**31, N sum x**2 <= 2**60, and v < 2**62. |c| <= sqrt((N - 1) v) and
    isqrt(v) > sqrt(v) / sqrt(3), so |y| < 2**f * sqrt(3 N) < 2**24.

    Source
    ------
    Kim et al. 2021 (I-BERT), section 3.6.
    """
    require_integers("x_q", x_q)
    channels = x_q.shape[-1]
    if x_q.dtype.itemsize > 2:
        msg = f"x_q must have at most 16 bits, got {x_q.dtype}"
        raise TypeError(msg)
    if channels > MAX_CHANNELS:
        msg = f"x_q must have at most {MAX_CHANNELS} channels, got {channels}"
        raise ValueError(msg)
    x = x_q.astype(np.int64)
    total = x.sum(axis=-1, keepdims=True)
    if profile.layer_norm.centring == "exact":
        centred = channels * x - total
        variance = channels * (x * x).sum(axis=-1, keepdims=True) - total * total
    else:
        centred = x - rounding_divide(total, np.int64(channels), profile.rounding)
        variance = (centred * centred).sum(axis=-1, keepdims=True) // channels
    std = isqrt(variance + params.eps)
    y = divide(centred << profile.layer_norm.output_fraction, std, to=INT32, rounding=profile.step_rounding)
    one = Dyadic(np.int64(1), params.weight.shift.flat[0])
    return rescale([y, params.bias], [params.weight, one], zero_point=0, to=to, rounding=profile.rounding)
