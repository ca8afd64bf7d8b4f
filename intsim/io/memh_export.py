# SPDX-License-Identifier: Apache-2.0
"""Integers in the files that a testbench reads: a memory image a tensor, a manifest, a SystemVerilog package.

``NAME.memh`` is what ``$readmemh`` takes: a word a line, hexadecimal, as ``intsim.io.layout`` says; of several banks,
``NAME.bank0.memh``, ``NAME.bank1.memh`` ... ``manifest.json`` says for each tensor

- ``file``: its name, ``%d`` standing for the number of the bank;
- ``shape``, ``dtype``, ``bits`` and ``signed`` of its elements;
- ``layout``: ``word_bits``, ``lanes``, ``lane_bits``, ``tile``, ``tile_order``, ``transposed``, ``banks``, and the
  ``words`` in each of them;
- ``scale`` and ``zero_point``, where they are fixed: real = (code - zero_point) * scale;

and beside ``tensors`` the profile, the digest of the model, its configuration and formats; or of a trace ``calls``: the
operator, operands and constants that gave each result. ``intsim_model_pkg.sv``, of a trace ``intsim_trace_pkg.sv``, is
a package of the same numbers as parameters, and of the values of scalars, below the description of layouts.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from intsim._progress import watched
from intsim.errors import IntsimError
from intsim.io.atomic import complete_folder
from intsim.io.dumps import MANIFEST
from intsim.io.export_kind import EXPORT, TITLE
from intsim.io.exported import Contents, Exported, describe
from intsim.io.identifiers import identifiers
from intsim.io.layout import Layout, arrange
from intsim.io.layout import __doc__ as layout_description
from intsim.io.memh import format_memh

__all__ = ["write_memh"]

VERSION: Final = 1


def write_memh(path: Path, contents: Contents, layout: Layout) -> None:
    """Write the folder ``path``: complete, or not at all.

    Parameters
    ----------
    path
        The folder.
    contents
        What is written.
    layout
        Of every tensor.

    Raises
    ------
    IntsimError
        If a tensor does not fit the layout, or the folder cannot be written or holds something else.
    """
    with complete_folder(path, EXPORT) as folder:
        entries: dict[str, dict[str, Any]] = {}
        for name, tensor in watched(contents.tensors.items(), "writing", unit="tensor"):
            try:
                entries[name] = _write_tensor(folder, name, tensor, layout)
            except ValueError as error:
                msg = f"tensor '{name}' must fit the layout, got: {error}"
                raise IntsimError(msg) from None
        (folder / MANIFEST).write_text("".join(_manifest(contents.about, entries)))
        package = f"intsim_{contents.about['contents']}_pkg"
        (folder / f"{package}.sv").write_text("".join(_package(package, contents, entries)))


def _write_tensor(folder: Path, name: str, tensor: Exported, layout: Layout) -> dict[str, Any]:
    if "/" in name or "\0" in name:
        msg = "a name that is no file's"
        raise ValueError(msg)
    banks = arrange(tensor.values, layout, bits=tensor.bits)
    file = f"{name}.memh" if layout.banks == 1 else f"{name}.bank%d.memh"
    placed = {**layout.to_json(tensor.bits), "words": banks.shape[1]}
    for number, words in enumerate(banks):
        head = f"// {TITLE}: {name}\n// {describe(tensor)}; {_placed(placed, number)}\n"
        text = head.encode("ascii", "backslashreplace") + format_memh(words, placed["word_bits"])
        (folder / file.replace("%d", str(number))).write_bytes(text)
    return {"file": file, **tensor.to_json(), "layout": placed}


def _placed(placed: Mapping[str, Any], bank: int) -> str:
    """Return where elements stand, in words."""
    lanes = f" of {placed['lanes']} lanes of {placed['lane_bits']} bits" if placed["lanes"] > 1 else ""
    tile = placed["tile"]
    return (
        f"{placed['words']} words of {placed['word_bits']} bits{lanes}"
        + (", transposed" if placed["transposed"] else "")
        + (f", tiles of {tile[0]}x{tile[1]}, {placed['tile_order']} first" if tile else "")
        + (f", bank {bank} of {placed['banks']}" if placed["banks"] > 1 else "")
    )


def _manifest(about: Mapping[str, Any], entries: Mapping[str, Any]) -> Iterator[str]:
    """Yield JSON with a tensor, or a call, a line."""
    yield f'{{"intsim": {json.dumps({"export": VERSION})},\n'
    for key, value in about.items():
        if key == "calls":
            yield '"calls": [\n' + ",\n".join(json.dumps(call, sort_keys=True) for call in value) + "\n],\n"
        else:
            yield f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)},\n"
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    yield '"tensors": {\n' + ",\n".join(lines) + "\n}}\n"


def _package(package: str, contents: Contents, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a SystemVerilog package: values of one element, and of every memory its size and packing."""
    yield f"// {TITLE}: parameters of {contents.about['contents']} {contents.about['model_digest']}\n"
    yield from (f"// {line}".rstrip() + "\n" for line in (layout_description or "").replace("``", "").splitlines())
    yield f"package {package};\n"
    for name, identifier in identifiers(contents.tensors).items():
        tensor, entry = contents.tensors[name], entries[name]
        layout, shape, upper = entry["layout"], entry["shape"], identifier.upper()
        yield f"  // {name}: {describe(tensor)}\n".encode("ascii", "backslashreplace").decode()
        if tensor.values.size == 1:
            yield f"  localparam logic signed [63:0] {upper} = {_literal(int(tensor.values.reshape(-1)[0]))};\n"
            continue
        yield f'  localparam {upper}_FILE = "{entry["file"]}";\n'
        sizes = {
            "ROWS": tensor.values.size // shape[-1] if shape[-1] else 0,
            "COLUMNS": shape[-1],
            "BITS": entry["bits"],
            "WORD_BITS": layout["word_bits"],
            "LANES": layout["lanes"],
            "LANE_BITS": layout["lane_bits"],
            "DEPTH": layout["words"],
        }
        for part, value in sizes.items():
            yield f"  localparam int {upper}_{part} = {value};\n"
        yield f"  localparam bit {upper}_SIGNED = {int(entry['signed'])};\n"
    yield "endpackage\n"


def _literal(value: int) -> str:
    return f"-64'sd{-value}" if value < 0 else f"64'sd{value}"
