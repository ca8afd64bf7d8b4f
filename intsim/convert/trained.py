# SPDX-License-Identifier: Apache-2.0
"""Activation ranges that came with the checkpoint, found by training with quantization instead of on text."""

from typing import Final

import numpy as np

from intsim.convert.ranges import Range
from intsim.errors import CheckpointError
from intsim.io.huggingface import Checkpoint

__all__ = ["trained_ranges"]

UNTRAINED: Final = 1.1e-5  # I-BERT's ranges start at +-1e-5, and count as unset while they are within this of 0


def trained_ranges(checkpoint: Checkpoint) -> dict[str, Range]:
    """Return the range of each activation whose range was trained, by its name.

    Each is the pair of numbers ``{name}.x_min`` and ``{name}.x_max`` of the checkpoint. A pair that training never
    moved from its start within 1.1e-5 of 0 is none. Where others are trained and the tanh of a head is not, as in
    I-BERT, whose head is left in float, its range is [-1, 1].

    Parameters
    ----------
    checkpoint
        The checkpoint.

    Raises
    ------
    CheckpointError
        If a range is not of an activation, or is not two single numbers in order.
    """
    names = list(checkpoint.outline.activations)
    trained: dict[str, dict[str, np.float64]] = {}
    for buffer, stored in checkpoint.ranges.items():
        name, _, end = buffer.rpartition(".")
        if name not in names:
            msg = f"trained range '{buffer}' must be of an activation of the model, such as '{names[0]}', got {name!r}"
            raise CheckpointError(msg)
        if stored.shape not in {(), (1,)}:
            msg = f"trained range '{buffer}' must be a single number, got shape {stored.shape}"
            raise CheckpointError(msg)
        trained.setdefault(name, {})[end] = np.float64(checkpoint.load(buffer).item())
    ranges: dict[str, Range] = {}
    for name, ends in trained.items():
        if len(ends) < 2 or ends["x_min"] > ends["x_max"]:
            got = " and ".join(f"{end} = {value}" for end, value in ends.items())
            msg = f"trained range of '{name}' must have an x_min and an x_max not below it, got {got}"
            raise CheckpointError(msg)
        if max(-ends["x_min"], ends["x_max"]) >= UNTRAINED:
            ranges[name] = ends["x_min"], ends["x_max"]
    for name, function in checkpoint.outline.functions.items():
        if ranges and function == "tanh":
            ranges.setdefault(name, (np.float64(-1), np.float64(1)))
    return ranges
