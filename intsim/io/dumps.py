# SPDX-License-Identifier: Apache-2.0
"""Dumps of a forward pass, ours or a device's: named integer arrays in a safetensors trace, an npz or a memh folder."""

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim._trace import Trace
from intsim.errors import IntsimError
from intsim.io.safetensors_file import parse_metadata, read_any
from intsim.io.trace_file import check_manifest

__all__ = ["Dump", "HexWords", "read_dump"]


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
    if str(path) == "-":
        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
            return _read_file(Path(file.name), "standard input")
    if Path(path).is_dir():
        return _read_memh_folder(Path(path))
    return _read_file(Path(path), str(path))


def _read_file(path: Path, name: str) -> Dump:
    if zipfile.is_zipfile(path):
        return _read_npz(path, name)
    tensors, text = read_any(path)
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
    try:
        with np.load(path, allow_pickle=False) as arrays:
            dump: dict[str, NDArray[Any]] = {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        msg = f"{name} must be a complete npz of plain arrays, got: {error}"
        raise IntsimError(msg) from None
    _require_integers(name, dump)
    return dump


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
        for number, line in enumerate(file.read_text(encoding="ascii").splitlines(), start=1):
            for word in line.split("//")[0].split():
                try:
                    words.append(int(word.replace("_", ""), 16))
                except ValueError:
                    msg = f"line {number} of {file} must be hexadecimal words, got {word!r}"
                    raise IntsimError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} must be a readable text file, got {error}"
        raise IntsimError(msg) from None
    return HexWords(tuple(words))
