# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.io.integer_checkpoint and of the one file format below it."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import TensorSpec, safe_open, serialize_file
from safetensors.numpy import load_file, save_file

import intsim
from intsim.errors import CheckpointError, IntsimError
from intsim.io.integer_checkpoint import KIND
from intsim.io.safetensors_file import read, write

TinyBert = Callable[..., Path]
ROOT: Final = Path(__file__).resolve().parents[2]
TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good")
FILE: Final = "model.safetensors"
IDS: Final = [[2, 9, 10, 11, 3]]
CONFIG: Final = {
    "vocab_size": 66,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
    "labels": ["negative", "positive"],
    "problem_type": None,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


@pytest.fixture(scope="module")
def source(tiny_bert: TinyBert) -> Path:
    return tiny_bert()


@pytest.fixture(scope="module")
def model(source: Path) -> intsim.IntegerModel:
    return intsim.quantize(source, calibration=TEXTS)


@pytest.fixture
def folder(model: intsim.IntegerModel, tmp_path: Path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


def _bytes(folder: Path) -> bytes:
    return (folder / FILE).read_bytes()


def _open(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with safe_open(folder / FILE, framework="numpy") as file:
        return load_file(folder / FILE), json.loads(file.metadata()["intsim"])


def _rewrite(folder: Path, tensors: dict[str, NDArray[Any]], metadata: object) -> None:
    save_file(tensors, folder / FILE, metadata={"intsim": json.dumps(metadata)})


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors, metadata = _open(folder)
    change(metadata)
    _rewrite(folder, tensors, metadata)


def _refusal(folder: Path, error: type[IntsimError] = CheckpointError) -> str:
    with pytest.raises(error) as caught:
        intsim.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message.replace(str(folder), "DIR")


# ---- the same bytes


def test_saving_twice_gives_the_same_bytes(model: intsim.IntegerModel, folder: Path, tmp_path: Path) -> None:
    model.save(tmp_path / "again")
    assert _bytes(tmp_path / "again") == _bytes(folder)


def test_saving_what_was_loaded_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    intsim.load(folder).save(str(tmp_path / "again"))
    assert _bytes(tmp_path / "again") == _bytes(folder)


def test_saving_over_an_integer_checkpoint_replaces_it(model: intsim.IntegerModel, source: Path, folder: Path) -> None:
    before = _bytes(folder)
    intsim.quantize(source, calibration=TEXTS, recipe="ibert").save(folder)
    assert _bytes(folder) != before
    model.save(folder)
    assert _bytes(folder) == before


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_quantizing_in_another_process_gives_the_same_bytes(
    source: Path, folder: Path, tmp_path: Path, hash_seed: str
) -> None:
    program = "import intsim, sys; intsim.quantize(sys.argv[1], calibration=sys.argv[3:]).save(sys.argv[2])"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": hash_seed}
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "other"), *TEXTS]
    subprocess.run(command, env=environment, check=True)
    assert _bytes(tmp_path / "other") == _bytes(folder)


def test_order_of_tensors_and_keys_changes_no_byte(model: intsim.IntegerModel, folder: Path, tmp_path: Path) -> None:
    shuffled = intsim.IntegerModel(
        model_type=model.model_type,
        head=model.head,
        dynamic=dict(reversed(model.dynamic.items())),
        config=model.config,
        profile=model.profile,
        recipe=dict(reversed(model.recipe.items())),
        formats=dict(reversed(model.formats.items())),
        tensors=dict(reversed(model.tensors.items())),
        tokenizer=model.tokenizer,
    )
    shuffled.save(tmp_path / "shuffled")
    assert _bytes(tmp_path / "shuffled") == _bytes(folder)


def test_metadata_is_one_key_of_canonical_json(folder: Path) -> None:
    with safe_open(folder / FILE, framework="numpy") as file:
        (key,) = file.metadata()
        text = file.metadata()[key]
    assert key == "intsim"
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_file_holds_integers_only_and_everything_to_run(folder: Path, source: Path) -> None:
    tensors, metadata = _open(folder)
    assert {values.dtype.name for values in tensors.values()} == {"int8", "int32", "int64"}
    canonical = json.dumps(metadata["profile"], sort_keys=True, separators=(",", ":"))
    assert metadata["profile_hash"] == hashlib.sha256(canonical.encode()).hexdigest()
    assert metadata["format_version"] == 3
    assert (metadata["model_type"], metadata["head"]) == ("bert", "sequence-classification")
    assert metadata["config"] == CONFIG
    assert metadata["tokenizer"] == (source / "tokenizer.json").read_text(encoding="utf-8")
    assert metadata["recipe"]["name"] == "intsim"
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_file_may_be_read_by_everyone(folder: Path) -> None:
    assert (folder / FILE).stat().st_mode & 0o777 == 0o644


# ---- what is loaded is what was saved


def test_loading_gives_back_what_was_saved(model: intsim.IntegerModel, folder: Path) -> None:
    loaded = intsim.load(str(folder))
    assert loaded.config == model.config
    assert loaded.profile == model.profile
    assert loaded.recipe == model.recipe
    assert loaded.tokenizer == model.tokenizer
    assert loaded.formats == model.formats
    assert loaded.tensors.keys() == model.tensors.keys()
    for name, values in model.tensors.items():
        assert loaded.tensors[name].dtype == values.dtype
        assert loaded.tensors[name].shape == values.shape
        assert np.array_equal(loaded.tensors[name], values)
    assert loaded(IDS).digest == model(IDS).digest


def test_scalars_and_arrays_that_are_not_contiguous_survive(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    arrays = {
        "scalar": np.array(-(2**63)),
        "one": np.array([7], np.int8),
        "transposed": base.T,
        "strided": base[::2, 1::3],
        "reversed": base[::-1],
        "repeated": np.broadcast_to(np.int64(5), (3, 2)),
        "none": np.zeros((0, 3), np.uint8),
        "fortran": np.asfortranarray(base),
        "big-endian": base.astype(">i4"),
    }
    write(tmp_path / "file", arrays, {"ä": [1, None]}, KIND)
    found, metadata = read(tmp_path / "file")
    assert metadata == {"ä": [1, None]}
    assert list(found) == sorted(arrays)
    for name, values in arrays.items():
        assert found[name].shape == values.shape, name
        assert found[name].dtype == values.dtype.newbyteorder("="), name
        assert np.array_equal(found[name], values), name


def test_a_model_without_tokenizer_survives(model: intsim.IntegerModel, tmp_path: Path) -> None:
    plain = copy.copy(model)
    object.__setattr__(plain, "tokenizer", None)
    plain.save(tmp_path)
    assert intsim.load(tmp_path).tokenizer is None


# ---- damaged files


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path).startswith("DIR/model.safetensors must be a readable safetensors file, got: ")
    assert _refusal(tmp_path / "absent").startswith("DIR/model.safetensors must be a readable safetensors file, got: ")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert _refusal(tmp_path).startswith("DIR/model.safetensors must be a readable safetensors file, got: ")


@pytest.mark.parametrize("kept", [0, 7, 8, 100, 5_000, -1])
def test_a_truncated_file_is_refused(folder: Path, kept: int) -> None:
    (folder / FILE).write_bytes(_bytes(folder)[:kept])
    assert _refusal(folder).startswith("DIR/model.safetensors must be a readable safetensors file, got: ")


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip file", b"\xff" * 64, b"\x02" + bytes(7) + b"[]"], ids=str)
def test_a_file_of_another_kind_is_refused(folder: Path, content: bytes) -> None:
    (folder / FILE).write_bytes(content)
    assert _refusal(folder).startswith("DIR/model.safetensors must be a readable safetensors file, got: ")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"intsim": "{"}])
