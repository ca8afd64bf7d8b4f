# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.convert: every constant against exact rationals of the float checkpoint, and what is refused."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import intsim
from intsim.convert import default_calibration
from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.reference.world import run

TinyBert = Callable[..., Path]
Weights = Mapping[str, NDArray[np.float64]]

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad", "xyz " * 6)
LAYER: Final = "encoder.layer.1"
FIXED: Final = {"gelu": 10, "exp": 11, "tanh": 12, "logits": 16}  # fraction bits of the profiles' fixed-point formats


@pytest.fixture(scope="module")
def source(tiny_bert: TinyBert) -> Path:
    return tiny_bert()


@pytest.fixture(scope="module", params=["intsim", "ibert"])
def model(source: Path, request: pytest.FixtureRequest) -> intsim.IntegerModel:
    return intsim.quantize(source, calibration=TEXTS, recipe=request.param)


@pytest.fixture(scope="module")
def weights(source: Path) -> Weights:
    checkpoint = open_checkpoint(source)
    return {name: checkpoint.load(name) for name in checkpoint.names}


def _scale(model: intsim.IntegerModel, name: str) -> Fraction:
    scale = model.formats[name].scale
    return Fraction(int(scale.multiplier), 2 ** int(scale.shift))


def _weight_scales(model: intsim.IntegerModel, weights: Weights, name: str) -> list[Fraction]:
    """Return the exact scale of each output channel: the float32 nearest to its largest weight over 127."""
    w = np.abs(weights[f"{name}.weight"])
    rows = w if model.tensors[f"{name}.multiplier"].ndim else w.reshape(1, -1)
    return [Fraction(float(np.float32(largest / 127))) for largest in rows.max(axis=1)]


def _assert_nearest(model: intsim.IntegerModel, name: str, ratios: Sequence[Fraction]) -> None:
    """Hold the dyadic ``name`` to the exact ratios: half a unit of its multiplier, and 2**-50 of the ratio.

    The latter is for the float64 product of scales the converter rounds, a handful of roundings of 2**-53.
    """
    multipliers = np.atleast_1d(model.tensors[f"{name}.multiplier"]).tolist()
    shifts = np.atleast_1d(model.tensors[f"{name}.shift"]).tolist()
    for multiplier, shift, ratio in zip(multipliers, shifts, ratios, strict=True):
        error = abs(multiplier - ratio * 2**shift)
        assert error <= Fraction(1, 2) + abs(multiplier) * Fraction(1, 2**50), (name, float(error))


def _assert_full(model: intsim.IntegerModel, name: str) -> None:
    """Require that no bit of the multiplier is wasted: 31 bits."""
    assert (np.atleast_1d(np.abs(model.tensors[f"{name}.multiplier"])) >= 2**30).all()


# ---- scales to dyadics


def test_weights_are_the_nearest_codes(model: intsim.IntegerModel, weights: Weights) -> None:
    for name, codes in model.tensors.items():
        if name.endswith("LayerNorm.weight") or not name.endswith(".weight"):
            continue
        scales = _weight_scales(model, weights, name.removesuffix(".weight"))
        for row, (w_row, w_q_row) in enumerate(zip(weights[name].tolist(), codes.tolist(), strict=True)):
            for w, w_q in zip(w_row, w_q_row, strict=True):
                assert abs(Fraction(w) / scales[row % len(scales)] - w_q) <= Fraction(1, 2)
        assert codes.dtype == np.int8
        assert np.abs(codes.astype(int)).max() == 127


def test_dyadics_of_the_layers_are_the_nearest_to_the_exact_ratios(
    model: intsim.IntegerModel, weights: Weights
) -> None:
    x = "embeddings.LayerNorm"
    for layer in ("encoder.layer.0", LAYER):
        for part in ("query", "key", "value"):
            name = f"{layer}.attention.self.{part}"
            out = _scale(model, name)
            _assert_nearest(model, name, [s * _scale(model, x) / out for s in _weight_scales(model, weights, name)])
            _assert_full(model, name)
        name, x = f"{layer}.intermediate.dense", f"{layer}.attention.output.LayerNorm"
        ratios = [s * _scale(model, x) * 2 ** FIXED["gelu"] for s in _weight_scales(model, weights, name)]
        _assert_nearest(model, name, ratios)
        _assert_full(model, name)
        x = f"{layer}.output.LayerNorm"
    ratios = [s * _scale(model, x) * 2 ** FIXED["tanh"] for s in _weight_scales(model, weights, "pooler.dense")]
    _assert_nearest(model, "pooler.dense", ratios)
    _assert_nearest(model, "pooler", [Fraction(1, 2**14) / _scale(model, "pooler")])
    ratios = [s * _scale(model, "pooler") * 2 ** FIXED["logits"] for s in _weight_scales(model, weights, "classifier")]
    _assert_nearest(model, "classifier", ratios)
    assert _scale(model, "classifier") == Fraction(1, 2**16)


