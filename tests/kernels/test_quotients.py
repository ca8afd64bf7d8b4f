# SPDX-License-Identifier: Apache-2.0
"""Codes of float32 quotients, against rationals rounded to 24 bits; witnesses show that they are the projects'."""

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from kernels.draws import float32

from intsim.fixedpoint import INT8, UINT8, IntRange
from intsim.float32 import encode
from intsim.kernels import deepspeed, qualcomm
from intsim.kernels.litert import nearest
from intsim.quantizers import AffineParams, quantize

REALS = st.floats(-64, 64, width=32).filter(lambda x: x == 0 or abs(x) > 2**-60)
ROWS = st.lists(REALS, min_size=2, max_size=9).filter(lambda row: min(row) < max(row))
EPS = Fraction(11_258_999, 2**50)


def f(x):
    return nearest(Fraction(x), 24)


def near_one_half():
    """Return x and a scale of float32 whose quotient is below a tie, and in float32 the tie."""
    scale = np.float32(0.1)
    for k in range(100):
        x = np.nextafter(np.float32((k + 0.5) * float(scale)), np.float32(0))
        exact = Fraction(float(x)) / Fraction(float(scale))
        if exact < k + Fraction(1, 2) == f(exact) and k % 2:
            return x, scale, k
    raise AssertionError


def test_a_quotient_rounded_to_float32_can_become_a_tie():
    x, scale, below = near_one_half()
    assert qualcomm.quantize(float32(x), float32(scale), zero_point=0, to=INT8) == below + 1
    params = AffineParams(scale=np.float64(scale), zero_point=np.array(0), range=INT8)
    assert quantize(np.float64(x), params) == below


@given(ROWS, st.sampled_from([4, 8]))
@example([0.0, 1.0], 8)
@example([-0.5, -0.25], 8)
@example([-1e-9, 2e-9], 8)  # a step below 1e-8
def test_qualcomm_s_codes_are_rationals_rounded_step_by_step(row, bits):
    low, high, top = f(min(*row, 0)), max(f(max(row)), EPS), 2**bits - 1
    delta = f(f(high - low) / top)
    zero_point = min(max(round(f(-low / delta)), 0), top)
    scale, found = qualcomm.asymmetric(float32(min(row)), float32(max(row)), bits=bits)
    assert (Fraction(float(encode(scale).view(np.float32))), int(found)) == (max(delta, EPS), zero_point)
    codes = [min(max(round(f(Fraction(x) / max(delta, EPS))) + zero_point, 0), top) for x in row]
    to = IntRange(bits, signed=False)
    assert qualcomm.quantize(float32(row), scale, zero_point=found, to=to).tolist() == codes

    signed = low < 0
    step = max(f(max(-low, high) / (2 ** (bits - signed) - 1)), EPS)
    scale, to = qualcomm.symmetric(float32(min(row)), float32(max(row)), bits=bits)
    assert to == IntRange(bits, signed=signed)
    assert Fraction(float(encode(scale).view(np.float32))) == step
    codes = [min(max(round(f(Fraction(x) / step)), to.min), to.max) for x in row]
    assert qualcomm.quantize(float32(row), scale, zero_point=0, to=to).tolist() == codes


def test_the_sign_is_decided_for_all_ranges_together():
    low, high = float32([0, 0.5]), float32([1, 2])
    assert qualcomm.symmetric(low, high, bits=8)[1] == UINT8
    scale, to = qualcomm.symmetric(float32([0, -0.5]), high, bits=8)
    assert (to, encode(scale).view(np.float32).tolist()) == (INT8, [np.float32(1) / 127, np.float32(2) / 127])


@given(ROWS, st.sampled_from([4, 8]))
@example([-1.5, 254.5], 8)  # the zero is a tie of steps
def test_deepspeed_s_codes_are_rationals_rounded_step_by_step(row, bits):
    count, x = 2**bits, [Fraction(each) for each in row]
    step = f(max(map(abs, x)) * Fraction(2, count))
    codes, scale = deepspeed.quantize_symmetric(float32(row), float32(np.abs(row).max()), bits=bits)
    assert Fraction(float(encode(scale).view(np.float32))) == step
    assert codes.tolist() == [min(max(round(f(each / step)), -count // 2), count // 2 - 1) for each in x]

    step = f(f(max(x) - min(x)) / count)
    zero = f(f(round(f(min(x) / step))) * step)
    codes, *found = deepspeed.quantize_asymmetric(float32(row), float32(min(row)), float32(max(row)), bits=bits)
    assert [Fraction(float(encode(each).view(np.float32))) for each in found] == [step, zero]
    assert codes.tolist() == [min(max(round(f(f(each - zero) / step)), 0), count - 1) for each in x]
