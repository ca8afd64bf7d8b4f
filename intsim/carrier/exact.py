# SPDX-License-Identifier: Apache-2.0
"""Exact integer arithmetic carried by floating point: the one room of the integer world where floats are allowed.

NumPy has no BLAS for integers and no SIMD for most int64 steps. Every function here returns the integers that plain
int64 arithmetic returns, carried by float32 or float64 where a bound proves that each intermediate is an integer (times
a power of two) which the format holds exactly, and by plain integers where it does not. A float format with p
significand bits holds every integer up to 2**p: p = 24 for float32, 53 for float64.

Whether BLAS keeps to that is proved by ``proof.py``, through whose door every product goes.

Setting the environment variable ``INTSIM_MATMUL=integer`` keeps ``matmul`` on plain integers.
"""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim._trace import recording_steps, step
from intsim.carrier.blocks import all_cores, in_blocks
from intsim.carrier.proof import multiply
from intsim.fixedpoint import Dyadic, IntRange, Rounding, rounding_divide, rounding_right_shift, saturate

__all__ = [
    "Carrier",
    "Integers",
    "Weight",
    "batched_product",
    "by_column",
    "divide",
    "magnitude",
    "matmul",
    "on_integers",
    "product",
    "require_integers",
    "rescale",
    "row_norms",
    "shifted_right",
]

Integers: TypeAlias = NDArray[np.integer]
Carrier: TypeAlias = Literal["auto", "integer"]

FLOAT32_EXACT: Final = 1 << 24
FLOAT64_EXACT: Final = 1 << 53
INT32_MAX: Final = (1 << 31) - 1
FLOAT32: Final = np.dtype(np.float32)
BOUNDS: Final[dict[np.dtype[Any], int]] = {
    np.dtype(dtype): max(-np.iinfo(dtype).min, np.iinfo(dtype).max)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16)
}
MIN_DEPTH: Final = 256  # of a piece of a product
FEW_ROWS: Final = 8
IN_CACHE: Final = 1 << 18  # weights carried at a time for so few rows
WORDS: Final = 1 << 14  # rows of a table whose rows are looked up, and that few tokens are multiplied by
KEPT: Final = 41 << 20  # bytes of float32 copies in a model: those of a MiniLM
TILE: Final = 16  # rows that change places at a time, few enough for their lines to stay in the cache


def require_integers(name: str, x: Integers) -> None:
    """Refuse what is not an array of signed integers, or of unsigned ones that fit int64.

    Raises
    ------
    TypeError
        If the dtype is another.
    """
    if x.dtype.kind not in "iu" or x.dtype == np.uint64:
        msg = f"{name} must have an integer dtype that fits int64, got {x.dtype}"
        raise TypeError(msg)


def magnitude(x: Integers) -> int:
    """Return a bound on |x|: the dtype's for up to 16 bits, else the largest value present."""
    if (bound := BOUNDS.get(x.dtype)) is not None:
        return bound
    return max(-int(x.min()), int(x.max())) if x.size else 0


class Weight:
    """A weight (N, K) whose codes do not change, and what is computed of them once.

    Parameters
    ----------
    codes
        The integers.
    keeps
        Whether the float32 copy made for a product stays for the next one.

    Attributes
    ----------
    norms
        sum_k |w_nk|, int64.
    """

    def __init__(self, codes: Integers, *, keeps: bool = True) -> None:
        self.codes: Final = codes
        self.keeps: Final = keeps
        self.norms: Final = row_norms(codes)
        self.largest_norm: Final = int(self.norms.max(initial=0))
        self._floats: NDArray[np.float32] | None = None

    def transposed(self) -> NDArray[np.float32]:
        """Return the codes in float32, (K, N)."""
        if not self.keeps:
            return self.codes.T.astype(FLOAT32)
        if (floats := self._floats) is None:
            floats = self._floats = self.codes.T.astype(FLOAT32, order="C")
        return floats


def by_column(w: Integers) -> Integers:
    """Return the codes of an int8 weight (N, K), column by column in memory; whatever else it is, as it is.

    BLAS multiplies by K rows of N weights faster than by N of K, by a few rows up to twice. Tables of words stay: their
    rows are looked up.
    """
    if w.dtype != np.int8 or w.ndim != 2 or len(w) > WORDS or w.flags.f_contiguous:
        return w
    columns = np.empty(w.shape[::-1], w.dtype)
    for start in range(0, len(w), TILE):
        columns[:, start : start + TILE] = w[start : start + TILE].T
    return columns.T


