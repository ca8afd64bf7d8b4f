# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import oracle
import pytest
from edges import INT64_MAX, INT64_MIN, MAX_SHIFT, RANGES, edge_integers, edge_table, every_rounding, near_tie, ties
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import (
    INT8,
    INT16,
    INT32,
    UINT8,
    UINT16,
    Dyadic,
    IntRange,
    Rounding,
    bit_length,
    isqrt,
    round_fraction,
    round_to_significant,
    rounding_divide,
    rounding_right_shift,
    saturate,
)

EVERY_INT16 = np.arange(-(2**15), 2**15)

# What float64 computes of a rational with few bits is exact, so this is a second judge of the small domains.
FLOAT_JUDGES = {
    Rounding.FLOOR: np.floor,
    Rounding.TOWARD_ZERO: np.trunc,
    Rounding.HALF_UP: lambda r: np.floor(r + 0.5),
    Rounding.HALF_AWAY: lambda r: np.copysign(np.floor(np.abs(r) + 0.5), r),
    Rounding.HALF_EVEN: np.rint,
}

TIES = {  # rational: floor, toward zero, half up, half away, half even
    Fraction(-5, 2): (-3, -2, -2, -3, -2),
    Fraction(-3, 2): (-2, -1, -1, -2, -2),
    Fraction(-5, 4): (-2, -1, -1, -1, -1),
    Fraction(-1, 2): (-1, 0, 0, -1, 0),
    Fraction(-1, 4): (-1, 0, 0, 0, 0),
    Fraction(0): (0, 0, 0, 0, 0),
    Fraction(1, 4): (0, 0, 0, 0, 0),
    Fraction(1, 2): (0, 0, 1, 1, 0),
    Fraction(3, 4): (0, 0, 1, 1, 1),
    Fraction(3, 2): (1, 1, 2, 2, 2),
    Fraction(5, 2): (2, 2, 3, 3, 2),
    Fraction(-2): (-2, -2, -2, -2, -2),
}


def shifted(x, shift, rounding):
    return rounding_right_shift(np.array(x, np.int64), shift, rounding).tolist()


# Rounding


@pytest.mark.parametrize(("value", "expected"), TIES.items(), ids=str)
def test_the_five_roundings_are_what_their_names_say(value, expected):
    assert [round_fraction(value, rounding) for rounding in Rounding] == list(expected)
    quarters = [int(value * 4)]
    assert [shifted(quarters, 2, rounding)[0] for rounding in Rounding] == list(expected)
    assert [rounding_divide(np.array(quarters), np.array([4]), mode)[0] for mode in Rounding] == list(expected)


def test_roundings_are_named_by_their_profile_strings():
    assert [str(rounding) for rounding in Rounding] == ["floor", "toward-zero", "half-up", "half-away", "half-even"]


@every_rounding
@pytest.mark.parametrize("shift", range(18))
def test_every_16_bit_integer_is_shifted_to_the_exact_rational_rounded(shift, rounding):
    assert np.array_equal(
        rounding_right_shift(EVERY_INT16, shift, rounding), FLOAT_JUDGES[rounding](EVERY_INT16 / 2**shift)
    )


@every_rounding
def test_every_12_bit_integer_is_shifted_as_the_oracle_shifts_it(rounding):
    x = range(-(2**11), 2**11)
    for shift in range(14):
        assert shifted(x, shift, rounding) == [oracle.rounding_shift(value, shift, rounding) for value in x]


@pytest.mark.slow
@every_rounding
@pytest.mark.parametrize("shift", range(18))
def test_every_16_bit_integer_is_shifted_as_the_oracle_shifts_it(shift, rounding):
    expected = [oracle.rounding_shift(value, shift, rounding) for value in EVERY_INT16.tolist()]
    assert rounding_right_shift(EVERY_INT16, shift, rounding).tolist() == expected


