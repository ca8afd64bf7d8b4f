# SPDX-License-Identifier: Apache-2.0
"""Dumps of a forward pass, ours or a device's: named integer arrays in any of the files that programs write them to."""

import math
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from intsim._checked import check_kind
from intsim._progress import watched
from intsim.errors import IntsimError, said
from intsim.io.bounded import MAX_DATA, MAX_LINE, parse_json, read_json, read_text, standard_input
from intsim.io.exported import model_contents
from intsim.io.integer_checkpoint import FILE, read_checkpoint
from intsim.io.layout import Layout, Packing, restore_order, unpack_words
from intsim.io.memh import Words, read_memh
from intsim.io.safetensors_file import MAX_HEADER, parse_metadata, read_any
from intsim.io.trace_file import check_manifest
from intsim.models.constants import Constants

__all__ = ["MANIFEST", "SUFFIXES", "Dump", "Values", "elements", "read_dump", "seekable", "whole_numbers"]

Values: TypeAlias = NDArray[Any] | Words

MANIFEST: Final = "manifest.json"
SUFFIXES: Final = ((".memh", ".mem", ".hex"), (".npy",), (".bin", ".raw"), (".txt", ".dec", ".csv"))
"""Of hexadecimal words, arrays of NumPy, raw bytes and decimal text; a folder is of the first kind that is there."""

MAX_INFLATED: Final = 1 << 29
"""Bytes that an npz may hold beyond its own size: traces shrink tenfold when they are packed, bombs a thousandfold."""
MAX_STREAM: Final = 1 << 32
"""Bytes of a trace or npz that is piped in, which is kept on the disk meanwhile."""
MAX_TEXT: Final = 1 << 26
"""Bytes of decimal text: its numbers are objects of Python meanwhile, which take ten times as many."""
HEAD_BYTES: Final = 64  # of a trace or npz, the first of them hold a NUL
BLOCK: Final = 1 << 20
ENCRYPTED: Final = 1  # the flag of a zip member
NPY: Final = b"\x93NUMPY"
INTEGERS: Final = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


