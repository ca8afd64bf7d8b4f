# SPDX-License-Identifier: Apache-2.0
"""What the changes run on: the fields of test vectors, or the operands of a recorded call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from intsim._trace import Call
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT8, INT16, IntRange
from intsim.kernels.rules import CodeLayerNorm
from intsim.profile import PROFILES, Profile
from intsim.requantization import RULES, Requantization
from intsim.verify.bugs import (
    add,
    isqrt,
    l2_normalize,
    layer_norm,
    linear,
    linear_add_norm,
    matmul,
    multiply,
    quantize,
    requantize,
    rms_norm,
    rotary,
    softmax,
)
from intsim.verify.bugs.parts import CONTROL, Changes, Int64, orders, resized, wraps
from intsim.verify.bugs.unary import UNARY
from intsim.verify.vectors.operators import Operator, bind

__all__ = [
    "Run",
    "Sized",
    "changes_of_call",
    "changes_of_operator",
    "rule_of_operator",
    "widths_of_call",
    "widths_of_operator",
]

T = TypeVar("T")
Fields: TypeAlias = tuple[Any, ...]
Run: TypeAlias = Callable[[], Integers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized(Generic[T]):
    """A change of which there is one for each of some widths; some read rows together with those before them."""

    widths: range
    reads_all_rows: bool
    at: Callable[[int], T]


def _neighbours(rule: Requantization) -> dict[str, Requantization]:
    """Return the rule itself, and the rules in the field that are not the same under another name."""
    others = {f"rule {name}": other for name, other in RULES.items() if replace(other, name=rule.name) != rule}
    return {CONTROL: rule, **others}


# Test vectors: one array per field, (cases,) or (cases, count)


def changes_of_operator(operator: Operator) -> dict[str, Operator]:
    """Return the operator of test vectors under every change, by its name; a result has the bits of its field."""
    rule = operator.profile.requantization
    if operator.name in ("requantize", "linear") and not rule.is_one_rounding:
        neighbours = {
            name: replace(operator.profile, requantization=other) for name, other in _neighbours(rule).items()
        }
        return {
            name: bind(operator.name, profile, operator.size, **operator.options)
            for name, profile in neighbours.items()
        }
    if _is_borrowed(operator):
        return _borrowed(operator)
    under = _of_words(operator)
    return {name: under(change) for name, change in _with_orders_of_words(operator).items()}


class RuleOfWords(NamedTuple):
    """The rule of an operator with nothing changed, and what makes its fields of cases."""

    rule: Callable[..., Int64]
    split: Callable[[Int64], Fields]


def rule_of_operator(operator: Operator) -> "RuleOfWords | None":
    """Return the rule that changes are made of, unless it is another project's."""
    if _is_other(operator):
        return None

    def split(cases: Int64) -> Fields:
        return tuple(_fields_of_words(operator, *operator.split(cases)))

    return RuleOfWords(_changes_of_words(operator)[CONTROL], split)


def widths_of_operator(operator: Operator) -> dict[str, Sized[Operator]]:
    """Return the changes that there are at every width, by their names with ``{}`` for it."""
    if _is_other(operator):
        return {}
    return _sized(_changes_of_words(operator), _of_words(operator))


def _is_borrowed(operator: Operator) -> bool:
    return {"gelu_tanh": "gelu"}.get(operator.name, operator.name) in operator.profile.borrowed


def _is_other(operator: Operator) -> bool:
    by_rule = operator.name in ("requantize", "linear") and not operator.profile.requantization.is_one_rounding
    return by_rule or _is_borrowed(operator)


def _borrowed(operator: Operator) -> dict[str, Operator]:
    """Return another project's operator, its results in the wrong place, and other profiles' rules on its codes."""
    stored = wraps(4 * operator.result.digits, signed=operator.result.signed)

    def own(*words: Int64) -> Int64:
        return stored(np.asarray(operator.evaluate(*words), np.int64))

    moved = orders(own, axes=1 + (operator.result.count > 1))
    rule = {"gelu_tanh": "gelu"}.get(operator.name, operator.name)
    others: dict[str, Operator] = {}
    for name, profile in PROFILES.items():
        other = replace(operator.profile, **{rule: getattr(profile, rule)})
        is_other = getattr(other, rule) != getattr(operator.profile, rule)
        if is_other and not isinstance(getattr(other, rule), CodeLayerNorm):  # which divides by 0 in flat rows
            bound = bind(operator.name, other, operator.size, **operator.options)
            if bound.operands == operator.operands:
                others[f"rule of profile {name}"] = replace(bound, result=operator.result)
    under = {name: replace(operator, evaluate=change) for name, change in moved.items()}
    return {CONTROL: replace(operator, evaluate=own), **others, **under}


