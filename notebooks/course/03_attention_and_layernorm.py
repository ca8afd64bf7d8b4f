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
# # 3. Attention and LayerNorm on integers
#
# Now a real sentence goes through a real layer, and we stop at every step to look. The model is the small sentiment
# classifier that comes with intsim: 2 layers, 4 heads, 128 channels, all integers.

# %%
from importlib import resources

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

import intsim
from intsim import ops
from intsim.fixedpoint import Dyadic, isqrt
from intsim.io.tokenizer import encode, parse_tokenizer

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"

model = intsim.load(resources.files("intsim.embedded"))
encoding = encode(parse_tokenizer(model.tokenizer), "It is not a bad film, just a long one.", longest=128)
tokens, ids = list(encoding.tokens), list(encoding.ids)
with intsim.trace("steps") as trace:  # "steps" keeps what happens inside the operators too
    result = model([ids])

print(len(tokens), "tokens:", " ".join(tokens))
print("logits", result.values.tolist(), "label", model.config.labels[result.labels[0]])
print("tensors in the trace:", len(trace), "of kinds", sorted({str(values.dtype) for values in trace.values()}))

# %% [markdown]
# (One could argue with the verdict. A little over a million parameters do not make a film critic, on integers or not.)

# %%
parameters = sum(values.size for name, values in model.tensors.items() if name.endswith(("weight", "bias")))
print(f"{parameters:,} parameters")
assert 1_000_000 < parameters < 1_300_000

# %% [markdown]
# ## Scores: an exact product
#
# The second layer has made three 8-bit vectors of each token, query, key and value; head 3 has 32 channels of each. The
# score of two tokens is the product of one's query and the other's key. Sums of 32 products of 8-bit codes: exact, and
# int32 has ample room.

# %%
LAYER, HEAD, WIDTH = "encoder.layer.1.attention.self", 3, 32
channels = slice(HEAD * WIDTH, (HEAD + 1) * WIDTH)
query, key, value = (trace[f"{LAYER}.{name}"][0, :, channels].astype(np.int32) for name in ("query", "key", "value"))
scores = query @ key.T
assert np.array_equal(scores, trace[f"{LAYER}.scores.acc"][0, HEAD])
print("scores are in", [int(scores.min()), int(scores.max())], "and could reach", WIDTH * 2**14)
query_step, key_step = (float(model.formats[f"{LAYER}.{name}"].scale) for name in ("query", "key"))
one = query_step * key_step / np.sqrt(WIDTH)  # what one LSB of a score stands for


def annotate(axes: plt.Axes, integers: np.ndarray, size: float) -> None:
    """Write each integer on its cell of a heat map, light on dark and dark on light."""
    middle = (axes.images[0].norm.vmin + axes.images[0].norm.vmax) / 2
    for (row, column), code in np.ndenumerate(integers):
        colour = "white" if code < middle else "black"
        axes.text(column, row, f"{code}".replace("-", "−"), ha="center", va="center", fontsize=size, color=colour)


def label(axes: plt.Axes, names: list[str]) -> None:
    """Put tokens on both axes."""
    axes.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="key of", ylabel="query of")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


# %% tags=["hide-input"] alt="Scores of each query with each key; the largest of the row of 'not' is at 'bad'"
figure, axes = plt.subplots(figsize=(7.8, 5.6))
image = axes.imshow(scores)
annotate(axes, scores, 6)
label(axes, tokens)
bar = figure.colorbar(image, label="score, LSB of the accumulator", pad=0.02)
reals = bar.ax.secondary_yaxis(-0.35, functions=(lambda q: q * one, lambda r: r / one))
reals.set_ylabel("")
bar.ax.set_title("real | LSB", fontsize=8, loc="center")
plt.show()

# %% [markdown]
# The row of *not* has its largest score at *bad*: this head has learned what belongs together. The real number behind a
# score is score $\cdot\, s_q s_k / \sqrt{32}$, and that one factor goes into the next step.
#
# ## Softmax: one row in slow motion
#
# 1. Subtract the row's largest score, an exact subtraction. Now all are $\le 0$.
# 2. Requantize to the input format of exp, 11 fraction bits. This is the only place where the scale enters.
# 3. i-exp: halvings $z$, remainder $p$, parabola, shift (chapter 2).
# 4. Add up; then divide each by the sum, 255 standing for 1.

