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
# # Run a decoder
#
# LLaMA and its relatives run on integers as encoders do, with a cache that changes no bit. The stories model that comes
# with intsim goes on with a text:

# %% tags=["remove-cell"]
import shell  # the commands are typed in the folder of the repository

# %% language="bash"
# intsim generate --text "Once upon a time" --max-new-tokens 40 | fold -s -w 90
# intsim generate --text "Once upon a time" --max-new-tokens 40 --top-k 40 --temperature 0.8 \
#     --seed 1 | fold -s -w 90

# %% [markdown]
# ## The cache
#
# A cache is a value: no call changes it. However a text is split, on whichever side it is padded, beside whatever other
# texts, the integers are those of the whole text alone (`tests/models/test_cache.py`).

# %%
from importlib import resources

import numpy as np

import intsim

model = intsim.load(resources.files("intsim.embedded") / "stories")
cache = model.start()
result = model([[1, 403, 407]], cache=cache)
result = model([[261]], cache=result.cache)
whole = model([[1, 403, 407, 261]])
assert np.array_equal(result.values[0, -1], whole.values[0, -1])
(tokens,) = model.generate([[1, 403, 407, 261]], max_new_tokens=20)
print(*tokens)

# %% [markdown]
# A cache of $S$ tokens takes $2 L S C$ bytes for $L$ layers with $C$ channels of keys. Samples are drawn on integers too:
# logits through the profile's `exp`, and a number from SHA-256 of seed, step and text
# ({py:func}`intsim.ops.sample_token`), so that the same seed tells the same story on every machine.
#
# ## A decoder of your own
#
#     intsim quantize HF_DIR -o OUT --recipe zeroquant --profile intsim-wide \
#         --calibration text.txt --window 512
#     intsim generate OUT --text "It was a dark" --max-new-tokens 50 \
#         --top-k 40 --temperature 0.8 --seed 1
#     intsim generate OUT --ids ids.txt --trace step.safetensors --level steps
#     intsim run OUT --text "It was a dark" --trace prefill.safetensors --json
#     intsim eval OUT --task perplexity --data text.txt --window 512 --stride 256 --reference HF_DIR
#     intsim eval OUT --task lambada --data lambada.jsonl
#
# The trace of `generate` is that of the last step, with the cache it reads; `run` gives the logits of the last token.
# A decoder is calibrated on one running text, the lines as they stand, in windows (a text of intsim's own by default).
# `zeroquant` smooths its norms, which write a few channels far above the rest (SmoothQuant's migration of scales).
# Perplexity is formed in float64 from the integer logits, outside the model; what the tokenizer puts in front of a text
# stands in front of every window, and each token counts once. There are no chat templates: they are text, or `--ids`.
#
# What recipes and profiles cost in perplexity is under [language models](../reference/language_models.md), what they
# cost in time under [time and memory](../reference/speed.md).
