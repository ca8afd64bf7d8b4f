# SPDX-License-Identifier: Apache-2.0
"""Affine quantization: ``x_q = sat(RHE(x / scale) + zero_point)`` and ``x = scale * (x_q - zero_point)``."""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.carrier.blocks import in_blocks
from intsim.fixedpoint import IntRange

__all__ = ["AffineParams", "dequantize", "finite", "quantize"]

Reals: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.integer]

MIN_SCALE: Final = 2.0**-1022  # smallest normal float64: the reciprocal stays finite


def finite(name: str, x: ArrayLike) -> Reals:
    """Return ``x`` in float64, refusing what is not a number.

    Raises
    ------
    ValueError
        If ``x`` holds a NaN or an infinity.
    """
    real = np.asarray(x, np.float64)
    if not np.isfinite(real).all():
        msg = f"{name} must be finite, got a NaN or an infinity"
        raise ValueError(msg)
    return real


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AffineParams:
    """The map ``x = scale * (x_q - zero_point)``, one for a tensor or one for each of its parameter sets.

    Parameters
    ----------
    scale
        Real step, float64, of a shape that broadcasts against the tensor: ``()`` for all of it, ``(C, 1)`` for the rows
        of a matrix, ``(C,)`` for the last axis.
    zero_point
        Integer code of 0, of the same shape (one integer is spread over it).
    range
        The codes, and the dtype that stores them.
    unused_top
        How many of the highest codes are never produced: 1 in I-BERT's code, which clamps to [-127, 126].

    Raises
    ------
    TypeError
        If ``zero_point`` is not made of integers.
    ValueError
        If a scale is not finite or is below 2**-1022, or a zero point is not a code.
    """

    scale: Reals
    zero_point: NDArray[np.int64]
    range: IntRange
    unused_top: int = 0

    def __post_init__(self) -> None:
        scale = np.array(self.scale, np.float64)
        zero_point = np.asarray(self.zero_point)
        if zero_point.dtype.kind not in "iu":
            msg = f"zero_point must have an integer dtype, got {zero_point.dtype}"
            raise TypeError(msg)
        if not (np.isfinite(scale) & (scale >= MIN_SCALE)).all():
            msg = f"scale must be finite and at least 2**-1022, got values in [{scale.min()}, {scale.max()}]"
            raise ValueError(msg)
        if ((zero_point < self.range.min) | (zero_point > self.max_code)).any():
            msg = (
                f"zero_point must be in [{self.range.min}, {self.max_code}], "
                f"got values in [{zero_point.min()}, {zero_point.max()}]"
            )
            raise ValueError(msg)
        zero_point = np.broadcast_to(zero_point.astype(np.int64), scale.shape).copy()
        for name, value in (("scale", scale), ("zero_point", zero_point)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    def max_code(self) -> int:
        """Highest code that ``quantize`` produces; the lowest is ``range.min``."""
        return self.range.max - self.unused_top


def _require_fit(name: str, shape: tuple[int, ...], params: AffineParams) -> None:
    try:
        np.broadcast_to(params.scale, shape)
    except ValueError:
        msg = f"{name} must have a shape that params of shape {params.scale.shape} broadcast to, got {shape}"
        raise ValueError(msg) from None


def quantize(x: ArrayLike, params: AffineParams, *, reciprocal: bool = False) -> Integers:
    """Return the codes of the reals ``x``: divide by the scale, round half to even, add the zero point, saturate.

    Parameters
    ----------
    x
        Finite reals, any shape; computed in float64.
    params
        Parameters whose shape broadcasts to that of ``x``.
    reciprocal
        Multiply by 1 / scale, itself rounded to float64, instead of dividing: what I-BERT's code does, in float32. It
        differs on near ties: 73.5 at scale 49 is the tie 1.5, code 2, but 73.5 * (1 / 49) falls short of it, code 1.

    Returns
    -------
    Integers
        Codes in [range.min, max_code], stored in the range's dtype.

    Raises
    ------
    ValueError
        If ``x`` holds a NaN or an infinity, or ``params`` has parameters for another shape.

    Bounds
    ------
    Codes and zero points have at most 32 bits, so a float64 holds their sums; a quotient beyond 2**53, up to infinity,
    saturates.

    Error
    -----
    At most scale / 2 (and 2**-52 of ``x``) for an ``x`` between the reals of the lowest and the highest code.

    What is rounded is fl(x / scale), the nearest float64 to the quotient. For a scale exact in float32, as those of
    ``Scheme`` are, and codes of at most 28 bits this is RHE of the true quotient: a tie (k + 1/2) * scale is itself a
    float64, and one float64 beside it the quotient is further from k + 1/2 than half an ulp. With any other scale a
    quotient may round onto a tie: 0.75 at scale 0.1 is 7.4999999999999996, but fl gives 7.5 and the code is 8.

    Source
    ------
    Bondarenko et al. 2021, eq. (1); ``torch.round`` and ``np.rint`` round half to even.
    """
    real = finite("x", x)
    _require_fit("x", real.shape, params)

    def rows(x: Reals, scale: Reals, zero_point: Integers) -> Integers:
        with np.errstate(over="ignore"):
            steps = np.rint(x * (1 / scale) if reciprocal else x / scale)
        return (steps + zero_point).clip(params.range.min, params.max_code).astype(params.range.dtype)

    return in_blocks(rows, real, params.scale, params.zero_point)


def dequantize(x_q: ArrayLike, params: AffineParams) -> Reals:
    """Return the reals ``scale * (x_q - zero_point)`` of the codes ``x_q``.

    Raises
    ------
    TypeError
        If ``x_q`` is not made of integers.
    ValueError
        If ``params`` has parameters for another shape.

    Error
    -----
    None for a float32 scale and codes of at most 28 bits: 29 bits of difference times 24 of scale fit float64's 53.

    Source
    ------
    Bondarenko et al. 2021, eq. (2).
    """
    codes = np.asarray(x_q)
    if codes.dtype.kind not in "iu":
        msg = f"x_q must have an integer dtype, got {codes.dtype}"
        raise TypeError(msg)
    _require_fit("x_q", codes.shape, params)
    return (codes - params.zero_point) * params.scale  # the int64 zero point widens the codes
