# SPDX-License-Identifier: Apache-2.0
"""Summaries of what is in a checkpoint, an integer checkpoint or a trace, and of how wide a model's integers get."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from intsim._progress import watched
from intsim.errors import CheckpointError
from intsim.integer_model import load
from intsim.io import integer_checkpoint
from intsim.io.dumps import MANIFEST
from intsim.io.huggingface import open_checkpoint
from intsim.io.safetensors_file import read
from intsim.io.trace_file import check_manifest
from intsim.models.widths import signed_bits, widths
from intsim.verify.widths import observe

__all__ = ["summarise", "summarise_widths"]


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
    if path.is_file() and path.suffix != ".gguf":
        tensors, metadata = read(path)
        if "trace" not in metadata:
            msg = f"file {path} must be a trace of intsim run, got another file; of a checkpoint give the folder"
            raise CheckpointError(msg)
        profile = check_manifest(str(path), tensors, metadata)
        return {
            "kind": "trace",
            "profile": profile.name,
            "profile_hash": profile.hash,
            "model_digest": metadata.get("model_digest"),
            "tensors": _rows({entry["name"]: tensors[entry["name"]] for entry in metadata["trace"]}),
        }
    if (path / MANIFEST).exists():
        msg = f"folder {path} must be a checkpoint, got an export, of which {MANIFEST} says what it holds"
        raise CheckpointError(msg)
    if (path / "config.json").exists() or not (path / integer_checkpoint.FILE).exists():
        checkpoint = open_checkpoint(path)
        rows = [
            {"name": name, "dtype": checkpoint.dtype(name), "shape": list(checkpoint.shape(name))}
            for name in checkpoint.names
        ]
        return {
            "kind": "checkpoint",
            "model_type": checkpoint.model_type,
            "head": checkpoint.head,
            "ignored": list(checkpoint.ignored),
            "tensors": rows,
        }
    model = load(path)
    return {
        "kind": "integer checkpoint",
        "model_type": model.model_type,
        "head": model.head,
        "config": model.config.to_json(),
        "recipe": model.recipe.get("name", ""),
        "profile": model.profile.name,
        "profile_hash": model.profile.hash,
        "digest": model.digest,
        "bytes": sum(values.nbytes for values in model.tensors.values()),
        "activations": {name: format_.to_json() for name, format_ in model.formats.items()},
        "tensors": _rows(model.tensors),
    }


def summarise_widths(path: str | Path, texts: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the width of every intermediate of an integer checkpoint as plain JSON values.

    Parameters
    ----------
    path
        Its folder.
    texts
        Run them, and set the ranges they reach beside those no text can leave.

    Returns
    -------
    dict
        The profile, and ``tensors``: one row for each name of a trace of level ``steps``, in its order, with the bits
        that its range needs, the bits its declared range or its dtype has, the dtype and the range.

    Raises
    ------
    IntsimError
        If it is not an integer checkpoint, or a text cannot be run.
    """
    model = load(path)
    seen = None if texts is None else observe(model, texts)
    rows: list[dict[str, Any]] = []
    for name, width in widths(model).items():
        row: dict[str, Any] = {"name": name, "bits": width.bits, "given": width.given, "dtype": str(width.dtype)}
        row |= {"min": width.min, "max": width.max}
        if seen is not None:
            low, high = seen[name]
            row |= {"seen_bits": replace(width, min=low, max=high).bits, "seen_min": low, "seen_max": high}
        rows.append(row)
    return {
        "kind": "widths",
        "profile": model.profile.name,
        "profile_hash": model.profile.hash,
        "model_digest": model.digest,
        "tensors": rows,
    }


def _rows(tensors: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    return [_row(name, values) for name, values in watched(tensors.items(), "looking", unit="tensor")]


def _row(name: str, values: NDArray[Any]) -> dict[str, Any]:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    return {
        "name": name,
        "dtype": str(values.dtype),
        "shape": list(values.shape),
        "bits": signed_bits(low, high),
        "min": low,
        "max": high,
    }
