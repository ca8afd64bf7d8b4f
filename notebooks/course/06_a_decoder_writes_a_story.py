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
# # 6. A decoder writes a story on integers
#
# An encoder reads a sentence and says something about it. A *decoder* reads a sentence and says what comes next; put
# that at the end, ask again, and it writes. The chips that are being built today mostly run decoders. intsim carries a
# small one: a LLaMA of 260 thousand parameters that was trained on children's stories, turned into integers.

# %%
import hashlib
import textwrap
from importlib import resources

import matplotlib.pyplot as plt
import numpy as np

import intsim
from intsim import ops
from intsim.fixedpoint import Dyadic
from intsim.io.tokenizer import parse_tokenizer
from intsim.profile import PROFILES

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"

model = intsim.load(resources.files("intsim.embedded") / "stories")
tokenizer = parse_tokenizer(model.tokenizer)
config = model.config
prompt = tokenizer.encode("Once upon a time, there was a little girl named Lily.").ids
(story,) = model.generate([prompt], max_new_tokens=160)
print(textwrap.fill(tokenizer.decode([*prompt, *story]), 88))
print()
print(config.num_hidden_layers, "layers,", config.hidden_size, "channels,", config.vocab_size, "tokens;", end=" ")
print("digest of the story:", hashlib.sha256(np.array(story, "<i8").tobytes()).hexdigest()[:16])

# %% [markdown]
# There is no random number in it, and no floating-point number either: every machine writes this story, down to the
# last comma. If yours wrote another one, one of us has a bug.

# %%
assert hashlib.sha256(np.array(story, "<i8").tobytes()).hexdigest()[:16] == "d5c93a8be624f95c"

# %% [markdown]
# ## The next token
#
# At every position the model gives an integer for each token of its vocabulary, the *logit*. The largest one is the
# next token. An integer comparison has no near miss: where two logits are equal, the lower id is taken, by rule.

# %%
result = model([prompt], last=True)
logits = result.values[0]
best = np.argsort(-logits, kind="stable")[:12]
scale = float(model.output_format.scale)
chances = np.exp((logits - logits.max()) * scale)
chances /= chances.sum()

# %% tags=["hide-input"] alt="Logits of the twelve likeliest next tokens: 'She' leads with a chance of 91 %"
figure, axes = plt.subplots(figsize=(7.6, 3.2))
axes.bar(range(len(best)), logits[best] / 1e6, color=[RUST, *[SEA] * (len(best) - 1)], width=0.7)
axes.set_xticks(range(len(best)), [tokenizer.id_to_token(int(token)).replace("▁", "␣") for token in best])
axes.set(ylabel="logit, millions of LSB", title="What follows “… girl named Lily.”?")
for place, token in enumerate(best):
    chance = f"{100 * chances[token]:.0f} %" if chances[token] > 0.01 else "< 1 %"
    axes.text(place, logits[token] / 1e6, chance, ha="center", va="bottom", fontsize=8)
axes.grid(visible=True, axis="y")
axes.tick_params(bottom=False)
plt.show()

# %%
print("the largest logit is", int(logits[best[0]]), "and stands for", round(logits[best[0]] * scale, 3))

# %% [markdown]
# (The percentages are what a softmax in real numbers would say. The model never computes them. To *draw* a token
# instead of taking the largest, `model.generate(..., top_k=8, seed=1)` uses an integer softmax and a seeded integer
# draw, the same on every machine too.)

# %%
for seed in range(3):
    (drawn,) = model.generate([prompt], max_new_tokens=40, top_k=8, temperature=1.0, seed=seed)
    print(f"seed {seed}: {textwrap.shorten(tokenizer.decode(drawn), 90, placeholder=' …')}")

# %% [markdown]
# ## The cache
#
# A token only looks back. So what the model computed for the first tokens stays right when new ones come, and of each
# token only two things are ever asked again: its *key* and its *value*, in each layer. They are kept; the rest is
# thrown away. `model.start()` gives an empty cache, and every call returns the next one.

