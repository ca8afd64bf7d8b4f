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
# # 7. Verifying a chip
#
# Somebody has built a unit that requantizes: in RTL, in C, as a Triton kernel. It passes its tests. Is it right? To a
# verification engineer an error of 1 is fatal, since nobody can tell an error of 1 that is meant from one that is not.
# This chapter is about finding out, and about finding out *what* is wrong.

# %%
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import intsim
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.io.trace_file import write_trace
from intsim.profile import INTSIM
from intsim.verify.bugs import CONTROL, changes_of_operator
from intsim.verify.compare import compare
from intsim.verify.diagnose import diagnose
from intsim.verify.kill import kill_matrix
from intsim.verify.vectors.operators import bind

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"
WORK = Path(tempfile.mkdtemp())
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # this Python's intsim


def shell(command: str, *, lines: int = 12) -> None:
    """Type a command, and show the first lines of what it prints."""
    print(f"$ {command}")
    done = subprocess.run(  # noqa: S602 - what a reader would type
        command, shell=True, capture_output=True, text=True, check=False, cwd=WORK
    )
    shown = (done.stdout + done.stderr).splitlines()
    for line in [*shown[:lines], *(["..."] if len(shown) > lines else [])]:
        print(line[:95])
    if done.returncode:
        print(f"[exit status {done.returncode}]")


# %% [markdown]
# ## The device
#
# It reads operands, a case a line in hexadecimal, and prints them with its result: what a testbench does. Ours is
# written in Python, and its author has thought about rounding. Perhaps too much.

# %%
DEVICE = """
import sys

def signed(word, bits):
    value = int(word, 16)
    return value - (value >> bits - 1 << bits)

for line in sys.stdin:
    if line.startswith("#"):
        continue
    acc, multiplier, shift, zero_point = line.split()
    product = signed(acc, 32) * signed(multiplier, 32)
    half = 1 << int(shift, 16) >> 1
    rounded = (abs(product) + half) >> int(shift, 16)
    rounded = rounded if product > 0 else -rounded
    print(line.strip(), f"{max(-128, min(127, rounded + signed(zero_point, 8))) & 0xff:02x}")
"""
_ = (WORK / "device.py").write_text(DEVICE)

# %% [markdown]
# ## Why random tests certify nothing
#
# A million random accumulators with random scales of 31 bits, as real models have them, against a rule that rounds
# halves up:

# %%
rng = np.random.default_rng(7)
requantize = bind("requantize", INTSIM)


def random_cases(count: int) -> np.ndarray:
    """Return random operands whose results are spread over int8: accumulator, multiplier, shift, zero point."""
    acc = rng.integers(-(2**24), 2**24, count)
    multiplier = rng.integers(2**30, 2**31, count)
    return np.stack([acc, multiplier, rng.integers(45, 50, count), rng.integers(-20, 20, count)], axis=1)


half_away = changes_of_operator(requantize)["rounding half-away"]
cases = random_cases(1_000_000)
differ = (half_away.results(cases) != requantize.results(cases)).any(axis=1)
print(f"{differ.sum()} of {len(cases):,} random cases tell half-away from half-up")
assert not differ.any()

# %% [markdown]
# **None.** The two rules differ on negative ties only, and an odd 31-bit multiplier with a shift of 45 has no tie among
# them. Both are "correct" by this test, and by a hundred million more.
#
# `intsim vectors gen` writes cases that were made to tell rules apart:

# %%
shell("intsim vectors gen requantize > golden.txt; grep -v '#' golden.txt | head -4")
shell("grep -c -v '#' golden.txt")
shell("intsim vectors gen requantize --operands-only | python device.py > answers.txt")
shell("intsim vectors verify requantize answers.txt --errors 4")

# %% [markdown]
# Caught. Each line shows the operands, what came, what should have come. And now the question that costs days: *why?*

# %%
shell("intsim diagnose golden.txt answers.txt | tail -4")

# %% [markdown]
# `diagnose` ran the operator again with one rule changed, for every change that hardware has been seen to make, and one
# of them gives the device's answers exactly, all of them.
#
# ## The kill matrix
#
# How good are the vectors? The honest measure is how many *bugs* they catch. Take every known bug of this operator, and
# count how many of the vectors catch it; and how many of as many random cases.

