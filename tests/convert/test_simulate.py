# SPDX-License-Identifier: Apache-2.0
"""Every recipe simulated: the codes of the integer path at every quantizer, and an output near that of the integers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import intsim
from intsim import ops
from intsim.convert import simulate
from intsim.convert.permutation import permute_channels
from intsim.errors import IntsimError
from intsim.fixedpoint import Rounding
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer, read_tokenizer
from intsim.models.formats import Format
from intsim.profile import PROFILES
from intsim.quantizers import AffineParams, dequantize, quantize
from intsim.recipes import match, parse_recipe, recipe_names
from intsim.reference import fake_quant
from intsim.reference.world import run

TinyBert = Callable[..., Path]
Reals = NDArray[np.float64]

EMBEDDED: Final = Path(__file__).resolve().parents[1] / "data" / "embedded-float"
TEXTS: Final = (
    "A man is repairing an old bicycle in front of his garage .",
    "good",
    "Nobody knows exactly how many species live in the deep sea .",
    "The bridge was closed for repairs in the spring of 1987; two teams of engineers are competing for the contract.",
)
HELD_OUT: Final = ("It is neither funny nor frightening, and it looks cheap .", "the film is a delight !", "why ?")

TRAINED: Final = ("trained w8a8", "trained q8bert")
FITTING: Final = (  # the presets, with parameters that divide 128 channels
    "embed2",
    "ibert",
    "intsim",
    "mixed",
    "peg:groups=4",
    "peg:groups=4,permutation=none",
    "q8bert",
    "q8bert-dq",
    "smoothquant",
    "tm-iqr",
    "tm-iqr:everywhere=tm-iqr",
    "w4a8",
    "w4a8:rounding=adaround",
    "w6",
    "w8a8",
    "w8a8:estimator=mse",
    "w8a8:estimator=percentile",
    "w8a8:estimator=running-min-max",
    "w8a8:symmetric=true",
    "zeroquant:groups=32",
    "zeroquant-w4:groups=32",
)
MINILM: Final = {  # the least cosine of the simulation's output to that of the integers
    "embed2": 0.98,
    "ibert": 0.90,
    "intsim": 0.95,
    "mixed": 0.97,
    "peg": 0.92,
    "q8bert": 0.93,
    "q8bert-dq": 0.93,
    "smoothquant": 0.92,
    "tm-iqr": 0.95,
    "w4a8": 0.97,
    "w6": 0.97,
    "w8a8": 0.75,
    "zeroquant": 0.985,
    "zeroquant-w4": 0.985,
}
DYNAMIC: Final = ("q8bert", "q8bert-dq", "tm-iqr", "zeroquant", "zeroquant-w4")  # they have rules for inputs


class Case(NamedTuple):
    """A simulated run: ``quantized`` holds what goes into each quantizer and what comes out of it."""

    checkpoint: Checkpoint
    model: intsim.IntegerModel
    inputs: tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]
    weights: Mapping[str, Reals]
    quantized: Mapping[str, tuple[Reals, Reals]]
    output: Reals


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the embedded float model with ranges beside its weights, somewhat narrower than what text reaches."""
    path = tmp_path_factory.mktemp("trained")
    checkpoint = open_checkpoint(EMBEDDED)
    names = checkpoint.outline.activations
    ranges: dict[str, NDArray[np.float32]] = {}

    def observe(name: str, x: Reals) -> Reals:
        if name in names:
            ranges[f"{name}.x_min"] = np.array([0.9 * x.min()], np.float32)
            ranges[f"{name}.x_max"] = np.array([0.8 * x.max()], np.float32)
        return x

    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    ids, mask, types = _inputs(EMBEDDED, TEXTS)
    _run(checkpoint, weights, ids, mask, types, observe=observe)
    save_file(load_file(EMBEDDED / "model.safetensors") | ranges, path / "model.safetensors")
    (path / "config.json").write_bytes((EMBEDDED / "config.json").read_bytes())
    return path


@pytest.fixture(scope="module")
def case(
    trained: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str, str], Case]:
    cases: dict[tuple[str, str], Case] = {}

    def build(source: str, recipe: str) -> Case:
        if (source, recipe) not in cases:
            path = request.getfixturevalue("minilm") if source == "minilm" else EMBEDDED
            inputs = _inputs(path, HELD_OUT)
            calibration: Any = TEXTS
            if recipe.startswith("trained "):
                path, recipe_name, calibration = trained, recipe.removeprefix("trained "), None
            else:
                recipe_name = recipe
            folder = tmp_path_factory.mktemp("model")
            intsim.quantize(path, recipe=recipe_name, calibration=calibration).save(folder)
            model = intsim.load(folder)  # as packed and read again
            cases[source, recipe] = _simulated(path, model, inputs)
        return cases[source, recipe]

    return build


def _inputs(path: Path, texts: tuple[str, ...]) -> Any:
    tokenizer = parse_tokenizer(read_tokenizer(path))
    return pad([encode(tokenizer, text, longest=128) for text in texts])


