# SPDX-License-Identifier: Apache-2.0
"""Kinds of files in a checkpoint: the floats that ``quantize`` reads, and the integers that ``run`` does."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from fuzz import llama_cpp, seeds
from fuzz.edits import Files
from fuzz.kind import Kind

import intsim
from intsim.io.integer_checkpoint import FILE
from intsim.models import FAMILIES
from intsim.profile import PROFILES
from intsim.recipes import recipe_names

FLOAT: Final = [f"{name} {head} intsim" for name, family in FAMILIES.items() for head in family.heads]
DECODERS: Final = [name for name, family in FAMILIES.items() if "causal-lm" in family.heads]
CLASSIFIER: Final = "bert sequence-classification"
PRESETS: Final = Path(intsim.__file__).parent / "recipes"
QUANTIZE: Final = [
    "quantize FOLDER/in -o FOLDER/out --recipe FOLDER/recipe.toml --calibration FOLDER/texts.txt --head HEAD"
]
RUN: Final = ["run FOLDER --ids FOLDER/ids.txt", "inspect FOLDER --json"]
GENERATE: Final = ["generate FOLDER --ids FOLDER/ids.txt --max-new-tokens 2"]
EXPORT: Final = [f"export FOLDER --{form} FOLDER/{form}.{form}" for form in ("npz", "memh", "c", "onnx")]
PARTS: Final = [
    *[(FILE, "metadata", part) for part in ("config", "formats", "dynamic", "packed")],
    *[(FILE, "metadata"), (FILE, "tensors"), (FILE, "tensors")],
]


@cache
def _to_quantize(seed: str) -> Files:
    family, head, recipe = seed.split()
    files: Files = {f"in/{name}": content for name, content in seeds.checkpoint(family, head).items()}
    return {**files, "recipe.toml": (PRESETS / f"{recipe}.toml").read_text(), "texts.txt": seeds.TEXTS}


@cache
def _trained(seed: str) -> Files:
    """Return a checkpoint with ranges that were trained."""
    files = _to_quantize(seed)
    tensors = seeds.contained(files["in/model.safetensors"])
    for name in ("embeddings.LayerNorm", "encoder.layer.0.attention.self.query"):
        tensors |= {f"{name}.{end}": np.float32([value]) for end, value in (("x_min", -2), ("x_max", 3))}
    return {**files, "in/model.safetensors": seeds.container(tensors)}


@cache
def _in_shards(seed: str) -> Files:
    """Return a checkpoint in two files."""
    files = dict(_to_quantize(seed))
    tensors = seeds.contained(files.pop("in/model.safetensors"))
    parts = [dict([*tensors.items()][half::2]) for half in (0, 1)]
    places = {name: f"part-{half}.safetensors" for half, part in enumerate(parts) for name in part}
    files |= {f"in/part-{half}.safetensors": seeds.container(part) for half, part in enumerate(parts)}
    return {**files, "in/model.safetensors.index.json": {"metadata": {"total_size": 0}, "weight_map": places}}


@cache
def _compressed(seed: str) -> Files:
    """Return a checkpoint whose linear layers are integers with scales, as compressed-tensors stores them."""
    family, scheme = seed.split()
    files = dict(_to_quantize(f"{family} causal-lm zeroquant"))
    strategy, inputs = SCHEMES[scheme]
    tensors: dict[str, Any] = {}
    for name, values in seeds.contained(files["in/model.safetensors"]).items():
        layer = name.removesuffix(".weight")
        if values.ndim < 2 or "embed" in layer or layer == "lm_head":
            tensors[name] = values
            continue
        blocks = values.reshape({"tensor": 1, "channel": len(values), "group": values.size // 4}[strategy], -1)
        scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
        tensors[name] = np.rint(blocks / scale).astype(np.int8).reshape(values.shape)
        shape = {"tensor": (1,), "channel": (-1, 1), "group": (len(values), -1)}[strategy]
        tensors[f"{layer}.weight_scale"] = scale.reshape(shape)
        if inputs and not inputs["dynamic"]:
            tensors |= {f"{layer}.input_scale": np.float32([0.05]), f"{layer}.input_zero_point": np.int8([-5])}
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": strategy, "dynamic": False}
    groups = {"targets": ["Linear"], "weights": {**weights, "group_size": 4}, "input_activations": inputs}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": groups, "group_1": {"targets": ["re:.*x_proj"], "weights": weights}},
    }
    files["in/config.json"] = {**files["in/config.json"], "quantization_config": quantization}
    return {**files, "in/model.safetensors": seeds.container(tensors)}


def _with_ranges(seed: str) -> Files:
    return {**_to_quantize(seed), "ranges.json": RANGES[seed.partition(" ")[0]]}


def _with_tokenizer(seed: str) -> Files:
    files = dict(_to_quantize(seed))
    special, added = {"unk_token": "[UNK]", "sep_token": "[SEP]", "mask_token": "[MASK]"}, {"[MASK]": 4}
    if (family := seed.partition(" ")[0]) in llama_cpp.SEEDS:
        files["in/tokenizer.json"] = llama_cpp.tokenizer(family)
        end = files["in/tokenizer.json"]["added_tokens"][0]
        special, added = {"eos_token": end["content"]}, {end["content"]: end["id"]}
    more = {"model_max_length": 16, "do_lower_case": True, "truncation_side": "right"}
    files["in/tokenizer_config.json"] = {**files["in/tokenizer_config.json"], **more}
    return {**files, "in/special_tokens_map.json": special, "in/added_tokens.json": added}


INTEGER: Final = [
    *(f"{CLASSIFIER} {recipe}" for recipe in recipe_names()),
    *(f"bert none {recipe}" for recipe in ("peg", "zeroquant")),
    *(f"{family} sequence-classification intsim" for family in FAMILIES),
    *(f"bert {head} intsim" for head in FAMILIES["bert"].heads),
    *(f"bert none ibert {profile}" for profile in PROFILES),
]


NEXT_TOKEN: Final = [f"{family} causal-lm intsim" for family in DECODERS]


@cache
def saved(seed: str) -> Any:
    """Return the tree of a small integer checkpoint."""
    with TemporaryDirectory() as folder:
        seeds.model(*seed.split()).save(folder)
        return seeds.unsealed(Path(folder) / FILE)


def _integer(seed: str) -> Files:
    return {FILE: saved(seed), "ids.txt": seeds.IDS}


_STATIC: Final = {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "tensor", "dynamic": False}
SCHEMES: Final[dict[str, Any]] = {  # of weights, and of inputs
    "channels": ("channel", {**_STATIC, "symmetric": True, "strategy": "token", "dynamic": True}),
    "static": ("tensor", _STATIC),
    "groups": ("group", _STATIC),
    "open": ("channel", None),
}
RANGES: Final[dict[str, Any]] = {
    "bert": {"encoder.layer.0.attention.self.query": [-1.5, 2], "embeddings.LayerNorm": [-1, 0.5]},
    "llama": {"layers.0.self_attn.v_proj": [-1.5, 2], "layers.0.input_layernorm": [-4.0, 4.0]},
}
TOKENIZERS: Final = [
    *(f"{CLASSIFIER} intsim", "roberta none intsim", "albert none intsim"),
    *(f"{family} causal-lm intsim" for family in ("llama", "gpt2")),
]
RECIPES: Final = [f"{CLASSIFIER} {recipe}" for recipe in recipe_names() if recipe != "w4a8"]  # AdaRound takes its time
KINDS: Final = {
    "config": Kind(FLOAT, _to_quantize, [("in/config.json",)], QUANTIZE, "out"),
    "weights": Kind(
        FLOAT, _to_quantize, [("in/model.safetensors", "header"), ("in/model.safetensors",)], QUANTIZE, "out"
    ),
    "trained ranges": Kind(
        [f"{CLASSIFIER} ibert"],
        _trained,
        [("in/model.safetensors", "header"), ("in/model.safetensors",)],
        QUANTIZE,
        "out",
    ),
    "shards": Kind(
        [f"{CLASSIFIER} intsim"],
        _in_shards,
        [("in/model.safetensors.index.json", "weight_map"), ("in/model.safetensors.index.json",)],
        QUANTIZE,
        "out",
    ),
    "compressed": Kind(
        [f"{family} {scheme}" for family in ("llama", "qwen2", "gpt_neox") for scheme in SCHEMES],
        _compressed,
        [
            *[("in/config.json", "quantization_config", "config_groups"), ("in/config.json", "quantization_config")],
            *[("in/model.safetensors", "header"), ("in/model.safetensors",)],
        ],
        [QUANTIZE[0].replace(" --head HEAD", "")],
        "out",
    ),
    "ranges": Kind(
        [f"{CLASSIFIER} intsim", "llama causal-lm intsim"],
        _with_ranges,
        [("ranges.json",)],
        [f"{QUANTIZE[0]} --ranges FOLDER/ranges.json"],
        "out",
    ),
    "tokenizer": Kind(
        TOKENIZERS,
        _with_tokenizer,
        [
            *[("in/tokenizer.json",), ("in/tokenizer_config.json",)] * 2,
            *[("in/tokenizer.json", part) for part in ("added_tokens", "post_processor", "normalizer", "model")],
            *[("in/special_tokens_map.json",), ("in/added_tokens.json",)],
        ],
        QUANTIZE,
        "out",
    ),
    "sentences": Kind(
        ["bert sentence-embedding intsim"],
        _to_quantize,
        [("in/modules.json",), ("in/1_Pooling/config.json",), ("in/sentence_bert_config.json",)],
        QUANTIZE,
        "out",
    ),
    "recipe": Kind(RECIPES, _to_quantize, [("recipe.toml",)], QUANTIZE, "out"),
    "calibration": Kind([f"{CLASSIFIER} intsim"], _to_quantize, [("texts.txt",)], QUANTIZE, "out"),
    "integers": Kind(INTEGER, _integer, PARTS, RUN, "."),
    "decoder": Kind(NEXT_TOKEN, _integer, PARTS, [*RUN, *GENERATE], "."),
    "exported": Kind(
        [f"{CLASSIFIER} intsim", f"{CLASSIFIER} zeroquant", "llama causal-lm intsim"], _integer, PARTS, EXPORT, "."
    ),
    "profile": Kind(INTEGER, _integer, [(FILE, "metadata", "profile")], RUN, "."),
    "stored tokenizer": Kind(
        [f"{CLASSIFIER} intsim", "llama causal-lm intsim"],
        _integer,
        [(FILE, "metadata", "tokenizer")],
        ["run FOLDER --text a,b\tc"],
        ".",
    ),
}
