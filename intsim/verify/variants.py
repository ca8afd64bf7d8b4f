# SPDX-License-Identifier: Apache-2.0
"""The bugs that chips and kernels have: every operator with one rule changed.

``variants(call)`` gives, for a recorded call, named functions that compute it again with a single change. ``diagnose``
asks which of them gives what a device gave.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import Call
from intsim.carrier import Integers
from intsim.fixedpoint import (
    INT32,
    Dyadic,
    IntRange,
    Rounding,
    isqrt,
    rounding_divide,
    rounding_right_shift,
    saturate,
)
from intsim.ops import LayerNormParams
from intsim.profile import NATIVE, Profile

__all__ = ["Variant", "variants"]

Int64 = NDArray[np.int64]
Variant = Callable[[], Integers]

TFLITE_HIGH_BITS: Final = 31  # the first of gemmlowp's two roundings


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """How an exact sum of products becomes a code, each rule of it replaceable."""

    shift: Int64
    zero_point: int
    to: IntRange
    rounding: Rounding
    double: bool = False
    zero_point_first: bool = False
    wraps: bool = False

    def __call__(self, total: Int64) -> Integers:
        """Round, add the zero point, narrow."""
        if self.zero_point_first:
            rounded = self._round(total + (np.int64(self.zero_point) << self.shift))
        else:
            rounded = self._round(total) + self.zero_point
        return _wrap(rounded, self.to) if self.wraps else saturate(rounded, self.to)

    def _round(self, total: Int64) -> Int64:
        if not self.double:
            return rounding_right_shift(total, self.shift, self.rounding)
        first = np.minimum(self.shift, TFLITE_HIGH_BITS)
        high = rounding_right_shift(total, first, Rounding.HALF_UP)
        return rounding_right_shift(high, self.shift - first, Rounding.HALF_AWAY)


def variants(call: Call) -> Mapping[str, Variant]:
    """Return the single-change variants of a call, by what changes.

    Raises
    ------
    KeyError
        If the operator has none: embedding and relu are copies.
    """
    return dict(_VARIANTS[call.operator.__name__](call))


def _tails(tail: Tail) -> Iterator[tuple[str, Tail]]:
    for rounding in Rounding:
        if rounding is not tail.rounding:
            yield f"rounding {rounding} instead of {tail.rounding}", replace(tail, rounding=rounding)
    yield "two roundings, as TFLite's double rounding", replace(tail, double=True)
    yield "no saturation: wraps", replace(tail, wraps=True)
    yield "shift one too small", replace(tail, shift=np.maximum(tail.shift - 1, 0))
    yield "shift one too large", replace(tail, shift=np.minimum(tail.shift + 1, 62))
    for to in (
        replace(tail.to, narrow=not tail.to.narrow) if tail.to.signed else None,
        IntRange(tail.to.bits, signed=not tail.to.signed),
        IntRange(tail.to.bits - 1, tail.to.signed) if tail.to.bits > 2 else None,
    ):
        if to is not None:
            yield f"clamp to [{to.min}, {to.max}]", replace(tail, to=to)
    if tail.zero_point:
        yield "zero point added before rounding", replace(tail, zero_point_first=True)
        yield "zero point left out", replace(tail, zero_point=0)
        yield "zero point subtracted", replace(tail, zero_point=-tail.zero_point)


def _multipliers(ratio: Dyadic) -> Iterator[tuple[str, Int64]]:
    for bits in (24, 16, 8):
        drop = 31 - bits
        yield f"multiplier of {bits} bits", rounding_right_shift(ratio.multiplier, drop, Rounding.HALF_UP) << drop
    yield "multiplier truncated to 24 bits", ratio.multiplier >> 7 << 7


def _requantize(call: Call) -> Iterator[tuple[str, Variant]]:
    acc, ratio = call.operands
    acc = acc.astype(np.int64)
    tail = _tail(call.constants, ratio.shift, call.constants["rounding"])
    for name, other in _tails(tail):
        yield name, lambda other=other: _like(other(acc * ratio.multiplier), call)
    for name, multiplier in _multipliers(ratio):
        yield name, lambda multiplier=multiplier: _like(tail(acc * multiplier), call)
    yield "product wraps at 32 bits", lambda: _like(tail(_wrapped(acc * ratio.multiplier, 32)), call)
    yield "accumulator wraps at 16 bits", lambda: _like(tail(_wrapped(acc, 16) * ratio.multiplier), call)


def _add(call: Call) -> Iterator[tuple[str, Variant]]:
    operands, ratios = call.operands
    profile: Profile = call.constants["profile"]
    products = [x.astype(np.int64) * ratio.multiplier for x, ratio in zip(operands, ratios, strict=True)]
    tails = [_tail(call.constants, ratio.shift, profile.rounding) for ratio in ratios]

    def once(tail: Tail) -> Integers:
        return _like(tail(_sum(products)), call)

    def each(tail: Tail) -> Integers:
        rounded = [
            replace(tail, shift=own.shift, to=INT32, zero_point=0, wraps=False)(product).astype(np.int64)
            for own, product in zip(tails, products, strict=True)
        ]
        last = replace(tail, shift=np.zeros((), np.int64), double=False)
        return _like(last(_sum(rounded)), call)

    ours, other = (once, each) if profile.sum == "once" else (each, once)
    for name, tail in _tails(tails[0]):
        if profile.sum == "once" or "shift" not in name:
            yield name, lambda tail=tail: ours(tail)
    if profile.sum == "once":
        yield "every operand rounded before the sum", lambda: other(tails[0])
    for i in range(len(operands)):
        yield (
            f"operand {i} left out",
            lambda i=i: _like(tails[0](_sum([*products[:i], *products[i + 1 :]]) + np.zeros_like(products[0])), call),
        )


def _matmul(call: Call) -> Iterator[tuple[str, Variant]]:
    x, w = call.operands
    bias = call.constants.get("bias")

    def product(x: Integers, w: Integers) -> Integers:
        return ops.matmul(x, w).astype(np.int64)

    def finish(total: Integers) -> Integers:
        return _like(total, call)

    offset: Int64 = np.zeros((), np.int64) if bias is None else bias.astype(np.int64)
    yield "accumulator wraps at 16 bits", lambda: finish(_wrapped(product(x, w) + offset, 16))
    yield "accumulator saturates at 16 bits", lambda: finish((product(x, w) + offset).clip(-(2**15), 2**15 - 1))
    yield "accumulator saturates at 24 bits", lambda: finish((product(x, w) + offset).clip(-(2**23), 2**23 - 1))
    yield "last term of every sum left out", lambda: finish(product(x[..., :-1], w[..., :-1]) + offset)
    yield "products of the top 7 bits", lambda: finish((product(x >> 1, w) << 1) + offset)
    if bias is not None:
        yield "bias left out", lambda: finish(product(x, w))
        yield "bias subtracted", lambda: finish(product(x, w) - offset)
        yield "bias wraps at 16 bits", lambda: finish(product(x, w) + _wrapped(offset, 16))
    flipped = np.dtype(("u" if x.dtype.kind == "i" else "i") + str(x.dtype.itemsize))
    yield f"input read as {flipped}", lambda: finish(product(x.view(flipped), w) + offset)
    yield "weight read as unsigned", lambda: finish(product(x, w.view(f"u{w.dtype.itemsize}")) + offset)


def _profiles(profile: Profile) -> Iterator[tuple[str, Profile]]:
    for rounding in Rounding:
        if rounding is not profile.step_rounding:
            yield (
                f"inner steps rounded {rounding} instead of {profile.step_rounding}",
                replace(profile, step_rounding=rounding),
            )
        if rounding is not profile.rounding:
            yield f"rounding {rounding} instead of {profile.rounding}", replace(profile, rounding=rounding)


def _softmax(call: Call) -> Iterator[tuple[str, Variant]]:
    acc, ratio = call.operands
    profile: Profile = call.constants["profile"]
    mask = call.constants.get("mask")

    def run(profile: Profile = profile, ratio: Dyadic = ratio, mask: Any = mask, acc: Integers = acc) -> Integers:
        return ops.softmax(acc, ratio, profile=profile, mask=mask)

    for name, other in _profiles(profile):
        yield name, lambda other=other: run(other)
    one = 511 - profile.softmax.one
    yield (
        f"one = {one} instead of {profile.softmax.one}",
        lambda: run(replace(profile, softmax=replace(profile.softmax, one=one))),
    )
    for other in NATIVE.values():
        if other.exp != profile.exp:
            yield f"exp of profile {other.name}", lambda other=other: run(replace(profile, exp=other.exp))
    for delta in (-1, 1):
        yield (
            f"shift off by {delta:+d}",
            lambda delta=delta: run(ratio=Dyadic(ratio.multiplier, np.clip(ratio.shift + delta, 0, 62))),
        )
    for name, multiplier in _multipliers(ratio):
        yield name, lambda multiplier=multiplier: run(ratio=Dyadic(multiplier, ratio.shift))
    yield "maximum over masked positions too", lambda: _masked_after(run(mask=None), mask)
    if mask is not None:
        yield "mask left out", lambda: run(mask=None)
    yield "scores wrap at 16 bits", lambda: run(acc=_wrapped(acc, 16).astype(acc.dtype))


def _masked_after(probs: Integers, mask: Any) -> Integers:
    return probs if mask is None else (probs * mask).astype(probs.dtype)


def _unary(call: Call) -> Iterator[tuple[str, Variant]]:
    (x_q,) = call.operands
    profile: Profile = call.constants["profile"]

    def run(profile: Profile = profile, x_q: Integers = x_q) -> Integers:
        return call.operator(x_q, profile=profile)

    for name, other in _profiles(profile):
        yield name, lambda other=other: run(other)
    for other in NATIVE.values():
        if other.gelu != profile.gelu:
            own_shift = replace(other.gelu, output_shift=profile.gelu.output_shift)
            yield (
                f"constants of profile {other.name}",
                lambda other=other, gelu=own_shift: run(replace(profile, gelu=gelu, exp=other.exp)),
            )
    for delta in (-1, 1):
        shift = profile.gelu.output_shift + delta
        yield (
            f"output shift off by {delta:+d}",
            lambda shift=shift: run(replace(profile, gelu=replace(profile.gelu, output_shift=shift))),
        )
    for bits in (8, 12):
        drop = 16 - bits
        yield f"input of {bits} bits", lambda drop=drop: run(x_q=x_q >> drop << drop)
    yield "sign dropped", lambda: run(x_q=np.abs(np.maximum(x_q, -(2**15) + 1)))
    yield "result wraps at 8 bits", lambda: _wrapped(run(), 8).astype(call.result.dtype)


def _layer_norm(call: Call) -> Iterator[tuple[str, Variant]]:
    (x_q, params) = call.operands
    profile: Profile = call.constants["profile"]
    to: IntRange = call.constants["to"]
    tail = Tail(shift=params.weight.shift, zero_point=0, to=to, rounding=profile.rounding)

    def run(profile: Profile = profile, params: LayerNormParams = params) -> Integers:
        return ops.layer_norm(x_q, params, to=to, profile=profile)

    def by_hand(tail: Tail = tail, root: Callable[[Int64], Int64] = isqrt, eps: int = params.eps) -> Integers:
        x = x_q.astype(np.int64)
        channels = x.shape[-1]
        total = x.sum(axis=-1, keepdims=True)
        if profile.layer_norm.centring == "exact":
            centred = channels * x - total
            variance = channels * (x * x).sum(axis=-1, keepdims=True) - total * total
        else:
            centred = x - rounding_divide(total, np.array(channels), profile.rounding)
            variance = (centred * centred).sum(axis=-1, keepdims=True) // channels
        std = np.maximum(root(variance + eps), 1)
        y = rounding_divide(centred << profile.layer_norm.output_fraction, std, profile.step_rounding)
        return _like(tail(y * params.weight.multiplier + params.bias), call)

    for name, other in _profiles(profile):
        yield name, lambda other=other: run(other)
    centring = "exact" if profile.layer_norm.centring == "rounded-mean" else "rounded-mean"
    yield (
        f"{centring} centring",
        lambda: run(replace(profile, layer_norm=replace(profile.layer_norm, centring=centring))),
    )
    yield "bias left out", lambda: run(params=replace(params, bias=np.zeros_like(params.bias)))
    yield (
        "weight's sign dropped",
        lambda: run(params=replace(params, weight=Dyadic(np.abs(params.weight.multiplier), params.weight.shift))),
    )
    for name, other in _tails(tail):
        if not name.startswith("rounding"):
            yield name, lambda other=other: by_hand(tail=other)
    for steps in (3, 4, 5):
        yield f"square root of {steps} Newton steps", lambda steps=steps: by_hand(root=lambda n: _newton(n, steps))
    yield "square root by float32", lambda: by_hand(root=_float32_root)
    yield "square root rounded up", lambda: by_hand(root=lambda n: isqrt(n) + (isqrt(n) ** 2 < n))
    yield "eps left out", lambda: by_hand(eps=0)


def _newton(n: Int64, steps: int) -> Int64:
    half_bits = np.array([(int(value).bit_length() + 1) // 2 for value in n.flat]).reshape(n.shape)
    root = np.int64(1) << half_bits
    for _ in range(steps):
        root = (root + n // np.maximum(root, 1)) >> 1
    return root


def _float32_root(n: Int64) -> Int64:
    return np.floor(np.sqrt(n.astype(np.float32))).astype(np.int64)


def _tail(constants: Mapping[str, Any], shift: Int64, rounding: Rounding) -> Tail:
    return Tail(shift=shift, zero_point=constants.get("zero_point", 0), to=constants["to"], rounding=rounding)


def _sum(terms: list[Int64]) -> Int64:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _wrapped(x: Integers, bits: int) -> Int64:
    """Return x modulo 2**bits, as a signed number of that width."""
    half = np.int64(1) << (bits - 1)
    return (x.astype(np.int64) + half) % (2 * half) - half


def _wrap(x: Int64, to: IntRange) -> Integers:
    return x.astype(to.dtype)


def _like(values: Integers, call: Call) -> Integers:
    """Store the values in the bits of the call's result, so that a device's dump can be compared."""
    return values.astype(np.int64).astype(call.result.dtype)


_VARIANTS: Final[Mapping[str, Callable[[Call], Iterator[tuple[str, Variant]]]]] = {
    "requantize": _requantize,
    "add": _add,
    "matmul": _matmul,
    "softmax": _softmax,
    "gelu": _unary,
    "tanh": _unary,
    "sigmoid": _unary,
    "layer_norm": _layer_norm,
}
