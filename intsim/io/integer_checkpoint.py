# SPDX-License-Identifier: Apache-2.0
"""The integer checkpoint: one safetensors file in a folder, self-contained and reproducible byte for byte."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from intsim.carrier.exact import Integers
from intsim.errors import CheckpointError, IntsimError, said
from intsim.io.atomic import check_writable
from intsim.io.packing import pack, packed_bits, unpack
from intsim.io.safetensors_file import carrying, read, write
from intsim.models.constants import Constants
from intsim.models.families import FAMILIES
from intsim.models.formats import Dynamic, Format
from intsim.models.world import HEADS
from intsim.profile import Profile

__all__ = ["FILE", "check_folder", "read_checkpoint", "stored_bytes", "write_checkpoint"]

FILE: Final = "model.safetensors"
FORMAT_VERSION: Final = 3
KIND: Final = carrying("formats", "an integer checkpoint of intsim")


def check_folder(path: Path) -> None:
    """Refuse a folder that no integer checkpoint can be written into, before there is one.

    Raises
    ------
    IntsimError
        If it cannot be written, or another program's model is there.
    """
    _refuse_float(path)
    check_writable(path / FILE, KIND)


def _refuse_float(path: Path) -> None:
    if (path / "config.json").exists():
        msg = f"folder {path} must not be that of a Hugging Face checkpoint, whose {FILE} would be replaced"
        raise CheckpointError(msg)


def write_checkpoint(model: Constants, path: str | Path) -> None:
    """Write ``model`` into the folder ``path``, which is made where it is missing.

    Raises
    ------
    CheckpointError
        If the folder cannot be written, or holds another program's model.
    """
    path = Path(path)
    _refuse_float(path)
    metadata: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "model_type": model.model_type,
        "head": model.head,
        "config": model.config.to_json(),
        "profile": model.profile.to_json(),
        "profile_hash": model.profile.hash,
        "recipe": model.recipe,
        "formats": {name: format_.to_json() for name, format_ in model.formats.items()},
        "dynamic": {name: dynamic.to_json() for name, dynamic in model.dynamic.items()},
        "tokenizer": model.tokenizer,
    }
    stored, metadata["packed"] = _packed(model)
    write(path / FILE, stored, metadata, KIND)


def stored_bytes(model: Constants) -> int:
    """Return how many bytes the tensors of ``model`` take in its file."""
    return sum(values.nbytes for values in _packed(model)[0].values())


def _packed(model: Constants) -> tuple[dict[str, Integers], dict[str, Any]]:
    """Return the tensors, those of fewer than 8 bits packed, and of these the bits and shapes."""
    tensors, packed = dict(model.tensors), dict[str, Any]()
    for name, codes in model.tensors.items():
        if codes.dtype == np.int8 and (bits := packed_bits(codes)) < 8:
            tensors[name], packed[name] = pack(codes, bits), {"bits": bits, "shape": list(codes.shape)}
    return tensors, packed


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what ``write_checkpoint`` wrote into the folder ``path``: the parameters of ``Constants``.

    Raises
    ------
    CheckpointError
        If there is none, or its file is damaged or of another format version.
    """
    file = Path(path) / FILE
    tensors, metadata = read(file)
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        msg = f"{file} must have format version {FORMAT_VERSION}, got {version}; quantize the checkpoint again"
        raise CheckpointError(msg)
    try:
        family, head = FAMILIES[metadata["model_type"]], metadata["head"]
        HEADS.index(head)  # checks it
        profile = Profile.from_json(metadata["profile"])
        hash_ = metadata["profile_hash"]
        for name, form in metadata["packed"].items():
            tensors[name] = unpack(tensors[name], form["bits"], tuple(form["shape"]))
        model: dict[str, Any] = {
            "model_type": metadata["model_type"],
            "head": head,
            "config": family.config.from_json(metadata["config"]),
            "profile": profile,
            "recipe": metadata["recipe"],
            "formats": {name: _format(value) for name, value in metadata["formats"].items()},
            "dynamic": {name: Dynamic.from_json(value) for name, value in metadata["dynamic"].items()},
            "tensors": tensors,
            "tokenizer": metadata["tokenizer"],
        }
    except (AttributeError, KeyError, TypeError, ValueError, IntsimError) as error:
        msg = f"{file} must carry the metadata of an integer checkpoint, got {said(error)}"
        raise CheckpointError(msg) from None
    if profile.hash != hash_:
        msg = f"{file} must carry the hash of its profile, {profile.hash}, got {hash_}"
        raise CheckpointError(msg)
    return model


def _format(value: dict[str, Any]) -> Format:
    for key, kind in (("bits", int), ("signed", bool), ("narrow", bool)):
        if type(value[key]) is not kind:
            msg = f"{key} must be of type {kind.__name__}, got {value[key]!r}"
            raise TypeError(msg)
    return Format.from_json(value)
