# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's quantized sums and products, and its tables."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.draws import RANGES, bits, code_array, float32, generators, near_ties, scales, zero_points
from kernels.onnxruntime_node import CONTRIB, FMA, Array, integers, node, row

from intsim.fixedpoint import IntRange, Rounding, saturate
from intsim.float32 import Float32, add, divide, from_integer, multiply, to_dyadic, to_integer
from intsim.kernels import onnxruntime as golden
from intsim.kernels.fused_multiply_add import fused_multiply_add
from intsim.ops.requantize import requantize
from intsim.requantization import RULES
from intsim.verify.witness import Witness


@st.composite
def pairs(draw, kind: str, *, product: bool) -> tuple[Any, ...]:
    """(a, b, (s_a, s_b, s), (z_a, z_b, z)): a result scale that makes a near tie of one pair of codes."""
    rng = draw(generators())
    a, b = code_array(rng, (64,), kind), code_array(rng, (64,), kind)
    a[:20], b[:20] = a[0], b[0]
    a_scale, b_scale = draw(scales()), draw(scales())
    zeros = tuple(draw(zero_points(kind)) for _ in range(3))
    u, w = float(a[0]) - float(zeros[0]), float(b[0]) - float(zeros[1])
    value = u * w * float(a_scale) * float(b_scale) if product else u * float(a_scale) + w * float(b_scale)
    return a, b, (a_scale, b_scale, draw(near_ties(value))), zeros


def binary(op: str) -> Callable[..., Array]:
    def run(a: Array, b: Array, steps: tuple[Any, ...], zeros: tuple[Any, ...]) -> Array:
        operands = (a, steps[0], zeros[0], b, steps[1], zeros[1], steps[2], zeros[2])
        return node(op, *operands, to=(a.dtype,), domain=CONTRIB)[0]

    return run


def binary_golden(function: Callable[..., Array]) -> Callable[..., Array]:
    def run(a: Array, b: Array, steps: tuple[Any, ...], zeros: tuple[Any, ...]) -> Array:
        s_a, s_b, s = (float32(step) for step in steps)
        z_a, z_b, z = (int(zero) for zero in zeros)
        return function(a, b, scales=(s_a, s_b, s), zero_points=(z_a, z_b, z), to=RANGES[a.dtype])

    return run


Triple = tuple[Any, Any, Any]


def add_rounding_apart(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    """The kernel for SSE2: every product and sum rounded."""
    r_a, r_b = divide(scales[0], scales[2]), divide(scales[1], scales[2])
    shift = add(multiply(r_a, float32(zero_points[0])), multiply(r_b, float32(zero_points[1])))
    constant = add(float32(zero_points[2]), Float32(-shift.significand, shift.exponent))
    y = add(add(constant, multiply(from_integer(a), r_a)), multiply(from_integer(b), r_b))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)


