# SPDX-License-Identifier: Apache-2.0
"""Fixed-point arithmetic as ONNX nodes: the same integers, by formulas that standard integer operators have.

ONNX has no arithmetic shift, no floor division and no rounding of integers. With p = 2**t::

    floor(x / p) = (x & -p) // p        the dividend is a multiple of p, so that any division is exact
    RND(x / p)   = floor((x + a) / p)   a as ``shift_right`` says

and whatever else is divided is brought to at least 0 first. No node is made whose result could leave its dtype: a
``Value`` carries a bound, and refuses.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add as plus
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT32, Dyadic, IntRange, Rounding
from intsim.io.onnx.graph import Value

__all__ = ["divide", "isqrt", "products", "saturate", "shift_right"]

Integers: TypeAlias = NDArray[Any]
INT64_MAX: Final = (1 << 63) - 1
NEWTON_STEPS: Final = 6


def shift_right(x: Value, shift: Integers, rounding: Rounding, *, offset: int | Integers = 0) -> Value:
    """Return RND(x / 2**shift + offset) as floor((x + a) / 2**shift) + offset.

    With p = 2**t, h = p / 2 (0 for t = 0), u = min(t, 1) and q = floor(x / p) + offset, a is 0 for floor,
    (q < 0) (p - 1) toward zero, h half up, h - u (q < 0) half away from zero, h - u + u (q mod 2) half to even.

    Bounds
    ------
    |x| + p / 2 < 2**63. A threshold beyond int64 has the sign of x + offset p decided by offset alone.
    """
    power, tied = np.int64(1) << shift, np.minimum(shift, 1)
    half, lowest = power >> 1, power * tied  # lowest: bit t of x is that of q

    def negative() -> Value:
        threshold = np.clip(-offset * power.astype(object), -INT64_MAX, INT64_MAX)
        return (x < threshold).astype(np.int64)

    def odd() -> Value:
        return ((x & lowest) ^ lowest * (offset & 1)).astype(np.bool_).astype(np.int64)

    match rounding:
        case Rounding.FLOOR:
            raised = x
        case Rounding.TOWARD_ZERO:
            raised = x + negative() * (power - 1)
        case Rounding.HALF_UP:
            raised = x + half
        case Rounding.HALF_AWAY:
            raised = x + half - negative() * tied
        case Rounding.HALF_EVEN:
            raised = x + (half - tied) + odd()
    floor = (raised & -power) // power
    floor = floor.bounded((x.magnitude >> int(np.min(shift))) + 1)
    return floor + offset


def divide(a: Value, b: Value | int, *, multiplier: int, rounding: Rounding, quotient: int = 0) -> Value:
    """Return RND(a * multiplier / b) for b > 0 and a * multiplier >= -quotient * b.

    ``quotient`` times b brings the dividend to 0 or more, where ONNX's division is floor; being even, it keeps the
    parity that decides ties.

    Bounds
    ------
    2 |a| multiplier + (2 quotient + 5) b < 2**63.
    """
    k = quotient + quotient % 2
    a = a * multiplier
    match rounding:
        case Rounding.FLOOR:
            result = (a + b * k) // b
        case Rounding.TOWARD_ZERO:
            result = (a + b * k + (a < 0).astype(np.int64) * (b - 1)) // b
        case Rounding.HALF_UP:
            result = (a * 2 + b * (2 * k + 1)) // (b * 2)
        case Rounding.HALF_AWAY:
            result = (a * 2 + b * (2 * k + 1) - (a < 0).astype(np.int64)) // (b * 2)
        case Rounding.HALF_EVEN:
            odd = (a + b * k) // b & 1
            result = (a * 2 + b * (2 * k + 1) - 1 + odd) // (b * 2)
    return result - k


def isqrt(n: Value) -> Value:
    """Return floor(sqrt(n)) for 1 <= n < 2**62: Newton's iteration from x = 2**c, 4**(c - 1) <= n < 4**c.

    Bounds
    ------
    sqrt(n) < x <= 2 sqrt(n). With r = sqrt(n), a step takes x = r (1 + e) to at most r (1 + e**2 / (2 + 2 e)) and never
    below floor(r), so from e <= 1 six steps leave e < 2**-99. An integer x > floor(r) would need e >= 1 / (2 n), which
    is above 2**-63: six steps reach floor(r) whatever n, and the minimum keeps it.

    Source
    ------
    Kim et al. 2021, Algorithm 4, with the loop unrolled.
    """
    digits = (n >= np.int64(4) ** np.arange(31)).astype(np.int64).sum()
    root = n.graph.constant(np.int64(2) ** np.arange(32)).gather(digits)
    for _ in range(NEWTON_STEPS):
        lower = (root + n // root) // 2
        root = lower.where(lower < root, root).bounded(1 << 31)
    return root


def products(operands: Sequence[Value], ratios: Sequence[Dyadic]) -> Value:
    """Return sum_i x_i m_i in int64."""
    return reduce(plus, (x.astype(np.int64) * ratio.multiplier for x, ratio in zip(operands, ratios, strict=True)))


def saturate(x: Value, to: IntRange) -> Value:
    """Return the value clipped into the range, in its dtype; by way of int32 where that holds it, the faster."""
    x = x.astype(np.int32) if x.magnitude <= INT32.max else x
    return x.clip(to.min, to.max).bounded(max(-to.min, to.max)).astype(to.dtype)
