# SPDX-License-Identifier: Apache-2.0
"""What a case of each operator is made of: its operands, its result, and the golden evaluation by ``intsim.ops``.

One function per operator binds it to a profile and a size. A case is one row of int64 words, the operands in order;
``evaluate`` takes one array per operand, (cases,) for a field of one word and (cases, count) for a row, and returns the
results the same way. It raises ``ValueError`` for operands on which the operator is not defined.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from intsim import ops
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding, saturate
from intsim.kernels.rules import CodeLayerNorm
from intsim.ops.l2_normalize import ROOT_FRACTION, UNIT_FRACTION
from intsim.ops.rotary import TURN_FRACTION
from intsim.profile import Gelu, LayerNorm, Profile, Softmax, native
from intsim.quantizers import AffineParams
from intsim.quantizers import quantize as affine_quantize
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh
from intsim.verify.vectors.draw import Int64

__all__ = [
    "OPERATORS",
    "RANGES",
    "Field",
    "Formats",
    "Kind",
    "Operator",
    "bind",
    "input_range",
    "max_bias",
    "parse_size",
]

Size: TypeAlias = tuple[int, ...]

MAX_WORDS: Final = 1 << 14  # of one operand: the most channels of a layer norm
RANGES: Final[Mapping[str, IntRange]] = {
    "narrow": IntRange(8, narrow=True),
    "int8": INT8,
    "uint8": UINT8,
    "int16": INT16,
    "int32": INT32,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One operand, or the result: ``count`` words of ``bits`` bits."""

    name: str
    bits: int
    signed: bool = True
    count: int = 1

    @property
    def digits(self) -> int:
        """Hex digits of a word."""
        return -(-self.bits // 4)

    def __str__(self) -> str:
        of = f"[{self.count}]" if self.count > 1 else ""
        return f"{self.name} {'' if self.signed else 'u'}int{self.bits}{of}"


class Formats(NamedTuple):
    """Range of the result, and of the activations of a product."""

    to: IntRange
    x: IntRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator bound to a profile and a size."""

    name: str
    profile: Profile
    size: Size
    formats: Formats
    options: Mapping[str, str] = field(default_factory=dict[str, str])  # to and activations that are not the default
    operands: tuple[Field, ...]
    result: Field
    evaluate: Callable[..., Any]
    constants: Mapping[str, int | str]  # of the profile, for whoever builds the device

    @property
    def words(self) -> int:
        """Words of the operands of one case."""
        return sum(each.count for each in self.operands)

    @property
    def line_bytes(self) -> int:
        """Bytes of a case as text."""
        return sum(each.count * (each.digits + 1) for each in (*self.operands, self.result))

    def split(self, cases: Int64) -> list[Int64]:
        """Return one array per operand of (cases, words)."""
        ends = np.cumsum([each.count for each in self.operands])
        parts = np.split(cases, ends[:-1], axis=1)
        return [part[:, 0] if each.count == 1 else part for each, part in zip(self.operands, parts, strict=True)]

    def results(self, cases: Int64) -> Int64:
        """Return the expected results (cases, result words) of (cases, operand words)."""
        if not len(cases):  # operators take the largest constant of a batch
            return np.empty((0, self.result.count), np.int64)
        return np.asarray(self.evaluate(*self.split(cases)), np.int64).reshape(len(cases), self.result.count)


def input_range(name: str, profile: Profile) -> IntRange:
    """Return the codes that a function of one code reads: int16, unless another project's GELU has its own."""
    return INT16 if name not in ("gelu", "gelu_tanh") else profile.gelu.input_range


def _field(name: str, codes: IntRange) -> Field:
    return Field(name=name, bits=codes.bits, signed=codes.signed)


def _borrowed(rule: Any) -> dict[str, int | str]:
    """Return the constants of another project's rule."""
    return {name: value for name, value in asdict(rule).items() if isinstance(value, int | str)}


def _rounding(profile: Profile) -> dict[str, int | str]:
    return {"rounding": str(profile.rounding)}


def _steps(profile: Profile) -> dict[str, int | str]:
    return {"step_rounding": str(profile.step_rounding)}


def _formats(input_fraction: int, output_fraction: int) -> dict[str, int | str]:
    """Return the constants of a correctly rounded function."""
    return {"rule": "rounded", "input_fraction": input_fraction, "output_fraction": output_fraction}


def _exp_constants(profile: Profile) -> dict[str, int | str]:
    if isinstance(profile.exp, RoundedExp):
        return _formats(profile.exp.input_fraction, profile.exp.output_fraction)
    q_ln2, q_b, q_c = profile.exp.constants(profile.step_rounding)
    shifts = {"guard_bits": profile.exp.guard_bits, "output_shift": profile.exp.output_shift}
    return {"q_ln2": q_ln2, "q_b": q_b, "q_c": q_c, **shifts, **_steps(profile)}


def _gelu_constants(profile: Profile) -> dict[str, int | str]:
    if isinstance(profile.gelu, RoundedGelu):
        return _formats(profile.gelu.input_fraction, profile.gelu.output_fraction)
    if not isinstance(profile.gelu, Gelu):
        return _borrowed(profile.gelu)
    rule = profile.gelu
    q_b, q_1 = rule.constants(profile.step_rounding)
    return {"q_b": q_b, "q_1": q_1, "output_shift": rule.output_shift, **_steps(profile)}


def _tanh_constants(profile: Profile) -> dict[str, int | str]:
    if isinstance(profile.tanh, RoundedTanh):
        return _formats(profile.exp.input_fraction + 1, profile.tanh.output_fraction)
    return {"output_fraction": profile.tanh.output_fraction, **_exp_constants(profile)}


def _sigmoid_constants(profile: Profile) -> dict[str, int | str]:
    if isinstance(profile.sigmoid, RoundedSigmoid):
        return _formats(profile.exp.input_fraction, profile.sigmoid.output_fraction)
    return {"output_fraction": profile.sigmoid.output_fraction, **_exp_constants(profile)}


def _silu_constants(profile: Profile) -> dict[str, int | str]:
    if isinstance(profile.silu, RoundedSilu):
        return _formats(profile.silu.input_fraction, profile.silu.output_fraction)
    formats = {"input_fraction": profile.silu.input_fraction, "exp_fraction": profile.exp.input_fraction}
    return {**formats, **_sigmoid_constants(profile)}


def _requantize(profile: Profile, size: Size, formats: Formats) -> Operator:
    def evaluate(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Any:
        y = np.empty(acc.shape, np.int64)
        for common in np.unique(zero_point).tolist():  # the operator takes one
            of = zero_point == common
            ratio = Dyadic(multiplier[of], shift[of])
            y[of] = ops.requantize(acc[of], ratio, to=formats.to, rounding=profile.requantization, zero_point=common)
        return y

    return Operator(
        name="requantize",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="acc", bits=32),
            Field(name="multiplier", bits=32),
            Field(name="shift", bits=6, signed=False),
            _field("zero_point", formats.to),
        ),
        result=_field("y", formats.to),
        evaluate=evaluate,
        constants={"rule": profile.requantization.name, "rounding": str(profile.requantization.rounding)},
    )


