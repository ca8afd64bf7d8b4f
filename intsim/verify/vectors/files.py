# SPDX-License-Identifier: Apache-2.0
"""Vectors read back from what ``formats`` writes, or a device writes likewise: memh, npz, safetensors.

Each is a header, which answers alone need not have, and the words of every field. A memory is one case behind the other
from address 0, as ``$writememh`` prints it too.
"""

import io
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from intsim._progress import watched
from intsim.errors import IntsimError, said
from intsim.io.safetensors_file import parse_metadata, read_any
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.formats import lane_bits, unpack_lanes, words_of
from intsim.verify.vectors.operators import Field, Operator
from intsim.verify.vectors.text import Header, Parsed, parse_header

__all__ = ["Arrays", "Memory", "arrays_of", "cases_of_arrays", "cases_of_memory", "memory_of", "packed_bits"]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

MAX_INFLATED: Final = 1 << 29
"""Bytes that an npz may hold beyond its own size."""
WORDS_AT: Final = re.compile(rb"[0-9a-fxz]+|@[0-9a-f]+")
UNKNOWN: Final = bytes.maketrans(b"xz", b"00")
WIDTHS: Final = (8, 16, 32, 64, 128, 256, 512)


# npz and safetensors


def arrays_of(path: Path, name: str) -> tuple[Header, Arrays]:
    """Return the header and the arrays of an npz or a safetensors file, which messages call ``name``.

    Raises
    ------
    IntsimError
        If it is damaged.
    """
    if zipfile.is_zipfile(path):
        arrays = _npz(path, name)
        lines = [str(line) for line in arrays.pop("header", np.array([], np.str_)).reshape(-1).tolist()]
    else:
        try:
            arrays, text = read_any(path)
        except IntsimError as error:
            raise IntsimError(str(error).replace(str(path), name)) from None
        header: Any = [] if text is None else parse_metadata(name, text).get("vectors", [])
        lines = [str(line) for line in cast("list[object]", header)] if isinstance(header, list) else []
    return parse_header([(number, line.encode()) for number, line in enumerate(lines, start=1)]), arrays