def row_norms(w: Integers) -> Integers:
    """Return sum_k |w_nk|."""

    def rows(w: Integers) -> Integers:
        return np.abs(w, dtype=np.int64).sum(axis=-1)

    return in_blocks(rows, w)


def matmul(
    x: Integers,
    w: Integers,
    *,
    x_bound: int,
    w_bound: int,
    bias: Integers | None = None,
    carrier: Carrier | Weight = "auto",
) -> Integers:
    """Return x @ w.T + bias in int32: (..., M, K), (..., N, K) -> (..., M, N), |x| <= x_bound, |w| <= w_bound.

    ``carrier`` may be ``w`` itself, prepared.

    Bounds
    ------
    Any partial sum of x_k w_k, in any order, fused or not, is at most P = min(K x_bound w_bound, max_n(x_bound sum_k
    |w_nk|)), and for unsigned x, such as probabilities, at most w_bound sum_k x_k of the row at hand. P <= 2**24 makes
    float32 BLAS exact. Beyond, the depth is cut into pieces of at most 2**24 / (x_bound
    w_bound), if they are long enough to be worth a product each, else P <= 2**53 makes float64 BLAS exact. With the
    bias, max_n(x_bound sum_k |w_nk| + |bias_n|) < 2**31 is required, so that int32 is exact.

    Raises
    ------
    ValueError
        If the accumulator's bound does not fit int32.
    """
    depth = x.shape[-1]
    products = depth * x_bound * w_bound
    total = products + (0 if bias is None else magnitude(bias))
    if total > FLOAT32_EXACT:  # the weights at hand may allow less than their dtype does
        rows = x_bound * (carrier.norms if isinstance(carrier, Weight) else row_norms(w))
        products = min(products, int(rows.max(initial=0)))
        if bias is not None:
            rows = rows[..., None, :] + np.abs(bias, dtype=np.int64)
        total = min(total, int(rows.max(initial=0)))
    if total > FLOAT32_EXACT and x.dtype.kind == "u":  # and so may the rows at hand
        rows = int(x.sum(axis=-1, dtype=np.int64).max(initial=0)) * w_bound
        products = min(products, rows)
        total = min(total, rows + (0 if bias is None else magnitude(bias)))
    if total > INT32_MAX:
        msg = f"products and bias must sum to less than 2**31 for an int32 accumulator, got a bound of {total}"
        raise ValueError(msg)
    if on_integers(carrier):
        acc = _product(x, w, np.dtype(np.int32))
    else:
        operand = carrier if isinstance(carrier, Weight) else w
        if products <= FLOAT32_EXACT:
            acc = _product(x, operand, FLOAT32).astype(np.int32)
        else:
            acc = _in_pieces(x, operand, FLOAT32_EXACT // (x_bound * w_bound)).astype(np.int32, copy=False)
    if bias is not None:
        acc += bias.astype(np.int32)
    return acc


def product(x: Integers, w: Weight) -> NDArray[Any]:
    """Return x @ w.T, less than 2**31, in any dtype: (..., K), (N, K) -> (..., N)."""
    if magnitude(x) * w.largest_norm <= FLOAT32_EXACT:
        return _product(x, w, FLOAT32)
    return _in_pieces(x, w, FLOAT32_EXACT // (magnitude(x) * magnitude(w.codes)))


def _in_pieces(x: Integers, w: Integers | Weight, depth: int) -> NDArray[Any]:
    """Return x @ w.T, less than 2**31, as the int32 sum of float32 products of ``depth`` terms, or in float64."""
    if depth < MIN_DEPTH:
        return _product(x, w, np.dtype(np.float64))
    acc = _product(x[..., :depth], w, FLOAT32, slice(0, depth)).astype(np.int32)
    for start in range(depth, x.shape[-1], depth):
        cut = slice(start, start + depth)
        acc += _product(x[..., cut], w, FLOAT32, cut).astype(np.int32)
    return acc


def on_integers(carrier: Carrier | Weight) -> bool:
    """Say whether plain integers are asked for."""
    return carrier == "integer" or os.environ.get("INTSIM_MATMUL") == "integer"


def _product(x: Integers, w: Integers | Weight, dtype: np.dtype[Any], cut: slice = slice(None)) -> NDArray[Any]:
    """Return x @ w[..., cut].T in ``dtype``."""
    x_carried = x.astype(dtype)
    codes = w.codes if isinstance(w, Weight) else w
    if codes.ndim == 2:  # one large product instead of a loop of small ones
        rows = x_carried.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        if isinstance(w, Weight) and not w.keeps and len(rows) <= FEW_ROWS:
            return _few_rows(rows, codes[:, cut], dtype).reshape(*x.shape[:-1], codes.shape[0])
        order = "K" if dtype.kind == "f" else "C"  # plain integers have no BLAS
        floats = w.transposed() if isinstance(w, Weight) and dtype == FLOAT32 else codes.astype(dtype, order=order).T
        return multiply(rows, floats[cut]).reshape(*x.shape[:-1], codes.shape[0])
    return batched_product(x_carried, codes[..., cut], dtype)


def _few_rows(x: NDArray[Any], codes: Integers, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return x @ codes.T in ``dtype``, (M, K), (N, K) -> (M, N), the codes carried block by block in the cache.

    They are read once, a byte each: a copy of all of them would be written to memory and read again for a row or two.
    """
    columns, depth = codes.shape
    if codes.flags.f_contiguous:
        size = min(depth, max(1, IN_CACHE // columns))
        buffer, acc = np.empty((size, columns), dtype), np.zeros((len(x), columns), dtype)
        for start in range(0, depth, size):
            part = codes.T[start : start + size]
            floats = buffer[: len(part)]
            np.copyto(floats, part)
            acc += multiply(x[:, start : start + size], floats)
        return acc

    def rows(codes: Integers) -> NDArray[Any]:
        return multiply(codes.astype(dtype), x.T)

    with all_cores():
        return np.ascontiguousarray(in_blocks(rows, codes).T)


def batched_product(x: NDArray[Any], w: Integers, dtype: np.dtype[Any] = FLOAT32) -> NDArray[Any]:
    """Return x @ w.T in ``dtype``, which holds it by the caller's proof: (..., M, K), (..., N, K) -> (..., M, N)."""
    x_carried, w_carried = x.astype(dtype, copy=False), w.astype(dtype)
    if w.shape[-2] < w.shape[-1]:
        return multiply(x_carried, w_carried.swapaxes(-1, -2))
    # scores are stored with the last axis first, as softmax wants them
    products = np.moveaxis(np.empty((w.shape[-2], *x.shape[:-1]), dtype), 0, -1)
    multiply(w_carried, x_carried.swapaxes(-1, -2), out=products.swapaxes(-1, -2))
    return products


def rescale(
    operands: Sequence[Integers],
    ratios: Sequence[Dyadic],
    *,
    zero_point: int | Integers,
    to: IntRange,
    rounding: Rounding,
) -> Integers:
    """Return saturate(RND(sum_i x_i m_i / 2**t) + zero_point): several scales brought to one by a single rounding.

    Parameters
    ----------
    operands
        Integer arrays that broadcast to the shape of the first.
    ratios
        Their dyadics, equal in shift; a per-channel one runs along the last axis.
    zero_point
        One, or one per channel.

    Bounds
    ------
    sum_i |x_i| |m_i| + 2**(t-1) + |zero_point| < 2**63 is required. Up to 2**52 the sum, its half and its division by
    2**t are exact in float64, which then carries them; beyond, int64 does.

    Raises
    ------
    ValueError
        If the sum could leave int64, or the shifts differ.
    """
    shift = ratios[0].shift
    for ratio in ratios[1:]:
        if not (ratio.shift == shift).all():
            msg = "ratios must share one shift to be rounded once, got different shifts; build them with Dyadic.aligned"
            raise ValueError(msg)
    half = int((np.int64(1) << shift).max()) >> 1
    offset = np.asarray(zero_point, np.int64)
    bound = (
        int(np.abs(offset).max())
        + half
        + sum(magnitude(x) * int(abs(ratio.multiplier).max()) for x, ratio in zip(operands, ratios, strict=True))
    )
    if bound >= 1 << 63:
        msg = f"operands times multipliers must stay below 2**63, got a bound of {bound}"
        raise ValueError(msg)

    if bound <= FLOAT64_EXACT >> 1 and rounding in _FLOAT64_ROUNDING and not recording_steps():
        factors = [np.ldexp(ratio.multiplier.astype(np.float64), -ratio.shift) for ratio in ratios]
        round_in_place = _FLOAT64_ROUNDING[rounding]
        # before rounding a zero point costs no step, where the sum still fits and no tie looks at what is even
        reach = int(np.abs(offset).max()) << int(shift.max())
        fits = bound + reach <= FLOAT64_EXACT and rounding is not Rounding.HALF_EVEN
        none = np.zeros((), np.int64)
        before, after = (offset, none) if fits else (none, offset)

        def block(*parts: Any) -> Integers:
            y, *others = (x.astype(np.float64) for x in parts[: len(operands)])
            y *= parts[len(operands)]
            for other, factor in zip(others, parts[len(operands) + 1 :], strict=True):
                other *= factor  # noqa: PLW2901 - in place
                y += other
            round_in_place(y, before)
            if after.any():
                y += after
            return y.clip(to.min, to.max, out=y).astype(to.dtype)

        return in_blocks(block, *operands, *factors)

    def plain(*parts: Any) -> Integers:
        n = len(operands)
        total = np.multiply(parts[0], parts[n], dtype=np.int64)
        for x, m in zip(parts[1:n], parts[n + 1 : -1], strict=True):
            total += np.multiply(x, m, dtype=np.int64)
        rounded = rounding_right_shift(total, parts[-1], rounding) + offset
        step("product", total)
        step("rounded", rounded)
        return saturate(rounded, to)

    return in_blocks(plain, *operands, *(ratio.multiplier for ratio in ratios), shift)


def shifted_right(x: NDArray[np.int32], shift: int, rounding: Rounding) -> NDArray[np.int32]:
    """Return RND(x / 2**shift), shift >= 1, without leaving int32 where the rounding is an addition before the shift.

    Bounds
    ------
    |x| + 2**(shift-1) < 2**31.
    """
    match rounding:
        case Rounding.FLOOR:
            return x >> np.int32(shift)
        case Rounding.HALF_UP:
            y: NDArray[np.int32] = x + np.int32(1 << shift - 1)
            y >>= np.int32(shift)
            return y
        case _:
            return rounding_right_shift(x.astype(np.int64), shift, rounding).astype(np.int32)


def divide(dividend: Integers, divisor: Integers, *, multiplier: int, to: IntRange, rounding: Rounding) -> Integers:
    """Return saturate(RND(dividend * multiplier / divisor)) for multiplier, divisor > 0.

    Bounds
    ------
    2 |dividend| multiplier + divisor < 2**63. For integers |a| < 2**53 and 0 < b < 2**53, floor(fl64(a / b)) =
    floor(a / b): the next integer above a / b is at least 1 / b away, and rounding moves the quotient by at most
    |a| / (b 2**53) < 1 / b. Rounding half up is floor((2a + b) / 2b).
    """
    bound = 2 * magnitude(dividend) * multiplier + 2 * magnitude(divisor)
    if bound >= 1 << 63:
        msg = f"dividend and divisor must stay below 2**61, got a bound of {bound}"
        raise ValueError(msg)
    if bound < FLOAT64_EXACT and rounding in (Rounding.FLOOR, Rounding.HALF_UP):
        doubled = 2 if rounding is Rounding.HALF_UP else 1

        def block(a: Any, b: Any) -> Integers:
            y = a.astype(np.float64)
            y *= doubled * multiplier
            if rounding is Rounding.HALF_UP:
                y += b
            y /= doubled * b.astype(np.float64)
            np.floor(y, out=y)
            return np.clip(y, to.min, to.max, out=y).astype(to.dtype)

    else:

        def block(a: Any, b: Any) -> Integers:
            return saturate(rounding_divide(a * np.int64(multiplier), b.astype(np.int64), rounding), to)

    return in_blocks(block, dividend, divisor)


def _floor(y: NDArray[np.float64], offset: Integers) -> None:
    if offset.any():
        y += offset
    np.floor(y, out=y)


def _half_up(y: NDArray[np.float64], offset: Integers) -> None:
    y += offset + 0.5
    np.floor(y, out=y)


def _half_even(y: NDArray[np.float64], _offset: Integers) -> None:
    np.rint(y, out=y)


_FLOAT64_ROUNDING: Final[dict[Rounding, Callable[[NDArray[np.float64], Integers], None]]] = {
    Rounding.FLOOR: _floor,
    Rounding.HALF_UP: _half_up,
    Rounding.HALF_EVEN: _half_even,
}