def _add(profile: Profile, size: Size, formats: Formats) -> Operator:
    once = profile.sum == "once"

    def evaluate(acc: Int64, residual: Int64, acc_multiplier: Int64, residual_multiplier: Int64, *last: Int64) -> Any:
        *shifts, zero_point = last
        ratios = [Dyadic(acc_multiplier, shifts[0]), Dyadic(residual_multiplier, shifts[-1])]
        return saturate(ops.add([acc, residual], ratios, to=INT32, profile=profile) + zero_point, formats.to)

    return Operator(
        name="add",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="acc", bits=32),
            Field(name="residual", bits=16),
            Field(name="acc_multiplier", bits=32),
            Field(name="residual_multiplier", bits=32),
            *(
                Field(name=name, bits=6, signed=False)
                for name in (["shift"] if once else ["acc_shift", "residual_shift"])
            ),
            _field("zero_point", formats.to),
        ),
        result=_field("y", formats.to),
        evaluate=evaluate,
        constants={"sum": profile.sum, **_rounding(profile)},
    )


def _multiply(profile: Profile, size: Size, formats: Formats) -> Operator:
    def evaluate(a: Int64, b: Int64, multiplier: Int64, shift: Int64, *zero_points: Int64) -> Any:
        y, table = np.empty(a.shape, np.int64), np.column_stack(zero_points)
        for common in np.unique(table, axis=0):  # the operator takes one of each
            of = (table == common).all(axis=1)
            za, zb, z = common.tolist()
            ratio, (a_q, b_q) = Dyadic(multiplier[of], shift[of]), (saturate(x[of], INT16) for x in (a, b))
            constants: dict[str, Any] = {"a_zero_point": za, "b_zero_point": zb, "zero_point": z}
            y[of] = ops.multiply(a_q, b_q, ratio, to=INT16, rounding=profile.rounding, **constants)
        return y

    return Operator(
        name="multiply",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="a", bits=16),
            Field(name="b", bits=16),
            Field(name="multiplier", bits=32),
            Field(name="shift", bits=6, signed=False),
            *(Field(name=name, bits=16) for name in ("a_zero_point", "b_zero_point", "zero_point")),
        ),
        result=Field(name="y", bits=16),
        evaluate=evaluate,
        constants=_rounding(profile),
    )