class Dump(dict[str, Values]):
    """Name -> values, in forward order where the file tells.

    Attributes
    ----------
    bits
        Name -> true width of those whose file tells it.
    model_digest
        The model's, where the file tells.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bits: dict[str, int] = {}
        self.model_digest: str | None = None


def read_dump(path: str | Path, *, layout: Layout | None = None) -> Dump:
    """Return the tensors of a dump.

    Parameters
    ----------
    path
        A trace of ours, a safetensors file, an npz, a folder that ``intsim export --memh`` wrote, an integer checkpoint
        as what an export of it holds; a device's folder of files NAME.memh, or one file; or ``-`` for standard input.
        ``SUFFIXES`` lists the kinds: hexadecimal words, arrays of NumPy, raw bytes, decimal integers.
    layout
        Of the words of a folder without a manifest, whose banks are files NAME.bank0.memh, NAME.bank1.memh ...

    Raises
    ------
    IntsimError
        If it is none of these, or damaged, or holds other numbers than integers.
    """
    with seekable(path) as file:
        name = "standard input" if str(path) == "-" else str(path)
        if not file.is_dir():
            return _read_file(file, name)
        if (file / MANIFEST).exists():
            return _read_export(file)
        if (file / FILE).exists():
            return _read_model(file)
        return _read_folder(file, banks=1 if layout is None else layout.banks)


@contextmanager
def seekable(path: str | Path) -> Generator[Path]:
    """Yield ``path`` itself, or of standard input (``-``), a pipe or a device a copy that is gone afterwards.

    Raises
    ------
    IntsimError
        If it is closed, does not begin as a trace, an npz or text does, or does not end.
    """
    name, standard = Path(path), str(path) == "-"
    if not standard and (not name.exists() or name.is_file() or name.is_dir()):
        yield name
        return
    with tempfile.NamedTemporaryFile() as copy:
        try:
            with nullcontext(standard_input()) if standard else name.open("rb") as stream:
                _copy("standard input" if standard else str(path), stream, copy)
        except OSError as error:
            msg = f"{path} must be readable, got: {said(error)}"
            raise IntsimError(msg) from None
        yield Path(copy.name)


def _copy(name: str, stream: BinaryIO, copy: IO[bytes]) -> None:
    head = stream.read(HEAD_BYTES)
    header = int.from_bytes(head[:8], "little")
    is_text = b"\0" not in head
    if not (is_text or head.startswith((b"PK", NPY)) or (0 < header <= MAX_HEADER and head[8:9] == b"{")):
        msg = f"{name} must be a trace, an npz or vectors, got bytes that begin otherwise"
        raise IntsimError(msg)
    most, size = MAX_DATA if is_text else MAX_STREAM, 0
    block = head
    while block:
        size += len(block)
        if size > most:
            msg = f"{name} must have at most {most} bytes, got more; give a file"
            raise IntsimError(msg)
        copy.write(block)
        block = stream.read(BLOCK)
    copy.flush()


def _read_file(path: Path, name: str) -> Dump:
    dump = Dump()
    if any(path.suffix in kind for kind in SUFFIXES):
        dump[path.stem] = _read_one(path)
        return dump
    if zipfile.is_zipfile(path):
        return _read_npz(path, name)
    if _begins(path, NPY):
        dump[path.stem] = _read_npy_file(path, name)
        return dump
    try:
        tensors, text = read_any(path)
    except IntsimError as error:
        raise IntsimError(str(error).replace(str(path), name)) from None
    dump.update(tensors)
    if text is not None and "vectors" not in (metadata := parse_metadata(name, text)):
        check_manifest(name, tensors, metadata)
        dump = Dump()
        dump.update((entry["name"], tensors[entry["name"]]) for entry in metadata["trace"])
        dump.bits = {entry["name"]: entry["bits"] for entry in metadata["trace"]}
        dump.model_digest = metadata.get("model_digest")
    _require_integers(name, dump)
    return dump


def _bits(name: str, entry: Mapping[str, Any]) -> int:
    bits = entry.get("bits")
    if type(bits) is not int or not 1 <= bits <= 64:
        msg = f"tensor '{entry['name']}' of {name} must have 1 to 64 bits, got {bits!r:.40}"
        raise IntsimError(msg)
    return bits


def _begins(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(mark)) == mark
    except OSError:  # said by the reader that comes next
        return False


# ---- npz and npy


def _read_npz(path: Path, name: str) -> Dump:
    """Return the arrays of an npz; text in it, a header, is no tensor. A member's comment may tell its true width."""
    dump = Dump()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in watched(_bounded_members(archive, path.stat().st_size), "reading", unit="tensor"):
                values = _read_npy(archive, member)
                if values.dtype.kind == "U":
                    continue
                tensor = member.filename.removesuffix(".npy")
                dump[tensor] = values
                if member.comment.startswith(b'{"bits":'):
                    dump.bits[tensor] = _bits(name, {"name": tensor, **parse_json(member.comment.decode())})
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = "data that do not decompress" if isinstance(error, zlib.error) else said(error)
        msg = f"{name} must be a complete npz of plain arrays, got: {reason}"
        raise IntsimError(msg) from None
    _require_integers(name, dump)
    return dump


