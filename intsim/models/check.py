# SPDX-License-Identifier: Apache-2.0
"""What is proved of an integer model before it runs: every constant is there, and no operator can overflow."""

from typing import Any, NoReturn

from intsim.errors import CheckpointError
from intsim.models.constants import Constants
from intsim.models.outline import Outline, Shape
from intsim.models.widths import check_widths
from intsim.models.world import OWN, Function, Pairing, Pooling, Stored, View, rotated_name, tensor_name, term_name

__all__ = ["check"]


def check(model: Constants) -> None:
    """Refuse a model whose tensors are missing or misshapen, or whose constants could overflow an operator.

    Raises
    ------
    CheckpointError
        Naming the tensor, the activation or the layer.
    """
    world = _Checker(model)
    inputs = Shape(name="", channels=0, axis=-1)
    model.family(world, inputs, inputs, inputs)
    if "order" in model.tensors:
        channels = world.activations[world.hidden_states[-1]].channels
        world.tensor("order", "int64", (channels,))
        if sorted(model.tensors["order"].tolist()) != list(range(channels)):
            _refuse("tensor 'order' must be a permutation of the channels, got another")
    for name in world.norms:
        if f"{name}.smooth.multiplier" in model.tensors:
            world.ratio(f"{name}.smooth", (world.activations[name].channels,))
    if unexpected := sorted(model.tensors.keys() - world.names):
        _refuse(f"integer checkpoint must hold the tensors of its model only, got '{unexpected[0]}'")
    check_widths(model)


def _refuse(msg: str) -> NoReturn:
    raise CheckpointError(msg) from None