def test_dyadics_of_attention_are_the_nearest_to_the_exact_ratios(model: intsim.IntegerModel) -> None:
    name = f"{LAYER}.attention.self"
    scores = _scale(model, f"{name}.query") * _scale(model, f"{name}.key")
    _assert_nearest(model, f"{name}.scores", [scores / 2 * 2 ** FIXED["exp"]])  # heads of 4 channels: 1 / sqrt(4)
    _assert_full(model, f"{name}.scores")
    one = {"intsim": 255, "ibert": 256}[model.profile.name]
    _assert_nearest(model, f"{name}.context", [_scale(model, f"{name}.value") / one / _scale(model, f"{name}.context")])
    _assert_full(model, f"{name}.context")


def test_dyadics_after_gelu_are_the_nearest_to_the_exact_ratios(model: intsim.IntegerModel) -> None:
    gelu = model.profile.gelu
    output_scale = -Fraction(gelu.a) / 4 * Fraction(2) ** (gelu.output_shift - 3 * FIXED["gelu"])
    _assert_nearest(model, f"{LAYER}.intermediate", [output_scale / _scale(model, f"{LAYER}.intermediate")])


def test_dyadics_after_relu_are_the_nearest_to_the_exact_ratios(tiny_bert: TinyBert) -> None:
    model = intsim.quantize(tiny_bert(hidden_act="relu"), calibration=TEXTS)
    ratio = Fraction(1, 2 ** FIXED["gelu"]) / _scale(model, f"{LAYER}.intermediate")
    _assert_nearest(model, f"{LAYER}.intermediate", [ratio])


@pytest.mark.parametrize("block", ["attention.output", "output"])
def test_dyadics_of_residual_sums_are_the_nearest_to_the_exact_ratios(
    model: intsim.IntegerModel, weights: Weights, block: str
) -> None:
    name = f"{LAYER}.{block}"
    x, skip = {
        "attention.output": (f"{LAYER}.attention.self.context", "encoder.layer.0.output.LayerNorm"),
        "output": (f"{LAYER}.intermediate", f"{LAYER}.attention.output.LayerNorm"),
    }[block]
    total = _scale(model, f"{name}.sum")
    ratios = [s * _scale(model, x) / total for s in _weight_scales(model, weights, f"{name}.dense")]
    _assert_nearest(model, f"{name}.dense", ratios)
    _assert_nearest(model, f"{name}.residual", [_scale(model, skip) / total])


def test_dyadics_of_the_embeddings_are_the_nearest_to_the_exact_ratios(
    model: intsim.IntegerModel, weights: Weights
) -> None:
    for kind in ("word", "position", "token_type"):
        name = f"embeddings.{kind}_embeddings"
        (scale,) = _weight_scales(model, weights, name)
        _assert_nearest(model, name, [scale / _scale(model, "embeddings.sum")])


def test_formats_hold_the_scale_exactly_and_a_zero_point_that_is_a_code(model: intsim.IntegerModel) -> None:
    for name, format_ in model.formats.items():
        assert Fraction(float(np.float32(float(_scale(model, name))))) == _scale(model, name)
        assert format_.range.min <= format_.zero_point <= format_.range.max


# ---- biases


def test_biases_are_the_nearest_integers_less_the_folded_zero_point(
    model: intsim.IntegerModel, weights: Weights
) -> None:
    inputs = {
        f"{LAYER}.attention.self.query": "encoder.layer.0.output.LayerNorm",
        f"{LAYER}.attention.output.dense": f"{LAYER}.attention.self.context",
        f"{LAYER}.intermediate.dense": f"{LAYER}.attention.output.LayerNorm",
        f"{LAYER}.output.dense": f"{LAYER}.intermediate",
        "pooler.dense": f"{LAYER}.output.LayerNorm",
        "classifier": "pooler",
    }
    for name, x in inputs.items():
        zero_point = model.formats[x].zero_point
        w_sums = model.tensors[f"{name}.weight"].astype(int).sum(axis=1).tolist()
        for b_q, b, w_sum, w_scale in zip(
            model.tensors[f"{name}.bias"].tolist(),
            weights[f"{name}.bias"].tolist(),
            w_sums,
            _weight_scales(model, weights, name),
            strict=True,
        ):
            exact = Fraction(b) / (w_scale * _scale(model, x))
            assert abs(b_q + zero_point * w_sum - exact) <= Fraction(1, 2) + Fraction(1, 2**20)


