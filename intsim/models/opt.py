# SPDX-License-Identifier: Apache-2.0
"""OPT (Zhang et al. 2022): norms before or behind each sum, words of fewer channels than the layers in one size.

Shapes: B batch, T tokens, C channels, E channels of the words, F channels of the feed-forward network, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from intsim.models.config import Count, Size, refuse
from intsim.models.decoder import DecoderConfig, next_token
from intsim.models.family import OF_DECODERS, Family
from intsim.models.world import Function, Value, World

__all__ = ["OPT", "OptConfig", "opt"]

EPS: Final = 1e-5
FIRST: Final = 2
"""The position of the first token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptConfig(DecoderConfig):
    """The configuration of an OPT; without ``word_embed_proj_dim`` E is C."""

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {"layer_norm_elementwise_affine": (True,)}
    ALIASES: ClassVar[Mapping[str, str]] = {"_remove_final_layer_norm": "remove_final_layer_norm"}

    hidden_size: Size
    num_hidden_layers: Count
    num_attention_heads: Size
    ffn_dim: Size
    word_embed_proj_dim: int = 0
    activation_function: Function = "relu"
    do_layer_norm_before: bool = True
    remove_final_layer_norm: bool = False
    enable_bias: bool = True
    pad_token_id: int = 1
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super(OptConfig, self).__post_init__()
        if self.hidden_size % self.num_attention_heads:
            refuse("hidden_size", f"a multiple of num_attention_heads, {self.num_attention_heads}", self.hidden_size)

    @property
    def word_size(self) -> int:
        """Channels of the words."""
        return self.word_embed_proj_dim or self.hidden_size


def opt(w: World, ids: Value, mask: Value, _types: Value) -> Value:
    """Run an OPT."""
    c, size, before, d = w.config, w.config.hidden_size, w.config.do_layer_norm_before, "decoder"
    bias, kind = "" if c.enable_bias else None, ".stream" if before else ""
    x = w.embedding(f"{d}.embed_tokens", ids, c.vocab_size, c.word_size, role="embedding.word")
    if c.word_size != size:
        x = w.read(f"{d}.project_in.input", w.sum(f"{d}.embed_tokens.sum", x, role="embedding"))
        x = w.linear(f"{d}.project_in", x, size, role="ffn", bias=None)
    positions, rows = w.positions(ids, mask=mask, first=FIRST), c.max_position_embeddings + FIRST
    x = w.sum(
        f"{d}.sum",
        x,
        w.embedding(f"{d}.embed_positions", positions, rows, size, role="embedding.position"),
        role="embedding",
    )
    for n in (f"{d}.layers.{i}" for i in range(c.num_hidden_layers)):
        a, skip = f"{n}.self_attn", x
        if before:
            x = w.layer_norm(f"{n}.self_attn_layer_norm", x, eps=EPS, role="norm")
        h = w.read(f"{a}.input", x)
        q, k, v = (w.linear(f"{a}.{p}_proj", h, size, role="attention", bias=bias) for p in "qkv")
        x = w.attention(a, q, k, v, mask, heads=c.num_attention_heads, causal=True)
        x = w.linear(f"{a}.out_proj", w.read(f"{a}.out_proj.input", x), size, role="attention", bias=bias)
        x = w.sum(f"{a}.sum", x, skip, role=f"residual.attention{kind}")
        if not before:
            x = w.layer_norm(f"{n}.self_attn_layer_norm", x, eps=EPS, role="ffn-input")
        skip = x
        if before:
            x = w.layer_norm(f"{n}.final_layer_norm", x, eps=EPS, role="ffn-input")
        x = w.linear(f"{n}.fc1", w.read(f"{n}.fc1.input", x), c.ffn_dim, role="ffn", bias=bias)
        x = w.activation(f"{n}.activation", x, function=c.activation_function, role="ffn-hidden")  # (B, T, F)
        x = w.linear(f"{n}.fc2", w.read(f"{n}.fc2.input", x), size, role="ffn", bias=bias)
        x = w.sum(f"{n}.sum", x, skip, role=f"residual.ffn{kind}")
        if not before:
            x = w.layer_norm(f"{n}.final_layer_norm", x, eps=EPS, role="norm")
    if before and not c.remove_final_layer_norm:
        x = w.layer_norm(f"{d}.final_layer_norm", x, eps=EPS, role="norm")
    if c.word_size != size:
        x = w.linear(f"{d}.project_out", w.read(f"{d}.project_out.input", x), c.word_size, role="ffn", bias=None)
        x = w.requantize(x, role="norm")
    return next_token(w, x, table=f"{d}.embed_tokens", size=c.word_size)


OPT: Final = Family(forward=opt, config=OptConfig, architecture="OPT", prefix="model.", heads=OF_DECODERS)
