# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.io.integer_checkpoint and of the one file format below it."""

import copy
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from stored import store

import intsim
from intsim.errors import CheckpointError, IntsimError
from intsim.io.integer_checkpoint import KIND
from intsim.io.packing import unpack
from intsim.io.safetensors_file import read, write
from intsim.models import Dynamic
from intsim.models.constants import Constants
from intsim.models.digest import digest

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
    "problem_type": None,
    "labels": ["negative", "positive"],
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


def _digest(tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> str:
    """What the documentation says: lines of canonical JSON, and the bytes of each tensor behind its line."""
    keys = ("config", "dynamic", "formats", "head", "model_type", "profile", "recipe", "tokenizer")
    content = json.dumps({key: metadata[key] for key in keys if key in metadata}, sort_keys=True).encode()
    whole = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    for name in sorted(tensors):
        values = tensors[name]
        if (form := metadata["packed"].get(name)) is not None:
            values = unpack(values, form["bits"], tuple(form["shape"]))
        shape = ",".join(map(str, values.shape))
        whole += f'["{name}","{values.dtype}",[{shape}]]\n'.encode() + values.tobytes()
    return hashlib.sha256(whole).hexdigest()


def _rewrite(folder: Path, tensors: dict[str, NDArray[Any]], metadata: object) -> None:
    """Write a file whose digest is right, whatever else is wrong."""
    if isinstance(metadata, dict):
        metadata["digest"] = _digest(tensors, metadata)
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
    assert metadata["format_version"] == 4
    assert metadata["digest"] == _digest(tensors, metadata)
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


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_a_dtype_that_numpy_has_not_is_refused(folder: Path, dtype: str) -> None:
    array = np.zeros(2, np.uint16 if dtype == "BF16" else np.uint8)
    store(folder / FILE, {"x": (dtype, array)}, {"intsim": "{}"})
    assert _refusal(folder).startswith("DIR/model.safetensors must be a readable safetensors file, got: ")


@pytest.mark.parametrize("metadata", [[1], "text", 5, None])
def test_metadata_that_is_not_an_object_is_refused(folder: Path, metadata: object) -> None:
    _rewrite(folder, _open(folder)[0], metadata)
    assert _refusal(folder).startswith("DIR/model.safetensors must carry a JSON object as intsim's metadata, got ")


@pytest.mark.parametrize("version", [0, 1, 2, 3, "4", None])
def test_another_format_version_is_refused(folder: Path, version: object) -> None:
    _edit(folder, lambda metadata: metadata.update(format_version=version))
    renew = "make it anew by intsim quantize CHECKPOINT -o DIR"
    expected = f"DIR/model.safetensors must have format version 4, got {version}; {renew}"
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
        ("labels", "np"),
        ("labels", []),
        ("labels", ["negative", 1]),
        ("labels", {"negative": 0, "positive": 1}),
        ("surprise", 1),
    ],
)
def test_an_invalid_config_is_refused(folder: Path, field: str, value: object) -> None:
    _edit(folder, lambda metadata: metadata["config"].update({field: value}))
    assert field in _refusal(folder)


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
        {"surprise": 1},
        {"zero_point": "0"},
        {"zero_point": {"0": 0}},
        {"scale": {"multiplier": True, "shift": 3}},
        {"scale": {"multiplier": 1, "shift": 3, "surprise": 1}},
    ],
    ids=str,
)
def test_an_invalid_format_is_refused(folder: Path, change: dict[str, Any]) -> None:
    _edit(folder, lambda metadata: metadata["formats"]["pooler"].update(change))
    assert _refusal(folder).startswith("DIR/model.safetensors must carry the metadata of an integer checkpoint, got ")


