# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of PyTorch's quantized CPU operators, on integers.

Scales are float32, and every step below is one float32 operation rounded to nearest, ties to even, in the order of the
formula; RHE rounds a float32 to an integer, ties to even; sat clips to the range ``to``; fma rounds once. Three engines
(``torch.backends.quantized.engine``) compute three different linear layers.

Source: torch 2.13 on x86-64: ``aten/src/ATen/native/quantized/cpu``, FBGEMM, QNNPACK, oneDNN 3.12.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import (
    INT32,
    UINT8,
    IntRange,
    Rounding,
    bit_length,
    rounding_divide,
    rounding_right_shift,
    saturate,
)
from intsim.float32 import Float32, add, divide, from_integer, multiply, to_dyadic, to_integer
from intsim.kernels.fused_multiply_add import fused_multiply_add as fma
from intsim.ops.requantize import requantize
from intsim.requantization import RULES

__all__ = [
    "dequantize",
    "fake_quantize",
    "linear_fbgemm",
    "linear_onednn",
    "linear_qnnpack",
    "quantize_per_channel",
    "quantize_per_tensor",
    "quantized_add",
    "quantized_add_qnnpack",
    "quantized_mul",
    "sigmoid_qnnpack",
    "softmax_qnnpack",
]

Integers: TypeAlias = NDArray[np.integer[Any]]


def _reciprocal(x: Float32) -> Float32:
    return divide(from_integer(np.array(1)), x)


def quantize_per_tensor(x: Float32, scale: Float32, *, zero_point: int, to: IntRange) -> Integers:
    """Return sat(RHE(fma(x, 1 / scale, zero_point))): a product with the reciprocal, the zero point before rounding.

    ``torch.quantize_per_tensor`` to quint8 and qint8.

    Parameters
    ----------
    x
        Numbers, |x / scale| < 2**62.
    scale
        Step.
    zero_point, to
        Code of 0 and range of the codes.
    """
    zero = from_integer(np.array(zero_point))
    return saturate(to_integer(fma(x, _reciprocal(scale), zero), Rounding.HALF_EVEN), to)


def quantize_per_channel(x: Float32, scale: Float32, *, zero_point: Integers | int, to: IntRange) -> Integers:
    """Return sat(RHE(x * (1 / scale) + zero_point)): as ``quantize_per_tensor``, the product rounded by itself.

    ``torch.quantize_per_channel``, and ``torch.quantize_per_tensor`` to qint32; ``scale`` and ``zero_point`` broadcast.
    """
    zero = from_integer(np.asarray(zero_point))
    return saturate(to_integer(add(multiply(x, _reciprocal(scale)), zero), Rounding.HALF_EVEN), to)


def dequantize(x_q: Integers, scale: Float32, *, zero_point: Integers | int = 0) -> Float32:
    """Return (x_q - zero_point) * scale."""
    return multiply(from_integer(x_q.astype(np.int64) - zero_point), scale)


def fake_quantize(x: Float32, scale: Float32, *, zero_point: Integers | int, to: IntRange) -> Float32:
    """Return (sat(RHE(x * (1 / scale)) + zero_point) - zero_point) * scale: the zero point after rounding.

    ``torch.fake_quantize_per_tensor_affine`` and ``_per_channel_affine``. What training simulates and what
    ``quantize_per_tensor`` computes differ by a step in ties, for odd zero points.
    """
    codes = saturate(to_integer(multiply(x, _reciprocal(scale)), Rounding.HALF_EVEN) + zero_point, to)
    return dequantize(codes, scale, zero_point=zero_point)


