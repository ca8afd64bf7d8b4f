# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.rotary``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rotary"]

Array = NDArray[np.floating]


def rotary(x: Array, cos: Array, sin: Array, *, pairing: str) -> Array:
    """Rotate pairs of the first R of D channels, (..., D), by angles whose ``cos`` and ``sin`` are (..., R / 2).

    ``halves`` pairs channel i with i + R / 2, ``neighbours`` 2 i with 2 i + 1 (Su et al. 2021, RoFormer).
    """
    half = cos.shape[-1]
    first, second = (slice(half), slice(half, 2 * half)) if pairing == "halves" else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    y = x.copy()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., second] * cos + x[..., first] * sin
    return y
