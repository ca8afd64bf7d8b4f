# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import numpy as np
import oracle
import pytest
from edges import (
    MAX_MULTIPLIER,
    RANGES,
    dyadics,
    edge_integers,
    every_other_dtype_than_integers,
    every_rounding,
    near_tie,
    per_channel,
    ranges,
)
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import INT8, INT32, UINT8, Dyadic, Rounding
from intsim.ops import requantize
from intsim.requantization import RULES

INT32_EDGES = [-(2**31), -(2**31) + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30, 2**31 - 2, 2**31 - 1]
accumulators = st.lists(edge_integers(-(2**31), 2**31 - 1), min_size=1, max_size=8)


def expected(acc, pairs, rounding, *, zero_point, to):
    return [
        oracle.requantize(x, m, t, zero_point=zero_point, lo=to.min, hi=to.max, rounding=rounding)
        for x, (m, t) in zip(acc, pairs, strict=True)
    ]


@every_rounding
@given(acc=accumulators, pair=dyadics(), to=ranges, data=st.data())
def test_a_tensor_is_requantized_as_the_oracle_does_it(rounding, acc, pair, to, data):
    zero_point = data.draw(edge_integers(to.min, to.max))
    y = requantize(np.array(acc, np.int32), Dyadic(*pair), to=to, rounding=rounding, zero_point=zero_point)
    assert y.dtype == to.dtype
    assert y.tolist() == expected(acc, [pair] * len(acc), rounding, zero_point=zero_point, to=to)


@every_rounding
@given(channels=st.lists(st.tuples(edge_integers(-(2**31), 2**31 - 1), dyadics()), min_size=1, max_size=8), to=ranges)
def test_every_channel_has_its_own_ratio(rounding, channels, to):
    acc, pairs = zip(*channels, strict=True)
    rows = np.array([acc, acc[::-1]], np.int32)
    y = requantize(rows, per_channel(pairs), to=to, rounding=rounding)
    assert y.tolist() == [expected(row, pairs, rounding, zero_point=0, to=to) for row in (acc, acc[::-1])]


@every_rounding
@given(k=edge_integers(-(2**15), 2**15), shift=st.integers(1, 15), step=st.integers(-1, 1))
@example(k=-1, shift=1, step=0)
def test_ties_go_where_the_rounding_says(rounding, k, shift, step):
    acc = near_tie(k, shift, step)
    for multiplier, total_shift in ((1, shift), (2**30, shift + 30), (2**16, shift + 16)):
        y = requantize(np.array([acc], np.int32), Dyadic(multiplier, total_shift), to=INT32, rounding=rounding)
        assert y.tolist() == [oracle.rounding_shift(acc, shift, rounding)]


@every_rounding
@pytest.mark.parametrize("multiplier", [MAX_MULTIPLIER, -MAX_MULTIPLIER, 2**30, 1, 0])
def test_the_ends_of_int32_are_exact_with_every_shift(rounding, multiplier):
    acc = np.array(INT32_EDGES, np.int32)
    for shift in range(63):
        y = requantize(acc, Dyadic(multiplier, shift), to=INT32, rounding=rounding)
        assert y.tolist() == expected(INT32_EDGES, [(multiplier, shift)] * len(acc), rounding, zero_point=0, to=INT32)


def test_the_anchor_case_is_rounded_once():
    """7984 * 1583594044 / 2**40 = 11.4999...: rounding twice, as gemmlowp does, gives 12."""
    x, m = 7984, 1583594044
    assert requantize(np.array([x], np.int32), Dyadic(m, 40), to=INT8, rounding=Rounding.HALF_UP).tolist() == [11]
    assert 2 * (x * m % 2**40) < 2**40
    high = oracle.rounding_shift(x * m, 31, "half-up")
    assert oracle.rounding_shift(high, 9, "half-away") == 12


@pytest.mark.parametrize("to", RANGES, ids=str)
def test_requantize_saturates_instead_of_wrapping(to):
    acc = np.array([-(2**31), 2**31 - 1], np.int32)
    for zero_point in (to.min, to.max):
        y = requantize(acc, Dyadic(2**30, 28), to=to, rounding=Rounding.HALF_UP, zero_point=zero_point)
        assert y.tolist() == [to.min, to.max]


def test_the_zero_point_stands_for_0():
    y = requantize(np.zeros((2, 3), np.int32), Dyadic(5, 3), to=UINT8, rounding=Rounding.HALF_EVEN, zero_point=117)
    assert y.tolist() == [[117] * 3] * 2


@every_rounding
def test_requantize_is_monotone(rounding):
    acc = np.arange(-(2**15), 2**15, dtype=np.int32)
    for pair in ((2**30, 37), (1583594044, 38), (3, 2)):
        y = requantize(acc, Dyadic(*pair), to=INT32, rounding=rounding)
        assert (np.diff(y) >= 0).all()


