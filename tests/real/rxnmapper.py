# SPDX-License-Identifier: Apache-2.0
"""ALBERT from the package rxnmapper 0.4.3 (Schwaller et al. 2021): a masked language model of reaction SMILES."""

import json
from pathlib import Path
from typing import Final

import numpy as np
from real.folder import write
from real.masking import MaskedExample, masked
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

PACKAGE: Final = "rxnmapper==0.4.3"
TEXTS: Final = 100  # of the reactions; the rest is for calibration
PER_TEXT: Final = 10
SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TIED: Final = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
SMILES: Final = r"\[[^\]]+]|Br?|Cl?|[NOSPFIbcnosp]|[().=#\-+\\/:~@?*$]|>>?|%[0-9]{2}|[0-9]"  # the rest is dropped


def convert(package: Path, folder: Path) -> Path:
    """Write the masked language model of the package as a Hugging Face folder."""
    import torch  # noqa: PLC0415 - only where a .bin is read

    source = package / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"
    state = torch.load(source / "pytorch_model.bin", map_location="cpu", weights_only=True)
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    for name, tied in TIED.items():
        assert np.array_equal(tensors.pop(name), tensors[tied])
    return write(
        folder,
        config=json.loads((source / "config.json").read_text(encoding="utf-8")),
        tensors=tensors,
        tokenizer=_tokenizer((source / "vocab.txt").read_text(encoding="utf-8").splitlines()),
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
        },
    )


def reactions() -> list[str]:
    """Return common reactions over common building blocks, canonical and with sorted precursors."""
    return Path(__file__).with_name("reactions.txt").read_text(encoding="utf-8").splitlines()


def masked_examples(folder: Path) -> list[MaskedExample]:
    """Return masked reactions, the same on every call."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return masked(reactions()[:TEXTS], tokenizer, mask="[MASK]", per_text=PER_TEXT)


def calibration_texts(folder: Path) -> list[str]:
    """Return other reactions, each with a masked token."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    examples = masked(reactions()[TEXTS:], tokenizer, mask="[MASK]", per_text=1)
    return ["".join(tokenizer.id_to_token(token) for token in example.ids[1:-1]) for example in examples]


def _tokenizer(vocabulary: list[str]) -> str:
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = Split(Regex(SMILES), behavior="removed", invert=True)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer.to_str()
