# SPDX-License-Identifier: Apache-2.0
"""Names of tensors as names of C and SystemVerilog."""

import re
from collections.abc import Iterable

__all__ = ["identifiers"]


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Return an identifier for each name, in order, no two alike in upper case: ``a.b@0`` is ``a_b_0``.

    A name whose identifier another one has, or could make its own by a suffix, is followed by ``_x2``, ``_x3`` ...
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        identifier = plain = plain if plain[:1].isalpha() else f"t_{plain}"
        count = 1
        while identifier.upper() in taken:
            count += 1
            identifier = f"{plain}_x{count}"
        taken.add(identifier.upper())
        found[name] = identifier
    return found
