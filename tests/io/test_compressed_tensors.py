# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that compressed-tensors quantized to 8 bits: their integers and scales are taken over as they are."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from families import expected, tiny
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import intsim
from intsim.cli import main
from intsim.convert.simulate import simulation
from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import parse_tokenizer
from intsim.models.formats import Dynamic
from intsim.recipes import load_recipe
from intsim.reference.world import run
from intsim.report.rules import summarise_rules

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good")
NOT_LINEAR: Final = ("embed_tokens", "embed_in", "embeddings", "lm_head", "embed_out", "classifier")  # or ignored
IDS: Final = np.array([[5, 9, 2, 44, 31, 7, 7, 60]])
TOKEN: Final = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
STATIC: Final = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "tensor", "dynamic": False}
NOT_STATED: Final = {"group_size": None, "block_structure": None, "actorder": None, "observer": "minmax"}


def quantized(
    source: Path,
    folder: Path,
    *,
    strategy: str = "channel",
    group_size: int | None = None,
    inputs: Mapping[str, Any] | None = TOKEN,
    zero_point: int | None = None,
    change: Callable[[dict[str, NDArray[Any]]], Any] = lambda _: None,
    config: Mapping[str, Any] | None = None,
    **weights: Any,
) -> Path:
    """Write the linear layers of a checkpoint as llm-compressor does: all but the head, as int8 of all 256 codes."""
    stored: dict[str, NDArray[Any]] = {}
    for name, values in load_file(source / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if values.ndim < 2 or layer.endswith(
            ("embed_tokens", "embed_in", "embeddings", "lm_head", "embed_out", "classifier")
        ):
            stored[name] = values
            continue
        rows = values.reshape(
            {"tensor": 1, "channel": len(values), "group": values.size // (group_size or 1)}[strategy], -1
        )
        scale = (np.abs(rows).max(axis=1, keepdims=True) / 127.5).astype(np.float32)
        stored[name] = np.rint(rows / scale).clip(-128, 127).astype(np.int8).reshape(values.shape)
        stored[f"{layer}.weight_scale"] = scale.reshape(
            {"tensor": (1,), "channel": (-1, 1), "group": (len(values), -1)}[strategy]
        )
        if inputs is not None and not inputs["dynamic"]:
            stored[f"{layer}.input_scale"] = np.array([0.0371 if "attn" in layer else 0.05], np.float32)
            if zero_point is not None:
                stored[f"{layer}.input_zero_point"] = np.array([zero_point], np.int8)
    change(stored)
    values = json.loads((source / "config.json").read_text())
    scheme = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": strategy, "dynamic": False}
    group = {
        "targets": ["Linear"],
        "weights": {**NOT_STATED, **scheme, "group_size": group_size, **weights},
        "input_activations": None if inputs is None else {**NOT_STATED, **inputs},
        "output_activations": None,
    }
    values["quantization_config"] = {
        "config_groups": {"group_0": group},
        "format": "int-quantized",
        "global_compression_ratio": 1.4,
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        **(config or {}),
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    save_file(stored, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny("llama", "causal-lm", tmp_path_factory.mktemp("llama"))


SCHEMES: Final[Mapping[str, Mapping[str, Any]]] = {
    "channel, by token": {},
    "tensor, by token": {"strategy": "tensor"},
    "channel, static": {"inputs": STATIC},
    "channel, static from -128": {"inputs": {**STATIC, "symmetric": False}, "zero_point": -5},
    "groups, by token": {"strategy": "group", "group_size": 12},
    "groups, static": {"strategy": "group", "group_size": 12, "inputs": STATIC},
    "channel, inputs left open": {"inputs": None},
}


def _bare(name: str) -> str:
    return name.removeprefix("model.")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_float_model_is_the_dequantized_one(scheme: str, llama: Path, tmp_path: Path) -> None:
    path = quantized(llama, tmp_path / "int8", **SCHEMES[scheme])
    stored = load_file(path / "model.safetensors")
    plain = {}
    for name, values in stored.items():
        if values.dtype == np.int8 and name.endswith(".weight"):
            scale = stored[f"{name}_scale"]
            columns = values.shape[1] // (scale.shape[1] if scale.ndim > 1 else 1)
            blocks = values.reshape(len(values), -1, columns).astype(np.float32)
            plain[name] = (blocks * scale.reshape(-1 if scale.ndim > 1 else 1, scale.shape[-1], 1)).reshape(
                values.shape
            )
        elif not name.endswith(("scale", "zero_point")):
            plain[name] = values
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    save_file(plain, tmp_path / "model.safetensors")
    file = open_checkpoint(path)
    for name, values in plain.items():
        np.testing.assert_allclose(file.load(_bare(name)), values, rtol=2**-23, atol=0)
    assert file.dtype("layers.1.mlp.up_proj.weight") == "I8"
    weights = {name: file.load(name) for name in file.names}
    mask, types = np.ones_like(IDS, bool), np.zeros_like(IDS)
    logits = run(file.family, weights, file.config, file.head, IDS, attention_mask=mask, token_type_ids=types)
    reference = expected(tmp_path, IDS)["logits"]
    np.testing.assert_allclose(logits, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_integers_and_scales_are_taken_over(scheme: str, llama: Path, tmp_path: Path) -> None:
    path = quantized(llama, tmp_path, **SCHEMES[scheme])
    model = intsim.quantize(path, recipe="zeroquant", profile="intsim-wide", calibration=TEXTS)
    stored = load_file(path / "model.safetensors")
    taken = [name for name, values in stored.items() if values.dtype == np.int8 and name.endswith(".weight")]
    assert len(taken) == 14
    for name in taken:
        np.testing.assert_array_equal(model.tensors[_bare(name)], stored[name])
    assert min(stored[name].min() for name in taken) == -128
    read = "layers.0.self_attn.input"
    inputs = SCHEMES[scheme].get("inputs", TOKEN)
    if inputs is None or inputs["dynamic"]:
        assert isinstance(model.dynamic[read], Dynamic)
        assert model.dynamic[read].per == "token"
        assert read not in model.formats
    else:
        form = model.formats[read]
        scale = np.ldexp(float(form.scale.multiplier), -int(form.scale.shift))
        assert scale == np.float32(0.0371)
        assert (form.zero_point, form.range.min, form.range.max) == (SCHEMES[scheme].get("zero_point", 0), -128, 127)
        assert read not in model.dynamic
    if scheme == "channel, static":  # and nothing but these scales is in the ratio that follows the product
        name = "layers.0.self_attn.q_proj"
        ratio, s_y = model.ratio(name), model.formats[name].scale
        s_w = stored[f"model.{name}.weight_scale"][:, 0].astype(np.float64)
        expected_ratio = np.float32(0.0371) * s_w / np.ldexp(float(s_y.multiplier), -int(s_y.shift))
        np.testing.assert_allclose(np.ldexp(1.0 * ratio.multiplier, -ratio.shift), expected_ratio, rtol=2**-29, atol=0)
    assert "lm_head.input" in model.dynamic  # which the file leaves to the recipe


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_integer_model_agrees_with_its_simulation_on_reals(scheme: str, llama: Path, tmp_path: Path) -> None:
    path = quantized(llama, tmp_path, **SCHEMES[scheme])
    model = intsim.quantize(path, recipe="zeroquant", profile="intsim-wide", calibration=TEXTS)
    ids = np.array([parse_tokenizer(str(model.tokenizer)).encode(" ".join(TEXTS)).ids])  # within the ranges
    mask, types = np.ones_like(ids, bool), np.zeros_like(ids)
    simulated = simulation(path, model)(ids, mask, types)
    result = model(ids)
    reals = result.values * np.ldexp(1.0, -int(result.scale.shift)) * int(result.scale.multiplier)
    cosine = (reals * simulated).sum() / np.sqrt((reals**2).sum() * (simulated**2).sum())
    coarse = SCHEMES[scheme].get("inputs") is not None  # the steps of 0.05 that this file gives small activations
    assert cosine > (0.998 if coarse else 0.9995), cosine  # 0.9999 where nothing is taken over


def test_inputs_are_quantized_while_running_whatever_the_recipe_does(llama: Path, tmp_path: Path) -> None:
    model = intsim.quantize(quantized(llama, tmp_path), recipe="w8a8", calibration=TEXTS)
    assert set(model.dynamic) == {name for name in open_checkpoint(tmp_path).outline.inputs if name != "lm_head.input"}


def test_an_encoder_is_taken_over_too(tmp_path: Path) -> None:
    source = tiny("bert", "two-classes", tmp_path / "float")
    path = quantized(source, tmp_path / "int8")
    model = intsim.quantize(path, recipe="zeroquant", calibration=TEXTS)
    name = "encoder.layer.1.intermediate.dense.weight"
    np.testing.assert_array_equal(model.tensors[name], load_file(path / "model.safetensors")[f"bert.{name}"])
    assert model(IDS).values.shape == (1, 2)


def test_stacked_queries_keys_and_values_are_taken_apart(tmp_path: Path) -> None:
    source = tiny("gpt_neox", "causal-lm", tmp_path / "float")
    path = quantized(source, tmp_path / "int8")
    stored = load_file(path / "model.safetensors")
    stacked = "gpt_neox.layers.0.attention.query_key_value.weight"
    by_head = stored[stacked].reshape(4, 3, 6, 24)
    file = open_checkpoint(path)
    for part, name in enumerate(("query", "key", "value")):
        codes, scale = file.codes(f"layers.0.attention.{name}.weight")
        np.testing.assert_array_equal(codes, by_head[:, part].reshape(24, 24))
        np.testing.assert_array_equal(codes * scale, file.load(f"layers.0.attention.{name}.weight"))


def test_rules_are_shown_as_stored(llama: Path, tmp_path: Path) -> None:
    path = quantized(llama, tmp_path, inputs=STATIC)
    shown = summarise_rules(load_recipe("zeroquant"), path)
    weights = {row["name"]: row for row in shown["weights"]}
    assert weights["layers.0.mlp.up_proj.weight"]["range"] == "as stored"
    assert weights["layers.0.mlp.up_proj.weight"]["scales"] == "channel"
    assert weights["lm_head.weight"]["range"] == "min-max"
    inputs = {row["name"]: row["range"] for row in shown["inputs"]}
    assert inputs["layers.0.mlp.input"] == "as stored"
    assert inputs["lm_head.input"] == "each token"


def test_nothing_is_said_of_groups_that_a_recipe_would_have_given_to_what_is_taken_over(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    intsim.quantize(llama, recipe="zeroquant", calibration=TEXTS)
    assert "channels are in" in caplog.text
    caplog.clear()
    path = quantized(llama, tmp_path, inputs=STATIC)
    intsim.quantize(path, recipe="zeroquant", calibration=TEXTS)
    assert "channels are in" not in caplog.text
    assert summarise_rules(load_recipe("zeroquant"), path)["notes"] == []


def test_an_integer_model_keeps_what_the_checkpoint_said(llama: Path, tmp_path: Path) -> None:
    static = {**STATIC, "symmetric": False}
    path = quantized(llama, tmp_path / "float", strategy="group", group_size=12, inputs=static, zero_point=-5)
    model = intsim.quantize(path, recipe="zeroquant", calibration=TEXTS)
    model.save(tmp_path / "integers")
    kept = intsim.load(tmp_path / "integers").recipe
    stored = kept["stored"]
    assert {**kept, "stored": stored} == {**load_recipe("zeroquant").source, "stored": stored}
    weights, inputs = stored["weights"], stored["inputs"]
    assert {(rule["bits"], rule["granularity"], rule["groups"]) for rule in weights} == {
        (8, "group", 2),  # 24 columns
        (8, "group", 3),  # 36
    }
    names = sorted(name for rule in weights for name in rule["names"])
    assert names == sorted(open_checkpoint(path).quantized)
    assert [{**rule, "names": []} for rule in inputs] == [
        {"names": [], "bits": 8, "symmetric": False, "range": "static"}
    ]
    assert "layers.0.mlp.input" in inputs[0]["names"]
    assert "lm_head.input" not in inputs[0]["names"]


def test_an_integer_model_of_floats_keeps_the_recipe_alone(llama: Path) -> None:
    assert intsim.quantize(llama, calibration=TEXTS).recipe == load_recipe("intsim").source


MLP: Final = {"targets": ["re:.*mlp.*"], "weights": {"strategy": "channel"}, "input_activations": TOKEN}
Q, K = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"config": {"quant_method": "gptq"}},
            "quant_method of quantization_config in config.json must be 'compressed-tensors', got 'gptq'",
        ),
        (
            {"config": {"quant_method": None}},
            "quant_method of quantization_config in config.json must be 'compressed-tensors', got nothing",
        ),
        (
            {"config": {"format": "pack-quantized"}},
            "format of quantization_config in config.json must be 'int-quantized', got 'pack-quantized'",
        ),
        (
            {"config": {"quantization_status": "frozen"}},
            "quantization_status of quantization_config in config.json must be 'compressed', got 'frozen'",
        ),
        (
            {"config": {"kv_cache_scheme": TOKEN}},
            f"kv_cache_scheme of quantization_config in config.json must be left out, got {TOKEN!r}",
        ),
        (
            {"config": {"config_groups": {}}},
            "config_groups of quantization_config in config.json must be an object with one group or more, got {}",
        ),
        (
            {"config": {"config_groups": {"group_0": MLP}}},
            "quantization_config in config.json must have a group for layer 'layers.0.self_attn.k_proj', got none",
        ),
        (
            {"config": {"config_groups": {"group_0": {**MLP, "targets": ["re:("]}}}},
            (
                "targets of quantization_config in config.json must be names or patterns, got 're:(': "
                "missing ), unterminated subpattern at position 0"
            ),
        ),
        ({"num_bits": 4}, "num_bits of weights of the group of LAYER in config.json must be 8, got 4"),
        ({"type": "float"}, "type of weights of the group of LAYER in config.json must be 'int', got 'float'"),
        ({"symmetric": False}, "symmetric of weights of the group of LAYER in config.json must be True, got False"),
        (
            {"actorder": "group"},
            (
                "actorder of weights of the group of LAYER in config.json must be False or 'weight' or "
                "'static', got 'group'"
            ),
        ),
        (
            {"inputs": {**STATIC, "strategy": "token"}},
            (
                "input_activations of the group of LAYER in config.json must be of one static range, or symmetric and "
                "dynamic by token, got strategy token, dynamic False, symmetric True"
            ),
        ),
        (
            {"inputs": {**TOKEN, "symmetric": False}},
            (
                "input_activations of the group of LAYER in config.json must be of one static range, or symmetric and "
                "dynamic by token, got strategy token, dynamic True, symmetric False"
            ),
        ),
        (
            {
                "strategy": "group",
                "group_size": 12,
                "config": None,
                "inputs": STATIC,
                "change": lambda t: t.update({f"{K}.weight_scale": np.ones((12, 1), np.float32)}),
            },
            (
                "tensor 'layers.0.self_attn.k_proj.weight_scale' of FILE must be F32 or F16 or BF16 of shape "
                "(12, 2) by config.json, got F32 (12, 1)"
            ),
        ),
        (
            {"change": lambda t: t.update({f"{K}.weight": t[f"{K}.weight"].astype(np.float32)})},
            "tensor 'layers.0.self_attn.k_proj.weight' of FILE must be an I8 matrix, got F32 (12, 24)",
        ),
        (
            {"change": lambda t: t.update({f"{K}.weight_zero_point": np.ones((12, 1), np.int8)})},
            (
                "tensor 'layers.0.self_attn.k_proj.weight_zero_point' of FILE must be 0, as of symmetric "
                "weights, got others"
            ),
        ),
        (
            {"change": lambda t: t.update({f"{K}.input_scale": np.ones(1, np.float32)})},
            "layer 'layers.0.self_attn.k_proj' of FILE must have no input_scale, its input being token, got one",
        ),
        (
            {"inputs": STATIC, "change": lambda t: t.pop(f"{K}.input_scale")},
            "layer 'layers.0.self_attn.k_proj' of FILE must have an input_scale, being static, got none",
        ),
        (
            {"change": lambda t: t.pop(f"{K}.weight_scale")},
            (
                "tensor 'layers.0.self_attn.k_proj.weight' of FILE must come with "
                "layers.0.self_attn.k_proj.weight_scale, being I8, got no such tensor"
            ),
        ),
        (
            {"change": lambda t: t.pop(f"{K}.weight")},
            (
                "tensor 'layers.0.self_attn.k_proj.weight_scale' of FILE must be the scale of "
                "layers.0.self_attn.k_proj.weight, got no such tensor"
            ),
        ),
        (
            {"change": lambda t: t.update({"model.layers.0.self_attn.k_scale": np.ones(1, np.float32)})},
            (
                "checkpoint DIR must hold the tensors that its config.json speaks of, got "
                "'layers.0.self_attn.k_scale'; correct one of the two"
            ),
        ),
        (
            {
                "change": lambda t: t.update(
                    {
                        "model.embed_tokens.weight": np.ones((70, 24), np.int8),
                        "model.embed_tokens.weight_scale": np.ones((70, 1), np.float32),
                    }
                )
            },
            "checkpoint DIR must hold integers of linear layers alone, got those of 'embed_tokens.weight'",
        ),
    ],
)
def test_what_is_quantized_otherwise_is_refused(
    options: Mapping[str, Any], sentence: str, llama: Path, tmp_path: Path
) -> None:
    path = quantized(llama, tmp_path, **options)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path)
    message = str(refused.value).replace(str(path / "model.safetensors"), "FILE").replace(str(path), "DIR")
    assert message == sentence.replace("LAYER", "'layers.0.mlp.down_proj'")


def test_two_scales_of_one_input_are_refused(llama: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, NDArray[Any]]) -> None:
        tensors[f"{Q}.input_scale"] = np.array([0.5], np.float32)

    path = quantized(llama, tmp_path, inputs=STATIC, change=change)
    with pytest.raises(
        CheckpointError, match=r"must have one quantized input, since both read .*self_attn.input', got two"
    ):
        intsim.quantize(path, recipe="zeroquant", calibration=TEXTS)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_are_none_are_refused(scale: float, llama: Path, tmp_path: Path) -> None:
    path = quantized(llama, tmp_path, change=lambda t: t[f"{K}.weight_scale"].fill(scale))
    with pytest.raises(CheckpointError, match="must be positive, finite numbers"):
        open_checkpoint(path).load("layers.0.self_attn.k_proj.weight")


