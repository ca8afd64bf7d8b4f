# SPDX-License-Identifier: Apache-2.0
"""What a case of each operator is made of: its operands, its result, and the golden evaluation by ``intsim.ops``.

One function per operator binds it to a profile and a size. A case is one row of int64 words, the operands in order;
``evaluate`` takes one array per operand, (cases,) for a field of one word and (cases, count) for a row, and returns the
results the same way. It raises ``ValueError`` for operands on which the operator is not defined.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np

from intsim import ops
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, IntRange, Rounding, saturate
from intsim.ops.l2_normalize import ROOT_FRACTION, UNIT_FRACTION
from intsim.ops.rotary import TURN_FRACTION
from intsim.profile import Gelu, LayerNorm, Profile, native
from intsim.quantizers import AffineParams
from intsim.quantizers import quantize as affine_quantize
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh
from intsim.verify.vectors.draw import Int64

__all__ = ["OPERATORS", "Field", "Operator", "bind", "parse_size"]

Size: TypeAlias = tuple[int, ...]

MAX_WORDS: Final = 1 << 14  # of one field: the most channels of a layer norm


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator bound to a profile and a size."""

    name: str
    profile: Profile
    size: Size
    operands: tuple[Field, ...]
    result: Field
    evaluate: Callable[..., Any]
    constants: Mapping[str, int | str]  # of the profile, for whoever builds the device

    @property
    def words(self) -> int:
        """Words of the operands of one case."""
        return sum(field.count for field in self.operands)

    def split(self, cases: Int64) -> list[Int64]:
        """Return one array per operand of (cases, words)."""
        ends = np.cumsum([field.count for field in self.operands])
        parts = np.split(cases, ends[:-1], axis=1)
        return [part[:, 0] if field.count == 1 else part for field, part in zip(self.operands, parts, strict=True)]

    def results(self, cases: Int64) -> Int64:
        """Return the expected results (cases, result words) of (cases, operand words)."""
        if not len(cases):  # operators take the largest constant of a batch
            return np.empty((0, self.result.count), np.int64)
        return np.asarray(self.evaluate(*self.split(cases)), np.int64).reshape(len(cases), self.result.count)


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
    rule = native(profile.gelu, Gelu)
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


def _requantize(profile: Profile, size: Size) -> Operator:
    def evaluate(acc: Int64, multiplier: Int64, shift: Int64, zero_point: Int64) -> Any:
        y = np.empty(acc.shape, np.int64)
        for common in np.unique(zero_point).tolist():  # the operator takes one
            of = zero_point == common
            ratio = Dyadic(multiplier[of], shift[of])
            y[of] = ops.requantize(acc[of], ratio, to=INT8, rounding=profile.requantization, zero_point=common)
        return y

    return Operator(
        name="requantize",
        profile=profile,
        size=size,
        operands=(
            Field(name="acc", bits=32),
            Field(name="multiplier", bits=32),
            Field(name="shift", bits=6, signed=False),
            Field(name="zero_point", bits=8),
        ),
        result=Field(name="y", bits=8),
        evaluate=evaluate,
        constants={"rule": profile.requantization.name, "rounding": str(profile.requantization.rounding)},
    )


def _add(profile: Profile, size: Size) -> Operator:
    once = profile.sum == "once"

    def evaluate(acc: Int64, residual: Int64, acc_multiplier: Int64, residual_multiplier: Int64, *last: Int64) -> Any:
        *shifts, zero_point = last
        ratios = [Dyadic(acc_multiplier, shifts[0]), Dyadic(residual_multiplier, shifts[-1])]
        return saturate(ops.add([acc, residual], ratios, to=INT32, profile=profile) + zero_point, INT16)

    return Operator(
        name="add",
        profile=profile,
        size=size,
        operands=(
            Field(name="acc", bits=32),
            Field(name="residual", bits=16),
            Field(name="acc_multiplier", bits=32),
            Field(name="residual_multiplier", bits=32),
            *(
                Field(name=name, bits=6, signed=False)
                for name in (["shift"] if once else ["acc_shift", "residual_shift"])
            ),
            Field(name="zero_point", bits=16),
        ),
        result=Field(name="y", bits=16),
        evaluate=evaluate,
        constants={"sum": profile.sum, **_rounding(profile)},
    )


def _multiply(profile: Profile, size: Size) -> Operator:
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


def _rotary(profile: Profile, size: Size) -> Operator:
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
) -> Callable[[Profile, Size], Operator]:
    def build(profile: Profile, size: Size) -> Operator:
        def evaluate(x: Int64) -> Any:
            return function(saturate(x, INT16), profile=profile)

        return Operator(
            name=name,
            profile=profile,
            size=size,
            operands=(Field(name="x", bits=16),),
            result=Field(name="y", bits=bits),
            evaluate=evaluate,
            constants=constants(profile),
        )

    return build


def _isqrt(profile: Profile, size: Size) -> Operator:
    return Operator(
        name="isqrt",
        profile=profile,
        size=size,
        operands=(Field(name="n", bits=62, signed=False),),
        result=Field(name="root", bits=31, signed=False),
        evaluate=ops.isqrt,
        constants={},
    )


def _softmax(profile: Profile, size: Size) -> Operator:
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
        operands=(
            Field(name="acc", bits=32, count=length),
            Field(name="mask", bits=1, signed=False, count=length),
            Field(name="multiplier", bits=32),
            Field(name="shift", bits=6, signed=False),
        ),
        result=Field(name="probs", bits=profile.probability_range.bits, signed=False, count=length),
        evaluate=evaluate,
        constants={"one": profile.softmax.one, **_rounding(profile), **_exp_constants(profile)},
    )


