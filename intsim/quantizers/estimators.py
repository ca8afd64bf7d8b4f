# SPDX-License-Identifier: Apache-2.0
"""Range estimators: from a stream of calibration batches to the range that a scheme lays on integers.

An estimator's parameters are frozen and are what it is compared by; what it has seen is in its one ``state`` field.
``dataclasses.replace(estimator)`` is the same estimator with nothing seen, one for each tensor.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.quantizers.affine import Reals, dequantize, quantize
from intsim.quantizers.granularity import PER_TENSOR, Granularity, min_max, spread
from intsim.quantizers.scheme import Scheme

__all__ = ["MeanSquaredError", "MinMax", "Percentile", "RangeEstimator", "RunningMinMax"]

Counts: TypeAlias = NDArray[np.int64]

SIGNIFICANT_BITS: Final = 12
BLOCK: Final = 1 << 20  # values quantized at a time in the search


class RangeEstimator(Protocol):
    """What every estimator does."""

    def update(self, x: ArrayLike) -> None:
        """Take in one batch."""
        ...

    def range(self) -> tuple[Reals, Reals]:
        """Return (low, high) of each parameter set, shaped to broadcast against a batch."""
        ...


def _require_same(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    if shape != seen:
        msg = f"x must have parameters of shape {seen} as in the first batch, got {shape}"
        raise ValueError(msg)


def _nothing_seen() -> ValueError:
    return ValueError("range must be asked for after at least one update, got none")


@dataclass(slots=True)
class Extremes:
    """State: low and high so far, stacked."""

    bounds: Reals | None = None

    def fold(self, batch: tuple[Reals, Reals], merge: Callable[[Reals, Reals], Reals]) -> None:
        """Merge the bounds of one batch into those of the batches before it."""
        new = np.stack(batch)
        if self.bounds is not None:
            _require_same(new.shape[1:], self.bounds.shape[1:])
            new = merge(self.bounds, new)
        self.bounds = new

    def range(self) -> tuple[Reals, Reals]:
        """Return low and high."""
        if self.bounds is None:
            raise _nothing_seen()
        return self.bounds[0], self.bounds[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinMax:
    """The lowest and highest value of all batches.

    Parameters
    ----------
    granularity
        The parameter sets.

    Source
    ------
    Bondarenko et al. 2021, section 2: "current min-max" when given one batch.
    """

    granularity: Granularity = PER_TENSOR
    state: Extremes = field(default_factory=Extremes, init=False, repr=False, compare=False)

    def update(self, x: ArrayLike) -> None:
        """Take in one batch."""
        self.state.fold(
            min_max(x, self.granularity),
            lambda old, new: np.stack([np.minimum(old[0], new[0]), np.maximum(old[1], new[1])]),
        )

    def range(self) -> tuple[Reals, Reals]:
        """Return (low, high)."""
        return self.state.range()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMinMax:
    """The exponential moving average of each batch's lowest and highest value; the first batch starts it.

    new = momentum * old + (1 - momentum) * batch. Q8BERT averages max(|x|), which the two averages do not tell:
    give it ``np.abs(x)`` and a symmetric scheme.

    Parameters
    ----------
    momentum
        In [0, 1): 0.9 in Bondarenko et al. 2021 (appendix B.2), 0.95 in I-BERT's code and ZeroQuant (appendix A.1),
        0.9999 in Q8BERT.
    granularity
        The parameter sets.

    Raises
    ------
    ValueError
        If ``momentum`` is not in [0, 1).
    """

    momentum: float = 0.9
    granularity: Granularity = PER_TENSOR
    state: Extremes = field(default_factory=Extremes, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            msg = f"momentum must be in [0, 1), got {self.momentum}"
            raise ValueError(msg)

    def update(self, x: ArrayLike) -> None:
        """Take in one batch."""
        self.state.fold(
            min_max(x, self.granularity),
            lambda old, new: self.momentum * old + (1 - self.momentum) * new,
        )

    def range(self) -> tuple[Reals, Reals]:
        """Return (low, high)."""
        return self.state.range()


def _rounded(x: Reals) -> Reals:
    """Return ``x`` rounded to ``SIGNIFICANT_BITS``, half to even."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(fraction, SIGNIFICANT_BITS)), exponent - SIGNIFICANT_BITS)


@dataclass(slots=True)
class Sample:
    """State: every value seen, rounded to 12 significant bits, and how often it came, ascending in each parameter set.

    Independent of how the stream is cut into batches and of their order.

    Bounds
    ------
    At most 2**12 values for each binary order of magnitude present, so 2**17 (2 MiB) over nine decimal ones.

    Error
    -----
    2**-12 of each value (none for float16 and bfloat16 data), whatever outliers lie beside it.
    """

    shape: tuple[int, ...] = ()
    sets: list[tuple[Reals, Counts]] = field(default_factory=list[tuple[Reals, Counts]])

    def fold(self, x: ArrayLike, granularity: Granularity) -> None:
        """Add the values of one batch."""
        shape = granularity.shape(np.shape(x))
        batch = [np.unique(row, return_counts=True) for row in _rounded(granularity.rows(x))]
        if self.sets:
            _require_same(shape, self.shape)
            batch = [_merged(old, new) for old, new in zip(self.sets, batch, strict=True)]
        self.shape, self.sets = shape, batch

    def range(self, estimate: Callable[[Reals, Counts], tuple[float, float]]) -> tuple[Reals, Reals]:
        """Return what ``estimate`` finds in the values and counts of each parameter set."""
        if not self.sets:
            raise _nothing_seen()
        low, high = zip(*(estimate(values, counts) for values, counts in self.sets), strict=True)
        return spread(low, self.shape), spread(high, self.shape)


