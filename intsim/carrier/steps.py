# SPDX-License-Identifier: Apache-2.0
"""Several operators of a layer in one pass, carried by floating point: the steps of a forward pass nobody looks into.

Each returns the integers that its operators in ``intsim/ops`` return one after the other; ``build`` returns None where
that cannot be proved. A float64 holds every integer up to 2**53, and such an integer times a power of two. A value too
large for that comes out with the right sign and no smaller than 2**53, which is enough where it saturates below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers, Weight, batched_product, product
from intsim.carrier.rowwise import EXACT, HALF, Float64, saturated
from intsim.fixedpoint import Dyadic, IntRange, Rounding

__all__ = ["Attention", "Codes", "Dense", "Residual"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codes:
    """``requantize`` of an accumulator whose bias is still to be added; then, where there is a table, what it says.

    Bounds
    ------
    With y = (acc + bias) m / 2**t, and z = zero point - to.min what brings codes to 0 and up: either |(acc + bias) m| +
    (|z| + 1) 2**t <= 2**53 for every acc, or |bias| m + (max(z, to.max - zero point) + 1) 2**t <= 2**53, so that what
    float64 cannot hold saturates. Ties to even survive an even z added before rounding. The index of a table, x +
    2**15, is such a code; it is cut off toward zero, which is floor where it counts: from 0 up.
    """

    factor: Float64
    offset: Float64
    after: int  # added after rounding
    even: bool  # ties to even
    to: IntRange
    table: Integers | None

    @classmethod
    def build(
        cls,
        ratio: Dyadic,
        *,
        acc_bound: Integers,
        bias: Integers,
        to: IntRange,
        zero_point: int,
        rounding: Rounding,
        table: Integers | None = None,
    ) -> "Codes | None":
        """Return the step for |acc| <= acc_bound, per channel, or None where its bounds cannot be proved.

        Parameters
        ----------
        table
            What to return for the int16 codes -2**15 ... 2**15 - 1; ``to`` is int16 then, ``zero_point`` 0.
        """
        even = rounding is Rounding.HALF_EVEN
        z = zero_point - to.min
        least = min(abs(z), max(z, to.max - zero_point)) + 1
        if rounding not in HALF or least << int(ratio.shift.max()) > EXACT:  # not for an accumulator and bias of 0
            return None
        (m, unit), b = _in_units(ratio), _exactly(np.abs(bias))
        fits = (_exactly(acc_bound) + b) * m + (abs(z) + 1) * unit <= EXACT
        saturates = b * m + (max(z, to.max - zero_point) + 1) * unit <= EXACT
        if not np.all(np.logical_or(fits, saturates)):
            return None
        factor: Float64 = np.ldexp(ratio.multiplier.astype(np.float64), -ratio.shift)
        before = 0 if even and z % 2 else z
        return cls(
            factor=factor,
            offset=bias.astype(np.float64) * factor + (HALF[rounding] + before),
            after=z - before,
            even=even,
            to=to,
            table=table,
        )

    def __call__(self, acc: NDArray[Any]) -> Integers:
        """Return the codes of accumulators less their bias, in any dtype."""
        y = acc.astype(np.float64)
        y *= self.factor
        y += self.offset
        if self.even:
            np.rint(y, out=y)
        if self.after:
            y += self.after
        return saturated(y, self.to) if self.table is None else self.table.take(y.astype(np.intp), mode="clip")


def _in_units(ratio: Dyadic) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return |m| and 2**t, doubled where t = 0, so that the half of a rounding counts in whole units."""
    units = np.int64(1) + (ratio.shift == 0)
    return _exactly(abs(ratio.multiplier) * units), _exactly((np.int64(1) << ratio.shift) * units)


