# SPDX-License-Identifier: Apache-2.0
"""SiLU (swish): x sigmoid(x)."""

import numpy as np
from numpy.typing import NDArray

from intsim._trace import step
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT16, INT32, saturate
from intsim.ops.sigmoid import sigmoid
from intsim.ops.tabulated import tabulated
from intsim.profile import Profile

__all__ = ["silu"]


@tabulated
def silu(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    """Return x sigmoid(x) for any int16: y_q = x_q * sigmoid(x_q), the exact product.

    quick-GELU, x sigmoid(1.702 x) = silu(1.702 x) / 1.702, is this operator too, with 1.702 in the ratios of scales
    before and after it.

    Parameters
    ----------
    x_q
        int16, x = x_q * 2**-profile.exp.input_fraction.
    profile
        The rules ``profile.exp`` and ``profile.sigmoid``.

    Returns
    -------
    ndarray
        int32, fraction profile.exp.input_fraction + profile.sigmoid.output_fraction.

    Raises
    ------
    TypeError
        If ``x_q`` is not int16.

    Bounds
    ------
    |x_q| <= 2**15 and sigmoid <= 2**14: the product is at most 2**29.

    Error
    -----
    |x| times that of sigmoid; see the table of largest errors in README (exhaustive over the 2**16 inputs).

    Source
    ------
    Elfwing et al. 2017; quick-GELU: Hendrycks & Gimpel 2016.
    """
    gate = sigmoid(saturate(x_q, INT16), profile=profile)
    step("sigmoid", gate)
    return saturate(x_q * gate, INT32)
