# SPDX-License-Identifier: Apache-2.0
"""What operators record of their insides at the level of steps, by name, against the equations on Python integers."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import both_presets

from intsim import ops, trace
from intsim._trace import call
from intsim.fixedpoint import INT8, INT16, Dyadic, Rounding
from intsim.ops import LayerNormParams
from intsim.profile import IBERT, INTSIM, PROFILES
from intsim.requantization import RULES


def steps(operator, *operands, **constants):
    with trace("steps") as taken:
        call("x", operator, *operands, **constants)
    return {name.removeprefix("x:"): values.tolist() for name, values in taken.items() if name != "x"}


@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, RULES["onnx-qlinear"]], ids=["rounding", "rule"])
def test_requantize_records_the_product_and_what_is_rounded_before_it_saturates(rounding):
    acc, bias = np.array([[-5, 7, 200]]), np.array([0, 0, 4])
    taken = steps(ops.requantize, acc, Dyadic(3, 2), to=INT8, rounding=rounding, zero_point=1, addend=bias)
    assert taken == {"product": [[-15, 21, 604]], "rounded": [[-3, 6, 152]]}


def test_a_sum_rounded_once_records_its_products_as_one():
    operands, ratios = [np.array([1, 100]), np.array([2, 100])], [Dyadic(1, 1), Dyadic(3, 1)]
    taken = steps(ops.add, operands, ratios, to=INT8, profile=INTSIM, zero_point=5)
    assert taken == {"product": [7, 400], "rounded": [9, 205]}


@both_presets
def test_exp_records_its_range_reduction_and_its_polynomial(profile):
    x = [0, -1, -50, -(2**15)]
    q_ln2, q_b, q_c = profile.exp.constants(profile.step_rounding)
    q = [value << profile.exp.guard_bits for value in x]
    z = [-value // q_ln2 for value in q]
    p = [value + times * q_ln2 for value, times in zip(q, z, strict=True)]
    polynomial = [(value + q_b) ** 2 + q_c for value in p]
    taken = steps(ops.exp, np.array(x, np.int16), profile=profile)
    assert taken == {"exp.z": z, "exp.p": p, "exp.polynomial": polynomial}


@both_presets
def test_gelu_records_its_polynomial_and_its_product(profile):
    x = [0, 1, -1, 1000, -(2**15), 2**15 - 1]
    q_b, q_1 = profile.gelu.constants(profile.step_rounding)
    q_erf = [((value > 0) - (value < 0)) * ((min(abs(value), -q_b) + q_b) ** 2 + q_1) for value in x]
    product = [-value * (erf + q_1) for value, erf in zip(x, q_erf, strict=True)]
    assert steps(ops.gelu, np.array(x, np.int16), profile=profile) == {"q_erf": q_erf, "product": product}


@both_presets
def test_softmax_records_what_exp_reads_and_gives_and_its_sum(profile):
    acc, mask = np.array([[3, 7, -2]]), np.array([[True, True, False]])
    taken = steps(ops.softmax, acc, Dyadic(5, 0), profile=profile, mask=mask)
    e = [oracle.exp(x, profile.to_json()) for x in (-20, 0)]
    assert taken["exp.x_q"] == [[-20, 0, 0]]
    assert taken["exp"] == [[*e, 0]]
    assert taken["sum"] == [[sum(e)]]
    assert {"exp.z", "exp.p", "exp.polynomial"} <= taken.keys()


def test_softmax_of_another_project_records_what_it_reads():
    profile = next(p for p in PROFILES.values() if p.softmax.__class__ is not INTSIM.softmax.__class__)
    taken = steps(ops.softmax, np.array([[3, 7, -2]]), Dyadic(1, 0), profile=profile)
    assert taken["x_q"] == [[3, 7, -2]]


def test_layer_norm_records_every_value_of_its_equations():
    params = LayerNormParams(weight=Dyadic([2, 2, 2], [3] * 3), bias=np.array([8, -8, 0]), eps=1)
    x = np.array([[-1, 0, 1]], np.int8)
    normalised = [-98304, 0, 98304]
    assert steps(ops.layer_norm, x, params, to=INT16, profile=INTSIM) == {
        "centred": [[-3, 0, 3]],
        "variance": [[7]],
        "std": [[2]],
        "normalised": [normalised],
        "product": [[2 * normalised[0] + 8, -8, 2 * normalised[2]]],
        "rounded": [[-24575, -1, 24576]],
    }
    wide = steps(ops.layer_norm, x.astype(np.int32) << 20, params, to=INT16, profile=INTSIM)
    assert wide["centred"] == [[-3 << 20, 0, 3 << 20]]
    taken = steps(ops.layer_norm, x, params, to=INT16, profile=replace(IBERT, step_rounding=Rounding.FLOOR))
    assert (taken["centred"], taken["variance"], taken["std"]) == ([[-1, 0, 1]], [[1]], [[1]])
    eight = LayerNormParams(weight=Dyadic([2] * 8, [3] * 8), bias=np.zeros(8, np.int64), eps=1)
    ends = np.array([[2**15 - 1] + [-(2**15)] * 7], np.int16)  # the square of the first, centred, passes int32
    taken = steps(ops.layer_norm, ends, eight, to=INT16, profile=IBERT)
    assert taken["centred"] == [[57_343] + [-8_192] * 7]
    assert taken["variance"] == [[(57_343**2 + 7 * 8_192**2) // 8 + 1]]
