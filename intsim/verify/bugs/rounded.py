# SPDX-License-Identifier: Apache-2.0
"""Correctly rounded tables of one code with one entry, or one rule, changed."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from intsim.fixedpoint import INT16, Rounding, rounding_right_shift
from intsim.rounded import Rounded, table
from intsim.verify.bugs.parts import CONTROL, Changes, Int64, Part, clamps, inputs, keep, registers, replaced

__all__ = ["changes"]

FINER: Final = 6  # more bits of entries that are then rounded again
TWO_SIDED: Final = ("silu", "gelu", "gelu_tanh")
SIGMOID_BITS: Final = 14


def rule(x: Int64, *, entries: Int64, x_of: Part = keep, narrow: Part = keep) -> Int64:
    """Return the entry of x; those of 0 ... 2**15 - 1 stand first."""
    return narrow(entries.take(x_of(x), mode="wrap"))


def changes(
    function: Rounded, input_fraction: int, output_fraction: int, approximations: Mapping[str, Callable[[Int64], Int64]]
) -> Changes:
    """Return the function on (x,), and every change of it; ``approximations`` are others' results for it."""
    golden = _entries(function, input_fraction, output_fraction)
    codes = np.arange(1 << 16).astype(np.int16).astype(np.int64)
    if function == "exp":
        codes = codes.clip(None, 0)
    others: dict[str, Any] = {"entries one too high": golden + 1, "entries one too low": golden - 1}
    finer = min(FINER, 31 - int(abs(golden).max()).bit_length())
    if finer > 0:
        wide, drop = _entries(function, input_fraction, output_fraction + finer), np.array(finer)
        others["entries rounded floor"] = rounding_right_shift(wide, drop, Rounding.FLOOR)
        others["entries rounded toward-zero"] = rounding_right_shift(wide, drop, Rounding.TOWARD_ZERO)
        others["entries rounded ceiling"] = -rounding_right_shift(-wide, drop, Rounding.FLOOR)
        others["entries rounded twice"] = rounding_right_shift(wide, drop, Rounding.HALF_UP)
    others |= {f"every {1 << bits}th entry, interpolated linearly": _interpolated(golden, bits) for bits in (1, 4, 8)}
    others |= {name: approximate(codes) for name, approximate in approximations.items()}
    if function in TWO_SIDED:
        others |= _products(function, codes, input_fraction, output_fraction)
    others = {name: other for name, other in others.items() if not np.array_equal(other, golden)}
    entries: dict[str, Any] = {CONTROL: golden, **others}
    return replaced(
        partial(rule, entries=golden),
        entries=entries,
        x_of={
            **(_inputs_of_exp() if function == "exp" else {**inputs(), "magnitude of the input": np.abs}),
            "lowest input bit ignored": lambda x: x >> 1 << 1,
            "input one too high": lambda x: np.minimum(x + 1, 0 if function == "exp" else INT16.max),
            "input one too low": lambda x: np.maximum(x - 1, INT16.min),
        },
        narrow={
            **registers("result", *(bits for bits in (8, 16, 24) if not _fits(golden, bits))),
            "largest result one too low": clamps(INT16.min << 15, int(golden.max()) - 1),
        },
    )


def _entries(function: Rounded, input_fraction: int, output_fraction: int) -> Int64:
    entries = table(function, input_fraction, output_fraction).astype(np.int64)
    if function == "exp":  # no input is positive
        entries = np.concatenate([np.full(1 << 15, entries[0]), entries[:0:-1]])
    return entries


def _inputs_of_exp() -> dict[str, Part]:
    return {
        **{f"input saturates at {bits} bits": clamps(-1 << (bits - 1), 0) for bits in (8, 12, 15)},
        **{f"input of {16 - low} bits": lambda x, low=low: x >> low << low for low in (8, 4)},
        "magnitude cut to a multiple of 16": lambda x: -(-x >> 4 << 4),
    }


def _interpolated(entries: Int64, bits: int) -> Int64:
    """Return every 2**bits-th entry, and between two of them what lies on the line, rounded half up."""
    ordered = np.roll(entries, 1 << 15)
    steps = np.arange(1 << 16)
    below = ordered[steps >> bits << bits]
    above = ordered[((steps >> bits) + 1 << bits).clip(None, (1 << 16) - 1)]
    between = rounding_right_shift((above - below) * (steps & (1 << bits) - 1), np.array(bits), Rounding.HALF_UP)
    return np.roll(below + between, 1 << 15)


def _products(function: Rounded, codes: Int64, input_fraction: int, output_fraction: int) -> dict[str, Int64]:
    """Return x times a sigmoid of 14 bits, and the functions that are taken for one another."""
    gates = table("sigmoid", input_fraction, SIGMOID_BITS).astype(np.int64)
    shift = input_fraction + SIGMOID_BITS - output_fraction

    def product(argument: Int64) -> Int64:
        total = codes * gates.take(argument, mode="wrap") << max(-shift, 0)
        return rounding_right_shift(total, np.array(max(shift, 0)), Rounding.HALF_UP)

    stretched = (codes * 1743 >> 10).clip(INT16.min, INT16.max)
    names: dict[str, Rounded] = {"SiLU": "silu", "GELU by erf": "gelu", "GELU by tanh": "gelu_tanh"}
    others: dict[str, Rounded] = {name: other for name, other in names.items() if other != function}
    return {
        **{name: _entries(other, input_fraction, output_fraction) for name, other in others.items()},
        "x times a sigmoid of 14 bits": product(codes),
        "x times a sigmoid of 1.702 x of 14 bits": product(stretched),
        "ReLU": codes.clip(0, None) << output_fraction - input_fraction,
    }


def _fits(entries: Int64, bits: int) -> bool:
    return bool(np.array_equal(entries, clamps(-1 << (bits - 1), (1 << (bits - 1)) - 1)(entries)))
