# SPDX-License-Identifier: Apache-2.0
"""Integer operators: pure functions on integer arrays and frozen constants, one per file."""

from intsim.fixedpoint import isqrt
from intsim.ops.add import add
from intsim.ops.append import append
from intsim.ops.argmax import argmax
from intsim.ops.causal_mask import causal_mask
from intsim.ops.dynamic_bound import dynamic_bound
from intsim.ops.embedding import embedding
from intsim.ops.exp import exp
from intsim.ops.gelu import gelu
from intsim.ops.gelu_tanh import gelu_tanh
from intsim.ops.l2_normalize import l2_normalize
from intsim.ops.layer_norm import LayerNormParams, layer_norm
from intsim.ops.matmul import matmul
from intsim.ops.mean_pooling import mean_pooling
from intsim.ops.multiply import multiply
from intsim.ops.neighbours import neighbours
from intsim.ops.permute import permute
from intsim.ops.pick_token import pick_token
from intsim.ops.position_ids import position_ids
from intsim.ops.quantize_dynamic import quantize_dynamic
from intsim.ops.relu import relu
from intsim.ops.requantize import requantize
from intsim.ops.rms_norm import rms_norm
from intsim.ops.rotary import rotary
from intsim.ops.sample_token import sample_token
from intsim.ops.scale_rows import scale_rows
from intsim.ops.sigmoid import sigmoid
from intsim.ops.silu import silu
from intsim.ops.softmax import softmax
from intsim.ops.tanh import tanh
from intsim.ops.token_positions import token_positions

__all__ = [
    "LayerNormParams",
    "add",
    "append",
    "argmax",
    "causal_mask",
    "dynamic_bound",
    "embedding",
    "exp",
    "gelu",
    "gelu_tanh",
    "isqrt",
    "l2_normalize",
    "layer_norm",
    "matmul",
    "mean_pooling",
    "multiply",
    "neighbours",
    "permute",
    "pick_token",
    "position_ids",
    "quantize_dynamic",
    "relu",
    "requantize",
    "rms_norm",
    "rotary",
    "sample_token",
    "scale_rows",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "token_positions",
]