# %%
kills = [kill for kill in kill_matrix(INTSIM, 1, names=("requantize",)) if kill.bug != CONTROL]
sampled = random_cases(kills[0].cases)
right = requantize.results(sampled)
by_chance = {}
for bug, device in changes_of_operator(requantize).items():
    by_chance[bug] = int((device.results(sampled) != right).any(axis=1).sum())
kills = sorted((kill for kill in kills if kill.equivalent is None), key=lambda kill: (by_chance[kill.bug], kill.caught))

# %% tags=["hide-input"] alt="How many of 11,258 cases catch each of 55 bugs: 16 are missed by random cases, none by the vectors"
figure, axes = plt.subplots(figsize=(7.6, 8.2))
places = np.arange(len(kills))
chance = np.array([by_chance[kill.bug] for kill in kills])
caught = np.array([kill.caught for kill in kills])
axes.hlines(places, np.maximum(chance, 0.5), caught, color="#cfcfcf", linewidth=2, linestyle="-")
axes.plot(np.maximum(chance, 0.5), places, "o", color=RUST, markerfacecolor="white", label="random cases")
axes.plot(caught, places, "o", color=INK, label="vectors, level 1")
axes.set_xscale("log")
axes.set_xticks([0.5, 1, 10, 100, 1000, 10_000], ["none", "1", "10", "100", "1,000", "10,000"])
axes.set_yticks(places, [kill.bug for kill in kills], fontsize=7)
axes.set(xlabel=f"cases of {kills[0].cases:,} that catch the bug", ylim=(-1, len(kills)))
axes.grid(visible=True, axis="x")
axes.tick_params(left=False)
axes.legend(loc="lower right")
plt.show()

# %%
print(f"not caught by random cases: {(chance == 0).sum()} of {len(kills)} bugs; by the vectors: {(caught == 0).sum()}")
assert (caught > 0).all()

# %% [markdown]
# Each row is a bug. Where the open circle stands at *none*, a random test of this size would have let the chip go out.
# No bug survives the vectors; that is what `intsim vectors kill` proves, for every operator, and a test of intsim's own
# holds it to that.
#
# ## A whole model
#
# Units are one thing, a network another. Suppose a chip computes the whole classifier, and one rule of it is wrong: in
# LayerNorm the mean is rounded to an integer before it is taken off. We have its dump of every tensor. Where to look?

# %%
model = intsim.load(resources.files("intsim.embedded"))
text = "The film is long, and it is worth every minute."
ids = [list(encode(parse_tokenizer(model.tokenizer), text, longest=128).ids)]
rounded = dataclasses.replace(model.profile.layer_norm, centring="rounded-mean")
chip = dataclasses.replace(model, profile=dataclasses.replace(model.profile, name="chip", layer_norm=rounded))
with intsim.trace("steps") as golden:
    model(ids)
with intsim.trace("tensors") as dump:
    chip(ids)
found = compare(golden, dump)
print("tensors that differ:", len(found.differing), "; first:", found.first.name)

# %% [markdown]
# One rule, four elements that are off by one, and in the end nearly everything differs: whatever comes after the first
# error is computed from wrong operands. So the *first* tensor in forward order counts, and `compare` finds it. Here is
# how the error spreads:

# %%
shares = {
    name: float(np.mean(dump[name] != golden[name])) for name in dump if golden[name].size > 1 and ":" not in name
}
names = list(shares)
values = 100 * np.array([shares[name] for name in names])

# %% tags=["hide-input"] alt="Share of elements that differ, tensor by tensor: none up to the first LayerNorm, then more and more"
figure, axes = plt.subplots(figsize=(7.6, 3.4))
axes.bar(range(len(names)), values, width=1, color=SEA)
place = names.index(found.first.name)
axes.bar(place, values[place], width=1, color=RUST)
axes.annotate(
    f"first:\n{found.first.name.replace('.', chr(10))}\n{found.first.count} of {found.first.size}\nelements",
    (place, values[place]),
    xytext=(-11.5, 45),
    color=RUST,
    fontsize=8.5,
    arrowprops={"arrowstyle": "-|>", "color": RUST, "linewidth": 0.8},
)
layers = {name.split(".")[2]: i for i, name in reversed(list(enumerate(names))) if name.startswith("encoder.layer.")}
for layer, start in layers.items():
    axes.axvline(start - 0.5, color="#888888", linewidth=0.8, linestyle=":")
    axes.text(start, 102, f"layer {layer}", fontsize=8, color="#555555")
