# SPDX-License-Identifier: Apache-2.0
"""The world of scales: from a float model and the ranges of its activations to the constants of the integer one.

Every float scale ends here: s_x is the scale of an input, s_w that of a weight, s_y that of an output, each a number,
one per channel, or one per group of channels. What leaves is integers, among them dyadics for ratios of scales.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, by_column
from intsim.convert.adaround import adaround
from intsim.convert.calibrate import Moments
from intsim.convert.gptq import gptq
from intsim.convert.rotary_table import rotary_table
from intsim.errors import CheckpointError
from intsim.fixedpoint import ALIGNED_BITS, INT16, INT32, MAX_SHIFT, Dyadic
from intsim.io.rotary_frequencies import rotary_frequencies
from intsim.models.family import Family
from intsim.models.formats import GROUPED, Dynamic, Format
from intsim.models.functions import function_rule
from intsim.models.outline import Outline
from intsim.models.world import OWN, Function, Head, Pairing, Pooling, View, rotated_name, tensor_name, term_name
from intsim.ops.l2_normalize import UNIT_FRACTION
from intsim.profile import LayerNorm, Profile
from intsim.quantizers import AffineParams, dequantize, quantize
from intsim.recipes import WeightRule

__all__ = ["Compiler", "compile_model"]

Reals: TypeAlias = NDArray[np.float64]

WIDE_FRACTION: Final = 8  # bits that a dynamically quantized product has beyond its sum's, where int32 holds them
FEWEST_BITS: Final = 8  # of a multiplier
LOGIT_FRACTION: Final = 16  # logits are int32 with 16 fraction bits
SUM_BITS: Final = 50  # of a code of 17 to 24 bits times its multiplier, so that float64 holds the sum
AFFINE_BITS: Final = 30  # of the multiplier of at most 17 bits
ROUNDINGS: Final = {"adaround": adaround, "gptq": gptq}  # that look at what a layer reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulator:
    """What a product gives: one scale per group of input channels and output channel, (K, N) or (K, 1).

    ``bias`` is set where the rows have yet to be scaled by a bound, and ``bound`` is then a bound on the scaled row.
    """

    scale: Reals
    bias: Reals | None = None
    bound: int = 0


class Codes(NamedTuple):
    """An activation, or what products read of it: its name, and the activation's."""

    name: str
    source: str


class Rows(NamedTuple):
    """Rows of a table: its name and scale."""

    name: str
    scale: Reals


class Product(NamedTuple):
    """A product that is not an activation yet."""

    name: str
    acc: Accumulator


def compile_model(family: Family, outline: Outline, weights: Mapping[str, Reals], **constants: Any) -> "Compiler":
    """Return the world of scales after its walk: its ``tensors`` and ``formats`` are those of the integer model.

    Parameters
    ----------
    family, outline
        The model.
    weights, constants
        As ``Compiler`` takes them.

    Raises
    ------
    CheckpointError
        If a tensor cannot be quantized, or a bias does not fit its integer.
    """
    compiler = Compiler(outline, weights, **constants)
    family(compiler, None, None, None)
    return compiler


