# SPDX-License-Identifier: Apache-2.0
"""The one reader and writer of intsim's own safetensors files: arrays, and canonical JSON under one metadata key."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from intsim.errors import CheckpointError

__all__ = ["read", "write"]

KEY: Final = "intsim"


def write(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write the file atomically: it appears complete or not at all, and the same input gives the same bytes.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # safetensors writes the memory of a non-contiguous array as if it were contiguous, and several keys in random order
    contiguous = {name: np.asarray(values, order="C") for name, values in tensors.items()}
    data = safetensors.numpy.save(contiguous, metadata={KEY: text})
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        msg = f"{path} must be writable, got: {os.strerror(error.errno) if error.errno else error}"
        raise CheckpointError(msg) from None
    finally:
        if temporary is not None:  # after a replacement there is none left
            temporary.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays, in name order, and the metadata of a file that ``write`` made.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, or not intsim's.
    """
    try:
        opened: Any = safetensors.safe_open(path, framework="numpy")  # has no types
        with opened as file:
            texts: dict[str, str] = file.metadata() or {}
            metadata: Any = json.loads(texts[KEY])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, safetensors.SafetensorError, AttributeError, TypeError) as error:  # the last two: no NumPy dtype
        msg = f"{path} must be a readable safetensors file, got: {error}"
        raise CheckpointError(msg) from None
    except (KeyError, json.JSONDecodeError):
        msg = f"{path} must carry intsim's metadata, got a safetensors file without it; make one with intsim quantize"
        raise CheckpointError(msg) from None
    if not isinstance(metadata, dict):
        msg = f"{path} must carry a JSON object as intsim's metadata, got {metadata!r:.40}"
        raise CheckpointError(msg)
    return tensors, cast("dict[str, Any]", metadata)
