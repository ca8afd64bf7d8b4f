# SPDX-License-Identifier: Apache-2.0
"""Embedding: the rows of a table of codes."""

from intsim.carrier.exact import Integers, require_integers

__all__ = ["embedding"]


def embedding(ids: Integers, table_q: Integers) -> Integers:
    """Return the rows of ``table_q`` (V, C) named by ``ids`` (...), shape (..., C).

    Raises
    ------
    TypeError
        If ``ids`` or ``table_q`` are not integers.
    ValueError
        If an id is outside [0, V).
    """
    require_integers("ids", ids)
    require_integers("table_q", table_q)
    if ids.size and not 0 <= ids.min() <= ids.max() < len(table_q):
        msg = f"ids must be in [0, {len(table_q)}), got [{ids.min()}, {ids.max()}]"
        raise ValueError(msg)
    return table_q[ids]
