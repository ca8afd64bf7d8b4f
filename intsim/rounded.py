# SPDX-License-Identifier: Apache-2.0
"""Functions of one 16-bit code, correctly rounded: what the lookup tables of hardware hold, by Python's integers alone.

An entry is the output code nearest to the function's real value. Each function is computed with an error bound; where
an interval of it rounds to two codes, all is computed again with twice the bits. No value but those of x = 0 lies on a
tie, since e**x is irrational for every other rational x.

With k = |x_q|, x = k / 2**input_fraction and g(x) in (0, 1]::

    exp      e**-x                                silu       x g(x), g = 1 / (1 + e**-x)
    sigmoid  1 / (1 + e**-x)                      gelu       x g(x), g = Phi, the normal distribution function
    tanh     2 / (1 + e**-2x) - 1                 gelu_tanh  x g(x), g = 1 / (1 + e**-2u), u = sqrt(2 / pi) (x + c x**3)

and for negative arguments sigmoid(-x) = 1 - sigmoid(x), tanh(-x) = -tanh(x), (-x) g(-x) = x g(x) - x.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim._checked import Checked, check_range
from intsim.fixedpoint import INT16, INT32, IntRange, saturate

__all__ = ["RoundedExp", "RoundedGelu", "RoundedSigmoid", "RoundedSilu", "RoundedTanh", "table"]

Integers: TypeAlias = NDArray[np.integer[Any]]
Big: TypeAlias = NDArray[np.object_]  # of Python's integers
Gate: TypeAlias = tuple[Big, int]  # values * 2**bits and their largest error
Rounded: TypeAlias = Literal["exp", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"]

COUNT: Final = -INT16.min + 1  # magnitudes 0 ... 2**15
FIRST_BITS: Final = 160
GUARD: Final = 32  # more bits of what a constant is computed with
CUBIC: Final = Fraction("0.044715")  # c of gelu_tanh (Hendrycks & Gimpel 2016)
FLAT: Final = 8  # 1 - Phi(x) < e**(-x**2 / 2) / 2 < 2**-47 from here on


@dataclass(frozen=True, kw_only=True)
class RoundedExp(Checked):
    """e**x, x <= 0, correctly rounded. Real values: the input is x * 2**-input_fraction."""

    rule: Literal["rounded"] = "rounded"
    input_fraction: int
    output_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of exp", self.input_fraction, 1, 15)
        check_range("output_fraction of exp", self.output_fraction, 1, 23)  # softmax takes exponentials below 2**24

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code."""
        return Fraction(1, 1 << self.output_fraction)


@dataclass(frozen=True, kw_only=True)
class RoundedTanh(Checked):
    """Tanh, correctly rounded; its input is one bit finer than that of exp."""

    rule: Literal["rounded"] = "rounded"
    output_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("output_fraction of tanh", self.output_fraction, 1, 14)


@dataclass(frozen=True, kw_only=True)
class RoundedSigmoid(Checked):
    """Sigmoid, correctly rounded; its input has the format of that of exp."""

    rule: Literal["rounded"] = "rounded"
    output_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("output_fraction of sigmoid", self.output_fraction, 1, 14)


@dataclass(frozen=True, kw_only=True)
class RoundedSilu(Checked):
    """x sigmoid(x), correctly rounded. Real values: the input is x * 2**-input_fraction."""

    rule: Literal["rounded"] = "rounded"
    input_fraction: int
    output_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_product("silu", self.input_fraction, self.output_fraction)


