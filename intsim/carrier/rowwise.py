# SPDX-License-Identifier: Apache-2.0
"""Softmax, LayerNorm and saturation of rows in few passes, carried by float64.

Everything here returns the integers of the operators in ``intsim/ops``, where the equations stand, or says beforehand
that it cannot. A float64 holds every integer up to 2**53, and such an integer times a power of two.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import FLOAT32_EXACT, Integers, magnitude
from intsim.carrier.proof import square_sums
from intsim.fixedpoint import INT16, Dyadic, IntRange, Rounding, round_fraction, rounding_divide

__all__ = ["EXACT", "HALF", "Float64", "Norm", "Softmax", "carried", "eps_by_shift", "saturated"]

Float64: TypeAlias = NDArray[np.float64]

EXACT: Final = 1 << 53
HALF: Final = {Rounding.FLOOR: 0.0, Rounding.HALF_UP: 0.5, Rounding.HALF_EVEN: 0.0}  # RND(x) = floor(x + half), or rint
FLOORED: Final = (Rounding.FLOOR, Rounding.HALF_UP)
HAIR: Final = 2.0**-51
MAX_ROW_SHIFT: Final = 31  # integers below 2**46, to 15 bits and a sign


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

    With u = 2**-53, the product of e and fl(fl(one (1 + 4 u)) / sum e) is above q = e one / sum e, so not below an
    integer or a half that q reaches, and by less than 7.1 u q. A q that does not reach it is 1 / (2 sum e) or more
    below, which is more than 9 u q + u / 2 where 32 one e + sum e <= 2**53: the product is below it too, and by more
    than the u (q + 1/2) and some u**2 that adding a half may round up.
    """

    exponentials: Float64
    carrier: np.dtype[Any]  # of the scores
    factor: float  # 1 where the table runs over differences
    half: float
    even: bool
    one: float
    to: IntRange
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
        to: IntRange,
        rounding: Rounding,
        step_rounding: Rounding,
    ) -> "Softmax | None":
        """Return the step for ``columns`` scores |acc| <= bound, or None where its bounds cannot be proved.

        Parameters
        ----------
        by_difference, by_x
            Exponentials: of differences -n ... 0, the first as low as they get, and of x = -2**15 ... 0.
        """
        largest = magnitude(by_x)
        if rounding not in HALF or step_rounding not in FLOORED or (32 * one + columns) * largest > EXACT:
            return None
        constants: dict[str, Any] = {"one": one * (1 + HAIR), "to": to, "step_half": HALF[step_rounding]}
        if by_difference is not None and bound + by_difference.size <= FLOAT32_EXACT:
            return cls(
                exponentials=carried(by_difference),
                carrier=np.dtype(np.float32),
                factor=1.0,
                half=0.0,
                even=False,
                **constants,
            )
        furthest = 2 * bound * int(ratio.multiplier) + ((1 - INT16.min) << int(ratio.shift))
        if furthest << int(ratio.shift == 0) > EXACT:
            return None
        return cls(
            exponentials=carried(by_x),
            carrier=np.dtype(np.float64),
            factor=math.ldexp(int(ratio.multiplier), -int(ratio.shift)),
            half=HALF[rounding],
            even=rounding is Rounding.HALF_EVEN,
            **constants,
        )

    def __call__(self, acc: NDArray[Any], keep: NDArray[np.bool_] | None = None) -> Integers:
        """Return the probabilities of scores in any dtype, those of ``keep``."""
        # what a row shares is then a row itself
        y: NDArray[Any] = np.moveaxis(acc, -1, 0).astype(self.carrier, order="C")
        hidden, some = _hidden(keep)
        if self.factor != 1:
            y *= self.factor
        np.copyto(y[some], -EXACT, where=hidden)
        y += self.exponentials.size - 1 + self.half - y.max(axis=0)
        if self.even:
            np.rint(y, out=y)
        e = self.exponentials.take(y.astype(np.intp), mode="clip")
        np.copyto(e[some], 0, where=hidden)
        return np.moveaxis(self.quotients(e, np.maximum(e.sum(axis=0), 1.0)), 0, -1)

    def quotients(self, e: Float64, total: Float64) -> Integers:
        """Return P(e one / total), saturated; e is overwritten."""
        e *= self.one / total
        e += self.step_half
        if self.one > self.to.max + 1:
            np.minimum(e, self.to.max, out=e)
        return e.astype(self.to.dtype)


