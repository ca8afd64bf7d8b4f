# SPDX-License-Identifier: Apache-2.0
"""What operators are made of, broken: shifts, saturations, multipliers and registers with one rule changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import (
    MAX_SHIFT,
    MULTIPLIER_BITS,
    IntRange,
    Rounding,
    round_to_significant,
    rounding_divide,
    rounding_right_shift,
)

__all__ = [
    "AS_INT16",
    "AS_INT32",
    "CONTROL",
    "Carried",
    "Changes",
    "Divider",
    "Finish",
    "Int64",
    "Part",
    "Register",
    "Shifter",
    "Width",
    "carried",
    "channel_0",
    "clamps",
    "dividers",
    "finishes",
    "inputs",
    "keep",
    "late",
    "multipliers",
    "next_channel",
    "nonzero",
    "orders",
    "prefixed",
    "previous_channel",
    "product_shifters",
    "reciprocals",
    "registers",
    "replaced",
    "resized",
    "reversed_lanes",
    "reversed_words",
    "saturates",
    "shifters",
    "significant",
    "wraps",
]

Int64: TypeAlias = NDArray[np.int64]
Part: TypeAlias = Callable[[Int64], Int64]
Shifter: TypeAlias = Callable[[Int64, Int64], Int64]  # total, shift -> RND(total / 2**shift)
Divider: TypeAlias = Callable[[Int64, Int64], Int64]  # dividend, divisor -> RND(dividend / divisor)
Finish: TypeAlias = Callable[[Int64, Int64], Int64]  # scaled, zero point -> code
Changes: TypeAlias = dict[str, Callable[..., Int64]]  # name of the change -> the operator under it, on int64 fields
Option: TypeAlias = (
    Callable[[Any], Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any, Any, Any], Any]
    | int
    | slice
    | tuple[Any, ...]
)
T = TypeVar("T")

CONTROL: Final = "nothing changed"
TFLITE_HIGH_BITS: Final = 31  # the first of gemmlowp's two roundings
FLOAT32_BITS: Final = 24


def replaced(rule: Callable[..., Int64], **parts: Mapping[str, Option]) -> Changes:
    """Return the rule with one of its parts replaced, by the name of the change."""
    return {name: partial(rule, **{part: other}) for part, changes in parts.items() for name, other in changes.items()}


def prefixed(prefix: str, changes: Mapping[str, T]) -> dict[str, T]:
    """Return the changes of a part as changes of the whole, the control left out."""
    return {f"{prefix}: {name}": change for name, change in changes.items() if name != CONTROL}


def keep(y: Int64) -> Int64:
    """Return what is given: the part left as it is."""
    return y


def clamps(low: int, high: int) -> Part:
    """Return saturation into [low, high]."""
    return lambda y: y.clip(low, high)


def saturates(bits: int, *, signed: bool = True) -> Part:
    """Return saturation into the integers of a width."""
    low = -(1 << (bits - 1)) if signed else 0
    return clamps(low, low + (1 << bits) - 1)


AS_INT16: Final = saturates(16)
AS_INT32: Final = saturates(32)


def wraps(bits: int, *, signed: bool = True) -> Part:
    """Return reduction modulo 2**bits."""
    half = 1 << (bits - 1) if signed else 0
    return lambda y: ((y + half) & ((1 << bits) - 1)) - half


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """A part of which there is one for every width: ``resized`` makes another of them."""

    bits: int

    widths: ClassVar[range] = range(2, 62)
    reads_all_rows: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Width):
    """A register that wraps or saturates."""

    signed: bool
    saturating: bool

    def __call__(self, y: Int64) -> Int64:
        """Return what it holds."""
        return (saturates if self.saturating else wraps)(self.bits, signed=self.signed)(y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried(Width):
    """A sum of a row that begins with the one of the row before, in a register that wraps."""

    signed: bool

    reads_all_rows: ClassVar[bool] = True
    widths: ClassVar[range] = range(16, 62)

    def __call__(self, y: Int64) -> Int64:
        """Return the sums (..., n) of all rows before, and of this one."""
        return wraps(self.bits, signed=self.signed)(y.reshape(-1, y.shape[-1]).cumsum(axis=0).reshape(y.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reciprocal(Width):
    """Division by a reciprocal that has ``bits`` bits behind the point: two roundings."""

    kept: Rounding
    rounding: Rounding

    widths: ClassVar[range] = range(8, 39)

    def __call__(self, dividend: Int64, divisor: Int64) -> Int64:
        """Return the quotient."""
        reciprocal = rounding_divide(np.full_like(divisor, 1 << self.bits), divisor, self.kept)
        return rounding_right_shift(dividend * reciprocal, np.array(self.bits), self.rounding)


def registers(name: str, *widths: int, signed: bool = True) -> dict[str, Part]:
    """Return a register too narrow for what it holds."""
    kind = "bits" if signed else "unsigned bits"
    return {
        f"{name} {verb} at {bits} {kind}": Register(bits=bits, signed=signed, saturating=verb == "saturates")
        for bits in widths
        for verb in ("wraps", "saturates")
    }


def carried(name: str, bits: int, *, signed: bool = True) -> dict[str, Part]:
    """Return a sum that nothing clears between rows."""
    return {f"{name} of {bits} bits not cleared between rows": Carried(bits=bits, signed=signed)}


def resized(name: str, change: Any) -> tuple[str, type[Width], Callable[[int], Any]] | None:
    """Return the name with ``{}`` for the width, its kind, and the change at every width, if it has one."""
    if isinstance(change, Width):
        own = change

        def of(bits: int) -> Any:
            return replace(own, bits=bits)

        return name.replace(f"{own.bits} ", "{} ", 1), type(own), of
    if isinstance(change, partial):
        rule = cast("partial[Any]", change)
        for key, part in rule.keywords.items():
            if (found := resized(name, part)) is not None:
                template, kind, at = found

                def with_part(bits: int, key: str = key, at: Callable[[int], Any] = at) -> Any:
                    return partial(rule, **{key: at(bits)})

                return template, kind, with_part
    return None


def inputs() -> dict[str, Part]:
    """Return the changes of a 16-bit input."""
    return {
        **registers("input", 8, 12),
        **{f"input of {16 - low} bits": lambda x, low=low: x >> low << low for low in (8, 4)},
    }


def significant(y: Int64) -> Int64:
    """Return what float32 keeps of a number."""
    return round_to_significant(y, FLOAT32_BITS)


def channel_0(y: Int64) -> Int64:
    """Return the first channel's value for every channel."""
    return y[..., :1] if y.ndim else y


