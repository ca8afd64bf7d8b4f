# SPDX-License-Identifier: Apache-2.0
"""Matrix product with one rule changed."""

from collections.abc import Callable
from functools import partial

import numpy as np

from intsim.fixedpoint import IntRange
from intsim.verify.bugs.parts import (
    AS_INT16,
    CONTROL,
    Changes,
    Int64,
    Part,
    clamps,
    keep,
    next_channel,
    saturates,
    significant,
    wraps,
)

__all__ = ["changes"]


def rule(
    x: Int64,
    w: Int64,
    bias: Int64,
    *,
    x_part: Part = keep,
    w_part: Part = keep,
    offset: Part = keep,
    product: Part | None = None,
    sums: Callable[[Int64, Int64], Int64] | None = None,
    depth: slice = slice(None),
    acc: Part = keep,
    narrow: Part = keep,
) -> Int64:
    """Return sum_k x_mk w_nk + bias_n of (..., M, K), (..., N, K) and (..., 1, N), each part replaceable."""
    a, b = x_part(x)[..., depth], w_part(w)[..., depth]
    if sums is not None:
        total = sums(a, b)
    elif product is None:  # K 2**32 < 2**53: exact in float64, whose products are fast
        total = (a.astype(np.float64) @ b.astype(np.float64).swapaxes(-1, -2)).astype(np.int64)
    else:
        total = sum(product(a[..., :, None, k] * b[..., None, :, k]) for k in range(a.shape[-1]))
    return narrow(acc(total + offset(bias)))


def _saturating(a: Int64, b: Int64) -> Int64:
    """Return the sum of products saturated at 16 bits after every one."""
    total = np.zeros((*a.shape[:-1], b.shape[-2]), np.int64)
    for k in range(a.shape[-1]):
        total = AS_INT16(total + a[..., :, None, k] * b[..., None, :, k])
    return total


def _in_pairs(a: Int64, b: Int64, *, signed: bool) -> Int64:
    """Return the sum of pairs of products that saturate at 16 bits, activations made unsigned first, as on x86."""
    offset = 128 if signed else 0
    total = -offset * b.sum(axis=-1)[..., None, :]
    for k in range(0, a.shape[-1], 2):
        total = total + AS_INT16((a[..., k : k + 2] + offset) @ b[..., k : k + 2].swapaxes(-1, -2))
    return total


def _transposed(y: Int64) -> Int64:
    """Return the same rows of numbers read as columns."""
    return y.swapaxes(-1, -2).reshape(y.shape)


def _read_transposed(y: Int64) -> Int64:
    return y.reshape(*y.shape[:-2], y.shape[-1], y.shape[-2]).swapaxes(-1, -2)


def _read(of: IntRange) -> tuple[str, Part]:
    """Return the misreading of codes: signed ones as unsigned, unsigned as signed."""
    return "unsigned" if of.signed else "signed", wraps(of.bits, signed=not of.signed)


def changes(x: IntRange, w: IntRange) -> Changes:
    """Return the product of codes of these ranges on (x, w, bias), and every change of it."""
    (x_read, x_misread), (w_read, w_misread) = _read(x), _read(w)
    lowest = w.min
    return {
        CONTROL: rule,
        "accumulator wraps at 16 bits": partial(rule, acc=wraps(16)),
        "accumulator wraps at 18 bits": partial(rule, acc=wraps(18)),
        "accumulator wraps at 24 bits": partial(rule, acc=wraps(24)),
        "accumulator saturates at 16 bits": partial(rule, acc=AS_INT16),
        "accumulator saturates at 24 bits": partial(rule, acc=saturates(IntRange(24))),
        "accumulator wraps at 20 bits": partial(rule, acc=wraps(20)),
        "accumulator saturates at 20 bits": partial(rule, acc=saturates(IntRange(20))),
        "partial sums saturate at 16 bits": partial(rule, sums=_saturating),
        "pairs of products saturate at 16 bits": partial(rule, sums=partial(_in_pairs, signed=x.signed)),
        "float32 accumulator": partial(rule, acc=significant),
        "product wraps at 15 bits": partial(rule, product=wraps(15)),
        "product saturates at 15 bits": partial(rule, product=saturates(IntRange(15))),
        f"activations read as {x_read}": partial(rule, x_part=x_misread),
        f"weights read as {w_read}": partial(rule, w_part=w_misread),
        f"activations of {x.bits - 1} bits": partial(rule, x_part=lambda x: x >> 1 << 1),
        f"activation {x.min} as {x.min + 1}": partial(rule, x_part=clamps(x.min + 1, x.max)),
        f"weight {lowest} as {lowest + 1}": partial(rule, w_part=clamps(lowest + 1, w.max)),
        "negative weights one too high": partial(rule, w_part=lambda w: w + (w < 0)),
        f"weight {lowest} as 0": partial(rule, w_part=lambda w: np.where(w == lowest, 0, w)),
        "first product left out": partial(rule, depth=slice(1, None)),
        "last product left out": partial(rule, depth=slice(-1)),
        "first product only": partial(rule, depth=slice(1)),
        "bias left out": partial(rule, offset=np.zeros_like),
        "bias subtracted": partial(rule, offset=np.negative),
        "bias wraps at 16 bits": partial(rule, offset=wraps(16)),
        "bias wraps at 8 bits": partial(rule, offset=wraps(8)),
        "bias saturates at 16 bits": partial(rule, offset=AS_INT16),
        "bias added twice": partial(rule, offset=lambda bias: 2 * bias),
        "bias of the column before": partial(rule, offset=lambda bias: np.roll(bias, 1, axis=-1)),
        "bias of the next column": partial(rule, offset=next_channel),
        "weights transposed": partial(rule, w_part=_read_transposed),
        "result transposed": partial(rule, narrow=_transposed),
    }
