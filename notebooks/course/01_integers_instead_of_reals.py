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
# # 1. Integers instead of reals
#
# A ruler does not show every length. It has marks, and you read the nearest one. That is all there is to quantization:
# choose a ruler, and write down the number of the mark instead of the length.
#
# This chapter builds the whole arithmetic from there: rulers (*scales*), reading them (*rounding*), their ends
# (*clipping*), and how to change from one ruler to another with a multiplication and a shift (*requantization*). At the
# end you plant a bug, and a machine finds it.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from safetensors.numpy import load_file

from intsim import ops, strategies
from intsim.fixedpoint import INT8, Dyadic, Rounding, rounding_right_shift
from intsim.quantizers import AffineParams, MeanSquaredError, MinMax, Scheme, dequantize, quantize
from intsim.requantization import RULES

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"

# %% [markdown]
# ## A ruler
#
# The distance between two marks is the **scale** $s$. A real $x$ becomes the **code** $q$, and a code stands for the
# real $\hat x$:
#
# $$q = \mathrm{clip}(\mathrm{round}(x / s)), \qquad \hat x = s\,q.$$
#
# With 4 bits there are 16 codes, −8 ... 7, few enough to draw. A ruler that reaches equally far to both sides of 0 leaves
# the lowest one out, which is called *narrow*. One step of the code is called one **LSB**, for *least significant bit*. In
# code it is 1; in reals it is $s$.

# %%
lengths = np.array([-1.55, -0.93, -0.48, -0.17, 0.06, 0.31, 0.62, 0.74, 1.28, 1.9])
four_bits = Scheme(bits=4, symmetric=True, convention="narrow")  # codes -7 ... 7
ruler = four_bits.params(-1.4, 1.4)  # the range we decide to cover
codes = quantize(lengths, ruler)

print("scale:", float(ruler.scale))  # 0.2 as a float32, in which frameworks keep scales
print("reals:", lengths.tolist())
print("codes:", codes.tolist())
print("back: ", dequantize(codes, ruler).round(2).tolist())

# %% tags=["hide-input"] alt="Ten reals and the nearest of 15 marks; below, the error: a sawtooth, and two ramps beyond the ends"
figure, (above, below) = plt.subplots(2, 1, figsize=(7.6, 4.4), sharex=True, height_ratios=[1, 1.1])
marks = np.arange(-7, 8)
positions = dequantize(marks, ruler)
above.hlines(0, positions[0], positions[-1], color=INK)
above.vlines(positions, -0.12, 0.12, color=INK, linewidth=1)
for mark, position in zip(marks, positions, strict=True):
    above.text(position, -0.24, f"{mark}".replace("-", "−"), ha="center", va="top", fontsize=8.5, color=INK)
for x, x_hat in zip(lengths, dequantize(codes, ruler), strict=True):
    outside = not positions[0] <= x <= positions[-1]
    above.annotate(
        "", (x_hat, 0.14), (x, 0.8), arrowprops={"arrowstyle": "-|>", "color": RUST if outside else SEA, "shrinkA": 3}
    )
    above.plot(x, 0.85, "s" if outside else "o", color=RUST if outside else SEA, markersize=6)
above.text(-2.08, 0.85, "real", va="center")
above.text(-2.08, -0.24, "code", va="top")
above.set(ylim=(-0.6, 1.1), yticks=[])
above.spines[["left", "bottom"]].set_visible(False)
above.tick_params(bottom=False)

x = np.linspace(-2.1, 2.1, 4001)
error = dequantize(quantize(x, ruler), ruler) - x
half = float(ruler.scale) / 2
inside = np.abs(x) <= positions[-1] + half
below.axhspan(-half, half, color="#eeeeee")
below.plot(x, np.where(inside, error, np.nan), color=INK, linestyle="-", label="rounding: at most half an LSB")
below.plot(x, np.where(inside, np.nan, error), color=RUST, linestyle="--", label="clipping: without bound")
below.set(xlabel="real $x$", ylabel="error $\\hat x - x$", yticks=[-0.5, -half, 0, half, 0.5])
below.set_yticklabels(["−0.5", "−$s$/2", "0", "$s$/2", "0.5"])
below.legend(loc="upper right")
plt.show()

