# SPDX-License-Identifier: Apache-2.0
"""How codes enter and leave the modules of transformers' I-BERT: as float tensors, multiples of a scale."""

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray


def scales(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw float32 scales, powers of two among them: they make ties."""
    exponents = st.integers(math.ceil(math.log2(low)), math.floor(math.log2(high)))
    return st.one_of(exponents.map(lambda e: 2.0**e), st.floats(low, high, width=32))


def nearest(x: Any) -> Any:
    """Return the float32 nearest to x as a float64: its product with a code has less than 53 bits."""
    return np.float64(np.float32(x))


def tensor(x: Any) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def integers(x: torch.Tensor) -> NDArray[np.int64]:
    return np.rint(x.detach().double().numpy()).astype(np.int64)
