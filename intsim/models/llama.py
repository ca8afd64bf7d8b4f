# SPDX-License-Identifier: Apache-2.0
"""LLaMA (Touvron et al. 2023), and those who have its body.

Shapes: B batch, T tokens, C channels, H heads of D channels, F channels of the feed-forward network, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from intsim.models.config import Count, Real, Size, refuse
from intsim.models.decoder import RopeConfig, next_token, stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.world import Function, Value, World

__all__ = ["LLAMA", "LlamaConfig", "gated", "llama"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig(RopeConfig):
    """The configuration of a LLaMA; without ``num_key_value_heads`` every head has its own keys."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "partial_rotary_factor": (1.0,),
    }

    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Size
    num_key_value_heads: int = 0
    head_dim: int = 0
    intermediate_size: Size
    hidden_act: Function = "silu"
    rms_norm_eps: Real = 1e-6

    def __post_init__(self) -> None:
        super(LlamaConfig, self).__post_init__()
        if self.num_attention_heads % self.key_heads:
            refuse(
                "num_attention_heads", f"a multiple of num_key_value_heads, {self.key_heads}", self.num_attention_heads
            )
        if self.size % 2:
            refuse("head_dim", "even, since its channels are rotated in pairs", self.size)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json, where null ``num_key_value_heads`` are as many as there are."""
        is_null = "num_key_value_heads" in values and values["num_key_value_heads"] is None
        return super(LlamaConfig, cls).read({**values, "num_key_value_heads": 0} if is_null else values)

    def in_full(self) -> dict[str, Any]:
        """Return every field, also those that config.json may leave out."""
        return {**super(LlamaConfig, self).in_full(), "num_key_value_heads": self.key_heads, "head_dim": self.size}

    @property
    def key_heads(self) -> int:
        """How many heads of keys and values there are."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def size(self) -> int:
        """Channels of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


def llama(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a LLaMA."""
    return gated(w, ids, mask)


def gated(
    w: World,
    ids: Value,
    mask: Value,
    *,
    bias: str | None = None,
    window: int | None = None,
    unit_offset: bool = False,
    root_scaled: bool = False,
) -> Value:
    """Run a LLaMA.

    Parameters
    ----------
    bias
        "" where queries, keys and values have one, else None.
    window
        How many tokens a token sees.
    unit_offset
        Whether norms multiply by weight + 1.
    root_scaled
        Whether words are multiplied by sqrt(C).
    """
    c, positions = w.config, w.positions(ids, mask=mask)
    norm: dict[str, Any] = {"eps": c.rms_norm_eps, "unit_offset": unit_offset}
    rows = {"q": c.num_attention_heads * c.size, "k": c.key_heads * c.size, "v": c.key_heads * c.size}
    words: dict[str, Any] = {"role": "embedding.word", "root_scaled": root_scaled}
    x = w.embedding("embed_tokens", ids, c.vocab_size, c.hidden_size, **words)
    x = w.sum("embed_tokens.sum", x, role="embedding")  # (B, T, C)
    for n in (f"layers.{i}" for i in range(c.num_hidden_layers)):
        a, m, skip = f"{n}.self_attn", f"{n}.mlp", x
        x = w.rms_norm(f"{n}.input_layernorm", x, role="norm", **norm)
        h = w.read(f"{a}.input", x)
        q, k, v = (w.linear(f"{a}.{p}_proj", h, rows[p], role="attention", bias=bias) for p in "qkv")  # (B, T, H D)
        q = w.rotary(q, positions, heads=c.num_attention_heads, size=c.size, pairing="halves")
        k = w.rotary(k, positions, heads=c.key_heads, size=c.size, pairing="halves")
        how: dict[str, Any] = {
            "heads": c.num_attention_heads,
            "key_heads": c.key_heads,
            "causal": True,
            "window": window,
        }
        x = w.attention(a, q, k, v, mask, **how)
        x = w.linear(f"{a}.o_proj", w.read(f"{a}.o_proj.input", x), c.hidden_size, role="attention", bias=None)
        x = skip = w.sum(f"{a}.sum", x, skip, role="residual.attention.stream")
        x = w.rms_norm(f"{n}.post_attention_layernorm", x, role="ffn-input", **norm)
        h = w.read(f"{m}.input", x)
        gate, up = (w.linear(f"{m}.{p}_proj", h, c.intermediate_size, role="ffn", bias=None) for p in ("gate", "up"))
        x = w.multiply(
            f"{m}.product", w.activation(m, gate, function=c.hidden_act, role="gate"), up, role="ffn-hidden.gated"
        )
        x = w.linear(f"{m}.down_proj", w.read(f"{m}.down_proj.input", x), c.hidden_size, role="ffn", bias=None)
        x = w.sum(f"{m}.sum", x, skip, role="residual.ffn.stream")
    x = w.rms_norm("norm", x, role="norm", **norm)
    return next_token(w, x, table="embed_tokens", size=c.hidden_size)


LLAMA: Final = Family(
    forward=llama, config=LlamaConfig, architecture="Llama", prefix="model.", rename=stored, heads=OF_DECODERS
)
