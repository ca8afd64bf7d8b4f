# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import oracle
import pytest
from edges import both_presets, edge_integers, every_other_dtype_than_integers, every_rounding, profiles, ranges
from hypothesis import example, given
from hypothesis import strategies as st

from intsim._trace import call, trace
from intsim.carrier import blocks
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, Rounding
from intsim.ops import LayerNormParams, rms_norm
from intsim.ops.rms_norm import carried_rms_norm
from intsim.profile import IBERT, IBERT_CODE, INTSIM, IVIT
from intsim.reference.ops.rms_norm import rms_norm as real

ONE = 2**16  # the scale of x / rms
DTYPES = {8: np.int8, 16: np.int16, 32: np.int32}


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

    bits = draw(st.sampled_from([8, 16, 32]))
    width = draw(st.integers(2, bits))  # of a row, so that shifts differ
    codes = st.integers(-2, 1) | edge_integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    rows = np.array([row(codes) for _ in range(draw(st.integers(1, 3)))], DTYPES[bits])
    multipliers = row(st.sampled_from([0, 1, -1, 2**30, -(2**30)]) | edge_integers(-(2**31) + 1, 2**31 - 1))
    shift = draw(st.sampled_from([0, 16, 40, 62]) | st.integers(0, 62))
    biases = row(edge_integers(-(2**61), 2**61) | st.integers(-(2**20), 2**20))
    eps = draw(st.sampled_from([1, 2, 3, 2**61 - 1]) | st.integers(1, 2**40) | edge_integers(1, 2**61 - 1))
    return rows, multipliers, biases, shift, eps


@given(case=cases(), to=ranges, profile=profiles)
@example(case=(np.array([[2**31 - 1, -(2**31), 3 << 15]]), [1] * 3, [0] * 3, 0, 1), to=INT32, profile=INTSIM)
def test_rows_are_normalised_as_the_oracle_does_it(case, to, profile):
    rows, multipliers, biases, shift, eps = case
    x = rows.astype(np.int32) if rows.dtype == np.int64 else rows
    y = rms_norm(x, params(multipliers, biases, shift, eps), to=to, profile=profile)
    assert y.dtype == to.dtype
    numbers = profile.to_json()
    assert y.tolist() == [
        oracle.rms_norm(row, multipliers, biases, shift, eps, to.min, to.max, numbers) for row in x.tolist()
    ]


@both_presets
@pytest.mark.parametrize("channels", [1, 2, 3, 48, 576, 2048])
@pytest.mark.parametrize("bits", [8, 16, 20, 24, 32])
def test_rows_of_a_real_width_are_those_of_the_oracle(profile, channels, bits):
    x = np.random.default_rng(channels).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (3, channels))
    x[1:, 1:] >>= bits // 2  # a massive activation
    multipliers, biases, shift = real_params(channels)
    numbers = profile.to_json()
    y = rms_norm(x.astype(np.int32), params(multipliers, biases, shift, 7 << 40), to=INT8, profile=profile)
    assert y.tolist() == [
        oracle.rms_norm(row, multipliers, biases, shift, 7 << 40, -128, 127, numbers) for row in x.tolist()
    ]


@both_presets
@pytest.mark.parametrize("channels", [2, 3, 2**13 + 1, 2**14])
@pytest.mark.parametrize("pattern", [(-(2**31), 2**31 - 1), (-(2**31),), (2**31 - 1,), (2**31 - 1, *[-(2**15)] * 8000)])
@pytest.mark.parametrize("eps", [1, 2**61 - 1])
def test_the_largest_rows_are_exact(profile, channels, pattern, eps):
    row = list(islice(cycle(pattern), channels))
    y = rms_norm(np.array([row], np.int32), plain(channels, eps), to=INT32, profile=profile)
    numbers = profile.to_json()
    assert y.tolist() == [oracle.rms_norm(row, [1] * channels, [0] * channels, 0, eps, INT32.min, INT32.max, numbers)]


def test_the_largest_sum_of_squares_and_eps_stay_inside_int64():
    x = np.full((1, 2**14), 2**31 - 1, np.int32)  # shifted by 16: 2**15 - 2**-16, rounded up
    y = rms_norm(x, plain(2**14, 2**61 - 1), to=INT32, profile=INTSIM)
    assert set(y.ravel().tolist()) == {math.floor((2**29 * ONE * 2 / math.isqrt(2**58 + 2**29) + 1) / 2)}


