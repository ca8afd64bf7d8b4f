# SPDX-License-Identifier: Apache-2.0
"""Softmax, LayerNorm and saturation of rows in few passes, carried by float64.

Everything here returns the integers of the operators in ``intsim/ops``, where the equations stand, or says beforehand
that it cannot. A float64 holds every integer up to 2**53, and such an integer times a power of two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.carrier import Integers, magnitude
from intsim.fixedpoint import INT16, UINT8, Dyadic, IntRange, Rounding, rounding_divide

__all__ = ["EXACT", "HALF", "Float64", "Norm", "carried", "saturated", "softmax", "softmax_fits"]

Float64: TypeAlias = NDArray[np.float64]

EXACT: Final = 1 << 53
HALF: Final = {Rounding.FLOOR: 0.0, Rounding.HALF_UP: 0.5, Rounding.HALF_EVEN: 0.0}  # RND(x) = floor(x + half), or rint
FLOORED: Final = (Rounding.FLOOR, Rounding.HALF_UP)
HAIR: Final = 2.0**-42


def carried(x: Integers) -> Float64:
    """Return x in float64, |x| <= 2**53."""
    return x.astype(np.float64)


def saturated(y: Float64, to: IntRange) -> Integers:
    """Return saturate(floor(y) + to.min, to); y is overwritten.

    It is cut off toward zero, which is floor where it counts: from 0 up. The sum wraps in the unsigned dtype.
    """
    codes = y.clip(0, to.max - to.min, out=y).astype(f"u{to.dtype.itemsize}")
    if to.min:
        codes += np.array(to.min, to.dtype).view(codes.dtype)
    return codes.view(to.dtype)


def softmax_fits(bound: int, columns: int, ratio: Dyadic, *, rounding: Rounding, step_rounding: Rounding) -> bool:
    """Say whether ``softmax`` is exact for |acc| <= bound: 2 |acc| m + (2**15 + 1) 2**t <= 2**53, rows of 2**14.

    Twice that where t = 0: the half takes a fraction bit of its own.
    """
    largest = 2 * bound * int(ratio.multiplier) + ((1 - INT16.min) << int(ratio.shift))
    largest <<= int(ratio.shift) == 0
    return rounding in HALF and step_rounding in FLOORED and largest <= EXACT and columns <= 1 << 14


def softmax(
    acc: NDArray[Any],
    keep: NDArray[np.bool_] | None = None,
    *,
    ratio: Dyadic,
    exponentials: NDArray[Any],
    one: int,
    rounding: Rounding,
    step_rounding: Rounding,
) -> NDArray[np.uint8]:
    """Return softmax along the last axis; ``exponentials`` are those of -2**15 ... 0, below 2**24.

    Bounds
    ------
    x = RND(d m / 2**t) is exact: all terms are multiples of 2**-max(t, 1), the half among them, and their sums at most
    2**(53 - max(t, 1)). Its index x + 2**15 is cut off toward zero, which is floor where it counts: from 0 up.

    e one / sum e plus a half is a multiple of 1 / (2 sum e) >= 2**-39. The product of e and fl(one / sum e), at most
    2**8, is off by less than 2**-43, and so is the sum after it. A hair of 2**-42 lifts an integer that came out too
    low over itself, and nothing over the next one.
    """
    kept = None if keep is None else np.moveaxis(keep, -1, 0)
    y = np.moveaxis(acc, -1, 0).astype(np.float64, order="C")  # what a row shares is then a row itself
    y *= np.ldexp(np.float64(ratio.multiplier), -int(ratio.shift))
    if kept is not None:
        y += np.where(kept, 0.0, -float(EXACT))
    y += HALF[rounding] - INT16.min - y.max(axis=0)
    if rounding is Rounding.HALF_EVEN:
        np.rint(y, out=y)
    e: Float64 = exponentials.take(y.astype(np.intp), mode="clip")
    if kept is not None:
        e *= kept
    e *= one / np.maximum(e.sum(axis=0), 1.0)
    e += HALF[step_rounding] + HAIR
    if one > UINT8.max:
        np.minimum(e, UINT8.max, out=e)
    return np.moveaxis(e.astype(np.uint8), 0, -1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """LayerNorm.

    Bounds
    ------
    sum x**2 <= 2**14 2**30: exact in any order. The quotient floor(a / b) of integers is floor((a + 1/2) / b), which
    lies 1 / (2b) or more from an integer. It is found as x r + s, where a = a_1 x + a_0, r = fl(a_1 / b) and s =
    fl((a_0 + 1/2) / b); with |a_1 x| and |a_0| below 2**47, the four roundings are off by less than 2**-3 / b. |y m +
    bias| + 2**(t-1) - to.min 2**t <= 2**53 for the largest |y|, 2**f sqrt(3 N); half of that where t = 0, since the
    half takes a fraction bit.
    """

    factor: Float64
    offset: Float64
    eps: int
    fraction: int
    mean: Callable[[Float64], Float64] | None  # what is subtracted first; without it the centring is exact
    doubled: bool  # quotients are rounded half up: floor((2a + b) / 2b)
    even: bool
    to: IntRange

    @classmethod
    def build(
        cls,
        weight: Dyadic,
        bias: Integers,
        *,
        eps: int,
        fraction: int,
        exact: bool,
        to: IntRange,
        rounding: Rounding,
        step_rounding: Rounding,
    ) -> "Norm | None":
        """Return the step, or None where its bounds cannot be proved."""
        channels, shift = weight.shift.size, int(weight.shift.flat[0])
        largest = int(np.sqrt(3.0 * channels) + 1) << fraction
        bound = largest * int(abs(weight.multiplier).max()) + magnitude(bias) + ((1 - 2 * to.min) << shift >> 1)
        even = rounding is Rounding.HALF_EVEN
        roundings = rounding in HALF and step_rounding in FLOORED
        if bound << (shift == 0) > EXACT or not roundings or channels << fraction > 1 << 30:
            return None

        def mean(total: Float64) -> Float64:
            return rounding_divide(total.astype(np.int64), np.array(channels), rounding).astype(np.float64)

        return cls(
            factor=np.ldexp(weight.multiplier.astype(np.float64), -shift),
            offset=np.ldexp(bias.astype(np.float64), -shift) + (HALF[rounding] - (0 if even else to.min)),
            eps=eps,
            fraction=fraction,
            mean=None if exact else mean,
            doubled=step_rounding is Rounding.HALF_UP,
            even=even,
            to=to,
        )

    def __call__(self, x: Float64) -> Integers:
        """Return the codes of int16 codes; x is overwritten."""
        channels = x.shape[-1]
        total = x.sum(axis=-1, keepdims=True)
        if self.mean is None:
            s = total.astype(np.int64)
            variance = channels * _squares(x) - s * s
            scale = float(channels << self.fraction)
        else:
            x -= self.mean(total)
            total = np.zeros_like(total)
            variance = _squares(x) // channels
            scale = float(1 << self.fraction)
        std = _root(variance + self.eps).astype(np.float64)
        first, rest, divisor = scale, 0.5 - total * (scale / channels), std
        if self.doubled:
            first, rest, divisor = 2 * scale, std + 2 * rest - 0.5, 2 * std
        x *= first / divisor
        x += rest / divisor
        np.floor(x, out=x)
        x *= self.factor
        x += self.offset
        if not self.even:
            return saturated(x, self.to)
        return np.rint(x, out=x).clip(self.to.min, self.to.max, out=x).astype(self.to.dtype)


def _squares(x: Float64) -> NDArray[np.int64]:
    return np.vecdot(x, x)[..., None].astype(np.int64)


def _root(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return floor(sqrt(n)) for 0 <= n < 2**62: the float64 root is off by less than 1."""
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    root -= root * root > n
    return root + ((root + 1) * (root + 1) <= n)
