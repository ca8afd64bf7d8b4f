# SPDX-License-Identifier: Apache-2.0
"""The steps of layers whose input is quantized while they run: as ``steps.py``, with a bound for each row.

Codes relative to a bound are quotients small enough for one floating-point division. What comes back from a product,
acc * bound * m + addend over 2**t, is too large for float64; it is guessed with a proved error, and computed on
integers wherever the error could matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers, Weight, magnitude, product
from intsim.carrier.rowwise import Float64
from intsim.carrier.steps import Residual
from intsim.fixedpoint import INT16, INT32, UINT16, Dyadic, IntRange, Rounding, rounding_right_shift

__all__ = ["DynamicDense", "DynamicResidual", "Product", "Scaled", "by_token", "quotients"]

HALF: Final = {Rounding.FLOOR: 0.0, Rounding.HALF_UP: 0.5, Rounding.HALF_EVEN: 0.5, Rounding.HALF_AWAY: 0.5}
UNIT: Final = 2.0**-53  # of relative error in a float64


def quotients(
    x: Integers, bound: Integers, *, multiplier: int, zero_point: int, to: IntRange, rounding: Rounding
) -> Integers | None:
    """Return saturate(RND((x - zero_point) multiplier / bound)), 0 where the bound is, or None where it is not proved.

    Parameters
    ----------
    x
        (..., C) integers that fit int32; they and the difference are exact in float64, and in float32 where they have
        16 bits, or where the zero point is 0 and |q| up to M as below.
    bound
        (..., 1), not negative.

    Bounds
    ------
    With integers a = (x - zero_point) multiplier and b = bound, q = a / b is a tie or 1 / 2b away from every tie. M is
    the power of two above the codes, and M b < 2**(p - 1) for p bits of significand. Up to |q| = M, a is exact, and
    fl(q) and fl(fl(q) + 1/2) move by at most M / 2**(p + 1) each, together less than 1 / 2b: they reach neither the tie
    nor the integer above it, and leave neither, as rounding keeps order. Beyond, three roundings take at most 3 M
    2**-p < 1 from M, which leaves the highest code. A quotient by infinity is 0.
    """
    bits = (magnitude(bound) << to.bits - to.signed).bit_length() + 1
    if bits > 53 or rounding not in (Rounding.FLOOR, Rounding.HALF_UP, Rounding.HALF_EVEN):
        return None
    single = bits <= 24 and (x.dtype.itemsize <= 2 or not zero_point)
    dtype = np.dtype(np.float32 if single else np.float64)

    def rows(x: Integers, bound: Integers) -> Integers:
        y = x.astype(dtype)
        if zero_point:
            y -= zero_point
        y *= multiplier
        y /= np.where(bound > 0, bound, np.inf).astype(dtype)
        if rounding is Rounding.HALF_UP:
            y += 0.5
        (np.rint if rounding is Rounding.HALF_EVEN else np.floor)(y, out=y)
        return y.clip(to.min, to.max, out=y).astype(to.dtype)

    return in_blocks(rows, x, bound)


def by_token(x: Integers, *, zero_point: int, to: IntRange, rounding: Rounding) -> tuple[Integers, Integers] | None:
    """Return ``quantize_dynamic`` of each row by its own ``dynamic_bound``, and that; None where it is not proved.

    Parameters
    ----------
    x
        (..., C) integers that fit int32, C at least 1.
    to
        Range of the codes, signed and symmetric.

    Bounds
    ------
    As for ``quotients``, but that no quotient is beyond the codes, and that z = highest code + 1 is added with the
    half, after which what is cut off toward zero is floored: fl(q) and fl(fl(q) + z + 1/2) move by at most M /
    2**(p + 1) and 2 M / 2**(p + 1), together less than 1 / 2b for 3 M b < 2**p. In float64 that is so for every b.
    """
    if rounding not in (Rounding.FLOOR, Rounding.HALF_UP):
        return None
    z = to.max + 1
    unsigned, wide = f"u{to.dtype.itemsize}", np.dtype(np.int32 if x.dtype.itemsize <= 2 else np.int64)

    def rows(x: Integers) -> tuple[Integers, Integers]:
        bound = np.maximum(
            x.max(axis=-1, keepdims=True).astype(wide) - zero_point,
            zero_point - x.min(axis=-1, keepdims=True).astype(wide),
        )
        single = 3 * z * int(bound.max(initial=0)) < 1 << 24 and (x.dtype.itemsize <= 2 or not zero_point)
        y = x.astype(np.float32 if single else np.float64)
        if zero_point:
            y -= zero_point
        y *= to.max
        y /= np.maximum(bound, 1).astype(y.dtype)
        y += z + HALF[rounding]
        codes = y.astype(unsigned)
        codes -= codes.dtype.type(z)
        return codes.view(to.dtype), bound

    return in_blocks(rows, x)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """``scale_rows`` of an accumulator and ``requantize`` with an addend, before it saturates.

    Bounds
    ------
    With E = addend / 2**t + zero point + half, what is floored is z = acc bound m / 2**t + E, and the guess y =
    fl(fl(fl(acc bound) factor) + offset). With u = 2**-53, products err by at most 3.01 u |z - E|, the offset by 3.01 u
    |E|, the sum by 1.01 u |z|: less than hair = 8 u (largest code + 2 + |E|) where z is a code, and beyond too little
    to make it one. The offset holds a hair, so that z <= y <= z + 2 hair. Where y is more than 2 hair above an integer,
    none is in [z, y]: z was not on a tie, and its floor is that of y. Elsewhere integers decide, which must fit int64
    as ``scale_rows`` and ``requantize`` ask.
    """

    ratio: Dyadic
    addend: Integers
    zero_point: int
    rounding: Rounding
    factor: Float64
    offset: Float64
    near: float  # 2 hair

    @classmethod
    def build(
        cls, ratio: Dyadic, *, addend: Integers, to: IntRange, zero_point: int, rounding: Rounding
    ) -> "Scaled | None":
        """Return the step, (N,) addends, or None where it rounds at other than one boundary between two integers."""
        if rounding not in HALF:
            return None
        exact = np.ldexp(addend.astype(np.float64), -ratio.shift) + (zero_point + HALF[rounding])
        hair = 8 * UNIT * (max(-to.min, to.max) + 2 + float(np.abs(exact).max()))
        return cls(
            ratio=ratio,
            addend=addend,
            zero_point=zero_point,
            rounding=rounding,
            factor=np.ldexp(ratio.multiplier.astype(np.float64), -ratio.shift),
            offset=exact + hair,
            near=2 * hair,
        )

    def __call__(self, acc: NDArray[Any], bound: Integers) -> Float64:
        """Return the integers of (..., N) accumulators and (..., 1) bounds."""
        y, rows = acc.astype(np.float64), bound.astype(np.float64)
        if self.factor.ndim:
            y *= rows
            y *= self.factor
        else:
            y *= rows * self.factor
        y += self.offset
        x = np.floor(y)
        y -= x
        if y.min() <= self.near:
            self._settle(x, acc, bound, np.unravel_index(np.flatnonzero(y <= self.near), y.shape))
        return x

    def _settle(self, x: Float64, acc: NDArray[Any], bound: Integers, where: tuple[Integers, ...]) -> None:
        def there(constant: Integers) -> Any:
            return np.broadcast_to(constant, acc.shape)[where]

        total = acc[where].astype(np.int64) * there(bound) * there(self.ratio.multiplier) + there(self.addend)
        x[where] = rounding_right_shift(total, there(self.ratio.shift), self.rounding) + self.zero_point


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product:
    """``multiply`` of two factors that have a zero point of 0: ``Scaled`` with the second one for a bound."""

    scaled: Scaled
    to: IntRange

    def __call__(self, x: Integers, y: Integers) -> Integers:
        """Return the codes of factors of one shape."""

        def rows(x: Integers, y: Integers) -> Integers:
            product = self.scaled(x, y)
            return product.clip(self.to.min, self.to.max, out=product).astype(self.to.dtype)

        return in_blocks(rows, x, y)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DynamicDense:
    """``matmul``, ``Scaled``, and its codes; then, where there is a table, what it says of them."""

    weight: Weight
    scaled: Scaled
    to: IntRange
    table: Integers | None

    @classmethod
    def build(
        cls,
        weight: Weight,
        addend: Integers,
        ratio: Dyadic,
        *,
        to: IntRange,
        zero_point: int,
        rounding: Rounding,
        table: Integers | None = None,
    ) -> "DynamicDense | None":
        """Return the step, or None as ``Scaled`` does.

        Parameters
        ----------
        table
            What to return for the int16 codes -2**15 ... 2**15 - 1; ``to`` is int16 then, ``zero_point`` 0.
        """
        codes, offset = (to, zero_point) if table is None else (UINT16, -INT16.min)
        scaled = Scaled.build(ratio, addend=addend, to=codes, zero_point=offset, rounding=rounding)
        return scaled and cls(weight=weight, scaled=scaled, to=to, table=table)

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
    """``matmul``, ``Scaled`` to int32, ``add`` of a second operand, and a norm of the sum, or its codes.

    Bounds
    ------
    As for ``Residual``, which takes the wide integers for an accumulator. They need not be right, nor saturate at
    int32, where the sum saturates whatever is added to them: where their share of it exceeds |skip - its zero point|
    m_2 / 2**t, the distance of the codes and of the zero point, and the roundings.
    """

    weight: Weight
    wide: Scaled
    residual: Residual

    @classmethod
    def build(
        cls,
        weight: Weight,
        addend: Integers,
        ratios: tuple[Dyadic, Dyadic, Dyadic],
        norm: Callable[[Float64], Integers],
        *,
        requantization: Rounding,
        skip: IntRange,
        to: IntRange,
        zero_point: int,
        each: bool,
        **constants: Any,
    ) -> "DynamicResidual | None":
        """Return the step, or None where its bounds cannot be proved.

        Parameters
        ----------
        ratios
            Of the product to the wide integers, of these to the sum, and of the second operand to the sum.
        requantization
            Rounding to the wide integers.
        constants
            And the others: as for ``Residual``.
        """
        ratio, dense, other = ratios
        share, other_share = (np.ldexp(r.multiplier.astype(np.float64), -r.shift) for r in (dense, other))
        enough = (skip.max - skip.min) * float(np.abs(other_share).max()) + (to.max - to.min) + abs(zero_point) + 2
        if float(share.min()) * 2.0 ** (INT32.bits - 2) < enough:
            return None
        bits = 2 + max(0, int(np.ceil(np.log2(enough / float(share.min())))))
        if each and not share.ndim:  # in lowest terms its bounds are lower
            dense = Dyadic.exactly(float(share))
        constants |= {"skip": skip, "to": to, "zero_point": zero_point, "each": each}
        residual = Residual.build(weight, np.zeros_like(addend), (dense, other), norm, **constants)
        wide = Scaled.build(ratio, addend=addend, to=IntRange(bits), zero_point=0, rounding=requantization)
        return residual and wide and cls(weight=weight, wide=wide, residual=residual)

    def __call__(self, x: Integers, bound: Integers, skip: Integers) -> Integers:
        """Return norm(dense(x) + skip): (..., K), (..., 1), (..., N) -> (..., N)."""
        return in_blocks(self._codes, product(x, self.weight), bound, skip)

    def _codes(self, acc: NDArray[Any], bound: Integers, skip: Integers) -> Integers:
        wide = self.wide(acc, bound)
        return self.residual.after_product(wide, skip)
