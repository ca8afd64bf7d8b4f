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

# %% tags=["remove-cell"]
# SPDX-License-Identifier: Apache-2.0

# %% [markdown]
# # 4. A whole transformer
#
# From a file to a decision, with nothing hidden: what is stored, the forward pass in one cell, the trace that every
# chip and kernel can be held against, and then the float model beside it, to see what the integers cost and why.

# %%
import json
import struct
import textwrap
from importlib import resources
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import intsim
from intsim import ops
from intsim.fixedpoint import INT16
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer
from intsim.models.widths import widths

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"

# %% [markdown]
# ## The file
#
# A safetensors file is eight bytes of length, that many bytes of JSON, and then plain arrays. You need no library to
# read it.

# %%
file = resources.files("intsim.embedded") / "model.safetensors"
content = file.read_bytes()
(length,) = struct.unpack("<Q", content[:8])
header = json.loads(content[8 : 8 + length])
metadata = json.loads(header.pop("__metadata__")["intsim"])
print(f"{len(content):,} bytes, {len(header)} tensors of kinds {sorted({entry['dtype'] for entry in header.values()})}")
print(textwrap.fill("beside them: " + ", ".join(metadata), 88))
print("recipe", metadata["recipe"]["name"], "profile", metadata["profile"]["name"])

# %% [markdown]
# Not one float. What a trained network has of reals became three kinds of integers: codes of weights, multipliers and
# shifts (the ratios of scales), and biases in units of the accumulator.

# %%
parts = {
    "words": ["embeddings.word"],
    "positions, segments": ["embeddings.position", "embeddings.token_type"],
    "attention": ["attention.self", "attention.output.dense"],
    "feed-forward": ["intermediate.dense", ".output.dense"],
    "pooler, classifier": ["pooler", "classifier"],
}
sizes = dict.fromkeys([*parts, "LayerNorm, scales"], 0)
constants = dict.fromkeys(sizes, 0)
for name, entry in header.items():
    bytes_ = entry["data_offsets"][1] - entry["data_offsets"][0]
    part = next((part for part, names in parts.items() if any(each in name for each in names)), "LayerNorm, scales")
    (sizes if name.endswith("weight") else constants)[part] += bytes_

# %% tags=["hide-input"] alt="Kilobytes in the file by part: words 770, feed-forward 290, attention 150, the others below 20"
figure, axes = plt.subplots(figsize=(7.6, 2.5))
axes.barh(list(sizes), [size / 1000 for size in sizes.values()], color=INK, label="codes of weights, int8")
axes.barh(
    list(sizes),
    [size / 1000 for size in constants.values()],
    left=[size / 1000 for size in sizes.values()],
    color=RUST,
    label="biases, multipliers, shifts",
)
axes.invert_yaxis()
axes.set(xlabel="kB in the file")
axes.tick_params(left=False)
axes.legend(loc="lower right")
axes.grid(visible=True, axis="x")
plt.show()

# %% [markdown]
# ## The forward pass, all of it
#
# `ops` are pure functions on integer arrays. With six small helpers a BERT is this cell. Read it once from top to
# bottom: there is nothing else.

# %%
model = intsim.load(resources.files("intsim.embedded"))
tensors, formats, profile, config = model.tensors, model.formats, model.profile, model.config


def rescale(name: str, acc: np.ndarray) -> np.ndarray:
    """Bring an accumulator into the format of the activation ``name``: one multiplier, one shift, one rounding."""
    form = formats[name]
    how = {"to": form.range, "zero_point": form.zero_point, "rounding": profile.requantization}
    return ops.requantize(acc, model.ratio(name), **how)


def multiply(name: str, x: np.ndarray) -> np.ndarray:
    """Return the accumulator of a layer. Zero points of x are in the bias already."""
    return ops.matmul(x, tensors[f"{name}.weight"], bias=tensors[f"{name}.bias"])


def add(name: str, terms: dict[str, np.ndarray]) -> np.ndarray:
    """Add what has different scales: each term times its multiplier, one shift, one rounding."""
    form, ratios = formats[name], [model.ratio(term) for term in terms]
    return ops.add(list(terms.values()), ratios, to=form.range, zero_point=form.zero_point, profile=profile)


def residual(name: str, acc: np.ndarray, skip: np.ndarray, skip_name: str) -> np.ndarray:
    """Add a layer's accumulator to what went around it, and normalise."""
    centred = skip.astype(np.int32) - formats[skip_name].zero_point
    return norm(f"{name}.LayerNorm", add(f"{name}.sum", {f"{name}.dense": acc, f"{name}.residual": centred}))