def _of_words(operator: Operator) -> Callable[[Callable[..., Int64]], Operator]:
    stored = wraps(4 * operator.result.digits, signed=operator.result.signed)

    def under(change: Callable[..., Int64]) -> Operator:
        def evaluate(*words: Int64) -> Int64:
            return stored(change(*_fields_of_words(operator, *words)))

        return replace(operator, evaluate=evaluate)

    return under


def _sized(changes: Changes, under: Callable[[Callable[..., Int64]], T]) -> dict[str, Sized[T]]:
    sized: dict[str, Sized[T]] = {}
    for name, change in changes.items():
        if (found := resized(name, change)) is not None:
            template, kind, at = found
            sized[template] = Sized(
                widths=kind.widths,
                reads_all_rows=kind.reads_all_rows,
                at=lambda bits, at=at: under(at(bits)),
            )
    return sized


def _with_orders_of_words(operator: Operator) -> Changes:
    changes = _changes_of_words(operator)
    axes = 3 if operator.name in ("matmul", "linear", "linear_add_norm") else 1 + (operator.result.count > 1)
    return changes | orders(changes[CONTROL], axes=axes)


def _changes_of_words(operator: Operator) -> Changes:
    match operator.name:
        case "requantize":
            return requantize.changes(operator.profile.requantization.rounding, operator.formats.to)
        case "add":
            return add.changes(operator.profile, operator.formats.to, 2)
        case "softmax":
            return softmax.changes(operator.profile)
        case "multiply":
            return multiply.changes(INT16, INT16, INT16, operator.profile.rounding)
        case "rotary":
            return rotary.changes(operator.profile.rounding)
        case "l2_normalize":
            return l2_normalize.changes(operator.profile)
        case "layer_norm":
            return layer_norm.changes(operator.profile, operator.formats.to)
        case "rms_norm":
            return rms_norm.changes(operator.profile, operator.formats.to)
        case "matmul":
            return matmul.changes(operator.formats.x, INT8)
        case "linear":
            return linear.changes(
                operator.formats.x, INT8, operator.formats.to, operator.profile.requantization.rounding
            )
        case "linear_add_norm":
            return linear_add_norm.changes(operator.formats.x, operator.formats.to, operator.profile)
        case "isqrt":
            return isqrt.changes()
        case "quantize":
            return quantize.changes(INT8)
        case name:
            return UNARY[name](operator.profile)


def _fields_of_words(operator: Operator, *words: Int64) -> Fields:
    match operator.name, words:
        case "add", (acc, residual, m, n, *shifts, zero_point):
            return [acc, residual], [m, n], [shifts[0], shifts[-1]], zero_point
        case "matmul", (x, w, bias):
            rows, columns, depth = operator.size
            return x.reshape(-1, rows, depth), w.reshape(-1, columns, depth), bias.reshape(-1, 1, columns)
        case "linear", (x, w, bias, x_zero_point, multiplier, shift, zero_point):
            rows, columns, depth = operator.size
            return (
                x.reshape(-1, rows, depth),
                w.reshape(-1, columns, depth),
                bias.reshape(-1, 1, columns),
                x_zero_point.reshape(-1, 1, 1),
                multiplier.reshape(-1, 1, columns),
                shift.reshape(-1, 1, columns),
                zero_point.reshape(-1, 1, 1),
            )
        case "linear_add_norm", (x, w, bias, residual, m, n, *shifts, zero_point, gain, offset, shift, eps):
            rows, columns, depth = operator.size
            constants = (word.reshape(len(x), 1, -1) for word in (m, n, *shifts, zero_point, gain, offset, shift, eps))
            m, n, *shifts, zero_point, gain, offset, shift, eps = constants
            return (
                x.reshape(-1, rows, depth),
                w.reshape(-1, columns, depth),
                bias.reshape(-1, 1, columns),
                residual.reshape(-1, rows, columns),
                [m, n],
                [shifts[0], shifts[-1]],
                zero_point,
                gain,
                offset,
                shift,
                eps,
            )
        case "softmax" | "layer_norm" | "rms_norm" | "l2_normalize" | "rotary", _:
            return tuple(word.reshape(len(word), -1) for word in words)
        case _:
            return words


# A recorded call


def changes_of_call(call: Call) -> dict[str, Run]:
    """Return what gives the result of a call under every change, by its name.

    There is none for embedding and relu, copies, for a mean of tokens, and for a rule of another project.

    A result is stored in the bits of the recorded one, as in a device's dump.
    """
    profile, rule = call.constants.get("profile"), call.constants.get("rounding")
    if isinstance(profile, Profile) and call.operator.__name__ in profile.borrowed:
        return {}
    if isinstance(rule, Requantization) and not rule.is_one_rounding:

        def by(other: Requantization) -> Run:
            return lambda: call.operator(*call.operands, **{**call.constants, "rounding": other})

        return {name: by(other) for name, other in _neighbours(rule).items()}
    changes, fields = _changes_of_call(call)
    if changes:
        axes = 4 if call.result.ndim > 3 else min(1 + call.result.ndim, 3)
        changes = changes | orders(changes[CONTROL], axes=axes)
    return {name: _of_call(call, fields, change) for name, change in changes.items()}


