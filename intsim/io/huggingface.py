# SPDX-License-Identifier: Apache-2.0
"""Reads a Hugging Face BERT directory: config.json and model.safetensors, whole or in shards.

Everything but the values is checked when the directory is opened: the configuration, and the name,
shape and dtype of every tensor, from the headers alone. The values are read one tensor at a time.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from intsim.errors import CheckpointError
from intsim.io.ibert_checkpoint import bert_tensors, bert_values

__all__ = ["BertConfig", "Checkpoint", "StoredTensor", "open_checkpoint"]

Float = TypeVar("Float", np.float32, np.float64)

ENCODER: Final = "BertModel"
CLASSIFIER: Final = "BertForSequenceClassification"
ACTIVATIONS: Final = ("gelu", "gelu_new", "relu")
SIZES: Final = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
# NumPy has no bfloat16: its 16 bits are the upper half of a float32.
STORED_DTYPES: Final = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
POSITION_IDS: Final = "embeddings.position_ids"  # 0, 1, 2, …: a buffer older versions stored
POOLER: Final = ("pooler.dense.weight", "pooler.dense.bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """The fields of config.json that decide a BERT's shapes and arithmetic, under their own names.

    ``labels`` are the class names of ``id2label`` in index order.

    Raises
    ------
    CheckpointError
        If a field breaks its rule; the message names the field.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in SIZES:
            _check_positive_int(name, getattr(self, name))
        if self.hidden_size % self.num_attention_heads:
            msg = (
                "hidden_size in config.json must be a multiple of num_attention_heads, "
                f"got {self.hidden_size} for {self.num_attention_heads} heads"
            )
            raise CheckpointError(msg)
        if self.hidden_act not in ACTIVATIONS:
            _refuse("hidden_act", f"one of {', '.join(ACTIVATIONS)}", self.hidden_act)
        _check_positive_float("layer_norm_eps", self.layer_norm_eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where one tensor lies in a safetensors file: ``offset`` bytes from its start, row-major."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """An open checkpoint: its configuration, and the tensors its model uses, in forward order.

    Names are Hugging Face's without the prefix ``bert.``, whether the file has it or not. ``ranges`` are what training
    with quantization left of activation ranges, ``{activation}.x_min`` and ``{activation}.x_max``.
    """

    path: Path
    config: BertConfig
    tensors: Mapping[str, StoredTensor]
    ranges: Mapping[str, StoredTensor]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors, in forward order."""
        return tuple(self.tensors)

    @property
    def has_classifier(self) -> bool:
        """Whether the pooler and the classifier follow the encoder."""
        return "classifier.weight" in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name`` without reading its values."""
        return self.tensors[name].shape

    def dtype(self, name: str) -> str:
        """Return the stored dtype of tensor ``name``: ``"F32"``, ``"F16"`` or ``"BF16"``."""
        return self.tensors[name].dtype

    def load(self, name: str, dtype: type[Float] = np.float64) -> NDArray[Float]:
        """Read tensor ``name``; the conversion to ``dtype`` is exact.

        Parameters
        ----------
        name
            One of ``names`` or ``ranges``.
        dtype
            ``numpy.float32`` or ``numpy.float64``: both hold every stored value.

        Returns
        -------
        ndarray
            A new array.

        Raises
        ------
        CheckpointError
            If a value is NaN or infinite.
        """
        stored = self.ranges[name] if name in self.ranges else self.tensors[name]
        values = np.fromfile(
            stored.file,
            dtype=STORED_DTYPES[stored.dtype],
            count=math.prod(stored.shape),
            offset=stored.offset,
        ).reshape(stored.shape)
        if stored.dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        finite = np.isfinite(values)
        if not finite.all():
            index = tuple(int(i) for i in np.argwhere(~finite)[0])
            msg = (
                f"tensor {name!r} of {stored.file} must hold finite numbers only, "
                f"got {values[index]} at index {index}; export the model again"
            )
            raise CheckpointError(msg)
        return values.astype(dtype, copy=False)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a Hugging Face BERT directory and check all of it but the values.

    The model is a ``BertModel`` or a ``BertForSequenceClassification``, as ``architectures`` in
    config.json says; where it says nothing, a tensor ``classifier.weight`` makes it the latter.
    An encoder's pooler and stored ``position_ids`` are left out: neither reaches the output. An ``IBertModel`` or
    ``IBertForSequenceClassification`` is read as the BERT it is, see ``intsim.io.ibert_checkpoint``.

    Parameters
    ----------
    path
        The directory, with config.json and either model.safetensors or
        model.safetensors.index.json and its shards.

    Returns
    -------
    Checkpoint
        The configuration and the place of every tensor; no tensor data has been read.

    Raises
    ------
    CheckpointError
        If the directory is not such a checkpoint; the message is one sentence that says why.
    """
    path = Path(path)
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing there"
        msg = f"checkpoint {path} must be a directory with config.json in it, got {got}"
        raise CheckpointError(msg)
    stored_values = _read_object(path / "config.json")
    is_ibert = stored_values.get("model_type") == "ibert"
    values = bert_values(stored_values) if is_ibert else stored_values
    architecture = _architecture(values)
    config = _bert_config(values)
    tensors = _read_headers(path)
    if is_ibert:
        unused = stored_values["max_position_embeddings"] - config.max_position_embeddings
        tensors = bert_tensors(tensors, unused_positions=unused)
    ranges = {name: tensors.pop(name) for name in sorted(tensors) if name.endswith((".x_min", ".x_max"))}
    for name, stored in ranges.items():
        _check_dtype(name, stored)
    if architecture is None:
        architecture = CLASSIFIER if "classifier.weight" in tensors else ENCODER
    model = f"a {architecture} of {config.num_hidden_layers} layers"

    needed: dict[str, StoredTensor] = {}
    for name, shape in _tensor_shapes(config, classifier=architecture == CLASSIFIER):
        if name not in tensors:
            msg = f"checkpoint {path} must hold tensor {name!r} to be {model}, got no such tensor"
            raise CheckpointError(msg)
        stored = tensors[name]
        if stored.shape != shape:
            msg = (
                f"tensor {name!r} of {stored.file} must have shape {shape} by config.json, "
                f"got {stored.shape}; correct one of the two"
            )
            raise CheckpointError(msg)
        _check_dtype(name, stored)
        needed[name] = stored

    unexpected = sorted(tensors.keys() - needed.keys() - {POSITION_IDS, *POOLER})
    if unexpected:
        msg = (
            f"checkpoint {path} must hold the tensors of {model} only, got {unexpected[0]!r}; "
            f"the supported models are {ENCODER} and {CLASSIFIER}"
        )
        raise CheckpointError(msg)
    return Checkpoint(path=path, config=config, tensors=needed, ranges=ranges)


def _check_dtype(name: str, stored: StoredTensor) -> None:
    if stored.dtype not in STORED_DTYPES:
        msg = (
            f"tensor {name!r} of {stored.file} must be stored as one of "
            f"{', '.join(STORED_DTYPES)}, got {stored.dtype}; save the model in float32"
        )
        raise CheckpointError(msg)


def _tensor_shapes(config: BertConfig, *, classifier: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of the model, in forward order."""
    hidden, intermediate = config.hidden_size, config.intermediate_size

    def dense(name: str, rows: int, columns: int) -> Iterable[tuple[str, tuple[int, ...]]]:
        return (f"{name}.weight", (rows, columns)), (f"{name}.bias", (rows,))

    def norm(name: str) -> Iterable[tuple[str, tuple[int, ...]]]:
        return (f"{name}.weight", (hidden,)), (f"{name}.bias", (hidden,))

    yield "embeddings.word_embeddings.weight", (config.vocab_size, hidden)
    yield "embeddings.position_embeddings.weight", (config.max_position_embeddings, hidden)
    yield "embeddings.token_type_embeddings.weight", (config.type_vocab_size, hidden)
    yield from norm("embeddings.LayerNorm")
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        yield from dense(f"{layer}.attention.self.query", hidden, hidden)
        yield from dense(f"{layer}.attention.self.key", hidden, hidden)
        yield from dense(f"{layer}.attention.self.value", hidden, hidden)
        yield from dense(f"{layer}.attention.output.dense", hidden, hidden)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from dense(f"{layer}.intermediate.dense", intermediate, hidden)
        yield from dense(f"{layer}.output.dense", hidden, intermediate)
        yield from norm(f"{layer}.output.LayerNorm")
    if classifier:
        yield from dense("pooler.dense", hidden, hidden)
        yield from dense("classifier", len(config.labels), hidden)


def _architecture(values: Mapping[str, Any]) -> str | None:
    """Return the model class config.json names, None where it names none."""
    names = values.get("architectures")
    if not names:
        return None
    if names not in ([ENCODER], [CLASSIFIER]):
        _refuse("architectures", f"['{ENCODER}'] or ['{CLASSIFIER}']", names)
    return names[0]


def _bert_config(values: Mapping[str, Any]) -> BertConfig:
    if values.get("model_type") != "bert":
        _refuse("model_type", "'bert'", values.get("model_type"))
    if (values.get("position_embedding_type") or "absolute") != "absolute":
        _refuse("position_embedding_type", "'absolute'", values["position_embedding_type"])
    for name in ("is_decoder", "add_cross_attention"):
        if values.get(name):
            _refuse(name, "false, for the model is an encoder", values[name])
    sizes: dict[str, Any] = {name: values.get(name) for name in SIZES}
    return BertConfig(
        **sizes,
        hidden_act=values.get("hidden_act", "gelu"),
        layer_norm_eps=values.get("layer_norm_eps", 1e-12),
        labels=_labels(values),
    )


def _labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    id2label, num_labels = values.get("id2label"), values.get("num_labels")
    if id2label is None:
        count = 2 if num_labels is None else num_labels
        _check_positive_int("num_labels", count)
        return tuple(f"LABEL_{index}" for index in range(count))
    try:
        labels = tuple(id2label[str(index)] for index in range(len(id2label)))
    except (KeyError, TypeError):
        labels = ()
    if not labels or not all(isinstance(label, str) for label in labels):
        _refuse("id2label", "an object that names the labels '0', '1', …", id2label)
    if num_labels not in (None, len(labels)):
        _refuse("num_labels", f"{len(labels)}, the size of id2label", num_labels)
    return labels


def _check_positive_int(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        _refuse(name, "a positive integer", value)


def _check_positive_float(name: str, value: object) -> None:
    if not isinstance(value, float) or not 0 < value < math.inf:
        _refuse(name, "a positive, finite number", value)


def _refuse(name: str, rule: str, value: object) -> NoReturn:
    got = "nothing" if value is None else repr(value)
    msg = f"{name} in config.json must be {rule}, got {got}"
    raise CheckpointError(msg)


def _read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"checkpoint {file.parent} must have {file.name} in it, got none"
        raise CheckpointError(msg) from None
    except OSError as error:
        msg = f"{file} must be a readable file, got {error.strerror}"
        raise CheckpointError(msg) from None
    except ValueError as error:
        msg = f"{file} must be JSON, got {error}"
        raise CheckpointError(msg) from None
    if not isinstance(values, dict):
        msg = f"{file} must be a JSON object, got {values!r:.40}"
        raise CheckpointError(msg)
    return cast("dict[str, Any]", values)


def _read_headers(path: Path) -> dict[str, StoredTensor]:
    """Return every tensor of the checkpoint by its name without ``bert.``."""
    tensors: dict[str, StoredTensor] = {}
    for file in _safetensors_files(path):
        for name, stored in _read_header(file):
            bare = name.removeprefix("bert.")
            if bare in tensors:
                msg = (
                    f"tensor {bare!r} must be stored once, with or without 'bert.', "
                    f"got it again as {name!r} in {file}; remove one of the two"
                )
                raise CheckpointError(msg)
            tensors[bare] = stored
    return tensors


def _safetensors_files(path: Path) -> list[Path]:
    whole, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        got = "none"
        if any(path.glob("pytorch_model*.bin")):
            got = "pytorch_model.bin only; convert it to safetensors with save_pretrained"
        msg = f"checkpoint {path} must have model.safetensors in it, got {got}"
        raise CheckpointError(msg)
    weight_map = _read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        msg = f"weight_map in {index} must be an object of tensor: file, got {weight_map!r}"
        raise CheckpointError(msg)
    files: list[Path] = []
    for name in sorted({str(value) for value in cast("dict[str, Any]", weight_map).values()}):
        file = path / name
        if file.parent != path or not file.is_file():
            msg = f"shard {name!r} of {index} must be a file beside it, got none; download it again"
            raise CheckpointError(msg)
        files.append(file)
    return files


def _read_header(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    try:
        with safe_open(file, framework="np"), file.open("rb") as stream:  # checks every offset
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
    except (OSError, SafetensorError) as error:
        msg = f"{file} must be a complete safetensors file, got {error}; download it again"
        raise CheckpointError(msg) from None
    for name, entry in header.items():
        if name != "__metadata__":
            yield (
                name,
                StoredTensor(
                    file=file,
                    dtype=entry["dtype"],
                    shape=tuple(entry["shape"]),
                    offset=8 + size + entry["data_offsets"][0],
                ),
            )
