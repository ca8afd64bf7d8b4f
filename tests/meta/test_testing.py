# SPDX-License-Identifier: Apache-2.0
import array
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, integer_dtypes

from intsim.fixedpoint import Dyadic
from intsim.testing import assert_bit_exact, assert_within_lsb

INTEGER_DTYPES = [*np.typecodes["AllInteger"], "bool"]
every_integer_dtype = pytest.mark.parametrize("dtype", INTEGER_DTYPES)


def message(actual, expected, **options):
    """Return what assert_bit_exact says about two unequal operands."""
    with pytest.raises(AssertionError) as caught:
        assert_bit_exact(actual, expected, **options)
    return str(caught.value)


class Exported:
    """An object that shows its memory by DLPack and nothing else."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


# Equal


@every_integer_dtype
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_equal_arrays_pass(dtype, shape):
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    assert_bit_exact(x, x.copy())


@every_integer_dtype
def test_python_integers_match_every_integer_dtype(dtype):
    x = np.array([[0, 1], [1, 0]], dtype)
    assert_bit_exact(x, x.tolist())
    assert_bit_exact(x.tolist(), x)
    assert_bit_exact(x.astype(object), x)
    assert_bit_exact(x[0, 1], x[0, 1].item())


def test_python_integers_of_any_size_are_compared_with_each_other():
    assert_bit_exact([2**200, -1], (2**200, -1))
    assert "max |diff| 1 LSB" in message([2**200], [2**200 - 1])


def test_scalars_buffers_views_and_byte_orders_are_taken():
    x = np.arange(6, dtype=np.int16)
    assert_bit_exact(np.int8(3), np.array(3, np.int8))
    assert_bit_exact(array.array("h", x.tolist()), x)
    assert_bit_exact(memoryview(x), x)
    assert_bit_exact(x[::-2], x[[5, 3, 1]])
    assert_bit_exact(x.reshape(2, 3).T, np.ascontiguousarray(x.reshape(2, 3).T))
    assert_bit_exact(x.astype(">i2"), x.astype("<i2"))
    assert_bit_exact([], np.zeros(0, np.int8))


@every_integer_dtype
def test_dlpack_objects_are_taken(dtype):
    x = np.array([0, 1, 1], dtype)
    assert_bit_exact(Exported(x), x)
    assert message(Exported(x), x ^ np.array(1, dtype)).startswith("arrays: 3 of 3 elements differ (100.00%)")


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    for dtype in ("int8", "uint8", "int16", "int32", "int64", "bool", "uint16", "uint32", "uint64"):
        x = torch.tensor([[0, 1], [1, 0]], dtype=getattr(torch, dtype))
        assert_bit_exact(x, np.array([[0, 1], [1, 0]], dtype))
        assert_bit_exact(x.T, x)
        assert "4 of 4 elements differ" in message(x, np.array([[1, 0], [0, 1]], dtype))
    with pytest.raises(TypeError, match="must hold integers, got dtype float32"):
        assert_bit_exact(torch.zeros(2), np.zeros(2, np.int8))
    with pytest.raises(TypeError, match=r"NumPy can view, got torch\.Tensor"):
        assert_bit_exact(torch.zeros(2, dtype=torch.bfloat16), np.zeros(2, np.int8))


# Unequal


def test_the_message_is_the_one_of_the_style_guide():
    x = np.array([[1, 2], [3, 4]], np.int8)
    y = np.array([[1, 2], [3, -125]], np.int8)
    assert message(x, y, name="layer.3.requant") == (
        "layer.3.requant: 1 of 4 elements differ (25.00%), max |diff| 129 LSB\n"
        "       index   actual expected   diff  hex\n"
        "      (1, 1)        4     -125   +129  04 != 83"
    )


def test_int8_from_one_end_to_the_other_differs_by_255():
    low, high = np.array([-128], np.int8), np.array([127], np.int8)
    assert "max |diff| 255 LSB" in message(low, high)
    assert message(low, high).endswith("-128      127   -255  80 != 7f")
    assert message(high, low).endswith("127     -128   +255  7f != 80")


@every_integer_dtype
def test_the_ends_of_every_dtype_differ_by_all_of_it(dtype):
    ends = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = (np.array([end, end], dtype) for end in ends)
    span = int(ends[1]) - int(ends[0])
    for shape in ((2,), (2, 1)):
        assert f"2 of 2 elements differ (100.00%), max |diff| {span} LSB" in message(
            low.reshape(shape), high.reshape(shape)
        )
    assert f"max |diff| {span} LSB" in message(high, low)
    assert f"max |diff| {span} LSB" in message(low[0], high[0])


@every_integer_dtype
@pytest.mark.parametrize("step", [1, -1])
def test_one_lsb_is_enough(dtype, step):
    if dtype == "bool":
        x, y = np.array([True]), np.array([False])
    else:
        x = np.array([5, 6, 7], dtype)
        y = x.copy()
        y[1] = 6 + step
    assert "max |diff| 1 LSB" in message(x, y)
    assert "max |diff| 1 LSB" in message(x, y.tolist() if dtype != "bool" else y)


@every_integer_dtype
@pytest.mark.parametrize("other", INTEGER_DTYPES)
def test_another_dtype_is_refused_before_anything_else(dtype, other):
    x, y = np.zeros(2, dtype), np.ones((3, 3), other)
    if x.dtype != y.dtype:
        assert message(x, y, name="q") == f"q: actual has dtype {x.dtype}, expected {y.dtype}"


def test_python_integers_do_not_match_booleans():
    assert message([0, 1], np.array([False, True])) == "arrays: actual has dtype Python integers, expected bool"
    assert_bit_exact([False, True], np.array([False, True]))


def test_another_shape_is_refused_before_the_values():
    x = np.zeros((2, 3), np.int8)
    assert message(x, np.ones((3, 2), np.int8)) == "arrays: actual has shape (2, 3), expected (3, 2)"
    assert message(x, [1, 2]) == "arrays: actual has shape (2, 3), expected (2,)"
    assert message(x[0, 0], x[:1, 0]) == "arrays: actual has shape (), expected (1,)"  # nothing broadcasts
    assert message(np.zeros((0, 2), np.int8), np.zeros((0, 3), np.int8)).startswith("arrays: actual has shape (0, 2)")


def test_a_python_integer_beyond_the_dtype_differs_instead_of_wrapping():
    assert message(np.array([44], np.int8), [300]).endswith("44      300   -256  002c != 012c")
    assert "max |diff| 18446744073709551616 LSB" in message(np.array([0], np.uint64), [2**64])


def test_0_d_arrays_have_an_empty_index():
    assert message(np.array(3, np.int8), np.array(-3, np.int8)) == (
        "arrays: 1 of 1 elements differ (100.00%), max |diff| 6 LSB\n"
        "       index   actual expected   diff  hex\n"
        "          ()        3       -3     +6  03 != fd"
    )


def test_the_first_ten_differences_are_shown_and_all_are_counted():
    x = np.zeros((100, 10), np.int32)
    y = x.copy()
    y[7:] = np.arange(930).reshape(93, 10) - 400
    lines = message(x, y).splitlines()
    assert lines[0] == "arrays: 929 of 1000 elements differ (92.90%), max |diff| 529 LSB"
    assert len(lines) == 1 + 1 + 10 + 1
    assert lines[2].split()[:2] == ["(7,", "0)"]
    assert lines[-1] == "         ... 919 more"


def test_few_of_many_are_not_called_none_and_most_are_not_called_all():
    x = np.zeros(100_000, np.int8)
    y = x.copy()
    y[-1] = 1
    assert "1 of 100000 elements differ (<0.01%)" in message(x, y)
    assert "99999 of 100000 elements differ (>99.99%)" in message(x, 1 - y)


def test_wide_values_widen_their_columns():
    lines = message(np.array([0, 0], np.uint64), np.array([2**64 - 1, 3], np.uint64)).splitlines()
    assert lines[1].index("expected") + len("expected") == lines[2].index(str(2**64 - 1)) + 20
    assert lines[3].endswith("0000000000000000 != 0000000000000003")


@given(data=st.data(), dtype=integer_dtypes(endianness="="), shape=array_shapes(min_dims=0, min_side=0))
def test_the_count_and_the_difference_are_those_of_python_integers(data, dtype, shape):
    x, y = (data.draw(arrays(dtype, shape)) for _ in range(2))
    differences = [abs(a - b) for a, b in zip(x.ravel().tolist(), y.ravel().tolist(), strict=True) if a != b]
    if not differences:
        assert_bit_exact(x, y)
        return
    first = message(x, y).splitlines()[0]
    assert first.startswith(f"arrays: {len(differences)} of {x.size} elements differ (")
    assert first.endswith(f", max |diff| {max(differences)} LSB")


# Refused


@pytest.mark.parametrize(
    "reals", [np.zeros(2), np.zeros(2, np.float16), np.full(2, np.nan), np.zeros(2, complex), [1.0], [1, 2.0], 0.5]
)
def test_reals_are_refused_on_either_side(reals):
    for pair in ((reals, np.zeros(2, np.int8)), (np.zeros(2, np.int8), reals)):
        with pytest.raises(TypeError, match="must hold integers"):
            assert_bit_exact(*pair)


@pytest.mark.parametrize("other", ["ab", b"ab", None, {1, 2}, [[1], [1, 2]], [True, 1], np.array("2020", "M8[D]")])
def test_what_is_not_made_of_integers_is_refused(other):
    with pytest.raises(TypeError, match="requant: expected must hold integers, got"):
        assert_bit_exact([1, 2], other, name="requant")


def test_what_numpy_cannot_view_is_named():
    class Remote:
        def __array__(self, *_, **__):
            msg = "it is on the GPU"
            raise TypeError(msg)

    with pytest.raises(TypeError, match=r"arrays: actual must be .* NumPy can view, got .*Remote: it is on the GPU"):
        assert_bit_exact(Remote(), [1])


def test_there_is_no_tolerance():
    with pytest.raises(TypeError):
        assert_bit_exact([1], [1], atol=1)


def test_the_frames_of_the_helper_are_hidden():
    with pytest.raises(AssertionError) as caught:
        assert_bit_exact([1], [2])
    assert caught.traceback[-1].frame.f_locals["__tracebackhide__"] is True


# Within LSB


def test_codes_within_the_bound_pass():
    assert_within_lsb(np.array([1, 2, 3], np.int8), [0.26, 0.5, 0.74], scale=0.25, max_lsb=0.5)
    assert_within_lsb([[0]], [[0.0]], scale=1, max_lsb=0)
    assert_within_lsb(np.zeros(0, np.int8), [], scale=1, max_lsb=0)


@pytest.mark.parametrize("scale", [0.25, Fraction(1, 4), Dyadic(1, 2), np.float32(0.25), np.array(0.25), [0.25, 0.25]])
def test_the_scale_may_be_a_number_a_dyadic_or_an_array(scale):
    assert_within_lsb(np.array([4, -4], np.int8), [1, -1], scale=scale, max_lsb=0)
    with pytest.raises(AssertionError, match="1 of 2 elements are off by more than 0 LSB"):
        assert_within_lsb(np.array([4, -3], np.int8), [1, -1], scale=scale, max_lsb=0)


def test_the_zero_point_is_taken_off_without_wrapping():
    assert_within_lsb(np.array([0, 255], np.uint8), [-128, 127], scale=1, zero_point=128, max_lsb=0)
    assert_within_lsb(np.array([-128], np.int8), [-255], scale=1, zero_point=127, max_lsb=0)


def test_the_message_shows_codes():
    with pytest.raises(AssertionError) as caught:
        assert_within_lsb(np.array([1, 2, 30], np.int8), [0.1, 0.2, 0.3], scale=0.1, max_lsb=0.5, name="gelu")
    assert str(caught.value) == (
        "gelu: 1 of 3 elements are off by more than 0.5 LSB (33.33%), max |error| 27.000 LSB\n"
        "       index   actual   expected    error\n"
        "        (2,)       30      3.000  +27.000"
    )


def test_errors_on_either_side_count():
    for real in (0.0, 4.0):
        with pytest.raises(AssertionError, match=r"max \|error\| 2\.000 LSB"):
            assert_within_lsb(np.array([2], np.int8), [real], scale=1, max_lsb=1.99)


def test_another_shape_does_not_broadcast():
    with pytest.raises(AssertionError, match=r"actual has shape \(2,\), expected \(\)"):
        assert_within_lsb(np.zeros(2, np.int8), 0.0, scale=1, max_lsb=1)


@pytest.mark.parametrize("real", [np.nan, np.inf, -np.inf])
def test_a_real_that_is_not_finite_is_refused_instead_of_passed(real):
    with pytest.raises(ValueError, match="expected_real must be finite"):
        assert_within_lsb([0], [real], scale=1, max_lsb=np.inf)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, Dyadic(0, 0), [1.0, 0.0]])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(ValueError, match="scale must be positive and finite"):
        assert_within_lsb([0, 0], [0, 0], scale=scale, max_lsb=1)


@pytest.mark.parametrize("bound", [-1, np.nan])
def test_a_bound_must_not_be_negative(bound):
    with pytest.raises(ValueError, match="max_lsb must be at least 0"):
        assert_within_lsb([0], [0], scale=1, max_lsb=bound)


def test_codes_that_float64_would_round_are_refused():
    assert_within_lsb(np.array([2**53]), [2.0**53], scale=1, max_lsb=0)
    with pytest.raises(ValueError, match=r"at most 2\*\*53"):
        assert_within_lsb(np.array([2**53 + 1]), [2.0**53], scale=1, max_lsb=0)


def test_reals_are_not_codes():
    with pytest.raises(TypeError, match="actual must hold integers, got dtype float64"):
        assert_within_lsb(np.zeros(1), [0], scale=1, max_lsb=1)
