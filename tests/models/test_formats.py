# SPDX-License-Identifier: Apache-2.0
"""What the codes of an activation stand for."""

from fractions import Fraction
from importlib import resources

import numpy as np
import pytest

import intsim
from intsim import Dyadic, Format, IntRange
from intsim.quantizers import AffineParams, dequantize

INT8 = IntRange(8)


def test_reals_are_codes_less_the_zero_point_times_the_scale_without_wrapping():
    form = Format(range=INT8, zero_point=127, scale=Dyadic(3, 2))
    codes = np.array([[-128, 0, 127]], np.int8)
    expected = [[Fraction(3, 4) * (int(code) - 127) for code in row] for row in codes]
    assert form.reals(codes).tolist() == expected
    assert form.reals(codes[0, 0]) == expected[0][0]  # one code


def test_every_group_of_channels_has_its_own_scale_and_zero_point():
    form = Format(range=INT8, zero_point=(1, -2), scale=Dyadic([1, 3], [0, 1]))
    assert form.reals(np.array([[1, 2, -2, 0]], np.int8)).tolist() == [[0.0, 1.0, 0.0, 3.0]]


def test_channels_that_do_not_divide_into_the_groups_are_refused():
    form = Format(range=INT8, zero_point=(0, 0), scale=Dyadic([1, 1], [0, 0]))
    with pytest.raises(ValueError, match=r"codes must have channels of 2 groups, got shape \(3,\)"):
        form.reals(np.zeros(3, np.int8))


def test_reals_of_a_model_are_those_that_the_quantizer_says():
    model = intsim.load(resources.files("intsim.embedded"))
    form = model.formats["embeddings.LayerNorm"]
    codes = np.arange(-128, 128, dtype=np.int8)
    params = AffineParams(scale=float(form.scale), zero_point=form.zero_point, range=form.range)
    assert np.array_equal(form.reals(codes), dequantize(codes, params))
