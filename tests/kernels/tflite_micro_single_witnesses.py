# SPDX-License-Identifier: Apache-2.0
"""TFLM's reference kernels compiled to round once, as their package is not, held against LiteRT's rules told so."""

import ctypes
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.c_sources import COMMITS, library, pointer, repository
from kernels.litert_conversion_witnesses import called, code_pairs
from kernels.litert_flatbuffer import float32_scales
from kernels.litert_nonlinear_witnesses import averages, mean_of
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, IntRange
from intsim.kernels import litert, litert_conversion, litert_nonlinear
from intsim.verify.witness import Witness

Array = NDArray[Any]

ROOTS: Final = tuple(repository(name) for name in ("tflite-micro", "gemmlowp", "ruy"))
INTERNAL: Final = ROOTS[0] / "tensorflow/lite/kernels/internal"
GLUE: Final = """
#include "tensorflow/lite/kernels/internal/quantization_util.h"
#include "tensorflow/lite/kernels/internal/reference/leaky_relu.h"
#include "tensorflow/lite/kernels/internal/reference/reduce.h"
#include "tensorflow/lite/kernels/internal/reference/requantize.h"

namespace {
struct Ratio {
  int32_t multiplier;
  int shift;
  explicit Ratio(double real) { tflite::QuantizeMultiplier(real, &multiplier, &shift); }
};

template <typename X, typename Y>
void Requantize(const X* x, int n, double real, int x_zero, int y_zero, Y* y) {
  const Ratio ratio(real);
  tflite::reference_ops::Requantize(x, n, ratio.multiplier, ratio.shift, x_zero, y_zero, y);
}

template <typename T>
void Leaky(const T* x, int n, double identity, double alpha, int x_zero, int y_zero, T* y) {
  const Ratio above(identity), below(alpha);
  tflite::LeakyReluParams params = {};
  params.input_offset = x_zero;
  params.output_offset = y_zero;
  params.output_multiplier_identity = above.multiplier;
  params.output_shift_identity = above.shift;
  params.output_multiplier_alpha = below.multiplier;
  params.output_shift_alpha = below.shift;
  const tflite::RuntimeShape shape(1, n);
  tflite::reference_ops::QuantizeLeakyRelu(params, shape, x, shape, y);
}

template <typename T>
int Mean(const T* x, int rows, int columns, double real, int x_zero, int y_zero, T* y, int32_t* sums) {
  const Ratio ratio(real);
  const int x_dims[] = {rows, columns}, y_dims[] = {rows}, axis[] = {1};
  int index[2], resolved[1];
  return tflite::reference_ops::QuantizedMeanOrSum<T, int32_t>(
      x, x_zero, x_dims, 2, y, ratio.multiplier, ratio.shift, y_zero, y_dims, 1, axis, 1, false, index, resolved, sums,
      false);
}
}  // namespace

#define X_AND_Y const void *x, int n, double real, int x_zero, int y_zero, void *y
extern "C" {
void requantize_8_8(X_AND_Y) { Requantize((const int8_t*)x, n, real, x_zero, y_zero, (int8_t*)y); }
void requantize_16_8(X_AND_Y) { Requantize((const int16_t*)x, n, real, x_zero, y_zero, (int8_t*)y); }
void requantize_16_16(X_AND_Y) { Requantize((const int16_t*)x, n, real, x_zero, y_zero, (int16_t*)y); }
void leaky_8(const int8_t* x, int n, double i, double a, int xz, int yz, int8_t* y) { Leaky(x, n, i, a, xz, yz, y); }
void leaky_16(const int16_t* x, int n, double i, double a, int xz, int yz, int16_t* y) { Leaky(x, n, i, a, xz, yz, y); }
int mean_8(const int8_t* x, int m, int n, double r, int xz, int yz, int8_t* y, int32_t* s) {
  return Mean(x, m, n, r, xz, yz, y, s);
}
int mean_16(const int16_t* x, int m, int n, double r, int xz, int yz, int16_t* y, int32_t* s) {
  return Mean(x, m, n, r, xz, yz, y, s);
}
}
"""
SOURCES: Final = (INTERNAL / "common.cc", INTERNAL / "quantization_util.cc", INTERNAL / "runtime_shape.cc", GLUE)
SINGLE: Final = litert.multiply_by_quantized_multiplier_single


