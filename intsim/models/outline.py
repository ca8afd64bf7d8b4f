# SPDX-License-Identifier: Apache-2.0
"""The outline of a model: a family's table of contents, found by one walk over names and shapes."""

from dataclasses import dataclass, field, replace
from typing import Any

from intsim.models.config import Config
from intsim.models.family import Family
from intsim.models.world import OWN, Function, Head, Pairing, Pooling, Stored, View, rotated_name, tensor_name

__all__ = ["Activation", "Input", "Norm", "Outline", "Shape", "Tensor", "Total", "outline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The value of this world: the name of an activation, a product or a table's rows, and its channels.

    ``axis`` is the same number for channels that belong together, ``of_token`` false behind ``first`` and ``pool``.
    """

    name: str
    channels: int
    axis: int
    of_token: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor of the float model.

    ``axes`` are those of its channels, -1 for others. ``role`` is that of a weight, else empty, and ``source`` the
    activation that it is multiplied with. Where it is not stored itself, ``view`` names the stored tensors that it
    consists of, side by side, and the columns of each, ``^`` before a name transposing it; or how it is ``Stored``.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    role: str = ""
    view: View = field(default_factory=lambda: OWN)
    source: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensors that it is a view of, if these are tensors of the model."""
        return () if isinstance(self.view, Stored) else tuple(self.view)

    @property
    def is_embedding(self) -> bool:
        """Whether it is a table, whose channels are its columns."""
        return self.role.startswith("embedding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An activation that has a format, its own or that of the activation ``like``: of every token, or of a text."""

    role: str
    channels: int
    axis: int
    of_token: bool
    like: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What products read, and the activation it is taken from."""

    source: str
    of_token: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """A norm, or an affine map in its place: the activation it reads, and whether it multiplies by its weight + 1."""

    source: str
    unit_offset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A sum: the products and tables in it, and the activation, if there is one."""

    terms: tuple[str, ...]
    skip: str | None


@dataclass(kw_only=True)
class Outline:
    """The world of names and shapes; after the walk, the table of contents, in forward order.

    Attributes
    ----------
    tensors
        Name -> tensor of the float model.
    activations, inputs, norms, sums
        Name -> what it is.
    products
        Name of a layer with a weight -> the input it reads.
    functions
        Name of an activation -> the function that gives it.
    cached
        Keys and values that causal attention reads: those of earlier tokens are kept in a cache.
    result
        The output.
    """

    config: Any
    head: Head
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    activations: dict[str, Activation] = field(default_factory=dict[str, Activation])
    inputs: dict[str, Input] = field(default_factory=dict[str, Input])
    norms: dict[str, Norm] = field(default_factory=dict[str, Norm])
    sums: dict[str, Total] = field(default_factory=dict[str, Total])
    products: dict[str, str] = field(default_factory=dict[str, str])
    functions: dict[str, Function] = field(default_factory=dict[str, Function])
    cached: list[str] = field(default_factory=list[str])
    result: Shape = Shape(name="", channels=0, axis=-1)
    _same: list[int] = field(default_factory=list[int])

    def axis(self, number: int) -> int:
        """Return the number that stands for all axes found to be the same."""
        while self._same[number] != number:
            number = self._same[number]
        return number

    @property
    def stream(self) -> int:
        """The axis of the hidden states."""
        return self.axis(self.activations[self.hidden_states[-1]].axis)

    @property
    def hidden_states(self) -> list[str]:
        """The activations between the layers, those before the first and behind the last included."""
        roles = {name: activation.role for name, activation in self.activations.items()}
        normed = [name for name, role in roles.items() if role in {"norm", "output"}]
        stream = [name for name, role in roles.items() if role in {"embedding", "residual.ffn.stream"}]
        return [*stream[:-1], normed[-1]] if "residual.ffn.stream" in roles.values() else normed

    # ---- the walk

    def _axis(self) -> int:
        self._same.append(len(self._same))
        return len(self._same) - 1

    def _unite(self, *axes: int) -> None:
        first, *others = map(self.axis, axes)
        for other in others:
            self._same[other] = first

    def _tensor(self, name: str, *shape: int, axes: tuple[int, ...], **facts: Any) -> None:
        name = tensor_name(name)
        if name in self.tensors:  # a layer that runs again
            for mine, earlier in zip(axes, self.tensors[name].axes, strict=True):
                self._unite(earlier, mine)
        else:
            self.tensors[name] = Tensor(shape=shape, axes=axes, **facts)

    def _activation(self, x: Shape, role: str, like: str = "") -> Shape:
        self.activations[x.name] = Activation(
            role=role, channels=x.channels, axis=x.axis, of_token=x.of_token, like=like
        )
        return x

    def positions(self, ids: Shape, *, padding: int | None = None, mask: Shape | None = None, first: int = 0) -> Shape:
        return ids

    def embedding(
        self, name: str, ids: Shape, rows: int, columns: int, *, role: str, root_scaled: bool = False
    ) -> Shape:
        axis = self._axis()
        self._tensor(f"{name}.weight", rows, columns, axes=(-1, axis), role=role)
        return Shape(name=name, channels=columns, axis=axis)

    def sum(self, name: str, *terms: Shape, role: str) -> Shape:
        self._unite(*(term.axis for term in terms))
        skips = [term.name for term in terms if term.name in self.activations]
        others = tuple(term.name for term in terms if term.name not in self.activations)
        self.sums[name] = Total(terms=others, skip=skips[0] if skips else None)
        return self._activation(replace(terms[0], name=name), role)

    def layer_norm(self, name: str, x: Shape, *, eps: float, role: str) -> Shape:
        return self.affine(name, x, role=role)

    def rms_norm(self, name: str, x: Shape, *, eps: float, role: str, unit_offset: bool = False) -> Shape:
        self.norms[name] = Norm(source=x.name, unit_offset=unit_offset)
        self._tensor(f"{name}.weight", x.channels, axes=(x.axis,))
        return self._activation(replace(x, name=name), role)

    def affine(self, name: str, x: Shape, *, role: str) -> Shape:
        self.norms[name] = Norm(source=x.name)
        for part in ("weight", "bias"):
            self._tensor(f"{name}.{part}", x.channels, axes=(x.axis,))
        return self._activation(replace(x, name=name), role)

    def read(self, name: str, x: Shape) -> Shape:
        self.inputs[name] = Input(source=x.name, of_token=x.of_token)
        return replace(x, name=name)

    def linear(self, name: str, x: Shape, rows: int, *, role: str, view: View = OWN, bias: str | None = "") -> Shape:
        axis = self._axis()
        self.products[name] = x.name
        self._tensor(f"{name}.weight", rows, x.channels, axes=(axis, x.axis), role=role, view=view, source=x.name)
        for part in self.tensors[tensor_name(f"{name}.weight")].parts:
            if (tensor := self.tensors.get(part)) is not None:
                self._unite(tensor.axes[-1], x.axis)
        if bias is not None:
            stored = view if isinstance(view, Stored) else OWN
            self._tensor(f"{name}.bias", rows, axes=(axis,), view={bias: rows} if bias else stored)
        return replace(x, name=name, channels=rows, axis=axis)

    def requantize(self, x: Shape, *, role: str) -> Shape:
        return self._activation(x, role)

    def activation(self, name: str, x: Shape, *, function: Function, role: str) -> Shape:
        self.functions[name] = function
        return self._activation(replace(x, name=name), role)

    def multiply(self, name: str, x: Shape, y: Shape, *, role: str) -> Shape:
        self._unite(x.axis, y.axis)
        self._activation(y, "gate")
        return self._activation(replace(x, name=name), role)

    def rotary(self, x: Shape, positions: Shape, *, heads: int, size: int, pairing: Pairing) -> Shape:
        self._activation(x, "rotation")
        return replace(x, name=rotated_name(x.name))

    def attention(
        self,
        name: str,
        query: Shape,
        key: Shape,
        value: Shape,
        mask: Shape,
        *,
        heads: int,
        key_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> Shape:
        for role, x in zip(("query", "key", "value"), (query, key, value), strict=True):
            self._activation(x, role)
        if causal:
            self.cached += [key.name, value.name]
        axis = value.axis if value.channels == query.channels else self._axis()  # shared values are repeated
        return self._activation(replace(query, name=f"{name}.context", axis=axis), "context")

    def neighbours(self, name: str, x: Shape, mask: Shape) -> Shape:
        return self._activation(replace(x, name=name, channels=3 * x.channels, axis=self._axis()), "embedding", x.name)

    def first(self, x: Shape) -> Shape:
        return replace(x, of_token=False)

    def asked(self, x: Shape) -> Shape:
        return x

    def pool(self, name: str, x: Shape, mode: Pooling) -> Shape:
        self.output(x)
        return self._activation(replace(x, name=name, of_token=False), "head", x.name)

    def normalize(self, name: str, x: Shape) -> Shape:
        return self._activation(replace(x, name=name), "head")

    def logits(self, name: str, x: Shape, rows: int, *, view: View = OWN, bias: str | None = "") -> Shape:
        return self.linear(name, x, rows, role="head.logits", view=view, bias=bias)

    def output(self, x: Shape) -> Shape:
        return self._activation(x, "output") if x.of_token else x


def outline(family: Family, config: Config, head: Head) -> Outline:
    """Return the outline of ``family`` with this configuration and head."""
    found = Outline(config=config, head=head)
    tokens = Shape(name="", channels=0, axis=-1)
    found.result = family(found, tokens, tokens, tokens)
    return found