def test_a_folded_zero_point_equals_subtracting_it(source: Path, weights: Weights) -> None:
    model = intsim.quantize(source, calibration=TEXTS)
    name, x = f"{LAYER}.output.dense", f"{LAYER}.intermediate"
    zero_point = model.formats[x].zero_point
    assert zero_point < -50
    with intsim.trace() as trace:
        model([[2, 5, 6, 7, 8, 9, 3]])
    w_q = model.tensors[f"{name}.weight"].astype(np.int64)
    unfolded = model.tensors[f"{name}.bias"] + zero_point * w_q.sum(axis=1)
    direct = (trace[x].astype(np.int64) - zero_point) @ w_q.T + unfolded
    assert np.array_equal(trace[f"{name}.acc"], direct)
    scales = np.array([float(s * _scale(model, x)) for s in _weight_scales(model, weights, name)])
    assert np.abs(unfolded * scales - weights[f"{name}.bias"]).max() <= scales.max() / 2 * (1 + 1e-9)


def test_gamma_beta_and_zero_point_are_folded_into_layer_norm(model: intsim.IntegerModel, weights: Weights) -> None:
    for name in ("embeddings.LayerNorm", f"{LAYER}.attention.output.LayerNorm", f"{LAYER}.output.LayerNorm"):
        scale, zero_point = _scale(model, name), model.formats[name].zero_point
        gammas = [Fraction(gamma) / (scale * 2**16) for gamma in weights[f"{name}.weight"].tolist()]
        _assert_nearest(model, name, gammas)
        (shift,) = set(model.tensors[f"{name}.shift"].tolist())
        for b_q, beta in zip(model.tensors[f"{name}.bias"].tolist(), weights[f"{name}.bias"].tolist(), strict=True):
            exact = (Fraction(beta) / scale + zero_point) * 2**shift
            assert abs(b_q - exact) <= Fraction(1, 2) + abs(exact) / 2**50


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_eps_is_in_units_of_the_integer_variance(tiny_bert: TinyBert, recipe: str, eps: float) -> None:
    model = intsim.quantize(tiny_bert(config={"layer_norm_eps": eps}), calibration=TEXTS, recipe=recipe)
    for name in ("embeddings", f"{LAYER}.attention.output", f"{LAYER}.output"):
        unit = _scale(model, f"{name}.sum") / (16 if recipe == "intsim" else 1)
        exact = Fraction(eps) / unit**2
        found = int(model.tensors[f"{name}.LayerNorm.eps"])
        assert found >= 1
        assert found == 1 or abs(found - exact) <= Fraction(1, 2) + exact / 2**48


# ---- against the float model


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
def test_the_integer_model_follows_the_float_model(tiny_bert: TinyBert, recipe: str, hidden_act: str) -> None:
    path = tiny_bert(hidden_act=hidden_act, labels=None)
    model = intsim.quantize(path, calibration=TEXTS, recipe=recipe)
    integers, floats = _both(model, path, [2, 9, 10, 11, 6, 12, 5, 13, 3])
    cosine = (integers * floats).sum() / (np.linalg.norm(integers) * np.linalg.norm(floats))
    assert cosine > 0.99


