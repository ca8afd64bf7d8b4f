# SPDX-License-Identifier: Apache-2.0
"""Matrix product with one rule changed."""

from collections.abc import Callable
from functools import partial

import numpy as np

from intsim.carrier.proof import multiply
from intsim.fixedpoint import IntRange
from intsim.verify.bugs.parts import (
    AS_INT16,
    CONTROL,
    Changes,
    Int64,
    Part,
    Register,
    clamps,
    keep,
    next_channel,
    previous_channel,
    registers,
    replaced,
    reversed_lanes,
    reversed_words,
    significant,
    wraps,
)

__all__ = ["changes"]

Sums = Callable[[Int64, Int64], Int64]  # (..., M, K), (..., N, K) -> (..., M, N)


def _exact(a: Int64, b: Int64) -> Int64:  # K 2**32 < 2**53: exact in float64, whose products are fast
    return multiply(a.astype(np.float64), b.astype(np.float64).swapaxes(-1, -2)).astype(np.int64)


def _one_by_one(a: Int64, b: Int64, *, product: Part = keep, total: Part = keep, start: Int64 | int = 0) -> Int64:
    """Return the sum of products and what it starts from, each and every partial sum in a register."""
    acc = total(np.zeros((*a.shape[:-1], b.shape[-2]), np.int64) + start)
    for k in range(a.shape[-1]):
        acc = total(acc + product(a[..., :, None, k] * b[..., None, :, k]))
    return acc


def _in_pairs(a: Int64, b: Int64, *, signed: bool) -> Int64:
    """Return the sum of pairs of products that saturate at 16 bits, activations made unsigned first, as on x86."""
    offset = 128 if signed else 0
    acc = -offset * b.sum(axis=-1)[..., None, :]
    for k in range(0, a.shape[-1], 2):
        acc = acc + AS_INT16((a[..., k : k + 2] + offset) @ b[..., k : k + 2].swapaxes(-1, -2))
    return acc


def rule(
    x: Int64,
    w: Int64,
    bias: Int64,
    *,
    x_part: Part = keep,
    w_part: Part = keep,
    offset: Part = keep,
    sums: Sums = _exact,
    depth: slice = slice(None),
    terms: Part = keep,
    acc: Part = keep,
    from_bias: Part | None = None,
) -> Int64:
    """Return sum_k x_mk w_nk + bias_n of (..., M, K), (..., N, K) and (..., 1, N), each part replaceable."""
    if from_bias is not None:
        return _one_by_one(x, w, total=from_bias, start=bias)
    return acc(sums(terms(x_part(x)[..., depth]), terms(w_part(w)[..., depth])) + offset(bias))


def _transposed(y: Int64) -> Int64:
    """Return the same rows of numbers read as columns."""
    return y.swapaxes(-1, -2).reshape(y.shape)


def _read_transposed(y: Int64) -> Int64:
    return y.reshape(*y.shape[:-2], y.shape[-1], y.shape[-2]).swapaxes(-1, -2)


def _without_last_tile(y: Int64, *, tile: int) -> Int64:
    return y[..., : (y.shape[-1] - 1) // tile * tile]


def _tiles_reversed(y: Int64, *, tile: int) -> Int64:
    whole = y.shape[-1] // tile * tile
    tiles = y[..., :whole].reshape(*y.shape[:-1], -1, tile)[..., ::-1, :]
    return np.concatenate([tiles.reshape(*y.shape[:-1], whole), y[..., whole:]], axis=-1)


def _exchanged(a: Int64, b: Int64) -> Int64:
    return _exact(b, a).reshape(*a.shape[:-1], b.shape[-2])


def _not_cleared(y: Int64, *, between: int) -> Int64:
    """Return running sums in 32 bits over all elements (0), rows (1) or tiles (2)."""
    kept = y.shape[y.ndim - between :]
    return wraps(32)(y.reshape(-1, *kept).cumsum(axis=0).reshape(y.shape))


def _sums_not_cleared(a: Int64, b: Int64, *, between: int) -> Int64:
    return _not_cleared(_exact(a, b), between=between)


def _misread(what: str, of: IntRange) -> dict[str, Part]:
    """Return the misreading of codes: signed ones as unsigned, unsigned as signed."""
    return {f"{what} read as {'unsigned' if of.signed else 'signed'}": wraps(of.bits, signed=not of.signed)}


def changes(x: IntRange, w: IntRange) -> Changes:
    """Return the product of codes of these ranges on (x, w, bias), and every change of it."""
    lowest = w.min
    return {
        CONTROL: rule,
        **replaced(
            rule,
            acc={
                **registers("accumulator", 16, 18, 20, 24),
                "float32 accumulator": significant,
                "result transposed": _transposed,
                **{
                    f"accumulator not cleared between {what}": partial(_not_cleared, between=k)
                    for k, what in enumerate(("columns", "rows", "tiles"))
                },
            },
            sums={
                "partial sums saturate at 16 bits": partial(
                    _one_by_one, total=Register(bits=16, signed=True, saturating=True)
                ),
                "operands exchanged": _exchanged,
                "pairs of products saturate at 16 bits": partial(_in_pairs, signed=x.signed),
                **{
                    f"sum of products not cleared between {what}": partial(_sums_not_cleared, between=k)
                    for k, what in enumerate(("columns", "rows", "tiles"))
                },
                **{name: partial(_one_by_one, product=part) for name, part in registers("product", 15).items()},
            },
            from_bias={
                "partial sums from the bias saturate at 16 bits": Register(bits=16, signed=True, saturating=True)
            },
            x_part={
                **_misread("activations", x),
                f"activations of {x.bits - 1} bits": lambda x: x >> 1 << 1,
                f"activation {x.min} as {x.min + 1}": clamps(x.min + 1, x.max),
                "lanes of one operand reversed": reversed_lanes,
                **{
                    f"lanes of each word of {lanes} of one operand reversed": partial(reversed_words, lanes=lanes)
                    for lanes in (2, 4, 8)
                },
                **{f"tiles of {t} of one operand reversed": partial(_tiles_reversed, tile=t) for t in (2, 4, 8)},
                "activations one lane late": previous_channel,
            },
            terms={
                f"last tile of {tile} products left out": partial(_without_last_tile, tile=tile)
                for tile in (2, 4, 8, 16, 32, 64)
            },
            w_part={
                **_misread("weights", w),
                f"weight {lowest} as {lowest + 1}": clamps(lowest + 1, w.max),
                f"weight {lowest} as 0": lambda w: np.where(w == lowest, 0, w),
                "negative weights one too high": lambda w: w + (w < 0),
                "weights transposed": _read_transposed,
            },
            depth={
                "first product left out": slice(1, None),
                "last product left out": slice(-1),
                "first product only": slice(1),
            },
            offset={
                "bias left out": np.zeros_like,
                "bias subtracted": np.negative,
                "bias added twice": lambda bias: 2 * bias,
                "bias of the column before": previous_channel,
                "bias in reverse order": reversed_lanes,
                "bias of the next column": next_channel,
                **registers("bias", 8, 16),
            },
        ),
    }
