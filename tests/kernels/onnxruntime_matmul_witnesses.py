# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's products of 8-bit matrices, and what follows them."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.draws import RANGES, bits, code_array, float32, generators, near_ties, scales, zero_points
from kernels.onnxruntime_node import CONTRIB, VNNI, Array, integers, node, row
from kernels.onnxruntime_quantize_witnesses import dynamic_rows

from intsim.fixedpoint import saturate
from intsim.float32 import divide, from_integer, multiply, to_dyadic
from intsim.kernels import onnxruntime as golden
from intsim.kernels.fused_multiply_add import fused_multiply_add
from intsim.ops.requantize import requantize
from intsim.requantization import RULES
from intsim.verify.witness import Witness


@st.composite
def products(draw, a_kind: str, b_kind: str) -> tuple[Any, ...]:
    """(a, b, a_zero_point, b_zero_points): K on both sides of what float32 holds exactly."""
    rng = draw(generators())
    rows, depth = draw(st.integers(1, 8)), draw(st.sampled_from([1, 3, 16, 67, 600]))
    columns = draw(st.sampled_from([1, 16, 37, 40]))
    b_zero = code_array(rng, (columns,), b_kind)
    return (
        code_array(rng, (rows, depth), a_kind),
        code_array(rng, (depth, columns), b_kind),
        draw(zero_points(a_kind)),
        np.full_like(b_zero, b_zero[0]) if draw(st.booleans()) else b_zero,
    )


def accumulator(a: Array, b: Array, a_zero: Any, b_zero: Any, bias: Any = 0) -> Array:
    return golden.matmul_integer(a, b, a_zero_point=int(a_zero), b_zero_point=integers(b_zero), bias=integers(bias))


@st.composite
def rescaled_products(draw, a_kind: str, b_kind: str, *, bias: bool) -> tuple[Any, ...]:
    """(a, b, a_zero_point, b_zero_points, bias, a_scale, b_scales, y_scale, y_zero_point), near ties in column 0."""
    a, b, a_zero, b_zero = draw(products(a_kind, b_kind))
    rng = draw(generators())
    bound = draw(st.sampled_from([1, 2**10, 2**24]))
    c = rng.integers(-bound, bound, len(b_zero)).astype(np.int32) if bias else np.zeros(len(b_zero), np.int32)
    a_scale = draw(scales())
    b_scale = np.full(len(b_zero), draw(scales()))
    if draw(st.booleans()):
        b_scale = (b_scale * rng.uniform(0.5, 2, len(b_zero))).astype(np.float32)
    acc = accumulator(a, b, a_zero, b_zero, c)
    column = rng.integers(len(b_zero))
    y_scale = draw(near_ties(float(acc[0, column]) * float(a_scale) * float(b_scale[column])))
    return a, b, a_zero, b_zero, c, a_scale, b_scale, y_scale, draw(zero_points(a_kind))


def matmul_integer(a: Array, b: Array, a_zero: Any, b_zero: Any) -> Array:
    return node("MatMulInteger", a, b, a_zero, b_zero, to=("int32",))[0]


def pairs_saturated(a: Array, b: Array, a_zero: Any, b_zero: Any) -> Array:
    """vpmaddubsw: products of uint8 and int8 codes, two by two, in 16 bits; zero points corrected afterwards."""
    x, w = integers(a), integers(b)
    if x.shape[1] % 2:
        x, w = np.pad(x, ((0, 0), (0, 1))), np.pad(w, ((0, 1), (0, 0)))
    each = x[:, :, None] * w[None]
    pairs = saturate(each[:, ::2] + each[:, 1::2], RANGES[np.dtype("int16")]).astype(np.int64).sum(axis=1)
    zero = int(a_zero)
    correction = integers(b_zero) * x.sum(1, keepdims=True) + zero * w.sum(0) - zero * integers(b_zero) * a.shape[1]
    return (pairs - correction).astype(np.int32)


