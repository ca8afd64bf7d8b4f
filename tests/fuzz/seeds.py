# SPDX-License-Identifier: Apache-2.0
"""Small valid files to begin from: the embedded model cut down, and checkpoints of every family in its likeness."""

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from fuzz.edits import Files, dumps
from numpy.typing import NDArray

import intsim
from intsim.errors import IntsimError
from intsim.io.integer_checkpoint import CONTENTS
from intsim.io.packing import unpack
from intsim.io.safetensors_file import NUMPY_DTYPES
from intsim.models import FAMILIES
from intsim.models.digest import digest
from intsim.models.family import ARCHITECTURES
from intsim.models.outline import Tensor, outline
from intsim.models.world import Stored
from intsim.profile import Profile

EMBEDDED: Final = Path(__file__).resolve().parents[1] / "data" / "embedded-float"
TEXTS: Final = "a b c\nd e!\tf g\n"
IDS: Final = "2 43 44 45 3\n"
STORED: Final = {"<f4": "F32", "<f2": "F16", "|i1": "I8", "<i2": "I16", "<i8": "I64"}
DAMAGED: Final = (AttributeError, IntsimError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What there is to sum up may be damaged itself."""
VOCABULARY: Final = 72  # special tokens, digits, letters
SIZES: Final[Mapping[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
GATED: Final[Mapping[str, Any]] = {"num_key_value_heads": 1, "hidden_act": "silu", "tie_word_embeddings": False}
GPT: Final[Mapping[str, Any]] = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_inner": 12, "n_positions": 16}
LLAMA3: Final[Mapping[str, Any]] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILY_SIZES: Final[Mapping[str, Mapping[str, Any]]] = {
    "albert": {"embedding_size": 6, "num_hidden_layers": 2},
    "distilbert": {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12},
    "electra": {"embedding_size": 6},
    "mobilebert": {"embedding_size": 6, "intra_bottleneck_size": 4, "num_feedforward_networks": 2},
    "llama": {**GATED, "eos_token_id": [3, 4], "rms_norm_eps": 1e-5, "rope_scaling": LLAMA3},
    "mistral": {**GATED, "head_dim": 6, "sliding_window": 3, "rope_theta": 1e6},
    "qwen2": {**GATED, "use_sliding_window": False, "layer_types": ["full_attention"]},
    "gemma": {**GATED, "head_dim": 6, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True},
    "gpt2": {**GPT, "activation_function": "gelu_new"},
    "gptj": {**GPT, "activation_function": "gelu_new", "rotary_dim": 2, "tie_word_embeddings": False},
    "gpt_neox": {
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5},
    },
    "opt": {"ffn_dim": 12, "word_embed_proj_dim": 6, "activation_function": "relu", "do_layer_norm_before": True},
}


@cache
def tokenizer() -> Any:
    """Return the embedded model's tokenizer with its first pieces only."""
    values = json.loads((EMBEDDED / "tokenizer.json").read_text())
    vocabulary = values["model"]["vocab"]
    values["model"]["vocab"] = {piece: i for piece, i in vocabulary.items() if i < VOCABULARY}
    return values


@cache
def checkpoint(family: str, head: str, **sizes: int) -> Files:
    """Return the files of a float checkpoint: F16 where BERT's are, F32 elsewhere; without what is tied."""
    ending = next(ending for ending, each in ARCHITECTURES.items() if head in (each, "sentence-embedding"))
    kind = FAMILIES[family]
    values: dict[str, Any] = {
        **json.loads((EMBEDDED / "config.json").read_text()),
        **SIZES,
        **FAMILY_SIZES.get(family, {}),
        **sizes,
        "model_type": family,
        "architectures": [kind.architecture + ending],
    }
    if head == "token-classification":
        values |= {"id2label": {"0": "O", "1": "B-X"}, "label2id": {"O": 0, "B-X": 1}}
    config = kind.config.read(values)
    contents = outline(kind, config, "none" if head == "sentence-embedding" else head).tensors
    prefixed = {} if head in ("none", "sentence-embedding") else outline(kind, config, "none").tensors
    rng = np.random.default_rng(len(family))
    dtype = "<f2" if family == "bert" else "<f4"
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor, each in contents.items():
        tied = isinstance(each.view, Mapping) and each.view and {*each.view} <= {*contents} - {tensor}
        if not tied:
            stored, shape = _stored(tensor, each)
            shapes[f"{kind.prefix}{stored}" if tensor in prefixed else stored] = shape
    tensors: dict[str, NDArray[Any]] = {}
    for tensor, shape in shapes.items():
        around = 1 if tensor.endswith(".weight") and len(shape) == 1 else 0  # of norms
        tensors[tensor] = (around + rng.normal(0, 0.2, shape)).astype(dtype)
    files: Files = {
        "config.json": values,
        "model.safetensors": container(tensors),
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"tokenizer_class": f"{'Bert' if family == 'bert' else 'PreTrained'}TokenizerFast"},
    }
    if head == "sentence-embedding":
        modules = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
        files["modules.json"] = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{each}"}
            for i, (each, path) in enumerate(modules)
        ]
        files["1_Pooling/config.json"] = {"word_embedding_dimension": 8, "pooling_mode": "mean"}
        files["sentence_bert_config.json"] = {"max_seq_length": 12, "do_lower_case": False}
    return files