# %%
row = tokens.index("not")
assert tokens[scores[row].argmax()] == "bad"
steps = {
    name.rpartition(":")[2]: values[0, HEAD, row]
    for name, values in trace.items()
    if name.startswith(f"{LAYER}.probs:")
}
probs = trace[f"{LAYER}.probs"][0, HEAD]
print(
    f"{'token':<7} {'score':>7} {'minus max':>10} {'x_q':>7} {'z':>3} {'p':>7} {'e':>7} {'255 e / sum':>12} {'code':>5}"
)
for i, token in enumerate(tokens):
    minus_max = scores[row, i] - scores[row].max()
    x_q, z, p, e = (int(steps[name][i]) for name in ("exp.x_q", "exp.z", "exp.p", "exp"))
    exact = 255 * e / int(steps["sum"][0])
    print(
        f"{token:<7} {scores[row, i]:>7} {minus_max:>10} {x_q:>7} {z:>3} {p:>7} {e:>7} {exact:>12.3f}"
        f" {probs[row, i]:>5}"
    )
print("sum of e:", int(steps["sum"][0]), "  sum of the codes:", int(probs[row].sum()))

# %%
real_scores = scores * one
real_probs = np.exp(real_scores - real_scores.max(axis=1, keepdims=True))
real_probs /= real_probs.sum(axis=1, keepdims=True)

# %% tags=["hide-input"] alt="The row of 'not', three steps: score less maximum, exponential, probability, most at 'bad' and 'not'"
figure, panels = plt.subplots(3, 1, figsize=(7.6, 5.2), sharex=True)
places = np.arange(len(tokens))
panels[0].bar(places, scores[row] - scores[row].max(), color=SEA, width=0.7)
panels[0].set_ylabel("score − max\nLSB")
panels[1].bar(places, steps["exp"], color=SEA, width=0.7)
panels[1].set_ylabel("exponential\nLSB")
panels[2].bar(places, probs[row], color=INK, width=0.7, label="integers")
panels[2].plot(
    places,
    255 * real_probs[row],
    "o",
    color=RUST,
    markerfacecolor="white",
    markersize=6,
    label="softmax in reals, times 255",
)
panels[2].set_ylabel("probability\nLSB of 1/255")
panels[2].legend(loc="upper right")
panels[2].set_xticks(places, tokens)
for axes in panels:
    axes.tick_params(bottom=False)
    axes.grid(visible=True, axis="y")
figure.suptitle(f"How much does “{tokens[row]}” look at each token?", x=0.09, ha="left", fontsize=9.5)
plt.show()

# %%
print("largest distance to the reals:", np.abs(probs - 255 * real_probs).max().round(2), "LSB")

# %% [markdown]
# ## Rows of uint8
#
# All rows of the head. Each cell is one byte. A row should sum to 255, and does not quite: fourteen roundings do not
# cancel. It is *known* by how much it can be off, which is what sizes the accumulator of the next product.

# %% tags=["hide-input"] alt="Probabilities of all rows as bytes; at the right, the row sums less 255: 0, 1 or 2"
figure, (axes, sums) = plt.subplots(1, 2, figsize=(8.4, 5.2), width_ratios=[5, 1], sharey=True)
axes.imshow(probs, vmin=0, vmax=110, aspect="auto")
annotate(axes, probs, 7.5)
label(axes, tokens)
totals = probs.sum(axis=1, dtype=int)
sums.barh(places, totals - 255, color=INK, height=0.6)
for place, total in zip(places, totals, strict=True):
    sums.text(2.6, place, total, va="center", fontsize=8)
sums.axvline(0, color="#888888", linewidth=0.8, linestyle="-")
sums.set(xlim=(-2.6, 2.6), xticks=[-2, 0, 2], xlabel="sum of the row\nless 255, LSB")
sums.tick_params(left=False, labelleft=False)
sums.spines["left"].set_visible(False)
figure.savefig("figures/attention.png", dpi=100)
plt.show()

# %%
print("rows sum to", sorted(set(totals.tolist())), "and can reach", model.profile.row_sum(len(tokens)))

# %% [markdown]
# ## Masked is exactly zero
#
# Sentences of several lengths share a batch, and short ones are padded. A float model adds a large negative number to
# padded scores and hopes. Here a masked position takes no part: not in the maximum, not in the sum, and its probability
# is the integer 0. So padding cannot change a single bit of the other tokens.

# %%
PADS = 4
padded_ids, mask = [*ids, *[0] * PADS], [1] * len(ids) + [0] * PADS
with intsim.trace("steps") as padded:
    padded_result = model([padded_ids], attention_mask=[mask])
padded_probs = padded[f"{LAYER}.probs"][0, HEAD]
n = len(ids)
assert np.array_equal(padded_probs[:n, :n], probs)
assert not padded_probs[:, n:].any()
assert padded_result.digest == result.digest
print("same digest with padding:", padded_result.digest[:16], "…")

