# SPDX-License-Identifier: Apache-2.0
"""Dumps of a forward pass, ours or a device's: named integer arrays in a safetensors trace, an npz or a memh folder."""

import math
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from intsim._trace import Trace
from intsim.errors import IntsimError, said
from intsim.io.bounded import MAX_DATA, MAX_LINE, read_text, standard_input
from intsim.io.safetensors_file import MAX_HEADER, parse_metadata, read_any
from intsim.io.trace_file import check_manifest

__all__ = ["Dump", "HexWords", "read_dump", "seekable"]

MAX_INFLATED: Final = 1 << 29
"""Bytes that an npz may hold beyond its own size: traces shrink tenfold when they are packed, bombs a thousandfold."""
MAX_STREAM: Final = 1 << 32
"""Bytes of a trace or npz that is piped in, which is kept on the disk meanwhile."""
MAX_MEMH: Final = 1 << 26
"""Bytes of a ``$readmemh`` file: its words are numbers of Python, which take ten times as many."""
MAX_WORD: Final = 128
"""Hexadecimal digits of a word: 512 bits."""
HEAD_BYTES: Final = 64  # of a trace or npz, the first of them hold a NUL
BLOCK: Final = 1 << 20
ENCRYPTED: Final = 1  # the flag of a zip member


@dataclass(frozen=True, slots=True)
class HexWords:
    """The words of a ``$readmemh`` file: bits whose dtype and shape the other side of a comparison gives."""

    words: tuple[int, ...]

    def like(self, expected: NDArray[Any]) -> NDArray[Any]:
        """Read the words as two's complement of the dtype of ``expected``, in its shape if their number fits.

        Raises
        ------
        IntsimError
            If a word has more bits than the dtype.
        """
        bits = 8 * expected.dtype.itemsize
        if any(word >> bits for word in self.words):
            msg = f"memh words must fit the {bits} bits of {expected.dtype}, got {max(self.words):x}"
            raise IntsimError(msg)
        unsigned = np.array(self.words, np.dtype(f"u{expected.dtype.itemsize}"))
        values = unsigned.view(expected.dtype)
        return values.reshape(expected.shape) if values.size == expected.size else values


Dump: TypeAlias = Mapping[str, NDArray[Any] | HexWords]


def read_dump(path: str | Path) -> Dump:
    """Return the arrays of a dump, in forward order where it tells: a trace's manifest, an npz's order.

    Parameters
    ----------
    path
        A safetensors trace, an npz, a folder of ``NAME.memh`` files, or ``-`` for a trace or npz on standard input.

    Raises
    ------
    IntsimError
        If it is none of these, or damaged.
    """
    with seekable(path) as file:
        if file.is_dir():
            return _read_memh_folder(file)
        return _read_file(file, "standard input" if str(path) == "-" else str(path))


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
    if not (is_text or head.startswith(b"PK") or (0 < header <= MAX_HEADER and head[8:9] == b"{")):
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
    if zipfile.is_zipfile(path):
        return _read_npz(path, name)
    try:
        tensors, text = read_any(path)
    except IntsimError as error:
        raise IntsimError(str(error).replace(str(path), name)) from None
    _require_integers(name, tensors)
    if text is None:
        return tensors
    metadata = parse_metadata(name, text)
    check_manifest(name, tensors, metadata)
    trace = Trace(metadata["level"])
    trace.update((entry["name"], tensors[entry["name"]]) for entry in metadata["trace"])
    trace.model_digest = metadata.get("model_digest")
    return trace


def _read_npz(path: Path, name: str) -> Dump:
    dump: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in _bounded_members(archive, path.stat().st_size):
                dump[member.filename.removesuffix(".npy")] = _read_npy(archive, member)
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
        shape, dtype = _npy_header(member.filename, file)
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            msg = f"member {member.filename!r} of {member.file_size} bytes for {dtype} {shape}"
            raise ValueError(msg)
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def _npy_header(name: str, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = npy.read_magic(file)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except (MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError):  # of Python's parser
        msg = f"member {name!r} whose header is not NumPy's"
        raise ValueError(msg) from None
    return shape, dtype


def _require_integers(name: str, tensors: Mapping[str, NDArray[Any]]) -> None:
    for tensor, values in tensors.items():
        if values.dtype.kind not in "iub":
            msg = f"tensor '{tensor}' of {name} must be integers, got {values.dtype}"
            raise IntsimError(msg)


def _read_memh_folder(folder: Path) -> Dump:
    files = sorted(folder.glob("*.memh"))
    if not files:
        msg = f"folder {folder} must hold NAME.memh files, got none"
        raise IntsimError(msg)
    return {file.stem: _read_memh(file) for file in files}


def _read_memh(file: Path) -> HexWords:
    words: list[int] = []
    try:
        text = read_text(file, most=MAX_MEMH, longest_line=MAX_LINE, encoding="ascii")
    except (OSError, ValueError) as error:
        msg = f"{file} must be a readable text file, got {said(error)}"
        raise IntsimError(msg) from None
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.split("//")[0].split():
            try:
                words.append(int(word[: MAX_WORD + 1].replace("_", ""), 16))
            except ValueError:
                msg = f"line {number} of {file} must be hexadecimal words, got {word!r:.60}"
                raise IntsimError(msg) from None
            if len(word) > MAX_WORD:
                msg = f"line {number} of {file} must be words of at most {MAX_WORD} digits, got one of {len(word)}"
                raise IntsimError(msg)
    return HexWords(tuple(words))
