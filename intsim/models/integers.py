# SPDX-License-Identifier: Apache-2.0
"""The world of integers: the forward pass of an integer model, over arrays, intervals and graph nodes alike.

Every result is that of one operator, under its name: NAME.acc is the int32 accumulator of a product, NAME.scaled its
rows times the bounds of their inputs, NAME.input what a product reads where that is not the activation itself.

Products and sums wait until their reader is known: a layer that reads them may run in one step with them, where that is
proved to give the same integers (``fused``).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._progress import counted
from intsim._trace import call, observed
from intsim.carrier.blocks import Part, in_blocks, in_parts, is_alone, one_thread
from intsim.carrier.dynamic_steps import by_token
from intsim.carrier.exact import Carrier, Integers, on_integers
from intsim.fixedpoint import INT16, INT32, IntRange
from intsim.models import fused
from intsim.models.cache import Cache
from intsim.models.constants import Constants
from intsim.models.formats import GROUPED
from intsim.models.functions import function_rule, pooling_operator
from intsim.models.world import OWN, Function, Head, Pairing, Pooling, View, rotated_name, tensor_name, term_name
from intsim.profile import Gelu
from intsim.rounded import RoundedGelu

__all__ = ["advance", "run"]

BLOCK: Final = 1024  # tokens at a time
SCORES: Final = 1 << 18  # scores at a time
QUERIES: Final = 128  # of causal attention at a time
KEY: Final = 5  # work of a query's channel at a key, scores and softmax and all, in terms of products: measured


def run(
    model: Constants,
    input_ids: Integers,
    *,
    mask: NDArray[np.bool_],
    token_type_ids: Integers,
    carrier: Carrier = "auto",
    last: bool = False,
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
    last
        Whether a decoder's logits are asked for the last token of each text only.

    Returns
    -------
    ndarray
        What the head gives, int32 logits, or the last hidden state (B, T, C) in its format.
    """
    return _run(model, (input_ids, mask, token_type_ids), None, carrier=carrier, last=last)[0]


def advance(
    model: Constants,
    input_ids: Integers,
    cache: Cache,
    *,
    mask: NDArray[np.bool_],
    token_type_ids: Integers,
    carrier: Carrier = "auto",
    last: bool = False,
) -> tuple[Integers, Cache]:
    """Run a decoder on the tokens that follow those of ``cache``; return what ``run`` does, and the next cache."""
    names = model.outline.cached
    if cache.columns == 0:
        empty = {name: (len(input_ids), 0, model.outline.activations[name].channels) for name in names}
        codes = {name: np.empty(shape, model.formats[name].range.dtype) for name, shape in empty.items()}
        cache = replace(cache, mask=np.zeros((len(input_ids), 0), np.bool_), codes=codes)
    values, *kept = _run(model, (input_ids, mask, token_type_ids), cache, carrier=carrier, last=last)
    mask = np.concatenate([cache.mask, mask], axis=1)
    return values, replace(cache, mask=mask, codes=dict(zip(names, kept, strict=True)))


