# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for integer operators and their parameters: every legal value, dense in edges and ties.

Random integers certify nothing about rounding. RND(acc * m / 2**t) meets a tie only where acc * m is an odd multiple of
2**(t-1). Write m = o * 2**v with o odd and n = t - v: the tie is acc * o = 2**(n-1) modulo 2**n, and since an odd o
permutes the odd multiples of 2**(n-1), it is reached by exactly

    acc = j * 2**(n-1), j odd.

So one accumulator in 2**n is a tie: for a scale of 2**-8, one in 256; for the odd 31-bit multiplier and the shift of
about 40 that a random scale gives, none of int32. Half up, half away and half even agree everywhere else, and only
tests that aim at these accumulators can tell them apart.

Strategies are plural nouns; they reject impossible arguments with ``hypothesis.errors.InvalidArgument`` when called.
Those that draw the operands of an operator return a named tuple with the names of its parameters, so that
``ops.matmul(**operands._asdict())`` is a call it accepts. ``st.from_type`` knows Dyadic, IntRange, Profile, Scheme,
AffineParams and LayerNormParams wherever intsim is installed.
"""

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    _msg = "intsim.strategies needs hypothesis; install it with: pip install 'intsim[test]'"
    raise ImportError(_msg)

from intsim.strategies.integers import accumulators, code_arrays, codes, dyadics, int_ranges
from intsim.strategies.operands import (
    CausalMaskArguments,
    MatmulOperands,
    MultiplyOperands,
    RotaryOperands,
    SampleTokenArguments,
    causal_mask_arguments,
    matmul_operands,
    multiply_operands,
    rotary_operands,
    sample_token_arguments,
)
from intsim.strategies.profiles import profiles, requantizations
from intsim.strategies.quantizers import affine_params, real_arrays, schemes
from intsim.strategies.rows import SoftmaxRows, layer_norm_params, layer_norm_rows, softmax_rows

__all__ = [
    "CausalMaskArguments",
    "MatmulOperands",
    "MultiplyOperands",
    "RotaryOperands",
    "SampleTokenArguments",
    "SoftmaxRows",
    "accumulators",
    "affine_params",
    "causal_mask_arguments",
    "code_arrays",
    "codes",
    "dyadics",
    "int_ranges",
    "layer_norm_params",
    "layer_norm_rows",
    "matmul_operands",
    "multiply_operands",
    "profiles",
    "real_arrays",
    "requantizations",
    "rotary_operands",
    "sample_token_arguments",
    "schemes",
    "softmax_rows",
]