def norm(name: str, x: np.ndarray) -> np.ndarray:
    """Apply a LayerNorm."""
    return ops.layer_norm(x, model.layer_norm_params(name), to=formats[name].range, profile=profile)


def heads(x: np.ndarray) -> np.ndarray:
    """Split channels into heads: (T, C) -> (H, T, D)."""
    return x.reshape(len(x), config.num_attention_heads, -1).swapaxes(0, 1)


def forward(ids: list[int]) -> np.ndarray:
    """Return the int32 logits of one text."""
    names = [f"embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")]
    rows = (np.array(ids), np.arange(len(ids)), np.zeros(len(ids), int))
    x = add("embeddings.sum", {n: tensors[f"{n}.weight"][row] for n, row in zip(names, rows, strict=True)})
    x, x_name = norm("embeddings.LayerNorm", x), "embeddings.LayerNorm"
    for layer in range(config.num_hidden_layers):
        n = f"encoder.layer.{layer}"
        a = f"{n}.attention"
        q, k, v = (heads(rescale(f"{a}.self.{p}", multiply(f"{a}.self.{p}", x))) for p in ("query", "key", "value"))
        scores = ops.matmul(q, k)
        probs = ops.softmax(scores, model.ratio(f"{a}.self.scores"), profile=profile)
        context = ops.matmul(probs, v.swapaxes(1, 2)).swapaxes(0, 1).reshape(x.shape)
        context = rescale(f"{a}.self.context", context)
        x, x_name = residual(f"{a}.output", multiply(f"{a}.output.dense", context), x, x_name), f"{a}.output.LayerNorm"
        hidden, ratio = multiply(f"{n}.intermediate.dense", x), model.ratio(f"{n}.intermediate.dense")
        hidden = ops.requantize(hidden, ratio, to=INT16, rounding=profile.requantization)  # what GELU reads
        hidden = rescale(f"{n}.intermediate", ops.gelu(hidden, profile=profile))
        x, x_name = residual(f"{n}.output", multiply(f"{n}.output.dense", hidden), x, x_name), f"{n}.output.LayerNorm"
    pooled = ops.requantize(
        multiply("pooler.dense", x[0]), model.ratio("pooler.dense"), to=INT16, rounding=profile.requantization
    )
    return rescale("classifier", multiply("classifier", rescale("pooler", ops.tanh(pooled, profile=profile))))


tokenizer = parse_tokenizer(model.tokenizer)
encoding = encode(tokenizer, "An honest, moving and quietly powerful film.", longest=128)
logits = forward(list(encoding.ids))
result = model([encoding.ids])
print("the cell above:", logits.tolist(), "  intsim:", result.values[0].tolist())
assert np.array_equal(logits, result.values[0])
print("label:", config.labels[int(logits.argmax())])

# %% [markdown]
# ## The trace
#
# `intsim.trace()` keeps every intermediate under the name that the checkpoint gives its module. That is what a chip is
# compared with: the first tensor that differs says where to look. Here is one layer; dark is what this sentence used of
# each register, light what the register has. The red tick is what *no* sentence can exceed: the same forward pass
# walked over intervals instead of numbers proves it.

# %%
with intsim.trace() as trace:
    model([encoding.ids])
layer = [name for name in trace if name.startswith("encoder.layer.0.")]
proved = {name: width.bits for name, width in widths(model).items()}
used, given = [], []
for name in layer:
    values = trace[name].astype(np.int64)
    signed = trace[name].dtype.kind == "i"
    used.append(int(max(values.max(), ~values.min())).bit_length() + signed)
    given.append(trace[name].dtype.itemsize * 8)

# %% tags=["hide-input"] alt="Bits used by one sentence, proved bound and register, for every tensor of a layer"
figure, axes = plt.subplots(figsize=(7.6, 5))
places = np.arange(len(layer))
axes.barh(places, given, color="#d5dae1", height=0.78, label="register")
axes.barh(places, used, color=INK, height=0.5, label="used by one sentence")
most = [proved[name] for name in layer]
axes.plot(most, places, "|", color=RUST, markersize=11, markeredgewidth=2, label="most of any sentence, proved")
axes.legend(loc="lower right", bbox_to_anchor=(1.02, 1), ncols=3)
assert max(bits for name, bits in proved.items() if name.endswith(".acc")) <= 24
for place, bits in zip(places, used, strict=True):
    axes.text(bits - 0.25, place, bits, va="center", ha="right", fontsize=7.5, color="white")
