# SPDX-License-Identifier: Apache-2.0
"""Integer softmax with a mask."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from intsim._trace import recording_steps, step
from intsim.carrier import rowwise
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers, divide, magnitude, require_integers, rescale
from intsim.fixedpoint import INT16, Dyadic, saturate
from intsim.ops.exp import exp
from intsim.ops.requantize import requantize
from intsim.profile import Profile, Softmax

__all__ = ["carried_softmax", "softmax"]

LARGEST_TABLE: Final = 1 << 17  # of exponentials


def softmax(acc: Integers, ratio: Dyadic, *, profile: Profile, mask: NDArray[np.bool_] | None = None) -> Integers:
    """Return softmax along the last axis over the positions where ``mask`` is true.

    With R = profile.rounding, P = profile.step_rounding and one = profile.softmax.one::

        d_j = acc_j - max acc,   x_j = R(d_j * multiplier / 2**shift) saturated at -2**15,   e_j = exp(x_j)
        probs_j = min(P(e_j * one / sum e), 255 or 65535)

    A rule of another project reads the scores as ``profile.requantization`` brings them to its codes.

    Parameters
    ----------
    acc
        (..., T) scores, usually the int32 accumulator of query times key.
    ratio
        Positive score scale over the input scale of exp, per tensor; the 1 / sqrt(D) of attention belongs in it.
    profile
        The rules ``profile.exp`` and ``profile.softmax``.
    mask
        Broadcasts to ``acc``. A masked position contributes nothing: not to the maximum, not to the sum, and its own
        probability is 0. A row with every position masked is all 0.

    Returns
    -------
    ndarray
        Codes of 1 / one, which a row need not sum to: uint8 for ``one`` up to 256, saturated at 255, else uint16. A row
        of equal scores is 0 throughout where there are more than 2 one of them.

    Raises
    ------
    TypeError
        If ``acc`` is not an integer array, or ``mask`` not a boolean one.
    ValueError
        If ``ratio`` is not one positive dyadic, or differences of ``acc`` times its multiplier could leave int64.

    Bounds
    ------
    e < 2**24 and one < 2**16, so a row of up to 2**31 tokens keeps dividend and sum far below 2**62.

    Source
    ------
    Kim et al. 2021 (I-BERT), section 3.5; the output convention is the profile's.
    """
    require_integers("acc", acc)
    if mask is not None and mask.dtype != np.bool_:
        msg = f"mask must have dtype bool, got {mask.dtype}"
        raise TypeError(msg)
    if ratio.multiplier.ndim or ratio.multiplier <= 0:
        msg = f"ratio must be one positive dyadic, got multiplier {ratio.multiplier}"
        raise ValueError(msg)
    rule, masks = profile.softmax, [] if mask is None or mask.all() else [np.broadcast_to(mask, acc.shape)]
    if not isinstance(rule, Softmax):  # another project's, which computes itself
        x_q = requantize(acc, ratio, to=rule.input_range, rounding=profile.requantization)
        step("x_q", x_q)
        return in_blocks(rule, x_q, *masks)
    # int32 holds the difference of scores below 2**30
    difference_dtype = np.int32 if magnitude(acc) < 1 << 30 else np.int64

    def rows(acc: Integers, keep: NDArray[np.bool_] | None = None) -> Integers:
        seen = acc if keep is None else np.where(keep, acc, np.iinfo(acc.dtype).min)
        difference = np.subtract(acc, seen.max(axis=-1, keepdims=True), dtype=difference_dtype)
        if keep is not None:
            difference *= keep  # masked positions may lie above the maximum
        x_q = rescale([difference], [ratio], zero_point=0, to=INT16, rounding=profile.rounding)
        step("exp.x_q", x_q)
        e = exp(x_q, profile=profile)
        if keep is not None:
            e = e * keep
        step("exp", e)
        total = np.maximum(e.sum(axis=-1, keepdims=True, dtype=np.int64), 1)
        step("sum", total)
        return divide(e, total, multiplier=rule.one, to=rule.output_range, rounding=profile.step_rounding)

    carried = (
        None
        if recording_steps()
        else carried_softmax(ratio, profile=profile, bound=magnitude(acc), columns=acc.shape[-1])
    )
    return in_blocks(carried or rows, acc, *masks)


def carried_softmax(ratio: Dyadic, *, profile: Profile, bound: int, columns: int) -> rowwise.Softmax | None:
    """Return the same as a function of ``columns`` scores of up to ``bound``, and their mask, where it is proved."""
    if not isinstance(profile.softmax, Softmax):
        return None
    return rowwise.Softmax.build(
        bound,
        columns,
        ratio,
        by_difference=_by_difference(int(ratio.multiplier), int(ratio.shift), profile),
        by_x=_by_x(profile),
        one=profile.softmax.one,
        to=profile.softmax.output_range,
        rounding=profile.rounding,
        step_rounding=profile.step_rounding,
    )


@lru_cache(maxsize=16)
def _by_x(profile: Profile) -> Integers:
    return exp(saturate(np.arange(INT16.min, 1), INT16), profile=profile)


@lru_cache(maxsize=16)
def _by_difference(multiplier: int, shift: int, profile: Profile) -> Integers | None:
    """Return exp of differences up to 0, from the first whose x is -2**15, if they are few."""
    n = -(INT16.min << shift) // multiplier + 1
    if n >= LARGEST_TABLE:
        return None
    ratio, differences = Dyadic(multiplier, shift), np.arange(-n, 1)
    return exp(rescale([differences], [ratio], zero_point=0, to=INT16, rounding=profile.rounding), profile=profile)
