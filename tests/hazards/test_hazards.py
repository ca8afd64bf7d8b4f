# SPDX-License-Identifier: Apache-2.0
"""One test per known trap: the naive way is shown to fail on a literal example, ours to be right on the same one."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracle
import pytest
from edges import both_presets

from intsim.carrier.exact import magnitude, require_integers, rescale
from intsim.fixedpoint import (
    INT8,
    INT16,
    INT32,
    UINT8,
    Dyadic,
    Rounding,
    isqrt,
    rounding_right_shift,
    saturate,
)
from intsim.ops import LayerNormParams, add, exp, gelu, layer_norm, matmul, mean_pooling, requantize, softmax
from intsim.profile import IBERT, INTSIM

LN2 = math.log(2)
EVERY_INT16 = np.arange(-(2**15), 2**15).astype(np.int16)


# i-GELU


def test_the_square_of_b_overflows_int32_at_the_scale_of_an_accumulator():
    scale = 5.3e-5  # a per-channel scale of a real accumulator
    q_b = np.array([math.floor(-1.769 / (scale / math.sqrt(2)))], np.int32)
    assert (q_b * q_b)[0] < 0 < int(q_b[0]) ** 2
    # ours: the input has a fixed scale, so b**2 is the same small number in every layer
    for profile in (INTSIM, IBERT):
        b, _ = profile.gelu.constants(profile.step_rounding)
        assert b**2 < 2**23


@both_presets
def test_the_gelu_product_overflows_int32(profile):
    q_b, q_1 = profile.gelu.constants(profile.step_rounding)
    x = EVERY_INT16.astype(np.int32)
    q_erf = np.sign(x) * ((np.minimum(np.abs(x), -q_b) + q_b) ** 2 + q_1)
    naive = (-x * (q_erf + q_1)) >> profile.gelu.output_shift
    numbers = profile.to_json()
    assert naive[-1] != oracle.gelu(2**15 - 1, numbers)  # 32767 * 2 * q_1 takes 39 bits
    assert gelu(EVERY_INT16[-1:], profile=profile).tolist() == [oracle.gelu(2**15 - 1, numbers)]


# i-exp


def test_c_over_a_s2_explodes_for_a_small_scale():
    scale = 1e-5
    assert math.floor(0.344 / (0.3585 * scale**2)) > 2**32
    for profile in (INTSIM, IBERT):
        _, q_b, q_c = profile.exp.constants(profile.step_rounding)
        assert q_b**2 + q_c < 2**30


def test_floor_or_ceil_of_ln2_matters_for_a_large_scale():
    scale = 0.25
    floor, ceil = math.floor(LN2 / scale), math.ceil(LN2 / scale)
    assert (floor, ceil) == (2, 3)  # ln 2 is taken for 0.5 or for 0.75
    assert math.floor(LN2 / 0.7) == 0  # and then divided by
    for profile in (INTSIM, IBERT):
        q_ln2, _, _ = profile.exp.constants(profile.step_rounding)
        assert abs(Fraction(q_ln2, 2**profile.exp.fraction) / Fraction(LN2) - 1) < Fraction(1, 2000)


@both_presets
def test_the_shift_of_exp_is_bounded(profile):
    scale = 2.0**-4
    assert -(-(2**31) // math.floor(LN2 / scale)) > 62  # naive z of an int32 input
    q_ln2, _, _ = profile.exp.constants(profile.step_rounding)
    assert (2**15 << profile.exp.guard_bits) // q_ln2 + profile.exp.output_shift < 62
    assert exp(np.array([-(2**15)], np.int16), profile=profile).tolist() == [oracle.exp(-(2**15), profile.to_json())]


# Softmax


def test_a_one_hot_row_is_256_in_float32_and_wraps_to_0():
    e = 2**16 - 1  # a 16-bit exponential, alone in its row
    factor = 2**32 // e
    assert e * factor // 2**24 == 255
    assert math.floor(np.float32(e) * np.float32(factor) / np.float32(2**24)) == 256
    assert np.array([256]).astype(np.uint8).tolist() == [0]
    for profile in (INTSIM, IBERT):
        assert softmax(np.array([[7]], np.int32), Dyadic(2**30, 30), profile=profile).tolist() == [[255]]


def test_the_exact_formula_gives_256_too_when_the_sum_is_a_power_of_two():
    e = 2**15
    assert e * (2**32 // e) // 2**24 == 256
    one_hot = np.array([[0, -(2**30)]], np.int32)
    assert softmax(one_hot, Dyadic(2**30, 20), profile=IBERT).tolist() == [[255, 0]]


def test_an_exponential_times_256_overflows_int32():
    e = exp(np.zeros(1, np.int16), profile=IBERT)
    assert e.dtype == np.int32
    assert (e * 256).tolist() != [int(e[0]) * 256]
    assert softmax(np.array([[0, -(2**30)]], np.int32), Dyadic(2**30, 20), profile=IBERT)[0, 0] == 255


def test_rows_need_not_sum_to_one():
    row = np.zeros((1, 7), np.int32)
    assert int(softmax(row, Dyadic(2**30, 30), profile=INTSIM).sum()) == 252
    assert int(softmax(row, Dyadic(2**30, 30), profile=IBERT).sum()) == 252
    three = np.array([[0, 0, -50]], np.int32)
    assert int(softmax(three, Dyadic(2**30, 20), profile=INTSIM).sum()) == 256  # 127.5 twice, rounded up


@both_presets
def test_masking_by_a_large_negative_score_leaks(profile):
    ratio = Dyadic(2**30, 41)  # 1 / 2048 of an exp code
    acc = np.array([[-(2**24), -(2**24) - 1, 0]], np.int32)
    mask = np.array([True, True, False])
    naive = softmax(np.where(mask, acc, -10_000), ratio, profile=profile)  # the additive mask of float code
    assert naive[0, 2] > 0
    assert softmax(acc, ratio, profile=profile, mask=mask)[0, 2] == 0


@both_presets
def test_a_fully_masked_row_divides_by_zero(profile):
    e = np.zeros((1, 3))
    with np.errstate(invalid="ignore"):
        assert np.isnan(e / e.sum()).all()
    acc, mask = np.array([[1, 2, 3]], np.int32), np.zeros(3, bool)
    assert softmax(acc, Dyadic(2**30, 30), profile=profile, mask=mask).tolist() == [[0, 0, 0]]


# Square root


@pytest.mark.parametrize("k", [4097, 5000, 46340, 2**16 + 1, 2**20])
def test_the_float32_root_of_one_less_than_a_square_is_wrong(k):
    n = k * k - 1
    assert math.floor(np.sqrt(np.float32(n))) == k
    assert isqrt(np.array([n])).tolist() == [k - 1]


def test_the_float64_root_fails_at_67108865_squared_minus_1():
    n = 67108865**2 - 1
    assert math.floor(math.sqrt(n)) == 67108865
    assert isqrt(np.array([n])).tolist() == [67108864]


def newton(n, updates):
    """I-BERT's iteration with a fixed count of updates."""
    x = 2 ** math.ceil(n.bit_length() / 2)
    for _ in range(updates):
        x = (x + n // x) // 2
    return x


def test_a_fixed_count_of_four_newton_steps_is_too_few():
    n = 1105030547
    assert newton(n, 4) != math.isqrt(n) == newton(n, 5)
    assert isqrt(np.array([n])).tolist() == [math.isqrt(n)]


def test_a_fixed_count_of_newton_steps_oscillates_at_one_less_than_a_square():
    n = 99**2 - 1
    assert {newton(n, 20), newton(n, 21)} == {98, 99}
    assert isqrt(np.array([n])).tolist() == [98]


# LayerNorm


def normalised(row, profile, *, multipliers=None, biases=None, shift=0, eps=1, to=INT32):
    n = len(row)
    weight = Dyadic([1] * n if multipliers is None else multipliers, [shift] * n)
    bias = np.array([0] * n if biases is None else biases)
    return layer_norm(
        np.array([row], np.int16), LayerNormParams(weight=weight, bias=bias, eps=eps), to=to, profile=profile
    )[0].tolist()


@both_presets
def test_zero_variance_divides_by_zero(profile):
    x = np.array([5.0, 5.0])
    with np.errstate(invalid="ignore"):
        assert np.isnan((x - x.mean()) / x.std()).all()
    assert normalised([5, 5], profile, biases=[3, -4]) == [3, -4]


@both_presets
def test_gamma_0_divides_the_bias_by_zero(profile):
    weight, bias = np.array([0.0]), np.array([0.5])
    with np.errstate(divide="ignore"):
        assert np.isinf(np.floor(bias / weight / 2**-10)).all()  # the released code's bias_int
    assert normalised([1, 2], profile, multipliers=[0, 0], biases=[3 << 4, -5 << 4], shift=4) == [3, -5]


@both_presets
def test_a_negative_gamma_has_no_unsigned_multiplier(profile):
    gamma = -0.75
    assert Dyadic.from_real(gamma) == Dyadic(-(3 << 29), 31)
    y = normalised([-3, 0, 3], profile, multipliers=[3 << 29] * 3, shift=31)
    z = normalised([-3, 0, 3], profile, multipliers=[-(3 << 29)] * 3, shift=31)
    assert z == [-v for v in y] != y


def test_eps_left_out_doubles_the_output_of_a_quiet_row():
    row = [0, 1]  # v = 1 in units of 1 / N**2; a real eps may be three such units
    assert normalised(row, INTSIM, eps=1)[1] == 2**16
    assert normalised(row, INTSIM, eps=3)[1] == 2**15


def test_a_negative_mean_rounds_differently_in_c_and_in_python():
    total, n = -3, 2
    assert int(total / n) == -1
    assert total // n == -2
    floor = replace(IBERT, rounding=Rounding.FLOOR)
    zero = replace(IBERT, rounding=Rounding.TOWARD_ZERO)
    assert normalised([-2, -1], floor) == [0, 2**16]
    assert normalised([-2, -1], zero) == [-(2**16), 0]
    pooled = np.array([[-2], [-1]], np.int8), np.ones(2, bool)
    assert mean_pooling(*pooled, profile=replace(IBERT, step_rounding=Rounding.FLOOR)).tolist() == [-2]
    assert mean_pooling(*pooled, profile=replace(IBERT, step_rounding=Rounding.TOWARD_ZERO)).tolist() == [-1]


def test_exact_centring_and_a_rounded_mean_are_two_functions():
    assert normalised([0, 1, 1], INTSIM) == [-2 * 2**16, 2**16, 2**16]  # c = -2, 1, 1; v = 3 * 2 - 4 + 1
    assert normalised([0, 1, 1], IBERT) == [-(2**16), 0, 0]  # c = -1, 0, 0; v = floor(1 / 3) + 1


# Accumulation and requantization


def test_float32_accumulation_is_exact_up_to_k_1040_and_wrong_at_1041():
    for k, exact in ((1040, True), (1041, False)):
        x = np.full((1, k), 127, np.int8)
        carried = int((x.astype(np.float32) @ x.astype(np.float32).T)[0, 0])
        assert (carried == 127 * 127 * k) == exact
        assert matmul(x, x).tolist() == [[127 * 127 * k]]


def test_requantizing_in_float64_is_wrong_beyond_2_to_53():
    x, shift = 1_999_999_999, 31
    m = (2**30 - 1) * pow(x, -1, 2**31) % 2**31  # x m is one below a tie
    assert math.floor(x * (m / 2**shift) + 0.5) == x * m // 2**shift + 1
    y = requantize(np.array([x], np.int32), Dyadic(m, shift), to=INT32, rounding=Rounding.HALF_UP)
    assert y.tolist() == [x * m // 2**shift]


def test_rounding_twice_is_not_rounding_once():
    x, m = 7984, 1583594044
    high = (x * m + 2**30) >> 31
    assert (high + 2**8) >> 9 == 12
    assert requantize(np.array([x], np.int32), Dyadic(m, 40), to=INT8, rounding=Rounding.HALF_UP).tolist() == [11]


def test_a_residual_rounded_operand_by_operand_is_not_the_sum_rounded():
    x, half = np.array([1]), Dyadic(1, 1)
    once = replace(INTSIM, sum="once")
    assert add([x, x], [half, half], to=INT8, profile=once).tolist() == [1]
    assert add([x, x], [half, half], to=INT8, profile=replace(once, sum="each")).tolist() == [2]


def test_the_zero_point_is_added_after_rounding_not_before():
    acc, zero_point = 3, 1  # 1.5: ties to even gives 2, but 2.5 gives 2 as well
    assert round(Fraction(acc, 2) + zero_point) == 2
    y = requantize(np.array([acc]), Dyadic(1, 1), to=UINT8, rounding=Rounding.HALF_EVEN, zero_point=zero_point)
    assert y.tolist() == [3]


def test_a_multiplier_of_31_bits_can_reach_2_to_31():
    ratio = 1 - 2.0**-33
    fraction, exponent = math.frexp(ratio)
    assert math.floor(fraction * 2**31 + 0.5) == 2**31 > np.iinfo(np.int32).max
    assert exponent == 0
    assert Dyadic.from_real(ratio) == Dyadic(2**30, 30)
    first, second = Dyadic.aligned(ratio, 0.5)
    assert (first, second) == (Dyadic(2**29, 29), Dyadic(2**28, 29))


def test_int_min_times_int_min_does_not_fit():
    lowest = np.array([-(2**31)], np.int32)
    assert (lowest * lowest).tolist() == [0]
    assert (2 * 2**31 * 2**31) >> 32 == 2**31  # doubling high multiply: one more than int32 holds
    with pytest.raises(ValueError, match=r"multiplier must be below 2\*\*31"):
        Dyadic(-(2**31), 31)
    y = requantize(lowest, Dyadic(-(2**31) + 1, 31), to=INT32, rounding=Rounding.HALF_UP)
    assert y.tolist() == [2**31 - 1]
    assert requantize(lowest, Dyadic(-(2**31) + 1, 30), to=INT32, rounding=Rounding.HALF_UP).tolist() == [2**31 - 1]


def test_a_shift_of_0_has_no_rounding_half():
    shift = 0
    with pytest.raises(ValueError, match="negative shift count"):
        (5 + (1 << (shift - 1))) >> shift
    for rounding in Rounding:
        assert rounding_right_shift(np.array([5, -5, 2**63 - 1]), 0, rounding).tolist() == [5, -5, 2**63 - 1]
        assert requantize(np.array([5, -5]), Dyadic(1, 0), to=INT8, rounding=rounding).tolist() == [5, -5]


def test_a_ratio_below_2_to_minus_31_has_a_shift_above_62():
    ratio = 2.0**-40
    assert 31 - math.frexp(ratio)[1] == 70
    assert np.array([1]) << np.array([64]) != 2**64  # a half of 2**69 is no int64
    assert Dyadic.from_real(ratio) == Dyadic(2**22, 62)
    acc = np.array([2**31 - 1, -(2**31)], np.int32)
    assert requantize(acc, Dyadic.from_real(ratio), to=INT8, rounding=Rounding.FLOOR).tolist() == [0, -1]
    with pytest.raises(ValueError, match=r"shift must be in \[0, 62\]"):
        Dyadic(2**30, 70)


def test_adding_half_and_truncating_is_wrong_for_negatives():
    x, shift = -5, 2  # -1.25
    assert int((x + 2) / 4) == 0
    assert [int(rounding_right_shift(np.array([x]), shift, rounding)[0]) for rounding in Rounding] == [
        -2,
        -1,
        -1,
        -1,
        -1,
    ]


def test_negative_ties_tell_the_roundings_apart():
    ties = np.array([-5, -3, -1, 1, 3, 5])
    assert [rounding_right_shift(ties, 1, rounding).tolist() for rounding in Rounding] == [
        [-3, -2, -1, 0, 1, 2],
        [-2, -1, 0, 0, 1, 2],
        [-2, -1, 0, 1, 2, 3],
        [-3, -2, -1, 1, 2, 3],
        [-2, -2, 0, 0, 2, 2],
    ]


# NumPy


def test_numpy_int8_products_wrap():
    x = np.array([[100]], np.int8)
    assert (x @ x).tolist() == [[16]]
    assert matmul(x, x).tolist() == [[10_000]]


def test_numpy_abs_of_minus_128_is_minus_128():
    x = np.array([-128], np.int8)
    assert np.abs(x).tolist() == [-128]
    assert magnitude(x) == 128
    wide = np.array([-(2**63)])
    assert np.abs(wide).tolist() == [-(2**63)]
    assert magnitude(wide) == 2**63


def test_numpy_astype_wraps_where_saturate_clips():
    assert np.array([300]).astype(np.int8).tolist() == [44]
    assert saturate(np.array([300]), INT8).tolist() == [127]


def test_numpy_int64_plus_uint64_is_float64():
    assert (np.array([2**53 + 1]) + np.array([0], np.uint64)).tolist() == [2.0**53]
    with pytest.raises(TypeError, match="must have an integer dtype that fits int64"):
        require_integers("x_q", np.zeros(1, np.uint64))


def test_numpy_mean_is_float64():
    assert np.array([2**53 + 1]).mean() == 2**53
    x = np.array([[1], [2]], np.int32)
    assert x.mean(axis=0).tolist() == [1.5]
    pooled = mean_pooling(x, np.ones(2, bool), profile=INTSIM)
    assert (pooled.dtype, pooled.tolist()) == (np.int32, [2])


def test_numpy_shifts_and_divisions_of_negatives_floor():
    x = np.array([-3])
    assert (x >> 1).tolist() == (x // 2).tolist() == [-2]
    assert requantize(x, Dyadic(1, 1), to=INT8, rounding=Rounding.TOWARD_ZERO).tolist() == [-1]


def test_numpy_rint_of_a_negative_tie_is_not_half_up():
    assert np.rint(-2.5) == -2.0
    assert np.rint(-1.5) == -2.0
    y = rescale([np.array([-5, -3])], [Dyadic(1, 1)], zero_point=0, to=INT16, rounding=Rounding.HALF_UP)
    assert y.tolist() == [-2, -1]


def test_numpy_sums_of_a_narrow_dtype_may_wrap_where_ours_widen():
    x = np.full((1000, 1), -(2**31), np.int32)
    assert x.sum(axis=0, dtype=np.int32).tolist() != [-(2**31) * 1000]
    assert mean_pooling(x, np.ones(1000, bool), profile=INTSIM).tolist() == [-(2**31)]
