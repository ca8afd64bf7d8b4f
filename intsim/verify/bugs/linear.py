# SPDX-License-Identifier: Apache-2.0
"""A matrix product and its requantization with one rule changed."""

from collections.abc import Callable
from functools import partial

import numpy as np

from intsim.fixedpoint import IntRange, Rounding
from intsim.verify.bugs import matmul, requantize
from intsim.verify.bugs.parts import CONTROL, Changes, Int64, Part, keep, prefixed, registers, replaced

__all__ = ["changes"]


def rule(
    x: Int64,
    w: Int64,
    bias: Int64,
    x_zero_point: Int64,
    multiplier: Int64,
    shift: Int64,
    zero_point: Int64,
    *,
    product: Callable[..., Int64],
    requantized: Callable[..., Int64],
    centred: Part = keep,
    zero_of: Part = keep,
) -> Int64:
    """Return saturate(RND(acc m / 2**t) + zero_point), acc = sum_k (x_k - x_zero_point) w_k + bias, (..., M, N)."""
    acc = product(centred(x - zero_of(x_zero_point)), w, bias)
    return requantized(acc, multiplier, shift, zero_point)


def changes(x: IntRange, w: IntRange, to: IntRange, rounding: Rounding) -> Changes:
    """Return linear on (x, w, bias, x_zero_point, multiplier, shift, zero_point), and every change of it."""
    products = matmul.changes(x, w)
    rescaled = requantize.changes(rounding, to, per_channel=True)
    golden = partial(rule, product=products[CONTROL], requantized=rescaled[CONTROL])
    return {
        CONTROL: golden,
        **replaced(
            golden,
            centred=registers("activation minus zero point", 8),
            zero_of={"zero point of the activations left out": np.zeros_like, "zero point added": np.negative},
            product=prefixed("product", products),
            requantized=prefixed("requantize", rescaled),
        ),
    }
