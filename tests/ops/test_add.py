# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import oracle
import pytest
from edges import (
    both_presets,
    dyadics,
    edge_integers,
    every_other_dtype_than_integers,
    every_rounding,
    per_channel,
    ranges,
)
from hypothesis import given
from hypothesis import strategies as st

from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, Rounding
from intsim.ops import add
from intsim.profile import IBERT, INTSIM

int16s = edge_integers(-(2**15), 2**15 - 1)


def expected(operands, pairs, profile, *, zero_point, to):
    once = profile.sum == "once"
    arguments = {"zero_point": zero_point, "lo": to.min, "hi": to.max, "rounding": profile.rounding, "once": once}
    return [oracle.add(list(xs), pairs, **arguments) for xs in zip(*operands, strict=True)]


@st.composite
def sums(draw, *, common_shift):
    """Columns of one to three operands with their dyadics, no rescaled operand beyond int32."""
    count = draw(st.integers(1, 3))
    pairs = [draw(dyadics(max_multiplier=2**30)) for _ in range(count)]
    pairs = [(m, max(t, m.bit_length() - 16, 0)) for m, t in pairs]
    if common_shift:
        pairs = [(m, max(t for _, t in pairs)) for m, _ in pairs]
    size = draw(st.integers(1, 5))
    operands = [draw(st.lists(int16s, min_size=size, max_size=size)) for _ in pairs]
    return operands, pairs


@every_rounding
@given(case=sums(common_shift=True), to=ranges, data=st.data())
def test_a_sum_rounded_once_is_that_of_the_oracle(rounding, case, to, data):
    operands, pairs = case
    profile = replace(INTSIM, rounding=rounding)
    zero_point = data.draw(edge_integers(to.min, to.max))
    arrays, ratios = [np.array(x, np.int16) for x in operands], [Dyadic(*pair) for pair in pairs]
    y = add(arrays, ratios, to=to, profile=profile, zero_point=zero_point)
    assert y.dtype == to.dtype
    assert y.tolist() == expected(operands, pairs, profile, zero_point=zero_point, to=to)


@every_rounding
@given(case=sums(common_shift=False), to=ranges, data=st.data())
def test_a_sum_of_rounded_operands_is_that_of_the_oracle(rounding, case, to, data):
    operands, pairs = case
    profile = replace(IBERT, rounding=rounding)
    zero_point = data.draw(edge_integers(to.min, to.max))
    arrays, ratios = [np.array(x, np.int16) for x in operands], [Dyadic(*pair) for pair in pairs]
    y = add(arrays, ratios, to=to, profile=profile, zero_point=zero_point)
    assert y.dtype == to.dtype
    assert y.tolist() == expected(operands, pairs, profile, zero_point=zero_point, to=to)


@both_presets
@given(data=st.data())
def test_an_int32_accumulator_and_a_residual_are_added_as_the_oracle_adds_them(profile, data):
    size = data.draw(st.integers(1, 4))
    acc = data.draw(st.lists(edge_integers(-(2**31), 2**31 - 1), min_size=size, max_size=size))
    skip = data.draw(st.lists(int16s, min_size=size, max_size=size))
    shift = data.draw(st.integers(30, 60))
    multipliers = data.draw(st.lists(edge_integers(1, 2**30), min_size=size, max_size=size))
    residual = data.draw(edge_integers(1, 2**30))
    y = add(
        [np.array(acc, np.int32), np.array(skip, np.int16)],
        [per_channel([(m, shift) for m in multipliers]), Dyadic(residual, shift)],
        to=INT16,
        profile=profile,
        zero_point=-3,
    )
    columns = zip(acc, skip, multipliers, strict=True)
    assert y.tolist() == [
        expected([[a], [x]], [(m, shift), (residual, shift)], profile, zero_point=-3, to=INT16)[0]
        for a, x, m in columns
    ]


def test_once_and_each_differ_where_two_halves_meet():
    x, half = np.array([1, 3, -1, -3]), Dyadic(1, 1)
    once = replace(INTSIM, rounding=Rounding.HALF_UP)
    each = replace(once, sum="each")
    assert add([x, x], [half, half], to=INT8, profile=once).tolist() == [1, 3, -1, -3]
    assert add([x, x], [half, half], to=INT8, profile=each).tolist() == [2, 4, 0, -2]
    assert add([x, x], [half, half], to=INT8, profile=replace(each, rounding=Rounding.HALF_EVEN)).tolist() == [
        0,
        4,
        0,
        -4,
    ]
    assert add([x, x], [half, half], to=INT8, profile=replace(each, rounding=Rounding.FLOOR)).tolist() == [0, 2, -2, -4]


