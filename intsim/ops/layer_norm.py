# SPDX-License-Identifier: Apache-2.0
"""Integer LayerNorm: exact sums, integer square root, one division per element."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from intsim._trace import recording_steps, step
from intsim.carrier import rowwise
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers, divide, require_integers, rescale
from intsim.fixedpoint import INT32, Dyadic, IntRange, Rounding, isqrt, rounding_divide
from intsim.ops.row_shift import over_root_mean_square
from intsim.profile import LayerNorm, Profile, native

__all__ = ["LayerNormParams", "carried_norm", "layer_norm", "require_channels"]

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
    bias: Integers
    eps: int

    def __post_init__(self) -> None:
        require_integers("bias", self.bias)
        if self.weight.shift.ndim != 1 or self.bias.shape != self.weight.shift.shape:
            msg = f"weight and bias must have one shape (C,), got {self.weight.shift.shape} and {self.bias.shape}"
            raise ValueError(msg)
        bias = self.bias.astype(np.int64)
        bias.setflags(write=False)
        object.__setattr__(self, "bias", bias)
        if (self.weight.shift != self.weight.shift.flat[0]).any():
            msg = "weight must have one common shift, got several; build it with Dyadic.aligned"
            raise ValueError(msg)
        if not 1 <= self.eps < 1 << 61:
            msg = f"eps must be in [1, 2**61), got {self.eps}"
            raise ValueError(msg)

    def applied(self, y: Integers, *, to: IntRange, rounding: Rounding) -> Integers:
        """Return saturate(RND((y * multiplier + bias) / 2**t)) of normalised values."""
        step("normalised", y)
        one = Dyadic(1, self.weight.shift.flat[0])
        return rescale([y, self.bias], [self.weight, one], zero_point=0, to=to, rounding=rounding)


def require_channels(x_q: Integers, fits: Any) -> None:
    """Refuse what a norm does not take: codes that do not fit a dtype, more than 2**14 channels.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array whose dtype fits the other.
    ValueError
        If there are more channels.
    """
    require_integers("x_q", x_q)
    if not np.can_cast(x_q.dtype, fits):
        msg = f"x_q must have codes that fit {np.dtype(fits)}, got {x_q.dtype}"
        raise TypeError(msg)
    if x_q.shape[-1] > MAX_CHANNELS:
        msg = f"x_q must have at most {MAX_CHANNELS} channels, got {x_q.shape[-1]}"
        raise ValueError(msg)


def layer_norm(x_q: Integers, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Integers:
    """Normalise over the last axis, scale and shift by channel.

    With R = profile.rounding, P = profile.step_rounding and f = output_fraction, centring ``exact``::

        s = sum x,   c = N x - s,   v = N sum x**2 - s**2 + eps

    or ``rounded-mean``: c = x - R(sum x / N), v = floor(sum c**2 / N) + eps; then in both::

        y = P(c * 2**f / isqrt(v)),   out = saturate(R((y * multiplier + bias) / 2**t))

    A rule of another project computes y. Wide codes, whose dtype does not fit int16, have a c too large to square: each
    row of it is shifted to 16 bits first::

        k = max(e, bits(max |c|) - 15),   c' = P(c / 2**k),   eps' = max(1, P(N**2 eps / 2**(2 k)))
        v = N sum c'**2 + eps',   y = P(N c' * 2**f / isqrt(v))

    where e = max(0, floor((bits(N**2 eps) - 60) / 2)) keeps eps' below 2**61, and the unit of eps is that of c**2, as
    for narrow codes: N**2 times the variance with exact centring, the variance itself with a rounded mean.

    Parameters
    ----------
    x_q
        (..., N) codes whose dtype fits int32. With exact centring their zero point cancels.
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
        If ``x_q`` is not an integer array whose dtype fits int32.
    ValueError
        If there are more than 2**14 channels, or the affine part could leave int64.
    IntsimError
        If codes are wide and the rule is another project's.

    Bounds
    ------
    |x| <= 2**15 and N <= 2**14: |sum x| <= 2**29, |c| < 2**30, x**2 <= 2**30, N sum x**2 <= 2**58, so v < 2**62 for
    eps < 2**61. |c| <= sqrt((N - 1) v) and isqrt(v) >= sqrt(v) / sqrt(3), so |y| <= 2**f * sqrt(3 N) < 2**24.

    Wide: |x| <= 2**31, so |sum x| <= 2**45 and |c| < 2**46; N**2 eps < 2**89. The rest is in ``row_shift``.

    Source
    ------
    Kim et al. 2021 (I-BERT), section 3.6.
    """
    require_channels(x_q, np.int32)
    rule, channels = profile.layer_norm, x_q.shape[-1]
    wide = not np.can_cast(x_q.dtype, np.int16)

    def affine(y: Integers) -> Integers:
        return params.applied(y, to=to, rounding=profile.rounding)

    def wide_rows(x_q: Integers) -> Integers:
        x, own = x_q.astype(np.int64), native(rule, LayerNorm)
        total = x.sum(axis=-1, keepdims=True)
        if own.centring == "exact":
            centred = channels * x - total
        else:
            centred = x - rounding_divide(total, np.array(channels), profile.rounding)
        step("centred", centred)
        return affine(over_root_mean_square(centred, eps=channels**2 * params.eps, rule=own, profile=profile))

    def rows(x_q: Integers) -> Integers:
        if not isinstance(rule, LayerNorm):  # another project's, which computes itself
            return affine(rule(x_q))
        x = x_q.astype(np.int32)
        total = x.sum(axis=-1, keepdims=True, dtype=np.int64)
        if rule.centring == "exact":
            centred = channels * x - total.astype(np.int32)
            variance = channels * (x * x).sum(axis=-1, keepdims=True, dtype=np.int64) - total * total
        else:
            centred = x - rounding_divide(total, np.array(channels), profile.rounding).astype(np.int32)
            variance = np.square(centred, dtype=np.int64).sum(axis=-1, keepdims=True) // channels
        variance = variance + params.eps
        std = isqrt(variance)
        for name, values in (("centred", centred), ("variance", variance), ("std", std)):
            step(name, values)
        scale = 1 << rule.output_fraction
        return affine(divide(centred, std, multiplier=scale, to=INT32, rounding=profile.step_rounding))

    norm = None if recording_steps() else carried_norm(params, to=to, profile=profile, wide=wide)
    if norm is None:
        return in_blocks(wide_rows if wide else rows, x_q)

    def carried(x_q: Integers) -> Integers:
        return norm(rowwise.carried(x_q))

    return in_blocks(carried, x_q)


def carried_norm(params: LayerNormParams, *, to: IntRange, profile: Profile, wide: bool = False) -> rowwise.Norm | None:
    """Return the function that does the same on codes carried by float64, int16 or wide, where it provably does."""
    rule = profile.layer_norm
    if not isinstance(rule, LayerNorm):
        return None
    return rowwise.Norm.build(
        params.weight,
        params.bias,
        eps=params.weight.shift.size**2 * params.eps if wide else params.eps,
        fraction=rule.output_fraction,
        centring=rule.centring,
        shifted=wide,
        to=to,
        rounding=profile.rounding,
        step_rounding=profile.step_rounding,
    )