def _run(checkpoint: Checkpoint, weights: Mapping[str, Reals], ids: Any, mask: Any, types: Any, **hooks: Any) -> Reals:
    config, head = checkpoint.config, checkpoint.head
    return run(checkpoint.family, weights, config, head, ids, attention_mask=mask, token_type_ids=types, **hooks)


def _simulated(path: Path, model: intsim.IntegerModel, inputs: Any) -> Case:
    weights: dict[str, Reals] = {}
    quantized: dict[str, tuple[Reals, Reals]] = {}

    def seen(hook: Any) -> Any:
        def call(name: str, x: Reals) -> Reals:
            y = hook(name, x)
            if y is not x:
                quantized[name] = x, y
            return y

        return call

    def watched(family: Any, given: Mapping[str, Reals], *model: Any, observe: Any, read: Any, **options: Any) -> Reals:
        weights.update(given)
        return run(family, given, *model, observe=seen(observe), read=seen(read), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "run_floats", watched)
        output = simulate.simulation(path, model)(*inputs)
    return Case(open_checkpoint(path), model, inputs, weights, quantized, output)


CASES: Final = [
    pytest.param("embedded", recipe, marks=[pytest.mark.slow] if "adaround" in recipe else [])  # which takes seconds
    for recipe in (*FITTING, *TRAINED)
]
CASES += [
    pytest.param("minilm", recipe, marks=[] if recipe in {"intsim", "peg", "zeroquant"} else [pytest.mark.slow])
    for recipe in MINILM
]
READING: Final = [("embedded", recipe) for recipe in (*FITTING, *TRAINED) if any(name in recipe for name in DYNAMIC)]
READING += [("minilm", recipe) for recipe in DYNAMIC]
every_case: Final = pytest.mark.parametrize(("source", "recipe"), CASES)


def test_every_preset_is_here() -> None:
    assert {recipe.partition(":")[0] for recipe in FITTING} == {*MINILM} == {*recipe_names()}


# ---- the codes