axes.set_yticks(places, [name.removeprefix("encoder.layer.0.") for name in layer])
axes.set(xlabel="bits", xticks=[8, 16, 24, 32], ylim=(len(layer) - 0.4, -0.6), xlim=(0, 33))
axes.tick_params(left=False)
axes.spines["left"].set_visible(False)
figure.savefig("figures/registers.png", dpi=100)
plt.show()

# %% [markdown]
# Narrow, wide, narrow, wide: every product widens, every requantization narrows. No accumulator of this model can come
# near 32 bits, whatever you write.
#
# ## The same digest everywhere
#
# A result has a digest, the SHA-256 of its integers. Run the model alone, in a batch, padded, on plain integer products
# instead of BLAS, in another process with another number of threads:

# %%
import hashlib
import os
import subprocess
import sys

others = ["It is not a bad film, just a long one.", "The plot is thin, but the two leads are a delight to watch."]
batch, mask, types = pad([encoding, *(encode(tokenizer, text, longest=128) for text in others)], pad_id=0)


def first(values: np.ndarray) -> str:
    """Return the digest of the first text's logits."""
    return hashlib.sha256(np.ascontiguousarray(values[:1]).tobytes()).hexdigest()


program = f"""
import intsim
from importlib import resources
print(intsim.load(resources.files("intsim.embedded"))([{list(encoding.ids)}]).digest)
"""


def elsewhere(**environment: str) -> str:
    """Return the digest that another process finds."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout.strip()


digests = {
    "alone": result.digest,
    "in a batch of three, padded": first(model(batch, attention_mask=mask).values),
    "the batch reversed": first(model(batch[::-1], attention_mask=mask[::-1]).values[::-1]),
    "products on plain integers": model([encoding.ids], carrier="integer").digest,
    "the cell above": first(logits[None]),
    "one thread": elsewhere(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
    "two threads": elsewhere(OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2"),
}
for how, digest in digests.items():
    print(f"{how:<30} {digest[:24]}")
assert len(set(digests.values())) == 1

# %% [markdown]
# Nothing is rounded in an order that a thread could change, so there is nothing to tolerate. The float model, in
# float32, on the same sentence:

# %%
from intsim.reference.world import run

FLOAT = Path("../../tests/data/embedded-float")
checkpoint = open_checkpoint(FLOAT)
single = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}


def reals(weights: dict[str, np.ndarray], ids: np.ndarray, mask: np.ndarray, **how: object) -> np.ndarray:
    """Run the float model."""
    where = {"attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, **where, **how)


for rows in (1, 2, 3):
    length = int(mask[:rows].sum(axis=1).max())
    values = reals(single, batch[:rows, :length], mask[:rows, :length])
    print(f"in a batch of {rows}: {values[0].tolist()}  {first(values)[:16]}")

# %% [markdown]
# The last digits depend on the company the sentence keeps (and on your processor: yours may look different). Harmless
# for a film review. For "is the chip right?" it means that one can only ever say *nearly*.
#
# ## Integers beside reals, layer by layer
#
# How near are the integers to the reals they stand for? Run both on sixteen sentences and compare every activation that
# they share. The measure is the squared error relative to the square of the tensor, $\sum (x - x_\text{float})^2 / \sum
# x_\text{float}^2$.

# %%
from intsim.convert.quantize import default_calibration

texts = default_calibration()[:16]
ids, mask, _ = pad([encode(tokenizer, text, longest=128) for text in texts], pad_id=0)
double = {name: checkpoint.load(name, np.float64) for name in checkpoint.names}
seen = {}


def observe(name: str, x: np.ndarray) -> np.ndarray:
    seen[name] = x
    return x


reals(double, ids, mask, observe=observe)
with intsim.trace() as trace:
    model(ids, attention_mask=mask)


def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an activation of real tokens in the float model and in the integer model, as reals."""
    back = formats[name].reals(trace[name])
    return (seen[name][mask], back[mask]) if back.ndim == 3 else (seen[name], back)


shared = [name for name in seen if name in formats and name in trace]
relative = {name: np.square(np.subtract(*pair(name))).sum() / np.square(pair(name)[0]).sum() for name in shared}