def test_a_foreign_safetensors_file_is_refused(folder: Path, metadata: dict[str, str] | None) -> None:
    save_file({"x": np.zeros(3, np.int8)}, folder / FILE, metadata=metadata)
    message = "DIR/model.safetensors must carry intsim's metadata, got a safetensors file without it"
    assert _refusal(folder) == f"{message}; make one with intsim quantize"


def test_a_float_checkpoint_is_refused(source: Path) -> None:
    assert "must carry intsim's metadata" in _refusal(source)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_a_dtype_that_numpy_has_not_is_refused(folder: Path, dtype: str) -> None:
    array = np.zeros(2, np.uint16 if dtype == "bfloat16" else np.uint8)
    spec = TensorSpec(dtype=dtype, shape=(2,), data_ptr=array.ctypes.data, data_len=array.nbytes)
    serialize_file({"x": spec}, folder / FILE, metadata={"intsim": "{}"})
    assert _refusal(folder).startswith("DIR/model.safetensors must be a readable safetensors file, got: ")


@pytest.mark.parametrize("metadata", [[1], "text", 5, None])
def test_metadata_that_is_not_an_object_is_refused(folder: Path, metadata: object) -> None:
    _rewrite(folder, _open(folder)[0], metadata)
    assert _refusal(folder).startswith("DIR/model.safetensors must carry a JSON object as intsim's metadata, got ")


@pytest.mark.parametrize("version", [0, 1, 2, "3", None])
def test_another_format_version_is_refused(folder: Path, version: object) -> None:
    _edit(folder, lambda metadata: metadata.update(format_version=version))
    expected = f"DIR/model.safetensors must have format version 3, got {version}; quantize the checkpoint again"
    assert _refusal(folder) == expected


