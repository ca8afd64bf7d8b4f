# SPDX-License-Identifier: Apache-2.0
"""Turns a GGUF file into what a Hugging Face folder holds: config.json, and tensors under their names there.

llama.cpp's names for tensors come from the package gguf, which maps Hugging Face's names onto them. What llama.cpp's
converter does to values is undone as each tensor is read: rows of queries and keys are brought back from neighbours to
halves (llama), stacked queries, keys and values are put back head by head (gptneox), (K, N) is restored where Hugging
Face stores it so (gpt2), and the 1 of norms is taken off (gemma).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from intsim.errors import CheckpointError
from intsim.io.gguf_file import Block, Gguf, package
from intsim.io.stored_tensor import StoredTensor
from intsim.models.config import Config
from intsim.models.decoder import DecoderConfig
from intsim.models.families import FAMILIES
from intsim.models.family import Family
from intsim.models.llama import LlamaConfig
from intsim.models.outline import outline
from intsim.models.world import Stored

__all__ = ["GgufTensor", "name_tensors", "read_config"]

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon"),
    "rope.freq_base": ("rope_theta",),
    "rope.dimension_count": ("rotary_dim",),
    "use_parallel_residual": ("use_parallel_residual",),
}
"""Key of the metadata, after the architecture -> what families call it in config.json."""
NEEDED: Final = tuple(FIELDS)[:5]
SIZES: Final = (
    *NEEDED,
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
)
FACTORS: Final = ("rope.scaling.factor", "rope.scale_linear")  # by the second name in old files
CONSIDERED: Final = (*SIZES, *FACTORS, "vocab_size", "rope.scaling.type")
WITHOUT_EFFECT: Final = ("tensor_data_layout", "rope.scaling.original_context_length", "rope.scaling.finetuned")
ENDS: Final = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
ROPE_FACTORS: Final = "rope_freqs.weight"
LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor(StoredTensor):
    """A tensor of a GGUF file, of Hugging Face's shape."""

    gguf: Gguf
    block: Block
    undo: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def read(self) -> NDArray[Any]:
        """Return the values as Hugging Face lays them out."""
        values = self.gguf.read(self.block)
        return values if self.undo is None else self.undo(values)


