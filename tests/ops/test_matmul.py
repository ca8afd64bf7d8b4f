# SPDX-License-Identifier: Apache-2.0
import numpy as np
import oracle
import pytest
from edges import NOT_INTEGERS, edge_integers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.carrier.exact import Weight
from intsim.ops import matmul

DTYPES = [("int8", "int8"), ("uint8", "int8"), ("int8", "uint8"), ("int16", "int8"), ("uint8", "int16")]
every_carrier = pytest.mark.parametrize("carrier", ["auto", "integer"])


@st.composite
def products(draw):
    """Codes (M, K) and (N, K), their zero points, a bias or none."""
    dtypes = [np.dtype(name) for name in draw(st.sampled_from(DTYPES))]
    m, k, n = (draw(st.integers(1, 5)) for _ in range(3))
    operands = [
        draw(hnp.arrays(dtype, shape, elements=edge_integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))))
        for dtype, shape in zip(dtypes, [(m, k), (n, k)], strict=True)
    ]
    zero_points = [draw(st.sampled_from([0, 1, -1, 127, -128, 255])) for _ in operands]
    bias = draw(st.none() | hnp.arrays(np.int32, n, elements=edge_integers(-(2**24), 2**24)))
    return operands, zero_points, bias


@every_carrier
@given(case=products())
def test_the_accumulator_is_that_of_the_oracle(carrier, case):
    (x, w), (x_zero_point, w_zero_point), bias = case
    acc = matmul(x, w, x_zero_point=x_zero_point, w_zero_point=w_zero_point, bias=bias, carrier=carrier)
    assert acc.dtype == np.int32
    rows = None if bias is None else bias.tolist()
    assert acc.tolist() == oracle.matmul(x.tolist(), w.tolist(), rows, x_zero_point, w_zero_point)


@every_carrier
def test_int8_products_do_not_wrap(carrier):
    x = np.array([[100, 100]], np.int8)
    assert matmul(x, x, carrier=carrier).tolist() == [[20000]]


@every_carrier
@pytest.mark.parametrize("codes", [(-128, -128), (127, 127), (-128, 127)])
def test_the_accumulator_is_exact_at_max_k(carrier, codes):
    x, w = (np.full((1, 131_071), code, np.int8) for code in codes)
    assert matmul(x, w, carrier=carrier).tolist() == [[131_071 * codes[0] * codes[1]]]


@every_carrier
def test_depth_over_max_k_is_refused(carrier):
    x = np.full((1, 131_072), -128, np.int8)
    with pytest.raises(ValueError, match=r"less than 2\*\*31 for an int32 accumulator"):
        matmul(x, x, carrier=carrier)


@every_carrier
def test_zero_points_count_in_the_bound(carrier):
    x, w = np.full((1, 65_793), 255, np.uint8), np.full((1, 65_793), -128, np.int8)
    assert matmul(x, w, carrier=carrier).tolist() == [[-255 * 128 * 65_793]]
    with pytest.raises(ValueError, match=r"less than 2\*\*31"):
        matmul(x, w, x_zero_point=255, w_zero_point=127, carrier=carrier)
    assert matmul(x[:, :1000], w[:, :1000], x_zero_point=255, carrier=carrier).tolist() == [[0]]


@every_carrier
@pytest.mark.parametrize("of_w", [False, True])
def test_negative_zero_points_count_in_the_bound_as_positive_ones_do(carrier, of_w):
    far, near = np.full((1, 601), 127, np.int8), np.full((1, 601), -127, np.int8)  # the sum is odd, and above 2**24
    operands, zero_point = ((near, far), {"w_zero_point": -128}) if of_w else ((far, near), {"x_zero_point": -128})
    assert matmul(*operands, **zero_point, carrier=carrier).tolist() == [[-255 * 127 * 601]]


def test_a_prepared_weight_carries_and_what_is_no_carrier_is_refused():
    x, w = np.arange(-6, 6).astype(np.int8).reshape(3, 4), np.arange(8).astype(np.int8).reshape(2, 4)
    assert np.array_equal(matmul(x, w, carrier=Weight(w)), x.astype(int) @ w.T.astype(int))
    with pytest.raises(ValueError, match="carrier must be one of auto, "):
        matmul(x, w, carrier="fast")


