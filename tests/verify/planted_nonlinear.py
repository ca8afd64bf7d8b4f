# SPDX-License-Identifier: Apache-2.0
"""Softmax, GELU, tanh and LayerNorm of a device with bugs."""

import math
from fractions import Fraction
from typing import Any, Final

import numpy as np
from verify.planted_parts import (
    NONE,
    ROUNDINGS,
    SHIFTS,
    Bug,
    divided,
    integers,
    narrow_multiplier,
    register,
    scaled,
    stored,
)

LN2: Final = Fraction("0.69314718055994530941723212145817656808")
SQRT2: Final = Fraction("1.41421356237309504880168872420969807857")


def constant(value: Fraction, fraction: int, bug: Bug) -> int:
    return int(divided(math.floor(value * 2 ** (fraction + 40)), 2**40, bug.at("constants", "half up")))


def exp(x: Any, rule: Any, bug: Bug) -> Any:
    """Return e**x in codes, x <= 0, by range reduction to (-ln 2, 0] and a polynomial."""
    a, b, c = (Fraction(text) for text in (rule.a, rule.b, rule.c))
    if bug.at("polynomial") == "of the paper":
        a, b, c = Fraction("0.3585"), Fraction("1.353"), Fraction("0.344")
    guard = 0 if bug.at("guard_bits") == "left out" else rule.guard_bits
    fraction = rule.input_fraction + guard
    shift = rule.output_shift - 2 * (rule.guard_bits - guard) + SHIFTS[bug.at("exp_shift")]
    q_ln2 = constant(LN2, fraction, bug)
    q_b, q_c = constant(b, fraction, bug), constant(c / a, 2 * fraction, bug)
    q = x * 2**guard
    z = divided(-q, q_ln2, bug.at("z", "floor")) if bug.at("z") in {"", *ROUNDINGS} else -q // q_ln2
    p = q + z * q_ln2
    if bug.at("z") == "at most 15":
        z = np.minimum(z, 15)
    elif bug.at("z") == "modulo 16":
        z = z % 16
    elif bug.at("z") == "one too large":
        z = z + 1
    square = register((p + q_b) ** 2, bug.at("square"))
    polynomial = square + (0 if bug.at("q_c") == "left out" else q_c)
    return register(divided(polynomial, 2 ** (z + shift), bug.at("exp_rounding", "half up")), bug.at("exp"))


