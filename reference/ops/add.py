# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.add``."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["add"]


def add(
    operands: Sequence[NDArray[np.floating]],
    ratios: Sequence[float | NDArray[np.floating]],
    *,
    zero_point: float = 0,
) -> NDArray[np.floating]:
    """Return sum_i x_i ratio_i + zero_point: what the integer operator rounds and saturates."""
    first, *others = (x * ratio for x, ratio in zip(operands, ratios, strict=True))
    for product in others:
        first = first + product
    return first + zero_point
