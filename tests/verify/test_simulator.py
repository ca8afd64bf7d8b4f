# SPDX-License-Identifier: Apache-2.0
"""Layers of the embedded model through the reference RTL: to the bit, and a wrong unit is seen where it is wrong."""

import shutil
from importlib import resources

import numpy as np
import pytest
from click.testing import CliRunner
from families import tiny
from verify.rtl import require

import intsim
from intsim import ops
from intsim.cli import cli
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, UINT8, Dyadic, IntRange, Rounding
from intsim.io.dumps import Dump, read_dump
from intsim.io.exported import model_contents
from intsim.io.trace_file import read_trace
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE
from intsim.verify.bench import write_bench
from intsim.verify.compare import compare
from intsim.verify.replay import NotComputedError, replay, run_calls
from intsim.verify.simulator import simulated

RATIO = Dyadic(1610612736, 33)
SUM = ("dense.multiplier", "residual.multiplier", "sum.zero_point")  # constants of a sum


def run(*arguments):
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def kernels(tmp_path):
    require("iverilog")
    return simulated(tmp_path / "sim", stall=20, resets=2)


@pytest.fixture(scope="module")
def recorded():
    """Return the trace of the embedded model on a short sentence."""
    model = intsim.load(resources.files("intsim.embedded"))
    with intsim.trace("steps") as trace:
        model([[1, 7, 42, 2]])
    return trace


def test_a_softmax_and_a_norm_of_a_model_pass_through_the_units(recorded, kernels):
    some = {name: kernels[name] for name in ("softmax", "layer_norm")}
    assert replay(recorded, some, layer="encoder.layer.0.*").first is None
    found = replay(recorded, {"requantize": kernels["requantize"]}, layer="encoder.layer.0.attention.self.query")
    assert (found.first, found.compared) == (None, 1)


@pytest.mark.slow
def test_layer_0_of_the_embedded_model_through_the_units_is_equal_to_the_bit(tmp_path):
    require("iverilog")
    trace, device = tmp_path / "trace.safetensors", tmp_path / "device.npz"
    with resources.as_file(resources.files("intsim.embedded")) as model:
        assert run("run", model, "--text", "a quiet film", "--trace", trace, "--level", "steps").exit_code == 0
        assert run("export", model, "--memh", tmp_path / "w", "--word-bits", 64).exit_code == 0
    layer = ("--layer", "encoder.layer.0.*", "--out", device, "--work", tmp_path / "sim")
    assert run("vectors", "replay", trace, *layer, "--weights", tmp_path / "w", "--stall", 10).exit_code == 0
    with np.load(device) as results:
        assert len(results.files) == 20  # all
    compared = run("compare", trace, device)
    assert compared.exit_code == 0
    assert "equal: 20 tensors, to the bit" in compared.output


def test_kernels_read_the_weights_and_constants_of_an_export(tmp_path):
    trace, folder = tmp_path / "trace.safetensors", tmp_path / "w"
    with resources.as_file(resources.files("intsim.embedded")) as model:
        assert run("run", model, "--text", "a quiet film", "--trace", trace, "--level", "steps").exit_code == 0
        assert run("export", model, "--memh", folder, "--word-bits", 64, "--banks", 2).exit_code == 0
        assert run("export", model, "--memh", tmp_path / "some", "--layer", "classifier").exit_code == 0
    recorded, weights = read_trace(trace)[0], read_dump(folder)
    kernels = {name: getattr(ops, name) for name in ("matmul", "requantize", "add", "softmax", "layer_norm")}
    results = run_calls(recorded, kernels, weights=weights)
    assert len(results) > 30
    assert compare(results, {name: recorded[name] for name in results}).first is None

    own = "encoder.layer.0.attention.self.query", "encoder.layer.0.output.LayerNorm"
    changed = {
        f"{own[0]}.weight": f"{own[0]}.acc",
        f"{own[0]}.bias": f"{own[0]}.acc",
        f"{own[0]}.multiplier": own[0],
        f"{own[0]}.shift": own[0],
        f"{own[0].removesuffix('query')}scores.multiplier": f"{own[0].removesuffix('query')}probs",
        **{f"{own[1]}.{part}": own[1] for part in ("multiplier", "bias", "eps")},
        **{f"encoder.layer.0.output.{part}": "encoder.layer.0.output.sum" for part in SUM},
    }
    for name, call in changed.items():
        other = read_dump(folder)
        other[name] = other[name] // 2 if name.endswith((".multiplier", ".bias")) else other[name] + 1
        other[name] = weights[name] + (1 << 40) if name.endswith("eps") else other[name]
        found = run_calls(recorded, kernels, layer="encoder.layer.0.*", weights=other)
        assert [key for key in found if not np.array_equal(found[key], recorded[key])] == [call]

    with pytest.raises(IntsimError, match=r"weights must hold what .* reads, got no encoder.*; export them without"):
        run_calls(recorded, kernels, layer="encoder.*", weights=read_dump(tmp_path / "some"))
    damaged = {
        f"{own[1]}.eps": (np.ones(2, np.int64), "a value of another kind"),
        f"{own[0]}.multiplier": (np.array(1 << 40), r"multiplier and shift must have one shape, got \(\) and .*"),
    }
    for name, (values, got) in damaged.items():
        other = read_dump(folder)
        other[name] = values
        with pytest.raises(IntsimError, match=rf"^weights must be what encoder\.layer\.0\..* can read, got: {got}$"):
            run_calls(recorded, kernels, layer="encoder.layer.0.*", weights=other)
    weights.model_digest = "0" * 64
    with pytest.raises(
        IntsimError, match=r"weights must be an export of the trace's model, .* got one of 000000000000"
    ):
        run_calls(recorded, kernels, weights=weights)


