# SPDX-License-Identifier: Apache-2.0
"""A tensor in a file, read when it is asked for."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["STORED_DTYPES", "StoredTensor"]

# NumPy has no bfloat16: its 16 bits are the upper half of a float32.
STORED_DTYPES: Final = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies in a safetensors file: ``offset`` bytes from its start, row-major."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self) -> NDArray[Any]:
        """Return the values, floating point of any width."""
        values = np.fromfile(
            self.file, dtype=STORED_DTYPES[self.dtype], count=math.prod(self.shape), offset=self.offset
        ).reshape(self.shape)
        return (values.astype(np.uint32) << 16).view(np.float32) if self.dtype == "BF16" else values