# %%
ids = np.array([[*prompt, *story]])
cache = model.start()
pieces = []
for token in ids[0]:  # one by one
    step = model([[token]], cache=cache)
    cache = step.cache
    pieces.append(step.values[0, 0])
whole = model(ids).values[0]  # all at once
print("tokens in the cache:", cache.columns)
print(f"bytes: {cache.nbytes:,} = 2 x {config.num_hidden_layers} layers x {cache.columns} tokens x 32 channels")
assert cache.nbytes == 2 * config.num_hidden_layers * cache.columns * 32
assert np.array_equal(np.stack(pieces), whole)
print("logits that differ between the two ways:", int((np.stack(pieces) != whole).sum()), "of", whole.size)

# %% [markdown]
# **Not one bit.** This deserves a second look, because it is not so with floating point. There a product of one row and
# the same row within a larger product may add in another order, and round otherwise:

# %%
rng = np.random.default_rng(1)
rows, weight = rng.normal(size=(64, 512)).astype(np.float32), rng.normal(size=(256, 512)).astype(np.float32)
together = rows @ weight.T
alone = np.stack([row @ weight.T for row in rows])
print(f"float32: {100 * np.mean(together != alone):.0f} % of the sums differ on this machine", end=", ")
print(f"by up to {np.abs(together - alone).max():.1e}")
codes, weight_codes = (np.round(x * 20).clip(-127, 127).astype(np.int32) for x in (rows, weight))
together = codes @ weight_codes.T
alone = np.stack([row @ weight_codes.T for row in codes])
assert np.array_equal(together, alone)
print("integers: 0 % differ, on every machine")

# %% [markdown]
# Addition of integers does not care about order. That is why a prefix keeps its bits however the text is cut: token by
# token, in chunks, in a batch with padding, on one core or many. A chip that processes a prompt 64 tokens at a time can
# be checked against a model that takes them all at once.
#
# Here is what is kept: the keys of the first layer, after their rotation (below), a row for each token, a byte each.

# %%
name = "layers.0.self_attn.k_proj.rotated"
keys = cache.codes[name][0]
names = [tokenizer.id_to_token(int(token)).replace("▁", "␣") for token in ids[0]]

# %% tags=["hide-input"] alt="Keys of layer 0 as codes, token by channel; a few channels are large for every token"
figure, axes = plt.subplots(figsize=(7.6, 4.2))
image = axes.imshow(keys[:24], aspect="auto", vmin=-127, vmax=127)
axes.set_yticks(range(24), names[:24])
axes.set(xlabel="channel of the key: four heads of eight", title="Keys of layer 0: int8 codes")
for head in range(1, 4):
    axes.axvline(8 * head - 0.5, color="white", linewidth=2, linestyle="-")
axes.tick_params(left=False)
figure.colorbar(image, label="code, LSB", pad=0.02)
plt.show()

# %% [markdown]
# ## Rotary embedding: where is a token?
#
# Attention by itself does not know order. LLaMA *turns* queries and keys: the channels of a head form pairs, and a pair
# is turned by an angle that grows with the position, fast in the first pair, slowly in the last. Sine and cosine are
# not computed at run time; they are two tables of int16 with 14 fraction bits, made when the model is converted.

# %%
cos, sin = model.tensors["rotary.cos"], model.tensors["rotary.sin"]

# %% tags=["hide-input"] alt="Cosines of four pairs of channels by position: the first turns fast, the last hardly at all"
figure, axes = plt.subplots(figsize=(7.6, 3))
for pair, (colour, style) in enumerate(zip((INK, RUST, SEA, SAND), ("-", "--", "-.", ":"), strict=True)):
    axes.plot(cos[:128, pair], color=colour, linestyle=style, label=f"pair {pair}")
