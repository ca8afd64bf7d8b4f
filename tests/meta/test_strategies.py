# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

import numpy as np
import oracle
import pytest
from edges import RANGES, every_rounding
from hypothesis import HealthCheck, Phase, Verbosity, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import intsim._hypothesis
from intsim import strategies
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding
from intsim.ops import (
    LayerNormParams,
    causal_mask,
    layer_norm,
    matmul,
    multiply,
    requantize,
    rms_norm,
    rotary,
    sample_token,
    softmax,
)
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, NATIVE, Profile
from intsim.quantizers import AffineParams, Scheme, dequantize, quantize
from intsim.testing import assert_bit_exact

SEARCH = settings(
    max_examples=20_000,
    phases=[Phase.generate],
    database=None,
    derandomize=True,
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
)
HALF = Fraction(1, 2)
WITHOUT_TIES = (1583594045, 40)  # an odd multiplier of 31 bits: its ties are odd multiples of 2**39
RATIOS = [(1, 8), (1, 1), (3, 4), (-5, 9), (2**30, 38), (2**30, 62), (127, 15), (2**31 - 1, 31), (1583594044, 33)]


def drawn(strategy: st.SearchStrategy[Any], condition: Callable[[Any], Any]) -> Any:
    """Return something that the strategy draws and the condition holds for, or fail."""
    return find(strategy, lambda value: bool(condition(value)), settings=SEARCH)


