# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.io.huggingface."""

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.models import FAMILIES
from intsim.models.bert import BertConfig
from intsim.models.world import FUNCTIONS, HEADS

TinyBert = Callable[..., Path]
WORDS: Final = "embeddings.word_embeddings.weight"
BIAS: Final = "encoder.layer.1.output.dense.bias"


def _error(path: Path) -> str:
    """Return the message of the CheckpointError that opening ``path`` raises."""
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.__cause__ is None
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message.replace(str(path), "DIR")


# ---- what is read


def test_config_is_read_by_its_own_names(tiny_bert: TinyBert) -> None:
    assert open_checkpoint(tiny_bert()).config == BertConfig(
        vocab_size=66,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        hidden_act="gelu",
        max_position_embeddings=32,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        labels=("negative", "positive"),
    )


@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_checkpoint_reads_alike_however_it_is_stored(tiny_bert: TinyBert, prefix: str, shards: int, dtype: str) -> None:
    plain = open_checkpoint(tiny_bert())
    checkpoint = open_checkpoint(str(tiny_bert(prefix=prefix, shards=shards, dtype=dtype)))
    assert checkpoint.names == plain.names
    assert checkpoint.config == plain.config
    tolerance = {"F32": 0, "F16": 2**-11, "BF16": 2**-7}[dtype]
    for name in checkpoint.names:
        assert checkpoint.dtype(name) == dtype
        values = checkpoint.load(name)
        assert values.dtype == np.float64
        assert values.shape == checkpoint.shape(name) == plain.shape(name)
        np.testing.assert_allclose(values, plain.load(name), rtol=tolerance, atol=2**-24)
        single = checkpoint.load(name, np.float32)
        assert single.dtype == np.float32
        np.testing.assert_array_equal(single, values)


def test_names_are_in_forward_order(tiny_bert: TinyBert) -> None:
    names = open_checkpoint(tiny_bert()).names
    order = [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.weight",
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.attention.output.dense.weight",
        "encoder.layer.0.attention.output.LayerNorm.bias",
        "encoder.layer.0.intermediate.dense.weight",
        "encoder.layer.0.output.LayerNorm.weight",
        "encoder.layer.1.attention.self.query.weight",
        "pooler.dense.weight",
        "classifier.bias",
    ]
    assert [name for name in names if name in order] == order
    assert len(names) == 5 + 2 * 16 + 4


def test_shapes_match_the_file(tiny_bert: TinyBert) -> None:
    path = tiny_bert(labels=("a", "b", "c"))
    checkpoint = open_checkpoint(path)
    stored = load_file(path / "model.safetensors")
    for name in checkpoint.names:
        array = stored[name] if name in stored else stored[f"bert.{name}"]
        assert checkpoint.shape(name) == array.shape
        np.testing.assert_array_equal(checkpoint.load(name), array)
    assert checkpoint.shape("classifier.weight") == (3, 16)


def test_loaded_arrays_are_the_callers_own(tiny_bert: TinyBert) -> None:
    checkpoint = open_checkpoint(tiny_bert())
    checkpoint.load(BIAS, np.float32)[:] = 0
    assert checkpoint.load(BIAS).any()


def test_encoder_has_no_pooler(tiny_bert: TinyBert) -> None:
    checkpoint = open_checkpoint(tiny_bert(labels=None, prefix=""))
    assert checkpoint.head == "none"
    assert checkpoint.names[-1] == "encoder.layer.1.output.LayerNorm.bias"
    assert checkpoint.ignored == ("pooler.dense.bias", "pooler.dense.weight")
    assert checkpoint.config.labels == ("LABEL_0", "LABEL_1")


def test_encoder_without_pooler_tensors_is_complete(tiny_bert: TinyBert) -> None:
    pooler = {"bert.pooler.dense.weight": None, "bert.pooler.dense.bias": None}
    assert open_checkpoint(tiny_bert(labels=None, tensors=pooler)).ignored == ()


