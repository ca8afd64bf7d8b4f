# SPDX-License-Identifier: Apache-2.0
"""For test suites: equal in every bit, within so many LSB of a real, or a kernel held against its rule.

::

    from intsim.testing import assert_bit_exact

    assert_bit_exact(kernel(x_q), ops.requantize(acc, ratio, to=INT8, rounding=rounding), name="layer.3.requant")
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.fixedpoint import Dyadic
from intsim.verify.witness import Row, Witness, examine, telling_neighbours

__all__ = ["Row", "Witness", "assert_bit_exact", "assert_within_lsb", "examine", "telling_neighbours"]

Array: TypeAlias = NDArray[Any]

SHOWN: Final = 10  # rows of the table of differences
FLOAT64_EXACT: Final = 1 << 53


def assert_bit_exact(actual: object, expected: object, *, name: str = "arrays") -> None:
    """Fail unless two integer arrays are equal in dtype, shape and every value, compared in this order.

    The message counts the elements that differ, gives the largest difference, and shows the first ten::

        layer.3.requant: 1 of 4 elements differ (25.00%), max |diff| 129 LSB
               index   actual expected   diff  hex
              (1, 1)        4     -125   +129  04 != 83

    Parameters
    ----------
    actual, expected
        Whatever NumPy can view without a copy of its meaning: arrays, scalars, buffers, torch tensors on the CPU,
        objects with DLPack. Integers or booleans; byte order and memory layout do not count. Python integers, lists of
        them and arrays of objects have no dtype: they match any integer dtype, and are compared by shape and value.
    name
        What is compared; the first word of the message.

    Raises
    ------
    AssertionError
        If they differ.
    TypeError
        If either is not made of integers; there is no tolerance to compare reals with.

    Bounds
    ------
    Differences are exact, whatever the dtypes: int8 -128 against 127 is 255, uint64 0 against 2**64 - 1 is 2**64 - 1.
    """
    __tracebackhide__ = True
    a, e = _integers(actual, f"{name}: actual"), _integers(expected, f"{name}: expected")
    if not _same_kind(a, e):
        msg = f"{name}: actual has dtype {_dtype_name(a)}, expected {_dtype_name(e)}"
        raise AssertionError(msg)
    if a.shape != e.shape:
        msg = f"{name}: actual has shape {a.shape}, expected {e.shape}"
        raise AssertionError(msg)
    bits = 8 * max((x.itemsize for x in (a, e) if x.dtype != object), default=1)
    a, e = _of_one_dtype(a, e)
    differ = np.asarray(a != e, np.bool_)
    if not differ.any():
        return
    pairs = [(index, int(a[index]), int(e[index])) for index in _first(differ)]
    rows = [[str(index), str(x), str(y), f"{x - y:+}", _hex(x, y, bits)] for index, x, y in pairs]
    msg = (
        f"{name}: {_share(differ)} elements differ ({_percentage(differ)}), "
        f"max |diff| {_max_difference(a[differ], e[differ])} LSB\n"
        f"{_table(['index', 'actual', 'expected', 'diff', 'hex'], rows, [12, 8, 8, 6])}{_rest(differ)}"
    )
    raise AssertionError(msg)


def assert_within_lsb(
    actual: object,
    expected_real: object,
    *,
    scale: ArrayLike | Dyadic,
    max_lsb: float,
    zero_point: ArrayLike = 0,
    name: str = "arrays",
) -> None:
    """Fail unless every code is within ``max_lsb`` steps of the real it stands for: |actual - code(expected_real)|.

    This is for accuracy: how far an integer operator is from the function it approximates. Whether two
    implementations of the operator agree is ``assert_bit_exact``'s question, which knows no tolerance.

    Parameters
    ----------
    actual
        Integer codes, as for ``assert_bit_exact``.
    expected_real
        Finite reals of the same shape.
    scale
        Real value of one code: a number, a ``Dyadic``, or an array of them that broadcasts.
    max_lsb
        Largest difference allowed, in codes. 1/2 is the best a rounding can do.
    zero_point
        Code that stands for 0.
    name
        What is compared; the first word of the message.

    Raises
    ------
    AssertionError
        If the shapes differ, or some code is further away. The message has the shape of ``assert_bit_exact``'s, with
        the expected real in codes.
    TypeError
        If ``actual`` is not made of integers.
    ValueError
        If a code is beyond 2**53, an expected real is not finite, a scale is not positive, or ``max_lsb`` is negative.

    Error
    -----
    The expected code is computed in float64, within 2**-52 of itself.
    """
    __tracebackhide__ = True
    a = _integers(actual, f"{name}: actual")
    reals = np.asarray(_view(expected_real, f"{name}: expected_real"), np.float64)
    step = (
        np.ldexp(scale.multiplier.astype(np.float64), -scale.shift)
        if isinstance(scale, Dyadic)
        else np.asarray(scale, np.float64)
    )
    if not np.isfinite(reals).all():
        msg = f"{name}: expected_real must be finite, got a NaN or an infinity"
        raise ValueError(msg)
    if not (np.isfinite(step) & (step > 0)).all():
        msg = f"{name}: scale must be positive and finite, got {step}"
        raise ValueError(msg)
    if not max_lsb >= 0:
        msg = f"{name}: max_lsb must be at least 0, got {max_lsb}"
        raise ValueError(msg)
    if a.shape != reals.shape:
        msg = f"{name}: actual has shape {a.shape}, expected {reals.shape}"
        raise AssertionError(msg)
    if a.size and not -FLOAT64_EXACT <= int(a.min()) <= int(a.max()) <= FLOAT64_EXACT:
        msg = f"{name}: actual must be codes of at most 2**53 in magnitude, got [{a.min()}, {a.max()}]"
        raise ValueError(msg)
    codes: Array = np.asarray(reals / step + np.asarray(zero_point), np.float64)
    error: Array = np.asarray(a.astype(np.float64) - codes, np.float64)
    far = np.asarray(np.abs(error) > max_lsb)
    if not far.any():
        return
    rows = [[str(i), str(int(a[i])), f"{codes[i]:.3f}", f"{error[i]:+.3f}"] for i in _first(far)]
    msg = (
        f"{name}: {_share(far)} elements are off by more than {max_lsb} LSB ({_percentage(far)}), "
        f"max |error| {np.abs(error).max():.3f} LSB\n"
        f"{_table(['index', 'actual', 'expected', 'error'], rows, [12, 8, 10, 8])}{_rest(far)}"
    )
    raise AssertionError(msg)


def _view(value: object, what: str) -> Array:
    """Return ``value`` as NumPy sees it; what is made of Python objects keeps them."""
    if isinstance(value, int | list | tuple):
        return np.array(value, dtype=object)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(cast("Any", value))
        return np.asarray(cast("Any", value))
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        msg = f"{what} must be something NumPy can view, got {kind}: {error}"
        raise TypeError(msg) from error


def _integers(value: object, what: str) -> Array:
    """Return an array of an integer or boolean dtype in native order, or one of Python integers."""
    array = _view(value, what)
    if array.dtype == object:
        kinds: set[type] = {type(x) for x in array.flat}
        if kinds and kinds <= {bool, np.bool_}:
            return array.astype(np.bool_)
        for kind in kinds:
            if kind in {bool, np.bool_} or not issubclass(kind, int | np.integer):
                msg = f"{what} must hold integers, got an element of type {kind.__name__}"
                raise TypeError(msg)
        return np.array([int(x) for x in array.flat], dtype=object).reshape(array.shape)
    if array.dtype.kind not in "iub":
        advice = "; compare reals with assert_within_lsb" if array.dtype.kind in "fc" else ""
        msg = f"{what} must hold integers, got dtype {array.dtype}{advice}"
        raise TypeError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _same_kind(a: Array, e: Array) -> bool:
    return a.dtype == e.dtype or {a.dtype.kind, e.dtype.kind} in ({"O", "i"}, {"O", "u"})


def _dtype_name(x: Array) -> str:
    return "Python integers" if x.dtype == object else str(x.dtype)


def _of_one_dtype(a: Array, e: Array) -> tuple[Array, Array]:
    """Give Python integers the dtype of the other side, or both sides none if some value does not fit it."""
    if a.dtype == e.dtype:
        return a, e
    loose, dtype = (a, e.dtype) if a.dtype == object else (e, a.dtype)
    info = np.iinfo(dtype)
    fits = not loose.size or info.min <= loose.min() <= loose.max() <= info.max
    common = dtype if fits else np.dtype(object)
    return a.astype(common, copy=False), e.astype(common, copy=False)


def _max_difference(a: Array, e: Array) -> int:
    """Return max |a - e| of two arrays of one axis and one dtype, exactly.

    Modulo 2**64, which is how unsigned integers subtract, the larger less the smaller is itself: it is below 2**64.
    """
    if a.dtype == object:
        return max(abs(x - y) for x, y in zip(a.tolist(), e.tolist(), strict=True))
    u, v = a.astype(np.uint64), e.astype(np.uint64)
    return int(np.where(a > e, u - v, v - u).max())


def _first(differ: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return the indices of the first elements that differ."""
    return [
        tuple(int(i) for i in cast("tuple[np.intp, ...]", np.unravel_index(flat, differ.shape)))
        for flat in np.flatnonzero(differ)[:SHOWN]
    ]


