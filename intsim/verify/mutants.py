# SPDX-License-Identifier: Apache-2.0
"""Known bugs of integer transformer hardware, one small change each, to measure what the test vectors catch.

A mutant is an operator written again with one rule broken. ``kill_matrix`` runs every mutant on the vectors of a level;
a set of vectors is worth what it kills. Some mutants equal the golden model under a profile: ``EQUIVALENT`` says why.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from intsim.fixedpoint import (
    INT8,
    INT16,
    INT32,
    UINT8,
    IntRange,
    Rounding,
    isqrt,
    rounding_divide,
    rounding_right_shift,
    saturate,
)
from intsim.profile import NATIVE, Profile
from intsim.verify.vectors.cases import Level, generate, minimum
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.operators import OPERATORS, Operator, bind

__all__ = ["CONTROL", "EQUIVALENT", "Kill", "kill_matrix", "mutants"]

Evaluate: TypeAlias = Callable[..., Any]
Mutants: TypeAlias = dict[str, Evaluate]
Root: TypeAlias = Callable[[Int64], Int64]
Narrow: TypeAlias = Callable[[Int64], Int64]

CONTROL: Final = "nothing broken"  # the operator rewritten with every rule intact: no vector may catch it
OTHER_WAY: Final = {"once": "each", "each": "once"}


# Broken parts


def _clip(to: IntRange) -> Narrow:
    return lambda y: saturate(y, to).astype(np.int64)


AS_INT8: Final = _clip(INT8)
AS_INT16: Final = _clip(INT16)
AS_INT32: Final = _clip(INT32)
AS_UINT8: Final = _clip(UINT8)


def _clamp(low: int, high: int) -> Narrow:
    return lambda y: y.clip(low, high)


def _wrap(bits: int, *, signed: bool = True) -> Narrow:
    half = 1 << (bits - 1) if signed else 0
    return lambda y: ((y + half) & ((1 << bits) - 1)) - half


def _keep(y: Int64) -> Int64:
    return y


def _then(evaluate: Evaluate, narrow: Narrow) -> Evaluate:
    """Return an evaluation whose result passes through ``narrow``."""

    def both(*operands: Int64) -> Any:
        return narrow(evaluate(*operands))

    return both


def _first(narrow: Narrow, evaluate: Narrow) -> Narrow:
    """Return an evaluation of one operand that passes through ``narrow``."""

    def both(operand: Int64) -> Int64:
        return evaluate(narrow(operand))

    return both


def _others(rounding: Rounding) -> list[Rounding]:
    return [other for other in Rounding if other is not rounding]


def _short(multiplier: Int64) -> Int64:
    """Keep the 24 significant bits that float32 has."""
    return multiplier.astype(np.float32).astype(np.int64)


def _newton(updates: int) -> Root:
    """Return Newton's iteration stopped after a fixed count, whatever happened."""

    def root(n: Int64) -> Int64:
        bits = np.array([int(value).bit_length() for value in n.ravel()], np.int64).reshape(n.shape)
        x = np.int64(1) << (bits + 1) // 2
        for _ in range(updates):
            x = (x + n // np.maximum(x, 1)) >> 1
        return x

    return root


def _float_sqrt(dtype: type[np.floating]) -> Root:
    return lambda n: np.floor(np.sqrt(n.astype(dtype))).astype(np.int64)


def _nearest_sqrt(n: Int64) -> Int64:
    root = isqrt(n)
    return root + (n - root * root > root)


# Operators with their rules as arguments


def _requantize(operator: Operator) -> Mutants:
    rounding = operator.profile.rounding

    def rule(
        *,
        rounding: Rounding = rounding,
        by: int = 0,
        product: Narrow = _keep,
        scaled: Narrow = _keep,
        m: Narrow = _keep,
        acc: Narrow = _keep,
        narrow: Narrow = AS_INT8,
        zero_point: Narrow = _keep,
        inner: Narrow = _keep,
    ) -> Evaluate:
        def evaluate(x: Int64, multiplier: Int64, shift: Int64, zp: Int64) -> Int64:
            p = product(acc(x) * m(multiplier))
            return narrow(inner(scaled(rounding_right_shift(p, (shift + by).clip(0, 62), rounding))) + zero_point(zp))

        return evaluate

    def twice(x: Int64, multiplier: Int64, shift: Int64, zp: Int64) -> Int64:
        first = rounding_right_shift(x * multiplier, shift.clip(0, 31), Rounding.HALF_UP)
        return AS_INT8(rounding_right_shift(first, (shift - 31).clip(0), Rounding.HALF_AWAY) + zp)

    def logical(x: Int64, multiplier: Int64, shift: Int64, zp: Int64) -> Int64:
        half = np.where(shift > 0, np.int64(1) << (shift - 1).clip(0), 0)
        y = ((x * multiplier + half).view(np.uint64) >> shift.astype(np.uint64)).view(np.int64)
        return AS_INT8(AS_INT32(y) + zp)

    def before_rounding(x: Int64, multiplier: Int64, shift: Int64, zp: Int64) -> Int64:
        quotient = (x * multiplier >> shift) + zp  # floored
        rest = (x * multiplier) - (x * multiplier >> shift << shift)
        if rounding is Rounding.HALF_EVEN:
            return AS_INT8(quotient + (2 * rest + (quotient & 1) > np.int64(1) << shift))
        return AS_INT8(quotient + (2 * rest >= np.int64(1) << shift))

    def in_float32(x: Int64, multiplier: Int64, shift: Int64, zp: Int64) -> Int64:
        scale = np.ldexp(multiplier.astype(np.float32), -shift.astype(np.int32))
        y = np.rint(x.astype(np.float32) * scale).clip(-(2.0**40), 2.0**40)
        return AS_INT8(y.astype(np.int64) + zp)

    return {
        CONTROL: rule(),
        **{f"rounding {other}": rule(rounding=other) for other in _others(rounding)},
        "rounded twice (gemmlowp)": twice,
        "shift one too many": rule(by=1),
        "shift one too few": rule(by=-1),
        "logical shift": logical,
        "result wraps": rule(narrow=_wrap(8)),
        "clamped to [-127, 127]": rule(narrow=_clamp(-127, 127)),
        "clamped to [-128, 126]": rule(narrow=_clamp(-128, 126)),
        "clamped to [0, 127]": rule(narrow=_clamp(0, 127)),
        "scaled value wraps at 32 bits": rule(scaled=_wrap(32)),
        "scaled value wraps at 16 bits": rule(scaled=_wrap(16)),
        "saturated before the zero point too": rule(inner=AS_INT8),
        "zero point before rounding": before_rounding,
        "zero point left out": rule(zero_point=np.zeros_like),
        "zero point subtracted": rule(zero_point=np.negative),
        "24-bit multiplier": rule(m=_short),
        "16-bit accumulator": rule(acc=_wrap(16)),
        "24-bit accumulator": rule(acc=_clip(IntRange(24))),
        "product wraps at 32 bits": rule(product=_wrap(32)),
        "product wraps at 48 bits": rule(product=_wrap(48)),
        "float32 arithmetic": in_float32,
    }


def _add(operator: Operator) -> Mutants:
    mode, rounding = operator.profile.sum, operator.profile.rounding

    def rule(
        *,
        mode: str = mode,
        rounding: Rounding = rounding,
        by: int = 0,
        m: Narrow = _keep,
        n: Narrow = _keep,
        acc: Narrow = _keep,
        residual: Narrow = _keep,
        total: Narrow = _keep,
        narrow: Narrow = AS_INT16,
        zero_point: Narrow = _keep,
        swap: bool = False,
        inner: Narrow = _keep,
    ) -> Evaluate:
        def evaluate(a: Int64, b: Int64, m_a: Int64, m_b: Int64, *last: Int64) -> Int64:
            *shifts, zp = last
            s, t = (shift + by for shift in ([shifts[-1], shifts[0]] if swap else [shifts[0], shifts[-1]]))
            p, q = acc(a) * m(m_a), residual(b) * n(m_b)
            if mode == "each":
                y = rounding_right_shift(p, s.clip(0, 62), rounding) + rounding_right_shift(q, t.clip(0, 62), rounding)
            else:  # with two shifts, the products are brought to the larger one, as far as int64 reaches
                largest = np.maximum(s, t).clip(0, 62)
                y = rounding_right_shift(
                    total((p << (largest - s).clip(0, 62)) + (q << (largest - t).clip(0, 62))), largest, rounding
                )
            return narrow(inner(total(y) if mode == "each" else y) + zero_point(zp))

        return evaluate

    return {
        CONTROL: rule(),
        **{f"rounding {other}": rule(rounding=other) for other in _others(rounding)},
        f"rounded {OTHER_WAY[mode]}": rule(mode=OTHER_WAY[mode]),
        "shift one too many": rule(by=1),
        "shift one too few": rule(by=-1),
        **({"shifts exchanged": rule(swap=True)} if mode == "each" else {}),
        "result wraps": rule(narrow=_wrap(16)),
        "clamped to [-32767, 32767]": rule(narrow=_clamp(-32_767, 32_767)),
        "clamped to 8 bits": rule(narrow=AS_INT8),
        "saturated before the zero point too": rule(inner=AS_INT16),
        "zero point left out": rule(zero_point=np.zeros_like),
        "zero point subtracted": rule(zero_point=np.negative),
        "24-bit multiplier": rule(m=_short),
        "24-bit residual multiplier": rule(n=_short),
        "16-bit accumulator": rule(acc=_wrap(16)),
        "8-bit residual": rule(residual=AS_INT8),
        "residual left out": rule(residual=np.zeros_like),
        "sum wraps at 32 bits": rule(total=_wrap(32)),
    }


def _exp_rule(
    profile: Profile,
    *,
    rounding: Rounding | None = None,
    constants: tuple[int, int, int] = (0, 0, 0),
    by: int = 0,
    most: int = 62,
    narrow: Narrow = AS_INT32,
    z_of: Callable[[Int64, int], Int64] = lambda q, q_ln2: -q // q_ln2,
    polynomial: Narrow = _keep,
) -> Narrow:
    rule = profile.exp
    q_ln2, q_b, q_c = (a + b for a, b in zip(rule.constants(profile.step_rounding), constants, strict=True))

    def evaluate(x: Int64) -> Int64:
        q = x << rule.guard_bits
        z = z_of(q, q_ln2)
        value = polynomial((q + z * q_ln2 + q_b) ** 2 + q_c)
        shift = (z.clip(0, most) + rule.output_shift + by).clip(0, 62)
        return narrow(rounding_right_shift(value, shift, rounding or profile.step_rounding))

    return evaluate


def _exp(operator: Operator) -> Mutants:
    profile = operator.profile

    def coarse(x: Int64) -> Int64:
        return _exp_rule(profile)((x >> 1) << 1)

    return {
        CONTROL: _exp_rule(profile),
        **{f"rounding {other}": _exp_rule(profile, rounding=other) for other in _others(profile.step_rounding)},
        **{
            f"{name} {step:+d}": _exp_rule(profile, constants=(step * (k == 0), step * (k == 1), step * (k == 2)))
            for k, name in enumerate(("q_ln2", "q_b", "q_c"))
            for step in (-1, 1)
        },
        "shift one too many": _exp_rule(profile, by=1),
        "shift one too few": _exp_rule(profile, by=-1),
        "shift at most 15": _exp_rule(profile, most=15),
        "quotient rounded up": _exp_rule(profile, z_of=lambda q, q_ln2: -(q // q_ln2)),
        "quotient rounded to nearest": _exp_rule(profile, z_of=lambda q, q_ln2: (-q + q_ln2 // 2) // q_ln2),
        "quotient truncated": _exp_rule(profile, z_of=lambda q, q_ln2: np.trunc(-q / q_ln2).astype(np.int64)),
        "result wraps at 16 bits": _exp_rule(profile, narrow=_wrap(16)),
        "result saturates at 16 bits": _exp_rule(profile, narrow=AS_INT16),
        "polynomial wraps at 24 bits": _exp_rule(profile, polynomial=_wrap(24)),
        "polynomial wraps at 16 bits": _exp_rule(profile, polynomial=_wrap(16)),
        "lowest input bit ignored": coarse,
    }


def _gelu(operator: Operator) -> Mutants:
    profile = operator.profile

    def rule(
        *,
        rounding: Rounding = profile.step_rounding,
        b: int = 0,
        one: int = 0,
        c: int = 0,
        by: int = 0,
        clip: bool = True,
        sign: Narrow = np.sign,
        product: Narrow = _keep,
        narrow: Narrow = AS_INT32,
    ) -> Evaluate:
        q_b, q_1 = profile.gelu.constants(profile.step_rounding)

        def evaluate(x: Int64) -> Int64:
            magnitude = np.minimum(np.abs(x), -(q_b + b)) if clip else np.abs(x)
            q_erf = sign(x) * ((magnitude + q_b + b) ** 2 + q_1 + c)
            shift = profile.gelu.output_shift + by
            return narrow(rounding_right_shift(product(-x * (q_erf + q_1 + one)), shift, rounding))

        return evaluate

    return {
        CONTROL: rule(),
        **{f"rounding {other}": rule(rounding=other) for other in _others(profile.step_rounding)},
        **{f"q_b {step:+d}": rule(b=step) for step in (-1, 1)},
        **{f"q_1 {step:+d}": rule(one=step) for step in (-1, 1)},
        **{f"q_c {step:+d}": rule(c=step) for step in (-1, 1)},
        "shift one too many": rule(by=1),
        "shift one too few": rule(by=-1),
        "clip left out": rule(clip=False),
        "sign left out": rule(sign=np.ones_like),
        "sign of 0 is +1": rule(sign=lambda x: np.where(x >= 0, 1, -1)),
        "product wraps at 32 bits": rule(product=_wrap(32)),
        "result saturates at 16 bits": rule(narrow=AS_INT16),
        "result wraps at 16 bits": rule(narrow=_wrap(16)),
    }


def _tanh(operator: Operator) -> Mutants:
    profile = operator.profile

    def rule(
        *, rounding: Rounding = profile.step_rounding, by: int = 0, e_of: Narrow | None = None, after: bool = False
    ) -> Evaluate:
        exp = e_of or _exp_rule(profile)

        def evaluate(x: Int64) -> Int64:
            one, e = exp(np.zeros(1, np.int64)), exp(-np.abs(x))
            dividend = (one - e) << profile.tanh.output_fraction + by
            if after:
                return AS_INT16(rounding_divide(np.sign(x) * dividend, one + e, rounding))
            return AS_INT16(np.sign(x) * rounding_divide(dividend, one + e, rounding))

        return evaluate

    return {
        CONTROL: rule(),
        **{f"rounding {other}": rule(rounding=other) for other in _others(profile.step_rounding)},
        "rounded after the sign": rule(after=True),
        "one fraction bit too many": rule(by=1),
        "one fraction bit too few": rule(by=-1),
        "exp shift one too many": rule(e_of=_exp_rule(profile, by=1)),
        "exp of 2**-15 steps wraps": rule(e_of=_first(lambda x: _wrap(15)(x).clip(None, 0), _exp_rule(profile))),
        "sign left out": _then(rule(), np.abs),
    }


def _sigmoid(operator: Operator) -> Mutants:
    profile = operator.profile

    def rule(*, rounding: Rounding = profile.step_rounding, by: int = 0, direct: bool = False) -> Evaluate:
        def evaluate(x: Int64) -> Int64:
            exp, fraction = _exp_rule(profile), profile.sigmoid.output_fraction + by
            one, e = exp(np.zeros(1, np.int64)), exp(-np.abs(x))
            y = rounding_divide(one << fraction, one + e, rounding)
            below = rounding_divide(e << fraction, one + e, rounding) if direct else (1 << fraction) - y
            return AS_INT16(np.where(x >= 0, y, below))

        return evaluate

    return {
        CONTROL: rule(),
        **{f"rounding {other}": rule(rounding=other) for other in _others(profile.step_rounding)},
        "one fraction bit too many": rule(by=1),
        "one fraction bit too few": rule(by=-1),
        "negative side divided by itself": rule(direct=True),
        "negative side is the positive one": _first(np.abs, rule()),
        "one saturates at 2**14 - 1": _then(rule(), _clamp(0, (1 << 14) - 1)),
    }


def _isqrt(_: Operator) -> Mutants:
    def rounded_up(n: Int64) -> Int64:
        return isqrt(n) + (isqrt(n) ** 2 < n)

    def from_below(n: Int64) -> Int64:
        bits = np.array([int(value).bit_length() for value in n], np.int64)
        x = np.int64(1) << bits // 2  # one bit short for odd widths
        while True:
            lower = (x + n // np.maximum(x, 1)) >> 1
            if not (lower < x).any():
                return x
            x = np.minimum(lower, x)

    return {
        CONTROL: isqrt,
        **{f"{updates} updates": _newton(updates) for updates in (3, 4, 5, 8, 20)},
        "starts from 2**floor(bits / 2)": from_below,
        "float32 square root": _float_sqrt(np.float32),
        "float64 square root": _float_sqrt(np.float64),
        "rounded to nearest": _nearest_sqrt,
        "rounded up": rounded_up,
        "input wraps at 32 bits": _first(_wrap(32, signed=False), isqrt),
        "input saturates at 32 bits": _first(_clamp(0, (1 << 32) - 1), isqrt),
        "result saturates at 16 bits": _then(isqrt, _clamp(0, 65_535)),
    }


def _softmax(operator: Operator) -> Mutants:
    profile = operator.profile
    (length,) = operator.size

    def rule(
        *,
        rounding: Rounding = profile.rounding,
        step_rounding: Rounding = profile.step_rounding,
        one: int = profile.softmax.one,
        by: int = 0,
        m: Narrow = _keep,
        x: Narrow = AS_INT16,
        narrow: Narrow = AS_UINT8,
        exp: Narrow | None = None,
        total: Narrow = _keep,
        difference: Narrow = _keep,
        mask_of: Narrow = _keep,
        in_maximum: bool = False,
        in_sum: bool = False,
        shown: bool = False,
        empty: int = 0,
        reciprocal: bool = False,
        maximum: bool = True,
    ) -> Evaluate:
        e_of = exp or _exp_rule(profile)

        def evaluate(acc: Int64, mask: Int64, multiplier: Int64, shift: Int64) -> Int64:
            acc, mask = acc.reshape(-1, length), mask_of(mask.reshape(-1, length))
            multiplier, shift = m(multiplier)[:, None], (shift + by).clip(0, 62)[:, None]
            seen = acc if in_maximum else np.where(mask, acc, -(1 << 33))
            peak = seen.max(axis=1, keepdims=True) if maximum else np.zeros_like(shift)
            d = np.where(mask != 0, difference(acc - peak), acc - peak).clip(-(1 << 31), 0)
            e = e_of(x(rounding_right_shift(d * multiplier, shift, rounding)).clip(INT16.min, 0))
            kept = np.where(mask, e, 0)
            sums = np.maximum(total((e if in_sum else kept).sum(axis=1, keepdims=True)), 1)
            numerator = e if shown else kept
            if reciprocal:  # I-BERT's code
                y = rounding_right_shift(numerator * ((1 << 32) // sums), 24, Rounding.FLOOR)
            else:
                y = rounding_divide(numerator * one, sums, step_rounding)
            return np.where(mask.any(axis=1, keepdims=True), narrow(y), empty)

        return evaluate

    return {
        CONTROL: rule(),
        **{f"rounding {other}": rule(rounding=other) for other in _others(profile.rounding)},
        **{f"step rounding {other}": rule(step_rounding=other) for other in _others(profile.step_rounding)},
        "scaled by the other of 255 and 256": rule(one=511 - profile.softmax.one),
        "256 wraps": rule(narrow=_wrap(8, signed=False)),
        "saturates at 127": rule(narrow=_clamp(0, 127)),
        "mask ignored": rule(mask_of=np.ones_like),
        "masked counted in the maximum": rule(in_maximum=True),
        "masked counted in the sum": rule(in_sum=True),
        "masked shown": rule(shown=True),
        "fully masked row is not 0": rule(empty=-(-profile.softmax.one // length)),
        "maximum not subtracted": rule(maximum=False),
        "difference wraps at 16 bits": rule(difference=_wrap(16)),
        "input of exp wraps": rule(x=_wrap(16)),
        "input of exp saturates at -2**12": rule(x=_clamp(-(1 << 12), 0)),
        "shift one too many": rule(by=1),
        "shift one too few": rule(by=-1),
        "16-bit multiplier": rule(m=lambda values: values >> 16 << 16),
        "sum wraps at 16 bits": rule(total=_wrap(16, signed=False)),
        "sum saturates at 16 bits": rule(total=_clamp(0, 65_535)),
        "exp shift one too many": rule(exp=_exp_rule(profile, by=1)),
        "reciprocal of 32 bits": rule(reciprocal=True),
    }


def _layer_norm(operator: Operator) -> Mutants:
    profile = operator.profile
    (channels,) = operator.size

    def rule(
        *,
        rounding: Rounding = profile.rounding,
        step_rounding: Rounding = profile.step_rounding,
        mean_rounding: Rounding = profile.rounding,
        centring: str = profile.layer_norm.centring,
        root: Root = isqrt,
        eps: Narrow = _keep,
        by: int = 0,
        m: Narrow = _keep,
        bias: Narrow = _keep,
        variance: Narrow = _keep,
        squares: Narrow = _keep,
        y_of: Narrow = _keep,
        fraction: int = profile.layer_norm.output_fraction,
        narrow: Narrow = AS_INT8,
        population: int = channels,
    ) -> Evaluate:
        def evaluate(x: Int64, multiplier: Int64, b: Int64, shift: Int64, epsilon: Int64) -> Int64:
            x, multiplier, b = (field.reshape(-1, channels) for field in (x, multiplier, b))
            total = x.sum(axis=1, keepdims=True)
            if centring == "exact":
                centred = channels * x - total
                v = channels * squares(x * x).sum(axis=1, keepdims=True) - total * total
                v = v * channels // population
            else:
                centred = x - rounding_divide(total, np.full_like(total, channels), mean_rounding)
                v = squares(centred * centred).sum(axis=1, keepdims=True) // population
            std = np.maximum(root(np.maximum(variance(v) + eps(epsilon)[:, None], 0).clip(0, (1 << 62) - 1)), 1)
            y = y_of(rounding_divide(centred << fraction, std, step_rounding))
            p = y * m(multiplier) + bias(b)
            return narrow(rounding_right_shift(p, (shift + by).clip(0, 62)[:, None], rounding))

        return evaluate

    def bias_late(x: Int64, multiplier: Int64, b: Int64, shift: Int64, epsilon: Int64) -> Int64:
        product_ = rule(bias=np.zeros_like, narrow=_keep)(x, multiplier, b, shift, epsilon)
        return AS_INT8(product_ + rounding_right_shift(b.reshape(-1, channels), shift[:, None], profile.rounding))

    other = {"exact": "rounded-mean", "rounded-mean": "exact"}[profile.layer_norm.centring]
    mutants: Mutants = {
        CONTROL: rule(),
        **{f"rounding {mode}": rule(rounding=mode) for mode in _others(profile.rounding)},
        **{f"step rounding {mode}": rule(step_rounding=mode) for mode in _others(profile.step_rounding)},
        f"centring {other}": rule(centring=other),
        "eps left out": rule(eps=np.zeros_like),
        "eps 1": rule(eps=np.ones_like),
        "variance over N - 1": rule(population=max(channels - 1, 1)),
        "5 updates of the square root": rule(root=_newton(5)),
        "20 updates of the square root": rule(root=_newton(20)),
        "float32 square root": rule(root=_float_sqrt(np.float32)),
        "square root rounded to nearest": rule(root=_nearest_sqrt),
        "variance wraps at 32 bits": rule(variance=_wrap(32)),
        "squares wrap at 16 bits": rule(squares=_wrap(16)),
        "normalised value wraps at 16 bits": rule(y_of=_wrap(16)),
        "normalised value saturates at 16 bits": rule(y_of=AS_INT16),
        "one fraction bit too few": rule(fraction=profile.layer_norm.output_fraction - 1),
        "result wraps": rule(narrow=_wrap(8)),
        "clamped to [-127, 127]": rule(narrow=_clamp(-127, 127)),
        "clamped to [0, 255]": rule(narrow=lambda y: _wrap(8)(y.clip(0, 255))),
        "bias left out": rule(bias=np.zeros_like),
        "bias rounded by itself": bias_late,
        "bias saturates at 32 bits": rule(bias=AS_INT32),
        "negative weight as positive": rule(m=np.abs),
        "16-bit weight": rule(m=lambda values: values >> 16 << 16),
        "shift one too many": rule(by=1),
        "shift one too few": rule(by=-1),
    }
    if profile.layer_norm.centring == "rounded-mean":
        mutants |= {f"mean rounding {mode}": rule(mean_rounding=mode) for mode in _others(profile.rounding)}
    return mutants


def _matmul(operator: Operator) -> Mutants:
    rows, columns, depth = operator.size

    def rule(
        *,
        x: Narrow = _keep,
        w: Narrow = _keep,
        bias: Narrow = _keep,
        depth_read: int = depth,
        product: Narrow = _keep,
        partial: Narrow = _keep,
        narrow: Narrow = _keep,
    ) -> Evaluate:
        def evaluate(a: Int64, b: Int64, c: Int64) -> Int64:
            a = x(a.reshape(-1, rows, 1, depth))
            b = w(b.reshape(-1, 1, columns, depth))
            acc: Int64 = np.zeros((len(a), rows, columns), np.int64)
            for k in range(depth_read):
                acc = partial(acc + product(a[..., k] * b[..., k]))
            return narrow(acc + bias(c.reshape(-1, 1, columns)))

        return evaluate

    def transposed(a: Int64, b: Int64, c: Int64) -> Int64:
        return rule()(a, b.reshape(-1, depth, columns).swapaxes(1, 2), c)

    return {
        CONTROL: rule(),
        "accumulator wraps at 16 bits": rule(partial=_wrap(16)),
        "accumulator saturates at 16 bits": rule(partial=AS_INT16),
        "accumulator wraps at 18 bits": rule(partial=_wrap(18)),
        "product wraps at 15 bits": rule(product=_wrap(15)),
        "product saturates at 15 bits": rule(product=_clip(IntRange(15))),
        "activations unsigned": rule(x=_wrap(8, signed=False)),
        "weights unsigned": rule(w=_wrap(8, signed=False)),
        "activation -128 as -127": rule(x=_clamp(-127, 127)),
        "weight -128 as -127": rule(w=_clamp(-127, 127)),
        "weight -128 as 0": rule(w=lambda w: np.where(w == -128, 0, w)),
        "last product left out": rule(depth_read=depth - 1),
        "first product only": rule(depth_read=1),
        "bias left out": rule(bias=np.zeros_like),
        "bias of 16 bits": rule(bias=_wrap(16)),
        "bias of the next column": rule(bias=lambda c: np.roll(c, 1, axis=-1)),
        "weights transposed": transposed,
        "result transposed": _then(rule(), lambda acc: acc.swapaxes(1, 2)),
        "result saturates at 24 bits": rule(narrow=_clip(IntRange(24))),
        "float32 accumulator": rule(narrow=lambda acc: acc.astype(np.float32).astype(np.int64)),
    }


def _quantize(_: Operator) -> Mutants:
    def real(bits: Int64) -> Any:
        return bits.astype(np.uint32).view(np.float32)

    def rule(
        *,
        round_: Callable[[Any], Any] = np.rint,
        quotient: Callable[[Any, Any], Any] = lambda x, s: x.astype(np.float64) / s,
        narrow: Narrow = AS_INT8,
        zero_point: Narrow = _keep,
        inside: bool = False,
        inner: Narrow = _keep,
    ) -> Evaluate:
        def evaluate(x: Int64, scale: Int64, zp: Int64) -> Int64:
            with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
                steps = np.nan_to_num(quotient(real(x), real(scale))).clip(-(2.0**40), 2.0**40)
            if inside:
                return narrow(round_(steps + zp).astype(np.int64))
            return narrow(inner(round_(steps).astype(np.int64)) + zero_point(zp))

        return evaluate

    def flushed(x: Any, scale: Any) -> Any:
        normal = np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x)
        return normal.astype(np.float64) / scale

    def reciprocal(x: Any, scale: Any) -> Any:
        return x * (np.float32(1) / scale)

    return {
        CONTROL: rule(),
        "rounding floor": rule(round_=np.floor),
        "rounding toward-zero": rule(round_=np.trunc),
        "rounding half-up": rule(round_=lambda y: np.floor(y + 0.5)),
        "rounding half-away": rule(round_=lambda y: np.sign(y) * np.floor(np.abs(y) + 0.5)),
        "zero point before rounding": rule(inside=True),
        "zero point left out": rule(zero_point=np.zeros_like),
        "zero point subtracted": rule(zero_point=np.negative),
        "saturated before the zero point too": rule(inner=AS_INT8),
        "result wraps": rule(narrow=_wrap(8)),
        "clamped to [-127, 127]": rule(narrow=_clamp(-127, 127)),
        "clamped to [-127, 126]": rule(narrow=_clamp(-127, 126)),
        "clamped to [0, 127]": rule(narrow=_clamp(0, 127)),
        "multiplied by the reciprocal": rule(quotient=reciprocal),
        "quotient in float32": rule(quotient=lambda x, s: x / s),
        "subnormals flushed to 0": rule(quotient=flushed),
        "integer wraps at 32 bits": rule(inner=_wrap(32)),
    }


BUILDERS: Final[Mapping[str, Callable[[Operator], Mutants]]] = {
    "requantize": _requantize,
    "add": _add,
    "exp": _exp,
    "softmax": _softmax,
    "gelu": _gelu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "isqrt": _isqrt,
    "layer_norm": _layer_norm,
    "matmul": _matmul,
    "quantize": _quantize,
}

# (operator, mutant, profile) -> why no vector can tell the mutant from the golden model
EVERY_INPUT: Final = "all inputs agree, and level 2 tries them all"
NEVER_NEGATIVE: Final = "dividend and divisor are never negative"
EQUIVALENT: Final[Mapping[tuple[str, str, str], str]] = {
    **{(operator, CONTROL, profile): "it is the golden model" for operator in OPERATORS for profile in NATIVE},
    ("requantize", "zero point before rounding", "intsim"): "half-up commutes with adding an integer",
    ("softmax", "step rounding half-away", "intsim"): NEVER_NEGATIVE,
    ("softmax", "step rounding toward-zero", "ibert"): NEVER_NEGATIVE,
    ("softmax", "256 wraps", "intsim"): "probabilities are at most 255",
    ("layer_norm", "variance wraps at 32 bits", "ibert"): "the variance of int16 codes is at most 2**30",
    **{
        (operator, mutant, profile): EVERY_INPUT
        for operator, profile, names in (
            ("exp", "intsim", ("rounding half-away", "rounding half-even", "q_c -1", "q_c +1", "quotient truncated")),
            ("exp", "ibert", ("rounding toward-zero", "quotient truncated")),
            ("gelu", "intsim", ("rounding half-away", "rounding half-even", "q_1 +1", "q_c -1", "sign of 0 is +1")),
            ("gelu", "intsim", ("result saturates at 16 bits", "result wraps at 16 bits")),
            ("gelu", "ibert", ("sign of 0 is +1",)),
            ("tanh", "intsim", ("rounding half-away", "rounding half-even", "rounded after the sign")),
            ("tanh", "ibert", ("rounding toward-zero",)),
            ("sigmoid", "intsim", ("rounding half-away", "rounding half-even", "negative side divided by itself")),
            ("sigmoid", "ibert", ("rounding toward-zero", "one saturates at 2**14 - 1")),
        )
        for mutant in names
    },
}


def mutants(operator: Operator) -> Mutants:
    """Return the evaluations of an operator's mutants, by name."""
    return BUILDERS[operator.name](operator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What one mutant's fate is: how many cases of a level catch it, or why none can."""

    operator: str
    mutant: str
    profile: str
    cases: int
    caught: int
    equivalent: str | None


def kill_matrix(profile: Profile, level: Level, *, seed: int = 1, names: tuple[str, ...] = ()) -> Iterator[Kill]:
    """Yield how many vectors of a level catch each mutant of each operator."""
    for name in names or tuple(OPERATORS):
        operator = bind(name, profile)
        broken = mutants(operator)
        caught = dict.fromkeys(broken, 0)
        cases = minimum(operator, level)
        for batch in generate(operator, seed=seed, level=level, cases=cases):
            expected = operator.results(batch)
            for mutant, evaluate in broken.items():
                caught[mutant] += int(
                    (replace(operator, evaluate=evaluate).results(batch) != expected).any(axis=1).sum()
                )
        for mutant, count in caught.items():
            yield Kill(
                operator=name,
                mutant=mutant,
                profile=profile.name,
                cases=cases,
                caught=count,
                equivalent=EQUIVALENT.get((name, mutant, profile.name)),
            )