# %% [markdown]
# Both ways of being wrong are in this picture. *Rounding* is the price of having few marks, and never costs more than
# half an LSB. *Clipping* is the price of a short ruler: what lies beyond the last mark (the squares) reads as the last
# mark.
#
# ## Symmetric and asymmetric rulers
#
# A **symmetric** ruler has its zero in the middle. That wastes marks when the numbers are lopsided, as after GELU,
# which never goes below −0.17. An **asymmetric** ruler shifts the codes by a **zero point** $z$, the code that stands
# for 0:
#
# $$q = \mathrm{clip}(\mathrm{round}(x / s) + z), \qquad \hat x = s\,(q - z).$$
#
# $z$ is an integer, so that 0 is always exactly on a mark: padding and masks must not become almost zero. Where codes
# are 0 ... 15 instead of −8 ... 7, $z$ is 8 more, and nothing else changes.

# %%
from intsim.reference.ops.gelu import gelu

activations = gelu(np.random.default_rng(0).normal(scale=1.2, size=20_000))
low, high = activations.min(), activations.max()
print(f"range of the activations: [{low:.2f}, {high:.2f}]")
assert -0.17 < low < -0.169

# %% tags=["hide-input"] alt="GELU's values over both rulers: the symmetric one uses 8 of 15 marks, the asymmetric one all 16"
figure, panels = plt.subplots(1, 2, figsize=(7.6, 2.9), sharex=True, sharey=True)
for axes, symmetric in zip(panels, (True, False), strict=True):
    scheme = Scheme(bits=4, symmetric=symmetric, convention="narrow" if symmetric else "full")
    params = scheme.params(low, high)
    every = np.arange(params.range.min, params.range.max + 1)
    used = np.isin(every, quantize(activations, params))
    places = dequantize(every, params)
    axes.hist(activations, bins=120, color="#c9ced6", density=True)
    axes.vlines(places[used], -0.2, -0.06, color=INK, linewidth=1.8)
    axes.vlines(places[~used], -0.2, -0.06, color=RUST, linewidth=1, linestyle=":")
    error = np.sqrt(np.mean((dequantize(quantize(activations, params), params) - activations) ** 2))
    kind = "symmetric" if symmetric else f"asymmetric, zero point {int(params.zero_point)}".replace("-", "−")
    axes.set_title(f"{kind}\n{used.sum()} of {len(every)} marks used, rms error {error:.3f}")
    axes.set(xlabel="activation after GELU", ylim=(-0.25, 1.6))
panels[0].set_ylabel("density")
plt.show()

# %% [markdown]
# The solid marks are in use; the dotted ones are bits paid for and never read.
#
# ## Rounding, and what happens in the middle
#
# To the nearest mark, yes. But what if a number lies exactly between two? With reals from a training run that hardly
# ever happens. With integers it happens all the time: dropping the last bit of an odd number is a tie. Five rules are
# in use, two of which do not even take the nearest mark, and chips disagree about them. The dots show where each rule
# sends the ties.

# %% tags=["hide-input"] alt="Five staircases, a rule each: where floor, toward-zero, half-up, half-away, half-even send the ties"
figure, panels = plt.subplots(1, 5, figsize=(9.2, 2.7), sharex=True, sharey=True)
fine = np.arange(-640, 641)  # x = n / 256, so that every half is among them
ties = fine[fine % 256 == 128]
bias = {}
for axes, rule in zip(panels, Rounding, strict=True):
    rounded = rounding_right_shift(fine, 8, rule)
    at_ties = rounding_right_shift(ties, 8, rule)
    axes.plot([-2.5, 2.5], [-2.5, 2.5], color="#bbbbbb", linewidth=0.8, linestyle="-")
    for code in range(-2, 3):
        step = fine[rounded == code] / 256
        axes.hlines(code, step.min(), step.max(), color=INK, linewidth=2)
    axes.plot(ties / 256, at_ties, "o", color=RUST, markersize=4.5)
    every = np.arange(-(2**15), 2**15)
    bias[rule.value] = float(np.mean(rounding_right_shift(every, 4, rule) - every / 16))
    axes.set_title(f"{rule.value}\nbias {bias[rule.value]:+.3f}".replace("-0", "−0"), fontsize=9)
    axes.set(xlabel="$x$", xticks=range(-2, 3), yticks=range(-2, 3), ylim=(-3.3, 3.3), aspect="equal")
    axes.grid(visible=True)
