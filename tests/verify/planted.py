# SPDX-License-Identifier: Apache-2.0
"""A device with bugs: the operators of profile ``intsim`` once more, on Python integers, and what a chip gets wrong.

Written from the definitions alone. Arrays hold Python integers, so nothing overflows unless a bug says so. A bug is a
``place`` in an operator and the ``change`` made there; every place is a ``bug.at(place)`` in the formula it belongs to.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from verify.planted_nonlinear import gelu, layer_norm, softmax, tanh
from verify.planted_parts import NONE, Bug, divided, integers, register, scaled, stored


def requantize(acc: Any, ratio: Any, *, to: Any, rounding: Any, zero_point: int = 0, bug: Bug = NONE) -> Any:
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


def matmul(x_q: Any, w_q: Any, *, bias: Any = None, carrier: Any = None, bug: Bug = NONE) -> Any:
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
