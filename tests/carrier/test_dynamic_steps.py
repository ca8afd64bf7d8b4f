# SPDX-License-Identifier: Apache-2.0
"""Steps of layers quantized while they run against their operators, one after the other."""

from dataclasses import replace

import numpy as np
import pytest
from edges import edge_integers, per_channel
from hypothesis import assume, given
from hypothesis import strategies as st

from intsim import ops
from intsim.carrier.dynamic_steps import DynamicDense, DynamicResidual, Scaled, by_token, quotients
from intsim.carrier.exact import Weight
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding, rounding_divide, saturate
from intsim.ops.layer_norm import LayerNormParams, carried_norm
from intsim.profile import IBERT, INTSIM

CARRIED = [Rounding.FLOOR, Rounding.HALF_UP, Rounding.HALF_EVEN]
GUESSED = [*CARRIED, Rounding.HALF_AWAY]
LARGEST = 2**22  # times the largest bound and multiplier: 2**61
EYE = Weight(np.eye(3, dtype=np.int8))
narrow = st.sampled_from([INT8, UINT8, INT16, IntRange(4), IntRange(12)])


# Codes relative to a bound


def defined(x, bound, multiplier, zero_point, to, rounding):
    dividend = (x.astype(np.int64) - zero_point) * multiplier
    quotient = rounding_divide(dividend, np.maximum(bound, 1).astype(np.int64), rounding)
    return saturate(np.where(bound > 0, quotient, 0), to)


@pytest.mark.parametrize("rounding", CARRIED, ids=str)
@pytest.mark.parametrize(("bits", "unit"), [(8, 1), (8, 8), (4, 1), (12, 1), (16, 1), (16, 8)])
def test_every_16_bit_code_over_many_bounds_is_quantized_as_defined(bits, unit, rounding):
    x, to = np.arange(-(2**15), 2**15).astype(np.int16)[None], IntRange(bits, narrow=True)
    rng = np.random.default_rng(bits)
    ends = [65535 * unit, 65534 * unit - 1, 2**15 * unit, (2**15 - 1) * unit, 2 * 127 * 127, 254, 3, 2, 1, 0]
    for bound in [*ends, *rng.integers(1, 65535 * unit, 20).tolist()]:
        for zero_point in (0, -(2**15)):
            constants = {"multiplier": unit * to.max, "zero_point": zero_point, "to": to, "rounding": rounding}
            codes = quotients(x, np.array([[bound]]), **constants)
            assert codes.dtype == to.dtype
            assert np.array_equal(codes, defined(x, np.array([[bound]]), **constants))


def require_the_operators(x, zero_point, to, rounding):
    """Check codes and bounds of rows against the operators' definitions, on int64."""
    codes, bounds = by_token(x, zero_point=zero_point, to=to, rounding=rounding)
    expected = np.abs(x.astype(np.int64) - zero_point).max(axis=-1, keepdims=True)
    assert np.array_equal(bounds, expected)
    assert bounds.dtype == ops.dynamic_bound(x, per="token", zero_point=zero_point).dtype
    constants = {"multiplier": to.max, "zero_point": zero_point, "to": to, "rounding": rounding}
    assert codes.dtype == to.dtype
    assert np.array_equal(codes, defined(x, expected, **constants))


@pytest.mark.parametrize("rounding", [Rounding.FLOOR, Rounding.HALF_UP], ids=str)
@pytest.mark.parametrize("bits", [2, 4, 8, 9, 12, 16])
def test_every_16_bit_code_beside_many_largest_ones_is_quantized_as_defined(bits, rounding):
    to, rng = IntRange(bits, narrow=True), np.random.default_rng(bits)
    for largest in [2**15, 2**15 - 1, 2 * 127 * 127, 254, 3, 2, 1, 0, *rng.integers(1, 2**15, 20).tolist()]:
        x = np.arange(-largest, min(largest, 2**15 - 1) + 1).astype(np.int16)[None]
        require_the_operators(x, 0, to, rounding)
        require_the_operators(np.abs(x, dtype=np.int32), 0, to, rounding)
    for zero_point in (-(2**15), 2**15 - 1, 1000):
        require_the_operators(np.arange(-(2**15), 2**15).astype(np.int16).reshape(8, -1), zero_point, to, rounding)


