# SPDX-License-Identifier: Apache-2.0
"""Softmax, LayerNorm and saturation of rows in few passes, carried by float64.

Everything here returns the integers of the operators in ``intsim/ops``, where the equations stand, or says beforehand
that it cannot. A float64 holds every integer up to 2**53, and such an integer times a power of two.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import FLOAT32_EXACT, Integers, magnitude
from intsim.carrier.proof import square_sums
from intsim.fixedpoint import INT16, UINT8, Dyadic, IntRange, Rounding, rounding_divide

__all__ = ["EXACT", "HALF", "Float64", "Norm", "Softmax", "carried", "saturated"]

Float64: TypeAlias = NDArray[np.float64]

EXACT: Final = 1 << 53
HALF: Final = {Rounding.FLOOR: 0.0, Rounding.HALF_UP: 0.5, Rounding.HALF_EVEN: 0.0}  # RND(x) = floor(x + half), or rint
FLOORED: Final = (Rounding.FLOOR, Rounding.HALF_UP)
HAIR: Final = 2.0**-48


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Softmax:
    """Softmax along the last axis, by a table of exponentials below 2**24.

    Bounds
    ------
    The table runs over differences d of scores, -n ... 0, or over x = RND(d m / 2**t) = -2**15 ... 0. Differences of
    scores |acc| <= 2**24 - n are exact in float32, or so low that they fall before the table. x is exact in float64 if
    2 |acc| m + (2**15 + 1) 2**t <= 2**53, twice that where t = 0: all terms are multiples of 2**-max(t, 1), the half
    among them. Its index x + 2**15 is cut off toward zero, which is floor where it counts: from 0 up.

    q = e one / sum e <= 2**8 is a multiple of 1 / sum e >= 2**-38, in rows of 2**14. The product of e and fl(one (1 +
    2**-48) / sum e) is above q by 2**-49 q at least, so not below an integer or a half that q reaches, and by 1.2
    2**-40 at most, so more than 2**-41 below the next one: a half added to it is not rounded across an integer.
    """

    exponentials: Float64
    carrier: np.dtype[Any]  # of the scores
    factor: float  # 1 where the table runs over differences
    half: float
    even: bool
    one: float
    step_half: float

    @classmethod
    def build(
        cls,
        bound: int,
        columns: int,
        ratio: Dyadic,
        *,
        by_difference: Integers | None,
        by_x: Integers,
        one: int,
        rounding: Rounding,
        step_rounding: Rounding,
    ) -> "Softmax | None":
        """Return the step for ``columns`` scores |acc| <= bound, or None where its bounds cannot be proved.

        Parameters
        ----------
        by_difference, by_x
            Exponentials: of differences -n ... 0, the first as low as they get, and of x = -2**15 ... 0.
        """
        if rounding not in HALF or step_rounding not in FLOORED or columns > 1 << 14:
            return None
        constants: dict[str, Any] = {"one": one * (1 + HAIR), "step_half": HALF[step_rounding]}
        if by_difference is not None and bound + by_difference.size <= FLOAT32_EXACT:
            return cls(
                exponentials=carried(by_difference),
                carrier=np.dtype(np.float32),
                factor=1.0,
                half=0.0,
                even=False,
                **constants,
            )
        largest = 2 * bound * int(ratio.multiplier) + ((1 - INT16.min) << int(ratio.shift))
        if largest << int(ratio.shift == 0) > EXACT:
            return None
        return cls(
            exponentials=carried(by_x),
            carrier=np.dtype(np.float64),
            factor=math.ldexp(int(ratio.multiplier), -int(ratio.shift)),
            half=HALF[rounding],
            even=rounding is Rounding.HALF_EVEN,
            **constants,
        )

    def __call__(self, acc: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Return the probabilities of scores in any dtype, those of ``keep``."""
        kept = None if keep is None else np.moveaxis(keep, -1, 0)
        # what a row shares is then a row itself
        y: NDArray[Any] = np.moveaxis(acc, -1, 0).astype(self.carrier, order="C", copy=False)
        if self.factor != 1:
            y = y * self.factor
        if kept is not None:
            y = y + np.where(kept, 0, -EXACT).astype(self.carrier)
        y = y + (self.exponentials.size - 1 + self.half - y.max(axis=0))
        if self.even:
            np.rint(y, out=y)
        e = self.exponentials.take(y.astype(np.intp), mode="clip")
        if kept is not None:
            e *= kept
        return np.moveaxis(self.quotients(e, np.maximum(e.sum(axis=0), 1.0)), 0, -1)

    def quotients(self, e: Float64, total: Float64) -> NDArray[np.uint8]:
        """Return min(P(e one / total), 255); e is overwritten."""
        e *= self.one / total
        if self.step_half:
            e += self.step_half
        if self.one > UINT8.max + 1:
            np.minimum(e, UINT8.max, out=e)
        return e.astype(np.uint8)


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
    return square_sums(x)[..., None].astype(np.int64)


def _root(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return r = floor(sqrt(n)) for 0 <= n < 2**62.

    fl(n) >= r**2 (1 - 2**-53), whose root rounds to r or above it: the float64 root cut off is r or r + 1.
    """
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    return root - (root * root > n)
