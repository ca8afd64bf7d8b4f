# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face folder, and where the packages lie whose weights are put into one."""

import json
import os
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

PACKAGES: Final = "INTSIM_PACKAGES"  # names the folder of `pip install --no-deps --target FOLDER ...`


def write(
    folder: Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    tokenizer: str,
    tokenizer_config: Mapping[str, Any],
) -> Path:
    """Write the four files of a checkpoint and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2), encoding="utf-8")
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def package(name: str) -> Path | None:
    """Return the folder of a package that is unpacked or installed; its code is never imported."""
    unpacked = [os.environ[PACKAGES]] if PACKAGES in os.environ else []
    spec = PathFinder.find_spec(name, [*unpacked, *sys.path])
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