def _rotary(profile: Profile, size: Size, formats: Formats) -> Operator:
    channels, pairs = size
    if 2 * pairs > channels:
        msg = f"size of rotary must have at least 2 channels for each pair, got {channels}x{pairs}"
        raise IntsimError(msg)

    def evaluate(x: Int64, cos: Int64, sin: Int64, neighbours: Int64) -> Any:
        heads = saturate(x, INT16).reshape(-1, 1, 1, channels)
        tables = [saturate(table, INT16).reshape(-1, 1, pairs) for table in (cos, sin)]
        halves = ops.rotary(heads, *tables, pairing="halves", rounding=profile.rounding)
        beside = ops.rotary(heads, *tables, pairing="neighbours", rounding=profile.rounding)
        return np.where(neighbours[:, None] == 1, *(y.reshape(-1, channels) for y in (beside, halves)))

    return Operator(
        name="rotary",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="x", bits=16, count=channels),
            Field(name="cos", bits=16, count=pairs),
            Field(name="sin", bits=16, count=pairs),
            Field(name="neighbours", bits=1, signed=False),
        ),
        result=Field(name="y", bits=32, count=channels),
        evaluate=evaluate,
        constants={"turn_fraction": TURN_FRACTION, **_rounding(profile)},
    )


def _unary(
    name: str, function: Callable[..., Any], bits: int, constants: Callable[[Profile], dict[str, int | str]]
) -> Callable[[Profile, Size, Formats], Operator]:
    def build(profile: Profile, size: Size, formats: Formats) -> Operator:
        codes = input_range(name, profile)

        def evaluate(x: Int64) -> Any:
            return function(saturate(x[:, None], codes), profile=profile)[:, 0]  # I-ViT's GELU reads rows

        return Operator(
            name=name,
            profile=profile,
            size=size,
            formats=formats,
            operands=(_field("x", codes),),
            result=Field(name="y", bits=bits),
            evaluate=evaluate,
            constants=constants(profile),
        )

    return build


def _isqrt(profile: Profile, size: Size, formats: Formats) -> Operator:
    return Operator(
        name="isqrt",
        profile=profile,
        size=size,
        formats=formats,
        operands=(Field(name="n", bits=62, signed=False),),
        result=Field(name="root", bits=31, signed=False),
        evaluate=ops.isqrt,
        constants={},
    )


def _softmax(profile: Profile, size: Size, formats: Formats) -> Operator:
    (length,) = size

    def evaluate(acc: Int64, mask: Int64, multiplier: Int64, shift: Int64) -> Any:
        acc, mask = acc.reshape(-1, length), mask.reshape(-1, length)
        probs = np.empty(acc.shape, np.int64)
        for rows in _runs(multiplier, shift):
            ratio = Dyadic(multiplier[rows][0], shift[rows][0])
            scores = saturate(acc[rows], INT32)
            probs[rows] = ops.softmax(scores, ratio, profile=profile, mask=mask[rows] != 0)
        return probs

    return Operator(
        name="softmax",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="acc", bits=32, count=length),
            Field(name="mask", bits=1, signed=False, count=length),
            Field(name="multiplier", bits=32),
            Field(name="shift", bits=6, signed=False),
        ),
        result=Field(name="probs", bits=profile.probability_range.bits, signed=False, count=length),
        evaluate=evaluate,
        constants=(
            {"one": profile.softmax.one, **_rounding(profile), **_exp_constants(profile)}
            if isinstance(profile.softmax, Softmax)
            else {**_borrowed(profile.softmax), "requantization": profile.requantization.name}
        ),
    )


