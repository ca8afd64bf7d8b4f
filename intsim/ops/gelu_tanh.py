# SPDX-License-Identifier: Apache-2.0
"""GELU's form by tanh, x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x**3)): correctly rounded, or what GELU is."""

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers
from intsim.ops.gelu import gelu
from intsim.ops.tabulated import tabulated
from intsim.profile import Profile, native
from intsim.rounded import RoundedGelu, table

__all__ = ["gelu_tanh"]


def gelu_tanh(x_q: Integers, *, profile: Profile) -> Integers:
    """Return x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) for any int16.

    With ``RoundedGelu``, y_q is the integer nearest to that times 2**output_fraction. Any other rule approximates GELU
    by more than the 5e-4 between its forms, and stands for this one as well: y_q = gelu(x_q).

    The 0.7978845608 that some code has for sqrt(2 / pi), 3e-12 less, gives the same integers in the presets.

    Parameters
    ----------
    x_q, profile
        As for ``gelu``.

    Returns
    -------
    ndarray
        int32 codes of profile.gelu.output_scale.

    Raises
    ------
    TypeError
        If ``x_q`` has another dtype.

    Bounds
    ------
    |y_q| <= 2**30.

    Error
    -----
    Half a code.

    Source
    ------
    Hendrycks & Gimpel 2016.
    """
    return _table(x_q, profile=profile) if isinstance(profile.gelu, RoundedGelu) else gelu(x_q, profile=profile)


@tabulated
def _table(x_q: NDArray[np.int64], profile: Profile) -> Integers:
    rule = native(profile.gelu, RoundedGelu)
    return table("gelu_tanh", rule.input_fraction, rule.output_fraction).take(x_q, mode="wrap")
