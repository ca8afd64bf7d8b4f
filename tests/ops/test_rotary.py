# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from edges import edge_integers, every_other_dtype_than_int16, every_rounding
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim._trace import call, trace
from intsim.carrier import blocks
from intsim.convert.rotary_table import rotary_table
from intsim.fixedpoint import Rounding
from intsim.ops import rotary

CODES = edge_integers(-(2**15), 2**15 - 1)
TURNS = edge_integers(-(2**14), 2**14)
TIES = st.sampled_from([sign * 2**k for k in (0, 6, 7, 12, 13, 14) for sign in (-1, 1)])  # times 2**13 - 2**k: ties
every_pairing = pytest.mark.parametrize("pairing", ["halves", "neighbours"])


def expected(x, cos, sin, pairing, rounding):
    """The same, token by token, tables repeated for batch and heads."""
    tables = [np.broadcast_to(t if t.ndim == 2 else t[:, None], (*x.shape[:-1], t.shape[-1])) for t in (cos, sin)]
    rows = [a.reshape(-1, a.shape[-1]).tolist() for a in (x, *tables)]
    turned = [oracle.rotary(*row, pairing=pairing, mode=rounding) for row in zip(*rows, strict=True)]
    return np.array(turned).reshape(x.shape).tolist()


@st.composite
def heads(draw):
    """Codes (B, H, T, D) and tables for each sequence, or one for all."""
    batch, count, tokens, pairs, rest = (draw(st.integers(low, 3)) for low in (1, 1, 1, 1, 0))
    x = draw(hnp.arrays(np.int16, (batch, count, tokens, 2 * pairs + rest), elements=CODES | TIES))
    shape = draw(st.sampled_from([(tokens, pairs), (batch, tokens, pairs)]))
    cos, sin = (draw(hnp.arrays(np.int16, shape, elements=TURNS | TIES)) for _ in range(2))
    return x, cos, sin


@every_rounding
@every_pairing
@given(case=heads())
def test_pairs_are_turned_as_the_oracle_turns_them(pairing, rounding, case):
    y = rotary(*case, pairing=pairing, rounding=rounding)
    assert y.dtype == np.int32
    assert y.tolist() == expected(*case, pairing, rounding)


@every_rounding
def test_ties_of_both_results_go_where_the_rounding_says(rounding):
    odd = np.arange(-9, 10, 2)
    a, b = (part.ravel() for part in np.meshgrid(odd, odd))
    x = np.stack([a, b], axis=-1).astype(np.int16)[None]  # (1, T, 2)
    for turn in ((2**13, 0), (0, 2**13), (-(2**13), 0), (0, -(2**13))):
        cos, sin = (np.full((x.shape[1], 1), part, np.int16) for part in turn)
        y = rotary(x, cos, sin, pairing="halves", rounding=rounding)
        assert y.tolist() == expected(x[None], cos, sin, "halves", rounding)[0]


def test_the_extremes_of_codes_and_tables_do_not_wrap():
    ends = np.array([-(2**15), 2**15 - 1], np.int16)
    turns = np.array([-(2**14), 2**14], np.int16)
    a, b, c, s = (part.ravel() for part in np.meshgrid(ends, ends, turns, turns))
    y = rotary(np.stack([a, b], axis=-1)[None], c[:, None], s[:, None], pairing="neighbours", rounding=Rounding.FLOOR)
    a, b, c, s = (part.astype(int) for part in (a, b, c, s))
    assert y[0].tolist() == (np.stack([a * c - b * s, b * c + a * s], axis=-1) >> 14).tolist()
    assert y.max() == 2**16  # both products at their largest, which no angle gives


def test_a_turn_by_a_real_angle_takes_17_bits_at_most():
    cos, sin = rotary_table([0.7853981633974483 + 2.0**-14], 10_000)  # an eighth of a circle and a bit more
    x = np.full((1, 10_000, 2), -(2**15), np.int16)
    y = rotary(x, cos, sin, pairing="halves", rounding=Rounding.HALF_UP)
    assert 2**15 * 2**0.5 <= abs(y).max() <= 2**15 * 2**0.5 + 3


@every_pairing
def test_channels_beyond_the_rotated_ones_pass_through(pairing):
    x = np.arange(24, dtype=np.int16).reshape(1, 2, 2, 6)
    cos, sin = np.zeros((2, 1), np.int16), np.full((2, 1), 2**14, np.int16)  # a quarter turn
    y = rotary(x, cos, sin, pairing=pairing, rounding=Rounding.HALF_UP)
    assert y[..., 2:].tolist() == x[..., 2:].tolist()
    assert y[..., :2].tolist() == np.stack([-x[..., 1], x[..., 0]], axis=-1).tolist()