def sample(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """Return what a test of ``count`` examples is given."""
    found: list[Any] = []

    @settings(SEARCH, max_examples=count)
    @given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found


@cache
def sample_of_accumulators(multiplier: int, shift: int) -> list[int]:
    """Return 10,000 accumulators of one ratio."""
    arrays = sample(strategies.accumulators(Dyadic(multiplier, shift), shape=(50,)), 200)
    return np.concatenate(arrays).tolist()


def remainder(acc: int, ratio: Dyadic) -> Fraction:
    """Return the part of the product that is rounded, in [0, 1)."""
    value = Fraction(int(acc) * int(ratio.multiplier), 2 ** int(ratio.shift))
    return value - value.__floor__()


def products(pair: tuple[int, int]) -> list[tuple[int, Fraction]]:
    """Return accumulators and their exact products with the ratio."""
    return [(acc, Fraction(acc * pair[0], 2 ** pair[1])) for acc in sample_of_accumulators(*pair)]


def tie_step(pair: tuple[int, int]) -> int:
    """Return the integer whose odd multiples are the ties."""
    return 2 ** pair[1] // (pair[0] & -pair[0]) // 2


# Integers


@pytest.mark.parametrize("to", [IntRange(2), INT8, UINT8, IntRange(8, narrow=True), INT16, INT32], ids=str)
def test_codes_reach_every_boundary(to):
    boundaries = {to.min, to.min + 1, -1, 0, 1, 2, to.max - 1, to.max, to.max // 2, 1 << to.bits - 2}
    for code in boundaries:
        if to.min <= code <= to.max:
            drawn(strategies.codes(to), lambda x, code=code: x == code)


@pytest.mark.parametrize("to", [IntRange(2), INT8, UINT8, IntRange(8, narrow=True)], ids=str)
def test_codes_reach_every_code(to):
    found = set()
    drawn(strategies.codes(to), lambda x: found.add(x) or len(found) > to.max - to.min)
    assert found == set(range(to.min, to.max + 1))


@given(data=st.data(), to=st.sampled_from(RANGES))
def test_code_arrays_have_the_dtype_and_the_codes_of_their_range(data, to):
    x = data.draw(strategies.code_arrays(to))
    assert x.dtype == to.dtype
    assert not x.size or to.min <= x.min() <= x.max() <= to.max
    assert data.draw(strategies.code_arrays(to, shape=(2, 3))).shape == (2, 3)
    assert data.draw(strategies.code_arrays(to, shape=4)).shape == (4,)
    assert data.draw(strategies.code_arrays(to, shape=st.just((1,)))).shape == (1,)


@pytest.mark.parametrize("what", ["ndim == 0", "size == 0", "ndim == 3", "size and x.min() == -128 and x.max() == 127"])
def test_code_arrays_have_every_kind_of_shape(what):
    drawn(strategies.code_arrays(INT8), lambda x: eval(f"x.{what}", {"x": x}))  # noqa: S307


def test_int_ranges_are_all_there_is():
    found = set()
    drawn(strategies.int_ranges(), lambda to: found.add(to) or len(found) == len(RANGES))
    assert found == set(RANGES)
    unsigned = strategies.int_ranges(min_bits=4, max_bits=9, signed=False)
    assert drawn(unsigned, lambda to: to.bits == 9) == IntRange(9, signed=False)
    drawn(strategies.int_ranges(narrow=True), lambda to: to.narrow and to.signed)


# Requantization


@pytest.mark.parametrize("multiplier", [0, 1, -1, 3, 2**30, -(2**30), 2**31 - 1, -(2**31) + 1])
def test_dyadics_reach_every_boundary_of_multipliers(multiplier):
    drawn(strategies.dyadics(shape=()), lambda ratio: ratio.multiplier == multiplier)


@pytest.mark.parametrize("shift", [0, 1, 31, 61, 62])
def test_dyadics_reach_every_boundary_of_shifts(shift):
    drawn(strategies.dyadics(shape=()), lambda ratio: ratio.shift == shift)


@given(
    tensor=strategies.dyadics(shape=()),
    channels=strategies.dyadics(shape=(3,)),
    aligned=strategies.dyadics(shape=3, aligned=True),
    bounded=strategies.dyadics(min_multiplier=1, max_multiplier=5, min_shift=2, max_shift=3),
)
def test_dyadics_keep_to_what_is_asked_for(tensor, channels, aligned, bounded):
    assert tensor.multiplier.shape == ()
    assert channels.shift.shape == aligned.shift.shape == (3,)
    assert len(set(aligned.shift.tolist())) == 1
    assert ((bounded.multiplier >= 1) & (bounded.multiplier <= 5)).all()
    assert ((bounded.shift >= 2) & (bounded.shift <= 3)).all()


def test_dyadics_are_per_tensor_and_per_channel():
    drawn(strategies.dyadics(), lambda ratio: ratio.multiplier.shape == ())
    drawn(strategies.dyadics(), lambda ratio: ratio.multiplier.shape == (6,) and len(set(ratio.shift.tolist())) > 1)


@pytest.mark.parametrize("pair", RATIOS, ids=str)
def test_accumulators_reach_ties_of_both_signs_and_parities(pair):
    found = {(acc > 0, floor(value) % 2) for acc, value in products(pair) if value % 1 == HALF}
    step = tie_step(pair)
    # every odd multiple of the step in int32 is a tie: these are the combinations there are
    multiples = [j for j in range(-7, 8, 2) if INT32.min <= j * step <= INT32.max]
    assert found == {(j > 0, floor(Fraction(j * step * pair[0], 2 ** pair[1])) % 2) for j in multiples}


@pytest.mark.parametrize("pair", RATIOS, ids=str)
def test_accumulators_reach_both_sides_of_a_tie(pair):
    unit = Fraction(pair[0] & -pair[0], 2 ** pair[1])  # the least by which two products differ
    rests = {value % 1 for _, value in products(pair)}
    assert {(HALF + side * unit) % 1 for side in (-1, 0, 1)} <= rests
    ties = {acc for acc, value in products(pair) if value % 1 == HALF}
    found = {acc for acc, _ in products(pair)}
    assert any(acc + 1 in found for acc in ties)
    assert any(acc - 1 in found for acc in ties if acc > INT32.min) or ties == {INT32.min}


@pytest.mark.parametrize("pair", RATIOS, ids=str)
def test_one_accumulator_in_eight_is_a_tie(pair):
    ties = [acc for acc, value in products(pair) if value % 1 == HALF]
    assert len(ties) > len(products(pair)) // 8


@pytest.mark.parametrize("pair", [*RATIOS, WITHOUT_TIES], ids=str)
def test_accumulators_reach_the_edges_of_int32(pair):
    assert {INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max} <= {acc for acc, _ in products(pair)}


def test_without_ties_the_neighbours_of_every_half_are_drawn():
    assert tie_step(WITHOUT_TIES) > -INT32.min
    spacing = Fraction(WITHOUT_TIES[0], 2 ** WITHOUT_TIES[1])
    found = products(WITHOUT_TIES)
    for k in (-129, -128, -1, 0, 126, 127):  # between k and k + 1 is where an int8 changes
        away = {value - k - HALF for _, value in found}
        assert any(-spacing < distance < 0 for distance in away)
        assert any(0 < distance < spacing for distance in away)


@given(data=st.data(), to=st.sampled_from([INT8, UINT8, INT16, INT32]))
def test_ties_really_are_ties_in_every_channel(data, to):
    ratio = data.draw(strategies.dyadics())
    acc = data.draw(strategies.accumulators(ratio, to=to))
    assert acc.dtype == to.dtype
    assert np.broadcast_shapes(acc.shape, ratio.multiplier.shape) == acc.shape
    pairs = [np.broadcast_to(part, acc.shape).ravel().tolist() for part in (ratio.multiplier, ratio.shift)]
    for x, m, t in zip(acc.ravel().tolist(), *pairs, strict=True):
        tie = Fraction(x * m, 2**t) % 1 == Fraction(1, 2)
        twos = (m & -m).bit_length() - 1 if m else t
        n = t - twos
        assert tie == (n >= 1 and x % 2**n == 2 ** (n - 1))  # the number theory of the module's docstring


@every_rounding
@given(data=st.data(), to=strategies.int_ranges())
def test_whatever_accumulators_yields_is_requantized_as_the_oracle_does_it(rounding, data, to):
    ratio = data.draw(strategies.dyadics())
    acc = data.draw(strategies.accumulators(ratio))
    zero_point = data.draw(strategies.codes(to))
    pairs = [np.broadcast_to(part, acc.shape).ravel().tolist() for part in (ratio.multiplier, ratio.shift)]
    expected = [
        oracle.requantize(x, m, t, zero_point=zero_point, lo=to.min, hi=to.max, rounding=rounding)
        for x, m, t in zip(acc.ravel().tolist(), *pairs, strict=True)
    ]
    y = requantize(acc, ratio, to=to, rounding=rounding, zero_point=zero_point)
    assert_bit_exact(y, np.array(expected, to.dtype).reshape(acc.shape))


# The mutation: what these strategies are for

NEAREST_NEIGHBOURS = [
    (Rounding.HALF_UP, Rounding.HALF_AWAY),
    (Rounding.HALF_UP, Rounding.HALF_EVEN),
    (Rounding.HALF_AWAY, Rounding.HALF_EVEN),
]
every_mutation = pytest.mark.parametrize(("right", "wrong"), NEAREST_NEIGHBOURS)


@every_mutation
def test_a_property_test_with_accumulators_sees_another_tie_rule(right, wrong):
    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    @given(data=st.data())
    def property_test(data):
        ratio = data.draw(strategies.dyadics())
        acc = data.draw(strategies.accumulators(ratio))
        assert_bit_exact(
            requantize(acc, ratio, to=INT32, rounding=wrong), requantize(acc, ratio, to=INT32, rounding=right)
        )

    with pytest.raises(AssertionError, match="elements differ"):
        property_test()


@every_mutation
def test_random_integers_with_random_scales_do_not_see_it(right, wrong):
    rng = np.random.default_rng(0)
    for _ in range(100):
        acc = rng.integers(-(2**24), 2**24, 10_000).astype(np.int32)
        ratio = Dyadic.from_real(2.0 ** -rng.uniform(14, 18))
        y, z = (requantize(acc, ratio, to=INT8, rounding=rounding) for rounding in (right, wrong))
        assert_bit_exact(y, z)  # a million elements, and the mutant lives


# Quantizers


@pytest.mark.parametrize(
    "condition",
    [
        lambda p: p.scale.shape == () and p.scale == 2.0**-1022,
        lambda p: p.scale.size and (p.scale > 2.0**1000).any(),
        lambda p: p.scale.ndim == 2 and len(p.scale) == 3,
        lambda p: (p.zero_point == p.range.min).any() and p.range.min < 0,
        lambda p: (p.zero_point == p.max_code).all() and p.unused_top == 1,
        lambda p: (p.zero_point == 0).all() and p.range == INT8,
        lambda p: (np.frexp(p.scale)[0] != 0.5).any(),
        lambda p: p.unused_top > 1,
    ],
)
def test_affine_params_reach_every_boundary(condition):
    drawn(strategies.affine_params(), condition)


@given(params=strategies.affine_params(min_scale=2.0**-40, max_scale=2.0**40), data=st.data())
def test_affine_params_are_legal_for_quantize(params, data):
    assert ((params.scale >= 2.0**-40) & (params.scale <= 2.0**40)).all()
    reals = st.floats(-(2.0**60), 2.0**60)
    x = np.full(params.scale.shape, data.draw(reals))
    x_q = quantize(x, params)
    assert x_q.dtype == params.range.dtype
    assert ((x_q >= params.range.min) & (x_q <= params.max_code)).all()
    assert_bit_exact(quantize(dequantize(x_q, params), params), x_q)


@given(params=strategies.affine_params(to=INT8, shape=(3,)))
def test_affine_params_keep_to_what_is_asked_for(params):
    assert params.range == INT8
    assert params.scale.shape == params.zero_point.shape == (3,)


def test_schemes_are_all_there_is():
    found = set()
    drawn(strategies.schemes(), lambda scheme: found.add(scheme) or len(found) == 15 * 8)
    assert {scheme.bits for scheme in found} == set(range(2, 17))


@given(scheme=strategies.schemes(min_bits=4, max_bits=8))
def test_schemes_give_parameters(scheme):
    assert 4 <= scheme.bits <= 8
    assert quantize([-1.0, 0.0, 1.0], scheme.params(-1, 1)).dtype == scheme.range.dtype


@pytest.mark.parametrize("preset", NATIVE.values(), ids=lambda preset: preset.name)
def test_profiles_reach_the_presets(preset):
    assert drawn(strategies.profiles(), lambda profile: profile == preset).hash == preset.hash


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("step_rounding", list(Rounding))
def test_profiles_cross_the_roundings(rounding, step_rounding):
    assert (rounding, step_rounding) in roundings_of_profiles()


@cache
def roundings_of_profiles() -> set[tuple[Rounding, Rounding]]:
    return {(profile.rounding, profile.step_rounding) for profile in sample(strategies.profiles(), 400)}


@given(profile=strategies.profiles())
def test_profiles_survive_json(profile):
    assert Profile.from_json(profile.to_json()) == profile


# Matrix products


@given(
    operands=st.one_of(
        strategies.matmul_operands(),
        strategies.matmul_operands(x=UINT8, w=IntRange(4)),
        strategies.matmul_operands(x=INT16, w=INT16),
        strategies.matmul_operands(x=IntRange(16, signed=False), w=INT8, max_depth=20, batched=True),
    )
)
def test_matmul_operands_never_overflow(operands):
    x, w, x_zero_point, w_zero_point, bias = operands
    y = matmul(**operands._asdict())
    exact = (x.astype(object) - x_zero_point) @ (w.astype(object) - w_zero_point).swapaxes(-1, -2)
    assert_bit_exact(y, exact + (0 if bias is None else bias.astype(object)))
    assert_bit_exact(y, matmul(**operands._asdict(), carrier="integer"))


@pytest.mark.parametrize("to", [INT8, UINT8, INT16], ids=str)
@pytest.mark.parametrize("end", [2**31 - 1, -(2**31 - 1)])
def test_matmul_operands_reach_the_bound(to, end):
    if to is UINT8 and end < 0:
        pytest.skip("no negative products to add a negative bias to")
    w = to if to.signed else INT8
    drawn(
        strategies.matmul_operands(x=to, w=w, zero_points=False),
        lambda operands: operands.bias is not None and operands.bias[0] and (matmul(**operands._asdict()) == end).any(),
    )


@pytest.mark.parametrize("to", [INT8, INT16], ids=str)
def test_one_more_than_the_bound_is_refused(to):
    operands = drawn(
        strategies.matmul_operands(x=to, w=to, zero_points=False),
        lambda operands: operands.bias is not None and (matmul(**operands._asdict()) == 2**31 - 1).any(),
    )
    worst = matmul(**operands._asdict()).argmax() % len(operands.bias)
    bias = operands.bias.astype(np.int64)
    bias[worst] += 1
    with pytest.raises(ValueError, match="less than 2"):
        matmul(**operands._replace(bias=bias)._asdict())


@pytest.mark.parametrize("step", [0, 1])
def test_matmul_operands_reach_the_bound_of_float32(step):
    def bound(operands):
        rows = 128 * np.abs(operands.w_q.astype(int)).sum(axis=-1)
        return (rows + np.abs(operands.bias.astype(int))).max()

    drawn(
        strategies.matmul_operands(zero_points=False),
        lambda operands: operands.bias is not None and bound(operands) == 2**24 + step,
    )


def lowest_codes(operands):
    return (operands.x_q == -128).all() and (operands.w_q == -128).all() and operands.x_q.shape[-1] == 8


def test_matmul_operands_of_one_row_are_all_the_lowest_codes():
    drawn(strategies.matmul_operands(max_side=1), lowest_codes)


@pytest.mark.parametrize(
    "condition",
    [
        lambda o: o.bias is None,
        lambda o: o.w_q.ndim > 2,
        lambda o: o.x_q.ndim > 2 and o.w_q.ndim == 2,
        lambda o: o.x_zero_point == -128,
        lambda o: o.w_zero_point == 127,
        lambda o: o.x_zero_point > 0 > o.w_zero_point,
        lambda o: o.x_q.shape[-1] == 8,
        pytest.param(lowest_codes, marks=pytest.mark.slow),  # one pair of operands in thousands
        lambda o: (o.x_q == 0).all() and not (o.w_q == 0).any(),
    ],
)
def test_matmul_operands_are_of_every_kind(condition):
    drawn(strategies.matmul_operands(), condition)


# Softmax rows


@given(rows=strategies.softmax_rows(), profile=strategies.profiles())
def test_softmax_rows_are_legal_and_exact(rows, profile):
    y = softmax(**rows._asdict(), profile=profile)
    mask = np.ones(rows.acc.shape, bool) if rows.mask is None else np.broadcast_to(rows.mask, rows.acc.shape)
    numbers = profile.to_json()
    pair = int(rows.ratio.multiplier), int(rows.ratio.shift)
    expected = [
        oracle.softmax(rows.acc[index].tolist(), *pair, mask[index].tolist(), numbers)
        for index in np.ndindex(rows.acc.shape[:-1])
    ]
    assert_bit_exact(y, np.array(expected, profile.probability_range.dtype).reshape(rows.acc.shape))


def one_hot(rows):
    y = softmax(**rows._asdict(), profile=INTSIM)
    return rows.acc.ndim == 1 and rows.acc.size > 2 and (y == 255).sum() == 1 and (y == 0).sum() == y.size - 1


@pytest.mark.parametrize(
    "condition",
    [
        one_hot,
        lambda r: r.acc.ndim == 3,
        lambda r: r.acc.ndim == 1 and r.acc.size > 2 and (r.acc == r.acc[0]).all() and r.acc[0],
        lambda r: (r.acc == INT32.max).all(),
        lambda r: INT32.min in r.acc and INT32.max in r.acc,
        lambda r: r.mask is None,
        lambda r: r.mask is not None and r.mask.ndim < r.acc.ndim,
        lambda r: r.mask is not None and not r.mask.any(),
        lambda r: r.mask is not None and r.mask.ndim == 2 and not r.mask.any(axis=-1).all() and r.mask.any(),
        lambda r: r.mask is not None and r.mask.shape == (4,) and r.acc.ndim == 1 and not r.mask[r.acc.argmax()],
        lambda r: (
            r.acc.ndim == 1
            and any(remainder(int(x) - int(r.acc.max()), r.ratio) == Fraction(1, 2) for x in r.acc)
            and r.mask is None
        ),
    ],
)
def test_softmax_rows_are_of_every_kind(condition):
    drawn(strategies.softmax_rows(), condition)


def test_softmax_rows_keep_to_what_is_asked_for():
    ratio = Dyadic(1, 4)
    rows = drawn(strategies.softmax_rows(ratio=ratio, shape=(2, 3), masked=True), lambda r: not r.mask.all())
    assert rows.ratio == ratio
    assert rows.acc.shape == (2, 3)
    ratios = strategies.dyadics(shape=(), min_multiplier=1, max_multiplier=1)
    drawn(strategies.softmax_rows(ratio=ratios, masked=False), lambda r: r.mask is None and r.ratio.multiplier == 1)


# LayerNorm


@given(data=st.data(), params=strategies.layer_norm_params(), profile=strategies.profiles(), to=strategies.int_ranges())
def test_layer_norm_rows_and_params_are_legal_and_exact(data, params, profile, to):
    x_q = data.draw(strategies.layer_norm_rows(channels=len(params.bias)))
    wide = x_q.dtype == np.int32
    y = layer_norm(x_q, params, to=to, profile=profile)
    numbers = profile.to_json()
    constants = (params.weight.multiplier.tolist(), params.bias.tolist(), int(params.weight.shift[0]), params.eps)
    expected = [
        oracle.layer_norm(x_q[index].tolist(), *constants, to.min, to.max, numbers, wide=wide)
        for index in np.ndindex(x_q.shape[:-1])
    ]
    assert_bit_exact(y, np.array(expected, to.dtype).reshape(x_q.shape))


@given(data=st.data(), params=strategies.layer_norm_params(), profile=strategies.profiles(), to=strategies.int_ranges())
def test_rows_of_every_width_have_the_root_mean_square_of_the_oracle(data, params, profile, to):
    x_q = data.draw(strategies.layer_norm_rows(to=INT32, channels=len(params.bias)))
    y = rms_norm(x_q, params, to=to, profile=profile)
    constants = (params.weight.multiplier.tolist(), params.bias.tolist(), int(params.weight.shift[0]), params.eps)
    expected = [
        oracle.rms_norm(x_q[index].tolist(), *constants, to.min, to.max, profile.to_json())
        for index in np.ndindex(x_q.shape[:-1])
    ]
    assert_bit_exact(y, np.array(expected, to.dtype).reshape(x_q.shape))


def shift(row):
    """Return by how many bits the row is brought to 16."""
    return max(int(max(abs(x) for x in row.tolist())).bit_length() - 15, 0)


def tied(row, bits):
    """Say whether some of the row are ties of the shift, and of both signs."""
    return {x > 0 for x in row.tolist() if abs(x) % (1 << bits) == 1 << bits - 1} == {True, False}


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x.ndim == 1 and x.size > 2 and (x == x[0]).all() and x[0] != 0,
        lambda x: x.ndim == 1 and x.size > 2 and np.ptp(x.astype(int)) == 1,
        lambda x: x.dtype == np.int16 and x.ndim == 1 and x.size > 2 and sorted({*x.tolist()}) == [-(2**15), 2**15 - 1],
        lambda x: x.dtype == np.uint8 and 255 in x and 0 in x,
        lambda x: x.dtype == np.int32 and 2**31 - 1 in x and -(2**31) in x,
        lambda x: x.shape[-1] == 1,
        lambda x: x.ndim == 3,
    ],
)
def test_layer_norm_rows_are_of_every_kind(condition):
    drawn(strategies.layer_norm_rows(), condition)