@pytest.mark.parametrize("rounding", [Rounding.FLOOR, Rounding.HALF_UP], ids=str)
@pytest.mark.parametrize("zero_point", [0, -5, 2**20])
@given(
    largest=edge_integers(1, 2**31 - 1) | edge_integers(1, 2**17),
    k=st.integers(-(2**15), 2**15),
    bits=st.integers(2, 16),
)
def test_codes_next_to_ties_are_exact_beside_every_largest_one(rounding, zero_point, largest, k, bits):
    """Up to 3 z largest < 2**24 in float32, and beyond it in float64."""
    to = IntRange(bits, narrow=True)
    tie = (2 * (k % (to.max + 1)) + 1) * largest // (2 * to.max)
    near = np.clip(np.arange(tie - 2, tie + 3), 0, largest)
    x = np.concatenate([near, -near, [largest]]) + zero_point
    assume(np.abs(x).max() < 2**31)
    require_the_operators(x.astype(np.int32)[None], zero_point, to, rounding)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5), (2, 3, 4, 5), (0, 5)])
def test_a_row_is_the_last_axis(shape):
    x = np.random.default_rng(0).integers(-999, 1000, shape).astype(np.int16)
    require_the_operators(x, 3, IntRange(8, narrow=True), Rounding.HALF_UP)


def test_rows_of_nothing_but_the_zero_point_are_zero():
    require_the_operators(np.full((3, 5), 7, np.int8), 7, IntRange(8, narrow=True), Rounding.HALF_UP)


@pytest.mark.parametrize("rounding", [Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.TOWARD_ZERO], ids=str)
def test_rows_are_left_to_the_operators_where_rounding_is_another(rounding):
    assert by_token(np.ones((1, 2), np.int16), zero_point=0, to=IntRange(8, narrow=True), rounding=rounding) is None


@pytest.mark.parametrize("rounding", CARRIED, ids=str)
@given(bound=edge_integers(1, 2**19), k=st.integers(-(2**15), 2**15), unit=st.sampled_from([1, 8]), data=st.data())
def test_quotients_next_to_ties_are_exact_for_every_bound(rounding, bound, k, unit, data):
    to = IntRange(data.draw(st.integers(2, 16)), narrow=True)
    multiplier = unit * to.max
    near = (2 * (k % (to.max + 1)) + 1) * bound // (2 * multiplier)
    x = np.clip(np.arange(near - 2, near + 3), -(2**15), 2**15 - 1).astype(np.int16)
    x, bounds = np.concatenate([x, np.maximum(-x, -(2**15) + 1)])[None], np.array([[bound]])
    constants = {"multiplier": multiplier, "zero_point": 0, "to": to, "rounding": rounding}
    assert np.array_equal(quotients(x, bounds, **constants), defined(x, bounds, **constants))


def test_roundings_and_quotients_that_no_float_carries_are_refused():
    x, bound = np.zeros((1, 1), np.int16), np.array([[2**31 - 1]])
    constants = {"zero_point": 0, "to": IntRange(16)}
    assert quotients(x, bound, multiplier=8, rounding=Rounding.FLOOR, **constants) is not None
    assert quotients(x, bound << 10, multiplier=8, rounding=Rounding.FLOOR, **constants) is None
    assert quotients(x, bound, multiplier=8, rounding=Rounding.TOWARD_ZERO, **constants) is None
    assert quotients(x, bound, multiplier=8, rounding=Rounding.HALF_AWAY, **constants) is None


