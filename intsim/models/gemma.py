# SPDX-License-Identifier: Apache-2.0
"""Gemma (Mesnard et al. 2024): a LLaMA with words times sqrt(C), norms times weight + 1, and GELU in its gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from intsim.models.decoder import stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.llama import LlamaConfig, gated
from intsim.models.world import Function, Value, World

__all__ = ["GEMMA", "GemmaConfig", "gemma"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmaConfig(LlamaConfig):
    """The configuration of a Gemma."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "attention_bias": (False,),
        "use_bidirectional_attention": (False,),
        "partial_rotary_factor": (1.0,),
    }

    num_key_value_heads: int = 16
    head_dim: int = 256
    hidden_act: Function = "gelu_pytorch_tanh"
    tie_word_embeddings: bool = True

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json; old ones call "gelu" what is its form by tanh."""
        function = values.get("hidden_activation") or values.get("hidden_act")
        named = {} if function in (None, "gelu") else {"hidden_act": function}
        return super(GemmaConfig, cls).read({**values, "hidden_act": None, **named})


def gemma(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a Gemma."""
    return gated(w, ids, mask, unit_offset=True, root_scaled=True)


GEMMA: Final = Family(
    forward=gemma, config=GemmaConfig, architecture="Gemma", prefix="model.", rename=stored, heads=OF_DECODERS
)