@pytest.mark.parametrize("bits", [0, 1, 16])
def test_wide_rows_have_ties_of_every_shift(bits):
    rows = strategies.layer_norm_rows(to=INT32, shape=(4,))
    drawn(rows, lambda x: shift(x) == bits and (bits == 0 or tied(x, bits)))


@pytest.mark.parametrize(
    "condition",
    [
        lambda p: p.eps == 1,
        lambda p: p.eps == 2**61 - 1,
        lambda p: (p.weight.multiplier == 0).any(),
        lambda p: (p.weight.multiplier < 0).any() and (p.weight.multiplier > 0).any(),
        lambda p: (p.weight.shift == 0).all(),
        lambda p: (p.weight.shift == 62).all(),
        lambda p: (abs(p.bias) > 2**62).any(),
        lambda p: p.weight.shift[0] > 8 and p.bias[0] % 2 ** p.weight.shift[0] == 2 ** (p.weight.shift[0] - 1),
    ],
)
def test_layer_norm_params_reach_every_boundary(condition):
    drawn(strategies.layer_norm_params(), condition)


@given(
    params=strategies.layer_norm_params(channels=5, max_eps=7), rows=strategies.layer_norm_rows(to=UINT8, shape=(2, 5))
)
def test_layer_norm_strategies_keep_to_what_is_asked_for(params, rows):
    assert params.bias.shape == (5,)
    assert 1 <= params.eps <= 7
    assert (rows.dtype, rows.shape) == (np.uint8, (2, 5))


