# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as people have them, of every family, and those that are refused, each with one sentence."""

import json
import logging
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from families import ENCODERS
from family_runs import draw, floats, values
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from stored import store

import intsim
from intsim.cli import main
from intsim.errors import IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.models import FAMILIES
from intsim.testing import assert_bit_exact

WritesCheckpoint = Callable[..., Path]
Refusal = Callable[..., str]
Tensors = dict[str, NDArray[Any]]

TEXTS: Final = ("a good movie .", "the plot is not bad , not good")
every_family = pytest.mark.parametrize("family", ENCODERS)


def rewritten(path: Path, folder: Path, *, tensors: Callable[[Tensors], Any] = lambda _: None, **config: Any) -> Path:
    """Write the checkpoint with changed tensors and fields; a field of None is left out."""
    arrays = load_file(path / "model.safetensors")
    tensors(arrays)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    values = json.loads((path / "config.json").read_text(encoding="utf-8")) | config
    text = json.dumps({name: value for name, value in values.items() if value is not None})
    (folder / "config.json").write_text(text, encoding="utf-8")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((path / file).read_bytes())
    return folder


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Return a function from a checkpoint to the one sentence with which the program refuses it."""

    def sentence(path: Path, *options: str, named: str = "") -> str:
        output = path / "integer"
        monkeypatch.setattr("sys.argv", ["intsim", "quantize", str(path), "-o", str(output), *options])
        with pytest.raises(SystemExit) as done:
            main()
        printed = capsys.readouterr()
        assert (done.value.code, printed.out) == (3, "")
        assert not output.exists()
        said = printed.err.splitlines()
        assert said[-1].startswith("intsim: "), said
        assert named in said[-1]
        assert not said[-1].endswith(".")
        assert len(said) <= 2, said  # before it, what is not used
        return said[-1]

    return sentence


# ---- read


@every_family
def test_prefixes_do_not_matter(family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str) -> None:
    prefix = FAMILIES[family].prefix
    path = family_checkpoint(family, "none")
    feed = draw(open_checkpoint(path).config, 1, 3, 6)
    for i, change in enumerate((lambda name: prefix + name, lambda name: name.removeprefix(prefix))):

        def rename(arrays: Tensors, change: Callable[[str], str] = change) -> None:
            for name in list(arrays):
                arrays[change(name)] = arrays.pop(name)

        (tmp_path / str(i)).mkdir()
        again = rewritten(path, tmp_path / str(i), tensors=rename)
        assert np.array_equal(floats(again, feed), floats(path, feed))


@pytest.mark.parametrize("family", [family for family in ENCODERS if family != "mobilebert"])
def test_gamma_and_beta_are_weight_and_bias(family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str) -> None:
    def rename(arrays: Tensors) -> None:
        for name in [name for name in arrays if "LayerNorm." in name and "activation" not in name]:
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            arrays[new] = arrays.pop(name)

    path = family_checkpoint(family, "two-classes")
    again = rewritten(path, tmp_path, tensors=rename)
    assert any(name.endswith(".gamma") for name in load_file(tmp_path / "model.safetensors"))
    feed = draw(open_checkpoint(path).config, 2, 3, 6)
    assert np.array_equal(floats(again, feed), floats(path, feed))


@every_family
def test_a_checkpoint_with_more_heads_is_read_with_the_one_asked_for(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path, prefix = family_checkpoint(family, "masked-lm"), FAMILIES[family].prefix
    other = load_file(family_checkpoint(family, "none") / "model.safetensors")
    surplus = {f"{prefix}{name}": array for name, array in other.items() if name.startswith("pooler")}
    surplus |= {"cls.seq_relationship.weight": np.zeros((2, 20), np.float32)}
    surplus |= {f"{prefix}embeddings.position_ids": np.arange(40)[None]}

    def add(arrays: Tensors) -> None:
        arrays.update(surplus)

    pretraining = FAMILIES[family].architecture + "ForPreTraining"
    again = rewritten(path, tmp_path, tensors=add, architectures=[pretraining])
    feed = draw(open_checkpoint(path, head="none").config, 3, 3, 6)
    for head in ("none", "masked-lm"):
        caplog.clear()
        checkpoint = open_checkpoint(again, head=head)
        assert checkpoint.head == head
        assert {name.removeprefix(prefix) for name in surplus} <= {
            name.removeprefix(prefix) for name in checkpoint.ignored
        }
        assert len(caplog.messages) == 1
        assert "\n" not in caplog.messages[0]
        models = [intsim.quantize(each, head=head, calibration=TEXTS) for each in (path, again)]
        assert_bit_exact(values(models[1], feed), values(models[0], feed))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@every_family
def test_half_precision_is_read_exactly(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, dtype: str
) -> None:
    path = family_checkpoint(family, "two-classes")

    def narrow(x: NDArray[Any]) -> NDArray[Any]:
        if dtype == "F16":
            return x.astype(np.float16)
        return (x.view(np.uint32) >> 16).astype(np.uint16)

    def widen(x: NDArray[Any]) -> NDArray[np.float32]:
        return x.astype(np.float32) if dtype == "F16" else (x.astype(np.uint32) << 16).view(np.float32)

    halves = {name: narrow(x) for name, x in load_file(path / "model.safetensors").items()}
    folders = tmp_path / "half", tmp_path / "wide"
    for folder in folders:
        folder.mkdir()
        rewritten(path, folder)
    store(folders[0] / "model.safetensors", {name: (dtype, x) for name, x in halves.items()}, {"format": "pt"})
    save_file({name: widen(x) for name, x in halves.items()}, folders[1] / "model.safetensors")
    feed = draw(open_checkpoint(path).config, 4, 3, 6)
    half, wide = (floats(folder, feed) for folder in folders)
    assert np.array_equal(half, wide)
    assert not np.array_equal(half, floats(path, feed))


@every_family
def test_shards_are_one_checkpoint(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, family: str
) -> None:
    path = family_checkpoint(family, "masked-lm")
    rewritten(path, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = {name: f"model-0000{i % 3 + 1}-of-00003.safetensors" for i, name in enumerate(tensors)}
    for file in set(names.values()):
        save_file({name: x for name, x in tensors.items() if names[name] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8")
    feed = draw(open_checkpoint(path).config, 5, 3, 6)
    assert np.array_equal(floats(tmp_path, feed), floats(path, feed))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refusal(tmp_path, named="model-00002-of-00003.safetensors")


# ---- refused


def remove(ending: str) -> Callable[[Tensors], None]:
    def change(arrays: Tensors) -> None:
        del arrays[next(name for name in arrays if name.endswith(ending))]

    return change


def deepen(arrays: Tensors) -> None:
    """Add a layer that config.json does not speak of."""
    marks = (".layer.1.", "albert_layers.0.")
    for name in list(arrays):
        for mark in marks:
            if mark in name:
                arrays[name.replace(mark, mark.replace(mark[-2], "7"))] = arrays[name].copy()


def widen(ending: str) -> Callable[[Tensors], None]:
    def change(arrays: Tensors) -> None:
        name = next(name for name in arrays if name.endswith(ending))
        arrays[name] = np.pad(arrays[name], [(0, 1)] * arrays[name].ndim)

    return change


BROKEN: Final[Mapping[str, tuple[Callable[[Tensors], None], str]]] = {
    "a missing table": (remove("word_embeddings.weight"), "word_embeddings.weight"),
    "a missing bias": (remove("classifier.bias"), "classifier.bias"),
    "a layer too many": (deepen, "7"),
    "a longer table": (widen("position_embeddings.weight"), "position_embeddings.weight"),
    "a wider classifier": (widen("classifier.weight"), "classifier.weight"),
}


@pytest.mark.parametrize("broken", BROKEN)
@every_family
def test_tensors_that_config_json_does_not_speak_of_are_refused(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, family: str, broken: str
) -> None:
    change, named = BROKEN[broken]
    path = rewritten(family_checkpoint(family, "token-classification"), tmp_path, tensors=change)
    refusal(path, named=named)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "t5"),
        ({"model_type": "", "architectures": None}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"model_type": ["bert"]}, "model_type"),
        ({"architectures": ["RobertaForSequenceClassification"]}, "RobertaForSequenceClassification"),
        ({"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice"),
        ({"architectures": "BertModel"}, "architectures"),
        ({"architectures": [3]}, "architectures"),
        ({"id2label": {"1": "a"}}, "id2label"),
        ({"problem_type": "guessing"}, "problem_type"),
    ],
    ids=str,
)
def test_a_config_json_of_no_family_or_of_two_is_refused(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, config: dict[str, Any], named: str
) -> None:
    refusal(rewritten(family_checkpoint("bert", "two-classes"), tmp_path, **config), named=named)


@every_family
def test_the_tensors_of_another_family_are_refused(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, family: str
) -> None:
    other = {"bert": "distilbert", "distilbert": "bert"}.get(family, "bert")
    path = rewritten(family_checkpoint(family, "two-classes"), tmp_path)
    theirs = family_checkpoint(other, "two-classes")
    (path / "model.safetensors").write_bytes((theirs / "model.safetensors").read_bytes())
    refusal(path, named="must")


@pytest.mark.parametrize("head", ["nonsense", "", "None", "masked_lm"])
def test_a_head_that_there_is_not_is_refused(family_checkpoint: WritesCheckpoint, head: str) -> None:
    path = family_checkpoint("bert", "two-classes")
    with pytest.raises(IntsimError, match="head must be one of"):
        open_checkpoint(path, head=head)
    with pytest.raises(IntsimError, match="head must be one of"):
        intsim.quantize(path, head=head, calibration=TEXTS)


@pytest.mark.parametrize("head", ["sequence-classification", "token-classification", "question-answering", "masked-lm"])
@every_family
def test_a_head_whose_tensors_are_absent_is_refused(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, family: str, head: str
) -> None:
    refusal(rewritten(family_checkpoint(family, "none"), tmp_path), "--head", head, named="must")


def test_question_answering_has_two_labels(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal
) -> None:
    def third(arrays: Tensors) -> None:
        for name in ("qa_outputs.weight", "qa_outputs.bias"):
            arrays[name] = np.pad(arrays[name], [(0, 1), (0, 0)][: arrays[name].ndim])

    labels = {"0": "a", "1": "b", "2": "c"}
    path = rewritten(family_checkpoint("bert", "question-answering"), tmp_path, tensors=third, id2label=labels)
    refusal(path, named="must")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_pointer_of_git_lfs_is_named_as_such(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, *, sharded: bool
) -> None:
    path = rewritten(family_checkpoint("albert", "none"), tmp_path)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 46000000\n"
    file = path / "model.safetensors"
    if sharded:
        file.unlink()
        file = path / "model-00001-of-00001.safetensors"
        index = {"weight_map": {"embeddings.word_embeddings.weight": file.name}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    file.write_text(pointer, encoding="utf-8")
    assert file.name in refusal(path, named="Git LFS")


@pytest.mark.parametrize("kind", ["cut", "empty", "json", "int", "nan"])
def test_a_damaged_file_is_refused(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, refusal: Refusal, kind: str
) -> None:
    def spoil(arrays: Tensors) -> None:
        name = next(name for name in arrays if name.endswith("query.weight"))
        if kind == "int":
            arrays[name] = arrays[name].astype(np.int32)
        if kind == "nan":
            arrays[name][3, 3] = np.nan

    path = rewritten(family_checkpoint("electra", "none"), tmp_path, tensors=spoil)
    file = path / "model.safetensors"
    data = file.read_bytes()
    if kind in {"cut", "empty", "json"}:
        file.write_bytes({"cut": data[:-7], "empty": b"", "json": struct.pack("<Q", 4) + b"{}]["}[kind])
    refusal(path, named="must")
