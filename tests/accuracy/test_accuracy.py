# SPDX-License-Identifier: Apache-2.0
"""The integer operators against the real functions. Bounds are measured errors, the third digit rounded up."""

import numpy as np
import pytest
from accuracy.table import EXP_GRID, OPERATORS, PUBLISHED, comparison, i_exp, operator_error, table

from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, NATIVE
from intsim.reference.ops.silu import quick_gelu

# operator, profile: largest absolute error, root mean square error, over every input
BOUNDS = {
    ("exp", "intsim"): (0.00179, 0.000210),
    ("exp", "ibert"): (0.00206, 0.000332),
    ("gelu", "intsim"): (0.0150, 0.00313),
    ("gelu", "ibert"): (0.0182, 0.00290),
    ("tanh", "intsim"): (0.00175, 0.000324),
    ("tanh", "ibert"): (0.00157, 0.000289),
    ("sigmoid", "intsim"): (0.000887, 0.000163),
    ("sigmoid", "ibert"): (0.000782, 0.000148),
    ("silu", "intsim"): (0.000835, 0.000106),
    ("silu", "ibert"): (0.00391, 0.00226),
    ("exp", "intsim-wide"): (5.97e-08, 3.44e-08),
    ("gelu", "intsim-wide"): (1.53e-05, 2.45e-06),
    ("gelu_tanh", "intsim"): (0.0150, 0.00308),
    ("gelu_tanh", "ibert"): (0.0178, 0.00284),
    ("gelu_tanh", "intsim-wide"): (1.53e-05, 2.35e-06),
    ("tanh", "intsim-wide"): (3.06e-05, 1.57e-05),
    ("sigmoid", "intsim-wide"): (3.06e-05, 1.53e-05),
    ("silu", "intsim-wide"): (1.53e-05, 4.33e-06),
}

# function, source: the same over [-4, 4] for GELU and (-ln 2, 0] for exp
INTERVAL_BOUNDS = {
    ("i-GELU", "paper's coefficients, float64"): (0.0182, 0.00819),
    ("i-GELU", "intsim's coefficients, float64"): (0.0145, 0.00883),
    ("i-exp", "paper's coefficients, float64"): (0.00213, 0.00142),
    ("i-exp", "released code's coefficients, float64"): (0.00192, 0.00138),
    ("i-exp", "intsim's coefficients, float64"): (0.00177, 0.000874),
    ("gelu", "ibert"): (0.0182, 0.00819),
    ("gelu", "intsim"): (0.0150, 0.00883),
    ("exp", "ibert"): (0.00206, 0.00138),
    ("exp", "intsim"): (0.00179, 0.000872),
}


def test_every_operator_and_profile_has_a_bound():
    assert set(BOUNDS) == {(operator, profile) for operator in OPERATORS for profile in NATIVE}


@pytest.mark.parametrize(("operator", "profile"), BOUNDS, ids="-".join)
def test_no_input_is_further_from_the_real_function_than_measured(operator, profile):
    error = operator_error(operator, NATIVE[profile])
    largest, rms = BOUNDS[operator, profile]
    assert 0.99 * largest < error.largest <= largest
    assert 0.99 * rms < error.rms <= rms


def test_the_polynomials_are_as_far_from_the_real_functions_as_measured():
    errors = {(error.what, error.source): error for error in comparison()}
    assert set(errors) == set(INTERVAL_BOUNDS)
    for key, (largest, rms) in INTERVAL_BOUNDS.items():
        assert 0.99 * largest < errors[key].largest <= largest, key
        assert 0.99 * rms < errors[key].rms <= rms, key


def test_the_published_figures_of_i_gelu_are_reproduced():
    published = tuple(float(figure) for figure in PUBLISHED["i-GELU"])
    error = next(error for error in comparison() if error.source == "paper's coefficients, float64")
    assert (round(error.largest, 3), round(error.rms, 4)) == published == (0.018, 0.0082)


def test_the_published_figure_of_i_exp_is_that_of_the_released_code_not_of_the_rounded_coefficients():
    code, paper = (
        next(error for error in comparison() if error.what == "i-exp" and error.source.startswith(source))
        for source in ("released", "paper")
    )
    assert round(code.largest, 4) == float(PUBLISHED["i-exp"][0]) == 0.0019
    assert round(paper.largest, 5) == 0.00213


def test_the_coefficients_of_intsim_have_the_smaller_relative_error_for_exp():
    def relative(profile):
        exp = profile.exp
        return float(np.abs(i_exp(exp.a, exp.b, exp.c)(EXP_GRID) / np.exp(EXP_GRID) - 1).max())

    assert 0.00177 < relative(INTSIM) <= 0.00179
    assert 0.00309 < relative(IBERT) <= 0.00310


def test_the_coefficients_of_intsim_have_the_smaller_largest_error_for_gelu():
    assert operator_error("gelu", INTSIM).largest < 0.83 * operator_error("gelu", IBERT).largest


@pytest.mark.parametrize(
    ("profile", "bound"), [(INTSIM, 0.000491), (IBERT, 0.0023), (INTSIM_WIDE, 0.00000897)], ids=list(NATIVE)
)
def test_quick_gelu_is_silu_with_1_702_in_the_scales_around_it(profile, bound):
    silu = OPERATORS["silu"]
    x_q = np.arange(-(2**15), 2**15).astype(np.int16)
    x = x_q * 2.0 ** -silu.input_fraction(profile) / 1.702
    y = silu.integer(x_q, profile=profile) * silu.output_scale(profile) / 1.702
    assert 0.99 * bound < np.abs(y - quick_gelu(x)).max() <= bound


def test_the_table_has_a_line_for_every_bound():
    lines = table().splitlines()
    for operator, profile in BOUNDS:
        assert any(line.startswith(f"| `{operator}` | `{profile}` |") for line in lines)
    assert len(lines) == 2 + len(BOUNDS) + 1 + 2 + len(PUBLISHED) + len(INTERVAL_BOUNDS)
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines if line)