def test_a_mutant_without_the_mean_or_with_another_rule_is_seen():
    @settings(max_examples=200, derandomize=True, database=None, phases=[Phase.generate])
    @given(data=st.data(), params=strategies.layer_norm_params())
    def property_test(data, params):
        x_q = data.draw(strategies.layer_norm_rows(channels=len(params.bias)))
        mutant = replace(INTSIM, layer_norm=IBERT.layer_norm)
        assert_bit_exact(
            layer_norm(x_q, params, to=INT8, profile=mutant), layer_norm(x_q, params, to=INT8, profile=INTSIM)
        )

    with pytest.raises(AssertionError, match="elements differ"):
        property_test()


# Reals


THIRD = AffineParams(scale=np.array(0.1875), zero_point=np.array(5), range=INT8)


@pytest.mark.parametrize(
    "what",
    [
        "not x.any() and np.signbit(x).any() and not np.signbit(x).all()",
        "len(set(x.tolist())) == 1 and x[0] != 0",
        "0 < np.sort(np.abs(x))[-2] <= 1 and np.abs(x).max() >= 1e3",
        "0 < np.abs(x).max() < np.finfo(np.float32).smallest_normal",
        "np.abs(x).max() == np.finfo(np.float32).max",
        "np.abs(x).max() > 1000 * 0.1875 and np.abs(x).max() < 1e30",
    ],
)
def test_real_arrays_have_every_kind_of_block(what):
    assert any(eval(what, {"x": x, "np": np}) for x in blocks())  # noqa: S307