class _Checker(Outline):
    """The world whose values are shapes, and whose layers look for the constants they need."""

    def __init__(self, model: Constants) -> None:
        super().__init__(config=model.config, head=model.head)
        self._model = model
        self.names: set[str] = set()
        self._rotated: set[str] = set()

    def tensor(self, name: str, dtype: str, *shapes: tuple[int, ...]) -> None:
        """Require a tensor of one of these shapes."""
        self.names.add(name)
        if name not in self._model.tensors:
            _refuse(f"integer checkpoint must hold tensor '{name}', got none of that name")
        values = self._model.tensors[name]
        if values.dtype != dtype or values.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            _refuse(f"tensor '{name}' must be {dtype} of shape {wanted}, got {values.dtype} of shape {values.shape}")

    def ratio(self, name: str, *shapes: tuple[int, ...]) -> None:
        """Require a dyadic of one of these shapes."""
        self.tensor(f"{name}.multiplier", "int64", *shapes)
        self.tensor(f"{name}.shift", "int64", self._model.tensors[f"{name}.multiplier"].shape)
        try:
            self._model.ratios(name)
        except ValueError as error:
            _refuse(f"dyadic '{name}' must be valid, got: {error}")

    def _codes(self, name: str, channels: int, *, symmetric: bool = False) -> None:
        if (found := self._model.formats.get(name)) is None:
            _refuse(f"integer checkpoint must give activation '{name}' a format, got none")
        if channels % found.groups:
            _refuse(f"activation '{name}' must have groups that divide its {channels} channels, got {found.groups}")
        if symmetric and found.zero_point != 0:
            _refuse(f"activation '{name}' must have zero point 0, got {found.zero_point}")

    def _same_format(self, name: str, source: str) -> None:
        if self._model.formats.get(name) != self._model.formats[source]:
            _refuse(f"activation '{name}' must have the format of '{source}', got another")

    def embedding(
        self, name: str, ids: Shape, rows: int, columns: int, *, role: str, root_scaled: bool = False
    ) -> Shape:
        self.tensor(f"{name}.weight", "int8", (rows, columns))
        self.ratio(name, (), (columns,))
        return super().embedding(name, ids, rows, columns, role=role, root_scaled=root_scaled)

    def sum(self, name: str, *terms: Shape, role: str) -> Shape:
        total, channels = super().sum(name, *terms, role=role), terms[0].channels
        for term in self.sums[name].terms:
            if f"{term}.bias" not in self._model.tensors:  # a table
                continue
            if self._model.tensors[f"{term}.bias"].dtype == "int64":  # quantized while running
                self._product_ratio(f"{term}.wide", term, channels)
                self.ratio(term, (), (channels,))
            else:
                self._product_ratio(term, term, channels)
        if self.sums[name].skip is not None:
            self.ratio(term_name(name), (), (channels,))
        self._codes(name, channels)
        return total

    def _norm(self, name: str, x: Shape) -> None:
        if self._model.formats[x.name].groups > 1:
            self.ratio(f"{x.name}.wide", (x.channels,))
        self.ratio(name, (x.channels,))
        self.tensor(f"{name}.bias", "int64", (x.channels,))
        self.tensor(f"{name}.eps", "int64", ())
        try:
            self._model.layer_norm_params(name)
        except ValueError as error:
            _refuse(f"LayerNorm '{name}' must have valid constants, got: {error}")
        self._codes(name, x.channels)

    def layer_norm(self, name: str, x: Shape, *, eps: float, role: str) -> Shape:
        self._norm(name, x)
        return super().layer_norm(name, x, eps=eps, role=role)

    def rms_norm(self, name: str, x: Shape, *, eps: float, role: str, unit_offset: bool = False) -> Shape:
        self._norm(name, x)
        return super().rms_norm(name, x, eps=eps, role=role, unit_offset=unit_offset)

    def affine(self, name: str, x: Shape, *, role: str) -> Shape:
        self.ratio(name, (x.channels,))
        self.tensor(f"{name}.bias", "int64", (x.channels,))
        self._codes(name, x.channels)
        return super().affine(name, x, role=role)

    def read(self, name: str, x: Shape) -> Shape:
        if name in self._model.formats:  # where it is not the activation itself
            self.ratio(name, (), (x.channels,))
            self._codes(name, x.channels)
        return super().read(name, x)

    def linear(self, name: str, x: Shape, rows: int, *, role: str, view: View = OWN, bias: str | None = "") -> Shape:
        weight, columns, dynamic = tensor_name(f"{name}.weight"), x.channels, x.name in self._model.dynamic
        if (
            weight not in self._model.tensors and not isinstance(view, Stored) and len(view) == 1
        ):  # the codes of the tensor that it views
            (weight,) = view
        self.tensor(weight, "int8", (rows, columns))
        divisors = [groups for groups in range(2, columns + 1) if columns % groups == 0]
        stacked = [] if dynamic else [(groups, rows) for groups in divisors]
        self.tensor(f"{name}.bias", "int64" if dynamic else "int32", (rows,), *stacked)
        if dynamic and f"{name}.acc.multiplier" in self._model.tensors:  # groups of input channels
            self.ratio(f"{name}.acc", *((groups, size) for groups in divisors for size in (1, rows)))
        return super().linear(name, x, rows, role=role, view=view, bias=bias)

    def _product_ratio(self, name: str, layer: str, rows: int) -> None:
        bias = self._model.tensors[f"{layer}.bias"]
        self.ratio(name, *([(), (rows,)] if bias.ndim == 1 else [(len(bias), 1), (len(bias), rows)]))

    def requantize(self, x: Shape, *, role: str) -> Shape:
        if x.name in self._rotated:
            self.ratio(x.name, ())
        else:
            self._product_ratio(x.name, x.name, x.channels)
        self._codes(x.name, x.channels)
        return super().requantize(x, role=role)

    def activation(self, name: str, x: Shape, *, function: Function, role: str) -> Shape:
        self._product_ratio(x.name, x.name, x.channels)
        self.ratio(name, (), (x.channels,))
        self._codes(name, x.channels)
        return super().activation(name, x, function=function, role=role)

    def multiply(self, name: str, x: Shape, y: Shape, *, role: str) -> Shape:
        self.requantize(y, role="gate")
        self.ratio(name, (), (x.channels,))
        self._codes(name, x.channels)
        return super().multiply(name, x, y, role=role)

    def rotary(self, x: Shape, positions: Shape, *, heads: int, size: int, pairing: Pairing) -> Shape:
        self.requantize(x, role="rotation")
        found = self._model.formats[x.name]
        if found.range.bits > 8 and found.zero_point != 0:
            _refuse(f"activation '{x.name}' must have zero point 0 or at most 8 bits, got {found.zero_point}")
        for part in ("cos", "sin"):
            self.tensor(f"rotary.{part}", "int16", (self.config.longest, size >> 1))
        self._rotated.add(rotated_name(x.name))
        return super().rotary(x, positions, heads=heads, size=size, pairing=pairing)

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
        for x in (query, key, value):
            self.requantize(x, role="")
        self.ratio(f"{name}.scores", ())
        self.ratio(f"{name}.context", (), (query.channels,))
        self._codes(f"{name}.context", query.channels)
        how: dict[str, Any] = {"heads": heads, "key_heads": key_heads, "causal": causal, "window": window}
        return super().attention(name, query, key, value, mask, **how)

    def neighbours(self, name: str, x: Shape, mask: Shape) -> Shape:
        self._same_format(name, x.name)
        return super().neighbours(name, x, mask)

    def pool(self, name: str, x: Shape, mode: Pooling) -> Shape:
        self._same_format(name, x.name)
        return super().pool(name, x, mode)

    def normalize(self, name: str, x: Shape) -> Shape:
        self._codes(name, x.channels, symmetric=True)
        return super().normalize(name, x)

    def logits(self, name: str, x: Shape, rows: int, *, view: View = OWN, bias: str | None = "") -> Shape:
        logits = super().logits(name, x, rows, view=view, bias=bias)
        self._product_ratio(name, name, rows)
        self._codes(name, rows, symmetric=True)
        return logits

    def output(self, x: Shape) -> Shape:
        self._codes(x.name, x.channels, symmetric=True)
        return super().output(x)