@every_rounding
def test_ties_of_the_row_shift_go_where_the_rounding_says(rounding):
    x = np.array([[2**16 - 1, -(2**16) + 1, 5, -5, 7, -7, 2, -2], [*[2**15 + 1] * 4, *[-(2**15) - 1] * 4]], np.int32)
    profile = replace(INTSIM, step_rounding=Rounding(rounding))  # k = 2 and 1: quarters, halves
    numbers = profile.to_json()
    expected = [oracle.rms_norm(row, [1] * 8, [0] * 8, 0, 1, INT32.min, INT32.max, numbers) for row in x.tolist()]
    assert rms_norm(x, plain(8), to=INT32, profile=profile).tolist() == expected
    with trace("steps") as steps:
        call("norm", rms_norm, x, plain(8), to=INT32, profile=profile)
    assert steps["norm:shift"].tolist() == [[1], [1]]
    halves = {"floor": (2, -3), "toward-zero": (2, -2), "half-up": (3, -2), "half-away": (3, -3), "half-even": (2, -2)}
    assert tuple(steps["norm:shifted"][0, 2:4].tolist()) == halves[rounding]


@given(x=st.lists(st.integers(-(2**15) + 1, 2**15 - 1), min_size=1, max_size=9), k=st.integers(1, 16))
def test_a_row_doubled_is_the_same_row(x, k):
    x = np.array([[*x, 2**14]])  # 15 bits
    eps = 3 << 10
    y = rms_norm(x.astype(np.int32), plain(x.size, eps), to=INT32, profile=INTSIM)
    doubled = rms_norm((x << k).astype(np.int32), plain(x.size, eps << 2 * k), to=INT32, profile=INTSIM)
    assert np.array_equal(doubled, y)


@given(x=st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=40), eps=st.integers(1, 2**50))
def test_the_error_is_within_its_bound(x, eps):
    x = np.array(x)
    y = rms_norm(x.astype(np.int32), plain(len(x), eps), to=INT32, profile=INTSIM) / ONE
    ones = np.ones(len(x))
    exact = real(x.astype(np.float64), weight=ones, bias=0 * ones, eps=eps / len(x) ** 2)
    root = math.sqrt(len(x) * (int((x * x).sum()) + eps / len(x)))
    moved = np.abs(x).max() * 2.0**-15 if np.abs(x).max() >= 2**15 else 0.0
    reach = np.abs(exact).max()
    bound = 2.0**-17 + len(x) * moved / root + reach * (1 + len(x) * moved) / max(root - 1 - len(x) * moved, 1)
    assert (np.abs(y - exact) <= bound * (1 + 1e-6) + (root < 2) * reach).all()


@both_presets
def test_a_row_of_0_gives_the_bias_alone(profile):
    x = np.zeros((2, 3), np.int32)
    y = rms_norm(x, params([2**30] * 3, [5 << 20, -(7 << 20), 0], 20, 1), to=INT8, profile=profile)
    assert y.tolist() == [[5, -7, 0]] * 2


def test_eps_is_shifted_with_its_row_and_stays_at_least_1():
    x = np.array([[1 << 20, 0]], np.int32)  # k = 6, x' = 2**14
    with trace("steps") as steps:
        for name, eps in (("one", 1), ("below", 2**11 - 1), ("half", 3 << 11), ("wide", 2**61 - 1)):
            call(name, rms_norm, x, plain(2, eps), to=INT32, profile=INTSIM)
    variances = [int(steps[f"{name}:variance"][0, 0]) for name in ("one", "below", "half", "wide")]
    assert variances == [2**29 + 1, 2**29 + 1, 2**29 + 2, 2**29 + 2**49]


@both_presets
def test_neither_batching_nor_blocks_change_a_bit(profile, monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**31), 2**31, (3, 17, 48)).astype(np.int32)
    x[:, ::2] //= 2**18  # rows of very different size, so that data-dependent bounds differ between blocks
    multipliers, biases, shift = real_params(48)
    constants = params(multipliers, biases, shift, 3)
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    whole = rms_norm(x, constants, to=INT16, profile=profile)
    for block in (1, 48, 100, 300):
        monkeypatch.setattr(blocks, "BLOCK", block)
        assert np.array_equal(rms_norm(x, constants, to=INT16, profile=profile), whole)
    for index in np.ndindex(3, 17):
        assert np.array_equal(rms_norm(x[index], constants, to=INT16, profile=profile), whole[index])