@every_carrier
@pytest.mark.parametrize("bias", [2**31 - 1, -(2**31) + 1])
def test_the_bias_does_not_wrap(carrier, bias):
    zeros, one = np.zeros((1, 1), np.int8), np.ones((1, 1), np.int8)
    assert matmul(one, zeros, bias=np.array([bias], np.int32), carrier=carrier).shape == (1, 1)
    w = np.array([[127]], np.int8)
    with pytest.raises(ValueError, match=r"less than 2\*\*31"):
        matmul(w, w, bias=np.array([bias], np.int32), carrier=carrier)


@every_carrier
def test_the_lowest_int32_is_beyond_the_bound_of_a_bias(carrier):
    one = np.ones((1, 1), np.int8)
    with pytest.raises(ValueError, match=r"less than 2\*\*31 for an int32 accumulator, got a bound of 214748"):
        matmul(one, 0 * one, bias=np.array([-(2**31)], np.int32), carrier=carrier)


@every_carrier
def test_the_bound_is_that_of_each_product_with_its_own_bias(carrier):
    """Large weights beside a small bias, and the reverse; 2**31 only if they were taken together."""
    x, w = np.full((2, 1, 1100), 127, np.int8), np.zeros((2, 1, 1100), np.int8)
    w[0] = 127
    bias = np.array([[[0]], [[2**31 - 1]]])
    assert matmul(x, w, bias=bias, carrier=carrier).tolist() == [[[1100 * 127 * 127]], [[2**31 - 1]]]
    with pytest.raises(ValueError, match=r"less than 2\*\*31"):
        matmul(x, w, bias=bias[::-1], carrier=carrier)


@every_carrier
def test_heads_of_a_batch_are_multiplied_one_by_one(carrier):
    rng = np.random.default_rng(0)
    query = rng.integers(-128, 128, (2, 3, 5, 8)).astype(np.int8)
    key = rng.integers(-128, 128, (2, 3, 7, 8)).astype(np.int8)
    scores = matmul(query, key, carrier=carrier)
    assert scores.shape == (2, 3, 5, 7)
    for index in np.ndindex(2, 3):
        assert scores[index].tolist() == oracle.matmul(query[index].tolist(), key[index].tolist())
        assert np.array_equal(scores[index], matmul(query[index], key[index], carrier=carrier))


@every_carrier
def test_a_batch_is_the_stack_of_its_rows(carrier):
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (3, 5, 64)).astype(np.int8), rng.integers(-128, 128, (9, 64)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 9).astype(np.int32)
    acc = matmul(x, w, bias=bias, carrier=carrier)
    for index in np.ndindex(3, 5):
        assert np.array_equal(acc[index], matmul(x[index][None], w, bias=bias, carrier=carrier)[0])


def test_a_transposed_view_gives_the_product_of_its_copy():
    rng = np.random.default_rng(2)
    probs = rng.integers(0, 256, (2, 3, 5, 5)).astype(np.uint8)
    value = rng.integers(-128, 128, (2, 3, 5, 8)).astype(np.int8).swapaxes(-1, -2)
    for carrier in ("auto", "integer"):
        assert np.array_equal(matmul(probs, value, carrier=carrier), matmul(probs, value.copy(), carrier=carrier))


@pytest.mark.parametrize("dtype", [*NOT_INTEGERS, "int32", "uint32", "int64"])
def test_what_is_not_an_integer_array_of_16_bits_is_refused(dtype):
    x, other = np.zeros((2, 3), np.int8), np.zeros((2, 3), dtype)
    with pytest.raises(TypeError, match="x_q must have"):
        matmul(other, x)
    with pytest.raises(TypeError, match="w_q must have"):
        matmul(x, other)


@every_carrier
def test_a_float_bias_is_refused(carrier):
    x = np.ones((1, 1), np.int8)
    with pytest.raises(TypeError):
        matmul(x, x, bias=np.array([0.7]), carrier=carrier)


def test_depths_that_differ_are_refused():
    with pytest.raises(ValueError, match="mismatch"):
        matmul(np.zeros((2, 3), np.int8), np.zeros((2, 4), np.int8))


def test_unsigned_rows_are_bounded_one_by_one():
    w = np.full((2, 300), 127, np.int8)
    row = np.full((1, 1, 300), 65535, np.uint16)
    with pytest.raises(ValueError, match="must sum to less than 2\\*\\*31"):
        matmul(row, w)
    row[..., 250:] = 0
    assert matmul(row, w).tolist() == [[[250 * 65535 * 127] * 2]]
    assert matmul(row[:, :0], w).shape == (1, 0, 2)
