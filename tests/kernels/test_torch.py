# SPDX-License-Identifier: Apache-2.0
"""What the definitions of PyTorch's kernels promise, without PyTorch."""

import numpy as np
from kernels.draws import bits, float32

from intsim.fixedpoint import INT8, UINT8
from intsim.kernels import torch as kernels

ONE = float32(1)


def test_quantize_multiplies_with_the_reciprocal():
    x, scale = float32(0.273939937), float32(0.00214854861)
    assert kernels.quantize_per_channel(x, scale, zero_point=0, to=UINT8) == 128  # the quotient is below 127.5


def test_what_training_simulates_is_not_what_quantize_computes():
    half = float32(0.5)
    assert kernels.quantize_per_tensor(half, ONE, zero_point=1, to=INT8) == 2
    assert bits(kernels.fake_quantize(half, ONE, zero_point=1, to=INT8)) == bits(0)
    assert bits(kernels.dequantize(np.array(2), ONE, zero_point=1)) == bits(1)


def test_the_last_elements_of_a_sum_round_otherwise_than_the_first():
    codes = np.full(65, 7, np.uint8)
    scales, zero_points = (float32(0.5), float32(0.5), float32(2)), (0, 0, 1)  # 7 / 2 + 1: 3.5 rounds before or after
    total = kernels.quantized_add(codes, codes, scales=scales, zero_points=zero_points, to=UINT8)
    assert total.tolist() == [5] * 64 + [4]


def test_qnnpack_adds_with_ties_away_from_zero():
    a, b = np.array([0, 1, 2, 3, 4], np.uint8), np.full(5, 2, np.uint8)
    halves = (float32(0.5), ONE, ONE)
    assert kernels.quantized_add_qnnpack(a, b, scales=halves, zero_points=(2, 2, 10)).tolist() == [9, 9, 10, 11, 11]


def test_fbgemm_divides_the_bias_by_a_scale_per_channel_and_fuses_it_for_the_tensor():
    layer = {"x_scale": float32(0.0390625), "bias": float32([5.4876676]), "y_scale": float32(0.028313676)}
    acc = np.array([[-4700]])
    tensor = kernels.linear_fbgemm(acc, w_scale=float32(0.015625), y_zero_point=4, **layer)
    channels = kernels.linear_fbgemm(acc, w_scale=float32([0.015625]), y_zero_point=4, **layer)
    assert (tensor.tolist(), channels.tolist()) == ([[97]], [[96]])


def test_three_engines_compute_three_layers():
    layer = {"x_scale": ONE, "w_scale": ONE, "bias": float32([0.5]), "y_scale": ONE, "y_zero_point": 1}
    linears = (kernels.linear_fbgemm, kernels.linear_qnnpack, kernels.linear_onednn)
    assert [linear(np.array([[2]]), **layer).item() for linear in linears] == [3, 3, 4]
    layer["bias"] = float32([1.5])
    assert [linear(np.array([[1]]), **layer).item() for linear in linears] == [3, 4, 4]


def test_sigmoid_reaches_both_ends_of_uint8():
    exponentials = float32(np.exp([80.0, 0, -80]))
    assert kernels.sigmoid_qnnpack(exponentials).tolist() == [0, 128, 255]


def test_softmax_saturates_a_lone_code_and_halves_two():
    table = np.rint((2**23 - 1) * np.exp((np.arange(256.0) - 255) * 0.1)).astype(np.int64)
    rows = np.array([[200, 0], [3, 3]], np.uint8)
    assert kernels.softmax_qnnpack(rows, table).tolist() == [[255, 0], [128, 128]]