def _both(model: intsim.IntegerModel, path: Path, ids: list[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    checkpoint = open_checkpoint(path)
    result = model([ids])
    floats = run(
        checkpoint.family,
        {name: checkpoint.load(name) for name in checkpoint.names},
        checkpoint.config,
        checkpoint.head,
        np.array([ids]),
        attention_mask=np.ones((1, len(ids)), bool),
        token_type_ids=np.zeros((1, len(ids)), int),
    )
    return np.ldexp(result.values * float(result.scale.multiplier), -int(result.scale.shift)), floats


def test_a_pruned_output_channel_works(tiny_bert: TinyBert) -> None:
    name = f"bert.{LAYER}.output.dense"
    w = np.random.default_rng(5).normal(0, 0.2, (16, 32)).astype(np.float32)
    w[[0, 7]] = 0
    path = tiny_bert(tensors={f"{name}.weight": w}, labels=None)
    model = intsim.quantize(path, calibration=TEXTS)
    assert not model.tensors[f"{LAYER}.output.dense.weight"][[0, 7]].any()
    assert model.tensors[f"{LAYER}.output.dense.weight"].any(axis=1).sum() == 14
    integers, floats = _both(model, path, [2, 9, 10, 11, 6, 3])
    assert np.abs(integers - floats).max() < 0.2


def test_a_bias_far_larger_than_its_weights_keeps_its_value(tiny_bert: TinyBert) -> None:
    name = f"bert.{LAYER}.output.dense"
    w = np.random.default_rng(5).normal(0, 0.2, (16, 32)).astype(np.float32)
    w[3] *= 1e-9
    b = np.full(16, 0.5, np.float32)
    path = tiny_bert(tensors={f"{name}.weight": w, f"{name}.bias": b}, labels=None)
    model = intsim.quantize(path, calibration=TEXTS)
    integers, floats = _both(model, path, [2, 9, 10, 11, 6, 3])
    assert np.abs(integers - floats).max() < 0.2


def test_a_layer_norm_with_negative_and_zero_weights_works(tiny_bert: TinyBert) -> None:
    gamma = np.linspace(-1, 1, 16).astype(np.float32)
    gamma[3] = 0
    path = tiny_bert(tensors={f"bert.{LAYER}.output.LayerNorm.weight": gamma}, labels=None)
    model = intsim.quantize(path, calibration=TEXTS)
    integers, floats = _both(model, path, [2, 9, 10, 11, 6, 3])
    assert np.abs(integers - floats).max() < 0.1


@pytest.mark.parametrize("name", ["embeddings.token_type_embeddings", f"{LAYER}.intermediate.dense", "classifier"])
def test_a_weight_of_zeros_is_exact(tiny_bert: TinyBert, name: str) -> None:
    shape = {"embeddings.token_type_embeddings": (2, 16), "classifier": (2, 16)}.get(name, (32, 16))
    prefix = "" if name == "classifier" else "bert."
    path = tiny_bert(tensors={f"{prefix}{name}.weight": np.zeros(shape, np.float32)})
    model = intsim.quantize(path, calibration=TEXTS)
    codes = model.tensors[f"{name}.weight"]
    assert codes.shape == shape
    assert not codes.any()
    if name.startswith("embeddings"):  # whose scale is then 1
        _assert_nearest(model, name, [1 / _scale(model, "embeddings.sum")])
    integers, floats = _both(model, path, [2, 9, 10, 11, 6, 3])
    assert np.abs(integers - floats).max() < (2**-16 if name == "classifier" else 0.1)


@pytest.mark.parametrize(("recipe", "zero_point"), [("intsim", -128), ("ibert", 0)])
def test_an_activation_that_is_always_zero_is_exact(tiny_bert: TinyBert, recipe: str, zero_point: int) -> None:
    name = f"{LAYER}.attention.output.LayerNorm"
    zeros = np.zeros(16, np.float32)
    path = tiny_bert(tensors={f"bert.{name}.weight": zeros, f"bert.{name}.bias": zeros}, labels=None)
    model = intsim.quantize(path, calibration=TEXTS, recipe=recipe)
    assert (_scale(model, name), model.formats[name].zero_point) == (1, zero_point)
    ids = [2, 9, 10, 11, 6, 3]
    with intsim.trace() as trace:
        integers, floats = _both(model, path, ids)
    assert (trace[name] == zero_point).all()
    assert np.abs(integers - floats).max() < 0.2


# ---- however the floats are stored


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_the_stored_dtype_does_not_matter_where_the_values_are_equal(
    tiny_bert: TinyBert, tmp_path: Path, dtype: str
) -> None:
    narrow = tiny_bert(dtype=dtype)
    checkpoint = open_checkpoint(narrow)
    wide = tmp_path / "wide"
    shutil.copytree(narrow, wide)
    save_file({name: checkpoint.load(name, np.float32) for name in checkpoint.names}, wide / "model.safetensors")
    for path in (narrow, wide):
        intsim.quantize(path, calibration=TEXTS).save(tmp_path / f"integer-{path.name}")
    first, second = (tmp_path / f"integer-{path.name}" / "model.safetensors" for path in (narrow, wide))
    assert open_checkpoint(wide).dtype("classifier.bias") == "F32" != checkpoint.dtype("classifier.bias")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("options", [{"shards": 3}, {"prefix": ""}, {"prefix": "", "shards": 2}], ids=str)
def test_shards_and_prefix_do_not_matter(
    source: Path, tiny_bert: TinyBert, tmp_path: Path, options: dict[str, Any]
) -> None:
    for name, path in (("plain", source), ("other", tiny_bert(**options))):
        intsim.quantize(path, calibration=TEXTS).save(tmp_path / name)
    plain, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "other"))
    assert plain == other


