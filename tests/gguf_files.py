# SPDX-License-Identifier: Apache-2.0
"""Writes a Hugging Face decoder as llama.cpp's converter lays it out, by the package gguf's own writer.

Without the package the test skips, and with INTSIM_REQUIRE_KERNELS=1 it fails.
"""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

ARCHITECTURES: Final = {
    "llama": "llama",
    "qwen2": "qwen2",
    "gemma": "gemma",
    "gpt2": "gpt2",
    "gptj": "gptj",
    "gpt_neox": "gptneox",
}
"""The family -> the architecture of its GGUF files."""


def package() -> Any:
    """Return the package gguf."""
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            raise
        pytest.skip(f"{error}; pip install '.[gguf]'")


def convert(
    folder: Path,
    file: Path,
    *,
    kinds: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Write the checkpoint in ``folder`` as ``file`` and return it.

    Parameters
    ----------
    kinds
        Name of a tensor in the file -> the kind it is stored in, F32 where none is given.
    metadata
        Key -> value in place of the converter's, None to leave it out.
    tensors
        Name -> values of more tensors, or of other values.
    """
    gguf = package()
    config = json.loads((folder / "config.json").read_text())
    architecture = ARCHITECTURES[config["model_type"]]
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    (number,) = (number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, layers)
    written: dict[str, NDArray[Any]] = {}
    for name, values in load_file(folder / "model.safetensors").items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        written[theirs] = _laid_out(config, theirs, values)
    written |= tensors or {}
    return write(file, architecture, {**_metadata(config, architecture), **(metadata or {})}, written, kinds or {})


def write(
    file: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    kinds: Mapping[str, str],
) -> Path:
    """Write a file; values of type uint8 are the blocks of their kind already."""
    gguf = package()
    writer = gguf.GGUFWriter(file, architecture)
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, list(value))
    for name, values in tensors.items():
        kind = gguf.GGMLQuantizationType[kinds.get(name, "F32")]
        blocks = values if values.dtype == np.uint8 else gguf.quantize(np.ascontiguousarray(values), kind)
        writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def vocabulary(tokens: Sequence[str], kinds: Sequence[int], model: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of a vocabulary."""
    values = {"model": model, "tokens": tokens, "token_type": kinds, **more}
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()}


def _laid_out(config: Mapping[str, Any], name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Do to a tensor what llama.cpp's converter does."""
    _, _, layer = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")
    match config["model_type"], layer:
        case "llama", "attn_q" | "attn_k":
            heads = config["num_attention_heads" if layer == "attn_q" else "num_key_value_heads"]
            halves = [np.split(head, 2) for head in np.split(values, heads)]
            return np.concatenate([row for pair in halves for rows in zip(*pair, strict=True) for row in rows]).reshape(
                values.shape
            )
        case "gemma", _ if layer.endswith("norm"):
            return values + np.float32(1)
        case "gpt2", "attn_qkv" | "attn_output" | "ffn_up" | "ffn_down" if values.ndim == 2:
            return values.T
        case "gpt_neox", "attn_qkv":
            by_head = [np.split(head, 3) for head in np.split(values, config["num_attention_heads"])]
            return np.concatenate([head[part] for part in range(3) for head in by_head])
        case _:
            return values


def _metadata(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    width = config.get("hidden_size", config.get("n_embd"))
    heads = config.get("num_attention_heads", config.get("n_head"))
    size = config.get("head_dim") or width // heads
    rope = config.get("rope_parameters") or {}
    rotated = config.get("rotary_dim") or int(size * rope.get("partial_rotary_factor", 1))
    values = {
        "context_length": config.get("max_position_embeddings", config.get("n_positions")),
        "embedding_length": width,
        "block_count": config.get("num_hidden_layers", config.get("n_layer")),
        "feed_forward_length": config.get("intermediate_size", config.get("n_inner")),
        "attention.head_count": heads,
        "attention.head_count_kv": config.get("num_key_value_heads"),
        "attention.key_length": config.get("head_dim"),
        "attention.value_length": config.get("head_dim"),
        "attention.layer_norm_rms_epsilon": config.get("rms_norm_eps"),
        "attention.layer_norm_epsilon": config.get("layer_norm_eps", config.get("layer_norm_epsilon")),
        "rope.freq_base": rope.get("rope_theta"),
        "rope.dimension_count": None if config["model_type"] == "gpt2" else rotated,
        "use_parallel_residual": config.get("use_parallel_residual"),
    }
    eos = {"tokenizer.ggml.eos_token_id": config["eos_token_id"]}
    return {f"{architecture}.{key}": value for key, value in values.items()} | eos
