# SPDX-License-Identifier: Apache-2.0
"""Fake quantization in float64, the reals that codes stand for: twin of ``intsim.quantizers`` and of dynamic inputs.

Codes are whole numbers in float64. A model whose ``observe`` returns ``fake_quantize(x, ...)`` simulates quantization.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Affine",
    "affine",
    "dynamic_bound",
    "extremes",
    "fake_quantize",
    "fake_quantize_dynamic",
    "quantize",
    "quantize_dynamic",
]

Array = NDArray[np.float64]

LEFT_OUT = {"narrow": (1, 0), "ibert-code": (1, 1), "full": (0, 0), "power-of-two": (0, 0)}  # lowest, highest codes


class Affine(NamedTuple):
    """The codes lowest, ..., highest, which stand for scale * (code - zero_point)."""

    scale: Array
    zero_point: Array
    lowest: int
    highest: int


def extremes(x: Array, *, axis: int | None = None, groups: int | None = None) -> tuple[Array, Array]:
    """Return the lowest and highest value of the tensor, of each channel along ``axis``, or of each run of channels.

    Shaped to broadcast against ``x``; those of groups are repeated.
    """
    if axis is None:
        return np.array(x.min()), np.array(x.max())
    channels = np.moveaxis(x, axis, 0)
    runs = channels.reshape(groups or len(channels), -1)
    shape = (len(channels), *(1,) * (x.ndim - 1 - axis % x.ndim))
    each = len(channels) // len(runs)
    return np.repeat(runs.min(axis=1), each).reshape(shape), np.repeat(runs.max(axis=1), each).reshape(shape)


def affine(
    low: ArrayLike,
    high: ArrayLike,
    *,
    bits: int,
    symmetric: bool,
    convention: str = "full",
    signed: bool | Literal["by-range"] = True,
) -> Affine:
    """Return the scale, a float32, and the zero point of the range [low, high] widened to contain 0.

    Conventions are those of ``intsim.quantizers.Scheme``; a range [0, 0] takes the largest scale of the others, 1
    where there are none.
    """
    bottom_x: Array = np.minimum(low, 0.0)
    top_x: Array = np.maximum(high, 0.0)
    span = np.maximum(-bottom_x, top_x) if symmetric else top_x - bottom_x
    signed = bool(np.any(bottom_x < 0)) if signed == "by-range" else signed
    steps = 2.0 ** (bits - (symmetric and signed)) - (convention != "power-of-two")
    scale = (span / steps).astype(np.float32).astype(np.float64)
    scale = np.maximum(np.where(span > 0, scale, scale.max() if span.any() else 1.0), 2.0**-126)
    below, above = LEFT_OUT[convention] if symmetric else (0, 0)
    bottom = -(2 ** (bits - 1)) if signed else 0
    zero_point = np.zeros_like(scale) if symmetric else bottom + np.minimum(np.rint(-bottom_x / scale), 2.0**bits - 1)
    return Affine(scale, zero_point, bottom + below, bottom + 2**bits - 1 - above)


def quantize(x: Array, params: Affine) -> Array:
    """Return the codes of ``x``: x / scale to the nearest integer, half to even, plus the zero point, clipped."""
    return np.clip(np.rint(x / params.scale) + params.zero_point, params.lowest, params.highest)


def fake_quantize(x: Array, params: Affine) -> Array:
    """Return the reals that the codes of ``x`` stand for."""
    return (quantize(x, params) - params.zero_point) * params.scale


def dynamic_bound(
    x: Array,
    *,
    per: Literal["token", "sequence"],
    clip: bool = False,
    mask: NDArray[np.bool_] | None = None,
) -> Array:
    """Return the largest |x| of each token, (..., T, 1), or of the tokens of each sequence, (..., 1, 1).

    ``clip`` lowers it to q3 + 1.5 (q3 - q1) of the sequence's token maxima (El-Kurdi et al. 2022). Exact where ``x``
    are multiples, by integers of 17 bits, of one float32.

    Parameters
    ----------
    x
        (..., T, C).
    mask
        (..., T), true where there is a token; all are by default.
    """
    maxima = np.abs(x).max(axis=-1)
    if per == "token":
        return maxima[..., None]
    keep = np.ones(maxima.shape, np.bool_) if mask is None else mask
    bounds = np.zeros((*maxima.shape[:-1], 1, 1))
    for row in np.ndindex(maxima.shape[:-1]):
        tokens = maxima[row][keep[row]]
        q1, q3 = np.quantile(tokens, [0.25, 0.75])
        bounds[row] = min(tokens.max(), q3 + 1.5 * (q3 - q1)) if clip else tokens.max()
    return bounds


def quantize_dynamic(x: Array, bound: Array, *, bits: int, half: Literal["up", "even"]) -> Array:
    """Return the symmetric codes of ``x`` whose highest stands for ``bound``, ties rounded as ``half`` says.

    The codes are those of the exact quotient where ``x`` are such multiples and ``bound`` is ``dynamic_bound``, an
    eighth of such a multiple: a quotient that is not a tie is then 2**-21 or more away from one.
    """
    top = 2 ** (bits - 1) - 1
    quotient = x * top / np.where(bound > 0, bound, 1)
    whole = np.rint(quotient)
    if half == "up":
        whole += quotient - whole == 0.5
    return np.clip(whole, -top, top)


def fake_quantize_dynamic(x: Array, bound: Array, *, bits: int, half: Literal["up", "even"]) -> Array:
    """Return the reals that the dynamic codes of ``x`` stand for."""
    return quantize_dynamic(x, bound, bits=bits, half=half) * bound / (2 ** (bits - 1) - 1)
