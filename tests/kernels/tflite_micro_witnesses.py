# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite for Microcontrollers, held against ``intsim.kernels.tflite_micro`` and what it shares with LiteRT."""

from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from kernels.litert_elementwise_witnesses import added, fractions, pairs, rounded
from kernels.litert_flatbuffer import Tensor, constant, float32_scales, model
from kernels.litert_nonlinear_witnesses import averages, changed, floor, mean_in_float32, mean_of, rows, softmax_of
from kernels.litert_witnesses import batch_matmul_operands, golden, neighbours
from numpy.typing import NDArray
from tflite_micro.python.tflite_micro import runtime

from intsim.fixedpoint import INT8, INT16, IntRange, Rounding
from intsim.kernels import gemmlowp, litert, litert_elementwise, litert_nonlinear, litert_sigmoid, tflite_micro
from intsim.verify.witness import Witness

Array = NDArray[Any]

ARENA: Final = 1 << 20
UP: Final = partial(litert.multiply_by_quantized_multiplier, rounding=Rounding.HALF_UP)


def run(model: bytes, *inputs: Array) -> Array:
    """Return the output of the model."""
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA)
    for index, codes in enumerate(inputs):
        interpreter.set_input(codes, index)
    interpreter.invoke()
    return interpreter.get_output(0).copy()


def witness(kernel: str, rule: str, operands: Any, device: Any, golden: Any, near: Any) -> Witness:
    return Witness(
        operator=kernel.partition(",")[0].lower(),
        kernel=f"{kernel}, TFLM",
        package="tflite-micro",
        rule=rule,
        operands=operands,
        device=device,
        golden=golden,
        neighbours=near,
        note="x86-64",
    )


# LOGISTIC, TANH


@st.composite
def every_code(draw: st.DrawFn) -> tuple[Any, ...]:
    return np.arange(-128, 128).astype(np.int8), draw(float32_scales(2**-10, 4)), draw(st.integers(-128, 127))


def curve(operator: str, x_q: Array, scale: float, zero_point: int) -> Array:
    unit, y_zero_point = {"LOGISTIC": (2.0**-8, -128), "TANH": (2.0**-7, 0)}[operator]
    x, y = Tensor(x_q.shape, np.int8, scale, zero_point), Tensor(x_q.shape, np.int8, unit, y_zero_point)
    return run(model(operator, [x], y, version=2), x_q)


def curve_of(x_q: Array, scale: float, zero_point: int, *, rule: Any, **settings: Any) -> Array:
    return rule(x_q, scale=Fraction(scale), zero_point=zero_point, **settings)


def tabled_tanh(x_q: Array, scale: float, zero_point: int) -> Array:
    scales = Fraction(scale), Fraction(1, 1 << 7)
    return litert_sigmoid.tanh(x_q, scales=scales, zero_points=(zero_point, 0))


def curve_witnesses() -> list[Witness]:
    logistic, tanh = (partial(curve_of, rule=rule) for rule in (tflite_micro.logistic, tflite_micro.tanh))
    tabled = partial(curve_of, rule=litert_sigmoid.logistic)
    made = partial(witness, operands=every_code())
    return [
        made(
            kernel="LOGISTIC, int8",
            rule="kernels.tflite_micro.logistic",
            device=partial(curve, "LOGISTIC"),
            golden=logistic,
            near={"LiteRT's table": tabled},
        ),
        made(
            kernel="TANH, int8",
            rule="kernels.tflite_micro.tanh",
            device=partial(curve, "TANH"),
            golden=tanh,
            near={"LiteRT's table": tabled_tanh},
        ),
    ]


# ADD, MUL


def binary(operator: str, a_q: Array, b_q: Array, scales: Any, points: Any) -> Array:
    options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT}[operator]()
    a, b, y = (Tensor(a_q.shape, a_q.dtype, *each) for each in zip(scales, points, strict=True))
    return run(model(operator, [a, b], y, options, version=2), a_q, b_q)


def multiplied(
    a_q: Array, b_q: Array, scales: Any, points: Any, *, module: Any = tflite_micro, **settings: Any
) -> Array:
    to = INT8 if a_q.dtype == np.int8 else INT16
    return module.multiply(a_q, b_q, scales=fractions(scales), zero_points=points, to=to, **settings)