def test_both_pairings_are_the_same_turns_of_permuted_channels():
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**15), 2**15, (2, 3, 5, 8)).astype(np.int16)
    cos, sin = rotary_table([1.0, 0.1, 0.01, 0.001], 5)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    halves = rotary(x, cos, sin, pairing="halves", rounding=Rounding.HALF_UP)
    neighbours = rotary(x[..., order], cos, sin, pairing="neighbours", rounding=Rounding.HALF_UP)
    assert np.array_equal(halves[..., order], neighbours)


def test_a_turn_keeps_the_length_of_a_pair_and_adds_up():
    x = np.array([[[[20000, -15000]] * 40]], np.int16)
    cos, sin = rotary_table([0.3], 40)
    y = rotary(x, cos, sin, pairing="halves", rounding=Rounding.HALF_UP)[0, 0]
    assert abs(np.hypot(*y.T) - 25000).max() < 2.5
    assert abs(np.diff(np.unwrap(np.arctan2(y[:, 1], y[:, 0]))) - 0.3).max() < 3e-4


@every_pairing
@pytest.mark.parametrize("per_sequence", [False, True])
def test_neither_batching_nor_blocks_change_a_bit(pairing, per_sequence, monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**15), 2**15, (3, 4, 7, 10)).astype(np.int16)
    shape = (3, 7, 4) if per_sequence else (7, 4)
    cos, sin = (rng.integers(-(2**14), 2**14 + 1, shape).astype(np.int16) for _ in range(2))
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    whole = rotary(x, cos, sin, pairing=pairing, rounding=Rounding.HALF_EVEN)
    monkeypatch.setattr(blocks, "BLOCK", 50)
    assert np.array_equal(rotary(x, cos, sin, pairing=pairing, rounding=Rounding.HALF_EVEN), whole)
    for i in range(3):
        tables = (cos[i], sin[i]) if per_sequence else (cos, sin)
        assert np.array_equal(rotary(x[i], *tables, pairing=pairing, rounding=Rounding.HALF_EVEN), whole[i])


def test_no_token_is_turned_into_none():
    table = np.zeros((0, 2), np.int16)
    y = rotary(np.zeros((1, 3, 0, 4), np.int16), table, table, pairing="halves", rounding=Rounding.HALF_UP)
    assert (y.shape, y.dtype) == ((1, 3, 0, 4), np.int32)


def test_the_sums_before_rounding_are_steps():
    x = np.array([[[3, 5]]], np.int16)
    cos, sin = (np.array([[part]], np.int16) for part in (100, 200))
    with trace("steps") as steps:
        call("turn", rotary, x, cos, sin, pairing="halves", rounding=Rounding.FLOOR)
    assert {name: values.ravel().tolist() for name, values in steps.items()} == {
        "turn:first": [-700],
        "turn:second": [1100],
        "turn": [-1, 0],
    }


def test_the_codes_are_left_as_they_were():
    x = np.array([[[1, 2]]], np.int16)
    rotary(x, np.zeros((1, 1), np.int16), np.ones((1, 1), np.int16), pairing="halves", rounding=Rounding.FLOOR)
    assert x.tolist() == [[[1, 2]]]


@every_other_dtype_than_int16
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_int16_is_refused(dtype, which):
    operands = [np.zeros((1, 1, 2), np.int16), np.zeros((1, 1), np.int16), np.zeros((1, 1), np.int16)]
    operands[which] = operands[which].astype(dtype)
    with pytest.raises(TypeError, match=f"{('x_q', 'cos', 'sin')[which]} must have dtype int16"):
        rotary(*operands, pairing="halves", rounding=Rounding.FLOOR)


@pytest.mark.parametrize("beyond", [-(2**14) - 1, 2**14 + 1])
@pytest.mark.parametrize("which", ["cos", "sin"])
def test_a_table_beyond_1_is_refused(beyond, which):
    tables = {name: np.full((1, 1), beyond if name == which else 0, np.int16) for name in ("cos", "sin")}
    with pytest.raises(ValueError, match=f"{which} must be within"):
        rotary(np.zeros((1, 1, 2), np.int16), **tables, pairing="halves", rounding=Rounding.FLOOR)


def test_more_pairs_than_channels_and_other_pairings_are_refused():
    x, table = np.zeros((1, 1, 3), np.int16), np.zeros((1, 2), np.int16)
    with pytest.raises(ValueError, match="must have at most 1 pairs of channels, got 2"):
        rotary(x, table, table, pairing="halves", rounding=Rounding.FLOOR)
    with pytest.raises(ValueError, match="pairing must be one of halves, neighbours"):
        rotary(x, table[:, :1], table[:, :1], pairing="quarters", rounding=Rounding.FLOOR)