@pytest.mark.parametrize("recipe", ["intsim", "zeroquant:groups=4"])
@pytest.mark.parametrize("scheme", ["channel, by token", "channel, static"])
def test_perplexity_is_told_beside_that_of_the_stored_reals(
    llama: Path,
    tmp_path: Path,
    scheme: str,
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = quantized(llama, tmp_path / "float", **SCHEMES[scheme])
    intsim.quantize(path, recipe=recipe, calibration=TEXTS).save(tmp_path / "integers")
    (tmp_path / "texts").write_text("\n".join(TEXTS * 3))
    how = ("--task", "perplexity", "--data", str(tmp_path / "texts"), "--reference", str(path), "--json")
    monkeypatch.setattr(sys, "argv", ["intsim", "eval", str(tmp_path / "integers"), *how])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    assert stop.value.code in (0, None), printed.err
    told = json.loads(printed.out)
    assert told["metrics"]["tokens"] == told["reference"]["tokens"] > 20
    assert told["metrics"]["perplexity"] == pytest.approx(told["reference"]["perplexity"], rel=0.05)
    assert told["metrics"]["perplexity"] != told["reference"]["perplexity"]


@pytest.mark.parametrize(("recipe", "got"), [("peg", "a permutation"), ("smoothquant", r"smooth = 0\.5")])
def test_integers_and_a_recipe_that_changes_weights_are_refused(recipe: str, got: str, tmp_path: Path) -> None:
    path = quantized(tiny("bert", "two-classes", tmp_path / "float"), tmp_path / "int8")
    with pytest.raises(IntsimError, match=f"must leave weights as they are for integers to be taken over, got {got}"):
        intsim.quantize(path, recipe=recipe, calibration=TEXTS)
