# SPDX-License-Identifier: Apache-2.0
"""Integers as one npz, which ``numpy.load`` opens.

Each member's comment is ``{"bits":BITS,"signed":SIGNED}``: its true width, which a dtype does not tell.
"""

import json
import zipfile
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.lib import format as npy

from intsim._progress import watched
from intsim.io.atomic import Kind, complete_file
from intsim.io.export_kind import TITLE
from intsim.io.exported import Contents

__all__ = ["NPZ", "write_npz"]


def _is_export(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.comment.startswith(TITLE.encode())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


NPZ: Final = Kind("an npz of intsim export", _is_export)


def write_npz(path: Path, contents: Contents) -> None:
    """Write the file ``path``: complete, or not at all; the same integers give the same bytes.

    Raises
    ------
    IntsimError
        If it cannot be written, or is something else.
    """
    with complete_file(path, NPZ) as file, zipfile.ZipFile(file, "w") as archive:
        archive.comment = f"{TITLE}: {contents.about['contents']} {contents.about['model_digest']}".encode()
        for name, tensor in watched(contents.tensors.items(), "writing", unit="tensor"):
            member = zipfile.ZipInfo(f"{name}.npy")
            width = {"bits": tensor.bits, "signed": tensor.signed}
            member.comment = json.dumps(width, separators=(",", ":")).encode()
            little = np.asarray(tensor.values, tensor.values.dtype.newbyteorder("<"), order="C")
            with archive.open(member, "w", force_zip64=True) as part:
                npy.write_array(part, little, allow_pickle=False)