@dataclass(frozen=True, kw_only=True)
class RoundedGelu(Checked):
    """x Phi(x), correctly rounded, and likewise its form by tanh, each a function of its own.

    Real values: the input is x * 2**-input_fraction.
    """

    rule: Literal["rounded"] = "rounded"
    input_fraction: int
    output_fraction: int

    input_range: ClassVar[IntRange] = INT16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_product("gelu", self.input_fraction, self.output_fraction)

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code."""
        return Fraction(1, 1 << self.output_fraction)


def _check_product(name: str, input_fraction: int, output_fraction: int) -> None:
    """Refuse an output coarser than the input, where x itself could be a tie, or one that passes int32."""
    check_range(f"input_fraction of {name}", input_fraction, 0, 14)
    check_range(f"output_fraction of {name}", output_fraction, input_fraction, input_fraction + 15)


@lru_cache(maxsize=32)
def table(function: Rounded, input_fraction: int, output_fraction: int) -> Integers:
    """Return the entries of 0 ... 2**15 - 1, then of -2**15 ... -1; of ``exp`` those of 0, -1 ... -2**15.

    Returns
    -------
    ndarray
        int32, output_fraction fraction bits.
    """
    bits = FIRST_BITS
    while True:
        (values, error), drop = _positive(function, input_fraction, bits)
        low, high = (_nearest(values + sign * error, drop - output_fraction) for sign in (-1, 1))
        if (low == high).all():
            break
        bits *= 2
    if function == "exp":
        return saturate(low.astype(np.int64), INT32)
    k = np.arange(COUNT)
    match function:
        case "tanh":
            negative = -low
        case "sigmoid":
            negative = (1 << output_fraction) - low
        case _:
            negative = low - (k << output_fraction - input_fraction)
    return saturate(np.concatenate([low[:-1], negative[:0:-1]]).astype(np.int64), INT32)


def _nearest(values: Big, drop: int) -> Big:
    return values + (1 << drop - 1) >> drop


def _positive(function: Rounded, input_fraction: int, bits: int) -> tuple[tuple[Big, Big | int], int]:
    """Return f(k / 2**input_fraction) * 2**drop for all k, with their error bounds, and drop."""
    one = 1 << bits
    step = Fraction(1, 1 << input_fraction)
    match function:
        case "exp":
            return _decay([step], bits), bits
        case "sigmoid":
            return _logistic(_decay([step], bits), bits), bits
        case "tanh":
            values, error = _logistic(_decay([2 * step], bits), bits)
            return (2 * values - one, 2 * error), bits
        case "silu":
            values, error = _logistic(_decay([step], bits), bits)
        case "gelu_tanh":
            values, error = _logistic(_decay(_cubic(input_fraction, bits), bits), bits)
        case "gelu":
            values, error = _normal(input_fraction, bits)
    k = np.arange(COUNT).astype(object)
    return (k * values, k * error), bits + input_fraction


def _decay(differences: list[Fraction], bits: int, count: int = COUNT) -> tuple[Big, int]:
    """Return e**-p(k), k = 0, 1 ..., of a polynomial p from its differences at 0: p(1) - p(0), the second, the third.

    Every value is that of k - 1 times the exponential of a difference, which is formed likewise. None is above 1, none
    above what it stands for, and a product is off by no more than its factors together and 1: the innermost factor by
    2, each next one by its first value's error and ``count`` times that and 1.
    """
    factors = [_exp_minus(difference, bits) for difference in differences]
    value, values = 1 << bits, list[int]()
    for _ in range(count):
        values.append(value)
        value = value * factors[0] >> bits
        for i in range(len(factors) - 1):
            factors[i] = factors[i] * factors[i + 1] >> bits
    error = 2
    for _ in differences:
        error = 2 + count * (error + 1)
    return np.array(values, np.object_), error


def _exp_minus(x: Fraction, bits: int) -> int:
    """Return e**-x * 2**bits, 0 <= x <= 2, at most 2 too low: x and the terms are off by 2**-(bits + 16) together."""
    width = bits + GUARD
    x_q = (x.numerator << width) // x.denominator
    term, total, n = 1 << width, 0, 0
    while term:
        total += -term if n % 2 else term
        n += 1
        term = (term * x_q >> width) // n
    return total - (1 << GUARD // 2) >> GUARD


def _inverse_sqrt_tau(bits: int) -> Fraction:
    """Return 1 / sqrt(2 pi) to 2**-(bits + 20), pi = 16 atan(1 / 5) - 4 atan(1 / 239) (Machin 1706)."""
    width = bits + GUARD

    def atan_of_inverse(m: int) -> int:
        power, total, n = (1 << width) // m, 0, 0
        while power:
            total += (-power if n % 2 else power) // (2 * n + 1)
            n, power = n + 1, power // (m * m)
        return total

    pi = 16 * atan_of_inverse(5) - 4 * atan_of_inverse(239)
    return Fraction(math.isqrt((1 << 3 * width) // (2 * pi)), 1 << width)


def _cubic(input_fraction: int, bits: int) -> list[Fraction]:
    """Return the differences at 0 of 2 u = 4 / sqrt(2 pi) (x + c x**3), x = k / 2**input_fraction."""
    linear = 4 * _inverse_sqrt_tau(bits) * Fraction(1, 1 << input_fraction)
    cubic = linear * CUBIC * Fraction(1, 1 << 2 * input_fraction)
    return [linear + cubic, 6 * cubic, 6 * cubic]


def _logistic(decay: tuple[Big, int], bits: int) -> tuple[Big, int]:
    """Return 1 / (1 + e) of 0 < e <= 1, whose derivative is at most 1."""
    e, error = decay
    return (1 << 2 * bits) // (e + (1 << bits)), error + 1


def _normal(input_fraction: int, bits: int) -> tuple[Big, Big]:
    """Return Phi(x) = 1/2 + e**(-x**2 / 2) / sqrt(2 pi) sum_n t_n, t_0 = x, t_n = t_(n-1) x**2 / (2n + 1).

    The floor of one term reaches a later one times at most (x**2 / 2)**m / m! < e**(x**2 / 2); from n = 64 on terms
    halve. So the sum, below 2**47, is off by (n + 2)**2 e**(x**2 / 2), of which the factor in front of it leaves the
    square. From x = 8 on, Phi(x) is 1 or less than 2**-47 below.
    """
    one, count = 1 << bits, min(FLAT << input_fraction, COUNT)
    e, e_error = _decay([Fraction(1, 2 << 2 * input_fraction), Fraction(1, 1 << 2 * input_fraction)], bits, count)
    k = np.arange(count).astype(object)
    term, total, n = k << bits - input_fraction, k * 0, 0
    while n <= FLAT**2 or term.any():
        total += term
        n += 1
        term = term * (k * k) // ((2 * n + 1) << 2 * input_fraction)
    factor = _inverse_sqrt_tau(bits)
    inner = (total * e >> bits) * factor.numerator // factor.denominator + (one >> 1)
    errors = np.full(COUNT, one >> 47, np.object_)
    errors[:count] = (n + 2) ** 2 + (e_error << 47) + 4
    return np.concatenate([inner, np.full(COUNT - count, one, np.object_)]), errors
