# SPDX-License-Identifier: Apache-2.0
"""quantize_dynamic against the oracle, at its ties and its extremes."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.fixedpoint import INT16, INT32, IntRange, Rounding
from intsim.ops import dynamic_bound, quantize_dynamic
from intsim.strategies import code_arrays

NARROW8 = IntRange(8, narrow=True)


@given(
    x=st.sampled_from([INT16, IntRange(20), IntRange(24), INT32]).flatmap(
        lambda codes: code_arrays(codes, shape=st.tuples(*[st.integers(1, 5)] * 2))
    ),
    bits=st.integers(2, 16),
    unit=st.sampled_from([1, 8]),
    rounding=st.sampled_from(Rounding),
    zero_point=st.sampled_from([-32768, 0, 5, 32767]),
    data=st.data(),
)
def test_codes_equal_the_oracles(
    x: np.ndarray, bits: int, unit: int, rounding: Rounding, zero_point: int, data: st.DataObject
) -> None:
    largest = 65535 if x.dtype == np.int16 else 2**32 - 1
    bounds = (
        st.integers(0, 4) | st.integers(0, unit * 65535) | st.integers(0, unit * largest)
    )  # smaller than the row too, as a clip leaves it
    bound = np.array(data.draw(st.lists(bounds, min_size=len(x), max_size=len(x))))[:, None]
    to = IntRange(bits, narrow=True)
    codes = quantize_dynamic(x, bound, unit=unit, to=to, rounding=rounding, zero_point=zero_point)
    assert codes.dtype == to.dtype
    assert codes.tolist() == [
        [oracle.quantize_dynamic(v, b, zero_point=zero_point, unit=unit, bits=bits, rounding=rounding) for v in row]
        for row, (b,) in zip(x.tolist(), bound.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [("half-up", [1, 0, 2, -1]), ("half-even", [0, 0, 2, -2]), ("half-away", [1, -1, 2, -2])],
)
def test_ties_are_rounded_as_asked(rounding: str, expected: list[int]) -> None:
    x = np.array([[127, -127, 3 * 127, -3 * 127]], np.int16)  # code (x * 127) / (2 * 127**2): halves
    bound = np.full((1, 1), 2 * 127 * 127, np.int32)
    assert quantize_dynamic(x, bound, unit=1, to=NARROW8, rounding=Rounding(rounding)).tolist() == [expected]


@given(x=code_arrays(INT16, shape=(4, 3)), zero_point=st.sampled_from([-32768, 0, 32767]))
def test_the_greatest_magnitude_of_every_row_takes_the_greatest_code(x: np.ndarray, zero_point: int) -> None:
    bound = dynamic_bound(x, per="token", zero_point=zero_point)
    codes = quantize_dynamic(x, bound, unit=1, to=NARROW8, rounding=Rounding.HALF_UP, zero_point=zero_point)
    assert np.abs(codes).max(axis=-1).tolist() == [127 if b else 0 for b in bound[:, 0]]


def test_what_lies_beyond_a_clip_saturates_and_beside_a_bound_of_0_is_0() -> None:
    x = np.array([[-32768, -3, 0, 3, 32767]], np.int16)
    for bound, codes in (12, [-127, -127, 0, 127, 127]), (0, [0] * 5):
        y = quantize_dynamic(x, np.array([[bound]]), unit=8, to=NARROW8, rounding=Rounding.HALF_UP)
        assert y.tolist() == [codes]


def test_the_extremes_of_16_bits_are_exact() -> None:
    x = np.array([[-32768, 32767, 0]], np.int16)
    bound = dynamic_bound(x, per="sequence", clip=True, zero_point=32767)
    to = IntRange(16, narrow=True)
    y = quantize_dynamic(x, bound, unit=8, to=to, rounding=Rounding.FLOOR, zero_point=32767)
    assert y.tolist() == [[-32767, 0, -16384]]  # -32767 * 32767 / 65535 = -16383.25


@pytest.mark.parametrize("rounding", list(Rounding), ids=str)
@pytest.mark.parametrize("zero_point", [0, 5, -32768, 2**24 + 1])
def test_wide_codes_beside_every_tie_are_those_of_the_oracle(rounding: Rounding, zero_point: int) -> None:
    """Bounds that float32 carries and bounds that float64 carries; codes far beyond them too."""
    for bound in (3, 2**14 + 1, 2**15, 2**20 - 3, 2**24 + 1, 2**31, 2**32 - 1):
        ties = [(2 * k + 1) * bound // (2 * 127) for k in range(-128, 128)]
        far = [-(2**31), -(2**24) - 1, 2**24 + 1, 2**31 - 1]
        codes = sorted({x + d + zero_point for x in [*ties, *far] for d in (-1, 0, 1)})
        x = np.array([[code for code in codes if -(2**31) <= code < 2**31]], np.int32)
        y = quantize_dynamic(x, np.array([[bound]]), unit=1, to=NARROW8, rounding=rounding, zero_point=zero_point)
        assert y[0].tolist() == [
            oracle.quantize_dynamic(code, bound, zero_point=zero_point, unit=1, bits=8, rounding=rounding)
            for code in x[0].tolist()
        ]


def test_the_extremes_of_32_bits_are_exact() -> None:
    x = np.array([[-(2**31), 2**31 - 1, 0]], np.int32)
    to = IntRange(16, narrow=True)
    for zero_point, codes in ((0, [-32767, 32766, 0]), (2**31 - 1, [-32767, 0, -16384])):
        bound = dynamic_bound(x, per="sequence", clip=True, zero_point=zero_point)
        y = quantize_dynamic(x, bound, unit=8, to=to, rounding=Rounding.FLOOR, zero_point=zero_point)
        assert y.tolist() == [codes]


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_codes_that_do_not_fit_int32_are_refused(dtype: type[np.integer]) -> None:
    with pytest.raises(TypeError, match="x_q must have codes that fit int32"):
        quantize_dynamic(
            np.ones((2, 2), dtype), np.ones((2, 1), np.int32), unit=1, to=NARROW8, rounding=Rounding.HALF_UP
        )


@pytest.mark.parametrize("rounding", list(Rounding), ids=str)
def test_every_rounding_quantizes_the_smallest_bounds(rounding: Rounding) -> None:
    x, bound = np.array([[-1, 0, 1], [-2, 0, 2], [7, 7, 7]], np.int8), np.array([[1], [2], [0]])
    y = quantize_dynamic(x, bound, unit=1, to=NARROW8, rounding=rounding)
    assert y.tolist() == [[-127, 0, 127], [-127, 0, 127], [0, 0, 0]]


@pytest.mark.parametrize("which", [0, 1])
def test_reals_are_refused(which: int) -> None:
    operands = [np.ones((2, 2), np.int8), np.ones((2, 1), np.int32)]
    operands[which] = operands[which].astype(np.float64)
    with pytest.raises(TypeError, match=f"{('x_q', 'bound')[which]} must have an integer dtype that fits int64"):
        quantize_dynamic(*operands, unit=1, to=NARROW8, rounding=Rounding.HALF_UP)