def kernels() -> ctypes.CDLL:
    includes = tuple(f"-I{root}" for root in ROOTS)
    return library("g++", SOURCES, ("-std=c++17", "-DTFLITE_SINGLE_ROUNDING=1", *includes))


def real(ratio: Fraction) -> ctypes.c_double:
    return ctypes.c_double(float(ratio))


def requantize(x_q: Array, scales: Any, zero_points: Any, *, to: IntRange) -> Array:
    x_q = np.ascontiguousarray(x_q)
    y_q = np.empty(x_q.shape, to.dtype)
    kernel = kernels()[f"requantize_{8 * x_q.itemsize}_{to.bits}"]
    kernel(pointer(x_q), x_q.size, real(Fraction(scales[0]) / Fraction(scales[1])), *zero_points, pointer(y_q))
    return y_q


def leaky(x_q: Array, scales: Any, zero_points: Any, alpha: float) -> Array:
    x_q = np.ascontiguousarray(x_q)
    y_q = np.empty_like(x_q)
    x_scale, y_scale, slope = (np.float32(each) for each in (*scales, alpha))
    ratios = Fraction(float(x_scale / y_scale)), Fraction(float(x_scale * slope / y_scale))
    kernel = kernels()[f"leaky_{8 * x_q.itemsize}"]
    kernel(pointer(x_q), x_q.size, *map(real, ratios), *zero_points, pointer(y_q))
    return y_q


def mean(x_q: Array, scales: Any, zero_points: Any) -> Array:
    x_q = np.ascontiguousarray(x_q)
    y_q, sums = np.empty(len(x_q), x_q.dtype), np.empty(len(x_q), np.int32)
    ratio = real(Fraction(scales[0]) / Fraction(scales[1]))
    kernel = kernels()[f"mean_{8 * x_q.itemsize}"]
    assert kernel(pointer(x_q), *x_q.shape, ratio, *zero_points, pointer(y_q), pointer(sums))
    return y_q


def witness(operator: str, kernel: str, rule: str, operands: Any, device: Any, golden: Any) -> Witness:
    return Witness(
        operator=operator,
        kernel=f"{kernel}, single rounding",
        package="tflite-micro sources",
        version=COMMITS["tflite-micro"],
        rule=rule,
        operands=operands,
        device=device,
        golden=partial(golden, mbqm=SINGLE),
        neighbours={
            "double rounding": golden,
        },
        note="C++ code, g++, x86-64",
    )


def witnesses() -> list[Witness]:
    made = []
    for of, to in ((INT8, INT8), (INT16, INT8), (INT16, INT16)):
        golden = partial(called, rule=litert_conversion.requantize, to=to)
        rule = "kernels.litert_conversion.requantize"
        operands, device = code_pairs(of=of, to=to), partial(requantize, to=to)
        made.append(witness("quantize", f"Requantize, int{of.bits} to int{to.bits}", rule, operands, device, golden))
    alphas = st.integers(16, 64).map(lambda n: n / 64) | float32_scales(2**-2, 1)
    for of in (INT8, INT16):
        golden = partial(called, rule=litert_conversion.leaky_relu, to=of)
        rule = "kernels.litert_conversion.leaky_relu"
        operands = code_pairs(of=of, to=of, slope=alphas)
        made.append(witness("leaky_relu", f"QuantizeLeakyRelu, int{of.bits}", rule, operands, leaky, golden))
        golden = partial(mean_of, rule=litert_nonlinear.mean)
        operands = averages(of=of, rules=[partial(golden, mbqm=SINGLE), golden])
        rule = "kernels.litert_nonlinear.mean"
        made.append(witness("mean", f"QuantizedMeanOrSum, int{of.bits}", rule, operands, mean, golden))
    return made


WITNESSES: Final = witnesses()
