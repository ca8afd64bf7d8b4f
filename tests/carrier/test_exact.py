# SPDX-License-Identifier: Apache-2.0
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracle
import pytest
from edges import INT64_MAX, INT64_MIN, dyadics, edge_integers, every_rounding, near_tie, ranges
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.carrier import blocks, exact
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import divide, magnitude, matmul, require_integers, rescale
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, IntRange, Rounding

WIDE = IntRange(32)
FLOAT_JUDGES = {
    Rounding.HALF_UP: lambda r: np.floor(r + 0.5),
    Rounding.HALF_AWAY: lambda r: np.copysign(np.floor(np.abs(r) + 0.5), r),
}
SWITCH = 2**52  # rescale runs on float64 up to this bound


def rescaled(operands, pairs, rounding, *, zero_point=0, to=WIDE):
    """The oracle's ``rescale`` of equally long lists: one multiplier per operand, one shift."""
    return [
        oracle.add(list(xs), pairs, zero_point=zero_point, lo=to.min, hi=to.max, rounding=rounding, once=True)
        for xs in zip(*operands, strict=True)
    ]


def divided(dividends, divisors, rounding, *, multiplier=1, to=WIDE):
    return [
        oracle.saturate(oracle.rounding_divide(a * multiplier, b, rounding), to.min, to.max)
        for a, b in zip(dividends, divisors, strict=True)
    ]