def test_the_presets_differ_in_where_they_round():
    operands, ratios = [np.array([1]), np.array([1]), np.array([1])], [Dyadic(1, 1)] * 3
    assert add(operands, ratios, to=INT8, profile=INTSIM).tolist() == [2]  # 1.5, ties up
    assert add(operands, ratios, to=INT8, profile=IBERT).tolist() == [0]  # 0.5 three times, ties to even


@both_presets
def test_operands_broadcast_to_the_first(profile):
    rng = np.random.default_rng(0)
    words, positions, types = (
        rng.integers(-128, 128, shape).astype(np.int8) for shape in ((3, 5, 7), (5, 7), (3, 5, 7))
    )
    ratios = Dyadic.aligned(0.7, 0.3, 0.1)
    y = add([words, positions, types], ratios, to=INT16, profile=profile)
    whole = add([words, np.broadcast_to(positions, words.shape), types], ratios, to=INT16, profile=profile)
    assert y.shape == (3, 5, 7)
    assert np.array_equal(y, whole)
    assert np.array_equal(y[1], add([words[1], positions, types[1]], ratios, to=INT16, profile=profile))


@both_presets
def test_add_saturates_instead_of_wrapping(profile):
    x = np.array([127, -128], np.int8)
    assert add([x, x], [Dyadic(1, 0)] * 2, to=INT8, profile=profile).tolist() == [127, -128]
    assert add([x, x], [Dyadic(1, 0)] * 2, to=INT16, profile=profile).tolist() == [254, -256]


def test_a_rescaled_operand_saturates_at_int32_before_the_sum_of_each():
    x, ratio = np.array([2**31 - 1], np.int32), Dyadic(2, 0)
    assert add([x, -x], [ratio, ratio], to=INT8, profile=IBERT).tolist() == [-1]  # documented under Bounds
    assert add([x, -x], [ratio, ratio], to=INT8, profile=INTSIM).tolist() == [0]


def test_operands_that_fill_int32_do_not_wrap_in_their_sum():
    x, one = np.array([2**31 - 1, -(2**31)], np.int32), Dyadic(1, 0)
    for profile in (IBERT, INTSIM):
        assert add([x, x], [one, one], to=INT32, profile=profile).tolist() == [2**31 - 1, -(2**31)]
        assert add([x, x], [one, one], to=INT8, profile=profile).tolist() == [127, -128]


def test_once_refuses_ratios_of_different_shifts():
    x = np.array([1])
    with pytest.raises(ValueError, match="ratios must share one shift"):
        add([x, x], [Dyadic(1, 1), Dyadic(1, 2)], to=INT8, profile=INTSIM)
    assert add([x, x], [Dyadic(1, 1), Dyadic(1, 2)], to=INT8, profile=IBERT).tolist() == [0]


@both_presets
def test_a_ratio_per_operand_is_required(profile):
    x = np.array([1])
    with pytest.raises(ValueError, match="zip"):
        add([x, x], [Dyadic(1, 1)], to=INT8, profile=profile)


def test_once_refuses_a_sum_beyond_int64():
    x = np.array([2**31 - 1], np.int32)
    ratio = Dyadic(2**31 - 1, 0)
    assert add([x], [ratio], to=INT32, profile=INTSIM).tolist() == [2**31 - 1]
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        add([x, x, x], [ratio] * 3, to=INT32, profile=INTSIM)


@both_presets
@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(profile, dtype):
    x, ratio = np.zeros(3, np.int8), Dyadic(1, 1)
    with pytest.raises(TypeError, match=r"operands\[1\] must have an integer dtype that fits int64"):
        add([x, np.zeros(3, dtype)], [ratio, ratio], to=INT8, profile=profile)


def test_one_rounded_operand_at_the_end_of_int32_and_a_zero_point_saturate():
    y = add([np.array([2**31 - 2], np.int32)], [Dyadic(1, 0)], to=INT8, profile=IBERT, zero_point=5)
    assert y.tolist() == [127]
