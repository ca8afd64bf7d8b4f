# SPDX-License-Identifier: Apache-2.0
"""How an exported file is recognised: only such a one is replaced."""

from typing import BinaryIO, Final

from intsim.io.atomic import Kind

__all__ = ["EXPORT", "TITLE"]

TITLE: Final = "intsim export"
STARTS: Final = (f"// {TITLE}".encode(), b'{"intsim": {"export": ')


def _is_export(file: BinaryIO) -> bool:
    return file.read(max(map(len, STARTS))).startswith(STARTS)


EXPORT: Final = Kind("an export of intsim", _is_export)