axes.axhline(0, color="#888888", linewidth=0.8, linestyle="-")
axes.set(xlabel="position, tokens", ylabel="cos, LSB of 2⁻¹⁴", xlim=(0, 127))
axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
plt.show()

# %%
print("tables:", cos.shape, cos.dtype, "of", 2 * cos.nbytes, "bytes; cos(0) is", int(cos[0, 0]), "= 2**14")

# %% [markdown]
# The point of it: the product of a turned query and a turned key depends only on how *far apart* the two are. In reals,
# exactly. On integers, up to the rounding of the two turns. Take one query and one key, put them at every position, and
# draw their score against the distance:

# %%
query, key = (rng.integers(-3000, 3000, 8).astype(np.int16) for _ in range(2))
count = 256
turned_query, turned_key = (
    ops.rotary(np.tile(x, (1, count, 1)), cos[:count], sin[:count], pairing="halves", rounding=model.profile.rounding)
    for x in (query, key)
)
scores = turned_query[0].astype(np.int64) @ turned_key[0].astype(np.int64).T
distance = np.subtract.outer(np.arange(count), np.arange(count))
seen = distance >= 0

# %% tags=["hide-input"] alt="Score against distance, all pairs on one curve; right, what rounding adds: a narrow bell"
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.3), width_ratios=[3, 2])
left.plot(distance[seen], scores[seen] / 1e6, ".", color=INK, markersize=1)
left.set(xlabel="distance, tokens", ylabel="score, millions of LSB", title="Every pair of positions")
left.grid(visible=True)
centre = np.array([np.diagonal(scores, -d).mean() for d in range(count)])
spread = (scores - centre[distance.clip(0)])[seen]
right.hist(spread / 1e3, bins=41, color=SEA)
right.set(xlabel="score less the mean at its distance,\nthousands of LSB", ylabel="pairs", title="What rounding adds")
plt.show()

# %%
print(
    f"spread {spread.std():.0f} LSB, the curve itself {centre.std():.0f} LSB:",
    f"1 part in {centre.std() / spread.std():.0f}",
)
assert centre.std() > 300 * spread.std()

# %% [markdown]
# ## RMSNorm, and a stream that grows
#
# LLaMA normalises by the root mean square alone. No mean, no bias:
#
# $$y_i = \frac{x_i}{\sqrt{\tfrac1N \sum x^2 + \varepsilon}} = \frac{N x_i}{\sqrt{N\sum x^2 + \varepsilon'}}.$$
#
# The trouble is its input. The residual stream adds up over all layers and is never normalised itself, so it grows; a
# few tokens and channels grow out of all proportion. 16 bits are not enough for the large and the small ones together,
# so the stream has 24 here; and the sum of squares of such wide codes would not fit anything. The way out is a *shift
# per row*: halve a row until its largest value has 15 bits. RMSNorm does not care about the scale of a row, so the
# shift need not even be undone.

# %%
with intsim.trace("steps") as trace:
    model(ids)
sums = [name for name in trace if name.endswith(".sum") and name + ":rounded" in trace]
norms = [name for name in trace if name.endswith(":shift")]
widths = np.stack([np.abs(trace[name][0].astype(np.int64)).max(axis=-1) for name in sums])
shifts = np.stack([trace[name][0, :, 0] for name in norms])
short = {"embed_tokens.sum": "embedding"} | {
    f"layers.{layer}.{part}.sum": f"{'+ attention' if part == 'self_attn' else '+ feed-forward'} {layer}"
    for layer in range(config.num_hidden_layers)
    for part in ("self_attn", "mlp")
}