def widths_of_call(call: Call) -> dict[str, Sized[Run]]:
    """Return the changes of a call that there are at every width, by their names with ``{}`` for it."""
    profile, rule = call.constants.get("profile"), call.constants.get("rounding")
    if (isinstance(profile, Profile) and call.operator.__name__ in profile.borrowed) or (
        isinstance(rule, Requantization) and not rule.is_one_rounding
    ):
        return {}
    changes, fields = _changes_of_call(call)
    return _sized(changes, lambda change: _of_call(call, fields, change))


def _of_call(call: Call, fields: Fields, change: Callable[..., Int64]) -> Run:
    return lambda: change(*fields).astype(call.result.dtype).reshape(call.result.shape)


def _wide(x: Integers) -> Int64:
    return np.asarray(x, np.int64)


def _range(codes: Integers) -> IntRange:
    return IntRange(8 * codes.dtype.itemsize, signed=codes.dtype.kind == "i")


def _changes_of_call(call: Call) -> tuple[Changes, Fields]:
    constants = call.constants
    match call.operator.__name__, call.operands:
        case "requantize", (acc, ratio):
            rule, zero_point = constants["rounding"], _wide(constants.get("zero_point", 0))
            rounding = rule.rounding if isinstance(rule, Requantization) else rule
            changes = requantize.changes(rounding, constants["to"], per_channel=ratio.multiplier.ndim > 0)
            return changes, (_wide(acc), ratio.multiplier, ratio.shift, zero_point)
        case "add", (operands, ratios):
            multipliers, shifts = [ratio.multiplier for ratio in ratios], [ratio.shift for ratio in ratios]
            per_channel = any(multiplier.ndim for multiplier in multipliers)
            changes = add.changes(constants["profile"], constants["to"], len(operands), per_channel=per_channel)
            zero_point = _wide(constants.get("zero_point", 0))
            return changes, ([_wide(x) for x in operands], multipliers, shifts, zero_point)
        case "multiply", (a, b, ratio):
            formats = _range(a), _range(b), constants["to"]
            changes = multiply.changes(*formats, constants["rounding"], per_channel=ratio.multiplier.ndim > 0)
            zeros = [_wide(constants.get(name, 0)) for name in ("a_zero_point", "b_zero_point", "zero_point")]
            return changes, (_wide(a), _wide(b), ratio.multiplier, ratio.shift, *zeros)
        case "rotary", (x, *tables):
            turns = [_wide(table if table.ndim == 2 else table[..., None, :, :]) for table in tables]
            neighbours = np.array(int(constants["pairing"] == "neighbours"))
            return rotary.changes(constants["rounding"]), (_wide(x), *turns, neighbours)
        case "matmul", (x, w):
            ranges = [_range(codes) for codes in (x, w)]
            bias = constants.get("bias")
            offset = np.zeros((1, w.shape[-2]), np.int64) if bias is None else _wide(bias)[None]
            zeros = [constants.get(name, 0) for name in ("x_zero_point", "w_zero_point")]
            return matmul.changes(*ranges), (np.atleast_2d(_wide(x)) - zeros[0], _wide(w) - zeros[1], offset)
        case "softmax", (acc, ratio):
            mask = constants.get("mask")
            kept = np.ones(acc.shape[-1], np.int64) if mask is None else _wide(mask)
            return softmax.changes(constants["profile"]), (_wide(acc), kept, ratio.multiplier, ratio.shift)
        case "l2_normalize", (x,):
            return l2_normalize.changes(constants["profile"]), (_wide(x),)
        case "layer_norm" | "rms_norm", (x, params):
            weight, rules = params.weight, (constants["profile"], constants["to"])
            fields = (_wide(x), weight.multiplier, params.bias, weight.shift, np.array(params.eps))
            if call.operator.__name__ == "rms_norm":
                return rms_norm.changes(*rules), fields
            if not np.can_cast(x.dtype, np.int16):
                wide = rms_norm.changes_of_wide_layer_norm(*rules, eps=params.eps, channels=x.shape[-1])
                return wide, fields
            return layer_norm.changes(*rules), fields
        case "isqrt", (n,):
            return isqrt.changes(), (_wide(n),)
        case name, (x, *_) if name in UNARY:
            return UNARY[name](constants["profile"]), (_wide(x),)
        case _:
            return {}, ()
