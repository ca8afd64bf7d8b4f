# SPDX-License-Identifier: Apache-2.0
"""Traces: what is recorded, and that a file of them can be run again."""

import json
import math
import sys
from fractions import Fraction
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import intsim
from intsim.cli import main
from intsim.errors import CheckpointError
from intsim.io.dumps import read_dump
from intsim.io.safetensors_file import read, write
from intsim.io.trace_file import TRACE, read_trace, write_trace
from intsim.verify.compare import compare

FLOAT = Path(__file__).resolve().parents[1] / "data" / "embedded-float"
IDS = [[2, 187, 1194, 16, 994, 3]]
MANIFEST = ["index", "name", "operator", "dtype", "shape", "bits", "scale", "zero_point"]
same_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model():
    return intsim.load(resources.files("intsim.embedded"))


@pytest.fixture(scope="module")
def steps(model):
    with intsim.trace("steps") as trace:
        model(IDS)
    return trace


def test_both_levels_hold_the_same_results(model, steps):
    with intsim.trace() as trace:
        model(IDS)
    assert list(trace) == [name for name in steps if ":" not in name]
    for name, values in trace.items():
        assert np.array_equal(values, steps[name]), name
        assert values.dtype == steps[name].dtype, name


def test_the_steps_of_each_operator_come_before_its_result(steps):
    names = list(steps)
    for name in names:
        if ":" in name:
            assert names.index(name) < names.index(name.split(":")[0])
    inside = {name.split(":")[1] for name in names if ":" in name}
    assert {"product", "rounded", "exp.z", "exp.p", "exp.polynomial", "sum", "q_erf", "variance", "std"} <= inside


