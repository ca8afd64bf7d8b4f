# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's quantized softmax and means."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.draws import RANGES, code_array, float32, generators, near_ties, scales, zero_points
from kernels.onnxruntime_node import CONTRIB, Array, integers, node, row

from intsim.fixedpoint import IntRange, Rounding, rounding_divide, saturate
from intsim.float32 import Float32, divide, from_integer, multiply, to_dyadic, to_integer
from intsim.kernels import onnxruntime as golden
from intsim.ops.requantize import requantize
from intsim.requantization import RULES
from intsim.verify.witness import Witness


@st.composite
def softmax_rows(draw, kind: str) -> tuple[Any, ...]:
    """(codes, x_scale, y_scale, y_zero_point): one row in four orders, the share of its largest code near a tie."""
    rng, to = draw(generators()), RANGES[np.dtype(kind)]
    depth = draw(st.integers(1, 40))
    row = to.max - rng.integers(0, draw(st.sampled_from([1, 20, 256])), depth)
    one = draw(st.integers(40, min(300, 148 * depth)))
    x_scale = _scale_of_a_tie(row, one, draw(st.floats(0, 1)))
    for _ in range(draw(st.integers(0, 2))):
        x_scale = np.nextafter(x_scale, np.float32(draw(st.sampled_from([0, 1]))))
    codes = rng.permuted(np.tile(row, (4, 1)), axis=1).astype(kind)
    return codes, x_scale, np.float32(1 / one), draw(st.sampled_from([to.min, 0, 10]).map(np.dtype(kind).type))


def _scale_of_a_tie(row: Array, one: int, aim: float) -> np.float32:
    """Find where 1 / sum exp(scale * (row - max)), which grows with the scale, is (k + 1/2) / one."""

    def share(scale: float) -> float:
        return 1 / np.exp(scale * (row - row.max())).sum()

    low, high = 2.0**-8, 0.5
    target = (np.floor(one * (share(low) + aim * (share(high) - share(low)))) + 0.5) / one
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < target else (low, middle)
    return np.float32(low)


def softmax(codes: Array, x_scale: Any, y_scale: Any, y_zero: Any) -> Array:
    operands = (codes, x_scale, np.zeros((), codes.dtype), y_scale, y_zero)
    return node("QLinearSoftmax", *operands, to=(codes.dtype,), domain=CONTRIB, axis=-1, opset=13)[0]


def exponentials(x_scale: np.float32, depth: int, *, single: bool = True) -> Array:
    """The table of the float world that ``qlinear_softmax`` takes."""
    room = np.finfo(np.float32).max / np.float32(depth)
    log = np.log(np.float64(room))
    log = np.float32(log) if single else log
    shift = max(0.0, float(log) - 5) / float(x_scale)
    return np.exp((np.arange(256.0) - 255 + shift) * float(x_scale)).astype(np.float32)


def softmax_golden(codes: Array, x_scale: Any, y_scale: Any, y_zero: Any) -> Array:
    table = float32(exponentials(x_scale, codes.shape[-1]))
    return _softmax(codes, table, y_scale, y_zero)


def _softmax(codes: Array, table: Float32, y_scale: Any, y_zero: Any) -> Array:
    one = int(to_integer(divide(float32(1), float32(y_scale)), Rounding.FLOOR))
    return golden.qlinear_softmax(codes, table, one=one, zero_point=int(y_zero), to=RANGES[codes.dtype])


def softmax_of_unshifted(codes: Array, x_scale: Any, y_scale: Any, y_zero: Any) -> Array:
    return _softmax(codes, float32(np.exp((np.arange(256.0) - 255) * float(x_scale))), y_scale, y_zero)


def softmax_of_double_log(codes: Array, x_scale: Any, y_scale: Any, y_zero: Any) -> Array:
    return _softmax(codes, float32(exponentials(x_scale, codes.shape[-1], single=False)), y_scale, y_zero)


def softmax_backwards(codes: Array, x_scale: Any, y_scale: Any, y_zero: Any) -> Array:
    return softmax_golden(codes[..., ::-1], x_scale, y_scale, y_zero)[..., ::-1]


def softmax_exact(codes: Array, x_scale: Any, y_scale: Any, y_zero: Any) -> Array:
    e = np.exp(float(x_scale) * (integers(codes) - integers(codes).max(-1, keepdims=True)))
    y = np.rint(e / e.sum(-1, keepdims=True) / float(y_scale)).astype(np.int64) + int(y_zero)
    return saturate(y, RANGES[codes.dtype])


