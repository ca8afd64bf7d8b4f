# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints of every family as transformers saves them, and what transformers computes with them.

Nothing of torch or transformers is imported before a checkpoint is asked for; without them the test skips, and with
INTSIM_REQUIRE_KERNELS=1 it fails.
"""

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

SIZES: Final[Mapping[str, Any]] = {
    "vocab_size": 70,  # some pieces more than the tokenizers have
    "hidden_size": 20,  # heads of 5 channels
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 40,
}
FAIRSEQ: Final[Mapping[str, Any]] = {  # real ones read 512 tokens and have 514 positions: pad_token_id + 1 come first
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 42,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
FACTORIZED: Final[Mapping[str, Any]] = {"embedding_size": 12}
GATED: Final[Mapping[str, Any]] = {  # four heads of 6 channels over keys and values of two
    "vocab_size": 70,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
GPT: Final[Mapping[str, Any]] = {
    "vocab_size": 70,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 36,
    "n_positions": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
FAMILIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "bert": SIZES,
    "roberta": {**SIZES, **FAIRSEQ},
    "xlm-roberta": {**SIZES, **FAIRSEQ},
    "camembert": {**SIZES, **FAIRSEQ, "bos_token_id": 5, "eos_token_id": 6},
    "distilbert": {
        "vocab_size": 70,
        "dim": 20,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 36,
        "max_position_embeddings": 40,
    },
    "electra": {**SIZES, **FACTORIZED},
    "albert": {**SIZES, **FACTORIZED, "num_hidden_layers": 3},
    "mobilebert": {
        **SIZES,
        **FACTORIZED,
        "intra_bottleneck_size": 16,
        "intermediate_size": 28,
        "num_feedforward_networks": 3,
    },
    "ibert": {**SIZES, **FAIRSEQ},
    "llama": {**GATED, "num_key_value_heads": 2},
    "mistral": {**GATED, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
    "qwen2": {**GATED, "num_key_value_heads": 2},
    "gemma": {**GATED, "num_key_value_heads": 1, "head_dim": 8},
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 4},
    "gpt_neox": {**GATED, "rotary_pct": 0.34},
    "opt": {**GATED, "ffn_dim": 36, "pad_token_id": 1},
}
"""The configuration of each family; what is not named here is transformers' default."""

HEADS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "none": ("AutoModel", {}),
    "regression": ("AutoModelForSequenceClassification", {"labels": ("score",)}),
    "two-classes": ("AutoModelForSequenceClassification", {"labels": ("negative", "positive")}),
    "three-classes": ("AutoModelForSequenceClassification", {"labels": ("contradiction", "neutral", "entailment")}),
    "multi-label": (
        "AutoModelForSequenceClassification",
        {"labels": ("joy", "anger", "fear"), "problem_type": "multi_label_classification"},
    ),
    "token-classification": (
        "AutoModelForTokenClassification",
        {"labels": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")},
    ),
    "question-answering": ("AutoModelForQuestionAnswering", {}),
    "masked-lm": ("AutoModelForMaskedLM", {"tie_word_embeddings": True}),
    "causal-lm": ("AutoModelForCausalLM", {"tie_word_embeddings": False}),
    "causal-lm-tied": ("AutoModelForCausalLM", {"tie_word_embeddings": True}),
    "masked-lm-untied": ("AutoModelForMaskedLM", {"tie_word_embeddings": False}),
}
"""The class of transformers that makes a head, and its part of the configuration."""

DECODERS: Final = ("llama", "mistral", "qwen2", "gemma", "gpt2", "gptj", "gpt_neox", "opt")
ENCODERS: Final = tuple(family for family in FAMILIES if family not in DECODERS)
JUDGING: Final = ("none", "regression", "two-classes", "three-classes", "multi-label")  # heads that every family has


def calibration(family: str) -> list[str]:
    """Return texts, two of them a pair; no decoder reads pairs."""
    texts = ["a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad"]
    return [text.replace("\t", " ") for text in texts] if family in DECODERS else texts


def heads(family: str) -> tuple[str, ...]:
    """Return the heads that a family has, names of HEADS."""
    if family in DECODERS:
        return (*JUDGING, "causal-lm", "causal-lm-tied")
    return tuple(head for head in HEADS if not head.startswith("causal-lm"))


def head_like(family: str, head: str) -> str:
    """Return a head of an encoder, or for a decoder the one that comes nearest."""
    return head if head in heads(family) else "causal-lm-tied" if head == "masked-lm" else "causal-lm"


ACTIVATIONS: Final = (
    "gelu",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "quick_gelu",
    "relu",
    "silu",
)

WORDS: Final = ("a", "good", "bad", "movie", "the", "plot", "is", "not", ".", ",")
LETTERS: Final = tuple("abcdefghijklmnopqrstuvwxyz")
MERGES: Final = (("o", "o"), ("oo", "d"), ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "g"), ("Ġg", "ood"), ("i", "s"))


