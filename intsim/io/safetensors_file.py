# SPDX-License-Identifier: Apache-2.0
"""The one reader and writer of intsim's own safetensors files: arrays, and canonical JSON under one metadata key."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim._checked import check_kind
from intsim._progress import watched
from intsim.errors import CheckpointError, IntsimError, said
from intsim.io.atomic import Kind, complete_file
from intsim.io.bounded import parse_json

__all__ = ["carrying", "parse_metadata", "read", "read_any", "write"]

KEY: Final = "intsim"
BLOCK: Final = 1 << 18  # elements copied at a time where the memory of an array is not in order
DTYPES: Final = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
}
FLOATS: Final = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}  # in other people's files
NUMPY_DTYPES: Final = {**{name: np.dtype(dtype).newbyteorder("<") for dtype, name in DTYPES.items()}, **FLOATS}
MAX_HEADER: Final = 100_000_000
"""Bytes of a header: the limit of the safetensors package."""
ZIP: Final = b"PK\x03\x04"


def carrying(key: str, name: str) -> Kind:
    """Return the kind of intsim's files, called ``name``, whose metadata have ``key``."""

    def recognises(file: BinaryIO) -> bool:
        try:
            return key in parse_json(_header(file)["__metadata__"][KEY])
        except (AttributeError, LookupError, TypeError, ValueError):  # anyone's file
            return False

    return Kind(name, recognises)


def write(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any], kind: Kind) -> None:
    """Write the file atomically: it appears complete or not at all, and the same input gives the same bytes.

    Arrays go to the disk one by one; the package's own writer first copies them all, writes the memory of a
    non-contiguous array as if it were contiguous, and puts several metadata keys in random order.

    Parameters
    ----------
    path, tensors, metadata
        The file and what it holds.
    kind
        What it may replace.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # widest first, as the format asks, so that every array is aligned
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {KEY: text}}
    start = 0
    for name in order:
        values = tensors[name]
        end = start + values.nbytes
        header[name] = {"dtype": DTYPES[values.dtype.name], "shape": values.shape, "data_offsets": [start, end]}
        start = end
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    try:
        with complete_file(path, kind) as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for name in watched(order, "writing", unit="tensor"):
                for block in _in_order(tensors[name]):
                    file.write(block.data)
    except IntsimError as error:
        raise CheckpointError(str(error)) from None


def _in_order(values: NDArray[Any]) -> Iterable[NDArray[Any]]:
    """Return the little-endian elements in C order, in contiguous pieces."""
    nditer: Any = np.nditer  # its types lack "contig"
    return nditer(
        values,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly", "contig"]],
        op_dtypes=[values.dtype.newbyteorder("<")],
        order="C",
        casting="equiv",
        buffersize=BLOCK,
    )


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays, in name order, and the metadata of a file that ``write`` made.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, or not intsim's.
    """
    tensors, text = read_any(path)
    return tensors, parse_metadata(str(path), text or "")


def parse_metadata(path: str, text: str) -> dict[str, Any]:
    """Return the metadata of the file ``path``, whose text ``read_any`` gave.

    Raises
    ------
    CheckpointError
        If it is no JSON object.
    """
    try:
        metadata: Any = parse_json(text)
    except json.JSONDecodeError:
        msg = f"{path} must carry intsim's metadata, got a safetensors file without it; make one with intsim quantize"
        raise CheckpointError(msg) from None
    except ValueError as error:
        msg = f"{path} must carry intsim's metadata, got {error}"
        raise CheckpointError(msg) from None
    if not isinstance(metadata, dict):
        msg = f"{path} must carry a JSON object as intsim's metadata, got {metadata!r:.40}"
        raise CheckpointError(msg)
    return cast("dict[str, Any]", metadata)


def read_any(path: Path) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return the arrays, in name order, and the text of intsim's metadata, if any, of anyone's safetensors file.

    Each array is read into its own memory; the package's own reader holds the whole file a second time.

    Raises
    ------
    CheckpointError
        If the file is missing, truncated, or holds a dtype that NumPy lacks.
    """
    try:
        with path.open("rb") as file:
            header = _header(file)
            texts: dict[str, str] = header.pop("__metadata__", {})
            check_kind("metadata", texts.get(KEY, ""), str)
            tensors = _tensors(file, header)
            return {name: tensors[name] for name in sorted(tensors)}, texts.get(KEY)
    except OSError as error:
        reason = said(error)
    except (
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:  # anyone's JSON
        reason = f"a header with {said(error)}" if isinstance(error, KeyError) else said(error)
    msg = f"{path} must be a readable safetensors file, got: {reason}"
    raise CheckpointError(msg)


def _header(file: BinaryIO) -> dict[str, Any]:
    """Return the JSON in front of the tensors."""
    start = file.read(8)
    size = int.from_bytes(start, "little")
    if start.startswith(ZIP):
        msg = "a zip archive, as an npz is"
        raise ValueError(msg)
    if size > MAX_HEADER:
        msg = "a file that begins otherwise"
        raise ValueError(msg)
    try:
        header: Any = parse_json(file.read(size).decode())
    except json.JSONDecodeError:
        msg = "a file without a header in JSON"
        raise ValueError(msg) from None
    if not isinstance(header, dict):
        msg = f"a header {header!r:.40}"
        raise ValueError(msg)  # noqa: TRY004  of a file
    entries = cast("dict[str, Any]", header)
    for name, entry in entries.items():
        if name != "__metadata__" and not _is_entry(entry):
            msg = f"tensor {name!r:.80} without a dtype, shape and data_offsets"
            raise ValueError(msg)
    return entries


def _is_entry(entry: Any) -> bool:
    match entry:
        case {"dtype": str(), "shape": list(), "data_offsets": [int(), int()]}:
            return all(type(size) is int and size >= 0 for size in cast("list[object]", entry["shape"]))
        case _:
            return False


def _tensors(file: BufferedReader, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays behind the header, which lie in the file without a gap."""
    tensors: dict[str, NDArray[Any]] = {}
    start, size = 0, os.fstat(file.fileno()).st_size - file.tell()
    in_file = sorted(header.items(), key=lambda item: item[1]["data_offsets"][0])
    for name, entry in watched(in_file, "reading", unit="tensor"):
        dtype = np.dtype(NUMPY_DTYPES[entry["dtype"]])
        end = start + math.prod(entry["shape"]) * dtype.itemsize
        if entry["data_offsets"] != [start, end]:
            msg = f"tensor {name!r} at {entry['data_offsets']} instead of [{start}, {end}]"
            raise ValueError(msg)
        if end > size:
            msg = f"{size} bytes of tensors where {name!r} ends at {end}"
            raise ValueError(msg)
        values = np.empty(entry["shape"], dtype)
        file.readinto(values.reshape(-1).view(np.uint8).data)
        start = end
        tensors[name] = values
    if start != size:
        msg = f"{size - start} bytes behind the last tensor"
        raise ValueError(msg)
    return tensors
