# SPDX-License-Identifier: Apache-2.0
"""Exact integer arithmetic carried by floating point: the one room of the integer world where floats are allowed.

NumPy has no BLAS for integers and no SIMD for most int64 steps. Every function here returns the integers that plain
int64 arithmetic returns, carried by float32 or float64 where a bound proves that each intermediate is an integer (times
a power of two) which the format holds exactly, and by plain integers where it does not. A float format with p
significand bits holds every integer up to 2**p: p = 24 for float32, 53 for float64.

Setting the environment variable ``INTSIM_MATMUL=integer`` keeps ``matmul`` on plain integers.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.fixedpoint import Dyadic, IntRange, Rounding, rounding_divide, rounding_right_shift, saturate

__all__ = ["Carrier", "divide", "matmul", "require_integers", "rescale"]

Integers: TypeAlias = NDArray[np.integer]
Carrier: TypeAlias = Literal["auto", "integer"]

FLOAT32_EXACT: Final = 1 << 24
FLOAT64_EXACT: Final = 1 << 53
INT32_MAX: Final = (1 << 31) - 1
BLOCK: Final = 1 << 15  # elements worked on at a time, so that float64 temporaries stay in the cache


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
    if x.dtype.itemsize <= 2:
        info = np.iinfo(x.dtype)
        return max(-int(info.min), int(info.max))
    return max(-int(x.min()), int(x.max())) if x.size else 0


def matmul(x: Integers, w: Integers, *, x_bound: int, w_bound: int, carrier: Carrier) -> NDArray[np.int32]:
    """Return x @ w.T in int32, (..., M, K) and (..., N, K) to (..., M, N), for |x| <= x_bound and |w| <= w_bound.

    Bounds
    ------
    Any partial sum of x_k w_k, in any order, fused or not, is at most B = min(K x_bound w_bound, x_bound max_n sum_k
    |w_nk|). B <= 2**24 makes float32 BLAS exact and B <= 2**53 float64; B < 2**31 is required, so that int32 is exact.

    Raises
    ------
    ValueError
        If B does not fit int32.
    """
    bound = x.shape[-1] * x_bound * w_bound
    if bound > FLOAT32_EXACT:
        bound = min(bound, x_bound * int(np.abs(w, dtype=np.int64).sum(axis=-1).max(initial=0)))
    if bound > INT32_MAX:
        msg = f"products must sum to less than 2**31 for an int32 accumulator, got a bound of {bound} at depth {x.shape[-1]}"
        raise ValueError(msg)
    plain = carrier == "integer" or os.environ.get("INTSIM_MATMUL") == "integer"
    dtype = np.int32 if plain else np.float32 if bound <= FLOAT32_EXACT else np.float64
    x_carried, w_carried = x.astype(dtype), w.astype(dtype)
    if w.ndim == 2:  # one large product instead of a loop of small ones
        product = (x_carried.reshape(-1, x.shape[-1]) @ w_carried.T).reshape(*x.shape[:-1], w.shape[0])
    else:
        product = x_carried @ w_carried.swapaxes(-1, -2)
    return product.astype(np.int32, copy=False)


def rescale(
    operands: Sequence[Integers],
    ratios: Sequence[Dyadic],
    *,
    zero_point: int,
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

    Bounds
    ------
    sum_i |x_i| |m_i| + 2**(t-1) < 2**63 is required. Up to 2**52 the sum, its half and its division by 2**t are exact
    in float64, which then carries them; beyond, int64 does.

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
    bound = half + sum(
        magnitude(x) * int(abs(ratio.multiplier).max()) for x, ratio in zip(operands, ratios, strict=True)
    )
    if bound >= 1 << 63:
        msg = f"operands times multipliers must stay below 2**63, got a bound of {bound}"
        raise ValueError(msg)

    if bound <= FLOAT64_EXACT >> 1 and rounding in _FLOAT64_ROUNDING:
        factors = [np.ldexp(ratio.multiplier.astype(np.float64), -ratio.shift) for ratio in ratios]
        round_in_place = _FLOAT64_ROUNDING[rounding]

        def block(*parts: Any) -> Integers:
            n = len(operands)
            y = np.multiply(parts[0], parts[n], dtype=np.float64)
            for x, factor in zip(parts[1:n], parts[n + 1 :], strict=True):
                y += np.multiply(x, factor, dtype=np.float64)
            round_in_place(y)
            if zero_point:
                y += zero_point
            return np.clip(y, to.min, to.max, out=y).astype(to.dtype)

        return _in_blocks(block, [*operands, *factors], to.dtype)

    def plain(*parts: Any) -> Integers:
        n = len(operands)
        products = [x.astype(np.int64) * m for x, m in zip(parts[:n], parts[n:-1], strict=True)]
        return saturate(rounding_right_shift(sum(products), parts[-1], rounding) + zero_point, to)

    return _in_blocks(plain, [*operands, *(ratio.multiplier for ratio in ratios), shift], to.dtype)


def divide(dividend: Integers, divisor: Integers, *, to: IntRange, rounding: Rounding) -> Integers:
    """Return saturate(RND(dividend / divisor)) for divisor > 0.

    Bounds
    ------
    |2 dividend| + divisor < 2**63. For integers |a| < 2**53 and b > 0, floor(fl64(a / b)) = floor(a / b): the next
    integer above a / b is at least 1 / b away, and rounding moves the quotient by at most |a| / (b 2**53) < 1 / b.
    Rounding half up is floor((2a + b) / 2b).
    """
    bound = 2 * magnitude(dividend) + magnitude(divisor)
    if bound >= 1 << 63:
        msg = f"dividend and divisor must stay below 2**62, got a bound of {bound}"
        raise ValueError(msg)
    if bound < FLOAT64_EXACT and rounding in (Rounding.FLOOR, Rounding.HALF_UP):

        def block(a: Any, b: Any) -> Integers:
            a, b = a.astype(np.float64), b.astype(np.float64)
            if rounding is Rounding.HALF_UP:
                a *= 2
                a += b
                b *= 2
            a /= b
            np.floor(a, out=a)
            return np.clip(a, to.min, to.max, out=a).astype(to.dtype)

    else:

        def block(a: Any, b: Any) -> Integers:
            return saturate(rounding_divide(a.astype(np.int64), b.astype(np.int64), rounding), to)

    return _in_blocks(block, [dividend, divisor], to.dtype)


def _half_up(y: NDArray[np.float64]) -> None:
    y += 0.5
    np.floor(y, out=y)


_FLOAT64_ROUNDING: Final[dict[Rounding, Callable[[NDArray[np.float64]], Any]]] = {
    Rounding.FLOOR: lambda y: np.floor(y, out=y),
    Rounding.HALF_UP: _half_up,
    Rounding.HALF_EVEN: lambda y: np.rint(y, out=y),
}


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count())


def _in_blocks(function: Callable[..., Integers], arrays: Sequence[ArrayLike], dtype: np.dtype[Any]) -> Integers:
    """Apply an element-wise function block by block over the rows of the first array, blocks spread over threads.

    Each element depends on its own operands alone, so the split cannot change a bit.
    """
    first = np.asarray(arrays[0])
    if first.size <= BLOCK:
        return function(*map(np.asarray, arrays))
    columns = first.shape[-1]
    rows = max(1, BLOCK // columns)
    shape = first.shape
    flat = []
    for array in map(np.asarray, arrays):
        if array.ndim <= 1 and array.shape in ((), (1,), (columns,)):
            flat.append(None)
        else:
            flat.append(np.broadcast_to(array, (*shape[:-1], array.shape[-1])).reshape(-1, array.shape[-1]))
    out = np.empty((first.size // columns, columns), dtype)

    def work(start: int) -> None:
        part = slice(start, start + rows)
        out[part] = function(
            *(np.asarray(array) if rows_of is None else rows_of[part] for array, rows_of in zip(arrays, flat, strict=True))
        )

    list(_pool().map(work, range(0, len(out), rows)))
    return out.reshape(shape)
