# SPDX-License-Identifier: Apache-2.0
"""Traces: what is recorded, and that a file of them can be run again."""

from importlib import resources

import numpy as np
import pytest

import intsim
from intsim.errors import CheckpointError
from intsim.io.safetensors_file import read
from intsim.io.trace_file import read_trace, write_trace

IDS = [[2, 187, 1194, 16, 994, 3]]


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


def test_the_manifest_says_what_each_tensor_is(model, steps, tmp_path):
    write_trace(tmp_path / "trace.safetensors", steps, model)
    _, metadata = read(tmp_path / "trace.safetensors")
    entries = {entry["name"]: entry for entry in metadata["trace"]}
    query = entries["encoder.layer.0.attention.self.query"]
    assert (query["operator"], query["dtype"], query["shape"]) == ("requantize", "int8", [1, 6, 128])
    assert (query["bits"], query["zero_point"]) == (8, 0)
    assert query["scale"]["multiplier"] > 0
    assert entries["encoder.layer.0.attention.self.query:product"]["operator"] == "step"
    assert metadata["profile_hash"] == model.profile.hash


@pytest.mark.parametrize("kept", [0, 7, 100, 20_000, -1])
def test_a_truncated_trace_is_refused(model, steps, tmp_path, kept):
    path = tmp_path / "trace.safetensors"
    write_trace(path, steps, model)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"trace.safetensors must"):
        read_trace(path)


def test_an_integer_checkpoint_is_not_a_trace(model, tmp_path):
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match="must be a trace"):
        read_trace(tmp_path / "model.safetensors")
