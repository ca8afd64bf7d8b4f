# SPDX-License-Identifier: Apache-2.0
"""SmoothQuant's migration of scales: the float model stays what it is, and outliers move into the weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import families
import numpy as np
import pytest
from families import tiny
from family_runs import draw, floats
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import intsim
from intsim.convert.simulate import simulation
from intsim.convert.smoothing import readers, smooth_channels, smoothing
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import Dyadic
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import parse_tokenizer, read_tokenizer, running
from intsim.models import FAMILIES
from intsim.reference.world import run

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good")
DECODERS: Final = ("llama", "mistral", "qwen2", "gemma", "gpt2", "gptj", "gpt_neox", "opt")
RECIPE: Final = """
smooth = {}

[[weights]]
names = "*"
bits = 8
granularity = "tensor"

[[activations]]
roles = ["norm", "ffn-input", "query", "key", "value"]
bits = 8
symmetric = true

[[activations]]
names = "*"
bits = 16
symmetric = true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def write(family: str, head: str, **config: Any) -> Path:
        return tiny(family, head, tmp_path_factory.mktemp(f"{family}-{head}"), **config)

    return write


def weights_of(checkpoint: Checkpoint) -> dict[str, NDArray[np.float64]]:
    return {name: checkpoint.load(name) for name in checkpoint.names}


def any_scales(checkpoint: Checkpoint) -> dict[str, Dyadic]:
    rng, tensors = np.random.default_rng(0), checkpoint.outline.tensors
    return {
        norm: Dyadic.from_real(np.exp2(rng.uniform(-4, 4, tensors[weights[0]].shape[1])))
        for norm, weights in readers(checkpoint.outline).items()
    }


def loud(path: Path, channel: int, factor: float) -> Path:
    """Make one channel of every norm that products alone read louder, and the weights that read it smaller."""
    outline, file = open_checkpoint(path).outline, path / "model.safetensors"
    stored, found = load_file(file), readers(outline)
    for name, values in stored.items():
        bare = name.removeprefix("model.").removeprefix("transformer.")
        norm, _, part = bare.rpartition(".")
        if norm in found:
            offset = part == "weight" and outline.norms[norm].unit_offset
            values[channel] = (values[channel] + offset) * factor - offset
        if any(bare in weights for weights in found.values()):
            values[:, channel] /= factor
    save_file(stored, file, metadata={"format": "pt"})
    return path


# ---- where it is folded


def test_every_norm_of_a_gated_decoder_but_the_last_is_read_by_products_only(folder: Callable[..., Path]) -> None:
    found = readers(open_checkpoint(folder("llama", "causal-lm")).outline)
    assert found == {
        name: weights
        for n in ("layers.0", "layers.1")
        for name, weights in {
            f"{n}.input_layernorm": tuple(f"{n}.self_attn.{p}_proj.weight" for p in "qkv"),
            f"{n}.post_attention_layernorm": (f"{n}.mlp.gate_proj.weight", f"{n}.mlp.up_proj.weight"),
        }.items()
    }


def test_attention_and_feed_forward_network_side_by_side_share_the_scales_of_their_norm(
    folder: Callable[..., Path],
) -> None:
    found = readers(open_checkpoint(folder("gptj", "causal-lm")).outline)
    assert found["h.1.ln_1"] == (*(f"h.1.attn.{p}_proj.weight" for p in "qkv"), "h.1.mlp.fc_in.weight")
    assert len(found) == 2


@pytest.mark.parametrize("family", [family for family in families.FAMILIES if family not in DECODERS])
@pytest.mark.parametrize("head", ["none", "two-classes", "masked-lm", "masked-lm-untied"])
def test_norms_behind_a_sum_are_read_by_the_next_sum_too(folder: Callable[..., Path], family: str, head: str) -> None:
    outline = open_checkpoint(folder(family, head)).outline
    found = readers(outline)
    of_head = {name for name in found if outline.activations[name].role == "head"}
    assert found.keys() == of_head
    assert len(of_head) == (head == "masked-lm-untied" and family != "mobilebert")  # whose scores are of two tensors


def test_a_tied_table_and_a_layer_that_runs_again_keep_their_weights(folder: Callable[..., Path]) -> None:
    for family, head in (("bert", "masked-lm"), ("albert", "two-classes"), ("gpt2", "causal-lm-tied")):
        outline = open_checkpoint(folder(family, head)).outline
        named = {name for weights in readers(outline).values() for name in weights}
        assert not any(outline.tensors[name].is_embedding or outline.tensors[name].parts for name in named)
    assert readers(open_checkpoint(folder("albert", "two-classes")).outline) == {}
    assert readers(open_checkpoint(folder("opt", "causal-lm", do_layer_norm_before=False)).outline) == {}