panels[0].set_ylabel("rounded")
plt.show()

# %% [markdown]
# *Bias* is the mean error in LSB over all 16-bit numbers when four bits are dropped. `floor` is what `>>` does, and it
# costs nothing in hardware, but each use pulls everything down by almost half an LSB. `half-up` adds half and shifts;
# it leaves a bias of half an LSB times the share of ties. `half-even` and `half-away` cost a comparison more and have
# none. Neither has `toward-zero`, the division of C, over both signs; but it makes every number smaller.

# %%
share_of_ties = 1 / 16
assert bias["half-up"] == share_of_ties / 2
assert bias["floor"] == -(0.5 - share_of_ties / 2)
assert bias["half-even"] == 0
assert abs(bias["toward-zero"]) < 1e-4
assert abs(bias["half-away"]) < 1e-4

# %% [markdown]
# ## How long should the ruler be?
#
# Here is a real tensor: the word embeddings of the small sentiment model that comes with intsim. A few numbers are far
# from the rest. A ruler that reaches them all has its marks far apart; a shorter one clips them. The sum of the two
# errors has a minimum, and where it lies depends on the number of bits.

# %%
weights = load_file(Path("../../tests/data/embedded-float/model.safetensors"))
(name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
values = weights[name].astype(np.float64).ravel()
print(
    f"{name}: {values.size:,} reals in [{values.min():.2f}, {values.max():.2f}], standard deviation {values.std():.2f}"
)


def errors(params: AffineParams) -> tuple[float, float]:
    """Return the mean squared error of rounding and of clipping."""
    squared = (dequantize(quantize(values, params), params) - values) ** 2
    clipped = np.abs(values) > float(params.scale) * (params.range.max + 0.5)
    return squared[~clipped].sum() / values.size, squared[clipped].sum() / values.size


# %% tags=["hide-input"] alt="Squared error by last mark: rounding rises, clipping falls; the sum is least early at 4 bits"
figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.5), sharey=True)
thresholds = np.geomspace(0.12, 1.17, 60)
chosen = {}
for axes, bits in zip(panels, (4, 8), strict=True):
    scheme = Scheme(bits=bits, symmetric=True, convention="narrow")
    rounding, clipping = np.array([errors(scheme.params(-t, t)) for t in thresholds]).T
    axes.plot(thresholds, rounding, color=SEA, linestyle="-.", label="rounding")
    axes.plot(thresholds, np.where(clipping > 0, clipping, np.nan), color=RUST, linestyle="--", label="clipping")
    axes.plot(thresholds, rounding + clipping, color=INK, linestyle="-", linewidth=2.2, label="both")
    for estimator, mark in ((MinMax(), "s"), (MeanSquaredError(scheme=scheme), "o")):
        estimator.update(values)
        params = scheme.params(*estimator.range())
        end = float(params.scale) * params.range.max
        chosen[bits, type(estimator).__name__] = end, sum(errors(params))
        axes.plot(end, sum(errors(params)), mark, color=INK, markersize=8, markerfacecolor="white", clip_on=False)
    axes.set(xscale="log", yscale="log", xlabel="last mark of the ruler", title=f"{bits} bits", ylim=(2e-8, 2e-2))
    axes.set_xticks([0.125, 0.25, 0.5, 1.0], ["0.125", "0.25", "0.5", "1"])
    axes.minorticks_off()
    axes.grid(visible=True)
panels[0].set_ylabel("mean squared error")
panels[0].legend(loc="lower left")
for text, estimator, height in (("least error", "MeanSquaredError", 4e-5), ("up to the largest value", "MinMax", 7e-6)):
    style = {"arrowstyle": "-", "color": INK, "linewidth": 0.7, "shrinkB": 4}
    panels[1].annotate(text, chosen[8, estimator], (0.14, height), arrowprops=style, va="center", fontsize=8.5)
plt.show()

# %%
for key, (end, error) in chosen.items():
    print(key, f"last mark {end:.3f}, mean squared error {error:.2e}")

# %% [markdown]
# With 4 bits it pays to clip: the best ruler ends well inside the data, and has a fraction of the error. With 8 bits
# there are marks enough, and the best ruler reaches almost to the end.

