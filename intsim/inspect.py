# SPDX-License-Identifier: Apache-2.0
"""Summaries of what is in a checkpoint, an integer checkpoint or a trace."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from intsim.errors import CheckpointError
from intsim.io import integer_checkpoint
from intsim.io.huggingface import open_checkpoint
from intsim.io.safetensors_file import read

__all__ = ["summarise"]


def summarise(path: str | Path) -> dict[str, Any]:
    """Return what ``path`` holds as plain JSON values.

    Parameters
    ----------
    path
        Folder of an integer or a Hugging Face checkpoint, or the file of a trace.

    Returns
    -------
    dict
        ``kind``, what is particular to it, and ``tensors``: one row each with name, dtype, shape, and for integers the
        bits that two's complement needs and the range found.

    Raises
    ------
    CheckpointError
        If it is none of these, or damaged.
    """
    path = Path(path)
    if path.is_file():
        tensors, metadata = read(path)
        try:
            return {
                "kind": "trace",
                "profile": metadata["profile"]["name"],
                "profile_hash": metadata["profile_hash"],
                "tensors": [_row(entry["name"], tensors[entry["name"]]) for entry in metadata["trace"]],
            }
        except (KeyError, TypeError):
            msg = f"file {path} must be a trace of intsim run, got another file; of a checkpoint give the folder"
            raise CheckpointError(msg) from None
    if (path / "config.json").exists() or not (path / integer_checkpoint.FILE).exists():
        checkpoint = open_checkpoint(path)
        rows = [
            {"name": name, "dtype": checkpoint.dtype(name), "shape": list(checkpoint.shape(name))}
            for name in checkpoint.names
        ]
        return {"kind": "checkpoint", "classifier": checkpoint.has_classifier, "tensors": rows}
    model = integer_checkpoint.load(path)
    return {
        "kind": "integer checkpoint",
        "config": dict(model.config),
        "recipe": model.recipe.get("name", ""),
        "profile": model.profile.name,
        "profile_hash": model.profile.hash,
        "bytes": sum(values.nbytes for values in model.tensors.values()),
        "activations": {name: format_.to_json() for name, format_ in model.formats.items()},
        "tensors": [_row(name, values) for name, values in model.tensors.items()],
    }


def _row(name: str, values: NDArray[Any]) -> dict[str, Any]:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    bits = max(low.bit_length() if low >= 0 else (low + 1).bit_length(), high.bit_length()) + 1
    return {
        "name": name,
        "dtype": str(values.dtype),
        "shape": list(values.shape),
        "bits": bits,
        "min": low,
        "max": high,
    }