@pytest.mark.parametrize("architectures", [None, []])
@pytest.mark.parametrize("labels", [None, ("no", "yes")])
def test_tensors_decide_where_architectures_is_silent(
    tiny_bert: TinyBert, architectures: list[str] | None, labels: tuple[str, ...] | None
) -> None:
    path = tiny_bert(labels=labels, config={"architectures": architectures})
    assert open_checkpoint(path).head == ("none" if labels is None else "sequence-classification")


def test_position_ids_are_ignored(tiny_bert: TinyBert) -> None:
    ids = np.arange(32, dtype=np.int64)[None]
    checkpoint = open_checkpoint(tiny_bert(tensors={"bert.embeddings.position_ids": ids}))
    assert "embeddings.position_ids" not in checkpoint.names
    assert checkpoint.ignored == ("embeddings.position_ids",)


def test_labels_follow_their_index_not_their_place(tiny_bert: TinyBert) -> None:
    labels = {str(i): f"class {i}" for i in reversed(range(11))}
    path = tiny_bert(labels=tuple("abcdefghijk"), config={"id2label": labels})
    assert open_checkpoint(path).config.labels == tuple(f"class {i}" for i in range(11))


@pytest.mark.parametrize(("num_labels", "count"), [(None, 2), (1, 1), (3, 3)])
def test_labels_have_the_hugging_face_default(tiny_bert: TinyBert, num_labels: int | None, count: int) -> None:
    labels = tuple(f"LABEL_{i}" for i in range(count))
    path = tiny_bert(labels=labels, config={"id2label": None, "num_labels": num_labels})
    assert open_checkpoint(path).config.labels == labels


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"])
def test_activations(tiny_bert: TinyBert, hidden_act: str) -> None:
    assert open_checkpoint(tiny_bert(hidden_act=hidden_act)).config.hidden_act == hidden_act


def test_absent_fields_have_the_hugging_face_default(tiny_bert: TinyBert) -> None:
    absent = dict.fromkeys(("hidden_act", "layer_norm_eps", "position_embedding_type"))
    config = open_checkpoint(tiny_bert(config=absent)).config
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu", 1e-12)


