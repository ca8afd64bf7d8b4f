# SPDX-License-Identifier: Apache-2.0
"""The door of every floating-point product that carries integers, and the proof that the BLAS behind it is exact.

A sum of integers within 2**24 in float32, or 2**53 in float64, is exact in any order, fused or not, if every operand is
taken whole and every term once. A BLAS may be built or set to round its operands (to TF32, to bfloat16), to split them
into parts, to add up in a narrower format, or to recombine blocks (Strassen) into sums beyond the bound. So before its
first such product a process multiplies operands that only whole products get right, and compares with integers; if one
product is wrong, all products of the process run on plain integers.
"""

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.blocks import one_blas_thread

__all__ = ["Blas", "blas_fault", "find_fault", "multiply", "square_sums"]

Int64: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.floating]

FORMATS: Final = ((np.dtype(np.float32), 24), (np.dtype(np.float64), 53))  # and the bits of their significands
# K, M, N, and parts (M, N) of such a product: vectors, and matrices around the tiles of kernels. The second is too
# large for kernels of small products, the last deeper than most kernels go at once.
CASES: Final = (
    (7, 17, 33, ((17, 33), (3, 2), (2, 3), (12, 32), (1, 19), (17, 1), (1, 1), (8, 17))),
    (95, 117, 97, ((117, 97), (1, 97), (117, 1), (13, 31))),
    (390, 5, 7, ((5, 7), (1, 6), (4, 1), (3, 5))),
)
ORDERS: Final[tuple[tuple[Literal["C", "F"], Literal["C", "F"]], ...]] = (
    ("C", "C"),
    ("F", "C"),
    ("C", "F"),
    ("F", "F"),
)
DISTINCT: Final = 5  # rows; further ones repeat them, which saves products of integers
GOLDEN: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 / golden ratio: i GOLDEN mod 2**64 is spread evenly

log: Final = logging.getLogger(__name__)


class Blas(NamedTuple):
    """What multiplies: ``matmul`` and ``vecdot`` as NumPy defines them."""

    matmul: Callable[..., NDArray[Any]]
    vecdot: Callable[..., NDArray[Any]]


NUMPY: Final = Blas(np.matmul, np.vecdot)

_findings: Final[list[str | None]] = []  # empty, then the one there is
_locks: Final = [threading.Lock()]


def _renew_lock() -> None:
    _locks[0] = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # another thread of the parent may hold it; findings stay true


