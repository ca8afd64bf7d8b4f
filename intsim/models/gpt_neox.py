# SPDX-License-Identifier: Apache-2.0
"""GPT-NeoX (Black et al. 2022), and Pythia: a part of each head rotated, attention beside the feed-forward network.

Shapes: B batch, T tokens, C channels, F channels of the feed-forward network, V vocabulary.
"""

from dataclasses import dataclass
from typing import Final

from intsim.models.config import Count, Real, Size, refuse
from intsim.models.decoder import RopeConfig, next_token, stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.world import Function, Stored, Value, World

__all__ = ["GPT_NEOX", "GptNeoxConfig", "gpt_neox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GptNeoxConfig(RopeConfig):
    """The configuration of a GPT-NeoX."""

    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Size
    intermediate_size: Size
    hidden_act: Function = "gelu"
    layer_norm_eps: Real = 1e-5
    partial_rotary_factor: Real = 0.25
    use_parallel_residual: bool = True
    attention_bias: bool = True

    def __post_init__(self) -> None:
        super(GptNeoxConfig, self).__post_init__()
        if self.hidden_size % self.num_attention_heads:
            refuse("hidden_size", f"a multiple of num_attention_heads, {self.num_attention_heads}", self.hidden_size)
        size = self.hidden_size // self.num_attention_heads
        if self.rotated % 2 or not 2 <= self.rotated <= size:
            rule = f"an even number of the {size} channels of a head, 2 at least"
            refuse("partial_rotary_factor", rule, self.partial_rotary_factor)

    @property
    def rotated(self) -> int:
        """Channels of a head that are rotated."""
        return int(self.hidden_size // self.num_attention_heads * self.partial_rotary_factor)


def gpt_neox(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a GPT-NeoX, which stores query, key and value of a head one below the other."""
    c, size, heads, positions = (
        w.config,
        w.config.hidden_size,
        w.config.num_attention_heads,
        w.positions(ids, mask=mask),
    )
    bias = "" if c.attention_bias else None
    x = w.sum("embed_in.sum", w.embedding("embed_in", ids, c.vocab_size, size, role="embedding.word"), role="embedding")
    for n in (f"layers.{i}" for i in range(c.num_hidden_layers)):
        a, m, skip = f"{n}.attention", f"{n}.mlp", x
        h = w.read(f"{a}.input", w.layer_norm(f"{n}.input_layernorm", x, eps=c.layer_norm_eps, role="norm"))
        q, k, v = (
            w.linear(
                f"{a}.{p}",
                h,
                size,
                role="attention",
                bias=bias,
                view=Stored(f"{a}.query_key_value", False, i, 3, heads),
            )
            for i, p in enumerate(("query", "key", "value"))
        )
        q, k = (w.rotary(y, positions, heads=heads, size=c.rotated, pairing="halves") for y in (q, k))
        y = w.attention(a, q, k, v, mask, heads=heads, causal=True)
        y = w.linear(f"{a}.dense", w.read(f"{a}.dense.input", y), size, role="attention", bias=bias)
        if not c.use_parallel_residual:
            x = skip = w.sum(f"{a}.sum", y, skip, role="residual.attention.stream")
        x = w.layer_norm(f"{n}.post_attention_layernorm", x, eps=c.layer_norm_eps, role="ffn-input")
        x = w.linear(f"{m}.dense_h_to_4h", w.read(f"{m}.dense_h_to_4h.input", x), c.intermediate_size, role="ffn")
        x = w.activation(m, x, function=c.hidden_act, role="ffn-hidden")  # (B, T, F)
        x = w.linear(f"{m}.dense_4h_to_h", w.read(f"{m}.dense_4h_to_h.input", x), size, role="ffn")
        terms = (y, x, skip) if c.use_parallel_residual else (x, skip)
        x = w.sum(f"{n}.sum", *terms, role="residual.ffn.stream")
    x = w.layer_norm("final_layer_norm", x, eps=c.layer_norm_eps, role="norm")
    return next_token(w, x, table="embed_in", size=size, name="embed_out")


GPT_NEOX: Final = Family(
    forward=gpt_neox, config=GptNeoxConfig, architecture="GPTNeoX", prefix="gpt_neox.", rename=stored, heads=OF_DECODERS
)
