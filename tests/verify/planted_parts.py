# SPDX-License-Identifier: Apache-2.0
"""What a device with bugs is made of: roundings, registers, clamps and multipliers, on Python integers."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np


class Bug(NamedTuple):
    """One change at one place of one operator."""

    place: str
    change: str

    def at(self, place: str, correct: str = "") -> str:
        return self.change if self.place == place else correct


NONE: Final = Bug("", "")


def _ties(up: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Round to nearest, ties raised where ``up(n, floor)``."""
    return lambda n, d: n // d + ((2 * (n % d) > d) | ((2 * (n % d) == d) & up(n, n // d)))


ROUNDINGS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "floor": lambda n, d: n // d,
    "ceiling": lambda n, d: -(-n // d),
    "toward zero": lambda n, d: np.sign(n) * (abs(n) // d),
    "half up": _ties(lambda _n, _floor: True),
    "half down": _ties(lambda _n, _floor: False),
    "half away": _ties(lambda n, _floor: n >= 0),
    "half toward zero": _ties(lambda n, _floor: n < 0),
    "half even": _ties(lambda _n, floor: floor % 2 == 1),
    "half odd": _ties(lambda _n, floor: floor % 2 == 0),
    "last bit set if inexact": lambda n, d: n // d + ((n % d != 0) & (n // d % 2 == 0)),
}
SHIFTS: Final = {"": 0, "one too far": 1, "one too short": -1}


def divided(n: Any, d: Any, rounding: str) -> Any:
    return ROUNDINGS[rounding](n, d)


def register(x: Any, change: str) -> Any:
    """Return what a register holds that "wraps at N bits" or "saturates at N unsigned bits"."""
    if not change:
        return x
    verb, _, bits, *unsigned, _ = change.split()
    size = 1 << int(bits)
    low = 0 if unsigned else -size // 2
    return (x - low) % size + low if verb == "wraps" else np.clip(x, low, low + size - 1)


def stored(x: Any, to: Any, change: str) -> Any:
    low, high, size = to.min, to.max, 1 << to.bits
    match change:
        case "wraps":
            return x
        case "no upper clamp":
            return np.maximum(x, low)
        case "no lower clamp":
            return np.minimum(x, high)
        case "symmetric":
            low = -high
        case "lowest code too":
            low = high + 1 - size
        case "upper clamp one too low":
            high -= 1
        case "upper clamp one too high":
            high += 1
        case "negative clamped to 0":
            low = 0
    return np.clip(x, low, high)


def narrow_multiplier(m: Any, change: str) -> Any:
    """Keep the upper bits of a 31-bit multiplier, or take another channel's."""
    match change.split():
        case [bits, "bits", how]:
            drop = 31 - int(bits)
            return divided(m, 1 << drop, {"rounded": "half up", "truncated": "floor"}[how]) << drop
        case ["channel", "0"]:
            return np.full_like(m, m.flat[0])
        case ["next", "channel"]:
            return np.roll(m, -1)
    return m


def scaled(x: Any, ratio: Any, bug: Bug) -> tuple[Any, Any]:
    """Return the product of x and the multiplier, and the divisor that it still wants."""
    m = narrow_multiplier(integers(ratio.multiplier), bug.at("multiplier"))
    shift = integers(ratio.shift) + SHIFTS.get(bug.at("shift"), 0)
    if bug.at("shift") == "channel 0":
        shift = integers(ratio.shift).flat[0]
    return register(register(x, bug.at("accumulator")) * m, bug.at("product")), 2**shift


def integers(x: Any) -> Any:
    return np.asarray(x).astype(object)