# ---- the float model


@pytest.mark.parametrize("head", ["none", "two-classes", "causal-lm", "causal-lm-tied", "masked-lm-untied"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_float_model_is_unchanged(folder: Callable[..., Path], family: str, head: str) -> None:
    if head.startswith("causal-lm" if family not in DECODERS else "masked-lm"):
        return
    path = folder(family, head)
    checkpoint, expected = open_checkpoint(path), {}
    feed, scales = draw(checkpoint.config, 1, 3, 7), any_scales(checkpoint)
    assert bool(scales) == (family in DECODERS or (head == "masked-lm-untied" and family != "mobilebert"))

    def keep(name: str, x: NDArray[Any]) -> NDArray[Any]:
        expected[name] = x
        return x

    output = floats(path, feed, keep)

    def compare(name: str, x: NDArray[Any]) -> NDArray[Any]:
        scale = 1.0
        if name in scales:
            scale = np.ldexp(scales[name].multiplier.astype(np.float64), -scales[name].shift)
        np.testing.assert_allclose(x * scale, expected[name], rtol=1e-12, atol=1e-12, err_msg=name)
        return x

    smoothed = run(
        checkpoint.family,
        smooth_channels(weights_of(checkpoint), checkpoint.outline, scales),
        checkpoint.config,
        checkpoint.head,
        feed.ids,
        attention_mask=feed.mask.astype(bool),
        token_type_ids=feed.types,
        observe=compare,
    )
    np.testing.assert_allclose(smoothed, output, rtol=1e-12, atol=1e-12)


# ---- the scales


def test_scales_are_the_papers() -> None:
    weights = {"a": np.array([[1.0, -4.0, 0.0], [0.5, 2.0, 0.0]]), "b": np.array([[-16.0, 1.0, 0.0]])}
    largest = np.array([4.0, 9.0, 5.0])
    for alpha, expected in ((0.5, [2 / 4, 3 / 2, 1]), (1.0, [4, 9, 1]), (0.0, [1 / 16, 1 / 4, 1])):
        scale = smoothing(largest, weights, ("a", "b"), alpha=alpha)
        np.testing.assert_allclose(np.ldexp(1.0 * scale.multiplier, -scale.shift), expected, rtol=2**-30)
    assert smoothing(np.zeros(3), weights, ("a", "b"), alpha=0.5) == smoothing(
        np.ones(3), {"o": np.ones((1, 3))}, ("o",), alpha=1.0
    )


def test_half_of_the_range_goes_into_the_weights(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder("llama", "causal-lm")
    (tmp_path / "half.toml").write_text(RECIPE.format(0.5))
    model = intsim.quantize(path, recipe=tmp_path / "half.toml", calibration=TEXTS)
    checkpoint = open_checkpoint(path)
    norms = readers(checkpoint.outline)
    assert {name.removesuffix(".smooth.shift") for name in model.tensors if name.endswith("smooth.shift")} == {*norms}
    weights = smooth_channels(
        weights_of(checkpoint), checkpoint.outline, {n: model.ratio(f"{n}.smooth") for n in norms}
    )
    seen = largest_of(checkpoint, weights, norms)
    for norm, names in norms.items():
        columns = np.max([np.abs(weights[name]).max(axis=0) for name in names], axis=0)
        np.testing.assert_allclose(seen[norm], columns, rtol=1e-8, err_msg=norm)  # the geometric mean of what they were


def largest_of(
    checkpoint: Checkpoint, weights: Mapping[str, NDArray[np.float64]], names: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    """Return the largest magnitude of each channel over TEXTS."""
    before, after = running(parse_tokenizer(read_tokenizer(checkpoint.path)), "\n".join(TEXTS))
    ids = np.array([[*before, *after]])  # one window
    found: dict[str, NDArray[np.float64]] = {}

    def observe(name: str, x: NDArray[Any]) -> NDArray[Any]:
        if name in names:
            found[name] = np.abs(x[0]).max(axis=0)
        return x

    how: dict[str, Any] = {"attention_mask": ids >= 0, "token_type_ids": 0 * ids, "observe": observe}
    run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, **how)
    return found


# ---- the integer model


@pytest.mark.parametrize("family", ["llama", "gemma", "gptj", "opt"])
def test_a_loud_channel_costs_less_where_its_scale_is_moved(
    folder: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    path = folder(family, "causal-lm")
    feed = draw(open_checkpoint(path).config, 2, 2, 9)
    expected, errors = floats(path, feed), {}
    np.testing.assert_allclose(floats(loud(path, channel=3, factor=128), feed), expected, rtol=1e-5, atol=1e-5)
    for alpha in ("0.0", "0.5"):
        (tmp_path / "recipe.toml").write_text(RECIPE.format(alpha) if alpha != "0.0" else RECIPE.partition("\n\n")[2])
        model = intsim.quantize(path, recipe=tmp_path / "recipe.toml", calibration=TEXTS)
        output = simulation(path, model)(feed.ids, feed.mask.astype(bool), feed.types)
        integers = model(feed.ids, attention_mask=feed.mask)
        reals = integers.values * np.ldexp(1.0 * integers.scale.multiplier, -integers.scale.shift)
        for name, values in (("simulated", output), ("integers", reals)):
            errors[name, alpha] = float(np.square((values - expected)[feed.mask > 0]).sum())
    for name in ("simulated", "integers"):
        assert errors[name, "0.5"] < 0.1 * errors[name, "0.0"], errors


def test_a_smoothed_model_is_stored_with_its_scales(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder("opt", "causal-lm")
    model = intsim.quantize(path, recipe="smoothquant", calibration=TEXTS)
    model.save(tmp_path / "integers")
    loaded = intsim.load(tmp_path / "integers")
    assert loaded.digest == model.digest
    name = next(iter(readers(model.outline)))
    assert np.array_equal(loaded.tensors[f"{name}.smooth.multiplier"], model.tensors[f"{name}.smooth.multiplier"])
    for tensor in ("multiplier", "shift"):
        tensors = {**model.tensors, f"{name}.smooth.{tensor}": np.ones(3, np.int64)}
        with pytest.raises(CheckpointError, match=r"smooth\.multiplier' must be int64 of shape|smooth\.shift' must be"):
            replaced(model, tensors)


def replaced(model: intsim.IntegerModel, tensors: Mapping[str, Any]) -> intsim.IntegerModel:
    return replace(model, tensors=tensors)


def test_a_model_with_nothing_to_smooth_is_as_without_and_it_is_said(
    folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder("bert", "two-classes")
    (tmp_path / "smooth.toml").write_text('name = "mine"\n' + RECIPE.format(0.5))
    smoothed = intsim.quantize(path, recipe=tmp_path / "smooth.toml", calibration=TEXTS)
    assert "recipe mine: there is no norm that products alone read, and nothing is smoothed" in caplog.text
    (tmp_path / "plain.toml").write_text(RECIPE.partition("\n\n")[2])
    plain = intsim.quantize(path, recipe=tmp_path / "plain.toml", calibration=TEXTS)
    assert smoothed.tensors.keys() == plain.tensors.keys()
    assert all(np.array_equal(values, plain.tensors[name]) for name, values in smoothed.tensors.items())


# ---- norms of some roles, as the presets for decoders have it

TWO: Final = '{ alpha = 0.5, roles = ["norm", "ffn-input"] }'


def smoothed_norms(model: intsim.IntegerModel) -> set[str]:
    return {name.removesuffix(".smooth.shift") for name in model.tensors if name.endswith(".smooth.shift")}


@pytest.mark.parametrize(
    ("smooth", "parts"),
    [
        (TWO, ("input_layernorm", "post_attention_layernorm")),
        ('{ alpha = 0.5, roles = "ffn-input" }', ("post_attention_layernorm",)),
        ('{ alpha = 0.5, roles = ["residual"] }', ()),
        ("{ alpha = 0.5 }", ("input_layernorm", "post_attention_layernorm")),
    ],
)
def test_norms_of_the_roles_are_smoothed(
    folder: Callable[..., Path], tmp_path: Path, smooth: str, parts: tuple[str, ...]
) -> None:
    (tmp_path / "roles.toml").write_text(RECIPE.format(smooth))
    model = intsim.quantize(folder("llama", "causal-lm"), recipe=tmp_path / "roles.toml", calibration=TEXTS)
    assert smoothed_norms(model) == {f"layers.{n}.{part}" for n in (0, 1) for part in parts}


@pytest.mark.parametrize("head", ["none", "two-classes", "masked-lm-untied"])
@pytest.mark.parametrize("recipe", ["zeroquant", "zeroquant-w4"])
def test_an_encoder_has_no_norms_of_these_roles_to_smooth_and_nothing_is_said(
    folder: Callable[..., Path], caplog: pytest.LogCaptureFixture, tmp_path: Path, recipe: str, head: str
) -> None:
    path = folder("bert", head)
    models = [intsim.quantize(path, recipe=each, calibration=TEXTS) for each in (recipe, rough(recipe, tmp_path))]
    assert "smooth" not in caplog.text
    assert models[0].tensors.keys() == models[1].tensors.keys()
    assert all(np.array_equal(values, models[1].tensors[name]) for name, values in models[0].tensors.items())


def rough(recipe: str, folder: Path) -> Path:
    """Write a preset without its smoothing."""
    lines = (resources.files("intsim.recipes") / f"{recipe}.toml").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("smooth")]
    assert len(kept) == len(lines) - 1
    file = folder / f"{recipe}-rough.toml"
    file.write_text("\n".join(kept))
    return file


@pytest.mark.parametrize(("recipe", "roles"), [("zeroquant", ("norm", "ffn-input")), ("zeroquant-w4", ("norm",))])
@pytest.mark.parametrize("family", ["llama", "gemma", "gptj", "opt"])
def test_a_loud_channel_costs_zeroquant_less_than_without(
    folder: Callable[..., Path], tmp_path: Path, family: str, recipe: str, roles: tuple[str, ...]
) -> None:
    path = loud(folder(family, "causal-lm"), channel=3, factor=128)
    outline = open_checkpoint(path).outline
    norms = {norm for norm in readers(outline) if outline.activations[norm].role in roles}
    feed = draw(outline.config, 2, 2, 9)
    expected, errors = floats(path, feed), list[float]()
    for each in (recipe, rough(recipe, tmp_path)):
        model = intsim.quantize(path, recipe=each, calibration=TEXTS, profile="intsim-wide")
        assert smoothed_norms(model) == (norms if each == recipe else set())
        integers = model(feed.ids, attention_mask=feed.mask)
        reals = integers.values * np.ldexp(1.0 * integers.scale.multiplier, -integers.scale.shift)
        errors.append(float(np.square((reals - expected)[feed.mask > 0]).sum()))
    assert errors[0] < (0.8 if recipe == "zeroquant-w4" else 0.5) * errors[1], (
        errors
    )  # 4 bits have an error of their own


def test_a_norm_of_these_roles_whose_range_is_given_stays_as_it_is(folder: Callable[..., Path]) -> None:
    path, norm = folder("llama", "causal-lm"), "layers.1.input_layernorm"
    model = intsim.quantize(path, recipe="zeroquant", calibration=TEXTS, ranges={norm: [-3.0, 3.0]})
    assert smoothed_norms(model) == {*readers(model.outline)} - {norm}
    given = {name: [-2.0, 2.0] for name, each in model.outline.activations.items() if not each.like}
    assert smoothed_norms(intsim.quantize(path, recipe="zeroquant", ranges=given)) == set()  # no text is read at all


def test_a_trained_range_of_what_is_to_be_smoothed_is_refused(folder: Callable[..., Path]) -> None:
    path = folder("gpt2", "causal-lm")
    stored = load_file(path / "model.safetensors")
    ranges = {f"h.0.ln_1.{end}": np.array([value], np.float32) for end, value in (("x_min", -1), ("x_max", 1))}
    save_file(stored | ranges, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntsimError, match=r"activation 'h\.0\.ln_1' must have its range as in training, got smooth"):
        intsim.quantize(path, recipe="smoothquant", calibration=TEXTS)


@pytest.mark.parametrize("value", [0, 1])
def test_a_migration_strength_may_be_a_whole_number(tmp_path: Path, value: int) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE.format(value))
    whole = intsim.recipes.load_recipe(file)
    file.write_text(RECIPE.format(float(value)))
    assert whole.smooth == intsim.recipes.load_recipe(file).smooth


@pytest.mark.parametrize("value", ["1.5", "-0.1", "true", "2", '"half"', "nan"])
def test_a_migration_strength_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE.format(value))
    with pytest.raises(IntsimError, match=r"smooth must be a number from 0\.0 to 1\.0, got"):
        intsim.recipes.load_recipe(file)
    file.write_text(RECIPE.format(f'{{ alpha = {value}, roles = ["norm"] }}'))
    with pytest.raises(IntsimError, match=r"smooth must be a number from 0\.0 to 1\.0, got"):
        intsim.recipes.load_recipe(file)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{ alpha = 0.5, roles = ["norms"] }', "roles must be among .*, got 'norms'"),
        ("{ alpha = 0.5, roles = 3 }", "roles must be a text or a list of texts, got 3"),
        ('{ roles = ["norm"] }', "alpha must be given, got nothing"),
        ('{ alpha = 0.5, role = "norm" }', "fields must be among alpha, roles, got 'role'"),
    ],
)
def test_a_table_that_does_not_say_how_to_smooth_is_refused(tmp_path: Path, table: str, message: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE.format(table))
    with pytest.raises(IntsimError, match=message):
        intsim.recipes.load_recipe(file)