def _hidden(keep: NDArray[np.bool_] | None) -> tuple[NDArray[np.bool_], slice]:
    """Return what is masked between the first key that any query does not see and the last, keys first, and where."""
    if keep is None:
        return np.zeros(1, np.bool_), slice(0)
    by_key = np.moveaxis(keep, -1, 0)
    seen = by_key.all(axis=tuple(range(1, by_key.ndim)))
    (unseen,) = np.nonzero(~seen)
    some = slice(unseen[0], unseen[-1] + 1) if unseen.size else slice(0)
    return ~by_key[some], some


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """LayerNorm and RMSNorm.

    Bounds
    ------
    Of int16 codes, sum x**2 <= 2**14 2**30: exact in any order. Of int32 codes, |N x - sum x| < 2**46; its product with
    2**-k, and a half, are exact, and so is the sum of squares after it, of 16 bits.

    The quotient floor(a / b) of integers is floor((a + 1/2) / b), which lies 1 / (2b) or more from an integer. It is
    found as x r + s, where a = a_1 x + a_0, r = fl(a_1 / b) and s = fl((a_0 + 1/2) / b); with |a_1 x| and |a_0| below
    2**47, the four roundings are off by less than 2**-3 / b. |y m| + B <= 2**53, B = |bias| + 2**(t-1) - to.min 2**t,
    for the largest |y|, 2**f sqrt(3 N), or for a |y m| of 2**(bits + t), beyond which everything saturates: sums of up
    to 2**53 are exact, and where |y m| is more, its sum is 2**53 - B at least. Half of that where t = 0, since the half
    takes a fraction bit.
    """

    factor: Float64
    offset: Float64
    eps: int
    fraction: int
    centring: Literal["exact", "rounded-mean", "none"]
    shifted: bool  # rows, to 16 bits
    rounding: Rounding
    step_rounding: Rounding
    to: IntRange

    @classmethod
    def build(
        cls,
        weight: Dyadic,
        bias: Integers,
        *,
        eps: int,
        fraction: int,
        centring: Literal["exact", "rounded-mean", "none"],
        shifted: bool,
        to: IntRange,
        rounding: Rounding,
        step_rounding: Rounding,
    ) -> "Norm | None":
        """Return the step, or None where its bounds cannot be proved.

        Parameters
        ----------
        eps
            As in ``over_root_mean_square`` where rows are shifted, else in units of the variance.
        shifted
            Whether each row is shifted to 16 bits, for int32 codes; int16 codes do without, but for RMSNorm.
        """
        channels, shift = weight.shift.size, int(weight.shift.flat[0])
        largest = int(np.sqrt(3.0 * channels) + 1) << fraction
        reach = min(largest * int(abs(weight.multiplier).max()), 1 << to.bits + shift)
        bound = reach + magnitude(bias) + ((1 - 2 * to.min) << shift >> 1)
        roundings = rounding in HALF and step_rounding in FLOORED
        if bound << (shift == 0) > EXACT or not roundings or channels << fraction > 1 << 30:
            return None
        half = HALF[rounding] - (0 if rounding is Rounding.HALF_EVEN else to.min)
        return cls(
            factor=np.ldexp(weight.multiplier.astype(np.float64), -shift),
            offset=np.ldexp(bias.astype(np.float64), -shift) + half,
            eps=eps,
            fraction=fraction,
            centring=centring,
            shifted=shifted,
            rounding=rounding,
            step_rounding=step_rounding,
            to=to,
        )

    def __call__(self, x: Float64) -> Integers:
        """Return the codes of int16 codes, or of int32 ones where rows are shifted; x is overwritten."""
        channels, one = x.shape[-1], float(1 << self.fraction)
        first, rest = channels * one, 0.5  # a_1 and a_0 + 1/2
        if self.shifted:
            variance = self._shift(x)
        elif self.centring == "exact":
            total = x.sum(axis=-1, keepdims=True)
            s = total.astype(np.int64)
            variance, rest = channels * _squares(x) - s * s + self.eps, 0.5 - total * one
        else:
            x -= self._mean(x)
            variance, first = _squares(x) // channels + self.eps, one
        divisor = std = _root(variance).astype(np.float64)
        if self.step_rounding is Rounding.HALF_UP:  # floor((2a + b) / 2b)
            first, rest, divisor = 2 * first, std + 2 * rest - 0.5, 2 * std
        x *= first / divisor
        x += rest / divisor
        np.floor(x, out=x)
        x *= self.factor
        x += self.offset
        if self.rounding is not Rounding.HALF_EVEN:
            return saturated(x, self.to)
        return np.rint(x, out=x).clip(self.to.min, self.to.max, out=x).astype(self.to.dtype)

    def _mean(self, x: Float64) -> Float64:
        total = x.sum(axis=-1, keepdims=True).astype(np.int64)
        return rounding_divide(total, np.array(x.shape[-1]), self.rounding).astype(np.float64)

    def _shift(self, x: Float64) -> NDArray[np.int64]:
        """Centre rows and shift them; return N sum x**2 + eps."""
        if self.centring == "rounded-mean":
            x -= self._mean(x)
        elif self.centring == "exact":
            total = x.sum(axis=-1, keepdims=True)
            x *= x.shape[-1]
            x -= total
        least, eps_at = eps_by_shift(self.eps, self.step_rounding)
        largest = np.maximum(x.max(axis=-1, keepdims=True), -x.min(axis=-1, keepdims=True))
        shift = np.maximum(np.frexp(largest)[1] - INT16.bits + 1, least)
        if shift.any():
            x *= np.ldexp(1.0, -shift)
            x += HALF[self.step_rounding]
            np.floor(x, out=x)
        return x.shape[-1] * _squares(x) + eps_at[shift]


@lru_cache(maxsize=256)
def eps_by_shift(eps: int, rounding: Rounding) -> tuple[int, NDArray[np.int64]]:
    """Return the least shift e of rows, and the eps that goes with rows shifted by k = 0 ... 31, 0 where k < e.

    It is max(1, RND(eps / 2**(2 k))), and e = max(0, floor((bits(eps) - 60) / 2)) the first to bring eps < 2**89 to
    2**61 or less.
    """
    least = max(0, eps.bit_length() - 60 >> 1)
    shifted = [max(1, round_fraction(Fraction(eps, 1 << 2 * k), rounding)) for k in range(least, MAX_ROW_SHIFT + 1)]
    table = np.array([0] * least + shifted, np.int64)
    table.setflags(write=False)
    return least, table


def _squares(x: Float64) -> NDArray[np.int64]:
    return square_sums(x)[..., None].astype(np.int64)


def _root(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return r = floor(sqrt(n)) for 0 <= n < 2**62.

    fl(n) >= r**2 (1 - 2**-53), whose root rounds to r or above it: the float64 root cut off is r or r + 1.
    """
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    return root - (root * root > n)
