# SPDX-License-Identifier: Apache-2.0
"""GPT-J (Wang & Komatsuzaki 2021): attention and feed-forward network side by side, neighbours rotated together.

Shapes: B batch, T tokens, C channels, F channels of the feed-forward network, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from intsim.models.config import Count, Real, Size, refuse
from intsim.models.decoder import RopeConfig, next_token, stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.world import Function, Value, World

__all__ = ["GPTJ", "GptjConfig", "gptj"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GptjConfig(RopeConfig):
    """The configuration of a GPT-J; without ``n_inner`` F is 4 C."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {"rope_theta": (10000.0,), "rope_type": ("default",)}
    ALIASES: ClassVar[Mapping[str, str]] = {"n_positions": "max_position_embeddings"}

    n_embd: Size = 4096
    n_layer: Count = 28
    n_head: Size = 16
    n_inner: int = 0
    rotary_dim: Size = 64
    activation_function: Function = "gelu_new"
    layer_norm_epsilon: Real = 1e-5

    def __post_init__(self) -> None:
        super(GptjConfig, self).__post_init__()
        if self.n_embd % self.n_head:
            refuse("n_embd", f"a multiple of n_head, {self.n_head}", self.n_embd)
        if self.rotary_dim % 2 or self.rotary_dim > self.n_embd // self.n_head:
            refuse("rotary_dim", f"even and at most {self.n_embd // self.n_head}, a head's channels", self.rotary_dim)


def gptj(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a GPT-J."""
    c, size, positions = w.config, w.config.n_embd, w.positions(ids, mask=mask)
    x = w.sum("wte.sum", w.embedding("wte", ids, c.vocab_size, size, role="embedding.word"), role="embedding")
    for n in (f"h.{i}" for i in range(c.n_layer)):
        a, m, skip = f"{n}.attn", f"{n}.mlp", x
        x = w.layer_norm(f"{n}.ln_1", x, eps=c.layer_norm_epsilon, role="norm")
        h = w.read(f"{a}.input", x)
        q, k, v = (w.linear(f"{a}.{p}_proj", h, size, role="attention", bias=None) for p in "qkv")
        q, k = (w.rotary(y, positions, heads=c.n_head, size=c.rotary_dim, pairing="neighbours") for y in (q, k))
        y = w.attention(a, q, k, v, mask, heads=c.n_head, causal=True)
        y = w.linear(f"{a}.out_proj", w.read(f"{a}.out_proj.input", y), size, role="attention", bias=None)
        x = w.linear(f"{m}.fc_in", w.read(f"{m}.fc_in.input", x), c.n_inner or 4 * size, role="ffn")
        x = w.activation(m, x, function=c.activation_function, role="ffn-hidden")  # (B, T, F)
        x = w.linear(f"{m}.fc_out", w.read(f"{m}.fc_out.input", x), size, role="ffn")
        x = w.sum(f"{n}.sum", y, x, skip, role="residual.ffn.stream")
    x = w.layer_norm("ln_f", x, eps=c.layer_norm_epsilon, role="norm")
    return next_token(w, x, table="wte", size=size, bias="")


GPTJ: Final = Family(
    forward=gptj, config=GptjConfig, architecture="GPTJ", prefix="transformer.", rename=stored, heads=OF_DECODERS
)