@every_rounding
def test_every_tie_at_every_shift_agrees_with_the_oracle(rounding):
    for shift in range(MAX_SHIFT + 1):
        low, high = INT64_MIN >> shift, INT64_MAX >> shift
        quotients = [k for k in (low, low + 1, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, high - 1, high) if low <= k <= high]
        x = sorted({near_tie(k, shift, step) for k in quotients for step in (-1, 0, 1)} | {INT64_MIN, INT64_MAX})
        assert shifted(x, shift, rounding) == [oracle.rounding_shift(value, shift, rounding) for value in x]


@every_rounding
@given(data=st.data(), shift=st.sampled_from([0, 1, 62]) | st.integers(0, MAX_SHIFT))
def test_any_int64_is_shifted_as_the_oracle_shifts_it(rounding, data, shift):
    x = data.draw(st.lists(ties(shift) | edge_integers(INT64_MIN, INT64_MAX), min_size=1, max_size=8))
    assert shifted(x, shift, rounding) == [oracle.rounding_shift(value, shift, rounding) for value in x]


@every_rounding
@given(
    pairs=st.lists(st.tuples(edge_integers(INT64_MIN, INT64_MAX), st.integers(0, MAX_SHIFT)), min_size=1, max_size=8)
)
def test_each_element_may_have_its_own_shift(rounding, pairs):
    x, shift = zip(*pairs, strict=True)
    assert shifted(x, shift, rounding) == [oracle.rounding_shift(*pair, rounding) for pair in pairs]


@every_rounding
def test_an_offset_is_added_before_a_tie_is_decided(rounding):
    x = np.arange(-40, 41)
    for shift in range(5):
        for offset in range(-4, 5):
            expected = [oracle.round_fraction(Fraction(int(v), 2**shift) + offset, rounding.value) for v in x]
            assert rounding_right_shift(x, shift, rounding, offset=offset).tolist() == expected


def test_codes_without_a_sign_have_16_bits_too():
    assert (UINT16.min, UINT16.max, UINT16.dtype) == (0, 65_535, np.uint16)


@every_rounding
def test_a_shift_by_zero_changes_nothing(rounding):
    edges = edge_table(INT64_MIN, INT64_MAX)
    assert shifted(edges, 0, rounding) == edges


@every_rounding
def test_small_quotients_are_divided_as_the_oracle_divides_them(rounding):
    dividends = range(-200, 201)
    for divisor in range(1, 48):
        quotients = rounding_divide(np.array(dividends), np.int64(divisor), rounding).tolist()
        assert quotients == [oracle.rounding_divide(a, divisor, rounding) for a in dividends]


