# SPDX-License-Identifier: Apache-2.0
"""Steps of several operators against these operators, one after the other."""

import weakref
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from edges import CROSSED, edge_integers, every_rounding, per_channel, profiles, ranges
from hypothesis import assume, example, given
from hypothesis import strategies as st

from intsim import ops, trace
from intsim._trace import call
from intsim.carrier import exact, rowwise
from intsim.carrier.exact import Weight
from intsim.carrier.steps import Attention, Codes, Dense, Residual
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding, round_fraction
from intsim.ops.layer_norm import LayerNormParams, carried_norm
from intsim.ops.softmax import carried_softmax
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, find_profile

CARRIED = [Rounding.FLOOR, Rounding.HALF_UP, Rounding.HALF_EVEN]
CARRIED_PROFILES = [
    profile
    for profile in (INTSIM, IBERT, *CROSSED)
    if profile.rounding in CARRIED and profile.step_rounding in (Rounding.FLOOR, Rounding.HALF_UP)
]
EXACT = 2**53
LARGEST = 2**24
narrow = st.sampled_from([INT8, UINT8, INT16, IntRange(4), IntRange(12)])


@st.composite
def ratios(draw):
    """Ratios of a layer, positive, per tensor or for three channels."""
    pairs = [(draw(st.sampled_from([2**30, 3]) | edge_integers(1, 2**31 - 1)), draw(st.integers(0, 55))) for _ in "abc"]
    return Dyadic(*pairs[0]) if draw(st.booleans()) else per_channel(pairs)


def accumulators(ratio, bias, to, k):
    """Rows of int32, most of them where (acc + bias) m / 2**t is next to a tie or an integer near code k."""
    rows = []
    for part in (0, 1):
        numerator = (2 * k + part) * 2 ** np.minimum(ratio.shift, 50).astype(object)
        near = numerator // (2 * ratio.multiplier.astype(object)) - bias.astype(object)
        rows += [near + step for step in (-1, 0, 1)]
    table = [0, 1, -1, LARGEST, -LARGEST, to.max, to.min]
    rows += [np.full(np.shape(bias), value, object) for value in table]
    return np.clip(np.array(rows, object), -LARGEST, LARGEST).astype(np.int32)


@pytest.mark.parametrize("rounding", CARRIED, ids=str)
@given(ratio=ratios(), to=narrow, data=st.data())
@example(ratio=Dyadic(2**30, 31), to=INT8, data=None)
def test_codes_are_those_of_requantize(rounding, ratio, to, data):
    bias, zero_point, k = np.array([5, -6, 0]), 3, 2
    if data is not None:
        bias = np.array([data.draw(edge_integers(-(2**24), 2**24)) for _ in "abc"])
        zero_point = data.draw(edge_integers(to.min, to.max))
        k = data.draw(edge_integers(to.min, to.max))
    bound = np.full(3, LARGEST)
    codes = Codes.build(ratio, acc_bound=bound, bias=bias, to=to, zero_point=zero_point, rounding=rounding)
    assume(codes is not None)
    acc = accumulators(ratio, bias, to, k)
    expected = ops.requantize(acc.astype(np.int64) + bias, ratio, to=to, rounding=rounding, zero_point=zero_point)
    for dtype in (np.float32, np.float64, np.int32):
        y = codes(acc.astype(dtype))
        assert y.dtype == to.dtype
        assert np.array_equal(y, expected)


def test_the_half_of_a_rounding_counts_where_no_bit_is_dropped():
    """2**53 - 2**30 and a half is not a float64: beside a bias of that size the half would be lost."""
    ratio, bias = Dyadic(np.full(3, 2**30), np.zeros(3, np.int64)), np.full(3, -(2**23) + 1)
    constants = {"acc_bound": np.full(3, LARGEST), "to": INT8, "zero_point": -128, "rounding": Rounding.HALF_UP}
    assert Codes.build(ratio, bias=bias, **constants) is None
    assert Codes.build(ratio, bias=bias >> 2, **constants) is not None


