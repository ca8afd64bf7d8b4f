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
# # Quantize your checkpoint and choose a recipe
#
# A Hugging Face folder, or a GGUF file, becomes an *integer checkpoint* once, and never touches a float again. This
# page does it with the small sentiment classifier that the repository holds as a float checkpoint; put your own folder
# in its place. Which architectures there are is listed under [families](../reference/families.md).

# %% tags=["remove-cell"]
import shell  # the commands are typed in the folder of the repository

# %% language="bash"
# intsim quantize tests/data/embedded-float -o /tmp/film
# intsim run /tmp/film --text "An honest, moving and quietly powerful film."

# %% [markdown]
# The folder needs config.json, `*.safetensors` and tokenizer.json. Activation ranges were taken from sentences that
# come with intsim; give texts of your own kind, one a line, a TAB between the two of a pair: `--calibration texts.txt`.
# Some 64 are enough for an encoder. Texts that are too long are refused, or shortened with `--truncate`.
#
# The same from Python, with the model to go on with:

# %%
import intsim

texts = ["A fine film.", "Two dull hours."]
model = intsim.quantize("tests/data/embedded-float", recipe="intsim", calibration=texts)
with intsim.trace() as trace:
    result = model([[2, 187, 1403, 4]])
print(result.values * float(result.scale), "of", len(trace), "arrays of integers")

# %% [markdown]
# ## Which recipe?
#
# | you want | recipe |
# |---|---|
# | the best 8-bit model that hardware with static scales runs | `intsim` |
# | nothing asymmetric, every scale static: the simplest hardware, I-BERT's | `ibert` |
# | the last tenth of a per cent, and rows whose ranges are found while running | `zeroquant` |
# | residual sums of 8 bits, since your memory has no more | `peg`, then `w8a8` |
# | fewer bits stored | `w6`, `w4a8:rounding=gptq`, `zeroquant-w4:rounding=gptq`, `embed2` |
# | a decoder | `zeroquant` with `--profile intsim-wide`, see [how to run one](run_a_decoder.py) |
#
# What each of them is, and which paper it comes from, is in [the papers' schemes](papers.md); what they score on MiniLM
# is under [accuracy](../reference/accuracy.md). `intsim report` answers for your checkpoint and your data, and says
# where each recipe loses:

# %% language="bash"
# printf 'sentence\tlabel\n' > /tmp/dev.tsv
# printf '%s\t%s\n' "a warm , funny and moving film ." 1 "two hours i want back ." 0 \
#     "the plot is thin , the jokes thinner ." 0 "quietly powerful to the end ." 1 >> /tmp/dev.tsv
# intsim report tests/data/embedded-float --recipes intsim,ibert,zeroquant,w4a8 \
#     --task sst2 --data /tmp/dev.tsv --plot /tmp/report.png | head -8

# %% tags=["remove-input"] alt="The report's picture: ranges of channels, error by layer for four recipes, what the error comes from"
from IPython.display import Image

Image("/tmp/report.png")

# %% [markdown]
# Above: the range of every channel in front of and behind each feed-forward network. One channel far outside the others
# is what 8 bits per tensor cannot hold. Below, the error of every layer and what it comes from: *quantization* asks for
# more bits or more scales, *saturation* for wider ranges, *approximation* for another
# [profile](a_profile_of_your_own.py).
#
# Which rule every tensor gets, before anything is computed:

# %% language="bash"
# intsim recipes w4a8 --checkpoint tests/data/embedded-float | head -6

# %% [markdown]
# ## Score it, look inside
#
# `eval` scores an integer checkpoint on the data of a task in their original layout, with the float model beside it;
# `inspect` lists its tensors, `inspect --widths` the bits that no text can exceed.

# %% language="bash"
# intsim eval /tmp/film --task sst2 --data /tmp/dev.tsv --reference tests/data/embedded-float
# intsim inspect /tmp/film | cut -c1-90 | head -12

# %% [markdown]
# A trace of one text becomes a picture, or with `.html` a page: the range of every activation, how it uses its codes,
# its error beside the float model, and the attention of every head.

# %% language="bash"
# intsim run /tmp/film --text "A dull mess, but a warm one." --level steps --trace /tmp/trace.safetensors
# intsim inspect /tmp/trace.safetensors --plot /tmp/trace.png --reference tests/data/embedded-float | head -4

# %% tags=["remove-input"] alt="The trace's picture: ranges and codes of each array, errors beside the float model, attention by head"
Image("/tmp/trace.png")

# %% [markdown]
# ## Ranges from elsewhere
#
# Ranges that AIMET or Brevitas found, for example, come as `--ranges FILE.json`, `{"embeddings.sum": [-3.1, 4.2], ...}`
# under the names that `intsim recipes NAME --checkpoint HF_DIR` lists; texts serve the activations that the file leaves
# out. A checkpoint that was trained with quantization keeps its ranges: see [the papers' schemes](papers.md). What
# comes with quantized weights is [imported](import_quantized.md).
