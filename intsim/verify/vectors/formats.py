# SPDX-License-Identifier: Apache-2.0
"""Vectors as files for other programs: npz, safetensors, ``$readmemh`` with a SystemVerilog package, a C header.

All hold the same integers as the text: an array of (cases,) or (cases, count) for each operand, then for the result.
"""

import json
import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.io import safetensors_file
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.operators import Field, Operator

__all__ = [
    "c_header",
    "complete_file",
    "memh",
    "named_arrays",
    "system_verilog_package",
    "write_npz",
    "write_safetensors",
]

HEX_OF_BYTE: Final = np.array([list(b"%02x" % byte) for byte in range(256)], np.uint8)


@contextmanager
def complete_file(path: Path) -> Generator[BinaryIO]:
    """Open a file to write that appears complete or not at all.

    Raises
    ------
    IntsimError
        If it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield cast("BinaryIO", file)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        msg = f"{path} must be writable, got: {os.strerror(error.errno) if error.errno else error}"
        raise IntsimError(msg) from None
    finally:
        if temporary is not None:  # after a replacement there is none left
            temporary.unlink(missing_ok=True)


def _lane_bits(field: Field) -> int:
    """Return the bits that store a word: 1, or the next of 8, 16, 32, 64."""
    return 1 if field.bits == 1 else max(8, 1 << (field.bits - 1).bit_length())


def _fields(operator: Operator, results: Int64 | None) -> list[tuple[str, Field]]:
    outputs = [] if results is None else [("outputs", operator.result)]
    return [*(("inputs", field) for field in operator.operands), *outputs]


def named_arrays(operator: Operator, cases: Int64, results: Int64 | None) -> dict[str, NDArray[np.integer]]:
    """Return ``inputs.<operand>`` and ``outputs.<result>`` in the smallest dtypes that hold them."""
    words = cases if results is None else np.concatenate([cases, results], axis=1)
    arrays: dict[str, NDArray[np.integer]] = {}
    column = 0
    for side, field in _fields(operator, results):
        values = words[:, column : column + field.count]
        column += field.count
        dtype = np.dtype(f"{'' if field.signed else 'u'}int{max(8, _lane_bits(field))}")
        arrays[f"{side}.{field.name}"] = (values if field.count > 1 else values[:, 0]).astype(dtype)
    return arrays


def write_npz(file: BinaryIO, header: Sequence[str], arrays: dict[str, NDArray[np.integer]]) -> None:
    """Write the arrays, and the header as an array of strings called ``header``."""
    columns: dict[str, NDArray[np.generic]] = {"header": np.array(header), **arrays}
    np.savez(file, allow_pickle=False, **columns)


def write_safetensors(path: Path, header: Sequence[str], arrays: dict[str, NDArray[np.integer]]) -> None:
    """Write the arrays, and the header as the metadata ``vectors``."""
    safetensors_file.write(path, arrays, {"vectors": list(header)})


def _layout(operator: Operator, results: Int64 | None, word_bits: int) -> list[tuple[str, Field, int, int]]:
    """Return side, field, first word and words of every field: each starts a word of its own."""
    layout: list[tuple[str, Field, int, int]] = []
    offset = 0
    for side, field in _fields(operator, results):
        words = -(-field.count * _lane_bits(field) // word_bits)
        layout.append((side, field, offset, words))
        offset += words
    return layout


def memh(
    operator: Operator, header: Sequence[str], cases: Int64, results: Int64 | None, *, word_bits: int
) -> Iterator[bytes]:
    """Yield a ``$readmemh`` file: one memory of words, one case a line, little-endian lanes.

    Lane 0 of a field stands in the lowest bits of its first word; a lane wider than a word has its low word first.
    """
    layout = _layout(operator, results, word_bits)
    _, _, last, words = layout[-1]
    case_words, word_bytes = last + words, word_bits // 8
    yield "".join(f"// {line}\n" for line in header).encode()
    yield f"// {word_bits}-bit words, {case_words} a case, little-endian lanes\n".encode()
    arrays = named_arrays(operator, cases, results)
    record = np.zeros((len(cases), case_words, word_bytes), np.uint8)
    for side, field, offset, words in layout:
        values = arrays[f"{side}.{field.name}"].reshape(len(cases), field.count)
        if _lane_bits(field) == 1:
            lanes = np.packbits(values, axis=1, bitorder="little")
        else:
            little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
            lanes = little.view(np.uint8).reshape(len(cases), -1)
        padded = np.zeros((len(cases), words * word_bytes), np.uint8)
        padded[:, : lanes.shape[1]] = lanes
        record[:, offset : offset + words] = padded.reshape(len(cases), words, word_bytes)
    digits = HEX_OF_BYTE[record[:, :, ::-1]].reshape(len(cases), case_words, 2 * word_bytes)
    text = np.full((len(cases), case_words, 2 * word_bytes + 1), ord(" "), np.uint8)
    text[:, :, :-1] = digits
    text[:, -1, -1] = ord("\n")
    yield text.tobytes()


def system_verilog_package(
    operator: Operator, header: Sequence[str], cases: Int64, results: Int64 | None, *, word_bits: int
) -> str:
    """Return the package that says where each field of a case stands in the memory that ``memh`` writes."""
    layout = _layout(operator, results, word_bits)
    case_words = layout[-1][2] + layout[-1][3]
    lines = [f"// {line}" for line in header]
    lines += [f"package intsim_{operator.name}_pkg;"]
    lines += [f"  localparam int CASES = {len(cases)};", f"  localparam int WORD_BITS = {word_bits};"]
    lines += [f"  localparam int CASE_WORDS = {case_words};", "  localparam int DEPTH = CASES * CASE_WORDS;"]
    for name, value in operator.constants.items():
        kind, shown = ("int", str(value)) if isinstance(value, int) else ("string", json.dumps(value))
        lines.append(f"  localparam {kind} {name.upper()} = {shown};")
    for _, field, offset, words in layout:
        name = field.name.upper()
        lines += [
            f"  // {field}",
            f"  localparam int {name}_OFFSET = {offset};",
            f"  localparam int {name}_WORDS = {words};",
            f"  localparam int {name}_LANES = {field.count};",
            f"  localparam int {name}_LANE_BITS = {_lane_bits(field)};",
            f"  localparam int {name}_BITS = {field.bits};",
            f"  localparam bit {name}_SIGNED = {int(field.signed)};",
        ]
    return "\n".join([*lines, "endpackage", ""])


def c_header(operator: Operator, header: Sequence[str], cases: Int64, results: Int64 | None) -> Iterator[str]:
    """Yield a C99 header: a ``static const`` array for each field, and the profile's constants as macros."""
    prefix = f"intsim_{operator.name}"
    guard = f"{prefix}_vectors_h".upper()
    yield "".join(f"// {line}\n" for line in header)
    yield f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n#define {prefix.upper()}_CASES {len(cases)}\n"
    for name, value in operator.constants.items():
        shown = f"({value})" if isinstance(value, int) else json.dumps(value)
        yield f"#define {prefix.upper()}_{name.upper()} {shown}\n"
    for name, values in named_arrays(operator, cases, results).items():
        field = name.partition(".")[2]
        shape = "".join(f"[{length}]" for length in values.shape)
        yield f"\n// {name}\nstatic const {values.dtype}_t {prefix}_{field}{shape} = {{\n"
        opening, closing = ("{", "}") if values.ndim > 1 else ("", "")
        rows: list[list[int]] = values.reshape(len(cases), -1).tolist()
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
