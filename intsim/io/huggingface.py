# SPDX-License-Identifier: Apache-2.0
"""Reads a Hugging Face directory: config.json and model.safetensors, whole or in shards; or a GGUF file in its place.

Everything but the values is checked when the directory is opened: the configuration, and the name,
shape and dtype of every tensor, from the headers alone. The values are read one tensor at a time.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from intsim.errors import CheckpointError, IntsimError, one_line, said
from intsim.io.bounded import parse_json, read_json
from intsim.io.compressed_tensors import QuantizedTensor, quantized_tensors
from intsim.io.gguf_checkpoint import name_tensors, read_config
from intsim.io.gguf_file import find_gguf, read_gguf
from intsim.io.sentence_transformers import read_embedding
from intsim.io.stored_tensor import STORED_DTYPES, StoredTensor
from intsim.models.config import Config, refuse
from intsim.models.families import FAMILIES
from intsim.models.family import ARCHITECTURES, Family
from intsim.models.outline import Outline, outline
from intsim.models.world import HEADS, Head, Stored

__all__ = ["Checkpoint", "open_checkpoint"]

Float = TypeVar("Float", np.float32, np.float64)
Number = TypeVar("Number", np.int8, np.float32, np.float64)

log: Final = logging.getLogger(__name__)

MAX_NAME: Final = 255
"""Bytes of the name of a shard: no file system has longer ones."""
LFS: Final = b"version https://git-lfs"
BUFFERS: Final = {"embeddings.position_ids", "embeddings.token_type_ids"}  # 0, 1, 2, … and 0, 0, 0, …, in old files
OLD_NAMES: Final = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class Piece(NamedTuple):
    """A stored tensor that is part of a tensor of the model, maybe transposed, or holds it among others."""

    stored: StoredTensor
    transposed: bool = False
    where: Stored | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An open checkpoint: its family, configuration and head, and the tensors its model uses, in forward order.

    Names are Hugging Face's without the family's prefix, whether the file has it or not. ``ranges`` are what training
    with quantization left of activation ranges, ``{activation}.x_min`` and ``{activation}.x_max``; ``ignored`` the
    names of what is stored and not used.
    """

    path: Path
    model_type: str
    head: Head
    config: Config
    outline: Outline
    pieces: Mapping[str, tuple[Piece, ...]]
    ranges: Mapping[str, StoredTensor]
    ignored: tuple[str, ...]

    @property
    def family(self) -> Family:
        """The family."""
        return FAMILIES[self.model_type]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors, in forward order."""
        return tuple(self.pieces)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name`` without reading its values."""
        return self.outline.tensors[name].shape

    def dtype(self, name: str) -> str:
        """Return the stored dtype of tensor ``name``: ``"F32"``, ``"F16"`` or ``"BF16"``, or GGUF's kind."""
        return self.pieces[name][0].stored.dtype

    @property
    def quantized(self) -> dict[str, QuantizedTensor]:
        """The weights that are stored as integers, by their names."""
        return {
            name: piece.stored for name, (piece, *_) in self.pieces.items() if isinstance(piece.stored, QuantizedTensor)
        }

    def codes(self, name: str) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Return the integers (N, K) of a weight of ``quantized``, and their scale, (), (N, 1) or (N, K)."""
        stored, (piece,) = self.quantized[name], self.pieces[name]
        scale = stored.scales()
        return _part(stored.codes(), piece), _part(scale, piece) if scale.ndim else scale

    def load(self, name: str, dtype: type[Float] = np.float64) -> NDArray[Float]:
        """Read tensor ``name``; the conversion to ``dtype`` is exact, but for float32 of integers times their scales.

        Parameters
        ----------
        name
            One of ``names`` or ``ranges``.
        dtype
            ``numpy.float32`` or ``numpy.float64``: both hold every stored real.

        Returns
        -------
        ndarray
            A new array.

        Raises
        ------
        CheckpointError
            If a value is NaN or infinite.
        """
        if name in self.ranges:
            return _read_values(name, self.ranges[name], dtype)
        parts = [_part(_read_values(name, piece.stored, dtype), piece) for piece in self.pieces[name]]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _part(values: NDArray[Number], piece: Piece) -> NDArray[Number]:
    values = values.T if piece.transposed else values
    if (where := piece.where) is None:
        return values
    by_head = values.reshape(where.heads, where.parts, -1, *values.shape[1:])  # rows (H, parts, N / H)
    return by_head[:, where.part].reshape(-1, *values.shape[1:])


def _read_values(name: str, stored: StoredTensor, dtype: type[Float]) -> NDArray[Float]:
    values = stored.read()
    finite = np.isfinite(values)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        msg = (
            f"tensor {name!r} of {stored.file} must hold finite numbers only, "
            f"got {values[index]} at index {index}; export the model again"
        )
        raise CheckpointError(msg)
    return values.astype(dtype, copy=False)


def open_checkpoint(path: str | Path, *, head: str | None = None) -> Checkpoint:
    """Open a Hugging Face directory or a GGUF file and check all of it but the values.

    What the model does not use is left out: other heads, a pooler that nothing reads, buffers. It is logged, once. What
    the body itself would use under another configuration, such as more layers, is refused.

    Parameters
    ----------
    path
        Directory with config.json and one or several safetensors files, or with one GGUF file; or that file.
    head
        What follows the body, one of ``HEADS``; by default what ``architectures`` in config.json says, and where it
        says nothing a sequence classifier, if there are its tensors. ``sentence-embedding`` pools as the files of
        sentence-transformers beside config.json say.

    Raises
    ------
    IntsimError
        If something is missing, unreadable or contradictory; the message says what and how to repair it.
    """
    path = Path(path)
    gguf = None if (file := find_gguf(path)) is None else read_gguf(file)
    if gguf is None and not path.is_dir():
        got = "a file" if path.exists() else "nothing there"
        msg = f"checkpoint {path} must be a directory with config.json in it, got {got}"
        raise CheckpointError(msg)
    values = _read_object(path / "config.json") if gguf is None else read_config(gguf)
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        refuse("model_type", f"one of {', '.join(FAMILIES)}", model_type)
    family = FAMILIES[model_type]
    config = family.config.read(values)
    tensors = _read_headers(path, family) if gguf is None else name_tensors(gguf, model_type, config)
    if (quantization := values.get("quantization_config")) is not None:
        tensors = quantized_tensors(quantization, tensors, family.prefix)
    ranges = {name: tensors.pop(name) for name in sorted(tensors) if name.endswith((".x_min", ".x_max"))}
    for name, stored in ranges.items():
        _check_dtype(name, stored)
    found = _head(family, values, config, tensors) if head is None else _known_head(head)
    config = replace(config, **_embedding(path, found))
    contents = outline(family, config, found)
    pieces = _find(path, contents, tensors, f"{family.architecture} with head {found}")
    _check_quantized(path, contents, pieces)
    used = {piece.stored for each in pieces.values() for piece in each}
    ignored = tuple(sorted(name for name, stored in tensors.items() if stored not in used))
    body = {name.partition(".")[0] for name in outline(family, config, "none").tensors}
    if unexpected := [name for name in ignored if name.partition(".")[0] in body and name not in BUFFERS]:
        msg = (
            f"checkpoint {path} must hold the tensors that its config.json speaks of, "
            f"got {unexpected[0]!r}; correct one of the two"
        )
        raise CheckpointError(msg)
    if ignored:
        _say(f"{path}: {len(ignored)} tensors are not used, such as {one_line(ignored[0])}")
    return Checkpoint(
        path=path,
        model_type=model_type,
        head=found,
        config=config,
        outline=contents,
        pieces=pieces,
        ranges=ranges,
        ignored=ignored,
    )


@cache
def _say(note: str) -> None:
    """Log a note on a checkpoint, once in a process however often it is opened."""
    log.warning("%s", note)


def _embedding(path: Path, head: Head) -> Mapping[str, Any]:
    """Return how sentences are embedded; for a model without a head how tasks pool them, the mean if nothing known."""
    if head == "sentence-embedding":
        return read_embedding(path)
    try:
        return {"pooling": read_embedding(path)["pooling"]} if head == "none" else {}
    except CheckpointError as error:
        _say(f"{error}; tasks on sentences take the mean of their tokens")
        return {}


def _find(
    path: Path, contents: Outline, tensors: Mapping[str, StoredTensor], model: str
) -> dict[str, tuple[Piece, ...]]:
    """Return where each tensor of the model is: stored itself, or what it is a view of."""

    def piece(name: str, shape: tuple[int, ...], *, transposed: bool = False) -> Piece:
        if name not in tensors:
            msg = f"checkpoint {path} must hold tensor {name!r} to be {model}, got no such tensor"
            raise CheckpointError(msg)
        stored, expected = tensors[name], shape[::-1] if transposed else shape
        if stored.shape != expected:
            msg = (
                f"tensor {name!r} of {stored.file} must have shape {expected} by its configuration, "
                f"got {stored.shape}; correct one of the two"
            )
            raise CheckpointError(msg)
        _check_dtype(name, stored)
        return Piece(stored, transposed)

    pieces: dict[str, tuple[Piece, ...]] = {}
    for name, tensor in contents.tensors.items():
        if isinstance(where := tensor.view, Stored):
            rows, *columns = tensor.shape
            shape, transposed = (rows * where.parts, *columns), where.transposed and bool(columns)
            stored = piece(f"{where.name}.{name.rpartition('.')[2]}", shape, transposed=transposed)
            pieces[name] = (stored._replace(where=where),)
        elif not tensor.view or (name in tensors and tensors[name].shape == tensor.shape):
            pieces[name] = (piece(name, tensor.shape),)
        else:
            pieces[name] = tuple(
                piece(part.removeprefix("^"), (*tensor.shape[:-1], columns), transposed=part.startswith("^"))
                for part, columns in where.items()
            )
    return pieces


def _check_quantized(path: Path, contents: Outline, pieces: Mapping[str, tuple[Piece, ...]]) -> None:
    for name, parts in pieces.items():
        integers = [piece for piece in parts if isinstance(piece.stored, QuantizedTensor)]
        if integers and (len(parts) > 1 or integers[0].transposed or contents.tensors[name].is_embedding):
            msg = f"checkpoint {path} must hold integers of linear layers alone, got those of '{name}'"
            raise CheckpointError(msg)


def _known_head(head: str) -> Head:
    if head not in HEADS:
        msg = f"head must be one of {', '.join(HEADS)}, got {head!r}"
        raise IntsimError(msg)
    return head


def _head(family: Family, values: Mapping[str, Any], config: Config, tensors: Mapping[str, StoredTensor]) -> Head:
    """Return the head of the model class that config.json names, or of what is stored."""
    names: Any = values.get("architectures")
    if not names:
        needed = outline(family, config, "sequence-classification").tensors
        return "sequence-classification" if needed.keys() <= tensors.keys() else "none"
    classes: dict[str, Head] = {
        family.architecture + ending: head for ending, head in ARCHITECTURES.items() if head in family.heads
    }
    for name, head in classes.items():
        if names == [name]:
            return head
    rule = f"one of {', '.join(classes)}; or give the head to read, --head none for the body"
    return refuse("architectures", rule, names)


def _check_dtype(name: str, stored: StoredTensor) -> None:
    if type(stored) is StoredTensor and stored.dtype not in STORED_DTYPES:
        msg = (
            f"tensor {name!r} of {stored.file} must be stored as one of "
            f"{', '.join(STORED_DTYPES)}, got {stored.dtype}; save the model in float32"
        )
        raise CheckpointError(msg)


def _read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        values = read_json(file)
    except FileNotFoundError:
        msg = f"checkpoint {file.parent} must have {file.name} in it, got none"
        raise CheckpointError(msg) from None
    except OSError as error:
        msg = f"{file} must be a readable file, got {said(error)}"
        raise CheckpointError(msg) from None
    except ValueError as error:
        msg = f"{file} must be JSON, got {said(error)}"
        raise CheckpointError(msg) from None
    if not isinstance(values, dict):
        msg = f"{file} must be a JSON object, got {values!r:.40}"
        raise CheckpointError(msg)
    return cast("dict[str, Any]", values)


def _read_headers(path: Path, family: Family) -> dict[str, StoredTensor]:
    """Return every tensor of the checkpoint by its name here."""
    tensors: dict[str, StoredTensor] = {}
    for file in _safetensors_files(path):
        for name, stored in _read_header(file):
            bare = name.removeprefix(family.prefix)
            for old, new in OLD_NAMES.items():
                bare = f"{bare.removesuffix(old)}{new}" if bare.endswith(old) else bare
            if (ours := family.rename(bare)) is None:
                continue
            if ours in tensors:
                msg = (
                    f"tensor {ours!r} must be stored once, with or without {family.prefix!r}, "
                    f"got it again as {name!r} in {file}; remove one of the two"
                )
                raise CheckpointError(msg)
            tensors[ours] = stored
    return tensors


def _safetensors_files(path: Path) -> list[Path]:
    whole, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        got = "none"
        if any(path.glob("pytorch_model*.bin")):
            got = "pytorch_model.bin only; convert it to safetensors with save_pretrained"
        msg = f"checkpoint {path} must have model.safetensors in it, got {got}"
        raise CheckpointError(msg)
    weight_map = _read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        msg = f"weight_map in {index} must be an object of tensor: file, got {weight_map!r}"
        raise CheckpointError(msg)
    files: list[Path] = []
    for name in sorted({str(value) for value in cast("dict[str, Any]", weight_map).values()}):
        file = path / name
        if file.parent != path or "\0" in name or len(os.fsencode(name)) > MAX_NAME or not file.is_file():
            msg = f"shard {name!r} of {index} must be a file beside it, got none; download it again"
            raise CheckpointError(msg)
        files.append(file)
    return files


def _read_header(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    try:
        with safe_open(file, framework="np"), file.open("rb") as stream:  # checks every offset
            size = int.from_bytes(stream.read(8), "little")
            header = parse_json(stream.read(size).decode())
    except (OSError, ValueError, SafetensorError) as error:
        with file.open("rb") as stream:
            if stream.read(len(LFS)) == LFS:
                msg = f"{file} must be a safetensors file, got a Git LFS pointer to it; fetch it with git lfs pull"
                raise CheckpointError(msg) from None
        reason = said(error).removeprefix("Error while deserializing header: ")
        msg = f"{file} must be a complete safetensors file, got {reason}; download it again"
        raise CheckpointError(msg) from None
    for name, entry in header.items():
        if name != "__metadata__":
            yield (
                name,
                StoredTensor(
                    file=file,
                    dtype=entry["dtype"],
                    shape=tuple(entry["shape"]),
                    offset=8 + size + entry["data_offsets"][0],
                ),
            )
