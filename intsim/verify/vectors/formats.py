# SPDX-License-Identifier: Apache-2.0
"""Vectors as files for other programs: npz, safetensors, ``$readmemh`` with a SystemVerilog package, a C header.

All hold the same integers as the text: an array of (cases,) or (cases, count) for each operand, then for the result.
Packed for a memory of words they hold (cases, words): each field starts a word of its own, lane 0 in the lowest bits of
its first word; a lane wider than a word has its low word first.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from intsim.io import safetensors_file
from intsim.io.atomic import Kind
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.operators import OPERATORS, Field, Operator

__all__ = [
    "VECTORS",
    "c_header",
    "lane_bits",
    "memh",
    "named_arrays",
    "pack_lanes",
    "packed_header",
    "system_verilog_package",
    "unpack_lanes",
    "words_of",
    "write_npz",
    "write_safetensors",
]

HEAD_BYTES: Final = 4096
TITLE: Final = "intsim vectors: "
STARTS: Final = tuple(f"{mark} {TITLE}".encode() for mark in ("#", "//"))


def _is_vectors(file: BinaryIO) -> bool:
    head = file.read(HEAD_BYTES)
    in_json = head[8:].startswith(b'{"__metadata__":{"intsim":"{\\"vectors\\":')
    return head.startswith(STARTS) or in_json or (head.startswith(b"PK") and TITLE.encode("utf-32-le") in head)


VECTORS: Final = Kind("a file of intsim vectors", _is_vectors)
HEX_OF_BYTE: Final = np.array([list(b"%02x" % byte) for byte in range(256)], np.uint8)


def lane_bits(field: Field) -> int:
    """Return the bits that store a word: 1, or the next of 8, 16, 32, 64."""
    return 1 if field.bits == 1 else max(8, 1 << (field.bits - 1).bit_length())


def _fields(operator: Operator, results: Int64 | None) -> list[tuple[str, Field]]:
    outputs = [] if results is None else [("outputs", operator.result)]
    return [*(("inputs", field) for field in operator.operands), *outputs]


def _parts(operator: Operator, cases: Int64, results: Int64 | None) -> Iterator[tuple[str, Field, Int64]]:
    """Yield side, field and words (cases, count) of every field."""
    words = cases if results is None else np.concatenate([cases, results], axis=1)
    column = 0
    for side, field in _fields(operator, results):
        yield side, field, words[:, column : column + field.count]
        column += field.count


def _lanes(field: Field, values: Int64) -> NDArray[np.integer]:
    """Return the words of a field in the smallest dtype that holds them."""
    return values.astype(np.dtype(f"{'' if field.signed else 'u'}int{max(8, lane_bits(field))}"))


def pack_lanes(field: Field, values: Int64, *, word_bits: int) -> NDArray[np.uint8]:
    """Return the words of a field (cases, count) as little-endian lanes: bytes (cases, words, word_bits / 8)."""
    cases, word_bytes = len(values), word_bits // 8
    if lane_bits(field) == 1:
        lanes = np.packbits(values.astype(np.uint8), axis=1, bitorder="little")
    else:
        signed = _lanes(field, values)
        little = np.ascontiguousarray(signed, signed.dtype.newbyteorder("<"))
        lanes = little.view(np.uint8).reshape(cases, -1)
    words = -(-lanes.shape[1] // word_bytes)
    padded = np.zeros((cases, words * word_bytes), np.uint8)
    padded[:, : lanes.shape[1]] = lanes
    return padded.reshape(cases, words, word_bytes)


def unpack_lanes(field: Field, packed: NDArray[np.uint8]) -> Int64:
    """Return the words (cases, count) that ``pack_lanes`` packed."""
    lanes = packed.reshape(len(packed), math.prod(packed.shape[1:]))
    if lane_bits(field) == 1:
        return np.unpackbits(lanes, axis=1, count=field.count, bitorder="little").astype(np.int64)
    dtype = np.dtype(f"<{'i' if field.signed else 'u'}{lane_bits(field) // 8}")
    return np.ascontiguousarray(lanes[:, : field.count * dtype.itemsize]).view(dtype).astype(np.int64)


def packed_header(header: Sequence[str], word_bits: int) -> list[str]:
    """Return the header of packed vectors."""
    return [*header, f"packed: {word_bits}-bit words, little-endian lanes"]


def named_arrays(
    operator: Operator, cases: Int64, results: Int64 | None, *, word_bits: int | None = None
) -> dict[str, NDArray[np.integer]]:
    """Return ``inputs.<operand>`` and ``outputs.<result>`` in the smallest dtypes that hold them, or in words."""
    arrays: dict[str, NDArray[np.integer]] = {}
    for side, field, values in _parts(operator, cases, results):
        if word_bits is None:
            arrays[f"{side}.{field.name}"] = _lanes(field, values if field.count > 1 else values[:, 0])
        else:
            packed = pack_lanes(field, values, word_bits=word_bits).view(f"<u{word_bits // 8}")[..., 0]
            arrays[f"{side}.{field.name}"] = packed.astype(np.dtype(f"uint{word_bits}"))
    return arrays


def write_npz(file: BinaryIO, header: Sequence[str], arrays: dict[str, NDArray[np.integer]]) -> None:
    """Write the arrays, and the header as an array of strings called ``header``."""
    columns: dict[str, NDArray[np.generic]] = {"header": np.array(header), **arrays}
    np.savez(file, allow_pickle=False, **columns)


def write_safetensors(path: Path, header: Sequence[str], arrays: dict[str, NDArray[np.integer]]) -> None:
    """Write the arrays, and the header as the metadata ``vectors``."""
    safetensors_file.write(path, arrays, {"vectors": list(header)}, VECTORS)


def _layout(operator: Operator, results: Int64 | None, word_bits: int) -> list[tuple[str, Field, int, int]]:
    """Return side, field, first word and words of every field: each starts a word of its own."""
    layout: list[tuple[str, Field, int, int]] = []
    offset = 0
    for side, field in _fields(operator, results):
        words = words_of(field, word_bits)
        layout.append((side, field, offset, words))
        offset += words
    return layout


def memh(
    operator: Operator, header: Sequence[str], cases: Int64, results: Int64 | None, *, word_bits: int
) -> Iterator[bytes]:
    """Yield a ``$readmemh`` file: one memory of words, one case a line."""
    yield "".join(f"// {line}\n" for line in packed_header(header, word_bits)).encode()
    parts = _parts(operator, cases, results)
    record = np.concatenate([pack_lanes(field, part, word_bits=word_bits) for _, field, part in parts], axis=1)
    digits = HEX_OF_BYTE[record[:, :, ::-1]].reshape(*record.shape[:2], word_bits // 4)
    text = np.full((*record.shape[:2], word_bits // 4 + 1), ord(" "), np.uint8)
    text[:, :, :-1] = digits
    text[:, -1, -1] = ord("\n")
    yield text.tobytes()


def system_verilog_package(
    operator: Operator, header: Sequence[str], cases: Int64, results: Int64 | None, *, word_bits: int
) -> str:
    """Return the package that says where each field of a case stands in the memory that ``memh`` writes."""
    layout = _layout(operator, results, word_bits)
    case_words = layout[-1][2] + layout[-1][3]
    lines = [f"// {line}" for line in packed_header(header, word_bits)]
    lines += [f"package intsim_{operator.name}_pkg;"]
    lines += [f"  localparam int CASES = {len(cases)};", f"  localparam int WORD_BITS = {word_bits};"]
    lines += [f"  localparam int CASE_WORDS = {case_words};", "  localparam int DEPTH = CASES * CASE_WORDS;"]
    for name, value in operator.constants.items():
        # a string parameter compiles nowhere but in the newest tools; a vector of its bytes compares with a literal
        kind, shown = ("int", str(value)) if isinstance(value, int) else (f"bit [{8 * len(value) - 1}:0]", f'"{value}"')
        lines.append(f"  localparam {kind} {name.upper()} = {shown};")
    if OPERATORS[operator.name].to:
        lines.append(f"  localparam bit NARROW = {int(operator.formats.to.narrow)};  // of the result: no lowest code")
    for _, field, offset, words in layout:
        name = field.name.upper()
        lines += [
            f"  // {field}",
            f"  localparam int {name}_OFFSET = {offset};",
            f"  localparam int {name}_WORDS = {words};",
            f"  localparam int {name}_LANES = {field.count};",
            f"  localparam int {name}_LANE_BITS = {lane_bits(field)};",
            f"  localparam int {name}_BITS = {field.bits};",
            f"  localparam bit {name}_SIGNED = {int(field.signed)};",
        ]
    return "\n".join([*lines, "endpackage", ""])


def c_header(operator: Operator, header: Sequence[str], arrays: Mapping[str, NDArray[np.integer]]) -> Iterator[str]:
    """Yield a C99 header: a ``static const`` array for each field, and the profile's constants as macros."""
    prefix = f"intsim_{operator.name}"
    guard = f"{prefix}_vectors_h".upper()
    cases = len(next(iter(arrays.values())))
    yield "".join(f"// {line}\n" for line in header)
    yield f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n#define {prefix.upper()}_CASES {cases}\n"
    for name, value in operator.constants.items():
        shown = f"({value})" if isinstance(value, int) else json.dumps(value)
        yield f"#define {prefix.upper()}_{name.upper()} {shown}\n"
    for name, values in arrays.items():
        field = name.partition(".")[2]
        shape = "".join(f"[{length}]" for length in values.shape)
        yield f"\n// {name}\nstatic const {values.dtype}_t {prefix}_{field}{shape} = {{\n"
        opening, closing = ("{", "}") if values.ndim > 1 else ("", "")
        rows: list[list[int]] = values.reshape(cases, -1).tolist()
        for row in rows:
            yield f"  {opening}{', '.join(_literal(value, values.dtype) for value in row)}{closing},\n"
        yield "};\n"
    yield f"\n#endif  // {guard}\n"


def _literal(value: int, dtype: np.dtype[np.integer]) -> str:
    """Return a constant expression of a type that holds the value: C has no literal for the lowest int."""
    if dtype.itemsize < 4:
        return str(value)
    bits = 8 * dtype.itemsize
    if dtype.kind == "u":
        return f"UINT{bits}_C({value})"
    return f"(-INT{bits}_C({-value - 1}) - 1)" if value == -(1 << (bits - 1)) else f"INT{bits}_C({value})"


def words_of(field: Field, word_bits: int) -> int:
    """Return how many words a field of a case is packed in."""
    return -(-field.count * lane_bits(field) // word_bits)
