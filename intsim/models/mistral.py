# SPDX-License-Identifier: Apache-2.0
"""Mistral (Jiang et al. 2023): a LLaMA whose tokens may see a window of the last ones only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from intsim.models.decoder import stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.llama import LlamaConfig, gated
from intsim.models.world import Value, World

__all__ = ["MISTRAL", "MistralConfig", "mistral"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MistralConfig(LlamaConfig):
    """The configuration of a Mistral; ``sliding_window`` 0 is none."""

    num_key_value_heads: int = 8
    sliding_window: int = 4096

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json, where null is no window."""
        window = values.get("sliding_window", 4096)
        return super(MistralConfig, cls).read({**values, "sliding_window": 0 if window is None else window})


def mistral(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a Mistral."""
    return gated(w, ids, mask, window=w.config.sliding_window or None)


MISTRAL: Final = Family(
    forward=mistral, config=MistralConfig, architecture="Mistral", prefix="model.", rename=stored, heads=OF_DECODERS
)