@cache
def blocks() -> list[Any]:
    return sample(strategies.real_arrays(THIRD, shape=4), 400)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_arrays_reach_ties_and_their_neighbours(dtype):
    found = np.concatenate(sample(strategies.real_arrays(THIRD, shape=40, dtype=dtype), 1000))
    assert found.dtype == dtype
    for code in (INT8.min, -1, 0, 1, INT8.max - 1):
        tie = np.array((code - 5 + 0.5) * 0.1875, dtype)  # exact
        for value in (tie, *(np.nextafter(tie, np.array(end, dtype)) for end in (-np.inf, np.inf))):
            assert value in found, (code, value)


@given(data=st.data(), params=strategies.affine_params())
def test_real_arrays_are_finite_and_fit_their_parameters(data, params):
    x = data.draw(strategies.real_arrays(params))
    assert np.isfinite(x).all()
    codes = quantize(x, params)
    assert codes.shape == x.shape


def test_real_arrays_refuse_other_dtypes():
    with pytest.raises(InvalidArgument, match="dtype must be one of float32, float64, got 'float16'"):
        strategies.real_arrays(dtype="float16")


# The sizes of models

CHANNELS = Dyadic.from_real(np.linspace(0.001, 0.002, 768), bits=16)
LARGE = {
    "codes": (strategies.code_arrays(INT8, shape=(128, 768)), (128, 768)),
    "accumulators": (strategies.accumulators(Dyadic(3, 9), shape=(128, 768)), (128, 768)),
    "accumulators by channel": (strategies.accumulators(CHANNELS, shape=(128, 768)), (128, 768)),
    "dyadics": (strategies.dyadics(shape=4096).map(lambda ratio: ratio.multiplier), (4096,)),
    "rows of softmax": (strategies.softmax_rows(shape=(12, 64, 512)).map(lambda rows: rows.acc), (12, 64, 512)),
    "a row of softmax": (strategies.softmax_rows(shape=(4096,)).map(lambda rows: rows.acc), (4096,)),
    "rows of norms": (strategies.layer_norm_rows(shape=(128, 768)), (128, 768)),
    "a row of norms": (
        strategies.layer_norm_rows(channels=4096, to=INT32).map(lambda x: x.reshape(-1, 4096)[0]),
        (4096,),
    ),
    "norms": (strategies.layer_norm_params(channels=4096).map(lambda params: params.bias), (4096,)),
    "logits": (strategies.sample_token_arguments(shape=(2, 49_152)).map(lambda given: given.logits), (2, 49_152)),
    "products": (strategies.multiply_operands(shape=(128, 768)).map(lambda given: given.a_q), (128, 768)),
    "reals": (strategies.real_arrays(shape=(128, 768)), (128, 768)),
}


