# SPDX-License-Identifier: Apache-2.0
"""The tiny checkpoints that the tests of every family start from are such as transformers' users have."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from families import ACTIVATIONS, DECODERS, FAMILIES, expected, heads, load, tiny
from safetensors.numpy import load_file

FAIRSEQ = ("roberta", "xlm-roberta", "camembert", "ibert")


class Tiny(NamedTuple):
    family: str
    head: str
    path: Path


@pytest.fixture(
    scope="module",
    params=[(family, head) for family in FAMILIES for head in heads(family)],
    ids="-".join,
)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    family, head = request.param
    return Tiny(family, head, tiny(family, head, tmp_path_factory.mktemp("tiny")))


def test_it_gives_the_outputs_of_its_head(checkpoint: Tiny) -> None:
    outputs = expected(checkpoint.path, [[2, 7, 30, 3]])  # with a tensor missing or surplus it does not load
    layers = 3 if checkpoint.family == "albert" else 2
    channels = 24 if checkpoint.family in DECODERS else 20
    assert outputs.pop("hidden_states").shape == (layers + 1, 1, 4, channels)
    shapes = {
        "none": {"last_hidden_state": (1, 4, channels), "pooler_output": (1, 20)},
        "regression": {"logits": (1, 1)},
        "two-classes": {"logits": (1, 2)},
        "token-classification": {"logits": (1, 4, 5)},
        "question-answering": {"start_logits": (1, 4), "end_logits": (1, 4)},
        "masked-lm": {"logits": (1, 4, 70)},
        "causal-lm": {"logits": (1, 4, 70)},
        "causal-lm-tied": {"logits": (1, 4, 70)},
        "masked-lm-untied": {"logits": (1, 4, 70)},
    }.get(checkpoint.head, {"logits": (1, 3)})
    if checkpoint.family in {"distilbert", "electra", *DECODERS}:
        shapes.pop("pooler_output", None)
    assert {name: values.shape for name, values in outputs.items()} == shapes
    assert {values.dtype for values in outputs.values()} == {np.dtype(np.float64)}


def test_every_parameter_is_drawn_and_stored_once(checkpoint: Tiny) -> None:
    stored = load_file(checkpoint.path / "model.safetensors")
    for name, _ in load(checkpoint.path).named_buffers():
        stored.pop(name, None)
    decoders = [
        name
        for name in stored
        if name.endswith(("decoder.weight", "projector.weight", "lm_head.weight", "embed_out.weight"))
    ]
    assert len(decoders) == (checkpoint.head in {"masked-lm-untied", "causal-lm"})
    for name, values in stored.items():
        assert values.dtype == np.float32
        drawn = values[1:] if checkpoint.family == "mobilebert" and "word_embeddings" in name else values
        assert not values[: len(values) - len(drawn)].any()  # a row of pads
        assert drawn.all(), name
        assert np.unique(drawn).size > 0.99 * drawn.size, name
        centre = 1 if "norm" in name.lower() and name.endswith("weight") else 0
        assert abs(drawn.mean() - centre) < 0.3, name


def test_padding_on_the_right_changes_nothing(checkpoint: Tiny) -> None:
    family, _, path = checkpoint
    pad = FAMILIES[family].get("pad_token_id", 0)
    pair = [0, 0, 1, 1, 1, 1] if family not in {*FAIRSEQ, *DECODERS, "distilbert"} else None
    texts = [2, 7, 30, 9, 41, 3], [2, 12, 33, 3]
    mask = [[1] * 6, [1] * 4 + [0] * 2]
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if family in DECODERS and "id2label" in config and config.get("pad_token_id") is None:
        with pytest.raises(ValueError, match="batch sizes > 1"):  # it asks ids, not the mask, where a text ends
            expected(path, [texts[0], [*texts[1], pad, pad]], mask)
        return
    batch = expected(path, [texts[0], [*texts[1], pad, pad]], mask, None if pair is None else [pair, pair])
    for row, ids in enumerate(texts):
        alone = expected(path, [ids], None, None if pair is None else [pair[: len(ids)]])
        for name, values in alone.items():
            axis = 1 if name == "hidden_states" else 0
            found = batch[name].take([row], axis)
            found = found[tuple(slice(size) for size in values.shape)]  # without what stands on the pads
            np.testing.assert_allclose(found, values, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_decides_every_byte(tmp_path: Path, family: str) -> None:
    def weights(name: str, seed: int) -> bytes:
        return (tiny(family, "two-classes", tmp_path / name, seed=seed) / "model.safetensors").read_bytes()

    assert weights("first", 0) == weights("again", 0)
    assert weights("other", 1) != weights("again", 0)


@pytest.mark.parametrize("family", FAIRSEQ)
def test_positions_are_counted_over_the_tokens_that_are_no_pads(tmp_path: Path, family: str) -> None:
    tiny(family, "none", tmp_path)
    ids = [2, 7, 1, 9, 3]  # with a pad inside
    alone = expected(tmp_path, [ids])["last_hidden_state"]
    left = expected(tmp_path, [[1, 1, *ids]], [[0, 0, 1, 1, 1, 1, 1]])["last_hidden_state"][:, 2:]
    np.testing.assert_allclose(left, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("family", "field"), [("bert", "hidden_act"), ("distilbert", "activation")])
def test_a_field_of_the_configuration_is_overridden(tmp_path: Path, family: str, field: str) -> None:
    seen = {}
    for name in ACTIVATIONS:
        tiny(family, "none", tmp_path / name, **{field: name})
        seen[name] = expected(tmp_path / name, [[2, 7, 30, 3]])["last_hidden_state"]
    alike = {frozenset((a, b)) for a in seen for b in seen if a != b and np.abs(seen[a] - seen[b]).max() < 1e-6}
    tanh = ("gelu_fast", "gelu_new"), ("gelu_fast", "gelu_pytorch_tanh"), ("gelu_new", "gelu_pytorch_tanh")
    assert alike == {frozenset(pair) for pair in (("gelu", "gelu_python"), *tanh)}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in DECODERS])
def test_its_tokenizer_reads_text_within_the_vocabulary(tmp_path: Path, family: str) -> None:
    tiny(family, "none", tmp_path)
    from transformers import AutoTokenizer  # noqa: PLC0415 - tiny has seen to it that it is there

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    kind = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]["type"]
    kinds = {"roberta": "BPE", "ibert": "BPE", "xlm-roberta": "Unigram", "camembert": "Unigram", "albert": "Unigram"}
    assert kind == kinds.get(family, "WordPiece")
    assert tokenizer.pad_token_id == config["pad_token_id"]
    assert len(tokenizer) <= config["vocab_size"]
    single = tokenizer("a good movie.")["input_ids"]
    pair = tokenizer("a good movie.", "the plot is not bad")["input_ids"]
    assert single == pair[: len(single)]
    assert (single[0], single[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.unk_token_id not in pair
    assert tokenizer.mask_token_id in tokenizer(f"a {tokenizer.mask_token} movie")["input_ids"]
    assert len(pair) <= tokenizer.model_max_length
    longest = [single[1]] * tokenizer.model_max_length
    assert np.isfinite(expected(tmp_path, [longest])["hidden_states"]).all()
    with pytest.raises((IndexError, RuntimeError)):  # one token more has no position
        expected(tmp_path, [[*longest, single[1]]])