@st.composite
def images(draw, kind: str, *, whole: bool) -> tuple[Any, ...]:
    """(image, kernel, x_scale, x_zero_point, y_scale, y_zero_point)."""
    rng = draw(generators())
    height, width = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    kernel = (height, width) if whole else (draw(st.integers(1, height - 1)), draw(st.integers(1, width)))
    image = code_array(rng, (1, draw(st.integers(60, 120)) if whole else draw(st.integers(1, 12)), height, width), kind)
    image[:, : image.shape[1] // 3] = image[:, :1]
    x_scale, x_zero = draw(scales()), draw(zero_points(kind))
    mean = float((image[0, 0, : kernel[0], : kernel[1]].astype(np.float64) - float(x_zero)).mean())
    y_scale = np.clip(draw(near_ties(mean * float(x_scale))), np.float32(x_scale / 200), np.float32(x_scale * 2**20))
    return image, kernel, x_scale, x_zero, y_scale, draw(zero_points(kind))


def pool(image: Array, kernel: tuple[int, int], *parameters: Any) -> Array:
    operands = (image, *parameters)
    return node("QLinearAveragePool", *operands, to=(image.dtype,), domain=CONTRIB, kernel_shape=kernel)[0]


def global_pool(image: Array, _: Any, *parameters: Any) -> Array:
    operands = (image, *parameters)
    return node("QLinearGlobalAveragePool", *operands, to=(image.dtype,), domain=CONTRIB, channels_last=0)[0]


def pooled(function: Callable[..., Array]) -> Callable[..., Array]:
    def run(image: Array, kernel: tuple[int, int], x_scale: Any, x_zero: Any, y_scale: Any, y_zero: Any) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(image, kernel, axis=(2, 3))
        return function(
            windows.reshape(*windows.shape[:4], -1),
            x_scale=float32(x_scale),
            x_zero_point=int(x_zero),
            y_scale=float32(y_scale),
            y_zero_point=int(y_zero),
            to=RANGES[image.dtype],
        )

    return run


def pool_rounded_once(
    windows: Array, *, x_scale: Float32, x_zero_point: int, y_scale: Float32, y_zero_point: int, to: IntRange
) -> Array:
    """The exact mean of the codes, to the nearest: no float32 on the way."""
    acc = (integers(windows) - x_zero_point).sum(-1)
    mean = from_integer(rounding_divide(acc << 24, np.int64(windows.shape[-1]), Rounding.HALF_EVEN))
    x = multiply(mean, Float32(x_scale.significand, x_scale.exponent - 24))
    return golden.quantize_linear(x, y_scale, zero_point=y_zero_point, to=to)


def pool_ratio_first(
    windows: Array, *, x_scale: Float32, x_zero_point: int, y_scale: Float32, y_zero_point: int, to: IntRange
) -> Array:
    """(x_scale / y_scale) / N in place of x_scale / (y_scale * N)."""
    acc = (integers(windows) - x_zero_point).sum(-1)
    ratio = to_dyadic(divide(divide(x_scale, y_scale), float32(windows.shape[-1])))
    return requantize(acc, ratio, to=to, rounding=RULES["xnnpack-fp32"], zero_point=y_zero_point)


SOFTMAXES: Final = {
    "float64 logarithm in the table": softmax_of_double_log,
    "table up to 1": softmax_of_unshifted,
    "summed from right to left": softmax_backwards,
    "exact": softmax_exact,
}

WITNESSES: Final[list[Witness]] = [
    *(
        row(
            "softmax",
            f"QLinearSoftmax {kind}",
            "qlinear_softmax",
            softmax_rows(kind),
            softmax,
            softmax_golden,
            neighbours=SOFTMAXES,
            note="holds where floor(1 / y_scale) <= 148 D: beyond, a float32 overflows; the table of exponentials is "
            "computed in float64 and rounded",
        )
        for kind in ("uint8", "int8")
    ),
    *(
        row(
            "mean",
            f"QLinearGlobalAveragePool {kind}",
            "xnnpack-fp32",
            images(kind, whole=True),
            global_pool,
            pooled(golden.qlinear_global_average_pool),
            neighbours={"(x_scale / y_scale) / N": pooled(pool_ratio_first)},
        )
        for kind in ("uint8", "int8")
    ),
    *(
        row(
            "mean",
            f"QLinearAveragePool {kind}, windows below the image",
            "qlinear_average_pool",
            images(kind, whole=False),
            pool,
            pooled(golden.qlinear_average_pool),
            neighbours={
                "as QLinearGlobalAveragePool": pooled(golden.qlinear_global_average_pool),
                "the exact mean": pooled(pool_rounded_once),
            },
        )
        for kind in ("uint8", "int8")
    ),
]