@every_rounding
@given(data=st.data(), divisor=edge_integers(1, 2**62))
def test_any_int64_is_divided_as_the_oracle_divides_it(rounding, data, divisor):
    multiples = st.builds(
        lambda k, step: min(max(k * divisor + divisor // 2 + step, INT64_MIN), INT64_MAX),
        edge_integers(INT64_MIN // divisor, INT64_MAX // divisor),
        st.integers(-1, 1),
    )
    dividends = data.draw(st.lists(multiples | edge_integers(INT64_MIN, INT64_MAX), min_size=1, max_size=8))
    quotients = rounding_divide(np.array(dividends, np.int64), np.array([divisor], np.int64), rounding).tolist()
    assert quotients == [oracle.rounding_divide(a, divisor, rounding) for a in dividends]


@every_rounding
def test_the_ends_of_int64_are_divided_by_the_ends_of_the_divisors(rounding):
    dividends = [INT64_MIN, INT64_MIN + 1, -(2**62), -1, 0, 1, 2**62, INT64_MAX - 1, INT64_MAX]
    for divisor in (1, 2, 3, 2**31, 2**62 - 1, 2**62):
        quotients = rounding_divide(np.array(dividends), np.array([divisor]), rounding).tolist()
        assert quotients == [oracle.rounding_divide(a, divisor, rounding) for a in dividends]


@every_rounding
def test_small_fractions_are_rounded_as_the_oracle_rounds_them(rounding):
    for numerator in range(-60, 61):
        for denominator in range(1, 25):
            value = Fraction(numerator, denominator)
            assert round_fraction(value, rounding) == oracle.round_fraction(value, rounding)


@every_rounding
@given(value=st.fractions() | st.integers(-(10**30), 10**30).map(lambda n: Fraction(2 * n + 1, 2)))
def test_any_fraction_is_rounded_as_the_oracle_rounds_it(rounding, value):
    assert round_fraction(value, rounding) == oracle.round_fraction(value, rounding)


# Ranges


@pytest.mark.parametrize("codes", RANGES, ids=str)
def test_saturate_clips_to_every_range_and_stores_the_smallest_dtype(codes):
    low, high = oracle.int_range(codes.bits, codes.signed, codes.narrow)
    assert (codes.min, codes.max) == (low, high)
    x = sorted({*edge_table(low - 2, high + 2), *edge_table(INT64_MIN, INT64_MAX)})
    narrowed = saturate(np.array(x), codes)
    assert narrowed.tolist() == [oracle.saturate(value, low, high) for value in x]
    bits = 8 if codes.bits <= 8 else 16 if codes.bits <= 16 else 32
    assert narrowed.dtype == f"{'int' if codes.signed else 'uint'}{bits}"
    assert codes.dtype == narrowed.dtype


def test_saturate_clips_instead_of_wrapping():
    assert saturate(np.array([300, -300]), INT8).tolist() == [127, -128]
    assert np.array([300, -300]).astype(np.int8).tolist() == [44, -44]


def test_the_named_ranges_are_those_of_their_dtypes():
    for name, codes in (("int8", INT8), ("uint8", UINT8), ("int16", INT16), ("int32", INT32)):
        assert (codes.min, codes.max, codes.dtype) == (np.iinfo(name).min, np.iinfo(name).max, np.dtype(name))


@pytest.mark.parametrize("bits", [-8, 0, 1, 33, 64])
def test_a_width_outside_2_to_32_bits_is_refused(bits):
    with pytest.raises(ValueError, match=r"bits must be in \[2, 32\]"):
        IntRange(bits)


def test_an_unsigned_narrow_range_is_refused():
    with pytest.raises(ValueError, match="narrow must go with signed"):
        IntRange(8, signed=False, narrow=True)


def test_a_range_is_frozen_equal_by_value_and_hashable():
    with pytest.raises(FrozenInstanceError):
        INT8.bits = 9  # type: ignore[misc]
    assert IntRange(8) == INT8 != IntRange(8, narrow=True)
    assert hash(IntRange(8)) == hash(INT8)


# Leading bits


def test_every_int64_from_0_up_has_the_length_of_pythons():
    n = edge_table(0, INT64_MAX)
    assert bit_length(np.array(n)).tolist() == [value.bit_length() for value in n]


@pytest.mark.parametrize("bits", [1, 2, 24, 31, 62])
def test_leading_bits_are_kept_as_the_oracle_keeps_them(bits):
    x = edge_table(-(2**62) + 1, 2**62 - 1)
    assert round_to_significant(np.array(x), bits).tolist() == [oracle.significant(value, bits) for value in x]


@given(x=edge_integers(-(2**62) + 1, 2**62 - 1), bits=st.integers(1, 62), unit=st.integers(0, 61))
def test_what_is_kept_is_a_multiple_of_the_unit(x, bits, unit):
    kept = int(round_to_significant(np.array(x), bits, unit=unit))
    step = max(x.bit_length() - bits, unit)
    assert kept == oracle.rounding_shift(x, step, "half-even") * 2**step


# Integer square root


def test_the_root_of_every_16_bit_integer_is_exact():
    n = np.arange(2**16)
    assert isqrt(n).tolist() == [oracle.isqrt(value) for value in n.tolist()]


def test_roots_are_exact_on_both_sides_of_squares():
    rng = np.random.default_rng(0)
    k = np.unique(np.concatenate([np.arange(1, 2**16), rng.integers(1, 2**31, 2**16), 2 ** np.arange(31), [2**31 - 1]]))
    k = np.unique(np.concatenate([k, 2 ** np.arange(1, 31) - 1, 2 ** np.arange(30) + 1]))
    assert np.array_equal(isqrt(k * k - 1), k - 1)
    assert np.array_equal(isqrt(k * k), k)
    assert np.array_equal(isqrt(k * k + 1), np.where(k == 0, 1, k))
    assert np.array_equal(isqrt(k * k + 2 * k), k)


@given(st.lists(edge_integers(0, 2**62 - 1), min_size=1, max_size=8))
@example([1105030547, 67108865**2 - 1, 0, 2**62 - 1, 2**62 - 2, 4097**2 - 1, (2**31 - 1) ** 2 - 1, 1, 2, 3])
def test_any_root_is_that_of_the_oracle(n):
    roots = isqrt(np.array(n, np.int64))
    assert roots.tolist() == [oracle.isqrt(value) for value in n]
    assert roots.dtype == np.int64


def test_a_root_does_not_depend_on_its_neighbours():
    n = np.array([[0, 1, 2**62 - 1], [1105030547, 67108865**2 - 1, 3]])
    assert isqrt(n).tolist() == [[int(isqrt(np.array([value]))[0]) for value in row] for row in n.tolist()]


def test_the_root_of_nothing_is_nothing():
    assert isqrt(np.empty((0, 3), np.int64)).shape == (0, 3)


@pytest.mark.parametrize("n", [-1, INT64_MIN, 2**62, INT64_MAX])
def test_a_root_outside_the_domain_is_refused(n):
    with pytest.raises(ValueError, match=r"n must be in \[0, 2\*\*62\)"):
        isqrt(np.array([4, n]))


# Dyadic


def near_powers_of_two(exponents):
    """Reals whose multiplier reaches 2**bits, or all but, and their neighbours."""
    return st.builds(
        lambda e, k, sign: sign * math.ldexp(1 - 2.0**-k, e),
        exponents,
        st.sampled_from([1, *range(7, 36), 53]),
        st.sampled_from([1, -1]),
    )


reals = (
    near_powers_of_two(st.integers(-80, 7))
    | st.floats(2.0**-70, 255.0)
    | st.floats(-255.0, 0)
    | st.floats(0, 2.0**-30)
    | st.integers(-127, 127).map(float)
    | st.sampled_from([0.0, -0.0, 5e-324, 2.0**-62, 2.0**-63, 1.5 * 2.0**-62, math.nextafter(2.0**-63, 0)])
)


@given(reals, st.integers(8, 31))
@example(1 - 2.0**-32, 31)
@example(1 - 2.0**-33, 31)
@example(math.nextafter(2.0**-63, 0), 31)
def test_from_real_is_the_nearest_dyadic_of_the_oracle(real, bits):
    ratio = Dyadic.from_real(real, bits=bits)
    assert (int(ratio.multiplier), int(ratio.shift)) == oracle.dyadic_from_real(Fraction(real), bits)


@given(reals, st.integers(8, 31))
def test_a_normal_multiplier_has_exactly_its_bits(real, bits):
    ratio = Dyadic.from_real(real, bits=bits)
    if real == 0:
        assert ratio == Dyadic(0, 0)
    elif ratio.shift < MAX_SHIFT:
        assert abs(int(ratio.multiplier)).bit_length() == bits
        error = abs(Fraction(int(ratio.multiplier), 2 ** int(ratio.shift)) - Fraction(real))
        assert error <= abs(Fraction(real)) / 2**bits


def test_a_multiplier_that_reaches_2_to_31_is_renormalised():
    assert Dyadic.from_real(1 - 2.0**-33) == Dyadic(2**30, 30)
    assert Dyadic.from_real(1 - 2.0**-31) == Dyadic(2**31 - 1, 31)


@pytest.mark.parametrize("bits", [3, 32])
def test_a_multiplier_has_4_to_31_bits(bits):
    with pytest.raises(ValueError, match=r"bits must be in \[4, 31\], got"):
        Dyadic.from_real(1.0, bits=bits)
    assert [int(Dyadic.from_real(1.0, bits=each).multiplier) for each in (4, 31)] == [1 << 3, 1 << 30]


@pytest.mark.parametrize("bits", range(8, 31))
def test_the_largest_ratio_of_every_width_is_just_below_2_to_the_bits(bits):
    largest = 2.0**bits - 1
    assert Dyadic.from_real(largest, bits=bits) == Dyadic(2**bits - 1, 0)
    for ratio in (largest + 0.5, 2.0**bits, -(2.0**bits), 1e300, [1.0, 2.0**bits]):
        with pytest.raises(ValueError, match=rf"ratio must be below 2\*\*{bits}"):
            Dyadic.from_real(ratio, bits=bits)


@pytest.mark.parametrize("ratio", [math.nan, math.inf, -math.inf, [1.0, math.nan]])
def test_a_ratio_that_is_not_finite_is_refused(ratio):
    for build in (Dyadic.from_real, Dyadic.aligned):
        with pytest.raises(ValueError, match="ratio must be finite"):
            build(ratio)


@pytest.mark.parametrize("bits", [3, 32, 0, -1])
def test_a_multiplier_width_outside_4_to_31_is_refused(bits):
    with pytest.raises(ValueError, match=r"bits must be in \[4, 31\]"):
        Dyadic.from_real(0.5, bits=bits)


@given(st.lists(reals, min_size=1, max_size=6), st.integers(8, 31))
def test_a_ratio_per_channel_is_the_stack_of_its_ratios(real, bits):
    ratio = Dyadic.from_real(real, bits=bits)
    alone = [Dyadic.from_real(value, bits=bits) for value in real]
    assert ratio.multiplier.tolist() == [int(one.multiplier) for one in alone]
    assert ratio.shift.tolist() == [int(one.shift) for one in alone]


@given(st.lists(reals, min_size=1, max_size=4), st.integers(8, 31))
@example([1 - 2.0**-40, 0.25], 30)
@example([0.0, -0.0], 30)
@example([2.0**-70, 2.0**-64], 30)
def test_aligned_dyadics_are_those_of_the_oracle(real, bits):
    expected = oracle.aligned_dyadics([Fraction(value) for value in real], bits)
    ratios = Dyadic.aligned(*real, bits=bits)
    assert [(int(ratio.multiplier), int(ratio.shift)) for ratio in ratios] == expected


@given(st.lists(reals, min_size=1, max_size=4), reals)
def test_aligned_dyadics_share_one_shift_across_channels_too(channels, single):
    expected = oracle.aligned_dyadics([Fraction(value) for value in [*channels, single]])
    first, second = Dyadic.aligned(channels, single)
    assert [*zip(first.multiplier.tolist(), first.shift.tolist(), strict=True)] == expected[:-1]
    assert (int(second.multiplier), int(second.shift)) == expected[-1]


def test_aligned_multipliers_have_30_bits_unless_asked_otherwise():
    assert Dyadic.aligned(0.75, -0.25) == [Dyadic(3 << 28, 30), Dyadic(-(1 << 28), 30)]


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, MAX_SHIFT))
def test_exactly_keeps_the_value_in_lowest_terms(multiplier, shift):
    value = multiplier / 2**shift
    ratio = Dyadic.exactly(value)
    assert Fraction(int(ratio.multiplier), 2 ** int(ratio.shift)) == Fraction(value)
    assert ratio.multiplier % 2 == 1 or ratio.shift == 0


@given(st.floats(allow_nan=False, allow_infinity=False, max_value=2.0**62, min_value=-(2.0**62)))
def test_exactly_keeps_the_value_or_refuses_it(value):
    fits = abs(Fraction(value).numerator) < 2**31 and Fraction(value).denominator <= 2**62
    if fits:
        ratio = Dyadic.exactly(value)
        assert Fraction(int(ratio.multiplier), 2 ** int(ratio.shift)) == Fraction(value)
    else:
        with pytest.raises(ValueError, match="must be"):
            Dyadic.exactly(value)


def test_exactly_takes_shifts_up_to_the_largest_and_no_further():
    for shift in (MAX_SHIFT - 1, MAX_SHIFT):
        assert Dyadic.exactly(3 * 2.0**-shift) == Dyadic(3, shift)
    with pytest.raises(ValueError, match=r"value must be a 31-bit integer over at most 2\*\*62, got"):
        Dyadic.exactly(2.0 ** -(MAX_SHIFT + 1))


@pytest.mark.parametrize("value", [2.0**63, 2.0**70, -(2.0**63), 1e300, math.inf])
def test_exactly_refuses_what_is_too_large_with_a_value_error(value):
    with pytest.raises(ValueError, match="must be"):
        Dyadic.exactly(value)


@pytest.mark.parametrize("multiplier", [2**31, -(2**31), 2**62, INT64_MIN + 1])
def test_a_multiplier_of_more_than_31_bits_is_refused(multiplier):
    for multipliers in (multiplier, [1, multiplier]):
        with pytest.raises(ValueError, match=r"multiplier must be below 2\*\*31"):
            Dyadic(multipliers, np.zeros_like(multipliers))


def test_the_multiplier_whose_magnitude_wraps_is_refused():
    with pytest.raises(ValueError, match=r"multiplier must be below 2\*\*31"):
        Dyadic(INT64_MIN, 0)


def test_a_multiplier_in_uint64_does_not_wrap():
    with pytest.raises((ValueError, TypeError), match="multiplier must be"):
        Dyadic(np.array([2**64 - 5], np.uint64), [0])


@pytest.mark.parametrize("shift", [-1, 63, 64, INT64_MIN, INT64_MAX])
def test_a_shift_outside_0_to_62_is_refused(shift):
    for shifts in (shift, [0, shift]):
        with pytest.raises(ValueError, match=r"shift must be in \[0, 62\]"):
            Dyadic(np.ones_like(shifts), shifts)


@pytest.mark.parametrize(
    "values", [(1.0, 0), (1, 0.0), (True, 0), (1, np.True_), ([1.0], [1]), (1, "1"), (np.float32(1), 0)]
)
def test_what_is_not_an_integer_is_refused(values):
    with pytest.raises(TypeError, match="must be integers"):
        Dyadic(*values)


def test_multiplier_and_shift_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        Dyadic([1, 2], 3)


def test_a_dyadic_cannot_be_changed():
    multipliers = np.array([1, 2, 3])
    ratio = Dyadic(multipliers, [4, 5, 6])
    multipliers[0] = 9
    assert ratio.multiplier.tolist() == [1, 2, 3]
    with pytest.raises(FrozenInstanceError):
        ratio.shift = np.array([0, 0, 0])  # type: ignore[misc]
    for values in (ratio.multiplier, ratio.shift):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_dyadics_are_equal_by_value_and_not_hashable():
    assert Dyadic([1, 2], [3, 4]) == Dyadic(np.array([1, 2], np.int8), np.array([3, 4], np.uint8))
    assert Dyadic(1, 2) != Dyadic(2, 3)  # equal as rationals, different as integers
    assert Dyadic(1, 2) != Dyadic([1], [2])
    assert Dyadic(1, 2) != (1, 2)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Dyadic(1, 2))


@pytest.mark.parametrize(
    "arguments", [(8.0,), ("8",), (True,), (np.int64(8),), (8, 1), (8, True, 0), (8, None)], ids=str
)
def test_a_range_of_other_types_is_refused(arguments):
    with pytest.raises(TypeError, match=r"(bits|signed|narrow) must be of type (int|bool), got "):
        IntRange(*arguments)


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, MAX_SHIFT))
def test_a_dyadic_is_exactly_the_float_that_it_becomes(multiplier, shift):
    assert Fraction(float(Dyadic(multiplier, shift))) == Fraction(multiplier, 2**shift)


def test_dyadics_of_channels_become_an_array_and_no_one_number():
    ratios = Dyadic([[3, -5]], [[1, 62]])
    assert ratios.to_real().tolist() == [[1.5, -5 / 2**62]]
    with pytest.raises(TypeError):
        float(ratios)
