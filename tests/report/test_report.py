# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report, intsim.report.error_split and intsim.report.plot."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from click.testing import CliRunner

import intsim
from intsim import ops
from intsim._trace import interpreted_by
from intsim.cli import cli
from intsim.cli.scoring import recipe_list
from intsim.errors import IntsimError
from intsim.fixedpoint import Dyadic
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE
from intsim.recipes import load_recipe, match, recipe_names
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.world import run
from intsim.report.error_split import PARTS, _Codes, in_reals, stages
from intsim.report.evaluate import Example, evaluate
from intsim.report.report import Report, format_report
from intsim.report.report import report as report_on

TinyBert = Callable[..., Path]
SENTENCES: Final = (
    "a good movie .",
    "bad",
    "the plot is not good , not bad .",
    "x y z",
    "good good good good good good",
)
CLASSES: Final = [Example(texts=(text,), target=i % 2) for i, text in enumerate(SENTENCES)]
PAIRS: Final = [
    Example(texts=(SENTENCES[i], SENTENCES[j]), target=score) for i, j, score in ((0, 4, 3.8), (1, 1, 5.0), (2, 3, 2.0))
]
TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good", "not good , not bad")
TASK: Final = {True: ("sst2", CLASSES), False: ("stsb", PAIRS)}
PARAMETERS: Final = {"peg": ":groups=4", "zeroquant": ":groups=2", "zeroquant-w4": ":groups=2"}
RECIPES: Final = [name + PARAMETERS.get(name, "") for name in recipe_names()]
LAYERS: Final = ("embeddings.LayerNorm", "encoder.layer.0.output.LayerNorm", "encoder.layer.1.output.LayerNorm")


@pytest.fixture(scope="module")
def source(tiny_bert: TinyBert) -> Path:
    return tiny_bert()


@pytest.fixture(scope="module")
def headless(tiny_bert: TinyBert) -> Path:
    return tiny_bert(labels=None)


def _model(path: Path, recipe: str = "intsim") -> intsim.IntegerModel:
    return intsim.quantize(path, recipe=recipe, calibration=TEXTS)


def _report(path: Path, recipes: Sequence[str], task: Any, examples: Any, calibration: Sequence[str] = TEXTS) -> Report:
    return report_on(path, recipes, task, examples, calibration=calibration)


def _floats(path: Path, text: str, observe: Callable[[str, Any], Any], weights: Mapping[str, Any] | None = None) -> Any:
    """Run the float model on one text, observed."""
    checkpoint = open_checkpoint(path)
    encoding = encode(parse_tokenizer((path / "tokenizer.json").read_text()), text, longest=32)
    ids, mask, types = pad([encoding])
    output = run(
        checkpoint.family,
        weights or {name: checkpoint.load(name) for name in checkpoint.names},
        checkpoint.config,
        checkpoint.head,
        ids,
        attention_mask=mask,
        token_type_ids=types,
        observe=observe,
    )
    return output[0] if checkpoint.head != "none" else mean_pooling(output, mask)[0]


# ---- the real meaning of every operator


