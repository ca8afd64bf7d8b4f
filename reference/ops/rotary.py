# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.rotary``."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["rotary"]

Array = NDArray[np.floating]


def rotary(x: Array, cos: Array, sin: Array, *, pairing: Literal["halves", "neighbours"]) -> Array:
    """Return (..., H, T, D) with pairs of channels turned by the angles of (..., T, R / 2) (Su et al. 2021)."""
    if cos.ndim > 2:
        cos, sin = cos[..., None, :, :], sin[..., None, :, :]
    pairs = cos.shape[-1]
    turned = x[..., : 2 * pairs]
    if pairing == "halves":
        a, b = turned[..., :pairs], turned[..., pairs:]
    else:
        a, b = turned[..., ::2], turned[..., 1::2]
    both = a * cos - b * sin, b * cos + a * sin
    y = np.concatenate(both, axis=-1) if pairing == "halves" else np.stack(both, axis=-1).reshape(turned.shape)
    return np.concatenate([y, x[..., 2 * pairs :]], axis=-1)
