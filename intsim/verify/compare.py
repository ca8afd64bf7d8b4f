# SPDX-License-Identifier: Apache-2.0
"""Where a dump first differs from the golden one, by value."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from intsim._progress import watched
from intsim.errors import IntsimError
from intsim.io.dumps import Values
from intsim.io.layout import Layout
from intsim.io.memh import Words
from intsim.verify.alike import Found, exact, read_alike
from intsim.verify.orders import find_order

__all__ = ["Bin", "Comparison", "Difference", "Mismatch", "Note", "compare", "parse_slice"]

MAX_AXES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One element that differs; ``difference`` is actual - expected, in LSB. One that is x or z has no number."""

    index: tuple[int, ...]
    expected: int | None
    actual: int | None
    difference: int | None
    expected_hex: str
    actual_hex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """How many elements differ by ``lowest`` to ``highest`` LSB."""

    lowest: int
    highest: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one tensor differs.

    Parameters
    ----------
    name
        The tensor's.
    kind
        ``shape``, if the sides have other numbers of elements; else ``values``.
    expected, actual
        Shapes, or dtypes.
    count, size
        So many of its elements differ.
    unknown
        So many of them are x or z.
    largest
        The largest difference, in LSB.
    histogram
        Of the differences: one bin for each power of two and sign.
    order
        The permutation of the expected values that the actual ones are, if it was found.
    slice
        What ``slices`` would have to say for the sides to be equal, where the actual side holds the beginning only.
    mismatches
        The first elements that differ.
    """

    name: str
    kind: Literal["shape", "values"]
    expected: str
    actual: str
    count: int
    size: int
    unknown: int = 0
    largest: int
    histogram: tuple[Bin, ...] = ()
    order: str | None = None
    slice: str | None = None
    mismatches: tuple[Mismatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """How tensors were read, where that is not as the expected ones are written."""

    note: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcome over the tensors present on both sides.

    Parameters
    ----------
    compared
        How many tensors both sides have.
    first
        The first that differs, in the expected side's forward order.
    differing
        Names of all that differ.
    only_expected, only_actual
        Names that one side lacks; a partial dump is no error.
    models
        Digests of the models, where both sides tell them, and tell different ones.
    notes
        What was read by value: dtypes, byte orders, shapes, packing, names.
    """

    compared: int
    first: Difference | None
    differing: tuple[str, ...]
    only_expected: tuple[str, ...]
    only_actual: tuple[str, ...]
    models: tuple[str, str] | None
    notes: tuple[Note, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {"equal": self.first is None, **asdict(self)}


def compare(
    expected: Mapping[str, Values],
    actual: Mapping[str, Values],
    *,
    max_errors: int = 20,
    layout: Layout | None = None,
    names: Mapping[str, str] | None = None,
    slices: Mapping[str, tuple[slice, ...]] | None = None,
) -> Comparison:
    """Compare two dumps tensor by tensor, to the bit, whatever dtype, byte order, width or packing they are written in.

    Parameters
    ----------
    expected, actual
        As ``read_dump`` returns them, in any mixture of kinds, or arrays.
    max_errors
        How many elements of the first differing tensor are listed; 0 lists all.
    layout
        Of the words of a side that does not tell its own; by default as many words as there are elements, or what else
        their number says.
    names
        Name on the actual side -> name on the expected one, where they are not the same.
    slices
        Pattern of expected names -> what of such a tensor the actual side holds.

    Raises
    ------
    IntsimError
        If no tensor is on both sides, or a tensor has no dtype on either, or other numbers than integers.
    """
    bits: dict[str, int] = {**getattr(actual, "bits", {}), **getattr(expected, "bits", {})}
    notes: dict[str, list[str]] = {}
    named, odd = _renamed(expected, actual, names or {}, notes)
    common = [name for name in expected if name in named]
    if not common:
        raise IntsimError(_nothing_in_common(expected, named))
    first: Difference | None = None
    differing: list[str] = []
    for name in watched(common, "comparing", unit="tensor"):
        pair = _read(name, _cut(name, expected[name], slices or {}), named[name], bits.get(name), layout)
        for note in pair.notes:
            notes.setdefault(note, []).append(name)
        if pair.differ:
            differing.append(name)
            first = first or _difference(pair, max_errors=max_errors)
    digests = [digest for dump in (expected, actual) if (digest := getattr(dump, "model_digest", None))]
    return Comparison(
        compared=len(common),
        first=first,
        differing=tuple(differing),
        only_expected=tuple(name for name in expected if name not in named),
        only_actual=tuple(odd),
        models=(digests[0], digests[1]) if len({*digests}) == 2 else None,  # of both, and not the same
        notes=tuple(Note(note=note, names=tuple(found)) for note, found in notes.items()),
    )


# ---- names


def _renamed(
    expected: Mapping[str, Values], actual: Mapping[str, Values], names: Mapping[str, str], notes: dict[str, list[str]]
) -> tuple[dict[str, Values], list[str]]:
    """Return the actual tensors under expected names, and the names that are none.

    Where no name is known, a tensor of the same values as an expected one is taken for it.
    """
    for given, name in names.items():
        if name not in expected:
            msg = f"names must be those of expected tensors, got '{name}' for '{given}'"
            raise IntsimError(msg)
    named: dict[str, Values] = {}
    for given, values in actual.items():
        if (name := names.get(given, given)) in named:
            msg = f"names must be of one tensor each, got two for '{name}'"
            raise IntsimError(msg)
        named[name] = values
    if not any(name in expected for name in named):
        for given in list(named):
            alike = [name for name, values in expected.items() if _same(name, values, named[given])]
            if alike and (name := min(alike, key=lambda each: ":" in each)) not in named:  # a result, not a step of it
                named[name] = named.pop(given)
                notes[f"called '{given}' there, and recognised by its values"] = [name]
    return named, [name for name in named if name not in expected]


def _same(name: str, expected: Values, actual: Values) -> bool:
    """Say whether two tensors have the same values, and more than one."""
    if isinstance(expected, Words) or expected.size < 2:
        return False
    try:
        found = read_alike(name, expected, actual, bits=None, layout=None)
    except IntsimError:
        return False
    return found is not None and not found.differs(exact(name, expected)).any()


def _nothing_in_common(expected: Mapping[str, Values], actual: Mapping[str, Values]) -> str:
    msg = "dumps must have at least one tensor name in common, got none"
    for given, values in actual.items():
        sized = [
            (np.count_nonzero(found.differs(exact(name, wanted))), name)
            for name, wanted in expected.items()
            if not isinstance(wanted, Words) and wanted.size > 1
            for found in [read_alike(name, wanted, values, bits=None, layout=None)]
            if found is not None
        ]
        if sized:
            wrong, name = min(sized)
            return f"{msg}; '{given}' is most like '{name}', {wrong} values apart; if it is that, say so by --names"
    return msg


# ---- one tensor


def parse_slice(text: str) -> tuple[slice, ...]:
    """Return what ``":, :3"`` stands for: first and last of each axis, as in Python, without steps.

    Raises
    ------
    IntsimError
        If it is no slice.
    """
    parts: list[slice] = []
    try:
        for part in text.strip().removeprefix("[").removesuffix("]").split(","):
            first, colon, last = part.strip().partition(":")
            start = int(first) if first else None
            stop = (int(last) if last else None) if colon else int(first) + 1
            parts.append(slice(start, stop))
    except ValueError:
        parts = []
    if not 0 < len(parts) <= MAX_AXES or any((each or 0) < 0 for part in parts for each in (part.start, part.stop)):
        msg = f"slice must be like ':, :3', first:last of each axis from 0 on, got {text!r:.60}"
        raise IntsimError(msg)
    return tuple(parts)


def _cut(name: str, values: Values, slices: Mapping[str, tuple[slice, ...]]) -> Values:
    where = next((where for pattern, where in slices.items() if fnmatchcase(name, pattern)), None)
    if where is None or isinstance(values, Words):
        return values
    if len(where) > values.ndim:
        msg = f"slice of tensor '{name}' must be of its {values.ndim} axes, got one of {len(where)}"
        raise IntsimError(msg)
    return values[where]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two tensors of a name, and their values where they have as many."""

    name: str
    expected: Values
    actual: Values
    bits: int  # of an element, as hexadecimal digits show it
    width: int  # of what it really has
    golden: Found | None
    found: Found | None

    @property
    def notes(self) -> tuple[str, ...]:
        """How they were read."""
        return () if self.golden is None or self.found is None else (*self.found.notes, *self.golden.notes)

    @property
    def differ(self) -> bool:
        """Whether they differ."""
        return self.golden is None or self.found is None or bool(_differs(self.golden, self.found).any())


def _differs(golden: Found, found: Found) -> NDArray[np.bool_]:
    differs = found.differs(golden.values)
    return differs if golden.unknown is None else differs | golden.unknown


def _read(name: str, expected: Values, actual: Values, bits: int | None, layout: Layout | None) -> _Pair:
    """Read two tensors, words as the other side tells."""
    typed, other = (actual, expected) if isinstance(expected, Words) else (expected, actual)
    if isinstance(typed, Words):
        msg = f"tensor '{name}' must have a dtype on one side, got words on both; compare with a trace or npz"
        raise IntsimError(msg)
    mask = np.ma.getmaskarray(typed) if isinstance(typed, np.ma.MaskedArray) else None
    both = (Found(exact(name, typed), mask), read_alike(name, typed, other, bits=bits, layout=layout))
    golden, found = reversed(both) if isinstance(expected, Words) else both
    dtype_bits = 64 if typed.dtype.kind == "f" else 8 * typed.dtype.itemsize
    return _Pair(
        name=name,
        expected=expected,
        actual=actual,
        bits=dtype_bits,
        width=bits or dtype_bits,
        golden=golden,
        found=found,
    )


def _difference(pair: _Pair, *, max_errors: int) -> Difference:
    golden, found = pair.golden, pair.found
    if golden is None or found is None:
        return Difference(
            name=pair.name,
            kind="shape",
            expected=_shape(pair.expected),
            actual=_shape(pair.actual),
            count=0,
            size=_size(pair.expected),
            largest=0,
            slice=_beginning(pair.name, pair.expected, pair.actual),
        )
    wanted, given = golden.values, found.values
    none = np.zeros(wanted.shape, np.bool_)
    lost = [none if side.unknown is None else side.unknown for side in (golden, found)]
    differs = _differs(golden, found)
    where = np.argwhere(differs)
    known = ~(lost[0] | lost[1])
    apart = Counter(
        int(a) - int(e)  # in Python integers, where int8 127 - (-128) is 255
        for e, a, both in zip(wanted[differs], given[differs], known[differs], strict=True)
        if both
    )
    return Difference(
        name=pair.name,
        kind="values",
        expected=_dtype(pair.expected),
        actual=_dtype(pair.actual),
        count=len(where),
        size=wanted.size,
        unknown=len(where) - apart.total(),
        largest=max(map(abs, apart), default=0),
        histogram=_bins(apart),
        order=find_order(wanted, given, bits=pair.width) if known.all() else None,
        mismatches=tuple(
            _mismatch(tuple(int(i) for i in index), wanted, given, lost, pair.bits)
            for index in where[: max_errors or None]
        ),
    )


def _mismatch(
    index: tuple[int, ...], wanted: NDArray[Any], given: NDArray[Any], lost: Sequence[NDArray[np.bool_]], bits: int
) -> Mismatch:
    expected, actual = (
        None if each[index] else int(values[index]) for each, values in zip(lost, (wanted, given), strict=True)
    )
    return Mismatch(
        index=index,
        expected=expected,
        actual=actual,
        difference=None if expected is None or actual is None else actual - expected,
        expected_hex=_hex(expected, bits),
        actual_hex=_hex(actual, bits),
    )


def _hex(value: int | None, bits: int) -> str:
    """Return the value in two's complement, wider than the expected dtype where it has to be."""
    if value is None:
        return "x" * (bits // 4)
    while not -(1 << bits - 1) <= value < 1 << bits:
        bits *= 2
    return f"{value % (1 << bits):0{bits // 4}x}"


def _bins(apart: Mapping[int, int]) -> tuple[Bin, ...]:
    bins: Counter[tuple[int, int]] = Counter()
    for difference, count in apart.items():
        low = 1 << abs(difference).bit_length() - 1
        bins[(low, 2 * low - 1) if difference > 0 else (1 - 2 * low, -low)] += count
    return tuple(Bin(lowest=low, highest=high, count=count) for (low, high), count in sorted(bins.items()))


def _shape(values: Values) -> str:
    return f"{len(values.data)} words of {values.word_bits} bits" if isinstance(values, Words) else str(values.shape)


def _size(values: Values) -> int:
    return len(values.data) if isinstance(values, Words) else values.size


def _dtype(values: Values) -> str:
    return f"{values.word_bits}-bit words" if isinstance(values, Words) else str(values.dtype)


def _beginning(name: str, expected: Values, actual: Values) -> str | None:
    """Return the slice of the expected tensor that the actual one is, if it begins each axis."""
    if isinstance(expected, Words):
        return None
    count = _size(actual)
    long = [axis for axis, size in enumerate(expected.shape) if size > 1]
    for axis in long:
        rest = expected.size // expected.shape[axis]
        if count % rest or not 0 < count // rest < expected.shape[axis]:
            continue
        where = (*(slice(None) for _ in range(axis)), slice(None, count // rest))
        part = expected[where]
        found = read_alike(name, part, actual, bits=None, layout=None)
        if found is not None and not found.differs(exact(name, part)).any():
            return ", ".join([":"] * axis + [f":{count // rest}"])
    return None