# %%
gain = {bits: chosen[bits, "MinMax"][1] / chosen[bits, "MeanSquaredError"][1] for bits in (4, 8)}
print({bits: f"{each:.1f} times less error" for bits, each in gain.items()})
assert gain[4] > 3
assert gain[8] < 1.5

# %% [markdown]
# ## A product of codes
#
# A layer multiplies activations by weights and adds up. On codes:
#
# $$y = \sum_k x_k w_k \approx s_x s_w \sum_k q_{x,k}\, q_{w,k}.$$
#
# The scales leave the sum, and what stays is a sum of products of integers: the **accumulator**. It is exact, and it is
# wide. Each product of two codes of −127 ... 127 is less than $2^{14}$, so a sum of $K$ of them needs at most
# $15 + \log_2 K$ bits. (With −128 on both sides it can take one more.)

# %%
rng = np.random.default_rng(1)
x, w = rng.normal(size=(4, 128)), rng.normal(scale=0.05, size=(6, 128))
eight_bits = Scheme(bits=8, symmetric=True, convention="narrow")
x_params, w_params = (eight_bits.params(each.min(), each.max()) for each in (x, w))
x_q, w_q = quantize(x, x_params), quantize(w, w_params)
acc = ops.matmul(x_q, w_q)
print(acc)
print("accumulator:", acc.dtype, "of", int(np.abs(acc).max()).bit_length() + 1, "bits")
print("largest error:", np.abs(acc * float(x_params.scale * w_params.scale) - x @ w.T).max().round(4))

# %% [markdown]
# ## Dyadic numbers
#
# The next layer wants 8 bits again, on a ruler $s_y$ of its own: $q_y = \mathrm{round}(\mathrm{acc} \cdot s_x s_w /
# s_y)$. The ratio is some real number. Hardware that has no reals takes the nearest **dyadic number** $m / 2^t$:
# multiply by the integer $m$, shift right by $t$. How close one gets is a matter of the bits of $m$.

# %%
y = x @ w.T
y_params = eight_bits.params(y.min(), y.max())
ratio = float(x_params.scale * w_params.scale / y_params.scale)
dyadic = Dyadic.from_real(ratio)
multiplier, shift = int(dyadic.multiplier), int(dyadic.shift)
print(f"{ratio!r}\nis nearly {multiplier} / 2**{shift}\n        = {float(dyadic)!r}")

# %% tags=["hide-input"] alt="By bits of the multiplier: its relative error below 2**-b, and the codes that change, none from 21"
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.2))
bits = np.arange(5, 32)
nearest = [Dyadic.from_real(ratio, bits=int(b)) for b in bits]
relative = [abs(float(d) / ratio - 1) for d in nearest]
left.plot(bits, 2.0**-bits, color=RUST, linestyle="--", label="bound $2^{-b}$")
left.plot(bits, relative, "o", color=INK, markersize=4, label="this ratio")
left.set(yscale="log", xlabel="bits $b$ of the multiplier", ylabel="relative error of the ratio")
left.legend()
left.grid(visible=True)
every = np.arange(-int(140 / ratio), int(140 / ratio)).astype(np.int32)
exact = ops.requantize(every, dyadic, to=INT8, rounding=Rounding.HALF_UP)
wrong = [100 * np.mean(ops.requantize(every, d, to=INT8, rounding=Rounding.HALF_UP) != exact) for d in nearest]
right.vlines(bits, 0, wrong, color=INK, linewidth=3)
right.set(xlabel="bits $b$ of the multiplier", ylabel="codes that change, %", xlim=(4, 32))
right.grid(visible=True, axis="y")
assert all(error <= 2.0**-b for error, b in zip(relative, bits, strict=True))

# %% [markdown]
# ## Requantization
#
# Multiply, add half, shift, add the zero point, saturate: five integer operations, one rounding. Here onto a 4-bit
# ruler, so that the steps show.

# %%
small = AffineParams(scale=0.12, zero_point=3, range=four_bits.range)
to_small = Dyadic.from_real(float(x_params.scale * w_params.scale / small.scale))
every = np.arange(-40_000, 40_001, 100).astype(np.int32)
narrow = ops.requantize(every, to_small, to=small.range, rounding=Rounding.HALF_UP, zero_point=3)


