# SPDX-License-Identifier: Apache-2.0
"""RoBERTa from the package sapiens 1.0.3 (Prihoda et al. 2022): a masked language model of antibody heavy chains.

The checkpoint is fairseq's: its names are mapped one to one, the decoder is tied to the word table, and the token
types, which fairseq's RoBERTa lacks, are one row of zeros.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from real.folder import write
from real.masking import MaskedExample, masked
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

PACKAGE: Final = "sapiens==1.0.3"
TEXTS: Final = 32  # of the chains; the rest is for calibration
PER_TEXT: Final = 32
SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's dictionaries begin so; <mask> comes last
EMBEDDINGS: Final = {
    "embed_tokens": "word_embeddings",
    "embed_positions": "position_embeddings",
    "emb_layer_norm": "LayerNorm",
}
LAYER: Final = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}


def convert(package: Path, folder: Path) -> Path:
    """Write the heavy chains' model of the package as a Hugging Face folder."""
    import torch  # noqa: PLC0415 - only where a .pt is read

    source = package / "models" / "v1"
    with torch.serialization.safe_globals([Namespace]):
        checkpoint = torch.load(source / "checkpoint_vh.pt", map_location="cpu", weights_only=True)
    args = checkpoint["args"]
    residues = [line.split()[0] for line in (source / "dict.txt").read_text(encoding="utf-8").splitlines()]
    vocabulary = [*SPECIAL, *residues, "<mask>"]
    return write(
        folder,
        config={
            "architectures": ["RobertaForMaskedLM"],
            "model_type": "roberta",
            "dtype": "float32",
            "vocab_size": len(vocabulary),
            "hidden_size": args.encoder_embed_dim,
            "num_hidden_layers": args.encoder_layers,
            "num_attention_heads": args.encoder_attention_heads,
            "intermediate_size": args.encoder_ffn_embed_dim,
            "hidden_act": args.activation_fn,
            "max_position_embeddings": args.max_positions + vocabulary.index("<pad>") + 1,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "bos_token_id": vocabulary.index("<s>"),
            "pad_token_id": vocabulary.index("<pad>"),
            "eos_token_id": vocabulary.index("</s>"),
            "tie_word_embeddings": True,
        },
        tensors=_tensors({name: tensor.numpy() for name, tensor in checkpoint["model"].items()}),
        tokenizer=_tokenizer(vocabulary),
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": args.max_positions,
            "model_input_names": ["input_ids", "attention_mask"],
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        },
    )


def chains() -> list[str]:
    """Return heavy-chain variable regions of antibodies that have an international nonproprietary name."""
    lines = Path(__file__).with_name("heavy_chains.txt").read_text(encoding="utf-8").splitlines()
    return [line.split()[1] for line in lines]


def masked_examples(folder: Path) -> list[MaskedExample]:
    """Return masked chains, the same on every call."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return masked(chains()[:TEXTS], tokenizer, mask="<mask>", per_text=PER_TEXT)


def calibration_texts(folder: Path) -> list[str]:
    """Return other chains, four times each with another residue masked."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    examples = masked(chains()[TEXTS:], tokenizer, mask="<mask>", per_text=4)
    return ["".join(tokenizer.id_to_token(token) for token in example.ids[1:-1]) for example in examples]


def _tensors(state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    decoder = state.pop("decoder.lm_head.weight")
    tensors = {_name(name.removeprefix("decoder.")): array for name, array in state.items()}
    assert np.array_equal(decoder, tensors["roberta.embeddings.word_embeddings.weight"])  # tied
    hidden = tensors["roberta.embeddings.LayerNorm.bias"].size
    return tensors | {"roberta.embeddings.token_type_embeddings.weight": np.zeros((1, hidden), np.float32)}


def _name(name: str) -> str:
    if name.startswith("lm_head."):
        return name
    module, part = name.removeprefix("sentence_encoder.").rsplit(".", 1)
    if module in EMBEDDINGS:
        return f"roberta.embeddings.{EMBEDDINGS[module]}.{part}"
    _, layer, module = module.split(".", 2)
    return f"roberta.encoder.layer.{layer}.{LAYER[module]}.{part}"


def _tokenizer(vocabulary: list[str]) -> str:
    """Return a tokenizer of single residues in which X and * stand for a masked one, as in the package."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))  # noqa: S106 - no password
    tokenizer.normalizer = Replace(Regex("[X*]"), "<mask>")
    tokenizer.pre_tokenizer = Split(Regex("."), behavior="isolated")
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, ids[token]) for token in ("<s>", "</s>")]
    )
    tokenizer.add_special_tokens([*SPECIAL, AddedToken("<mask>", special=True, normalized=True)])
    return tokenizer.to_str()
