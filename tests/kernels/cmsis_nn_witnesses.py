# SPDX-License-Identifier: Apache-2.0
"""CMSIS-NN's C code, both ways of scaling, held against LiteRT's rules and ``intsim.kernels.cmsis_nn``."""

import ctypes
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.c_sources import COMMITS, library, pointer, repository
from kernels.litert_elementwise_witnesses import added, multiplied, pairs
from kernels.litert_nonlinear_witnesses import changed, floor, rows, softmax_of
from kernels.litert_witnesses import SEEDS, fully_connected_operands, golden
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, Dyadic, IntRange
from intsim.kernels import cmsis_nn, gemmlowp, litert, litert_elementwise, litert_nonlinear
from intsim.verify.witness import Witness

Array = NDArray[Any]

ROOT: Final = repository("CMSIS-NN")
SOURCES: Final = tuple(
    ROOT / "Source" / name
    for name in (
        "BasicMathFunctions/arm_elementwise_add_s8.c",
        "BasicMathFunctions/arm_elementwise_add_s16.c",
        "BasicMathFunctions/arm_elementwise_mul_s8.c",
        "BasicMathFunctions/arm_elementwise_mul_s16.c",
        "NNSupportFunctions/arm_nn_vec_mat_mult_t_s8.c",
        "SoftmaxFunctions/arm_nn_softmax_common_s8.c",
        "SoftmaxFunctions/arm_softmax_s8.c",
        "SoftmaxFunctions/arm_softmax_s16.c",
    )
)
GLUE: Final = """
#include "arm_nnsupportfunctions.h"
void requantize_s64(const int64_t *x, int32_t *y, int32_t n, int32_t multiplier, int32_t shift) {
    for (int32_t i = 0; i < n; i++) y[i] = arm_nn_requantize_s64(x[i], multiplier, shift);
}
"""
MBQM: Final = {
    "double": litert.multiply_by_quantized_multiplier,
    "single": litert.multiply_by_quantized_multiplier_single,
}
ROUNDINGS: Final = {"double": (), "single": ("-DCMSIS_NN_USE_SINGLE_ROUNDING",)}
OTHER: Final = {"double": "single", "single": "double"}


def kernels(rounding: str) -> ctypes.CDLL:
    return library("gcc", (*SOURCES, GLUE), (f"-I{ROOT / 'Include'}", *ROUNDINGS[rounding]))


def witness(
    operator: str, kernel: str, rule: str, operands: Any, device: Any, golden: Any, near: Any, note: str = ""
) -> Witness:
    return Witness(
        operator=operator,
        kernel=kernel,
        package="CMSIS-NN",
        version=COMMITS["CMSIS-NN"],
        rule=rule,
        operands=operands,
        device=device,
        golden=golden,
        neighbours=near,
        note=note or "C code, gcc, x86-64",
    )


def constants(ratio: Dyadic) -> tuple[int, int]:
    """Return multiplier and shift, to the left, as CMSIS-NN takes them."""
    return int(ratio.multiplier), 31 - int(ratio.shift)


# two operands


def add(a_q: Array, b_q: Array, scales: Any, points: Any, *, rounding: str) -> Array:
    to = INT8 if a_q.dtype == np.int8 else INT16
    left = litert_elementwise.LEFT_SHIFT[to.bits]
    a, b, y = litert_elementwise.add_multipliers(tuple(map(Fraction, scales)), left)
    a_q, b_q, result = np.ascontiguousarray(a_q), np.ascontiguousarray(b_q), np.empty_like(a_q)
    operands = [each for ratio, zero in ((a, points[0]), (b, points[1])) for each in (-zero, *constants(ratio))]
    kernel = kernels(rounding)[f"arm_elementwise_add_s{to.bits}"]
    status = kernel(
        *(pointer(a_q), pointer(b_q), *operands, left),
        *(pointer(result), points[2], *constants(y), to.min, to.max, a_q.size),
    )
    assert status == 0
    return result


