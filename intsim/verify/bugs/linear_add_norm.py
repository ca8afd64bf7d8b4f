# SPDX-License-Identifier: Apache-2.0
"""A matrix product, its sum with a residual, and LayerNorm, with one rule changed."""

from collections.abc import Callable
from functools import partial

from intsim.fixedpoint import INT8, INT16, IntRange
from intsim.profile import Profile
from intsim.verify.bugs import add, layer_norm, matmul
from intsim.verify.bugs.parts import CONTROL, Changes, Int64, prefixed, replaced

__all__ = ["changes"]


def rule(
    x: Int64,
    w: Int64,
    bias: Int64,
    residual: Int64,
    multipliers: list[Int64],
    shifts: list[Int64],
    zero_point: Int64,
    *of_norm: Int64,
    product: Callable[..., Int64],
    total: Callable[..., Int64],
    norm: Callable[..., Int64],
) -> Int64:
    """Return LayerNorm(saturate16(R((acc m + residual n) / 2**t) + z)), acc = sum_k x_k w_k + bias, (..., M, N)."""
    return norm(total([product(x, w, bias), residual], multipliers, shifts, zero_point), *of_norm)


def changes(x: IntRange, to: IntRange, profile: Profile) -> Changes:
    """Return linear_add_norm on (x, w, bias, residual, multipliers, shifts, zero point, *norm's), and its changes."""
    products = matmul.changes(x, INT8)
    sums = add.changes(profile, INT16, 2, per_channel=True)
    norms = layer_norm.changes(profile, to)
    golden = partial(rule, product=products[CONTROL], total=sums[CONTROL], norm=norms[CONTROL])
    return {
        CONTROL: golden,
        **replaced(
            golden, product=prefixed("product", products), total=prefixed("sum", sums), norm=prefixed("norm", norms)
        ),
    }
