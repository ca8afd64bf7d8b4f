# SPDX-License-Identifier: Apache-2.0
"""PyTorch's quantized sums, products, sigmoid and softmax."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st
from kernels.draws import RANGES, code_array, float32, generators, near_ties, scales, zero_points
from kernels.torch_engine import Array, engine, integers, real, row, tensor

from intsim.fixedpoint import UINT8, IntRange, saturate
from intsim.float32 import divide, multiply, to_dyadic
from intsim.kernels import torch as golden
from intsim.ops.requantize import requantize
from intsim.requantization import RULES
from intsim.verify.witness import Witness


@st.composite
def pairs(draw, kind: str, *, product: bool, sizes: tuple[int, ...]) -> tuple[Any, ...]:
    """(a, b, (s_a, s_b, s), (z_a, z_b, z)): a result scale that makes a near tie of one pair of codes."""
    rng, size = draw(generators()), draw(st.sampled_from(sizes))
    a, b = code_array(rng, (size,), kind), code_array(rng, (size,), kind)
    same = rng.random(size) < 0.4
    a[same], b[same] = a[0], b[0]
    a_scale, b_scale = draw(scales()), draw(scales())
    zeros = tuple(draw(zero_points(kind)) for _ in range(3))
    u, w = float(a[0]) - float(zeros[0]), float(b[0]) - float(zeros[1])
    value = u * w * float(a_scale) * float(b_scale) if product else u * float(a_scale) + w * float(b_scale)
    return a, b, (a_scale, b_scale, draw(near_ties(value))), zeros


def within_qnnpack(operands: tuple[Any, ...]) -> bool:
    s_a, s_b, s = operands[2]
    return all(2.0**-14 <= step / s < 2.0**8 for step in (s_a, s_b))


def binary(op: str, name: str = "x86") -> Callable[..., Array]:
    def run(a: Array, b: Array, steps: tuple[Any, ...], zeros: tuple[Any, ...]) -> Array:
        with engine(name):
            y = getattr(torch.ops.quantized, op)(
                tensor(a, steps[0], zeros[0]), tensor(b, steps[1], zeros[1]), float(steps[2]), int(zeros[2])
            )
            return y.int_repr().numpy()

    return run


def binary_golden(function: Callable[..., Array], **constants: Any) -> Callable[..., Array]:
    def run(a: Array, b: Array, steps: tuple[Any, ...], zeros: tuple[Any, ...]) -> Array:
        s_a, s_b, s = (float32(step) for step in steps)
        z_a, z_b, z = (int(zero) for zero in zeros)
        return function(a, b, scales=(s_a, s_b, s), zero_points=(z_a, z_b, z), to=RANGES[a.dtype], **constants)

    return run


Triple = tuple[Any, Any, Any]


def add_qnnpack(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    assert to == UINT8
    return golden.quantized_add_qnnpack(a, b, scales=scales, zero_points=zero_points)


def add_half_even(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    """The exact sum in 21-bit multipliers, ties to even."""
    ratios = [real(scale) / real(scales[2]) for scale in scales[:2]]
    total = sum((integers(x) - z) * r for x, z, r in zip((a, b), zero_points[:2], ratios, strict=True))
    return saturate(np.rint(total).astype(np.int64) + zero_points[2], to)


def mul_ratio_divided(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
    ratio = to_dyadic(divide(multiply(scales[0], scales[1]), scales[2]))
    product = (integers(a) - zero_points[0]) * (integers(b) - zero_points[1])
    return requantize(product, ratio, to=to, rounding=RULES["xnnpack-fp32"], zero_point=zero_points[2])


def mul_by_rule(rule: str) -> Callable[..., Array]:
    def run(a: Array, b: Array, *, scales: Triple, zero_points: Triple, to: IntRange) -> Array:
        ratio = RULES[rule].ratio(real(scales[0]) * real(scales[1]) / real(scales[2]))
        product = (integers(a) - zero_points[0]) * (integers(b) - zero_points[1])
        return requantize(product, ratio, to=to, rounding=RULES[rule], zero_point=zero_points[2])

    return run


@st.composite
def sigmoid_codes(draw) -> tuple[Any, ...]:
    """All codes, a scale and a zero point: sigmoid of one code near a tie of 1/256."""
    zero, code = draw(zero_points("uint8")), draw(zero_points("uint8"))
    share = (draw(st.integers(0, 255)) + 0.5) / 256
    scale = np.float32(abs(np.log(share / (1 - share))) / (abs(float(code) - float(zero)) or 1))
    for _ in range(draw(st.integers(0, 2))):
        scale = np.nextafter(scale, np.float32(draw(st.sampled_from([0, 1]))))
    return np.arange(256).astype(np.uint8), scale, zero


def sigmoid(name: str) -> Callable[..., Array]:
    def run(codes: Array, scale: Any, zero: Any) -> Array:
        with engine(name):
            return torch.sigmoid(tensor(codes, scale, zero)).int_repr().numpy()

    return run


def _sigmoid_inputs(codes: Array, scale: Any, zero: Any) -> Array:
    return (np.float32(scale) * (integers(codes) - int(zero)).astype(np.float32)).astype(np.float64)


def sigmoid_golden(codes: Array, scale: Any, zero: Any) -> Array:
    far = np.minimum(-_sigmoid_inputs(codes, scale, zero), 80)  # 1 / (1 + e**80) is 0 in codes
    return golden.sigmoid_qnnpack(float32(np.exp(far)))


def sigmoid_rounded_once(codes: Array, scale: Any, zero: Any) -> Array:
    y = 1 / (1 + np.exp(-_sigmoid_inputs(codes, scale, zero)))
    return saturate(np.rint(256 * y).astype(np.int64), UINT8)


@st.composite
def softmax_rows(draw) -> tuple[Array, np.float32]:
    """(codes, scale): one code alone against others of one other code, its share near a tie of 1/256."""
    rng, depth = draw(generators()), draw(st.integers(2, 40))
    codes = code_array(rng, (6, depth), "uint8")
    gap, share = draw(st.integers(1, 200)), (draw(st.integers(1, 254)) + 0.5) / 256
    scale = np.float32(min(abs(np.log(share * (depth - 1) / (1 - share))) / gap, 1) or 0.1)
    top = rng.integers(gap, 256, 4)
    codes[:4], codes[:4, 0] = (top - gap)[:, None], top
    return codes, scale


def softmax(codes: Array, scale: Any) -> Array:
    with engine("qnnpack"):
        return torch.ops.quantized.softmax(tensor(codes, scale, 0), -1, 1 / 256, 0).int_repr().numpy()


def exponentials(scale: np.float32, depth: int) -> Array:
    """The table of the float world that ``softmax_qnnpack`` takes."""
    return np.rint(min((2**32 - 1) / depth, 2**23 - 1) * np.exp((np.arange(256.0) - 255) * float(scale)))


def softmax_golden(codes: Array, scale: Any) -> Array:
    return golden.softmax_qnnpack(codes, exponentials(scale, codes.shape[-1]).astype(np.int64))


def softmax_of_a_31_bit_table(codes: Array, scale: Any) -> Array:
    table = np.rint(2**31 / codes.shape[-1] * np.exp((np.arange(256.0) - 255) * float(scale)))
    return golden.softmax_qnnpack(codes, table.astype(np.int64))


def softmax_rounded_once(codes: Array, scale: Any) -> Array:
    e = np.exp(float(scale) * (integers(codes) - integers(codes).max(-1, keepdims=True)))
    return saturate(np.rint(256 * e / e.sum(-1, keepdims=True)).astype(np.int64), UINT8)


FLOAT: Final = "dequantizes, computes in float32 and quantizes; ATEN_CPU_CAPABILITY=default and =avx2 give "

WITNESSES: Final[list[Witness]] = [
    *(
        row(
            "add",
            f"quantized.add q{kind}, engine x86",
            "quantized_add",
            pairs(kind, product=False, sizes=(11, 64, 75, 107, 203)),
            binary("add"),
            binary_golden(golden.quantized_add),
            neighbours={
                "all in vectors": binary_golden(golden.quantized_add, vector=1),
                "none in vectors": binary_golden(golden.quantized_add, vector=2**20),
                "vectors of 32 codes": binary_golden(golden.quantized_add, vector=32),
            },
            note="holds for AVX-512, AVX2 and a contiguous tensor worked on by one thread; of 98,317 sums 7 + 7 with "
            "scales 0.5 and 2 and zero point 1, a second thread changes 14",
        )
        for kind in ("uint8", "int8")
    ),
    row(
        "add",
        "quantized.add quint8, engine qnnpack",
        "quantized_add_qnnpack",
        pairs("uint8", product=False, sizes=(1, 7, 64, 75)).filter(within_qnnpack),
        binary("add", "qnnpack"),
        binary_golden(add_qnnpack),
        neighbours={
            "engine x86": binary_golden(golden.quantized_add),
            "exact ratios, ties to even": binary_golden(add_half_even),
        },
    ),
    *(
        row(
            "multiply",
            f"quantized.mul q{kind}",
            "xnnpack-fp32",
            pairs(kind, product=True, sizes=(11, 64, 75, 128)),
            binary("mul"),
            binary_golden(golden.quantized_mul),
            neighbours={
                "(s_a * s_b) / s": binary_golden(mul_ratio_divided),
                "onnx-qlinear": binary_golden(mul_by_rule("onnx-qlinear")),
                "dyadic": binary_golden(mul_by_rule("dyadic")),
            },
        )
        for kind in ("uint8", "int8")
    ),
    row(
        "sigmoid",
        "sigmoid quint8, engine qnnpack",
        "sigmoid_qnnpack",
        sigmoid_codes(),
        sigmoid("qnnpack"),
        sigmoid_golden,
        neighbours={"rounded once": sigmoid_rounded_once},
        note="expf rounds correctly on the inputs tried; it is the C library's",
    ),
    row(
        "softmax",
        "quantized.softmax quint8, engine qnnpack",
        "softmax_qnnpack",
        softmax_rows(),
        softmax,
        softmax_golden,
        neighbours={"31-bit table": softmax_of_a_31_bit_table, "rounded once": softmax_rounded_once},
        note="the table of exponentials is computed in float64 and rounded to integers",
    ),
]

NOT_CLAIMED: Final[list[tuple[str, str, str, str]]] = [
    (
        "sigmoid",
        "sigmoid quint8, engine x86",
        "torch",
        f"{FLOAT}216 and 215 for code 33 of scale 0.05065632984042168; 4 of 102,400 aimed at near ties",
    ),
    (
        "tanh",
        "tanh quint8, engine x86",
        "torch",
        f"{FLOAT}150 and 149 for code 33 of scale 0.00513865752145648; 39 of 102,400 aimed at near ties",
    ),
    (
        "tanh",
        "tanh quint8, engine qnnpack",
        "torch",
        "a table of the C library's tanhf, which rounds wrongly for 168 of 159,488 codes aimed at near ties",
    ),
    (
        "softmax",
        "quantized.softmax quint8, engine x86",
        "torch",
        f"{FLOAT}212 and 211 for the first of (100, 54, 54) of scale 0.048953976; 11 of 1,402 aimed at near ties",
    ),
    (
        "layer_norm",
        "quantized.layer_norm quint8",
        "torch",
        f"{FLOAT}33 and 32 for one of 53,784 codes in rows of 8 to 100",
    ),
]