def qlinear_matmul(a: Array, b: Array, a_zero: Any, b_zero: Any, _: Any, *scales_and_zero: Any) -> Array:
    a_scale, b_scale, y_scale, y_zero = scales_and_zero
    return node("QLinearMatMul", a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, to=(a.dtype,))[0]


def qgemm(a: Array, b: Array, a_zero: Any, b_zero: Any, c: Any, *scales_and_zero: Any) -> Array:
    a_scale, b_scale, y_scale, y_zero = scales_and_zero
    operands = (a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero)
    return node("QGemm", *operands, to=(a.dtype,), domain=CONTRIB)[0]


def requantized(*operands: Any) -> Array:
    a, b, a_zero, b_zero, c, a_scale, b_scale, y_scale, y_zero = operands
    return golden.qlinear_matmul(
        accumulator(a, b, a_zero, b_zero, c),
        a_scale=float32(a_scale),
        b_scale=float32(b_scale),
        y_scale=float32(y_scale),
        y_zero_point=int(y_zero),
        to=RANGES[a.dtype],
    )


def requantized_by(rule: str) -> Callable[..., Array]:
    def run(*operands: Any) -> Array:
        a, b, a_zero, b_zero, c, a_scale, b_scale, y_scale, y_zero = operands
        real = float(a_scale) * b_scale.astype(np.float64) / float(y_scale)
        return requantize(
            accumulator(a, b, a_zero, b_zero, c),
            RULES[rule].ratio(real),
            to=RANGES[a.dtype],
            rounding=RULES[rule],
            zero_point=int(y_zero),
        )

    return run


def scale_divided_first(*operands: Any) -> Array:
    a, b, a_zero, b_zero, c, a_scale, b_scale, y_scale, y_zero = operands
    ratio = to_dyadic(multiply(float32(a_scale), divide(float32(b_scale), float32(y_scale))))
    acc = accumulator(a, b, a_zero, b_zero, c)
    return requantize(acc, ratio, to=RANGES[a.dtype], rounding=RULES["xnnpack-fp32"], zero_point=int(y_zero))


def to_float(*operands: Any) -> Array:
    a, b, a_zero, b_zero, _, a_scale, b_scale, y_scale, _ = operands
    bias = float_bias(y_scale, b_scale)
    return bits(
        node("MatMulIntegerToFloat", a, b, a_scale, b_scale, a_zero, b_zero, bias, to=("float32",), domain=CONTRIB)[0]
    )


def float_bias(y_scale: Any, b_scale: Array) -> Array:
    return (np.float32(y_scale) * (np.arange(len(b_scale)) + np.float32(0.3))).astype(np.float32)


def to_float_golden(*operands: Any) -> Array:
    a, b, a_zero, b_zero, _, a_scale, b_scale, y_scale, _ = operands
    bias = float32(float_bias(y_scale, b_scale))
    acc = accumulator(a, b, a_zero, b_zero)
    return bits(golden.matmul_integer_to_float(acc, a_scale=float32(a_scale), b_scale=float32(b_scale), bias=bias))


def to_float_fused(*operands: Any) -> Array:
    a, b, a_zero, b_zero, _, a_scale, b_scale, y_scale, _ = operands
    scale = multiply(float32(a_scale), float32(b_scale))
    acc = from_integer(accumulator(a, b, a_zero, b_zero))
    return bits(fused_multiply_add(acc, scale, float32(float_bias(y_scale, b_scale))))


@st.composite
def dynamic_products(draw) -> tuple[Any, ...]:
    x, scale = draw(dynamic_rows())[-120:].reshape(4, -1), draw(scales())
    rng = draw(generators())
    columns = draw(st.sampled_from([1, 5, 16, 37]))
    b_scale = (scale * rng.uniform(0.5, 2, columns)).astype(np.float32)
    bias = (rng.standard_normal(columns) * scale * 100).astype(np.float32)
    return x, code_array(rng, (x.shape[1], columns), "int8"), b_scale, code_array(rng, (columns,), "int8"), bias