def tiny(family: str, head: str, folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Write a small checkpoint of random weights into ``folder`` and return it.

    Every parameter is drawn anew, pad rows and biases too, which transformers makes zeros: weights of normalizations
    around 1, all others around 0. Buffers stay as transformers makes them, and so does the pad row of MobileBERT's
    words: it is what the last token finds to its right, and any other row than zeros makes transformers' outputs depend
    on the padding.

    Parameters
    ----------
    family
        One of FAMILIES, the ``model_type``.
    head
        One of HEADS.
    folder
        Gets config.json, model.safetensors (F32), tokenizer.json and tokenizer_config.json.
    seed
        Of the weights.
    config
        Fields of config.json in place of the family's.
    """
    torch, transformers = modules()
    cls, fields = HEADS[head]
    values = {**FAMILIES[family], **fields, **config}
    labels: Sequence[str] | None = values.pop("labels", None)
    if labels is not None:
        values |= {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    tokenizer = _tokenizer(family, values.get("max_position_embeddings", 40))
    with torch.random.fork_rng():  # constructing a model draws weights
        model = getattr(transformers, cls).from_config(transformers.AutoConfig.for_model(family, **values))
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name.lower()
            deviation = 0.1 if norm or name.endswith("bias") else 0.2
            drawn = rng.normal(1 if norm and name.endswith("weight") else 0, deviation, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(drawn))
        if family == "mobilebert":
            model.get_input_embeddings().weight[model.config.pad_token_id] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def expected(
    folder: Path, ids: ArrayLike, mask: ArrayLike | None = None, types: ArrayLike | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return what transformers computes in float64 with its plain attention.

    Parameters
    ----------
    folder
        As ``tiny`` writes it.
    ids, mask, types
        (B, T).

    Returns
    -------
    dict
        What the head gives: ``logits``, or ``start_logits`` and ``end_logits``, or without a head ``last_hidden_state``
        and, where the family has a pooler, ``pooler_output``; ``hidden_states`` (layers + 1, B, T, C) always.

    Notes
    -----
    Nothing of it is computed in float32: each family's softmax, normalization, activation and mask has the dtype of
    its input.
    """
    torch, _ = modules()
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    tensors = {name: torch.tensor(np.asarray(values)).long() for name, values in inputs.items() if values is not None}
    with torch.no_grad():
        outputs = load(folder)(**tensors, output_hidden_states=True)
    return {
        name: (torch.stack(values) if isinstance(values, tuple) else values).numpy() for name, values in outputs.items()
    }


def load(folder: Path) -> Any:
    """Return the model of ``folder`` as its own class of transformers, in float64, for inference."""
    torch, transformers = modules()
    config = transformers.AutoConfig.from_pretrained(folder)
    model, info = getattr(transformers, config.architectures[0]).from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    return model.eval()


def modules() -> tuple[Any, Any]:
    """Return torch and transformers, which then neither warns nor draws progress bars."""
    try:
        torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    except ImportError as error:
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            raise
        pytest.skip(f"{error}; pip install '.[kernels]'")
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()
    return torch, transformers


def _tokenizer(family: str, longest: int) -> Any:
    """Return a tokenizer of the family's kind: WordPiece, byte-level BPE or Unigram, with its special ids."""
    _, transformers = modules()
    if family in {"roberta", "ibert"}:
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *LETTERS, *".,'!?-Ã©"]  # the last two bytes are é's
        vocabulary += ["".join(pair) for pair in MERGES]
        made = transformers.RobertaTokenizer(
            {piece: i for i, piece in enumerate([*vocabulary, "<mask>"])}, list(MERGES), model_max_length=longest - 2
        )
    elif family in {"xlm-roberta", "camembert", "albert"}:
        words = [(f"▁{word}", -2.0 - i / 8) for i, word in enumerate(WORDS)]
        letters = [(letter, -6.0 - i / 8) for i, letter in enumerate(("▁", *LETTERS, *".,'!?-é"))]
        special = {
            "xlm-roberta": ["<s>", "<pad>", "</s>", "<unk>"],
            "camembert": ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"],
            "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
        }[family]
        pieces = [*((piece, 0.0) for piece in special), *words, *letters]
        if family == "albert":
            made = transformers.AlbertTokenizer(pieces, model_max_length=longest)
        else:
            cls = {"xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer"}[family]
            made = getattr(transformers, cls)(vocab=[*pieces, ("<mask>", 0.0)], model_max_length=longest - 2)
    else:
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys((*WORDS, *LETTERS))]
        pieces += [f"##{letter}" for letter in LETTERS]
        made = transformers.BertTokenizer({piece: i for i, piece in enumerate(pieces)}, model_max_length=longest)
    return made
