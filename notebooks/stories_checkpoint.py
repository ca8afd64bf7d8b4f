# SPDX-License-Identifier: Apache-2.0
"""Make a Hugging Face checkpoint of a LLaMA in the binary layout of llama2.c, version 0, and of its tokenizer.

    python notebooks/stories_checkpoint.py stories260K.bin tok512.bin FOLDER

The stories model that comes with intsim is quantized from such a folder. Its weights are llama2.c's stories260K
(Andrej Karpathy, MIT licence), trained on TinyStories (Eldan & Li 2023).
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from intsim.io.gguf_tokenizer import BYTE, CONTROL, NORMAL, UNKNOWN, sentencepiece_bpe

SPECIAL = ("<unk>", "<s>", "</s>")


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Return config.json and the tensors by Hugging Face's names."""
    data = path.read_bytes()
    dim, hidden, layers, heads, key_heads, vocabulary, longest = struct.unpack("<7i", data[:28])
    values, place, size = np.frombuffer(data, "<f4", offset=28), 0, dim // heads

    def take(*shape: int) -> NDArray[np.float32]:
        nonlocal place
        count = int(np.prod(shape))
        place += count
        return values[place - count : place].reshape(shape)

    def halves(w: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
        """Bring the channels that are rotated together, neighbours here, to both halves of a head."""
        return w.reshape(heads, size // 2, 2, dim).swapaxes(1, 2).reshape(heads * size, dim)

    tensors = {"model.embed_tokens.weight": take(abs(vocabulary), dim)}
    stacked = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": take(layers, dim, dim),
        "self_attn.k_proj": take(layers, key_heads * size, dim),
        "self_attn.v_proj": take(layers, key_heads * size, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    for name, weights in stacked.items():
        for layer, w in enumerate(weights):
            rotated = {"self_attn.q_proj": heads, "self_attn.k_proj": key_heads}.get(name)
            tensors[f"model.layers.{layer}.{name}.weight"] = halves(w, rotated) if rotated else w
    tensors["model.norm.weight"] = take(dim)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": abs(vocabulary),
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": longest,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": vocabulary > 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return config, tensors


def read_tokenizer(path: Path) -> Tokenizer:
    """Return the byte-pair encoding whose pieces are ranked by their scores."""
    data, place, pieces = path.read_bytes(), 4, list[tuple[str, float]]()
    while place < len(data):
        score, length = struct.unpack("<fi", data[place : place + 8])
        pieces.append((data[place + 8 : place + 8 + length].decode(), score))
        place += 8 + length
    names = [*SPECIAL, *(piece.replace(" ", "▁") for piece, _ in pieces[len(SPECIAL) :])]
    kinds = [UNKNOWN, CONTROL, CONTROL, *(BYTE if name.startswith("<0x") else NORMAL for name in names[len(SPECIAL) :])]
    return sentencepiece_bpe(names, [score for _, score in pieces], kinds, bos=1)


def main(model: Path, pieces: Path, folder: Path) -> None:
    """Write the folder."""
    config, tensors = read_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / "model.safetensors")
    tokenizer = json.dumps(json.loads(read_tokenizer(pieces).to_str()), ensure_ascii=False)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
