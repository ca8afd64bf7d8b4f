# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
from edges import both_presets, dyadics, edge_integers, every_other_dtype_than_integers, profiles
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.carrier import blocks
from intsim.fixedpoint import Dyadic, Rounding
from intsim.ops import softmax
from intsim.ops.softmax import _by_difference
from intsim.profile import IBERT, INTSIM, Softmax

ROOT = Path(__file__).resolve().parents[2]
RATIO = Dyadic(1583594044, 38)  # about 0.0058, near that of a real model
int32s = edge_integers(-(2**31), 2**31 - 1)
scores = st.integers(-400, 400) | edge_integers(-(2**20), 2**20) | int32s


def expected(rows, pair, masks, profile):
    numbers = profile.to_json()
    masks = [None] * len(rows) if masks is None else masks
    return [oracle.softmax(row, *pair, mask, numbers) for row, mask in zip(rows, masks, strict=True)]


@st.composite
def attentions(draw):
    """A few rows of accumulators, a mask or none, and a positive ratio that cannot leave int64."""
    rows, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    acc = [draw(st.lists(scores, min_size=tokens, max_size=tokens)) for _ in range(rows)]
    mask = st.lists(st.lists(st.booleans(), min_size=tokens, max_size=tokens), min_size=rows, max_size=rows)
    return acc, draw(st.none() | mask), draw(dyadics(max_multiplier=2**30, positive=True))


@given(case=attentions(), profile=profiles)
@example(case=([[-(2**31), 2**31 - 1, 0]], None, (2**30, 62)), profile=INTSIM)
@example(case=([[-(2**31), 2**31 - 1, 0]], [[True, False, True]], (2**30, 40)), profile=IBERT)
@example(case=([[5, 5], [5, 5]], [[False, False], [True, False]], (2**30, 30)), profile=INTSIM)
def test_probabilities_are_those_of_the_oracle(case, profile):
    acc, mask, pair = case
    keep = None if mask is None else np.array(mask)
    probs = softmax(np.array(acc, np.int32), Dyadic(*pair), profile=profile, mask=keep)
    assert probs.dtype == np.uint8
    assert probs.tolist() == expected(acc, pair, mask, profile)


@both_presets
@pytest.mark.parametrize("tokens", [1, 2, 3, 64, 128])
def test_rows_of_a_real_size_are_those_of_the_oracle(profile, tokens):
    rng = np.random.default_rng(tokens)
    acc = rng.integers(-3000, 3000, (2, 3, tokens)).astype(np.int32)
    probs = softmax(acc, RATIO, profile=profile).reshape(-1, tokens)
    pair = int(RATIO.multiplier), int(RATIO.shift)
    assert probs.tolist() == expected(acc.reshape(-1, tokens).tolist(), pair, None, profile)


@both_presets
def test_a_one_hot_row_is_255_and_zeros(profile):
    acc = np.full((3, 7), -(2**22), np.int32)
    acc[[0, 1, 2], [0, 3, 6]] = 2**22
    probs = softmax(acc, RATIO, profile=profile)
    assert probs.tolist() == [[255 * (j == hot) for j in range(7)] for hot in (0, 3, 6)]


@both_presets
def test_a_single_token_gets_everything(profile):
    for score in (-(2**31), -1, 0, 1, 2**31 - 1):
        assert softmax(np.array([[score]], np.int32), RATIO, profile=profile).tolist() == [[255]]


@pytest.mark.parametrize(
    ("count", "intsim", "ibert"), [(2, 128, 128), (3, 85, 85), (4, 64, 64), (7, 36, 36), (256, 1, 1)]
)
def test_equal_scores_get_equal_probabilities(count, intsim, ibert):
    acc = np.full((1, count), 123_456, np.int32)
    assert softmax(acc, RATIO, profile=INTSIM).tolist() == [[intsim] * count]
    assert softmax(acc, RATIO, profile=IBERT).tolist() == [[ibert] * count]


@both_presets
def test_a_masked_position_is_exactly_0_whatever_it_holds(profile):
    acc = np.array([[100, 90, 2**31 - 1, 80, -(2**31)]], np.int32)
    mask = np.array([True, True, False, True, False])
    probs = softmax(acc, RATIO, profile=profile, mask=mask)
    assert probs[0, [2, 4]].tolist() == [0, 0]
    assert probs[:, mask].tolist() == softmax(acc[:, mask], RATIO, profile=profile).tolist()


