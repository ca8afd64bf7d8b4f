# SPDX-License-Identifier: Apache-2.0
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.quantizers import (
    PER_TENSOR,
    PER_TOKEN,
    Granularity,
    MeanSquaredError,
    MinMax,
    Percentile,
    RunningMinMax,
    Scheme,
    dequantize,
    estimators,
    quantize,
)

SYMMETRIC = Scheme(bits=3, symmetric=True, convention="narrow")
ASYMMETRIC = Scheme(bits=3, symmetric=False, convention="full")
PER_LAST = Granularity(kind="channel", axis=-1)
ESTIMATORS = [
    MinMax(),
    RunningMinMax(momentum=0.9),
    Percentile(percentile=90),
    MeanSquaredError(scheme=SYMMETRIC, candidates=10),
    MeanSquaredError(scheme=ASYMMETRIC, candidates=10),
]

# float16 values have 11 significant bits: the sample holds them exactly
batches = st.lists(
    hnp.arrays(np.float16, st.tuples(st.integers(1, 8), st.just(4)), elements=st.floats(-1000, 1000, width=16)),
    min_size=1,
    max_size=5,
)


def estimate(estimator, stream):
    """The range that a fresh copy of ``estimator`` finds in the batches."""
    fresh = replace(estimator)
    for x in stream:
        fresh.update(x)
    return fresh.range()


def bounds(estimator, stream):
    low, high = estimate(estimator, stream)
    assert low.shape == high.shape == ()
    return float(low), float(high)


@given(batches)
def test_min_max_is_that_of_the_whole_stream(stream):
    everything = np.concatenate(stream)
    assert bounds(MinMax(), stream) == (everything.min(), everything.max())
    low, high = estimate(MinMax(granularity=PER_LAST), stream)
    assert low.tolist() == everything.min(axis=0).tolist()
    assert high.tolist() == everything.max(axis=0).tolist()


def test_running_min_max_by_hand():
    stream = [[-4.0, 8.0], [-2.0, 16.0], [0.0, 0.0]]
    assert bounds(RunningMinMax(momentum=0.75), stream) == (-2.625, 7.5)  # -4, -3.5, -2.625 and 8, 10, 7.5
    assert bounds(RunningMinMax(momentum=0.75), stream[:1]) == (-4.0, 8.0)
    assert bounds(RunningMinMax(momentum=0), stream) == (0.0, 0.0)


@given(batches, st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.9999]))
def test_running_min_max_is_the_recurrence(stream, momentum):
    low, high = float(stream[0].min()), float(stream[0].max())
    for x in stream[1:]:
        low = momentum * low + (1 - momentum) * float(x.min())
        high = momentum * high + (1 - momentum) * float(x.max())
    assert bounds(RunningMinMax(momentum=momentum), stream) == (low, high)


def test_the_average_of_bondarenko_is_the_default():
    assert RunningMinMax() == RunningMinMax(momentum=0.9)
    assert RunningMinMax().momentum == 0.9


def test_q8bert_averages_magnitudes():
    stream = [np.array([-8.0, 1.0]), np.array([-1.0, 8.0])]
    running = RunningMinMax(momentum=0.5)
    assert bounds(running, [abs(x) for x in stream])[1] == 8.0
    assert bounds(running, stream) == (-4.5, 4.5)


def test_percentile_by_hand():
    x = np.arange(-10.0, 11.0)  # 21 values
    for percentile, limit in ((100, 10), (91, 10), (90, 9), (50, 5), (10, 1), (0.001, 0)):
        assert bounds(Percentile(percentile=percentile), [x]) == (-limit, limit)


def test_percentile_means_the_decimal_that_is_written():
    x = np.arange(20_000.0)  # 0.05 % of 20,000 is 10; (100 - 99.9) / 200 * 20_000 is 9.99999... in float64
    low, high = bounds(Percentile(percentile=99.9), [x / 2048])
    assert low * 2048 == 10
    assert abs(high * 2048 - 19_989) <= 19_989 * 2.0**-12


@given(batches, st.sampled_from([0.5, 10, 33.3, 50, 90, 99, 99.9, 100]))
def test_percentile_cuts_the_same_number_of_values_from_either_end(stream, percentile):
    everything = sorted(np.concatenate(stream, dtype=np.float64).ravel().tolist())
    cut = int(len(everything) * (100 - Fraction(str(percentile))) / 200)
    assert bounds(Percentile(percentile=percentile), stream) == (everything[cut], everything[-1 - cut])


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e30, 1e30)), st.floats(1, 100))
def test_percentile_is_within_its_resolution(x, percentile):
    exact = np.sort(x)
    cut = int(len(exact) * (100 - Fraction(str(percentile))) / 200)
    for got, expected in zip(
        bounds(Percentile(percentile=percentile), [x]), (exact[cut], exact[-1 - cut]), strict=True
    ):
        assert abs(got - expected) <= abs(expected) * 2.0**-12