def _layer_norm(profile: Profile, size: Size, formats: Formats) -> Operator:
    rule = profile.layer_norm
    if isinstance(rule, CodeLayerNorm) and size == (1,):
        msg = (
            f"size of layer_norm must be at least 2 in profile '{profile.name}', which divides by the deviation, got 1"
        )
        raise IntsimError(msg)
    own: dict[str, int | str] = {"centring": rule.centring} if isinstance(rule, LayerNorm) else _borrowed(rule)
    return _norm("layer_norm", ops.layer_norm, INT16, profile, size, formats, own)


def _rms_norm(profile: Profile, size: Size, formats: Formats) -> Operator:
    row_bits = {"row_bits": native(profile.layer_norm, LayerNorm).row_bits}
    return _norm("rms_norm", ops.rms_norm, INT32, profile, size, formats, row_bits)


def _norm(
    name: str,
    function: Callable[..., Any],
    codes: IntRange,
    profile: Profile,
    size: Size,
    formats: Formats,
    constants: Mapping[str, int | str],
) -> Operator:
    (channels,) = size

    def evaluate(x: Int64, multiplier: Int64, bias: Int64, shift: Int64, eps: Int64) -> Any:
        x, multiplier, bias = (field.reshape(-1, channels) for field in (x, multiplier, bias))
        y = np.empty(x.shape, np.int64)
        for rows in _runs(multiplier, bias, shift, eps):
            params = ops.LayerNormParams(
                weight=Dyadic(multiplier[rows][0], np.repeat(shift[rows][0], channels)),
                bias=bias[rows][0],
                eps=int(eps[rows][0]),
            )
            y[rows] = function(saturate(x[rows], codes), params, to=formats.to, profile=profile)
        return y

    fraction = (
        {"output_fraction": profile.layer_norm.output_fraction} if isinstance(profile.layer_norm, LayerNorm) else {}
    )

    return Operator(
        name=name,
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="x", bits=codes.bits, count=channels),
            Field(name="multiplier", bits=32, count=channels),
            Field(name="bias", bits=64, count=channels),
            Field(name="shift", bits=6, signed=False),
            Field(name="eps", bits=61, signed=False),
        ),
        result=replace(_field("y", formats.to), count=channels),
        evaluate=evaluate,
        constants={
            **constants,
            **fraction,
            **_rounding(profile),
            **_steps(profile),
        },
    )


def _l2_normalize(profile: Profile, size: Size, formats: Formats) -> Operator:
    (channels,) = size

    def evaluate(x: Int64) -> Any:
        return ops.l2_normalize(saturate(x, INT16).reshape(-1, channels), profile=profile)

    return Operator(
        name="l2_normalize",
        profile=profile,
        size=size,
        formats=formats,
        operands=(Field(name="x", bits=16, count=channels),),
        result=Field(name="y", bits=32, count=channels),
        evaluate=evaluate,
        constants={"output_fraction": UNIT_FRACTION, "root_fraction": ROOT_FRACTION, **_steps(profile)},
    )


def max_bias(depth: int, x: IntRange) -> int:
    """Return the largest bias with which ``depth`` products of codes ``x`` and int8 stay inside int32."""
    return INT32.max - depth * max(-x.min, x.max) * 128


def _matmul(profile: Profile, size: Size, formats: Formats) -> Operator:
    rows, columns, depth = size
    most = max_bias(depth, formats.x)

    def evaluate(x: Int64, w: Int64, bias: Int64) -> Any:
        if bias.size and (largest := int(abs(bias).max())) > most:
            msg = f"bias must be at most {most} in magnitude for an int32 accumulator, got {largest}"
            raise ValueError(msg)
        return ops.matmul(
            saturate(x, formats.x).reshape(-1, rows, depth),
            saturate(w, INT8).reshape(-1, columns, depth),
            bias=bias.reshape(-1, 1, columns),
        )

    return Operator(
        name="matmul",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            replace(_field("x", formats.x), count=rows * depth),
            Field(name="w", bits=8, count=columns * depth),
            Field(name="bias", bits=32, count=columns),
        ),
        result=Field(name="acc", bits=32, count=rows * columns),
        evaluate=evaluate,
        constants={},
    )


