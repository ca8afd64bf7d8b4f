# SPDX-License-Identifier: Apache-2.0
"""The product of an accumulator and the bound its operand was quantized by."""

import numpy as np

from intsim.carrier.exact import Integers, magnitude, require_integers

__all__ = ["scale_rows"]


def scale_rows(acc: Integers, bound: Integers) -> Integers:
    """Return acc * bound in int64: what was divided out of a dynamically quantized row before its product.

    Parameters
    ----------
    acc
        (..., T, N) accumulator.
    bound
        (..., T, 1) or (..., 1, 1) of ``dynamic_bound``.

    Returns
    -------
    ndarray
        int64, as ``acc``.

    Raises
    ------
    TypeError
        If an operand is not an integer array.
    ValueError
        If a product could leave int64.

    Bounds
    ------
    Bounds of int16 codes are below 2**20, in eighths too: every int32 accumulator goes with them. Those of int32 codes
    with zero point 0 are at most 2**31, for every |acc| < 2**32, and 2**34 in eighths, for |acc| < 2**29.
    """
    require_integers("acc", acc)
    require_integers("bound", bound)
    if magnitude(acc) * magnitude(bound) >= 1 << 63:
        msg = f"acc * bound must stay below 2**63, got up to {magnitude(acc)} * {magnitude(bound)}"
        raise ValueError(msg)
    return np.multiply(acc, bound, dtype=np.int64)
