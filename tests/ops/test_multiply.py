# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from edges import (
    MAX_MULTIPLIER,
    dyadics,
    edge_integers,
    every_other_dtype_than_integers,
    every_rounding,
    per_channel,
    ranges,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from intsim._trace import call, trace
from intsim.carrier import blocks
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, Rounding
from intsim.ops import multiply

FORMATS = st.sampled_from([INT8, UINT8, INT16])


def expected(a, b, pairs, zero_points, *, to, rounding):
    za, zb, z = zero_points
    how = {"a_zero_point": za, "b_zero_point": zb, "zero_point": z, "lo": to.min, "hi": to.max, "mode": rounding}
    return [oracle.multiply(x, y, m, t, **how) for x, y, (m, t) in zip(a, b, pairs, strict=True)]


@st.composite
def factors(draw):
    """Two rows of codes in formats of their own, their zero points, and ratios that cannot leave int64."""
    size, formats = draw(st.integers(1, 6)), [draw(FORMATS), draw(FORMATS)]
    rows = [draw(st.lists(edge_integers(of.min, of.max), min_size=size, max_size=size)) for of in formats]
    zero_points = [draw(st.just(0) | edge_integers(of.min, of.max)) for of in formats]
    pairs = draw(st.lists(dyadics(max_multiplier=2**29), min_size=size, max_size=size))
    return [np.array(row, of.dtype) for row, of in zip(rows, formats, strict=True)], zero_points, pairs


@every_rounding
@given(case=factors(), to=ranges, data=st.data())
def test_products_are_those_of_the_oracle(rounding, case, to, data):
    (a, b), (za, zb), pairs = case
    z = data.draw(edge_integers(to.min, to.max))
    constants = {"to": to, "rounding": rounding, "a_zero_point": za, "b_zero_point": zb, "zero_point": z}
    for ratio, each in ((Dyadic(*pairs[0]), pairs[:1] * len(a)), (per_channel(pairs), pairs)):
        y = multiply(a, b, ratio, **constants)
        assert y.dtype == to.dtype
        assert y.tolist() == expected(a.tolist(), b.tolist(), each, (za, zb, z), to=to, rounding=rounding)


@every_rounding
@pytest.mark.parametrize("shift", [1, 2, 7])
def test_every_pair_of_7_bits_is_multiplied_as_the_oracle_does_it(rounding, shift):
    """A power of two for a ratio: one product in 2**shift is a tie."""
    codes = np.arange(-64, 64, dtype=np.int8)
    a, b = (part.ravel() for part in np.meshgrid(codes, codes))
    y = multiply(a, b, Dyadic(2**20, shift + 20), to=INT16, rounding=rounding)
    pairs = [(1, shift)] * a.size
    assert y.tolist() == expected(a.tolist(), b.tolist(), pairs, (0, 0, 0), to=INT16, rounding=rounding)


@pytest.mark.parametrize("zero_points", [(0, 0), (-(2**15), 2**15 - 1), (2**15 - 1, 2**15 - 1)])
@pytest.mark.parametrize("multiplier", [1, -(2**30), MAX_MULTIPLIER])
def test_the_extremes_of_16_bits_are_exact_or_refused(zero_points, multiplier):
    ends = np.array([-(2**15), 2**15 - 1, 0], np.int16)
    a, b = (part.ravel() for part in np.meshgrid(ends, ends))
    za, zb = zero_points
    largest = max(abs((x - za) * (y - zb)) for x, y in zip(a.tolist(), b.tolist(), strict=True))
    ratio, how = Dyadic(multiplier, 62), {"a_zero_point": za, "b_zero_point": zb}
    if largest * abs(multiplier) + 2**61 >= 2**63:
        with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
            multiply(a, b, ratio, to=INT32, rounding=Rounding.HALF_UP, **how)
    else:
        y = multiply(a, b, ratio, to=INT32, rounding=Rounding.HALF_UP, **how)
        pairs = [(multiplier, 62)] * a.size
        assert y.tolist() == expected(a.tolist(), b.tolist(), pairs, (za, zb, 0), to=INT32, rounding=Rounding.HALF_UP)


@given(case=factors(), to=ranges)
def test_the_order_of_the_factors_is_nothing(case, to):
    (a, b), (za, zb), pairs = case
    ratio, rounding = Dyadic(*pairs[0]), Rounding.HALF_EVEN
    y = multiply(a, b, ratio, to=to, rounding=rounding, a_zero_point=za, b_zero_point=zb)
    assert np.array_equal(multiply(b, a, ratio, to=to, rounding=rounding, a_zero_point=zb, b_zero_point=za), y)


@given(case=factors(), to=ranges, data=st.data())
def test_a_factor_at_its_zero_point_gives_the_zero_point(case, to, data):
    (a, b), (za, zb), pairs = case
    z = data.draw(edge_integers(to.min, to.max))
    assume(za in range(np.iinfo(a.dtype).min, np.iinfo(a.dtype).max + 1))
    constants = {"rounding": Rounding.HALF_AWAY, "a_zero_point": za, "b_zero_point": zb, "zero_point": z}
    y = multiply(np.full_like(a, za), b, Dyadic(*pairs[0]), to=to, **constants)
    assert set(y.tolist()) == {z}


def test_neither_batching_nor_blocks_change_a_bit(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-(2**15), 2**15, (3, 7, 11)).astype(np.int16) for _ in range(2))
    ratio = Dyadic(rng.integers(1, 2**30, 11), np.full(11, 45))
    monkeypatch.setattr(blocks, "BLOCK", 10**9)
    whole = multiply(a, b, ratio, to=INT16, rounding=Rounding.HALF_UP)
    monkeypatch.setattr(blocks, "BLOCK", 50)
    assert np.array_equal(multiply(a, b, ratio, to=INT16, rounding=Rounding.HALF_UP), whole)
    assert np.array_equal(multiply(a[1], b[1], ratio, to=INT16, rounding=Rounding.HALF_UP), whole[1])


def test_the_product_is_a_step_before_it_is_rescaled():
    with trace("steps") as steps:
        call("gate", multiply, np.array([-7], np.int8), np.array([9], np.int8), Dyadic(3, 2), to=INT8,
             rounding=Rounding.FLOOR, a_zero_point=1)  # fmt: skip
    assert {name: values.tolist() for name, values in steps.items()} == {
        "gate:ab": [-72],
        "gate:product": [-216],
        "gate:rounded": [-54],
        "gate": [-54],
    }


@every_other_dtype_than_integers
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_not_an_integer_array_is_refused(dtype, which):
    factors = [np.zeros(2, np.int8), np.zeros(2, np.int8)]
    factors[which] = factors[which].astype(dtype)
    with pytest.raises(TypeError, match=f"{'ab'[which]}_q must have an integer dtype"):
        multiply(*factors, Dyadic(1, 0), to=INT8, rounding=Rounding.FLOOR)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_codes_of_more_than_16_bits_are_refused(dtype):
    with pytest.raises(TypeError, match="b_q must have at most 16 bits"):
        multiply(np.zeros(2, np.int8), np.zeros(2, dtype), Dyadic(1, 0), to=INT8, rounding=Rounding.FLOOR)
