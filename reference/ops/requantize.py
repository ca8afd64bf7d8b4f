# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.requantize``."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["requantize"]


def requantize(
    x: NDArray[np.floating], ratio: float | NDArray[np.floating], *, zero_point: float = 0
) -> NDArray[np.floating]:
    """Return x * ratio + zero_point: what the integer operator rounds and saturates."""
    return x * ratio + zero_point
