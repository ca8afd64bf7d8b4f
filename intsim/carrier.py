# SPDX-License-Identifier: Apache-2.0
"""Exact integer arithmetic carried by floating point: the one room of the integer world where floats are allowed.

NumPy has no BLAS for integers and no SIMD for most int64 steps. Every function here returns the integers that plain
int64 arithmetic returns, carried by float32 or float64 where a bound proves that each intermediate is an integer (times
a power of two) which the format holds exactly, and by plain integers where it does not. A float format with p
significand bits holds every integer up to 2**p: p = 24 for float32, 53 for float64.

Setting the environment variable ``INTSIM_MATMUL=integer`` keeps ``matmul`` on plain integers.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim._trace import recording_steps, step
from intsim.fixedpoint import Dyadic, IntRange, Rounding, rounding_divide, rounding_right_shift, saturate

__all__ = ["Carrier", "Integers", "divide", "in_blocks", "magnitude", "matmul", "require_integers", "rescale"]

Integers: TypeAlias = NDArray[np.integer]
Carrier: TypeAlias = Literal["auto", "integer"]

FLOAT32_EXACT: Final = 1 << 24
FLOAT64_EXACT: Final = 1 << 53
INT32_MAX: Final = (1 << 31) - 1
THREADS: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BLOCK: Final = 1 << 16  # elements worked on at a time, so that float64 temporaries stay in the cache


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


def matmul(
    x: Integers,
    w: Integers,
    *,
    x_bound: int,
    w_bound: int,
    bias: Integers | None = None,
    carrier: Carrier = "auto",
) -> Integers:
    """Return x @ w.T + bias in int32: (..., M, K), (..., N, K) -> (..., M, N), |x| <= x_bound, |w| <= w_bound.

    Bounds
    ------
    Any partial sum of x_k w_k, in any order, fused or not, and then the bias, is at most B = min(K x_bound w_bound +
    max|bias|, max_n(x_bound sum_k |w_nk| + |bias_n|)). B <= 2**24 makes float32 BLAS exact and B <= 2**53 float64;
    B < 2**31 is required, so that int32 is exact.

    Raises
    ------
    ValueError
        If B does not fit int32.
    """
    depth = x.shape[-1]
    offset = 0 if bias is None else magnitude(bias)
    bound = depth * x_bound * w_bound + offset
    if bound > FLOAT32_EXACT:  # the weights at hand may allow less than their dtype does
        rows = x_bound * np.abs(w, dtype=np.int64).sum(axis=-1)
        bound = min(bound, int((rows if bias is None else rows + np.abs(bias, dtype=np.int64)).max(initial=0)))
    if bound > INT32_MAX:
        msg = f"products and bias must sum to less than 2**31 for an int32 accumulator, got a bound of {bound}"
        raise ValueError(msg)
    plain = carrier == "integer" or os.environ.get("INTSIM_MATMUL") == "integer"
    dtype = np.int32 if plain else np.float32 if bound <= FLOAT32_EXACT else np.float64
    x_carried, w_carried = x.astype(dtype), w.astype(dtype)
    if w.ndim == 2:  # one large product instead of a loop of small ones
        rows = x_carried.reshape(math.prod(x.shape[:-1]), depth)
        product = (rows @ w_carried.T).reshape(*x.shape[:-1], w.shape[0])
    else:
        product = x_carried @ w_carried.swapaxes(-1, -2)
    if bias is not None:
        product += bias.astype(dtype)
    return product.astype(np.int32, copy=False)


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

        def block(*parts: Any) -> Integers:
            n = len(operands)
            y = parts[0].astype(np.float64)
            y *= parts[n]
            for x, factor in zip(parts[1:n], parts[n + 1 :], strict=True):
                y += x * factor
            round_in_place(y)
            if offset.any():
                y += offset
            return np.clip(y, to.min, to.max, out=y).astype(to.dtype)

        return in_blocks(block, [*operands, *factors], to.dtype)

    def plain(*parts: Any) -> Integers:
        n = len(operands)
        total = np.multiply(parts[0], parts[n], dtype=np.int64)
        for x, m in zip(parts[1:n], parts[n + 1 : -1], strict=True):
            total += np.multiply(x, m, dtype=np.int64)
        rounded = rounding_right_shift(total, parts[-1], rounding) + offset
        step("product", total)
        step("rounded", rounded)
        return saturate(rounded, to)

    return in_blocks(plain, [*operands, *(ratio.multiplier for ratio in ratios), shift], to.dtype)


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

    return in_blocks(block, [dividend, divisor], to.dtype)


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
    return ThreadPoolExecutor(THREADS)


def in_blocks(function: Callable[..., Integers], arrays: Sequence[Any], dtype: np.dtype[Any]) -> Integers:
    """Apply a function of rows block by block over the rows of the first array, blocks spread over threads.

    ``function`` must treat each row (the last axis) alone, so that the split cannot change a bit. Arrays of one axis
    are passed whole to every call; the others are broadcast over the leading axes of the first. The result has the
    shape of the first and the given dtype.
    """
    first = arrays[0]
    # one block: no thread waits for another's; steps are recorded whole
    if first.ndim < 2 or first.size <= max(BLOCK, first.shape[-1]) or recording_steps():
        return function(*arrays)
    *leading, columns = first.shape
    rows = max(1, BLOCK // columns)
    sliced = [
        array if array.ndim < 2 else np.broadcast_to(array, (*leading, array.shape[-1])).reshape(-1, array.shape[-1])
        for array in arrays
    ]
    out: Integers = np.empty((first.size // columns, columns), dtype)

    def work(first_block: int) -> None:
        for start in range(first_block * rows, len(out), THREADS * rows):
            part = slice(start, start + rows)
            out[part] = function(*(array if array.ndim < 2 else array[part] for array in sliced))

    list(_pool().map(work, range(THREADS)))  # a list, so that an exception is raised here
    return out.reshape(*leading, columns)
