# SPDX-License-Identifier: Apache-2.0
"""Quantization of float32 with one rule changed. The integers of its fields are the bits of the floats."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from intsim.fixedpoint import IntRange
from intsim.verify.bugs.parts import CONTROL, Changes, Finish, Int64, finishes, replaced

__all__ = ["changes"]

Reals = Any


def _float32(bits: Int64) -> Reals:
    return bits.astype(np.uint32).view(np.float32)


def rule(
    x: Int64,
    scale: Int64,
    zero_point: Int64,
    *,
    finish: Finish,
    rounded: Callable[[Reals], Reals] = np.rint,
    quotient: Callable[[Reals, Reals], Reals] = lambda x, scale: x.astype(np.float64) / scale,
    inside: bool = False,
) -> Int64:
    """Return saturate(RHE(x / scale) + zero_point), each part replaceable."""
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        steps = np.nan_to_num(quotient(_float32(x), _float32(scale))).clip(-(2.0**40), 2.0**40)
    if inside:
        return finish(rounded(steps + zero_point).astype(np.int64), np.zeros_like(zero_point))
    return finish(rounded(steps).astype(np.int64), zero_point)


def _flushed(x: Reals, scale: Reals) -> Reals:
    return np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x).astype(np.float64) / scale


def changes(to: IntRange) -> Changes:
    """Return quantize on (x, scale, zero_point), and every change of it."""
    finishing = finishes(to)
    return replaced(
        partial(rule, finish=finishing[CONTROL]),
        finish=finishing,
        rounded={
            "rounding floor": np.floor,
            "rounding toward-zero": np.trunc,
            "rounding half-up": lambda y: np.floor(y + 0.5),
            "rounding half-away": lambda y: np.sign(y) * np.floor(np.abs(y) + 0.5),
        },
        inside={"zero point before rounding": True},
        quotient={
            "multiplied by the reciprocal": lambda x, scale: x * (np.float32(1) / scale),
            "quotient in float32": lambda x, scale: x / scale,
            "subnormals flushed to 0": _flushed,
        },
    )
