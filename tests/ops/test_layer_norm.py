# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import oracle
import pytest
from edges import both_presets, edge_integers, every_other_dtype_than_integers, profiles, ranges
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.carrier import blocks
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, Rounding
from intsim.ops import LayerNormParams, layer_norm
from intsim.profile import IBERT, IBERT_CODE, INTSIM

ONE = 2**16  # the scale of (x - mean) / std
codes = st.integers(-4, 4) | edge_integers(-(2**15), 2**15 - 1)


def params(multipliers, biases, shift, eps):
    weight = Dyadic(list(multipliers), [shift] * len(multipliers))
    return LayerNormParams(weight=weight, bias=np.array(biases, np.int64), eps=eps)


def plain(channels, eps=1):
    """Parameters that let the normalised values through as they are."""
    return params([1] * channels, [0] * channels, 0, eps)


def real_params(channels, seed=0):
    """Parameters as large as a real model's: a 30-bit multiplier, a bias of a few output codes."""
    rng = np.random.default_rng(seed)
    multipliers = rng.integers(-(2**30), 2**30, channels)
    biases = rng.integers(-(2**44), 2**44, channels)
    return multipliers.tolist(), biases.tolist(), 40


@st.composite
def cases(draw):
    channels = draw(st.integers(1, 6))

    def row(elements):
        return draw(st.lists(elements, min_size=channels, max_size=channels))

    rows = [row(codes) for _ in range(draw(st.integers(1, 3)))]
    multipliers = row(st.sampled_from([0, 1, -1, 2**30, -(2**30)]) | edge_integers(-(2**31) + 1, 2**31 - 1))
    shift = draw(st.sampled_from([0, 16, 40, 62]) | st.integers(0, 62))
    biases = row(edge_integers(-(2**61), 2**61) | st.integers(-(2**20), 2**20))
    eps = draw(st.sampled_from([1, 2, 3, 2**61 - 1]) | st.integers(1, 2**40))
    return rows, multipliers, biases, shift, eps


@given(case=cases(), to=ranges, profile=profiles)
@example(case=([[1, 0, 0]], [1, 1, 1], [0, 0, 0], 0, 1), to=INT32, profile=INTSIM)
@example(case=([[-3, 0], [-1, 0], [3, 0]], [ONE, -ONE], [0, 0], 16, 1), to=INT8, profile=IBERT)
def test_rows_are_normalised_as_the_oracle_does_it(case, to, profile):
    rows, multipliers, biases, shift, eps = case
    y = layer_norm(np.array(rows, np.int16), params(multipliers, biases, shift, eps), to=to, profile=profile)
    assert y.dtype == to.dtype
    numbers = profile.to_json()
    assert y.tolist() == [
        oracle.layer_norm(row, multipliers, biases, shift, eps, to.min, to.max, numbers) for row in rows
    ]


@both_presets
@pytest.mark.parametrize("channels", [1, 2, 3, 48, 384, 768])
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_of_a_real_width_are_those_of_the_oracle(profile, channels, bits):
    x = np.random.default_rng(channels).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (3, channels))
    multipliers, biases, shift = real_params(channels)
    numbers = profile.to_json()
    y = layer_norm(x.astype(f"int{bits}"), params(multipliers, biases, shift, 7), to=INT8, profile=profile)
    assert y.tolist() == [
        oracle.layer_norm(row, multipliers, biases, shift, 7, -128, 127, numbers) for row in x.tolist()
    ]


@both_presets
@pytest.mark.parametrize("channels", [2, 3, 2**13 + 1, 2**14])
@pytest.mark.parametrize("pattern", [(-(2**15), 2**15 - 1), (-(2**15),), (2**15 - 1,), (2**15 - 1, *[-(2**15)] * 8000)])
def test_the_largest_rows_are_exact(profile, channels, pattern):
    row = list(islice(cycle(pattern), channels))
    numbers = profile.to_json()
    y = layer_norm(np.array([row], np.int16), plain(channels), to=INT32, profile=profile)
    expected = oracle.layer_norm(row, [1] * channels, [0] * channels, 0, 1, INT32.min, INT32.max, numbers)
    assert y.tolist() == [expected]


@both_presets
@pytest.mark.parametrize("eps", [1, 2**61 - 1])
def test_the_largest_variance_and_eps_stay_inside_int64(profile, eps):
    row = [-(2**15), 2**15 - 1] * 2**13
    y = layer_norm(np.array([row], np.int16), plain(2**14, eps), to=INT32, profile=profile)
    ends = oracle.layer_norm(row, [1] * 2**14, [0] * 2**14, 0, eps, INT32.min, INT32.max, profile.to_json())
    assert y.tolist() == [ends]


