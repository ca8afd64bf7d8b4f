# SPDX-License-Identifier: Apache-2.0
"""The integer checkpoint: one safetensors file in a folder, self-contained, checked, reproducible byte for byte."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from intsim._checked import check_kind
from intsim.carrier.exact import Integers, by_column
from intsim.errors import CheckpointError, IntsimError, said
from intsim.io.atomic import check_writable
from intsim.io.packing import pack, packed_bits, unpack
from intsim.io.safetensors_file import carrying, read, write
from intsim.models.constants import Constants
from intsim.models.digest import digest
from intsim.models.families import FAMILIES
from intsim.models.formats import Dynamic, Format
from intsim.models.world import HEADS
from intsim.profile import Profile

__all__ = ["FILE", "check_folder", "read_checkpoint", "stored_bytes", "write_checkpoint"]

T = TypeVar("T")

FILE: Final = "model.safetensors"
FORMAT_VERSION: Final = 4
CONTENTS: Final = ("model_type", "head", "config", "profile", "recipe", "formats", "dynamic", "tokenizer")
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
        **model.contents(),
        "profile_hash": model.profile.hash,
        "digest": model.digest,
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


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], str]:
    """Return what ``write_checkpoint`` wrote into the folder ``path``: the parameters of ``Constants``, and the digest.

    Raises
    ------
    CheckpointError
        If there is none, or its file is damaged or of another format version.
    """
    if Path(path).is_file():
        msg = f"model must be the folder of an integer checkpoint, got the file {path}"
        raise CheckpointError(msg)
    file = Path(path) / FILE
    tensors, metadata = read(file)
    renew = f"intsim quantize CHECKPOINT -o {path}"
    if (version := metadata.get("format_version")) != FORMAT_VERSION:
        msg = f"{file} must have format version {FORMAT_VERSION}, got {version}; make it anew by {renew}"
        raise CheckpointError(msg)
    try:
        for name, form in metadata["packed"].items():
            tensors[name] = unpack(tensors[name], form["bits"], tuple(form["shape"]))
        contents = {key: metadata[key] for key in CONTENTS}
        hash_, expected = metadata["profile_hash"], metadata["digest"]
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise _no_metadata(file, error) from None
    if (found := digest(contents, tensors)) != expected:
        msg = f"{file} must have the digest that it was written with, {expected}, got {found}; make it anew by {renew}"
        raise CheckpointError(msg)
    for name, values in tensors.items():
        tensors[name] = by_column(values)
    try:
        HEADS.index(contents["head"])  # checks it
        model: dict[str, Any] = {
            **contents,
            "config": FAMILIES[contents["model_type"]].config.from_json(contents["config"]),
            "profile": Profile.from_json(contents["profile"]),
            "formats": _each(contents["formats"], Format.from_json),
            "dynamic": _each(contents["dynamic"], Dynamic.from_json),
            "tensors": tensors,
        }
    except (AttributeError, LookupError, TypeError, ValueError, IntsimError) as error:
        raise _no_metadata(file, error) from None
    for name, kinds in (("recipe", dict), ("tokenizer", (str, type(None)))):
        if not isinstance(model[name], kinds):
            msg = f"{file} must have a {name} of the kind that intsim writes, got {model[name]!r:.40}"
            raise CheckpointError(msg)
    if (profile := model["profile"]).hash != hash_:
        msg = f"{file} must carry the hash of its profile, {profile.hash}, got {hash_}"
        raise CheckpointError(msg)
    return model, found


def _each(values: dict[str, Any], read: Callable[[Any], T]) -> dict[str, T]:
    """Return what ``read`` makes of every value, and name the activation where it cannot."""
    check_kind("formats of activations", values, dict)
    found: dict[str, T] = {}
    for name, value in values.items():
        try:
            found[name] = read(value)
        except (LookupError, TypeError, ValueError) as error:
            msg = f"for '{name}' {said(error)}"
            raise ValueError(msg) from None
    return found


def _no_metadata(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{file} must carry the metadata of an integer checkpoint, got {said(error)}")
