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
# # Write a recipe
#
# A recipe says which tensor gets how many bits, in how many groups, and how its range is found. It is a TOML file, data
# and not code: three lists of rules, and in each the first rule that matches decides. The presets are such files too;
# `intsim recipes NAME` prints one.
#
# Rules speak of *roles*, so that one recipe serves every family, or of names, as shell patterns.

# %% tags=["remove-cell"]
import shell  # the commands are typed in the folder of the repository

# %%
import textwrap

from intsim.models.world import ROLES, WEIGHT_ROLES

print(textwrap.fill("weights: " + ", ".join(WEIGHT_ROLES), 90))
print(textwrap.fill("activations: " + ", ".join(ROLES), 90))

# %% [markdown]
# Say 4 bits are wanted for the feed-forward weights, in groups of input channels, and 16 for what goes into them:

# %%
from pathlib import Path

RECIPE = """
name = "mine"
profile = "intsim"

[parameters]           # mine.toml:bits=3 changes them
bits = 4

[[weights]]
roles = "ffn"
bits = "$bits"
granularity = "group"  # groups of consecutive channels, each with a scale
groups = 8
axis = "input"
rounding = "gptq"

[[weights]]
names = "*"
bits = 8
granularity = "channel"

[[activations]]
roles = ["embedding", "residual", "output", "ffn-input"]
bits = 16
symmetric = true

[[activations]]
names = "*"
bits = 8
symmetric = false
estimator = "percentile"
percentile = 99.9
"""
_ = Path("/tmp/mine.toml").write_text(RECIPE, encoding="utf-8")

# %% [markdown]
# See what it would do to a checkpoint before anything is computed, then let it be compared with the recipe you come
# from:

# %% language="bash"
# intsim recipes /tmp/mine.toml --checkpoint tests/data/embedded-float | grep -E "name|ffn"
# printf 'sentence\tlabel\n%s\t1\n%s\t0\n' "a moving film ." "two hours i want back ." > /tmp/two.tsv
# intsim report tests/data/embedded-float --recipes intsim,/tmp/mine.toml,/tmp/mine.toml:bits=3 \
#     --task sst2 --data /tmp/two.tsv | head -7

# %% [markdown]
# ## What a rule may say
#
# | of | key | values |
# |---|---|---|
# | all | `names`, `roles` | shell patterns, roles; one or a list |
# | all | `bits` | weights 2 to 8, activations 2 to 32, inputs 2 to 16, or to 8 where their ranges are found while running |
# | weights | `granularity`, `groups`, `axis` | `tensor`, `channel` or `group`; how many; `output` or `input` channels |
# | weights | `estimator`, `rounding` | `min-max` or `mse`; `nearest`, `adaround` or `gptq` |
# | activations | `symmetric`, `codes` | whether the zero point is 0; `narrow` or `by-range` |
# | activations | `groups` | groups of channels with a range each |
# | activations | `estimator` | `min-max`, `running-min-max` (`momentum`), `percentile` (`percentile`), `mse` |
# | inputs | `range`, `clip` | `static`, `token` or `sequence`; `none` or `tm-iqr` |
#
# `[[inputs]]` are what products read where that has fewer bits than the activation. At the top stand `permutation =
# "range"`, `bias_correction = true` and `smooth = 0.5` (SmoothQuant's alpha), or `smooth = { alpha = 0.5, roles =
# ["norm"] }` for the norms of some roles. What does not exist is refused in one sentence:

# %% magic_args="fails" language="bash"
# sed 's/"channel"/"chanel"/' /tmp/mine.toml > /tmp/wrong.toml
# intsim recipes /tmp/wrong.toml 2>&1 | fold -s -w 95