def squared_error(x, scheme, low, high):
    params = scheme.params(low, high)
    return sum((Fraction(v) - Fraction(float(dequantize(quantize(v, params), params)))) ** 2 for v in x)


def test_a_hundred_candidates_are_looked_at_unless_told_otherwise():
    assert MeanSquaredError(scheme=SYMMETRIC).candidates == 100


@given(batches)
def test_symmetric_mean_squared_error_is_the_best_of_all_candidates(stream):
    x = np.concatenate(stream, dtype=np.float64).ravel().tolist()
    low, high = bounds(MeanSquaredError(scheme=SYMMETRIC, candidates=5), stream)
    limit = max(map(abs, x))
    assert max(-low, high) <= limit
    if limit:
        found = squared_error(x, SYMMETRIC, low, high)
        best = min(squared_error(x, SYMMETRIC, -limit * f / 5, limit * f / 5) for f in range(1, 6))
        assert found <= best * (1 + Fraction(1, 10**9))


@given(batches)
def test_asymmetric_mean_squared_error_gains_by_moving_neither_end(stream):
    x = np.concatenate(stream, dtype=np.float64).ravel().tolist()
    low, high = bounds(MeanSquaredError(scheme=ASYMMETRIC, candidates=5), stream)
    lows, highs = ([end * f / 5 for f in range(1, 6)] for end in (min(*x, 0.0), max(*x, 0.0)))
    if any(x):
        found = squared_error(x, ASYMMETRIC, low, high)
        others = [(other, high) for other in lows] + [(low, other) for other in highs]
        others += list(zip(lows, highs, strict=True))
        best = min(squared_error(x, ASYMMETRIC, *other) for other in others if any(other))
        assert found <= best * (1 + Fraction(1, 10**9))


def test_mean_squared_error_clips_an_outlier_by_hand():
    # 4-bit narrow: at +-70 the scale is 10 and 2000 ones become 0, an error of 2000; at +-7 each 1 is exact and only
    # 70 is lost, 63**2 = 3969; in between 1 and 70 share the loss
    x = np.array([1.0] * 2000 + [70.0])
    scheme = Scheme(bits=4, symmetric=True, convention="narrow")
    assert bounds(MeanSquaredError(scheme=scheme, candidates=10), [x]) == (0.0, 70.0)
    assert bounds(MeanSquaredError(scheme=scheme, candidates=10), [x, x[:-1], x[:-1]]) == (0.0, 7.0)


def test_mean_squared_error_prefers_the_widest_of_equals():
    scheme = Scheme(bits=4, symmetric=True, convention="full")
    for low, code in ((-56.0, -7), (-49.0, -8)):  # factors 1 and 7/8: -56 is -7 * 8 and -8 * 7
        params = scheme.params(low, 0.0)
        assert int(quantize(-56.0, params)) == code
        assert float(dequantize(np.int8(code), params)) == -56.0
    assert bounds(MeanSquaredError(scheme=scheme, candidates=8), [[-56.0]]) == (-56.0, 0.0)


def test_the_only_candidate_of_mean_squared_error_is_the_range_of_all_values(monkeypatch):
    monkeypatch.setattr(estimators, "BLOCK", 1)  # each candidate on its own: a range of nothing has scale 1 then
    for scheme in (SYMMETRIC, ASYMMETRIC):
        assert bounds(MeanSquaredError(scheme=scheme, candidates=1), [[1.0, 2.0]]) == (0.0, 2.0)


def test_mean_squared_error_of_zeros_is_the_range_of_zeros():
    for scheme in (SYMMETRIC, ASYMMETRIC):
        assert bounds(MeanSquaredError(scheme=scheme), [np.zeros(4)]) == (0.0, 0.0)


def test_mean_squared_error_beats_min_max_on_heavy_tails():
    x = np.random.default_rng(0).standard_t(3, 20_000)
    for scheme in (SYMMETRIC, ASYMMETRIC):
        ranges = (bounds(MeanSquaredError(scheme=scheme), [x]), bounds(MinMax(), [x]))
        params = [scheme.params(*found) for found in ranges]
        errors = [((x - dequantize(quantize(x, p), p)) ** 2).mean() for p in params]
        assert errors[0] < errors[1] / 4