@pytest.mark.parametrize("name", LARGE)
def test_arrays_of_the_size_of_models_are_drawn_as_readily_as_small_ones(name):
    strategy, shape = LARGE[name]
    drawn_shapes = []

    @settings(max_examples=10, database=None, derandomize=True)  # with every health check
    @given(strategy)
    def collect(x):
        drawn_shapes.append(x.shape)

    collect()
    assert set(drawn_shapes) == {shape}


def test_large_matrix_products_are_drawn_up_to_the_end_of_int32():
    operands = strategies.matmul_operands(max_side=128, max_depth=768, zero_points=False, batched=False)
    seen = []

    @settings(max_examples=30, database=None, derandomize=True)
    @given(operands)
    def collect(given):
        seen.append(int(np.abs(matmul(**given._asdict()).astype(np.int64)).max()))

    collect()
    assert max(seen) > 2**30


@pytest.mark.parametrize(("multiplier", "shift"), [(3, 9), (1, 1), (-5, 9)])
def test_large_accumulators_are_as_dense_in_ties_as_small_ones(multiplier, shift):
    ratio = Dyadic(multiplier, shift)
    large = sample(strategies.accumulators(ratio, shape=(64, 64)), 20)
    share = np.mean([remainder(acc, ratio) == HALF for x in large for acc in x.ravel()[:200]])
    assert share > 0.1


def test_by_channel_large_accumulators_have_ties_of_their_own_channels():
    ratio = Dyadic(np.arange(1, 97), np.full(96, 10))
    of_channel = [Dyadic(int(m), 10) for m in ratio.multiplier]
    most = 0
    for x in sample(strategies.accumulators(ratio, shape=(20, 96)), 10):
        ties = [sum(remainder(acc, of_channel[i]) == HALF for acc in x[:, i]) for i in range(96)]
        most = max(most, sum(count > 2 for count in ties))
    assert most >= 3


# Decoders


@pytest.mark.parametrize("pairing", ["halves", "neighbours"])
@given(operands=strategies.rotary_operands(), rounding=st.sampled_from(Rounding))
def test_rotary_operands_are_legal_and_exact(pairing, operands, rounding):
    x_q, cos, sin = operands
    y = rotary(**operands._asdict(), pairing=pairing, rounding=rounding)
    tables = [np.broadcast_to(t if t.ndim == 2 else t[:, None], (*x_q.shape[:-1], t.shape[-1])) for t in (cos, sin)]
    for index in np.ndindex(x_q.shape[:-1]):
        rows = (part[index].tolist() for part in (x_q, *tables))
        assert y[index].tolist() == oracle.rotary(*rows, pairing=pairing, mode=rounding.value)


def first_sum(operands):
    """Return what is rounded of the first pair of halves."""
    a, b = operands.x_q[0, 0, 0, 0], operands.x_q[0, 0, 0, operands.cos.shape[-1]]
    cos, sin = (table.reshape(-1, table.shape[-1])[0, 0] for table in (operands.cos, operands.sin))
    return int(a) * int(cos) - int(b) * int(sin)


@pytest.mark.parametrize(
    "condition",
    [
        lambda o: first_sum(o) % 2**14 == 2**13 and first_sum(o) > 0,
        lambda o: first_sum(o) % 2**14 == 2**13 and first_sum(o) < 0,
        lambda o: abs(first_sum(o)) >= 2**29,
        lambda o: o.cos.ndim == 2 and len(o.x_q) == 3,
        lambda o: o.cos.ndim == 3 and len(o.x_q) == 3,
        lambda o: o.x_q.shape[-1] == 2 * o.cos.shape[-1],
        lambda o: o.x_q.shape[-1] == 2 * o.cos.shape[-1] + 3,
        lambda o: (o.cos == 2**14).any() and (o.sin == -(2**14)).any(),
    ],
)
def test_rotary_operands_are_of_every_kind(condition):
    drawn(strategies.rotary_operands(), condition)


@given(
    data=st.data(),
    operands=st.one_of(
        strategies.multiply_operands(),
        strategies.multiply_operands(a=INT16, b=INT16),
        strategies.multiply_operands(a=UINT8, b=IntRange(16, signed=False)),
    ),
    to=strategies.int_ranges(),
    rounding=st.sampled_from(Rounding),
)
def test_multiply_operands_are_legal_and_exact(data, operands, to, rounding):
    zero_point = data.draw(strategies.codes(to))
    a, b, ratio, a_zero_point, b_zero_point = operands
    y = multiply(**operands._asdict(), to=to, rounding=rounding, zero_point=zero_point)
    how = {"lo": to.min, "hi": to.max, "mode": rounding.value, "zero_point": zero_point}
    ratios = [np.broadcast_to(part, a.shape).ravel().tolist() for part in (ratio.multiplier, ratio.shift)]
    expected = [
        oracle.multiply(*each, a_zero_point=a_zero_point, b_zero_point=b_zero_point, **how)
        for each in zip(a.ravel().tolist(), b.ravel().tolist(), *ratios, strict=True)
    ]
    assert_bit_exact(y, np.array(expected, to.dtype).reshape(a.shape))


