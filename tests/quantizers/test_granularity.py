# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.quantizers import PER_TENSOR, PER_TOKEN, Granularity, Scheme, min_max, quantize, reduce

SCHEMES = [
    Scheme(bits=8, symmetric=True, convention="narrow"),
    Scheme(bits=4, symmetric=True, convention="power-of-two"),
    Scheme(bits=8, symmetric=False, convention="full"),
    Scheme(bits=5, symmetric=False, convention="power-of-two", signed=False),
]
tensors = hnp.arrays(  # no zeros, so that no slice is all zero
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
    elements=st.floats(2.0**-20, 2.0**20, width=32) | st.floats(-(2.0**20), -(2.0**-20), width=32),
)


def quantized(x, granularity, scheme):
    return quantize(x, scheme.params(*min_max(x, granularity)))


def per_tensor(parts, scheme):
    return [quantized(part, PER_TENSOR, scheme) for part in parts]


@given(tensors, st.sampled_from(SCHEMES), st.data())
def test_per_channel_is_a_stack_of_per_tensor(x, scheme, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    codes = quantized(x, Granularity(kind="channel", axis=axis), scheme)
    channels = [np.take(x, i, axis=axis) for i in range(x.shape[axis])]
    assert np.array_equal(codes, np.stack(per_tensor(channels, scheme), axis=axis))


@given(tensors, st.sampled_from(SCHEMES), st.data())
def test_per_group_is_a_concatenation_of_per_tensor(x, scheme, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    length = x.shape[axis]
    groups = data.draw(st.sampled_from([g for g in range(1, length + 1) if length % g == 0]))
    codes = quantized(x, Granularity(kind="group", axis=axis, groups=groups), scheme)
    assert np.array_equal(codes, np.concatenate(per_tensor(np.split(x, groups, axis=axis), scheme), axis=axis))


@given(tensors, st.sampled_from(SCHEMES))
def test_per_token_is_a_stack_of_rows(x, scheme):
    codes = quantized(x, PER_TOKEN, scheme)
    rows = per_tensor(x.reshape(-1, x.shape[-1]), scheme)
    assert np.array_equal(codes, np.stack(rows).reshape(x.shape))


@given(tensors)
def test_one_group_is_the_tensor_and_groups_of_one_are_the_channels(x):
    last = x.shape[-1]
    whole, each = (min_max(x, Granularity(kind="group", axis=-1, groups=groups)) for groups in (1, last))
    for got, expected in zip(whole, min_max(x, PER_TENSOR), strict=True):
        assert np.array_equal(got, np.full(last, expected))
    for got, expected in zip(each, min_max(x, Granularity(kind="channel", axis=-1)), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("granularity", "shape", "low"),
    [
        (PER_TENSOR, (), 0),
        (PER_TOKEN, (2, 3, 1), [[[0], [4], [8]], [[12], [16], [20]]]),
        (Granularity(kind="channel", axis=0), (2, 1, 1), [[[0]], [[12]]]),
        (Granularity(kind="channel", axis=1), (3, 1), [[0], [4], [8]]),
        (Granularity(kind="channel", axis=-1), (4,), [0, 1, 2, 3]),
        (Granularity(kind="group", axis=-1, groups=2), (4,), [0, 0, 2, 2]),
    ],
    ids=str,
)
def test_parameters_have_the_shape_that_broadcasts(granularity, shape, low):
    x = np.arange(24.0).reshape(2, 3, 4)
    got, high = min_max(x, granularity)
    assert got.shape == high.shape == granularity.shape(x.shape) == shape
    assert got.tolist() == low
    assert (got <= x).all()
    assert (x <= high).all()


def test_parameters_of_the_last_axis_fit_batches_of_any_size():
    scheme = SCHEMES[0]
    params = scheme.params(*min_max(np.arange(1.0, 25).reshape(2, 3, 4), Granularity(kind="group", axis=-1, groups=2)))
    for shape in ((4,), (7, 4), (5, 6, 4)):
        assert quantize(np.ones(shape), params).shape == shape


@given(tensors)
def test_reduce_applies_any_function_to_each_set(x):
    spread = reduce(x, Granularity(kind="channel", axis=0), lambda rows: np.abs(rows).max(axis=-1))
    assert spread.ravel().tolist() == [np.abs(channel).max() for channel in x]


def test_unusable_tensors_are_refused():
    with pytest.raises(ValueError, match=r"x must hold at least one value, got shape \(0, 3\)"):
        min_max(np.zeros((0, 3)), PER_TENSOR)
    with pytest.raises(ValueError, match="x must be finite"):
        min_max([1.0, np.nan], PER_TENSOR)
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        min_max(np.zeros((2, 3)), Granularity(kind="channel", axis=2))
    with pytest.raises(ValueError, match="groups must divide the 6 channels along axis -1, got 4"):
        min_max(np.zeros((2, 6)), Granularity(kind="group", axis=-1, groups=4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "channel"}, "axis must be given for channel and group only, got axis=None for channel"),
        ({"kind": "tensor", "axis": 0}, "axis must be given for channel and group only, got axis=0 for tensor"),
        ({"kind": "group", "axis": 0}, "groups must be positive and given for group only, got groups=None for group"),
        ({"kind": "group", "axis": 0, "groups": 0}, "groups must be positive .* got groups=0"),
        ({"kind": "channel", "axis": 0, "groups": 2}, "groups must be positive .* got groups=2 for channel"),
    ],
)
def test_missing_and_superfluous_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Granularity(**arguments)
