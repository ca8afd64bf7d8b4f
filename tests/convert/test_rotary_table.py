# SPDX-License-Identifier: Apache-2.0
"""The judge is the series itself on decimals of 80 digits, with pi by another formula, and shares no code."""

import time
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from intsim.convert import rotary_table as module
from intsim.convert.rotary_table import rotary_table

LLAMA = [10000 ** (-i / 64) for i in range(64)]
DIGITS = 80


@cache
def tau(digits: int) -> Decimal:
    """2 pi by the arithmetic-geometric mean (Brent, Salamin)."""
    with localcontext() as context:
        context.prec = digits + 10
        a, b, t, p = Decimal(1), 1 / Decimal(2).sqrt(), Decimal("0.25"), Decimal(1)
        for _ in range(12):
            mean = (a + b) / 2
            a, b, t, p = mean, (a * b).sqrt(), t - p * (a - mean) ** 2, 2 * p
        return (a + b) ** 2 / (2 * t)


def judged(position: int, frequency: float) -> tuple[int, int]:
    """cos and sin of position times frequency in 2**-14, to nearest."""
    angle = position * Fraction(frequency)
    with localcontext() as context:
        context.prec = DIGITS + max(len(str(int(angle))), 1)
        x = Decimal(angle.numerator) / Decimal(angle.denominator) % tau(context.prec)
        sums, term, k = [Decimal(0), Decimal(0)], Decimal(1), 0
        while k < 8 or abs(term) > Decimal(10) ** -60:
            sums[k % 2] += -term if k % 4 > 1 else term
            k += 1
            term *= x / k
        scaled = [value * 2**14 for value in sums]
        assert all(abs(value % 1 - Decimal("0.5")) > Decimal(10) ** -40 for value in scaled)  # no tie
        cos, sin = (int(value.to_integral_value()) for value in scaled)
    return cos, sin


@pytest.mark.parametrize("frequency", [1.0, 0.1, 1e-4, 2.0**-20, 3.0, 1e6, -0.7, 5e-324, 1.7e308])
def test_every_entry_is_the_nearest_code_of_the_exact_angle(frequency):
    cos, sin = rotary_table([frequency], 600)
    assert list(zip(cos[:, 0].tolist(), sin[:, 0].tolist(), strict=True)) == [judged(p, frequency) for p in range(600)]


def test_entries_anywhere_in_a_long_table_are_those_of_the_judge():
    cos, sin = rotary_table(LLAMA, 131_072)
    rng = np.random.default_rng(0)
    for position, pair in zip(rng.integers(0, 131_072, 1000).tolist(), rng.integers(0, 64, 1000).tolist(), strict=True):
        assert (cos[position, pair], sin[position, pair]) == judged(position, LLAMA[pair])


def test_an_entry_next_to_a_tie_is_computed_by_itself(monkeypatch):
    asked = []
    entry = module._entry

    def counted(n, d, which):
        asked.append((Fraction(n, d), which, entry(n, d, which)))
        return asked[-1][-1]

    monkeypatch.setattr(module, "_entry", counted)
    rotary_table(LLAMA[:8], 131_072)
    assert 10 < len(asked) < 200  # 6 2**-18 of 2**21
    for angle, which, value in asked:
        assert judged(1, angle)[which] == value


def test_an_entry_that_200_bits_leave_open_takes_more(monkeypatch):
    """With 20 bits in place of 200, an entry in 32 has a tie within its error."""
    asked = []
    turn = module._turn
    monkeypatch.setattr(module, "EXACT", 20)
    monkeypatch.setattr(module, "_turn", lambda n, d, bits: asked.append(bits) or turn(n, d, bits))
    values = [module._entry(p, 7, 0) for p in range(1, 3000)]
    assert max(asked) > 20
    assert values == [judged(1, Fraction(p, 7))[0] for p in range(1, 3000)]


def test_frequencies_are_the_floats_themselves_and_not_the_decimals_they_show():
    """0.1 as a float is 5.6e-18 more: 6.4 radians at 2**60 times of it."""
    cos, sin = rotary_table([0.1 * 2.0**60], 2)
    exact, shown = (judged(1, tenth * 2**60) for tenth in (Fraction(0.1), Fraction("0.1")))
    assert exact != shown
    assert (cos[1, 0], sin[1, 0]) == exact


def test_position_0_is_the_whole_1_and_a_shorter_table_the_start_of_a_longer():
    cos, sin = rotary_table(LLAMA, 700)
    assert set(cos[0].tolist()) == {2**14}
    assert not sin[0].any()
    for positions in (1, 2, 255, 256, 257, 512, 513):
        shorter = rotary_table(LLAMA, positions)
        assert all(np.array_equal(part, whole[:positions]) for part, whole in zip(shorter, (cos, sin), strict=True))
    assert cos.dtype == sin.dtype == np.int16
    assert cos.shape == sin.shape == (700, 64)


def test_a_frequency_of_0_turns_nothing():
    cos, sin = rotary_table([0.0, -0.0], 300)
    assert set(cos.ravel().tolist()) == {2**14}
    assert not sin.any()


def test_131072_positions_of_64_pairs_take_seconds_at_most():
    start = time.perf_counter()
    rotary_table(LLAMA, 131_072)
    assert time.perf_counter() - start < 20  # 1 s where nothing else runs


@pytest.mark.parametrize("frequency", [float("nan"), float("inf"), -float("inf")])
def test_a_frequency_that_is_no_number_is_refused(frequency):
    with pytest.raises(ValueError, match="frequencies must be finite"):
        rotary_table([0.5, frequency], 2)


@pytest.mark.parametrize("positions", [0, -1])
def test_a_table_without_positions_is_refused(positions):
    with pytest.raises(ValueError, match=f"positions must be at least 1, got {positions}"):
        rotary_table([0.5], positions)