def multiply(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return a @ b of integers in float32, float64 or an integer dtype, in that dtype.

    Bounds
    ------
    sum_k |a_mk b_kn| <= 2**24 in float32, 2**53 in float64, or what the integer dtype holds.
    """
    if a.dtype.kind != "f" or blas_fault() is None:
        return NUMPY.matmul(a, b, out=out)
    plain = np.dtype(np.int32 if a.dtype == np.float32 else np.int64)
    acc = np.matmul(a.astype(plain), b.astype(plain)).astype(a.dtype)
    if out is None:
        return acc
    out[...] = acc
    return out


def square_sums(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sum_k x_k**2 of integers, at most 2**53: (..., K) -> (...)."""
    if blas_fault() is None:
        return NUMPY.vecdot(x, x)
    plain = x.astype(np.int64)
    return (plain * plain).sum(axis=-1).astype(np.float64)


def blas_fault() -> str | None:
    """Return what NumPy's BLAS got wrong when this process first asked, or None where its products are exact.

    What was wrong is logged then, once.
    """
    if not _findings:
        with _locks[0]:
            if not _findings:
                with one_blas_thread():  # to wake the others may take longer than the proof
                    fault = find_fault(NUMPY)
                if fault is not None:
                    log.warning(
                        "BLAS must multiply integers exactly, got %s; plain integers, slower, replace it", fault
                    )
                _findings.append(fault)
    return _findings[0]


def find_fault(blas: Blas) -> str | None:
    """Return the first product of integers that a BLAS gets wrong, in words, or None.

    Sums reach 2**24 in float32 and 2**53 in float64, partial sums are odd and even, operands take up to all bits of a
    significand; depths, rows and columns lie around the tiles of kernels, operands are transposed or not.
    """
    x = _roots(1 << 53)
    with np.errstate(all="ignore"):
        for a, b, expected in _products():
            product = blas.matmul(a, b)
            wrong = product != expected
            if wrong.any():
                operands = " by ".join(str(each.shape) for each in (a, b))
                return f"{product[wrong][0]:.1f} for {expected[wrong][0]:.0f} in a {a.dtype} product {operands}"
        if (total := blas.vecdot(x, x)) != 1 << 53:
            return f"{total:.1f} for {1 << 53} in a sum of {len(x)} float64 squares"
    return None


def _products() -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yield operands (M, K) and (K, N), with contiguous rows or columns, and their product."""
    for dtype, bits in FORMATS:
        for depth, rows, columns, parts in CASES:
            a, b, acc = _dense(depth, rows, columns, dtype, bits)
            for (m, n), (of_a, of_b) in zip(parts, cycle(ORDERS)):
                yield np.asarray(a[:m], order=of_a), np.asarray(b[:, :n], order=of_b), acc[:m, :n]
        yield _sparse(95, dtype, bits)


def _dense(depth: int, rows: int, columns: int, dtype: np.dtype[Any], bits: int) -> tuple[Floats, Floats, Floats]:
    """Return (M, K) and (K, N) operands and their product, whose largest magnitude in each row is 2**bits.

    Every row's terms have one sign, so that no partial sum is larger; odd and even ones come in no order. What a row
    lacks to 2**bits, a number of about as many bits, is multiplied by 1, at the start, the middle or the end of K.
    """
    spare = bits - 1 - depth.bit_length()  # bits of a term, so that all of this size sum to half the bound
    narrow = spare // 2 if depth < columns // 2 else spare // 4
    a, b = _spread(DISTINCT, depth, spare - narrow) | 1, _spread(depth, columns, narrow) + 1
    row, ends = np.arange(DISTINCT), np.array([0, depth // 2, depth - 1])
    b[ends] = 1
    a[row, ends[row % 3]] = 0
    acc = a @ b
    lacking = (1 << bits) - acc.max(axis=1)
    a[row, ends[row % 3]] = lacking
    acc += lacking[:, None]
    a[1::2] *= -1
    acc[1::2] *= -1
    repeated = np.arange(rows) % DISTINCT
    return a.astype(dtype)[repeated], b.astype(dtype), acc.astype(dtype)[repeated]


def _sparse(depth: int, dtype: np.dtype[Any], bits: int) -> tuple[Floats, Floats, Floats]:
    """Return operands whose sums are all 2**bits = root**2 + an even number + 1, root the largest possible, an odd one.

    Both operands fill half a significand, and a format of fewer bits rounds the root up: its square reaches 2**bits
    without the 1, which a part of the product then loses.
    """
    root = math.isqrt((1 << bits) - 1)
    a, b, ends = np.zeros((9, depth), dtype), np.zeros((depth, 7), dtype), [0, depth // 2, depth - 1]
    a[:, ends] = root, (1 << bits) - root * root - 1, 1
    b[ends] = [[root], [1], [1]]
    return a, b, np.full((9, 7), 1 << bits, dtype)


def _roots(total: int) -> NDArray[np.float64]:
    """Return over a thousand integers whose squares sum to ``total``."""
    root = math.isqrt(total // 1009)
    rest, others = total - 1009 * root**2, [0]
    while rest:
        others.append(math.isqrt(rest))
        rest -= others[-1] ** 2
    return np.concatenate([np.full(1009, root, np.float64), np.array(others, np.float64)])


def _spread(rows: int, columns: int, bits: int) -> Int64:
    """Return (rows, columns) integers from 0 to 2**bits - 1."""
    spread = np.arange(rows * columns, dtype=np.uint64) * GOLDEN >> np.uint64(64 - bits)
    return spread.astype(np.int64).reshape(rows, columns)