def _linear(profile: Profile, size: Size, formats: Formats) -> Operator:
    rows, columns, depth = size

    def evaluate(
        x: Int64,
        w: Int64,
        bias: Int64,
        x_zero_point: Int64,
        multiplier: Int64,
        shift: Int64,
        zero_point: Int64,
    ) -> Any:
        centred = x.reshape(-1, rows, depth) - x_zero_point[:, None, None]
        acc = ops.matmul(saturate(centred, INT16), saturate(w, INT8).reshape(-1, columns, depth))
        total = acc.astype(np.int64) + bias.reshape(-1, 1, columns)
        if total.size and (largest := int(abs(total).max())) > INT32.max:
            msg = f"accumulators must fit int32, got {largest}"
            raise ValueError(msg)
        y = np.empty(total.shape, np.int64)
        for cases in _runs(multiplier.reshape(-1, columns), shift.reshape(-1, columns), zero_point):
            ratio = Dyadic(multiplier.reshape(-1, columns)[cases][0], shift.reshape(-1, columns)[cases][0])
            common = int(zero_point[cases][0])
            y[cases] = ops.requantize(
                saturate(total[cases], INT32),
                ratio,
                to=formats.to,
                rounding=profile.requantization,
                zero_point=common,
            )
        return y

    return Operator(
        name="linear",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            replace(_field("x", formats.x), count=rows * depth),
            Field(name="w", bits=8, count=columns * depth),
            Field(name="bias", bits=32, count=columns),
            _field("x_zero_point", formats.x),
            Field(name="multiplier", bits=32, count=columns),
            Field(name="shift", bits=6, signed=False, count=columns),
            _field("zero_point", formats.to),
        ),
        result=replace(_field("y", formats.to), count=rows * columns),
        evaluate=evaluate,
        constants={"rule": profile.requantization.name, "rounding": str(profile.requantization.rounding)},
    )


def _linear_add_norm(profile: Profile, size: Size, formats: Formats) -> Operator:
    rows, columns, _ = size
    product = _matmul(profile, size, formats)
    total = _add(profile, (), formats._replace(to=INT16))
    norm = _layer_norm(profile, (columns,), formats)

    def evaluate(x: Int64, w: Int64, bias: Int64, residual: Int64, *constants: Int64) -> Any:
        acc = np.asarray(product.evaluate(x, w, bias), np.int64)
        of_sum, of_norm = (residual, *constants[:-4]), constants[-4:]
        each = (np.broadcast_to(_over_tiles(values, columns), acc.shape).reshape(-1) for values in of_sum)
        codes = np.asarray(total.evaluate(acc.reshape(-1), *each), np.int64)
        gain, offset, shift, eps = (np.repeat(values, rows, axis=0) for values in of_norm)
        return norm.evaluate(codes.reshape(-1, columns), gain, offset, shift, eps)

    return Operator(
        name="linear_add_norm",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            *product.operands,
            replace(total.operands[1], count=rows * columns),
            replace(total.operands[2], count=columns),
            *total.operands[3:],
            *(replace(each, name=f"norm_{each.name}") for each in norm.operands[1:]),
        ),
        result=replace(norm.result, count=rows * columns),
        evaluate=evaluate,
        constants={"sum": profile.sum, **norm.constants},
    )


def _over_tiles(values: Int64, columns: int) -> Int64:
    """Return a field of one word, one of a row, or one of a tile over (cases, rows, columns)."""
    return values[:, None, None] if values.ndim == 1 else values.reshape(len(values), -1, columns)


def _quantize(profile: Profile, size: Size, formats: Formats) -> Operator:
    def evaluate(x: Int64, scale: Int64, zero_point: Int64) -> Any:
        # float64 holds every float32; the integers of the files are the bits
        real, step = (bits.astype(np.uint32).view(np.float32).astype(np.float64) for bits in (x, scale))
        return affine_quantize(real, AffineParams(scale=step, zero_point=zero_point, range=INT8))

    return Operator(
        name="quantize",
        profile=profile,
        size=size,
        formats=formats,
        operands=(
            Field(name="x", bits=32, signed=False),
            Field(name="scale", bits=32, signed=False),
            Field(name="zero_point", bits=8),
        ),
        result=Field(name="y", bits=8),
        evaluate=evaluate,
        constants={"rounding": str(Rounding.HALF_EVEN)},
    )


def _runs(*constants: Int64) -> Iterator[slice]:
    """Yield the slices of neighbouring cases that share every constant."""
    table = np.column_stack(constants)
    starts = [0, *(np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1).tolist(), len(table)]
    for start, stop in pairwise(starts):
        if start < stop:
            yield slice(start, stop)


