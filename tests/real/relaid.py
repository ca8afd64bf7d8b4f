# SPDX-License-Identifier: Apache-2.0
"""A BERT classifier laid out anew as other families, tensor by tensor, so that the outputs stay what they are.

RoBERTa keeps the head: its classifier is BERT's pooler (a dense layer and tanh) and classifier under other names.
The heads of DistilBERT and ELECTRA apply ReLU and GELU where BERT applies tanh, so that only their encoders can be
equal; ``logits`` computes BERT's head on the hidden states.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from real.folder import write
from safetensors.numpy import load_file

DISTILBERT: Final = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
TYPES: Final = "embeddings.token_type_embeddings.weight"
WORDS: Final = "embeddings.word_embeddings.weight"
POSITIONS: Final = "embeddings.position_embeddings.weight"


def as_roberta(source: Path, folder: Path) -> Path:
    """Lay a BERT classifier out as RoBERTa with its head.

    Positions start at ``pad_token_id + 1``: that many rows of zeros stand in front of the table. Of the token types
    only row 0 is kept, RoBERTa has no other.
    """
    config, encoder, head = _read(source)
    start = config["pad_token_id"] + 1
    encoder[POSITIONS] = np.pad(encoder[POSITIONS], ((start, 0), (0, 0)))
    encoder[TYPES] = encoder[TYPES][:1]
    tensors = {f"roberta.{name}": array for name, array in encoder.items()} | {
        f"classifier.{new}.{part}": head[f"{old}.{part}"]
        for new, old in (("dense", "bert.pooler.dense"), ("out_proj", "classifier"))
        for part in ("weight", "bias")
    }
    return _write(
        source,
        folder,
        tensors,
        _common(config, "roberta", "RobertaForSequenceClassification")
        | {
            "max_position_embeddings": config["max_position_embeddings"] + start,
            "type_vocab_size": 1,
            "bos_token_id": None,  # RoBERTa's own, 0 and 2, are other words here
            "eos_token_id": None,
            "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
            "label2id": {"LABEL_0": 0, "LABEL_1": 1},
            "problem_type": "single_label_classification",
        },
    )


def as_distilbert(source: Path, folder: Path) -> Path:
    """Lay the encoder out as DistilBERT, which has no token types: row 0 is added to every word, in float32.

    That is exact: a float16 is a multiple of 2**-24, so that a sum of two is a float32 if it is below 1, as all are.
    """
    config, encoder, _ = _read(source)
    tensors = {name: array.astype(np.float32) for name, array in encoder.items() if name != TYPES}
    tensors[WORDS] += encoder[TYPES][0]
    return _write(
        source,
        folder,
        {_distilbert(name): array for name, array in tensors.items()},
        {
            "architectures": ["DistilBertModel"],
            "model_type": "distilbert",
            "dtype": "float32",
            "vocab_size": config["vocab_size"],
            "dim": config["hidden_size"],
            "hidden_dim": config["intermediate_size"],
            "n_layers": config["num_hidden_layers"],
            "n_heads": config["num_attention_heads"],
            "activation": config["hidden_act"],
            "max_position_embeddings": config["max_position_embeddings"],
            "sinusoidal_pos_embds": False,
            "pad_token_id": config["pad_token_id"],
        },
    )


def as_electra(source: Path, folder: Path, *, projected: bool = False) -> Path:
    """Lay the encoder out as ELECTRA.

    With ``projected``, embeddings are twice as wide as the layers: each row stands there twice, which leaves mean and
    variance of the normalization as they are, and the projection takes the first copy.
    """
    config, tensors, _ = _read(source)
    hidden = config["hidden_size"]
    if projected:
        tensors |= {name: np.concatenate([a, a], axis=-1) for name, a in tensors.items() if name.startswith("embed")}
        tensors["embeddings_project.weight"] = np.eye(hidden, 2 * hidden, dtype=np.float16)
        tensors["embeddings_project.bias"] = np.zeros(hidden, np.float16)
    return _write(
        source,
        folder,
        tensors,
        _common(config, "electra", "ElectraModel")
        | {
            "embedding_size": 2 * hidden if projected else hidden,
            "max_position_embeddings": config["max_position_embeddings"],
            "type_vocab_size": config["type_vocab_size"],
        },
    )


def logits(hidden: NDArray[np.floating[Any]], source: Path) -> NDArray[np.float64]:
    """Return what the head of the BERT in ``source`` says of hidden states: (B, T, C) -> (B, labels)."""
    head = {name: array.astype(np.float64) for name, array in _read(source)[2].items()}
    pooled = np.tanh(hidden[:, 0] @ head["bert.pooler.dense.weight"].T + head["bert.pooler.dense.bias"])
    return pooled @ head["classifier.weight"].T + head["classifier.bias"]


def _read(source: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(source / "model.safetensors")
    head = {name: tensors.pop(name) for name in list(tensors) if name.startswith(("bert.pooler.", "classifier."))}
    return config, {name.removeprefix("bert."): array for name, array in tensors.items()}, head


def _common(config: Mapping[str, Any], model_type: str, architecture: str) -> dict[str, Any]:
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    keys += ("hidden_act", "layer_norm_eps", "pad_token_id", "dtype")
    return {"architectures": [architecture], "model_type": model_type} | {key: config[key] for key in keys}


def _distilbert(name: str) -> str:
    if name.startswith("embeddings."):
        return name
    _, _, layer, rest = name.split(".", 3)
    module, part = rest.rsplit(".", 1)
    return f"transformer.layer.{layer}.{DISTILBERT[module]}.{part}"


def _write(source: Path, folder: Path, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Path:
    settings = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "electra":  # the others take no token types
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    tokenizer = (source / "tokenizer.json").read_text(encoding="utf-8")
    return write(folder, config=config, tensors=tensors, tokenizer=tokenizer, tokenizer_config=settings)
