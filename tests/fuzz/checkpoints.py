# SPDX-License-Identifier: Apache-2.0
"""Kinds of files in a checkpoint: the floats that ``quantize`` reads, and the integers that ``run`` does."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fuzz import seeds
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


@cache
def _to_quantize(seed: str) -> Files:
    family, head, recipe = seed.split()
    files: Files = {f"in/{name}": content for name, content in seeds.checkpoint(family, head).items()}
    return {**files, "recipe.toml": (PRESETS / f"{recipe}.toml").read_text(), "texts.txt": seeds.TEXTS}


def _with_tokenizer(seed: str) -> Files:
    files = dict(_to_quantize(seed))
    files["in/special_tokens_map.json"] = {"unk_token": "[UNK]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    files["in/added_tokens.json"] = {"[MASK]": 4}
    more = {"model_max_length": 16, "do_lower_case": True, "truncation_side": "right"}
    files["in/tokenizer_config.json"] = {**files["in/tokenizer_config.json"], **more}
    return files


INTEGER: Final = [
    *(f"{CLASSIFIER} {recipe}" for recipe in recipe_names()),
    *(f"bert none {recipe}" for recipe in ("peg", "zeroquant")),
    *(f"{family} sequence-classification intsim" for family in FAMILIES),
    *(f"bert {head} intsim" for head in FAMILIES["bert"].heads),
    *(f"{family} causal-lm intsim" for family in DECODERS),
    *(f"bert none ibert {profile}" for profile in PROFILES),
]


@cache
def saved(seed: str) -> Any:
    """Return the tree of a small integer checkpoint."""
    with TemporaryDirectory() as folder:
        seeds.model(*seed.split()).save(folder)
        return seeds.unsealed(Path(folder) / FILE)


def _integer(seed: str) -> Files:
    return {FILE: saved(seed), "ids.txt": seeds.IDS}


TOKENIZERS: Final = (f"{CLASSIFIER} intsim", "roberta none intsim", "albert none intsim")
RECIPES: Final = [f"{CLASSIFIER} {recipe}" for recipe in recipe_names() if recipe != "w4a8"]  # AdaRound takes its time
KINDS: Final = {
    "config": Kind(FLOAT, _to_quantize, [("in/config.json",)], QUANTIZE, "out"),
    "weights": Kind(
        FLOAT, _to_quantize, [("in/model.safetensors", "header"), ("in/model.safetensors",)], QUANTIZE, "out"
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
    "integers": Kind(
        INTEGER,
        _integer,
        [
            *[(FILE, "metadata", part) for part in ("config", "formats", "dynamic", "packed")],
            *[(FILE, "metadata"), (FILE, "tensors"), (FILE, "tensors")],
        ],
        RUN,
        ".",
    ),
    "profile": Kind(INTEGER, _integer, [(FILE, "metadata", "profile")], RUN, "."),
    "stored tokenizer": Kind(
        ["bert sequence-classification intsim"],
        _integer,
        [(FILE, "metadata", "tokenizer")],
        ["run FOLDER --text a,b\tc"],
        ".",
    ),
}