def _leaves(value, own):
    """Yield the arrays in what a call reads, and whether they are its model's, whose tensors are ``own``."""
    match value:
        case list() | tuple():
            for each in value:
                yield from _leaves(each, own)
        case Dyadic():
            yield from ((part, True) for part in (value.multiplier, value.shift))
        case ops.LayerNormParams():
            yield from ((part, True) for part in (value.weight.multiplier, value.weight.shift, value.bias, value.eps))
        case np.ndarray():
            yield value, id(value if value.base is None else value.base) in own


GROUPS = """
[[weights]]
names = "*.dense.weight"
bits = 8
granularity = "group"
groups = 4
axis = "input"
[[weights]]
names = "*"
bits = 8
granularity = "tensor"
[[activations]]
names = "*"
bits = 8
symmetric = true
"""
TOKENS = """
[[inputs]]
names = "*"
bits = 8
symmetric = true
range = "token"
"""


@pytest.mark.parametrize("kind", ["a decoder", "tied weights", "groups", "groups, while running"])
def test_whatever_calls_read_of_their_model_is_taken_from_the_export(kind, tmp_path):
    if kind == "a decoder":
        model = intsim.load(resources.files("intsim.embedded") / "stories")
    else:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(GROUPS if kind == "groups" else GROUPS + TOKENS)
        path = tiny("bert", "masked-lm" if kind == "tied weights" else "none", tmp_path)
        model = intsim.quantize(path, recipe=recipe, calibration=["a good movie", "the plot is bad"])
    with intsim.trace("steps") as recorded:
        model([[2, 9, 10, 3]])
    recorded.model_digest = model.digest
    weights = Dump()
    for name, tensor in model_contents(model).tensors.items():  # every one another
        weights[name] = tensor.values + (-1 if name.endswith((".multiplier", ".shift")) else 1)
    weights.model_digest = model.digest
    calls, given = list(recorded.calls.values()), []

    def kernel(*operands, **constants):
        given.append([operands, list(constants.values())])
        return calls[len(given) - 1].result

    run_calls(recorded, {call.operator.__name__: kernel for call in calls}, weights=weights)
    own = {id(values if values.base is None else values.base) for values in model.tensors.values()}
    for call, parts in zip(calls, given, strict=True):
        before = _leaves([call.operands, list(call.constants.values())], own)
        for (own_values, of_model), (values, _) in zip(before, _leaves(parts, own), strict=True):
            assert of_model != np.array_equal(own_values, values), call.name


def test_a_wrong_unit_is_found_at_the_first_call_that_shows_it(recorded, tmp_path):
    require("iverilog")
    write_bench("softmax", tmp_path / "mine")
    unit = tmp_path / "mine" / "softmax.sv"
    correct = unit.read_text()
    wrong = correct.replace("+ (PROB_BITS + 2)'({remainder, 1'b0} >= {1'b0, total})", "")
    assert wrong != correct
    unit.write_text(wrong)
    kernels = simulated(tmp_path / "sim", units=tmp_path / "mine")
    found = replay(recorded, {"softmax": kernels["softmax"]})
    assert found.first is not None
    assert found.first.name == "encoder.layer.0.attention.self.probs"


@pytest.mark.parametrize(("x", "w", "bias"), [(np.int8, (6, 5), True), (np.uint8, (2, 3, 6, 5), False)])
def test_products_of_any_shape_are_cut_into_tiles_and_put_together(kernels, x, w, bias):
    random = np.random.default_rng(0)
    limits = np.iinfo(x)
    codes = random.integers(limits.min, limits.max, (2, 3, 7, 5), x, endpoint=True)
    weights = random.integers(-128, 127, w, np.int8, endpoint=True)
    offset = random.integers(-1000, 1000, 6, np.int32) if bias else None
    expected = ops.matmul(codes, weights, bias=offset)
    result = kernels["matmul"](codes, weights, bias=offset)
    assert result.dtype == expected.dtype
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("to", [INT8, INT16, IntRange(8, narrow=True), IntRange(16, narrow=True)], ids=str)
def test_codes_of_every_format_are_requantized(kernels, to):
    acc = np.array([[-(2**31), -5, 0, 3], [2**31 - 1, 7, 100, -1_000_000]], np.int32)
    ratio = Dyadic([1, 1 << 30, 3, 1610612736], [0, 30, 1, 33])
    constants = {"to": to, "rounding": INTSIM.requantization, "zero_point": np.array([0, 5, -7, 1])}
    expected = ops.requantize(acc, ratio, **constants)
    assert expected.min() == to.min
    assert np.array_equal(kernels["requantize"](acc, ratio, **constants), expected)


