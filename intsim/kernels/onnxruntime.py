# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of ONNX Runtime's quantized operators on x86-64 CPUs, on integers.

Scales are float32, and every step below is one float32 operation rounded to nearest, ties to even, in the order of the
formula; RHE rounds a float32 to an integer, ties to even; sat clips to the range ``to``. ``fma`` rounds once, and is
what the kernels for CPUs with AVX2 and FMA use; those without it round twice.

Source: onnxruntime 1.31, ``CPUExecutionProvider``: ``core/mlas/lib`` (quantize, qladd, qlmul, qgemm, qlgavgpool,
logistic) and ``contrib_ops/cpu/quantization``. Operators are named as their nodes.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import INT32, UINT8, IntRange, Rounding, saturate
from intsim.float32 import Float32, add, decode, divide, encode, from_integer, multiply, to_dyadic, to_integer
from intsim.kernels.fused_multiply_add import fused_multiply_add as fma
from intsim.ops.requantize import requantize
from intsim.requantization import RULES

__all__ = [
    "dequantize_linear",
    "dynamic_quantize_linear",
    "matmul_integer",
    "matmul_integer_to_float",
    "qlinear_add",
    "qlinear_average_pool",
    "qlinear_global_average_pool",
    "qlinear_leaky_relu",
    "qlinear_matmul",
    "qlinear_mul",
    "qlinear_softmax",
    "quantize_linear",
    "sigmoid",
]

Integers: TypeAlias = NDArray[np.integer]
Int64: TypeAlias = NDArray[np.int64]

MAX_K: Final = (2**31 - 1) // 255**2  # of products of 8-bit codes less their zero points

# sigmoid(x) ~ 1/2 + x P(x**2) / Q(x**2) on [-18, 18], highest power first: Eigen's rational function
SIGMOID_BOUND: Final = 18
SIGMOID_P: Final = (0x2E403551, 0x33F84ECB, 0x387F413B, 0x3C0B7D58, 0x3E7E3F32)
SIGMOID_Q: Final = (0x2B2BC4F5, 0x31C5F27B, 0x36D317DD, 0x3ADF153F, 0x3DEF3E18, 0x3F7E3F34)


def quantize_linear(x: Float32, scale: Float32, *, zero_point: Integers | int = 0, to: IntRange) -> Integers:
    """Return sat(RHE(x / scale) + zero_point): a quotient, not a product with 1 / scale.

    Parameters
    ----------
    x
        Numbers, |x / scale| < 2**62.
    scale
        Step, per tensor or broadcast along an axis; so is ``zero_point``.
    zero_point
        Code of 0.
    to
        Range of the codes, 8 or 16 bits.
    """
    return saturate(to_integer(divide(x, scale), Rounding.HALF_EVEN) + zero_point, to)


def dequantize_linear(x_q: Integers, scale: Float32, *, zero_point: Integers | int = 0) -> Float32:
    """Return (x_q - zero_point) * scale, the difference an int32 (rounded to float32 where it takes over 24 bits)."""
    return multiply(from_integer(x_q.astype(np.int64) - zero_point), scale)


def dynamic_quantize_linear(x: Float32) -> tuple[Integers, Float32, int]:
    """Return uint8 codes of ``x``, their scale (max - min) / 255 and their zero point sat(RHE(0 - min / scale)).

    The range is widened to contain 0; the scale of a tensor of zeros is 1.
    """
    key = encode(Float32(np.abs(x.significand), x.exponent)).astype(np.int64)  # orders magnitudes
    key = np.where(x.significand < 0, -key, key)
    above, below = decode(key.max(initial=0)), decode(-key.min(initial=0))  # max and -min
    spread = add(above, below)
    scale = divide(spread, from_integer(np.array(255))) if spread.significand else from_integer(np.array(1))
    zero_point = int(saturate(to_integer(divide(below, scale), Rounding.HALF_EVEN), UINT8))
    return quantize_linear(x, scale, zero_point=zero_point, to=UINT8), scale, zero_point


def matmul_integer(
    a: Integers, b: Integers, *, a_zero_point: int = 0, b_zero_point: Integers | int = 0, bias: Integers | int = 0
) -> Integers:
    """Return the int32 sums sum_k (a - a_zero_point) (b - b_zero_point) + bias, (M, K) x (K, N) -> (M, N).

    Parameters
    ----------
    a, b
        8-bit codes, signed or not.
    a_zero_point, b_zero_point
        Codes of 0; that of ``b`` also (N,).
    bias
        int32, () or (N,): the C of QGemm.

    Raises
    ------
    ValueError
        If K is above ``MAX_K``, where the sum could leave int32.
    """
    if a.shape[-1] > MAX_K:
        msg = f"depth K must be at most {MAX_K}, got {a.shape[-1]}"
        raise ValueError(msg)
    acc: Int64 = (a.astype(np.int64) - a_zero_point) @ (b.astype(np.int64) - b_zero_point)
    return saturate(acc + bias, INT32)


