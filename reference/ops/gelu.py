# SPDX-License-Identifier: Apache-2.0
"""Float twin of ``intsim.ops.gelu``, and the tanh forms some checkpoints were trained with."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

__all__ = ["gelu", "gelu_fast", "gelu_new"]


def gelu(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return x * Phi(x), Phi the standard normal distribution function (Hendrycks & Gimpel 2016)."""
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


def gelu_new(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the tanh approximation of GELU, Hugging Face's ``gelu_new``."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu_fast(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return ``gelu_new`` with sqrt(2 / pi) to ten digits, Hugging Face's ``gelu_fast``."""
    return 0.5 * x * (1.0 + np.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))
