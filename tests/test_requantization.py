# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim import strategies
from intsim.fixedpoint import INT8, INT32, Dyadic, Rounding
from intsim.ops import requantize
from intsim.requantization import RULES, Requantization

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))


def test_the_rules_of_the_specification_are_there():
    assert list(RULES) == [
        *("dyadic", "hawq", "tflite-double", "ruy", "tflite-single", "tvm-tonearest", "tflite-int64", "ita"),
        *("pulp-rqs", "pulp-nn", "onnx-qlinear", "xnnpack-fp32", "gemmini", "xnnpack-rndnu"),
    ]


def test_every_rule_is_the_point_that_its_source_gives():
    """Width of the multiplier, what it is rounded from, width of the accumulator, arithmetic, rounding, zero point."""
    real, binary, once, after = "real", "binary32", "one-rounding", "after"
    points = {
        rule.name: tuple(value for name, value in rule.to_json().items() if name != "name") for rule in RULES.values()
    }
    assert points == {
        "dyadic": (31, real, 64, once, "half-up", after),
        "hawq": (31, real, 64, once, "half-even", after),
        "tflite-double": (31, real, 64, "two-roundings", "half-away", after),
        "ruy": (31, real, 64, "two-roundings", "half-up", after),
        "tflite-single": (31, real, 64, once, "half-up", after),
        "tvm-tonearest": (31, real, 64, once, "half-away", after),
        "tflite-int64": (15, "31-bit", 64, once, "half-up", after),
        "ita": (7, real, 26, once, "half-up", after),
        "pulp-rqs": (31, real, 64, once, "half-up", after),
        "pulp-nn": (15, real, 64, once, "floor", after),
        "onnx-qlinear": (24, binary, 64, once, "half-even", "before"),
        "xnnpack-fp32": (24, binary, 64, binary, "half-even", after),
        "gemmini": (24, binary, 64, binary, "half-even", after),
        "xnnpack-rndnu": (24, binary, 64, once, "half-up", after),
    }


def test_one_rounding_is_one_of_whole_accumulators_with_the_zero_point_after_it():
    others = {"tflite-double", "ruy", "ita", "onnx-qlinear", "xnnpack-fp32", "gemmini"}
    assert {name for name, rule in RULES.items() if not rule.is_one_rounding} == others
    assert not replace(RULES["dyadic"], accumulator_bits=63).is_one_rounding


@given(
    rule=strategies.requantizations(),
    data=st.data(),
    ratio=strategies.dyadics(shape=()),
    to=strategies.int_ranges(),
)
def test_any_rule_gives_what_the_oracle_gives(rule, data, ratio, to):
    acc = data.draw(strategies.accumulators(ratio, shape=(2, 4)))
    zero_point = data.draw(strategies.codes(to))
    y = requantize(acc, ratio, to=to, rounding=rule, zero_point=zero_point)
    m, t = int(ratio.multiplier), int(ratio.shift)
    into = {"zero_point": zero_point, "lo": to.min, "hi": to.max, "rounding": rule.to_json()}
    assert y.dtype == to.dtype
    assert y.tolist() == [[oracle.requantize(x, m, t, **into) for x in row] for row in acc.tolist()]


@given(rule=strategies.requantizations(), data=st.data())
def test_every_channel_has_its_own_ratio_and_addend(rule, data):
    pairs = data.draw(
        st.lists(st.tuples(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, 62)), min_size=3, max_size=3)
    )
    ratio = Dyadic(*map(np.array, zip(*pairs, strict=True)))
    acc = data.draw(strategies.code_arrays(INT32, shape=(2, 3)))
    addend = np.array(data.draw(st.lists(st.integers(-(2**61), 2**30), min_size=3, max_size=3)))
    if rule.arithmetic == "binary32":
        with pytest.raises(ValueError, match="addend must be left out"):
            requantize(acc, ratio, to=INT8, rounding=rule, addend=addend)
        addend = np.zeros(3, np.int64)
        y = requantize(acc, ratio, to=INT8, rounding=rule)
    else:
        addend = addend >> 1
        y = requantize(acc >> 1, ratio, to=INT8, rounding=rule, addend=addend)
        acc = acc >> 1
    into = {"zero_point": 0, "lo": -128, "hi": 127, "rounding": rule.to_json()}
    assert y.tolist() == [
        [oracle.requantize(x, m, t, **into, addend=int(a)) for x, (m, t), a in zip(row, pairs, addend, strict=True)]
        for row in acc.tolist()
    ]