def _share(differ: NDArray[np.bool_]) -> str:
    return f"{np.count_nonzero(differ)} of {differ.size}"


def _percentage(differ: NDArray[np.bool_]) -> str:
    """Return the share in percent, never as none or all where it is neither."""
    count, size = np.count_nonzero(differ), differ.size
    percent = f"{100 * count / size:.2f}%"
    if percent == "0.00%":
        return "<0.01%"
    return ">99.99%" if percent == "100.00%" and count < size else percent


def _rest(differ: NDArray[np.bool_]) -> str:
    count = int(np.count_nonzero(differ)) - SHOWN
    return f"\n{'...':>12} {count} more" if count > 0 else ""


def _hex(x: int, y: int, bits: int) -> str:
    """Return both in two's complement of one width: ``bits``, or as many bytes as the wider needs."""
    needed = max((v if v >= 0 else ~v).bit_length() for v in (x, y)) + (min(x, y) < 0)
    bits = max(bits, -(-needed // 8) * 8)
    return " != ".join(f"{v % (1 << bits):0{bits // 4}x}" for v in (x, y))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    """Return right-aligned columns at least so wide; what has no width of its own stands at the left."""
    widths = [max(width, *(len(row[i]) for row in rows)) for i, width in enumerate(widths)]
    lines: list[str] = []
    for row in (header, *rows):
        cells = [f"{cell:>{width}}" for cell, width in zip(row, widths, strict=False)]
        lines.append(" ".join(cells) + "".join(f"  {cell}" for cell in row[len(widths) :]))
    return "\n".join(lines)
