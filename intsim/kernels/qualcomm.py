# SPDX-License-Identifier: Apache-2.0
"""Qualcomm's quantizers, of Bondarenko et al.'s code and AIMET, on integers: codes of float32 quotients.

Every step is one float32 operation rounded to nearest, ties to even, in the order of the formula; RHE rounds to an
integer, ties to even. A quotient is rounded to float32 before it becomes a code, so that codes next to ties are not
always those of ``intsim.quantizers``, whose quotient is of float64.

Source: github.com/Qualcomm-AI-research/transformer-quantization at 8dbf3c6, ``quantization/quantizers.py``;
github.com/quic/aimet at ff21fee, ``v2/quantization/affine/backends/torch_builtins.py``; on CPU. Their expressions in
torch are held against this in tests/kernels/quotient_witnesses.py.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import IntRange, Rounding, saturate
from intsim.float32 import Float32, add, divide, from_integer, maximum, negate, to_integer

__all__ = ["asymmetric", "quantize", "symmetric"]

Integers: TypeAlias = NDArray[np.integer[Any]]

EPS: Final = Float32(np.array(11_258_999), np.array(-50))  # the float32 nearest to 1e-8


def symmetric(low: Float32, high: Float32, *, bits: int) -> tuple[Float32, IntRange]:
    """Return max(max(|low|, high) / q_max, 1e-8) and the codes: from 0 where no range has a negative part.

    Parameters
    ----------
    low, high
        Of one range, or one for each parameter set, whose sign is decided together.
    bits
        Of the codes; q_max is 2**(bits - 1) - 1, without a negative part 2**bits - 1.
    """
    low, high = _widened(low, high)
    to = IntRange(bits, signed=bool((low.significand < 0).any()))
    scale = divide(maximum(negate(low), high), from_integer(np.array(to.max)))
    return maximum(scale, EPS), to


def asymmetric(low: Float32, high: Float32, *, bits: int) -> tuple[Float32, Integers]:
    """Return max(d, 1e-8), d = (high - low) / (2**bits - 1), and the zero point clip(RHE(-low / d)) of codes from 0.

    The range is widened to 0 below and 1e-8 above.
    """
    low, high = _widened(low, high)
    delta = divide(add(high, negate(low)), from_integer(np.array((1 << bits) - 1)))
    zero_point = to_integer(divide(negate(low), delta), Rounding.HALF_EVEN)
    return maximum(delta, EPS), zero_point.clip(0, (1 << bits) - 1)


def quantize(x: Float32, scale: Float32, *, zero_point: Integers | int, to: IntRange) -> Integers:
    """Return sat(RHE(x / scale) + zero_point); AIMET's ``offset`` is -zero_point.

    Bounds
    ------
    |x / scale| < 2**62.
    """
    return saturate(to_integer(divide(x, scale), Rounding.HALF_EVEN) + zero_point, to)


def _widened(low: Float32, high: Float32) -> tuple[Float32, Float32]:
    zero = from_integer(np.array(0))
    return negate(maximum(negate(low), zero)), maximum(high, EPS)