def test_the_anchor_case_tells_one_rounding_from_two():
    """7984 * 1583594044 / 2**40 = 11.4999..., of which gemmlowp's first rounding makes 11.5."""
    acc, ratio = np.array([7984]), Dyadic(1583594044, 40)
    given = {name: int(requantize(acc, ratio, to=INT8, rounding=rule)[0]) for name, rule in RULES.items()}
    assert {name for name, code in given.items() if code == 12} == {"tflite-double", "ruy"}


def test_a_zero_point_before_rounding_decides_where_a_tie_goes():
    acc, half = np.array([-5, -3, -1, 1, 3, 5]), Dyadic(1, 1)
    before = requantize(acc, half, to=INT8, rounding=RULES["onnx-qlinear"], zero_point=1)
    after = requantize(acc, half, to=INT8, rounding=Rounding.HALF_EVEN, zero_point=1)
    assert before.tolist() == [-2, 0, 0, 2, 2, 4]
    assert after.tolist() == [-1, -1, 1, 1, 3, 3]


def test_float32_forgets_the_last_bit_of_a_long_accumulator():
    acc = np.array([2**24 + 1, 2**24 + 3])
    assert requantize(acc, Dyadic(1, 0), to=INT32, rounding=RULES["xnnpack-fp32"]).tolist() == [2**24, 2**24 + 4]
    assert requantize(acc, Dyadic(1, 0), to=INT32, rounding=RULES["xnnpack-rndnu"]).tolist() == acc.tolist()


def test_a_26_bit_accumulator_saturates_first():
    acc = np.array([2**25 - 1, 2**25, 2**31 - 1, -(2**25) - 1, -(2**31)])
    y = requantize(acc, Dyadic(127, 6), to=INT32, rounding=RULES["ita"])
    assert (
        y.tolist()
        == requantize(acc.clip(-(2**25), 2**25 - 1), Dyadic(127, 6), to=INT32, rounding=Rounding.HALF_UP).tolist()
    )


@every_rule
@given(ratio=st.floats(2.0**-30, 2.0**6))
def test_a_ratio_keeps_the_bits_its_rule_says(rule, ratio):
    pair = rule.ratio(ratio)
    m, t = int(pair.multiplier), int(pair.shift)
    real = Fraction(float(np.float32(ratio)) if rule.multiplier_from == "binary32" else ratio)
    if rule.multiplier_from == "31-bit":
        wide, t_wide = oracle.dyadic_from_real(real)
        assert (m, t) == (min(oracle.rounding_shift(wide, 16, "half-up"), 0x7FFF), t_wide - 16)
    else:
        assert (m, t) == oracle.dyadic_from_real(real, rule.multiplier_bits)


def test_the_16_bit_multiplier_saturates_instead_of_renormalising():
    just_below_one = RULES["tflite-int64"].ratio(1 - 2.0**-20)
    assert (int(just_below_one.multiplier), int(just_below_one.shift)) == (0x7FFF, 15)
    assert RULES["tflite-int64"].ratio(2.0**14) == Dyadic(2**14, 0)


@pytest.mark.parametrize("ratio", [2.0**15, 2.0**20, [1.0, 2.0**15]])
def test_a_ratio_beyond_the_16_bit_multiplier_is_refused(ratio):
    with pytest.raises(ValueError, match="must be"):
        RULES["tflite-int64"].ratio(ratio)


@every_rule
def test_a_rule_survives_json(rule):
    assert Requantization.from_json(rule.to_json()) == rule


@pytest.mark.parametrize("data", [[], "dyadic", None])
def test_what_is_no_object_is_refused_by_name(data):
    with pytest.raises(TypeError, match="requantization must be"):
        Requantization.from_json(data)


@pytest.mark.parametrize(
    "change",
    [
        {"multiplier_bits": 3},
        {"multiplier_bits": 32},
        {"accumulator_bits": 7},
        {"accumulator_bits": 65},
        {"arithmetic": "binary32"},
    ],
    ids=str,
)
def test_a_rule_out_of_range_is_refused(change):
    with pytest.raises(ValueError, match="must be"):
        Requantization(name="mine", rounding=Rounding.HALF_UP, **change)


def test_a_rule_at_the_ends_of_its_ranges_is_taken():
    for name, ends in {"multiplier_bits": (4, 31), "accumulator_bits": (8, 64)}.items():
        for bits in ends:
            rule = Requantization(name="mine", rounding=Rounding.HALF_UP, **{name: bits})
            assert getattr(rule, name) == bits


@pytest.mark.parametrize(
    "change", [{"rounding": "half-up"}, {"multiplier_bits": True}, {"zero_point": "between"}], ids=str
)
def test_a_rule_of_other_types_is_refused(change):
    with pytest.raises(TypeError, match="must be"):
        Requantization(**{"name": "mine", "rounding": Rounding.HALF_UP, **change})