def products_of(operands):
    """Return the exact products, before they are rounded."""
    a, b, ratio, a_zero_point, b_zero_point = operands
    ratios = (np.broadcast_to(part, a.shape).ravel().tolist() for part in (ratio.multiplier, ratio.shift))
    return [
        Fraction((x - a_zero_point) * (y - b_zero_point) * m, 2**t)
        for x, y, m, t in zip(a.ravel().tolist(), b.ravel().tolist(), *ratios, strict=True)
    ]


@pytest.mark.parametrize(
    "condition",
    [
        *(
            lambda o, sign=sign, parity=parity: any(
                x % 1 == HALF and (x > 0) == sign and floor(x) % 2 == parity for x in products_of(o)
            )
            for sign in (True, False)
            for parity in (0, 1)
        ),
        lambda o: o.ratio.multiplier.ndim == 1 and sum(x % 1 == HALF for x in products_of(o)) > 2,
        lambda o: o.a_zero_point < 0 < o.b_zero_point and any(x % 1 == HALF for x in products_of(o)),
        lambda o: o.a_q.ndim == 3,
        lambda o: ((o.a_q == -128) & (o.b_q == -128)).any() and o.a_zero_point == o.b_zero_point == 0,
        lambda o: (o.a_q == o.a_zero_point).any() and o.a_zero_point,
    ],
)
def test_multiply_operands_are_of_every_kind(condition):
    drawn(strategies.multiply_operands(), condition)


@given(arguments=strategies.causal_mask_arguments())
def test_causal_mask_arguments_are_legal_and_exact(arguments):
    seen = causal_mask(**arguments._asdict())
    expected = [[oracle.causal_mask(row, *arguments[1:])] for row in arguments.mask.tolist()]
    assert seen.tolist() == expected


@pytest.mark.parametrize(
    "condition",
    [
        lambda c: c.window is None,
        lambda c: c.window == 1 and c.mask.shape[1] == 6,
        lambda c: c.window is not None and c.window > c.mask.shape[1],
        lambda c: c.queries == 1 and c.mask.shape[1] == 6,
        lambda c: c.queries == c.mask.shape[1] == 6,
        lambda c: len(c.mask) == 1 and c.mask.shape[1] > 3 and not c.mask[0, -1] and c.mask[0, 0],
        lambda c: len(c.mask) == 1 and c.mask.shape[1] > 3 and not c.mask[0, 0] and c.mask[0, 1:].all(),
        lambda c: len(c.mask) == 1 and c.mask.shape[1] > 3 and not c.mask[0, 1] and c.mask[0, 0] and c.mask[0, -1],
        lambda c: not c.mask.any(),
        lambda c: c.mask.all() and c.mask.size > 8,
    ],
)
def test_causal_mask_arguments_are_of_every_kind(condition):
    drawn(strategies.causal_mask_arguments(), condition)


@given(arguments=strategies.sample_token_arguments(), profile=strategies.profiles())
def test_sample_token_arguments_are_legal_and_exact(arguments, profile):
    logits, ratio, top_k, seed, draw = arguments
    tokens = sample_token(**arguments._asdict(), profile=profile)
    how = {"top_k": top_k, "seed": seed, "draw": draw, "profile": profile.to_json()}
    pair = int(ratio.multiplier), int(ratio.shift)
    assert tokens.tolist() == [oracle.sample_token(row, *pair, text=b, **how) for b, row in enumerate(logits.tolist())]


def tie_of_one_text(arguments):
    logits = arguments.logits
    halves = (remainder(int(x) - int(logits.max()), arguments.ratio) == HALF for x in logits[0])
    return len(logits) == 1 and any(halves) and arguments.top_k > 1


def test_sample_token_arguments_of_few_logits_are_ties():
    drawn(strategies.sample_token_arguments(shape=(1, 3)), tie_of_one_text)


@pytest.mark.parametrize(
    "condition",
    [
        lambda s: s.logits.shape[-1] > 2 and np.ptp(s.logits.astype(np.int64)) == 0 and s.top_k < s.logits.shape[-1],
        lambda s: 1 < s.top_k < (s.logits[0] == s.logits[0].max()).sum() < s.logits.shape[-1],
        lambda s: np.ptp(s.logits.astype(np.int64)) == 2**32 - 1,
        lambda s: s.top_k > s.logits.shape[-1] > 1,
        lambda s: s.top_k == 1 and s.logits.shape == (6, 6),
        lambda s: s.seed > 2**63,
        pytest.param(tie_of_one_text, marks=pytest.mark.slow),  # one draw in thousands
    ],
)
def test_sample_token_arguments_are_of_every_kind(condition):
    drawn(strategies.sample_token_arguments(), condition)


def test_decoders_strategies_keep_to_what_is_asked_for():
    drawn(strategies.rotary_operands(max_side=1, max_pairs=1), lambda o: o.x_q.shape == (1, 1, 1, 3))
    assert drawn(strategies.multiply_operands(a=UINT8, shape=(2, 3)), bool).a_q.dtype == np.uint8
    for operands in sample(strategies.multiply_operands(b=INT16, shape=(2, 3), zero_points=False), 50):
        assert operands.b_q.dtype == np.int16
        assert operands.b_q.shape == (2, 3)
        assert operands.a_zero_point == operands.b_zero_point == 0
    for arguments in sample(strategies.sample_token_arguments(to=INT16, shape=(2, 3)), 50):
        assert (arguments.logits.dtype, arguments.logits.shape) == (np.int16, (2, 3))
    assert all(c.mask.shape <= (2, 2) for c in sample(strategies.causal_mask_arguments(max_side=2), 50))


def probabilities_of_16_bits(rows):
    y = softmax(**rows._asdict(), profile=INTSIM_WIDE)
    return rows.acc.ndim == 1 and rows.acc.size > 2 and 255 < y[0] < 65535 - 255


def test_softmax_rows_have_probabilities_between_those_of_8_bits():
    drawn(strategies.softmax_rows(), probabilities_of_16_bits)
    drawn(strategies.profiles(), lambda profile: profile.softmax.one == 65535 and profile.name == "mixed")