def _exactly(x: Any) -> NDArray[Any]:
    """Return x as Python's integers, which have no bound."""
    return np.asarray(x, np.int64).astype(object)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense:
    """``matmul``, and ``Codes`` of it."""

    weight: Weight
    codes: Codes

    def __call__(self, x: Integers) -> Integers:
        """Return the codes of (..., K): (..., N)."""
        return in_blocks(self.codes, product(x, self.weight))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attention:
    """``matmul`` of queries and keys, ``softmax``, ``matmul`` with values, and ``Codes`` of it."""

    softmax: Callable[..., Integers]
    codes: Callable[..., Integers]

    def __call__(self, query: Integers, key: Integers, value: Integers, keep: NDArray[np.bool_]) -> Integers:
        """Return the codes of (..., T, D) operands: (..., T, D); both products sum to at most 2**24."""
        probs = self.softmax(batched_product(query, key), keep=None if keep.all() else keep)
        return self.codes(batched_product(probs, value.swapaxes(-1, -2)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residual:
    """``matmul``, ``add`` of a second operand, and a norm of the sum, or its codes.

    Bounds
    ------
    The products sum to less than 2**31. As for ``Dense``, what float64 cannot hold saturates: |bias| m + (|skip| + |its
    zero point|) m_2 + (largest code + |zero point| + 2) 2**t <= 2**53. Where each operand is rounded by itself, that of
    skip counts among the codes, and all of them stay below 2**30, so that no saturation at int32 can show.
    """

    weight: Weight
    factor: Float64
    offset: Float64
    skip_factor: Float64
    skip_offset: Float64
    even: bool  # ties to even
    each: bool  # operands are rounded one by one
    zero_point: int  # added after rounding
    to: IntRange
    norm: Callable[[Float64], Integers]

    @classmethod
    def build(
        cls,
        weight: Weight,
        bias: Integers,
        ratios: tuple[Dyadic, Dyadic],
        norm: Callable[[Float64], Integers],
        *,
        skip: IntRange,
        skip_zero_point: int,
        to: IntRange,
        zero_point: int,
        rounding: Rounding,
        each: bool,
    ) -> "Residual | None":
        """Return the step, or None where its bounds cannot be proved."""
        even = rounding is Rounding.HALF_EVEN
        ratio, skip_ratio = ratios
        if rounding not in HALF or skip_ratio.multiplier.ndim:
            return None
        (m, unit), b = _in_units(ratio), _exactly(np.abs(bias))
        other = 2 * max(-skip.min, skip.max) * int(_in_units(skip_ratio)[0])
        reach = max(-to.min, to.max) + abs(zero_point) + 2
        if each:
            rounded_other = (other >> max(int(skip_ratio.shift), 1)) + 1
            other, reach = 0, reach + rounded_other
        if reach > 1 << 30 or not np.all(b * m + other + reach * unit <= EXACT):
            return None
        factor: Float64 = np.ldexp(ratio.multiplier.astype(np.float64), -ratio.shift)
        skip_factor: Float64 = np.ldexp(skip_ratio.multiplier.astype(np.float64), -skip_ratio.shift)
        before = 0 if each or (even and zero_point % 2) else zero_point
        offset = bias.astype(np.float64) * factor + (HALF[rounding] + before)
        skip_offset = HALF[rounding] - skip_zero_point * skip_factor
        return cls(
            weight=weight,
            factor=factor,
            offset=offset if each else offset - skip_zero_point * skip_factor,
            skip_factor=skip_factor,
            skip_offset=skip_offset,
            even=even,
            each=each,
            zero_point=zero_point - before,
            to=to,
            norm=norm,
        )

    def __call__(self, x: Integers, skip: Integers) -> Integers:
        """Return norm(dense(x) + skip): (..., K), (..., N) -> (..., N)."""
        return in_blocks(self.after_product, product(x, self.weight), skip)

    def after_product(self, acc: NDArray[Any], skip: Integers) -> Integers:
        """Return norm(acc + skip), acc less its bias in any dtype: (..., N), (..., N) -> (..., N)."""
        y, other, round_ = acc.astype(np.float64), skip.astype(np.float64), np.rint if self.even else np.floor
        other *= self.skip_factor
        y *= self.factor
        y += self.offset
        if self.each:
            round_(y, out=y)
            other += self.skip_offset
            round_(other, out=other)
            y += other
        else:
            y += other
            round_(y, out=y)
        if self.zero_point:
            y += self.zero_point
        return self.norm(y.clip(self.to.min, self.to.max, out=y))
