# SPDX-License-Identifier: Apache-2.0
"""Every bug that is planted, by operator and place, and what diagnose calls it."""

from typing import Final

# What diagnose calls each change, alternatives separated by " | ". A name is there only if it is the same change, or
# the same function on all that the operator can meet there.
ROUNDING: Final = {
    "floor": "rounding floor",
    "ceiling": "rounding ceiling",
    "toward zero": "rounding toward-zero",
    "half down": "rounding half-down",
    "half away": "rounding half-away",
    "half toward zero": "rounding half-toward-zero",
    "half even": "rounding half-even",
    "half odd": "rounding half-odd",
    "last bit set if inexact": "rounding to-odd",
}
QUOTIENT: Final = ROUNDING | {
    "reciprocal of 16 bits": "reciprocal of 16 bits",
    "reciprocal of 31 bits": "reciprocal of 31 bits",
    "rounded reciprocal of 16 bits": "reciprocal of 16 bits, rounded",
}
SHIFT: Final = {"one too far": "shift one too large", "one too short": "shift one too small"}
RANGE: Final = {
    "wraps": "result wraps",
    "no upper clamp": "not clamped above",
    "no lower clamp": "not clamped below",
    "symmetric": "clamped to [-{high}, {high}]",
    "lowest code too": "clamped to [{lowest}, {high}]",
    "upper clamp one too low": "clamped to [{low}, {under}]",
    "upper clamp one too high": "clamped to [{low}, {over}]",
    "negative clamped to 0": "clamped to [0, {high}]",
}
MULTIPLIER: Final = {
    "24 bits truncated": "multiplier cut to 24 bits",
    "16 bits rounded": "multiplier of 16 bits",
    "16 bits truncated": "multiplier cut to 16 bits",
    "15 bits rounded": "multiplier of 15 bits",
    "8 bits rounded": "multiplier of 8 bits",
    "8 bits truncated": "multiplier cut to 8 bits",
}
OTHER_CHANNEL: Final = {
    "channel 0": "multiplier of channel 0",
    "next channel": "multiplier of the next channel",
}


def prefixed(prefix, names):
    return {change: prefix + name for change, name in names.items()}


def registers(name, *changes):
    return {change: f"{name} {change}" for change in changes}


