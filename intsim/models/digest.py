# SPDX-License-Identifier: Apache-2.0
"""What an integer model is, in one number: the SHA-256 of all it holds."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from intsim.carrier.exact import Integers

__all__ = ["digest"]


def digest(contents: Mapping[str, Any], tensors: Mapping[str, Integers]) -> str:
    """Return the SHA-256, in hex, of plain JSON values and tensors; however these are laid out in memory or on disk.

    It goes over lines of canonical JSON (sorted keys, no spaces, ASCII): the contents, then for each tensor, by name,
    ``["NAME","DTYPE",SHAPE]``, behind whose line its elements follow in C order, little-endian.
    """
    sha = hashlib.sha256(_line(contents))
    for name, values in sorted(tensors.items()):
        sha.update(_line([name, values.dtype.name, values.shape]))
        ordered = values.astype(values.dtype.newbyteorder("<"), order="C", copy=False)
        sha.update(ordered.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _line(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