def binary_witnesses(to: IntRange) -> list[Witness]:
    low, high = (2**-8, 2**6) if to is INT8 else (2**3, 2**12)
    near = {"second rounding up": rounded(multiplied, Rounding.HALF_UP)}
    if to is INT16:
        near["LiteRT's ratio, of float32"] = partial(multiplied, module=litert_elementwise)
    near_sum = {"second rounding up": rounded(added, Rounding.HALF_UP)}
    return [
        witness(
            f"MUL, int{to.bits}",
            "kernels.tflite_micro.multiply",
            pairs(to=to, rules=[multiplied, *near.values()], low=low, high=high),
            partial(binary, "MUL"),
            multiplied,
            near,
        ),
        witness(
            f"ADD, int{to.bits}",
            "kernels.litert_elementwise.add",
            pairs(to=to, rules=[added, *near_sum.values()], low=2**-4, high=2**2),
            partial(binary, "ADD"),
            added,
            near_sum,
        ),
    ]


# SOFTMAX, MEAN, BATCH_MATMUL


def softmax(x_q: Array, scale: float, beta: float, *, to: IntRange) -> Array:
    unit, zero_point = (2.0**-15, 0) if x_q.dtype == np.int16 else (2.0**-to.bits, to.min)
    x, y = Tensor(x_q.shape, x_q.dtype, scale), Tensor(x_q.shape, to.dtype, unit, zero_point)
    return run(model("SOFTMAX", [x], y, schema.SoftmaxOptionsT(beta=beta), version=3), x_q)


def softmax_witnesses() -> list[Witness]:
    eight = partial(softmax_of, rule=litert_nonlinear.softmax, to=INT8)
    sixteen = partial(softmax_of, rule=tflite_micro.softmax_int16)
    return [
        witness(
            "SOFTMAX, int8 to int8",
            "kernels.litert_nonlinear.softmax",
            rows(of=INT8),
            partial(softmax, to=INT8),
            eight,
            {"shifts floor": changed(eight, "rounding_divide_by_pot", floor, module=gemmlowp)},
        ),
        witness(
            "SOFTMAX, int16",
            "kernels.tflite_micro.softmax_int16",
            rows(of=INT16),
            partial(softmax, to=INT16),
            sixteen,
            {
                "LiteRT's reciprocals": changed(
                    sixteen, "reciprocal_table", litert_nonlinear.reciprocal_table, module=tflite_micro
                ),
                "LiteRT's ratio, of float32": partial(softmax_of, rule=float32_ratio),
                "differences rounded up": partial(sixteen, mbqm=UP),
            },
        ),
    ]


def float32_ratio(x_q: Array, *, scale: Fraction, beta: Fraction) -> Array:
    return tflite_micro.softmax_int16(x_q, scale=litert.nearest(scale * beta, litert.FLOAT32))


def mean(x_q: Array, scales: Any, zero_points: Any) -> Array:
    x = Tensor(x_q.shape, x_q.dtype, scales[0], zero_points[0])
    y = Tensor((len(x_q), 1), x_q.dtype, scales[1], zero_points[1])
    axes = constant(np.array([1], np.int32))
    return run(model("MEAN", [x, axes], y, schema.ReducerOptionsT(keepDims=True), version=2), x_q)[:, 0]


def batch_matmul(x_q: Array, w_q: Array, _: None, scales: Any, zero_points: Any) -> Array:
    options = schema.BatchMatMulOptionsT(adjY=True)
    tensors = [Tensor(q.shape, q.dtype, scales[i], zero_points[i]) for i, q in enumerate((x_q, w_q))]
    output = Tensor((*x_q.shape[:-1], w_q.shape[-2]), np.int8, scales[2], zero_points[2])
    return run(model("BATCH_MATMUL", tensors, output, options, version=4), x_q, w_q)


def other_witnesses() -> list[Witness]:
    golden_mean = partial(mean_of, rule=litert_nonlinear.mean)
    near = {"float32": mean_in_float32, "second rounding up": partial(golden_mean, mbqm=UP)}
    return [
        *(
            witness(
                f"MEAN, int{of.bits}",
                "kernels.litert_nonlinear.mean",
                averages(of=of, rules=[golden_mean, *near.values()]),
                mean,
                golden_mean,
                near,
            )
            for of in (INT8, INT16)
        ),
        witness(
            "BATCH_MATMUL, int8",
            "kernels.litert.requantize_gemmlowp",
            batch_matmul_operands(),
            batch_matmul,
            partial(golden, requantize=litert.requantize_gemmlowp),
            {name: partial(golden, requantize=each) for name, each in neighbours("requantize_gemmlowp").items()},
        ),
    ]


WITNESSES: Final = [
    *curve_witnesses(),
    *binary_witnesses(INT8),
    *binary_witnesses(INT16),
    *softmax_witnesses(),
    *other_witnesses(),
]
