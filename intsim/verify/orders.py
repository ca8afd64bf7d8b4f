# SPDX-License-Identifier: Apache-2.0
"""Right values in another order: the permutation found, by name."""

import math
from collections.abc import Iterator
from itertools import islice, permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_order"]

Values = NDArray[Any]

MOST: Final = 1 << 22
"""Elements of a tensor whose order is looked for."""
MAX_GROUP: Final = 64  # lanes of a word
MAX_TILE: Final = 256
HEAD: Final = 64  # elements that are looked at first
SHOWN: Final = 16  # of a permutation's places


def find_order(expected: Values, actual: Values, *, bits: int) -> str | None:
    """Say how a device has ordered the values of a tensor, or None if it has others.

    Looked for: bytes of each value reversed; rows, columns, any axis, or groups of columns (lanes,
    heads) reversed; axes or heads exchanged; tiles; a rotation; any other permutation of rows or of columns.

    Parameters
    ----------
    expected, actual
        Integers of one shape.
    bits
        Of an element, whose bytes are looked at.
    """
    if not 1 < expected.size <= MOST or object in (expected.dtype, actual.dtype):
        return None
    if (swapped := _swapped(expected, actual, bits)) is not None:
        return swapped
    if not np.array_equal(np.sort(expected, axis=None), np.sort(actual, axis=None)):
        return None
    flat = actual.reshape(-1)
    head = flat[:HEAD].tolist()
    for name, permuted in _orders(expected):
        if list(islice(permuted.flat, HEAD)) == head and np.array_equal(permuted.reshape(-1), flat):
            return name
    return _found(expected, actual) or "the same values in another order"


def _swapped(expected: Values, actual: Values, bits: int) -> str | None:
    """Say whether the bytes of every value are reversed."""
    for size in (2, 4, 8):
        if bits > 4 * size and bits <= 8 * size:
            raw = expected.astype(f"i{size}").byteswap()
            if np.array_equal(raw.astype(np.int64), actual) or np.array_equal(raw.view(f"u{size}"), actual):
                return "the bytes of every value reversed"
    return None


def _orders(values: Values) -> Iterator[tuple[str, Values]]:
    """Yield orders by name, the likelier first, each a view of the values."""
    shape = tuple(size for size in values.shape if size > 1)
    array = values.reshape(shape)
    matrix = array.reshape(math.prod(shape[:-1]), shape[-1])
    rows, columns = matrix.shape
    yield "all elements reversed", array.reshape(-1)[::-1]
    if rows > 1:
        yield "rows reversed", matrix[::-1]
        yield "columns reversed", matrix[:, ::-1]
        yield "transposed: columns outside, rows inside", matrix.T
    for axis in range(len(shape) - 1) if len(shape) > 2 else ():
        yield f"axis {axis} of {shape} reversed", np.flip(array, axis)
    for group in _divisors(columns):
        parts = matrix.reshape(rows, columns // group, group)
        if group <= MAX_GROUP:
            yield f"lanes reversed in words of {group}", parts[:, :, ::-1]
        yield f"groups of {group} columns (heads, words) reversed", parts[:, ::-1]
        if rows > 1:
            heads = f"{columns // group} heads of {group} columns"
            yield f"{heads} outside, rows inside", parts.swapaxes(0, 1)
        yield f"groups of {group} columns interleaved", parts.swapaxes(1, 2)
    for axes in permutations(range(len(shape))) if 2 < len(shape) < 6 else ():
        yield f"axes of {shape} in the order {axes}", array.transpose(axes)
    yield from _tiles(matrix)


def _divisors(size: int) -> list[int]:
    return [group for group in range(2, size // 2 + 1) if size % group == 0]


def _tiles(matrix: Values) -> Iterator[tuple[str, Values]]:
    sides = [[1 << k for k in range(9) if size % (1 << k) == 0 and 1 << k <= MAX_TILE] for size in matrix.shape]
    for transposed in (False, True):
        rows, columns = matrix.shape
        for m in sides[0]:
            for n in sides[1]:
                tiles = matrix.reshape(rows // m, m, columns // n, n)
                how = f"tiles of {m}x{n}" + (", of the transposed matrix" if transposed else "")
                yield how, tiles.transpose(0, 2, 1, 3)  # column by column they are strips, as heads are
        matrix, sides = matrix.T, sides[::-1]


def _found(expected: Values, actual: Values) -> str | None:
    """Name a rotation, or a permutation of rows or columns, that no name was given to."""
    shape = tuple(size for size in expected.shape if size > 1)
    golden, device = (each.reshape(math.prod(shape[:-1]), shape[-1]) for each in (expected, actual))
    for what, wanted, given in (("rows", golden, device), ("columns", golden.T, device.T)):
        if len(wanted) > 1 and (places := _places(wanted, given)) is not None:
            step = int(places[0])
            if np.array_equal(places, np.roll(np.arange(len(places)), -step)):
                late = len(places) - step
                return f"{what} rotated: {late} late" if late <= step else f"{what} rotated: {step} early"
            shown = " ".join(map(str, places[:SHOWN])) + (" ..." if len(places) > SHOWN else "")
            return f"{what} in the order {shown}"
    flat, found = expected.reshape(-1), actual.reshape(-1)
    for step in np.flatnonzero(flat == found[0])[:256]:
        if np.array_equal(np.roll(flat, -step), found):
            late = flat.size - int(step)
            return f"all elements rotated: {late} late" if late <= step else f"all elements rotated: {step} early"
    return None


def _places(wanted: Values, given: Values) -> NDArray[np.intp] | None:
    """Return which of the wanted rows each given one is, each taken once, or None if one is none of them."""
    places: dict[bytes, list[int]] = {}
    for place in reversed(range(len(wanted))):
        places.setdefault(wanted[place].tobytes(), []).append(place)
    found: list[int] = []
    for row in given:
        if not (left := places.get(row.tobytes())):
            return None
        found.append(left.pop())
    return np.array(found)
