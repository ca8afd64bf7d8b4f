# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's quantizers."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.draws import RANGES, bits, code_array, float32, generators, numbers, scales, zero_points
from kernels.onnxruntime_node import Array, integers, node, row

from intsim.fixedpoint import Rounding, saturate
from intsim.float32 import add, divide, from_integer, multiply, to_integer
from intsim.kernels import onnxruntime as golden
from intsim.verify.witness import Witness


@st.composite
def quantizer(draw, kind: str, *, axis: bool) -> tuple[Any, ...]:
    """(x, scale, zero_point), per tensor or for each of four rows."""
    rng = draw(generators())
    reach = 3 * 2 ** (8 * np.dtype(kind).itemsize - 1)
    if not axis:
        scale = draw(scales())
        return numbers(rng, 120, scale, reach=reach), scale, draw(zero_points(kind))
    steps = np.array([draw(scales()) for _ in range(4)])
    return np.stack([numbers(rng, 30, step, reach=reach) for step in steps]), steps, code_array(rng, (4,), kind)


def _column(parameter: Any) -> Any:
    parameter = np.asarray(parameter)
    return parameter[:, None] if parameter.ndim else parameter


def quantize(x: Array, scale: Any, zero: Any) -> Array:
    axis = {"axis": 0} if np.ndim(zero) else {}
    return node("QuantizeLinear", x, scale, zero, to=(np.asarray(zero).dtype,), **axis)[0]


def quantize_golden(x: Array, scale: Any, zero: Any) -> Array:
    to = RANGES[np.asarray(zero).dtype]
    zero_point = integers(_column(zero))
    return golden.quantize_linear(float32(x), float32(_column(scale)), zero_point=zero_point, to=to)


def quantize_by_reciprocal(x: Array, scale: Any, zero: Any) -> Array:
    ratio = multiply(float32(x), divide(float32(1), float32(_column(scale))))
    codes = to_integer(ratio, Rounding.HALF_EVEN) + integers(_column(zero))
    return saturate(codes, RANGES[np.asarray(zero).dtype])


def quantize_zero_point_first(x: Array, scale: Any, zero: Any) -> Array:
    y = add(divide(float32(x), float32(_column(scale))), from_integer(integers(_column(zero))))
    return saturate(to_integer(y, Rounding.HALF_EVEN), RANGES[np.asarray(zero).dtype])


def quantize_half_away(x: Array, scale: Any, zero: Any) -> Array:
    codes = to_integer(divide(float32(x), float32(_column(scale))), Rounding.HALF_AWAY) + integers(_column(zero))
    return saturate(codes, RANGES[np.asarray(zero).dtype])


@st.composite
def dequantizer(draw, kind: str) -> tuple[Any, ...]:
    rng = draw(generators())
    zero = np.dtype(kind).type(0) if kind == "int32" else draw(zero_points(kind))
    return code_array(rng, (120,), kind), draw(scales()), zero


def dequantize(x: Array, scale: Any, zero: Any) -> Array:
    return bits(node("DequantizeLinear", x, scale, zero, to=("float32",))[0])


def dequantize_golden(x: Array, scale: Any, zero: Any) -> Array:
    return bits(golden.dequantize_linear(x, float32(scale), zero_point=int(zero)))


def dequantize_apart(x: Array, scale: Any, zero: Any) -> Array:
    """x * scale - zero_point * scale: what vectorised kernels elsewhere precompute."""
    offset = multiply(from_integer(-integers(zero)), float32(scale))
    return bits(add(multiply(from_integer(x), float32(scale)), offset))


def dequantize_truncated(x: Array, scale: Any, zero: Any) -> Array:
    """The int32 code cut, not rounded, to 24 bits."""
    code = from_integer(np.sign(integers(x)) * (np.abs(integers(x)) // 256 * 256))
    return bits(multiply(code, float32(scale))) + 0 * integers(zero).astype(np.uint32)


@st.composite
def dynamic_rows(draw) -> Array:
    """float32 numbers whose range makes a scale of ties: all codes k + 1/2 of (max - min) / 255."""
    rng, scale = draw(generators()), draw(scales())
    x = numbers(rng, 120, scale, reach=draw(st.sampled_from([1, 100, 2**12])))
    if draw(st.booleans()):  # -min / scale a tie
        low = -scale * np.float32(draw(st.integers(0, 254)) + 0.5)
        return np.append(np.clip(x, low, low + 255 * scale), [low, low + 255 * scale]).astype(np.float32)
    sign = draw(st.sampled_from([-1, 0, 1]))
    return x if sign == 0 else (np.abs(x) * sign).astype(np.float32)


def dynamic(x: Array) -> Array:
    codes, scale, zero = node("DynamicQuantizeLinear", x, to=("uint8", "float32", "uint8"))
    return np.concatenate([integers(codes), integers(bits(scale)).reshape(1), integers(zero).reshape(1)])


def dynamic_golden(x: Array) -> Array:
    codes, scale, zero = golden.dynamic_quantize_linear(float32(x))
    return np.concatenate([integers(codes), integers(bits(scale)).reshape(1), np.array([zero])])


def dynamic_around(divisor: int) -> Callable[[Array], Array]:
    def run(x: Array) -> Array:
        low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
        spread = add(float32(high), float32(-low))
        scale = divide(spread, float32(divisor)) if spread.significand else float32(1)
        zero = int(saturate(to_integer(divide(float32(-low), scale), Rounding.HALF_UP), RANGES[np.dtype("uint8")]))
        codes = golden.quantize_linear(float32(x), scale, zero_point=zero, to=RANGES[np.dtype("uint8")])
        return np.concatenate([integers(codes), integers(bits(scale)).reshape(1), np.array([zero])])

    return run


QUANTIZERS: Final = {
    "x * (1 / scale)": quantize_by_reciprocal,
    "zero point before rounding": quantize_zero_point_first,
    "ties away from zero": quantize_half_away,
}

WITNESSES: Final[list[Witness]] = [
    *(
        row(
            "quantize",
            f"QuantizeLinear {kind}{', per axis' if axis else ''}",
            "quantize_linear",
            quantizer(kind, axis=axis),
            quantize,
            quantize_golden,
            neighbours=QUANTIZERS,
        )
        for kind, axis in (("uint8", False), ("int8", False), ("uint16", False), ("int16", False), ("int8", True))
    ),
    *(
        row(
            "dequantize",
            f"DequantizeLinear {kind}",
            "dequantize_linear",
            dequantizer(kind),
            dequantize,
            dequantize_golden,
            neighbours={"code cut to 24 bits": dequantize_truncated}
            if kind == "int32"
            else {"x * scale - zero_point * scale": dequantize_apart},
        )
        for kind in ("uint8", "int8", "int16", "int32")
    ),
    row(
        "quantize",
        "DynamicQuantizeLinear uint8",
        "dynamic_quantize_linear",
        st.tuples(dynamic_rows()),
        dynamic,
        dynamic_golden,
        neighbours={"range / 256": dynamic_around(256), "zero point rounded half up": dynamic_around(255)},
    ),
]
