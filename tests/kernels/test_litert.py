# SPDX-License-Identifier: Apache-2.0
"""The rules of LiteRT's kernels where they part ways; that they are LiteRT's is shown by the witnesses."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernels import litert_bounds

from intsim.fixedpoint import INT8, INT16, INT32, Dyadic
from intsim.float32 import decode
from intsim.kernels import litert, litert_conversion, litert_elementwise, litert_nonlinear, litert_sigmoid
from intsim.ops import requantize
from intsim.requantization import RULES

ONE = Fraction(1)
rationals = st.fractions(min_value=Fraction(1, 2**40), max_value=2**40)
float32s = st.floats(2**-20, 2**6, width=32).map(Fraction)
accumulators = st.lists(st.integers(-(2**30), 2**30), min_size=1)


@given(rationals)
def test_nearest_is_what_a_float_holds(x):
    assert float(litert.nearest(x, litert.FLOAT64)) == x.numerator / x.denominator
    near = litert.nearest(x, litert.FLOAT32)
    assert np.float32(float(near)) == float(near)
    assert litert.nearest(-x, litert.FLOAT32) == -near
    assert abs(near - x) <= abs(Fraction(float(np.float32(float(x)))) - x)


def test_nearest_sends_ties_to_even():
    assert [litert.nearest(Fraction(2**24 + i), 24) for i in (0, 1, 3)] == [2**24, 2**24, 2**24 + 4]
    assert litert.nearest(Fraction(0), 24) == 0


def test_a_multiplier_is_renormalised_flushed_and_refused():
    assert litert.quantize_multiplier(ONE - Fraction(1, 2**33)) == Dyadic(2**30, 30)
    assert litert.quantize_multiplier(Fraction(1, 2**32)) == Dyadic(2**30, 62)
    assert litert.quantize_multiplier(Fraction(1, 2**32) - Fraction(1, 2**70)) == Dyadic(2**30, 62)
    assert litert.quantize_multiplier(Fraction(1, 2**32 + 2**10)) == Dyadic(0, 31)
    assert litert.quantize_multiplier(Fraction(0)) == Dyadic(0, 31)
    with pytest.raises(ValueError, match="shift must be in"):
        litert.quantize_multiplier(Fraction(2**31))


@example(ONE - Fraction(1, 2**20), ONE, [2**14 - 1, -(2**14)])
@given(st.floats(2**-20, 1, width=32).map(Fraction), st.floats(1, 16, width=32).map(Fraction), accumulators)
def test_the_named_rules_are_those_of_the_table(x_scale, y_scale, acc):
    acc, product = np.array(acc), litert.nearest(x_scale, litert.FLOAT32)
    real = float(litert.nearest(Fraction(product, y_scale), litert.FLOAT64))
    named = {
        "tflite-double": litert.requantize_gemmlowp,
        "tflite-int64": litert.requantize_int64,
        "xnnpack-fp32": litert.requantize_xnnpack,
    }
    for name, rule in named.items():
        expected = requantize(acc, RULES[name].ratio(real), to=INT16, rounding=RULES[name])
        assert rule(acc, [x_scale], y_scale).clip(INT16.min, INT16.max).tolist() == expected.tolist(), name


@given(float32s, float32s, st.lists(st.integers(-(2**40), 2**40), min_size=1))
def test_the_reference_is_a_float64_product_rounded(x_scale, y_scale, acc):
    product = np.array(acc) * float(litert.nearest(Fraction(x_scale, y_scale), litert.FLOAT64))
    whole = np.trunc(product)
    expected = whole + np.sign(product) * (np.abs(product - whole) >= 0.5)
    inside = np.abs(product) < 2**31
    got = litert.requantize_reference(np.array(acc), [x_scale], y_scale)
    assert got[inside].tolist() == expected[inside].tolist()


def test_ties_that_the_rules_send_apart():
    assert litert.requantize_reference(np.array([5]), [Fraction(3)], Fraction(10)).tolist() == [2]
    assert litert.requantize_reference(np.array([-5]), [Fraction(3)], Fraction(10)).tolist() == [-2]
    tie = np.array([-6])
    quarter = [Fraction(1, 4)]
    assert litert.requantize_reference(tie, quarter, ONE).tolist() == [-2]
    assert litert.requantize_gemmlowp(tie, quarter, ONE).tolist() == [-2]
    assert litert.requantize_ruy(tie, quarter, ONE).tolist() == [-1]
    assert litert.requantize_xnnpack(tie, quarter, ONE).tolist() == [-2]
    twice = np.array([7984])  # 11.499 becomes 11.5 first
    ratio = [Fraction(1583594044, 2**40)]
    assert litert.multiply_by_quantized_multiplier(twice, Dyadic(1583594044, 40)).tolist() == [12]
    assert litert.requantize_reference(twice, ratio, ONE).tolist() == [11]


def test_xnnpack_rounds_the_accumulator_to_float32_first():
    assert litert.requantize_xnnpack(np.array([2**24 + 1]), [Fraction(3, 4)], ONE).tolist() == [3 * 2**22]


def test_the_product_of_scales_is_rounded_for_one_scale_only():
    x, w = Fraction(float(np.float32(0.1))), Fraction(float(np.float32(0.3)))
    one, many = litert.multipliers([x * w], ONE), litert.multipliers([x * w, x * w], ONE)
    assert one.multiplier.tolist() != many.multiplier.tolist()[:1]
    assert one == litert.multipliers([litert.nearest(x * w, litert.FLOAT32)], ONE)


def test_the_optimized_sum_differs_in_whole_blocks_only():
    rng = np.random.default_rng(0)
    a_q, b_q = (rng.integers(-128, 128, 8007).astype(np.int8) for _ in range(2))
    settings = {"scales": (Fraction(3, 8), Fraction(7, 8), Fraction(1, 2)), "zero_points": (0, 0, 0), "to": INT8}
    differ = np.flatnonzero(
        litert_elementwise.add(a_q, b_q, **settings) != litert_elementwise.add_optimized(a_q, b_q, **settings)
    )
    assert differ.size
    few = differ[:15]
    short = litert_elementwise.add_optimized(a_q[few], b_q[few], **settings)
    assert (short == litert_elementwise.add(a_q[few], b_q[few], **settings)).all()


def test_the_optimized_product_wraps_where_the_reference_saturates():
    q = np.full(17, 127, np.int8)
    settings = {"scales": (ONE, ONE, Fraction(1, 4)), "zero_points": (0, 0, 1)}
    assert litert_elementwise.multiply(q, q, to=INT8, **settings).tolist() == [127] * 17
    assert litert_elementwise.multiply_optimized(q, q, **settings).tolist() == [-128] * 16 + [127]


def test_quantize_rounds_ties_three_ways():
    x = decode(np.array([0.5, 1.5, -0.5] * 3, np.float32).view(np.uint32))
    settings = {"scale": ONE, "zero_point": 0, "to": INT8}
    assert litert_conversion.quantize(x, **settings).tolist() == [1, 2, -1] * 3
    assert litert_conversion.quantize_xnnpack(x, **settings).tolist() == [0, 2, 0] * 3
    assert litert_conversion.quantize_optimized(x, **settings).tolist() == [0, 2, 0, 0, 2, 0, 0, 2, -1]


def test_softmax_of_the_longest_row_that_fits():
    """Of 16 bits until the sum leaves int32, of 8 until the quotient would be shifted by 32 bits."""
    for to, depth in ((INT16, 4095), (INT8, 511)):
        x_q = np.zeros((2, depth + 1), np.int8)
        assert set(litert_nonlinear.softmax(x_q[:, 1:], scale=ONE, to=to).flat) == {round(2**to.bits / depth) + to.min}
        with pytest.raises(
            ValueError, match=f"must sum to less than {depth + 1} for {to.bits}-bit .*, got {depth + 1}$"
        ):
            litert_nonlinear.softmax(x_q, scale=ONE, to=to)
    assert 4095 * 2**19 <= INT32.max < 4096 * 2**19
    one_hot = np.array([[127, -128, -128]], np.int8)
    assert litert_nonlinear.softmax(one_hot, scale=ONE, to=INT8).tolist() == [[127, -128, -128]]


@given(st.integers(470, 530), st.lists(st.integers(-127, -1), max_size=60))
@example(511, [-127])
@example(511, [-11] * 32)
@example(512, [])
def test_softmax_is_refused_where_exponentials_sum_to_512_whatever_the_length(flat, rest):
    row = np.array([[0] * flat + rest], np.int8)
    total = flat + sum(math.exp(d / 16) for d in rest)
    if total < 512 - 1e-3:
        litert_nonlinear.softmax(row, scale=Fraction(1, 16), to=INT8)
    elif total >= 512:
        with pytest.raises(ValueError, match="must sum to less than 512 for 8-bit probabilities, got 5"):
            litert_nonlinear.softmax(row, scale=Fraction(1, 16), to=INT8)
        few = np.arange(row.size) % 2 == 0
        litert_nonlinear.softmax(row, scale=Fraction(1, 16), to=INT8, mask=few)  # what is masked adds nothing


def test_softmax_is_refused_from_the_first_sum_that_does_not_fit():
    row, one = litert_bounds.just_below_512()
    settings = {"scale": litert_bounds.SCALE, "to": INT8}
    assert litert_nonlinear.softmax(np.array([row], np.int8), **settings)[0, 0] == -127  # 256 / 512 = 1/2, up
    with pytest.raises(ValueError, match=r"got 512$"):
        litert_nonlinear.softmax(np.array([[*row, one]], np.int8), **settings)


def test_the_sigmoid_table_bends_over_what_it_interpolates():
    table, i = litert_sigmoid.sigmoid_table(), np.arange(0, 250, 0.125)
    assert table[:4].tolist() == [32768, 33451, 34133, 34813]
    assert table[-2:].tolist() == [65534, 65535]
    interpolated = np.interp(i, np.arange(256), table)
    assert np.abs(interpolated - 2**16 / (1 + np.exp(-i / 24))).max() < 1.3


def test_tables_of_eight_bits_are_the_functions_they_stand_for():
    x_q = np.arange(-128, 128).astype(np.int8)
    x = x_q / 32
    y = litert_sigmoid.logistic(x_q, scale=Fraction(1, 32), zero_point=0)
    assert np.abs((y.astype(int) + 128) / 256 - 1 / (1 + np.exp(-x))).max() <= 1 / 512 + 1e-6
    y = litert_sigmoid.tanh(x_q, scales=(Fraction(1, 32), Fraction(1, 64)), zero_points=(0, 0))
    assert np.abs(y / 64 - np.tanh(x)).max() <= 1 / 128 + 1e-6
    far = litert_sigmoid.logistic(x_q, scale=ONE, zero_point=127)
    assert far[[0, -1]].tolist() == [-128, 0]


# one rounding


def once(x, ratio):
    """Halves up, of the exact product with the multiplier, saturated at 2**30."""
    if ratio.shift == 0:
        return math.floor(x * Fraction(2**31 - 1, 2) + Fraction(1, 2))
    return math.floor(Fraction(x * int(ratio.multiplier), 2 ** int(ratio.shift)) + Fraction(1, 2))


@given(st.integers(-(2**31), 2**31 - 1), rationals.filter(lambda real: real < 2**31))
@example(7984, Fraction(1583594044, 2**40))  # 11.499, which two roundings make 12 of
@example(-3, Fraction(1, 2))
@example(1, Fraction(2**30))
@example(-1, Fraction(2**31 - 1))
def test_single_rounding_is_one_rounding_of_the_product(x, real):
    ratio = litert.quantize_multiplier(real)
    assert litert.multiply_by_quantized_multiplier_single(np.array([x]), ratio).tolist() == [once(x, ratio)]


def test_every_operator_takes_single_rounding():
    rng = np.random.default_rng(0)
    single = litert.multiply_by_quantized_multiplier_single
    mbqm = litert.multiply_by_quantized_multiplier
    a_q, b_q = (rng.integers(-128, 128, 20_000).astype(np.int8) for _ in range(2))
    wide = rng.integers(-20, 20, (500, 40)).astype(np.int16)
    three = {"scales": (Fraction(3, 8), Fraction(7, 8), Fraction(1, 2)), "zero_points": (1, 2, 3), "to": INT8}
    two = {"scales": (Fraction(3, 8), ONE), "zero_points": (1, 2), "to": INT8}
    small, x = litert.nearest(Fraction(3, 65_535), litert.FLOAT32), a_q.reshape(-1, 10)  # 3/10 of the unit

    def results(mbqm, requantize):
        yield litert_elementwise.add(a_q, b_q, **three, mbqm=mbqm)
        yield litert_elementwise.multiply(a_q, b_q, **three | {"scales": (ONE, ONE, Fraction(64))}, mbqm=mbqm)
        yield litert_nonlinear.mean(x, **two, mbqm=mbqm)
        yield litert_nonlinear.softmax_int16(wide, scale=small, mbqm=mbqm)
        yield litert_conversion.requantize(a_q, **two, mbqm=mbqm)
        yield litert_conversion.leaky_relu(a_q, alpha=Fraction(1, 4), **two, mbqm=mbqm)
        settings = {"scales": (ONE, [ONE], Fraction(64)), "zero_points": (0, 0, 0), "to": INT8}
        yield litert.matmul(x[:100], x[100:200], **settings, requantize=requantize)

    one = list(results(single, litert.requantize_single))
    both = list(results(mbqm, litert.requantize_gemmlowp))
    assert [bool((a != b).any()) for a, b in zip(one, both, strict=True)] == [True] * 7
    difference, ratio = a_q.astype(int) - 1, litert.quantize_multiplier(Fraction(3, 8))
    assert one[4].tolist() == [min(max(once(each, ratio) + 2, -128), 127) for each in difference.tolist()]
    product, ratio = (a_q.astype(int) - 1) * (b_q.astype(int) - 2), litert.quantize_multiplier(Fraction(1, 64))
    assert one[1].tolist() == [min(max(once(each, ratio) + 3, -128), 127) for each in product.tolist()]
    high = [
        [once(each << 20, litert.quantize_multiplier(share)) for each in (q.astype(int) - zero).tolist()]
        for q, share, zero in ((a_q, Fraction(3, 14), 1), (b_q, Fraction(1, 2), 2))
    ]
    last = litert.quantize_multiplier(Fraction(7, 2**21))
    assert one[0].tolist() == [min(max(once(a + b, last) + 3, -128), 127) for a, b in zip(*high, strict=True)]