@pytest.mark.parametrize("rounding", CARRIED, ids=str)
@pytest.mark.parametrize(("bits", "largest"), [(16, 2**37 - 1), (8, 2**45 - 1), (8, 2**16 - 1), (16, 2**8 - 1)])
def test_the_largest_bounds_that_a_float_carries_are_exact_next_to_ties(rounding, bits, largest):
    """2**(bits - 1) times these takes 52 bits, for float64, or 23, for float32."""
    to = IntRange(bits, narrow=True)
    x = np.arange(-(2**15), 2**15).astype(np.int16)[None]
    for bound in largest - np.arange(0, 40, 3):
        for multiplier in (int(bound) * 2 // 2**15 + 1, int(bound) // 3 + 1, to.max):
            constants = {"multiplier": multiplier, "zero_point": 0, "to": to, "rounding": rounding}
            if multiplier < 2**45:
                y = quotients(x, np.array([[bound]]), **constants)
                assert np.array_equal(y, defined(x, np.array([[bound]]), **constants))
    if largest > 2**30:
        constants = {"multiplier": 1, "zero_point": 0, "to": to, "rounding": rounding}
        assert quotients(x, np.array([[largest + 1]]), **constants) is None


# What comes back from a product


@st.composite
def products(draw, to, zero_point):
    """Accumulators, bounds, a ratio and addends of three channels; the first row is next to ties and codes' ends."""
    per_tensor = draw(st.booleans())
    pairs = [(draw(edge_integers(1, 2**23)), draw(st.integers(1, 60))) for _ in "abc"]
    pairs = pairs[:1] * 3 if per_tensor else pairs
    acc = np.array([[draw(edge_integers(-LARGEST, LARGEST)) for _ in "abc"] for _ in range(4)])
    acc[1] = acc[0] + [-1, 0, 1]
    bound = np.array([[draw(edge_integers(0, 2**16))] for _ in range(4)])
    bound[1], bound[2] = bound[0], 0
    addend = []
    for channel, (m, t) in enumerate(pairs):
        codes = edge_integers(to.min - 1, to.max + 1) | st.sampled_from([to.min - 1, to.max])
        step = draw(st.sampled_from([-1, 0, 0, 1]))
        tie = (2 * (draw(codes) - zero_point) + draw(st.integers(0, 1))) * 2**t // 2
        addend.append(tie - int(acc[0, channel]) * int(bound[0, 0]) * m + step)
    assume(max(map(abs, addend)) < 2**61)
    ratio = Dyadic(*pairs[0]) if per_tensor else per_channel(pairs)
    return acc.astype(np.int32), bound.astype(np.int32), ratio, np.array(addend)


@pytest.mark.parametrize("rounding", GUESSED, ids=str)
@given(to=narrow, data=st.data())
def test_codes_are_those_of_scale_rows_and_requantize(rounding, to, data):
    zero_point = data.draw(edge_integers(to.min, to.max))
    acc, bound, ratio, addend = data.draw(products(to, zero_point))
    constants = {"to": to, "zero_point": zero_point, "rounding": rounding}
    step = DynamicDense.build(EYE, addend, ratio, **constants)
    expected = ops.requantize(ops.scale_rows(acc, bound), ratio, addend=addend, **constants)
    for dtype in (np.float32, np.float64, np.int32):
        y = step._codes(acc.astype(dtype), bound)
        assert y.dtype == to.dtype
        assert np.array_equal(y, expected)


@pytest.mark.parametrize("rounding", GUESSED, ids=str)
@given(data=st.data())
def test_a_table_is_read_at_the_int16_codes(rounding, data):
    acc, bound, ratio, addend = data.draw(products(INT16, 0))
    table = np.random.default_rng(0).integers(-(2**15), 2**15, 2**16).astype(np.int16)
    step = DynamicDense.build(EYE, addend, ratio, to=INT16, zero_point=0, rounding=rounding, table=table)
    scaled = ops.scale_rows(acc, bound)
    index = ops.requantize(scaled, ratio, addend=addend, to=INT16, rounding=rounding).astype(int) + 2**15
    assert np.array_equal(step._codes(acc, bound), table[index])


def near_ties(rng, shift=36):
    """4096 channels of products up to 2**60, which float64 rounds, and small addends that bring them next to ties."""
    acc, bound = rng.integers(-(2**22), 2**22, (1, 4096)), np.array([[2**15 - 1]])
    multiplier = rng.integers(2**22, 2**23, 4096)
    tie = rng.integers(0, 2, 4096) << shift - 1
    addend = tie - acc[0] * bound[0] * multiplier % (1 << shift) + rng.integers(-1, 2, 4096)
    return acc.astype(np.float32), bound, Dyadic(multiplier, np.full(4096, shift)), addend


@pytest.mark.parametrize("rounding", GUESSED, ids=str)
def test_products_beyond_float64_are_exact_next_to_their_ties(rounding):
    norm = LayerNormParams(weight=Dyadic([1] * 4096, [1] * 4096), bias=np.zeros(4096, int), eps=2)
    for seed in range(5):
        acc, bound, ratio, addend = near_ties(np.random.default_rng(seed))
        scaled = ops.scale_rows(acc.astype(np.int32), bound)
        expected = ops.requantize(scaled, ratio, addend=addend, to=INT32, rounding=rounding)
        wide = Scaled.build(ratio, addend=addend, to=IntRange(25), zero_point=0, rounding=rounding)
        step = DynamicResidual.build(
            np.zeros((4096, 1), np.int8),
            addend,
            (ratio, Dyadic(2**22, 30), Dyadic(2**29, 30)),
            carried_norm(norm, to=INT8, profile=INTSIM),
            requantization=rounding,
            skip=INT8,
            skip_zero_point=0,
            to=INT16,
            zero_point=0,
            each=False,
            rounding=Rounding.HALF_UP,
        )
        assert np.array_equal(wide(acc, bound), expected)
        assert np.array_equal(step.wide(acc, bound), expected)


@pytest.mark.parametrize("rounding", GUESSED, ids=str)
@pytest.mark.parametrize("to", [IntRange(25), IntRange(25, signed=False)], ids=str)
def test_the_farthest_code_and_the_farthest_addend_count_in_the_hair(to, rounding):
    """Every channel's guess is as far off as its own code and addend say, whatever the others' are."""
    for seed in range(5):
        acc, bound, ratio, addend = near_ties(np.random.default_rng(seed))
        far = np.arange(4096) % 2 == 1  # brought back to small codes from 2**60
        product = acc[0].astype(np.int64) * bound[0] * ratio.multiplier
        addend = np.where(far, addend - (product >> 36 << 36), addend)
        expected = ops.requantize(
            ops.scale_rows(acc.astype(np.int32), bound), ratio, addend=addend, to=INT32, rounding=rounding
        )
        for channels in (far, ~far, np.full(4096, True)):
            part = Dyadic(ratio.multiplier[channels], ratio.shift[channels])
            wide = Scaled.build(part, addend=addend[channels], to=to, zero_point=0, rounding=rounding)
            y = wide(acc[:, channels], bound)
            assert np.array_equal(y.clip(to.min, to.max), expected[:, channels].clip(to.min, to.max))


def test_dense_and_residual_multiply_first():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (2, 5, 7)).astype(np.int8), rng.integers(-128, 128, (3, 7)).astype(np.int8)
    skip, bound = rng.integers(-128, 128, (2, 5, 3)).astype(np.int8), rng.integers(0, 2**15, (2, 5, 1))
    addend, ratio = np.array([2**30, -(2**30), 3]), Dyadic([2**14, 3, 2**15], [40, 20, 44])
    into = {"to": INT8, "zero_point": 3, "rounding": Rounding.HALF_UP}
    scaled = ops.scale_rows(ops.matmul(x, w), bound)
    expected = ops.requantize(scaled, ratio, addend=addend, **into)
    assert np.array_equal(DynamicDense.build(Weight(w), addend, ratio, **into)(x, bound), expected)
    pair = Dyadic(2**22, 30), Dyadic(2**29, 30)
    params = LayerNormParams(weight=Dyadic([2**28, -(2**27), 3], [40] * 3), bias=np.arange(3) << 38, eps=2)
    step = DynamicResidual.build(
        Weight(w),
        addend,
        (ratio, *pair),
        carried_norm(params, to=INT8, profile=INTSIM),
        requantization=Rounding.HALF_UP,
        skip=INT8,
        skip_zero_point=0,
        to=INT16,
        zero_point=0,
        rounding=INTSIM.rounding,
        each=False,
    )
    dense = ops.requantize(scaled, ratio, addend=addend, to=INT32, rounding=Rounding.HALF_UP)
    total = ops.add([dense, skip.astype(np.int32)], list(pair), to=INT16, profile=INTSIM)
    assert np.array_equal(step(x, bound, skip), ops.layer_norm(total, params, to=INT8, profile=INTSIM))