@both_presets
@pytest.mark.parametrize("code", [-(2**15), -7, 0, 1, 2**15 - 1])
def test_a_row_of_zero_variance_gives_the_bias_alone(profile, code):
    x = np.full((2, 3), code, np.int16)
    y = layer_norm(x, params([2**30] * 3, [5 << 20, -(7 << 20), 0], 20, 1), to=INT8, profile=profile)
    assert y.tolist() == [[5, -7, 0]] * 2


@both_presets
def test_gamma_0_gives_the_bias_alone(profile):
    x = np.array([[1, 2, 30], [-5, 0, 5]], np.int8)
    y = layer_norm(x, params([0, 0, 0], [5 << 20, -(7 << 20), 0], 20, 1), to=INT8, profile=profile)
    assert y.tolist() == [[5, -7, 0]] * 2


def test_a_negative_gamma_turns_the_sign():
    x = np.array([[-1, 0, 1]], np.int8)
    y = layer_norm(x, params([1, 1, 1], [0] * 3, 0, 1), to=INT32, profile=INTSIM)
    z = layer_norm(x, params([-1, -1, -1], [0] * 3, 0, 1), to=INT32, profile=INTSIM)
    assert y.tolist() == [[-98304, 0, 98304]]  # c = -3, 0, 3; v = 3 * 2 + 1 = 7; isqrt 2
    assert z.tolist() == [[98304, 0, -98304]]


def test_eps_is_part_of_the_variance():
    x = np.array([[0, 1]], np.int8)  # c = -1, 1; v = 1 + eps
    for eps, root in ((1, 1), (2, 1), (3, 2), (99, 10), (10**12, 10**6)):
        y = layer_norm(x, plain(2, eps), to=INT32, profile=INTSIM)
        assert y.tolist() == [[math.floor(-ONE / root + 0.5), math.floor(ONE / root + 0.5)]]


@pytest.mark.parametrize("eps", [0, -1, 2**61, 2**62])
def test_an_eps_outside_its_range_is_refused(eps):
    with pytest.raises(ValueError, match=r"eps must be in \[1, 2\*\*61\)"):
        plain(2, eps)


@pytest.mark.parametrize(
    ("rounding", "centred"),
    [("floor", (0, 1)), ("toward-zero", (-1, 0)), ("half-up", (-1, 0)), ("half-away", (0, 1)), ("half-even", (0, 1))],
)
def test_a_mean_of_minus_three_halves_is_rounded_by_the_requantization_rounding(rounding, centred):
    profile = replace(IBERT, rounding=Rounding(rounding), step_rounding=Rounding.FLOOR)
    y = layer_norm(np.array([[-2, -1]], np.int8), plain(2), to=INT32, profile=profile)
    assert y.tolist() == [[c * ONE for c in centred]]  # v = floor(1 / 2) + 1


def test_exact_centring_keeps_the_half_that_a_rounded_mean_drops():
    x = np.array([[-2, -1]], np.int8)
    assert layer_norm(x, plain(2), to=INT32, profile=INTSIM).tolist() == [[-ONE, ONE]]
    assert layer_norm(x, plain(2), to=INT32, profile=IBERT).tolist() == [[0, ONE]]


@given(
    row=st.lists(st.integers(-(2**13), 2**13), min_size=1, max_size=8),
    constant=st.integers(-(2**14), 2**14),
    eps=st.integers(1, 100),
)
def test_a_zero_point_cancels_with_exact_centring(row, constant, eps):
    x = np.array([row], np.int16)
    shifted = x + np.int16(constant)
    y = layer_norm(x, plain(len(row), eps), to=INT32, profile=INTSIM)
    assert layer_norm(shifted, plain(len(row), eps), to=INT32, profile=INTSIM).tolist() == y.tolist()


@given(rows=st.lists(st.lists(codes, min_size=5, max_size=5), min_size=1, max_size=4), data=st.data(), profile=profiles)
def test_permuted_channels_give_permuted_results(rows, data, profile):
    order = data.draw(st.permutations(range(5)))
    x = np.array(rows, np.int16)
    y = layer_norm(x, plain(5), to=INT32, profile=profile)
    assert layer_norm(x[:, order], plain(5), to=INT32, profile=profile).tolist() == y[:, order].tolist()