def quotient(n: Any, d: Any, bug: Bug) -> Any:
    match bug.at("quotient", "half up").split():
        case ["reciprocal", "of", bits, "bits"]:
            return (n * (2 ** int(bits) // d)) // 2 ** int(bits)
        case ["rounded", "reciprocal", "of", bits, "bits"]:
            return divided(n * divided(2 ** int(bits), d, "half up"), 2 ** int(bits), "half up")
        case mode:
            return divided(n, d, " ".join(mode))


def softmax(acc: Any, ratio: Any, *, profile: Any, mask: Any = None, bug: Bug = NONE) -> Any:
    scores = integers(acc)
    keep = np.ones(scores.shape, bool) if mask is None else np.broadcast_to(mask, scores.shape)
    everywhere = np.ones_like(keep)
    seen, summed, shown = keep, keep, keep
    match bug.at("mask"):
        case "ignored":
            seen, summed, shown = everywhere, everywhere, everywhere
        case "not in the maximum":
            seen = everywhere
        case "not in the sum":
            summed = everywhere
        case "not in the result":
            shown = everywhere
        case "scores zeroed":
            scores, seen, summed, shown = scores * keep, everywhere, everywhere, everywhere
        case "one key too short":
            seen = summed = shown = keep & np.roll(keep, -1, axis=-1)
    least = scores.min()
    top = np.where(seen, scores, least).max(axis=-1, keepdims=True)
    match bug.at("maximum"):
        case "starts at 0":
            top = np.maximum(top, 0)
        case "left out":
            top = 0 * top
        case "without the last key":
            top = np.where(seen, scores, least)[..., :-1].max(axis=-1, keepdims=True)
    product, divisor = scaled(scores - top, ratio, bug)
    x = divided(product, divisor, bug.at("input_rounding", "half up"))
    x = register(x, bug.at("input", "saturates at 16 bits"))
    e = exp(np.minimum(x, 0), profile.exp, bug)
    total = (e * summed).sum(axis=-1, keepdims=True)
    if bug.at("sum") == "without the last key":
        total = (e * summed)[..., :-1].sum(axis=-1, keepdims=True)
    elif bug.at("sum"):
        total = register(total, bug.at("sum"))
    total = np.where(total == 0, 1, total)  # the quotient of an empty sum is 0 / 1
    one = int(bug.at("one", str(profile.softmax.one)))
    probs = quotient(e * shown * one, total, bug)
    return np.clip(probs, 0, 127 if bug.at("range") == "at most 127" else 255)


def gelu(x_q: Any, *, profile: Any, bug: Bug = NONE) -> Any:
    rule = profile.gelu
    a, b = Fraction(rule.a), Fraction(rule.b)
    if bug.at("polynomial") == "of the paper":
        a, b = Fraction("-0.2888"), Fraction("-1.769")
    q_b = constant(b * SQRT2, rule.input_fraction, bug)
    q_1 = constant(2 / a, 2 * rule.input_fraction, bug)
    x = register(integers(x_q), bug.at("input"))
    clip = {"one too high": 1 - q_b, "one too low": -1 - q_b, "left out": 2**16}.get(bug.at("clip"), -q_b)
    square = register((np.minimum(abs(x), clip) + q_b) ** 2, bug.at("square"))
    sign = {"lost": np.ones_like(x), "reversed": -np.sign(x)}.get(bug.at("sign"), np.sign(x))
    erf = sign * (square + q_1)
    product = -x * (erf + (0 if bug.at("q_1") == "left out" else q_1))
    divisor = 2 ** (rule.output_shift + SHIFTS[bug.at("shift")])
    return divided(register(product, bug.at("product")), divisor, bug.at("rounding", "half up"))


def tanh(x_q: Any, *, profile: Any, bug: Bug = NONE) -> Any:
    x = register(integers(x_q), bug.at("input"))
    sign = {"lost": 1}.get(bug.at("sign"), np.sign(x))
    magnitude = abs(x) // 2 if bug.at("doubling") == "left out" else abs(x)
    one = exp(integers([0]), profile.exp, bug)
    e = exp(-magnitude, profile.exp, bug)
    if bug.at("one") == "nearest code of 1":
        one = divided(1 / profile.exp.output_scale, 1, "half up")
    numerator = (one - e) * 2 ** (profile.tanh.output_fraction - SHIFTS[bug.at("shift")])
    if bug.at("sign") == "before the division":
        return quotient(sign * numerator, one + e, bug)
    y = sign * quotient(numerator, e if bug.at("denominator") == "e alone" else one + e, bug)
    return register(y, bug.at("range", "saturates at 16 bits"))


def root(n: int, change: str) -> int:
    match change.split():
        case ["ceiling"]:
            return math.isqrt(n - 1) + 1
        case ["nearest"]:
            return math.isqrt(n) + (n - math.isqrt(n) ** 2 > math.isqrt(n))
        case ["one", "too", "large"]:
            return math.isqrt(n) + 1
        case ["float32"]:
            return int(np.sqrt(np.float32(n)))
        case ["Newton,", steps, "steps"]:
            x = 1 << -(-n.bit_length() // 2)
            for _ in range(int(steps)):
                x = (x + n // x) // 2
            return x
        case ["Newton", "from", "2**16,", steps, "steps"]:
            x = 1 << 16
            for _ in range(int(steps)):
                x = (x + n // x) // 2
            return x
        case ["power", "of", "two"]:
            return 1 << (math.isqrt(n).bit_length() - 1)
    return math.isqrt(n)


def layer_norm(x_q: Any, params: Any, *, to: Any, profile: Any, bug: Bug = NONE) -> Any:
    x = integers(x_q)
    count = x.shape[-1]
    summed = x[..., :-1] if bug.at("sum") == "without the last channel" else x
    total = summed.sum(axis=-1, keepdims=True)
    if bug.at("sum") and summed is x:
        total = register(total, bug.at("sum"))
    if bug.at("mean"):  # a mean of whole units
        total = count * (0 * total if bug.at("mean") == "left out" else divided(total, count, bug.at("mean")))
    centred = count * x - total
    squares = register((x**2).sum(axis=-1, keepdims=True), bug.at("squares"))
    match bug.at("variance"):
        case "about 0":
            variance = count * squares
        case "over N - 1":
            variance = (count * squares - total**2) * count // (count - 1)
        case _ if bug.at("mean"):
            variance = (centred**2).sum(axis=-1, keepdims=True) // count
        case _:
            variance = count * squares - total**2
    if bug.at("centring") == "of the paper":
        centred = x - divided(total, count, "half up")
        variance = (centred**2).sum(axis=-1, keepdims=True) // count
    variance = register(variance + (0 if bug.at("eps") == "left out" else params.eps), bug.at("variance_register"))
    std = np.frompyfunc(lambda n: max(root(max(n, 0), bug.at("root")), 1), 1, 1)(variance)
    fraction = profile.layer_norm.output_fraction
    numerator = count * x if bug.at("centring") == "left out" else centred
    y = register(quotient(numerator * 2**fraction, std, bug), bug.at("normalised"))
    m, bias = narrow_multiplier(integers(params.weight.multiplier), bug.at("weight")), integers(params.bias)
    if bug.at("weight") == "sign lost":
        m = abs(m)
    match bug.at("bias"):
        case "left out":
            bias = 0 * bias
        case "next channel":
            bias = np.roll(bias, -1)
        case "subtracted":
            bias = -bias
    divisor = 2 ** (integers(params.weight.shift) + SHIFTS[bug.at("shift")])
    mode = bug.at("rounding", "half up")
    if bug.at("bias") == "rounded on its own":
        return stored(divided(y * m, divisor, mode) + divided(bias, divisor, mode), to, bug.at("range"))
    return stored(divided(y * m + bias, divisor, mode), to, bug.at("range"))