# %% tags=["hide-input"] alt="Above, error of each value in LSB after three layers; below, squared error of each tensor"
figure = plt.figure(figsize=(7.6, 7.6))
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.9])
hidden = ["embeddings.LayerNorm", *(f"encoder.layer.{i}.output.LayerNorm" for i in range(config.num_hidden_layers))]
titles = ["after the embeddings", *(f"after layer {i}" for i in range(config.num_hidden_layers))]
panels = above.subplots(1, len(hidden), sharex=True, sharey=True)
for axes, name, title in zip(panels, hidden, titles, strict=True):
    x, back = pair(name)
    lsb = (back - x) / float(formats[name].scale)
    axes.hexbin(x.ravel(), lsb.ravel(), gridsize=(48, 30), extent=(-8, 8, -5, 5), bins="log", cmap="Greys", mincnt=1)
    for half in (-0.5, 0.5):
        axes.axhline(half, color=RUST, linewidth=1, linestyle="--")
    within = np.mean(np.abs(lsb) <= 1)
    axes.set(
        xlabel="float",
        title=f"{title}\n{100 * within:.0f} % within 1 LSB",
        ylim=(-5, 5),
        xlim=(-8, 8),
        xticks=[-5, 0, 5],
    )
panels[0].set_ylabel("integer less float, LSB")
axes = below.subplots()
places = np.arange(len(shared))
axes.hlines(places, 1e-5, [100 * relative[name] for name in shared], color="#c9ced6", linewidth=1.2, linestyle="-")
bits = np.array([formats[name].range.bits for name in shared])
percents = np.array([100 * relative[name] for name in shared])
for width, mark, colour, text in ((8, "o", INK, "8 bits"), (16, "D", RUST, "16 bits"), (32, "s", SEA, "32 bits")):
    axes.plot(
        percents[bits == width], places[bits == width], mark, color=colour, markersize=6, label=text, linestyle="none"
    )
axes.set_yticks(places, [name.removeprefix("encoder.") for name in shared])
axes.set(xlabel="squared error, %", xscale="log", xlim=(0.008, 0.4), ylim=(len(shared) - 0.4, -0.6))
axes.set_xticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
axes.minorticks_off()
axes.tick_params(left=False)
axes.legend(loc="lower right")
axes.grid(visible=True, axis="x")
plt.show()

# %%
labels, integer_labels = (x.argmax(axis=1) for x in pair("classifier"))
print(f"logits: {percents[-1]:.2f} % off; {(labels != integer_labels).sum()} of {len(labels)} labels differ")
assert np.array_equal(labels, integer_labels)

# %% [markdown]
# Above, each value's error in steps of its own ruler, darker where there are more of them; between the dashed lines is
# what one rounding can do. Below, the same as one number a tensor. Errors do not pile up without end: LayerNorm and
# softmax forget some of them. On these sentences no label changes.
#
# ## Where the error comes from
#
# Four things separate the two models, and they can be switched on one after the other: **quantization** (stored
# weights, rounded codes), **saturation** (clipped codes), **approximation** (polynomials for GELU, exp and tanh) and
# **rounding** (all the rest that integers do: fixed-point formats in between, integer roots and quotients).
# `intsim.report` runs the model in these stages and splits the error exactly.

# %%
from intsim.report.error_split import PARTS
from intsim.report.report import report
from intsim.report.tasks.glue import Example

examples = [Example(texts=(text,), target=1.0) for text in texts]  # only errors are asked for: any label will do
measured = report(FLOAT, ["intsim", "ibert", "w8a8"], "sst2", examples, calibration=default_calibration()[16:])

# %% tags=["hide-input"] alt="Squared error by layer and by recipe, split into quantization, saturation, approximation, rounding"
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), width_ratios=[1.4, 1], sharey=True)
colours, hatches = (INK, RUST, SEA, SAND), ("", "//", "..", "xx")


def stack(axes: plt.Axes, labels: list[str], errors: list) -> None:
    """Draw the parts of each error, those that lessen it below 0."""
    for place, error in enumerate(errors):
        ends = {True: 0.0, False: 0.0}
        for part, colour, hatch in zip(PARTS, colours, hatches, strict=True):
            percent = 100 * error.parts[part]
            axes.bar(
                place,
                percent,
                bottom=ends[percent > 0],
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0,
                width=0.65,
                label=part if place == 0 else None,
            )
            ends[percent > 0] += percent
    axes.axhline(0, color="#888888", linewidth=0.8, linestyle="-")
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(bottom=False)
    axes.grid(visible=True, axis="y")


