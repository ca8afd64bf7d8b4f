# SPDX-License-Identifier: Apache-2.0
"""Integers as a C99 header: an array of each tensor, a type of each activation."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from intsim._progress import watched
from intsim.io.atomic import complete_file
from intsim.io.export_kind import EXPORT, TITLE
from intsim.io.exported import Contents, Exported, describe
from intsim.io.identifiers import identifiers

__all__ = ["FILES", "c_header", "write_header"]

FILES: Final = {"model": "constants.h", "trace": "trace.h"}
PREFIX: Final = "intsim_"


def write_header(folder: Path, contents: Contents) -> str:
    """Write ``constants.h``, of a trace ``trace.h``, into a folder; return its name.

    Raises
    ------
    IntsimError
        If it cannot be written.
    """
    name = FILES[contents.about["contents"]]
    with complete_file(folder / name, EXPORT) as file:
        file.writelines(line.encode("ascii", "backslashreplace") for line in c_header(contents))
    return name


def c_header(contents: Contents) -> Iterator[str]:
    """Yield a header that any C99 compiler takes.

    A tensor is ``static const TYPE intsim_NAME[...]``, of the narrowest type that holds its elements; a scalar has no
    brackets; points and other signs of its name are underscores. Each activation's codes are a type of their own,
    ``intsim_NAME_t``, with the scale as a ``intsim_dyadic``.
    """
    about = contents.about
    yield f"// {TITLE}: constants of {about['contents']} {about['model_digest']}, profile {about['profile_hash']}\n"
    guard = f"INTSIM_{about['contents'].upper()}_H"
    yield f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n"
    if "formats" in about:
        yield "// multiplier / 2**shift\n"
        yield "typedef struct {\n  int32_t multiplier;\n  uint8_t shift;\n} intsim_dyadic;\n"
    yield from _activations(about.get("formats", {}))
    names = identifiers(contents.tensors)
    for name, identifier in watched(names.items(), "writing", unit="tensor"):
        yield from _array(name, PREFIX + identifier, contents.tensors[name])
    yield f"\n#endif  // {guard}\n"


def _activations(formats: Mapping[str, Any]) -> Iterator[str]:
    for name, identifier in identifiers(formats).items():
        found = formats[name]
        yield f"\n// {name}: {found['bits']} bits, real = (code - zero_point) * scale\n"
        yield f"typedef {_type(found['bits'], signed=found['signed'])} {PREFIX}{identifier}_t;\n"
        multiplier, shift = found["scale"]["multiplier"], found["scale"]["shift"]
        if isinstance(multiplier, int):
            yield f"static const intsim_dyadic {PREFIX}{identifier}_scale = {{{multiplier}, {shift}}};\n"
        else:
            pairs = ", ".join(f"{{{m}, {s}}}" for m, s in zip(multiplier, shift, strict=True))
            yield f"static const intsim_dyadic {PREFIX}{identifier}_scale[{len(shift)}] = {{{pairs}}};\n"


def _type(bits: int, *, signed: bool) -> str:
    return f"{'' if signed else 'u'}int{max(8, 1 << (bits - 1).bit_length())}_t"


def _array(name: str, identifier: str, tensor: Exported) -> Iterator[str]:
    values, kind = tensor.values, _type(tensor.bits, signed=tensor.signed)
    yield f"\n// {name}: {describe(tensor)}\n"
    if not values.size:
        return
    if values.ndim == 0:
        yield f"static const {kind} {identifier} = {_literal(int(values), kind)};\n"
        return
    shape = "".join(f"[{length}]" for length in values.shape)
    yield f"static const {kind} {identifier}{shape} = {{\n"
    yield from _rows(values.tolist(), values.ndim, kind)
    yield "};\n"


def _rows(values: list[Any], depth: int, kind: str) -> Iterator[str]:
    if depth == 1:
        for start in range(0, len(values), 16):
            yield f"  {', '.join(_literal(value, kind) for value in values[start : start + 16])},\n"
        return
    for row in values:
        yield "{\n"
        yield from _rows(row, depth - 1, kind)
        yield "},\n"


def _literal(value: int, kind: str) -> str:
    """Return a constant expression of the type: C has no literal for the lowest int."""
    if kind in {"int8_t", "uint8_t", "int16_t", "uint16_t"}:
        return str(value)
    macro = kind.removesuffix("_t").upper() + "_C"
    lowest = kind.startswith("int") and value == -(1 << int(kind[3:-2]) - 1)
    return f"(-{macro}({-value - 1}) - 1)" if lowest else f"{macro}({value})"
