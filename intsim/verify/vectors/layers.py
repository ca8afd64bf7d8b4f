# SPDX-License-Identifier: Apache-2.0
"""Vectors of one layer of a model: cases of its operator whose constants, formats and shapes are the model's own."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from intsim import ops
from intsim._trace import Call, trace
from intsim.errors import IntsimError
from intsim.fixedpoint import INT16, INT32, IntRange
from intsim.integer_model import IntegerModel
from intsim.verify.vectors.draw import Draw, Int64
from intsim.verify.vectors.operators import OPERATORS, RANGES, Operator, Size, bind

__all__ = ["LAYERED", "Layer", "layer_of"]

LAYERED: Final = ("requantize", "add", "gelu", "softmax", "layer_norm", "rms_norm", "matmul", "linear_add_norm")
PROBE: Final = [[0, 1, 2, 3]]  # ids whose calls show every layer


class Layer(NamedTuple):
    """An operator of a model: bound as the model has it, and what puts the model's constants into cases."""

    operator: Operator
    header: list[str]
    constants: Callable[[Int64, Draw], Int64]


def layer_of(model: IntegerModel, name: str, layer: str, size: Size | None) -> Layer:
    """Return the operator ``name`` of the layer that a trace calls ``layer``.

    Parameters
    ----------
    size
        Of a row of softmax or a tile of matmul, by default at most the layer's; a norm has the model's, and
        linear_add_norm all columns of the layer.

    Raises
    ------
    IntsimError
        If there is no such layer, or its constants do not fit the fields of vectors.
    """
    if name not in LAYERED:
        msg = f"operator of a layer must be one of {', '.join(LAYERED)}, got {name!r}"
        raise IntsimError(msg)
    with trace("steps") as recorded:
        model(PROBE)
    chains = _chains(recorded.calls)
    ends = {key: call for key, call in recorded.calls.items() if call.operator.__name__ == name}
    calls = {key: chain[-1] for key, chain in chains.items()} if name == "linear_add_norm" else ends
    if layer not in calls:
        near = ", ".join(key for key in calls if layer in key) or ", ".join(list(calls)[:5])
        msg = f"layer must be a {name} of the model, such as {near or 'none'}, got {layer!r}"
        raise IntsimError(msg)
    call = calls[layer]
    if name in ("layer_norm", "rms_norm"):
        size = (call.operands[0].shape[-1],)
        if not np.can_cast(call.operands[0].dtype, np.int16) and name == "layer_norm":
            msg = f"layer {layer} must read at most 16 bits to have vectors, got {call.operands[0].dtype}"
            raise IntsimError(msg)
    if name == "linear_add_norm":
        return _chained(model, layer, chains[layer], size)
    if name == "add" and len(call.operands[0]) != 2:
        msg = f"layer {layer} must be a sum of two terms to have vectors, got {len(call.operands[0])}"
        raise IntsimError(msg)
    if name == "matmul" and (call.constants.get("x_zero_point", 0) or call.operands[1].dtype != np.int8):
        msg = f"layer {layer} must multiply by int8 codes without a zero point to have vectors, got another"
        raise IntsimError(msg)
    if name == "matmul" and size is None:
        rows, columns, depth = OPERATORS[name].size
        size = (rows, min(columns, call.operands[1].shape[-2]), min(depth, call.operands[1].shape[-1]))
    to = None if "to" not in call.constants else _name_of(call.constants["to"], layer)
    signed = name != "matmul" or call.operands[0].dtype.kind == "i"
    operator = bind(name, model.profile, size, to=to, activations="uint8" if not signed else None)
    header = [f"model: {model.digest}", f"layer: {layer}"]

    def constants(cases: Int64, draw: Draw) -> Int64:
        return FILLED[name](operator, call, cases, draw)

    return Layer(operator, header, constants)


class Chain(NamedTuple):
    """The calls that are a product, its sum with a residual, and the norm of that."""

    product: Call
    total: Call
    norm: Call