@every_mutation
@pytest.mark.parametrize("operator", ["rotary", "multiply", "rms_norm"])
def test_a_property_test_of_a_decoders_operator_sees_another_tie_rule(operator, right, wrong):
    def computed(operands, params, rounding):
        profile = replace(INTSIM, step_rounding=rounding)
        match operator:
            case "rotary":
                return rotary(**operands._asdict(), pairing="halves", rounding=rounding)
            case "multiply":
                return multiply(**operands._asdict(), to=INT32, rounding=rounding)
            case _:
                return rms_norm(operands, params, to=INT32, profile=profile)

    plain = LayerNormParams(weight=Dyadic([1] * 3, [0] * 3), bias=np.zeros(3, np.int64), eps=1)
    operands = {
        "rotary": strategies.rotary_operands(),
        "multiply": strategies.multiply_operands(),
        "rms_norm": strategies.layer_norm_rows(to=INT32, channels=3),
    }[operator]

    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    @given(operands=operands)
    def property_test(operands):
        assert_bit_exact(computed(operands, plain, wrong), computed(operands, plain, right))

    with pytest.raises(AssertionError, match="elements differ"):
        property_test()


# Arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda: strategies.codes(8),
        lambda: strategies.code_arrays("int8"),
        lambda: strategies.code_arrays(INT8, shape=-1),
        lambda: strategies.code_arrays(INT8, shape=(2, 1.5)),
        lambda: strategies.code_arrays(INT8, shape=2.5),
        lambda: strategies.int_ranges(min_bits=1),
        lambda: strategies.int_ranges(max_bits=33),
        lambda: strategies.int_ranges(min_bits=9, max_bits=8),
        lambda: strategies.int_ranges(signed=False, narrow=True),
        lambda: strategies.dyadics(min_multiplier=-(2**31)),
        lambda: strategies.dyadics(max_multiplier=2**31),
        lambda: strategies.dyadics(min_multiplier=2, max_multiplier=1),
        lambda: strategies.dyadics(min_shift=-1),
        lambda: strategies.dyadics(max_shift=63),
        lambda: strategies.accumulators((1, 8)),
        lambda: strategies.accumulators(Dyadic(1, 8), to=32),
        lambda: strategies.accumulators(Dyadic([[1]], [[8]])),
        lambda: strategies.accumulators(Dyadic([1, 1], [8, 8]), shape=(2, 3)).example(),
        lambda: strategies.affine_params(min_scale=0.0),
        lambda: strategies.affine_params(max_scale=float("inf")),
        lambda: strategies.affine_params(min_scale=2.0, max_scale=1.0),
        lambda: strategies.affine_params(to=8),
        lambda: strategies.schemes(max_bits=17),
        lambda: strategies.matmul_operands(x=INT32),
        lambda: strategies.matmul_operands(w=8),
        lambda: strategies.matmul_operands(max_side=0),
        lambda: strategies.matmul_operands(max_depth=0),
        lambda: strategies.softmax_rows(ratio=Dyadic(-1, 0)),
        lambda: strategies.softmax_rows(ratio=Dyadic([1], [0])),
        lambda: strategies.softmax_rows(ratio=0.5),
        lambda: strategies.softmax_rows(shape=()),
        lambda: strategies.softmax_rows(shape=(2, 0)),
        lambda: strategies.layer_norm_rows(to=IntRange(32, signed=False)),
        lambda: strategies.rotary_operands(max_side=0),
        lambda: strategies.rotary_operands(max_pairs=0),
        lambda: strategies.multiply_operands(a=IntRange(17)),
        lambda: strategies.multiply_operands(b=INT32),
        lambda: strategies.multiply_operands(shape=()),
        lambda: strategies.causal_mask_arguments(max_side=0),
        lambda: strategies.sample_token_arguments(shape=(2, 0)),
        lambda: strategies.sample_token_arguments(to=8),
        lambda: strategies.layer_norm_rows(shape=0),
        lambda: strategies.layer_norm_rows(channels=0),
        lambda: strategies.layer_norm_rows(channels=2**14 + 1),
        lambda: strategies.layer_norm_rows(channels=3, shape=(3,)),
        lambda: strategies.layer_norm_params(channels=0),
        lambda: strategies.layer_norm_params(max_eps=0),
        lambda: strategies.layer_norm_params(max_eps=2**61),
    ],
)
@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_an_impossible_argument_is_refused(call):
    with pytest.raises(InvalidArgument, match=r"must .*got "):
        call()


# Types


@pytest.mark.parametrize("kind", [Dyadic, IntRange, LayerNormParams, Profile, AffineParams, Scheme])
def test_from_type_knows_the_types(kind):
    intsim._hypothesis.register()
    seen = set()
    drawn(st.from_type(kind), lambda value: seen.add(type(value)) or len(str(value)) > 20)
    assert seen == {kind}


def test_importing_the_registration_does_not_import_the_strategies():
    program = """
import sys
from intsim._hypothesis import register
register()
assert "intsim.strategies" not in sys.modules
from hypothesis import strategies as st
from intsim import Dyadic
st.from_type(Dyadic).validate()
assert "intsim.strategies" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)


def test_without_hypothesis_a_sentence_names_the_extra():
    program = """
import sys
sys.modules["hypothesis"] = None
try:
    import intsim.strategies
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "intsim.strategies needs hypothesis; install it with: pip install 'intsim[test]'\n"


def test_everything_public_is_listed():
    for name in strategies.__all__:
        assert getattr(strategies, name).__doc__
    package = f"{strategies.__name__}."
    own = {name for name, value in vars(strategies).items() if getattr(value, "__module__", "").startswith(package)}
    assert {name for name in own if not name.startswith("_")} == set(strategies.__all__)
