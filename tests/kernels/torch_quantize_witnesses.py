# SPDX-License-Identifier: Apache-2.0
"""PyTorch's quantizers."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st
from kernels.draws import RANGES, bits, code_array, float32, generators, numbers, scales, zero_points
from kernels.torch_engine import QTYPES, Array, engine, integers, row, tensor

from intsim.fixedpoint import IntRange, Rounding, saturate
from intsim.float32 import Float32, add, divide, from_integer, multiply, to_integer
from intsim.kernels import torch as golden
from intsim.verify.witness import Witness


@st.composite
def quantizer(draw, kind: str) -> tuple[Any, ...]:
    """(x, scale, zero_point)."""
    rng, scale = draw(generators()), draw(scales())
    reach = 400 if kind != "int32" else draw(st.sampled_from([400, 2**14, 2**30]))
    zero = draw(zero_points(kind if kind != "int32" else "int16"))
    return numbers(rng, draw(st.sampled_from([7, 64, 120])), scale, reach=reach), scale, zero.astype(kind)


@st.composite
def channels(draw, kind: str) -> tuple[Any, ...]:
    """(x, scales, zero_points) of four rows."""
    rng = draw(generators())
    steps = np.array([draw(scales()) for _ in range(4)])
    x = np.stack([numbers(rng, 30, step, reach=400) for step in steps])
    return x, steps, code_array(rng, (4,), kind)


def quantize(x: Array, scale: Any, zero: Any) -> Array:
    with engine("x86"):
        kind = QTYPES[zero.dtype.name]
        return torch.quantize_per_tensor(torch.from_numpy(x), float(scale), int(zero), kind).int_repr().numpy()


def quantize_channels(x: Array, scale: Array, zero: Array) -> Array:
    with engine("x86"):
        steps, zeros = torch.from_numpy(scale.astype(np.float64)), torch.from_numpy(integers(zero))
        kind = QTYPES[zero.dtype.name]
        return torch.quantize_per_channel(torch.from_numpy(x), steps, zeros, 0, kind).int_repr().numpy()


def fake_quantize(x: Array, scale: Any, zero: Any) -> Array:
    to = RANGES[zero.dtype]
    y = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), float(scale), int(zero), to.min, to.max)
    return bits(y.numpy())


def fake_quantize_channels(x: Array, scale: Array, zero: Array) -> Array:
    to = RANGES[zero.dtype]
    steps, zeros = torch.from_numpy(scale), torch.from_numpy(zero.astype(np.int32))
    y = torch.fake_quantize_per_channel_affine(torch.from_numpy(x), steps, zeros, 0, to.min, to.max)
    return bits(y.numpy())


def quantized(function: Callable[..., Any]) -> Callable[..., Array]:
    def run(x: Array, scale: Any, zero: Any) -> Array:
        column = (slice(None), None) if zero.ndim else ()
        steps = float32(np.asarray(scale)[column])
        y = function(float32(x), steps, zero_point=integers(zero)[column], to=RANGES[zero.dtype])
        return bits(y) if isinstance(y, Float32) else y

    return run


def quantize_zero_point_after(x: Float32, scale: Float32, *, zero_point: Any, to: IntRange) -> Array:
    y = to_integer(multiply(x, divide(float32(1), scale)), Rounding.HALF_EVEN)
    return saturate(y + zero_point, to)


def quantize_by_division(x: Float32, scale: Float32, *, zero_point: Any, to: IntRange) -> Array:
    y = add(divide(x, scale), from_integer(np.asarray(zero_point)))
    return saturate(to_integer(y, Rounding.HALF_EVEN), to)


def fake(function: Callable[..., Array]) -> Callable[..., Float32]:
    """Dequantized codes of another quantizer."""

    def run(x: Float32, scale: Float32, *, zero_point: Any, to: IntRange) -> Float32:
        codes = function(x, scale, zero_point=zero_point, to=to)
        return golden.dequantize(codes, scale, zero_point=zero_point)

    return run


def fake_by_division(x: Float32, scale: Float32, *, zero_point: Any, to: IntRange) -> Float32:
    codes = saturate(to_integer(divide(x, scale), Rounding.HALF_EVEN) + zero_point, to)
    return golden.dequantize(codes, scale, zero_point=zero_point)


@st.composite
def dequantizer(draw, kind: str) -> tuple[Any, ...]:
    return code_array(draw(generators()), (120,), kind), draw(scales()), draw(zero_points(kind))


def dequantize(codes: Array, scale: Any, zero: Any) -> Array:
    with engine("x86"):
        return bits(tensor(codes, scale, zero).dequantize().numpy())


def dequantize_golden(codes: Array, scale: Any, zero: Any) -> Array:
    return bits(golden.dequantize(codes, float32(scale), zero_point=int(zero)))


def dequantize_apart(codes: Array, scale: Any, zero: Any) -> Array:
    offset = multiply(from_integer(-integers(zero)), float32(scale))
    return bits(add(multiply(from_integer(codes), float32(scale)), offset))


WITNESSES: Final[list[Witness]] = [
    *(
        row(
            "quantize",
            f"quantize_per_tensor q{kind}",
            "quantize_per_tensor",
            quantizer(kind),
            quantize,
            quantized(golden.quantize_per_tensor),
            neighbours={
                "product rounded": quantized(golden.quantize_per_channel),
                "zero point after rounding": quantized(quantize_zero_point_after),
                "x / scale": quantized(quantize_by_division),
            },
        )
        for kind in ("uint8", "int8")
    ),
    row(
        "quantize",
        "quantize_per_tensor qint32",
        "quantize_per_channel",
        quantizer("int32"),
        quantize,
        quantized(golden.quantize_per_channel),
        neighbours={
            "fma": quantized(golden.quantize_per_tensor),
            "zero point after rounding": quantized(quantize_zero_point_after),
            "x / scale": quantized(quantize_by_division),
        },
    ),
    *(
        row(
            "quantize",
            f"quantize_per_channel q{kind}",
            "quantize_per_channel",
            channels(kind),
            quantize_channels,
            quantized(golden.quantize_per_channel),
            neighbours={
                "zero point after rounding": quantized(quantize_zero_point_after),
                "x / scale": quantized(quantize_by_division),
            },
        )
        for kind in ("uint8", "int8")
    ),
    *(
        row(
            "dequantize",
            f"dequantize q{kind}",
            "dequantize",
            dequantizer(kind),
            dequantize,
            dequantize_golden,
            neighbours={"x * scale - zero_point * scale": dequantize_apart},
        )
        for kind in ("uint8", "int8")
    ),
    *(
        row(
            "fake quantize",
            f"fake_quantize_per_tensor_affine {kind}",
            "fake_quantize",
            quantizer(kind),
            fake_quantize,
            quantized(golden.fake_quantize),
            neighbours={
                "quantize_per_tensor": quantized(fake(golden.quantize_per_tensor)),
                "x / scale": quantized(fake_by_division),
            },
        )
        for kind in ("uint8", "int8")
    ),
    row(
        "fake quantize",
        "fake_quantize_per_channel_affine int8",
        "fake_quantize",
        channels("int8"),
        fake_quantize_channels,
        quantized(golden.fake_quantize),
        neighbours={
            "quantize_per_channel": quantized(fake(golden.quantize_per_channel)),
            "x / scale": quantized(fake_by_division),
        },
    ),
]