def _merged(old: tuple[Reals, Counts], new: tuple[Reals, Counts]) -> tuple[Reals, Counts]:
    values, index = np.unique(np.concatenate([old[0], new[0]]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, index, np.concatenate([old[1], new[1]]))
    return values, counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """The range of the central ``percentile`` percent: the k lowest and k highest of n values are cut.

    k = floor(n * (100 - percentile) / 200), with ``percentile`` taken as the decimal it is written as.

    Parameters
    ----------
    percentile
        In (0, 100]; half of the rest is cut from either end.
    granularity
        The parameter sets.

    Raises
    ------
    ValueError
        If ``percentile`` is not in (0, 100].

    Error
    -----
    2**-12 of each bound: the values are rounded to 12 significant bits.

    Source
    ------
    ONNX Runtime's ``PercentileCalibrater`` cuts the same share from each end of a histogram.
    """

    percentile: float
    granularity: Granularity = PER_TENSOR
    state: Sample = field(default_factory=Sample, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            msg = f"percentile must be in (0, 100], got {self.percentile}"
            raise ValueError(msg)

    def update(self, x: ArrayLike) -> None:
        """Take in one batch."""
        self.state.fold(x, self.granularity)

    def range(self) -> tuple[Reals, Reals]:
        """Return (low, high)."""
        return self.state.range(self._central)

    def _central(self, values: Reals, counts: Counts) -> tuple[float, float]:
        cut = int(int(counts.sum()) * (100 - Fraction(str(self.percentile))) / 200)
        low = np.searchsorted(np.cumsum(counts), cut, side="right")
        high = np.searchsorted(np.cumsum(counts[::-1]), cut, side="right")
        return float(values[low]), float(values[::-1][high])


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanSquaredError:
    """The range whose codes are nearest to the values: it minimises sum (x - dequantize(quantize(x)))**2.

    Either end of the range is the extreme value times one of ``candidates`` equally spaced factors up to 1. A symmetric
    scheme tries them all. An asymmetric one takes the best common factor, then moves one end at a time to its best
    factor until neither end gains: a minimum along each axis of the grid of pairs, not always of the whole grid. Among
    equals the widest range wins.

    Parameters
    ----------
    scheme
        What the values will be quantized with.
    granularity
        The parameter sets, each searched on its own.
    candidates
        How many factors; 100 in Bondarenko et al.'s code.

    Raises
    ------
    ValueError
        If ``candidates`` is not positive.

    Error
    -----
    The loss is that of the values rounded to 12 significant bits.

    Source
    ------
    Bondarenko et al. 2021, section 2, after Choukroun et al. 2019 and Banner et al. 2018; their code searches the
    asymmetric ranges on a grid of widths and shifts.
    """

    scheme: Scheme
    granularity: Granularity = PER_TENSOR
    candidates: int = 100
    state: Sample = field(default_factory=Sample, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.candidates < 1:
            msg = f"candidates must be positive, got {self.candidates}"
            raise ValueError(msg)

    def update(self, x: ArrayLike) -> None:
        """Take in one batch."""
        self.state.fold(x, self.granularity)

    def range(self) -> tuple[Reals, Reals]:
        """Return (low, high)."""
        return self.state.range(self._search)

    def _search(self, values: Reals, counts: Counts) -> tuple[float, float]:
        low, high = min(float(values[0]), 0.0), max(float(values[-1]), 0.0)
        if low == high:
            return low, high
        factors = np.arange(self.candidates, 0, -1) / self.candidates
        lows, highs = low * factors, high * factors

        def best(lows: Reals, highs: Reals) -> tuple[float, float]:
            i = int(np.argmin(self._losses(values, counts, lows, highs)))
            return float(lows[i]), float(highs[i])

        found, previous = best(lows, highs), None
        while not self.scheme.symmetric and found != previous:
            previous = found
            found = best(lows, np.full_like(highs, found[1]))
            found = best(np.full_like(lows, found[0]), highs)
        return found

    def _losses(self, values: Reals, counts: Counts, lows: Reals, highs: Reals) -> Reals:
        """Return the squared error of each candidate range, summed over the sample."""
        pieces = min(len(lows), -(-len(lows) * len(values) // BLOCK))
        losses: list[Reals] = []
        for low, high in zip(np.array_split(lows, pieces), np.array_split(highs, pieces), strict=True):
            params = self.scheme.params(low[:, None], high[:, None])
            x = np.broadcast_to(values, (len(low), len(values)))
            error = x - dequantize(quantize(x, params), params)
            losses.append((counts * error**2).sum(axis=-1))
        return np.concatenate(losses)