def dynamic_matmul(x: Array, b: Array, b_scale: Array, b_zero: Array, bias: Array) -> Array:
    operands = (x, b, b_scale, b_zero, bias)
    return bits(node("DynamicQuantizeMatMul", *operands, to=("float32",), domain=CONTRIB)[0])


def dynamic_matmul_golden(x: Array, b: Array, b_scale: Array, b_zero: Array, bias: Array) -> Array:
    codes, scale, zero = golden.dynamic_quantize_linear(float32(x))
    acc = accumulator(codes, b, zero, b_zero)
    return bits(golden.matmul_integer_to_float(acc, a_scale=scale, b_scale=float32(b_scale), bias=float32(bias)))


def dynamic_matmul_fused(x: Array, b: Array, b_scale: Array, b_zero: Array, bias: Array) -> Array:
    codes, scale, zero = golden.dynamic_quantize_linear(float32(x))
    acc = from_integer(accumulator(codes, b, zero, b_zero))
    return bits(fused_multiply_add(acc, multiply(scale, float32(b_scale)), float32(bias)))


PRODUCTS: Final = (("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8"))
REQUANTIZERS: Final = {
    "onnx-qlinear": requantized_by("onnx-qlinear"),
    "xnnpack-rndnu": requantized_by("xnnpack-rndnu"),
    "dyadic": requantized_by("dyadic"),
    "a_scale * (b_scale / y_scale)": scale_divided_first,
}

WITNESSES: Final[list[Witness]] = [
    *(
        row(
            "matmul",
            f"MatMulInteger {a} x {b}, zero points per column",
            "matmul_integer",
            products(a, b),
            matmul_integer,
            accumulator,
            neighbours={"pairs saturated to 16 bits": pairs_saturated}
            if (a, b) == ("uint8", "int8")
            else {"zero point of b ignored": lambda a, b, a_zero, _: accumulator(a, b, a_zero, 0)},
            note=VNNI if b == "int8" else "",
        )
        for a, b in PRODUCTS
    ),
    *(
        row(
            "matmul, requantize",
            f"QLinearMatMul {a} x {b} -> {a}, per column",
            "xnnpack-fp32",
            rescaled_products(a, b, bias=False),
            qlinear_matmul,
            requantized,
            neighbours=REQUANTIZERS,
            note=VNNI if b == "int8" else "",
        )
        for a, b in PRODUCTS
    ),
    *(
        row(
            "matmul, requantize",
            f"QGemm {a} x {b} + int32 -> {a}, per column",
            "xnnpack-fp32",
            rescaled_products(a, b, bias=True),
            qgemm,
            requantized,
            neighbours=REQUANTIZERS,
            note=VNNI,
        )
        for a, b in PRODUCTS[1:]
    ),
    row(
        "matmul, dequantize",
        "MatMulIntegerToFloat uint8 x int8 + float32",
        "matmul_integer_to_float",
        rescaled_products("uint8", "int8", bias=False),
        to_float,
        to_float_golden,
        neighbours={"with fma": to_float_fused},
        note=VNNI,
    ),
    row(
        "quantize, matmul, dequantize",
        "DynamicQuantizeMatMul float32 x int8 + float32",
        "matmul_integer_to_float",
        dynamic_products(),
        dynamic_matmul,
        dynamic_matmul_golden,
        neighbours={"with fma": dynamic_matmul_fused},
        note=VNNI,
    ),
]

NOT_CLAIMED: Final[list[tuple[str, str, str, str]]] = [
    (
        "matmul",
        "MatMulNBits, 4-bit blocks",
        "onnxruntime",
        (
            "sums float32 in an order that depends on the shape: a row alone and in a batch of five differs in 546 of "
            "640 outputs (K = 128, N = 32, blocks of 32), at accuracy_level 4 too"
        ),
    ),
]
