# SPDX-License-Identifier: Apache-2.0
"""Positions counted over the tokens that are no padding."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers

__all__ = ["position_ids"]


def position_ids(ids: Integers, *, padding: int) -> NDArray[np.int64]:
    """Return padding + (number of ids up to here that are not ``padding``), and ``padding`` for padding itself. Exact.

    Parameters
    ----------
    ids
        (..., T) token ids.
    padding
        The id of the padding token, wherever it stands.

    Returns
    -------
    ndarray
        (..., T) int64 in [padding, padding + T].

    Raises
    ------
    TypeError
        If ``ids`` is not an integer array.

    Source
    ------
    Liu et al. 2019 (RoBERTa): its positions begin behind the index of padding.
    """
    require_integers("ids", ids)
    is_token = (ids != padding).astype(np.int64)
    return is_token.cumsum(axis=-1) * is_token + padding
