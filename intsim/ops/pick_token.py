# SPDX-License-Identifier: Apache-2.0
"""The first or the last token of a sequence."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers

__all__ = ["pick_token"]


def pick_token(x_q: Integers, mask: NDArray[np.bool_], *, which: Literal["first", "last"]) -> Integers:
    """Return the first or the last token where ``mask`` is true: (..., T, C), (..., T) -> (..., C).

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array, or ``mask`` not a boolean one.
    ValueError
        If a row of ``mask`` is all false.
    """
    require_integers("x_q", x_q)
    if mask.dtype != np.bool_:
        msg = f"mask must have dtype bool, got {mask.dtype}"
        raise TypeError(msg)
    if not mask.any(axis=-1).all():
        msg = "mask must be true at one token at least, got a row with none"
        raise ValueError(msg)
    index = mask.argmax(axis=-1) if which == "first" else mask.shape[-1] - 1 - mask[..., ::-1].argmax(axis=-1)
    return np.take_along_axis(x_q, index[..., None, None], axis=-2)[..., 0, :]