def qlinear_matmul(
    acc: Integers, *, a_scale: Float32, b_scale: Float32, y_scale: Float32, y_zero_point: int, to: IntRange
) -> Integers:
    """Return sat(RHE(acc * ((a_scale * b_scale) / y_scale)) + y_zero_point) of the sums of ``matmul_integer``.

    QLinearMatMul, and QGemm with its C added to the sums. Rule ``xnnpack-fp32``: acc and the product are rounded to
    float32, and the zero point is added after rounding. ONNX defines it before (rule ``onnx-qlinear``).

    Parameters
    ----------
    acc
        (M, N) int32.
    a_scale, b_scale, y_scale
        Steps of the operands and of the result; that of ``b`` also (N,).
    y_zero_point, to
        Code of 0 and range of the result.
    """
    ratio = to_dyadic(divide(multiply(a_scale, b_scale), y_scale))
    return requantize(acc, ratio, to=to, rounding=RULES["xnnpack-fp32"], zero_point=y_zero_point)


def matmul_integer_to_float(
    acc: Integers, *, a_scale: Float32, b_scale: Float32, bias: Float32 | None = None
) -> Float32:
    """Return acc * (a_scale * b_scale) + bias: MatMulIntegerToFloat, DynamicQuantizeMatMul and QGemm without a y_scale.

    ``b_scale`` and ``bias`` are () or (N,).
    """
    y = multiply(from_integer(acc), multiply(a_scale, b_scale))
    return y if bias is None else add(y, bias)


def qlinear_add(
    a: Integers,
    b: Integers,
    *,
    scales: tuple[Float32, Float32, Float32],
    zero_points: tuple[int, int, int],
    to: IntRange,
) -> Integers:
    """Return sat(RHE(fma(a, r_a, fma(b, r_b, z - fma(r_a, z_a, r_b z_b))))), r_a = s_a / s and r_b = s_b / s.

    Parameters
    ----------
    a, b
        8-bit codes of one shape.
    scales, zero_points
        (s_a, s_b, s) and (z_a, z_b, z): of both operands and of the result.
    to
        Range of all three.
    """
    a_ratio, b_ratio = divide(scales[0], scales[2]), divide(scales[1], scales[2])
    a_zero, b_zero, zero = (from_integer(np.array(zero_point)) for zero_point in zero_points)
    shift = fma(a_ratio, a_zero, multiply(b_ratio, b_zero))
    constant = add(zero, Float32(-shift.significand, shift.exponent))
    y = fma(from_integer(a), a_ratio, fma(from_integer(b), b_ratio, constant))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)


def qlinear_mul(
    a: Integers,
    b: Integers,
    *,
    scales: tuple[Float32, Float32, Float32],
    zero_points: tuple[int, int, int],
    to: IntRange,
) -> Integers:
    """Return sat(RHE((a - z_a)(b - z_b) * ((s_a * s_b) / s) + z)): the zero point before rounding, without fma.

    Parameters as ``qlinear_add``.
    """
    ratio = divide(multiply(scales[0], scales[1]), scales[2])
    product = (a.astype(np.int64) - zero_points[0]) * (b.astype(np.int64) - zero_points[1])
    y = add(multiply(from_integer(product), ratio), from_integer(np.array(zero_points[2])))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)


def qlinear_leaky_relu(x: Float32, *, alpha: Float32) -> Float32:
    """Return x, or x * alpha where x < 0: the function whose table QLinearLeakyRelu builds.

    A table is ``quantize_linear(f(dequantize_linear(codes)))`` over the 256 codes.
    """
    slope = multiply(x, alpha)
    negative = x.significand < 0
    return Float32(np.where(negative, slope.significand, x.significand), np.where(negative, slope.exponent, x.exponent))


