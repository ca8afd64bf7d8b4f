# SPDX-License-Identifier: Apache-2.0
"""What processes do whose memory ``benchmarks.py`` measures: ``python -m tests.benchmark_tasks NAME ...``.

It brings nothing that its tasks do not need, and prints the peak memory in bytes.
"""

import sys
from pathlib import Path

import numpy as np

import intsim


def run(folder: str, batch: str, tokens: str) -> None:
    """Run a model once."""
    intsim.load(folder)(some_ids(int(batch), int(tokens)))


def quantize(folder: str, out: str, recipe: str = "intsim") -> None:
    """Quantize a checkpoint and save the model."""
    intsim.quantize(folder, recipe=recipe).save(out)


def read_prompt(folder: str) -> None:
    """Read a prompt of 512 tokens with a decoder."""
    model = intsim.load(folder)
    model(some_ids(1, 512), cache=model.start(), last=True)


def some_ids(batch: int, tokens: int) -> np.ndarray:
    """Return ids of words without a generator of numbers, which is 6 MB of memory."""
    return (7919 * np.arange(batch * tokens) % 20_000).reshape(batch, tokens)


TASKS = {"run": run, "quantize": quantize, "read_prompt": read_prompt}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*sys.argv[2:])
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage counts the parent's peak too
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
