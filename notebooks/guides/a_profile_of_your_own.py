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
# # A numerics profile of your own
#
# A *profile* pins every convention that decides a bit: how a product is scaled back, how ties are rounded, which
# polynomial stands for exp. Your chip has its own. Describe it as a profile, and the model runs as your chip should,
# with a trace to [check it by](bring_up_a_chip.py). What the profiles that come with intsim say is under
# [numerics](../reference/numerics.md).

# %% tags=["remove-cell"]
import shell  # the commands are typed in the folder of the repository

# %%
from dataclasses import fields, replace

import intsim
from intsim.fixedpoint import Rounding
from intsim.requantization import RULES

base = intsim.PROFILES["intsim"]
for field in fields(base):
    print(f"{field.name:<18} {getattr(base, field.name)!s:.75}")

# %% [markdown]
# Suppose that your requantizer is gemmlowp's, with its two roundings, and that what divides and shifts inside the
# nonlinear operators truncates:

# %%
mine = replace(
    base,
    name="my-chip",
    requantization=RULES["tflite-double"],
    step_rounding=Rounding.FLOOR,
)
print(mine.name, mine.hash[:12], "instead of", base.hash[:12])
print("rules of requantization:", *list(RULES)[:5], "...", len(RULES))

# %% [markdown]
# The hash is that of the rules, and stands in every checkpoint, trace and result: two runs that disagree cannot be
# taken for one another. Quantize by it, and see which integers it changes:

# %%
text = [[2, 187, 1403, 4]]
traces = {}
for profile in (base, mine):
    model = intsim.quantize("tests/data/embedded-float", profile=profile)
    with intsim.trace() as trace:
        model(text)
    traces[profile.name] = trace

for name in list(trace)[:14]:
    changed = (traces["intsim"][name] != traces["my-chip"][name]).mean()
    print(f"{name:<45}{changed:7.2%} of the integers change")

# %% [markdown]
# ## Rules of your own kind
#
# Each part of a profile may be one of several kinds, see {py:mod}`intsim.profile`:
#
# * requantization: any {py:class}`intsim.requantization.Requantization`, whose axes combine freely;
# * softmax, GELU, LayerNorm of other projects, {py:mod}`intsim.kernels.rules`;
# * exp, GELU, tanh, sigmoid and SiLU as correctly rounded tables, {py:mod}`intsim.rounded`.
#
# Save it beside your RTL as JSON, and read it back anywhere; one character changed gives another hash:

# %%
import json

from intsim.profile import Profile

stored = json.dumps(mine.to_json())
assert Profile.from_json(json.loads(stored)).hash == mine.hash
stored[:85] + "..."