@pytest.mark.parametrize("rounding", CARRIED, ids=str)
@given(ratio=ratios(), data=st.data())
def test_a_table_is_read_at_the_int16_codes(rounding, ratio, data):
    bias = np.array([data.draw(edge_integers(-(2**20), 2**20)) for _ in "abc"])
    table = np.random.default_rng(0).integers(-128, 128, 2**16).astype(np.int8)
    constants = {"acc_bound": np.full(3, LARGEST), "bias": bias, "to": INT16, "zero_point": 0, "rounding": rounding}
    codes = Codes.build(ratio, table=table, **constants)
    assume(codes is not None)
    acc = accumulators(ratio, bias, INT16, data.draw(edge_integers(INT16.min, INT16.max)))
    index = ops.requantize(acc.astype(np.int64) + bias, ratio, to=INT16, rounding=rounding).astype(int) + 2**15
    assert np.array_equal(codes(acc), table[index])


def test_ratios_that_float64_cannot_carry_are_refused():
    def build(ratio, rounding=Rounding.HALF_UP, bias=0, zero_point=0, to=INT8):
        bound, biases = np.array(LARGEST), np.array(bias)
        return Codes.build(ratio, acc_bound=bound, bias=biases, to=to, zero_point=zero_point, rounding=rounding)

    assert build(Dyadic(2**31 - 1, 45))  # 129 * 2**45 <= 2**53: saturates
    assert build(Dyadic(2**28 - 1, 52), to=UINT8)  # 2**24 m + 2**52 <= 2**53: fits
    assert not build(Dyadic(2**31 - 1, 46), zero_point=-128)
    assert not build(Dyadic(2**31 - 1, 48))
    assert not build(Dyadic(2**31 - 1, 45), bias=2**23)
    assert not build(Dyadic(3, 1), rounding=Rounding.HALF_AWAY)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("m", "t", "units"), [(1, 20, 1), (-3, 20, 1), (5, 0, 2)])
@pytest.mark.parametrize(("to", "zero_point"), [(INT8, 0), (INT8, -128), (UINT8, 200), (IntRange(8, narrow=True), 3)])
def test_codes_are_refused_from_the_first_bias_beyond_the_bound_of_what_saturates(sign, m, t, units, to, zero_point):
    """|bias| m + (farthest code from the zero point + 1) 2**t <= 2**53, in units of 1/2 where t = 0."""
    reach = max(zero_point - to.min, to.max - zero_point) + 1
    largest = (EXACT - units * reach * 2**t) // (units * abs(m))
    into = {"acc_bound": np.array([2**61]), "to": to, "zero_point": zero_point, "rounding": Rounding.HALF_UP}
    assert Codes.build(Dyadic([m], [t]), bias=np.array([sign * largest]), **into) is not None
    assert Codes.build(Dyadic([m], [t]), bias=np.array([sign * (largest + 1)]), **into) is None


@pytest.mark.parametrize(("to", "zero_point"), [(UINT8, 0), (UINT8, 1), (INT8, -128), (INT8, -100)])
@pytest.mark.parametrize("m", [1, -3])
def test_codes_that_fit_are_carried_up_to_their_bound(to, zero_point, m):
    """(|acc| + |bias|) m + (zero point above the lowest code + 1) 2**t <= 2**53, though the highest code is too far."""
    room = (EXACT - (zero_point - to.min + 1) * 2**46) // abs(m)
    into = {"to": to, "zero_point": zero_point, "rounding": Rounding.HALF_UP}
    for bias in (0, 5, -7):
        for step in (0, 1):
            acc_bound = np.array([room - abs(bias) + step])
            codes = Codes.build(Dyadic([m], [46]), bias=np.array([bias]), acc_bound=acc_bound, **into)
            assert (codes is None) == bool(step)
    channels = {"bias": np.zeros(2, np.int64), "acc_bound": np.array([room, room + 1])}
    assert Codes.build(Dyadic([m, m], [46, 46]), **channels, **into) is None


def test_dense_is_the_product_and_its_codes():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (2, 5, 7)).astype(np.int8), rng.integers(-128, 128, (3, 7)).astype(np.int8)
    ratio, bias = Dyadic([2**20, 2**19, 3], [30] * 3), np.array([1000, -2000, 3])
    weight = Weight(w)
    into = {"to": INT8, "zero_point": 5, "rounding": Rounding.HALF_UP}
    codes = Codes.build(ratio, acc_bound=weight.norms * 128, bias=bias, **into)
    acc = ops.matmul(x, w, bias=bias.astype(np.int32))
    assert np.array_equal(Dense(weight=weight, codes=codes)(x), ops.requantize(acc, ratio, **into))


