# SPDX-License-Identifier: Apache-2.0
"""How the elements of a tensor stand in the words of a memory, and how to get them back.

What a reader in any language has to do, for a tensor of a given shape whose elements are ``bits`` wide:

1. The tensor is a matrix: its last axis are the columns, all axes before it, in C order, the rows. A tensor of one axis
   is a row, a scalar one element; both are stored as if neither ``transposed`` nor ``tile`` were given.
2. ``transposed`` exchanges rows and columns.
3. ``tile`` (M, N) cuts the matrix in tiles of M rows and N columns, with zeros below and to the right of it where they
   do not divide it. Tiles follow each other row by row (``tile_order`` rows) or column by column (columns); inside a
   tile the elements stand row by row. Without tiles the matrix stands row by row.
4. Elements stand in lanes of ``lane_bits`` bits, signed ones as two's complement with the sign repeated above, unsigned
   ones with zeros above. ``lanes`` of them make a word, the first in the lowest bits; bits of a word above its lanes
   and lanes behind the last element are zero. A lane wider than a word takes the next words too, its lowest bits first.
5. Word i is word i // banks of bank i % banks; words of zeros fill the last ones up.

``lane_bits`` are ``word_bits // lanes`` where both are given and that holds an element. Else they are 1, 2, 4, 8 ...,
the first that holds it, or the whole word if it holds one element but not so many bits; of such lanes a word has
``lanes``, or as many as ``word_bits`` hold. By default a word is one lane.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from intsim._checked import check_choice, check_range

__all__ = [
    "Layout",
    "Packing",
    "TileOrder",
    "arrange",
    "pack_words",
    "restore",
    "restore_order",
    "unpack_words",
]

TileOrder: TypeAlias = Literal["rows", "columns"]
Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.integer[Any]]

MAX_WORD_BITS: Final = 8192
MAX_LANES: Final = 1024
MAX_BANKS: Final = 1024
MAX_TILE: Final = 1 << 16
BLOCK: Final = 1 << 20  # elements unpacked at a time
MAX_ELEMENTS: Final = 1 << 31
"""Elements of a tensor with what tiles and banks add to it."""


class Packing(NamedTuple):
    """Bits of a word, lanes in it, bits of a lane; 1 lane where it takes several words."""

    word_bits: int
    lanes: int
    lane_bits: int

    @property
    def words(self) -> int:
        """How many words a lane takes."""
        return -(-self.lane_bits // self.word_bits)

    def count(self, elements: int) -> int:
        """Return how many words so many elements take."""
        return -(-elements // self.lanes) * self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the elements of every tensor of an export stand: see the module.

    Parameters
    ----------
    word_bits, lanes
        Of a word; by default one lane a word.
    tile, tile_order
        Rows and columns of a tile; what follows a tile, the next one to its right (rows) or below it (columns).
    transposed
        Whether rows and columns are exchanged first.
    banks
        Memories that consecutive words go to in turn.

    Raises
    ------
    ValueError
        If one is out of range, or a lane would have no bit.
    """

    word_bits: int | None = None
    lanes: int | None = None
    tile: tuple[int, int] | None = None
    tile_order: TileOrder = "rows"
    transposed: bool = False
    banks: int = 1

    def __post_init__(self) -> None:
        check_choice("tile_order", self.tile_order, get_args(TileOrder))
        check_range("word_bits", 1 if self.word_bits is None else self.word_bits, 1, MAX_WORD_BITS)
        check_range("lanes", 1 if self.lanes is None else self.lanes, 1, MAX_LANES)
        check_range("banks", self.banks, 1, MAX_BANKS)
        for side in self.tile or ():
            check_range("rows and columns of tile", side, 1, MAX_TILE)
        if self.tile is None and self.tile_order != "rows":
            msg = f"tile_order must go with tile, got {self.tile_order} without it"
            raise ValueError(msg)
        if self.word_bits is not None and self.lanes is not None and self.word_bits < self.lanes:
            msg = f"lanes must be at most word_bits, {self.word_bits}, got {self.lanes}"
            raise ValueError(msg)

    def packing(self, bits: int) -> Packing:
        """Return how elements of ``bits`` bits are packed."""
        word_bits, lanes = self.word_bits, self.lanes or 1
        lane_bits = 1 << (bits - 1).bit_length()
        if word_bits is None:
            return Packing(lanes * lane_bits, lanes, lane_bits)
        if self.lanes is not None and word_bits // lanes >= bits:
            return Packing(word_bits, lanes, word_bits // lanes)
        if bits <= word_bits < lane_bits:
            return Packing(word_bits, 1, word_bits)
        return Packing(word_bits, max(1, word_bits // lane_bits), lane_bits)

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Return rows and columns as they are stored, the zeros around them included; None for fewer than two axes."""
        if len(shape) < 2:
            return None
        rows, columns = math.prod(shape[:-1]), shape[-1]
        if self.transposed:
            rows, columns = columns, rows
        m, n = self.tile or (1, 1)
        return -(-rows // m) * m, -(-columns // n) * n

    def elements(self, shape: tuple[int, ...]) -> int:
        """Return how many elements are stored of a tensor of this shape, zeros around it included.

        Raises
        ------
        ValueError
            If they are too many.
        """
        matrix = self.matrix(shape)
        count = math.prod(shape if matrix is None else matrix)
        if count > MAX_ELEMENTS:
            msg = f"tensor with the zeros around it must have at most {MAX_ELEMENTS} elements, got {count}"
            raise ValueError(msg)
        return count

    def words(self, shape: tuple[int, ...], bits: int) -> int:
        """Return how many words of one bank a tensor takes.

        Raises
        ------
        ValueError
            As ``elements``.
        """
        return -(-self.packing(bits).count(self.elements(shape)) // self.banks)

    def to_json(self, bits: int) -> dict[str, Any]:
        """Return it with the packing of elements of ``bits`` bits as plain JSON values."""
        packing = self.packing(bits)
        return {
            **packing._asdict(),
            "tile": None if self.tile is None else list(self.tile),
            "tile_order": self.tile_order,
            "transposed": self.transposed,
            "banks": self.banks,
        }

    @classmethod
    def from_json(cls, data: Any) -> tuple["Layout", Packing]:
        """Return what ``to_json`` wrote.

        Raises
        ------
        AttributeError, KeyError, TypeError, ValueError
            If a field is missing or wrong.
        """
        packing = Packing(*(_count(data[name]) for name in Packing._fields))
        if (tile := data["tile"]) is not None and (type(tile) is not list or len(cast("list[Any]", tile)) != 2):
            msg = f"a tile must be a list of rows and columns, got {tile!r:.40}"
            raise ValueError(msg)
        layout = cls(
            word_bits=packing.word_bits,
            lanes=packing.lanes,
            tile=None if tile is None else (_count(tile[0]), _count(tile[1])),
            tile_order=data["tile_order"],
            transposed=bool(data["transposed"]),
            banks=_count(data["banks"]),
        )
        if packing.lanes > 1 and packing.lanes * packing.lane_bits > packing.word_bits:
            msg = f"a word must hold its lanes, got {packing.lanes} of {packing.lane_bits} in {packing.word_bits} bits"
            raise ValueError(msg)
        return layout, packing


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_TILE:
        msg = f"a layout must be of numbers in [1, {MAX_TILE}], got {value!r:.40}"
        raise ValueError(msg)
    return value


def arrange(values: Integers, layout: Layout, *, bits: int | None = None) -> Bytes:
    """Return the words of a tensor.

    Parameters
    ----------
    values
        Integers of any shape.
    layout
        Where they stand.
    bits
        Of an element, all of its dtype by default.

    Returns
    -------
    ndarray
        (banks, words, bytes of a word), the lowest byte first.

    Raises
    ------
    ValueError
        If they do not fit the layout.
    """
    bits = bits or 8 * values.dtype.itemsize
    layout.elements(values.shape)
    words = pack_words(_in_order(values, layout), layout.packing(bits), signed=values.dtype.kind == "i")
    banks = layout.banks
    padded = np.zeros((-(-len(words) // banks) * banks, words.shape[1]), np.uint8)
    padded[: len(words)] = words
    return padded.reshape(-1, banks, words.shape[1]).swapaxes(0, 1)


def restore(
    words: Bytes, shape: tuple[int, ...], layout: Layout, *, bits: int, signed: bool, packing: Packing | None = None
) -> Integers:
    """Return the tensor whose words ``arrange`` returned.

    Parameters
    ----------
    words
        (banks, words, bytes of a word).
    shape, bits, signed
        Of the tensor.
    layout
        Where its elements stand.
    packing
        Of its elements, by default ``layout.packing(bits)``.

    Returns
    -------
    ndarray
        int64 or uint64. A lane whose bits above ``bits`` are neither all zero nor all the sign holds another value, of
        the whole lane.

    Raises
    ------
    ValueError
        If there are not as many words as the tensor takes.
    """
    packing = packing or layout.packing(bits)
    elements = layout.elements(shape)
    expected = -(-packing.count(elements) // layout.banks)
    if words.shape[:2] != (layout.banks, expected):
        msg = f"tensor of shape {shape} must have {layout.banks} x {expected} words, got {words.shape[:2]}"
        raise ValueError(msg)
    in_turn = words.swapaxes(0, 1).reshape(-1, words.shape[2])[: packing.count(elements)]
    values, _ = unpack_words(in_turn, packing, bits=bits, signed=signed)
    return restore_order(values[:elements], shape, layout)


def _in_order(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return the elements one behind the other, zeros around them included."""
    size = layout.matrix(values.shape)
    if size is None:
        return values.reshape(-1)
    matrix = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])
    matrix = matrix.T if layout.transposed else matrix
    if layout.tile is None:
        return matrix.reshape(-1)
    (m, n), (rows, columns) = layout.tile, size
    padded = np.zeros(size, values.dtype)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    tiles = padded.reshape(rows // m, m, columns // n, n)
    return tiles.transpose((0, 2, 1, 3) if layout.tile_order == "rows" else (2, 0, 1, 3)).reshape(-1)


def restore_order(values: NDArray[Any], shape: tuple[int, ...], layout: Layout) -> NDArray[Any]:
    """Return the tensor whose elements, zeros around them included, stand in ``values`` one behind the other."""
    size = layout.matrix(shape)
    if size is None:
        return values.reshape(shape)
    rows, columns = size
    if layout.tile is None:
        matrix = values.reshape(size)
    else:
        m, n = layout.tile
        if layout.tile_order == "rows":
            matrix = values.reshape(rows // m, columns // n, m, n).transpose(0, 2, 1, 3)
        else:
            matrix = values.reshape(columns // n, rows // m, m, n).transpose(1, 2, 0, 3)
        matrix = matrix.reshape(size)
    matrix = matrix.T if layout.transposed else matrix
    return matrix[: math.prod(shape[:-1]), : shape[-1]].reshape(shape)


def pack_words(values: Integers, packing: Packing, *, signed: bool) -> Bytes:
    """Return the words of elements that stand one behind the other: (words, bytes of a word), the lowest byte first."""
    word_bits, lanes, lane_bits = packing
    count = packing.count(values.size)
    wide = np.zeros(count // packing.words * lanes, "<i8" if signed else "<u8")
    wide[: values.size] = values.reshape(-1)
    octets = wide.view(np.uint8).reshape(-1, 8)
    if lane_bits % 8 == 0 and lane_bits <= 64 and word_bits == lanes * lane_bits:
        return np.ascontiguousarray(octets[:, : lane_bits // 8]).reshape(count, word_bits // 8)
    octets = octets[:, : -(-lane_bits // 8)]
    if lane_bits > 64:
        sign = np.where(octets[:, 7:] >> 7 & signed, np.uint8(255), np.uint8(0))
        octets = np.concatenate([octets, np.repeat(sign, -(-(lane_bits - 64) // 8), axis=1)], axis=1)
    places = np.unpackbits(octets, axis=1, count=lane_bits, bitorder="little").reshape(-1, lanes * lane_bits)
    padded = np.zeros((len(places), packing.words * word_bits), np.uint8)
    padded[:, : places.shape[1]] = places
    return np.packbits(padded.reshape(count, word_bits), axis=1, bitorder="little")


def unpack_words(words: Bytes, packing: Packing, *, bits: int, signed: bool) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the elements in words one behind the other, and which of them do not fit 64 bits.

    The bits of a lane above ``bits`` are all zero or all the sign; else the element is the number that the whole lane
    holds, which no element of ``bits`` bits is.
    """
    step = max(1, BLOCK // packing.lanes) * packing.words
    if len(words) <= step:
        return _unpacked(words, packing, bits=bits, signed=signed)
    count = len(words) // packing.words * packing.lanes
    values, too_wide = np.empty(count, np.int64 if signed else np.uint64), np.empty(count, np.bool_)
    at = 0
    for start in range(0, len(words), step):  # several times the elements' bytes are taken meanwhile
        part, lost = _unpacked(words[start : start + step], packing, bits=bits, signed=signed)
        values[at : at + len(part)], too_wide[at : at + len(part)] = part, lost
        at += len(part)
    return values, too_wide


def _unpacked(words: Bytes, packing: Packing, *, bits: int, signed: bool) -> tuple[Integers, NDArray[np.bool_]]:
    word_bits, lanes, lane_bits = packing
    count = len(words) // packing.words
    if lane_bits % 8 == 0 and word_bits == lanes * lane_bits:
        octets = words.reshape(count * lanes, lane_bits // 8)
    else:
        places = np.unpackbits(words, axis=1, bitorder="little")
        if packing.words > 1:
            places = places[:, :word_bits].reshape(count, packing.words * word_bits)[:, :lane_bits]
        else:
            places = places[:, : lanes * lane_bits].reshape(count * lanes, lane_bits)
        octets = np.packbits(places, axis=1, bitorder="little")
    if octets.shape[1] <= 8:
        whole = np.zeros((len(octets), 8), np.uint8)
        whole[:, : octets.shape[1]] = octets
        too_wide = np.zeros(len(octets), np.bool_)
    else:
        whole, above = np.ascontiguousarray(octets[:, :8]), octets[:, 8:]
        last = np.uint8(255 >> -lane_bits % 8)
        full = np.full(above.shape[1], 255, np.uint8)
        full[-1] = last
        minus = (above == full).all(axis=1) & (whole[:, 7] >> 7 == 1) & signed
        too_wide = above.any(axis=1) & ~minus
    raw = whole.view("<u8").reshape(-1).astype(np.uint64)
    lane_bits = min(lane_bits, 64)
    if not signed:
        return raw, too_wide
    low = _signed(raw, bits)
    if lane_bits == bits:
        return low, too_wide
    lane = _signed(raw, lane_bits)
    extended = (raw >> np.uint64(bits) == 0) | (lane == low)
    return np.where(extended, low, lane), too_wide


def _signed(raw: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    unused = np.int64(64 - bits)
    return raw.view(np.int64) << unused >> unused