@pytest.mark.parametrize(
    "key", ["model_type", "head", "config", "profile", "profile_hash", "recipe", "formats", "dynamic", "tokenizer"]
)
def test_missing_metadata_is_refused(folder: Path, key: str) -> None:
    _edit(folder, lambda metadata: metadata.pop(key))
    expected = f"DIR/model.safetensors must carry the metadata of an integer checkpoint, got no '{key}'"
    assert _refusal(folder) == expected


@pytest.mark.parametrize("key", ["model_type", "head", "config", "profile", "formats"])
@pytest.mark.parametrize("value", [None, [], [1], 5, "text"], ids=str)
def test_metadata_of_the_wrong_kind_is_refused(folder: Path, key: str, value: object) -> None:
    _edit(folder, lambda metadata: metadata.update({key: value}))
    _refusal(folder, IntsimError)


@pytest.mark.parametrize(
    ("key", "value"), [("model_type", "gpt2"), ("model_type", "roberta"), ("head", "causal-lm"), ("head", "masked-lm")]
)
def test_another_family_or_head_is_refused(folder: Path, key: str, value: str) -> None:
    _edit(folder, lambda metadata: metadata.update({key: value}))
    _refusal(folder)


def test_an_edited_profile_is_refused(folder: Path) -> None:
    stale = _open(folder)[1]["profile_hash"]
    _edit(folder, lambda metadata: metadata["profile"].update(rounding="floor"))
    message = _refusal(folder)
    assert message.startswith("DIR/model.safetensors must carry the hash of its profile, ")
    assert message.endswith(f", got {stale}")


@pytest.mark.parametrize(
    ("field", "value"),
    [("rounding", "up"), ("exp", {}), ("exp", 5), ("surprise", 1)],
)
def test_a_profile_with_wrong_fields_is_refused(folder: Path, field: str, value: object) -> None:
    _edit(folder, lambda metadata: metadata["profile"].update({field: value}))
    assert "profile must have exactly the fields of intsim's profiles" in _refusal(folder, IntsimError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "swish"),
        ("num_attention_heads", 0),
        ("num_attention_heads", 3),
        ("num_hidden_layers", "2"),
        ("num_hidden_layers", 0),
        ("vocab_size", 66.0),
        ("labels", None),
        ("surprise", 1),
    ],
)
def test_an_invalid_config_is_refused(folder: Path, field: str, value: object) -> None:
    _edit(folder, lambda metadata: metadata["config"].update({field: value}))
    assert field in _refusal(folder) or field == "labels"


@pytest.mark.parametrize(
    "change",
    [
        {"bits": "a"},
        {"bits": 99},
        {"bits": 8.0},
        {"bits": True},
        {"scale": 5},
        {"scale": {"multiplier": 1.5, "shift": 3}},
        {"zero_point": 0.5},
        {"zero_point": 10**9},
        {"narrow": 0.5},
        {"signed": 0},
        {"narrow": True, "signed": False},
    ],
    ids=str,
)
def test_an_invalid_format_is_refused(folder: Path, change: dict[str, Any]) -> None:
    _edit(folder, lambda metadata: metadata["formats"]["pooler"].update(change))
    assert _refusal(folder).startswith("DIR/model.safetensors must carry the metadata of an integer checkpoint, got ")


def test_a_missing_tensor_is_refused_by_name(folder: Path) -> None:
    tensors, metadata = _open(folder)
    del tensors["pooler.dense.bias"]
    _rewrite(folder, tensors, metadata)
    assert _refusal(folder) == "integer checkpoint must hold tensor 'pooler.dense.bias', got none of that name"


# ---- folders that cannot be written, and writing that fails


@pytest.mark.parametrize("below", ["", "inner", "inner/most"])
def test_a_folder_below_a_file_is_refused(model: intsim.IntegerModel, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"model\.safetensors must be writable, got: ") as caught:
        model.save(tmp_path / "file" / below)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_place_of_the_file_is_refused(model: intsim.IntegerModel, tmp_path: Path) -> None:
    (tmp_path / FILE / "inside").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="must be writable, got: "):
        model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", FILE]


def test_a_float_checkpoint_is_never_replaced(source: Path) -> None:
    before = _bytes(source)
    with pytest.raises(CheckpointError, match="must not be that of a Hugging Face checkpoint"):
        intsim.quantize(source, calibration=TEXTS).save(source)
    assert _bytes(source) == before


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("step", ["replace", "chmod"])
def test_writing_that_fails_leaves_what_was_there(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    before = _bytes(folder)

    def fail(*_: object, **__: object) -> None:
        raise failure

    other = intsim.quantize(source, calibration=TEXTS, recipe="ibert")
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(CheckpointError if isinstance(failure, OSError) else KeyboardInterrupt):
            other.save(folder)
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert _bytes(folder) == before


def test_a_new_folder_holds_no_file_when_writing_fails(
    model: intsim.IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(CheckpointError, match="must be writable, got: Input/output error"):
            model.save(tmp_path / "new")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