class Compiler:
    """The world whose values are scales.

    Parameters
    ----------
    outline
        Of the model.
    weights
        The float model's tensors, by the names of the outline.
    activations
        Scale, zero point and codes of every activation of the outline, and of the inputs of products that are quantized
        anew; one of each, or one for each group of channels, repeated.
    dynamic
        Inputs of products that are quantized while running.
    groups_of
        Activation name -> how many groups of channels have a scale of their own.
    moments
        Activation name -> its moments, where the recipe corrects biases or chooses roundings by them.
    rules
        Name -> how a weight is quantized.
    correct_biases
        Whether biases make up for what quantizing the weights changed.
    profile
        Decides the fixed-point formats of the nonlinear operators.
    quantized
        Name -> what returns the integers and the scale of a weight that came quantized; its rule only says the groups.
    on_weight
        Called before each weight is quantized.

    Attributes
    ----------
    tensors, formats
        Name -> integers, and activation name -> format: what has been compiled so far.
    """

    def __init__(
        self,
        outline: Outline,
        weights: Mapping[str, Reals],
        *,
        activations: Mapping[str, AffineParams],
        dynamic: Mapping[str, Dynamic],
        groups_of: Mapping[str, int],
        moments: Mapping[str, Moments],
        rules: Mapping[str, WeightRule],
        correct_biases: bool,
        profile: Profile,
        quantized: Mapping[str, Callable[[], tuple[Integers, Reals]]] = MappingProxyType({}),
        on_weight: Callable[[], object] = lambda: None,
    ) -> None:
        self.config: Any = outline.config
        self.head: Head = outline.head
        self.tensors: dict[str, Integers] = {}
        self.formats = {name: _format(name, params, groups_of.get(name, 1)) for name, params in activations.items()}
        self._outline, self._weights = outline, weights
        self._activations, self._dynamic, self._groups_of = activations, dynamic, groups_of
        self._moments, self._rules, self._profile = moments, rules, profile
        self._correct_biases, self._quantized, self._on_weight = correct_biases, quantized, on_weight
        self._codes: dict[str, Integers] = {}  # of weights, and
        self._scales: dict[str, Reals] = {}
        self._errors: dict[str, Reals] = {}  # what quantizing them changed, where biases are corrected for it

    # ---- ratios of scales

    def _scale(self, name: str) -> Reals:  # () or (C,)
        return self._activations[name].scale

    def _put_ratio(self, name: str, ratio: Dyadic) -> None:
        self.tensors[f"{name}.multiplier"], self.tensors[f"{name}.shift"] = ratio.multiplier, ratio.shift

    def _put_ratios(self, ratios: Mapping[str, Reals], *, bits: int = ALIGNED_BITS) -> None:
        """Store the ratios of the operands of one sum; several terms of an operand along axis 0."""
        terms = [term for ratio in ratios.values() for term in (ratio if ratio.ndim > 1 else [ratio])]
        if self._profile.sum == "once":
            dyadics = iter(Dyadic.aligned(*terms, bits=bits))
        else:
            dyadics = iter([self._profile.requantization.ratio(term) for term in terms])
        for name, ratio in ratios.items():
            if ratio.ndim < 2:
                self._put_ratio(name, next(dyadics))
            else:
                rows = [next(dyadics) for _ in ratio]
                self._put_ratio(name, Dyadic(np.stack([r.multiplier for r in rows]), np.stack([r.shift for r in rows])))

    def _rescale(self, name: str, x: Reals | float | Accumulator, y: Reals | float) -> None:
        """Store the ratio of the scales of x and y, and the bias that is added in its units."""
        rule = self._profile.requantization
        if not isinstance(x, Accumulator):
            self._put_ratio(name, rule.ratio(np.asarray(x / y, np.float64)))
        elif x.bias is not None:
            room = MAX_SHIFT - 1 - x.bound.bit_length()
            if room < FEWEST_BITS:
                msg = f"layer '{name}' must leave {FEWEST_BITS} bits for a multiplier, got {room}; give its input fewer"
                raise CheckpointError(msg)
            ratio = Dyadic.from_real(_squeezed((x.scale / y)[0]), bits=min(room, rule.multiplier_bits))
            ratio, addend = _with_addend(ratio, x.bias / y)
            self._put_ratio(name, ratio)
            self.tensors[f"{name.removesuffix('.wide')}.bias"] = addend
        elif len(x.scale) == 1:
            self._put_ratio(name, rule.ratio(_squeezed((x.scale / y)[0])))
        else:
            self._put_ratios({name: x.scale / y})

    # ---- weights

    def _weight(self, name: str, smallest: Reals | float = 0.0, source: str = "") -> Reals:
        """Quantize the weight; return s_w, at least ``smallest``: (), (N, 1), or (C,) where input channels differ."""
        name = tensor_name(name)
        tensor = self._outline.tensors[name]
        if name in self._scales:  # of a layer that runs again
            return self._scales[name]
        self._on_weight()
        if name in self._quantized:
            codes, self._scales[name] = self._quantized[name]()
            self._codes[name] = self.tensors[name] = by_column(codes)
            return self._scales[name]
        rule, w = self._rules[name], self._weights[name]
        try:
            params = rule.params(w, embedding=tensor.is_embedding)
        except ValueError as error:
            msg = f"tensor '{name}' must be quantizable, got: {error}"
            raise CheckpointError(msg) from None
        per_row = params.scale.ndim == 2 and np.ndim(smallest)
        floor = np.reshape(smallest, params.scale.shape) if per_row else np.max(smallest)
        # where the weights are nothing but 0 the bias alone decides
        scale = np.maximum(params.scale, floor) if w.any() else np.where(floor > 0, floor, params.scale)
        params = replace(params, scale=scale)
        if source and rule.rounding != "nearest":
            w = ROUNDINGS[rule.rounding](w, params, self._moments[source].second)
        self._codes[name], self._scales[name] = by_column(quantize(w, params)), params.scale
        if self._correct_biases and source:
            # The mean of what rounding adds to the output. What clipping takes off is no shift: it is missing in the
            # few tokens that the clipped weights were for, and would be added to all the others.
            top = params.range.max * params.scale
            self._errors[name] = dequantize(self._codes[name], params) - self._weights[name].clip(-top, top)
        earlier = [part for part in tensor.parts if part in self._codes and part != name]
        if not any(np.array_equal(self._codes[part], self._codes[name]) for part in earlier):
            self.tensors[name] = self._codes[name]
        return params.scale

    def _stored_bias(self, name: str) -> Reals:
        bias = tensor_name(f"{name}.bias")
        if bias in self._outline.tensors:
            return self._weights[bias]
        return np.zeros(self._outline.tensors[tensor_name(f"{name}.weight")].shape[0])

    def _bias(self, name: str, source: str) -> Reals:
        bias = self._stored_bias(name)
        error = self._errors.get(tensor_name(f"{name}.weight"))
        return bias if error is None else bias - error @ self._moments[source].mean

    def _product(self, name: str, x: Codes) -> Accumulator:
        """Quantize weight and bias of a layer that reads ``x``."""
        weight, source = f"{name}.weight", x.source
        groups = self._rules[tensor_name(weight)].input_groups
        if x.name in self._dynamic:
            if not self._profile.requantization.is_one_rounding:
                rule = self._profile.requantization.name
                msg = f"layer '{name}' must round its int64 product once to be quantized while running, got rule {rule}"
                raise CheckpointError(msg)
            how, codes = self._dynamic[x.name], self._activations[source].range
            if (count := self._groups_of.get(source, 1)) > 1:
                msg = (
                    f"layer '{name}' must read one scale for all channels to be quantized while running, "
                    f"got {count} groups of them"
                )
                raise CheckpointError(msg)
            s_x = self._scale(source) / (how.unit * how.range.max)
            s_w = _rows(self._weight(weight, source=source), groups)
            sums = np.abs(self._codes[tensor_name(weight)], dtype=np.int64)
            largest = how.range.max * sums.reshape(len(sums), groups, -1).sum(axis=-1).T  # (K, N)
            bound = int(largest.max())
            if groups > 1:
                s_w, bound = self._one_scale(f"{name}.acc", s_w, largest), GROUPED.max
            bound *= how.unit * (codes.max - codes.min)
            return Accumulator(scale=s_x * s_w, bias=self._bias(name, source), bound=bound)
        read = x.name if x.name in self._activations else source
        s_x, zero_point = self._scale(read), self._activations[read].zero_point
        if 1 != groups != self._groups_of.get(read, 1) != 1:
            msg = f"layer '{name}' must have as many groups of weights as of inputs, got {groups} for {read}"
            raise CheckpointError(msg)
        groups = max(groups, self._groups_of.get(read, 1))
        # a channel whose weights all but vanish beside its bias takes a scale that the bias fits
        smallest = np.abs(self._stored_bias(name)) / (s_x.min() * 2**30)
        s_w = self._weight(weight, smallest if groups == 1 else smallest.max(), source)
        acc_scale, bias = _rows(s_x * s_w, groups), self._bias(name, source)
        offsets = self._codes[tensor_name(weight)].astype(np.int64) * zero_point
        bias_q = -offsets.reshape(len(bias), groups, -1).sum(axis=-1).T  # (K, N)
        bias_q[0] += np.rint(bias / acc_scale[0]).astype(np.int64)
        if (np.abs(bias_q) > INT32.max).any():
            msg = f"layer '{name}' must have a bias that fits its int32 accumulator, got {np.abs(bias_q).max():.0f}"
            raise CheckpointError(msg)
        self.tensors[f"{name}.bias"] = bias_q.astype(np.int32) if groups > 1 else bias_q[0].astype(np.int32)
        return Accumulator(scale=acc_scale)

    def _one_scale(self, name: str, scale: Reals, largest: NDArray[np.int64]) -> Reals:
        """Return the scale, (1, N) or (1, 1), that products of groups, (K, N) or (K, 1), come to; store their ratios.

        Its unit is so small that ``largest``, the most that the products of a row can be, are half of GROUPED together.
        """
        total = np.maximum((scale * largest).sum(axis=0), scale.sum(axis=0))  # a row may be nothing but 0
        one = (total if scale.shape[1] > 1 else total.max(keepdims=True))[None] / (GROUPED.max >> 1)
        self._put_ratios({name: scale / one})
        return one

    # ---- the walk

    def positions(self, ids: None, *, padding: int | None = None, mask: None = None, first: int = 0) -> None:
        """Positions have no scale."""

    def embedding(self, name: str, ids: None, rows: int, columns: int, *, role: str, root_scaled: bool = False) -> Rows:
        return Rows(name, self._weight(f"{name}.weight") * (math.sqrt(columns) if root_scaled else 1))

    def sum(self, name: str, *terms: Rows | Product | Codes, role: str) -> Codes:
        s_y, ratios = self._scale(name), dict[str, Reals]()
        for term in terms:
            match term:
                case Rows():
                    ratios[term.name] = term.scale / s_y
                case Product(acc=acc):
                    s_x = _squeezed(acc.scale[0]) if len(acc.scale) == 1 else acc.scale
                    if acc.bias is not None:
                        s_x = self._wide_scale(name, terms)
                        self._rescale(f"{term.name}.wide", acc, s_x)
                    ratios[term.name] = np.asarray(s_x / s_y)
                case Codes():
                    ratios[term_name(name)] = self._scale(term.name) / s_y
        wide = self.formats[name].range.bits
        self._put_ratios(ratios, bits=min(SUM_BITS - wide, ALIGNED_BITS) if 16 < wide <= 24 else ALIGNED_BITS)
        return Codes(name, name)

    def _wide_scale(self, name: str, terms: tuple[Rows | Product | Codes, ...]) -> Reals:
        """Return the scale of the int32 in which a product goes into a sum.

        A sum of more than 16 bits may take away what earlier ones have heaped up: its product is then as large as the
        activation that it is added to, whatever is left, and 2**30 units hold the spans of both.
        """
        s_y, to = self._scale(name), self.formats[name].range
        if to.bits <= 16:
            return s_y / 2**WIDE_FRACTION
        span = float(s_y.max()) * (to.max - to.min + 4)
        for term in terms:
            if isinstance(term, Codes):
                other = self.formats[term.name].range
                span += float(self._scale(term.name).max()) * (other.max - other.min)
        return np.asarray(span * 2.0**-30 * (1 + 2.0**-20))

    def layer_norm(self, name: str, x: Codes, *, eps: float, role: str) -> Codes:
        weight, beta = (self._weights[tensor_name(f"{name}.{part}")] for part in ("weight", "bias"))
        rule = self._profile.layer_norm
        exact = isinstance(rule, LayerNorm) and rule.centring == "exact"
        return self._norm(name, x, weight, beta, eps=eps * (len(weight) if exact else 1) ** 2)

    def rms_norm(self, name: str, x: Codes, *, eps: float, role: str, unit_offset: bool = False) -> Codes:
        weight = self._weights[tensor_name(f"{name}.weight")] + (1 if unit_offset else 0)
        return self._norm(name, x, weight, np.zeros_like(weight), eps=eps * len(weight) ** 2)

    def _norm(self, name: str, x: Codes, weight: Reals, beta: Reals, *, eps: float) -> Codes:
        """Fold gamma, beta and the output's zero point into one multiply-add per channel."""
        s_x, s_y = float(self._scale(x.name).max()), self._scale(name)
        if self._groups_of.get(x.name, 1) > 1:  # brought to one scale first, whose 16 bits hold the widest group
            params = self._activations[x.name]
            furthest = np.maximum(params.range.max - params.zero_point, params.zero_point - params.range.min)
            s_x = float((furthest * params.scale).max()) / INT16.max
            self._rescale(f"{x.name}.wide", self._scale(x.name), s_x)
        rule, channels = self._profile.layer_norm, len(weight)
        (ratio,) = Dyadic.aligned(weight / s_y * math.sqrt(rule.squared_unit(channels)))
        self._put_ratio(name, ratio)
        bias = np.ldexp(beta / s_y + self._activations[name].zero_point, ratio.shift)
        if (np.abs(bias) >= 2.0**61).any():
            got = f"{np.abs(bias).max():.3g}"
            msg = f"LayerNorm '{name}' must have a bias below 2**61 in units of its product, got {got}"
            raise CheckpointError(msg)
        self.tensors[f"{name}.bias"] = np.rint(bias).astype(np.int64)
        eps_q = eps / s_x**2
        if eps_q >= 2.0**61:
            msg = f"LayerNorm '{name}' must have an eps below 2**61 in units of its variance, got {eps_q:.3g}"
            raise CheckpointError(msg)
        self.tensors[f"{name}.eps"] = np.array(max(1, round(eps_q)), np.int64)
        return Codes(name, name)

    def affine(self, name: str, x: Codes, *, role: str) -> Codes:
        weight, bias = (self._weights[tensor_name(f"{name}.{part}")] for part in ("weight", "bias"))
        s_y = self._scale(name)
        ratio = Dyadic.from_real(self._scale(x.name) * weight / s_y, bits=AFFINE_BITS)
        ratio, addend = _with_addend(ratio, bias / s_y)
        self._put_ratio(name, ratio)
        self.tensors[f"{name}.bias"] = addend
        return Codes(name, name)

    def read(self, name: str, x: Codes) -> Codes:
        if name in self._activations:  # codes of fewer bits
            self._rescale(name, self._scale(x.name), self._scale(name))
        return Codes(name, x.name)

    def linear(self, name: str, x: Codes, rows: int, *, role: str, view: View = OWN, bias: str | None = "") -> Product:
        return Product(name, self._product(name, x))

    def requantize(self, x: Product, *, role: str) -> Codes:
        self._rescale(x.name, x.acc, self._scale(x.name))
        return Codes(x.name, x.name)

    def activation(self, name: str, x: Product, *, function: Function, role: str) -> Codes:
        rule = function_rule(function, self._profile)
        self._rescale(x.name, x.acc, float(rule.input_scale))
        self._rescale(name, float(rule.output_scale), self._scale(name))
        return Codes(name, name)

    def multiply(self, name: str, x: Codes, y: Product, *, role: str) -> Codes:
        y_codes = self.requantize(y, role="gate")
        self._rescale(name, self._scale(x.name) * self._scale(y_codes.name), self._scale(name))
        return Codes(name, name)

    def rotary(self, x: Product, positions: None, *, heads: int, size: int, pairing: Pairing) -> Product:
        scale = self._scale(self.requantize(x, role="rotation").name)
        if "rotary.cos" not in self.tensors:
            cos, sin = rotary_table(rotary_frequencies(self.config, size), self.config.longest)
            self.tensors["rotary.cos"], self.tensors["rotary.sin"] = cos, sin
        return Product(rotated_name(x.name), Accumulator(scale=_rows(scale, 1)))

    def attention(
        self,
        name: str,
        query: Product,
        key: Product,
        value: Product,
        mask: None,
        *,
        heads: int,
        key_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> Codes:
        q, k, v = (self.requantize(x, role="") for x in (query, key, value))
        size = self._outline.activations[q.name].channels // heads
        scores = self._scale(q.name) * self._scale(k.name) / math.sqrt(size)
        self._rescale(f"{name}.scores", scores, float(self._profile.score_scale))
        context = f"{name}.context"
        self._rescale(context, self._scale(v.name) / self._profile.softmax.one, self._scale(context))
        return Codes(context, context)

    def neighbours(self, name: str, x: Codes, mask: None) -> Codes:
        self.formats[name] = self.formats[x.name]
        return Codes(name, x.name)

    def first(self, x: Codes) -> Codes:
        return x

    def asked(self, x: Codes) -> Codes:
        return x

    def pool(self, name: str, x: Codes, mode: Pooling) -> Codes:
        self.formats[name] = self.formats[x.name]
        return Codes(name, x.name)

    def normalize(self, name: str, x: Codes) -> Codes:
        self.formats[name] = Format(range=INT32, zero_point=0, scale=Dyadic(1, UNIT_FRACTION))
        return Codes(name, name)

    def logits(self, name: str, x: Codes, rows: int, *, view: View = OWN, bias: str | None = "") -> Codes:
        product = self.linear(name, x, rows, role="head.logits", view=view, bias=bias)
        self._rescale(name, product.acc, 2.0**-LOGIT_FRACTION)
        self.formats[name] = Format(range=INT32, zero_point=0, scale=Dyadic(1, LOGIT_FRACTION))
        return Codes(name, name)

    def output(self, x: Codes) -> Codes:
        return x


def _with_addend(ratio: Dyadic, addend: Reals) -> tuple[Dyadic, Integers]:
    """Return the ratio, and the addend in units of its products: (N,) reals in units of the result.

    A channel whose weights all but vanish beside its bias takes a multiplier whose units the bias fits.
    """
    excess = np.maximum(np.frexp(np.ldexp(addend, ratio.shift))[1] - (MAX_SHIFT - 2), 0)
    excess = excess if ratio.shift.ndim else excess.max()
    ratio = Dyadic(np.rint(np.ldexp(ratio.multiplier, -excess)).astype(np.int64), ratio.shift - excess)
    return ratio, np.rint(np.ldexp(addend, ratio.shift)).astype(np.int64)


def _format(name: str, params: AffineParams, groups: int) -> Format:
    """Return the format of parameters, of which groups of channels repeat theirs."""
    every = len(params.scale) // groups if groups > 1 else 1
    try:
        scales = [Dyadic.exactly(float(value)) for value in np.atleast_1d(params.scale)[::every]]
    except ValueError as error:
        msg = f"activation '{name}' must have a scale that integers hold, got: {error}"
        raise CheckpointError(msg) from None
    if groups == 1:
        return Format(range=params.range, zero_point=int(params.zero_point), scale=scales[0])
    return Format(
        range=params.range,
        zero_point=tuple(params.zero_point[::every].tolist()),
        scale=Dyadic(np.array([s.multiplier for s in scales]), np.array([s.shift for s in scales])),
    )


def _rows(scale: Reals, groups: int) -> Reals:
    """Return s_x s_w as (K, N) or (K, 1), from (), (C,), (N, 1) or (N, C) with C channels in K groups."""
    if scale.ndim < 2:
        scale = np.broadcast_to(scale, (1, *scale.shape)) if scale.ndim else scale.reshape(1, 1)
    every = max(scale.shape[1] // groups, 1)
    return scale[:, ::every].T


def _squeezed(row: Reals) -> Reals:
    """Return one number for a row that holds one."""
    return row[0] if len(row) == 1 else row