def next_channel(y: Int64) -> Int64:
    """Return each channel's neighbour's value."""
    return np.roll(y, -1, axis=-1) if y.ndim else y


def previous_channel(y: Int64) -> Int64:
    """Return each channel's other neighbour's value."""
    return np.roll(y, 1, axis=-1) if y.ndim else y


def reversed_lanes(y: Int64) -> Int64:
    """Return the last axis in reverse order."""
    return y[..., ::-1]


def reversed_words(y: Int64, *, lanes: int = 4) -> Int64:
    """Return the last axis with the lanes of every whole word in reverse order, as bytes of the other end are."""
    whole = y.shape[-1] // lanes * lanes
    words = y[..., :whole].reshape(*y.shape[:-1], -1, lanes)[..., ::-1]
    return np.concatenate([words.reshape(*y.shape[:-1], whole), y[..., whole:]], axis=-1)


def late(y: Int64) -> Int64:
    """Return each row's predecessor, and zeros first: a pipeline that is one row behind."""
    rows = y.reshape(-1, y.shape[-1] if y.ndim > 1 else 1)
    return np.concatenate([np.zeros_like(rows[:1]), rows[:-1]]).reshape(y.shape)


def orders(golden: Callable[..., Int64], *, axes: int) -> Changes:
    """Return right results in the wrong place, of ``axes`` axes: 1 for scalars, 2 for rows, 3 tiles, 4 heads."""
    moved: dict[str, Part] = {"one row late": late}
    if axes > 1:
        moved |= {
            "lanes reversed": reversed_lanes,
            "lanes of each word of 4 reversed": reversed_words,
            "lanes of each word of 2 reversed": partial(reversed_words, lanes=2),
            "one lane late": previous_channel,
        }
    if axes > 2:
        moved["rows reversed"] = lambda y: y[..., ::-1, :]
    if axes > 3:
        moved["heads reversed"] = lambda y: y[..., ::-1, :, :]

    def under(part: Part) -> Callable[..., Int64]:
        return lambda *fields: part(golden(*fields))

    return {name: under(part) for name, part in moved.items()}


def nonzero(y: Int64) -> Int64:
    """Return a divisor: 1 for 0."""
    return np.where(y == 0, 1, y)


