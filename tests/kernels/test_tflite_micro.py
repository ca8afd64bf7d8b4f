# SPDX-License-Identifier: Apache-2.0
"""What sets TFLM's rules apart from LiteRT's; that they are TFLM's is shown by the witnesses."""

from fractions import Fraction
from math import floor

import numpy as np

from intsim.fixedpoint import INT8, INT16
from intsim.kernels import litert_elementwise, litert_nonlinear, litert_sigmoid, tflite_micro

EVERY_INT8 = np.arange(-128, 128).astype(np.int8)


def test_two_entries_of_the_table_of_reciprocals_are_others():
    ours, theirs = tflite_micro.reciprocal_table(), litert_nonlinear.reciprocal_table()
    differ = np.flatnonzero(ours != theirs)
    assert differ.tolist() == [160, 294]
    assert (ours - theirs)[differ].tolist() == [-1, 1]


def test_curves_of_eight_bits_are_the_functions_within_a_code():
    for scale in (Fraction(1, 32), Fraction(3, 100)):
        x = EVERY_INT8 * float(scale)
        y = tflite_micro.logistic(EVERY_INT8, scale=scale, zero_point=0).astype(int)
        assert np.abs((y + 128) - np.minimum(256 / (1 + np.exp(-x)), 255)).max() <= 0.51
        y = tflite_micro.tanh(EVERY_INT8, scale=scale, zero_point=0).astype(int)
        assert np.abs(y - np.minimum(128 * np.tanh(x), 127)).max() <= 0.51


def test_a_curve_ends_at_its_radius():
    """Floor(15 2**27 / 2**e) codes from the zero point, with 2**e above scale 2**27."""
    scale = Fraction(1, 2) + Fraction(1, 2**20)  # 2**e is 2**27: 15 codes
    y = tflite_micro.tanh(EVERY_INT8, scale=scale, zero_point=3)
    assert y[128 + 3 + 14 : 128 + 3 + 16].tolist() == [127, 127]
    assert y[128 + 3 - 15 : 128 + 3 - 13].tolist() == [-128, -128]
    small = Fraction(1, 2**11)
    y = tflite_micro.logistic(EVERY_INT8, scale=small, zero_point=0)
    exact = 256 / (1 + np.exp(EVERY_INT8 / -(2**11))) - 128
    assert np.abs(y - exact).max() <= 0.5 + 1e-5


def test_the_product_s_ratio_is_of_float64():
    scales = Fraction(12_345_677, 2**26), Fraction(11_111_111, 2**25), Fraction(9_999_991, 2**40)
    q = np.arange(-(2**15), 2**15, 7).astype(np.int16)
    settings = {"scales": scales, "zero_points": (0, 0, 0), "to": INT16}
    small = (q // 4096).astype(np.int16)
    ours = tflite_micro.multiply(small, small[::-1], **settings)
    exact = [
        max(min(floor(int(a) * int(b) * scales[0] * scales[1] / scales[2] + Fraction(1, 2)), 2**15 - 1), -(2**15))
        for a, b in zip(small, small[::-1], strict=True)
    ]
    assert np.abs(ours - np.array(exact)).max() <= 1
    ties = {"scales": (Fraction(1), Fraction(1), Fraction(2)), "zero_points": (0, 0, 0), "to": INT8}
    assert tflite_micro.multiply(EVERY_INT8, EVERY_INT8, **ties).tolist() == (
        litert_elementwise.multiply(EVERY_INT8, EVERY_INT8, **ties).tolist()
    )


def test_curves_are_not_litert_s_tables():
    """A 64th below 0 is half a code of tanh: -0.49999 in float32 and, in fixed point, a tie."""
    ours = tflite_micro.tanh(EVERY_INT8, scale=Fraction(1, 2**11), zero_point=0)
    theirs = litert_sigmoid.tanh(EVERY_INT8, scales=(Fraction(1, 2**11), Fraction(1, 128)), zero_points=(0, 0))
    assert [(x - 128, ours[x], theirs[x]) for x in np.flatnonzero(ours != theirs)] == [(-8, -1, 0), (8, 1, 0)]