def _npz(path: Path, name: str) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _bounded(archive.infolist(), path.stat().st_size)
            return {member.filename.removesuffix(".npy"): _npy(archive.read(member)) for member in members}
    except (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = "data that do not decompress" if isinstance(error, zlib.error) else said(error)
        msg = f"{name} must be a complete npz of plain arrays, got: {reason}"
        raise IntsimError(msg) from None


def _bounded(members: Sequence[zipfile.ZipInfo], size: int) -> Sequence[zipfile.ZipInfo]:
    """Return the members of an archive of ``size`` bytes, which must not be many times as large."""
    if (declared := sum(member.file_size for member in members)) > size + MAX_INFLATED:
        msg = f"{declared} bytes in {size}"
        raise ValueError(msg)
    return members


def _npy(data: bytes) -> NDArray[Any]:
    """Return the array in a member, whose header must speak of as many bytes as there are."""
    file: IO[bytes] = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except (MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError):  # of Python's parser
        msg = "a member whose header is not NumPy's"
        raise ValueError(msg) from None
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        msg = f"a member of {len(data)} bytes for {dtype} {shape}"
        raise ValueError(msg)
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def cases_of_arrays(operator: Operator, header: Header, arrays: Arrays) -> Parsed:
    """Return the cases in arrays ``inputs.<operand>`` and ``outputs.<result>``, or in ``<result>`` alone.

    Raises
    ------
    IntsimError
        If the result, or one of several operands, is not there, or has another shape or range.
    """
    bits = packed_bits(header)
    result = next((key for key in (f"outputs.{operator.result.name}", operator.result.name) if key in arrays), None)
    if result is None:
        msg = f"the vectors must have an array outputs.{operator.result.name}, got {', '.join(arrays) or 'none'}"
        raise IntsimError(msg)
    observed = _words(operator.result, result, arrays[result], bits)
    present = [field for field in operator.operands if f"inputs.{field.name}" in arrays]
    operands = None
    if present:
        if len(present) < len(operator.operands):
            missing = next(field.name for field in operator.operands if field not in present)
            msg = f"the vectors must have an array inputs.{missing} beside the other operands, got none"
            raise IntsimError(msg)
        keys = [f"inputs.{field.name}" for field in operator.operands]
        parts = [
            _words(field, key, arrays[key], bits, fits=True) for field, key in zip(operator.operands, keys, strict=True)
        ]
        if len({len(part) for part in (*parts, observed)}) > 1:
            msg = (
                f"arrays of the vectors must have as many cases each, got {[len(part) for part in (*parts, observed)]}"
            )
            raise IntsimError(msg)
        operands = np.concatenate(parts, axis=1)
    words = observed.shape[1] + (0 if operands is None else operands.shape[1])
    return Parsed(
        places=range(1, len(observed) + 1),
        operands=operands,
        observed=observed,
        unknown=np.zeros((len(observed), words), np.bool_),
    )


def packed_bits(header: Header) -> int | None:
    """Return the bits of the words that fields are packed in, if the header says so.

    Raises
    ------
    IntsimError
        If it says something else.
    """
    if (line := header.get("packed")) is None:
        return None
    bits = line[1].partition("-")[0]
    if bits not in map(str, WIDTHS):
        msg = f"line {line[0]}: packed must be words of {', '.join(map(str, WIDTHS))} bits, got {line[1]!r:.60}"
        raise IntsimError(msg)
    return int(bits)


def _words(field: Field, name: str, array: NDArray[Any], bits: int | None, *, fits: bool = False) -> Int64:
    """Return (cases, count) of an array of the field's words, or of packed ones."""
    if array.dtype.kind == "f" and bool(np.isfinite(array).all()) and bool((array == np.rint(array)).all()):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub" or not array.ndim:
        msg = f"array {name} must be integers, a row a case, got {array.dtype} of shape {array.shape}"
        raise IntsimError(msg)
    rows = array.reshape(len(array), -1) if array.size else np.empty((0, 1), array.dtype)
    width = field.count if bits is None else words_of(field, bits)
    if rows.shape[1] != width:
        msg = f"array {name} must have {width} words a case, got shape {array.shape}"
        raise IntsimError(msg)
    if bits is not None:
        little = np.ascontiguousarray(rows.astype(np.dtype(f"<u{bits // 8}")))
        return _in_range(field, name, unpack_lanes(field, little.view(np.uint8)), fits=fits)
    return _in_range(field, name, rows.astype(np.int64), fits=fits)


def _in_range(field: Field, name: str, words: Int64, *, fits: bool) -> Int64:
    low = -(1 << field.bits - 1) if field.signed else 0
    high = low + (1 << min(field.bits, 63)) - 1
    if fits and words.size and field.bits < 64 and not (low <= int(words.min()) and int(words.max()) <= high):
        msg = f"array {name} must fit {field}, got [{words.min()}, {words.max()}]"
        raise IntsimError(msg)
    return words


# memh


class Memory(NamedTuple):
    """Digits of the words of a memory, in lower case; the header before them; the lines that are neither."""

    header: Header
    words: Sequence[bytes]
    skipped: Sequence[tuple[int, bytes]]


def memory_of(lines: Sequence[tuple[int, bytes]]) -> Memory:
    """Return what numbered lines of a ``$readmemh`` file hold; addresses that are passed over hold X.

    Raises
    ------
    IntsimError
        If a line of hexadecimal words has a word that is none, or an address goes back.
    """
    remarks: list[tuple[int, bytes]] = []
    skipped: list[tuple[int, bytes]] = []
    words: list[bytes] = []
    for number, line in watched(lines, "reading", unit="line"):
        code, slashes, _ = line.partition(b"//")
        tokens = code.lower().replace(b"_", b"").split()
        if not tokens:
            (remarks if slashes and not words else skipped).append((number, line))
            continue
        good = sum(WORDS_AT.fullmatch(token) is not None for token in tokens)
        if 2 * good <= len(tokens):
            skipped.append((number, line))
            continue
        for token in tokens:
            if WORDS_AT.fullmatch(token) is None:
                msg = (
                    f"line {number}: a word must be hexadecimal, got {token.decode('ascii', 'backslashreplace')!r:.60}"
                )
                raise IntsimError(msg)
            if not token.startswith(b"@"):
                words.append(token)
                continue
            address = int(token[1:17], 16)
            if not len(words) <= address <= len(words) + len(lines):
                msg = f"line {number}: an address must not go back, nor far beyond the words, got {token.decode()}"
                raise IntsimError(msg)
            words += [b"x"] * (address - len(words))
    return Memory(parse_header(remarks), words, skipped)


def cases_of_memory(operator: Operator, memory: Memory, *, asked: int | None) -> Parsed:
    """Return the cases of a memory, or the answers alone, of which there are ``asked``.

    Raises
    ------
    IntsimError
        If its words are no whole number of cases.
    """
    words, digits = memory.words, max(map(len, memory.words), default=2)
    bits = packed_bits(memory.header) or next((bits for bits in WIDTHS if bits >= 4 * digits), WIDTHS[-1])
    if 4 * digits > bits:
        msg = f"words of the memory must have at most {bits} bits, got one of {digits} digits"
        raise IntsimError(msg)
    fields = [*operator.operands, operator.result]
    each = [words_of(field, bits) for field in fields]
    whole, alone = sum(each), each[-1]
    is_alone = len(words) == (asked or -1) * alone or (len(words) % whole != 0 and len(words) % alone == 0)
    step = alone if is_alone else whole
    if not words or len(words) % step:
        msg = (
            f"the memory must have {whole} words of {bits} bits a case of {operator.name}, or {alone} of its result"
            f" alone, got {len(words)} words"
        )
        raise IntsimError(msg)
    hexadecimal = b"".join(word.translate(UNKNOWN).zfill(bits // 4) for word in words).decode()
    data = np.frombuffer(bytes.fromhex(hexadecimal), np.uint8).reshape(-1, step, bits // 8)[:, :, ::-1]
    unsure = np.array([b"x" in word or b"z" in word for word in words], np.bool_).reshape(-1, step)
    parts, marks, start = list[Int64](), list[NDArray[np.bool_]](), 0
    for field, count in zip(fields[-1:] if is_alone else fields, each[-1:] if is_alone else each, strict=True):
        parts.append(unpack_lanes(field, np.ascontiguousarray(data[:, start : start + count])))
        bit = np.repeat(unsure[:, start : start + count], bits, axis=1)[:, : field.count * lane_bits(field)]
        marks.append(np.asarray(bit.reshape(len(bit), field.count, -1).any(axis=2)))
        start += count
    for field, part in zip(operator.operands, [] if is_alone else parts, strict=False):
        _in_range(field, field.name, part, fits=True)
    return Parsed(
        places=range(1, len(data) + 1),
        operands=None if is_alone else np.concatenate(parts[:-1], axis=1),
        observed=parts[-1],
        unknown=np.concatenate(marks, axis=1),
        skipped=memory.skipped,
    )
