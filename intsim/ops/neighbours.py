# SPDX-License-Identifier: Apache-2.0
"""Every token between its neighbours: the trigrams of MobileBERT's embedding."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers

__all__ = ["neighbours"]


def neighbours(x_q: Integers, *, mask: NDArray[np.bool_], zero_point: int = 0) -> Integers:
    """Return the next token, the token and the previous one side by side. Exact.

    Parameters
    ----------
    x_q
        (..., T, C) codes.
    mask
        (..., T), true where there is a token; beside one, any other counts as 0, and so does what is beyond the ends.
    zero_point
        Code that stands for 0.

    Returns
    -------
    ndarray
        (..., T, 3 C) codes.

    Raises
    ------
    TypeError
        If ``x_q`` is not an integer array.

    Source
    ------
    Sun et al. 2020 (MobileBERT), section 3.1: a convolution over three embeddings, here without its product.
    """
    require_integers("x_q", x_q)
    kept = np.where(mask[..., None], x_q, x_q.dtype.type(zero_point))
    outside = np.full_like(kept[..., :1, :], zero_point)
    following = np.concatenate([kept[..., 1:, :], outside], axis=-2)
    previous = np.concatenate([outside, kept[..., :-1, :]], axis=-2)
    return np.concatenate([following, x_q, previous], axis=-1)