# ---- checkpoints that cannot be converted


def _refusal(path: Path, out: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        intsim.quantize(path, **({"calibration": TEXTS} | options)).save(out)
    assert not out.exists()
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def test_an_activation_beyond_float32_is_refused_by_name(tiny_bert: TinyBert, tmp_path: Path) -> None:
    names = [f"bert.{LAYER}.attention.{part}.weight" for part in ("self.value", "output.dense")]
    message = _refusal(tiny_bert(tensors=dict.fromkeys(names, np.full((16, 16), 3e38, np.float32))), tmp_path / "out")
    assert message.startswith(f"activation '{LAYER}.attention.output.sum' must have a range to quantize, got: scale ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", f"{LAYER}.output.LayerNorm.bias"])
def test_a_weight_that_is_not_finite_is_refused_by_name(
    tiny_bert: TinyBert, tmp_path: Path, name: str, value: float
) -> None:
    array = np.ones((66, 16) if "word" in name else 16, np.float32)
    array[-1] = value
    message = _refusal(tiny_bert(tensors={f"bert.{name}": array}), tmp_path / "out")
    assert message.startswith(f"tensor '{name}' of ")
    assert f"must hold finite numbers only, got {value} at index" in message


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_an_eps_that_no_integer_holds_is_refused_by_name(tiny_bert: TinyBert, tmp_path: Path, recipe: str) -> None:
    message = _refusal(tiny_bert(config={"layer_norm_eps": 1e15}), tmp_path / "out", recipe=recipe)
    assert message.startswith(
        "LayerNorm 'embeddings.LayerNorm' must have an eps below 2**61 in units of its variance, got "
    )


def test_an_activation_too_small_for_any_dyadic_is_refused_by_name(tiny_bert: TinyBert, tmp_path: Path) -> None:
    shapes = {"word": (66, 16), "position": (32, 16), "token_type": (2, 16)}
    tensors = {
        f"bert.embeddings.{kind}_embeddings.weight": np.full(shape, 1e-15, np.float32) for kind, shape in shapes.items()
    }
    message = _refusal(tiny_bert(tensors=tensors), tmp_path / "out")
    assert message.startswith("activation 'embeddings.sum' must have a scale that integers hold, got: value must be a ")


def test_a_layer_norm_whose_bias_dwarfs_its_weight_is_refused_by_name(tiny_bert: TinyBert, tmp_path: Path) -> None:
    name = f"{LAYER}.output.LayerNorm"
    tensors = {f"bert.{name}.weight": np.full(16, 1e-12, np.float32), f"bert.{name}.bias": np.ones(16, np.float32)}
    message = _refusal(tiny_bert(tensors=tensors), tmp_path / "out")
    assert message.startswith(f"LayerNorm '{name}' must have a bias below 2**61 in units of its product, got ")


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
@pytest.mark.parametrize(
    ("bias", "complaint"),
    [
        (1e6, "must have constants that fit the profile, got: ratio must be below 2**31, got "),
        (1e30, f"activation '{LAYER}.attention.self.query' must have a scale that integers hold, got: value must be "),
    ],
)
def test_scores_beyond_any_dyadic_are_refused(
    tiny_bert: TinyBert, tmp_path: Path, recipe: str, bias: float, complaint: str
) -> None:
    name = f"bert.{LAYER}.attention.self"
    tensors = {f"{name}.{part}.bias": np.full(16, bias, np.float32) for part in ("query", "key")}
    assert complaint in _refusal(tiny_bert(tensors=tensors), tmp_path / "out", recipe=recipe)


