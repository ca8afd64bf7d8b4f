# SPDX-License-Identifier: Apache-2.0
"""PyTorch's products of 8-bit matrices: one layer, three engines, three rules."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st
from kernels.draws import RANGES, code_array, float32, generators, near_ties, scales, zero_points
from kernels.torch_engine import Array, engine, integers, real, row, tensor

from intsim.fixedpoint import UINT8, Rounding, saturate
from intsim.float32 import Float32, add, divide, from_integer, multiply, to_integer
from intsim.kernels import torch as golden
from intsim.ops.matmul import matmul
from intsim.ops.requantize import requantize
from intsim.requantization import RULES
from intsim.verify.witness import Witness

EXACT: Final = (
    "holds for CPUs whose int8 products accumulate in 32 bits (VNNI, AMX); without, FBGEMM saturates sums of two "
    "products to 16 bits"
)


@st.composite
def int8_products(draw) -> tuple[Array, Array]:
    rng, depth = draw(generators()), draw(st.sampled_from([1, 3, 16, 67, 600]))
    return code_array(rng, (draw(st.integers(1, 8)), depth), "int8"), code_array(rng, (depth, 16), "int8")


def int_mm(x: Array, w: Array) -> Array:
    return torch._int_mm(torch.from_numpy(x), torch.from_numpy(w)).numpy()


def int_mm_saturating_pairs(x: Array, w: Array) -> Array:
    """vpmaddubsw with the codes of x made unsigned, corrected afterwards."""
    u, w_wide = integers(x) + 128, integers(w)
    if x.shape[1] % 2:
        u, w_wide = np.pad(u, ((0, 0), (0, 1))), np.pad(w_wide, ((0, 1), (0, 0)))
    each = u[:, :, None] * w_wide[None]
    pairs = saturate(each[:, ::2] + each[:, 1::2], RANGES[np.dtype("int16")])
    return (integers(pairs).sum(1) - 128 * w_wide.sum(0)).astype(np.int32)


@st.composite
def linear_layers(draw) -> tuple[Any, ...]:
    """(x, w, bias, x_scale, w_scale, y_scale, x_zero_point, y_zero_point), near ties in one column."""
    rng, depth = draw(generators()), draw(st.sampled_from([1, 4, 16, 67, 600]))
    columns = draw(st.sampled_from([1, 8, 16, 37]))
    x = code_array(rng, (draw(st.integers(1, 4)), depth), "uint8")
    w = code_array(rng, (columns, depth), "int8")
    x_zero, x_scale = draw(zero_points("uint8")), draw(scales())
    w_scale = np.asarray(draw(scales()))
    if draw(st.booleans()):
        w_scale = (w_scale * rng.uniform(0.5, 2, columns)).astype(np.float32)
    acc = (integers(x) - integers(x_zero)) @ integers(w).T
    size = draw(st.sampled_from([0, 0.01, 1])) * np.abs(acc).mean() * float(x_scale)
    bias = (rng.standard_normal(columns) * size * w_scale).astype(np.float32)
    column = rng.integers(columns)
    step = np.broadcast_to(w_scale, (columns,))[column]
    value = float(acc[0, column]) * float(x_scale) * float(step) + float(bias[column])
    return x, w, bias, x_scale, w_scale, draw(near_ties(value)), x_zero, draw(zero_points("uint8"))


def linear(name: str) -> Callable[..., Array]:
    def run(x: Array, w: Array, bias: Array, x_scale: Any, w_scale: Array, y_scale: Any, *zeros: Any) -> Array:
        with engine(name):
            if w_scale.ndim == 0:
                weight = tensor(w, w_scale, 0)
            else:
                steps = torch.from_numpy(w_scale.astype(np.float64))
                none = torch.zeros(len(steps), dtype=torch.long)
                weight = torch._make_per_channel_quantized_tensor(torch.from_numpy(w), steps, none, 0)
            packed = torch.ops.quantized.linear_prepack(weight, torch.from_numpy(bias) if bias.any() else None)
            y = torch.ops.quantized.linear(tensor(x, x_scale, zeros[0]), packed, float(y_scale), int(zeros[1]))
            return y.int_repr().numpy()

    return run


def linear_golden(function: Callable[..., Array]) -> Callable[..., Array]:
    def run(x: Array, w: Array, bias: Array, x_scale: Any, w_scale: Array, y_scale: Any, *zeros: Any) -> Array:
        return function(
            matmul(x, w, x_zero_point=int(zeros[0])),
            x_scale=float32(x_scale),
            w_scale=float32(w_scale),
            bias=float32(bias),
            y_scale=float32(y_scale),
            y_zero_point=int(zeros[1]),
        )

    return run


def linear_saturating_pairs(function: Callable[..., Array]) -> Callable[..., Array]:
    """The layer on sums whose pairs of products are saturated to 16 bits, as vpmaddubsw does."""

    def run(x: Array, w: Array, bias: Array, x_scale: Any, w_scale: Array, y_scale: Any, *zeros: Any) -> Array:
        odd = ((0, 0), (0, x.shape[1] % 2))
        each = np.pad(integers(x), odd)[:, None] * np.pad(integers(w), odd)
        pairs = saturate(each[..., ::2] + each[..., 1::2], RANGES[np.dtype("int16")])
        return function(
            integers(pairs).sum(-1) - int(zeros[0]) * integers(w).sum(1),
            x_scale=float32(x_scale),
            w_scale=float32(w_scale),
            bias=float32(bias),
            y_scale=float32(y_scale),
            y_zero_point=int(zeros[1]),
        )

    return run


def linear_plain_scales(acc: Array, *, bias: Float32, y_scale: Float32, y_zero_point: int, **steps: Float32) -> Array:
    """oneDNN's rule on the scales as they are."""
    x = add(multiply(multiply(from_integer(acc), steps["x_scale"]), steps["w_scale"]), bias)
    y = add(multiply(x, divide(float32(1), y_scale)), float32(y_zero_point))
    return saturate(to_integer(y, Rounding.HALF_EVEN), UINT8)