def quantized_add(
    a: Integers,
    b: Integers,
    *,
    scales: tuple[Float32, Float32, Float32],
    zero_points: tuple[int, int, int],
    to: IntRange,
    vector: int = 64,
) -> Integers:
    """Return a + b in the scale of the result, element by element in a way that depends on the element's place.

    Whole vectors from the start: x = fma(code, scale, -zero_point * scale), sat(RHE((x_a + x_b) * (1 / s)) + z).
    The elements left over: x = (code - zero_point) * scale, sat(RHE((x_a + x_b) * (1 / s) + z)).

    Parameters
    ----------
    a, b
        (N,) 8-bit codes of a contiguous tensor.
    scales, zero_points
        (s_a, s_b, s) and (z_a, z_b, z): of both operands and of the result.
    to
        Range of all three.
    vector
        Codes that are worked on together: 64 with AVX-512, and with AVX2 too.
    """
    whole = len(a) - len(a) % vector
    x: list[Float32] = []
    for codes, scale, zero_point in zip((a, b), scales[:2], zero_points[:2], strict=True):
        offset = multiply(scale, from_integer(np.array(-zero_point)))
        fused = fma(from_integer(codes[:whole]), scale, offset)
        apart = dequantize(codes[whole:], scale, zero_point=zero_point)
        x.append(
            Float32(
                np.concatenate([fused.significand, apart.significand]), np.concatenate([fused.exponent, apart.exponent])
            )
        )
    y = multiply(add(*x), _reciprocal(scales[2]))
    after = to_integer(y, Rounding.HALF_EVEN) + zero_points[2]
    before = to_integer(add(y, from_integer(np.array(zero_points[2]))), Rounding.HALF_EVEN)
    return saturate(np.where(np.arange(len(a)) < whole, after, before), to)


def quantized_add_qnnpack(
    a: Integers, b: Integers, *, scales: tuple[Float32, Float32, Float32], zero_points: tuple[int, int, int]
) -> Integers:
    """Return sat(RHA(((a - z_a) m_a + (b - z_b) m_b) / 2**t) + z), uint8, RHA rounding ties away from zero.

    m_a = RHE(r_a 2**t) of r_a = s_a / s, likewise m_b, and 2**(21 - t) the power of two at or below the larger ratio.

    Bounds
    ------
    2**-14 <= r < 2**8, or QNNPACK refuses; so 13 < t <= 35 and the larger multiplier takes 22 bits.
    """
    ratios = [divide(scale, scales[2]) for scale in scales[:2]]
    shift = 22 - int(max(_top(ratio) for ratio in ratios))
    acc = np.zeros((), np.int64)
    for codes, ratio, zero_point in zip((a, b), ratios, zero_points[:2], strict=True):
        multiplier = to_integer(Float32(ratio.significand, ratio.exponent + shift), Rounding.HALF_EVEN)
        acc = acc + (codes.astype(np.int64) - zero_point) * multiplier
    return saturate(rounding_right_shift(acc, shift, Rounding.HALF_AWAY) + zero_points[2], UINT8)


def _top(x: Float32) -> NDArray[np.int64]:
    """Return e for 2**(e - 1) <= x < 2**e."""
    return bit_length(x.significand) + x.exponent


def quantized_mul(
    a: Integers,
    b: Integers,
    *,
    scales: tuple[Float32, Float32, Float32],
    zero_points: tuple[int, int, int],
    to: IntRange,
) -> Integers:
    """Return sat(RHE((a - z_a)(b - z_b) * ((s_a * s_b) * (1 / s))) + z).

    Rule ``xnnpack-fp32``; parameters as ``quantized_add``.
    """
    ratio = to_dyadic(multiply(multiply(scales[0], scales[1]), _reciprocal(scales[2])))
    product = (a.astype(np.int64) - zero_points[0]) * (b.astype(np.int64) - zero_points[1])
    return requantize(product, ratio, to=to, rounding=RULES["xnnpack-fp32"], zero_point=zero_points[2])


