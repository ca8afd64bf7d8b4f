# SPDX-License-Identifier: Apache-2.0
"""The steps of layers whose input is quantized while they run: as ``intsim/steps.py``, with a bound for each row.

Codes relative to a bound are quotients small enough for one floating-point division. What comes back from a product,
acc * bound * m + addend over 2**t, is too large for float64; it is guessed with a proved error, and computed on
integers wherever the error could matter.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim.blocks import in_blocks
from intsim.carrier import Integers, magnitude, product
from intsim.fixedpoint import INT32, Dyadic, IntRange, Rounding, rounding_right_shift
from intsim.steps import Residual

__all__ = ["DynamicDense", "DynamicResidual", "Scaled", "quotients"]

HALF: Final = {Rounding.FLOOR: 0.0, Rounding.HALF_UP: 0.5, Rounding.HALF_EVEN: 0.5, Rounding.HALF_AWAY: 0.5}
UNITS: Final = 8  # of error in a guess
SELDOM: Final = 2.0**-12  # how near a boundary a guess may be useless


def quotients(
    x: Integers, bound: Integers, *, multiplier: int, zero_point: int, to: IntRange, rounding: Rounding
) -> Integers | None:
    """Return saturate(RND((x - zero_point) multiplier / bound)), 0 where the bound is, or None where it is not proved.

    Parameters
    ----------
    x
        (..., C) integers of at most 16 bits.
    bound
        (..., 1), not negative.

    Bounds
    ------
    With integers a = (x - zero_point) multiplier and b = bound, 2 |a| + b < 2**p lets p bits of significand hold both
    2a + b and 2b. As for ``divide`` in ``carrier.py``, floor(fl((2a + b) / 2b)) = floor((2a + b) / 2b), which is a / b
    rounded half up, and floor(fl(a / b)) = floor(a / b). a / b is a tie or 1 / 2b away from one, and its rounding moves
    it by no more than |a| / (b 2**p) < 1 / 2b, so that rint(fl(a / b)) rounds half to even. A quotient by infinity is 0.
    """
    largest = 2 * (magnitude(x) + abs(zero_point)) * multiplier + magnitude(bound)
    dtype = np.dtype(np.float32 if largest < 1 << 24 else np.float64)
    if largest >= 1 << 53 or rounding not in (Rounding.FLOOR, Rounding.HALF_UP, Rounding.HALF_EVEN):
        return None
    doubled = 2 if rounding is Rounding.HALF_UP else 1

    def rows(x: Integers, bound: Integers) -> Integers:
        y, b = x.astype(dtype), bound.astype(dtype)
        if zero_point:
            y -= zero_point
        y *= doubled * multiplier
        if rounding is Rounding.HALF_UP:
            y += b
        y /= np.where(b > 0, doubled * b, np.inf)
        (np.rint if rounding is Rounding.HALF_EVEN else np.floor)(y, out=y)
        return y.clip(to.min, to.max, out=y).astype(to.dtype)

    return in_blocks(rows, x, bound)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """``scale_rows`` of an accumulator and ``requantize`` with an addend, before it saturates.

    Bounds
    ------
    With E = addend / 2**t + zero point + half, what is floored is z = acc bound m / 2**t + E, and the guess y =
    fl(fl(fl(acc bound) factor) + offset). With u = 2**-p, conversions and products err by at most 4.01 u |z - E|, the
    offset by 3.01 u |E|, the sum by 1.01 u |z|: less than hair = 8 u (largest code + 2 + |E|) where z is a code, and
    beyond too little to make it one. The offset holds a hair, so that z <= y <= z + 2 hair. Where y is more than 2 hair
    above an integer, none is in [z, y]: z was not on a tie, and its floor is that of y. Elsewhere integers decide;
    ``scale_rows`` and ``requantize`` ask that they fit int64.
    """

    ratio: Dyadic
    addend: Integers
    zero_point: int
    rounding: Rounding
    factor: NDArray[Any]
    offset: NDArray[Any]
    near: float  # 2 hair

    @classmethod
    def build(
        cls, ratio: Dyadic, *, addend: Integers, to: IntRange, zero_point: int, rounding: Rounding
    ) -> "Scaled | None":
        """Return the step, in float32 if that seldom takes integers, or None if float64 often does."""
        if rounding not in HALF:
            return None
        factor = np.ldexp(ratio.multiplier.astype(np.float64), -ratio.shift)
        exact = np.ldexp(addend.astype(np.float64), -ratio.shift) + (zero_point + HALF[rounding])
        reach = max(-to.min, to.max) + 2 + float(np.abs(exact).max())
        for dtype in (np.float32, np.float64):
            hair = float(dtype(UNITS * float(np.finfo(dtype).eps) / 2 * reach))
            if hair <= SELDOM:
                return cls(
                    ratio=ratio,
                    addend=addend,
                    zero_point=zero_point,
                    rounding=rounding,
                    factor=factor.astype(dtype),
                    offset=(exact + hair).astype(dtype),
                    near=2 * hair,
                )
        return None

    def __call__(self, acc: NDArray[Any], bound: Integers) -> NDArray[Any]:
        """Return the integers of (..., N) accumulators and (..., 1) bounds, carried as the guess is."""
        y, rows = acc.astype(self.offset.dtype), bound.astype(self.offset.dtype)
        if self.factor.ndim:
            y *= rows
            y *= self.factor
        else:
            y *= rows * self.factor
        y += self.offset
        x = np.floor(y)
        y -= x
        if y.min() <= self.near:
            self._settle(x, acc, bound, np.nonzero(y <= self.near))
        return x

    def _settle(self, x: NDArray[Any], acc: NDArray[Any], bound: Integers, where: tuple[Any, ...]) -> None:
        def there(constant: Integers) -> Any:
            return np.broadcast_to(constant, acc.shape)[where]

        total = acc[where].astype(np.int64) * there(bound) * there(self.ratio.multiplier) + there(self.addend)
        x[where] = rounding_right_shift(total, there(self.ratio.shift), self.rounding) + self.zero_point


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DynamicDense:
    """``matmul``, ``Scaled``, and its codes; then, where there is a table, what it says of them."""

    weight: Integers
    scaled: Scaled
    to: IntRange
    table: Integers | None

    def __call__(self, x: Integers, bound: Integers) -> Integers:
        """Return the codes of (..., K) codes relative to (..., 1) bounds: (..., N)."""
        return in_blocks(self._codes, product(x, self.weight), bound)

    def _codes(self, acc: NDArray[Any], bound: Integers) -> Integers:
        x = self.scaled(acc, bound)
        if self.table is None:
            return x.clip(self.to.min, self.to.max, out=x).astype(self.to.dtype)
        return self.table.take(x.astype(np.intp), mode="clip")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DynamicResidual:
    """``matmul``, ``Scaled`` to int32, ``add`` of a second operand, and ``layer_norm``."""

    weight: Integers
    wide: Scaled
    residual: Residual  # of an accumulator without bias

    def __call__(self, x: Integers, bound: Integers, skip: Integers) -> Integers:
        """Return LayerNorm(dense(x) + skip): (..., K), (..., 1), (..., N) -> (..., N)."""
        return in_blocks(self._codes, product(x, self.weight), bound, skip)

    def _codes(self, acc: NDArray[Any], bound: Integers, skip: Integers) -> Integers:
        wide = self.wide(acc, bound)
        return self.residual._codes(wide.clip(INT32.min, INT32.max, out=wide), skip)