def _chains(calls: Mapping[str, Call]) -> dict[str, Chain]:
    """Return the chains of a trace by the names of their norms."""
    gives = {id(call.result): call for call in calls.values()}
    found: dict[str, Chain] = {}
    for key, norm in calls.items():
        if norm.operator is ops.layer_norm and (total := gives.get(id(norm.operands[0]))) and total.operator is ops.add:
            terms = total.operands[0]
            product = gives.get(id(terms[0]))
            if len(terms) == 2 and product is not None and product.operator is ops.matmul:
                found[key] = Chain(product, total, norm)
    return found


def _chained(model: IntegerModel, layer: str, chain: Chain, size: Size | None) -> Layer:
    product, total, norm = chain
    (x, w), ratios, params = product.operands, total.operands[1], norm.operands[1]
    columns, depth = w.shape
    rows, _, tile = OPERATORS["linear_add_norm"].size
    size = (rows, columns, min(tile, depth)) if size is None else size
    is_plain = w.dtype == np.int8 and x.dtype.itemsize == 1 and not product.constants.get("x_zero_point", 0)
    if not is_plain or total.constants["to"] != INT16:
        msg = f"layer {layer} must multiply by int8 codes and add to int16 codes to have vectors, got others"
        raise IntsimError(msg)
    if size[1:2] != (columns,) or len(size) != 3 or size[2] > depth:
        told = "x".join(map(str, size))
        msg = f"size must have the {columns} columns of {layer} and a depth up to {depth}, got {told}"
        raise IntsimError(msg)
    activations = "int8" if x.dtype.kind == "i" else "uint8"
    to = _name_of(norm.constants["to"], layer)
    operator = bind("linear_add_norm", model.profile, size, to=to, activations=activations)
    shifts = [int(ratio.shift.reshape(-1)[0]) for ratio in ratios]
    multiplier = np.broadcast_to(ratios[0].multiplier, columns)
    row = [*multiplier.tolist(), int(ratios[1].multiplier), *(shifts if model.profile.sum == "each" else shifts[:1])]
    row += [
        int(total.constants.get("zero_point", 0)),
        *params.weight.multiplier.tolist(),
        *params.bias.tolist(),
        int(params.weight.shift[0]),
        params.eps,
    ]
    bias = np.broadcast_to(product.constants.get("bias", 0), columns)
    data = size[0] * size[2]  # words of x, and the residual's behind weights and bias
    residual = slice(data + columns * size[2] + columns, data + columns * size[2] + columns + size[0] * columns)

    def constants(cases: Int64, draw: Draw) -> Int64:
        first = draw.integers(0, depth - size[2], len(cases))[:, None] + np.arange(size[2])
        tiles = w.astype(np.int64)[:, first].swapaxes(0, 1).reshape(len(cases), -1)
        every = [np.broadcast_to(np.array(values, np.int64), (len(cases), len(values))) for values in (bias, row)]
        return np.concatenate([cases[:, :data], tiles, every[0], cases[:, residual], every[1]], axis=1)

    return Layer(operator, [f"model: {model.digest}", f"layer: {layer}"], constants)


def _name_of(codes: IntRange, layer: str) -> str:
    for name, named in RANGES.items():
        if named == codes:
            return name
    msg = f"range of layer {layer} must be one of {', '.join(RANGES)}, got [{codes.min}, {codes.max}]"
    raise IntsimError(msg)


def _requantize(operator: Operator, call: Call, cases: Int64, draw: Draw) -> Int64:
    """Return accumulators at ties, beside them, and anywhere, of the layer's channels in turn."""
    ratio, to, n = call.operands[1], operator.formats.to, len(cases)
    channel = np.arange(n) % ratio.multiplier.size
    multiplier, shift = (np.asarray(each, np.int64).reshape(-1)[channel] for each in (ratio.multiplier, ratio.shift))
    zero = np.asarray(call.constants.get("zero_point", 0), np.int64).reshape(-1)
    zero_point = zero[channel % zero.size]
    quotient = draw.integers(to.min - 3, min(to.max, 1 << 20) + 3, n) - zero_point
    tie = (2 * quotient + 1 << (shift - 1).clip(0, 38)) // np.where(multiplier == 0, 1, multiplier)
    near = (tie + draw.integers(-1, 2, n)).clip(INT32.min, INT32.max)
    acc = np.where(draw.integers(0, 3, n) > 0, near, cases[:, 0])
    return np.column_stack([acc, multiplier, shift, zero_point])


