# SPDX-License-Identifier: Apache-2.0
"""The activation functions by their names in config.json."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from intsim.reference.ops.gelu import gelu, gelu_fast, gelu_new
from intsim.reference.ops.relu import relu
from intsim.reference.ops.silu import quick_gelu, silu

__all__ = ["ACTIVATIONS"]

# hidden_act of transformers -> the function it calls
ACTIVATIONS: Final[Mapping[str, Callable[[NDArray[np.floating]], NDArray[np.floating]]]] = {
    "gelu": gelu,
    "gelu_fast": gelu_fast,
    "gelu_new": gelu_new,
    "gelu_python": gelu,
    "gelu_pytorch_tanh": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "silu": silu,
}