# %% tags=["hide-input"] alt="Scores and probabilities of a padded text: the four columns of padding have scores but are exactly 0"
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.3), sharex=True, sharey=True)
names = [*tokens, *["[PAD]"] * PADS]
for axes, values, title in (
    (left, padded[f"{LAYER}.scores.acc"][0, HEAD], "scores: padding has some too"),
    (right, padded_probs, "probabilities: exactly 0 in the frame"),
):
    axes.imshow(values, **({"vmin": 0, "vmax": 110} if values is padded_probs else {}))
    label(axes, names)
    axes.set_title(title)
    axes.add_patch(
        Rectangle(
            (n - 0.46, -0.46),
            PADS - 0.08,
            len(names) - 0.08,
            fill=False,
            edgecolor="white",
            linewidth=1.4,
            hatch="////" if values is padded_probs else None,
            alpha=0.9,
        )
    )
    axes.tick_params(labelsize=7)
right.set_ylabel("")
plt.show()

# %% [markdown]
# (The last rows are those of padding tokens. They are computed and never read.)
#
# Probabilities times values gives the context, another exact product. One row by hand, in Python's integers:

# %%
i, channel = row, 5
acc = sum(int(p) * int(v) for p, v in zip(probs[i], value[:, channel], strict=True))
ratio, form = model.ratio(f"{LAYER}.context"), model.formats[f"{LAYER}.context"]
half = 1 << (int(ratio.shift) - 1)
code = ((acc * int(ratio.multiplier) + half) >> int(ratio.shift)) + form.zero_point
print("by hand:", acc, "->", code)
print(
    "intsim: ",
    trace[f"{LAYER}.context.acc"][0, HEAD, i, channel],
    "->",
    trace[f"{LAYER}.context"][0, i, channels][channel],
)

# %% [markdown]
# ## The residual stream
#
# What a layer finds is *added* to what it was given. This sum runs through the whole network, and it is the widest
# thing in it: large values in a few channels, small ones everywhere else. So it gets 16 bits where other activations
# have 8.

# %%
stages = ["embeddings.sum"] + [
    f"encoder.layer.{layer}.{part}" for layer in range(2) for part in ("attention.output.sum", "output.sum")
]
short = ["embeddings", "+ attention 0", "+ feed-forward 0", "+ attention 1", "+ feed-forward 1"]
sums_in_reals = {name: model.formats[name].reals(trace[name][0]) for name in stages}

# %% tags=["hide-input"] alt="The first token's residual sum, layer by layer; below, ranges of codes and their middle halves"
figure, (above, below) = plt.subplots(2, 1, figsize=(8.2, 5.4), height_ratios=[1, 1.25])
stream = np.stack([x[0] / x.std() for x in sums_in_reals.values()])
image = above.imshow(stream, aspect="auto", vmin=-4, vmax=4, interpolation="nearest")
above.set_yticks(range(len(stages)), short)
above.set(xlabel="channel", title="The first token on its way (standard deviations of each sum)")
above.tick_params(left=False)
figure.colorbar(image, ax=above, pad=0.01, extend="both")
for place, name in enumerate(stages):
    codes = trace[name].astype(int) - model.formats[name].zero_point
    quarters = np.quantile(codes, [0.25, 0.75])
    below.hlines(place, codes.min(), codes.max(), color=SEA, linewidth=2, linestyle="-")
    below.hlines(place, *quarters, color=INK, linewidth=9, linestyle="-")
    eighth = (quarters[1] - quarters[0]) / 256
    assert 15 < eighth < 30
    below.text(37_500, place, f"{eighth:.0f}", va="center", ha="right")
below.text(37_500, -0.75, "codes of 8 bits\nin the dark part", ha="right", va="bottom", fontsize=8)
below.set_yticks(range(len(stages)), short)
below.set(xlabel="code, LSB of 16 bits", ylim=(4.6, -0.6), xlim=(-36_000, 38_000))
below.tick_params(left=False)
below.grid(visible=True, axis="x")
plt.show()

# %% [markdown]
# Thin: the range of the codes. Thick: the middle half of them. On the right, how many *8-bit* codes that half would
# have to share: some twenty steps for half of all values, with an error that is carried to the very end. That is what
# breaks 8-bit residuals, and chapter 5 shows it on a larger model.
#
# ## LayerNorm
#
# Subtract the mean, divide by the standard deviation, scale and shift by channel. In reals, that is a mean (a
# division), a variance (another), a root and a quotient. Over the integers, multiply through by $N$ first and the first
# two divisions are gone:
#
# $$c_i = N x_i - \sum x, \qquad v = N \sum x^2 - \Bigl(\sum x\Bigr)^2, \qquad
# \frac{x_i - \text{mean}}{\text{std}} = \frac{c_i}{\sqrt v}.$$
#
# $c$ and $v$ are **exact**. Then an integer root, one rounded division, and one multiply-add.