def _layer_norm(profile: Profile, size: Size) -> Operator:
    centring = {"centring": native(profile.layer_norm, LayerNorm).centring}
    return _norm("layer_norm", ops.layer_norm, INT16, profile, size, centring)


def _rms_norm(profile: Profile, size: Size) -> Operator:
    row_bits = {"row_bits": native(profile.layer_norm, LayerNorm).row_bits}
    return _norm("rms_norm", ops.rms_norm, INT32, profile, size, row_bits)


def _norm(
    name: str,
    function: Callable[..., Any],
    codes: IntRange,
    profile: Profile,
    size: Size,
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
            y[rows] = function(saturate(x[rows], codes), params, to=INT8, profile=profile)
        return y

    return Operator(
        name=name,
        profile=profile,
        size=size,
        operands=(
            Field(name="x", bits=codes.bits, count=channels),
            Field(name="multiplier", bits=32, count=channels),
            Field(name="bias", bits=64, count=channels),
            Field(name="shift", bits=6, signed=False),
            Field(name="eps", bits=61, signed=False),
        ),
        result=Field(name="y", bits=8, count=channels),
        evaluate=evaluate,
        constants={
            **constants,
            "output_fraction": native(profile.layer_norm, LayerNorm).output_fraction,
            **_rounding(profile),
            **_steps(profile),
        },
    )


def _l2_normalize(profile: Profile, size: Size) -> Operator:
    (channels,) = size

    def evaluate(x: Int64) -> Any:
        return ops.l2_normalize(saturate(x, INT16).reshape(-1, channels), profile=profile)

    return Operator(
        name="l2_normalize",
        profile=profile,
        size=size,
        operands=(Field(name="x", bits=16, count=channels),),
        result=Field(name="y", bits=32, count=channels),
        evaluate=evaluate,
        constants={"output_fraction": UNIT_FRACTION, "root_fraction": ROOT_FRACTION, **_steps(profile)},
    )


def _matmul(profile: Profile, size: Size) -> Operator:
    rows, columns, depth = size
    max_bias = INT32.max - (depth << 14)

    def evaluate(x: Int64, w: Int64, bias: Int64) -> Any:
        if bias.size and (largest := int(abs(bias).max())) > max_bias:
            msg = f"bias must be at most {max_bias} in magnitude for an int32 accumulator, got {largest}"
            raise ValueError(msg)
        return ops.matmul(
            saturate(x, INT8).reshape(-1, rows, depth),
            saturate(w, INT8).reshape(-1, columns, depth),
            bias=bias.reshape(-1, 1, columns),
        )

    return Operator(
        name="matmul",
        profile=profile,
        size=size,
        operands=(
            Field(name="x", bits=8, count=rows * depth),
            Field(name="w", bits=8, count=columns * depth),
            Field(name="bias", bits=32, count=columns),
        ),
        result=Field(name="acc", bits=32, count=rows * columns),
        evaluate=evaluate,
        constants={},
    )


def _quantize(profile: Profile, size: Size) -> Operator:
    def evaluate(x: Int64, scale: Int64, zero_point: Int64) -> Any:
        # float64 holds every float32; the integers of the files are the bits
        real, step = (bits.astype(np.uint32).view(np.float32).astype(np.float64) for bits in (x, scale))
        return affine_quantize(real, AffineParams(scale=step, zero_point=zero_point, range=INT8))

    return Operator(
        name="quantize",
        profile=profile,
        size=size,
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


# operator -> its builder and its default size
OPERATORS: Final[Mapping[str, tuple[Callable[[Profile, Size], Operator], Size]]] = {
    "requantize": (_requantize, ()),
    "add": (_add, ()),
    "exp": (_unary("exp", ops.exp, 32, _exp_constants), ()),
    "softmax": (_softmax, (16,)),
    "gelu": (_unary("gelu", ops.gelu, 32, _gelu_constants), ()),
    "gelu_tanh": (_unary("gelu_tanh", ops.gelu_tanh, 32, _gelu_constants), ()),
    "tanh": (_unary("tanh", ops.tanh, 16, _tanh_constants), ()),
    "sigmoid": (_unary("sigmoid", ops.sigmoid, 16, _sigmoid_constants), ()),
    "silu": (_unary("silu", ops.silu, 32, _silu_constants), ()),
    "isqrt": (_isqrt, ()),
    "layer_norm": (_layer_norm, (16,)),
    "rms_norm": (_rms_norm, (16,)),
    "l2_normalize": (_l2_normalize, (32,)),  # fewer have no ties
    "rotary": (_rotary, (8, 3)),
    "multiply": (_multiply, ()),
    "matmul": (_matmul, (4, 4, 16)),
    "quantize": (_quantize, ()),
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


def bind(name: str, profile: Profile, size: Size | None = None) -> Operator:
    """Return an operator bound to a profile and a size, by default its own.

    Raises
    ------
    IntsimError
        If there is no such operator, it cannot have that size, or the profile has another project's rules.
    """
    profile.require_native("profile of vectors")
    if name not in OPERATORS:
        msg = f"operator must be one of {', '.join(OPERATORS)}, got {name!r}"
        raise IntsimError(msg)
    build, default = OPERATORS[name]
    size = default if size is None else size
    if len(size) != len(default):
        rule = f"have {len(default)} numbers, such as {'x'.join(map(str, default))}" if default else "be left out"
        msg = f"size of {name} must {rule}, got {'x'.join(map(str, size))}"
        raise IntsimError(msg)
    if size and math.prod(size) > MAX_WORDS:
        msg = f"size of {name} must multiply to at most {MAX_WORDS}, got {'x'.join(map(str, size))}"
        raise IntsimError(msg)
    return build(profile, size)
