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
# # Bring up a chip
#
# You have RTL, a simulator or first silicon, and want to know whether it computes the model. Three questions, from
# small to large: does each operator give the right bits, does a whole layer, and if not, which rule was built
# otherwise?

# %% tags=["remove-cell"]
import shell  # the commands are typed in the folder of the repository

# %% [markdown]
# ## One operator: vectors
#
# `vectors gen` writes cases of an operator, one a line: edges and ties first, then random ones, the same bytes for the
# same seed for ever.

# %% language="bash"
# intsim vectors gen requantize | head -16

# %% [markdown]
# The device reads the operands and prints them with its result; `vectors verify` judges. This stand-in for a device
# rounds ties to even, where the profile rounds them up:

# %%
from pathlib import Path

DEVICE = """
import sys

def signed(word):  # two's complement, as wide as the word
    return int(word, 16) - (int(word, 16) >> 4 * len(word) - 1 << 4 * len(word))

for line in sys.stdin:
    if line.startswith("#"):
        print(line, end="")
        continue
    acc, multiplier, shift, zero_point = line.split()
    product, shift = signed(acc) * signed(multiplier), int(shift, 16)
    scaled = product >> shift
    half = product - (scaled << shift) - (1 << shift >> 1) if shift else -1
    scaled += half > 0 or (half == 0 and scaled % 2)
    print(line.strip(), f"{max(-128, min(127, scaled + signed(zero_point))) & 0xFF:02x}")
"""
_ = Path("/tmp/device.py").write_text(DEVICE, encoding="utf-8")

# %% language="bash"
# intsim vectors gen requantize > /tmp/golden.txt
# intsim vectors gen requantize --operands-only | python /tmp/device.py > /tmp/answers.txt
# intsim vectors verify requantize /tmp/answers.txt --errors 3 || test $? = 1
# intsim diagnose /tmp/golden.txt /tmp/answers.txt | tail -12

# %% [markdown]
# `diagnose` runs the operator again under each of about 700 single changes that hardware has been seen to make (another
# rounding, two roundings, a missing saturation, a shift off by one, a narrower multiplier, a register of so many bits,
# a square root of fixed steps, an unmasked softmax, ...) and says which of them give the device's integers exactly.
#
# There are vectors of requantize, add, exp, softmax, gelu, gelu_tanh, tanh, sigmoid, silu, isqrt, layer_norm, rms_norm,
# l2_normalize, rotary, multiply, matmul and quantize: as text, as memh with a SystemVerilog package, npz, safetensors
# or a C header ([formats](../reference/formats.md)). `vectors kill` prints which of the bugs above the vectors catch:
# level 1 catches every one that any input can show.
#
# ## How wide every register must be
#
# `inspect --widths` walks the forward pass over intervals instead of arrays and prints, for every intermediate of a
# trace of level `steps`, the range that no text can leave, computed from the checkpoint's own weights, biases and
# multipliers: the bits it needs, and the bits it has.

# %% language="bash"
# intsim quantize tests/data/embedded-float -o /tmp/film
# intsim inspect /tmp/film --widths | head -16

# %% [markdown]
# In the embedded model the widest accumulator takes 24 of its 32 bits and a context sum 17, because a row of
# probabilities sums to at most 510. The same walk runs when a model is built: an operator that could overflow on some
# text is refused, by name. `--observe texts.txt` sets the ranges that texts reach beside it, in flat memory.
#
# ## A whole layer: trace, compare, diagnose
#
# A trace of level `steps` holds every intermediate, and all that it takes to compute each operator again:

# %% language="bash"
# intsim run /tmp/film --text "a nice day" --trace /tmp/golden.safetensors --level steps

# %% [markdown]
# The device dumps what it can, as npz, or as a folder of memh files under the trace's names; a partial dump is enough.
# Here is one whose softmax of layer 0 forgot the half in its division:

# %%
import numpy as np

from intsim.io.trace_file import read_trace

trace, profile = read_trace("/tmp/golden.safetensors")
name = "encoder.layer.0.attention.self.probs"
e, total = (trace[f"{name}:{step}"].astype(np.int64) for step in ("exp", "sum"))
dump = {each: trace[each] for each in list(trace) if ":" not in each}
dump[name] = (e * profile.softmax.one // total).astype(np.uint8)
np.savez("/tmp/device.npz", **dump)

# %% language="bash"
# intsim compare /tmp/golden.safetensors /tmp/device.npz --max-errors 4 || test $? = 1
# intsim diagnose /tmp/golden.safetensors /tmp/device.npz | tail -4

# %% [markdown]
# `compare` names the first tensor in forward order that differs, its indices, both values and the difference in LSB,
# and exits with 1. `diagnose` runs that tensor's operator again, from the golden operands, so that an earlier
# difference does not hide the cause of this one.
#
# {py:func}`intsim.verify.replay.replay` runs a function of yours on every recorded call of an operator, `replay(trace,
# {"softmax": my_kernel})`: a simulator may stand behind it.
#
# ## Which model was it?
#
# A trace's manifest gives every tensor's forward index, operator, shape, dtype, bits, exact scale (a rational, also for
# accumulators) and zero point, with the profile and its hash. An integer checkpoint carries a digest, the SHA-256 of
# its tensors, formats, configuration, profile, recipe and tokenizer, which loading verifies: no flipped bit gives
# another answer. `model.digest`, `intsim inspect` and the JSON of `run`, `eval` and `report` show it, traces and ONNX
# exports carry it, and `compare`, `diagnose` and `replay(..., model=model)` say when a trace is of another model.
#
# What tracing costs is under [time and memory](../reference/speed.md). A thread that you start inside `intsim.trace()`
# is traced if it runs in a copy of the block's context: `asyncio.to_thread(model, ids)`, or
# `Thread(target=contextvars.copy_context().run, args=(model, ids))`.