@both_presets
@pytest.mark.parametrize("fill", [-(2**31), -5, 0, 2**31 - 1])
def test_a_fully_masked_row_is_all_0_and_leaves_the_others_alone(profile, fill):
    acc = np.array([[10, 20, 30], [fill] * 3, [5, 2**31 - 1, fill]], np.int32)
    mask = np.array([[True] * 3, [False] * 3, [True, False, False]])
    probs = softmax(acc, RATIO, profile=profile, mask=mask)
    assert probs[1].tolist() == [0, 0, 0]
    assert probs[0].tolist() == softmax(acc[:1], RATIO, profile=profile)[0].tolist()
    assert probs[2].tolist() == [255, 0, 0]


@both_presets
@given(
    row=st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=6),
    pad=st.lists(int32s, min_size=1, max_size=6),
    data=st.data(),
)
def test_masked_columns_anywhere_never_change_the_rest(profile, row, pad, data):
    order = data.draw(st.permutations(range(len(row) + len(pad))))
    acc = np.array([row + pad], np.int32)[:, order]
    mask = (np.array([True] * len(row) + [False] * len(pad)))[order]
    probs = softmax(acc, RATIO, profile=profile, mask=mask)
    alone = softmax(acc[:, mask], RATIO, profile=profile)
    assert probs[:, mask].tolist() == alone.tolist()
    assert not probs[:, ~mask].any()


@both_presets
@given(row=st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=8), constant=edge_integers(-(2**30), 2**30))
def test_a_constant_added_to_every_score_changes_nothing(profile, row, constant):
    acc = np.array([row], np.int32)
    shifted = acc + np.int32(constant)
    assert softmax(shifted, RATIO, profile=profile).tolist() == softmax(acc, RATIO, profile=profile).tolist()


@both_presets
@given(row=st.lists(scores, min_size=1, max_size=8), data=st.data())
def test_permuted_scores_give_permuted_probabilities(profile, row, data):
    order = data.draw(st.permutations(range(len(row))))
    acc = np.array([row], np.int32)
    probs = softmax(acc, RATIO, profile=profile)
    assert softmax(acc[:, order], RATIO, profile=profile).tolist() == probs[:, order].tolist()


@both_presets
@given(row=st.lists(scores, min_size=2, max_size=8))
def test_a_larger_score_never_gets_a_smaller_probability(profile, row):
    probs = softmax(np.array([row], np.int32), RATIO, profile=profile)[0]
    # i-exp itself is not monotone to the last bit; rounding to 8 bits leaves at most one step
    order = np.argsort(row)
    assert (np.diff(probs[order].astype(int)) >= -1).all()


@both_presets
@given(row=st.lists(st.integers(-2000, 2000), min_size=1, max_size=40))
def test_a_row_sums_to_one_up_to_half_or_one_unit_per_token(profile, row):
    probs = softmax(np.array([row], np.int32), RATIO, profile=profile)
    missing = profile.softmax.one - int(probs.sum())
    if profile is INTSIM:
        assert abs(missing) <= len(row) / 2
    else:  # floored quotients, and 256 saturates
        assert 0 <= missing <= len(row)


@both_presets
def test_the_extremes_of_int32_do_not_wrap(profile):
    acc = np.array([[-(2**31), 2**31 - 1], [2**31 - 1, 2**31 - 1], [-(2**31), -(2**31)]], np.int32)
    for shift in (0, 20, 40, 62):
        probs = softmax(acc, Dyadic(2**30, shift), profile=profile)
        assert probs.tolist() == expected(acc.tolist(), (2**30, shift), None, profile)


def test_a_difference_times_a_multiplier_beyond_int64_is_refused_and_does_not_wrap():
    acc = np.array([[-(2**31), 2**31 - 1]], np.int32)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        softmax(acc, Dyadic(2**31 - 1, 62), profile=INTSIM)


@both_presets
@pytest.mark.parametrize("ratio", [Dyadic([1, 1], [3, 3]), Dyadic([-1], [3]), Dyadic(0, 0), Dyadic(-1, 3)], ids=str)
def test_a_ratio_that_is_not_one_positive_number_is_refused(profile, ratio):
    with pytest.raises(ValueError, match="ratio must be one positive dyadic, got multiplier"):
        softmax(np.zeros((1, 2), np.int32), ratio, profile=profile)


