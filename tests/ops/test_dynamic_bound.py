# SPDX-License-Identifier: Apache-2.0
"""dynamic_bound against the oracle and NumPy's quantiles, and the guarantee of TM-IQR."""

import numpy as np
import oracle
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import INT16, INT32, IntRange
from intsim.ops import dynamic_bound
from intsim.strategies import code_arrays

UINT16 = IntRange(16, signed=False)
MAXIMA = st.lists(st.integers(0, 6) | st.integers(0, 65535), min_size=1, max_size=40)  # the few small ones tie


@given(
    x=st.sampled_from([INT16, IntRange(20), INT32]).flatmap(
        lambda codes: code_arrays(codes, shape=st.tuples(*[st.integers(1, 6)] * 3))
    ),
    zero_point=st.sampled_from([-32768, -3, 0, 32767]),
    clip=st.booleans(),
    data=st.data(),
)
def test_bounds_equal_the_oracles(x: np.ndarray, zero_point: int, clip: bool, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=x[..., 0].size, max_size=x[..., 0].size)))
    mask = mask.reshape(x.shape[:2])
    per_token = dynamic_bound(x, per="token", zero_point=zero_point)
    per_sequence = dynamic_bound(x, per="sequence", clip=clip, zero_point=zero_point, mask=mask)
    assert per_token.dtype == per_sequence.dtype == (np.int32 if x.dtype == np.int16 else np.int64)
    for row, keep, tokens, bound in zip(x.tolist(), mask.tolist(), per_token, per_sequence, strict=True):
        zeros = [zero_point] * x.shape[-1]
        assert tokens[:, 0].tolist() == oracle.dynamic_bounds(row, zeros, keep, per="token", clip=False)
        expected = oracle.dynamic_bounds(row, zeros, keep, per="sequence", clip=clip)
        assert [int(bound[0, 0])] * len(row) == expected


# ---- TM-IQR


def _clipped(maxima: list[int]) -> int:
    return int(dynamic_bound(np.array(maxima, np.uint16)[:, None], per="sequence", clip=True)[0, 0])


@given(maxima=MAXIMA)
@example(maxima=[0, 0, 0, 100])  # just 75 %
@example(maxima=[0, 0, 0, 0, 0, 100])
@example(maxima=[7])
def test_at_least_75_percent_of_the_token_maxima_are_not_above_the_clip(maxima: list[int]) -> None:
    bound = _clipped(maxima)
    assert 4 * sum(8 * m <= bound for m in maxima) >= 3 * len(maxima)


def test_no_more_than_75_percent_are_promised() -> None:
    assert _clipped([0, 0, 0, 100]) == 8 * 62.5


@given(maxima=MAXIMA)
def test_the_clip_is_the_whiskers_end_of_numpys_quartiles(maxima: list[int]) -> None:
    q1, q3 = np.quantile(np.array(maxima), [0.25, 0.75])  # quarters of 16-bit integers are exact in float64
    assert _clipped(maxima) == min(8 * max(maxima), 8 * (q3 + 1.5 * (q3 - q1)))


@given(maxima=MAXIMA, padding=st.lists(st.integers(0, 65535), max_size=9), data=st.data())
def test_padding_counts_for_nothing_wherever_it_stands(
    maxima: list[int], padding: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(maxima) + len(padding))))
    x = np.array(maxima + padding, np.uint16)[order, None]
    mask = np.array(order) < len(maxima)
    for clip in (False, True):
        alone = dynamic_bound(np.array(maxima, np.uint16)[:, None], per="sequence", clip=clip)
        assert dynamic_bound(x, per="sequence", clip=clip, mask=mask).tolist() == alone.tolist()


def test_one_loud_token_in_many_is_clipped_and_one_alone_is_not() -> None:
    assert _clipped([10] * 19 + [1000]) == 8 * 10
    assert _clipped([1000]) == 8 * 1000


# ---- extremes


def test_the_farthest_code_from_the_farthest_zero_point_is_65535_away() -> None:
    x = np.array([[-32768, 32767]], np.int16)
    assert dynamic_bound(x, per="token", zero_point=32767).tolist() == [[65535]]
    assert dynamic_bound(x, per="sequence", zero_point=32767).tolist() == [[65535]]
    assert dynamic_bound(x, per="sequence", zero_point=32767, clip=True).tolist() == [[8 * 65535]]
    assert dynamic_bound(np.array([[-32768]], np.int16), per="token").tolist() == [[32768]]


def test_the_farthest_code_of_32_bits_is_farther_than_int32_counts() -> None:
    x = np.array([[-(2**31), 2**31 - 1]], np.int32)
    for zero_point, bound in ((0, 2**31), (2**31 - 1, 2**32 - 1)):
        assert dynamic_bound(x, per="token", zero_point=zero_point).tolist() == [[bound]]
        assert dynamic_bound(x, per="sequence", zero_point=zero_point).tolist() == [[bound]]
        assert dynamic_bound(x, per="sequence", zero_point=zero_point, clip=True).tolist() == [[8 * bound]]


def test_quartiles_of_the_widest_spread_stay_exact() -> None:
    assert _clipped([0] * 3 + [65535] * 10) == 8 * 65535
    assert _clipped([0] * 12 + [65535] * 4) == 5 * 65535  # q3 a quarter of the way: 8 * 2.5 / 4
    assert _clipped([65535] * 9 + [0] * 3) == 8 * 65535


def test_tokens_of_zeros_and_sequences_without_a_token_are_bound_by_0() -> None:
    x = np.array([[5, 5], [5, 9]], np.int8)
    assert dynamic_bound(x, per="token", zero_point=5).tolist() == [[0], [4]]
    for clip in (False, True):
        assert dynamic_bound(x, per="sequence", clip=clip, mask=np.zeros(2, np.bool_)).tolist() == [[0]]
        assert dynamic_bound(np.zeros((3, 4), np.int16), per="sequence", clip=clip).tolist() == [[0]]
    assert dynamic_bound(np.zeros((0, 4), np.int16), per="sequence").tolist() == [[0]]


def test_tokens_without_a_channel_are_bound_by_0() -> None:
    assert dynamic_bound(np.zeros((1, 2, 0), np.int8), per="token", zero_point=3).tolist() == [[[0], [0]]]
    assert dynamic_bound(np.zeros((1, 2, 0), np.int8), per="sequence").tolist() == [[[0]]]


def test_leading_axes_are_kept() -> None:
    x = np.zeros((2, 3, 4, 5), UINT16.dtype)
    assert dynamic_bound(x, per="token").shape == (2, 3, 4, 1)
    assert dynamic_bound(x, per="sequence", clip=True).shape == (2, 3, 1, 1)


# ---- refusals


@pytest.mark.parametrize("x", [np.zeros((2, 2)), np.zeros((2, 2), np.bool_), np.zeros((2, 2), np.int64)])
def test_an_operand_that_is_not_an_integer_of_32_bits_is_refused(x: np.ndarray) -> None:
    with pytest.raises(TypeError, match="x_q must"):
        dynamic_bound(x, per="token")


def test_clipping_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="clip must be asked for sequences, got per='token'"):
        dynamic_bound(np.zeros((2, 2), np.int8), per="token", clip=True)