def linear_fbgemm(
    acc: Integers, *, x_scale: Float32, w_scale: Float32, bias: Float32, y_scale: Float32, y_zero_point: int
) -> Integers:
    """Return sat(RHE((acc + bias / s) * (s / y_scale)) + y_zero_point), uint8, s = x_scale * w_scale.

    One step for the whole weight makes the sum fma(bias, 1 / s, acc) instead. Engines ``x86`` and ``fbgemm``.

    Parameters
    ----------
    acc
        (M, N) int32: sum_k (x - x_zero_point) w, exact.
    x_scale, w_scale, y_scale
        Steps; that of the weight () or (N,).
    bias
        (N,), or 0.
    y_zero_point
        Code of 0 of the result.
    """
    scale = multiply(x_scale, w_scale)
    x = from_integer(acc)
    per_tensor = w_scale.significand.ndim == 0
    x = fma(bias, _reciprocal(scale), x) if per_tensor else add(x, divide(bias, scale))
    y = multiply(x, divide(scale, y_scale))
    return saturate(to_integer(y, Rounding.HALF_EVEN) + y_zero_point, UINT8)


def linear_qnnpack(
    acc: Integers, *, x_scale: Float32, w_scale: Float32, bias: Float32, y_scale: Float32, y_zero_point: int
) -> Integers:
    """Return sat(RHE((acc + b) * ((x_scale * w_scale) * (1 / y_scale))) + y_zero_point), uint8.

    b = RHE(bias * (1 / (x_scale * w_scale))) is an int32. Rule ``xnnpack-fp32``. Engine ``qnnpack``; parameters as
    ``linear_fbgemm``.
    """
    scale = multiply(x_scale, w_scale)
    b = quantize_per_channel(bias, scale, zero_point=0, to=INT32)
    ratio = to_dyadic(multiply(scale, _reciprocal(y_scale)))
    return requantize(
        acc.astype(np.int64) + b, ratio, to=UINT8, rounding=RULES["xnnpack-fp32"], zero_point=y_zero_point
    )


def linear_onednn(
    acc: Integers, *, x_scale: Float32, w_scale: Float32, bias: Float32, y_scale: Float32, y_zero_point: int
) -> Integers:
    """Return sat(RHE(((acc * s_x) * s_w + bias) * (1 / s_y) + y_zero_point)), uint8: the zero point before rounding.

    Every scale s = 1 / (1 / scale) went through its reciprocal, which oneDNN's interface took once. Engine ``onednn``;
    parameters as ``linear_fbgemm``.
    """
    s_x, s_w, s_y = (_reciprocal(_reciprocal(scale)) for scale in (x_scale, w_scale, y_scale))
    x = add(multiply(multiply(from_integer(acc), s_x), s_w), bias)
    y = add(multiply(x, _reciprocal(s_y)), from_integer(np.array(y_zero_point)))
    return saturate(to_integer(y, Rounding.HALF_EVEN), UINT8)


def sigmoid_qnnpack(exponentials: Float32) -> Integers:
    """Return sat(RHE(256 * (1 / (1 + e)))), uint8 codes of scale 1/256, for e = exp(-x) rounded to float32.

    QNNPACK builds a table of it over the 256 codes, x = scale * (code - zero_point).
    """
    y = _reciprocal(add(from_integer(np.array(1)), exponentials))
    return saturate(to_integer(Float32(y.significand, y.exponent + 8), Rounding.HALF_EVEN), UINT8)


def softmax_qnnpack(x_q: Integers, table: Integers) -> Integers:
    """Return min((256 e + floor(S / 2)) // S, 255), uint8 codes of scale 1/256, e = table[255 - max + x], S = sum e.

    Parameters
    ----------
    x_q
        (..., D) uint8.
    table
        (256,) integers RHE(q * exp((i - 255) * x_scale)) in float64, q = min((2**32 - 1) / D, 2**23 - 1). Constants,
        computed when the operator is created.
    """
    code = x_q.astype(np.int64)
    e = table.astype(np.int64)[code - code.max(axis=-1, keepdims=True) + 255]
    total = e.sum(axis=-1, keepdims=True)
    half = rounding_right_shift(total, 1, Rounding.FLOOR)
    return saturate(rounding_divide(256 * e + half, total, Rounding.FLOOR), UINT8)
