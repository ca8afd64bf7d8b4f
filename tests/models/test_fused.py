# SPDX-License-Identifier: Apache-2.0
"""The fused forward pass against the plain one, bit for bit."""

import copy
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from families import tiny

import intsim
from intsim.carrier import blocks
from intsim.models import constants, integers
from intsim.profile import INTSIM, Softmax

TinyBert = Callable[..., Path]

TEXTS = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
DYNAMIC = ("zeroquant:groups=4", "zeroquant-w4:groups=4", "tm-iqr", "tm-iqr:everywhere=tm-iqr", "q8bert-dq")
ODD = """
[[activations]]
roles = "output"
bits = 12
symmetric = true

[[weights]]
names = "*"
bits = 4
granularity = "channel"

[[activations]]
names = ["*.query", "*.key", "*.value"]
bits = 6
symmetric = true

[[activations]]
names = "encoder.layer.1.output.LayerNorm"
bits = 12
symmetric = true

[[activations]]
names = ["*.LayerNorm", "*.sum"]
bits = 12
symmetric = false

[[activations]]
names = "*"
bits = 8
symmetric = true
"""


def batch(rows=5, tokens=11, seed=0):
    rng = np.random.default_rng(seed)
    ids, types = rng.integers(0, 66, (rows, tokens)), rng.integers(0, 2, (rows, tokens))
    return ids, {"attention_mask": rng.random((rows, tokens)) < 0.8, "token_type_ids": types}


def plain(model, ids, **inputs):
    with intsim.trace():
        return model(ids, **inputs).values


def refused(model):
    return [name for name, step in model._built.items() if step is None]


def prepared(model):
    return [
        name
        for name in model._built
        if name not in ("outline", "keeps") and not name.endswith((".rule", ".ratio", ".params", ".prepared"))
    ]


@pytest.mark.parametrize("hidden_act", ["gelu", "relu"])
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
@pytest.mark.parametrize("recipe", ["intsim", "ibert", "odd", *DYNAMIC])
def test_the_fused_pass_gives_the_bits_of_the_plain_one(tiny_bert: TinyBert, tmp_path, recipe, labels, hidden_act):
    (tmp_path / "odd.toml").write_text(ODD)
    path = tiny_bert(labels=labels, hidden_act=hidden_act)
    model = intsim.quantize(path, recipe=tmp_path / "odd.toml" if recipe == "odd" else recipe, calibration=TEXTS)
    for seed, rows in enumerate((5, 1, 2)):
        ids, inputs = batch(rows=rows, seed=seed)
        fused = model(ids, **inputs).values
        assert np.array_equal(fused, plain(model, ids, **inputs))
        assert np.array_equal(fused, model(ids, carrier="integer", **inputs).values)
    assert len(prepared(model)) == 14 + (2 if labels else 0)
    assert refused(model) == ([] if labels is None or recipe in DYNAMIC else ["classifier"])  # logits have 32 bits


@pytest.mark.parametrize("spare", [0, -1])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_float_copies_of_weights_are_kept_where_all_of_a_model_fit(family, spare, tmp_path, monkeypatch):
    model = intsim.quantize(tiny(family, "causal-lm", tmp_path), recipe=DYNAMIC[0], calibration=TEXTS)
    weights = {name: values for name, values in model.tensors.items() if name.endswith("weight") and values.ndim == 2}
    for table in {"wte.weight", "wpe.weight", "embed_tokens.weight"} & weights.keys():
        del weights[table]
    monkeypatch.setattr(constants, "KEPT", 4 * sum(values.size for values in weights.values()) + spare)
    model = copy.copy(model)  # which has prepared nothing
    assert {model.weight(name).keeps for name in weights} == {spare == 0}