def sigmoid(x: Float32) -> Float32:
    """Return clip(1/2 + (x P(x**2)) / Q(x**2), 0, 1) for x clipped to [-18, 18], both polynomials by Horner with fma.

    The node Sigmoid, bit for bit, and the function whose table QLinearSigmoid builds.

    Error
    -----
    Against the correctly rounded sigmoid: about a third of random float32 inputs differ in the last places, enough to
    move an 8-bit code where the scale makes a near tie of it.
    """
    bound = from_integer(np.array(SIGMOID_BOUND))
    far = to_integer(Float32(np.abs(x.significand), x.exponent), Rounding.FLOOR) >= SIGMOID_BOUND
    significand = np.where(far, np.sign(x.significand) * bound.significand, x.significand)
    x = Float32(significand, np.where(far, bound.exponent, x.exponent))
    square = multiply(x, x)
    quotient = divide(multiply(_horner(square, SIGMOID_P), x), _horner(square, SIGMOID_Q))
    half = Float32(np.array(1), np.array(-1))
    y = add(quotient, half)
    low, high = y.significand < 0, to_integer(y, Rounding.FLOOR) >= 1
    return Float32(np.where(low, 0, np.where(high, 1, y.significand)), np.where(low | high, 0, y.exponent))


def _horner(x: Float32, coefficients: tuple[int, ...]) -> Float32:
    result, *rest = (decode(np.array(bits)) for bits in coefficients)
    for coefficient in rest:
        result = fma(result, x, coefficient)
    return result


def qlinear_softmax(x_q: Integers, table: Float32, *, one: int, zero_point: int, to: IntRange) -> Integers:
    """Return sat(RHE((e * one) / sum e) + zero_point) along the last axis, e = table[255 - max + x_q].

    Parameters
    ----------
    x_q
        (..., D) 8-bit codes.
    table
        (256,) exponentials c * exp(-(255 - i) * x_scale), of which c only keeps the sum of D inside float32:
        table[i] = float32(exp((i - 255 + t) * x_scale)), t = max(0, log(float32(FLT_MAX / D)) - 5) / x_scale, the
        logarithm a float32 and the rest float64. Constants, computed when the session is built.
    one
        floor(1 / y_scale), so that a scale of 1/255.5 still gives 255.
    zero_point, to
        Code of 0 and range of the result, that of ``x_q``.

    Raises
    ------
    OverflowError
        If e * one leaves float32, which one <= 148 D prevents; the kernel has an infinity there, and returns 0 or 127.

    Notes
    -----
    The sum is rounded to float32 after every addition, from left to right: the order of the row is part of the result.
    """
    code = x_q.astype(np.int64)
    index = code - code.max(axis=-1, keepdims=True) + 255
    e = Float32(table.significand[index], table.exponent[index])
    total = Float32(e.significand[..., :1], e.exponent[..., :1])
    for d in range(1, index.shape[-1]):
        total = add(total, Float32(e.significand[..., d : d + 1], e.exponent[..., d : d + 1]))
    share = divide(multiply(e, from_integer(np.array(one))), total)
    return saturate(to_integer(share, Rounding.HALF_EVEN) + zero_point, to)


def qlinear_global_average_pool(
    x_q: Integers, *, x_scale: Float32, x_zero_point: int, y_scale: Float32, y_zero_point: int, to: IntRange
) -> Integers:
    """Return sat(RHE(sum(x_q - x_zero_point) * (x_scale / (y_scale * N))) + y_zero_point), last axis of N codes.

    Rule ``xnnpack-fp32``. QLinearAveragePool comes here where its window is the whole image.
    """
    acc = saturate((x_q.astype(np.int64) - x_zero_point).sum(axis=-1), INT32)
    ratio = to_dyadic(divide(x_scale, multiply(y_scale, from_integer(np.array(x_q.shape[-1])))))
    return requantize(acc, ratio, to=to, rounding=RULES["xnnpack-fp32"], zero_point=y_zero_point)


def qlinear_average_pool(
    windows: Integers, *, x_scale: Float32, x_zero_point: int, y_scale: Float32, y_zero_point: int, to: IntRange
) -> Integers:
    """Return sat(RHE((sum x / N) / y_scale + y_zero_point)) over the last axis, x = (code - x_zero_point) * x_scale.

    The sum of each window of N codes, row by row, is rounded to float32 after every addition. The zero point is added
    before rounding.
    """
    x = dequantize_linear(windows, x_scale, zero_point=x_zero_point)
    total = Float32(x.significand[..., 0], x.exponent[..., 0])
    for n in range(1, windows.shape[-1]):
        total = add(total, Float32(x.significand[..., n], x.exponent[..., n]))
    mean = divide(total, from_integer(np.array(windows.shape[-1])))
    y = add(divide(mean, y_scale), from_integer(np.array(y_zero_point)))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)