@pytest.mark.parametrize("change", [{"vocab_size": 12}, {"type_vocab_size": 1}], ids=str)
def test_a_tokenizer_beyond_the_embedding_is_refused(
    tiny_bert: TinyBert, tmp_path: Path, change: dict[str, int]
) -> None:
    message = _refusal(tiny_bert(config=change), tmp_path / "out")
    assert message.startswith(
        "tokenizer.json must give ids and types below vocab_size and type_vocab_size of config.json"
    )


def test_a_checkpoint_without_tokenizer_is_refused(tiny_bert: TinyBert, tmp_path: Path) -> None:
    assert "must have tokenizer.json in it to read text" in _refusal(tiny_bert(tokenizer=False), tmp_path / "out")


def test_nothing_is_a_checkpoint(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "absent", tmp_path / "out").endswith("got nothing there")


def test_a_missing_tensor_is_refused_by_name(tiny_bert: TinyBert, tmp_path: Path) -> None:
    path = tiny_bert(tensors={f"bert.{LAYER}.output.dense.bias": None})
    assert f"must hold tensor '{LAYER}.output.dense.bias'" in _refusal(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("model_type", "complaint"),
    [
        ("t5", "model_type in config.json must be one of albert, bert, "),
        ("roberta", "architectures in config.json must be one of RobertaModel, RobertaForSequenceClassification, "),
    ],
)
def test_another_architecture_is_refused(source: Path, tmp_path: Path, model_type: str, complaint: str) -> None:
    path = tmp_path / "other"
    shutil.copytree(source, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    message = _refusal(path, tmp_path / "out")
    assert message.startswith(complaint)
    assert message.endswith({"t5": "got 't5'"}.get(model_type, "got ['BertForSequenceClassification']"))


# ---- calibration


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "calibration must have at least one text, got none"),
        ([""], "text must have more than white space, got ''"),
        (["good", " \n "], "text must have more than white space, got ' \\n '"),
        (["good\t"], "text must have more than white space on both sides of its TAB, got 'good\\t'"),
        (["a\tb\tc"], "text must have at most one TAB, which separates a pair, got 2"),
        (["good " * 40], "text must be at most 32 tokens long, got 42; --truncate shortens it"),
    ],
)
def test_invalid_calibration_text_is_refused(source: Path, texts: list[str], message: str) -> None:
    with pytest.raises(IntsimError) as caught:
        intsim.quantize(source, calibration=texts)
    assert str(caught.value) == message


def test_the_default_calibration_is_64_different_sentences() -> None:
    texts = default_calibration()
    assert len(texts) == len(set(texts)) == 64
    assert all(text == text.strip() and text for text in texts)


def test_default_calibration_is_used_where_none_is_given(tiny_bert: TinyBert) -> None:
    path = tiny_bert(
        config={"max_position_embeddings": 128},
        tensors={
            "bert.embeddings.position_embeddings.weight": np.linspace(-1, 1, 2048, dtype=np.float32).reshape(128, 16)
        },
    )
    implicit, explicit = intsim.quantize(path), intsim.quantize(path, calibration=default_calibration())
    assert implicit([[2, 5, 3]]).digest == explicit([[2, 5, 3]]).digest
    assert {name: f.to_json() for name, f in implicit.formats.items()} == {
        name: f.to_json() for name, f in explicit.formats.items()
    }


def test_ranges_cover_the_calibration_text_and_padding_does_not_count(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    pad = load_file(path / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    pad[0] = 100  # [PAD], the id of padding
    path = tiny_bert(tensors={"bert.embeddings.word_embeddings.weight": pad})
    alone = intsim.quantize(path, calibration=["good bad " * 10])
    batched = intsim.quantize(path, calibration=["good bad " * 10, "good"])
    for model in (alone, batched):
        assert float(_scale(model, "embeddings.sum")) * 2**16 < 20
    assert float(_scale(alone, "embeddings.sum")) <= float(_scale(batched, "embeddings.sum"))


def test_the_order_of_calibration_texts_does_not_matter_to_min_max(source: Path, tmp_path: Path) -> None:
    intsim.quantize(source, calibration=TEXTS).save(tmp_path / "forward")
    intsim.quantize(source, calibration=TEXTS[::-1]).save(tmp_path / "backward")
    forward, backward = (intsim.load(tmp_path / name) for name in ("forward", "backward"))
    for name in forward.formats:
        assert math.isclose(_scale(forward, name), _scale(backward, name), rel_tol=1e-6)