axes.set(xlabel="tensors in forward order", ylabel="elements that differ, %", xlim=(-12, len(names)), ylim=(0, 110))
axes.set_xticks([])
axes.grid(visible=True, axis="y")
plt.show()

# %% [markdown]
# `diagnose` then takes the operator of that tensor, runs it from the *golden* operands, and tries the changes:

# %%
diagnosis = diagnose(golden, dump)
print("operator:", diagnosis.operator, "; mismatches:", diagnosis.mismatches)
print("explains all of them:", *diagnosis.explain_all, sep="\n  ")
assert diagnosis.explain_all == ("rounded mean subtracted",)

# %% [markdown]
# On the command line that is `intsim run DIR --text T --trace golden.safetensors --level steps`, then `intsim compare`
# and `intsim diagnose` with whatever your simulator dumped: npz, memh, decimal text, in any dtype.

# %%
write_trace(WORK / "golden.safetensors", golden, model)
np.savez(WORK / "chip.npz", **dump)
shell("intsim compare golden.safetensors chip.npz --max-errors 2", lines=8)

# %% [markdown]
# ## RTL in the loop
#
# Where a simulator is installed (`apt-get install iverilog`), the same in SystemVerilog. `intsim vectors bench` writes
# a reference unit with everything around it: stimuli, stalls on both sides, resets in the middle.

# %%
simulator = shutil.which("iverilog") and shutil.which("make")
if simulator:
    shell("intsim vectors bench requantize --out bench")
    shell("make -s -C bench icarus", lines=4)
else:
    print("no simulator here; nothing was run")

# %% [markdown]
# Now somebody saves an adder. The half that makes a shift round to nearest is left out:

# %%
if simulator:
    unit = WORK / "bench" / "requantize.sv"
    rtl = unit.read_text()
    assert "(product_1 + half) >>> shift_1" in rtl
    _ = unit.write_text(rtl.replace("(product_1 + half) >>> shift_1", "product_1 >>> shift_1"))
    shell("make -s -C bench icarus 2>&1 | grep -v '^ ' | grep -v '^bench' | tail -5")
else:
    print("no simulator here; nothing was run")

# %% [markdown]
# Found and named: *rounding floor*.
#
# ## Exercises

# %%
from exercise import check

# %% [markdown]
# **1.** How many of the vectors of level 1 catch a requantizer that rounds half to *even*?

# %%
answer = ...
check(answer, "da4837c9")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = next(kill.caught for kill in kills if kill.bug == "rounding half-even")
check(solution, "da4837c9")

# %% [markdown]
# **2.** TFLite rounds twice: once when it drops 31 bits of the product, once for the rest of the shift. What is the
# accumulator 3 times $2^{30} / 2^{33}$, rounded once, and rounded twice, halves up each time? (Two integers.)

# %%
answer = ...
check(answer, "9d34149f")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
once = (3 * 2**30 + 2**32) >> 33
twice = (((3 * 2**30 + 2**30) >> 31) + 2) >> 2
solution = [once, twice]  # 0.375 is 0; but 1.5 is 2 first, and 2 / 4 is 1
check(solution, "9d34149f")

# %% [markdown]
# **3.** In the dump above, how many elements of the first tensor that differs are wrong, and by how many LSB at most?

# %%
answer = ...
check(answer, "181d9408")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
first = found.first.name
error = dump[first].astype(int) - golden[first].astype(int)
solution = [int((error != 0).sum()), int(np.abs(error).max())]
check(solution, "181d9408")

# %% [markdown]
# Next: [property-testing a quantizer](08_property_testing_a_quantizer.py), in a project of your own.