def linear_by_rule(rule: str) -> Callable[..., Array]:
    """The bias an int32, the ratio rounded once."""

    def run(acc: Array, *, bias: Float32, y_scale: Float32, y_zero_point: int, **steps: Float32) -> Array:
        scale = multiply(steps["x_scale"], steps["w_scale"])
        b = to_integer(divide(bias, scale), Rounding.HALF_EVEN)
        ratio = RULES[rule].ratio(real(steps["x_scale"]) * real(steps["w_scale"]) / real(y_scale))
        return requantize(integers(acc) + b, ratio, to=UINT8, rounding=RULES[rule], zero_point=y_zero_point)

    return run


LINEARS: Final = {
    "x86": golden.linear_fbgemm,
    "fbgemm": golden.linear_fbgemm,
    "qnnpack": golden.linear_qnnpack,
    "onednn": golden.linear_onednn,
}
OTHER_LINEARS: Final = {
    "fbgemm": golden.linear_fbgemm,
    "qnnpack": golden.linear_qnnpack,
    "onednn": golden.linear_onednn,
    "onednn, scales as they are": linear_plain_scales,
    "onnx-qlinear": linear_by_rule("onnx-qlinear"),
    "dyadic": linear_by_rule("dyadic"),
}

WITNESSES: Final[list[Witness]] = [
    row(
        "matmul",
        "_int_mm int8 x int8",
        "ops.matmul",
        int8_products(),
        int_mm,
        lambda x, w: matmul(x, np.ascontiguousarray(w.T)),
        neighbours={"pairs saturated to 16 bits": int_mm_saturating_pairs},
        note=EXACT,
    ),
    *(
        row(
            "linear",
            f"quantized.linear, engine {name}",
            function.__name__,
            linear_layers(),
            linear(name),
            linear_golden(function),
            neighbours={
                **{other: linear_golden(rule) for other, rule in OTHER_LINEARS.items() if rule is not function},
                "pairs saturated to 16 bits": linear_saturating_pairs(function),
            },
            note=EXACT,
        )
        for name, function in LINEARS.items()
    ),
]
