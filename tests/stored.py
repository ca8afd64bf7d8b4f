# SPDX-License-Identifier: Apache-2.0
"""A safetensors file by hand, of any dtype: that of a tensor is said, its array gives the bytes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def store(path: Path, tensors: Mapping[str, tuple[str, NDArray[Any]]], metadata: Mapping[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": metadata}
    data = b""
    for name, (dtype, values) in tensors.items():
        start, data = len(data), data + values.tobytes()
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": [start, len(data)]}
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