# %% tags=["hide-input"] alt="Bits of the residual stream after each layer, 24 at most; right, the shift of every row"
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.9), width_ratios=[1, 1.25], sharey=True)
places = np.arange(len(sums))
bits = np.log2(np.maximum(widths, 1)) + 1
left.hlines(places, bits.min(axis=1), bits.max(axis=1), color=SEA, linewidth=3, linestyle="-")
left.plot(np.median(bits, axis=1), places, "o", color=INK)
left.axvline(16, color=RUST, linestyle="--", linewidth=1)
left.text(16.2, len(sums) - 1, "int16", color=RUST, fontsize=8.5, va="center")
left.set_yticks(places, [short[name] for name in sums])
left.set(xlabel="bits of a token's largest code", ylim=(len(sums) - 0.4, -0.8), title="Median, and range over tokens")
left.grid(visible=True, axis="x")
left.tick_params(left=False)
image = right.imshow(shifts[:, :60], aspect="auto", interpolation="nearest")
right.set(xlabel="token", title="Shift that each row gets, bits")
right.tick_params(left=False)
figure.colorbar(image, ax=right, pad=0.02, ticks=range(int(shifts.max()) + 1))
plt.show()

# %%
print("the stream reaches", int(widths.max()), "and rows are shifted by up to", int(shifts.max()), "bits")

# %% [markdown]
# By hand, for one row:

