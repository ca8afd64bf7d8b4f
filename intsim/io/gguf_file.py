# SPDX-License-Identifier: Apache-2.0
"""Reads the header of a GGUF file, llama.cpp's format: metadata, and where each tensor lies.

The kinds of values and of tensors, and how a tensor's blocks become numbers, are those of the package gguf. Its own
reader believes every length that a file states, so this one takes its place: nothing is read past the end, and nothing
but the header is read.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim.errors import CheckpointError, IntsimError, said

__all__ = ["KINDS", "Block", "Gguf", "find_gguf", "package", "read_gguf"]

KINDS: Final = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
"""Kinds of tensors that are read."""
VERSIONS: Final = (2, 3)
SCALARS: Final = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))  # type -> struct's letter
STRING, LIST = 8, 9
MAX_ITEMS: Final = 1 << 22
"""Of a list: the largest vocabularies have a sixteenth."""
MAX_DIMENSIONS: Final = 4


class Block(NamedTuple):
    """Where a tensor lies: its kind, its shape, slowest dimension first, and its bytes in the file."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gguf:
    """A GGUF file: its metadata and its tensors, by llama.cpp's names."""

    file: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Block]

    def read(self, block: Block) -> NDArray[np.float32]:
        """Return the values of a tensor, as the package gguf computes them from the blocks that store them."""
        gguf = package()
        kind = gguf.GGMLQuantizationType[block.kind]
        *rows, columns = block.shape
        in_block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = np.fromfile(self.file, np.uint8, block.size, offset=block.offset)
        with np.errstate(all="ignore"):  # whoever reads refuses what is not finite
            return gguf.dequantize(stored.reshape(*rows, columns // in_block * size), kind)


def package() -> Any:
    """Return the package gguf.

    Raises
    ------
    IntsimError
        If it is not installed.
    """
    try:
        return import_module("gguf")
    except ImportError:
        msg = "package gguf must be installed to read GGUF files, got none; pip install 'intsim[gguf]'"
        raise IntsimError(msg) from None


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file that ``path`` is, or that is the checkpoint in the folder ``path``, or None.

    Raises
    ------
    CheckpointError
        If there are several in the folder.
    """
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not path.is_dir() or any(path.glob("model.safetensors*")):
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        msg = f"checkpoint {path} must have one GGUF file in it, got {len(files)}; give the file to read"
        raise CheckpointError(msg)
    return files[0] if files else None


def read_gguf(file: Path) -> Gguf:
    """Read the header of a GGUF file.

    Raises
    ------
    CheckpointError
        If it is not a whole GGUF file of version 2 or 3, or has a tensor that is of none of ``KINDS``.
    """
    try:
        with file.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            end = len(content)
            metadata, tensors = _header(_Cursor(content))
    except (OSError, ValueError) as error:
        msg = f"{file} must be a complete GGUF file, got {said(error)}; download it again"
        raise CheckpointError(msg) from None
    if (parts := metadata.get("split.count", 1)) not in (0, 1):
        msg = f"{file} must be one file, got one of {parts}; merge them with llama-gguf-split"
        raise CheckpointError(msg)
    kinds = {kind.value: kind.name for kind in package().GGMLQuantizationType}
    for name, (number, _, _) in tensors.items():
        if kinds.get(number) not in KINDS:
            got = kinds.get(number, f"kind {number}")
            msg = f"tensor {name!r} of {file} must be stored as one of {', '.join(KINDS)}, got {got}"
            raise CheckpointError(msg)
    return Gguf(
        file=file,
        metadata=metadata,
        tensors={
            name: _block(file, name, kinds[number], shape, offset, end=end)
            for name, (number, shape, offset) in tensors.items()
        },
    )


def _block(file: Path, name: str, kind: str, shape: tuple[int, ...], offset: int, *, end: int) -> Block:
    gguf = package()
    in_block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    if shape[-1] % in_block:
        msg = f"tensor {name!r} of {file} must have a multiple of {in_block} columns as {kind}, got {shape[-1]}"
        raise CheckpointError(msg)
    count = math.prod(shape) // in_block * size
    if offset + count > end:
        msg = (
            f"{file} must be a complete GGUF file, got {end} bytes where tensor {name!r} needs {offset + count}; "
            "download it again"
        )
        raise CheckpointError(msg)
    return Block(kind, shape, offset, count)


class _Cursor:
    """A place in the bytes of a file; what would go beyond their end raises ValueError."""

    def __init__(self, data: mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            msg = f"an end at byte {len(self.data)} in its header"
            raise ValueError(msg)
        self.at = end
        return self.data[end - count : end]

    def number(self, letter: str) -> Any:
        (value,) = struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))
        return value

    def text(self) -> str:
        return self.take(self.number("Q")).decode()

    def value(self, type_: int) -> Any:
        if type_ in SCALARS:
            return self.number(SCALARS[type_])
        if type_ == STRING:
            return self.text()
        if type_ != LIST:
            msg = f"metadata of type {type_}"
            raise ValueError(msg)
        inner, count = self.number("I"), self.number("Q")
        if count > MAX_ITEMS:
            msg = f"a list of {count} values"
            raise ValueError(msg)
        if inner in SCALARS:
            letters = f"<{count}{SCALARS[inner]}"
            return list(struct.unpack(letters, self.take(struct.calcsize(letters))))
        if inner != STRING:
            msg = f"a list of values of type {inner}"
            raise ValueError(msg)
        return [self.text() for _ in range(count)]


def _header(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, tuple[int, tuple[int, ...], int]]]:
    """Return the metadata, and of each tensor the number of its kind, its shape, and its offset in the file."""
    if (magic := cursor.take(4)) != b"GGUF":
        msg = f"a file that begins with {magic!r}"
        raise ValueError(msg)
    if (version := cursor.number("I")) not in VERSIONS:
        msg = f"version {version}"
        raise ValueError(msg)
    tensor_count, count = cursor.number("Q"), cursor.number("Q")
    metadata = _once((cursor.text(), cursor.value(cursor.number("I"))) for _ in range(count))
    infos = _once((cursor.text(), _info(cursor)) for _ in range(tensor_count))
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1:
        msg = f"an alignment of {alignment!r}"
        raise ValueError(msg)
    start = -(-cursor.at // alignment) * alignment
    return metadata, {name: (kind, shape, start + offset) for name, (kind, shape, offset) in infos.items()}


def _info(cursor: _Cursor) -> tuple[int, tuple[int, ...], int]:
    if not 1 <= (dimensions := cursor.number("I")) <= MAX_DIMENSIONS:
        msg = f"a tensor of {dimensions} dimensions"
        raise ValueError(msg)
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]
    return cursor.number("I"), shape, cursor.number("Q")


def _once(pairs: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            msg = f"{name!r} twice"
            raise ValueError(msg)
        found[name] = value
    return found