@both_presets
@pytest.mark.parametrize("pair", [(3, 1), (5, 0), (2**31 - 1, 31)])
def test_the_table_of_differences_holds_exp_of_each_and_begins_at_the_lowest_argument(profile, pair):
    table = _by_difference(*pair, profile)
    into = {"zero_point": 0, "lo": -(2**15), "hi": 2**15 - 1, "rounding": profile.rounding.value}
    x = [oracle.requantize(-d, *pair, **into) for d in range(len(table))]
    assert table[::-1].tolist() == [oracle.exp(each, profile.to_json()) for each in x]
    assert x[-1] == -(2**15)


@both_presets
@pytest.mark.parametrize("top", [2**30 - 1, 2**30, 2**30 + 1])
def test_scores_on_both_sides_of_the_int32_difference_are_exact(profile, top):
    acc = np.array([[-top, top, 0, top - 300], [top, -top, top, -top]], np.int32)
    for mask in (None, [[True, False, True, True], [True, True, False, True]]):
        keep = None if mask is None else np.array(mask)
        probs = softmax(acc, Dyadic(2**30, 33), profile=profile, mask=keep)
        assert probs.tolist() == expected(acc.tolist(), (2**30, 33), mask, profile)


@both_presets
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_every_integer_dtype_gives_the_same_probabilities(profile, dtype):
    acc = np.array([[0, 100, 127, 3], [5, 5, 5, 100]], dtype)
    mask = np.array([[True, True, False, True]] * 2)
    ratio = Dyadic(2**30, 26)
    assert softmax(acc, ratio, profile=profile, mask=mask).tolist() == expected(
        acc.tolist(), (2**30, 26), mask.tolist(), profile
    )


@both_presets
@pytest.mark.parametrize("masked", [False, True])
def test_neither_batching_nor_blocks_change_a_bit(profile, masked, monkeypatch):
    rng = np.random.default_rng(0)
    acc = rng.integers(-3000, 3000, (3, 4, 29, 31)).astype(np.int32)
    mask = (rng.random((3, 1, 1, 31)) < 0.7) if masked else None
    if masked:
        mask[1, ..., :] = False
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    whole = softmax(acc, RATIO, profile=profile, mask=mask)
    monkeypatch.setattr(blocks, "BLOCK", 100)
    assert np.array_equal(softmax(acc, RATIO, profile=profile, mask=mask), whole)
    for i in range(3):
        keep = None if mask is None else mask[i]
        assert np.array_equal(softmax(acc[i], RATIO, profile=profile, mask=keep), whole[i])
    row = None if mask is None else mask[2, 0, 0]
    assert np.array_equal(softmax(acc[2, 3, 7], RATIO, profile=profile, mask=row), whole[2, 3, 7])