@both_presets
def test_neither_batching_nor_blocks_change_a_bit(profile, monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**15), 2**15, (3, 17, 48)).astype(np.int16)
    x[:, ::2] //= 2**10  # rows of very different variance, so that data-dependent bounds differ between blocks
    multipliers, biases, shift = real_params(48)
    constants = params(multipliers, biases, shift, 3)
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    whole = layer_norm(x, constants, to=INT16, profile=profile)
    for block in (1, 48, 100, 300):
        monkeypatch.setattr(blocks, "BLOCK", block)
        assert np.array_equal(layer_norm(x, constants, to=INT16, profile=profile), whole)
    for index in np.ndindex(3, 17):
        assert np.array_equal(layer_norm(x[index], constants, to=INT16, profile=profile), whole[index])


@both_presets
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_no_normalised_value_passes_its_bound(profile, channels):
    span = {2: 129, 3: 41, 4: 15}[channels]
    rows = np.stack(np.meshgrid(*[np.arange(span) - span // 2] * channels, indexing="ij"), axis=-1)
    y = layer_norm(rows.astype(np.int16), plain(channels), to=INT32, profile=profile).astype(np.int64)
    assert (y * y < 3 * channels * ONE**2).all()


@both_presets
def test_the_bound_of_normalised_values_is_no_wilder_than_needed(profile):
    largest = 0.0
    for channels in (2, 3, 8, 15, 24, 1000, 2**14):
        for top in (1, 2, 3, 2**15 - 1):
            row = np.zeros((1, channels), np.int16)
            row[0, 0] = top
            y = int(layer_norm(row, plain(channels), to=INT32, profile=profile)[0, 0])
            assert y**2 < 3 * channels * ONE**2 < 2**48
            largest = max(largest, y / (ONE * math.sqrt(3 * channels)))
    assert largest > 0.57  # 1 / sqrt(3) for a wide row, more where isqrt cuts much off


@both_presets
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_every_dtype_that_fits_int16_gives_the_same_codes(profile, dtype):
    row = [0, 1, 5, 100, 127]
    expected = oracle.layer_norm(row, [1] * 5, [0] * 5, 0, 2, INT32.min, INT32.max, profile.to_json())
    assert layer_norm(np.array([row], dtype), plain(5, 2), to=INT32, profile=profile).tolist() == [expected]


def test_more_channels_than_the_bound_allows_are_refused():
    with pytest.raises(ValueError, match="x_q must have at most 16384 channels, got 16385"):
        layer_norm(np.zeros((1, 2**14 + 1), np.int8), plain(2**14 + 1), to=INT8, profile=INTSIM)


def test_an_affine_part_beyond_int64_is_refused():
    x = np.array([[0, 1]], np.int8)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        layer_norm(x, params([1, 1], [2**62, 2**63 - 1], 0, 1), to=INT8, profile=INTSIM)


def test_weights_of_several_shifts_are_refused():
    with pytest.raises(ValueError, match="weight must have one common shift"):
        LayerNormParams(weight=Dyadic([1, 1], [3, 4]), bias=np.zeros(2, np.int64), eps=1)


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have"):
        layer_norm(np.zeros((2, 3), dtype), plain(3), to=INT8, profile=INTSIM)


@pytest.mark.parametrize("dtype", ["uint32", "int64"])
def test_codes_that_do_not_fit_int32_are_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have codes that fit int32"):
        layer_norm(np.zeros((2, 3), dtype), plain(3), to=INT8, profile=INTSIM)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_a_bias_that_is_not_integers_is_refused(dtype):
    with pytest.raises(TypeError):
        LayerNormParams(weight=Dyadic([1, 1], [0, 0]), bias=np.ones(2, dtype), eps=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_bias_of_another_length_than_the_weight_is_refused(channels):
    with pytest.raises(ValueError, match="bias must"):
        LayerNormParams(weight=Dyadic([1, 1], [0, 0]), bias=np.zeros(channels, np.int64), eps=1)


def test_the_parameters_cannot_be_changed():
    constants = plain(2)
    with pytest.raises(ValueError, match="read-only"):
        constants.bias[0] = 1


# ---- wide codes, shifted by row


@given(case=cases(), width=st.integers(1, 32), to=ranges, profile=profiles, data=st.data())
def test_wide_rows_are_normalised_as_the_oracle_does_it(case, width, to, profile, data):
    rows, multipliers, biases, shift, eps = case
    wide = edge_integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    rows = [[data.draw(wide) for _ in row] for row in rows]
    y = layer_norm(np.array(rows, np.int32), params(multipliers, biases, shift, eps), to=to, profile=profile)
    assert y.dtype == to.dtype
    numbers = profile.to_json()
    assert y.tolist() == [
        oracle.layer_norm(row, multipliers, biases, shift, eps, to.min, to.max, numbers, wide=True) for row in rows
    ]


@both_presets
@pytest.mark.parametrize("channels", [1, 2, 3, 48, 768, 2**14])
@pytest.mark.parametrize("bits", [8, 17, 20, 24, 32])
@pytest.mark.parametrize("eps", [7, 2**61 - 1])
def test_wide_rows_of_a_real_width_are_those_of_the_oracle(profile, channels, bits, eps):
    shape = (2 if channels == 2**14 else 3, channels)
    x = np.random.default_rng(channels).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    x[1:, 1:] >>= bits // 2  # a massive activation
    multipliers, biases, shift = real_params(channels)
    numbers = profile.to_json()
    y = layer_norm(x.astype(np.int32), params(multipliers, biases, shift, eps), to=INT8, profile=profile)
    assert y.tolist() == [
        oracle.layer_norm(row, multipliers, biases, shift, eps, -128, 127, numbers, wide=True) for row in x.tolist()
    ]


@both_presets
@pytest.mark.parametrize("eps", [1, 2**61 - 1])
@pytest.mark.parametrize("pattern", [(-(2**31), 2**31 - 1), (2**31 - 1, *[-(2**31)] * (2**14 - 1)), (-(2**31),)])
def test_the_largest_wide_rows_stay_inside_int64(profile, eps, pattern):
    row = list(islice(cycle(pattern), 2**14))
    y = layer_norm(np.array([row], np.int32), plain(2**14, eps), to=INT32, profile=profile)
    numbers = profile.to_json()
    assert y.tolist() == [
        oracle.layer_norm(row, [1] * 2**14, [0] * 2**14, 0, eps, INT32.min, INT32.max, numbers, wide=True)
    ]


@both_presets
@pytest.mark.parametrize("channels", [3, 64, 768])
@pytest.mark.parametrize("eps", [1, 2**20, 2**40, 2**55])
def test_eps_means_the_same_for_wide_codes_as_for_narrow_ones(profile, channels, eps):
    x = np.random.default_rng(eps % 97).integers(-(2**14), 2**14, (5, channels))
    narrow = layer_norm(x.astype(np.int16), plain(channels, eps), to=INT32, profile=profile)
    wide = layer_norm(x.astype(np.int32), plain(channels, eps), to=INT32, profile=profile)
    assert (np.abs(wide - narrow) <= 2**-12 * np.abs(narrow).max() + 64).all()  # the shift, and a root of one more bit


def test_a_wide_row_does_not_lose_what_a_massive_activation_would_hide_from_an_int16_scale():
    x = np.full((1, 8), 3, np.int32)
    x[0, ::2] = -3
    for scale in (1, 2**12, 2**28):
        y = layer_norm(x * np.int32(scale), plain(8), to=INT32, profile=INTSIM)
        assert np.abs(np.abs(y) - ONE).max() <= (scale == 1) * 64 + 4


@both_presets
def test_wide_rows_of_zero_variance_give_the_bias_alone(profile):
    for code in (-(2**31), -7, 0, 2**31 - 1):
        x = np.full((2, 3), code, np.int32)
        y = layer_norm(x, params([2**30] * 3, [5 << 20, -(7 << 20), 0], 20, 1), to=INT8, profile=profile)
        assert y.tolist() == [[5, -7, 0]] * 2


@both_presets
def test_neither_batching_nor_blocks_change_a_bit_of_wide_rows(profile, monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**31), 2**31, (3, 17, 48)).astype(np.int32)
    x[:, ::2] //= 2**18
    multipliers, biases, shift = real_params(48)
    constants = params(multipliers, biases, shift, 3)
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    whole = layer_norm(x, constants, to=INT16, profile=profile)
    for block in (1, 48, 100, 300):
        monkeypatch.setattr(blocks, "BLOCK", block)
        assert np.array_equal(layer_norm(x, constants, to=INT16, profile=profile), whole)
    for index in np.ndindex(3, 17):
        assert np.array_equal(layer_norm(x[index], constants, to=INT16, profile=profile), whole[index])


def test_wide_codes_are_refused_where_the_rule_is_another_projects():
    with pytest.raises(IntsimError, match="rule must be intsim's own LayerNorm"):
        layer_norm(np.zeros((2, 3), np.int32), plain(3), to=INT8, profile=IBERT_CODE)