def test_a_large_sample_is_searched_in_blocks_with_the_same_result():
    x = np.random.default_rng(1).standard_normal(200_000)
    estimator = MeanSquaredError(scheme=SYMMETRIC)
    estimator.update(x)
    (values, counts) = estimator.state.sets[0]
    assert 100 * len(values) > 2**20
    losses = estimator._losses(values, counts, -4.0 * np.ones(100), np.linspace(0.04, 4.0, 100))
    for i in (0, 50, 99):
        params = SYMMETRIC.params(-4.0, 0.04 + i * 0.04)
        expected = np.sum(counts * (values - dequantize(quantize(values, params), params)) ** 2)
        assert abs(losses[i] - expected) <= 1e-12 * expected


@pytest.mark.parametrize("estimator", [ESTIMATORS[0], *ESTIMATORS[2:]], ids=str)
@given(stream=batches)
def test_batching_and_order_do_not_matter_to_what_counts_values(estimator, stream):
    everything = np.concatenate(stream)
    expected = bounds(estimator, stream)
    assert bounds(estimator, [everything]) == expected
    assert bounds(estimator, stream[::-1]) == expected
    assert bounds(estimator, [row for x in stream for row in x[::-1]]) == expected


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
@pytest.mark.parametrize(
    "granularity",
    [PER_LAST, Granularity(kind="group", axis=-1, groups=2), Granularity(kind="channel", axis=0)],
    ids=str,
)
def test_each_parameter_set_is_estimated_on_its_own(estimator, granularity):
    stream = np.random.default_rng(2).standard_t(2, (3, 6, 4)).astype(np.float16)
    low, high = estimate(replace(estimator, granularity=granularity), stream)
    axis = granularity.axis
    step = 4 // (granularity.groups or 4)
    for i in range(stream.shape[1:][axis]):
        first = i // step * step if axis == -1 else i
        share = slice(first, first + (step if axis == -1 else 1))
        parts = [x[:, share] if axis == -1 else x[share] for x in stream]
        assert (low.ravel()[i], high.ravel()[i]) == bounds(estimator, parts)
    assert low.shape == high.shape == ((4,) if axis == -1 else (6, 1))


def test_a_single_batch_may_be_estimated_per_token():
    x = np.array([[1.0, -2.0], [0.0, 4.0]])
    low, high = estimate(MinMax(granularity=PER_TOKEN), [x])
    assert (low.tolist(), high.tolist()) == ([[-2.0], [0.0]], [[1.0], [4.0]])


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_the_sample_is_every_value_rounded_to_12_bits(x):
    estimator = Percentile(percentile=99)
    estimator.update(x)
    (values, counts) = estimator.state.sets[0]
    held = np.repeat(values, counts)
    exact = np.sort(x.astype(np.float64))
    assert (np.diff(values) > 0).all()
    assert len(held) == len(exact)
    assert (abs(held - exact) <= abs(exact) * 2.0**-12).all()
    fraction, _ = np.frexp(values)
    assert (fraction * 2**12 == np.rint(fraction * 2**12)).all()


def test_the_sample_is_bounded_whatever_the_stream():
    rng = np.random.default_rng(3)
    estimator = Percentile(percentile=99)
    for _ in range(20):
        estimator.update(rng.uniform(1.0, 2.0, 10_000) * rng.choice([-1.0, 1.0], 10_000))
    (values, counts) = estimator.state.sets[0]
    assert len(values) <= 2**12 + 2
    assert counts.sum() == 200_000


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_an_estimator_is_compared_by_its_parameters_and_copied_without_its_state(estimator):
    used = replace(estimator)
    used.update([1.0, -3.0])
    assert used == estimator
    assert hash(used) == hash(estimator)
    assert used != MinMax(granularity=PER_LAST)
    for unused in (estimator, replace(used)):
        with pytest.raises(ValueError, match="range must be asked for after at least one update, got none"):
            unused.range()
    with pytest.raises(FrozenInstanceError):
        used.granularity = PER_TENSOR


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_unusable_batches_are_refused_and_leave_the_state_alone(estimator):
    used = replace(estimator, granularity=PER_LAST)
    used.update([[1.0, -3.0], [0.5, 2.0]])
    before = [bound.tolist() for bound in used.range()]
    with pytest.raises(ValueError, match=r"x must have parameters of shape \(2,\) as in the first batch, got \(3,\)"):
        used.update([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="x must be finite"):
        used.update([[1.0, np.nan]])
    with pytest.raises(ValueError, match="x must hold at least one value"):
        used.update(np.zeros((0, 2)))
    assert [bound.tolist() for bound in used.range()] == before


def test_parameters_out_of_range_are_refused():
    for momentum in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got"):
            RunningMinMax(momentum=momentum)
    for percentile in (0, -1, 100.1, np.nan):
        with pytest.raises(ValueError, match=r"percentile must be in \(0, 100\], got"):
            Percentile(percentile=percentile)
    with pytest.raises(ValueError, match="candidates must be positive, got 0"):
        MeanSquaredError(scheme=SYMMETRIC, candidates=0)