def multiply(a_q: Array, b_q: Array, scales: Any, points: Any, *, rounding: str) -> Array:
    to = INT8 if a_q.dtype == np.int8 else INT16
    ratio = litert.quantize_multiplier(litert_elementwise.product_ratio(tuple(map(Fraction, scales))))
    a_q, b_q, result = np.ascontiguousarray(a_q), np.ascontiguousarray(b_q), np.empty_like(a_q)
    kernel = kernels(rounding)[f"arm_elementwise_mul_s{to.bits}"]
    status = kernel(
        *(pointer(a_q), pointer(b_q), -points[0], -points[1]),
        *(pointer(result), points[2], *constants(ratio), to.min, to.max, a_q.size),
    )
    assert status == 0
    return result


def elementwise_witnesses(to: IntRange, rounding: str) -> list[Witness]:
    made = []
    for name, device, rule, low, high in (
        ("add", add, added, 2**-4, 2**3 if to is INT8 else 2**2),
        ("mul", multiply, multiplied, 2**-8 if to is INT8 else 2**3, 2**6 if to is INT8 else 2**12),
    ):
        this, other = (partial(rule, mbqm=MBQM[each]) for each in (rounding, OTHER[rounding]))
        made.append(
            witness(
                "add" if name == "add" else "multiply",
                f"arm_elementwise_{name}_s{to.bits}, {rounding} rounding",
                f"kernels.litert_elementwise.{'add' if name == 'add' else 'multiply'}",
                pairs(to=to, rules=[this, other], low=low, high=high),
                partial(device, rounding=rounding),
                this,
                {f"{OTHER[rounding]} rounding": other},
            )
        )
    return made


# matmul


def vec_mat_mult(x_q: Array, w_q: Array, bias: Array, scales: Any, zero_points: Any, *, rounding: str) -> Array:
    x_scale, w_scale, y_scale = scales
    product = [Fraction(x_scale) * Fraction(float(w_scale[0]))]
    ratio = litert.multipliers(product, Fraction(y_scale))
    constant = int(ratio.multiplier[0]), 31 - int(ratio.shift[0])
    x_q, w_q, bias = (np.ascontiguousarray(each) for each in (x_q, w_q, bias))
    result = np.empty((len(x_q), len(w_q)), np.int8)
    for row, y in zip(x_q, result, strict=True):
        status = kernels(rounding).arm_nn_vec_mat_mult_t_s8(
            *(pointer(row), pointer(w_q), None, pointer(bias), pointer(y)),
            *(-zero_points[0], zero_points[2], *constant, w_q.shape[1], w_q.shape[0], -128, 127, 1, 0),
        )
        assert status == 0
    return result


RULES: Final = {"double": litert.requantize_gemmlowp, "single": litert.requantize_single}


def matmul_witness(rounding: str) -> Witness:
    this, other = RULES[rounding], RULES[OTHER[rounding]]
    operands = fully_connected_operands(
        weights=INT8, to=INT8, bias_dtype=np.int32, per_channel=False, rules=[this, other]
    )
    return witness(
        "matmul",
        f"arm_nn_vec_mat_mult_t_s8, {rounding} rounding",
        f"kernels.litert.{this.__name__}",
        operands,
        partial(vec_mat_mult, rounding=rounding),
        partial(golden, requantize=this),
        {f"{OTHER[rounding]} rounding": partial(golden, requantize=other)},
    )


# int64