def _add(operator: Operator, call: Call, cases: Int64, draw: Draw) -> Int64:
    """Return accumulators at ties of the sum, beside them, and anywhere, of the layer's channels in turn."""
    ratios, to, n = call.operands[1], operator.formats.to, len(cases)
    channel = np.arange(n) % max(ratio.multiplier.size for ratio in ratios)
    of_ratios = [ratio for ratio in ratios if operator.profile.sum == "each"] or ratios[:1]
    constants = [*(ratio.multiplier for ratio in ratios), *(ratio.shift for ratio in of_ratios)]
    constants.append(np.asarray(call.constants.get("zero_point", 0)))
    row = [np.asarray(each, np.int64).reshape(-1)[channel % each.size] for each in constants]
    residual, multiplier, shift, zero_point = cases[:, 1], row[0], row[2], row[-1]
    quotient = draw.integers(to.min - 3, min(to.max, 1 << 20) + 3, n) - zero_point
    tie = ((2 * quotient + 1 << (shift - 1).clip(0, 38)) - residual * row[1]) // np.where(
        multiplier == 0, 1, multiplier
    )
    near = (tie + draw.integers(-1, 2, n)).clip(INT32.min, INT32.max)
    acc = np.where(draw.integers(0, 3, n) > 0, near, cases[:, 0])
    return np.column_stack([acc, residual, *row])


def _gelu(_: Operator, __: Call, cases: Int64, ___: Draw) -> Int64:
    return cases


def _softmax(_: Operator, call: Call, cases: Int64, __: Draw) -> Int64:
    ratio = call.operands[1]
    rows = cases.copy()
    rows[:, -2:] = int(ratio.multiplier), int(ratio.shift)
    return rows


def _norm(operator: Operator, call: Call, cases: Int64, _: Draw) -> Int64:
    (channels,), params = operator.size, call.operands[1]
    constants = [params.weight.multiplier, params.bias, params.weight.shift[:1], np.array([params.eps])]
    row = np.concatenate([np.asarray(each, np.int64) for each in constants])
    return np.concatenate([cases[:, :channels], np.broadcast_to(row, (len(cases), len(row)))], axis=1)


def _matmul(operator: Operator, call: Call, cases: Int64, draw: Draw) -> Int64:
    """Return tiles of the layer's weights at random places; the bias is that of their columns."""
    rows, columns, depth = operator.size
    w = np.asarray(call.operands[1], np.int64).reshape(-1, call.operands[1].shape[-1])
    bias = call.constants.get("bias")
    if w.shape[0] < columns or w.shape[1] < depth:
        msg = f"size of the tile must fit the layer's weights {w.shape[0]}x{w.shape[1]}, got {columns}x{depth}"
        raise IntsimError(msg)
    first = draw.integers(0, w.shape[0] - columns, len(cases)), draw.integers(0, w.shape[1] - depth, len(cases))
    n, k = (start[:, None] + np.arange(count) for start, count in zip(first, (columns, depth), strict=True))
    tiles = w[n[:, :, None], k[:, None, :]].reshape(len(cases), -1)
    offsets = np.zeros((len(cases), columns), np.int64) if bias is None else np.asarray(bias, np.int64)[n]
    return np.concatenate([cases[:, : rows * depth], tiles, offsets], axis=1)


FILLED: Final[dict[str, Callable[[Operator, Call, Int64, Draw], Any]]] = {
    "requantize": _requantize,
    "add": _add,
    "gelu": _gelu,
    "softmax": _softmax,
    "layer_norm": _norm,
    "rms_norm": _norm,
    "matmul": _matmul,
}