def _stored(name: str, tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """Return by which name and in which shape a file has a tensor, or that which it is a part of."""
    if not isinstance(view := tensor.view, Stored):
        return name, tensor.shape
    rows, *columns = tensor.shape
    shape = (view.parts * rows, *columns)
    return f"{view.name}.{name.rpartition('.')[2]}", shape[::-1] if view.transposed else shape


def container(tensors: Mapping[str, NDArray[Any]]) -> Any:
    """Return the tree of a safetensors file."""
    header: dict[str, Any] = {}
    data = b""
    for name, values in tensors.items():
        end = len(data) + values.nbytes
        header[name] = {"dtype": STORED[values.dtype.str], "shape": [*values.shape], "data_offsets": [len(data), end]}
        data += values.tobytes()
    return {"header": header, "data": data}


def contained(tree: Any) -> dict[str, NDArray[Any]]:
    """Return the tensors of such a tree."""
    dtypes = {name: dtype for dtype, name in STORED.items()}
    return {
        name: np.frombuffer(tree["data"][slice(*each["data_offsets"])], dtypes[each["dtype"]]).reshape(each["shape"])
        for name, each in tree["header"].items()
    }


def write(content: Any) -> bytes:
    """Return a file as written."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    if isinstance(content, dict) and {*content} == {"header", "data"}:
        return framed(content["header"], content["data"])
    if isinstance(content, dict) and {*content} == {"metadata", "tensors"}:
        return sealed(content)
    return dumps(content).encode()


def framed(header: Any, data: Any) -> bytes:
    """Return a safetensors file of any header and data."""
    text = dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + (data if isinstance(data, bytes) else b"")


def sealed(content: Any) -> bytes:
    """Return a file of intsim's with the right hash of its profile and, if it is a model, the right digest."""
    tensors = content["tensors"]
    metadata = dict(content["metadata"]) if isinstance(content["metadata"], dict) else content["metadata"]
    with suppress(*DAMAGED):
        metadata["profile_hash"] = Profile.from_json(json.loads(dumps(metadata["profile"]))).hash
    with suppress(*DAMAGED):
        parsed = json.loads(dumps(metadata))
        if "digest" in parsed:
            metadata["digest"] = digest({key: parsed[key] for key in CONTENTS}, _arrays(parsed, tensors))
    header: dict[str, Any] = {"__metadata__": {"intsim": dumps(metadata)}}
    data = b""
    for name, entry in tensors.items() if isinstance(tensors, dict) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("data"), bytes):
            header[name] = entry
            continue
        offsets = [len(data), len(data) + len(entry["data"])]
        header[name] = {key: value for key, value in entry.items() if key != "data"} | {"data_offsets": offsets}
        data += entry["data"]
    return framed(header, data)


def _arrays(metadata: dict[str, Any], tensors: dict[str, Any]) -> dict[str, Any]:
    arrays = {
        name: np.frombuffer(entry["data"], NUMPY_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in tensors.items()
    }
    for name, form in metadata.get("packed", {}).items():
        arrays[name] = unpack(arrays[name], form["bits"], tuple(form["shape"]))
    return arrays


def unsealed(path: Path) -> Any:
    """Return the tree of a file of intsim's, for ``sealed``."""
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:size])
    metadata = json.loads(header.pop("__metadata__")["intsim"])
    tensors: dict[str, Any] = {}
    for name, entry in header.items():
        start, end = (size + offset for offset in entry.pop("data_offsets"))
        tensors[name] = {**entry, "data": data[start:end]}
    return {"metadata": metadata, "tensors": tensors}


@cache
def model(family: str, head: str, recipe: str, profile: str | None = None) -> intsim.IntegerModel:
    """Return a small integer model."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), {name: write(content) for name, content in checkpoint(family, head).items()})
        return intsim.quantize(folder, recipe=recipe, head=head, profile=profile, calibration=TEXTS.splitlines())


def save(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