@both_presets
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_no_normalised_value_passes_its_bound(profile, channels):
    span = {2: 129, 3: 41, 4: 15}[channels]
    rows = np.stack(np.meshgrid(*[np.arange(span) - span // 2] * channels, indexing="ij"), axis=-1)
    y = rms_norm(rows.astype(np.int16), plain(channels), to=INT32, profile=profile).astype(np.int64)
    assert (y * y < 3 * channels * ONE**2).all()


@both_presets
def test_narrow_codes_are_their_own_in_int32(profile):
    x = np.random.default_rng(0).integers(-(2**7), 2**7, (4, 5, 9))
    y = rms_norm(x.astype(np.int8), plain(9), to=INT32, profile=profile)
    for dtype in ("int16", "int32"):
        assert np.array_equal(rms_norm(x.astype(dtype), plain(9), to=INT32, profile=profile), y)


def test_more_channels_than_the_bound_allows_are_refused():
    with pytest.raises(ValueError, match="x_q must have at most 16384 channels, got 16385"):
        rms_norm(np.zeros((1, 2**14 + 1), np.int8), plain(2**14 + 1), to=INT8, profile=INTSIM)


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have"):
        rms_norm(np.zeros((2, 3), dtype), plain(3), to=INT8, profile=INTSIM)


@pytest.mark.parametrize("dtype", ["uint32", "int64"])
def test_codes_that_do_not_fit_int32_are_refused(dtype):
    with pytest.raises(TypeError, match="x_q must have codes that fit int32"):
        rms_norm(np.zeros((2, 3), dtype), plain(3), to=INT8, profile=INTSIM)


@pytest.mark.parametrize("profile", [IBERT_CODE, IVIT], ids=lambda profile: profile.name)
def test_a_rule_of_another_project_is_refused(profile):
    with pytest.raises(IntsimError, match="rule must be intsim's own LayerNorm"):
        rms_norm(np.zeros((2, 3), np.int8), plain(3), to=INT8, profile=profile)


def test_the_profile_of_ibert_floors():
    y = rms_norm(np.array([[1, -1, 0]], np.int8), plain(3), to=INT32, profile=IBERT)
    assert y.tolist() == [[98304, -98304, 0]]  # v = 3 * 2 + 1; 3 * 2**16 / 2


@pytest.mark.parametrize("rounding", [Rounding.FLOOR, Rounding.HALF_UP, Rounding.HALF_EVEN], ids=str)
@pytest.mark.parametrize(("to", "shift"), [(INT8, 44), (INT16, 35), (INT8, 0)], ids=str)
def test_products_beyond_float64_saturate_as_the_oracle_does_it(rounding, to, shift):
    channels = 2**13
    x = np.zeros((4, channels), np.int32)
    x[0, 0], x[1, 1], x[2, :2], x[3] = 2**31 - 1, -(2**31), (5, -5), np.arange(channels) - 17
    multipliers = [sign * m for m in (2**31 - 1, 2**31 - 3) for sign in (1, -1)] * (channels // 4)
    biases = np.random.default_rng(0).integers(-(2**48), 2**48, channels).tolist()
    profile = replace(INTSIM, rounding=rounding)
    constants, numbers = params(multipliers, biases, shift, 1), profile.to_json()
    assert carried_rms_norm(constants, to=to, profile=profile) is not None
    assert math.isqrt(3 * channels) * ONE * multipliers[0] > 2**53
    y = rms_norm(x, constants, to=to, profile=profile)
    for row, codes in zip(x.tolist(), y.tolist(), strict=True):
        assert codes == oracle.rms_norm(row, multipliers, biases, shift, 1, to.min, to.max, numbers)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
@pytest.mark.parametrize("step_rounding", [Rounding.FLOOR, Rounding.HALF_UP], ids=str)
def test_the_fast_form_and_the_definition_agree(dtype, step_rounding):
    rng = np.random.default_rng(7)
    profile = replace(INTSIM, step_rounding=step_rounding)
    constants = params(rng.integers(-(2**30), 2**30, 96), rng.integers(-(2**40), 2**40, 96), 36, 12345)
    assert carried_rms_norm(constants, to=INT16, profile=profile) is not None
    x = rng.integers(-(2**31), 2**31, (400, 96)) >> rng.integers(0, 31, (400, 1))
    x = x.clip(np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    x[-1] = 0
    with trace("steps"):
        expected = call("norm", rms_norm, x, constants, to=INT16, profile=profile)
    assert np.array_equal(rms_norm(x, constants, to=INT16, profile=profile), expected)