def test_integers_decide_on_a_tie_and_are_not_asked_elsewhere(monkeypatch):
    asked = []
    settle = Scaled._settle

    def count(self, x, acc, bound, where):
        asked.extend(acc[where].tolist())
        settle(self, x, acc, bound, where)

    monkeypatch.setattr(Scaled, "_settle", count)
    constants = {"addend": np.zeros(1, np.int64), "to": INT8, "zero_point": 0}
    up, even = (Scaled.build(Dyadic(3, 4), rounding=r, **constants) for r in (Rounding.HALF_UP, Rounding.HALF_EVEN))
    acc, bound = np.arange(9)[:, None], np.full((9, 1), 2)  # 6 acc / 16
    assert up(acc, bound)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert even(acc, bound)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert asked == [4, 4]
    assert [scaled(np.array([[12]]), np.array([[2]])).item() for scaled in (up, even)] == [5, 4]


def test_one_bound_of_a_sequence_serves_all_its_tokens():
    rng = np.random.default_rng(0)
    acc, bound = rng.integers(-999, 999, (2, 5, 3)), np.array([[[7]], [[0]]])
    addend, ratio = np.array([2**19, -(2**19), 3]), Dyadic(2**14, 20)  # of ties
    step = DynamicDense.build(EYE, addend, ratio, to=INT8, zero_point=0, rounding=Rounding.HALF_UP)
    scaled = ops.scale_rows(acc, bound)
    expected = ops.requantize(scaled, ratio, addend=addend, to=INT8, rounding=Rounding.HALF_UP)
    assert np.array_equal(step._codes(acc, bound), expected)