def by_hand(acc: int, dyadic: Dyadic, zero_point: int, low: int, high: int) -> int:
    """Return the same with Python's integers."""
    product = acc * int(dyadic.multiplier)
    rounded = (product + (1 << (int(dyadic.shift) - 1))) >> int(dyadic.shift)
    return min(max(rounded + zero_point, low), high)


assert narrow.tolist() == [by_hand(int(a), to_small, 3, small.range.min, small.range.max) for a in every]

# %% tags=["hide-input"] alt="Accumulator to code: a staircase from -7 to 7 about the line of the exact quotient"
figure, axes = plt.subplots(figsize=(7.6, 3))
line = every * float(x_params.scale * w_params.scale / small.scale) + 3
axes.plot(
    every, line, color="#bbbbbb", linewidth=1, linestyle="-", label="acc $\\cdot\\ s_x s_w / s_y + z$, not rounded"
)
axes.plot(every, narrow, color=INK, linestyle="-", drawstyle="steps-mid", linewidth=2, label="requantized")
for end in (small.range.min, small.range.max):
    axes.axhline(end, color=RUST, linewidth=1, linestyle="--")
axes.text(every[0], small.range.max + 0.5, "highest code, 7", color=RUST, fontsize=8.5)
axes.text(every[-1], small.range.min - 1.5, "lowest code, −7", color=RUST, fontsize=8.5, ha="right")
axes.plot(0, 3, "o", color=RUST)
axes.annotate("accumulator 0 is the zero point, 3", (0, 3), (3500, 1.1), color=RUST, fontsize=8.5)
axes.set(
    xlabel="accumulator (LSB of $s_x s_w$)", ylabel="code (LSB of $s_y$)", ylim=(-10, 10), yticks=[-7, -3, 0, 3, 7]
)
axes.legend(loc="center left", bbox_to_anchor=(0.02, 0.72))
plt.show()

# %% [markdown]
# ## One LSB
#
# Floating-point programs are compared with a tolerance: two answers that differ in the last digits are the same answer.
# Integers are not like that. There is one right code, and its neighbour is wrong, however near. So differences are
# counted in LSB, and the count that matters is zero.
#
# It takes very little to be off by one. TensorFlow Lite's kernels round twice by default, first the upper half of the
# product and then the integer; built for single rounding, they round once. For this accumulator the exact quotient is
# just below a half:

# %%
acc_one, double_trouble = np.array([7984], np.int32), Dyadic(1583594044, 40)
print("exact:        ", 7984 * 1583594044 / 2**40)
for rule in ("tflite-single", "tflite-double"):
    print(f"{rule}:", int(ops.requantize(acc_one, double_trouble, to=INT8, rounding=RULES[rule])[0]))

every = np.arange(-88_000, 88_001).astype(np.int32)
once, twice = (
    ops.requantize(every, double_trouble, to=INT8, rounding=RULES[rule]).astype(int)
    for rule in ("tflite-single", "tflite-double")
)
assert 900 < 1 / np.mean(once != twice) < 1100
print(f"\n{np.mean(once != twice):.2%} of all codes differ, by at most {np.abs(once - twice).max()} LSB")

# %% [markdown]
# One LSB, in one code of a thousand. Both kernels are "correct to within one LSB", and they are two different
# functions. A chip that computes one of them, checked against a model that computes the other, looks broken; or, with a
# tolerance of one LSB, a chip that *is* broken looks fine.
#
# ## Plant a bug
#
# Here is a requantization in a hurry. It divides in floating point and lets NumPy round. Change it, if you like: shift
# without adding half, saturate at −127, multiply in int32, or by the 7-bit 101 / 2**19. The next cells should catch
# you.

# %%
planted_ratio = Dyadic.from_real(201 / 2**20)


def mine(acc: np.ndarray) -> np.ndarray:
    """Requantize by 201 / 2**20. Plant your own bug here."""
    rounded = np.rint(acc * (201 / 2**20))
    return rounded.clip(-128, 127).astype(np.int8)


def golden(acc: np.ndarray) -> np.ndarray:
    """Do it right: ties go up."""
    return ops.requantize(acc, planted_ratio, to=INT8, rounding=Rounding.HALF_UP)


# %% [markdown]
# First the obvious test: many random accumulators over the range that does not saturate.

