# SPDX-License-Identifier: Apache-2.0
"""Wide rows over their root mean square: by the definition, on Python's integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import round_fraction
from intsim.ops.row_shift import over_root_mean_square
from intsim.profile import IBERT, INTSIM

rows = st.lists(st.integers(-(2**45), 2**45), min_size=1, max_size=5)


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
@given(row=rows, eps=st.integers(1, 2**88))
@example(row=[2**15, 1], eps=1)
@example(row=[2**15 - 1, -1], eps=1)
@example(row=[-(2**31), 2**31 - 1], eps=2**61)
@example(row=[0, 0], eps=1)
def test_a_wide_row_is_the_shifted_one_over_its_root(profile, row, eps):
    n, rule = len(row), profile.layer_norm
    least = max(0, (eps.bit_length() - 60) // 2)
    k = max(least, max(map(abs, row)).bit_length() - 15)
    shifted = [round_fraction(Fraction(x, 2**k), profile.step_rounding) for x in row]
    eps_at = max(1, round_fraction(Fraction(eps, 4**k), profile.step_rounding))
    root = math.isqrt(n * sum(x * x for x in shifted) + eps_at)
    one = n << rule.output_fraction
    expected = [round_fraction(Fraction(x * one, root), profile.step_rounding) for x in shifted]
    y = over_root_mean_square(np.array([row], np.int64), eps=eps, rule=rule, profile=profile)
    assert y[0].tolist() == expected
