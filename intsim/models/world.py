# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of a family: every kind of layer, with its equation and its shapes.

A family is a function over a ``World``, written once in forward order; the worlds give its lines their meaning. In the
outline a value is a name with its shape, among floats an array of reals, in the compiler a scale, among integers codes.

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, V rows of a table. Names are module paths of the
checkpoint. Roles say what an activation or a weight is for, whatever its family calls it: recipes speak of them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, get_args

__all__ = [
    "FUNCTIONS",
    "HEADS",
    "OWN",
    "POOLINGS",
    "ROLES",
    "WEIGHT_ROLES",
    "Function",
    "Head",
    "Pairing",
    "Pooling",
    "Stored",
    "Value",
    "View",
    "World",
    "is_role",
    "rotated_name",
    "tensor_name",
    "term_name",
]

Value: TypeAlias = Any
"""What a world computes with."""

Head: TypeAlias = Literal[
    "none",
    "sentence-embedding",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "masked-lm",
    "causal-lm",
]
HEADS: Final[tuple[Head, ...]] = get_args(Head)

Pooling: TypeAlias = Literal["mean", "cls", "last"]
POOLINGS: Final[tuple[Pooling, ...]] = get_args(Pooling)

Pairing: TypeAlias = Literal["halves", "neighbours"]
"""Which channels of a head are rotated together: i and i + R / 2, or 2 i and 2 i + 1."""

Function: TypeAlias = Literal[
    "gelu", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "tanh"
]
FUNCTIONS: Final[tuple[Function, ...]] = get_args(Function)

ROLES: Final = (
    "embedding",  # a sum of embeddings
    "query",
    "key",
    "value",
    "context",
    "residual.attention",  # the sum behind an attention block
    "residual.attention.stream",  # where no norm follows before the next sum
    "residual.ffn",
    "residual.ffn.stream",
    "rotation",  # queries and keys before they are rotated
    "gate",  # the factors of a gated product
    "norm",  # what a norm gives, and attention reads
    "ffn-input",
    "ffn-hidden",  # behind the activation function
    "ffn-hidden.gated",  # a gated product
    "output",  # the hidden states that are given, or pooled
    "head",  # what a head computes on its way
    "logits",
)
WEIGHT_ROLES: Final = (
    "embedding.word",
    "embedding.position",
    "embedding.type",
    "attention",
    "ffn",
    "head.dense",
    "head.logits",
)


class Stored(NamedTuple):
    """How a file stores a layer whose tensors are not its own, or lie otherwise: its weight and its bias.

    ``name`` is the layer's name in the file, whose weight may be ``transposed``, (K, N). It may hold several ``parts``
    one after another along the rows, in every one of ``heads`` groups of rows; the layer is number ``part`` of them.
    """

    name: str
    transposed: bool = False
    part: int = 0
    parts: int = 1
    heads: int = 1


View: TypeAlias = Mapping[str, int] | Stored

OWN: Final[Mapping[str, int]] = MappingProxyType({})
"""The view of a weight that is a tensor of its own."""


def rotated_name(name: str) -> str:
    """Return the name of the product ``name`` after its rotation."""
    return f"{name}.rotated"


def is_role(role: str, of: str) -> bool:
    """Say whether ``of`` is ``role`` or a kind of it: ``residual.ffn`` is a ``residual``."""
    return of == role or of.startswith(f"{role}.")


def tensor_name(name: str) -> str:
    """Return the checkpoint's name of a layer that runs several times: ``NAME@3`` is the fourth use of ``NAME``."""
    layer, used, rest = name.partition("@")
    return layer + rest.lstrip("0123456789") if used else name


def term_name(total: str) -> str:
    """Return the name under which the activation that goes into the sum ``total`` is rescaled."""
    return f"{total.removesuffix('.sum')}.residual"