class Kind(NamedTuple):
    """How an operator is bound, its default size, and its default formats where there is a choice."""

    build: Callable[[Profile, Size, Formats], Operator]
    size: Size = ()
    to: str = ""
    activations: str = ""


OPERATORS: Final[Mapping[str, Kind]] = {
    "requantize": Kind(_requantize, to="int8"),
    "add": Kind(_add, to="int16"),
    "exp": Kind(_unary("exp", ops.exp, 32, _exp_constants)),
    "softmax": Kind(_softmax, (16,)),
    "gelu": Kind(_unary("gelu", ops.gelu, 32, _gelu_constants)),
    "gelu_tanh": Kind(_unary("gelu_tanh", ops.gelu_tanh, 32, _gelu_constants)),
    "tanh": Kind(_unary("tanh", ops.tanh, 16, _tanh_constants)),
    "sigmoid": Kind(_unary("sigmoid", ops.sigmoid, 16, _sigmoid_constants)),
    "silu": Kind(_unary("silu", ops.silu, 32, _silu_constants)),
    "isqrt": Kind(_isqrt),
    "layer_norm": Kind(_layer_norm, (16,), to="int8"),
    "rms_norm": Kind(_rms_norm, (16,), to="int8"),
    "l2_normalize": Kind(_l2_normalize, (32,)),  # fewer have no ties
    "rotary": Kind(_rotary, (8, 3)),
    "multiply": Kind(_multiply),
    "matmul": Kind(_matmul, (4, 4, 16), activations="int8"),
    "linear": Kind(_linear, (4, 4, 16), to="int8", activations="int8"),
    "linear_add_norm": Kind(_linear_add_norm, (2, 16, 16), to="int8", activations="int8"),
    "quantize": Kind(_quantize),
}


def parse_size(text: str) -> Size:
    """Return the numbers of ``16`` or ``4x4x16``.

    Raises
    ------
    IntsimError
        If the text is anything else.
    """
    parts = text.split("x")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 5 and int(part) > 0 for part in parts):
        msg = f"size must be positive numbers joined by x, such as 16 or 4x4x16, got {text!r}"
        raise IntsimError(msg)
    return tuple(int(part) for part in parts)


def bind(
    name: str,
    profile: Profile,
    size: Size | None = None,
    *,
    to: str | None = None,
    activations: str | None = None,
) -> Operator:
    """Return an operator bound to a profile, a size and formats, by default its own.

    Raises
    ------
    IntsimError
        If there is no such operator, or it cannot have that size, profile or format.
    """
    if name not in OPERATORS:
        msg = f"operator must be one of {', '.join(OPERATORS)}, got {name!r}"
        raise IntsimError(msg)
    if name in ("rms_norm", "linear_add_norm") and "layer_norm" in profile.borrowed:
        msg = f"profile of {name} must have intsim's own layer_norm, got another project's in '{profile.name}'"
        raise IntsimError(msg)
    kind = OPERATORS[name]
    size = kind.size if size is None else size
    if len(size) != len(kind.size):
        rule = f"have {len(kind.size)} numbers, such as {'x'.join(map(str, kind.size))}" if kind.size else "be left out"
        msg = f"size of {name} must {rule}, got {'x'.join(map(str, size))}"
        raise IntsimError(msg)
    given = {"to": to, "activations": activations}
    own, choices = {"to": kind.to, "activations": kind.activations}, {"to": [*RANGES], "activations": ["int8", "uint8"]}
    for option, value in given.items():
        allowed = choices[option] if own[option] else []
        if value is not None and value not in allowed:
            having = ", ".join(each for each, other in OPERATORS.items() if getattr(other, option))
            rule = f"be one of {', '.join(allowed)}" if allowed else f"be left out, it is of {having}"
            msg = f"{option} of {name} must {rule}, got {value!r}"
            raise IntsimError(msg)
    chosen = {option: own[option] if value is None else value for option, value in given.items()}
    formats = Formats(RANGES[chosen["to"] or "int8"], RANGES[chosen["activations"] or "int8"])
    operator = kind.build(profile, size, formats)
    if (longest := max(each.count for each in operator.operands)) > MAX_WORDS:
        msg = f"size of {name} must make operands of at most {MAX_WORDS} words, got {longest}"
        raise IntsimError(msg)
    options = {option: value for option, value in chosen.items() if value != own[option]}
    return replace(operator, options=options)