@pytest.mark.parametrize(
    "change",
    [
        {"per": "tokne"},
        {"per": 1},
        {"per": ["token"]},
        {"clip": 1},
        {"clip": None},
        {"clip": True},  # of a token
        {"bits": 8.0},
        {"bits": 9},
        {"bits": 1},
        {"surprise": 1},
    ],
    ids=str,
)
def test_an_invalid_dynamic_input_is_refused(source: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    intsim.quantize(source, calibration=TEXTS, recipe="zeroquant").save(tmp_path)
    _edit(tmp_path, lambda metadata: metadata["dynamic"]["pooler.input"].update(change))
    assert _refusal(tmp_path).startswith("DIR/model.safetensors must carry the metadata of an integer checkpoint, got ")


@pytest.mark.parametrize(("key", "value"), [("recipe", []), ("recipe", "w8a8"), ("tokenizer", {}), ("tokenizer", 5)])
def test_a_recipe_or_tokenizer_of_another_kind_is_refused(folder: Path, key: str, value: object) -> None:
    _edit(folder, lambda metadata: metadata.update({key: value}))
    assert _refusal(folder).startswith(f"DIR/model.safetensors must have a {key} of the kind that intsim writes, got ")


@pytest.mark.parametrize("a", ["1e999999999", "1/3", "nan", "0." + "3" * 41, "1234567890"])
def test_a_constant_of_a_profile_that_is_no_short_decimal_is_refused(folder: Path, a: str) -> None:
    _edit(folder, lambda metadata: metadata["profile"]["exp"].update(a=a))
    assert "a must be a decimal of at most 9 digits before and 40 behind the point, got " in _refusal(folder)


# ---- the digest


def test_the_digest_of_a_model_is_that_of_its_file(model: intsim.IntegerModel, folder: Path) -> None:
    tensors, metadata = _open(folder)
    assert model.digest == metadata["digest"] == _digest(tensors, metadata)
    assert intsim.load(folder).digest == model.digest
    assert dataclasses.replace(model).digest == model.digest


def test_the_digest_goes_over_codes_and_not_over_how_they_are_packed(source: Path, tmp_path: Path) -> None:
    model = intsim.quantize(source, calibration=TEXTS, recipe="w4a8")
    model.save(tmp_path)
    tensors, metadata = _open(tmp_path)
    assert metadata["packed"]
    assert model.digest == _digest(tensors, metadata)
    for name, form in metadata["packed"].items():
        tensors[name] = unpack(tensors[name], form["bits"], tuple(form["shape"]))
    save_file(tensors, tmp_path / FILE, metadata={"intsim": json.dumps({**metadata, "packed": {}})})
    assert intsim.load(tmp_path).digest == model.digest


def test_the_digest_does_not_depend_on_the_memory_of_a_tensor(model: intsim.IntegerModel) -> None:
    tensors = {name: np.array(w, w.dtype.newbyteorder(">"), order="F") for name, w in model.tensors.items()}
    assert not all(values.flags.c_contiguous for values in tensors.values())
    assert digest(model.contents(), tensors) == model.digest


def test_weights_lie_column_by_column_when_quantized_and_when_loaded(
    model: intsim.IntegerModel, tmp_path: Path
) -> None:
    model.save(tmp_path)
    for each in (model, intsim.load(tmp_path)):
        weights = [w for w in each.tensors.values() if w.ndim == 2 and w.dtype == np.int8]
        assert weights
        assert all(w.flags.f_contiguous for w in weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer": "{}"},
        {"tokenizer": None},
        {"recipe": {}},
        {"profile": intsim.PROFILES["ibert"]},
        {"formats": lambda m: dict(reversed([*m.formats.items()][1:]))},
        {"tensors": lambda m: {**m.tensors, "pooler.dense.bias": m.tensors["pooler.dense.bias"] + np.int32(1)}},
        {"tensors": lambda m: {**m.tensors, "pooler.dense.bias": m.tensors["pooler.dense.bias"].astype(np.int64)}},
        {"tensors": lambda m: {**m.tensors, "pooler.dense.bias": m.tensors["pooler.dense.bias"][None]}},
        {"tensors": lambda m: {**m.tensors, "pooler.dense.weight": m.tensors["pooler.dense.weight"].view(np.uint8)}},
        {"tensors": lambda m: {**m.tensors, "x": np.zeros(0, np.int8)}},
        {"config": lambda m: dataclasses.replace(m.config, labels=("a", "b"))},
        {"dynamic": {"pooler.input": Dynamic(range=intsim.IntRange(8, narrow=True), per="token", clip=False)}},
        {"head": "none"},
        {"model_type": "electra"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_tells_every_part(model: intsim.IntegerModel, changes: dict[str, Any]) -> None:
    parts = {each.name: getattr(model, each.name) for each in dataclasses.fields(model) if each.init}
    changed = {name: change(model) if callable(change) else change for name, change in changes.items()}
    assert Constants(**{**parts, **changed}).digest != Constants(**parts).digest == model.digest


def test_a_file_whose_digest_is_another_is_refused(folder: Path) -> None:
    tensors, metadata = _open(folder)
    digest_, metadata["digest"] = metadata["digest"], "0" * 64
    save_file(tensors, folder / FILE, metadata={"intsim": json.dumps(metadata)})
    renew = "make it anew by intsim quantize CHECKPOINT -o DIR"
    message = f"DIR/model.safetensors must have the digest that it was written with, {'0' * 64}, got {digest_}; {renew}"
    assert _refusal(folder) == message


@pytest.fixture(scope="module", params=["intsim", "w4a8", "zeroquant"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bert: TinyBert) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    intsim.quantize(tiny_bert(), calibration=TEXTS, recipe=request.param).save(folder)
    return folder


@given(data=st.data())
def test_flipped_bits_are_refused_or_change_nothing(whole: Path, data: st.DataObject) -> None:
    raw = bytearray(_bytes(whole))
    text = 8 + int.from_bytes(raw[:8], "little")
    anywhere = st.integers(0, 8 * len(raw) - 1) | st.integers(0, 8 * text - 1) | st.integers(0, 63)
    for bit in data.draw(st.lists(anywhere, min_size=1, max_size=3, unique=True)):
        raw[bit // 8] ^= 1 << bit % 8
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_bytes(raw)
        try:
            loaded = intsim.load(folder)
        except CheckpointError:
            return
    expected = intsim.load(whole)
    assert loaded.digest == expected.digest
    assert loaded(IDS).digest == expected(IDS).digest


def test_every_flipped_bit_of_a_tensor_is_refused(whole: Path, tmp_path: Path) -> None:
    raw = _bytes(whole)
    rng = np.random.default_rng(0)
    start = 8 + int.from_bytes(raw[:8], "little")
    for bit in rng.choice(np.arange(8 * start, 8 * len(raw)), 60, replace=False):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / FILE).write_bytes(damaged)
        assert "must have the digest that it was written with" in _refusal(tmp_path)


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
