# SPDX-License-Identifier: Apache-2.0
"""What a bug report needs: versions, the matrix library, the processor, and whether the embedded models are intact."""

import hashlib
import os
import platform
from importlib import import_module, metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import numpy as np

from intsim.carrier.blocks import THREADS, blas_description
from intsim.carrier.proof import blas_fault

__all__ = ["summarise_machine"]

PACKAGES: Final = ("intsim", "numpy", "scipy", "safetensors", "tokenizers")
SETTINGS: Final = ("INTSIM_", "OPENBLAS_", "OMP_", "MKL_", "BLIS_", "VECLIB_", "NPY_")  # variables that begin so


def summarise_machine() -> dict[str, Any]:
    """Return what may decide how intsim runs here, as plain JSON values.

    Returns
    -------
    dict
        ``versions``; ``blas``: its name and version, whether it was found to be exact on integers, what was wrong if
        not, and of OpenBLAS the build, the kernels it took for this processor and its threads; ``threads`` of intsim;
        ``cores``, ``processor``, ``machine``, ``system``; ``features`` that NumPy found; ``environment``: the variables
        that say how to multiply; ``embedded_model`` and ``embedded_decoder``: the SHA-256 of each one's file, and
        whether it is that of the model that belongs to this version.
    """
    features: dict[str, bool] = import_module("numpy._core._multiarray_umath").__cpu_features__
    return {
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "blas": _blas(),
        "threads": THREADS,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "features": [name for name, found in features.items() if found],
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)},
        "embedded_model": _embedded(resources.files("intsim.embedded")),
        "embedded_decoder": _embedded(resources.files("intsim.embedded") / "stories"),
    }


def _embedded(folder: Traversable) -> dict[str, Any]:
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    committed = (folder / "model.sha256").read_text(encoding="ascii").strip()
    return {"sha256": digest, "committed": digest == committed}


def _blas() -> dict[str, Any]:
    built: Any = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    openblas = blas_description() or {"config": None, "kernels": None, "threads": None}
    fault = blas_fault()
    named = {"name": built.get("name"), "version": built.get("version")}
    return named | openblas | {"exact": fault is None, "reason": fault}


def _processor() -> str:
    """Return the name of the processor; Python knows it everywhere but on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