def _run(
    model: Constants, inputs: tuple[Any, Any, Any], cache: Cache | None, *, carrier: Carrier, last: bool
) -> tuple[Integers, ...]:
    """Return the output, and what is kept of every key and value, earlier tokens first, where there is a cache."""

    def together(ids: Any, mask: Any, types: Any, *past: Any, part: Part | None = None, **how: Any) -> Any:
        world = IntegerWorld(model, mask, past=past, last=last, part=part, **how)
        return (model.family(world, ids, mask, types), *world.kept)

    past = () if cache is None else (cache.mask, *cache.codes.values())
    if observed() or on_integers(carrier):
        return together(*inputs, *past, carrier=carrier, whole=True)
    if is_alone():
        return together(*inputs, *past)
    batch, tokens = inputs[0].shape
    if batch > 1:  # sequences never depend on each other

        @one_thread()
        def some(numbers: Any) -> Any:  # of a run of sequences, (B, 1)
            return together(*(each[numbers[0, 0] : numbers[-1, 0] + 1] for each in (*inputs, *past)))

        return in_blocks(some, np.arange(batch)[:, None], rows=max(1, BLOCK // tokens))
    if any(how.per == "sequence" for how in model.dynamic.values()):
        return together(*inputs, *past)
    # Tokens depend on each other only by what attention reads of them, which the last part has of all.
    first, growth = _work(model, 0 if cache is None else cache.columns)
    parts = in_parts(lambda part: together(*inputs, *past, part=part), tokens, axis=1, first=first, growth=growth)
    outputs = [values for values, *_ in parts]
    _, *kept = parts[-1]
    return (np.concatenate(outputs, axis=1) if outputs[0].ndim > 2 else outputs[-1], *kept)


def _work(model: Constants, earlier: int) -> tuple[int, int]:
    """Return the work of a token after ``earlier`` ones, and what a key more adds to it, where attention is causal."""
    outline = model.outline
    weights = (outline.tensors[tensor_name(f"{name}.weight")] for name in outline.products)
    layers, channels = len(outline.cached) // 2, outline.activations[outline.hidden_states[-1]].channels
    key = KEY * channels * layers
    return sum(math.prod(weight.shape) for weight in weights) + key * earlier, key


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
    """A sum that waits for its readers, of which the first computes it, unless a norm is the only one."""

    name: str
    terms: "tuple[Rows | Product | Activation, ...]"
    goes_on: bool  # to the next sum
    codes: Integers | None = None


class Rotated(NamedTuple):
    """A product after its rotation, on its way to codes."""

    name: str
    codes: Integers


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
    past
        The mask (B, S) of the tokens before, and the codes that are kept of them, (B, S, C_kv) each; or nothing.
    last
        Whether logits are asked for the last token of each text only.
    part
        The tokens that this thread works on, where several share a sequence.

    Attributes
    ----------
    kept
        What is kept of all tokens up to now, as in ``past``, where that was given.
    """

    def __init__(
        self,
        model: Constants,
        mask: NDArray[np.bool_],
        *,
        carrier: Carrier = "auto",
        whole: bool = False,
        past: Sequence[Any] = (),
        last: bool = False,
        part: Part | None = None,
    ) -> None:
        self.config: Any = model.config
        self.head: Head = model.head
        self._model, self._tensors, self._formats, self._profile = model, model.tensors, model.formats, model.profile
        self._carrier: Carrier = carrier
        self._whole, self._part, self._last = whole, part, last
        # the values that tokens read of others last, where of all tokens the last one alone is asked for
        is_apart = last and not whole and all(how.per == "token" for how in model.dynamic.values())
        self._final = model.outline.cached[-1] if is_apart and mask[:, -1].all() else None
        self._is_final = False  # whether they were read: only the last token goes on
        self._mask = mask
        self._columns = np.concatenate([past[0], mask], axis=1) if past else mask  # of all tokens, (B, S)
        self._past = iter(past[1:]) if past else None
        self._wide: dict[str, Integers] = {}  # sums in groups as norms read them
        self._rotation: list[Integers] = []  # cos and sin of each token
        self._masks: dict[int | None, NDArray[np.bool_]] = {}
        self.kept: list[Integers] = []

    def _mine(self, x: Any) -> Any:  # the tokens of my part: (..., T)
        return x if self._part is None else x[..., self._part.rows]

    def _going_on(self, x: Any) -> Any:
        """Return a value of the tokens that go on."""
        match x:
            case Product(operand=read) if self._is_final:
                arrays = (of[:, -1:] for of in read.arrays)
                return x._replace(operand=Operand(next(arrays), read.range, *arrays))
            case Activation() | Rotated() if self._is_final:
                return x._replace(codes=x.codes[:, -1:])
            case _:
                return x

    # ---- formats

    def _zero_points(self, **names: str) -> dict[str, Any]:  # constant -> the zero point of an activation, if not 0
        return {constant: value for constant, name in names.items() if (value := self._formats[name].zero_point)}

    def _centred(self, x: Activation) -> Integers:  # codes less their zero point
        return x.codes.astype(np.int32) - np.int32(self._formats[x.name].offset(x.codes.shape[-1]))

    def _about_zero(self, x: Activation) -> Integers:
        return self._centred(x) if self._zero_points(x=x.name) else x.codes

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
            if f"{name}.acc.multiplier" in self._tensors:
                groups = self._by_group(x, [None] * len(self._tensors[f"{name}.acc.multiplier"]))
                acc = self._rescale(f"{name}.acc", Unscaled(groups), GROUPED)
            else:
                acc = multiply(f"{name}.acc", ops.matmul, codes, weight)
            return Unscaled([call(f"{name}.scaled", ops.scale_rows, acc, x.operand.bound)], addend=bias)
        if bias.ndim == 1:
            return Unscaled([multiply(f"{name}.acc", ops.matmul, codes, weight, bias=bias)])
        return Unscaled(self._by_group(x, bias))

    def _by_group(self, x: Product, biases: Any) -> list[Integers]:
        """Return a product for each group of input channels (Bondarenko et al. 2021, figure 4)."""
        weight, accs = self._tensors[x.weight], list[Integers]()
        size = weight.shape[1] // len(biases)
        for group, bias in enumerate(biases):
            columns = slice(group * size, (group + 1) * size)
            operands = x.operand.codes[..., columns], weight[:, columns]
            accs.append(call(f"{x.name}.acc.{group}", ops.matmul, *operands, bias=bias, carrier=self._carrier))
        return accs

    def _codes(self, x: Product | Rotated) -> Integers:
        if isinstance(x, Rotated):
            if not self._whole and (step := fused.rotated(self._model, x.name)) is not None:
                return step(x.codes)
            return self._rescale(x.name, Unscaled([x.codes]))
        if not self._whole and (step := fused.dense(self._model, x.name, x.weight, x.operand.range)) is not None:
            return step(*x.operand.arrays)
        return self._rescale(x.name, self._unscaled(x))

    def _activation(self, x: Total | Activation) -> Activation:
        """Compute a sum that waited."""
        if isinstance(x, Activation):
            return self._going_on(x)
        if x.codes is not None:
            return self._going_on(Activation(x.name, x.codes))
        match x.terms:
            case (Product() as dense, Activation() as skip) if not self._whole:
                step = fused.dense_residual(self._model, dense.name, dense.weight, x.name, skip.name)
                if step is not None:
                    x.codes = step(*dense.operand.arrays, skip.codes)
                    return Activation(x.name, x.codes)
            case _:
                pass
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

    def positions(
        self, ids: Integers, *, padding: int | None = None, mask: NDArray[np.bool_] | None = None, first: int = 0
    ) -> Integers:
        if mask is not None:
            return call("position_ids", ops.token_positions, self._columns, queries=ids.shape[-1], first=first)
        if padding is None:
            return np.arange(ids.shape[-1], dtype=np.int64, like=ids)
        return call("embeddings.position_ids", ops.position_ids, ids, padding=padding)

    def embedding(
        self, name: str, ids: Integers, rows: int, columns: int, *, role: str, root_scaled: bool = False
    ) -> Rows:
        return Rows(name, call(name, ops.embedding, self._mine(ids), self._tensors[f"{name}.weight"]))

    def sum(self, name: str, *terms: Any, role: str) -> Total:
        each = (self._activation(term) if isinstance(term, Total) else self._going_on(term) for term in terms)
        return Total(name, tuple(each), goes_on=role.endswith(".stream"))

    def layer_norm(self, name: str, x: Total | Activation, *, eps: float, role: str) -> Activation:
        match x:
            case Total(terms=(Product() as dense, Activation() as skip), goes_on=False) if not self._whole:
                step = fused.dense_residual(self._model, dense.name, dense.weight, x.name, skip.name, name)
                if step is not None:
                    return Activation(name, step(*dense.operand.arrays, skip.codes))
            case _:
                pass
        return self._norm(name, ops.layer_norm, self._activation(x))

    def rms_norm(self, name: str, x: Total | Activation, *, eps: float, role: str, unit_offset: bool = False) -> Any:
        x = self._activation(x)
        if self._formats[x.name].groups > 1:
            return self._norm(name, ops.rms_norm, x)
        codes = self._about_zero(x)
        if not self._whole and (step := fused.rms_norm(self._model, name)) is not None:
            return Activation(name, step(codes))
        return self._norm(name, ops.rms_norm, Activation(x.name, codes))

    def _norm(self, name: str, operator: Callable[..., Integers], x: Activation) -> Activation:
        source, codes = x
        if self._formats[source].groups > 1:  # norms read one scale
            if source not in self._wide:
                self._wide[source] = self._rescale(f"{source}.wide", Unscaled([self._centred(x)]), INT16)
            codes = self._wide[source]
        params, to = self._model.layer_norm_params(name), self._formats[name].range
        return Activation(name, call(name, operator, codes, params, to=to, profile=self._profile))

    def affine(self, name: str, x: Total | Activation, *, role: str) -> Activation:
        codes = self._centred(self._activation(x))
        constants: dict[str, Any] = {"addend": self._tensors[f"{name}.bias"], "rounding": self._profile.rounding}
        constants |= self._into(name, codes)
        return Activation(name, call(name, ops.requantize, codes, self._model.ratio(name), **constants))

    def read(self, name: str, x: Total | Activation) -> Operand:
        x = self._activation(x)
        out = self._formats[x.name]
        constants: dict[str, Any]
        if (how := self._model.dynamic.get(name)) is not None:
            if not self._whole and how.per == "token":
                constants = {"zero_point": out.zero_point, "to": how.range, "rounding": self._profile.rounding}
                if (found := by_token(x.codes, **constants)) is not None:
                    return Operand(found[0], how.range, found[1])
            zero_point = {"zero_point": out.zero_point}
            mask = self._mine(self._mask) if len(x.codes.shape) > 2 else None
            how_found = {"per": how.per, "clip": how.clip, "mask": mask}
            bound = call(f"{name}.bound", ops.dynamic_bound, x.codes, **how_found, **zero_point)
            constants = {"unit": how.unit, "to": how.range, "rounding": self._profile.rounding}
            codes = call(name, ops.quantize_dynamic, x.codes, bound, **constants, **zero_point)
            return Operand(codes, how.range, bound)
        if name in self._formats:  # codes of fewer bits
            return Operand(self._rescale(name, Unscaled([self._centred(x)])), self._formats[name].range)
        return Operand(x.codes, out.range)

    def linear(
        self, name: str, x: Operand, rows: int, *, role: str, view: View = OWN, bias: str | None = ""
    ) -> Product:
        counted(len(self._model.outline.products))
        return Product(name, x, self._model.stored(tensor_name(f"{name}.weight")))

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

    def multiply(self, name: str, x: Activation, y: Product, *, role: str) -> Activation:
        operands, ratio = (x.codes, self._codes(y)), self._model.ratio(name)
        if not self._whole and (step := fused.multiply(self._model, name, (x.name, y.name))) is not None:
            return Activation(name, step(*operands))
        zero_points = self._zero_points(a_zero_point=x.name, b_zero_point=y.name)
        constants = {**self._into(name, x.codes), "rounding": self._profile.rounding, **zero_points}
        return Activation(name, call(name, ops.multiply, *operands, ratio, **constants))

    def rotary(
        self,
        x: Product,
        positions: Integers,
        *,
        heads: int,
        size: int,
        pairing: Pairing,
    ) -> Rotated:
        if not self._rotation:
            rows = self._mine(positions)
            tables = "rotary.cos", "rotary.sin"
            self._rotation += (call(name, ops.embedding, rows, self._tensors[name]) for name in tables)
        cos, sin = self._rotation  # (B, T, R / 2)
        codes = self._about_zero(self.requantize(x, role="rotation")).astype(np.int16)
        name, how = rotated_name(x.name), {"pairing": pairing, "rounding": self._profile.rounding}
        return Rotated(name, _joined(call(f"{name}.acc", ops.rotary, _split(codes, heads), cos, sin, **how)))

    def _kept(self, name: str, new: Integers) -> Integers:  # (B, T, C) -> with all earlier tokens, (B, S, C)
        if self._past is None:
            return new
        self.kept.append(call(f"{name}.kept", ops.append, next(self._past), new))
        return self.kept[-1]

    def attention(
        self,
        name: str,
        query: Product | Rotated,
        key: Product | Rotated,
        value: Product,
        mask: NDArray[np.bool_],
        *,
        heads: int,
        key_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> Activation:
        self._is_final = value.name == self._final
        q, k, v = (self._codes(x) for x in (self._going_on(query), key, value))
        if self._part is not None:
            k, v = (self._part.up_to_mine if causal else self._part.all_of)(k, v)
        keep, context, key_heads = mask[..., None, None, :], f"{name}.context", key_heads or heads
        if causal:
            k, v = self._kept(key.name, k), self._kept(value.name, v)
            keep = self._seen(mask.shape[-1], window)
        if self._is_final:
            self._part, self._mask, keep = None, self._mask[:, -1:], keep[..., -1:, :]
        names = query.name, key.name, value.name
        q, k, v = _split(q, heads), _split(k, key_heads), _split(v, key_heads)  # (B, H, T, D)
        if not self._whole and (step := fused.attention(self._model, name, names, q.shape[-1])) is not None:
            return Activation(context, _joined(_attended(step, q, k, v, keep, causal=causal)))
        if (sharing := heads // key_heads) > 1:
            k, v = k.repeat(sharing, axis=1), v.repeat(sharing, axis=1)
        multiply: Callable[..., Integers] = partial(call, carrier=self._carrier)
        zero_points = self._zero_points(x_zero_point=query.name, w_zero_point=key.name)
        scores = multiply(f"{name}.scores.acc", ops.matmul, q, k, **zero_points)  # (B, H, T, T)
        ratio, profile = self._model.ratio(f"{name}.scores"), self._profile
        probs = call(f"{name}.probs", ops.softmax, scores, ratio, profile=profile, mask=keep)
        zero_points = self._zero_points(w_zero_point=value.name)
        acc = multiply(f"{context}.acc", ops.matmul, probs, v.swapaxes(-1, -2), **zero_points)
        return Activation(context, self._rescale(context, Unscaled([_joined(acc)])))

    def _seen(self, queries: int, window: int | None) -> NDArray[np.bool_]:  # (B, 1, T, S)
        if window not in self._masks:
            name = "causal_mask" if window is None else f"causal_mask.{window}"
            operator: Any = ops.causal_mask
            mask: Any = call(name, operator, self._columns, queries=queries, window=window)
            if self._part is not None:
                later = queries - self._part.rows.stop
                mask = mask[..., self._part.rows, : mask.shape[-1] - later]
            self._masks[window] = mask
        return self._masks[window]

    def neighbours(self, name: str, x: Total | Activation, mask: NDArray[np.bool_]) -> Activation:
        source, codes = self._activation(x)
        if self._part is not None:
            (codes,) = self._part.all_of(codes)
        zero_point = self._zero_points(zero_point=source)
        around = call(name, ops.neighbours, codes, mask=mask, **zero_point)
        return Activation(name, around if self._part is None else around[:, self._part.rows])

    def first(self, x: Activation) -> Activation:
        return Activation(x.name, x.codes[:, 0])

    def asked(self, x: Operand) -> Operand:
        if not self._last:
            return x
        arrays = x.arrays if self._part is None else self._part.up_to_mine(*x.arrays)
        if arrays[0].shape[1] < self._mask.shape[-1]:  # an earlier part, whose logits nobody reads
            return Operand(arrays[0][:, 0], x.range, *(of[:, 0] for of in arrays[1:]))

        def picked(name: str, of: Integers) -> Integers:  # a bound may be one for all tokens
            every = np.broadcast_to(of, (*arrays[0].shape[:-1], of.shape[-1]))
            return call(name, ops.pick_token, every, self._mask, which="last")

        return Operand(picked("last_token", arrays[0]), x.range, *(picked("last_token.bound", of) for of in arrays[1:]))

    def pool(self, name: str, x: Total | Activation, mode: Pooling) -> Activation:
        _, codes = self._activation(x)
        if self._part is not None:
            (codes,) = self._part.all_of(codes)
        operator, constants = pooling_operator(mode, self._profile)
        return Activation(name, call(name, operator, codes, self._mask, **constants))

    def normalize(self, name: str, x: Activation) -> Activation:
        return Activation(name, call(name, ops.l2_normalize, x.codes, profile=self._profile))

    def logits(self, name: str, x: Operand, rows: int, *, view: View = OWN, bias: str | None = "") -> Integers:
        return self._codes(self.linear(name, x, rows, role="head.logits", view=view, bias=bias))

    def output(self, x: Activation) -> Integers:
        if "order" not in self._tensors:
            return x.codes
        name = "last_hidden_state" if self.head == "none" else "sentence_embedding"
        return call(name, ops.permute, x.codes, self._tensors["order"])


def _attended(
    step: Callable[..., Integers], q: Integers, k: Integers, v: Integers, keep: NDArray[np.bool_], *, causal: bool
) -> Integers:
    """Run a step of attention on all queries; where it is causal some at a time, on the keys up to the last of them."""
    batch, heads, queries, _ = q.shape
    size, done = QUERIES if causal else queries, list[Integers]()
    for start in range(0, queries, size):
        rows = slice(start, start + size)
        columns = k.shape[-2] - max(0, queries - rows.stop) if causal else k.shape[-2]  # none is before a later query
        part, kept = q[..., rows, :], keep[..., rows, :columns]
        if (group := heads // k.shape[1]) > 1:  # queries of the heads that share keys, one below the other
            part = part.reshape(batch, -1, group * part.shape[-2], part.shape[-1])
            kept = kept.repeat(group, axis=1).reshape(batch, 1, -1, columns)
        at_once = max(1, SCORES // (part.shape[-2] * columns))
        y = in_blocks(step, part, k[..., :columns, :], v[..., :columns, :], kept, core=2, rows=at_once)
        done.append(y.reshape(batch, heads, -1, y.shape[-1]))
    return done[0] if len(done) == 1 else np.concatenate(done, axis=-2)


def _split(x: Integers, heads: int) -> Integers:  # (..., T, C) -> (..., H, T, D)
    return x.reshape(*x.shape[:-1], heads, -1).swapaxes(-3, -2)


def _joined(x: Integers) -> Integers:  # (..., H, T, D) -> (..., T, C)
    x = x.swapaxes(-3, -2)
    return x.reshape(*x.shape[:-2], -1)