states = measured.recipes[0].errors
stack(left, ["embeddings", *(f"layer {i}" for i in range(len(states) - 2)), "logits"], states)
left.set(ylabel="squared error, %", title="recipe intsim, along the model")
stack(right, [each.recipe for each in measured.recipes], [each.errors[-2] for each in measured.recipes])
right.set(title="after layer 1, by recipe")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %%
print(f"{'squared error of, %':<29} {' '.join(f'{part:>14}' for part in PARTS)}")
for each in measured.recipes:
    for error in each.errors[-2:]:
        split = " ".join(f"{100 * error.parts[part]:+14.3f}" for part in PARTS)
        print(f"{each.recipe:<6} {error.name.removeprefix('encoder.layer.1.'):<16} {100 * error.squared:.3f} {split}")

# %% [markdown]
# In the recipe `intsim` the polynomials do as much harm as all 8-bit codes together: the price of one multiplication
# (chapter 2). `ibert` adds rounding: it floors quotients where `intsim` takes the nearest. `w8a8` keeps the residual
# stream in 8 bits, and its quantization error is twice as large. Its logits happen to be the nearest of the three,
# because errors cancel there: one number at the end is a poor witness.

# %%
by_recipe = {each.recipe: each.errors for each in measured.recipes}
last, logits_error = -2, -1
ours = by_recipe["intsim"][last].parts
assert 0.7 < ours["approximation"] / ours["quantization"] < 1.3
assert by_recipe["ibert"][last].parts["rounding"] > 10 * abs(ours["rounding"])
assert 1.8 < by_recipe["w8a8"][last].parts["quantization"] / ours["quantization"] < 2.2
assert min(by_recipe, key=lambda recipe: by_recipe[recipe][logits_error].squared) == "w8a8"

# %% [markdown]
# ## Exercises

# %%


from exercise import check

# %% [markdown]
# **1.** Read the first eight codes of `classifier.weight` from the bytes of the file, with the header and
# `np.frombuffer`.

# %%
answer = ...
check(answer, "f167700f")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
start, _ = header["classifier.weight"]["data_offsets"]
solution = np.frombuffer(
    content, np.int8, count=8, offset=8 + len(content[8 : 8 + struct.unpack("<Q", content[:8])[0]]) + start
)
check(solution, "f167700f")

# %% [markdown]
# **2.** How many multiplications of two codes does the forward pass take for a text of 11 tokens, in matrix products
# alone? (Products by weights, scores and contexts; the classifier and pooler read one token.)

# %%
answer = ...
check(answer, "e273fd06")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
t, c, f = 11, config.hidden_size, config.intermediate_size
per_layer = t * (4 * c * c + 2 * c * f) + 2 * t * t * c
solution = config.num_hidden_layers * per_layer + c * c + 2 * c
check(solution, "e273fd06")

# %% [markdown]
# **3.** Change one weight, `classifier.weight[1, 0]`, by one LSB. By how much does the accumulator of the second logit
# change, for the sentence above? Predict it from the trace before you try.

# %%
answer = ...
check(answer, "29e207a5")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
with intsim.trace() as again:
    model([encoding.ids])
solution = int(again["pooler"][0, 0])  # the zero point is in the bias, and the bias stays
check(solution, "29e207a5")

# %% [markdown]
# **4.** Leave the last rounding of each residual sum out, that is, let `add` floor. By how many LSB do the two logits
# of the sentence change? (`dataclasses.replace(profile, rounding=...)` makes a profile that floors.)

# %%
answer = ...
check(answer, "9f6bd382")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
import dataclasses

exact_add = add


def add(name: str, terms: dict[str, np.ndarray]) -> np.ndarray:
    form, ratios = formats[name], [model.ratio(term) for term in terms]
    floor = dataclasses.replace(profile, rounding=intsim.Rounding.FLOOR)
    return ops.add(list(terms.values()), ratios, to=form.range, zero_point=form.zero_point, profile=floor)


solution = forward(list(encoding.ids)).astype(np.int64) - logits
add = exact_add
check(solution, "9f6bd382")

# %% [markdown]
# Next: [why transformers are hard to quantize](05_why_transformers_are_hard_to_quantize.py). This small model was easy.
# Larger ones have outliers.
