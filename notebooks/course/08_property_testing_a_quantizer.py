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
# # 8. Property-testing a quantizer in your own project
#
# You do not need an integer transformer to use intsim. Anybody who has written a quantizer has written a bug in it, and
# this chapter is about finding yours. The tools are [hypothesis](https://hypothesis.readthedocs.io), which searches for
# inputs that break a claim and shrinks what it finds, and `intsim.strategies`, which tells it where to search.

# %%
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from hypothesis import HealthCheck, Phase, find, given, settings

from intsim import ops, strategies
from intsim.fixedpoint import INT8, Dyadic, IntRange, Rounding
from intsim.quantizers import AffineParams, dequantize, quantize

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"

# %% [markdown]
# ## The patient
#
# Weights in blocks of 32, a float32 scale for each block, codes of $-127 \ldots 127$. Four lines that could be from
# anywhere:

# %%
BLOCK = 32


def quantize_blocks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize float32 (blocks, 32) to int8 codes and a float32 scale for each block."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    scale = largest / np.float32(127)
    codes = np.round(x * (np.float32(1) / scale))
    return codes.astype(np.int8), scale


rng = np.random.default_rng(8)
x = rng.normal(size=(32_000, BLOCK)).astype(np.float32)
codes, scale = quantize_blocks(x)
print("largest error, in scales:", np.abs(codes * scale - x).max() / scale.max())

# %% [markdown]
# A million random weights, no error above half a step. Most test suites stop here. What would it mean to be *right*?
# The definition is one line of mathematics, $q = \mathrm{round}(x / s)$ with ties to even, and
# `intsim.quantizers.quantize` is that line, exactly, in float64:

# %%
CODES = IntRange(8, narrow=True)  # -127 ... 127


