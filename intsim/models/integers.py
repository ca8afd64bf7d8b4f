# SPDX-License-Identifier: Apache-2.0
"""The world of integers: the forward pass of an integer model, over arrays, intervals and graph nodes alike.

Every result is that of one operator, under its name: NAME.acc is the int32 accumulator of a product, NAME.scaled its
rows times the bounds of their inputs, NAME.input what a product reads where that is not the activation itself.

Products and sums wait until their reader is known: a layer that reads them may run in one step with them, where that is
proved to give the same integers (``fused``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import call, observed
from intsim.carrier.blocks import Part, in_blocks, in_parts, is_alone, one_thread
from intsim.carrier.exact import Carrier, Integers, on_integers
from intsim.fixedpoint import INT16, INT32, IntRange
from intsim.models import fused
from intsim.models.constants import Constants
from intsim.models.functions import function_rule, pooling_operator
from intsim.models.world import OWN, Function, Head, Pooling, tensor_name, term_name
from intsim.profile import Gelu
from intsim.rounded import RoundedGelu

__all__ = ["run"]

BLOCK: Final = 1024  # tokens at a time
SCORES: Final = 1 << 17  # scores at a time


def run(
    model: Constants,
    input_ids: Integers,
    *,
    mask: NDArray[np.bool_],
    token_type_ids: Integers,
    carrier: Carrier = "auto",
) -> Integers:
    """Run the model.

    Parameters
    ----------
    model
        Integer tensors, formats and profile.
    input_ids, mask, token_type_ids
        (B, T); ``mask`` is true where there is a token.
    carrier
        Of the matrix products.

    Returns
    -------
    ndarray
        What the head gives, int32 logits, or the last hidden state (B, T, C) in its format.
    """
    if observed() or on_integers(carrier):
        world = IntegerWorld(model, mask, carrier=carrier, whole=True)
        return model.family(world, input_ids, mask, token_type_ids)

    def together(ids: Any, mask: Any, types: Any, part: Part | None = None) -> Integers:
        return model.family(IntegerWorld(model, mask, part=part), ids, mask, types)

    if is_alone():
        return together(input_ids, mask, token_type_ids)
    if len(input_ids) > 1:  # sequences never depend on each other

        @one_thread()
        def sequences(*inputs: Any) -> Integers:
            return together(*inputs)

        return in_blocks(sequences, input_ids, mask, token_type_ids, rows=max(1, BLOCK // input_ids.shape[1]))
    if any(how.per == "sequence" for how in model.dynamic.values()):
        return together(input_ids, mask, token_type_ids)
    # Tokens depend on each other only by what attention reads of them; what follows the first one is all in its part.
    parts = in_parts(partial(together, input_ids, mask, token_type_ids), input_ids.shape[1], axis=1)
    return np.concatenate(parts, axis=1) if parts[0].ndim > 2 else parts[0]


class Activation(NamedTuple):
    """Codes in the format ``name``."""

    name: str
    codes: Integers


class Rows(NamedTuple):
    """Rows of the table ``name``."""

    name: str
    codes: Integers


class Operand(NamedTuple):
    """What products read: codes, their range, and the bound they are relative to, where it is found while running."""

    codes: Integers
    range: IntRange
    bound: Integers | None = None

    @property
    def arrays(self) -> tuple[Integers, ...]:
        """What there is of codes and bound."""
        return (self.codes,) if self.bound is None else (self.codes, self.bound)


class Product(NamedTuple):
    """A product that waits for its reader: the layer ``name``, what it reads, and the tensor its weight is."""

    name: str
    operand: Operand
    weight: str


@dataclass(slots=True)
class Total:
    """A sum that waits for its readers, of which the first computes it."""

    name: str
    terms: "tuple[Rows | Product | Activation, ...]"
    codes: Integers | None = None


class Unscaled(NamedTuple):
    """What is to be rescaled: terms of different scales, and an addend in units of their products."""

    terms: list[Integers]
    addend: Integers | None = None


class IntegerWorld:
    """The world whose values are integers.

    Parameters
    ----------
    model
        Integer tensors, formats and profile.
    mask
        (B, T), true where there is a token.
    carrier
        Of the matrix products.
    whole
        Whether every operator runs by itself, because somebody looks at it.
    part
        The tokens that this thread works on, where several share a sequence.
    """

    def __init__(
        self,
        model: Constants,
        mask: NDArray[np.bool_],
        *,
        carrier: Carrier = "auto",
        whole: bool = False,
        part: Part | None = None,
    ) -> None:
        self.config: Any = model.config
        self.head: Head = model.head
        self._model, self._tensors, self._formats, self._profile = model, model.tensors, model.formats, model.profile
        self._carrier: Carrier = carrier
        self._whole, self._part = whole, part
        self._mask = mask

    def _mine(self, x: Any) -> Any:  # the tokens of my part: (..., T)
        return x if self._part is None else x[..., self._part.rows]

    # ---- formats

    def _zero_points(self, **names: str) -> dict[str, Any]:  # constant -> the zero point of an activation, if not 0
        return {constant: value for constant, name in names.items() if (value := self._formats[name].zero_point)}

    def _centred(self, x: Activation) -> Integers:  # codes less their zero point
        return x.codes.astype(np.int32) - np.int32(self._formats[x.name].offset(x.codes.shape[-1]))

    def _into(self, name: str, x: Integers, to: IntRange | None = None) -> dict[str, Any]:
        """Return range and zero point of the format ``name``, or of a fixed format of the profile."""
        out = self._formats.get(name)
        if to is not None or out is None:
            return {"to": to, "zero_point": 0}
        return {"to": out.range, "zero_point": out.offset(x.shape[-1])}

    def _rescale(self, name: str, x: Unscaled, to: IntRange | None = None) -> Integers:
        model, constants = self._model, self._into(name, x.terms[0], to)
        if len(x.terms) > 1:
            return call(name, ops.add, x.terms, model.ratios(name), profile=self._profile, **constants)
        if x.addend is not None:
            constants["addend"] = x.addend
        constants["rounding"] = self._profile.requantization
        return call(name, ops.requantize, x.terms[0], model.ratio(name), **constants)

    # ---- products and sums

    def _unscaled(self, x: Product) -> Unscaled:  # (..., K) -> (..., N)
        name, codes, bias = x.name, x.operand.codes, self._tensors[f"{x.name}.bias"]
        weight = self._tensors[x.weight]
        carrier = "integer" if on_integers(self._carrier) else self._model.weight(x.weight)
        multiply: Callable[..., Integers] = partial(call, carrier=carrier)
        if x.operand.bound is not None:
            acc = multiply(f"{name}.acc", ops.matmul, codes, weight)
            return Unscaled([call(f"{name}.scaled", ops.scale_rows, acc, x.operand.bound)], addend=bias)
        if bias.ndim == 1:
            return Unscaled([multiply(f"{name}.acc", ops.matmul, codes, weight, bias=bias)])
        size = weight.shape[1] // len(bias)  # a product for each group of input channels (Bondarenko et al., fig. 4)
        accs: list[Integers] = []
        for group, group_bias in enumerate(bias):
            columns = slice(group * size, (group + 1) * size)
            operands = codes[..., columns], weight[:, columns]
            acc = call(f"{name}.acc.{group}", ops.matmul, *operands, bias=group_bias, carrier=self._carrier)
            accs.append(acc)
        return Unscaled(accs)

    def _codes(self, x: Product) -> Integers:
        if not self._whole and (step := fused.dense(self._model, x.name, x.weight, x.operand.range)) is not None:
            return step(*x.operand.arrays)
        return self._rescale(x.name, self._unscaled(x))

    def _activation(self, x: Total | Activation) -> Activation:
        """Compute a sum that waited."""
        if isinstance(x, Activation):
            return x
        if x.codes is not None:
            return Activation(x.name, x.codes)
        terms, ratios = list[Integers](), list[Any]()
        for term in x.terms:
            match term:
                case Rows(name, codes):
                    terms.append(codes)
                    ratios.append(self._model.ratio(name))
                case Product(name=name):
                    product = self._unscaled(term)
                    if product.addend is not None:
                        product = Unscaled([self._rescale(f"{name}.wide", product, INT32)])
                    terms += product.terms
                    ratios += self._model.ratios(name)
                case Activation():
                    terms.append(self._centred(term))
                    ratios.append(self._model.ratio(term_name(x.name)))
        into = self._into(x.name, terms[0])
        x.codes = call(x.name, ops.add, terms, ratios, profile=self._profile, **into)
        return Activation(x.name, x.codes)

    # ---- the layers

    def positions(self, ids: Integers, *, padding: int | None = None) -> Integers:
        if padding is None:
            return np.arange(ids.shape[-1], dtype=np.int64, like=ids)
        return call("embeddings.position_ids", ops.position_ids, ids, padding=padding)

    def embedding(self, name: str, ids: Integers, rows: int, columns: int, *, role: str) -> Rows:
        return Rows(name, call(name, ops.embedding, self._mine(ids), self._tensors[f"{name}.weight"]))

    def sum(self, name: str, *terms: Any, role: str) -> Total:
        return Total(name, tuple(self._activation(term) if isinstance(term, Total) else term for term in terms))

    def layer_norm(self, name: str, x: Total | Activation, *, eps: float, role: str) -> Activation:
        match x:
            case Total(terms=(Product() as dense, Activation() as skip)) if not self._whole:
                step = fused.dense_residual(self._model, dense.name, dense.weight, x.name, name, skip.name)
                if step is not None:
                    return Activation(name, step(*dense.operand.arrays, skip.codes))
            case _:
                pass
        source, codes = self._activation(x)
        if self._formats[source].groups > 1:  # LayerNorm reads one scale
            codes = self._rescale(f"{source}.wide", Unscaled([self._centred(Activation(source, codes))]), INT16)
        params, to = self._model.layer_norm_params(name), self._formats[name].range
        return Activation(name, call(name, ops.layer_norm, codes, params, to=to, profile=self._profile))

    def affine(self, name: str, x: Total | Activation, *, role: str) -> Activation:
        codes = self._centred(self._activation(x))
        constants: dict[str, Any] = {"addend": self._tensors[f"{name}.bias"], "rounding": self._profile.rounding}
        constants |= self._into(name, codes)
        return Activation(name, call(name, ops.requantize, codes, self._model.ratio(name), **constants))

    def read(self, name: str, x: Total | Activation) -> Operand:
        x = self._activation(x)
        out = self._formats[x.name]
        if (how := self._model.dynamic.get(name)) is not None:
            zero_point = {"zero_point": out.zero_point}
            mask = self._mine(self._mask) if len(x.codes.shape) > 2 else None
            how_found = {"per": how.per, "clip": how.clip, "mask": mask}
            bound = call(f"{name}.bound", ops.dynamic_bound, x.codes, **how_found, **zero_point)
            constants: dict[str, Any] = {"unit": how.unit, "to": how.range, "rounding": self._profile.rounding}
            codes = call(name, ops.quantize_dynamic, x.codes, bound, **constants, **zero_point)
            return Operand(codes, how.range, bound)
        if name in self._formats:  # codes of fewer bits
            return Operand(self._rescale(name, Unscaled([self._centred(x)])), self._formats[name].range)
        return Operand(x.codes, out.range)

    def linear(
        self, name: str, x: Operand, rows: int, *, role: str, view: Mapping[str, int] = OWN, bias: str = ""
    ) -> Product:
        weight = tensor_name(f"{name}.weight")
        return Product(name, x, weight if weight in self._tensors else next(iter(view)))

    def requantize(self, x: Product, *, role: str) -> Activation:
        return Activation(x.name, self._codes(x))

    def activation(self, name: str, x: Product, *, function: Function, role: str) -> Activation:
        rule = self._model.once(f"{name}.rule", lambda: function_rule(function, self._profile))
        profile = {} if rule.operator is ops.relu else {"profile": self._profile}

        def apply(codes: Integers) -> Integers:  # of the rule's format -> codes
            y = call(f"{name}.{rule.operator.__name__}", rule.operator, codes, **profile)
            return self._rescale(name, Unscaled([y]))

        is_table = rule.operator is not ops.gelu or isinstance(self._profile.gelu, Gelu | RoundedGelu)
        is_one = not self._model.ratio(name).multiplier.ndim and self._formats[name].groups == 1  # for all channels
        if is_table and is_one and not self._whole:
            step = fused.dense_activated(self._model, x.name, x.weight, x.operand.range, apply)
            if step is not None:
                return Activation(name, step(*x.operand.arrays))
        return Activation(name, apply(self._rescale(x.name, self._unscaled(x), rule.input_range)))

    def attention(
        self, name: str, query: Product, key: Product, value: Product, mask: NDArray[np.bool_], *, heads: int
    ) -> Activation:
        q, k, v = (self._codes(x) for x in (query, key, value))
        if self._part is not None:
            k, v = self._part.all_of(k, v)
        keep, context = mask[..., None, None, :], f"{name}.context"
        q, k, v = (_split(x, heads) for x in (q, k, v))  # (B, H, T, D)
        names = query.name, key.name, value.name
        if not self._whole and (step := fused.attention(self._model, name, names, q.shape[-1])) is not None:
            at_once = max(1, SCORES // (q.shape[-2] * k.shape[-2]))
            return Activation(context, _joined(in_blocks(step, q, k, v, keep, core=2, rows=at_once)))
        multiply: Callable[..., Integers] = partial(call, carrier=self._carrier)
        zero_points = self._zero_points(x_zero_point=query.name, w_zero_point=key.name)
        scores = multiply(f"{name}.scores.acc", ops.matmul, q, k, **zero_points)  # (B, H, T, T)
        ratio, profile = self._model.ratio(f"{name}.scores"), self._profile
        probs = call(f"{name}.probs", ops.softmax, scores, ratio, profile=profile, mask=keep)
        zero_points = self._zero_points(w_zero_point=value.name)
        acc = multiply(f"{context}.acc", ops.matmul, probs, v.swapaxes(-1, -2), **zero_points)
        return Activation(context, self._rescale(context, Unscaled([_joined(acc)])))

    def neighbours(self, name: str, x: Total | Activation, mask: NDArray[np.bool_]) -> Activation:
        source, codes = self._activation(x)
        if self._part is not None:
            (codes,) = self._part.all_of(codes)
        zero_point = self._zero_points(zero_point=source)
        around = call(name, ops.neighbours, codes, mask=mask, **zero_point)
        return Activation(name, around if self._part is None else around[:, self._part.rows])

    def first(self, x: Activation) -> Activation:
        return Activation(x.name, x.codes[:, 0])

    def pool(self, name: str, x: Total | Activation, mode: Pooling) -> Activation:
        _, codes = self._activation(x)
        if self._part is not None:
            (codes,) = self._part.all_of(codes)
        operator, constants = pooling_operator(mode, self._profile)
        return Activation(name, call(name, operator, codes, self._mask, **constants))

    def normalize(self, name: str, x: Activation) -> Activation:
        return Activation(name, call(name, ops.l2_normalize, x.codes, profile=self._profile))

    def logits(self, name: str, x: Operand, rows: int, *, view: Mapping[str, int] = OWN, bias: str = "") -> Integers:
        return self._codes(self.linear(name, x, rows, role="head.logits", view=view, bias=bias))

    def output(self, x: Activation) -> Integers:
        if "order" not in self._tensors:
            return x.codes
        name = "last_hidden_state" if self.head == "none" else "sentence_embedding"
        return call(name, ops.permute, x.codes, self._tensors["order"])


def _split(x: Integers, heads: int) -> Integers:  # (..., T, C) -> (..., H, T, D)
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-3, -2)


def _joined(x: Integers) -> Integers:  # (..., H, T, D) -> (..., T, C)
    x = x.swapaxes(-3, -2)
    return x.reshape(*x.shape[:-2], -1)
