# SPDX-License-Identifier: Apache-2.0
"""Zeros, as zeroed token types and pruning leave them: their codes are 0, and nothing else loses by them."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from intsim.io.huggingface import Checkpoint

WritesCheckpoint = Callable[..., Path]

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
TINY: Final = 1e-4  # beside weights of 0.2


def types(checkpoint: Checkpoint) -> list[str]:
    """Name the token types, or the positions where there are none."""
    roles = {name: tensor.role for name, tensor in checkpoint.outline.tensors.items()}
    found = [name for name, role in roles.items() if role == "embedding.type"]
    return found or [name for name, role in roles.items() if role == "embedding.position"]


def sublayer(role: str) -> Callable[[Checkpoint], list[str]]:
    """Name the products, and their biases, that end in the first sum of a role."""

    def names(checkpoint: Checkpoint) -> list[str]:
        first = next(name for name, x in checkpoint.outline.activations.items() if x.role == role and is_sum(name))
        ends = list(checkpoint.outline.sums[first].products)
        return [f"{name}.{part}" for name in ends for part in ("weight", "bias")]

    def is_sum(name: str) -> bool:
        return name.endswith("sum")

    return names


def query(checkpoint: Checkpoint) -> list[str]:
    """Name all queries."""
    return products(checkpoint, "query")


def every_value(checkpoint: Checkpoint) -> list[str]:
    """Name all values: attention gives nothing."""
    return products(checkpoint, "value")


def products(checkpoint: Checkpoint, role: str) -> list[str]:
    outline = checkpoint.outline
    found = [name for name, x in outline.activations.items() if x.role == role]
    stored = {name.partition("@")[0] + name.partition("@")[2].lstrip("0123456789") for name in found}
    return [f"{name}.{part}" for name in sorted(stored) for part in ("weight", "bias")]