def test_a_ratio_of_one_changes_nothing():
    acc = np.array(INT32_EDGES, np.int32)
    for rounding in Rounding:
        assert requantize(acc, Dyadic(2**30, 30), to=INT32, rounding=rounding).tolist() == INT32_EDGES


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_every_integer_dtype_gives_the_same_codes(dtype):
    acc = np.array([0, 1, 5, 100], dtype)
    assert requantize(acc, Dyadic(3, 2), to=INT8, rounding=Rounding.HALF_UP).tolist() == [0, 1, 4, 75]


def test_a_batch_is_the_stack_of_its_rows():
    rng = np.random.default_rng(0)
    acc = rng.integers(-(2**31), 2**31, (3, 5, 7)).astype(np.int32)
    ratio = Dyadic(rng.integers(1, 2**31, 7), rng.integers(20, 60, 7))
    y = requantize(acc, ratio, to=INT8, rounding=Rounding.HALF_EVEN)
    for index in np.ndindex(3, 5):
        assert np.array_equal(y[index], requantize(acc[index], ratio, to=INT8, rounding=Rounding.HALF_EVEN))


def test_an_empty_tensor_stays_empty():
    y = requantize(np.empty((0, 4), np.int32), Dyadic(1, 1), to=INT8, rounding=Rounding.FLOOR)
    assert (y.shape, y.dtype) == ((0, 4), np.int8)


def test_a_product_beyond_int64_is_refused():
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        requantize(np.array([2**33]), Dyadic(2**30, 0), to=INT8, rounding=Rounding.FLOOR)


@pytest.mark.parametrize("name", ["tflite-double", "ruy", "onnx-qlinear", "ita", "dyadic"])
def test_an_addend_is_added_to_the_product_under_every_rule_on_integers(name):
    into = {"to": INT8, "rounding": RULES[name], "addend": np.array([40 << 31, -(8 << 31)])}
    assert requantize(np.array([3, 3]), Dyadic(2**30, 32), **into).tolist() == [21, -3]  # (3 / 2 +- ...) / 2


def test_a_product_and_addend_of_2_to_62_are_refused_by_a_rule():
    rule, ratio = RULES["tflite-double"], Dyadic(2**30, 62)
    into = {"to": INT8, "rounding": rule}
    assert requantize(np.array([2**32 - 1]), ratio, addend=np.array([2**30 - 1]), **into).tolist() == [1]
    for acc, addend in ((2**32, None), (2**32 - 1, np.array([2**30])), (-(2**32) + 1, np.array([-(2**30)]))):
        with pytest.raises(ValueError, match=rf"must stay below 2\*\*62, got a bound of {2**62}"):
            requantize(np.array([acc]), ratio, addend=addend, **into)


@pytest.mark.parametrize("multipliers", [[1, 2**30], [-(2**30), 1]])
def test_the_bound_of_a_rule_is_that_of_its_largest_multiplier_of_any_sign(multipliers):
    with pytest.raises(ValueError, match=rf"must stay below 2\*\*62, got a bound of {2**62}"):
        requantize(np.array([1, 2**32]), Dyadic(multipliers, [62, 62]), to=INT8, rounding=RULES["tflite-double"])


@pytest.mark.parametrize("name", ["tflite-double", "ruy"])
@pytest.mark.parametrize("shift", [30, 31, 32, 33, 36])
def test_the_first_of_two_roundings_drops_31_bits(name, shift):
    multiplier, rule = 2**30 + 12_345, RULES[name]
    acc = np.arange(-3000, 3000)
    first = [oracle.round_fraction(Fraction(x * multiplier, 2 ** min(shift, 31)), "half-up") for x in acc.tolist()]
    both = [oracle.round_fraction(Fraction(x, 2 ** max(shift - 31, 0)), rule.rounding.value) for x in first]
    assert requantize(acc, Dyadic(multiplier, shift), to=INT32, rounding=rule).tolist() == both


@pytest.mark.parametrize("rule", [Rounding.HALF_UP, RULES["ruy"]], ids=["one rounding", "two roundings"])
def test_an_addend_of_reals_is_refused(rule):
    with pytest.raises(TypeError, match="addend must have an integer dtype that fits int64"):
        requantize(np.zeros(3, np.int32), Dyadic(1, 1), to=INT8, rounding=rule, addend=np.zeros(3))


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="acc must have an integer dtype that fits int64"):
        requantize(np.zeros(3, dtype), Dyadic(1, 1), to=INT8, rounding=Rounding.FLOOR)


def test_the_rounding_has_no_default():
    with pytest.raises(TypeError, match="rounding"):
        requantize(np.zeros(3, np.int32), Dyadic(1, 1), to=INT8)  # type: ignore[call-arg]
