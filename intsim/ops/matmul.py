# SPDX-License-Identifier: Apache-2.0
"""Integer matrix product with an int32 accumulator."""

from typing import Final, get_args

import numpy as np

from intsim._checked import check_choice
from intsim.carrier.exact import Carrier, Integers, Weight, magnitude, require_integers
from intsim.carrier.exact import matmul as carried_matmul

__all__ = ["matmul"]

CARRIERS: Final = get_args(Carrier)


def matmul(
    x_q: Integers,
    w_q: Integers,
    *,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
    bias: Integers | None = None,
    carrier: Carrier | Weight = "auto",
) -> Integers:
    """Return the accumulator sum_k (x_k - x_zero_point) (w_k - w_zero_point) + bias.

    Parameters
    ----------
    x_q
        (..., M, K) integers of at most 16 bits.
    w_q
        (N, K), or (..., N, K) with the leading axes of ``x_q``: rows are output channels, as in Hugging Face files.
    x_zero_point, w_zero_point
        Codes that stand for 0.
    bias
        (N,), or (..., 1, N) of a product each, int32 in units of the accumulator.
    carrier
        ``auto`` uses floating-point BLAS where it is proved exact, ``integer`` plain NumPy integers; ``w_q`` as a
        ``Weight`` is ``auto`` without preparing it again. Same bits.

    Returns
    -------
    ndarray
        (..., M, N) int32.

    Raises
    ------
    TypeError
        If an operand is not an integer array of at most 16 bits, or ``bias`` not an integer array.
    ValueError
        If the sum of products and bias could leave int32; it never wraps. If the carrier is another.

    Bounds
    ------
    max_n(max|x| sum_k |w_nk| + |bias_n|) < 2**31, max|x| the dtype's; int8 x int8 without zero points passes up to
    K = 131_071 whatever the codes.
    """
    if not isinstance(carrier, Weight):
        check_choice("carrier", carrier, CARRIERS)
    if bias is not None:
        require_integers("bias", bias)
    x, x_bound = _centre("x_q", x_q, x_zero_point)
    w, w_bound = _centre("w_q", w_q, w_zero_point)
    return carried_matmul(x, w, x_bound=x_bound, w_bound=w_bound, bias=bias, carrier=carrier)


def _centre(name: str, x_q: Integers, zero_point: int) -> tuple[Integers, int]:
    """Return x_q - zero_point and a bound on its magnitude."""
    require_integers(name, x_q)
    if x_q.dtype.itemsize > 2:
        msg = f"{name} must have at most 16 bits, got {x_q.dtype}"
        raise TypeError(msg)
    if zero_point == 0:
        return x_q, magnitude(x_q)
    return x_q.astype(np.int32) - np.int32(zero_point), magnitude(x_q) + abs(zero_point)
