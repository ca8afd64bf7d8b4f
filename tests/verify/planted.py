# SPDX-License-Identifier: Apache-2.0
"""A device with bugs: the operators of profile ``intsim`` once more, on Python integers, and what a chip gets wrong.

Written from the definitions alone. Arrays hold Python integers, so nothing overflows unless a bug says so. A bug is a
``place`` in an operator and the ``change`` made there; every place is a ``bug.at(place)`` in the formula it belongs to.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np

LN2: Final = Fraction("0.69314718055994530941723212145817656808")
SQRT2: Final = Fraction("1.41421356237309504880168872420969807857")


class Bug(NamedTuple):
    """One change at one place of one operator."""

    place: str
    change: str

    def at(self, place: str, correct: str = "") -> str:
        return self.change if self.place == place else correct


NONE: Final = Bug("", "")


def _ties(up: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Round to nearest, ties raised where ``up(n, floor)``."""
    return lambda n, d: n // d + ((2 * (n % d) > d) | ((2 * (n % d) == d) & up(n, n // d)))


ROUNDINGS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "floor": lambda n, d: n // d,
    "ceiling": lambda n, d: -(-n // d),
    "toward zero": lambda n, d: np.sign(n) * (abs(n) // d),
    "half up": _ties(lambda _n, _floor: True),
    "half down": _ties(lambda _n, _floor: False),
    "half away": _ties(lambda n, _floor: n >= 0),
    "half toward zero": _ties(lambda n, _floor: n < 0),
    "half even": _ties(lambda _n, floor: floor % 2 == 1),
    "half odd": _ties(lambda _n, floor: floor % 2 == 0),
    "last bit set if inexact": lambda n, d: n // d + ((n % d != 0) & (n // d % 2 == 0)),
}
SHIFTS: Final = {"": 0, "one too far": 1, "one too short": -1}


def divided(n: Any, d: Any, rounding: str) -> Any:
    return ROUNDINGS[rounding](n, d)


def register(x: Any, change: str) -> Any:
    """Return what a register holds that "wraps at N bits" or "saturates at N unsigned bits"."""
    if not change:
        return x
    verb, _, bits, *unsigned, _ = change.split()
    size = 1 << int(bits)
    low = 0 if unsigned else -size // 2
    return (x - low) % size + low if verb == "wraps" else np.clip(x, low, low + size - 1)


def stored(x: Any, to: Any, change: str) -> Any:
    low, high, size = to.min, to.max, 1 << to.bits
    match change:
        case "wraps":
            return x
        case "no upper clamp":
            return np.maximum(x, low)
        case "no lower clamp":
            return np.minimum(x, high)
        case "symmetric":
            low = -high
        case "lowest code too":
            low = high + 1 - size
        case "upper clamp one too low":
            high -= 1
        case "upper clamp one too high":
            high += 1
        case "negative clamped to 0":
            low = 0
    return np.clip(x, low, high)


def narrow_multiplier(m: Any, change: str) -> Any:
    """Keep the upper bits of a 31-bit multiplier, or take another channel's."""
    match change.split():
        case [bits, "bits", how]:
            drop = 31 - int(bits)
            return divided(m, 1 << drop, {"rounded": "half up", "truncated": "floor"}[how]) << drop
        case ["channel", "0"]:
            return np.full_like(m, m.flat[0])
        case ["next", "channel"]:
            return np.roll(m, -1)
    return m


def scaled(x: Any, ratio: Any, bug: Bug) -> tuple[Any, Any]:
    """Return the product of x and the multiplier, and the divisor that it still wants."""
    m = narrow_multiplier(integers(ratio.multiplier), bug.at("multiplier"))
    shift = integers(ratio.shift) + SHIFTS.get(bug.at("shift"), 0)
    if bug.at("shift") == "channel 0":
        shift = integers(ratio.shift).flat[0]
    return register(register(x, bug.at("accumulator")) * m, bug.at("product")), 2**shift


def integers(x: Any) -> Any:
    return np.asarray(x).astype(object)


def requantize(acc: Any, ratio: Any, *, to: Any, rounding: Any, zero_point: int = 0, bug: Bug = NONE) -> Any:  # noqa: PLR0912  a branch per bug
    del rounding  # half up, by the profile
    product, divisor = scaled(integers(acc), ratio, bug)
    mode = bug.at("rounding", "half up")
    match bug.at("arithmetic"):
        case "two roundings":
            y = divided(divided(product, 2**31, "half up"), divisor // 2**31, "half away")
        case "two roundings, ties up":
            y = divided(divided(product, 2**31, "half up"), divisor // 2**31, "half up")
        case "lower half dropped":
            y = divided(product // 2**31, divisor // 2**31, "half up")
        case "half added twice":
            y = (product + divisor) // divisor
        case "float32":
            factor = np.asarray(integers(ratio.multiplier) / divisor).astype(np.float32)
            y = integers(np.rint(acc.astype(np.float32) * factor).astype(np.int64))
        case "magnitude, then sign":
            y = np.sign(product) * divided(abs(product), divisor, mode)
        case _:
            y = divided(product, divisor, mode)
    match bug.at("zero_point"):
        case "left out":
            pass
        case "subtracted":
            y = y - zero_point
        case "added to the product":
            y = divided(product + zero_point, divisor, mode)
        case "added to the accumulator":
            y = divided(product + zero_point * integers(ratio.multiplier), divisor, mode)
        case "added after the clamp":
            y = register(np.clip(y, to.min, to.max) + zero_point, f"wraps at {to.bits} bits")
        case "clamped before and after":
            y = np.clip(y, to.min, to.max) + zero_point
        case _:
            y = y + zero_point
    return stored(y, to, bug.at("range"))


def add(operands: Any, ratios: Any, *, to: Any, profile: Any, zero_point: int = 0, bug: Bug = NONE) -> Any:
    del profile
    mode = bug.at("rounding", "half up")
    if bug.at("ratios") == "of the first for all":
        ratios = [ratios[0]] * len(ratios)
    elif bug.at("ratios") == "swapped":
        ratios = [ratios[1], ratios[0], *ratios[2:]]
    if bug.at("operands") == "last left out":
        operands, ratios = operands[:-1], ratios[:-1]
    products, divisors = zip(*(scaled(integers(x), r, bug) for x, r in zip(operands, ratios, strict=True)), strict=True)
    products = np.broadcast_arrays(*products)
    divisor = divisors[0]
    match bug.at("operands"):
        case "each rounded":
            y = sum(divided(p, divisor, "half up") for p in products)
        case "last subtracted":
            y = divided(sum(products[:-1]) - products[-1], divisor, mode)
        case _:
            total = register(sum(products), bug.at("sum"))
            if bug.at("arithmetic") == "two roundings":
                total, divisor = divided(total, 2**15, "half up"), divisor // 2**15
            y = divided(total, divisor, mode)
    match bug.at("zero_point"):
        case "left out":
            pass
        case "subtracted":
            y = y - zero_point
        case "added once per operand":
            y = y + len(operands) * zero_point
        case "added after the clamp":
            y = register(np.clip(y, to.min, to.max) + zero_point, f"wraps at {to.bits} bits")
        case _:
            y = y + zero_point
    return stored(y, to, bug.at("range"))


def matmul(x_q: Any, w_q: Any, *, bias: Any = None, carrier: Any = None, bug: Bug = NONE) -> Any:  # noqa: PLR0912  a branch per bug
    del carrier
    x, w = x_q.astype(np.int64), w_q.astype(np.int64)
    depth = x.shape[-1]
    match bug.at("x"), bug.at("w"):
        case "signedness mistaken", _:
            x = np.where(x < 0, x + 256, x) if x_q.dtype == np.int8 else np.where(x > 127, x - 256, x)
        case _, "signedness mistaken":
            w = np.where(w < 0, w + 256, w)
        case _, "transposed":
            w = w.swapaxes(-1, -2) if w.shape[-1] == w.shape[-2] else w
        case _, "negative codes one too high":  # two's complement read as ones' complement
            w = np.where(w < 0, w + 1, w)
    terms = {"last left out": slice(depth - 1), "first left out": slice(1, depth)}.get(bug.at("depth"), slice(depth))
    x, w = x[..., terms], w[..., terms]
    match bug.at("partial_sums"):
        case "saturate at 16 bits":
            acc = np.zeros((*x.shape[:-1], w.shape[-2]), np.int64)
            for k in range(x.shape[-1]):
                acc = np.clip(acc + x[..., k, None] * w[..., None, :, k], -(2**15), 2**15 - 1)
        case "pairs saturate at 16 bits":  # unsigned x signed bytes on x86 without dot products
            offset = 128 if x_q.dtype == np.int8 else 0
            acc = np.zeros((*x.shape[:-1], w.shape[-2]), np.int64)
            for k in range(0, x.shape[-1], 2):
                pair = (x[..., k : k + 2] + offset) @ w[..., k : k + 2].swapaxes(-1, -2)
                acc += np.clip(pair, -(2**15), 2**15 - 1)
            acc -= offset * w.sum(axis=-1)[..., None, :]
        case _:
            acc = x @ w.swapaxes(-1, -2)
    if bias is not None:
        b = bias.astype(np.int64)
        match bug.at("bias"):
            case "left out":
                b = 0 * b
            case "added twice":
                b = 2 * b
            case "subtracted":
                b = -b
            case "next channel":
                b = np.roll(b, -1)
            case change:
                b = register(b, change)
        acc = acc + b
    return register(acc, bug.at("accumulator"))


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


def layer_norm(x_q: Any, params: Any, *, to: Any, profile: Any, bug: Bug = NONE) -> Any:  # noqa: PLR0912  a branch per bug
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
        case "of rounded units":
            variance = count**2 * ((count * squares - total**2) // count**2)
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


DEVICE: Final[dict[str, Callable[..., Any]]] = {
    "requantize": requantize,
    "add": add,
    "matmul": matmul,
    "softmax": softmax,
    "gelu": gelu,
    "tanh": tanh,
    "layer_norm": layer_norm,
}


def planted(call: Any, bug: Bug = NONE) -> Any:
    """Return the result of a recorded call on the device with ``bug``, in the bits of its dtype."""
    values = DEVICE[call.operator.__name__](*call.operands, **call.constants, bug=bug)
    bits = 8 * call.result.dtype.itemsize
    return (integers(values) % (1 << bits)).astype(f"u{bits // 8}").view(call.result.dtype)
