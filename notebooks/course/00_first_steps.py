# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
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
# # First steps
#
# A sentence becomes a decision, and every value on the way is an integer.
#
# A transformer is usually written in floating point. A chip for it is not: it multiplies small integers, adds, shifts,
# and looks things up. intsim runs the whole model the way the chip does. This notebook follows one sentence through the
# small sentiment classifier that comes with the package.

# %%
from importlib import resources

import numpy as np

import intsim
from intsim import ops
from intsim.io.tokenizer import encode, parse_tokenizer

model = intsim.load(resources.files("intsim.embedded"))
tokenizer = parse_tokenizer(model.tokenizer)
encoding = encode(tokenizer, "An honest, moving and quietly powerful film.", longest=128)
list(zip(encoding.tokens, encoding.ids, strict=True))

# %% [markdown]
# ## One forward pass
#
# The model takes token ids and returns integers, with the one number that says what they stand for: a dyadic rational,
# `multiplier / 2**shift`. `intsim.trace()` keeps every intermediate.

# %%
with intsim.trace() as trace:
    result = model([encoding.ids])

print("logits ", result.values, f"times {result.scale.multiplier} / 2**{result.scale.shift}")
print("label  ", model.config.labels[result.labels[0]])
print("digest ", result.digest)
for name, values in list(trace.items())[:20]:
    print(f"{name:<45} {values.dtype!s:<6} {values.shape}")

# %% [markdown]
# Nothing in there is a float:

# %%
{str(values.dtype) for values in trace.values()}

# %% [markdown]
# ## A matrix product, and what happens to its result
#
# The query of the first layer is an int8 matrix product. Its sums are kept in 32 bits, in the *accumulator*:

# %%
x = trace["embeddings.LayerNorm"]
name = "encoder.layer.0.attention.self.query"
weight, bias = model.tensors[f"{name}.weight"].astype(np.int32), model.tensors[f"{name}.bias"]
acc = x[0].astype(np.int32) @ weight.T + bias
assert np.array_equal(acc, trace[f"{name}.acc"][0])
acc[:3, :6]

# %% [markdown]
# The next layer wants 8 bits again. Dividing by the ratio of the two scales is a multiplication by an integer and a
# shift, with one rounding. This is *requantization*:

# %%
ratio = model.ratio(name)
channel = 0
multiplier, shift = int(ratio.multiplier[channel]), int(ratio.shift[channel])
by_hand = [(int(a) * multiplier + (1 << (shift - 1))) >> shift for a in acc[:, channel]]
print(f"ratio of the scales: {multiplier} / 2**{shift} = {multiplier / 2**shift:.6f}")
print("by hand:", by_hand)
print("intsim: ", trace[name][0, :, channel].tolist())

# %% [markdown]
# ## Attention is integers too
#
# A row of probabilities is uint8, where 255 stands for 1. The first head of the first layer, from `[CLS]`:

# %%
probs = trace["encoder.layer.0.attention.self.probs"][0, 0]
dict(zip(encoding.tokens, probs[0].tolist(), strict=True))

# %% [markdown]
# ## GELU, by a parabola
#
# GELU contains the error function. I-BERT replaces it by a second-order polynomial, which integers can evaluate
# ([chapter 2](02_functions_without_floats.py) builds it). intsim keeps I-BERT's form with coefficients that make the
# largest error smaller. Such choices are a *profile*: all the rules that decide a bit, under one name. The input is a
# 16-bit fixed-point number, so the whole function is 65,536 integers, and every one can be held against the real thing:

# %%
from intsim.reference.ops.gelu import gelu

codes = np.arange(-(2**15), 2**15).astype(np.int16)
curves = {}
for profile in (intsim.PROFILES["ibert"], intsim.PROFILES["intsim"]):
    real = codes / 2**profile.gelu.input_fraction
    y = ops.gelu(codes, profile=profile) * float(profile.gelu.output_scale)
    curves[profile.name] = real, y, y - gelu(real)
    print(f"profile {profile.name:<6} largest error {np.abs(y - gelu(real)).max():.4f}")

# %% tags=["hide-input"] alt="GELU of reals and of integers, and the error: two waves, at most 0.018 high"
import matplotlib.pyplot as plt

plt.style.use("course.mplstyle")
figure, (above, below) = plt.subplots(2, 1, figsize=(7.6, 4.8), sharex=True, height_ratios=[1.5, 1])
above.plot(real, gelu(real), color="#c9ced6", linewidth=6, linestyle="-", label="GELU")
for (name, (real, y, error)), colour, line in zip(curves.items(), ("#b8492a", "#1b2a49"), ("--", "-"), strict=True):
    above.plot(real, y, color=colour, linestyle=line, label=f"integers, profile {name}")
    below.plot(real, 1000 * error, color=colour, linestyle=line)
above.set(xlim=(-5, 5), ylim=(-0.3, 2), ylabel="GELU$(x)$")
below.set(xlabel="$x$", ylabel="error, $10^{-3}$")
below.grid(visible=True, axis="y")
above.legend()
plt.show()

# %% [markdown]
# ## Why it is trusted
#
# The digest of the output is the same on every machine, for every batch size, padding and thread count, and whether the
# products run on integers or on floating-point hardware that is proved exact for them:

# %%
plain = model([encoding.ids], carrier="integer")
padded = model([[*encoding.ids, 0, 0, 0]], attention_mask=[[1] * len(encoding.ids) + [0] * 3])
result.digest == plain.digest == padded.digest