@pytest.mark.parametrize("rounding", CARRIED, ids=str)
@given(
    each=st.booleans(),
    to=st.sampled_from([INT8, INT16]),
    skip_zero_point=st.sampled_from([-128, 0, 127]),
    data=st.data(),
)
def test_a_residual_is_the_sum_and_its_layer_norm(rounding, each, to, skip_zero_point, data):
    profile = replace(IBERT if each else INTSIM, rounding=rounding)
    zero_point = 0 if each else data.draw(st.sampled_from([0, -5, to.max]))
    acc, bound, wide, addend = data.draw(products(data.draw(st.sampled_from([IntRange(24), INT32, INT16])), 0))
    skip = np.array([[data.draw(edge_integers(-128, 127)) for _ in "abc"] for _ in acc], np.int8)
    pair = Dyadic(2**22, 30), Dyadic(data.draw(edge_integers(-(2**30) + 1, 2**30 - 1)), 30)
    params = LayerNormParams(weight=Dyadic([2**28, -(2**27), 3], [40] * 3), bias=np.arange(3) << 38, eps=2)
    step = DynamicResidual.build(
        EYE,
        addend,
        (wide, *pair),
        carried_norm(params, to=INT8, profile=profile),
        requantization=rounding,
        skip=INT8,
        skip_zero_point=skip_zero_point,
        to=to,
        zero_point=zero_point,
        rounding=rounding,
        each=each,
    )
    dense = ops.requantize(ops.scale_rows(acc, bound), wide, addend=addend, to=INT32, rounding=rounding)
    operands = [dense, skip.astype(np.int32) - skip_zero_point]
    total = ops.add(operands, list(pair), to=to, profile=profile, zero_point=zero_point)
    expected = ops.layer_norm(total, params, to=INT8, profile=profile)
    assert np.array_equal(step._codes(acc.astype(np.float32), bound, skip), expected)
    handed_on = replace(step, residual=replace(step.residual, norm=lambda y: y.astype(np.int64)))
    assert np.array_equal(handed_on._codes(acc.astype(np.float32), bound, skip), total)


def test_what_rounds_elsewhere_or_could_saturate_in_between_is_refused():
    norm = carried_norm(
        LayerNormParams(weight=Dyadic([1] * 3, [1] * 3), bias=np.zeros(3, int), eps=2), to=INT8, profile=INTSIM
    )
    constants = {"skip": INT8, "skip_zero_point": 0, "to": INT16, "zero_point": 0, "each": False}
    constants["rounding"] = Rounding.HALF_UP

    def residual(dense, requantization=Rounding.HALF_UP, other=1, shift=None):
        ratios = Dyadic(1, 8), dense, Dyadic(other, int(dense.shift) if shift is None else shift)
        return DynamicResidual.build(EYE, np.zeros(3, int), ratios, norm, requantization=requantization, **constants)

    assert residual(Dyadic(1, 13))
    assert residual(Dyadic(1, 14)) is None  # 2**30 / 2**14 is no more than 2**16
    assert residual(Dyadic(0, 1)) is None
    for other in (2**20, 2**22):  # 255 times this over 2**13 is no more than 2**17 - 2**16 - 2, or is
        assert (residual(Dyadic(1, 13), other=other) is None) == (residual(Dyadic(1, 13), other=-other) is None)
    assert residual(Dyadic(1, 13), other=-(2**22)) is None
    assert residual(Dyadic(1, 13), other=-(2**20)).wide.near == residual(Dyadic(1, 13), other=2**20).wide.near
    assert residual(Dyadic(2**30, 0)).wide.near > 0
    for zero_point, enough in ((0, 65537), (5, 65542), (-5, 65542)):  # codes, zero point and roundings apart
        constants["zero_point"] = zero_point
        assert residual(Dyadic(enough, 30), other=0)
        assert residual(Dyadic(enough - 1, 30), other=0) is None
        assert residual(Dyadic([enough, enough - 1, enough], [30] * 3), other=0, shift=30) is None
        assert residual(Dyadic(enough + 255, 30), other=2**30)
        assert residual(Dyadic(enough + 254, 30), other=2**30) is None
    constants["zero_point"] = 0
    assert residual(Dyadic(1, 8), Rounding.TOWARD_ZERO) is None
    dense = {"to": INT8, "zero_point": 0, "rounding": Rounding.TOWARD_ZERO}
    assert DynamicDense.build(EYE, np.zeros(3, int), Dyadic(1, 8), **dense) is None
