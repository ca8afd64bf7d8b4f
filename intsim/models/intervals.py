# SPDX-License-Identifier: Apache-2.0
"""The operators over intervals: what comes out over everything that can go in.

An interval is an array whose batch axis has two entries, the lowest and the highest value of each element. Tokens are
alike, so one stands for all: (2, 1, C) bounds what (B, T, C) can hold, channel by channel.

The operator itself runs on the ends, and refuses there what could overflow it; a function here turns what it gives into
the ends of what it can give in between. ``Run`` runs it, with its steps or without. Unless a docstring says otherwise
the ends are reached when every element moves freely.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.carrier.exact import Carrier, Integers, Weight, divide, rescale
from intsim.carrier.rowwise import eps_by_shift
from intsim.fixedpoint import (
    INT16,
    INT32,
    Dyadic,
    IntRange,
    Rounding,
    isqrt,
    rounding_divide,
    rounding_right_shift,
    saturate,
)
from intsim.kernels.rules import ShiftGelu
from intsim.ops import LayerNormParams
from intsim.ops.l2_normalize import UNIT_FRACTION
from intsim.ops.rotary import TURN_FRACTION, Pairing, paired
from intsim.profile import LayerNorm, Profile, Softmax, native

__all__ = [
    "Run",
    "Steps",
    "add",
    "attend",
    "dynamic_bound",
    "embedding",
    "l2_normalize",
    "layer_norm",
    "matmul",
    "monotone",
    "multiply",
    "neighbours",
    "position_ids",
    "quantize_dynamic",
    "rms_norm",
    "rotary",
    "scale_rows",
    "softmax",
    "tabulated",
    "token_positions",
]

Steps: TypeAlias = dict[str, Integers]  # ":STEP" -> its ends, in forward order; the result is ""
Run: TypeAlias = Callable[..., Steps]

AT_ONCE: Final = 1 << 20  # weights
CODES: Final = np.arange(INT16.min, INT16.max + 1).astype(np.int16)


def embedding(_ids: Integers, table: Integers) -> Steps:
    """Return the ends of each column: (V, C) -> (2, 1, C)."""
    return {"": np.stack([table.min(axis=0), table.max(axis=0)])[:, None]}


def position_ids(ids: Integers, *, padding: int, longest: int) -> Steps:
    """Return the ends over texts of up to ``longest`` tokens, padding between them."""
    return {"": np.stack([np.full_like(ids[0], padding), np.full_like(ids[0], padding + longest)])}


def token_positions(*, longest: int, queries: int, first: int) -> Steps:
    """Return the ends over texts of up to ``longest`` tokens."""
    return {"": np.full((2, queries), [[first], [first + longest - 1]], np.int64)}


def neighbours(x: Integers, *, mask: NDArray[np.bool_], zero_point: int = 0) -> Steps:  # noqa: ARG001
    """Put the ends of tokens alike side by side, where a neighbour may be missing."""
    around = np.stack([np.minimum(x[0], zero_point), np.maximum(x[1], zero_point)]).astype(x.dtype)
    return {"": np.concatenate([around, x, around], axis=-1)}


def monotone(run: Run, operator: Callable[..., Integers], x: Integers, *operands: Any, **constants: Any) -> Steps:
    """Take the ends to the ends, rising or falling as the channel may."""
    return _sorted(run(operator, x, *operands, **constants))


def _sorted(steps: Steps) -> Steps:
    return {step: np.sort(ends, axis=0) for step, ends in steps.items()}


def add(run: Run, operands: list[Integers], ratios: list[Dyadic], **constants: Any) -> Steps:
    """Put the end whose product is the lower first: then the sum rises in every operand."""
    rising = [np.where(ratio.multiplier < 0, x[::-1], x) for x, ratio in zip(operands, ratios, strict=True)]
    return run(ops.add, rising, ratios, **constants)


def matmul(
    x: Integers,
    w: Integers,
    *,
    bias: Integers | None = None,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
    carrier: Carrier | Weight = "auto",
) -> Steps:
    """Multiply by weights (N, K), or by another interval (2, ..., N, K).

    A positive weight takes an end of ``x`` to the same end, a negative one to the other.
    """
    if w.ndim > 2:
        _require_accumulator(x, w, x_zero_point=x_zero_point, w_zero_point=w_zero_point)
        x, w = x.astype(np.int64) - x_zero_point, w.astype(np.int64) - w_zero_point
        terms = x[:, None, ..., :, None, :] * w[None, :, ..., None, :, :]
        return {"": saturate(np.stack([terms.min(axis=(0, 1)), terms.max(axis=(0, 1))]).sum(axis=-1), INT32)}
    if w.size > AT_ONCE:  # what is carried of the weights is four times as large
        rows = max(1, AT_ONCE // w.shape[1])
        parts = [slice(start, start + rows) for start in range(0, len(w), rows)]
        ends = [matmul(x, w[part], bias=None if bias is None else bias[part])[""] for part in parts]
        return {"": np.concatenate(ends, axis=-1)}
    both = ops.matmul(x, w, bias=bias, carrier=carrier)
    positive = ops.matmul(x, np.maximum(w, 0))
    return {"": positive + (both - positive)[::-1]}


def attend(probs: Integers, value: Integers, *, tokens: int, profile: Profile, w_zero_point: int = 0) -> Steps:
    """Multiply rows of probabilities by the values of up to ``tokens`` tokens: the whole sum of a row goes to one."""
    total = np.minimum(profile.row_sum(tokens), probs[1:] * np.int64(tokens))
    largest = int(probs.max())
    row = (total.max() - largest * np.arange(tokens)).clip(0, largest).astype(probs.dtype)  # as full as one can be
    any_value = np.array([value.min(), value.max()]).reshape(2, 1, 1)
    _require_accumulator(
        np.stack([row, row])[:, None], np.repeat(any_value, tokens, axis=-1), w_zero_point=w_zero_point
    )
    ends = total * (value.astype(np.int64) - w_zero_point).swapaxes(-1, -2)
    return {"": saturate(np.concatenate([ends[:1].clip(max=0), ends[1:].clip(min=0)]), INT32)}


def _require_accumulator(x: Integers, w: Integers, *, x_zero_point: int = 0, w_zero_point: int = 0) -> None:
    """Let the operator judge the ends of ``w`` that are furthest from its zero point."""
    low, high = w[:1], w[1:]
    furthest = np.where(high.astype(np.int64) - w_zero_point > w_zero_point - low.astype(np.int64), high, low)
    ops.matmul(x[:1], furthest, x_zero_point=x_zero_point, w_zero_point=w_zero_point)


def multiply(run: Run, a: Integers, b: Integers, ratio: Dyadic, **constants: Any) -> Steps:
    """Multiply each end of ``a`` by each of ``b``."""
    corners = run(ops.multiply, a[[0, 0, 1, 1]], b[[0, 1, 0, 1]], ratio, **constants)
    return {step: np.stack([values.min(axis=0), values.max(axis=0)]) for step, values in corners.items()}


def rotary(x: Integers, cos: Integers, sin: Integers, *, pairing: Pairing, rounding: Rounding) -> Steps:
    """Turn by any cos and sin between the ends of their columns, as if these had nothing to do with each other."""
    ops.rotary(x, cos, sin, pairing=pairing, rounding=rounding)  # judges codes and tables
    first, second = paired(cos.shape[-1], pairing)
    (a, b), (c, s) = (
        (part.astype(np.int64) for part in pair) for pair in ((x[..., first], x[..., second]), (cos, sin))
    )
    c, s = c[..., None, :, :], s[..., None, :, :]
    turned = {":first": _extreme_products(a, c) - _extreme_products(b, s)[::-1]}
    turned[":second"] = _extreme_products(b, c) + _extreme_products(a, s)
    y = x.astype(np.int32)
    for channels, ends in zip((first, second), turned.values(), strict=True):
        y[..., channels] = saturate(rounding_right_shift(ends, TURN_FRACTION, rounding), INT32)
    return {step: saturate(ends, INT32) for step, ends in turned.items()} | {"": y}


def _extreme_products(a: Integers, b: Integers) -> Integers:
    products = a[:, None] * b[None]
    return np.stack([products.min(axis=(0, 1)), products.max(axis=(0, 1))])


def dynamic_bound(x: Integers, *, clip: bool, zero_point: int, **others: Any) -> Steps:
    """Bound the largest magnitude by that of the ends; in eighths if clipped, where it is no larger."""
    ops.dynamic_bound(x, clip=clip, zero_point=zero_point, **others)  # judges the format
    dtype = np.int32 if x.dtype.itemsize <= 2 else np.int64
    furthest = np.abs(x.astype(dtype) - zero_point).max(axis=(0, -1), keepdims=True) << 3 * clip
    return {"": np.concatenate([np.zeros_like(furthest), furthest])}


def quantize_dynamic(x: Integers, _bound: Integers, *, to: IntRange, **_: Any) -> Steps:
    """Return all codes: any row may be short."""
    ends = np.array([to.min, to.max], to.dtype).reshape(2, *[1] * (x.ndim - 1))
    return {"": np.broadcast_to(ends, x.shape)}


def scale_rows(acc: Integers, bound: Integers) -> Steps:
    """Multiply by the highest bound, or by 0."""
    ends = ops.scale_rows(acc, bound[1:])
    return {"": np.stack([np.minimum(ends[0], 0), np.maximum(ends[1], 0)])}


def tabulated(run: Run, operator: Callable[..., Integers], x: Integers, *, profile: Profile) -> Steps:
    """Look at every code between the ends. ShiftGELU, which depends on the row, multiplies by at most its one."""
    if operator is ops.gelu and isinstance(profile.gelu, ShiftGelu):
        return {"": np.stack([x[0].clip(max=0), x[1].clip(min=0)]).astype(np.int32) * np.int32(profile.gelu.one)}
    codes = CODES.astype(x.dtype)  # those that x cannot be wrap, and are not looked at
    return {step: _extremes(values, x) for step, values in run(operator, codes, profile=profile).items()}


def _extremes(values: Integers, x: Integers) -> Integers:
    """Return the least and the greatest of values[x[0]] ... values[x[1]], ``values`` in the order of ``CODES``.

    Two runs of 1, 2, 4, ... values, of the longest that fit, cover an interval.
    """
    first, last = x.astype(np.int64) - INT16.min
    length = last - first + 1
    ends = np.empty_like(values, shape=x.shape)
    low = high = values
    for size in (1 << k for k in range(17)):
        here = (size <= length) & (length < 2 * size)
        start, stop = first[here], last[here] - size + 1
        ends[0][here], ends[1][here] = np.minimum(low[start], low[stop]), np.maximum(high[start], high[stop])
        low, high = np.minimum(low[:-size], low[size:]), np.maximum(high[:-size], high[size:])
    return ends


def softmax(run: Run, acc: Integers, ratio: Dyadic, *, tokens: int, profile: Profile) -> Steps:
    """Run on a row of the lowest and the highest score; up to ``tokens`` of them, masked or not.

    A masked position is inside like the highest score. The sum is an upper bound, its exponentials one by one.

    Raises
    ------
    ValueError
        If the profile's exp has a negative value: then no row of probabilities has a bound.
    """
    probs = np.zeros_like(acc, profile.probability_range.dtype)
    probs[1] = min(profile.softmax.one, profile.probability_range.max)
    if not isinstance(profile.softmax, Softmax):
        to, rounding = profile.softmax.input_range, profile.requantization
        steps = monotone(run, ops.requantize, acc, ratio, to=to, rounding=rounding)
        x_q = steps.pop("")
        return steps | {":x_q": x_q, "": probs}
    row = run(ops.softmax, acc.swapaxes(0, -1), ratio, profile=profile)
    steps = {step: ends.swapaxes(0, -1) for step, ends in row.items()}
    to_zero = CODES[: 1 - INT16.min]
    if (lowest := ops.exp(to_zero, profile=profile).min()) < 0:
        msg = f"exp must not be negative, got {lowest}"
        raise ValueError(msg)
    if ":exp.x_q" in steps:
        for step, values in run(ops.exp, to_zero, profile=profile).items():
            steps[step or ":exp"] = _extremes(values, steps[":exp.x_q"])
        largest = steps[":exp"][1:]
        steps[":exp"] = np.concatenate([np.zeros_like(largest), largest])  # 0 where masked
        steps[":sum"] = np.concatenate([np.ones_like(largest, np.int64), largest * np.int64(tokens)])
    return steps | {"": probs}


def l2_normalize(run: Run, x_q: Integers, *, profile: Profile) -> Steps:
    """Bound |y| by 1: a channel reaches it where all others are 0."""
    low, high = x_q.astype(np.int64)
    nearest = np.where(low * high <= 0, 0, np.minimum(abs(low), abs(high)))
    steps = run(ops.l2_normalize, np.stack([nearest, np.maximum(abs(low), abs(high))]), profile=profile)
    ends = np.stack([low < 0, high > 0]) * np.array([[-1], [1]])
    return steps | {"": (ends << UNIT_FRACTION).astype(np.int32)}


def layer_norm(run: Run, x_q: Integers, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Steps:
    """Bound y = c / s, s = isqrt(v + eps), by what c and v of one row have to do with each other; reached by c alone.

    Exact centring: v = N sum x**2 - (sum x)**2 <= N sum (x - a)**2 for any a, here the middle of all x, and c**2 <=
    (N - 1) v (Samuelson's inequality). From v + eps < (s + 1)**2 follows y**2 <= (N - 1) g(s), g(s) = 1 + 2 / s -
    eps / s**2, which rises up to s = eps and falls from there. A row that is not constant has v >= N - 1.

    Rounded mean: sum c**2 is less than N above sum (x - mean)**2 and below N (v + 1), so y**2 <= N g(s) with eps - 1.

    Another project's y is any int32. Wide codes: as ``rms_norm`` of c.
    """
    rule = profile.layer_norm
    if not isinstance(rule, LayerNorm):
        ops.layer_norm(np.resize(np.array([-64, 64], x_q.dtype), x_q.shape), params, to=to, profile=profile)
        y = np.broadcast_to(np.array([INT32.min, INT32.max], np.int32).reshape(2, 1, 1), x_q.shape)
        return _applied(run, {":normalised": y}, params, to=to, profile=profile)
    ops.layer_norm(x_q, params, to=to, profile=profile)
    x, channels, eps = x_q.astype(np.int64), x_q.shape[-1], params.eps
    others = (x.sum(axis=-1, keepdims=True) - x)[::-1]
    exact = rule.centring == "exact"
    if exact:
        centred = (channels - 1) * x - others
    else:
        centred = x - rounding_divide(x + others, np.array(channels), profile.rounding)
    if not np.can_cast(x_q.dtype, np.int16):
        inside = {":centred": centred} | _over_root_mean_square(centred, eps=channels**2 * eps, profile=profile)
        return _applied(run, inside, params, to=to, profile=profile)
    middle_doubled = x[0].min() + x[1].max()
    squares = np.square(2 * x - middle_doubled).max(axis=0, keepdims=True).sum(axis=-1, keepdims=True)
    spread = rounding_right_shift(channels * squares, 2, Rounding.FLOOR)
    if exact:
        terms, peak, least = channels - 1, eps, math.isqrt(channels - 1 + eps)
    else:
        spread = rounding_divide(spread, np.array(channels**2), Rounding.FLOOR) + 1
        terms, peak, least = channels, eps - 1, math.isqrt(eps)
    variance = np.concatenate([np.zeros_like(spread), spread]) + eps
    std = isqrt(variance)
    limit = _limit(terms, peak, max(peak, least), fraction=rule.output_fraction)
    y = _quotients(centred, std, multiplier=1 << rule.output_fraction, profile=profile).clip(-limit, limit)
    inside = {":centred": saturate(centred, INT32), ":variance": variance, ":std": std, ":normalised": y}
    return _applied(run, inside, params, to=to, profile=profile)


def rms_norm(run: Run, x_q: Integers, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Steps:
    """Bound rows of every shift k that the ends leave, each by its own; reached by k and x' alone.

    In a row of shift k, max |x| < 2**(15 + k), and k > e takes max |x'| >= 2**14. From N x'**2 + eps' <= v < (s + 1)**2
    follows y**2 = (N x' / s)**2 <= N g(s), g(s) = 1 + 2 / s - eps' / s**2 as for ``layer_norm``.
    """
    ops.rms_norm(x_q, params, to=to, profile=profile)
    inside = _over_root_mean_square(x_q.astype(np.int64), eps=params.eps, profile=profile)
    return _applied(run, inside, params, to=to, profile=profile)


def _over_root_mean_square(c: NDArray[np.int64], *, eps: int, profile: Profile) -> Steps:
    rule, channels = native(profile.layer_norm, LayerNorm), c.shape[-1]
    least, eps_at = eps_by_shift(eps, profile.step_rounding)
    bits = rule.row_bits - 1
    low, high = c
    nearest, furthest = np.maximum(np.maximum(low, -high), 0), np.maximum(-low, high)
    first, last = (max(int(ends.max()).bit_length() - bits, least) for ends in (nearest, furthest))

    def shifted_by(k: int) -> Steps:
        reach = (1 << bits + k) - 1
        shift, eps_k = np.full((2, 1, 1), k), int(eps_at[k])
        shifted = rounding_right_shift(c.clip(-reach, reach), k, profile.step_rounding)
        low, high = np.square(np.maximum(np.maximum(shifted[0], -shifted[1]), 0)), np.square(shifted).max(axis=0)
        squares = np.stack([low, high]).sum(axis=-1, keepdims=True)
        if k > least:
            squares = np.maximum(squares, 1 << 2 * (bits - 1))
        variance = channels * squares + eps_k
        std = isqrt(variance)
        start, stop = std.ravel().tolist()
        limit = _limit(channels, eps_k, min(max(eps_k, start), stop), fraction=rule.output_fraction)
        multiplier = channels << rule.output_fraction
        y = _quotients(shifted, std, multiplier=multiplier, profile=profile).clip(-limit, limit)
        return {":shift": shift, ":shifted": shifted, ":variance": variance, ":std": std, ":normalised": y}

    every = [shifted_by(k) for k in range(first, last + 1)]
    return {
        step: np.stack([np.min([ends[step][0] for ends in every], axis=0), np.max([e[step][1] for e in every], axis=0)])
        for step in every[0]
    }


def _limit(terms: int, eps: int, s: int, *, fraction: int) -> int:
    """Return the largest |y| with y**2 <= terms (1 + 2 / s - eps / s**2), in units of 2**-fraction, rounded up."""
    return math.isqrt((terms * (s**2 + 2 * s - eps) << 2 * fraction) // s**2) + 1


def _quotients(c: Integers, std: Integers, *, multiplier: int, profile: Profile) -> Integers:
    """Return the ends of c multiplier / std: the lower std takes c away from 0."""
    outward = np.array([-1, 1]).reshape(2, 1, 1) * c > 0
    divisor = np.where(outward, std[:1], std[1:])
    return divide(c, divisor, multiplier=multiplier, to=INT32, rounding=profile.step_rounding)


def _applied(run: Run, inside: Steps, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Steps:
    """Return the steps up to the normalised values, and those of the affine part of a norm."""
    y, one = inside[":normalised"], Dyadic(1, params.weight.shift.flat[0])
    constants: dict[str, Any] = {"zero_point": 0, "to": to, "rounding": profile.rounding}
    return inside | _sorted(run(rescale, [y, params.bias], [params.weight, one], **constants))
