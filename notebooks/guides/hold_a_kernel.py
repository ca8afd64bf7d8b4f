# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# SPDX-License-Identifier: Apache-2.0

# %% [markdown]
# # Hold a kernel against intsim
#
# "Matches TFLite" is a rumour until both have run. Your own kernel, be it Triton, CUDA, C or NumPy, is a *witness* in
# ten lines: a function from integer arrays to an integer array, the rule of intsim that it should equal, and operands
# that are aimed at ties, near ties and the ends of every range.

# %% tags=["remove-cell"]
import shell  # the commands are typed in the folder of the repository

# %% [markdown]
# ## A kernel in C
#
# This one scales an accumulator back to 8 bits the way one writes it at first:

# %%
import ctypes
import subprocess
from pathlib import Path

import numpy as np

SOURCE = """
#include <stdint.h>

void my_kernel(const int32_t *acc, int8_t *out, int n, int32_t multiplier, int shift) {
    for (int i = 0; i < n; i++) {
        int64_t x = (int64_t)acc[i] * multiplier;
        int64_t y = (x + (1LL << (shift - 1))) >> shift;
        out[i] = (int8_t)(y > 127 ? 127 : y < -128 ? -128 : y);
    }
}
"""
_ = Path("/tmp/my_kernel.c").write_text(SOURCE, encoding="utf-8")
subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", "/tmp/my_kernel.c", "-o", "/tmp/my_kernel.so"], check=True)
library = ctypes.CDLL("/tmp/my_kernel.so")


def my_kernel(acc):  # int32 array -> int8 array
    acc, out = np.ascontiguousarray(acc, np.int32), np.empty(acc.shape, np.int8)
    pointers = [each.ctypes.data_as(ctypes.c_void_p) for each in (acc, out)]
    library.my_kernel(*pointers, acc.size, 97 << 24, 39)
    return out


# %% [markdown]
# ## The witness

# %%
from hypothesis import strategies as st

from intsim import ops, strategies
from intsim.fixedpoint import INT8, Dyadic, Rounding
from intsim.testing import Witness, examine, telling_neighbours

ratio = Dyadic(97 << 24, 39)
mine = Witness(
    operator="requantize",
    kernel="my_kernel",
    package="",
    rule="dyadic",
    operands=st.tuples(strategies.accumulators(ratio, shape=(256,))),
    device=my_kernel,
    golden=lambda acc: ops.requantize(acc, ratio, to=INT8, rounding=Rounding.HALF_UP),
    neighbours={"half-even": lambda acc: ops.requantize(acc, ratio, to=INT8, rounding=Rounding.HALF_EVEN)},
)
row = examine(mine)
print(
    row.cases,
    "elements compared,",
    row.differing,
    "differ; rules that would have been told apart:",
    telling_neighbours(mine),
)
assert row.differing == 0
assert telling_neighbours(mine) == {"half-even"}

# %% [markdown]
# The *neighbours* are rules that are nearly the same. One that no case tells apart from yours shows that the operands
# were too tame: the comparison says nothing then. Here the ratio is $97 / 2^{15}$, so that accumulators lie on ties;
# with $1583594044 / 2^{40}$ none does, and these two rules are the same function.
#
# With ties rounded down, a single `- 1`, the witness falls:

# %%
from dataclasses import replace

SOURCE_WRONG = SOURCE.replace("(x + (1LL << (shift - 1))) >> shift", "(x + (1LL << (shift - 1)) - 1) >> shift")
_ = Path("/tmp/wrong.c").write_text(SOURCE_WRONG, encoding="utf-8")
subprocess.run(["cc", "-std=c99", "-O2", "-shared", "-fPIC", "/tmp/wrong.c", "-o", "/tmp/wrong.so"], check=True)
library = ctypes.CDLL("/tmp/wrong.so")
examine(replace(mine, device=my_kernel)).differing

# %% [markdown]
# ## In your own tests
#
# {py:func}`intsim.testing.assert_bit_exact` takes anything that NumPy can view and names every element that differs;
# {py:mod}`intsim.strategies` gives hypothesis what breaks kernels: accumulators dense in ties of a given multiplier and
# shift, products at the overflow bound, one-hot and masked softmax rows, constant LayerNorm rows.

# %%
from intsim.testing import assert_bit_exact

acc = np.array([-3, 347, 2**14, 2**30], np.int32)
try:
    assert_bit_exact(
        my_kernel(acc) + np.int8(1), ops.requantize(acc, ratio, to=INT8, rounding=Rounding.HALF_UP), name="mine"
    )
except AssertionError as error:
    print(error)

# %% [markdown]
# ## Triton, CUDA, PyTorch
#
# `device` is any function of NumPy arrays. A kernel of another framework is wrapped by the two lines that carry its
# operands over:
#
# ```python
# def on_gpu(acc):
#     out = torch.empty(acc.shape, dtype=torch.int8, device="cuda")
#     my_triton_kernel[(grid,)](torch.from_numpy(acc).cuda(), out, acc.size)
#     return out.cpu().numpy()
# ```
#
# A kernel that no Python reaches reads [vectors](bring_up_a_chip.py) from a file instead.
#
# ## The kernels that people use
#
# Each row of `intsim profiles --witnesses` is a kernel installed from the package index, or compiled from its sources,
# the integer rule of intsim it equals, and how many output elements were compared under hypothesis; swapping the rule
# for its nearest neighbour turns every row red. The table is under [witnesses](../reference/kernels.md); `python -m
# tests.kernels.collect` runs every kernel and writes it. The rules are
#
# * {py:mod}`intsim.requantization`: axes that combine freely; `Profile.requantization` takes any of them;
# * {py:mod}`intsim.float32`: IEEE binary32 on integers, for the kernels with float scales;
# * {py:mod}`intsim.kernels <intsim.kernels.rules>`, a module per project: ONNX Runtime, PyTorch, LiteRT and gemmlowp, CMSIS-NN and TFLM
#   where they part from LiteRT, I-BERT's released code, I-ViT, ITA, Qualcomm's and DeepSpeed's quantizers.
#
# What is not a deterministic integer function is listed with its evidence as `NOT_CLAIMED` beside the witnesses in
# `tests/kernels/`: PyTorch's `quantized.add` changes with the number of threads, LiteRT's optimized resolver rounds the
# last elements of a tensor otherwise than the first.
