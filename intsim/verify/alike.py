# SPDX-License-Identifier: Apache-2.0
"""What a device's tensor holds, read as the expected one: by value, whatever its dtype, width, packing and shape."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.io.dumps import Values, elements, whole_numbers
from intsim.io.layout import Layout, Packing, restore_order
from intsim.io.memh import Words

__all__ = ["Found", "exact", "read_alike"]

MAX_ELEMENT: Final = 128
"""Bits of the words that may make one element."""


@dataclass(frozen=True, slots=True)
class Found:
    """The values of a tensor, in the expected shape.

    Parameters
    ----------
    values
        Integers: int64, or objects where one does not fit.
    unknown
        Which of them are x or z, if any is.
    notes
        How it was read, where that is not as the expected side is written.
    """

    values: NDArray[Any]
    unknown: NDArray[np.bool_] | None
    notes: tuple[str, ...] = ()

    def differs(self, expected: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which elements differ; one that is unknown does."""
        differs = self.values != expected
        return differs if self.unknown is None else differs | self.unknown


def exact(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return integers of any dtype, floats that hold them included, as int64, or as objects where one does not fit.

    Raises
    ------
    IntsimError
        If they are other numbers.
    """
    plain = np.ma.getdata(values)
    if plain.dtype.kind == "f" and whole_numbers(plain).all():
        return plain.astype(np.int64)
    if plain.dtype.kind not in "iub":
        msg = f"tensor '{name}' must be integers, got {plain.dtype}"
        raise IntsimError(msg)
    if plain.dtype.kind == "u" and plain.dtype.itemsize == 8 and plain.size and plain.max() >> np.uint64(63):
        return plain.astype(object)
    return plain.astype(np.int64, copy=False)


def read_alike(
    name: str, expected: NDArray[Any], values: Values, *, bits: int | None, layout: Layout | None
) -> Found | None:
    """Return a device's tensor in the shape of the expected one, or None if it has not as many elements.

    Parameters
    ----------
    name, expected
        The expected tensor.
    values
        The device's: an array, or words.
    bits
        True width of an element, by default that of the dtype.
    layout
        Of the words. By default a word is an element, or as many words make an element, or elements a word, as their
        numbers say; of several readings that which differs least is taken.

    Raises
    ------
    IntsimError
        If an array holds other numbers than integers, or no word can hold an element.
    """
    if not isinstance(values, Words):
        if values.size != expected.size:
            return None
        mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
        found = exact(name, values).reshape(expected.shape)
        return Found(found, None if mask is None else mask.reshape(expected.shape), tuple(_kinds(expected, values)))
    golden, best = exact(name, expected), None
    bits = bits or 8 * expected.dtype.itemsize
    signed = golden.dtype == object or expected.dtype.kind != "u"
    for packing, width, order, note in _readings(name, golden.shape, values, bits, layout):
        for sign in (signed, not signed) if width == packing.lane_bits < bits else (signed,):
            count = math.prod(golden.shape) if order is None else order.elements(golden.shape)
            words = values.in_words(packing.word_bits)
            read, unknown = elements(words, packing, count, bits=width, signed=sign)
            read = exact(name, read)
            if order is not None:
                read = restore_order(read, golden.shape, order)
                unknown = None if unknown is None else restore_order(unknown, golden.shape, order)
            found = Found(
                read.reshape(golden.shape),
                None if unknown is None else unknown.reshape(golden.shape),
                (note,) if note else (),
            )
            wrong = np.count_nonzero(found.differs(golden))
            if best is None or wrong < best[0]:
                best = wrong, found
    return None if best is None else best[1]


def _kinds(expected: NDArray[Any], values: NDArray[Any]) -> Iterator[str]:
    """Yield how an array is written otherwise than the expected one."""
    dtype, wanted = values.dtype, expected.dtype
    if dtype.newbyteorder("=") != wanted.newbyteorder("="):
        yield f"{dtype.newbyteorder('=')} where {wanted.newbyteorder('=')} is expected"
    if dtype.byteorder == ">":
        yield "its bytes the highest first"
    if [size for size in values.shape if size > 1] != [size for size in expected.shape if size > 1] and values.ndim > 1:
        yield f"shape {values.shape} where {expected.shape} is expected"


def _readings(
    name: str, shape: tuple[int, ...], words: Words, bits: int, layout: Layout | None
) -> Iterator[tuple[Packing, int, Layout | None, str]]:
    """Yield every packing of which there are as many words: packing, width, the layout's order, what to say."""
    if layout is not None:
        yield from _by_layout(name, shape, words, bits, layout)
        return
    size, word_bits = math.prod(shape), words.word_bits
    for available in dict.fromkeys((len(words.data), _written(words))):
        if available == size:
            yield Packing(word_bits, 1, word_bits), min(bits, word_bits), None, ""
        elif available < size:
            for lane_bits in dict.fromkeys((1 << (bits - 1).bit_length(), bits)):
                lanes = word_bits // lane_bits
                if lanes > 1 and -(-size // lanes) == available:
                    note = f"{lanes} lanes of {lane_bits} bits a word, the first in the lowest bits"
                    yield Packing(word_bits, lanes, lane_bits), bits, None, note
        elif available % size == 0 and available // size * word_bits <= MAX_ELEMENT:
            each = available // size
            note = f"{each} {'bytes' if words.raw else 'words'} an element, the lowest first"
            yield Packing(word_bits, 1, each * word_bits), min(bits, each * word_bits), None, note


def _by_layout(
    name: str, shape: tuple[int, ...], words: Words, bits: int, layout: Layout
) -> Iterator[tuple[Packing, int, Layout | None, str]]:
    try:
        packing, count = layout.packing(bits), layout.elements(shape)
        given = words.in_words(packing.word_bits)
    except ValueError as error:
        msg = f"words of tensor '{name}' must be of the layout, got: {error}"
        raise IntsimError(msg) from None
    if packing.word_bits > given.word_bits + 3:
        msg = f"words of tensor '{name}' must have {packing.word_bits} bits, got {given.word_bits}"
        raise IntsimError(msg)
    used = packing.count(count)
    if {len(given.data), _written(given)} & {used, -(-used // layout.banks) * layout.banks}:
        yield packing, bits, layout, ""


def _written(words: Words) -> int:
    """Return the number of words up to the last that is not wholly unknown."""
    if words.unknown is None:
        return len(words.data)
    full = np.full(words.unknown.shape[1], 255, np.uint8)
    if words.word_bits % 8:
        full[-1] = 255 >> 8 - words.word_bits % 8
    known = (words.unknown & full != full).any(axis=1)
    return int(known.nonzero()[0].max(initial=-1)) + 1