def _in_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_floats(each) for each in value]
    return value.astype(np.float64).view(_Codes) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_operator_of_a_model_is_within_a_code_of_its_real_meaning(source: Path, recipe: str) -> None:
    model = _model(source, recipe)
    meaning = in_reals(model, saturate=True, approximate=True)
    seen = set()

    def allowed(operator: Any, operands: tuple[Any, ...], result: Any) -> Any:
        if operator in {ops.gelu, ops.tanh}:  # constants of the polynomials are rounded
            return np.maximum(1, 2e-3 * np.abs(result).max())
        if operator is ops.softmax and model.profile is IBERT:  # floored twice
            return 3
        if operator is ops.layer_norm:  # isqrt floors by less than 1, a rounded mean moves by at most 1
            x, params = operands[0].astype(np.int64), operands[1]
            exact = model.profile.layer_norm.centring == "exact"
            std = np.sqrt(x.var(axis=-1, keepdims=True)) * (x.shape[-1] if exact else 1)
            gain = params.weight.multiplier * 2.0 ** (model.profile.layer_norm.output_fraction - params.weight.shift)
            return 1 + (np.abs(result - params.bias * 2.0**-params.weight.shift) + gain) / std
        return 1

    def both(name: str, operator: Any, operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Any:
        result = operator(*operands, **constants)
        reals = operands if operator is ops.embedding else tuple(map(_in_floats, operands))
        distance = np.abs(np.asarray(meaning(name, operator, reals, constants)) - result)
        if operator in {ops.dynamic_bound, ops.embedding, ops.matmul, ops.scale_rows}:
            assert not distance.any(), name
        assert (distance <= allowed(operator, operands, result)).all(), (name, distance.max())
        seen.add(operator)
        return result

    with interpreted_by(both):
        model([[2, 5, 6, 7, 13, 3], [2, 8, 3, 0, 0, 0]], attention_mask=[[1] * 6, [1, 1, 1, 0, 0, 0]])
    assert {ops.embedding, ops.matmul, ops.softmax, ops.gelu, ops.tanh, ops.layer_norm, ops.add} <= seen


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
def test_the_polynomials_are_those_of_the_integers(tiny_bert: TinyBert, profile: Any) -> None:
    models = {
        act: intsim.quantize(tiny_bert(hidden_act=act), profile=profile, calibration=TEXTS) for act in ("gelu", "silu")
    }
    x_q = np.arange(-(2**15), 2**15).astype(np.int16)
    reals = x_q.astype(np.float64).view(_Codes)
    ones = {
        ops.gelu: float(1 / profile.gelu.output_scale),
        ops.sigmoid: 2**14,
        ops.silu: 2**14 * np.abs(reals).clip(1),  # what is approximated is its factor sigmoid
        ops.tanh: 2**14,
    }
    for operator, one in ones.items():
        model, name = (
            models["silu" if operator is ops.silu else "gelu"],
            f"encoder.layer.0.intermediate.{operator.__name__}",
        )
        integers = operator(x_q, profile=profile) / one
        found = {
            approximate: in_reals(model, saturate=True, approximate=approximate)(
                name, operator, (reals,), {"profile": profile}
            )
            / one
            for approximate in (True, False)
        }
        errors = {approximate: np.abs(np.asarray(values) - integers).max() for approximate, values in found.items()}
        assert errors[True] < errors[False] / 4, (operator, errors)


def test_a_table_approximates_nothing(tiny_bert: TinyBert) -> None:
    x_q = np.arange(-(2**15), 2**15).astype(np.int16)
    reals = x_q.astype(np.float64).view(_Codes)
    for act, operator in (("gelu", ops.gelu), ("gelu_new", ops.gelu_tanh), ("silu", ops.silu)):
        model = intsim.quantize(tiny_bert(hidden_act=act), profile=INTSIM_WIDE, calibration=TEXTS)
        for each in (operator, ops.sigmoid, ops.tanh):
            name = f"encoder.layer.0.intermediate.{each.__name__}"
            for approximate in (True, False):
                meaning = in_reals(model, saturate=True, approximate=approximate)
                values = np.asarray(meaning(name, each, (reals,), {"profile": INTSIM_WIDE}))
                assert np.abs(values - each(x_q, profile=INTSIM_WIDE)).max() <= 0.5 + 1e-6, (act, each)


def test_the_polynomial_of_softmax_is_that_of_the_integers(source: Path) -> None:
    crude = dataclasses.replace(INTSIM, exp=dataclasses.replace(INTSIM.exp, c="0.1"))
    model = intsim.quantize(source, profile=crude, calibration=TEXTS)
    acc = np.random.default_rng(0).integers(-3000, 3000, (50, 8)).astype(np.int32)
    constants = {"profile": crude, "mask": np.ones((1, 8), np.bool_)}
    integers = ops.softmax(acc, Dyadic(1, 0), **constants)
    distances = [
        np.abs(np.asarray(meaning("", ops.softmax, (_in_floats(acc), Dyadic(1, 0)), constants)) - integers).max()
        for meaning in (in_reals(model, saturate=True, approximate=each) for each in (True, False))
    ]
    assert distances[0] <= 1
    assert distances[1] > 5


@pytest.mark.parametrize("saturate", [False, True])
def test_quantization_and_saturation_are_fake_quantization(source: Path, saturate: bool) -> None:
    recipe = load_recipe("intsim")
    model = intsim.quantize(source, calibration=("a bad movie",))  # of narrow ranges
    checkpoint = open_checkpoint(source)
    clipped = []

    def rounded(x: Any, scale: Any, zero_point: int, low: float, high: float) -> Any:
        codes = np.rint(x / scale) + zero_point
        clipped.append(((codes < low) | (codes > high)).any())
        return ((codes.clip(low, high) if saturate else codes) - zero_point) * scale

    def observe(name: str, x: Any) -> Any:
        if name.endswith("probs"):
            return np.rint(x * 255) / 255
        if name in model.formats:
            form = model.formats[name]
            scale = form.scale.multiplier / 2.0**form.scale.shift
            return rounded(x, scale, form.zero_point, form.range.min, form.range.max)
        if name.endswith("intermediate.dense") and saturate:
            return x.clip(-(2**15) / 2**10, (2**15 - 1) / 2**10)
        return x

    rules, inputs = match(recipe, checkpoint.outline).weights, checkpoint.outline.inputs

    def reads(layer: str) -> str:
        module = layer.rpartition(".")[0] if layer.endswith(("query", "key", "value")) else layer.removesuffix(".dense")
        return inputs[f"{module}.input"].source

    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    for name in [name for name in weights if name.endswith(".weight") and "LayerNorm" not in name]:
        embedding = name.startswith("embeddings.")
        scale = rules[name].params(weights[name], embedding=embedding).scale
        weights[name] = np.rint(weights[name] / scale) * scale
        if not embedding:
            layer = name.removesuffix(".weight")
            form = model.formats[reads(layer)]
            unit = scale.ravel() * form.scale.multiplier / 2.0**form.scale.shift
            weights[f"{layer}.bias"] = np.rint(weights[f"{layer}.bias"] / unit) * unit

    states: dict[str, Any] = {}

    def watch(name: str, operator: Any, operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Any:
        states[name] = in_reals(model, saturate=saturate, approximate=False)(name, operator, operands, constants)
        return states[name]

    for text in SENTENCES:
        encoding = encode(parse_tokenizer(model.tokenizer or ""), text, longest=32)
        with interpreted_by(watch):
            result = model([encoding.ids], token_type_ids=[encoding.type_ids])
        expected = _floats(source, text, observe, weights)
        np.testing.assert_allclose(np.asarray(result.values[0]) / 2**16, expected, atol=2**-16)
    assert any(clipped)


# ---- what is reported


@pytest.mark.parametrize("classifier", [True, False])
@pytest.mark.parametrize("recipe", ["intsim", "peg:groups=4", "zeroquant:groups=2"])
def test_the_errors_are_those_of_every_text_run_alone(
    source: Path,
    headless: Path,
    classifier: bool,
    recipe: str,
) -> None:
    path, (task, examples) = source if classifier else headless, TASK[classifier]
    model = _model(path, recipe)
    order = np.arange(16)
    if recipe.startswith("peg"):  # where each channel went, by the bytes of no table but the position embeddings'
        order = _order_by_positions(model, path)
    squares = {name: [0.0, 0.0] for name in (*LAYERS, "output")}
    relative: dict[str, list[float]] = {name: [] for name in (*LAYERS, "output")}
    for text in [text for example in examples for text in example.texts]:
        expected: dict[str, Any] = {}
        expected["output"] = _floats(path, text, lambda name, x, e=expected: e.setdefault(name, x))
        encoding = encode(parse_tokenizer(model.tokenizer or ""), text, longest=32)
        with intsim.trace() as trace:
            result = model([encoding.ids], token_type_ids=[encoding.type_ids])
        output = result.values[0] if classifier else _mean(result.values[0])
        found = {"output": output * (result.scale.multiplier / 2.0**result.scale.shift)}
        for name in LAYERS:
            form = model.formats[name]
            found[name] = (trace[name][0][:, order] - 1.0 * form.zero_point) * (
                form.scale.multiplier / 2.0**form.scale.shift
            )
        for name, sums in squares.items():
            x, y = np.ravel(expected[name]), np.ravel(found[name])
            sums[0] += ((y - x) ** 2).sum()
            sums[1] += (x**2).sum()
            relative[name] += (np.abs(y - x) / (np.abs(x) + 1e-8)).tolist()
    (reported,) = _report(path, [recipe], task, examples).recipes
    assert [error.name for error in reported.errors] == list(squares)
    for error in reported.errors:
        assert error.squared == pytest.approx(squares[error.name][0] / squares[error.name][1], rel=1e-4)
        assert error.relative == pytest.approx(np.mean(relative[error.name]), rel=1e-3)


def _mean(values: Any) -> Any:
    total = values.astype(int).sum(axis=0)
    return (2 * total + len(values)) // (2 * len(values))


def _order_by_positions(model: intsim.IntegerModel, path: Path) -> Any:
    table = open_checkpoint(path).load("embeddings.position_embeddings.weight")
    codes = model.tensors["embeddings.position_embeddings.weight"]
    scale = np.abs(table).max() / 127
    near = [[np.abs(np.rint(column / scale) - other).max() for other in codes.T] for column in table.T]
    return np.argmin(near, axis=1)


@pytest.mark.parametrize("classifier", [True, False])
def test_the_parts_sum_to_the_error(source: Path, headless: Path, classifier: bool) -> None:
    task, examples = TASK[classifier]
    for each in _report(source if classifier else headless, ["intsim", "ibert"], task, examples).recipes:
        for error in each.errors:
            assert list(error.parts) == list(PARTS) == list(stages(_model(source)))
            assert math.fsum(error.parts.values()) == pytest.approx(error.squared, rel=1e-12)
        first = each.errors[0].parts  # embeddings pass no polynomial
        assert first["approximation"] == 0
        assert first["quantization"] > 0
        assert all(each.errors[2].parts.values())


def test_clipped_ranges_are_saturation_and_coarse_codes_quantization(source: Path, tmp_path: Path) -> None:
    preset = Path(intsim.recipes.__file__).parent / "intsim.toml"
    coarse = tmp_path / "coarse.toml"
    coarse.write_text(preset.read_text().replace("bits = 8", "bits = 5"))
    fine, rough = _report(source, ["intsim", str(coarse)], "sst2", CLASSES).recipes
    assert rough.errors[2].parts["quantization"] > 10 * fine.errors[2].parts["quantization"]
    narrow = _report(source, ["intsim"], "sst2", CLASSES, calibration=("a",)).recipes[0].errors[2].parts
    assert narrow["saturation"] > 5 * abs(fine.errors[2].parts["saturation"])


def test_metrics_are_those_of_evaluate(source: Path, headless: Path) -> None:
    for path, (task, examples) in ((source, TASK[True]), (headless, TASK[False])):
        result = _report(path, ["intsim", "ibert"], task, examples)
        for each in result.recipes:
            expected = evaluate(_model(path, each.recipe), task, examples, reference=path)
            assert each.metrics == pytest.approx(expected.metrics)
            assert each.cosine == pytest.approx(expected.cosine, abs=1e-5)
            assert result.reference == pytest.approx(expected.reference, abs=1e-5)


def test_sizes_are_those_of_the_files(source: Path, tmp_path: Path) -> None:
    result = _report(source, ["intsim", "w4a8"], "sst2", CLASSES)
    checkpoint = open_checkpoint(source)
    assert result.reference_bytes == sum(checkpoint.load(name, np.float32).nbytes for name in checkpoint.names)
    for each in result.recipes:
        _model(source, each.recipe).save(tmp_path / each.recipe)
        file = (tmp_path / each.recipe / "model.safetensors").read_bytes()
        assert each.bytes == len(file) - 8 - int.from_bytes(file[:8], "little")
        assert each.ratio == each.bytes / result.reference_bytes
    assert result.recipes[1].bytes < result.recipes[0].bytes


def test_ranges_are_those_of_the_feed_forward_network(source: Path) -> None:
    seen: dict[str, list[Any]] = {}

    def observe(name: str, x: Any) -> Any:
        seen.setdefault(name, []).append(x[0])
        return x

    for text in SENTENCES:
        _floats(source, text, observe)
    ranges = _report(source, ["intsim"], "sst2", CLASSES).ranges
    assert len(ranges) == 4
    for i in (0, 1):
        layer = f"encoder.layer.{i}"
        into = np.concatenate(seen[f"{layer}.attention.output.LayerNorm"])
        out = np.concatenate(seen[f"{layer}.output.sum"]) - into
        for name, x in ((f"{layer}.attention.output.LayerNorm", into), (f"{layer}.output.dense", out)):
            np.testing.assert_allclose(np.ravel(ranges[name].low), x.min(axis=0), atol=1e-5)
            np.testing.assert_allclose(np.ravel(ranges[name].high), x.max(axis=0), atol=1e-5)
            assert ranges[name].side == ("input" if x is into else "output")


def test_the_batches_change_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _report(source, ["intsim"], "sst2", CLASSES).to_json()["recipes"][0]["errors"]
    monkeypatch.setattr("intsim.report.evaluate.BATCH", 2)
    for found, one in zip(_report(source, ["intsim"], "sst2", CLASSES).recipes[0].errors, expected, strict=True):
        assert found.squared == pytest.approx(one["squared"], rel=1e-4)
        assert found.relative == pytest.approx(one["relative"], rel=1e-4)
        assert found.parts == pytest.approx(one["parts"], abs=1e-3 * one["squared"])


@pytest.mark.parametrize("jobs", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_any_number_of_processes_gives_the_same_report(
    headless: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr("intsim.report.evaluate.BATCH", 3)  # several batches
    arguments: Any = (headless, ["intsim", "zeroquant:groups=2"], "stsb", PAIRS)
    alone = report_on(*arguments, calibration=TEXTS).to_json()
    assert report_on(*arguments, calibration=TEXTS, jobs=jobs).to_json() == alone


def test_the_float_model_runs_once_over_the_data_for_all_recipes(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def counted(family: Any, weights: Any, config: Any, head: Any, ids: Any, **options: Any) -> Any:
        rows.append(len(ids))
        return run(family, weights, config, head, ids, **options)

    monkeypatch.setattr("intsim.report.report.run", counted)
    _report(source, ["intsim", "ibert", "w8a8"], "sst2", CLASSES)
    assert sum(rows) == len(CLASSES)


@pytest.mark.parametrize(
    ("recipes", "task", "complaint"),
    [
        (["intsim", "nothing"], "sst2", "recipe must be one of"),
        (["intsim"], "stsb", "model must have no classifier, or one of a single label for stsb, got 2 labels"),
    ],
)
def test_what_cannot_be_reported_is_refused(source: Path, recipes: Sequence[str], task: Any, complaint: str) -> None:
    with pytest.raises(IntsimError, match=complaint):
        _report(source, recipes, task, CLASSES)


# ---- the command


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text("\n".join(TEXTS))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "dev.tsv"
    path.write_text("".join(f"{example.target}\t{example.texts[0]}\n" for example in CLASSES))
    return path


def _command(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


@pytest.mark.parametrize(
    ("values", "recipes"),
    [
        (("intsim",), ["intsim"]),
        (("intsim,ibert", "w8a8"), ["intsim", "ibert", "w8a8"]),
        (("peg:groups=4,estimator=mse,intsim",), ["peg:groups=4,estimator=mse", "intsim"]),
        (("a:x=1,y=2,b:x=3,c", "d:z=4,w=5"), ["a:x=1,y=2", "b:x=3", "c", "d:z=4,w=5"]),
    ],
)
def test_recipes_are_listed_by_commas_with_their_parameters(values: tuple[str, ...], recipes: list[str]) -> None:
    assert recipe_list(values) == recipes


def test_the_command_prints_one_object(source: Path, data: Path, calibration: Path) -> None:
    outcome = _command(
        source, "--calibration", calibration, "--recipes", "intsim,ibert", "--task", "sst2", "--data", data, "--json"
    )
    assert outcome.exit_code == 0
    assert outcome.stderr == ""  # no terminal, no progress
    plain = json.loads(outcome.stdout)
    assert list(plain) == ["task", "n", "reference", "reference_bytes", "recipes", "ranges"]
    assert plain == json.loads(json.dumps(_report(source, ["intsim", "ibert"], "sst2", CLASSES).to_json()))
    assert list(plain["recipes"][0]) == ["recipe", "metrics", "cosine", "bytes", "ratio", "errors", "model_digest"]
    digests = [intsim.quantize(source, recipe=name, calibration=TEXTS).digest for name in ("intsim", "ibert")]
    assert [each["model_digest"] for each in plain["recipes"]] == digests


def test_the_command_prints_a_table(source: Path, data: Path, calibration: Path) -> None:
    outcome = _command(
        source,
        "--calibration",
        calibration,
        "--recipes",
        "w8a8:residual_bits=16,estimator=mse",
        "--task",
        "sst2",
        "--data",
        data,
    )
    result = _report(source, ["w8a8:residual_bits=16,estimator=mse"], "sst2", CLASSES)
    assert outcome.stdout == format_report(result) + "\n"
    rows = [line.split() for line in outcome.stdout.splitlines()]
    (row,) = (row for row in rows if row and row[0] == "w8a8:residual_bits=16,estimator=mse" and "%" in row[-1])
    each = result.recipes[0]
    assert row[1:] == [
        f"{100 * each.metrics['accuracy']:.2f}",
        f"{each.cosine:.5f}",
        f"{each.errors[-1].relative:.4f}",
        str(each.bytes),
        f"{100 * each.ratio:.2f}%",
    ]
    assert [row[0] for row in rows if row and row[0] in (*LAYERS, "output")] == [*LAYERS, "output"]


def test_limit_and_calibration_reach_the_report(source: Path, data: Path, calibration: Path) -> None:
    arguments = (
        source,
        "--calibration",
        calibration,
        "--recipes",
        "intsim",
        "--task",
        "sst2",
        "--data",
        data,
        "--json",
    )
    found = json.loads(_command(*arguments, "--limit", 3, "--calibration-size", 1).stdout)
    assert found == json.loads(
        json.dumps(_report(source, ["intsim"], "sst2", CLASSES[:3], calibration=TEXTS[:1]).to_json())
    )
    assert json.loads(_command(*arguments, "--limit", 3, "--calibration-size", 1, "--jobs", 2).stdout) == found
    assert _command(*arguments, "--limit", 0).exit_code == 2
    assert _command(*arguments, "--jobs", 0).exit_code == 2


def test_the_plot_is_a_png_and_nothing_is_left_beside_it(
    source: Path, data: Path, calibration: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    file = tmp_path / "plots" / "report.png"
    outcome = _command(
        source,
        "--calibration",
        calibration,
        "--recipes",
        "intsim,ibert",
        "--task",
        "sst2",
        "--data",
        data,
        "--plot",
        file,
    )
    assert outcome.exit_code == 0
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list(file.parent.iterdir()) == [file]


def test_a_plot_without_matplotlib_is_refused_before_anything_runs(
    source: Path, data: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "intsim.report.plot", raising=False)
    file = tmp_path / "report.png"
    outcome = _command(
        source, "--calibration", calibration, "--recipes", "intsim", "--task", "sst2", "--data", data, "--plot", file
    )
    assert isinstance(outcome.exception, IntsimError)
    assert str(outcome.exception) == "a plot must have matplotlib to draw it, got none; pip install 'intsim[notebooks]'"
    assert "evaluating" not in outcome.stderr
    assert not file.exists()


def test_a_plot_that_cannot_be_written_is_refused_before_anything_runs(
    source: Path, data: Path, calibration: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    (tmp_path / "file").touch()
    arguments = (
        source,
        "--calibration",
        calibration,
        "--recipes",
        "intsim",
        "--task",
        "sst2",
        "--data",
        data,
        "--json",
    )
    outcome = _command(*arguments, "--plot", tmp_path / "file" / "report.png")
    assert isinstance(outcome.exception, IntsimError)
    assert "report.png must be writable" in str(outcome.exception)
    assert outcome.stdout == ""
    outcome = _command(*arguments, "--plot", tmp_path / "report.html")
    assert outcome.exit_code == 2
    assert f"a plot must be a .png file, got '{tmp_path / 'report.html'}'" in outcome.stderr