def _bounded_members(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """Return the members of an archive of ``size`` bytes, which must not be many times as large."""
    members = archive.infolist()
    declared = sum(member.file_size for member in members)
    if declared > size + MAX_INFLATED:
        msg = f"{declared} bytes in {size}"
        raise ValueError(msg)
    return members


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Return the array in a member, whose header must speak of as many bytes as there are."""
    if not member.filename.endswith(".npy"):
        msg = f"member {member.filename!r}, which is no .npy file"
        raise ValueError(msg)
    if member.flag_bits & ENCRYPTED:
        msg = f"member {member.filename!r} encrypted"
        raise ValueError(msg)
    with archive.open(member) as file:
        _check_npy(f"member {member.filename!r}", file, member.file_size)
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def _read_npy_file(path: Path, name: str) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            _check_npy("a file", file, path.stat().st_size)
            file.seek(0)
            values: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        msg = f"{name} must be a complete .npy of a plain array, got: {said(error)}"
        raise IntsimError(msg) from None
    _require_integers(name, {path.stem: values})
    return values


def _check_npy(name: str, file: IO[bytes], size: int) -> None:
    try:
        version = npy.read_magic(file)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except (MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError):  # of Python's parser
        msg = f"{name} whose header is not NumPy's"
        raise ValueError(msg) from None
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        msg = f"{name} of {size} bytes for {dtype} {shape}"
        raise ValueError(msg)


def _require_integers(name: str, tensors: Mapping[str, Values]) -> None:
    """Refuse other numbers than integers; floats that hold them are kept as they are."""
    for tensor, values in tensors.items():
        if isinstance(values, Words) or values.dtype.kind in "iub":
            continue
        found = str(values.dtype)
        if values.dtype.kind == "f":
            whole = whole_numbers(values)
            if whole.all():
                continue
            index = tuple(int(i) for i in np.argwhere(~whole)[0])
            found = f"{values.dtype}, {values[index]} at {index}"
        msg = f"tensor '{tensor}' of {name} must be integers, got {found}"
        raise IntsimError(msg)


def whole_numbers(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which floats are integers that int64 holds."""
    with np.errstate(invalid="ignore"):  # a NaN is none
        return (values == np.trunc(values)) & (np.abs(values).astype(np.float64) < 2.0**63)


# ---- files of one tensor


def _read_one(path: Path) -> Values:
    """Return the tensor of a file whose suffix says what it is."""
    memh, arrays, raw, _ = SUFFIXES
    try:
        if path.suffix in memh:
            with path.open("rb") as file:
                return read_memh(file)
        if path.suffix in arrays:
            return _read_npy_file(path, str(path))
        if path.suffix in raw:
            return _read_raw(path)
        return _decimals(read_text(path, most=MAX_TEXT, longest_line=MAX_LINE, encoding="ascii"))
    except (OSError, ValueError) as error:
        msg = f"{path} must be a readable file of one tensor, got: {said(error)}"
        raise IntsimError(msg) from None


def _read_raw(path: Path) -> Words:
    data = np.fromfile(path, np.uint8, path.stat().st_size)
    return Words(data.reshape(-1, 1), None, 8, raw=True)


def _decimals(text: str) -> NDArray[Any]:
    """Return the integers of a text, apart by white space or commas, masked where there is an x or z.

    What stands behind ``#`` or ``//`` is a remark.
    """
    lines = [line.partition("#")[0].partition("//")[0].replace(",", " ") for line in text.splitlines()]
    tokens = [token for line in lines for token in line.split()]
    unknown = [token in {"x", "X", "z", "Z"} for token in tokens]
    known = [token for token in tokens if token not in {"x", "X", "z", "Z"}]
    try:
        numbers = np.array(known or ["0"], np.str_).astype(np.int64)
    except (OverflowError, ValueError):
        numbers = _reals(lines, known)
    if not known:
        numbers = numbers[:0]
    if not any(unknown):
        return numbers
    mask = np.array(unknown)
    values = np.zeros(len(tokens), np.int64)
    values[~mask] = numbers
    return np.ma.MaskedArray(values, mask)


def _reals(lines: list[str], tokens: list[str]) -> NDArray[np.int64]:
    for token in tokens:
        if not _is_integer(token):
            number = next((number for number, line in enumerate(lines, start=1) if token in line.split()), 1)
            msg = f"{token!r:.60} in line {number}, where a decimal integer must be; hexadecimal words are a .memh"
            raise ValueError(msg)
    return np.array([int(float(token)) for token in tokens], np.int64)


def _is_integer(token: str) -> bool:
    try:
        value = float(token)
    except ValueError:
        return False
    return value.is_integer() and abs(value) < 2.0**53


def _read_folder(folder: Path, *, banks: int) -> Dump:
    """Return the tensors of a device's folder, in name order."""
    for suffixes in SUFFIXES:
        if files := sorted(file for file in folder.iterdir() if file.suffix in suffixes):
            break
    else:
        msg = f"folder {folder} must hold files NAME.memh, .npy, .bin or .txt, got none"
        raise IntsimError(msg)
    dump = Dump()
    for file in watched(files, "reading", unit="file"):
        if file.stem in dump:
            msg = f"folder {folder} must have one file a tensor, got two of '{file.stem}'"
            raise IntsimError(msg)
        dump[file.stem] = _read_one(file)
    if banks > 1:
        for name in [name.removesuffix(".bank0") for name in dump if name.endswith(".bank0")]:
            parts = [dump.pop(f"{name}.bank{bank}", None) for bank in range(banks)]
            dump[name] = _in_turn(f"{folder}/{name}", parts)
    return dump


def _in_turn(name: str, banks: list[Values | None]) -> Words:
    """Return the words of banks in the order in which they were dealt out."""
    words = [bank for bank in banks if isinstance(bank, Words)]
    if len(words) != len(banks) or len({bank.data.shape for bank in words}) > 1:
        msg = f"{name} must be {len(banks)} banks of hexadecimal words, as many in each, got others"
        raise IntsimError(msg)
    data = np.stack([bank.data for bank in words], axis=1).reshape(-1, words[0].data.shape[1])
    unknown = None
    if any(bank.unknown is not None for bank in words):
        none = np.zeros_like(words[0].data)
        unknown = np.stack([none if bank.unknown is None else bank.unknown for bank in words], axis=1)
        unknown = unknown.reshape(data.shape)
    return Words(data, unknown, words[0].word_bits)


# ---- what export wrote, and what it is of


def _read_model(folder: Path) -> Dump:
    """Return every tensor of an integer checkpoint, under the names of its exports."""
    parameters, digest = read_checkpoint(folder)
    contents = model_contents(Constants(**parameters))
    dump = Dump()
    dump.update((name, tensor.values) for name, tensor in contents.tensors.items())
    dump.bits = {name: tensor.bits for name, tensor in contents.tensors.items()}
    dump.model_digest = digest
    return dump


def _read_export(folder: Path) -> Dump:
    """Return the tensors of a folder with a manifest, in the manifest's order."""
    dump = Dump()
    try:
        manifest: Any = read_json(folder / MANIFEST)
        check_kind("model_digest", digest := manifest.get("model_digest", ""), str)
        dump.model_digest = digest
        for name, entry in watched(manifest["tensors"].items(), "reading", unit="tensor"):
            dump[name], dump.bits[name] = _read_exported(folder, name, entry)
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        msg = f"folder {folder} must be what intsim export wrote, got: {said(error)}"
        raise IntsimError(msg) from None
    return dump


def _read_exported(folder: Path, name: str, entry: Mapping[str, Any]) -> tuple[NDArray[Any], int]:
    layout, packing = Layout.from_json(entry["layout"])
    file, dtype, bits, signed = (
        entry["file"],
        entry["dtype"],
        _bits(str(folder), {**entry, "name": name}),
        entry["signed"],
    )
    shape = tuple(entry["shape"])
    sizes = all(type(size) is int and 0 <= size < 1 << 40 for size in shape)
    if Path(file).name != file or dtype not in INTEGERS or type(signed) is not bool or not sizes or len(shape) > 32:
        msg = f"an entry of '{name}' that is none"
        raise ValueError(msg)
    parts = [_read_one(folder / file.replace("%d", str(bank))) for bank in range(layout.banks)]
    words = _in_turn(name, [*parts])
    if packing.word_bits > 8 * words.data.shape[1]:
        msg = f"'{name}' in words of {words.word_bits} bits, which must have {packing.word_bits}"
        raise ValueError(msg)
    count = layout.elements(shape)
    if len(words.data) != (expected := layout.banks * -(-packing.count(count) // layout.banks)):
        msg = f"'{name}' in {len(words.data)} words, which must be {expected}"
        raise ValueError(msg)
    values, unknown = elements(words, packing, count, bits=bits, signed=signed)
    values = restore_order(values, shape, layout)
    info = np.iinfo(dtype)
    if not values.size or info.min <= int(values.min()) <= int(values.max()) <= info.max:
        values = values.astype(dtype)
    return values if unknown is None else np.ma.MaskedArray(values, restore_order(unknown, shape, layout)), bits


def elements(
    words: Words, packing: Packing, count: int, *, bits: int, signed: bool
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the first ``count`` elements in the words, and which of them are unknown, if any is.

    An element is unknown where one of its lane's bits is, or where it does not fit 64 bits.
    """
    size, used = -(-packing.word_bits // 8), packing.count(count)
    data = words.data[:used, :size]
    values, lost = unpack_words(data, packing, bits=bits, signed=signed)
    if words.unknown is not None:
        mask, wide = unpack_words(words.unknown[:used, :size], packing, bits=min(64, packing.lane_bits), signed=False)
        lost = lost | wide | (mask != 0)
    values, lost = values[:count], lost[:count]
    return values, lost if lost.any() else None