# %%
most = int(128 * 2**20 / 201)
random_accs = np.random.default_rng(2).integers(-most, most, 100_000).astype(np.int32)
print(f"{(mine(random_accs) != golden(random_accs)).sum()} of {random_accs.size:,} random accumulators differ")

# %% [markdown]
# Looks fine. Now ask [hypothesis](https://hypothesis.readthedocs.io) for an accumulator that tells the two apart.
# `strategies.accumulators` of intsim draws what breaks requantizers: ties, their neighbours, the ends of every range.
# Hypothesis then shrinks what it found to the simplest case. (Where there is no bug it says `NoSuchExample`.)

# %%
from hypothesis import find, settings


def tells_apart(acc: np.ndarray) -> bool:
    return bool((mine(acc) != golden(acc)).any())


found = find(
    strategies.accumulators(planted_ratio, shape=(1,)),
    tells_apart,
    settings=settings(database=None, derandomize=True, max_examples=1000),
)
print(f"accumulator {found[0]}: exactly {found[0] * 201 / 2**20}, mine {mine(found)[0]}, golden {golden(found)[0]}")

# %% [markdown]
# The one accumulator in more than a million where the quotient is a positive tie with an even floor. Random tests never
# meet it; a network that runs all day does.

# %%
every = np.arange(-most, most).astype(np.int32)
print(f"{(mine(every) != golden(every)).sum()} of {every.size:,} accumulators differ")
assert every.size > 1_000_000

# %% [markdown]
# ## Exercises
#
# Answers are integers, or lists of them, so there is nothing to round. `check` knows the right one by its fingerprint.

# %%
from exercise import check

# %% [markdown]
# **1.** A symmetric 8-bit ruler has scale 0.05. Which codes do 0.33, −1.0 and 9.9 get, on `[-127, 127]`?

# %%
answer = ...
check(answer, "013e04f0")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = [7, -20, 127]  # 6.6 rounds to 7; 198 is beyond the last mark
check(solution, "013e04f0")

# %% [markdown]
# **2.** An asymmetric ruler of 8 bits, codes 0 to 255, covers [−0.20, 2.35]. What is the code of 0, and of 1.3, by
# the formula?

# %%
answer = ...
check(answer, "13412610")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = [20, 150]  # the scale is 2.55 / 255 = 0.01, the zero point 0.20 / 0.01
check(solution, "13412610")

# %% [markdown]
# **3.** All 65,536 16-bit accumulators are requantized to int8 by the ratio $1 / 2^8$. For how many do `half-up` and
# `half-even` give different codes? Think first, then count with `rounding_right_shift`.

# %%
answer = ...
check(answer, "b1b0bee5")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
every = np.arange(-(2**15), 2**15)
up, even = (rounding_right_shift(every, 8, rule).clip(-128, 127) for rule in (Rounding.HALF_UP, Rounding.HALF_EVEN))
solution = int((up != even).sum())  # one tie in 256 accumulators, and half of the floors are even
check(solution, "b1b0bee5")

# %% [markdown]
# **4.** How many bits must the multiplier of `ratio` have so that no accumulator from −30,000 to 30,000 changes its
# int8 code, compared with 31 bits? Rounding is half-up.

# %%
answer = ...
check(answer, "debcea1f")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
every = np.arange(-30_000, 30_001).astype(np.int32)


def requantized(bits: int) -> np.ndarray:
    return ops.requantize(every, Dyadic.from_real(ratio, bits=bits), to=INT8, rounding=Rounding.HALF_UP)


same = [bits for bits in range(4, 32) if np.array_equal(requantized(bits), requantized(31))]
solution = min(bits for bits in same if set(range(bits, 32)) <= set(same))  # and so do all wider ones
check(solution, "debcea1f")

# %% [markdown]
# **5.** Write a requantization by `double_trouble` with nothing but Python's `*`, `+`, `>>`, `min` and `max`, ties up,
# to int8. The answer is the list of the codes of the accumulators −90,000, −80,000, ..., 90,000.

# %%
answer = ...
check(answer, "744e849b")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = [min(max((acc * 1583594044 + (1 << 39)) >> 40, -128), 127) for acc in range(-90_000, 90_001, 10_000)]
check(solution, "744e849b")

# %% [markdown]
# Next: [functions without floats](02_functions_without_floats.py). Sums and products are easy on integers. What about
# $e^x$?