def test_the_steps_of_softmax_are_those_of_its_definition(model, steps):
    name = "encoder.layer.0.attention.self.probs"
    e, total = steps[f"{name}:exp"], steps[f"{name}:sum"]
    one = model.profile.softmax.one
    assert np.array_equal((2 * e.astype(object) * one + total) // (2 * total.astype(object)), steps[name])


def test_a_model_that_runs_outside_records_nothing(model):
    with intsim.trace() as trace:
        pass
    model(IDS)
    assert not trace


def test_every_call_of_a_saved_trace_gives_its_result_again(model, steps, tmp_path):
    write_trace(tmp_path / "trace.safetensors", steps, model)
    trace, profile = read_trace(tmp_path / "trace.safetensors")
    assert profile == model.profile
    assert list(trace) == list(steps)
    assert list(trace.calls) == list(steps.calls)
    for name, call in trace.calls.items():
        assert np.array_equal(call.operator(*call.operands, **call.constants), steps[name]), name


@pytest.fixture(scope="module")
def saved(model, steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "trace.safetensors"
    write_trace(path, steps, model)
    return path


@pytest.fixture(scope="module")
def manifest(saved):
    _, metadata = read(saved)
    return {entry["name"]: entry for entry in metadata["trace"]}


def test_the_manifest_says_what_each_tensor_is(model, steps, saved, manifest):
    assert [(entry["index"], name) for name, entry in manifest.items()] == list(enumerate(steps))
    for name, entry in manifest.items():
        values = steps[name]
        assert set(MANIFEST) <= set(entry)
        assert (entry["dtype"], entry["shape"]) == (str(values.dtype), list(values.shape))
        assert int(values.min()) >= -(1 << (entry["bits"] - 1))
        assert int(values.max()) < 1 << entry["bits"] - (values.dtype.kind == "i")
        assert (entry["operator"] == "step") == (":" in name)
        assert (entry["scale"] is None) == (entry["zero_point"] is None) == (":" in name)
    context = manifest["encoder.layer.0.attention.self.context"]
    assert (context["operator"], context["dtype"], context["shape"]) == ("requantize", "int8", [1, 6, 128])
    assert (context["bits"], context["zero_point"]) == (8, 12)
    _, metadata = read(saved)
    assert metadata["profile_hash"] == model.profile.hash


def test_the_scales_of_the_manifest_follow_the_arithmetic(model, manifest):
    def scale(name):
        text = manifest[f"encoder.layer.1.{name}"]["scale"]
        return Fraction(text) if isinstance(text, str) else np.array([Fraction(s) for s in text])

    profile, self = model.profile, "attention.self"
    assert scale(f"{self}.probs") == Fraction(1, profile.softmax.one)
    assert scale("intermediate.dense") == Fraction(1, 1 << profile.gelu.input_fraction)
    assert scale("intermediate.gelu") == profile.gelu.output_scale
    # a ratio of scales has 31 bits
    scores = scale(f"{self}.query") * scale(f"{self}.key") / Fraction(math.sqrt(32))
    assert abs(scale(f"{self}.scores.acc") / scores - 1) < Fraction(1, 2**29)
    context = scale(f"{self}.probs") * scale(f"{self}.value")
    assert abs(scale(f"{self}.context.acc") / context - 1) < Fraction(1, 2**29)
    assert scale("intermediate.dense.acc").shape == (512,)


@pytest.mark.parametrize(
    ("name", "fractions"),
    [("pooler.tanh", (12, 14)), ("encoder.layer.0.intermediate.silu", (9, 23))],
    ids=["tanh", "silu"],
)
def test_the_scales_around_a_function_are_those_of_the_profile(tiny_bert, tmp_path, name, fractions):
    model = intsim.quantize(tiny_bert(hidden_act="silu"), calibration=["a good plot"])
    with intsim.trace() as trace:
        model([[2, 5, 6, 7, 3]])
    write_trace(tmp_path / "trace.safetensors", trace, model)
    _, metadata = read(tmp_path / "trace.safetensors")
    found = {entry["name"]: entry["scale"] for entry in metadata["trace"]}
    around = (f"{name.rpartition('.')[0]}.dense", name)
    assert [found[each] for each in around] == [f"1/{2**fraction}" for fraction in fractions]


@pytest.mark.parametrize("labels", [None, ("negative", "positive")])
@pytest.mark.parametrize("hidden_act", ["relu", "gelu", "silu", "quick_gelu"])
@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_every_result_of_every_model_has_a_scale(tiny_bert, tmp_path, labels, hidden_act, recipe):
    model = intsim.quantize(tiny_bert(labels=labels, hidden_act=hidden_act), recipe=recipe, calibration=["a good plot"])
    with intsim.trace() as trace:
        model([[2, 5, 6, 7, 3]])
    write_trace(tmp_path / "trace.safetensors", trace, model)
    _, metadata = read(tmp_path / "trace.safetensors")
    assert len(metadata["trace"]) > 40
    assert all(entry["scale"] is not None for entry in metadata["trace"])


def test_activations_in_groups_have_a_scale_and_a_zero_point_per_channel(tiny_bert, tmp_path):
    model = intsim.quantize(tiny_bert(), recipe="peg:groups=4", calibration=["a good plot"])
    with intsim.trace("steps") as trace:
        model([[2, 5, 6, 7, 3]])
    write_trace(tmp_path / "trace.safetensors", trace, model)
    _, metadata = read(tmp_path / "trace.safetensors")
    (entry,) = (entry for entry in metadata["trace"] if entry["name"] == "encoder.layer.0.output.sum")
    out = model.formats["encoder.layer.0.output.sum"]
    assert out.groups == 4
    scales = [Fraction(m, 1 << t) for m, t in zip(out.scale.multiplier.tolist(), out.scale.shift.tolist(), strict=True)]
    assert [Fraction(scale) for scale in entry["scale"]] == [scale for scale in scales for _ in range(4)]
    assert entry["zero_point"] == [zero_point for zero_point in out.zero_point for _ in range(4)]


@same_file
@given(st.data())
def test_any_bit_flipped_in_a_file_is_found_at_its_tensor_and_index(saved, steps, tmp_path, data):
    raw = bytearray(saved.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    name = data.draw(st.sampled_from(list(steps)))
    first, end = header[name]["data_offsets"]
    byte, bit = data.draw(st.integers(first, end - 1)), data.draw(st.integers(0, 7))
    raw[start + byte] ^= 1 << bit
    (tmp_path / "flipped.safetensors").write_bytes(raw)
    result = compare(read_dump(saved), read_dump(tmp_path / "flipped.safetensors"))
    assert result.first is not None
    (mismatch,) = result.first.mismatches
    assert (result.differing, result.first.count) == ((name,), 1)
    assert mismatch.index == np.unravel_index((byte - first) // steps[name].itemsize, steps[name].shape)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["intsim", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code, capsys.readouterr().err


@same_file
@given(st.data())
def test_a_trace_cut_anywhere_is_refused_in_one_sentence(saved, tmp_path, monkeypatch, capsys, data):
    raw = saved.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    edges = [0, 1, 7, 8, 9, header - 1, header, header + 1, len(raw) - 1]
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(raw[: data.draw(st.sampled_from(edges) | st.integers(0, len(raw) - 1))])
    for command in (["compare", cut, saved], ["compare", saved, cut], ["diagnose", cut, saved], ["inspect", cut]):
        status, message = run(monkeypatch, capsys, *command)
        assert status == 3
        # diagnose takes a file of less than a length for vectors
        assert message.startswith((f"intsim: {cut} must", "intsim: expected and actual must both be vectors"))
        assert message.count("\n") == 1


def damaged_hash(_tensors, metadata):
    metadata["profile_hash"] = "0" * 64


def damaged_profile(_tensors, metadata):
    metadata["profile"]["step_rounding"] = "floor"


def no_profile(_tensors, metadata):
    del metadata["profile"]


def no_manifest(_tensors, metadata):
    del metadata["trace"]


def no_level(_tensors, metadata):
    del metadata["level"]


def another_level(_tensors, metadata):
    metadata["level"] = "nope"


def a_number_for_a_name(_tensors, metadata):
    metadata["trace"][1]["name"] = 5


def a_list_for_an_entry(_tensors, metadata):
    metadata["trace"][1] = []


def a_text_for_a_shape(_tensors, metadata):
    metadata["trace"][1]["shape"] = "1"


def another_operator(_tensors, metadata):
    metadata["trace"][0]["operator"] = "__name__"


def no_list_of_operands(_tensors, metadata):
    metadata["trace"][0]["operands"] = {}


def a_number_for_a_digest(_tensors, metadata):
    metadata["model_digest"] = 5


def no_tensor(tensors, _metadata):
    del tensors["pooler"]


def wider_tensor(tensors, _metadata):
    tensors["pooler"] = tensors["pooler"].astype(np.int16)


def no_operand(tensors, _metadata):
    del tensors["classifier.acc@1"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged_hash, "trace.safetensors must carry the hash of its profile"),
        (damaged_profile, "trace.safetensors must carry the hash of its profile"),
        (no_profile, "trace.safetensors must carry a profile and a manifest, got damaged ones: no 'profile'"),
        (no_manifest, "trace.safetensors must be a trace of format version 1"),
        (no_level, "trace.safetensors must carry a profile and a manifest, got damaged ones: no 'level'"),
        (another_level, "trace.safetensors must carry .* level must be one of tensors, steps, got 'nope'"),
        (a_number_for_a_name, "trace.safetensors must carry .* name must be of type str, got 5"),
        (a_list_for_an_entry, "trace.safetensors must carry a profile and a manifest, got damaged ones: "),
        (a_text_for_a_shape, "trace.safetensors must carry .* shape must be of type list, got '1'"),
        (another_operator, "trace.safetensors must carry .* operator must be one of add, .*, got '__name__'"),
        (no_list_of_operands, "trace.safetensors must carry .* operands must be of type list, got {}"),
        (a_number_for_a_digest, "trace.safetensors must carry .* model_digest must be of type str, got 5"),
        (no_tensor, "trace.safetensors must hold every tensor of its manifest, got none for 'pooler'"),
        (wider_tensor, r"tensor 'pooler' of .*trace.safetensors must be int8 \[1, 128\], got int16 \[1, 128\]"),
        (no_operand, "trace.safetensors must hold what its calls need, got no 'classifier.acc@1'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_trace_that_contradicts_itself_is_refused(saved, tmp_path, monkeypatch, capsys, damage, message):
    tensors, metadata = read(saved)
    damage(tensors, metadata)
    path = tmp_path / "trace.safetensors"
    write(path, tensors, metadata, TRACE)
    with pytest.raises(CheckpointError, match=message):
        read_trace(path)
    if damage is not no_operand:  # of use to diagnose alone
        for command in (["compare", path, saved], ["compare", saved, path], ["inspect", path]):
            status, printed = run(monkeypatch, capsys, *command)
            assert (status, printed.count("\n")) == (3, 1)
    status, printed = run(monkeypatch, capsys, "diagnose", path, saved)
    assert (status, printed.count("\n")) == (3, 1)


def test_an_integer_checkpoint_is_not_a_trace(model, tmp_path):
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match="must be a trace"):
        read_trace(tmp_path / "model.safetensors")


def test_an_accumulator_that_requantization_saturates_has_its_true_width(tmp_path):
    texts = ["a nice day", "a film about love"]
    ita = intsim.quantize(FLOAT, recipe="ibert", profile="ita", calibration=texts)
    with intsim.trace("steps") as trace:
        ita(IDS)
    write_trace(tmp_path / "trace", trace, ita)
    name = "encoder.layer.0.attention.self.query.acc"
    golden = read_dump(tmp_path / "trace")
    assert (golden.bits[name], golden.bits["encoder.layer.0.attention.self.query"]) == (26, 8)
    assert read_trace(tmp_path / "trace")[0].bits[name] == 26
    words = [f"{int(value) & 0x3FFFFFF:07x}" for value in trace[name].ravel()]
    assert min(trace[name].ravel()) < 0
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / f"{name}.memh").write_text("\n".join(words))
    assert compare(golden, read_dump(tmp_path / "device")).first is None
    words[0] = f"{int(words[0], 16) ^ 1 << 25:07x}"
    (tmp_path / "device" / f"{name}.memh").write_text("\n".join(words))
    first = compare(golden, read_dump(tmp_path / "device")).first
    assert (first.count, first.largest) == (1, 1 << 25)
