# SPDX-License-Identifier: Apache-2.0
"""What tracing costs: next to nothing when it is off, and no second copy when it is written."""

import time
import tracemalloc
from importlib import resources

import numpy as np
import pytest
from trace_benchmarks import hook_calls, hook_seconds, hooks, no_call, no_recording_steps, no_step

import intsim
from intsim.io.safetensors_file import read
from intsim.io.trace_file import write_trace

IDS = np.random.default_rng(0).integers(5, 6000, (16, 64))


@pytest.fixture(scope="module")
def model():
    return intsim.load(resources.files("intsim.embedded"))


def test_trace_off_costs_less_than_two_percent_of_a_forward_pass(model):
    counted, seconds = hook_calls(lambda: model(IDS)), hook_seconds()
    assert min(counted[name] for name in ("call", "recording_steps")) > 0
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model(IDS)
        times.append(time.perf_counter() - start)
    cost = sum(counted[name] * seconds[name] for name in seconds)
    print(f"hooks {dict(counted)}, {cost * 1e6:.0f} us of {min(times) * 1e3:.1f} ms: {cost / min(times):.3%}")
    assert cost < 0.02 * min(times)


def test_the_pass_without_hooks_is_the_same_pass(model):
    expected = model(IDS).values
    with intsim.trace("steps") as trace, hooks(call=no_call, step=no_step, recording_steps=no_recording_steps):
        values = model(IDS).values
    assert not trace
    assert np.array_equal(values, expected)


def test_a_trace_is_written_without_a_second_copy(model, tmp_path):
    one = np.arange(2**23, dtype=np.int32).reshape(2**10, 2**13)  # 32 MB
    with intsim.trace() as trace:
        pass
    trace |= {"whole": one, "transposed": one.T, "reversed": one[::-1, ::2], "bytes": one.view(np.int8)}
    size = sum(values.nbytes for values in trace.values())
    tracemalloc.start()
    write_trace(tmp_path / "trace.safetensors", trace, model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{peak / 1e6:.1f} MB for a trace of {size / 1e6:.0f} MB: {peak / size:.2%}")
    assert peak < 0.05 * size
    tensors, _ = read(tmp_path / "trace.safetensors")
    for name, values in trace.items():
        assert np.array_equal(tensors[name], values), name