# What is let in


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "complex64", "bool", "uint64", "object", "U1", "M8[s]"]
)
def test_what_does_not_fit_int64_is_refused(dtype):
    with pytest.raises(TypeError, match=r"x_q must have an integer dtype that fits int64, got"):
        require_integers("x_q", np.empty(2, dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", ">i4"])
def test_what_fits_int64_is_let_in(dtype):
    require_integers("x_q", np.zeros(2, dtype))


@pytest.mark.parametrize(
    ("x", "bound"),
    [
        (np.zeros(1, np.int8), 128),
        (np.zeros(1, np.uint8), 255),
        (np.zeros(1, np.int16), 2**15),
        (np.zeros(1, np.uint16), 2**16 - 1),
        (np.array([3, -7], np.int32), 7),
        (np.array([INT64_MIN, INT64_MAX]), 2**63),
        (np.array([-5, INT64_MAX]), INT64_MAX),
        (np.array([2**32 - 1], np.uint32), 2**32 - 1),
        (np.empty(0, np.int32), 0),
        (np.empty((3, 0), np.int64), 0),
    ],
)
def test_magnitude_bounds_every_element_even_the_one_whose_abs_wraps(x, bound):
    assert magnitude(x) == bound


# The matrix product


DTYPES = [(np.int8, np.int8), (np.uint8, np.int8), (np.int16, np.int8), (np.int8, np.uint8), (np.uint8, np.int16)]


@st.composite
def products(draw):
    """Two integer operands of a batched or plain product, and a bias or none."""
    x_dtype, w_dtype = draw(st.sampled_from(DTYPES))
    m, k, n = (draw(st.integers(1, 5)) for _ in range(3))
    batch = draw(st.sampled_from([(), (3,), (2, 3)]))
    w_batch = batch if draw(st.booleans()) else ()

    def codes(dtype, shape):
        info = np.iinfo(dtype)
        return draw(hnp.arrays(dtype, shape, elements=edge_integers(int(info.min), int(info.max))))

    x, w = codes(x_dtype, (*batch, m, k)), codes(w_dtype, (*w_batch, n, k))
    bias = draw(st.none() | hnp.arrays(np.int32, n, elements=st.integers(-(2**20), 2**20)))
    return x, w, bias


def expected_product(x, w, bias):
    """The oracle's product, matrix by matrix."""
    w = np.broadcast_to(w, (*x.shape[:-2], *w.shape[-2:]))
    out = np.empty((*x.shape[:-1], w.shape[-2]), object)
    for index in np.ndindex(x.shape[:-2]):
        rows = oracle.matmul(x[index].tolist(), w[index].tolist(), None if bias is None else bias.tolist())
        out[index] = np.array(rows, object)
    return out


@given(products())
def test_every_carrier_gives_the_product_of_the_oracle(case):
    x, w, bias = case
    expected = expected_product(x, w, bias).tolist()
    bounds = {"x_bound": magnitude(x), "w_bound": magnitude(w), "bias": bias}
    for name in ("auto", "integer"):
        product = matmul(x, w, **bounds, carrier=name)
        assert product.dtype == np.int32
        assert product.tolist() == expected


@pytest.mark.parametrize(
    "dtypes", [("int8", "int8"), ("uint8", "int8"), ("int16", "int8"), ("uint8", "int16")], ids=str
)
@pytest.mark.parametrize(
    "shape", [((37, 96), (41, 96)), ((2, 5, 96), (41, 96)), ((2, 3, 17, 64), (2, 3, 19, 64))], ids=str
)
@pytest.mark.parametrize("biased", [False, True])
def test_carriers_agree_bit_for_bit_on_the_shapes_of_a_transformer(dtypes, shape, biased):
    rng = np.random.default_rng(1)
    x, w = (rng.integers(np.iinfo(d).min, np.iinfo(d).max + 1, s).astype(d) for d, s in zip(dtypes, shape, strict=True))
    bias = rng.integers(-(2**20), 2**20, w.shape[-2]).astype(np.int32) if biased else None
    bounds = {"x_bound": magnitude(x), "w_bound": magnitude(w), "bias": bias}
    exact = x.astype(np.int64) @ w.astype(np.int64).swapaxes(-1, -2) + (0 if bias is None else bias)
    assert np.array_equal(matmul(x, w, **bounds, carrier="auto"), exact)
    assert np.array_equal(matmul(x, w, **bounds, carrier="integer"), exact)


@pytest.mark.parametrize("name", ["auto", "integer"])
def test_float32_carries_a_sum_of_exactly_2_to_24(name):
    x = np.full((1, 1024), -128, np.int8)
    assert matmul(x, x, x_bound=128, w_bound=128, carrier=name).tolist() == [[2**24]]


@pytest.mark.parametrize("name", ["auto", "integer"])
def test_one_more_than_2_to_24_is_exact_too(name):
    x = np.full((1, 1025), -128, np.int8)
    w = x.copy()
    x[0, -1] = w[0, -1] = 1
    assert matmul(x, w, x_bound=128, w_bound=128, carrier=name).tolist() == [[2**24 + 1]]
    assert (x.astype(np.float32) @ w.astype(np.float32).T).tolist() == [[2**24]]


@pytest.mark.parametrize("name", ["auto", "integer"])
def test_a_bias_that_passes_2_to_24_leaves_float32(name):
    x = np.full((1, 1024), -128, np.int8)
    product = matmul(x, x, x_bound=128, w_bound=128, bias=np.array([1], np.int32), carrier=name)
    assert product.tolist() == [[2**24 + 1]]


@pytest.mark.parametrize("name", ["auto", "integer"])
def test_the_accumulator_is_exact_at_the_largest_depth(name):
    x = np.full((1, 131_071), -128, np.int8)
    assert matmul(x, x, x_bound=128, w_bound=128, carrier=name).tolist() == [[2_147_467_264]]
    lowest = np.full((1, 131_071), 127, np.int8)
    assert matmul(x, lowest, x_bound=128, w_bound=128, carrier=name).tolist() == [[-128 * 127 * 131_071]]


@pytest.mark.parametrize("name", ["auto", "integer"])
def test_a_depth_that_could_overflow_int32_is_refused(name):
    x = np.full((1, 131_072), -128, np.int8)
    with pytest.raises(ValueError, match=r"less than 2\*\*31 for an int32 accumulator, got a bound of 2147483648"):
        matmul(x, x, x_bound=128, w_bound=128, carrier=name)


def test_the_weights_at_hand_allow_a_depth_that_their_dtype_does_not():
    x = np.full((1, 131_072), -128, np.int8)
    w = np.full((2, 131_072), -127, np.int8)
    assert matmul(x, w, x_bound=128, w_bound=128).tolist() == [[131_072 * 128 * 127] * 2]


def _probabilities(total, columns):
    """Rows of uint16 that sum to ``total``: as few entries as can be, and as many."""
    few = (total - 65535 * np.arange(columns)).clip(0, 65535)
    many = total // columns + (np.arange(columns) < total % columns)
    return np.stack([few, few[::-1], many]).astype(np.uint16)


def test_the_sums_of_unsigned_rows_prove_what_their_dtype_does_not(monkeypatch):
    """Beyond 2**24 over the largest weight float32 would lose a bit; up to there nothing else carries the product."""
    dtypes = []
    product = exact._product

    def watched(x, w, dtype, *cut):
        dtypes.append(dtype)
        return product(x, w, dtype, *cut)

    monkeypatch.setattr(exact, "_product", watched)
    w = np.random.default_rng(0).choice([-128, 127], (5, 2048)).astype(np.int8)
    w[0] = -128
    for total, dtype in ((2**17, np.float32), (2**17 + 1, np.float64)):
        x = _probabilities(total, 2048)
        expected = x.astype(np.int64) @ w.astype(np.int64).T
        assert matmul(x, w, x_bound=65535, w_bound=128).tolist() == expected.tolist()
        assert expected[0, 0] == -128 * total
        assert dtypes[-1] == dtype
        assert matmul(x, w, x_bound=65535, w_bound=128, carrier="integer").tolist() == expected.tolist()


def test_unsigned_rows_whose_sums_could_overflow_int32_are_refused():
    w, bias = np.full((1, 2**10), -128, np.int8), np.array([-127], np.int32)
    x = _probabilities(2**24 - 1, 2**10)
    assert matmul(x, w, x_bound=65535, w_bound=128, bias=bias).tolist() == [[1 - 2**31]] * 3
    with pytest.raises(ValueError, match="got a bound of 2147483648"):
        matmul(x, w, x_bound=65535, w_bound=128, bias=bias - np.int32(1))


def test_signed_rows_are_not_proved_by_their_sums():
    x = np.array([[2**15 - 1, -(2**15) + 1] * 1024], np.int16)
    assert x.sum() == 0
    with pytest.raises(ValueError, match="for an int32 accumulator"):
        matmul(x, np.full((1, 2048), 127, np.int8), x_bound=2**15, w_bound=128)


def test_the_weights_at_hand_allow_one_float32_product_that_their_dtype_does_not(monkeypatch):
    x, w = np.full((1, 2000), -128, np.int8), np.ones((2, 2000), np.int8)
    w[1] = 2
    monkeypatch.delattr(exact, "_in_pieces")
    assert matmul(x, w, x_bound=128, w_bound=128).tolist() == [[-256_000, -512_000]]


def test_a_bias_that_could_overflow_int32_is_refused():
    x = np.full((1, 4), -128, np.int8)
    bounds = {"x_bound": 128, "w_bound": 128}
    largest = 2**31 - 1 - 4 * 2**14
    bias = np.array([largest], np.int32)
    assert matmul(x, x, **bounds, bias=bias).tolist() == [[2**31 - 1]]
    with pytest.raises(ValueError, match="got a bound of 2147483648"):
        matmul(x, x, **bounds, bias=bias + np.int32(1))


def test_the_environment_variable_keeps_the_product_on_integers(monkeypatch):
    x = np.full((1, 1025), -128, np.int8)
    x[0, -1] = 1
    bounds = {"x_bound": 128, "w_bound": 128}
    monkeypatch.setattr(exact, "FLOAT32_EXACT", 2**40)  # a false proof, so that float32 is seen to be used
    assert matmul(x, x, **bounds).tolist() == [[2**24]]
    assert matmul(x, x, **bounds, carrier="integer").tolist() == [[2**24 + 1]]
    monkeypatch.setenv("INTSIM_MATMUL", "integer")
    assert matmul(x, x, **bounds).tolist() == [[2**24 + 1]]
    monkeypatch.setenv("INTSIM_MATMUL", "auto")
    assert matmul(x, x, **bounds).tolist() == [[2**24]]


def test_an_empty_batch_gives_an_empty_product():
    x, w = np.zeros((0, 4), np.int8), np.ones((3, 4), np.int8)
    assert matmul(x, w, x_bound=128, w_bound=128).shape == (0, 3)
    deep = np.ones((1, 2000), np.int8)  # beyond 2**24 by its dtype
    assert matmul(deep, deep[:0], x_bound=128, w_bound=128).shape == (1, 0)


# Rescaling


@every_rounding
@given(data=st.data(), pair=dyadics(), to=ranges)
def test_any_int32_is_rescaled_as_the_oracle_rescales_it(rounding, data, pair, to):
    x = data.draw(st.lists(edge_integers(-(2**31), 2**31 - 1), min_size=1, max_size=8))
    zero_point = data.draw(edge_integers(to.min, to.max))
    y = rescale([np.array(x, np.int32)], [Dyadic(*pair)], zero_point=zero_point, to=to, rounding=rounding)
    assert y.dtype == to.dtype
    assert y.tolist() == rescaled([x], [pair], rounding, zero_point=zero_point, to=to)


@every_rounding
@given(data=st.data(), shift=st.integers(0, 40), count=st.integers(1, 3))
def test_both_paths_give_the_sum_of_the_oracle_on_ties(rounding, data, shift, count):
    # the first operand counts in units of 1, so that it brings any sum onto a tie or beside one
    multipliers = [1, *data.draw(st.lists(edge_integers(-(2**20), 2**20), min_size=count - 1, max_size=count - 1))]
    pairs = [(m, shift) for m in multipliers]
    others = [data.draw(st.lists(edge_integers(-(2**20), 2**20), min_size=4, max_size=4)) for _ in multipliers[1:]]
    wanted = [near_tie(data.draw(edge_integers(-(2**8), 2**8)), shift, data.draw(st.integers(-1, 1))) for _ in range(4)]
    rest = [sum(m * x for m, x in zip(multipliers[1:], xs, strict=True)) for xs in zip(*others, strict=True)] or [0] * 4
    operands = [[w - r for w, r in zip(wanted, rest, strict=True)], *others]
    arrays, ratios = [np.array(x, np.int64) for x in operands], [Dyadic(*pair) for pair in pairs]
    expected = rescaled(operands, pairs, rounding)
    assert rescale(arrays, ratios, zero_point=0, to=WIDE, rounding=rounding).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "FLOAT64_EXACT", 0)
        assert rescale(arrays, ratios, zero_point=0, to=WIDE, rounding=rounding).tolist() == expected


def operands_at_the_switch(shift, multiplier, over):
    """Integers whose bound 2**(shift-1) + |x| m is as near to 2**52 as m allows, and their neighbours down to ties."""
    largest = (SWITCH - (1 << shift >> 1)) // multiplier + over
    nearby = [largest - step for step in (0, 1, 2, 3)]
    quotients = [0, 1, 2, 3, (largest * multiplier) >> shift]
    beside = [near_tie(k, shift, 0) // multiplier + step for k in quotients for step in (-1, 0, 1, 2)]
    x = sorted({x for x in [*nearby, *beside] if 0 <= x <= largest})
    return [*[-value for value in x], *x], largest


@every_rounding
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize(
    ("shift", "multiplier"), [(40, 2**30), (40, 2**31 - 1), (31, 2**30 + 1), (52, 3), (22, 1), (1, 1), (0, 1)]
)
def test_both_sides_of_the_switch_to_float64_agree_with_the_oracle(rounding, over, shift, multiplier, monkeypatch):
    x, largest = operands_at_the_switch(shift, multiplier, over)
    bound = (1 << shift >> 1) + largest * multiplier
    assert (bound > SWITCH) == bool(over)
    if multiplier & (multiplier - 1) == 0:
        assert bound == SWITCH + over * multiplier
    array, ratio = [np.array(x)], [Dyadic(multiplier, shift)]
    expected = rescaled([x], [(multiplier, shift)], rounding)
    assert rescale(array, ratio, zero_point=0, to=WIDE, rounding=rounding).tolist() == expected
    monkeypatch.setattr(exact, "FLOAT64_EXACT", 0)
    assert rescale(array, ratio, zero_point=0, to=WIDE, rounding=rounding).tolist() == expected


def test_float64_is_used_up_to_the_switch_and_not_beyond(monkeypatch):
    used = []
    monkeypatch.setitem(exact._FLOAT64_ROUNDING, Rounding.FLOOR, lambda y, _: used.append(y) or np.floor(y, out=y))
    for over in (0, 1):
        x, _ = operands_at_the_switch(40, 2**30, over)
        rescale([np.array(x)], [Dyadic(2**30, 40)], zero_point=0, to=WIDE, rounding=Rounding.FLOOR)
    assert len(used) == 1


@every_rounding
@pytest.mark.parametrize("bits", range(50, 61))
def test_integers_on_both_sides_of_float64_are_exact(rounding, bits):
    for shift, q in ((30, 2 ** (bits - 30)), (bits - 10, 2**10)):
        x = [sign * near_tie(q + odd, shift, step) for sign in (1, -1) for odd in (0, 1) for step in (-1, 0, 1)]
        expected = rescaled([x], [(1, shift)], rounding)
        assert rescale([np.array(x)], [Dyadic(1, shift)], zero_point=0, to=WIDE, rounding=rounding).tolist() == expected


@every_rounding
def test_a_product_float64_would_round_is_exact(rounding):
    # x m = k 2**31 + 2**30 - 1, one below a tie, has 61 bits: float64 sees the tie
    x, shift = 1_999_999_999, 31
    m = (2**30 - 1) * pow(x, -1, 2**31) % 2**31
    assert x * m % 2**31 == 2**30 - 1
    assert float(x * m) != x * m
    y = rescale([np.array([x, -x])], [Dyadic(m, shift)], zero_point=0, to=WIDE, rounding=rounding)
    assert y.tolist() == rescaled([[x, -x]], [(m, shift)], rounding)


@every_rounding
def test_the_zero_point_is_added_after_rounding(rounding):
    x = np.array([-3, -1, 1, 3])
    y = rescale([x], [Dyadic(1, 1)], zero_point=-7, to=INT8, rounding=rounding)
    assert y.tolist() == [oracle.rounding_shift(value, 1, rounding) - 7 for value in x.tolist()]


def test_a_sum_that_could_leave_int64_is_refused():
    ratios = [Dyadic(2**31 - 1, 0), Dyadic(-1, 0)]
    first = 2**32
    second = 2**63 - 1 - first * (2**31 - 1)
    x = [np.array([first]), np.array([-second])]
    assert rescale(x, ratios, zero_point=0, to=INT32, rounding=Rounding.FLOOR).tolist() == [2**31 - 1]
    x[1] -= 1
    with pytest.raises(ValueError, match=rf"must stay below 2\*\*63, got a bound of {2**63}"):
        rescale(x, ratios, zero_point=0, to=INT32, rounding=Rounding.FLOOR)


def test_the_rounding_half_counts_in_the_bound():
    x = np.array([3 * 2**61 - 1])
    assert rescale([x], [Dyadic(1, 62)], zero_point=0, to=INT8, rounding=Rounding.HALF_UP).tolist() == [1]
    with pytest.raises(ValueError, match=rf"got a bound of {2**63}"):
        rescale([x + 1], [Dyadic(1, 62)], zero_point=0, to=INT8, rounding=Rounding.HALF_UP)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        rescale([np.array([INT64_MIN])], [Dyadic(1, 0)], zero_point=0, to=INT8, rounding=Rounding.FLOOR)


def test_the_zero_point_cannot_wrap_either():
    x = np.array([INT64_MAX])
    try:
        y = rescale([x], [Dyadic(1, 0)], zero_point=1, to=INT8, rounding=Rounding.HALF_UP)
    except ValueError:
        return
    assert y.tolist() == [127]


def test_the_farthest_of_several_zero_points_counts_in_the_bound():
    x, one = np.array([2**62, 2**62]), Dyadic(1, 0)
    for zero_point in ([0, 2**62], [2**62, 0]):
        with pytest.raises(ValueError, match=rf"got a bound of {2**63}"):
            rescale([x], [one], zero_point=np.array(zero_point), to=INT8, rounding=Rounding.FLOOR)
        y = rescale([x - 1], [one], zero_point=np.array(zero_point), to=INT8, rounding=Rounding.FLOOR)
        assert y.tolist() == [127, 127]


@every_rounding
@pytest.mark.parametrize("shifts", [[30, 30], [40, 1], [1, 40]], ids=str)
@pytest.mark.parametrize("zero_points", [[0, 2**25], [2**25, 0], [-(2**25), 3]], ids=str)
def test_sums_that_a_zero_point_brings_beyond_float64_are_exact(rounding, shifts, zero_points):
    quotients = [2**20, -(2**20)]
    for step in (-1, 0, 1):
        x = [near_tie(q, t, step) for q, t in zip(quotients, shifts, strict=True)]
        y = rescale(
            [np.array(x)], [Dyadic([1, 1], shifts)], zero_point=np.array(zero_points), to=WIDE, rounding=rounding
        )
        expected = [oracle.rounding_shift(a, t, rounding) for a, t in zip(x, shifts, strict=True)]
        assert y.tolist() == [a + z for a, z in zip(expected, zero_points, strict=True)]


def test_ratios_of_different_shifts_are_refused():
    x = np.array([1, 2])
    with pytest.raises(ValueError, match=r"ratios must share one shift to be rounded once, .* Dyadic.aligned"):
        rescale([x, x], [Dyadic(1, 3), Dyadic(1, 4)], zero_point=0, to=INT8, rounding=Rounding.FLOOR)
    with pytest.raises(ValueError, match="ratios must share one shift"):
        rescale([x, x], [Dyadic(1, 3), Dyadic([1, 1], [3, 4])], zero_point=0, to=INT8, rounding=Rounding.FLOOR)
    with pytest.raises(ValueError, match="ratios must share one shift"):
        rescale([x] * 3, [Dyadic(1, 3), Dyadic(1, 3), Dyadic(1, 4)], zero_point=0, to=INT8, rounding=Rounding.FLOOR)


# Division


@every_rounding
@given(data=st.data(), multiplier=st.sampled_from([1, 255, 256, 2**16]) | st.integers(1, 2**16), to=ranges)
def test_any_quotient_is_that_of_the_oracle(rounding, data, multiplier, to):
    pairs = data.draw(
        st.lists(st.tuples(edge_integers(-(2**40), 2**40), edge_integers(1, 2**45)), min_size=1, max_size=8)
    )
    a, b = zip(*pairs, strict=True)
    y = divide(np.array(a), np.array(b), multiplier=multiplier, to=to, rounding=rounding)
    assert y.dtype == to.dtype
    assert y.tolist() == divided(a, b, rounding, multiplier=multiplier, to=to)


@every_rounding
@given(
    divisor=edge_integers(1, 2**50),
    bits=st.integers(1, 62),
    multiplier=st.sampled_from([1, 3, 2**16]),
    data=st.data(),
)
@example(divisor=2**24 + 1, bits=51, multiplier=1, data=None)
@example(divisor=3, bits=52, multiplier=1, data=None)
def test_quotients_all_but_integers_or_halves_are_those_of_the_oracle(rounding, divisor, bits, multiplier, data):
    largest = min(2**bits, 2**62 - 1 - divisor) // multiplier
    top = largest // divisor
    chosen = [] if data is None else data.draw(st.lists(edge_integers(0, top), max_size=4))
    quotients = {0, 1, 2, 3, top // 2, top - 1, top, *chosen}
    numerators = {k * divisor + part + step for k in quotients for part in (0, divisor // 2) for step in (-1, 0, 1)}
    a = sorted(sign * n for n in numerators for sign in (1, -1) if 0 <= n <= largest)
    b = [divisor] * len(a)
    y = divide(np.array(a), np.array(b), multiplier=multiplier, to=WIDE, rounding=rounding)
    assert y.tolist() == divided(a, b, rounding, multiplier=multiplier)


@every_rounding
def test_one_less_than_a_multiple_is_exact_on_both_sides_of_the_switch(rounding):
    rng = np.random.default_rng(2)
    divisors = [int(b) for b in rng.integers(2, 2**31, 300)] + [2, 3, 2**22 + 1, 2**26 - 1, 2**30]
    for limit in (2**52 - 2**32, 2**53, 2**55):  # 2a + 2b on either side of 2**53
        b = [divisor for divisor in divisors for _ in range(3)]
        a = [limit // divisor * divisor + step for divisor in divisors for step in (-1, 0, 1)]
        for sign in (1, -1):
            signed = [sign * value for value in a]
            y = divide(np.array(signed), np.array(b), multiplier=1, to=WIDE, rounding=rounding)
            assert y.tolist() == divided(signed, b, rounding)


def test_a_dividend_or_divisor_beyond_int64_is_refused():
    for a, b, multiplier in ((2**62, 1, 1), (1, 2**62, 1), (2**46, 1, 2**16), (INT64_MIN, 1, 1), (1, INT64_MAX, 1)):
        with pytest.raises(ValueError, match="dividend and divisor must stay below"):
            divide(np.array([a]), np.array([b]), multiplier=multiplier, to=INT8, rounding=Rounding.FLOOR)


def test_dividends_and_divisors_are_let_in_up_to_their_bound():
    for a, b in ((2**62 - 1, 1), (2**61, 2**61), (-(2**62) + 1, 1)):
        with pytest.raises(ValueError, match=f"got a bound of {2**63}"):
            divide(np.array([a]), np.array([b]), multiplier=1, to=WIDE, rounding=Rounding.FLOOR)
    for rounding in Rounding:
        y = divide(np.array([2**62 - 2**40 - 2]), np.array([2**40]), multiplier=1, to=WIDE, rounding=rounding)
        assert y.tolist() == divided([2**62 - 2**40 - 2], [2**40], rounding)


def test_a_divisor_of_a_narrow_dtype_is_widened_before_it_is_doubled():
    y = divide(np.array([100]), np.array([200], np.uint8), multiplier=1, to=INT8, rounding=Rounding.HALF_UP)
    assert y.tolist() == [1]


@every_rounding
@given(pairs=st.lists(st.tuples(st.integers(-128, 127), st.integers(1, 127)), min_size=1, max_size=8))
def test_a_dividend_of_a_narrow_dtype_is_widened_before_it_is_multiplied(rounding, pairs):
    a, b = zip(*pairs, strict=True)
    y = divide(np.array(a, np.int8), np.array(b), multiplier=2**16, to=WIDE, rounding=rounding)
    assert y.tolist() == divided(a, b, rounding, multiplier=2**16)


# Blocks and threads


def case(shapes, seed):
    """Operands of the shapes, and ratios of one shift, small enough for float64."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-(2**15), 2**15, shape) for shape in shapes], Dyadic.aligned(
        *rng.uniform(0.1, 0.9, len(shapes))
    )


BROADCASTS = [
    [(17, 101, 97), (17, 101, 97)],
    [(17, 101, 97), (101, 97)],
    [(17, 101, 97), (97,)],
    [(17, 101, 97), (101, 1)],
    [(17, 101, 97), (17, 1, 97)],
    [(17, 101, 97), (1,)],
    [(17, 101, 97), (17, 101, 1), (97,)],
    [(160_001, 1), (160_001, 1)],
    [(160_001,), (160_001,)],
    [(1, 160_001), (160_001,)],
    [(2, 3, 160_001), (3, 1)],
]


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_AWAY], ids=["float64", "int64"])
@pytest.mark.parametrize("block", [2**12, 2**17])
@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_more_than_a_block_broadcasts_like_numpy(shapes, block, rounding, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    operands, ratios = case(shapes, 3)
    assert operands[0].size > blocks.BLOCK
    total = sum(x * int(ratio.multiplier) for x, ratio in zip(operands, ratios, strict=True))
    expected = FLOAT_JUDGES[rounding](np.ldexp(total.astype(np.float64), -int(ratios[0].shift)))  # below 2**53: exact
    y = rescale(operands, ratios, zero_point=3, to=INT16, rounding=rounding)
    assert y.shape == operands[0].shape
    assert np.array_equal(y, np.clip(expected + 3, -(2**15), 2**15 - 1))


@pytest.mark.parametrize("block", [1, 7, 96, 97, 98, 1000, 10**9])
@pytest.mark.parametrize(
    "shapes", [[(11, 83, 97), (83, 97)], [(11, 83, 97), (11, 83, 1), (97,)], [(301,), (301,)]], ids=str
)
@every_rounding
def test_a_sum_does_not_depend_on_the_block_size(block, shapes, rounding, monkeypatch):
    operands, ratios = case(shapes, 4)
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    expected = rescale(operands, ratios, zero_point=0, to=INT16, rounding=rounding)
    monkeypatch.setattr(blocks, "BLOCK", block)
    assert np.array_equal(rescale(operands, ratios, zero_point=0, to=INT16, rounding=rounding), expected)


@pytest.mark.parametrize("block", [1, 7, 96, 97, 98, 1000])
@pytest.mark.parametrize("shape", [(11, 83, 1), (83, 1), (11, 1, 97), (97,), (1,), (11, 83, 97)], ids=str)
@every_rounding
def test_a_quotient_does_not_depend_on_the_block_size(block, shape, rounding, monkeypatch):
    rng = np.random.default_rng(5)
    a, b = rng.integers(-(2**31), 2**31, (11, 83, 97)), rng.integers(1, 2**20, shape)
    arguments = {"multiplier": 3, "to": INT16, "rounding": rounding}
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    expected = divide(a, b, **arguments)
    monkeypatch.setattr(blocks, "BLOCK", block)
    assert np.array_equal(divide(a, b, **arguments), expected)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_nothing_depends_on_the_number_of_threads(threads, monkeypatch):
    operands, ratios = case([(50, 83, 97), (83, 97)], 6)
    divisor = np.random.default_rng(6).integers(1, 2**20, (50, 83, 1))
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    expected = rescale(operands, ratios, zero_point=0, to=INT16, rounding=Rounding.HALF_EVEN)
    quotient = divide(operands[0], divisor, multiplier=2**16, to=INT32, rounding=Rounding.FLOOR)
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    monkeypatch.setattr(blocks, "THREADS", threads)
    with ThreadPoolExecutor(threads) as pool:
        monkeypatch.setattr(blocks, "_pool", lambda: pool)
        y = rescale(operands, ratios, zero_point=0, to=INT16, rounding=Rounding.HALF_EVEN)
        assert np.array_equal(y, expected)
        y = divide(operands[0], divisor, multiplier=2**16, to=INT32, rounding=Rounding.FLOOR)
        assert np.array_equal(y, quotient)


def test_per_channel_multipliers_and_shifts_run_along_the_last_axis():
    rng = np.random.default_rng(7)
    x = rng.integers(-(2**31), 2**31, (11, 40, 97))
    m, t = rng.integers(-(2**31) + 1, 2**31, 97), rng.integers(0, 63, 97)
    y = rescale([x], [Dyadic(m, t)], zero_point=0, to=INT32, rounding=Rounding.HALF_EVEN)
    for channel in (0, 1, 50, 96):
        pair = int(m[channel]), int(t[channel])
        column = x[..., channel].reshape(-1).tolist()
        assert y[..., channel].reshape(-1).tolist() == rescaled([column], [pair], Rounding.HALF_EVEN)


def test_an_error_inside_a_block_is_raised():
    def refuse(_):
        msg = "no"
        raise ArithmeticError(msg)

    with pytest.raises(ArithmeticError, match="no"):
        in_blocks(refuse, np.zeros((2, blocks.BLOCK)))


def test_operands_are_left_as_they_were():
    x, y, w = np.arange(12).reshape(3, 4), np.arange(1, 13).reshape(3, 4), np.ones((2, 4), np.int8)
    before = x.copy(), y.copy(), w.copy()
    for rounding in Rounding:
        rescale([x, y], [Dyadic(3, 1), Dyadic(5, 1)], zero_point=2, to=INT8, rounding=rounding)
        divide(x, y, multiplier=3, to=INT8, rounding=rounding)
    matmul(x.astype(np.int8), w, x_bound=128, w_bound=128)
    for now, then in zip((x, y, w), before, strict=True):
        assert np.array_equal(now, then)
