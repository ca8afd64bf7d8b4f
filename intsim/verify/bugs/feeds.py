# SPDX-License-Identifier: Apache-2.0
"""What the changes run on: the fields of test vectors, or the operands of a recorded call."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from intsim._trace import Call
from intsim.carrier import Integers
from intsim.fixedpoint import INT8, INT16, IntRange, Rounding
from intsim.requantization import RULES, Requantization
from intsim.verify.bugs import add, exp, gelu, isqrt, layer_norm, matmul, quantize, requantize, sigmoid, softmax, tanh
from intsim.verify.bugs.parts import CONTROL, Changes, Int64, wraps
from intsim.verify.vectors.operators import Operator, bind

__all__ = ["changes_of_call", "changes_of_operator"]

Fields = tuple[Any, ...]
Run = Callable[[], Integers]


# Test vectors: one array per field, (cases,) or (cases, count)


def changes_of_operator(operator: Operator) -> dict[str, Operator]:
    """Return the operator of test vectors under every change, by its name; a result has the bits of its field."""
    rule = operator.profile.requantization
    if operator.name == "requantize" and not rule.is_one_rounding:
        neighbours = {
            name: replace(operator.profile, requantization=other) for name, other in _neighbours(rule).items()
        }
        return {name: bind(operator.name, profile, operator.size) for name, profile in neighbours.items()}
    changes, fields = _VECTORS[operator.name](operator)
    stored = wraps(4 * operator.result.digits, signed=operator.result.signed)

    def under(change: Callable[..., Int64]) -> Operator:
        def evaluate(*words: Int64) -> Int64:
            return stored(change(*fields(*words)))

        return replace(operator, evaluate=evaluate)

    return {name: under(change) for name, change in changes.items()}


def _neighbours(rule: Requantization) -> dict[str, Requantization]:
    """Return the rule itself, and the rules in the field that are not the same under another name."""
    others = {f"rule {name}": other for name, other in RULES.items() if replace(other, name=rule.name) != rule}
    return {CONTROL: rule, **others}


def _same(*words: Int64) -> Fields:
    return words


def _requantize_words(operator: Operator) -> tuple[Changes, Callable[..., Fields]]:
    return requantize.changes(operator.profile.requantization.rounding, INT8), _same


def _add_words(operator: Operator) -> tuple[Changes, Callable[..., Fields]]:
    def fields(acc: Int64, residual: Int64, m: Int64, n: Int64, *last: Int64) -> Fields:
        *shifts, zero_point = last
        return [acc, residual], [m, n], [shifts[0], shifts[-1]], zero_point

    return add.changes(operator.profile, INT16, 2), fields


def _matmul_words(operator: Operator) -> tuple[Changes, Callable[..., Fields]]:
    rows, columns, depth = operator.size

    def fields(x: Int64, w: Int64, bias: Int64) -> Fields:
        return x.reshape(-1, rows, depth), w.reshape(-1, columns, depth), bias.reshape(-1, 1, columns)

    return matmul.changes(INT8, INT8), fields


def _softmax_words(operator: Operator) -> tuple[Changes, Callable[..., Fields]]:
    def fields(acc: Int64, mask: Int64, multiplier: Int64, shift: Int64) -> Fields:
        count = len(acc)
        return acc.reshape(count, -1), mask.reshape(count, -1), multiplier[:, None], shift[:, None]

    return softmax.changes(operator.profile), fields


def _layer_norm_words(operator: Operator) -> tuple[Changes, Callable[..., Fields]]:
    def fields(*words: Int64) -> Fields:
        return tuple(word.reshape(len(word), -1) for word in words)

    return layer_norm.changes(operator.profile, INT8), fields


_VECTORS: Final[Mapping[str, Callable[[Operator], tuple[Changes, Callable[..., Fields]]]]] = {
    "requantize": _requantize_words,
    "add": _add_words,
    "exp": lambda operator: (exp.changes(operator.profile), _same),
    "softmax": _softmax_words,
    "gelu": lambda operator: (gelu.changes(operator.profile), _same),
    "tanh": lambda operator: (tanh.changes(operator.profile), _same),
    "sigmoid": lambda operator: (sigmoid.changes(operator.profile), _same),
    "isqrt": lambda _: (isqrt.changes(), _same),
    "layer_norm": _layer_norm_words,
    "matmul": _matmul_words,
    "quantize": lambda _: (quantize.changes(INT8), _same),
}


# A recorded call


def changes_of_call(call: Call) -> dict[str, Run]:
    """Return what gives the result of a call under every change, by its name; none for embedding and relu, copies.

    A result is stored in the bits of the recorded one, as in a device's dump.
    """
    name, rule = call.operator.__name__, call.constants.get("rounding")
    if isinstance(rule, Requantization) and not rule.is_one_rounding:

        def by(other: Requantization) -> Run:
            return lambda: call.operator(*call.operands, **{**call.constants, "rounding": other})

        return {name: by(other) for name, other in _neighbours(rule).items()}
    if name not in _CALLS:
        return {}
    changes, fields = _CALLS[name](call)

    def under(change: Callable[..., Int64]) -> Run:
        return lambda: change(*fields).astype(call.result.dtype)

    return {name: under(change) for name, change in changes.items()}


def _wide(x: Integers) -> Int64:
    return np.asarray(x, np.int64)


def _requantize_call(call: Call) -> tuple[Changes, Fields]:
    acc, ratio = call.operands
    rounding, zero_point = call.constants["rounding"], call.constants.get("zero_point", 0)
    changes = requantize.changes(
        rounding if isinstance(rounding, Rounding) else rounding.rounding,
        call.constants["to"],
        per_channel=ratio.multiplier.ndim > 0,
    )
    return changes, (_wide(acc), ratio.multiplier, ratio.shift, _wide(zero_point))


def _add_call(call: Call) -> tuple[Changes, Fields]:
    operands, ratios = call.operands
    per_channel = any(ratio.multiplier.ndim for ratio in ratios)
    changes = add.changes(call.constants["profile"], call.constants["to"], len(operands), per_channel=per_channel)
    multipliers, shifts = [ratio.multiplier for ratio in ratios], [ratio.shift for ratio in ratios]
    return changes, ([_wide(x) for x in operands], multipliers, shifts, _wide(call.constants.get("zero_point", 0)))


def _matmul_call(call: Call) -> tuple[Changes, Fields]:
    x, w = call.operands
    bias = call.constants.get("bias")
    ranges = [IntRange(8 * codes.dtype.itemsize, signed=codes.dtype.kind == "i") for codes in (x, w)]
    offsets = [call.constants.get(f"{name}_zero_point", 0) for name in ("x", "w")]
    offset = np.zeros((1, w.shape[-2]), np.int64) if bias is None else _wide(bias)[None]
    return matmul.changes(*ranges), (_wide(x) - offsets[0], _wide(w) - offsets[1], offset)


def _softmax_call(call: Call) -> tuple[Changes, Fields]:
    acc, ratio = call.operands
    mask = call.constants.get("mask")
    kept = np.ones(acc.shape[-1], np.int64) if mask is None else _wide(mask)
    return softmax.changes(call.constants["profile"]), (_wide(acc), kept, ratio.multiplier, ratio.shift)


def _layer_norm_call(call: Call) -> tuple[Changes, Fields]:
    x, params = call.operands
    weight, eps = params.weight, np.array(params.eps)
    changes = layer_norm.changes(call.constants["profile"], call.constants["to"])
    return changes, (_wide(x), weight.multiplier, params.bias, weight.shift, eps)


def _unary_call(changes: Callable[..., Changes]) -> Callable[[Call], tuple[Changes, Fields]]:
    return lambda call: (changes(call.constants["profile"]), (_wide(call.operands[0]),))


_CALLS: Final[Mapping[str, Callable[[Call], tuple[Changes, Fields]]]] = {
    "requantize": _requantize_call,
    "add": _add_call,
    "matmul": _matmul_call,
    "softmax": _softmax_call,
    "layer_norm": _layer_norm_call,
    "exp": _unary_call(exp.changes),
    "gelu": _unary_call(gelu.changes),
    "tanh": _unary_call(tanh.changes),
    "sigmoid": _unary_call(sigmoid.changes),
    "isqrt": lambda call: (isqrt.changes(), (_wide(call.operands[0]),)),
}
