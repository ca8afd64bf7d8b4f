# SPDX-License-Identifier: Apache-2.0
"""The operators of ``intsim.ops`` as ONNX nodes: the same integers."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add as plus
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.carrier.rowwise import eps_by_shift
from intsim.errors import IntsimError
from intsim.fixedpoint import INT16, INT32, Dyadic, IntRange, Rounding
from intsim.io.onnx.arithmetic import divide, isqrt, products, saturate, shift_right
from intsim.io.onnx.graph import Value
from intsim.ops import LayerNormParams
from intsim.ops.l2_normalize import ROOT_FRACTION, UNIT_FRACTION
from intsim.ops.rotary import TURN_FRACTION, Pairing, paired
from intsim.profile import LayerNorm, Profile, native
from intsim.requantization import Requantization

__all__ = ["EMITTERS"]

Integers: TypeAlias = NDArray[Any]


def requantize(
    acc: Value,
    ratio: Dyadic,
    *,
    to: IntRange,
    rounding: Rounding | Requantization,
    zero_point: int | Integers = 0,
    addend: Integers | None = None,
) -> Value:
    """Emit ``ops.requantize``.

    Raises
    ------
    IntsimError
        If the rule computes with float32.
    """
    rule = rounding if isinstance(rounding, Requantization) else Requantization(name="", rounding=rounding)
    limit = 1 << rule.accumulator_bits - 1
    x = acc.clip(-limit, limit - 1) if acc.magnitude >= limit else acc
    product, shift = products([x], [ratio]), ratio.shift
    if addend is not None:
        product = product + addend
    match rule.arithmetic:
        case "one-rounding":
            pass
        case "two-roundings":
            first = np.minimum(shift, 31)
            product, shift = shift_right(product, first, Rounding.HALF_UP), shift - first
        case "binary32":
            msg = f"requantization rule must have integer arithmetic to be exported, got {rule.name} (float32)"
            raise IntsimError(msg)
    if rule.zero_point == "before":
        return saturate(shift_right(product, shift, rule.rounding, offset=zero_point), to)
    return saturate(shift_right(product, shift, rule.rounding) + zero_point, to)


def add(
    operands: Sequence[Value],
    ratios: Sequence[Dyadic],
    *,
    to: IntRange,
    profile: Profile,
    zero_point: int | Integers = 0,
) -> Value:
    """Emit ``ops.add``."""
    if profile.sum == "once":
        total = shift_right(products(operands, ratios), ratios[0].shift, profile.rounding)
    else:
        terms = (
            requantize(x, ratio, to=INT32, rounding=profile.rounding) for x, ratio in zip(operands, ratios, strict=True)
        )
        total = reduce(plus, (term.astype(np.int64) for term in terms))
    return saturate(total + zero_point, to)


def multiply(
    a_q: Value,
    b_q: Value,
    ratio: Dyadic,
    *,
    to: IntRange,
    rounding: Rounding,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int = 0,
) -> Value:
    """Emit ``ops.multiply``."""
    product = (a_q.astype(np.int64) - a_zero_point) * (b_q.astype(np.int64) - b_zero_point)
    return saturate(shift_right(products([product], [ratio]), ratio.shift, rounding) + zero_point, to)


def rotary(x_q: Value, cos: Value, sin: Value, *, pairing: Pairing, rounding: Rounding) -> Value:
    """Emit ``ops.rotary``: both channels of all pairs, and then the others, side by side."""
    last, channels = len(x_q.shape) - 1, np.arange(x_q.depth)
    first, second = paired(cos.depth, pairing)
    order = np.concatenate([channels[first], channels[second], channels[2 * cos.depth :]])

    def at(places: Integers, x: Value) -> Value:
        return x if np.array_equal(places, channels) else x.gather(x.graph.constant(places), axis=last)

    def rounded(x: Value) -> Value:
        return saturate(shift_right(x, np.array(TURN_FRACTION), rounding), INT32)

    x, c, s = (value.astype(np.int64) for value in (x_q, cos, sin))
    if len(cos.shape) > 2:  # of each sequence, for all its heads
        c, s = (table[..., None, slice(None), slice(None)] for table in (c, s))
    a, b = (at(channels[part], x) for part in (first, second))
    turned = [rounded(a * c - b * s), rounded(b * c + a * s)]
    if channels.size > 2 * cos.depth:
        turned.append(at(channels[2 * cos.depth :], x_q).astype(np.int32))
    return at(np.argsort(order), turned[0].beside(*turned[1:]))


def causal_mask(mask: Value, queries: int | str, *, window: int | None = None) -> Value:
    """Emit ``ops.causal_mask``, where all columns ask.

    Raises
    ------
    IntsimError
        If only some do.
    """
    if queries != mask.shape[-1]:
        msg = f"queries must be all {mask.shape[-1]} columns to be exported, got {queries}"
        raise IntsimError(msg)
    columns: Value = cast("Any", np.arange)(queries, like=mask)
    seen = (columns[slice(None), None] >= columns) & mask[:, None, None, :]
    if window is None:
        return seen
    position = mask.astype(np.int64).cumsum()
    return seen & (position[:, None, None, :] >= position[:, None, :, None] - (window - 1))


def matmul(
    x_q: Value,
    w_q: Value | Integers,
    *,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
    bias: Integers | None = None,
    carrier: str = "auto",  # noqa: ARG001  the same bits
) -> Value:
    """Emit ``ops.matmul``: MatMulInteger on uint8 codes, int32 MatMul where an operand has 16 bits.

    Signed codes are raised by 128 to uint8: x86 kernels of uint8 x int8 may add two products in saturating 16 bits,
    those of uint8 x uint8 extend the codes to 16 bits before they multiply.
    """
    graph, furthest = x_q.graph, x_q.magnitude + abs(x_zero_point)
    if isinstance(w_q, Value):
        factor = w_q.magnitude + abs(w_zero_point)
        bound = w_q.depth * furthest * factor
        if bound > INT32.max and x_q.row_sum is not None:
            bound = x_q.row_sum * factor
    else:
        rows = furthest * np.abs(w_q - np.int64(w_zero_point)).sum(axis=-1)
        bound = int((rows if bias is None else rows + np.abs(bias, dtype=np.int64)).max())

    def columns(w: Value | Integers) -> Value:
        w = w.swapaxes(-1, -2)
        return w if isinstance(w, Value) else graph.constant(w)

    if x_q.dtype.itemsize == w_q.dtype.itemsize == 1:
        (x, x_zero), (w, w_zero) = _uint8(x_q, x_zero_point), _uint8(w_q, w_zero_point)
        acc = x.matmul(columns(w), graph.constant(x_zero), graph.constant(w_zero))
    else:
        acc = (x_q.astype(np.int32) - x_zero_point).matmul(columns(w_q.astype(np.int32) - w_zero_point))
    if bias is not None:
        acc = graph.add("Add", acc, graph.constant(bias), dtype=acc.dtype, shape=acc.shape)
    return acc.proved(bound)


def _uint8(x: Any, zero_point: int) -> tuple[Any, np.uint8]:
    """Return the codes and the zero point as uint8."""
    return (x, np.uint8(zero_point)) if x.dtype == np.uint8 else (x.astype(np.uint8) ^ 128, np.uint8(zero_point + 128))


def dynamic_bound(
    x_q: Value, *, per: Literal["token", "sequence"], clip: bool = False, zero_point: int = 0, mask: Value | None = None
) -> Value:
    """Emit ``ops.dynamic_bound``."""
    maxima, dtype = abs(x_q.astype(np.int32) - zero_point).max(), np.int32 if x_q.dtype.itemsize <= 2 else np.int64
    if per == "token":
        return maxima.astype(dtype)  # (..., T, 1)
    maxima = maxima.swapaxes(-1, -2)
    keep = maxima >= 0 if mask is None else mask[..., None, :]
    bound = maxima.where(keep, 0).max()
    if not clip:
        return bound.astype(dtype)
    threshold, eightfold = _threshold(maxima, keep), bound.astype(np.int64) * 8
    return eightfold.where(eightfold < threshold, threshold).bounded(eightfold.magnitude).astype(dtype)


def _threshold(maxima: Value, keep: Value) -> Value:
    """Return 8 (q3 + 1.5 (q3 - q1)) over the kept positions of the last axis, which stays with length 1."""
    ordered = maxima.where(keep, maxima.magnitude).astype(np.int64).sort()
    steps = keep.astype(np.int64).sum() - 1
    steps = steps.where(steps >= 0, 0)

    def four_times(position_in_quarters: Value) -> Value:
        below, rest = position_in_quarters // 4, position_in_quarters & 3
        low, high = (ordered.take_along(at.where(at < steps, steps)) for at in (below, below + 1))
        return low * 4 + (high - low) * rest

    return four_times(steps * 3) * 5 - four_times(steps) * 3


def quantize_dynamic(
    x_q: Value, bound: Value, *, unit: int, to: IntRange, rounding: Rounding, zero_point: int = 0
) -> Value:
    """Emit ``ops.quantize_dynamic``."""
    positive = bound >= 1
    centred = (x_q.astype(np.int32) - zero_point).where(positive, 0).astype(np.int64)
    divisor, factor = bound.where(positive, 1).astype(np.int64), unit * to.max
    largest = centred.magnitude * factor  # of a quotient
    return saturate(
        divide(centred, divisor, multiplier=factor, rounding=rounding, quotient=largest).bounded(largest), to
    )


def scale_rows(acc: Value, bound: Value) -> Value:
    """Emit ``ops.scale_rows``."""
    return acc.astype(np.int64) * bound.astype(np.int64)


def permute(x_q: Value, order: Integers) -> Value:
    """Emit ``ops.permute``."""
    return x_q.gather(x_q.graph.constant(order), axis=len(x_q.shape) - 1)


def embedding(ids: Value, table_q: Integers) -> Value:
    """Emit ``ops.embedding``."""
    return ids.graph.constant(table_q).gather(ids)


def relu(x_q: Value, *, zero_point: int = 0) -> Value:
    """Emit ``ops.relu``."""
    x = x_q.astype(np.int32)  # ONNX Runtime selects no int16
    return x.where(x >= zero_point, zero_point).astype(x_q.dtype)


def tabulated(operator: Callable[..., Integers]) -> Callable[..., Value]:
    """Return the emitter of a function of one int16: its table, where a negative index counts from the end."""

    def emit(x_q: Value, *, profile: Profile) -> Value:
        table = operator(np.arange(2**16).astype(np.int16), profile=profile)
        return x_q.graph.constant(table).gather(x_q.astype(np.int32))

    return emit


def softmax(acc: Value, ratio: Dyadic, *, profile: Profile, mask: Value) -> Value:
    """Emit ``ops.softmax``; a masked score is as low as any can be, so that no difference is positive."""
    seen = acc.where(mask, -acc.magnitude)
    top = seen.max()
    if 2 * acc.magnitude > INT32.max:
        seen, top = seen.astype(np.int64), top.astype(np.int64)
    x_q = requantize(seen - top, ratio, to=INT16, rounding=profile.rounding)
    table = ops.exp(np.concatenate([[0], np.arange(INT16.min, 0)]).astype(np.int16), profile=profile)
    e = acc.graph.constant(table).gather(x_q.astype(np.int32)).where(mask, 0).astype(np.int64)
    total = e.sum()
    total = total.where(total >= 1, 1)
    one = profile.softmax.one
    quotient = divide(e, total, multiplier=one, rounding=profile.step_rounding).bounded(one)
    return replace(saturate(quotient, profile.probability_range), row_sum=profile.row_sum(acc.depth))


def layer_norm(x_q: Value, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Value:
    """Emit ``ops.layer_norm``, whose bounds hold here as they do there."""
    channels = x_q.depth
    x = x_q.astype(np.int64)
    total = x.sum()
    rule = native(profile.layer_norm, LayerNorm)
    exact, wide = rule.centring == "exact", not np.can_cast(x_q.dtype, np.int16)
    if exact:
        centred = x * channels - total
    else:
        mean = divide(total, channels, multiplier=1, rounding=profile.rounding, quotient=x_q.magnitude)
        centred = x - mean.bounded(x_q.magnitude)
    if wide:
        y = _over_root_mean_square(centred, eps=channels**2 * params.eps, profile=profile)
        return _applied(y, params, to=to, profile=profile)
    squares = x if exact else centred
    variance = (squares * squares).sum()
    variance = variance * channels - total * total if exact else variance // channels
    scale = 1 << rule.output_fraction
    largest = (math.isqrt(3 * channels) + 1) * scale
    std = isqrt(variance + params.eps)
    y = divide(centred, std, multiplier=scale, rounding=profile.step_rounding, quotient=largest).bounded(largest)
    return _applied(y, params, to=to, profile=profile)


def rms_norm(x_q: Value, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Value:
    """Emit ``ops.rms_norm``."""
    y = _over_root_mean_square(x_q.astype(np.int64), eps=params.eps, profile=profile)
    return _applied(y, params, to=to, profile=profile)


def _over_root_mean_square(c: Value, *, eps: int, profile: Profile) -> Value:
    """Emit ``over_root_mean_square``: k counts the powers of two from 2**15 on that the largest of a row reaches."""
    rule, graph, channels = native(profile.layer_norm, LayerNorm), c.graph, c.depth
    least, eps_at = eps_by_shift(eps, profile.step_rounding)
    limit, rounding = 1 << rule.row_bits - 1, profile.step_rounding
    largest = (abs(c) // limit).astype(np.int32).max()
    shift = (largest >= np.int32(1) << np.arange(31, dtype=np.int32)).astype(np.int64).sum()
    shift = shift.where(shift >= least, least)
    power = graph.constant(np.int64(1) << np.arange(len(eps_at))).gather(shift)
    shifted = divide(c, power, multiplier=1, rounding=rounding, quotient=limit).bounded(limit)
    root = isqrt((shifted * shifted).sum() * channels + graph.constant(eps_at).gather(shift))
    bound = (math.isqrt(3 * channels) + 1) << rule.output_fraction
    multiplier = channels << rule.output_fraction
    return divide(shifted, root, multiplier=multiplier, rounding=rounding, quotient=bound).bounded(bound)


def _applied(y: Value, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Value:
    affine = products([y], [params.weight]) + params.bias
    return saturate(shift_right(affine, params.weight.shift[:1], profile.rounding), to)


def mean_pooling(x_q: Value, mask: Value, *, profile: Profile, zero_point: int = 0) -> Value:
    """Emit ``ops.mean_pooling``."""
    x = (x_q.astype(np.int64) - zero_point).swapaxes(-1, -2).where(mask[..., None, :], 0)
    total, count = _without_last(x.sum()), mask.astype(np.int64).sum()
    mean = divide(total, count, multiplier=1, rounding=profile.step_rounding, quotient=x.magnitude)
    return saturate(mean.bounded(x.magnitude), INT32)


def pick_token(x_q: Value, mask: Value, *, which: Literal["first", "last"]) -> Value:
    """Emit ``ops.pick_token``: the sum over tokens of which one counts, the one that is first or last of those kept."""
    kept = mask.astype(np.int64)
    number = kept.cumsum() * kept  # 1, 2, ... among those kept, else 0
    one = (number < 2).astype(np.int64) * number if which == "first" else (number >= kept.sum()).astype(np.int64)
    total = (x_q.astype(np.int64).swapaxes(-1, -2) * one.bounded(1)[..., None, :]).sum()
    return _without_last(total.bounded(x_q.magnitude).astype(x_q.dtype))


def _without_last(x: Value) -> Value:
    """Return (..., C, 1) as (..., C)."""
    return x.reshape(x.shape[:-1])


def l2_normalize(x_q: Value, *, profile: Profile) -> Value:
    """Emit ``ops.l2_normalize``."""
    x, one = x_q.astype(np.int64).bounded(min(x_q.magnitude, -INT16.min)), 1 << UNIT_FRACTION
    total = (x * x).sum()
    root = isqrt(total.where(total >= 1, 1) * (1 << 2 * ROOT_FRACTION))
    y = divide(x, root, multiplier=one << ROOT_FRACTION, rounding=profile.step_rounding, quotient=one)
    return saturate(y.bounded(one), INT32)


def position_ids(ids: Value, *, padding: int) -> Value:
    """Emit ``ops.position_ids``."""
    is_token = (ids < padding).astype(np.int64) + (ids >= padding + 1).astype(np.int64)
    return is_token.cumsum() * is_token + padding


def token_positions(mask: Value, *, queries: int | str, first: int) -> Value:
    """Emit ``ops.token_positions``, where all columns ask.

    Raises
    ------
    IntsimError
        If only some do.
    """
    if queries != mask.shape[-1]:
        msg = f"queries must be all {mask.shape[-1]} columns to be exported, got {queries}"
        raise IntsimError(msg)
    count = mask.astype(np.int64).cumsum()
    return (count - 1) * (count >= 1).astype(np.int64) + first


def neighbours(x_q: Value, *, mask: Value, zero_point: int = 0) -> Value:
    """Emit ``ops.neighbours``: what is masked, and what is beyond the ends, is the zero point."""
    kept = x_q.astype(np.int32).where(mask[..., None], zero_point)  # ONNX Runtime pads no int16
    following, previous = (kept.shifted(by, zero_point).astype(x_q.dtype) for by in (-1, 1))
    return following.beside(x_q, previous)


EMITTERS: Final[Mapping[Callable[..., Any], Callable[..., Value]]] = {
    ops.add: add,
    ops.causal_mask: causal_mask,
    ops.dynamic_bound: dynamic_bound,
    ops.embedding: embedding,
    ops.gelu: tabulated(ops.gelu),
    ops.gelu_tanh: tabulated(ops.gelu_tanh),
    ops.l2_normalize: l2_normalize,
    ops.layer_norm: layer_norm,
    ops.matmul: matmul,
    ops.mean_pooling: mean_pooling,
    ops.multiply: multiply,
    ops.neighbours: neighbours,
    ops.permute: permute,
    ops.pick_token: pick_token,
    ops.position_ids: position_ids,
    ops.quantize_dynamic: quantize_dynamic,
    ops.relu: relu,
    ops.requantize: requantize,
    ops.rms_norm: rms_norm,
    ops.rotary: rotary,
    ops.scale_rows: scale_rows,
    ops.sigmoid: tabulated(ops.sigmoid),
    ops.silu: tabulated(ops.silu),
    ops.softmax: softmax,
    ops.tanh: tabulated(ops.tanh),
    ops.token_positions: token_positions,
}