def read_config(gguf: Gguf) -> dict[str, Any]:
    """Return what config.json says, of a decoder with its next token's head.

    Numbers that the file has as float32 are the shortest decimals it can stand for, so that 1e-5 is 1e-5 again.

    Raises
    ------
    CheckpointError
        If the architecture is not known, or the file says of it what no family here does.
    """
    architecture = gguf.metadata.get("general.architecture")
    families = {name.replace("_", ""): name for name in FAMILIES if issubclass(FAMILIES[name].config, DecoderConfig)}
    known = {name: families[name] for name in package().MODEL_ARCH_NAMES.values() if name in families}
    if not isinstance(architecture, str) or architecture not in known:
        _refuse(gguf, "general.architecture", f"one of {', '.join(sorted(known))}", architecture)
    given = {
        key.removeprefix(f"{architecture}."): _decimal(value)
        for key, value in gguf.metadata.items()
        if key.startswith(f"{architecture}.")
    }
    for name in SIZES:
        if (name in NEEDED or name in given) and (type(value := given.get(name)) is not int or value < 1):
            _refuse(gguf, f"{architecture}.{name}", "a positive integer", value)
    for name in FACTORS:
        if name in given and type(given[name]) is not float:
            _refuse(gguf, f"{architecture}.{name}", "a number", given[name])
    for name in given.keys() - {*FIELDS, *CONSIDERED, *WITHOUT_EFFECT}:
        rule = f"left out, since no {architecture} here has it"
        _refuse(gguf, f"{architecture}.{name}", rule, given[name])
    width, heads = given["embedding_length"], given["attention.head_count"]
    given.setdefault("attention.head_count_kv", heads)
    if (size := given.get("attention.key_length", width // heads)) < 1:
        _refuse(gguf, f"{architecture}.embedding_length", f"at least attention.head_count, {heads}", width)
    if (of_values := given.get("attention.value_length", size)) != size:
        _refuse(gguf, f"{architecture}.attention.value_length", f"{size}, that of keys", of_values)
    if "token_embd.weight" not in gguf.tensors:
        msg = f"{gguf.file} must hold tensor 'token_embd.weight', got no such tensor"
        raise CheckpointError(msg)
    family = FAMILIES[known[architecture]]
    values = {
        "model_type": known[architecture],
        "architectures": [f"{family.architecture}ForCausalLM"],
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "eos_token_id": [gguf.metadata[key] for key in ENDS if key in gguf.metadata],
        "pad_token_id": gguf.metadata.get("tokenizer.ggml.padding_token_id"),
        **{name: given[key] for key, names in FIELDS.items() if key in given for name in names},
        **_rotation(gguf, family, given, architecture, size),
    }
    _config(gguf, family, values)
    return values


def _config(gguf: Gguf, family: Family, values: Mapping[str, Any]) -> Any:
    """Return the configuration in ``values``, which speak of the file where they are refused."""
    try:
        return family.config.read(values)
    except CheckpointError as error:
        msg = f"{gguf.file} must hold what config.json holds of a {gguf.metadata['general.architecture']}, got: {error}"
        raise CheckpointError(msg) from None


def _rotation(gguf: Gguf, family: Family, given: Mapping[str, Any], architecture: str, size: int) -> dict[str, Any]:
    """Return what config.json says of the rotary embedding."""
    rotated = given.get("rope.dimension_count", size)
    if issubclass(family.config, LlamaConfig) and rotated != size:
        _refuse(gguf, f"{architecture}.rope.dimension_count", f"{size}, the channels of a head", rotated)
    part = rotated / size
    if int(size * part) != rotated:
        part = math.nextafter(part, math.inf)
    factor = given.get("rope.scaling.factor", given.get("rope.scale_linear", 0)) or 1.0
    kind = given.get("rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        _refuse(gguf, f"{architecture}.rope.scaling.type", "none or linear", kind)
    values: dict[str, Any] = {"partial_rotary_factor": part}
    if ROPE_FACTORS in gguf.tensors:
        return values | _llama3(gguf, family, given, size)
    return values if kind == "none" or factor == 1 else values | {"rope_type": "linear", "factor": factor}


def _llama3(gguf: Gguf, family: Family, given: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the scaling whose divisors of frequencies the file holds: LLaMA 3's numbers, its own factor."""
    from intsim.io.rotary_frequencies import rotary_frequencies  # noqa: PLC0415 - convert reads checkpoints

    divisors = gguf.read(gguf.tensors[ROPE_FACTORS])
    if divisors.shape != (size // 2,):
        msg = f"{ROPE_FACTORS} of {gguf.file} must have shape {(size // 2,)}, got {divisors.shape}"
        raise CheckpointError(msg)
    scaling = {"rope_type": "llama3", "factor": float(divisors.max()), **LLAMA3}
    theta = {"rope_theta": given["rope.freq_base"]} if "rope.freq_base" in given else {}
    sizes = {name: given[key] for key in NEEDED for name in FIELDS[key]} | {"vocab_size": 1}
    plain, scaled = (
        np.array(rotary_frequencies(_config(gguf, family, sizes | theta | each), size)) for each in ({}, scaling)
    )
    if not np.allclose(plain / scaled, divisors, rtol=1e-5, atol=0):
        msg = f"{ROPE_FACTORS} of {gguf.file} must hold the divisors of LLaMA 3, got others"
        raise CheckpointError(msg)
    return scaling


def name_tensors(gguf: Gguf, model_type: str, config: Config) -> dict[str, StoredTensor]:
    """Return the tensors by their names here, each to be read as Hugging Face lays it out.

    Raises
    ------
    CheckpointError
        If there is one that no model of the family has.
    """
    family, architecture = FAMILIES[model_type], gguf.metadata["general.architecture"]
    numbers = {name: number for number, name in package().MODEL_ARCH_NAMES.items()}
    names = package().get_tensor_name_map(numbers[architecture], gguf.metadata[f"{architecture}.block_count"])
    found: dict[str, StoredTensor] = {}
    used = {ROPE_FACTORS}
    for name, tensor in outline(family, config, "causal-lm").tensors.items():
        layer, _, ending = name.rpartition(".")
        layer = tensor.view.name if isinstance(tensor.view, Stored) else layer
        theirs = f"{names.get_name(family.prefix + layer) or names.get_name(layer)}.{ending}"
        if theirs in gguf.tensors:
            used.add(theirs)
            block = gguf.tensors[theirs]
            stored = GgufTensor(
                file=gguf.file, dtype=block.kind, shape=block.shape, offset=block.offset, gguf=gguf, block=block
            )
            found[f"{layer}.{ending}"] = _restored(stored, model_type, layer, ending, tensor.view, config)
    if unexpected := sorted(gguf.tensors.keys() - used):
        msg = f"{gguf.file} must hold the tensors of a {model_type}, got {unexpected[0]!r} too"
        raise CheckpointError(msg)
    return found


def _restored(stored: GgufTensor, model_type: str, layer: str, ending: str, view: object, config: Any) -> GgufTensor:
    """Return the tensor with what undoes llama.cpp's converter."""
    match model_type:
        case "llama" if layer.endswith((".q_proj", ".k_proj")):
            heads = config.num_attention_heads if layer.endswith(".q_proj") else config.key_heads
            return replace(stored, undo=partial(_regrouped, outer=heads, inner=2))
        case "gemma" if layer.endswith("norm"):
            return replace(stored, undo=_less_one)
        case "gpt_neox" if isinstance(view, Stored):
            return replace(stored, undo=partial(_regrouped_stack, heads=view.heads, parts=view.parts))
        case "gpt2" if isinstance(view, Stored) and view.transposed and ending == "weight":
            return replace(stored, shape=stored.shape[::-1], undo=np.transpose)
        case _:
            return stored


def _regrouped(values: NDArray[Any], *, outer: int, inner: int) -> NDArray[Any]:
    """Return rows (outer, N, inner) as rows (outer, inner, N)."""
    return values.reshape(outer, -1, inner, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _regrouped_stack(values: NDArray[Any], *, heads: int, parts: int) -> NDArray[Any]:
    """Return rows (parts, heads, D) as rows (heads, parts, D)."""
    return values.reshape(parts, heads, -1, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)


def _less_one(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # at signalling NaN, which whoever reads refuses
        return values.astype(np.float64) - 1


def _decimal(value: Any) -> Any:
    with np.errstate(over="ignore"):  # what is infinite is refused where it is used
        return float(str(np.float32(value))) if type(value) is float else value


def _refuse(gguf: Gguf, name: str, rule: str, value: object) -> NoReturn:
    got = "nothing" if value is None else repr(value)
    msg = f"{name} of {gguf.file} must be {rule}, got {got}"
    raise CheckpointError(msg)
