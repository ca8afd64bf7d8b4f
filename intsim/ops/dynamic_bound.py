# SPDX-License-Identifier: Apache-2.0
"""The range of an activation, found while running: per token, per sequence, or clipped by token maxima (TM-IQR)."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers

__all__ = ["dynamic_bound"]

LAST: Final = 1 << 33  # above every |x - zero_point|


def dynamic_bound(
    x_q: Integers,
    *,
    per: Literal["token", "sequence"],
    clip: bool = False,
    zero_point: int = 0,
    mask: NDArray[np.bool_] | None = None,
) -> Integers:
    """Return the largest |x - zero_point|, which dynamic quantization lays on the highest code.

    With M the maxima of the n tokens of a sequence, sorted, and quartiles by linear interpolation (NumPy's default),
    q1 = M at position (n - 1) / 4 and q3 at 3 (n - 1) / 4; ``clip`` gives min(max M, q3 + 1.5 (q3 - q1)), exactly, in
    eighths: 8 t = 5 (4 q3) - 3 (4 q1). At least 75 % of the token maxima are not above it.

    Parameters
    ----------
    x_q
        (..., T, C) integers whose dtype fits int32.
    per
        ``token``: one bound for each row, (..., T, 1); ``sequence``: one for all its tokens, (..., 1, 1).
    clip
        TM-IQR's threshold, in eighths; per sequence only.
    zero_point
        Code of ``x_q`` that stands for 0.
    mask
        (..., T), true where there is a token; padding counts for nothing. Every row is a token by default.

    Returns
    -------
    ndarray
        int32, or int64 where ``x_q`` has more than 16 bits; 0 for tokens that hold nothing but 0, and for sequences
        without a token.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array whose dtype fits int32.
    ValueError
        If ``clip`` is asked for tokens.

    Bounds
    ------
    |x - zero_point| < 2**17, so eight times it is below 2**20, and 5 (4 q3) below 2**22. Of 32 bits: 2**33, 2**36 and
    2**38.

    Source
    ------
    Token-wise: Yao et al. 2022 (ZeroQuant), section 4.1. ``clip``: El-Kurdi et al. 2022, Algorithm 2.
    """
    require_integers("x_q", x_q)
    if not np.can_cast(x_q.dtype, np.int32):
        msg = f"x_q must have codes that fit int32, got {x_q.dtype}"
        raise TypeError(msg)
    dtype = np.int32 if x_q.dtype.itemsize <= 2 else np.int64
    highest = x_q.max(axis=-1, initial=zero_point).astype(dtype)
    lowest = x_q.min(axis=-1, initial=zero_point).astype(dtype)
    maxima = np.maximum(highest - dtype(zero_point), dtype(zero_point) - lowest)  # (..., T)
    if per == "token":
        if clip:
            msg = "clip must be asked for sequences, got per='token'"
            raise ValueError(msg)
        return maxima[..., None]
    keep = np.ones(maxima.shape, np.bool_) if mask is None else np.broadcast_to(mask, maxima.shape)
    bound = (maxima * keep).max(axis=-1, keepdims=True, initial=0)
    if clip:
        bound = np.minimum(8 * bound, _threshold(maxima, keep))
    return bound[..., None].astype(dtype)


def _threshold(maxima: Integers, keep: NDArray[np.bool_]) -> Integers:
    """Return 8 (q3 + 1.5 (q3 - q1)) over the kept positions of the last axis, which stays with length 1."""
    ordered = np.sort(np.where(keep, maxima.astype(np.int64), LAST), axis=-1)
    steps = np.maximum(keep.sum(axis=-1, keepdims=True) - 1, 0)  # n - 1

    def four_times(position_in_quarters: Integers) -> Integers:
        below, rest = position_in_quarters // 4, position_in_quarters % 4
        low = np.take_along_axis(ordered, below, axis=-1)
        high = np.take_along_axis(ordered, np.minimum(below + 1, steps), axis=-1)
        return (4 - rest) * low + rest * high

    return 5 * four_times(3 * steps) - 3 * four_times(steps)