def test_one_file_goes_before_shards(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    (path / "model.safetensors.index.json").write_text("not read")
    assert open_checkpoint(path).head == "sequence-classification"


def test_neither_torch_nor_transformers_is_imported(tiny_bert: TinyBert) -> None:
    program = (
        "import sys; from intsim.io.huggingface import open_checkpoint as o;"
        "c = o(sys.argv[1]); [c.load(n) for n in c.names];"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'ml_dtypes'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, str(tiny_bert(dtype="BF16"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == "[]\n"


# ---- the conversion is exact


def _finite_bfloat16(bits: int) -> float | None:
    """Decode a bfloat16 in Python numbers: 1 sign, 8 exponent and 7 fraction bits."""
    sign, exponent, fraction = -1 if bits >> 15 else 1, bits >> 7 & 0xFF, bits & 0x7F
    if exponent == 0xFF:
        return None
    if exponent == 0:
        return sign * math.ldexp(fraction, -126 - 7)
    return sign * math.ldexp(128 + fraction, exponent - 127 - 7)


def _finite_float16(bits: int) -> float | None:
    (value,) = struct.unpack("<e", bits.to_bytes(2, "little"))
    return value if math.isfinite(value) else None


@pytest.mark.parametrize(("decode", "view"), [(_finite_bfloat16, np.uint16), (_finite_float16, np.float16)])
def test_every_finite_16_bit_pattern_is_read_exactly(
    tiny_bert: TinyBert, decode: Callable[[int], float | None], view: type[np.generic]
) -> None:
    table = [(bits, value) for bits in range(2**16) if (value := decode(bits)) is not None]
    patterns = np.array([bits for bits, _ in table], np.uint16).reshape(-1, 16)
    expected = np.array([value for _, value in table]).reshape(-1, 16)
    path = tiny_bert(config={"vocab_size": len(patterns)}, tensors={f"bert.{WORDS}": patterns.view(view)})
    checkpoint = open_checkpoint(path)
    for values in (checkpoint.load(WORDS), checkpoint.load(WORDS, np.float32)):
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(np.signbit(values), np.signbit(expected))


@pytest.fixture(scope="module")
def rewritable(tiny_bert: TinyBert) -> tuple[Path, dict[str, NDArray[Any]]]:
    path = tiny_bert()
    return path, load_file(path / "model.safetensors")


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=16, max_size=16))
def test_float32_is_read_exactly(rewritable: tuple[Path, dict[str, NDArray[Any]]], values: list[float]) -> None:
    path, arrays = rewritable
    arrays = arrays | {f"bert.{BIAS}": np.array(values, np.float32)}
    save_file(arrays, path / "model.safetensors")
    loaded = open_checkpoint(path).load(BIAS)
    assert [value.hex() for value in loaded.tolist()] == [value.hex() for value in values]


# ---- bad values


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_value_that_is_not_finite_is_refused(tiny_bert: TinyBert, value: float, dtype: str) -> None:
    bias = np.zeros(16, np.float32)
    bias[3] = value
    stored: NDArray[Any] = bias.astype(np.float16) if dtype == "F16" else bias
    if dtype == "BF16":
        stored = (bias.view(np.uint32) >> 16).astype(np.uint16)
    checkpoint = open_checkpoint(tiny_bert(tensors={f"bert.{BIAS}": stored}))
    assert checkpoint.load(WORDS).any()
    with pytest.raises(CheckpointError, match=rf"'{BIAS}'.* finite .*got {value} at index \(3,\)"):
        checkpoint.load(BIAS)


# ---- bad config.json


@pytest.mark.parametrize("architecture", ["BertForPreTraining", "BertForMultipleChoice", "RobertaModel", "Bert"])
def test_other_architecture_is_refused_where_no_head_is_given(tiny_bert: TinyBert, architecture: str) -> None:
    path = tiny_bert(config={"architectures": [architecture]})
    classes = (
        "Model, BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering, BertForMaskedLM"
    )
    assert _error(path) == (
        f"architectures in config.json must be one of Bert{classes}; "
        f"or give the head to read, --head none for the body, got ['{architecture}']"
    )
    assert open_checkpoint(path, head="none").head == "none"
    assert open_checkpoint(path, head="sequence-classification").names == open_checkpoint(tiny_bert()).names


def test_other_model_type_is_refused_before_any_tensor(tiny_bert: TinyBert) -> None:
    path = tiny_bert(config={"model_type": "other"})
    (path / "model.safetensors").unlink()
    assert _error(path) == f"model_type in config.json must be one of {', '.join(FAMILIES)}, got 'other'"


def test_an_unknown_head_is_refused(tiny_bert: TinyBert) -> None:
    with pytest.raises(IntsimError) as caught:
        open_checkpoint(tiny_bert(), head="classifier")
    assert str(caught.value) == f"head must be one of {', '.join(HEADS)}, got 'classifier'"


SIZES: Final = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("value", "got"), [(0, "0"), (-4, "-4"), (4.0, "4.0"), (True, "True"), ("4", "'4'")])
def test_size_must_be_a_positive_integer(tiny_bert: TinyBert, name: str, value: object, got: str) -> None:
    path = tiny_bert()
    config = json.loads((path / "config.json").read_text()) | {name: value}
    (path / "config.json").write_text(json.dumps(config))
    assert _error(path) == f"{name} in config.json must be a positive integer, got {got}"


@pytest.mark.parametrize("name", SIZES)
def test_size_must_be_there_where_transformers_gives_families_different_ones(tiny_bert: TinyBert, name: str) -> None:
    path = tiny_bert()
    config = json.loads((path / "config.json").read_text())
    del config[name]
    (path / "config.json").write_text(json.dumps(config))
    if name == "type_vocab_size":
        assert open_checkpoint(path).config.type_vocab_size == 2
    else:
        assert _error(path) == f"{name} in config.json must be a positive integer, got nothing"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t5"}, f"model_type in config.json must be one of {', '.join(FAMILIES)}, got 't5'"),
        ({"model_type": ["bert"]}, f"model_type in config.json must be one of {', '.join(FAMILIES)}, got ['bert']"),
        ({"model_type": None}, f"model_type in config.json must be one of {', '.join(FAMILIES)}, got nothing"),
        (
            {"num_attention_heads": 3},
            "hidden_size in config.json must be a multiple of num_attention_heads, 3, got 16",
        ),
        (
            {"hidden_act": "mish"},
            f"hidden_act in config.json must be one of {', '.join(FUNCTIONS)}, got 'mish'",
        ),
        (
            {"pad_token_id": -1},
            "pad_token_id in config.json must be an integer of at least 0, got -1",
        ),
        (
            {"tie_word_embeddings": 1},
            "tie_word_embeddings in config.json must be true or false, got 1",
        ),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type in config.json must be 'absolute', got 'relative_key'",
        ),
        (
            {"is_decoder": True},
            "is_decoder in config.json must be False, got True",
        ),
        (
            {"add_cross_attention": True},
            "add_cross_attention in config.json must be False, got True",
        ),
        (
            {"layer_norm_eps": 0.0},
            "layer_norm_eps in config.json must be a positive, finite number, got 0.0",
        ),
        (
            {"layer_norm_eps": math.inf},
            "layer_norm_eps in config.json must be a positive, finite number, got inf",
        ),
        (
            {"layer_norm_eps": "1e-12"},
            "layer_norm_eps in config.json must be a positive, finite number, got '1e-12'",
        ),
        (
            {"id2label": {"1": "a", "2": "b"}},
            "id2label in config.json must be an object that names the labels '0', '1', …, got {'1': 'a', '2': 'b'}",
        ),
        (
            {"id2label": ["a", "b"]},
            "id2label in config.json must be an object that names the labels '0', '1', …, got ['a', 'b']",
        ),
        (
            {"id2label": {"0": 0, "1": 1}},
            "id2label in config.json must be an object that names the labels '0', '1', …, got {'0': 0, '1': 1}",
        ),
        (
            {"num_labels": 3},
            "num_labels in config.json must be 2, the size of id2label, got 3",
        ),
        (
            {"id2label": None, "num_labels": 0},
            "num_labels in config.json must be a positive integer, got 0",
        ),
    ],
)
def test_bad_field_is_refused_by_name(tiny_bert: TinyBert, config: dict[str, Any], message: str) -> None:
    assert _error(tiny_bert(config=config)) == message


