# SPDX-License-Identifier: Apache-2.0
"""A permutation of channels."""

from intsim.carrier.exact import Integers, require_integers

__all__ = ["permute"]


def permute(x_q: Integers, order: Integers) -> Integers:
    """Return y with y_c = x_order(c) along the last axis.

    Raises
    ------
    TypeError
        If an operand is not an integer array.
    """
    require_integers("x_q", x_q)
    require_integers("order", order)
    return x_q[..., order]
