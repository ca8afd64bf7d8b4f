# SPDX-License-Identifier: Apache-2.0
"""Fixed-point arithmetic on int64: the one file that shifts, divides, narrows and takes square roots.

Notation: RND(r) is the rational r rounded to an integer by a ``Rounding``. Everything here is exact for every operand
that its ``Bounds`` admit; arrays are int64 unless said otherwise.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALIGNED_BITS",
    "INT8",
    "INT16",
    "INT32",
    "UINT8",
    "UINT16",
    "Dyadic",
    "IntRange",
    "Rounding",
    "bit_length",
    "isqrt",
    "round_fraction",
    "round_to_significant",
    "rounding_divide",
    "rounding_right_shift",
    "saturate",
]

Int64: TypeAlias = NDArray[np.int64]

MAX_SHIFT: Final = 62  # 2**62 is the largest power of two in int64; NumPy leaves x >> 64 undefined
MULTIPLIER_BITS: Final = 31
ALIGNED_BITS: Final = 30  # one bit less, so that two products and the rounding half stay inside int64


class Rounding(enum.StrEnum):
    """How a rational becomes an integer. The value is the name used in profiles."""

    FLOOR = "floor"  # toward minus infinity, what >> does
    TOWARD_ZERO = "toward-zero"  # what C's / does
    HALF_UP = "half-up"  # to nearest, ties toward plus infinity
    HALF_AWAY = "half-away"  # to nearest, ties away from zero
    HALF_EVEN = "half-even"  # to nearest, ties to the even neighbour


def _rounds_up(rounding: Rounding, *, twice_rest: Int64, divisor: Int64, quotient: Int64) -> NDArray[np.bool_]:
    """Say where quotient + rest / divisor rounds to quotient + 1; twice_rest = 2 * rest, 0 <= rest < divisor."""
    match rounding:
        case Rounding.FLOOR:
            return np.zeros_like(twice_rest, np.bool_)
        case Rounding.TOWARD_ZERO:
            return (quotient < 0) & (twice_rest > 0)
        case Rounding.HALF_UP:
            return twice_rest >= divisor
        case Rounding.HALF_AWAY:
            return np.where(quotient < 0, twice_rest > divisor, twice_rest >= divisor)
        case Rounding.HALF_EVEN:
            return twice_rest + (quotient & 1) > divisor


def rounding_right_shift(x: Int64, shift: ArrayLike, rounding: Rounding, *, offset: ArrayLike = 0) -> Int64:
    """Return RND(x / 2**shift + offset) for an integer offset, which decides where half-even and half-away send a tie.

    Bounds
    ------
    Any int64 ``x``; 0 <= shift <= 62 (not checked: it is a constant validated by ``Dyadic``); the sum within int64. The
    rest of the floor division is below 2**62, so twice the rest fits.

    Examples
    --------
    Ties go where the rounding says:

    >>> import numpy as np
    >>> from intsim.fixedpoint import Rounding, rounding_right_shift
    >>> x = np.array([-6, -5, 5, 6])
    >>> rounding_right_shift(x, 2, Rounding.HALF_UP).tolist()
    [-1, -1, 1, 2]
    >>> rounding_right_shift(x, 2, Rounding.HALF_EVEN).tolist()
    [-2, -1, 1, 2]
    >>> rounding_right_shift(x, 2, Rounding.FLOOR).tolist()
    [-2, -2, 1, 1]
    """
    shift = np.asarray(shift, np.int64)
    floor: Int64 = x >> shift
    quotient: Int64 = floor + np.asarray(offset, np.int64)
    if rounding is Rounding.FLOOR:
        return quotient
    twice_rest = (x - (floor << shift)) << 1
    return quotient + _rounds_up(rounding, twice_rest=twice_rest, divisor=np.int64(1) << shift, quotient=quotient)


def rounding_divide(dividend: Int64, divisor: Int64, rounding: Rounding) -> Int64:
    """Return RND(dividend / divisor) for divisor > 0.

    Bounds
    ------
    Any int64 dividend; 1 <= divisor <= 2**62, so that twice the rest fits.
    """
    quotient: Int64 = dividend // divisor
    if rounding is Rounding.FLOOR:
        return quotient
    twice_rest = (dividend - quotient * divisor) << 1
    return quotient + _rounds_up(rounding, twice_rest=twice_rest, divisor=divisor, quotient=quotient)


def bit_length(n: Int64) -> Int64:
    """Return how many bits n >= 0 takes: 0 for 0, else floor(log2 n) + 1."""
    length = np.zeros_like(n)
    for step in (32, 16, 8, 4, 2, 1):  # by halving
        length += step * (n >> (length + step) > 0)
    return length + (n > 0)


def round_to_significant(x: Int64, bits: int, *, unit: ArrayLike = 0) -> Int64:
    """Return x to its leading ``bits`` bits and to a multiple of 2**unit, ties to even: float32 keeps 24.

    Bounds
    ------
    |x| < 2**62, so that the next power of two fits; unit <= 62, above which every x is a tie or less.
    """
    drop = np.maximum(bit_length(np.abs(x)) - bits, unit)
    return rounding_right_shift(x, drop, Rounding.HALF_EVEN) << drop


def round_fraction(value: Fraction, rounding: Rounding) -> int:
    """Return RND(value) of one exact rational, for constants fixed when a model is built."""
    quotient, rest = divmod(value.numerator, value.denominator)
    up: dict[Rounding, Callable[[], bool]] = {
        Rounding.FLOOR: lambda: False,
        Rounding.TOWARD_ZERO: lambda: value < 0 and rest > 0,
        Rounding.HALF_UP: lambda: 2 * rest >= value.denominator,
        Rounding.HALF_AWAY: lambda: 2 * rest + (value > 0) > value.denominator,
        Rounding.HALF_EVEN: lambda: 2 * rest + quotient % 2 > value.denominator,
    }
    return quotient + up[rounding]()


@dataclass(frozen=True, slots=True)
class IntRange:
    """The integers of a given width.

    ``[-2**(bits-1), 2**(bits-1) - 1]`` if signed, without the lowest one if narrow; ``[0, 2**bits - 1]`` if not.
    """

    bits: int
    signed: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("bits", int), ("signed", bool), ("narrow", bool)):
            if type(value := getattr(self, name)) is not kind:
                msg = f"{name} must be of type {kind.__name__}, got {value!r}"
                raise TypeError(msg)
        if not 2 <= self.bits <= 32:
            msg = f"bits must be in [2, 32], got {self.bits}"
            raise ValueError(msg)
        if self.narrow and not self.signed:
            msg = "narrow must go with signed, got an unsigned narrow range"
            raise ValueError(msg)

    @property
    def min(self) -> int:
        """Lowest code."""
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def max(self) -> int:
        """Highest code."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """Smallest NumPy dtype that holds the range."""
        return _smallest_dtype(self.bits, self.signed)


@cache
def _smallest_dtype(bits: int, signed: bool) -> np.dtype[np.integer]:  # noqa: FBT001
    return np.min_scalar_type(-(1 << bits - 1) if signed else (1 << bits) - 1)


INT8: Final = IntRange(8)
UINT8: Final = IntRange(8, signed=False)
INT16: Final = IntRange(16)
UINT16: Final = IntRange(16, signed=False)
INT32: Final = IntRange(32)


def saturate(x: NDArray[np.integer], to: IntRange) -> NDArray[np.integer]:
    """Clip ``x`` into the range and store it in the range's dtype: 300 becomes 127 in int8, never 44.

    Examples
    --------
    >>> import numpy as np
    >>> from intsim.fixedpoint import INT8, saturate
    >>> saturate(np.array([300, -300, 7]), INT8)
    array([ 127, -128,    7], dtype=int8)
    """
    return x.clip(to.min, to.max).astype(to.dtype)


def isqrt(n: Int64) -> Int64:
    """Return floor(sqrt(n)) for 0 <= n < 2**62, exactly.

    Newton's iteration from 2**ceil(bits(n) / 2), which is never below the root, until it stops decreasing.
    A fixed count will not do: n = 1105030547 needs five updates, and k**2 - 1 makes a sixth step oscillate.

    Raises
    ------
    ValueError
        If some n is negative or at least 2**62.

    Source
    ------
    Kim et al. 2021, Algorithm 4.

    Examples
    --------
    >>> import numpy as np
    >>> from intsim.fixedpoint import isqrt
    >>> isqrt(np.array([0, 15, 16, 2**60 - 1])).tolist()
    [0, 3, 4, 1073741823]
    """
    if n.size and (n.min() < 0 or n.max() >= 1 << MAX_SHIFT):
        msg = f"n must be in [0, 2**62), got [{n.min()}, {n.max()}]"
        raise ValueError(msg)
    root: Int64 = np.int64(1) << ((bit_length(n) + 1) >> 1)
    while True:
        # root + n // root <= 2**32 + 2**31; the maximum only guards n = 0, whose root reaches 0
        lower: Int64 = (root + n // np.maximum(root, 1)) >> 1
        if not (lower < root).any():
            return root
        root = np.minimum(lower, root)


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Dyadic:
    """The rational ``multiplier / 2**shift`` standing for a ratio of scales, one or one per channel.

    Parameters
    ----------
    multiplier
        int64, |multiplier| < 2**31 (negative where LayerNorm's weight is).
    shift
        int64 of the same shape, in [0, 62].

    Bounds
    ------
    An int32 times the multiplier, plus the rounding half 2**61, stays below 2**63.

    Examples
    --------
    >>> from intsim.fixedpoint import Dyadic
    >>> ratio = Dyadic.from_real(0.0123)
    >>> int(ratio.multiplier), int(ratio.shift)
    (1690499128, 37)
    >>> float(ratio)
    0.012300000002142042
    """

    multiplier: Int64
    shift: Int64

    def __init__(self, multiplier: ArrayLike, shift: ArrayLike) -> None:
        for name, value in (("multiplier", multiplier), ("shift", shift)):
            if (dtype := np.asarray(value).dtype).kind not in "iu" or dtype == np.uint64:
                msg = f"{name} must be integers that fit int64, got dtype {dtype}"
                raise TypeError(msg)
            integers = np.array(value, np.int64)
            integers.setflags(write=False)
            object.__setattr__(self, name, integers)
        if self.multiplier.shape != self.shift.shape:
            msg = f"multiplier and shift must have one shape, got {self.multiplier.shape} and {self.shift.shape}"
            raise ValueError(msg)
        largest = (1 << MULTIPLIER_BITS) - 1
        if ((self.multiplier < -largest) | (self.multiplier > largest)).any():
            msg = f"multiplier must be below 2**31 in magnitude, got [{self.multiplier.min()}, {self.multiplier.max()}]"
            raise ValueError(msg)
        if ((self.shift < 0) | (self.shift > MAX_SHIFT)).any():
            msg = f"shift must be in [0, 62], got [{self.shift.min()}, {self.shift.max()}]"
            raise ValueError(msg)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Dyadic)
            and np.array_equal(self.multiplier, other.multiplier)
            and np.array_equal(self.shift, other.shift)
        )

    __hash__ = None  # type: ignore[assignment]

    def __float__(self) -> float:
        return float(self.to_real())

    def to_real(self) -> NDArray[np.float64]:
        """Return the rational itself: a float64 holds every one of them exactly."""
        return np.asarray(np.ldexp(self.multiplier.astype(np.float64), -self.shift))

    @classmethod
    def from_real(cls, ratio: ArrayLike, *, bits: int = MULTIPLIER_BITS) -> "Dyadic":
        """Return the nearest dyadic whose multiplier has ``bits`` bits: the turnstile from real scales to integers.

        |ratio| = q * 2**e with q in [1/2, 1) gives multiplier = floor(q * 2**bits + 1/2) and shift = bits - e,
        renormalised where the multiplier reaches 2**bits. A ratio so small that the shift would pass 62 keeps
        shift 62 and loses multiplier bits.

        Raises
        ------
        ValueError
            If a ratio is not finite or is 2**bits or more, or ``bits`` is not in [4, 31].
        """
        real = np.asarray(ratio, np.float64)
        exponent = _exponent(real, bits=bits)
        return cls(_multiplier(real, exponent, bits=bits), bits - exponent)

    @classmethod
    def exactly(cls, value: float) -> "Dyadic":
        """Return ``value`` itself, in lowest terms.

        Raises
        ------
        ValueError
            If it takes a multiplier of more than 31 bits or a shift above 62.
        """
        numerator, denominator = value.as_integer_ratio() if math.isfinite(value) else (1 << MULTIPLIER_BITS, 1)
        if abs(numerator) >> MULTIPLIER_BITS or denominator >> MAX_SHIFT + 1:
            msg = f"value must be a 31-bit integer over at most 2**62, got {value}"
            raise ValueError(msg)
        return cls(numerator, denominator.bit_length() - 1)

    @classmethod
    def aligned(cls, *ratios: ArrayLike, bits: int = ALIGNED_BITS) -> "list[Dyadic]":
        """Return dyadics that share the shift of the largest ratio, so that products can be added before rounding.

        Raises
        ------
        ValueError
            As ``from_real``.
        """
        reals = [np.asarray(ratio, np.float64) for ratio in ratios]
        largest = np.max([np.max(np.abs(real)) for real in reals])
        exponent = _exponent(largest, bits=bits)
        return [
            cls(_multiplier(real, exponent, bits=bits), np.broadcast_to(bits - exponent, real.shape)) for real in reals
        ]


def _exponent(real: NDArray[np.float64], *, bits: int) -> Int64:
    """Return e with |real| < 2**e after rounding to ``bits`` bits, at least bits - 62."""
    if not 4 <= bits <= MULTIPLIER_BITS:
        msg = f"bits must be in [4, 31], got {bits}"
        raise ValueError(msg)
    if not np.isfinite(real).all():
        msg = "ratio must be finite, got a NaN or an infinity"
        raise ValueError(msg)
    fraction, exponent = np.frexp(np.abs(real))
    rounded = np.floor(np.ldexp(fraction, bits) + 0.5)  # exact: 53-bit significand, bits <= 31
    exponent = exponent + (rounded == 1 << bits)
    exponent = np.where(real == 0, bits, np.maximum(exponent, bits - MAX_SHIFT)).astype(np.int64)
    if (exponent > bits).any():
        msg = f"ratio must be below 2**{bits}, got {np.abs(real).max()}"
        raise ValueError(msg)
    return exponent


def _multiplier(real: NDArray[np.float64], exponent: Int64, *, bits: int) -> Int64:
    """Return real * 2**(bits - exponent) to nearest, halves away from zero."""
    scaled = np.ldexp(np.abs(real), bits - exponent)
    floor = np.floor(scaled)
    magnitude = (floor + (scaled - floor >= 0.5)).astype(np.int64)  # scaled + 0.5 would round below 1/2
    return np.where(real < 0, -magnitude, magnitude)