SQUARE: Final = ("wraps at 16 bits", "saturates at 16 bits", "wraps at 16 unsigned bits")
AT_16_BITS: Final = ("wraps at 16 bits", "saturates at 16 bits")
AT_32_BITS: Final = ("wraps at 32 bits", "saturates at 32 bits")
EXP: Final = {
    "polynomial": {"of the paper": "exp: polynomial of profile ibert"},
    "constants": {"floor": "exp: constants rounded floor", "ceiling": "exp: constants rounded ceiling"},
    "guard_bits": {"left out": "exp: guard bits left out"},
    "exp_shift": prefixed("exp: ", SHIFT),
    "exp_rounding": prefixed("exp: ", {c: ROUNDING[c] for c in ("floor", "ceiling", "half down", "half even")}),
    "exp": registers("exp: result", *AT_16_BITS),
    "z": {
        "half up": "exp: quotient rounded to nearest",
        "ceiling": "exp: quotient rounded up",
        "at most 15": "exp: shift at most 15",
        "modulo 16": "exp: shift modulo 16",
        "one too large": "exp: shift one too large",
    },
    "square": registers("exp: square", *SQUARE),
    "q_c": {"left out": "exp: q_c left out"},
}
BUGS: Final = {
    "requantize": {
        "rounding": ROUNDING,
        "shift": {**SHIFT, "channel 0": "shift of channel 0"},
        "multiplier": {**MULTIPLIER, **OTHER_CHANNEL},
        "arithmetic": {
            "two roundings": "two roundings (TFLite)",
            "two roundings, ties up": "two roundings, both half-up",
            "lower half dropped": "low 31 bits dropped first",
            "half added twice": "rounding one too high",  # (n + d) // d
            "float32": "float32 arithmetic",
            "magnitude, then sign": "rounding half-away",
        },
        "accumulator": registers("accumulator", *AT_16_BITS, "wraps at 24 bits"),
        "product": registers("product", *AT_32_BITS, "wraps at 48 bits"),
        "zero_point": {
            "left out": "zero point left out",
            "subtracted": "zero point subtracted",
            "added to the product": "zero point in the product",
            "added to the accumulator": "zero point in the accumulator",
            "added after the clamp": "zero point after saturation",
            "clamped before and after": "saturated before the zero point too",
        },
        "range": RANGE,
    },
    "add": {
        "rounding": ROUNDING,
        "shift": SHIFT,
        "multiplier": {
            "24 bits truncated": "multiplier cut to 24 bits",
            "16 bits rounded": "multiplier of 16 bits",
            **OTHER_CHANNEL,
        },
        "ratios": {"of the first for all": "first multiplier for all", "swapped": "multipliers exchanged"},
        "operands": {
            "each rounded": "rounded each",
            "last left out": "operand {last} left out",
            "last subtracted": "operand {last} subtracted",
        },
        "product": registers("product", *AT_32_BITS),
        "sum": registers("sum", *AT_32_BITS),
        "arithmetic": {"two roundings": "two roundings, at 15 bits"},
        "zero_point": {
            "left out": "zero point left out",
            "subtracted": "zero point subtracted",
            "added once per operand": "zero point once per operand",
            "added after the clamp": "zero point after saturation",
        },
        "range": RANGE,
    },
    "matmul": {
        "x": {"signedness mistaken": "activations read as unsigned | activations read as signed"},
        "w": {
            "signedness mistaken": "weights read as unsigned",
            "transposed": "weights transposed",
            "negative codes one too high": "negative weights one too high",
        },
        "depth": {"last left out": "last product left out", "first left out": "first product left out"},
        "partial_sums": {
            "saturate at 16 bits": "partial sums saturate at 16 bits",
            "pairs saturate at 16 bits": "pairs of products saturate at 16 bits",
        },
        "bias": {
            "left out": "bias left out",
            "added twice": "bias added twice",
            "subtracted": "bias subtracted",
            "next channel": "bias of the next column",
            **registers("bias", *AT_16_BITS, "wraps at 8 bits"),
        },
        "accumulator": registers("accumulator", *AT_16_BITS, "wraps at 20 bits", "saturates at 20 bits"),
    },
    "softmax": {
        "mask": {
            "ignored": "mask left out",
            "not in the maximum": "masked positions in the maximum",
            "not in the sum": "masked positions in the sum",
            "not in the result": "masked positions not zeroed",
            "scores zeroed": "masked scores as 0",
            "one key too short": "last key masked",
        },
        "maximum": {
            "left out": "maximum not subtracted",
            "starts at 0": "maximum at least 0",
            "without the last key": "maximum without the last key",
        },
        "shift": SHIFT,
        "multiplier": {c: MULTIPLIER[c] for c in ("16 bits rounded", "16 bits truncated", "8 bits rounded")},
        "input_rounding": ROUNDING,
        "input": registers("input of exp", "wraps at 16 bits", "saturates at 15 bits", "saturates at 12 bits"),
        "sum": {
            **registers("sum", *SQUARE, "saturates at 18 bits", "saturates at 16 unsigned bits"),
            "without the last key": "sum without the last key",
        },
        "quotient": prefixed("probabilities: ", ROUNDING) | {c: QUOTIENT[c] for c in QUOTIENT.keys() - ROUNDING.keys()},
        "one": {"256": "one = 256", "254": "one = 254", "127": "one = 127"},
        "range": {"at most 127": "saturates at 127"},
        **EXP,
    },
    "gelu": {
        "polynomial": {"of the paper": "polynomial of profile ibert"},
        "constants": {"floor": "constants rounded floor", "ceiling": "constants rounded ceiling"},
        "clip": {"left out": "clip left out", "one too high": "clip one too high", "one too low": "clip one too low"},
        "sign": {"lost": "sign left out", "reversed": "sign reversed"},
        "q_1": {"left out": "q_1 left out"},
        "square": registers("square", *SQUARE),
        "input": registers("input", "wraps at 8 bits", "saturates at 12 bits"),
        "product": registers("product", *AT_32_BITS),
        "shift": SHIFT,
        "rounding": ROUNDING,
    },
    "tanh": {
        "input": registers("input", "wraps at 8 bits", "saturates at 12 bits"),
        "sign": {"lost": "sign left out", "before the division": "rounded after the sign"},
        "doubling": {"left out": "argument not doubled"},
        "one": {"nearest code of 1": "one the nearest code of 1"},
        "shift": {"one too far": "one fraction bit too few", "one too short": "one fraction bit too many"},
        "denominator": {"e alone": "denominator e alone"},
        "quotient": {c: QUOTIENT[c] for c in QUOTIENT if c != "toward zero"},  # as floor
        "range": registers("result", "wraps at 8 bits"),
        **EXP,
    },
    "layer_norm": {
        "sum": registers("sum", *AT_16_BITS) | {"without the last channel": "sum without the last channel"},
        "mean": {
            "left out": "sum left out",
            "floor": "mean rounded floor",
            "toward zero": "mean rounded toward-zero",
            "half up": "mean rounded half-up",
            "half even": "mean rounded half-even",
        },
        "centring": {"left out": "mean not subtracted", "of the paper": "rounded mean subtracted"},
        "squares": registers("sum of squares", *AT_32_BITS, "wraps at 32 unsigned bits"),
        "variance": {"about 0": "variance about 0", "over N - 1": "variance over N - 1"},
        "variance_register": registers(
            "variance", *AT_32_BITS, "wraps at 32 unsigned bits", "saturates at 32 unsigned bits"
        ),
        "eps": {"left out": "eps left out"},
        "root": {
            "ceiling": "square root rounded up",
            "nearest": "square root rounded to nearest",
            "one too large": "square root one too large",
            "float32": "float32 square root",
            "Newton, 2 steps": "2 Newton updates",
            "Newton, 3 steps": "3 Newton updates",
            "Newton, 4 steps": "4 Newton updates",
            "Newton from 2**16, 4 steps": "4 Newton updates from 2**16",
            "power of two": "square root to a power of two",
        },
        "quotient": prefixed("division: ", ROUNDING) | {c: QUOTIENT[c] for c in QUOTIENT.keys() - ROUNDING.keys()},
        "normalised": registers("normalised value", *AT_16_BITS, "saturates at 18 bits"),
        "weight": {
            "sign lost": "weight's sign dropped",
            "16 bits rounded": "multiplier of 16 bits",
            "8 bits rounded": "multiplier of 8 bits",
            **OTHER_CHANNEL,
        },
        "bias": {
            "left out": "bias left out",
            "next channel": "bias of the next channel",
            "subtracted": "bias subtracted",
            "rounded on its own": "bias rounded by itself",
        },
        "rounding": ROUNDING,
        "shift": SHIFT,
        "range": RANGE,
    },
}
