# SPDX-License-Identifier: Apache-2.0
"""Frequencies of rotary embeddings: by decimals, by float64, and as transformers has them."""

import dataclasses

import numpy as np
import pytest

from intsim.io.rotary_frequencies import rotary_frequencies
from intsim.models.llama import LlamaConfig
from intsim.reference.rotary_frequencies import rotary_frequencies as in_floats

LLAMA = LlamaConfig(
    vocab_size=10,
    max_position_embeddings=64,
    hidden_size=64,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=8,
    rope_theta=500000.0,
)
STRETCHED = [
    {},
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
]


@pytest.mark.parametrize("how", STRETCHED, ids=str)
def test_decimals_and_floats_agree(how):
    config = dataclasses.replace(LLAMA, **how)
    np.testing.assert_allclose(in_floats(config, 64), rotary_frequencies(config, 64), rtol=1e-14)


@pytest.mark.parametrize("how", STRETCHED, ids=str)
def test_they_are_those_of_transformers(how):
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    theirs = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS
    parameters = {"rope_theta": 500000.0, "rope_type": "default", **how}
    if parameters["rope_type"] == "llama3":
        parameters["original_max_position_embeddings"] = 8192
    config = transformers.LlamaConfig(
        hidden_size=64, num_attention_heads=1, head_dim=64, max_position_embeddings=64, rope_parameters=parameters
    )
    if parameters["rope_type"] == "default":
        expected = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config).inv_freq
    else:
        expected, _ = theirs[parameters["rope_type"]](config, device="cpu")
    ours = rotary_frequencies(dataclasses.replace(LLAMA, **how), 64)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)