# ---- bad directories and files


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    message = "checkpoint DIR must be a directory with config.json in it, got nothing there"
    assert _error(tmp_path / "absent") == message


def test_file_is_refused(tiny_bert: TinyBert) -> None:
    message = "checkpoint DIR must be a directory with config.json in it, got a file"
    assert _error(tiny_bert() / "model.safetensors") == message


def test_missing_config_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    (path / "config.json").unlink()
    assert _error(path) == "checkpoint DIR must have config.json in it, got none"


def test_config_that_is_a_directory_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    (path / "config.json").unlink()
    (path / "config.json").mkdir()
    assert _error(path) == "DIR/config.json must be a readable file, got Is a directory"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}"])
def test_config_that_is_not_json_is_refused(tiny_bert: TinyBert, content: bytes) -> None:
    path = tiny_bert()
    (path / "config.json").write_bytes(content)
    assert _error(path).startswith("DIR/config.json must be JSON, got ")


def test_config_that_is_not_an_object_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    (path / "config.json").write_text("[1, 2]")
    assert _error(path) == "DIR/config.json must be a JSON object, got [1, 2]"


def test_missing_weights_are_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    (path / "model.safetensors").unlink()
    assert _error(path) == "checkpoint DIR must have model.safetensors in it, got none"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_pickled_weights_are_refused(tiny_bert: TinyBert, name: str) -> None:
    path = tiny_bert()
    (path / "model.safetensors").rename(path / name)
    assert _error(path) == (
        "checkpoint DIR must have model.safetensors in it, got pytorch_model.bin only; "
        "convert it to safetensors with save_pretrained"
    )


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_weights_are_refused(tiny_bert: TinyBert, size: int) -> None:
    path = tiny_bert()
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    message = _error(path)
    assert message.startswith("DIR/model.safetensors must be a complete safetensors file, got ")
    assert message.endswith("; download it again")