def right_codes(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the codes that the definition gives for these scales."""
    params = AffineParams(scale=scale.astype(np.float64), zero_point=np.zeros(scale.shape, np.int64), range=CODES)
    return quantize(x, params)


different = codes != right_codes(x, scale)
print(f"{different.sum()} of {x.size:,} codes differ")

# %% [markdown]
# A handful in a million. Is that a bug or bad luck? If someone verifies a chip against these codes, it is a failure
# that appears once a day and cannot be reproduced. Let us look for it on purpose.
#
# ## Where random numbers are not
#
# Rounding is only interesting near a *tie*, half way between two codes. How near do random weights come? And how near
# do the arrays of `strategies.real_arrays` come, which was told about the scale?

# %%
params = AffineParams(scale=np.array(0.0117), zero_point=np.array(0), range=CODES)


def sample(strategy: object, count: int) -> list[np.ndarray]:
    """Return what a test with this strategy would be given."""
    drawn: list[np.ndarray] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(x: np.ndarray) -> None:
        drawn.append(x)

    collect()
    return drawn


def to_tie(x: np.ndarray) -> np.ndarray:
    """Return the distance to the next tie in steps, of what is within the codes; at least 2**-30."""
    q = x.astype(np.float64) / float(params.scale)
    q = q[np.abs(q) < 127]
    return np.maximum(np.abs(q - np.floor(q) - 0.5), 2.0**-30)


aimed = np.concatenate([x.ravel() for x in sample(strategies.real_arrays(params, shape=(4, BLOCK)), 120)])
random = x.ravel()[: aimed.size] * 0.4
bins = np.arange(-30, 0.1, 1)

# %% tags=["hide-input"] alt="Distance to the next tie, as powers of two: random weights stay far, drawn arrays come near"
figure, (above, below) = plt.subplots(2, 1, figsize=(7.6, 4), sharex=True)
for axes, values, title, colour in (
    (above, random, "random weights", SEA),
    (below, aimed, "strategies.real_arrays", INK),
):
    axes.hist(
        np.log2(to_tie(values)),
        bins=bins,
        color=colour,
        rwidth=0.85,
        weights=np.full(to_tie(values).size, 100 / to_tie(values).size),
    )
    axes.set(ylabel="values, %", title=title)
    axes.axvspan(-30, -16, color=RUST, alpha=0.15, linewidth=0)
    axes.grid(visible=True, axis="y")
above.text(-29.5, above.get_ylim()[1] * 0.82, "here float32 decides wrongly", color=RUST, fontsize=8.5)
below.set_xlabel("distance to the next tie, log2 of a step")
plt.show()

# %% [markdown]
# Random data leave the shaded part to chance.
#
# ## Let it search
#
# A property is a statement about all inputs. The first one: our codes are the right ones. `find` returns the simplest
# input it can find that breaks it.

# %%
SEARCH = settings(max_examples=3000, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
blocks = strategies.real_arrays(shape=(1, BLOCK))


def is_wrong(quantizer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Callable[[np.ndarray], bool]:
    """Return the search's question: are the codes of this quantizer wrong?"""

    def question(x: np.ndarray) -> bool:
        with np.errstate(all="ignore"):
            codes, scale = quantizer(x)
        usable = np.isfinite(scale) & (scale > 0)
        if not usable.all():
            return True
        return bool((codes != right_codes(x, scale)).any())

    return question


def shortened(x: np.ndarray) -> str:
    """Return the values of a block and how often each comes."""
    values, counts = np.unique(x, return_counts=True)
    return ", ".join(f"{count} x {value!s}" for value, count in zip(values, counts, strict=True))


found = find(blocks, is_wrong(quantize_blocks), settings=SEARCH)
print("breaks it:", shortened(found))
with np.errstate(all="ignore"):
    codes, scale = quantize_blocks(found)
print("scale", scale.ravel(), "codes", set(codes.ravel().tolist()))
assert not found.any()

# %% [markdown]
# **A block of zeros.** Its scale is 0, its codes are $0 / 0$. Pruned weights and padding are full of such blocks. (What
# NaN becomes as an int8 depends on the processor.) A zero block needs a scale that is not 0; 1 is as good as any.

# %%


def quantize_blocks_2(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize, with a scale of 1 for blocks of zeros."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    codes = np.round(x * (np.float32(1) / scale))
    return codes.astype(np.int8), scale


found = find(blocks, is_wrong(quantize_blocks_2), settings=SEARCH)
with np.errstate(all="ignore"):
    codes, scale = quantize_blocks_2(found)
    print("breaks it:", shortened(found))
    print(f"scale {scale[0, 0]}, 1 / scale {np.float32(1) / scale[0, 0]}")
assert np.abs(found).max() < 2.0**-110

# %% [markdown]
# **A block so small that its scale vanishes, or that 1 / scale is infinite.** Rare in weights, common in gradients and
# in the first layers of pruned models. A floor for the scale takes care of both; below it everything rounds to 0, or to
# few codes, and that is right: the codes are still those of the definition.

# %%
LEAST = np.float32(2.0**-126)  # the smallest normal number: its reciprocal is finite


def quantize_blocks_3(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize, with scales that have a reciprocal."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, np.maximum(largest / np.float32(127), LEAST), np.float32(1))
    codes = np.round(x * (np.float32(1) / scale))
    return codes.astype(np.int8), scale


of_known_scale = AffineParams(scale=np.array(0.75), zero_point=np.array(0), range=CODES)
END = np.float32(127 * 0.75)
tied = strategies.real_arrays(of_known_scale, shape=(1, BLOCK - 1)).map(
    lambda x: np.append(x.clip(-END, END), END).reshape(1, BLOCK)  # the largest value is 127 steps: the scale is 0.75
)
found = find(tied, is_wrong(quantize_blocks_3), settings=SEARCH)
codes, scale = quantize_blocks_3(found)
wrong = codes != right_codes(found, scale)
exact = found[wrong].astype(np.float64)[0] / float(scale[0, 0])
print("x / scale exactly:", exact, " ours:", codes[wrong][0], " right:", right_codes(found, scale)[wrong][0])
assert abs(exact - np.floor(exact) - 0.5) < 1e-5

# %% [markdown]
# **The arithmetic.** `x * (1 / scale)` rounds twice, and near a tie it may land on the other side. Would a division do?
# Ten thousand scales, and for each the float32 next to $(k + \tfrac12)\,s$:

# %%
scales = rng.uniform(0.5, 1, 10_000).astype(np.float32)[:, None]
halves = np.arange(127) + 0.5
ties = (halves * scales.astype(np.float64)).astype(np.float32)
definition = np.round(ties.astype(np.float64) / scales.astype(np.float64))
share = {
    "x * (1 / scale)": np.mean(np.round(ties * (np.float32(1) / scales)) != definition, axis=0),
    "x / scale": np.mean(np.round(ties / scales) != definition, axis=0),
}

# %% tags=["hide-input"] alt="Scales with a wrong code by tie, for both kernels: 30 to 50 % for most ties"
figure, axes = plt.subplots(figsize=(7.6, 3))
for (name, values), colour, style in zip(share.items(), (RUST, INK), ("--", "-"), strict=True):
    axes.plot(halves, 100 * values, style, color=colour, label=name, drawstyle="steps-mid")
axes.set(xlabel="tie, between the codes k and k + 1", ylabel="scales with a wrong code, %", xlim=(0, 127))
axes.grid(visible=True)
axes.legend(loc="upper left", bbox_to_anchor=(0, 1.2), ncols=2)
plt.show()

# %% [markdown]
# It would not; next to ties it is even worse. A quotient a hair beside the tie is *rounded onto* it, and then the rule
# for ties decides what should not have been one. Divide in float64
# and the question is settled: a quotient of two float32 numbers that is not a tie is at least 1 part in $2^{33}$ away
# from one, and a float64 has 53 bits.

# %%


def quantize_blocks_4(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize by the definition."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, np.maximum(largest / np.float32(127), LEAST), np.float32(1))
    codes = np.round(x.astype(np.float64) / scale.astype(np.float64)).clip(-127, 127)
    return codes.astype(np.int8), scale


@settings(max_examples=300, database=None, derandomize=True)
@given(tied | strategies.real_arrays(shape=(2, BLOCK)))
def test_the_codes_are_those_of_the_definition(x: np.ndarray) -> None:
    codes, scale = quantize_blocks_4(x)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert (codes == right_codes(x, scale)).all()


test_the_codes_are_those_of_the_definition()
print("300 arrays of blocks, no difference")

# %% [markdown]
# (The `clip` is hypothesis' work too: for a subnormal block the float32 quotient `largest / 127` may be rounded down so
# far that the largest value gets a code above 127. Take it out and see.)
#
# What does such an array look like? One draw; every row is a block of some kind. Hatched is zero.

# %%
drawn = max(
    sample(strategies.real_arrays(shape=(24, BLOCK)), 40),
    key=lambda x: len({(np.abs(row).max() > 0, np.floor(np.log10(np.abs(row).max() + 1e-45) / 9)) for row in x}),
)
with np.errstate(divide="ignore"):
    logarithm = np.where(drawn != 0, np.log10(np.abs(drawn)), np.nan)

# %% tags=["hide-input"] alt="Magnitudes of one drawn array, 24 blocks of 32: whole rows of one power, ties, zeros"
figure, axes = plt.subplots(figsize=(7.6, 4))
behind = {"zorder": -1, "transform": axes.transAxes}
axes.add_patch(plt.Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="#999999", hatch="///", **behind))
image = axes.imshow(logarithm, aspect="auto", vmin=-45, vmax=39, interpolation="nearest")
axes.set(xlabel="element", ylabel="block", title="One array of strategies.real_arrays: magnitude")
bar = figure.colorbar(image, pad=0.02, ticks=[-45, -38, 0, 38])
bar.ax.set_yticklabels(["10⁻⁴⁵", "10⁻³⁸", "1", "10³⁸"])
axes.tick_params(left=False)
plt.show()

# %% [markdown]
# ## Properties that need no golden model
#
# Equality with a definition is the strongest property. Where there is none, these catch most bugs:

# %%
SCALES = strategies.affine_params(to=INT8, shape=(), min_scale=2.0**-60, max_scale=2.0**60)


@settings(max_examples=200, database=None, derandomize=True)
@given(params=SCALES, codes=strategies.code_arrays(INT8, shape=16))
def test_codes_survive_a_round_trip(params: AffineParams, codes: np.ndarray) -> None:
    codes = codes.clip(None, INT8.max - params.unused_top)
    assert (quantize(dequantize(codes, params), params) == codes).all()


@settings(max_examples=200, database=None, derandomize=True)
@given(params=SCALES, x=strategies.real_arrays(shape=16))
def test_larger_reals_never_have_smaller_codes(params: AffineParams, x: np.ndarray) -> None:
    codes = quantize(np.sort(x), params)
    assert (np.diff(codes.astype(int)) >= 0).all()


@settings(max_examples=200, database=None, derandomize=True)
@given(params=SCALES, x=strategies.real_arrays(shape=16))
def test_no_error_is_above_half_a_step_within_the_range(params: AffineParams, x: np.ndarray) -> None:
    codes = quantize(x, params)
    inside = (codes > INT8.min) & (codes < INT8.max - params.unused_top)
    error = np.abs(dequantize(codes, params)[inside] - x[inside])
    assert (error <= float(params.scale) * (0.5 + 1e-12)).all()


test_codes_survive_a_round_trip()
test_larger_reals_never_have_smaller_codes()
test_no_error_is_above_half_a_step_within_the_range()
print("all hold")

# %% [markdown]
# ## The other half: requantization
#
# After a matrix product the accumulator is brought to 8 bits by a multiplier and a shift, and there the ties are rarer
# still. `strategies.accumulators(ratio)` knows where they are. At the size of a real layer, 128 tokens by 768 channels,
# it is as fast as on one number, and shrinks.

# %%
ratio = Dyadic(65 + np.arange(768) % 64 * 2, np.full(768, 20))  # one for each channel
(acc,) = sample(strategies.accumulators(ratio, shape=(128, 768)), 3)[-1:]
random_acc = rng.integers(-(2**31), 2**31, acc.shape)


def share_of_ties(acc: np.ndarray) -> float:
    """Return how many products are exactly half way, in percent."""
    products = acc.astype(np.int64) * ratio.multiplier
    return 100 * float(np.mean(products % 2**20 == 2**19))


print(f"ties: {share_of_ties(random_acc):.4f} % of random accumulators, {share_of_ties(acc):.1f} % of drawn ones")
up = ops.requantize(acc, ratio, to=INT8, rounding=Rounding.HALF_UP)
away = ops.requantize(acc, ratio, to=INT8, rounding=Rounding.HALF_AWAY)
print("codes that tell half-up from half-away:", int((up != away).sum()))
assert share_of_ties(acc) > 100 * share_of_ties(random_acc)

# %% [markdown]
# ## In your project
#
# That is all there is to it. `pip install 'FOLDER[test]'`, FOLDER the clone of intsim, and a file like this one among your tests.
# `assert_bit_exact` shows what differs, in hex too:

# %%
TEST = """
import numpy as np
from hypothesis import given, settings
from intsim import ops, strategies
from intsim.fixedpoint import INT8, Dyadic, Rounding
from intsim.testing import assert_bit_exact

RATIO = Dyadic(201, 12)

def kernel(acc):  # yours: C by ctypes, Triton, a simulator ...
    return ((acc.astype(np.int64) * 201 + 2047) >> 12).clip(-128, 127).astype(np.int8)

@settings(derandomize=True, database=None)
@given(strategies.accumulators(RATIO, shape=4))
def test_the_kernel_is_bit_exact(acc):
    assert_bit_exact(kernel(acc), ops.requantize(acc, RATIO, to=INT8, rounding=Rounding.HALF_UP))
"""
with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / "test_kernel.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--color=no", "-p", "no:cacheprovider", folder]
    run = subprocess.run(  # noqa: S603 - our own test
        command, capture_output=True, text=True, check=False, cwd=folder
    )
shown = [line for line in run.stdout.splitlines() if line.startswith(("E ", "FAILED", "1 failed"))]
print("\n".join(line[:95] for line in shown[:6]))
assert "1 failed" in run.stdout

# %% [markdown]
# The falsifying example is one accumulator on a tie. The bug: 2047, where half of $2^{12}$ is 2048. (`st.from_type`
# knows `Dyadic`, `IntRange`, `AffineParams`, `Profile` and others wherever intsim is installed, so `@given(...)` can
# often do without the strategy's name.)
#
# ## Exercises

# %%
from exercise import check

# %% [markdown]
# **1.** A kernel rounds half *away from zero*. Which is the smallest magnitude of an accumulator that tells it from
# half up for the ratio $3 / 2^9$? Let hypothesis find one, then think.

# %%
answer = ...
check(answer, "2e22fd43")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = 256  # -256 * 3 / 512 = -1.5: -1 upwards, -2 away from zero
three = Dyadic(3, 9)
below = np.arange(-255, 256).astype(np.int32)
half_up, half_away = (
    ops.requantize(np.append(below, -256).astype(np.int32), three, to=INT8, rounding=rounding)
    for rounding in (Rounding.HALF_UP, Rounding.HALF_AWAY)
)
assert (half_up[:-1] == half_away[:-1]).all()
assert half_up[-1] != half_away[-1]
check(solution, "2e22fd43")

# %% [markdown]
# **2.** A quantizer computes the scale as `(max - min) / 255`. What is the scale of the block `[3e38, -3e38]` in
# float32: finite (0) or not (1)? And which scale is right, rounded to whole numbers in units of 10**36?

# %%
answer = ...
check(answer, "0c730b69")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
with np.errstate(over="ignore"):
    naive = (np.float32(3e38) - np.float32(-3e38)) / np.float32(255)
solution = [int(not np.isfinite(naive)), round((float(np.float32(3e38)) * 2 / 255) / 1e36)]
check(solution, "0c730b69")

# %% [markdown]
# **3.** How many of the 2**16 float16 numbers that are finite get another int8 code when divided by the scale 0.0117
# (as a float16) in float16 instead of exactly? Here one can try them all.

# %%
answer = ...
check(answer, "71565cd5")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
every = np.arange(2**16, dtype=np.uint16).view(np.float16)
every = every[np.isfinite(every)]
step = np.float16(0.0117)
with np.errstate(over="ignore"):
    half = np.round((every / step).astype(np.float64)).clip(-127, 127)
solution = int((half != np.round(every.astype(np.float64) / float(step)).clip(-127, 127)).sum())
check(solution, "71565cd5")