class World(Protocol):
    """What a family is written in.

    Attributes
    ----------
    config
        The family's configuration: the fields of config.json that decide its shapes and arithmetic.
    head
        What follows the body.
    """

    config: Any
    head: Head

    def positions(self, ids: Value, *, padding: int | None = None, mask: Value | None = None, first: int = 0) -> Value:
        """Return the position of every token: its column, (T,).

        With ``mask`` it is ``first`` plus the number of tokens before it, (B, T), those in a cache among them.

        With ``padding`` they are counted over the tokens that are no padding, (B, T): position = padding + (ids up to
        here that are not ``padding``), and ``padding`` for padding itself.
        """
        ...

    def embedding(
        self, name: str, ids: Value, rows: int, columns: int, *, role: str, root_scaled: bool = False
    ) -> Value:
        """Return the rows of a table (V, C), maybe times sqrt(C), to be summed: (..., T) -> (..., T, C)."""
        ...

    def sum(self, name: str, *terms: Value, role: str) -> Value:
        """Return x_1 + x_2 + ...: embeddings, products and at most one activation of one shape."""
        ...

    def layer_norm(self, name: str, x: Value, *, eps: float, role: str) -> Value:
        """Return (x - mean) / sqrt(variance + eps) * weight + bias over the channels: (..., C) -> (..., C)."""
        ...

    def rms_norm(self, name: str, x: Value, *, eps: float, role: str, unit_offset: bool = False) -> Value:
        """Return x / sqrt(mean of x^2 + eps) * weight over the channels, or weight + 1: (..., C) -> (..., C)."""
        ...

    def affine(self, name: str, x: Value, *, role: str) -> Value:
        """Return x * weight + bias by channel, MobileBERT's NoNorm: (..., C) -> (..., C)."""
        ...

    def read(self, name: str, x: Value) -> Value:
        """Return what products take of the activation ``x``: it, or its codes in fewer bits."""
        ...

    def linear(self, name: str, x: Value, rows: int, *, role: str, view: View = OWN, bias: str | None = "") -> Value:
        """Return x W.T + b: (..., K) -> (..., N), N = ``rows``.

        Parameters
        ----------
        name
            W is the checkpoint's NAME.weight and b its NAME.bias, where the other arguments do not say otherwise.
        view
            The tensors that W consists of, side by side, and the columns of each, ``^`` before a name transposing it;
            or how W and b are ``Stored``.
        bias
            Another tensor that is b, or None where there is no b.
        """
        ...

    def requantize(self, x: Value, *, role: str) -> Value:
        """Return the product ``x`` as an activation of its own."""
        ...

    def activation(self, name: str, x: Value, *, function: Function, role: str) -> Value:
        """Return f(x) of a product, element by element."""
        ...

    def multiply(self, name: str, x: Value, y: Value, *, role: str) -> Value:
        """Return x y of an activation and a product, element by element."""
        ...

    def rotary(self, x: Value, positions: Value, *, heads: int, size: int, pairing: Pairing) -> Value:
        """Return the product ``x`` rotated head by head, the pair i of position p by p w_i: (B, T, H D) -> (B, T, H D).

        The first ``size`` channels of each head are rotated, the others stay; w_i as the configuration says.
        """
        ...

    def attention(
        self,
        name: str,
        query: Value,
        key: Value,
        value: Value,
        mask: Value,
        *,
        heads: int,
        key_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> Value:
        """Return softmax(Q K.T / sqrt(D)) V of products, head by head, keys where ``mask`` is: (B, T, H D).

        Parameters
        ----------
        heads, key_heads
            Of queries, and of keys and values where they are fewer: each serves heads / key_heads consecutive ones.
        causal
            Whether a token sees itself and the tokens before it only,
        window
            and of these the last so many.
        """
        ...

    def neighbours(self, name: str, x: Value, mask: Value) -> Value:
        """Return every token between its next and its previous one, 0 where there is none: (B, T, C) -> (B, T, 3 C)."""
        ...

    def first(self, x: Value) -> Value:
        """Return the first token: (B, T, C) -> (B, C)."""
        ...

    def asked(self, x: Value) -> Value:
        """Return what is read of the tokens whose next one is asked for: all, or the last, (B, T, C) or (B, C)."""
        ...

    def pool(self, name: str, x: Value, mode: Pooling) -> Value:
        """Return one vector of the hidden states of a text, in their format: (B, T, C) -> (B, C).

        ``mean`` is sum_t m_t x_t / sum_t m_t, where m is the mask that the family was given; ``cls`` the first token
        where it is true, ``last`` the last one.
        """
        ...

    def normalize(self, name: str, x: Value) -> Value:
        """Return x / sqrt(sum_c x_c^2), or 0 where all of x is 0: (..., C) -> (..., C)."""
        ...

    def logits(self, name: str, x: Value, rows: int, *, view: View = OWN, bias: str | None = "") -> Value:
        """Return x W.T + b as the output of a head, as ``linear``."""
        ...

    def output(self, x: Value) -> Value:
        """Return the hidden states, or what is pooled of them, as the output."""
        ...
