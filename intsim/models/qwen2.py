# SPDX-License-Identifier: Apache-2.0
"""Qwen2 (Yang et al. 2024): a LLaMA whose queries, keys and values have biases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, cast

from intsim.models.config import refuse
from intsim.models.decoder import stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.llama import LlamaConfig, gated
from intsim.models.world import Value, World

__all__ = ["QWEN2", "Qwen2Config", "qwen2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2Config(LlamaConfig):
    """The configuration of a Qwen2."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "use_sliding_window": (False,),
        "partial_rotary_factor": (1.0,),
    }

    num_key_value_heads: int = 32

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json, whose layers all see all tokens."""
        given: Any = values.get("layer_types")
        kinds = [given] if given is not None and not isinstance(given, list) else cast("list[Any]", given or [])
        if any(kind != "full_attention" for kind in kinds):
            refuse("layer_types", "'full_attention' for every layer", values["layer_types"])
        return super(Qwen2Config, cls).read(values)


def qwen2(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a Qwen2."""
    return gated(w, ids, mask, bias="")


QWEN2: Final = Family(
    forward=qwen2, config=Qwen2Config, architecture="Qwen2", prefix="model.", rename=stored, heads=OF_DECODERS
)