@pytest.mark.parametrize("heads", [(), (3,)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_its_two_products_and_softmax(masked, heads):
    rng = np.random.default_rng(0)
    query, key, value = (rng.integers(-128, 128, (2, *heads, 5, 4)).astype(np.int8) for _ in "qkv")
    keep = rng.random((2, *[1 for _ in heads], 1, 5)) < 0.6 if masked else np.ones((1, 5), np.bool_)
    scores, out = Dyadic(3, 12), Dyadic(2**20, 28)
    softmax = carried_softmax(scores, profile=INTSIM, bound=LARGEST // 2, columns=5)
    into = {"to": INT8, "zero_point": -3, "rounding": Rounding.HALF_UP}
    codes = Codes.build(out, acc_bound=np.array(LARGEST), bias=np.array(0), **into)
    probs = ops.softmax(ops.matmul(query, key), scores, profile=INTSIM, mask=keep)
    expected = ops.requantize(ops.matmul(probs, value.swapaxes(-1, -2)), out, **into)
    assert np.array_equal(Attention(softmax=softmax, codes=codes)(query, key, value, keep), expected)


@st.composite
def residuals(draw, channels=4):
    profile = replace(draw(st.sampled_from([INTSIM, IBERT])), rounding=draw(st.sampled_from(CARRIED)))
    once = profile.sum == "once"
    shift = draw(st.integers(18, 34))
    multipliers = st.integers(1, 2**30 - 1) | st.sampled_from([2**29, 2**28])
    shifts = [shift] * channels if once else [draw(st.integers(30, 40)) for _ in range(channels)]
    ratio = Dyadic([draw(multipliers) for _ in range(channels)], shifts)
    skip_ratio = Dyadic(draw(multipliers), shift)
    bias = np.array([draw(edge_integers(-(2**16), 2**16)) for _ in range(channels)])
    acc = np.array([[draw(edge_integers(-LARGEST, LARGEST)) for _ in range(channels)] for _ in range(3)])
    skip = np.array([[draw(st.integers(-128, 127)) for _ in range(channels)] for _ in range(3)], np.int8)
    zero_point = draw(st.sampled_from([0, -5, 2**15 - 1])) if once else 0
    return profile, (ratio, skip_ratio), bias, acc, skip, zero_point


@given(case=residuals(), skip_zero_point=st.integers(-128, 127))
def test_a_residual_is_the_sum_and_its_layer_norm(case, skip_zero_point):
    profile, pair, bias, acc, skip, zero_point = case
    params = LayerNormParams(weight=Dyadic([2**28, -(2**27), 3, 2**29], [40] * 4), bias=np.arange(4) << 38, eps=2)
    norm = carried_norm(params, to=INT8, profile=profile)
    step = Residual.build(
        Weight(np.eye(4, dtype=np.int8)),
        bias,
        pair,
        norm,
        skip=INT8,
        skip_zero_point=skip_zero_point,
        to=INT16,
        zero_point=zero_point,
        rounding=profile.rounding,
        each=profile.sum == "each",
    )
    assume(step is not None)
    operands = [(acc + bias).astype(np.int32), skip.astype(np.int32) - skip_zero_point]
    total = ops.add(operands, list(pair), to=INT16, profile=profile, zero_point=zero_point)
    expected = ops.layer_norm(total, params, to=INT8, profile=profile)
    assert np.array_equal(step.after_product(acc.astype(np.float32), skip), expected)
    handed_on = replace(step, norm=lambda y: y.astype(np.int64))
    assert np.array_equal(handed_on.after_product(acc.astype(np.float32), skip), total)


def residual(
    *, each, bias=0, m=1, t=20, m_2=1, t_2=20, skip=INT8, skip_zero_point=0, to=INT16, zero_point=0, rounding=CARRIED[1]
):
    """The step of one channel with weight 1 and a LayerNorm that any step may have, or None."""
    profile = replace(IBERT if each else INTSIM, rounding=rounding)
    params = LayerNormParams(weight=Dyadic([1], [0]), bias=np.zeros(1, np.int64), eps=1)
    return Residual.build(
        Weight(np.ones((1, 1), np.int8)),
        np.array([bias]),
        (Dyadic([m], [t]), Dyadic(m_2, t_2)),
        carried_norm(params, to=INT8, profile=profile),
        skip=skip,
        skip_zero_point=skip_zero_point,
        to=to,
        zero_point=zero_point,
        rounding=rounding,
        each=each,
    )


def test_a_residual_multiplies_first():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (2, 5, 7)).astype(np.int8), rng.integers(-128, 128, (4, 7)).astype(np.int8)
    skip, bias = rng.integers(-128, 128, (2, 5, 4)).astype(np.int8), np.array([1000, -2000, 3, 0])
    pair = Dyadic([2**20, 2**19, 3, 2**21], [30] * 4), Dyadic(2**29, 30)
    params = LayerNormParams(weight=Dyadic([2**28, -(2**27), 3, 2**29], [40] * 4), bias=np.arange(4) << 38, eps=2)
    step = Residual.build(
        Weight(w),
        bias,
        pair,
        carried_norm(params, to=INT8, profile=INTSIM),
        skip=INT8,
        skip_zero_point=2,
        to=INT16,
        zero_point=1,
        rounding=INTSIM.rounding,
        each=False,
    )
    operands = [ops.matmul(x, w, bias=bias.astype(np.int32)), skip.astype(np.int32) - 2]
    total = ops.add(operands, list(pair), to=INT16, profile=INTSIM, zero_point=1)
    assert np.array_equal(step(x, skip), ops.layer_norm(total, params, to=INT8, profile=INTSIM))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("m", "t", "units"), [(1, 20, 1), (3, 20, 1), (-3, 20, 1), (2**20, 8, 1), (1, 0, 2)])
@pytest.mark.parametrize(("skip", "skip_reach"), [(INT8, 256), (UINT8, 510), (IntRange(8, narrow=True), 254)])
@pytest.mark.parametrize(("to", "zero_point"), [(INT16, 0), (INT16, -5), (UINT8, 7), (IntRange(8, narrow=True), 1)])
def test_a_residual_is_refused_from_the_first_bias_beyond_its_bound(
    sign, m, t, units, skip, skip_reach, to, zero_point
):
    """|bias| m + (|skip| + |its zero point|) m_2 + (largest code + |zero point| + 2) 2**t <= 2**53, in units of 1/2."""
    constants = {"m": m, "t": t, "t_2": t, "m_2": -11, "skip": skip, "to": to, "zero_point": zero_point}
    codes = max(-to.min, to.max) + abs(zero_point) + 2
    for each in (False, True) if t else (False,):
        other = 0 if each else skip_reach * 11
        reach = codes + ((skip_reach * 11 >> t) + 1 if each else 0)
        largest = (EXACT - units * (other + reach * 2**t)) // (units * abs(m))
        assert residual(each=each, bias=sign * largest, **constants) is not None
        assert residual(each=each, bias=sign * (largest + 1), **constants) is None


def test_a_second_operand_that_is_rounded_alone_stays_below_2_to_30():
    for m_2, t_2 in ((2**23 - 257, 1), (2**24 - 514, 2), (2**22 - 129, 0)):
        shared = {"each": True, "m_2": m_2, "t_2": t_2, "t": 20}
        spare = 2**30 - 2**15 - 2 - (256 * m_2 * (2 if t_2 == 0 else 1) >> max(t_2, 1)) - 1
        assert 0 <= spare < 2**15
        assert residual(zero_point=spare, **shared) is not None
        assert residual(zero_point=spare + 1, **shared) is None


@pytest.mark.parametrize("rounding", [Rounding.TOWARD_ZERO, Rounding.HALF_AWAY], ids=str)
@pytest.mark.parametrize("each", [False, True], ids=["once", "each"])
def test_a_residual_of_another_rounding_or_with_a_second_ratio_per_channel_is_refused(each, rounding):
    assert residual(each=each) is not None
    assert residual(each=each, rounding=rounding) is None
    assert residual(each=each, m_2=[1], t_2=[20]) is None


@pytest.mark.parametrize(("each", "zero_point"), [(False, 0), (False, -5), (False, 2**15 - 1), (True, 0)])
@pytest.mark.parametrize("skip_zero_point", [-128, 0, 127])
@pytest.mark.parametrize("rounding", CARRIED, ids=str)
def test_what_a_residual_hands_on_is_rounded_and_cut_off_as_add_does_it(each, rounding, skip_zero_point, zero_point):
    """Sums on integers, on ties and beside them, over all codes and beyond: what LayerNorm sees, not what it makes."""
    acc = np.arange(-(2**19), 2**19, 7)[:, None]
    skip = (np.arange(len(acc)) % 256 - 128).astype(np.int8)[:, None]
    constants = {"skip_zero_point": skip_zero_point, "zero_point": zero_point}
    step = residual(each=each, bias=3, m=2, t=4, m_2=5, t_2=4, rounding=rounding, **constants)
    seen = replace(step, norm=lambda y: y.astype(np.int64))
    profile = replace(IBERT if each else INTSIM, rounding=rounding)
    operands, ratios = [acc + 3, skip.astype(np.int64) - skip_zero_point], [Dyadic([2], [4]), Dyadic(5, 4)]
    expected = ops.add(operands, ratios, to=INT16, profile=profile, zero_point=zero_point)
    assert np.array_equal(seen.after_product(acc.astype(np.float64), skip), expected)


def norm(bias=0, *, m=1, shift=20, channels=1, to=INT8, fraction=0, rounding=Rounding.HALF_UP, step=Rounding.HALF_UP):
    return rowwise.Norm.build(
        Dyadic([m] * channels, [shift] * channels),
        np.full(channels, bias),
        eps=1,
        fraction=fraction,
        centring="exact",
        shifted=False,
        to=to,
        rounding=rounding,
        step_rounding=step,
    )


@pytest.mark.parametrize(("m", "shift", "channels", "fraction"), [(1, 0, 1, 0), (-5, 1, 3, 4), (2**31 - 1, 20, 3, 4)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("to", [INT8, UINT8, INT16, IntRange(8, narrow=True)], ids=str)
def test_a_layer_norm_is_refused_from_the_first_bias_beyond_its_bound(sign, m, shift, to, channels, fraction):
    """|y m + bias| + 2**(t-1) - to.min 2**t <= 2**53, in halves where t = 0, for the largest y, 2**f sqrt(3 N).

    Or for a y m that saturates whatever is added, 2**(bits + t).
    """
    largest_y = (int((3 * channels) ** 0.5) + 1) * 2**fraction
    room = EXACT // 2 if shift == 0 else EXACT
    reach = min(largest_y * abs(m), 2 ** (to.bits + shift))
    largest = room - reach - ((1 - 2 * to.min) * 2**shift // 2)
    constants = {"m": m, "shift": shift, "channels": channels, "to": to, "fraction": fraction}
    assert norm(sign * largest, **constants) is not None
    assert norm(sign * (largest + 1), **constants) is None


def test_a_layer_norm_of_other_roundings_or_too_many_channels_is_refused():
    assert norm(channels=2**14, fraction=16) is not None
    assert norm(channels=2**14 + 1, fraction=16) is None
    for rounding in Rounding:
        assert (norm(rounding=rounding) is None) == (rounding not in CARRIED)
        assert (norm(step=rounding) is None) == (rounding not in (Rounding.FLOOR, Rounding.HALF_UP))


@every_rounding
@pytest.mark.parametrize("to", [INT8, UINT8, INT16, INT32], ids=str)
def test_a_bias_next_to_a_tie_is_rounded_right_at_every_shift(to, rounding):
    """A row of zero variance gives the bias alone: where float64 cannot hold it beside the lowest code, integers do."""
    profile = replace(INTSIM, rounding=rounding)
    for shift in range(28, 63):
        for k in (0, 1, -1, to.max, to.min, to.max // 2):
            near = [k * 2**shift + 2**shift * half // 2 + beside for half in (0, 1) for beside in (-1, 0, 1)]
            biases = [bias for bias in near if abs(bias) < 2**61] or [0]
            params = LayerNormParams(
                weight=Dyadic([1] * len(biases), [shift] * len(biases)), bias=np.array(biases), eps=1
            )
            y = ops.layer_norm(np.zeros((1, len(biases)), np.int8), params, to=to, profile=profile)
            rounded = [round_fraction(Fraction(bias, 2**shift), rounding) for bias in biases]
            assert y.tolist() == [[min(max(code, to.min), to.max) for code in rounded]]


@given(profile=profiles, to=ranges, seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1, 3, 200, 2**15]))
def test_layer_norm_and_its_definition_agree(profile, to, seed, spread):
    rng = np.random.default_rng(seed)
    x = rng.integers(-spread, spread, (4, 48)).astype(np.int16)
    weight = Dyadic(rng.integers(-(2**30), 2**30, 48), [42] * 48)
    params = LayerNormParams(weight=weight, bias=rng.integers(-(2**46), 2**46, 48), eps=int(rng.integers(1, 99)))
    with trace("steps"):  # takes the definition
        expected = call("x", ops.layer_norm, x, params, to=to, profile=profile)
    assert np.array_equal(ops.layer_norm(x, params, to=to, profile=profile), expected)


@pytest.mark.parametrize("name", ["intsim", "ibert"])
@pytest.mark.parametrize("lowest", [0, 2**14, -(2**15)])
@pytest.mark.parametrize("apart", [1, 49])
def test_layer_norm_finds_integers_and_ties_among_its_quotients(name, lowest, apart):
    """All rows of four of 13 codes: thousands of quotients are integers and hundreds, to be rounded half up, ties."""
    profile = find_profile(name)
    profile = replace(profile, layer_norm=replace(profile.layer_norm, output_fraction=3))
    x = (lowest + apart * np.indices((13,) * 4).reshape(4, -1).T).astype(np.int16)
    params = LayerNormParams(weight=Dyadic([2**30] * 4, [30] * 4), bias=np.zeros(4, np.int64), eps=1)
    with trace("steps"):  # takes the definition
        expected = call("x", ops.layer_norm, x, params, to=INT16, profile=profile)
    assert np.array_equal(ops.layer_norm(x, params, to=INT16, profile=profile), expected)


@given(profile=profiles, seed=st.integers(0, 2**32 - 1), tokens=st.sampled_from([1, 2, 3, 17, 64]), data=st.data())
def test_softmax_and_its_definition_agree(profile, seed, tokens, data):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-300, 300, (2, 3, 5, tokens)).astype(np.int32) * data.draw(st.sampled_from([1, 50, 3000]))
    ratio = Dyadic(data.draw(edge_integers(1, 2**31 - 1)), data.draw(st.integers(25, 40)))
    mask = rng.random((2, 1, 1, tokens)) < 0.7 if data.draw(st.booleans()) else None
    with trace("steps"):
        expected = call("x", ops.softmax, acc, ratio, profile=profile, mask=mask)
    assert np.array_equal(ops.softmax(acc, ratio, profile=profile, mask=mask), expected)


@given(profile=st.sampled_from(CARRIED_PROFILES), seed=st.integers(0, 2**32 - 1), masked=st.booleans())
def test_differences_of_scores_are_exact_up_to_the_bound_of_float32(profile, seed, masked):
    ratio, rng = Dyadic(3, 3), np.random.default_rng(seed)
    n = -(-(2**15) * 8 // 3)  # the first difference whose x is -2**15
    bound = 2**24 - n - 2
    acc = rng.choice([bound, bound - 1, bound - n + 1, bound - n, bound - n - 1, 0, -bound], (50, 6)).astype(np.int32)
    mask = rng.random((50, 6)) < 0.7 if masked else None
    softmax = carried_softmax(ratio, profile=profile, bound=bound, columns=6)
    assert softmax.carrier == np.float32
    assert carried_softmax(ratio, profile=profile, bound=bound + n, columns=6).carrier == np.float64
    with trace("steps"):  # takes the definition
        expected = call("x", ops.softmax, acc, ratio, profile=profile, mask=mask)
    assert np.array_equal(softmax(acc, mask), expected)


def test_softmax_of_other_roundings_or_of_larger_scores_is_refused():
    def build(columns=2**14, bound=1, m=1, t=0, **roundings):
        return carried_softmax(Dyadic(m, t), profile=replace(INTSIM, **roundings), bound=bound, columns=columns)

    assert build() is not None
    for rounding in Rounding:
        assert (build(rounding=rounding) is None) == (rounding not in CARRIED)
        assert (build(step_rounding=rounding) is None) == (rounding not in (Rounding.FLOOR, Rounding.HALF_UP))
    for m, t in ((1, 20), (3, 20), (5, 30), (1, 0)):  # 2 |acc| m + (2**15 + 1) 2**t <= 2**53, in halves where t = 0
        largest = (EXACT // (1 if t else 2) - (2**15 + 1) * 2**t) // (2 * m)
        assert build(bound=largest, m=m, t=t).carrier == np.float64
        assert build(bound=largest + 1, m=m, t=t) is None


@pytest.mark.parametrize("profile", CARRIED_PROFILES, ids=lambda profile: profile.name)
def test_what_exp_reads_of_fine_scores_is_rounded_as_defined(profile):
    """Eighths: too many differences for a table of theirs, and of every fraction, ties among them, hundreds."""
    below = np.arange(5000, dtype=np.int32)
    acc = np.stack([np.zeros_like(below), -below, -below // 3], axis=-1)
    softmax = carried_softmax(Dyadic(1, 3), profile=profile, bound=5000, columns=3)
    assert softmax.factor == 1 / 8
    with trace("steps"):  # takes the definition
        expected = call("x", ops.softmax, acc, Dyadic(1, 3), profile=profile)
    assert np.array_equal(softmax(acc), expected)


@pytest.mark.parametrize("step_rounding", [Rounding.FLOOR, Rounding.HALF_UP], ids=str)
@pytest.mark.parametrize("one", [255, 256, 257, 32768, 65535])
def test_probabilities_on_an_integer_or_a_tie_are_exact(one, step_rounding):
    """e one / sum e over all sums: every quotient that float64 could bring to the wrong side of an integer."""
    profile = replace(INTSIM, softmax=replace(INTSIM.softmax, one=one), step_rounding=step_rounding)
    softmax = carried_softmax(Dyadic(1, 0), profile=profile, bound=1, columns=1)
    largest = 2**48 // one
    totals = [*range(1, 700), largest - 1, largest - 2**20, largest // 4 * 3, 2 * one * (largest // (2 * one))]
    for total in totals[:: 1 if one == 255 else 7 if one < 2**15 else 21] + totals[-4:]:
        k = np.arange(one + 1)
        part = [k * total // one + step for step in (-1, 0, 1)]
        part += [(2 * k + 1) * total // (2 * one) + step for step in (-1, 0, 1)]
        e = np.unique(np.clip(np.concatenate(part), 0, total))
        half = step_rounding is Rounding.HALF_UP
        expected = (2 * e * one + total) // (2 * total) if half else e * one // total
        probs = softmax.quotients(e.astype(np.float64), total)
        assert probs.dtype == (np.uint8 if one <= 256 else np.uint16)
        assert np.array_equal(probs, expected.clip(max=255) if one == 256 else expected)


def test_rows_whose_sums_pass_2_to_53_are_left_to_the_definition():
    wide = replace(INTSIM, softmax=replace(INTSIM.softmax, one=65535))
    largest = int(ops.exp(np.zeros(1, np.int16), profile=wide)[0])
    longest = 2**53 // largest - 32 * 65535

    def step(columns):
        return carried_softmax(Dyadic(1, 0), profile=wide, bound=1, columns=columns)

    assert step(longest) is not None
    assert step(longest + 1) is None


@pytest.mark.parametrize("step_rounding", [Rounding.FLOOR, Rounding.HALF_UP], ids=str)
def test_quotients_of_the_largest_sums_are_exact(step_rounding):
    """On an integer, on a tie and beside both, with 32 one e + sum e up to 2**53."""
    one, largest = 65535, 2**23
    profile = replace(INTSIM_WIDE, step_rounding=step_rounding)
    columns = 2**53 // largest - 32 * one
    softmax = carried_softmax(Dyadic(1, 0), profile=profile, bound=1, columns=columns)
    for total in (columns * largest, columns * largest - 1, 2**45 + 12345, 2**36 - 1, 2 * one * 2**25):
        k = np.arange(min(one, one * largest // total + 1) + 1)
        part = [k * total // one + step for step in (-1, 0, 1)]
        part += [(2 * k + 1) * total // (2 * one) + step for step in (-1, 0, 1)]
        e = np.unique(np.clip(np.concatenate(part), 0, largest))
        half = step_rounding is Rounding.HALF_UP
        expected = (2 * e * one + total) // (2 * total) if half else e * one // total
        assert np.array_equal(softmax.quotients(e.astype(np.float64), float(total)), expected)


def test_the_root_of_a_square_and_of_its_neighbours_is_exact():
    rng = np.random.default_rng(0)
    root = np.concatenate([np.arange(1, 2000), 2**31 - np.arange(1, 2000), rng.integers(2**20, 2**31, 5000)])
    squares = root * root
    assert np.array_equal(rowwise._root(squares), root)
    assert np.array_equal(rowwise._root(squares - 1), root - 1)
    assert np.array_equal(rowwise._root(np.array([0, 2**62 - 1])), [0, 2**31 - 1])


# Weights


def test_a_deep_product_beyond_2_to_24_is_cut_into_exact_pieces():
    rng = np.random.default_rng(0)
    x = rng.integers(-128, -100, (3, 3072)).astype(np.int8)
    w = rng.integers(100, 128, (5, 3072)).astype(np.int8)
    w[:, 1::2] *= -1
    w[0] = 127
    plain = x.astype(np.int64) @ w.astype(np.int64).T
    assert np.abs(plain).max() > 2**24
    assert np.array_equal(ops.matmul(x, w), plain)
    for step in range(3):  # of odd sums: a single float32 sum would have dropped a bit
        x[0, step] += 1
        assert np.array_equal(ops.matmul(x, w), x.astype(np.int64) @ w.astype(np.int64).T)
    assert np.array_equal(exact.product(x, Weight(w)), x.astype(np.int64) @ w.astype(np.int64).T)


def test_what_is_prepared_of_a_weight_gives_its_product():
    rng = np.random.default_rng(0)
    for depth in (7, 2000, 3000):
        x, w = rng.integers(-128, 128, (3, depth)).astype(np.int8), rng.integers(-128, 128, (5, depth)).astype(np.int8)
        weight, bias = Weight(w), rng.integers(-999, 999, 5).astype(np.int32)
        expected = x.astype(np.int64) @ w.astype(np.int64).T
        for _ in range(2):
            assert np.array_equal(ops.matmul(x, w, carrier=weight), expected)
            assert np.array_equal(ops.matmul(x, w, bias=bias, carrier=weight), expected + bias)
            assert np.array_equal(exact.product(x, weight), expected)
            assert weight.norms.tolist() == np.abs(w.astype(np.int64)).sum(axis=1).tolist()


def test_nothing_is_kept_of_an_array_that_is_multiplied():
    w = np.full((4, 2000), 3, np.int8)
    x = np.ones((2, 2000), np.int8)
    for code in (3, 5):
        w.setflags(write=True)
        w[:] = code
        w.setflags(write=False)
        assert ops.matmul(x, w)[0, 0] == 2000 * code


@pytest.mark.parametrize("keeps", [True, False])
def test_a_copy_is_kept_where_that_is_asked_for(keeps):
    weight = exact.Weight(np.full((8, 8), 5, np.int8), keeps=keeps)
    assert (weight.transposed() is weight.transposed()) is keeps
    copy = weakref.ref(weight.transposed())
    assert (copy() is not None) is keeps


@pytest.mark.parametrize("carrier", ["nope", None, 1])
def test_a_carrier_that_there_is_not_is_refused(carrier):
    with pytest.raises(ValueError, match="carrier must be one of auto, integer, got"):
        ops.matmul(np.eye(2, dtype=np.int8), np.eye(2, dtype=np.int8), carrier=carrier)
