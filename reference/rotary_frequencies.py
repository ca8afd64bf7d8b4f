# SPDX-License-Identifier: Apache-2.0
"""The frequencies of a rotary embedding."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["rotary_frequencies"]


def rotary_frequencies(config: Any, size: int) -> NDArray[np.float64]:
    """Return w_i = theta**(-2 i / R) for R = ``size`` channels, (R / 2,), stretched as ``config`` says.

    Source
    ------
    Su et al. 2021 (RoFormer); ``llama3``: Dubey et al. 2024.
    """
    w = config.rope_theta ** (-np.arange(0, size, 2) / size)
    if config.rope_type == "default":
        return w
    slow = w / config.factor
    if config.rope_type == "linear":
        return slow
    waves = config.original_max_position_embeddings * w / (2 * math.pi)  # in the original context
    low, high = config.low_freq_factor, config.high_freq_factor
    share = np.clip((waves - low) / (high - low), 0, 1)
    return (1 - share) * slow + share * w