def _params(form: Format, channels: int) -> AffineParams:
    scale = np.repeat(form.scale.multiplier / np.exp2(form.scale.shift), channels // form.groups)
    return AffineParams(scale=scale, zero_point=np.broadcast_to(form.offset(channels), channels), range=form.range)


@every_case
def test_every_activation_has_the_codes_of_its_integer_quantizer(
    case: Callable[..., Case], source: str, recipe: str
) -> None:
    found = case(source, recipe)
    names = found.checkpoint.outline.activations
    for name in names:
        x, y = found.quantized[name]
        params = _params(found.model.formats[name], x.shape[-1])
        codes = quantize(x, params)
        assert np.array_equal(y, dequantize(codes, params)), name
        assert len(np.unique(codes)) > 2, name
    inputs = (found.model.formats.keys() | found.model.dynamic.keys()) - {"classifier", *names}
    assert found.quantized.keys() == {*names, *inputs}


@every_case
def test_every_input_has_the_codes_of_the_integer_operators(
    case: Callable[..., Case], source: str, recipe: str
) -> None:
    found = case(source, recipe)
    model, mask = found.model, found.inputs[1]
    sources = {name: read.source for name, read in model.outline.inputs.items()}
    for name in found.quantized.keys() & sources.keys():
        x, y = found.quantized[name]
        form = model.formats[sources[name]]
        x_q = quantize(x, _params(form, x.shape[-1]))  # exactly: x was moved to codes before
        scale = float(form.scale.multiplier) / 2.0 ** float(form.scale.shift)
        if (how := model.dynamic.get(name)) is not None:
            zero: dict[str, Any] = {"zero_point": form.zero_point}
            kept = mask if x.ndim == 3 else None
            bound = ops.dynamic_bound(x_q, per=how.per, clip=how.clip, mask=kept, **zero)
            constants = {"unit": how.unit, "to": how.range, "rounding": model.profile.rounding}
            codes = ops.quantize_dynamic(x_q, bound, **constants, **zero)
            wanted = codes * (bound * (scale / how.unit)) / how.range.max
        else:
            new = model.formats[name]
            centred = x_q.astype(np.int32) - np.int32(form.zero_point)
            codes = ops.requantize(
                centred,
                model.ratio(name),
                rounding=model.profile.requantization,
                to=new.range,
                zero_point=new.zero_point,
            )
            wanted = dequantize(codes, _params(new, x.shape[-1]))
        assert np.array_equal(y, wanted), name
        assert len(np.unique(codes)) > 2, name


@pytest.mark.parametrize(("source", "recipe"), READING)
def test_every_input_has_the_codes_of_the_integer_model(case: Callable[..., Case], source: str, recipe: str) -> None:
    """On the integer model's own activations, which carry its errors, instead of the simulation's."""
    found = case(source, recipe)
    model, (ids, mask, types) = found.model, found.inputs
    with intsim.trace() as trace:
        model(ids, attention_mask=mask, token_type_ids=types)
    half: Any = simulate.HALVES[model.profile.rounding]
    for name, read in model.outline.inputs.items():
        codes = trace[read.source][:, 0] if name == "pooler.input" else trace[read.source]
        x = dequantize(codes, _params(model.formats[read.source], codes.shape[-1]))
        if (how := model.dynamic.get(name)) is None:
            new = _params(model.formats[name], 1)
            twin = fake_quant.Affine(new.scale, new.zero_point.astype(np.float64), new.range.min, new.range.max)
            assert np.array_equal(fake_quant.quantize(x, twin), trace[name]), name
        else:
            kept = mask if x.ndim == 3 else None
            bound = fake_quant.dynamic_bound(x, per=how.per, clip=how.clip, mask=kept)
            codes = fake_quant.quantize_dynamic(x, bound, bits=how.range.bits, half=half)
            assert np.array_equal(codes, trace[name]), name


@every_case
def test_every_weight_has_the_codes_of_the_integer_model(case: Callable[..., Case], source: str, recipe: str) -> None:
    found = case(source, recipe)
    rules = match(parse_recipe(found.model.recipe), found.checkpoint.outline).weights
    floats = {name: found.checkpoint.load(name) for name in found.checkpoint.names}
    if "order" in found.model.tensors:
        floats = permute_channels(floats, found.checkpoint.outline, np.argsort(found.model.tensors["order"]))
    quantized = [name for name in floats if name.endswith(".weight") and "LayerNorm" not in name]
    for name in quantized:
        rule, w, codes = rules[name], floats[name], found.model.tensors[name]
        params = rule.params(w, embedding=name.startswith("embeddings."))
        twin = fake_quant.Affine(params.scale, params.zero_point.astype(np.float64), params.range.min, params.range.max)
        nearest = fake_quant.quantize(w, twin)
        if rule.rounding == "adaround":
            assert 0 < np.abs(codes - nearest).max() <= 1
            assert np.array_equal(found.weights[name], dequantize(codes, params)), name
        else:
            assert np.array_equal(codes, nearest), name
            assert np.array_equal(found.weights[name], fake_quant.fake_quantize(w, twin)), name


# ---- the output


@every_case
def test_the_output_is_near_that_of_the_integers(case: Callable[..., Case], source: str, recipe: str) -> None:
    found = case(source, recipe)
    ids, mask, types = found.inputs
    result = found.model(ids, attention_mask=mask, token_type_ids=types)
    plain = _run(found.checkpoint, {n: found.checkpoint.load(n) for n in found.checkpoint.names}, ids, mask, types)
    form = found.model.output_format
    integers = (result.values - np.float64(form.zero_point)) * np.ldexp(1.0 * form.scale.multiplier, -form.scale.shift)
    rows: Any = slice(None) if found.model.head != "none" else mask
    near = _cosine(found.output[rows], integers[rows])
    damage, predicted = (1 - _cosine(x[rows], plain[rows]) for x in (integers, found.output))
    print(f"{source} {recipe}: cosine {near:.6f}; 1 - cosine to float {damage:.6f}, simulated {predicted:.6f}")
    if source == "minilm":
        assert near > MINILM[recipe]
        assert abs(predicted - damage) < 0.3 * damage
    else:
        assert near > (0.9995 if recipe == "ibert" else 0.9999)


# ---- what cannot be simulated


def test_corrected_biases_are_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    model = intsim.quantize(path, recipe="w4a8:bias_correction=true", calibration=["a good movie ."])
    with pytest.raises(IntsimError, match="must leave biases as they are, got bias_correction = true in 'w4a8'"):
        simulate.simulation(path, model)


def test_ties_that_go_elsewhere_are_refused_where_ranges_are_found_while_running(tiny_bert: TinyBert) -> None:
    path, away = tiny_bert(), replace(PROFILES["intsim"], name="away", rounding=Rounding.HALF_AWAY)
    dynamic, static = (
        intsim.quantize(path, recipe=recipe, calibration=["a good movie ."], profile=away)
        for recipe in ("q8bert-dq", "intsim")
    )
    with pytest.raises(IntsimError, match="rounding of a simulation must be half-up or half-even, got half-away"):
        simulate.simulation(path, dynamic)
    simulate.simulation(path, static)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"labels": None}, "must hold tensor 'classifier.weight' to be Bert with head sequence-class"),
        (
            {"labels": ("no", "yes")},
            r"must have the integer model's labels, \['negative', 'positive'\], got \['no', 'yes'\]",
        ),
        ({"config": {"num_attention_heads": 2}}, "must have the integer model's num_attention_heads, 4, got 2"),
    ],
    ids=["head", "labels", "config"],
)
def test_another_float_model_is_refused(tiny_bert: TinyBert, change: dict[str, Any], complaint: str) -> None:
    model = intsim.quantize(tiny_bert(), calibration=["a good movie ."])
    with pytest.raises(IntsimError, match=complaint):
        simulate.simulation(tiny_bert(**change), model)


def test_the_head_of_a_checkpoint_is_not_asked_for_where_the_integer_model_has_none(tiny_bert: TinyBert) -> None:
    path, ids = tiny_bert(), np.array([[2, 9, 3]])
    encoder = intsim.quantize(path, calibration=["a good movie ."], head="none")
    hidden = simulate.simulation(path, encoder)(ids, ids > 0, 0 * ids)
    assert hidden.shape == (1, 3, 16)


def _cosine(a: Reals, b: Reals) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
