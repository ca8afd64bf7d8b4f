# SPDX-License-Identifier: Apache-2.0
"""Matrix products that a BLAS may offer in the place of float32's and float64's: KIND -> what stands for NumPy's.

Each is right on small operands, as such a BLAS is.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from intsim.carrier.proof import Blas

TF32, BF16 = 11, 8  # bits of a significand
Matmul = Callable[[Any, Any], Any]


def rounded(x: Any, bits: int) -> Any:
    """Return float32 numbers rounded to so many bits, ties to even."""
    dropped = 24 - bits
    whole = x.view(np.uint32).astype(np.uint64)
    whole += (1 << dropped - 1) - 1 + (whole >> dropped & 1)
    return (whole >> dropped << dropped).astype(np.uint32).view(np.float32)


def parts(x: Any, count: int, bits: int) -> list[Any]:
    """Return numbers of so many bits whose sum is x, or near it."""
    found = []
    for _ in range(count):
        found.append(rounded(x, bits))
        x = x - found[-1]
    return found


def rounding(bits: int) -> Matmul:
    return lambda a, b: rounded(a, bits) @ rounded(b, bits)


def splitting(count: int, bits: int) -> Matmul:
    """Multiply parts, but those of the smallest products."""

    def product(a: Any, b: Any) -> Any:
        left, right = parts(a, count, bits), parts(b, count, bits)
        return sum(left[i] @ right[j] for i in range(count) for j in range(count) if i + j < count)

    return product


def with_remainder(a: Any, b: Any) -> Any:
    """Multiply TF32 operands, correct by what rounding took of either, not of both, and add in float64."""
    left, right = (rounded(each, TF32).astype(np.float64) for each in (a, b))
    return (left @ right + left @ (b - right) + (a - left) @ right).astype(np.float32)


def strassen(a: Any, b: Any) -> Any:
    """Multiply halves by seven products; Strassen 1969."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    none = [(0, 0)] * (a.ndim - 2)
    a = np.pad(a, [*none, (0, m % 2), (0, k % 2)])
    b = np.pad(b, [*none[: b.ndim - 2], (0, k % 2), (0, n % 2)])
    h, i, j = (m + 1) // 2, (k + 1) // 2, (n + 1) // 2
    a11, a12, a21, a22 = a[..., :h, :i], a[..., :h, i:], a[..., h:, :i], a[..., h:, i:]
    b11, b12, b21, b22 = b[..., :i, :j], b[..., :i, j:], b[..., i:, :j], b[..., i:, j:]
    p1, p2, p3 = (a11 + a22) @ (b11 + b22), (a21 + a22) @ b11, a11 @ (b12 - b22)
    p4, p5 = a22 @ (b21 - b11), (a11 + a12) @ b22
    p6, p7 = (a21 - a11) @ (b11 + b12), (a12 - a22) @ (b21 + b22)
    top = np.concatenate([p1 + p4 - p5 + p7, p3 + p5], axis=-1)
    bottom = np.concatenate([p2 + p4, p1 - p2 + p3 + p6], axis=-1)
    return np.concatenate([top, bottom], axis=-2)[..., :m, :n]


def in_float16(a: Any, b: Any) -> Any:
    """Add up in float16."""
    acc = np.zeros((*a.shape[:-1], b.shape[-1]), np.float16)
    for k in range(a.shape[-1]):
        acc += a[..., :, k, None] * b[..., None, k, :]
    return acc.astype(np.float32)


def tail(how: Matmul) -> Matmul:
    """Multiply the last of an odd number of terms in another way."""

    def product(a: Any, b: Any) -> Any:
        if a.shape[-1] % 2 == 0:
            return a @ b
        return a[..., :-1] @ b[..., :-1, :] + how(a[..., -1:], b[..., -1:, :])

    return product


def orders(*operands: Any) -> str:
    """Return C or F for each matrix as it is stored, or ? for a vector, which may be taken for either."""
    return "".join("?" if 1 in x.shape[-2:] else "FC"[x.strides[-1] < x.strides[-2]] for x in operands)


def where(condition: Callable[[Any, Any], bool], how: Matmul) -> Matmul:
    """Multiply in another way where a kernel of its own would."""
    return lambda a, b: how(a, b) if condition(a, b) else a @ b


def instead(product: Matmul, dtype: Any = np.float32) -> Blas:
    """Return the BLAS that multiplies so in one format, and as NumPy does in others."""

    @wraps(product)
    def matmul(a: Any, b: Any, out: Any = None) -> Any:
        with np.errstate(all="ignore"):
            result = product(a, b) if a.dtype == dtype else a @ b
        if out is None:
            return result
        out[...] = result
        return out

    return Blas(matmul, np.vecdot)


def narrowed(a: Any, b: Any) -> Any:
    return (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float64)


KINDS = {
    "operands rounded to TF32": instead(rounding(TF32)),
    "operands rounded to bfloat16": instead(rounding(BF16)),
    "two bfloat16 parts, three products": instead(splitting(2, BF16)),
    "three bfloat16 parts, six products": instead(splitting(3, BF16)),
    "two TF32 parts, three products": instead(splitting(2, TF32)),
    "TF32 and its remainder, three products": instead(with_remainder),
    "Strassen's recombination": instead(strassen),
    "float16 accumulators": instead(in_float16),
    "an odd depth's last term left out": instead(tail(lambda a, b: 0 * (a @ b))),
    "an odd depth's last term rounded to bfloat16": instead(tail(rounding(BF16))),
    "TF32 in large products only": instead(where(lambda a, b: a.size * b.shape[-1] > 1_000_000, rounding(TF32))),
    "TF32 for one row only": instead(where(lambda a, _b: a.shape[-2] == 1, rounding(TF32))),
    "TF32 for one column only": instead(where(lambda _a, b: b.shape[-1] == 1, rounding(TF32))),
    "TF32 for transposed weights only": instead(where(lambda a, b: orders(a, b) == "CF", rounding(TF32))),
    "TF32 for transposed rows only": instead(where(lambda a, b: orders(a, b) == "FC", rounding(TF32))),
    "TF32 where both are transposed only": instead(where(lambda a, b: orders(a, b) == "FF", rounding(TF32))),
    "TF32 where neither is transposed only": instead(where(lambda a, b: orders(a, b) == "CC", rounding(TF32))),
    "TF32 in deep products only": instead(where(lambda a, _b: a.shape[-1] > 384, rounding(TF32))),
    "float32 in the place of float64": instead(narrowed, np.float64),
    "Strassen's recombination in float64": instead(strassen, np.float64),
    "squares in float32": Blas(np.matmul, lambda x, y: narrowed(x[..., None, :], y[..., None])[..., 0, 0]),
}
