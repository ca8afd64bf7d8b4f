# SPDX-License-Identifier: Apache-2.0
"""The fake quantizers choose the codes of the integer path, every one, on random and tied activations."""

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intsim import ops
from intsim.fixedpoint import IntRange, Rounding
from intsim.models.formats import Dynamic
from intsim.quantizers import AffineParams, Granularity, Scheme, dequantize, min_max, quantize
from intsim.reference import fake_quant

Reals = NDArray[np.float64]

CONVENTIONS: Final = [(True, name) for name in ("narrow", "ibert-code", "full", "power-of-two")]
CONVENTIONS += [(False, name) for name in ("full", "power-of-two")]
GRANULARITIES: Final = [
    Granularity(kind="tensor"),
    Granularity(kind="channel", axis=0),
    Granularity(kind="channel", axis=-1),
    Granularity(kind="group", axis=-1, groups=3),
]
HALVES: Final = {"up": Rounding.HALF_UP, "even": Rounding.HALF_EVEN}


def _assert_same(x: Reals, params: AffineParams, twin: fake_quant.Affine) -> None:
    assert np.array_equal(twin.scale, params.scale)
    assert np.array_equal(twin.zero_point, params.zero_point)
    assert (twin.lowest, twin.highest) == (params.range.min, params.max_code)
    codes = quantize(x, params)
    assert np.array_equal(fake_quant.quantize(x, twin), codes)
    assert np.array_equal(fake_quant.fake_quantize(x, twin), dequantize(codes, params))


def _tied(x: Reals, params: AffineParams) -> Reals:
    """Return reals on the boundaries between codes, beside them, and beyond both ends."""
    halves = np.arange(params.range.min - 3, params.range.max + 4)[:, *(None,) * x.ndim] + 0.5
    ties = (halves - params.zero_point) * params.scale
    return np.stack([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])


# ---- static


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=lambda g: f"{g.kind} {g.axis}")
@pytest.mark.parametrize(("symmetric", "convention"), CONVENTIONS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_static_codes_equal(symmetric: bool, convention: Any, bits: int, granularity: Granularity) -> None:
    rng = np.random.default_rng(bits)
    x = rng.normal(0.3, 1, (4, 6)) * np.exp2(rng.integers(-20, 20, 6))
    x[:, 2], x[1] = np.abs(x[:, 2]), 0
    params = Scheme(bits=bits, symmetric=symmetric, convention=convention).params(*min_max(x, granularity))
    low, high = fake_quant.extremes(x, axis=granularity.axis, groups=granularity.groups)
    twin = fake_quant.affine(low, high, bits=bits, symmetric=symmetric, convention=convention)
    _assert_same(x, params, twin)
    _assert_same(_tied(x, params), params, twin)


@pytest.mark.parametrize(("symmetric", "convention"), CONVENTIONS)
def test_nothing_but_zeros_has_the_scale_1(symmetric: bool, convention: Any) -> None:
    x = np.zeros((2, 3))
    twin = fake_quant.affine(*fake_quant.extremes(x), bits=8, symmetric=symmetric, convention=convention)
    _assert_same(x, Scheme(bits=8, symmetric=symmetric, convention=convention).params(0, 0), twin)
    assert twin.scale == 1
    assert (fake_quant.fake_quantize(x, twin) == 0).all()


@given(st.data())
def test_static_codes_of_any_range_equal(data: st.DataObject) -> None:
    symmetric, convention = data.draw(st.sampled_from(CONVENTIONS))
    bits = data.draw(st.integers(2, 16))
    signed = data.draw(st.booleans()) if not symmetric else True
    if (symmetric, convention) == (True, "full"):
        signed = data.draw(st.sampled_from([True, "by-range"]))
    ends = st.floats(-(2.0**40), 2.0**40) | st.just(0.0)
    low, high = sorted(data.draw(st.tuples(ends, ends)))
    rule = {"bits": bits, "symmetric": symmetric, "convention": convention, "signed": signed}
    params = Scheme(**rule).params(low, high)
    code = data.draw(st.integers(params.range.min - 2, params.range.max + 2))
    tie = (code + 0.5 - float(params.zero_point)) * float(params.scale)
    x = np.array([low, high, 0, tie, np.nextafter(tie, np.inf), np.nextafter(tie, -np.inf)])
    _assert_same(x, params, fake_quant.affine(low, high, **rule))


# ---- dynamic, on fixed-point numbers


def _assert_same_dynamic(
    x_q: NDArray[np.int16], zero_point: int, scale: float, mask: NDArray[np.bool_], how: Dynamic, half: Any
) -> None:
    bound_q = ops.dynamic_bound(x_q, per=how.per, clip=how.clip, zero_point=zero_point, mask=mask)
    x_codes = ops.quantize_dynamic(
        x_q, bound_q, unit=how.unit, to=how.range, rounding=HALVES[half], zero_point=zero_point
    )
    x = (x_q.astype(np.int64) - zero_point) * scale
    bound = fake_quant.dynamic_bound(x, per=how.per, clip=how.clip, mask=mask)
    assert np.array_equal(bound, bound_q * (scale / how.unit))
    codes = fake_quant.quantize_dynamic(x, bound, bits=how.range.bits, half=half)
    assert np.array_equal(codes, x_codes)
    fake = fake_quant.fake_quantize_dynamic(x, bound, bits=how.range.bits, half=half)
    assert np.array_equal(fake, codes * bound / how.range.max)


def _dynamic(bits: int, per: Any, clip: bool) -> Dynamic:
    return Dynamic(range=IntRange(bits, narrow=True), per=per, clip=clip)


KINDS: Final = [("token", False), ("sequence", False), ("sequence", True)]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("per", "clip"), KINDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_dynamic_codes_of_all_16_bit_numbers_equal(bits: int, per: str, clip: bool, half: str) -> None:
    rng = np.random.default_rng(0)
    x_q = rng.permutation(np.arange(-(2**15), 2**15)).astype(np.int16).reshape(4, 64, 256)
    x_q[0, 7:] >>= 4  # a few tokens far above the others, which are clipped
    x_q[1] >>= 9  # small bounds, many ties
    x_q[2, 5] = 0
    mask = np.arange(64) < np.array([[64], [37], [1], [50]])
    _assert_same_dynamic(x_q, -7, float(np.float32(1e-3)), mask, _dynamic(bits, per, clip), half)


@given(st.data())
@example(None)
def test_dynamic_codes_of_ties_equal(data: st.DataObject | None) -> None:
    """x * top / bound is a tie where x = bound * odd / (2 top): all of them for a bound that 2 top divides."""
    bits = 4 if data is None else data.draw(st.integers(2, 8))
    factor = 3 if data is None else data.draw(st.integers(1, 32767 // (2 ** (bits - 1) - 1) // 2))
    per, clip = ("sequence", False) if data is None else data.draw(st.sampled_from(KINDS))
    half = "up" if data is None else data.draw(st.sampled_from(sorted(HALVES)))
    top = 2 ** (bits - 1) - 1
    odd = np.arange(-2 * top + 1, 2 * top, 2) * factor
    x_q = np.append(odd, 2 * top * factor).astype(np.int16)[None, None]
    scale = 2.0**-9 if data is None else data.draw(st.floats(2.0**-30, 2.0**30, width=32))
    _assert_same_dynamic(x_q, 0, scale, np.ones((1, 1), np.bool_), _dynamic(bits, per, clip), half)
