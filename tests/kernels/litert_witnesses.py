# SPDX-License-Identifier: Apache-2.0
"""LiteRT's products, FULLY_CONNECTED and BATCH_MATMUL, held against ``intsim.kernels.litert``."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from kernels.litert_flatbuffer import OPTIMIZED, REFERENCE, XNNPACK, Tensor, constant, model, run, scale_tuples
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, Dyadic, IntRange, Rounding, rounding_right_shift
from intsim.kernels import litert
from intsim.verify.witness import Witness

SEEDS: Final = st.integers(0, 2**32 - 1)
TRIES: Final = 16
X86: Final = "x86-64 with AVX-512; one thread"


@st.composite
def fully_connected_operands(
    draw: st.DrawFn,
    *,
    weights: IntRange,
    to: IntRange,
    bias_dtype: Any,
    per_channel: bool,
    rules: list[litert.Requantize],
) -> tuple[Any, ...]:
    """Draw small products and biases that carry the first row next to ties, best where the rules disagree on them."""
    rng = np.random.default_rng(draw(SEEDS))
    units, depth, rows = 64, draw(st.sampled_from([1, 7, 32])), 5
    # of a small ratio, sums reach so close to ties that the last bit of a float decides
    high = draw(st.sampled_from([2**-2, 2**-10]))
    ranges = [(2**-14, high)] * (4 if per_channel else 1)
    x_scale, y_scale, *w_scale = draw(scale_tuples((2**-8, 2**4 * high), (2**-6, 1), *ranges))
    w_scale = np.resize(w_scale, units if per_channel else 1)
    zero_points = (0, 0, 0) if to is INT16 else (draw(st.integers(-128, 127)), 0, draw(st.integers(-128, 127)))
    small = draw(st.sampled_from([1, 4, 128]))
    x_q = (zero_points[0] + rng.integers(-small, small, (rows, depth))).clip(to.min, to.max).astype(to.dtype)
    w_q = rng.integers(-min(small, weights.max), small, (units, depth), weights.dtype)
    halves = rng.integers(2 * to.min, 2 * to.max, (TRIES, units)) / 2 - zero_points[2]
    sums = np.rint(halves * y_scale / (x_scale * w_scale)) + rng.integers(-1, 2, (TRIES, units))
    sums = sums.clip(-(2**30), 2**30).astype(np.int64)
    scales = [Fraction(x_scale) * Fraction(each) for each in w_scale]
    first, *others = [rule(sums, scales, Fraction(y_scale)) for rule in rules]
    rare = sum(np.arange(1, len(others) + 1)[:, None, None] * (np.array(others) != first))
    bias = np.take_along_axis(sums, rare.argmax(axis=0)[None], axis=0)[0]
    bias -= (x_q[0].astype(np.int64) - zero_points[0]) @ w_q.T
    return x_q, w_q, bias.astype(bias_dtype), (x_scale, w_scale, y_scale), zero_points


def fully_connected(
    x_q: NDArray[Any], w_q: NDArray[Any], bias: NDArray[Any], scales: Any, zero_points: Any, *, resolver: Any
) -> NDArray[Any]:
    (x_scale, w_scale, y_scale), (x_zero_point, _, y_zero_point) = scales, zero_points
    options = schema.FullyConnectedOptionsT()
    if x_q.dtype == np.int16:
        options.quantizedBiasType = schema.TensorType.INT64 if bias.dtype == np.int64 else schema.TensorType.INT32
    tensors = [
        Tensor(x_q.shape, x_q.dtype, x_scale, x_zero_point),
        constant(w_q, w_scale),
        constant(bias, np.float32(x_scale) * np.float32(w_scale)),
    ]
    output = Tensor((x_q.shape[0], w_q.shape[0]), x_q.dtype, y_scale, y_zero_point)
    return run(model("FULLY_CONNECTED", tensors, output, options, version=12), x_q, resolver=resolver)


def golden(
    x_q: NDArray[Any], w_q: NDArray[Any], bias: Any, scales: Any, zero_points: Any, *, requantize: litert.Requantize
) -> NDArray[Any]:
    x_scale, w_scale, y_scale = scales
    return litert.matmul(
        x_q,
        w_q,
        bias,
        scales=(Fraction(x_scale), [Fraction(scale) for scale in np.atleast_1d(w_scale)], Fraction(y_scale)),
        zero_points=zero_points,
        to=INT8 if x_q.dtype == np.int8 else INT16,
        requantize=requantize,
    )


# neighbours


def once(rounding: Rounding, acc: NDArray[np.int64], scales: list[Fraction], y_scale: Fraction) -> NDArray[np.int64]:
    """One exact rounding of the 31-bit product."""
    exact = litert.multipliers(scales, y_scale)
    return rounding_right_shift(acc * exact.multiplier, exact.shift, rounding)


def float64_once(acc: NDArray[np.int64], scales: list[Fraction], y_scale: Fraction) -> NDArray[np.int64]:
    """The product with the float64 ratio, not rounded to float64 before it is rounded to an integer."""
    ratios = np.resize([litert.nearest(Fraction(scale, y_scale), 53) for scale in scales], acc.shape[-1])
    exact = [
        litert.round_fraction(int(a) * r, Rounding.HALF_AWAY) for row in acc for a, r in zip(row, ratios, strict=True)
    ]
    return np.reshape(exact, acc.shape)


def product_once(
    acc: NDArray[np.int64], scales: list[Fraction], y_scale: Fraction, rounding: Rounding
) -> NDArray[np.int64]:
    """Gemmlowp's two roundings with the product of one pair of scales not rounded to float32."""
    exact = litert.multipliers(scales * 2, y_scale)
    multiplier = Dyadic(exact.multiplier[:1], exact.shift[:1])
    return litert.multiply_by_quantized_multiplier(acc, multiplier, rounding)


