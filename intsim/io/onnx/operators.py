# SPDX-License-Identifier: Apache-2.0
"""The operators of ``intsim.ops`` as ONNX nodes: the same integers, by formulas that standard integer operators have.

ONNX has no arithmetic shift, no floor division and no rounding of integers. With p = 2**t::

    floor(x / p) = (x & -p) // p        the dividend is a multiple of p, so that any division is exact
    RND(x / p)   = floor((x + a) / p)   a as ``shift_right`` says

and whatever else is divided is brought to at least 0 first. No node is made whose result could leave its dtype: a
``Value`` carries a bound, and refuses.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add as plus
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.errors import IntsimError
from intsim.fixedpoint import INT16, INT32, UINT8, Dyadic, IntRange, Rounding
from intsim.io.onnx.graph import Value
from intsim.ops import LayerNormParams
from intsim.profile import LayerNorm, Profile, native
from intsim.requantization import Requantization

__all__ = ["EMITTERS"]

Integers: TypeAlias = NDArray[Any]
INT64_MAX: Final = (1 << 63) - 1
NEWTON_STEPS: Final = 6


def shift_right(x: Value, shift: Integers, rounding: Rounding, *, offset: int = 0) -> Value:
    """Return RND(x / 2**shift + offset) as floor((x + a) / 2**shift) + offset.

    With p = 2**t, h = p / 2 (0 for t = 0), u = min(t, 1) and q = floor(x / p) + offset, a is 0 for floor,
    (q < 0) (p - 1) toward zero, h half up, h - u (q < 0) half away from zero, h - u + u (q mod 2) half to even.

    Bounds
    ------
    |x| + p / 2 < 2**63. A threshold beyond int64 has the sign of x + offset p decided by offset alone.
    """
    power, tied = np.int64(1) << shift, np.minimum(shift, 1)
    half, lowest = power >> 1, power * tied  # lowest: bit t of x is that of q

    def negative() -> Value:
        threshold = np.clip(-offset * power.astype(object), -INT64_MAX, INT64_MAX)
        return (x < threshold).astype(np.int64)

    def odd() -> Value:
        bit = x & lowest
        return (bit ^ lowest if offset % 2 else bit).astype(np.bool_).astype(np.int64)

    match rounding:
        case Rounding.FLOOR:
            raised = x
        case Rounding.TOWARD_ZERO:
            raised = x + negative() * (power - 1)
        case Rounding.HALF_UP:
            raised = x + half
        case Rounding.HALF_AWAY:
            raised = x + half - negative() * tied
        case Rounding.HALF_EVEN:
            raised = x + (half - tied) + odd()
    floor = (raised & -power) // power
    floor = floor.bounded((x.magnitude >> int(np.min(shift))) + 1)
    return floor + offset if offset else floor


def divide(a: Value, b: Value | int, *, multiplier: int, rounding: Rounding, quotient: int = 0) -> Value:
    """Return RND(a * multiplier / b) for b > 0 and a * multiplier >= -quotient * b.

    ``quotient`` times b brings the dividend to 0 or more, where ONNX's division is floor; being even, it keeps the
    parity that decides ties.

    Bounds
    ------
    2 |a| multiplier + (2 quotient + 5) b < 2**63.
    """
    k = quotient + quotient % 2
    a = a * multiplier
    match rounding:
        case Rounding.FLOOR:
            result = (a + b * k) // b
        case Rounding.TOWARD_ZERO:
            result = (a + b * k + (a < 0).astype(np.int64) * (b - 1)) // b
        case Rounding.HALF_UP:
            result = (a * 2 + b * (2 * k + 1)) // (b * 2)
        case Rounding.HALF_AWAY:
            result = (a * 2 + b * (2 * k + 1) - (a < 0).astype(np.int64)) // (b * 2)
        case Rounding.HALF_EVEN:
            odd = (a + b * k) // b & 1
            result = (a * 2 + b * (2 * k + 1) - 1 + odd) // (b * 2)
    return result - k if k else result


def isqrt(n: Value) -> Value:
    """Return floor(sqrt(n)) for 1 <= n < 2**62: Newton's iteration from x = 2**c, 4**(c - 1) <= n < 4**c.

    Bounds
    ------
    sqrt(n) < x <= 2 sqrt(n). With r = sqrt(n), a step takes x = r (1 + e) to at most r (1 + e**2 / (2 + 2 e)) and never
    below floor(r), so from e <= 1 six steps leave e < 2**-99. An integer x > floor(r) would need e >= 1 / (2 n), which
    is above 2**-63: six steps reach floor(r) whatever n, and the minimum keeps it.

    Source
    ------
    Kim et al. 2021, Algorithm 4, with the loop unrolled.
    """
    digits = (n >= np.int64(4) ** np.arange(31)).astype(np.int64).sum()
    root = n.graph.constant(np.int64(2) ** np.arange(32)).gather(digits)
    for _ in range(NEWTON_STEPS):
        lower = (root + n // root) // 2
        root = lower.where(lower < root, root).bounded(1 << 31)
    return root


def products(operands: Sequence[Value], ratios: Sequence[Dyadic]) -> Value:
    """Return sum_i x_i m_i in int64."""
    return reduce(plus, (x.astype(np.int64) * ratio.multiplier for x, ratio in zip(operands, ratios, strict=True)))


def saturate(x: Value, to: IntRange) -> Value:
    """Return the value clipped into the range, in its dtype; by way of int32 where that holds it, the faster."""
    x = x.astype(np.int32) if x.magnitude <= INT32.max else x
    return x.clip(to.min, to.max).astype(to.dtype)


def requantize(
    acc: Value, ratio: Dyadic, *, to: IntRange, rounding: Rounding | Requantization, zero_point: int = 0
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
    rounded = shift_right(product, shift, rule.rounding)
    return saturate(rounded + zero_point if zero_point else rounded, to)


def add(
    operands: Sequence[Value], ratios: Sequence[Dyadic], *, to: IntRange, profile: Profile, zero_point: int = 0
) -> Value:
    """Emit ``ops.add``."""
    if profile.sum == "once":
        total = shift_right(products(operands, ratios), ratios[0].shift, profile.rounding)
    else:
        terms = (
            requantize(x, ratio, to=INT32, rounding=profile.rounding) for x, ratio in zip(operands, ratios, strict=True)
        )
        total = reduce(plus, (term.astype(np.int64) for term in terms))
    return saturate(total + zero_point if zero_point else total, to)


def matmul(
    x_q: Value,
    w_q: Value | Integers,
    *,
    bias: Integers | None = None,
    carrier: str = "auto",  # noqa: ARG001  the same bits
) -> Value:
    """Emit ``ops.matmul``: MatMulInteger on uint8 codes, int32 MatMul where an operand has 16 bits.

    Signed codes are raised by 128 to uint8: x86 kernels of uint8 x int8 may add two products in saturating 16 bits,
    those of uint8 x uint8 extend the codes to 16 bits before they multiply.
    """
    graph = x_q.graph
    if isinstance(w_q, Value):
        bound = w_q.depth * x_q.magnitude * w_q.magnitude
    else:
        rows = x_q.magnitude * np.abs(w_q, dtype=np.int64).sum(axis=-1)
        bound = int((rows if bias is None else rows + np.abs(bias, dtype=np.int64)).max())

    def columns(w: Value | Integers) -> Value:
        w = w.swapaxes(-1, -2)
        return w if isinstance(w, Value) else graph.constant(w)

    if x_q.dtype.itemsize == w_q.dtype.itemsize == 1:
        (x, x_zero_point), (w, w_zero_point) = _uint8(x_q), _uint8(w_q)
        acc = x.matmul(columns(w), *(graph.constant(np.uint8(code)) for code in (x_zero_point, w_zero_point)))
    else:
        acc = x_q.astype(np.int32).matmul(columns(w_q.astype(np.int32)))
    if bias is not None:
        acc = graph.add("Add", acc, graph.constant(bias), dtype=acc.dtype, shape=acc.shape)
    return acc.proved(bound)


def _uint8(x: Any) -> tuple[Any, int]:
    """Return the codes as uint8, and the code of 0."""
    return (x, 0) if x.dtype == np.uint8 else (x.astype(np.uint8) ^ 128, 128)


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
    return saturate(divide(e, total, multiplier=one, rounding=profile.step_rounding).bounded(one), UINT8)


def layer_norm(x_q: Value, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Value:
    """Emit ``ops.layer_norm``, whose bounds hold here as they do there."""
    channels = x_q.depth
    x = x_q.astype(np.int64)
    total = x.sum()
    rule = native(profile.layer_norm, LayerNorm)
    if rule.centring == "exact":
        centred = x * channels - total
        variance = (x * x).sum() * channels - total * total
    else:
        mean = divide(total, channels, multiplier=1, rounding=profile.rounding, quotient=x_q.magnitude)
        centred = x - mean.bounded(x_q.magnitude)
        variance = (centred * centred).sum() // channels
    scale = 1 << rule.output_fraction
    largest = (math.isqrt(3 * channels) + 1) * scale
    std = isqrt(variance + params.eps)
    y = divide(centred, std, multiplier=scale, rounding=profile.step_rounding, quotient=largest).bounded(largest)
    affine = products([y], [params.weight]) + params.bias
    return saturate(shift_right(affine, params.weight.shift[:1], profile.rounding), to)


EMITTERS: Final[Mapping[Callable[..., Any], Callable[..., Value]]] = {
    ops.add: add,
    ops.embedding: embedding,
    ops.gelu: tabulated(ops.gelu),
    ops.layer_norm: layer_norm,
    ops.matmul: matmul,
    ops.relu: relu,
    ops.requantize: requantize,
    ops.softmax: softmax,
    ops.tanh: tabulated(ops.tanh),
}