def test_missing_shard_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert(shards=2)
    (path / "model-00002-of-00002.safetensors").unlink()
    assert _error(path) == (
        "shard 'model-00002-of-00002.safetensors' of DIR/model.safetensors.index.json "
        "must be a file beside it, got none; download it again"
    )


def test_shard_outside_the_directory_is_refused(tiny_bert: TinyBert) -> None:
    path, other = tiny_bert(shards=2), tiny_bert()
    shard = f"../{other.name}/model.safetensors"
    index = {"weight_map": {f"bert.{WORDS}": shard}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"shard '{shard}'" in _error(path)


@pytest.mark.parametrize(("index", "got"), [({}, "None"), ({"weight_map": {}}, "{}"), ({"weight_map": ["a"]}, "['a']")])
def test_index_without_a_weight_map_is_refused(tiny_bert: TinyBert, index: dict[str, Any], got: str) -> None:
    path = tiny_bert(shards=2)
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert _error(path) == (
        f"weight_map in DIR/model.safetensors.index.json must be an object of tensor: file, got {got}"
    )


def test_index_that_is_not_json_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert(shards=2)
    (path / "model.safetensors.index.json").write_text("{")
    assert _error(path).startswith("DIR/model.safetensors.index.json must be JSON, got ")


# ---- bad tensors


def test_every_tensor_is_needed(tiny_bert: TinyBert) -> None:
    names = open_checkpoint(tiny_bert()).names
    for name in names:
        stored = name if name.startswith("classifier.") else f"bert.{name}"
        path = tiny_bert(tensors={stored: None}, tokenizer=False)
        assert _error(path) == (
            f"checkpoint DIR must hold tensor '{name}' to be Bert with head sequence-classification, got no such tensor"
        )


def test_every_shape_is_checked(tiny_bert: TinyBert) -> None:
    plain = open_checkpoint(tiny_bert())
    for name in plain.names:
        stored = name if name.startswith("classifier.") else f"bert.{name}"
        shape = (*plain.shape(name)[:-1], plain.shape(name)[-1] + 1)
        path = tiny_bert(tensors={stored: np.zeros(shape, np.float32)}, tokenizer=False)
        assert _error(path) == (
            f"tensor '{name}' of DIR/model.safetensors must have shape {plain.shape(name)} "
            f"by its configuration, got {shape}; correct one of the two"
        )


def test_labels_must_match_the_classifier(tiny_bert: TinyBert) -> None:
    path = tiny_bert(config={"id2label": {"0": "a", "1": "b", "2": "c"}})
    assert "'classifier.weight'" in (message := _error(path))
    assert "shape (3, 16) by its configuration, got (2, 16)" in message


def test_classifier_must_be_there_where_architectures_says_so(tiny_bert: TinyBert) -> None:
    path = tiny_bert(labels=None, config={"architectures": ["BertForSequenceClassification"]})
    assert "must hold tensor 'classifier.weight'" in _error(path)


def test_classifier_needs_a_pooler(tiny_bert: TinyBert) -> None:
    path = tiny_bert(tensors={"bert.pooler.dense.bias": None})
    assert "must hold tensor 'pooler.dense.bias'" in _error(path)


def test_a_classifier_without_a_pooler_is_a_surplus_where_architectures_is_silent(tiny_bert: TinyBert) -> None:
    checkpoint = open_checkpoint(tiny_bert(config={"architectures": None}, tensors={"bert.pooler.dense.bias": None}))
    assert checkpoint.head == "none"
    assert checkpoint.ignored == ("classifier.bias", "classifier.weight", "pooler.dense.weight")


@pytest.mark.parametrize(("dtype", "code"), [("float64", "F64"), ("int64", "I64"), ("int8", "I8")])
def test_other_stored_dtype_is_refused(tiny_bert: TinyBert, dtype: str, code: str) -> None:
    path = tiny_bert(tensors={f"bert.{BIAS}": np.zeros(16, dtype)})
    assert _error(path) == (
        f"tensor '{BIAS}' of DIR/model.safetensors must be stored as one of F32, F16, BF16, "
        f"got {code}; save the model in float32"
    )


@pytest.mark.parametrize("name", ["bert.encoder.layer.2.output.dense.bias", "bert.embeddings.extra.weight"])
def test_unexpected_tensor_of_the_body_is_refused(tiny_bert: TinyBert, name: str) -> None:
    path = tiny_bert(tensors={name: np.zeros(16, np.float32)})
    assert _error(path) == (
        "checkpoint DIR must hold the tensors that its config.json speaks of, "
        f"got '{name.removeprefix('bert.')}'; correct one of the two"
    )


@pytest.mark.parametrize("name", ["classifier.out_proj.weight", "cls.predictions.bias", "dropout.rate"])
def test_surplus_outside_the_body_is_ignored_and_logged_once(
    tiny_bert: TinyBert, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = tiny_bert(tensors={name: np.zeros(16, np.int64), "other.weight": np.zeros(16, np.float32)})
    checkpoint = open_checkpoint(path)
    assert checkpoint.names == open_checkpoint(tiny_bert()).names
    assert checkpoint.ignored == open_checkpoint(path).ignored == (name, "other.weight")
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", f"{path}: 2 tensors are not used, such as {name}")


def test_classifier_of_an_encoder_is_ignored(tiny_bert: TinyBert) -> None:
    checkpoint = open_checkpoint(tiny_bert(config={"architectures": ["BertModel"]}))
    assert checkpoint.head == "none"
    assert checkpoint.ignored == ("classifier.bias", "classifier.weight", "pooler.dense.bias", "pooler.dense.weight")


@pytest.mark.parametrize(
    ("layers", "complaint"),
    [
        (1000, "must hold tensor 'encoder.layer.2.attention.self.query.weight'"),
        (1001, "num_hidden_layers in config.json must be at most 1000, got 1001"),
        (10**15, "num_hidden_layers in config.json must be at most 1000, got 1000000000000000"),
    ],
)
def test_huge_layer_count_is_refused_at_once(tiny_bert: TinyBert, layers: int, complaint: str) -> None:
    path = tiny_bert()
    config = json.loads((path / "config.json").read_text()) | {"num_hidden_layers": layers}
    (path / "config.json").write_text(json.dumps(config))
    assert complaint in _error(path)


@pytest.mark.parametrize("shards", [1, 2])
def test_tensor_under_both_names_is_refused(tiny_bert: TinyBert, shards: int) -> None:
    path = tiny_bert(tensors={BIAS: np.zeros(16, np.float32)}, shards=shards)
    message = _error(path)
    assert message.startswith(f"tensor '{BIAS}' must be stored once, with or without 'bert.', got")
    assert message.endswith("; remove one of the two")


def test_errors_are_of_one_family() -> None:
    assert issubclass(CheckpointError, IntsimError)
    assert not issubclass(IntsimError, (ValueError, OSError))


# ---- real checkpoints


def _assert_reads_as_safetensors_does(checkpoint: Checkpoint) -> None:
    stored = load_file(checkpoint.path / "model.safetensors")
    for name in checkpoint.names:
        array = stored[name] if name in stored else stored[f"bert.{name}"]
        np.testing.assert_array_equal(checkpoint.load(name, np.float32), array)


def test_minilm(minilm: Path) -> None:
    checkpoint = open_checkpoint(minilm)
    assert checkpoint.head == "none"
    assert (checkpoint.config.hidden_size, checkpoint.config.num_hidden_layers) == (384, 6)
    assert len(checkpoint.names) == 5 + 6 * 16
    assert checkpoint.dtype(WORDS) == "F32"
    assert checkpoint.shape(WORDS) == (30_522, 384)
    _assert_reads_as_safetensors_does(checkpoint)


@pytest.mark.parametrize("task", ["sst2", "cola"])
def test_minilm_classifiers(shared: Path, task: str) -> None:
    checkpoint = open_checkpoint(shared / "models" / f"minilm-{task}")
    assert checkpoint.head == "sequence-classification"
    assert checkpoint.config.labels == ("LABEL_0", "LABEL_1")
    assert checkpoint.dtype("classifier.weight") == "F16"
    _assert_reads_as_safetensors_does(checkpoint)