@pytest.mark.parametrize("recipe", DYNAMIC)
def test_a_dynamic_recipe_on_another_profile_is_fused_too(tiny_bert: TinyBert, recipe):
    model = intsim.quantize(tiny_bert(), recipe=recipe, calibration=TEXTS, profile="ibert")
    ids, inputs = batch()
    assert np.array_equal(model(ids, **inputs).values, plain(model, ids, **inputs))
    assert len(prepared(model)) == 16
    assert refused(model) == []


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_probabilities_of_16_bits_are_fused_and_give_the_same_bits(tiny_bert: TinyBert, recipe):
    fine = dataclasses.replace(INTSIM, name="fine", softmax=Softmax(one=65535))
    model = intsim.quantize(tiny_bert(), recipe=recipe, calibration=TEXTS, profile=fine)
    ids, inputs = batch()
    with intsim.trace() as trace:
        expected = model(ids, **inputs).values
    probs = trace["encoder.layer.0.attention.self.probs"]
    assert probs.dtype == np.uint16
    assert probs.max() > 255
    assert np.array_equal(model(ids, **inputs).values, expected)
    assert "encoder.layer.0.attention.self.probs" in prepared(model)
    assert "encoder.layer.0.attention.self.probs" not in refused(model)
    assert np.array_equal(model(ids, carrier="integer", **inputs).values, expected)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", DYNAMIC)
def test_a_real_model_of_a_dynamic_recipe_gives_the_same_bits(minilm: Path, recipe):
    model = intsim.quantize(minilm, recipe=recipe, calibration=["a good movie .", "the plot is not bad"])
    rng = np.random.default_rng(0)
    ids, keep = rng.integers(1000, 20_000, (5, 40)), rng.random((5, 40)) < 0.8
    assert np.array_equal(model(ids, attention_mask=keep).values, plain(model, ids, attention_mask=keep))
    assert refused(model) == []


def test_the_embedded_model_is_fused_and_gives_the_same_bits():
    model = intsim.load(str(resources.files("intsim.embedded")))
    ids = np.random.default_rng(0).integers(5, 1000, (3, 40))
    assert np.array_equal(model(ids).values, plain(model, ids))
    assert refused(model) == ["classifier"]


@pytest.mark.parametrize("rule", ["tflite-double", "ita", "onnx-qlinear"])
def test_a_rule_of_another_kind_runs_plainly(tiny_bert: TinyBert, rule):
    from dataclasses import replace  # noqa: PLC0415

    from intsim.requantization import RULES  # noqa: PLC0415

    profile = replace(intsim.PROFILES["intsim"], requantization=RULES[rule])
    model = intsim.quantize(tiny_bert(), calibration=TEXTS, profile=profile)
    ids, inputs = batch()
    assert np.array_equal(model(ids, **inputs).values, plain(model, ids, **inputs))
    assert any("query" in name for name in refused(model))


@pytest.mark.parametrize("recipe", ["intsim", "zeroquant:groups=4", "tm-iqr"])  # ranges of none, tokens, sequences
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("tokens", "scores", "elements"), [(1, 1, 7), (3, 300, 64), (1000, 10**9, 10**9)])
def test_no_block_size_and_no_number_of_threads_changes_a_bit(
    tiny_bert: TinyBert, monkeypatch, recipe, rows, threads, tokens, scores, elements
):
    model = intsim.quantize(tiny_bert(labels=None), recipe=recipe, calibration=TEXTS)
    ids, inputs = batch(rows=rows)
    expected = plain(model, ids, **inputs)
    monkeypatch.setattr(integers, "BLOCK", tokens)
    monkeypatch.setattr(integers, "SCORES", scores)
    monkeypatch.setattr(blocks, "BLOCK", elements)
    monkeypatch.setattr(blocks, "FEW", 0)
    monkeypatch.setattr(blocks, "THREADS", threads)
    with ThreadPoolExecutor(threads) as pool:
        monkeypatch.setattr(blocks, "_pool", lambda: pool)
        assert np.array_equal(model(ids, **inputs).values, expected)


def test_a_sequence_has_the_bits_it_has_alone_whatever_stands_beside_it(tiny_bert: TinyBert):
    model = intsim.quantize(tiny_bert(labels=None), calibration=TEXTS)
    ids, inputs = batch(rows=16)
    together = model(ids, **inputs).values
    for row in range(16):
        alone = {name: values[row : row + 1] for name, values in inputs.items()}
        assert np.array_equal(model(ids[row : row + 1], **alone).values[0], together[row])


def test_models_run_from_several_threads_at_once_give_the_same_bits(tiny_bert: TinyBert):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS)
    ids, inputs = batch(rows=32)
    expected = model(ids, **inputs).digest
    with ThreadPoolExecutor(4) as pool:
        digests = [run.result().digest for run in [pool.submit(model, ids, **inputs) for _ in range(12)]]
    assert digests == [expected] * 12