@st.composite
def wide_sums(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw sums whose quotients go past 2**30 and 2**31."""
    rng = np.random.default_rng(draw(SEEDS))
    shift = draw(st.integers(-8, 7))
    scale = Fraction(draw(st.integers(2**23, 2**24 - 1)), 2**24) * Fraction(2) ** shift
    largest = int(min(Fraction(2**32) / scale, Fraction(2**47 - 1)))
    acc = rng.integers(-largest, largest, 400)
    edges = [int(edge / scale) + near for edge in (-(2**30), 2**30, 2**31) for near in range(-2, 3)]
    return np.concatenate([acc, np.array(edges).clip(-(2**47), 2**47 - 1)]), scale


def requantize_s64(acc: Array, scale: Fraction) -> Array:
    ratio = litert.multipliers_int64([scale], Fraction(1))
    result = np.empty(acc.shape, np.int32)
    acc = np.ascontiguousarray(acc)
    kernels("double").requantize_s64(
        pointer(acc), pointer(result), acc.size, int(ratio.multiplier[0]), 15 - int(ratio.shift[0])
    )
    return result


def requantized(acc: Array, scale: Fraction, *, rule: Any) -> Array:
    return rule(acc, [scale], Fraction(1)).astype(np.int32)


# softmax


@st.composite
def short_rows(draw: st.DrawFn, *, of: IntRange) -> tuple[Any, ...]:
    """Draw rows as LiteRT's, one in four of a single column."""
    x_q, scale, beta = draw(rows(of=of))
    return (x_q.reshape(-1, 1) if draw(st.integers(0, 3)) == 0 else x_q), scale, beta


class Tables(ctypes.Structure):
    _fields_ = (("exp", ctypes.c_void_p), ("reciprocal", ctypes.c_void_p))


def softmax_s16(x_q: Array, scale: float, beta: float, *, rounding: str) -> Array:
    exp, reciprocal = (
        np.ascontiguousarray(table(), np.int16)
        for table in (litert_nonlinear.exp_table, litert_nonlinear.reciprocal_table)
    )
    tables = Tables(exp.ctypes.data, reciprocal.ctypes.data)
    ratio = litert_nonlinear.ratio_int16(litert.nearest(Fraction(scale) * Fraction(beta), litert.FLOAT32))
    x_q = np.ascontiguousarray(x_q)
    result = np.empty_like(x_q)
    kernel = kernels(rounding).arm_softmax_s16
    status = kernel(pointer(x_q), *x_q.shape, *constants(ratio), ctypes.byref(tables), pointer(result))
    assert status == 0
    return result


def softmax_s8(x_q: Array, scale: float, beta: float) -> Array:
    ratio = litert.quantize_multiplier(min(Fraction(scale) * Fraction(beta) * 2**26, Fraction(2**31 - 1)))
    multiplier, shift = constants(ratio)
    x_q = np.ascontiguousarray(x_q)
    result = np.empty_like(x_q)
    kernels("double").arm_softmax_s8(
        pointer(x_q), *x_q.shape, multiplier, shift, -((31 << 26) >> shift), pointer(result)
    )
    return result


def softmax_witnesses() -> list[Witness]:
    made = []
    for rounding in ROUNDINGS:
        this, other = (
            partial(softmax_of, rule=cmsis_nn.softmax_int16, mbqm=MBQM[each]) for each in (rounding, OTHER[rounding])
        )
        near = {
            f"{OTHER[rounding]} rounding": other,
            "saturated": partial(softmax_of, rule=litert_nonlinear.softmax_int16, mbqm=MBQM[rounding]),
        }
        kernel = f"arm_softmax_s16, {rounding} rounding"
        device = partial(softmax_s16, rounding=rounding)
        operands = short_rows(of=INT16)
        made.append(witness("softmax", kernel, "kernels.cmsis_nn.softmax_int16", operands, device, this, near))
    eight = partial(softmax_of, rule=litert_nonlinear.softmax, to=INT8)
    near = {"shifts floor": changed(eight, "rounding_divide_by_pot", floor, module=gemmlowp)}
    rule = "kernels.litert_nonlinear.softmax"
    return [*made, witness("softmax", "arm_softmax_s8", rule, rows(of=INT8), softmax_s8, eight, near)]


WITNESSES: Final = [
    *(each for to in (INT8, INT16) for rounding in ROUNDINGS for each in elementwise_witnesses(to, rounding)),
    *(matmul_witness(rounding) for rounding in ROUNDINGS),
    witness(
        "requantize",
        "arm_nn_requantize_s64",
        "kernels.cmsis_nn.requantize_int64",
        wide_sums(),
        requantize_s64,
        partial(requantized, rule=cmsis_nn.requantize_int64),
        {"LiteRT, int32": partial(requantized, rule=litert.requantize_int64)},
        "C code, gcc -fwrapv, x86-64",
    ),
    *softmax_witnesses(),
]