# %%
name, source, token = "layers.4.post_attention_layernorm", "layers.4.self_attn.sum", 5
x = trace[source][0, token].astype(object)  # Python's integers
params = model.layer_norm_params(name)
k = max(0, int(max(abs(x))).bit_length() - 15)
shifted = np.array([(value + (1 << k >> 1)) >> k for value in x], object)
eps = max(1, (int(params.eps) + (1 << 2 * k >> 1)) >> 2 * k)
n = len(x)
std = int(np.floor(np.sqrt(float(n * (shifted**2).sum() + eps))))
fraction = model.profile.layer_norm.output_fraction
y = np.array([(2 * n * value * 2**fraction + std) // (2 * std) for value in shifted], object)
shift = np.array([int(t) for t in params.weight.shift], object)
out = [
    int((a * int(m) + int(b) + (1 << int(t) >> 1)) >> int(t))
    for a, m, b, t in zip(y, params.weight.multiplier, params.bias, shift, strict=True)
]
assert out == trace[name][0, token].tolist()
print(f"shift {k}, root {std}: the same {n} integers as intsim's")

# %% [markdown]
# ## Probabilities on long rows: 8 bits against 16
#
# A story has hundreds of tokens, and a row of attention as many probabilities. With 8 bits, 1 is 255 steps, and what is
# below half a step is 0. Spread attention evenly over 600 tokens and *every* probability is 0: the head is silent. With
# 16 bits, 1 is 65,535 steps.
#
# How much of a row is left after rounding? Rows of random scores (standard deviation 1, in reals), of growing length:

# %%
lengths = 2 ** np.arange(3, 13)
ratio = Dyadic.from_real(np.asarray(2.0**-10 / PROFILES["intsim"].score_scale), bits=30)
left_over = {name: [] for name in ("intsim", "intsim-wide")}
for length in lengths:
    scores = np.round(rng.normal(size=(64, length)) * 2**10).astype(np.int32)
    for name, kept in left_over.items():
        profile = PROFILES[name]
        probs = ops.softmax(scores, ratio, profile=profile)
        kept.append(probs.sum(axis=-1, dtype=np.int64).mean() / profile.softmax.one)

# %% tags=["hide-input"] alt="Sum of a row by its length: 8-bit probabilities fall to 8 % at 4096 tokens, 16-bit ones stay at 100"
figure, axes = plt.subplots(figsize=(7.6, 3.2))
for (name, kept), colour, style in zip(left_over.items(), (RUST, INK), ("--", "-"), strict=True):
    one = PROFILES[name].softmax.one
    axes.plot(lengths, 100 * np.array(kept), style, marker="o", color=colour, label=f"1 is {one:,} steps ({name})")
axes.set_xscale("log", base=2)
axes.set_xticks(lengths, lengths)
axes.set(xlabel="tokens in the row", ylabel="sum of the row, % of 1", ylim=(0, 115))
axes.grid(visible=True)
axes.legend(loc="lower left")
plt.show()

# %%
assert left_over["intsim"][-1] < 0.1
assert left_over["intsim-wide"][-1] > 0.99

# %% [markdown]
# And in a real text? Let the model write until its context is full, round the very same rows to 8 bits, and look at
# what gets lost in each head:

# %%
(rest,) = model.generate(ids, max_new_tokens=config.max_position_embeddings - ids.shape[1])
ids_of_all = np.concatenate([ids, [rest]], axis=1)
with intsim.trace() as trace:
    model(ids_of_all)
lost = []
for layer in range(config.num_hidden_layers):
    probs = trace[f"layers.{layer}.self_attn.probs"][0].astype(np.int64)  # (heads, tokens, tokens), of 65,535
    eighth = (2 * probs * 255 + 65_535) // (2 * 65_535)  # to the nearest of 255
    lost.append(1 - eighth.sum(axis=-1)[:, -50:].mean(axis=-1) / 255)
lost = 100 * np.array(lost)

# %% tags=["hide-input"] alt="Attention that 8 bits lose, in per cent of a row, for each layer and head"
figure, axes = plt.subplots(figsize=(7.6, 2.9))
limit = np.abs(lost).max()
image = axes.imshow(lost, aspect="auto", vmin=0, vmax=limit)
for (layer, head), value in np.ndenumerate(lost):
    axes.text(head, layer, f"{value:.0f}", ha="center", va="center", color="black" if value > limit / 2 else "white")
axes.set(xlabel="head", ylabel="layer", title="Attention that 8 bits lose, % of a row, last 50 tokens")
axes.tick_params(length=0)
axes.spines[:].set_visible(False)
plt.show()

# %%
print(f"the worst head loses {lost.max():.0f} % at {ids_of_all.shape[1]} tokens")

# %% [markdown]
# That is why the profile of this model is `intsim-wide`. It costs a second byte per probability and a wider product of
# probabilities and values: $65{,}535 \cdot 127$ has 23 bits, and 512 of them still fit int32 since a row sums to about
# one.
#
# ## Exercises

# %%
from exercise import check

# %% [markdown]
# **1.** How many bytes does the cache of this model take when its context of 512 tokens is full? How many in float32?
# (Two integers.)

# %%
answer = ...
check(answer, "058a1dc5")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
codes = 2 * config.num_hidden_layers * 512 * 32
solution = [codes, 4 * codes]
check(solution, "058a1dc5")

# %% [markdown]
# **2.** Change the *last* token of `ids` to another one and run the model again. How many logits of the other positions
# change?

# %%
answer = ...
check(answer, "af5570f5")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
changed = ids.copy()
changed[0, -1] = 5 if ids[0, -1] != 5 else 6
solution = int((model(changed).values[0, :-1] != whole[:-1]).sum())
check(solution, "af5570f5")

# %% [markdown]
# **3.** What is the least length of a row of equal scores at which 16-bit probabilities are all 0? Think before you
# compute: it is too long for a loop with `ops.softmax` that starts at 1.

# %%
answer = ...
check(answer, "32fda152")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = 2 * 65_535 + 1  # 65,535 / n is below a half
assert not ops.softmax(np.zeros((1, solution), np.int32), ratio, profile=PROFILES["intsim-wide"]).any()
assert ops.softmax(np.zeros((1, solution - 1), np.int32), ratio, profile=PROFILES["intsim-wide"]).all()
check(solution, "32fda152")

# %% [markdown]
# **4.** Turn the pair (3000, 0) by position 7 with the tables' first pair, to the nearest, ties up. Which two integers
# are it? Does the turn keep the length?

# %%
answer = ...
check(answer, "3d411326")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
c, s = int(cos[7, 0]), int(sin[7, 0])
solution = [(3000 * c + 2**13) >> 14, (3000 * s + 2**13) >> 14]  # its square is off by rounding alone
check(solution, "3d411326")

# %% [markdown]
# Next: [verifying a chip](07_verifying_a_chip.py), against these very integers.
