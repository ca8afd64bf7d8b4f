# SPDX-License-Identifier: Apache-2.0
"""The files of sentence-transformers beside config.json: what they say is taken over, what they ask else is refused."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import intsim
from intsim.cli import cli
from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.io.sentence_transformers import read_embedding, read_text_config
from intsim.io.tokenizer import encode, parse_tokenizer, read_tokenizer

HEAD = "sentence-embedding"
OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def write(path: Path, kinds: Any, pooling: Any = None, text: Any = None) -> Path:
    """Write modules.json for modules (a kind has a folder of its own, the first one none), and the files they read."""
    if isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds):
        kinds = [{"name": str(i), "type": kind, "path": f"{i}_Module" if i else ""} for i, kind in enumerate(kinds)]
    (path / "modules.json").write_text(json.dumps(kinds))
    (path / "1_Module").mkdir(exist_ok=True)
    (path / "1_Module/config.json").write_text(json.dumps(pooling or {}))
    if text is not None:
        (path / "sentence_bert_config.json").write_text(json.dumps(text))
    return path


def flags(*modes: str) -> dict[str, bool]:
    every = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {f"pooling_mode_{mode}": mode in modes for mode in every}


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        (flags("mean_tokens"), "mean"),
        (flags("cls_token"), "cls"),
        (flags("lasttoken"), "last"),
        ({}, "mean"),
        (flags(), "mean"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls", **flags("mean_tokens")}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
    ],
)
def test_the_pooling_is_the_one_its_config_names(tmp_path, config, pooling):
    write(tmp_path, [f"{OLD}Transformer", f"{OLD}Pooling"], config)
    assert read_embedding(tmp_path) == {"pooling": pooling, "normalize": False}
    write(tmp_path, list(NEW.values()), config)
    assert read_embedding(tmp_path) == {"pooling": pooling, "normalize": True}


def test_without_modules_it_is_the_mean(tmp_path):
    assert read_embedding(tmp_path) == {"pooling": "mean", "normalize": False}
    assert read_text_config(tmp_path) == (None, False)


@pytest.mark.parametrize(
    ("config", "got"),
    [
        (flags("max_tokens"), "'max'"),
        (flags("mean_sqrt_len_tokens"), "'mean_sqrt_len_tokens'"),
        (flags("weightedmean_tokens"), "'weightedmean'"),
        (flags("cls_token", "mean_tokens"), "'cls, mean'"),
        ({"pooling_mode": ["cls", "max"]}, "'cls, max'"),
        ({"pooling_mode": 3}, "'3'"),
        ({"pooling_mode": []}, "''"),
        ([], "[]"),
    ],
)
def test_another_pooling_is_refused_with_the_file_that_names_it(tmp_path, config, got):
    write(tmp_path, [f"{OLD}Transformer", f"{OLD}Pooling"])
    (tmp_path / "1_Module/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        read_embedding(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/1_Module/config.json must have ")
    assert str(caught.value).endswith(f"got {got}")


@pytest.mark.parametrize(
    ("kinds", "got"),
    [
        ([f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Dense", f"{OLD}Normalize"], "'Dense'"),
        ([f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Normalize", f"{OLD}Dense"], "['Dense']"),
        ([f"{OLD}Transformer"], "['Transformer']"),
        ([f"{OLD}Pooling"], "'Pooling'"),
        ([f"{OLD}Transformer", "elsewhere.Pooling"], "'elsewhere.Pooling'"),
        (
            [{"type": f"{OLD}Transformer", "path": "0_Transformer"}, {"type": f"{OLD}Pooling", "path": ""}],
            "0_Transformer",
        ),
        ([], "[]"),
        ([{"type": f"{OLD}Transformer"}], "path"),
        ({"type": 1}, "type"),
        (3, "3"),
    ],
)
def test_other_modules_are_refused_by_name(tmp_path, kinds, got):
    write(tmp_path, kinds)
    with pytest.raises(CheckpointError, match=r"modules\.json must have ") as caught:
        read_embedding(tmp_path)
    assert got in str(caught.value)


@pytest.mark.parametrize("content", ["{", "\udcff"])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "modules.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"modules\.json must be a readable JSON file"):
        read_embedding(tmp_path)


def test_a_pooling_without_a_config_is_refused(tmp_path):
    write(tmp_path, [f"{OLD}Transformer", f"{OLD}Pooling"])
    (tmp_path / "1_Module/config.json").unlink()
    with pytest.raises(CheckpointError, match=r"1_Module/config\.json must be a readable JSON file"):
        read_embedding(tmp_path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ({"max_seq_length": 0}, "a max_seq_length of at least 1, got 0"),
        ({"max_seq_length": "9"}, "a max_seq_length of at least 1, got '9'"),
        ({"max_seq_length": True}, "a max_seq_length of at least 1, got True"),
        ({"do_lower_case": 1}, "a do_lower_case that is true or false, got 1"),
        ([], "a JSON object, got"),
    ],
)
def test_a_text_config_that_breaks_a_rule_is_refused(tmp_path, text, rule):
    (tmp_path / "sentence_roberta_config.json").write_text(json.dumps(text))
    with pytest.raises(CheckpointError, match=rule):
        read_text_config(tmp_path)


# ---- in a checkpoint


def test_what_a_model_without_a_head_does_not_need_is_no_reason_to_refuse_it(tiny_bert, caplog):
    path = write(tiny_bert(labels=None), [f"{OLD}Transformer", f"{OLD}Pooling", f"{OLD}Dense"])
    assert open_checkpoint(path).config.pooling == "mean"
    assert "Dense" in caplog.text
    assert open_checkpoint(write(tiny_bert(), [f"{OLD}Dense"])).head == "sequence-classification"
    with pytest.raises(CheckpointError, match="Dense"):
        open_checkpoint(path, head=HEAD)


def test_fields_of_config_json_by_these_names_are_not_taken(tiny_bert):
    config = open_checkpoint(tiny_bert(labels=None, config={"pooling": "cls", "normalize": True}), head=HEAD).config
    assert (config.pooling, config.normalize) == ("mean", False)


def test_the_head_is_chosen_on_the_command_line(tiny_bert, tmp_path):
    path = write(tiny_bert(labels=None), list(NEW.values()), {"pooling_mode": "cls"}, {"max_seq_length": 8})
    texts = tmp_path / "texts"
    texts.write_text("a good movie\nthe plot is bad\n")
    options = ["--head", HEAD, "--calibration", str(texts)]
    done = CliRunner().invoke(cli, ["quantize", str(path), "-o", str(tmp_path / "integer"), *options])
    assert done.exit_code == 0, done.output
    model = intsim.load(tmp_path / "integer")
    assert (model.head, model.config.pooling, model.config.normalize) == (HEAD, "cls", True)
    shown = json.loads(
        CliRunner().invoke(cli, ["run", str(tmp_path / "integer"), "--text", "a bad plot", "--json"]).stdout
    )
    assert (len(shown["output"]), shown["label"], shown["scale"]) == (16, None, {"multiplier": 1, "shift": 16})
    assert sum(value * value for value in shown["output"]) == pytest.approx(2**32, rel=1e-3)
    long = CliRunner().invoke(cli, ["run", str(tmp_path / "integer"), "--text", "a bad plot " * 3])
    assert isinstance(long.exception, IntsimError)
    assert "at most 8 tokens" in str(long.exception)


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        ({}, {"max_seq_length": 6}),
        ({"model_max_length": 5}, {"max_seq_length": 7}),
        ({"model_max_length": 5}, {"max_seq_length": None, "do_lower_case": False}),
        ({"truncation_side": "left"}, {"max_seq_length": 6}),
        ({"do_lower_case": False}, {"do_lower_case": True}),
        ({"do_lower_case": True}, {"do_lower_case": True}),
        ({"do_lower_case": False}, {}),
    ],
)
def test_texts_are_read_as_sentence_transformers_reads_them(tiny_bert, tokenizer, text):
    path = write(tiny_bert(labels=None), list(NEW.values()), {"embedding_dimension": 16, "pooling_mode": "mean"}, text)
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **tokenizer}))
    try:
        package = import_module("sentence_transformers")
    except ImportError as error:
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            raise
        pytest.skip(f"{error}; pip install '.[kernels]'")
    model = package.SentenceTransformer(str(path), device="cpu")
    ours = parse_tokenizer(read_tokenizer(path, head=HEAD))
    longest = open_checkpoint(path, head=HEAD).config.longest
    for each in ("A Good movie", "the plot is not bad, NOT bad at all", "a"):
        expected = model.tokenize([each])["input_ids"][0].tolist()
        assert list(encode(ours, each, longest=longest, truncate=True).ids) == expected
