# SPDX-License-Identifier: Apache-2.0
"""Tables of the angles of rotary embeddings, correctly rounded by integers alone."""

from collections.abc import Sequence
from functools import cache
from math import isfinite
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.ops.rotary import TURN_FRACTION

__all__ = ["rotary_table"]

Int16: TypeAlias = NDArray[np.int16]
Int64: TypeAlias = NDArray[np.int64]
Turn: TypeAlias = tuple[int, int]  # cos and sin in units of 2**-bits

FINE: Final = 256  # positions between two of the coarse table
BITS: Final = 31  # of the tables that are multiplied
CHAIN: Final = 128  # of the integers that the tables are made of
EXACT: Final = 200  # of the first look at an entry whose neighbours are both near
DOUBT: Final = 3 << BITS - 1  # in units of 2**-62


def rotary_table(frequencies: Sequence[float], positions: int) -> tuple[Int16, Int16]:
    """Return cos(p w) and sin(p w) of positions p = 0, 1, ... and frequencies w, to nearest in 14 fraction bits.

    Every entry is that of the exact real p w, w being the rational number that the float is: no libm, and no float
    arithmetic, has a part in it. No entry is on a tie, since cos and sin of a rational other than 0 are transcendental
    (Lindemann), and those of 0 are integers.

    Parameters
    ----------
    frequencies
        R / 2 angles per position, in radians.
    positions
        How many.

    Returns
    -------
    tuple of ndarray
        cos and sin, (positions, R / 2) int16.

    Raises
    ------
    ValueError
        If a frequency is not finite, or there is no position.

    Bounds
    ------
    With p = 256 a + b, cos(p w) = cos(256 a w) cos(b w) - sin(256 a w) sin(b w), from two tables of 31 fraction bits.
    Their entries err by at most 2**-32 + 2**-100, so a result, exact in int64 with 62 fraction bits, by less than 3
    2**-32. Where a tie is no further than that, some 20 entries in a million, the entry is computed alone, on Python's
    integers of 200 bits, and of twice as many until its error no longer reaches the tie.
    """
    if positions < 1:
        msg = f"positions must be at least 1, got {positions}"
        raise ValueError(msg)
    shape = len(frequencies), positions
    cos, sin = np.empty(shape, np.int16), np.empty(shape, np.int16)
    for row, frequency in enumerate(frequencies):
        if not isfinite(frequency):
            msg = f"frequencies must be finite, got {frequency}"
            raise ValueError(msg)
        cos[row], sin[row] = _turns(*frequency.as_integer_ratio(), positions)
    return np.ascontiguousarray(cos.T), np.ascontiguousarray(sin.T)


def _turns(n: int, d: int, positions: int) -> tuple[Int16, Int16]:
    """Return cos and sin of 0, 1, ... times n / d."""
    cos_b, sin_b = _chain(_turn(n, d, CHAIN), min(FINE, positions))
    cos_a, sin_a = (table[:, None] for table in _chain(_turn(FINE * n, d, CHAIN), -(-positions // FINE)))
    # Each sum is that of a turn: no more than 2**62 but for the error above, whatever its terms
    products = cos_a * cos_b - sin_a * sin_b, sin_a * cos_b + cos_a * sin_b
    cos, sin = (product.reshape(-1)[:positions] for product in products)
    return _nearest(cos, 0, n, d), _nearest(sin, 1, n, d)


def _nearest(product: Int64, which: int, n: int, d: int) -> Int16:
    """Return 62 fraction bits rounded to 14, again from position times n / d where a tie is near."""
    drop = 2 * BITS - TURN_FRACTION
    raised = product + (1 << drop - 1)
    entries = (raised >> drop).astype(np.int16)
    rest = raised & (1 << drop) - 1  # 0 on a tie
    for position in np.flatnonzero((rest <= DOUBT) | (rest >= (1 << drop) - DOUBT)).tolist():
        entries[position] = _entry(position * n, d, which)
    return entries


def _entry(n: int, d: int, which: int) -> int:
    """Return cos (0) or sin (1) of n / d to nearest in 14 fraction bits."""
    bits = EXACT
    while True:
        drop = bits - TURN_FRACTION
        raised = _turn(n, d, bits)[which] + (1 << drop - 1)
        if raised - 1 >> drop == raised + 1 >> drop:
            return raised >> drop
        bits *= 2


def _chain(turn: Turn, count: int) -> tuple[Int64, Int64]:
    """Return cos and sin of 0, 1, ... count - 1 turns, to nearest in 31 fraction bits.

    Each step multiplies by a turn that errs by less than 2**-127 and rounds down by less than 2**-128 in cos and sin:
    after count steps they err by less than count 2**-125, which is below 2**-100 up to 2**25 of them.
    """
    one, half = 1 << CHAIN, 1 << CHAIN - BITS - 1
    cos, sin = one, 0
    turns: list[Turn] = []
    for _ in range(count):
        turns.append((cos + half >> CHAIN - BITS, sin + half >> CHAIN - BITS))
        cos, sin = cos * turn[0] - sin * turn[1] >> CHAIN, sin * turn[0] + cos * turn[1] >> CHAIN
    table = np.array(turns, np.int64)
    return table[:, 0], table[:, 1]


def _turn(n: int, d: int, bits: int) -> Turn:
    """Return cos and sin of n / d, less than 1 in units of 2**-bits from it.

    They are kept in units u of 2**-(bits + 32). The angle less a multiple k of pi / 2 has an error below 1 + k in finer
    units, of which more than k + 1 make a u: less than 2 u. A term of the series, term x / m, inherits less than 4/5
    of the error of the one before, and gains 2 u and what x errs by: each errs by less than 20 u, their sum, with the
    terms of at most 1 u that are left out, by less than 2**31 u unless there are 2**26.
    """
    kept = bits + 32
    finer = max(n.bit_length() - d.bit_length(), 0) + 3
    angle, quarter = (n << kept + finer) // d, _pi(kept + finer - 1)
    k = (2 * angle + quarter) // (2 * quarter)
    x = angle - k * quarter >> finer  # in [-pi / 4, pi / 4]
    series, term, m = [0, 0], 1 << kept, 0
    while abs(term) > 1:
        series[m % 2] += -term if m & 2 else term
        m += 1
        term = (term * x >> kept) // m
    cos, sin = (part + (1 << 31) >> 32 for part in series)
    return ((cos, sin), (-sin, cos), (-cos, -sin), (sin, -cos))[k % 4]


@cache
def _pi(bits: int) -> int:
    """Return pi in units of 2**-bits, less than 1 from it: 16 arctan 1/5 - 4 arctan 1/239 (Machin)."""
    return 16 * _arctan(5, bits + 32) - 4 * _arctan(239, bits + 32) >> 32


def _arctan(q: int, bits: int) -> int:
    """Return arctan 1/q in units of 2**-bits, each of its terms less than 2 from the exact one."""
    total, power, m = 0, (1 << bits) // q, 1
    while power:
        total += -(power // m) if m & 2 else power // m
        power //= q * q
        m += 2
    return total