def test_calls_that_no_unit_computes_are_refused(kernels):
    acc, x = np.zeros((2, 4), np.int32), np.zeros((2, 4), np.int8)
    calls = [
        ("requantize", (acc, RATIO), {"to": UINT8, "rounding": INTSIM.rounding}),
        ("requantize", (acc, RATIO), {"to": INT8, "rounding": Rounding.HALF_EVEN}),
        ("requantize", (acc, RATIO), {"to": INT8, "rounding": INTSIM.rounding, "addend": np.array(1)}),
        ("softmax", (acc, RATIO), {"profile": IBERT}),
        ("matmul", (x, x), {"x_zero_point": 1}),
        ("matmul", (x.astype(np.int16), x), {}),
        ("add", ([acc, acc], [RATIO] * 2), {"to": INT16, "profile": IBERT}),
        ("add", ([acc] * 3, [RATIO] * 3), {"to": INT16, "profile": INTSIM}),
        ("add", ([acc, acc + 32768], [RATIO] * 2), {"to": INT16, "profile": INTSIM}),
        ("gelu", (x.astype(np.int16),), {"profile": INTSIM_WIDE}),
    ]
    for name, operands, constants in calls:
        with pytest.raises(NotComputedError, match="must be a call that the reference units compute"):
            kernels[name](*operands, **constants)


@pytest.mark.parametrize("to", [INT8, INT16, IntRange(8, narrow=True)], ids=str)
def test_sums_and_norms_of_every_format_are_computed(kernels, to):
    random, fewest = np.random.default_rng(0), np.array([-(2**31), -7, 0, 2**31 - 1], np.int32)
    acc, residual = np.stack([fewest, random.integers(-(2**20), 2**20, 4)]), np.array([[-32768, 5, -9, 32767]] * 2)
    ratios = [Dyadic([1 << 30, 3, 1610612736, -(1 << 30)], [33] * 4), Dyadic(1 << 29, 33)]
    constants = {"to": to, "profile": INTSIM, "zero_point": np.array([0, 5, -7, 1])}
    expected = ops.add([acc, residual], ratios, **constants)
    assert expected.min() == to.min
    assert np.array_equal(kernels["add"]([acc, residual], ratios, **constants), expected)
    x = random.integers(-(2**15), 2**15, (2, 4)).astype(np.int16)
    params = ops.LayerNormParams(weight=Dyadic([1 << 30] * 4, [20] * 4), bias=np.zeros(4, np.int64), eps=1)
    expected = ops.layer_norm(x, params, to=to, profile=INTSIM)
    assert expected.min() == to.min
    assert np.array_equal(kernels["layer_norm"](x, params, to=to, profile=INTSIM), expected)


def test_what_no_unit_computes_is_skipped_and_said(tmp_path):
    require("iverilog")
    trace = tmp_path / "trace.safetensors"
    with resources.as_file(resources.files("intsim.embedded")) as model:
        assert run("run", model, "--text", "a quiet film", "--trace", trace, "--level", "steps").exit_code == 0
    options = ("--out", tmp_path / "device.npz", "--work", tmp_path / "sim")
    done = run("vectors", "replay", trace, "--layer", "embeddings.*", *options)
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-3:] == [
        "calls replayed: 1, skipped: 4",
        "skipped 3, first embeddings.word_embeddings: no kernel of embedding",
        "skipped 1, first embeddings.sum: add must be a call that the reference units compute, got 3 terms",
    ]
    with pytest.raises(IntsimError, match=r"named embeddings.sum that are computed, got none: add must be .* 3 terms"):
        run("vectors", "replay", trace, "--layer", "embeddings.sum", *options)


def test_a_machine_without_a_simulator_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IntsimError, match="got no iverilog; install the package iverilog"):
        simulated(tmp_path / "benches")


def test_a_unit_that_does_not_compile_or_answer_is_named(tmp_path):
    require("iverilog")
    acc, constants = np.zeros((1, 4), np.int32), {"to": INT8, "rounding": INTSIM.rounding}
    (tmp_path / "mine").mkdir()
    unit = tmp_path / "mine" / "requantize.sv"
    unit.write_text("module requantize(;")
    with pytest.raises(IntsimError, match="iverilog must succeed in"):
        simulated(tmp_path / "a", units=tmp_path / "mine")["requantize"](acc, RATIO, **constants)
    write_bench("requantize", tmp_path / "reference")
    correct = (tmp_path / "reference" / "requantize.sv").read_text()
    unit.write_text(correct.replace("valid_2 <= valid_1;", "valid_2 <= 1'b0;"))
    with pytest.raises(IntsimError, match=r"vvp must succeed in .* 0 of 4 cases answered"):
        simulated(tmp_path / "b", units=tmp_path / "mine")["requantize"](acc, RATIO, **constants)


def test_without_a_simulator_nothing_is_replayed(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(IntsimError, match="simulator must be installed"):
        simulated(tmp_path)