def add_other_order(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    s_a, s_b, s = scales
    z_a, z_b, z = zero_points
    return golden.qlinear_add(b, a, scales=(s_b, s_a, s), zero_points=(z_b, z_a, z), to=to)


def add_constant_rounded_twice(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    """As the source reads, r_a z_a + r_b z_b; compilers fuse the first product."""
    r_a, r_b = divide(scales[0], scales[2]), divide(scales[1], scales[2])
    shift = add(multiply(r_a, float32(zero_points[0])), multiply(r_b, float32(zero_points[1])))
    constant = add(float32(zero_points[2]), Float32(-shift.significand, shift.exponent))
    y = fused_multiply_add(from_integer(a), r_a, fused_multiply_add(from_integer(b), r_b, constant))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)


def add_dequantized(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    """Dequantize, add, quantize: ONNX's function body of it."""
    total = add(
        golden.dequantize_linear(a, scales[0], zero_point=zero_points[0]),
        golden.dequantize_linear(b, scales[1], zero_point=zero_points[1]),
    )
    return golden.quantize_linear(total, scales[2], zero_point=zero_points[2], to=to)


def mul_zero_point_last(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    ratio = to_dyadic(divide(multiply(scales[0], scales[1]), scales[2]))
    product = (integers(a) - zero_points[0]) * (integers(b) - zero_points[1])
    return requantize(product, ratio, to=to, rounding=RULES["xnnpack-fp32"], zero_point=zero_points[2])


def mul_fused(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    ratio = divide(multiply(scales[0], scales[1]), scales[2])
    product = from_integer((integers(a) - zero_points[0]) * (integers(b) - zero_points[1]))
    y = fused_multiply_add(product, ratio, float32(zero_points[2]))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)


@st.composite
def tables(draw, kind: str, function: Callable[[float], float]) -> tuple[Any, ...]:
    """(codes, x_scale, x_zero_point, y_scale, y_zero_point): all 256 codes, one of them a near tie."""
    to = RANGES[np.dtype(kind)]
    codes = np.arange(to.min, to.max + 1).astype(kind)
    x_scale, x_zero = draw(scales()), draw(zero_points(kind))
    code = draw(st.integers(0, 255))
    value = function(float(x_scale) * (float(codes[code]) - float(x_zero)))
    return codes, x_scale, x_zero, draw(near_ties(max(value, 2**-20), top=250)), draw(zero_points(kind))


def table(op: str, **attributes: Any) -> Callable[..., Array]:
    def run(codes: Array, *parameters: Any) -> Array:
        return node(op, codes, *parameters, to=(codes.dtype,), domain=CONTRIB, **attributes)[0]

    return run


def table_golden(function: Callable[[Float32], Float32]) -> Callable[..., Array]:
    def run(codes: Array, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any) -> Array:
        x = golden.dequantize_linear(codes, float32(x_scale), zero_point=int(x_zero))
        return golden.quantize_linear(function(x), float32(y_scale), zero_point=int(y_zero), to=RANGES[codes.dtype])

    return run


ALPHA: Final = 0.1


def leaky_relu(x: Float32) -> Float32:
    return golden.qlinear_leaky_relu(x, alpha=float32(ALPHA))


def leaky_relu_by_ratio(codes: Array, x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any) -> Array:
    """Codes times x_scale / y_scale, that times alpha where negative: no table."""
    ratio = divide(float32(x_scale), float32(y_scale))
    x = from_integer(integers(codes) - int(x_zero))
    y = golden.qlinear_leaky_relu(multiply(x, ratio), alpha=float32(ALPHA))
    return saturate(to_integer(y, Rounding.HALF_EVEN) + int(y_zero), RANGES[codes.dtype])


def exact_sigmoid(x: Float32) -> Float32:
    """The sigmoid rounded once, computed in float64."""
    return float32(1 / (1 + np.exp(-(x.significand * np.exp2(x.exponent)))))


def unbounded_sigmoid(x: Float32) -> Float32:
    real = x.significand * np.exp2(x.exponent)
    return float32(0.5 + 0.5 * np.tanh(0.5 * real))


@st.composite
def sigmoid_numbers(draw) -> tuple[Array]:
    rng = draw(generators())
    size = draw(st.sampled_from([0.1, 1, 10, 40]))
    return ((rng.standard_normal(250) * size).astype(np.float32),)


ADDITIONS: Final = {
    "without fma": binary_golden(add_rounding_apart),
    "constant without fma": binary_golden(add_constant_rounded_twice),
    "dequantize, add, quantize": binary_golden(add_dequantized),
    "a first": binary_golden(add_other_order),
}
MULTIPLICATIONS: Final = {
    "zero point after rounding": binary_golden(mul_zero_point_last),
    "with fma": binary_golden(mul_fused),
}

WITNESSES: Final[list[Witness]] = [
    *(
        row(
            "add",
            f"QLinearAdd {kind}",
            "qlinear_add",
            pairs(kind, product=False),
            binary("QLinearAdd"),
            binary_golden(golden.qlinear_add),
            neighbours=ADDITIONS,
            note=FMA,
        )
        for kind in ("uint8", "int8")
    ),
    *(
        row(
            "multiply",
            f"QLinearMul {kind}",
            "qlinear_mul",
            pairs(kind, product=True),
            binary("QLinearMul"),
            binary_golden(golden.qlinear_mul),
            neighbours=MULTIPLICATIONS,
        )
        for kind in ("uint8", "int8")
    ),
    row(
        "leaky relu",
        "QLinearLeakyRelu int8",
        "qlinear_leaky_relu",
        tables("int8", lambda x: x if x >= 0 else float(np.float32(ALPHA)) * x),
        table("QLinearLeakyRelu", alpha=ALPHA),
        table_golden(leaky_relu),
        neighbours={"code * (x_scale / y_scale)": leaky_relu_by_ratio},
    ),
    *(
        row(
            "sigmoid",
            f"QLinearSigmoid {kind}",
            "sigmoid",
            tables(kind, lambda x: 1 / (1 + np.exp(-max(x, -80)))),
            table("QLinearSigmoid"),
            table_golden(golden.sigmoid),
            neighbours={"correctly rounded": table_golden(exact_sigmoid), "by tanh": table_golden(unbounded_sigmoid)},
            note=FMA,
        )
        for kind in ("uint8", "int8")
    ),
    row(
        "sigmoid",
        "Sigmoid float32",
        "sigmoid",
        sigmoid_numbers(),
        lambda x: bits(node("Sigmoid", x, to=("float32",))[0]),
        lambda x: bits(golden.sigmoid(float32(x))),
        neighbours={"correctly rounded": lambda x: bits(exact_sigmoid(float32(x)))},
        note=FMA,
    ),
]
