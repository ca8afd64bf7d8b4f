# SPDX-License-Identifier: Apache-2.0
"""What decoders share: their configuration, that of a rotary embedding, and what follows the body."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias, cast

from intsim.models.config import Config, Real, Size, refuse
from intsim.models.heads import refuse_head
from intsim.models.world import OWN, Value, World

__all__ = ["DecoderConfig", "RopeConfig", "next_token", "stored"]

RopeType: TypeAlias = Literal["default", "linear", "llama3"]

SCALING: Final = ("rope_parameters", "rope_scaling")  # objects of config.json, of new and of old transformers
NEEDED: Final = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Kind of rotary embedding -> what config.json has to say of it."""
MAX_POSITIONS: Final = 1 << 22
"""Of a rotary embedding, whose table is made, not read: as many as the longest contexts in use have tokens."""
SMALLEST: Final = 10**9
"""1 / SMALLEST is the least that frequencies are divided by, which are to be finite: what is in use is 1 at least."""
UNCOMPUTED: Final = (
    "attn_logit_softcapping",  # Gemma 2
    "final_logit_softcapping",
    "query_pre_attn_scalar",
    "attention_multiplier",  # Granite
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "logit_scale",  # Cohere
    "clip_qkv",  # OLMo
)
"""Fields by which relatives of these decoders compute something else."""
OLD_NAMES: Final = {"type": "rope_type", "rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig(Config):
    """The configuration of a decoder; ``eos_token_id`` are the tokens that end a text."""

    eos_token_id: tuple[int, ...] = ()
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        super(DecoderConfig, self).__post_init__()
        for each in self.eos_token_id:
            if type(each) is not int or not 0 <= each < self.vocab_size:
                refuse("eos_token_id", f"ids below vocab_size, {self.vocab_size}", each)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json, where one id, several or none may be ``eos_token_id``."""
        for name in UNCOMPUTED:
            if values.get(name) is not None:
                refuse(name, "left out, since no decoder here computes it", values[name])
        eos: Any = values.get("eos_token_id")
        ends = () if eos is None else tuple(cast("list[Any]", eos)) if isinstance(eos, list) else (eos,)
        pad: Any = values.get("pad_token_id")
        return super(DecoderConfig, cls).read(
            {**values, "eos_token_id": ends, "pad_token_id": None if pad == -1 else pad}  # LLaMA's first have -1
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that ``to_json`` wrote."""
        return super(DecoderConfig, cls).from_json({**values, "eos_token_id": tuple(values["eos_token_id"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig(DecoderConfig):
    """That of a decoder with rotary embedding (Su et al. 2021): w_i = theta**(-2 i / R) for the pair i of R channels.

    Parameters
    ----------
    rope_type
        ``default``: w_i as it is; ``linear``: w_i / factor; ``llama3``: waves of more than L / low_freq_factor tokens,
        L = original_max_position_embeddings, get w_i / factor, those of less than L / high_freq_factor keep w_i, and
        between the two it goes over from one to the other.
    partial_rotary_factor
        The part of a head's channels that is rotated.
    """

    rope_type: RopeType = "default"
    rope_theta: Real = 10000.0
    partial_rotary_factor: Real = 1.0
    factor: Real = 1.0
    low_freq_factor: Real = 1.0
    high_freq_factor: Real = 4.0
    original_max_position_embeddings: Size = 8192

    def __post_init__(self) -> None:
        super(RopeConfig, self).__post_init__()
        if self.max_position_embeddings > MAX_POSITIONS:
            refuse("max_position_embeddings", f"at most {MAX_POSITIONS}", self.max_position_embeddings)
        for name in ("rope_theta", "factor"):
            if getattr(self, name) * SMALLEST < 1:
                refuse(name, f"at least 1 / {SMALLEST}", getattr(self, name))
        if self.rope_type == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            refuse("high_freq_factor", f"above low_freq_factor, {self.low_freq_factor}", self.high_freq_factor)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json of old or new transformers."""
        given = dict(values)
        for name in SCALING:
            if (scaling := values.get(name)) is not None:
                said = cast("dict[str, Any]", scaling) if isinstance(scaling, dict) else None
                if said is None or any(isinstance(value, dict) for value in said.values()):
                    refuse(name, "an object of one rotation for all layers", cast("object", scaling))
                given |= said
        for old, name in OLD_NAMES.items():
            if old in given:
                given.setdefault(name, given[old])
        for kind, needed in NEEDED.items():
            for name in needed:
                if given.get("rope_type") == kind and given.get(name) is None:
                    refuse(name, f"given with rope_type {kind!r}", None)
        reals = ("rope_theta", "partial_rotary_factor", "factor", "low_freq_factor", "high_freq_factor")
        given |= {name: _real(given[name]) for name in reals if name in given}
        return super(RopeConfig, cls).read(given)


def _real(value: Any) -> Any:  # JSON may write 10000.0 as 10000
    return float(value) if type(value) is int else value


BUFFERS: Final = (
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
)


def stored(name: str) -> str | None:
    """Return the name of what is a weight; old files have masks and frequencies beside them."""
    return None if name.endswith(BUFFERS) else name


def next_token(w: World, x: Value, *, table: str, size: int, name: str = "lm_head", bias: str | None = None) -> Value:
    """Return the output of the world's head for hidden states ``x``, (B, T, C).

    Parameters
    ----------
    w, x
        The world and the hidden states.
    table, size
        The table of words, and its columns, by which ``causal-lm`` scores where the configuration ties them.
    name, bias
        The layer that scores, and its bias, None where it has none.
    """
    match w.head:
        case "none":
            return w.output(x)  # (B, T, C)
        case "sequence-classification":
            x = w.pool("pooling", x, "last")
            return w.logits("score", w.read("score.input", x), len(w.config.labels), bias=None)  # (B, labels)
        case "causal-lm":
            x = w.asked(w.read(f"{name}.input", x))  # a range of a sequence is that of all its tokens
            view = {f"{table}.weight": size} if w.config.tie_word_embeddings else OWN
            return w.logits(name, x, w.config.vocab_size, view=view, bias=bias)  # (B, T, V) or (B, V)
        case _:
            return refuse_head(w, "a decoder")