# %%
NAME, SOURCE, TOKEN = "encoder.layer.1.output.LayerNorm", "encoder.layer.1.output.sum", row
x = trace[SOURCE][0, TOKEN].astype(np.int64)
params = model.layer_norm_params(NAME)
n = x.size
c = n * x - x.sum()
v = n * (x * x).sum() - x.sum() ** 2 + params.eps
std = isqrt(v)
y = (2 * c * 2**16 + std) // (2 * std)  # to the nearest, ties up, with 16 fraction bits
shift = int(params.weight.shift[0])
out = (y * params.weight.multiplier + params.bias + (1 << shift - 1)) >> shift
print(f"N = {n}, sum = {x.sum()}, v = {v}, isqrt(v) = {std}")
assert np.array_equal(c, trace[f"{NAME}:centred"][0, TOKEN])
assert np.array_equal(y, trace[f"{NAME}:normalised"][0, TOKEN])
assert np.array_equal(out.clip(-128, 127), trace[NAME][0, TOKEN])

# %% tags=["hide-input"] alt="LayerNorm of one token, a bar for each of 128 channels: sum, normalised, result"
figure, panels = plt.subplots(3, 1, figsize=(7.6, 5.4), sharex=True)
for axes, values, name in zip(
    panels,
    (x, y / 2**16, out),
    ("sum, int16\nLSB", "normalised\nstandard deviations", "result, int8\nLSB"),
    strict=True,
):
    axes.vlines(np.arange(n), 0, values, color=INK, linewidth=2, linestyle="-")
    axes.axhline(0, color="#888888", linewidth=0.8, linestyle="-")
    axes.set_ylabel(name)
    axes.grid(visible=True, axis="y")
panels[2].set(xlabel="channel", xlim=(-1, n))
panels[0].set_title(f"LayerNorm of the token “{tokens[TOKEN]}”")
plt.show()

# %% [markdown]
# How good is it? The same in reals, from the same integers, and the difference in LSB of the result:

# %%
real = (x - x.mean()) / np.sqrt(x.var() + params.eps / n**2)
exact = (real * 2**16 * params.weight.multiplier + params.bias) / 2.0**shift
print(f"largest difference {np.abs(out - exact).max():.4f} LSB; rounding alone can make 0.5")
assert np.abs(out - exact).max() < 0.501

# %% [markdown]
# The rounding to int8 is all that is left of the error. Everything before it is exact, or so wide that it does not
# show.
#
# ## Exercises

# %%
from exercise import check

# %% [markdown]
# **1.** In each of the four heads of the second layer, at which position is the token that *bad* looks at most?

# %%
answer = ...
check(answer, "dce21d31")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = trace[f"{LAYER}.probs"][0, :, tokens.index("bad")].argmax(axis=-1)
check(solution, "dce21d31")

# %% [markdown]
# **2.** How many of the rows of probabilities, of both layers and all heads, sum to exactly 255?

# %%
answer = ...
check(answer, "ed049108")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
rows = [trace[f"encoder.layer.{layer}.attention.self.probs"].sum(axis=-1, dtype=int) for layer in range(2)]
solution = int((np.stack(rows) == 255).sum())
check(solution, "ed049108")

# %% [markdown]
# **3.** A row has $T$ equal scores. What is the least $T$ for which every probability is 0, when 255 stands for 1?
# Guess, then ask `ops.softmax`.

# %%
answer = ...
check(answer, "025d528d")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}


def flat(length: int) -> np.ndarray:
    return ops.softmax(np.zeros((1, length), np.int32), Dyadic(1, 0), profile=model.profile)


solution = min(length for length in range(500, 520) if not flat(length).any())  # 255 / 511 is below a half
check(solution, "025d528d")

# %% [markdown]
# **4.** The row $(3, 1, -4, 0)$ with eps = 1: what are $v$, its integer root, and the four normalised values with 16
# fraction bits, to the nearest?

# %%
answer = ...
check(answer, "c69497e3")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
small = np.array([3, 1, -4, 0])
v_small = 4 * (small**2).sum() - small.sum() ** 2 + 1
root = isqrt(v_small)
normalised = (2 * (4 * small - small.sum()) * 2**16 + root) // (2 * root)
solution = [int(v_small), int(root), *normalised.tolist()]
check(solution, "c69497e3")

# %% [markdown]
# **5.** What does the whole model say of *It is a bad film, just a long one.*? The answer is the two logits.

# %%
answer = ...
check(answer, "a2d7b7d0")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
other = encode(parse_tokenizer(model.tokenizer), "It is a bad film, just a long one.", longest=128)
solution = model([other.ids]).values[0]
check(solution, "a2d7b7d0")

# %% [markdown]
# Next: [a whole transformer](04_a_whole_transformer.py), from the file to the logits.