def test_the_tensors_of_a_model_cannot_be_changed(tiny_bert: TinyBert):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS)
    for values in model.tensors.values():
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0


# What the check of a model allows: one multiplier for each channel instead of one for all


LAYER = "encoder.layer.0"
RATIOS = {
    "skip": (f"{LAYER}.attention.output.residual", 16),
    "context": (f"{LAYER}.attention.self.context", 16),
    "function": (f"{LAYER}.intermediate", 32),
    "query": (f"{LAYER}.attention.self.query", 16),
    "dense": (f"{LAYER}.attention.output.dense", 16),
    "embedding": ("embeddings.word_embeddings", 16),
}


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("recipe", ["intsim", "ibert", "zeroquant:groups=4", "tm-iqr"])
def test_a_multiplier_for_each_channel_runs_like_the_operators(tiny_bert, recipe, ratio):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS, recipe=recipe)
    name, channels = RATIOS[ratio]
    ids, inputs = batch()
    multiplier, shift = (np.broadcast_to(model.tensors[f"{name}.{part}"], channels) for part in ("multiplier", "shift"))
    several = {**model.tensors, f"{name}.multiplier": multiplier.copy(), f"{name}.shift": shift.copy()}
    same = dataclasses.replace(model, tensors=several)
    assert np.array_equal(same(ids, **inputs).values, model(ids, **inputs).values)
    several[f"{name}.multiplier"] = np.where(np.arange(channels) % 3, multiplier, -(multiplier >> 1))
    changed = dataclasses.replace(model, tensors=several)
    assert np.array_equal(changed(ids, **inputs).values, plain(changed, ids, **inputs))
    assert not np.array_equal(changed(ids, **inputs).values, model(ids, **inputs).values)


@pytest.mark.parametrize("recipe", ["intsim", "ibert", "zeroquant:groups=4", "tm-iqr"])
def test_a_negative_multiplier_of_a_residual_runs_like_the_operators(tiny_bert, recipe):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS, recipe=recipe)
    name = f"{LAYER}.output.residual.multiplier"
    for factor in (-1, -4):
        changed = dataclasses.replace(model, tensors={**model.tensors, name: factor * model.tensors[name] // 4})
        ids, inputs = batch()
        assert np.array_equal(changed(ids, **inputs).values, plain(changed, ids, **inputs))


@pytest.mark.parametrize("zero_point", [(0, 7), (3, 3)])
def test_groups_of_what_a_function_gives_run_like_the_operators(tiny_bert, zero_point):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS)
    form = model.formats["pooler"]
    grouped = dataclasses.replace(form, zero_point=zero_point, scale=intsim.Dyadic([1, 1], [7, 7]))
    changed = dataclasses.replace(model, formats={**model.formats, "pooler": grouped})
    ids, inputs = batch()
    assert np.array_equal(changed(ids, **inputs).values, plain(changed, ids, **inputs))


@pytest.mark.parametrize("bits", [17, 24, 32])
@pytest.mark.parametrize("recipe", ["intsim", "ibert", "zeroquant:groups=4"])
@pytest.mark.parametrize("total", ["embeddings.sum", f"{LAYER}.attention.output.sum"])
def test_a_layer_norm_of_more_than_16_bits_has_the_bits_of_the_plain_one(tiny_bert, recipe, bits, total):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS, recipe=recipe)
    wide = dataclasses.replace(model.formats[total], range=intsim.IntRange(bits))
    terms = [name for name in model.tensors if name.startswith(total.removesuffix("sum")) and name.endswith(".shift")]
    finer = {name: model.tensors[name] - (bits - 16) for name in terms if ".wide" not in name and "Norm" not in name}
    formats = {**model.formats, total: wide}
    changed = dataclasses.replace(model, formats=formats, tensors={**model.tensors, **finer})
    ids, inputs = batch()
    with intsim.trace() as trace:
        expected = changed(ids, **inputs).values
    assert np.abs(trace[total].astype(np.int64)).max() > 2**15
    assert np.array_equal(changed(ids, **inputs).values, expected)