def exact_scale(acc: NDArray[np.int64], scales: list[Fraction], y_scale: Fraction) -> NDArray[np.int64]:
    """XNNPACK's rule with the ratio rounded to float32 once."""
    one = Fraction(1)
    return litert.requantize_xnnpack(acc, [litert.nearest(Fraction(scale, y_scale), 24) for scale in scales], one)


NEIGHBOURS: Final[dict[str, litert.Requantize]] = {
    "requantize_reference": litert.requantize_reference,
    "requantize_gemmlowp": litert.requantize_gemmlowp,
    "requantize_ruy": litert.requantize_ruy,
    "requantize_int64": litert.requantize_int64,
    "requantize_xnnpack": litert.requantize_xnnpack,
    "one rounding, ties up": partial(once, Rounding.HALF_UP),
    "one rounding, ties to even": partial(once, Rounding.HALF_EVEN),
}
PER_TENSOR: Final[dict[str, dict[str, litert.Requantize]]] = {
    "requantize_reference": {"product not rounded to float64": float64_once},
    "requantize_xnnpack": {"ratio rounded once": exact_scale},
    "requantize_ruy": {"product of scales not rounded": partial(product_once, rounding=Rounding.HALF_UP)},
}


def neighbours(rule: str, *, per_channel: bool = False) -> dict[str, litert.Requantize]:
    """Return the other rules, the ones that differ least last."""
    return {name: each for name, each in NEIGHBOURS.items() if name != rule} | (
        {} if per_channel else PER_TENSOR.get(rule, {})
    )


def witness(
    kernel: str, rule: str, operands: Any, device: Callable[..., Any], near: dict[str, litert.Requantize]
) -> Witness:
    return Witness(
        operator="matmul",
        kernel=kernel,
        package="ai-edge-litert",
        rule=f"kernels.litert.{rule}",
        operands=operands,
        device=device,
        golden=partial(golden, requantize=getattr(litert, rule)),
        neighbours={name: partial(golden, requantize=each) for name, each in near.items()},
        note=X86,
    )


def fully_connected_witness(kernel: str, rule: str, resolver: Any, *, to: IntRange = INT8, **kind: Any) -> Witness:
    settings = {"weights": INT8, "bias_dtype": np.int32, "per_channel": False} | kind
    near = neighbours(rule, per_channel=settings["per_channel"])
    operands = fully_connected_operands(to=to, rules=[getattr(litert, rule), *near.values()], **settings)
    return witness(f"FULLY_CONNECTED, {kernel}", rule, operands, partial(fully_connected, resolver=resolver), near)


# BATCH_MATMUL


@st.composite
def batch_matmul_operands(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw two activations, the depth small so that sums are few and ties many."""
    rng = np.random.default_rng(draw(SEEDS))
    depth, small = draw(st.sampled_from([1, 3, 64])), draw(st.sampled_from([4, 128]))
    zero_points = tuple(draw(st.lists(st.integers(-128, 127), min_size=3, max_size=3)))
    x_q, w_q = (
        (zero_point + rng.integers(-small, small, shape)).clip(-128, 127).astype(np.int8)
        for zero_point, shape in zip(zero_points, [(2, 12, depth), (2, 20, depth)], strict=False)
    )
    scales = draw(scale_tuples((2**-6, 1), (2**-6, 1), (2**-4, 4)))
    return x_q, w_q, None, scales, zero_points


def batch_matmul(
    x_q: NDArray[Any], w_q: NDArray[Any], _: None, scales: Any, zero_points: Any, *, resolver: Any
) -> NDArray[Any]:
    options = schema.BatchMatMulOptionsT(adjY=True)
    tensors = [Tensor(q.shape, q.dtype, scales[i], zero_points[i]) for i, q in enumerate((x_q, w_q))]
    output = Tensor((*x_q.shape[:-1], w_q.shape[-2]), np.int8, scales[2], zero_points[2])
    return run(model("BATCH_MATMUL", tensors, output, options, version=4), x_q, w_q, resolver=resolver)


WITNESSES: Final = [
    fully_connected_witness("int8, reference resolver", "requantize_reference", REFERENCE),
    fully_connected_witness(
        "int8 per channel, reference resolver", "requantize_reference", REFERENCE, per_channel=True
    ),
    fully_connected_witness("int8, optimized resolver", "requantize_ruy", OPTIMIZED),
    fully_connected_witness("int8 per channel, optimized resolver", "requantize_ruy", OPTIMIZED, per_channel=True),
    fully_connected_witness("int8, XNNPACK", "requantize_xnnpack", XNNPACK),
    fully_connected_witness("int8 per channel, XNNPACK", "requantize_xnnpack", XNNPACK, per_channel=True),
    fully_connected_witness(
        "int16 x int8, int64 bias", "requantize_reference", OPTIMIZED, to=INT16, bias_dtype=np.int64
    ),
    fully_connected_witness(
        "int16 x int16, int64 bias", "requantize_int64", REFERENCE, to=INT16, weights=INT16, bias_dtype=np.int64
    ),
    fully_connected_witness("int16 x int8, int32 bias, optimized resolver", "requantize_ruy", OPTIMIZED, to=INT16),
    *(
        witness(
            f"BATCH_MATMUL, int8, {name}",
            "requantize_gemmlowp",
            batch_matmul_operands(),
            partial(batch_matmul, resolver=resolver),
            neighbours("requantize_gemmlowp"),
        )
        for name, resolver in [("reference resolver", REFERENCE), ("optimized resolver", OPTIMIZED)]
    ),
]