def test_rows_longer_than_a_block_are_finished():
    """A block that waits for blocks of its own would wait forever: in a process that can be ended."""
    program = """
import numpy as np
from intsim import ops
from intsim.carrier import blocks
from intsim.fixedpoint import Dyadic
from intsim.profile import INTSIM
blocks.BLOCK = 64
acc = np.random.default_rng(1).integers(-3000, 3000, (9, 200)).astype(np.int32)
print(ops.softmax(acc, Dyadic(1583594044, 38), profile=INTSIM).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    acc = np.random.default_rng(1).integers(-3000, 3000, (9, 200))
    pair = int(RATIO.multiplier), int(RATIO.shift)
    assert json.loads(done.stdout) == expected(acc.tolist(), pair, None, INTSIM)


@both_presets
def test_a_mask_of_ones_is_no_mask(profile):
    acc = np.random.default_rng(2).integers(-3000, 3000, (5, 6)).astype(np.int32)
    probs = softmax(acc, RATIO, profile=profile)
    assert np.array_equal(softmax(acc, RATIO, profile=profile, mask=np.ones(6, bool)), probs)
    assert np.array_equal(softmax(acc, RATIO, profile=profile, mask=np.ones((5, 1), bool)), probs)


def test_one_is_read_from_the_profile_and_beyond_256_takes_16_bits():
    acc = np.array([[0, 0]], np.int32)
    for one, half in ((255, 128), (256, 128), (100, 50), (1, 1), (257, 129), (32768, 16384), (65535, 32768)):
        profile = replace(INTSIM, softmax=replace(INTSIM.softmax, one=one))
        probs = softmax(acc, RATIO, profile=profile)
        assert probs.tolist() == [[half, half]]
        assert probs.dtype == (np.uint8 if one <= 256 else np.uint16)


WIDE = [
    replace(preset, name=f"{preset.name}-{one}-{rounding}", step_rounding=rounding, softmax=Softmax(one=one))
    for preset in (INTSIM, IBERT)
    for one in (257, 65535)
    for rounding in Rounding
]


@given(case=attentions(), profile=st.sampled_from(WIDE))
@example(case=([[0, 0, 0]], None, (2**30, 30)), profile=WIDE[0])
@example(case=([[2**31 - 1, -(2**31)]], [[True, True]], (2**30, 40)), profile=WIDE[5])
def test_probabilities_of_16_bits_are_those_of_the_oracle(case, profile):
    acc, mask, pair = case
    keep = None if mask is None else np.array(mask)
    probs = softmax(np.array(acc, np.int32), Dyadic(*pair), profile=profile, mask=keep)
    assert probs.dtype == np.uint16
    assert probs.tolist() == expected(acc, pair, mask, profile)


@pytest.mark.parametrize("profile", WIDE, ids=lambda profile: profile.name)
def test_rows_of_a_real_size_in_16_bits_are_those_of_the_oracle(profile):
    rng = np.random.default_rng(3)
    acc = rng.integers(-3000, 3000, (4, 300)).astype(np.int32)
    acc[0] = 5
    acc[1, 0] = 2**20
    mask = np.arange(300) < np.array([300, 300, 17, 255])[:, None]
    probs = softmax(acc, RATIO, profile=profile, mask=mask)
    pair = int(RATIO.multiplier), int(RATIO.shift)
    assert probs.tolist() == expected(acc.tolist(), pair, mask.tolist(), profile)


def test_a_flat_row_of_more_than_510_positions_is_all_0_in_8_bits_and_not_in_16():
    wide = replace(INTSIM, softmax=Softmax(one=65535))
    for positions, narrow, fine in ((510, 1, 129), (511, 0, 128), (2048, 0, 32), (131_070, 0, 1), (131_071, 0, 0)):
        acc = np.zeros((1, positions), np.int32)
        assert set(softmax(acc, RATIO, profile=INTSIM)[0].tolist()) == {narrow}
        assert set(softmax(acc, RATIO, profile=wide)[0].tolist()) == {fine}


@pytest.mark.parametrize("positions", [1, 2, 3, 511, 4095])
def test_a_row_of_16_bits_sums_to_no_more_than_the_profile_says(positions):
    """Of equal scores just above a half unit too much each, and of one score that takes it all."""
    acc = np.zeros((2, positions), np.int32)
    acc[1, 0] = 2**30
    for one in (255, 65535):
        profile = replace(INTSIM, softmax=Softmax(one=one))
        sums = softmax(acc, RATIO, profile=profile).sum(axis=-1, dtype=np.int64)
        assert sums[1] == one
        assert sums.max() <= profile.row_sum(positions)
    row = np.zeros((1, 2 * one), np.int32)
    assert softmax(row, RATIO, profile=profile).sum(dtype=np.int64) == profile.row_sum(2 * one) == 2 * one


@pytest.mark.parametrize("one", [0, 65536])
def test_another_one_is_refused(one):
    with pytest.raises(ValueError, match=rf"one must be in \[1, 65535\], got {one}"):
        Softmax(one=one)


def test_the_scores_are_left_as_they_were():
    acc = np.array([[1, 2, 3]], np.int32)
    mask = np.array([True, False, True])
    softmax(acc, RATIO, profile=INTSIM, mask=mask)
    assert acc.tolist() == [[1, 2, 3]]
    assert mask.tolist() == [True, False, True]


def test_a_mask_that_is_not_boolean_is_refused():
    with pytest.raises(TypeError):
        softmax(np.zeros((1, 2), np.int32), RATIO, profile=INTSIM, mask=np.array([2, 0]))  # type: ignore[arg-type]


@every_other_dtype_than_integers
def test_what_is_not_an_integer_array_is_refused(dtype):
    with pytest.raises(TypeError, match="acc must have an integer dtype"):
        softmax(np.zeros((2, 3), dtype), RATIO, profile=INTSIM)