def dividers(rounding: Rounding) -> dict[str, Divider]:
    """Return RND(dividend / divisor) and its changes."""

    def divided(dividend: Int64, divisor: Int64, *, raised: Callable[[Int64, Int64, Int64], Any]) -> Int64:
        quotient = dividend // divisor
        return quotient + raised(2 * (dividend - quotient * divisor), divisor, quotient)

    # where twice the rest and the divisor raise the quotient
    more: dict[str, Callable[[Int64, Int64, Int64], Any]] = {
        "ceiling": lambda rest, _, __: rest > 0,
        "half-down": lambda rest, divisor, _: rest > divisor,
        "half-toward-zero": lambda rest, divisor, quotient: rest + (quotient < 0) > divisor,
        "half-odd": lambda rest, divisor, quotient: rest + (~quotient & 1) > divisor,
        "to-odd": lambda rest, _, quotient: (rest > 0) & (quotient & 1 == 0),
        "one too high": lambda rest, _, __: np.ones_like(rest),
    }

    def truncated(dividend: Int64, divisor: Int64) -> Int64:
        total = dividend + divisor // 2
        return np.sign(total) * (abs(total) // divisor)

    return {
        CONTROL: partial(rounding_divide, rounding=rounding),
        **{f"rounding {other}": partial(rounding_divide, rounding=other) for other in Rounding if other != rounding},
        **{f"rounding {name}": partial(divided, raised=raised) for name, raised in more.items()},
        "half added, then truncated": truncated,
    }


def reciprocals() -> dict[str, Divider]:
    """Return divisions by a reciprocal of fixed width: it and the product rounded down or half up."""
    floor, half_up = Rounding.FLOOR, Rounding.HALF_UP
    return {
        "reciprocal of 16 bits": Reciprocal(bits=16, kept=floor, rounding=floor),
        "reciprocal of 31 bits": Reciprocal(bits=31, kept=floor, rounding=floor),
        "reciprocal of 16 bits, rounded": Reciprocal(bits=16, kept=half_up, rounding=half_up),
        "reciprocal of 16 bits truncated, product rounded": Reciprocal(bits=16, kept=floor, rounding=half_up),
    }


def shifters(rounding: Rounding) -> dict[str, Shifter]:
    """Return RND(total / 2**shift) and its changes."""
    dividing = dividers(rounding)

    def shifted(total: Int64, shift: Int64, *, divided: Divider = dividing[CONTROL], by: int = 0) -> Int64:
        return divided(total, np.int64(1) << (shift + by).clip(0, MAX_SHIFT))

    def half(shift: Int64) -> Int64:
        is_nearest = rounding not in (Rounding.FLOOR, Rounding.TOWARD_ZERO)
        return np.where(is_nearest & (shift > 0), np.int64(1) << (shift - 1).clip(0), 0)

    def truncated(total: Int64, shift: Int64) -> Int64:
        return rounding_right_shift(total + half(shift), shift, Rounding.TOWARD_ZERO)

    def logical(total: Int64, shift: Int64) -> Int64:
        unsigned = np.asarray(total + half(shift)).view(np.uint64)
        return np.asarray(unsigned >> shift.astype(np.uint64)).view(np.int64)

    return {
        **replaced(shifted, divided=dividing),
        "half added, then truncated": truncated,
        **replaced(shifted, by={"shift one too small": -1, "shift one too large": 1}),
        "logical shift": logical,
    }


def product_shifters(rounding: Rounding) -> dict[str, Shifter]:
    """Return ``shifters`` of a product by a 31-bit multiplier, whose low bits some drop first."""

    def twice(total: Int64, shift: Int64, *, high: Rounding, low: Rounding) -> Int64:
        first = np.minimum(shift, TFLITE_HIGH_BITS)
        return rounding_right_shift(rounding_right_shift(total, first, high), shift - first, low)

    return {
        **shifters(rounding),
        "two roundings (TFLite)": partial(twice, high=Rounding.HALF_UP, low=Rounding.HALF_AWAY),
        "two roundings, both half-up": partial(twice, high=Rounding.HALF_UP, low=Rounding.HALF_UP),
        "low 31 bits dropped first": partial(twice, high=Rounding.FLOOR, low=rounding),
    }


def finishes(to: IntRange) -> dict[str, Finish]:
    """Return saturate(scaled + zero_point) and its changes."""
    low, high = to.min, to.max
    saturated, wrapped = clamps(low, high), wraps(to.bits, signed=to.signed)

    def finish(
        scaled: Int64, zero_point: Int64, *, narrow: Part = saturated, inner: Part = keep, offset: Part = keep
    ) -> Int64:
        return narrow(inner(scaled) + offset(zero_point))

    ranges = [(low, high - 1), (low, high + 1), (-(high // 2) - 1, high // 2)]
    if to.signed:
        ranges += [(-high - 1, high), (-high, high), (-high, high - 1), (0, high), (0, 2 * high + 1), (-128, 127)]
    else:
        ranges += [(0, high // 2)]
    return {
        CONTROL: finish,
        **replaced(
            finish,
            narrow={
                "result wraps": wrapped,
                "not clamped above": lambda y: np.maximum(y, low),
                "not clamped below": lambda y: np.minimum(y, high),
                **{f"clamped to [{a}, {b}]": clamps(a, b) for a, b in ranges if (a, b) != (low, high)},
            },
            inner={
                "scaled value wraps at 32 bits": wraps(32),
                "scaled value wraps at 16 bits": wraps(16),
                "saturated before the zero point too": saturated,
            },
            offset={"zero point left out": np.zeros_like, "zero point subtracted": np.negative},
        ),
        "zero point after saturation": lambda scaled, zero_point: wrapped(saturated(scaled) + zero_point),
    }


def multipliers(*, per_channel: bool = False) -> dict[str, Part]:
    """Return the changes of a 31-bit multiplier."""
    drops = {bits: MULTIPLIER_BITS - bits for bits in (24, 16, 15, 8, 7)}
    return {
        **{
            f"multiplier of {bits} bits": lambda m, drop=drop: rounding_right_shift(m, drop, Rounding.HALF_UP) << drop
            for bits, drop in drops.items()
        },
        **{f"multiplier cut to {bits} bits": lambda m, drop=drop: m >> drop << drop for bits, drop in drops.items()},
        **(
            {
                "multiplier of channel 0": channel_0,
                "multiplier of the next channel": next_channel,
                "multiplier of the channel before": previous_channel,
            }
            if per_channel
            else {}
        ),
    }
