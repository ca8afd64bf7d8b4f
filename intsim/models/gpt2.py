# SPDX-License-Identifier: Apache-2.0
"""GPT-2 (Radford et al. 2019).

Shapes: B batch, T tokens, C channels, F channels of the feed-forward network, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from intsim.models.config import Count, Real, Size, refuse
from intsim.models.decoder import DecoderConfig, next_token, stored
from intsim.models.family import OF_DECODERS, Family
from intsim.models.world import Function, Stored, Value, World

__all__ = ["GPT2", "Gpt2Config", "gpt2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpt2Config(DecoderConfig):
    """The configuration of a GPT-2; without ``n_inner`` F is 4 C."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    }
    ALIASES: ClassVar[Mapping[str, str]] = {"n_positions": "max_position_embeddings"}

    n_embd: Size = 768
    n_layer: Count = 12
    n_head: Size = 12
    n_inner: int = 0
    activation_function: Function = "gelu_new"
    layer_norm_epsilon: Real = 1e-5
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super(Gpt2Config, self).__post_init__()
        if self.n_embd % self.n_head:
            refuse("n_embd", f"a multiple of n_head, {self.n_head}", self.n_embd)


def gpt2(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run a GPT-2, whose layers store their weights (K, N), those of query, key and value in one tensor."""
    c, size, eps = w.config, w.config.n_embd, w.config.layer_norm_epsilon
    words = w.embedding("wte", ids, c.vocab_size, size, role="embedding.word")
    positions = w.positions(ids, mask=mask)
    places = w.embedding("wpe", positions, c.max_position_embeddings, size, role="embedding.position")
    x = w.sum("wte.sum", words, places, role="embedding")  # (B, T, C)
    for n in (f"h.{i}" for i in range(c.n_layer)):
        a, m, skip = f"{n}.attn", f"{n}.mlp", x
        h = w.read(f"{a}.input", w.layer_norm(f"{n}.ln_1", x, eps=eps, role="norm"))
        parts = [Stored(f"{a}.c_attn", transposed=True, part=i, parts=3) for i in range(3)]
        q, k, v = (
            w.linear(f"{a}.{p}", h, size, role="attention", view=part) for p, part in zip("qkv", parts, strict=True)
        )
        x = w.attention(a, q, k, v, mask, heads=c.n_head, causal=True)
        x = _dense(w, f"{a}.c_proj", x, size, role="attention")
        x = skip = w.sum(f"{a}.sum", x, skip, role="residual.attention.stream")
        x = w.layer_norm(f"{n}.ln_2", x, eps=eps, role="ffn-input")
        x = _dense(w, f"{m}.c_fc", x, c.n_inner or 4 * size, role="ffn")
        x = w.activation(m, x, function=c.activation_function, role="ffn-hidden")  # (B, T, F)
        x = _dense(w, f"{m}.c_proj", x, size, role="ffn")
        x = w.sum(f"{m}.sum", x, skip, role="residual.ffn.stream")
    return next_token(w, w.layer_norm("ln_f", x, eps=eps, role="norm"), table="wte", size=size)


def _dense(w: World, name: str, x: Value, rows: int, *, role: str) -> Value:
    return w.linear(name, w.read(f"{name}.input", x), rows, role=role, view=Stored(name, transposed=True))


GPT2: Final = Family(
    forward=gpt2, config=Gpt2Config, architecture="GPT2", prefix="transformer.", rename=stored, heads=OF_DECODERS
)
