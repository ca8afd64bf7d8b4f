# SPDX-License-Identifier: Apache-2.0
"""What the definitions of ONNX Runtime's kernels promise, without ONNX Runtime."""

import numpy as np
import pytest
from kernels.draws import bits, float32

from intsim.fixedpoint import INT8, UINT8
from intsim.kernels import onnxruntime as kernels


def test_sigmoid_constants_are_the_published_ones():
    p = [4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03, 2.48287947061529e-01]
    q = [6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03, 1.16817656904453e-01]
    assert bits(p).tolist() == list(kernels.SIGMOID_P)
    assert bits([*q, 9.93151921023180e-01]).tolist() == list(kernels.SIGMOID_Q)


def test_sigmoid_is_within_two_last_places_of_one_half():
    x = np.linspace(-20, 20, 4001, dtype=np.float32)
    y = kernels.sigmoid(float32(x))
    error = np.ldexp(y.significand.astype(np.float64), y.exponent) - 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(error).max() <= 2 * 2.0**-24


def test_sigmoid_is_constant_beyond_18_and_one_half_at_0():
    y = bits(kernels.sigmoid(float32([-300, -18, 0, 18, 300])))
    assert y[0] == y[1]
    assert y[3] == y[4]
    assert y[2] == 0x3F000000


def test_quantize_divides_where_torch_multiplies_with_the_reciprocal():
    x, scale = float32(0.273939937), float32(0.00214854861)
    assert kernels.quantize_linear(x, scale, to=UINT8) == 127  # the product is the tie 127.5


def test_the_zero_point_is_added_after_rounding_by_quantize_and_before_it_by_multiply():
    half, one = float32(0.5), float32(1)
    assert kernels.quantize_linear(half, one, zero_point=1, to=INT8) == 1
    product = kernels.qlinear_mul(
        np.array([1], np.int8), np.array([1], np.int8), scales=(half, one, one), zero_points=(0, 0, 1), to=INT8
    )
    assert product.tolist() == [2]


def test_a_tensor_of_zeros_has_scale_1_and_zero_point_0():
    codes, scale, zero_point = kernels.dynamic_quantize_linear(float32(np.zeros(3)))
    assert (codes.tolist(), bits(scale), zero_point) == ([0, 0, 0], 0x3F800000, 0)


def test_the_dynamic_range_contains_0():
    codes, _, zero_point = kernels.dynamic_quantize_linear(float32([1, 2, 255]))
    assert (codes.tolist(), zero_point) == ([1, 2, 255], 0)
    codes, _, zero_point = kernels.dynamic_quantize_linear(float32([-1, -2, -255]))
    assert (codes.tolist(), zero_point) == ([254, 253, 0], 255)


def test_the_deepest_product_is_exact_and_a_deeper_one_refused():
    a, b = np.full((1, kernels.MAX_K), 255, np.uint8), np.full((kernels.MAX_K, 1), 255, np.uint8)
    assert kernels.matmul_integer(a, b).tolist() == [[255 * 255 * kernels.MAX_K]]
    assert 255 * 255 * (kernels.MAX_K + 1) > 2**31 - 1
    with pytest.raises(ValueError, match=f"depth K must be at most {kernels.MAX_K}, got {kernels.MAX_K + 1}"):
        kernels.matmul_integer(np.pad(a, ((0, 0), (0, 1))), np.pad(b, ((0, 1), (0, 0))))


def test_accumulators_above_24_bits_are_rounded_before_they_are_scaled():
    scales = {"a_scale": float32(1), "b_scale": float32(1), "y_scale": float32(2**18)}
    acc = np.array([127 * 2**18 + 2**17 + 1, 126 * 2**18 + 2**17 + 1])  # just above a tie, by less than float32 holds
    assert kernels.qlinear_matmul(acc, **scales, y_zero_point=0, to=UINT8).tolist() == [128, 126]


def test_softmax_of_one_code_overflows_where_one_is_above_148():
    table = float32(np.exp((np.arange(256.0) - 255) * 0.1) * np.float64(np.finfo(np.float32).max) * np.exp(-5))
    assert kernels.qlinear_softmax(np.array([[5]]), table, one=148, zero_point=0, to=UINT8).tolist() == [[148]]
    with pytest.raises(OverflowError, match=r"2\*\*128"):
        kernels.qlinear_softmax(np.array([[5]]), table, one=256, zero_point=0, to=UINT8)


def test_both_means_differ_in_ties():
    parameters = {"x_scale": float32(1), "x_zero_point": 0, "y_scale": float32(1), "y_zero_point": 1, "to": UINT8}
    windows = np.array([[0, 1]], np.uint8)
    assert kernels.qlinear_average_pool(windows, **parameters).tolist() == [2]
    assert kernels.qlinear_global_average_pool(windows, **parameters).tolist() == [1]


def test_add_fuses_the_constant_of_its_zero_points():
    a, b = np.array([-76, 0], np.int8), np.array([-128, 0], np.int8)
    scales = (float32(0.037109375), float32(0.0078125), float32(1.5950521))
    total = kernels.qlinear_add(a, b, scales=scales, zero_points=(-65, 126, 0), to=INT8)
    assert total.tolist() == [-2, 1]  # -1.5 but for the last place of the constant


def test_leaky_relu_scales_negative_numbers_alone():
    y = kernels.qlinear_leaky_relu(float32([-3, 0, 3]), alpha=float32(0.5))
    assert bits(y).tolist() == bits([-1.5, 0, 3]).tolist()


def test_products_are_dequantized_with_two_roundings():
    acc, bias, scale = np.array([2**24 + 1, 3]), float32([0, -0.25]), np.float32(0.1)
    y = kernels.matmul_integer_to_float(acc, a_scale=float32(1), b_scale=float32(scale), bias=bias)
    assert bits(y).tolist() == bits([np.float32(2**24) * scale, np.float32(3) * scale + np.float32(-0.25)]).tolist()
    assert np.float32(3 * float(scale) - 0.25) != np.float32(3) * scale + np.float32(-0.25)


def test_codes_are_dequantized_by_their_distance_from_the_zero_point():
    x = kernels.dequantize_linear(np.array([0, 255]), float32(0.1), zero_point=255)
    assert bits(x).tolist() == bits([np.float32(0.1) * np.float32(-255), 0]).tolist()
