# SPDX-License-Identifier: Apache-2.0
"""Worked examples of every rule: operands chosen here, steps and results computed by the operators themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from intsim import ops
from intsim._trace import call, trace
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, isqrt, saturate
from intsim.kernels.rules import CodeSoftmax
from intsim.profile import Profile, Softmax
from intsim.requantization import Requantization

__all__ = ["Example", "evaluate", "examples"]

Word: TypeAlias = int | list[int]
Operands: TypeAlias = dict[str, Word]

WIDEST: Final = 88
CHANNELS: Final = 4  # of the rows of norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Operands, what happens inside, the result."""

    operands: Operands
    steps: Operands
    result: Operands

    def lines(self) -> list[str]:
        """Return the operands, the steps and the result, each in lines of its own."""
        ((name, word),) = self.result.items()
        return [*_lines(self.operands, ""), *_lines(self.steps, "    "), f"    -> {name} = {word}"]


def _lines(part: Operands, indent: str) -> list[str]:
    lines: list[str] = []
    for name, word in part.items():
        shown = f"{name} = {word}"
        if lines and len(f"{lines[-1]}, {shown}") <= WIDEST:
            lines[-1] += f", {shown}"
        else:
            lines.append(indent + shown)
    return lines


def examples(name: str, profile: Profile) -> list[Example]:
    """Return the worked examples of an operator."""
    return [evaluate(name, operands, profile) for operands in _operands(name, profile)]


def evaluate(name: str, operands: Operands, profile: Profile) -> Example:
    """Run an operator on operands by name."""
    with trace("steps") as recorded:
        result = call("it", _run, name, operands, profile)
    steps = {key.partition(":")[2].removeprefix("exp."): _words(value) for key, value in recorded.items() if ":" in key}
    return Example(operands=operands, steps=steps, result={RESULTS.get(name, "y"): _words(result)})


RESULTS: Final = {"matmul": "acc", "exp": "e", "softmax": "probs", "isqrt": "root"}


def _words(values: Any) -> Word:
    flat: list[int] = np.asarray(values).reshape(-1).tolist()
    return flat[0] if len(flat) == 1 else flat


def _run(name: str, operands: Mapping[str, Word], profile: Profile) -> Any:
    a: dict[str, Any] = {key: np.array(word, np.int64).reshape(-1) for key, word in operands.items()}
    match name:
        case "matmul":
            x, w = (saturate(a[key], INT8).reshape(-1, a["depth"][0]) for key in ("x", "w"))
            return ops.matmul(x, w, bias=a["stored_bias"])
        case "requantize":
            ratio = Dyadic(a["multiplier"], a["shift"])
            return ops.requantize(
                a["acc"], ratio, to=INT8, rounding=profile.requantization, zero_point=int(a["zero_point"][0])
            )
        case "add":
            ratios = [Dyadic(a[f"multiplier_{k}"], a[f"shift_{k}"]) for k in (1, 2)]
            return ops.add([a["x_1"], a["x_2"]], ratios, to=INT16, profile=profile, zero_point=int(a["zero_point"][0]))
        case "multiply":
            zeros: dict[str, Any] = {key: int(a[key][0]) for key in ("a_zero_point", "b_zero_point", "zero_point")}
            first, second = (saturate(a[key], INT16) for key in ("a", "b"))
            ratio = Dyadic(a["multiplier"], a["shift"])
            return ops.multiply(first, second, ratio, to=INT16, rounding=profile.rounding, **zeros)
        case "rotary":
            x, cos, sin = (saturate(a[key], INT16).reshape(1, 1, -1) for key in ("x", "cos", "sin"))
            pairing = "neighbours" if operands["neighbours"] else "halves"
            return ops.rotary(x[None], cos, sin, pairing=pairing, rounding=profile.rounding)
        case "softmax":
            ratio = Dyadic(int(a["multiplier"][0]), int(a["shift"][0]))
            return ops.softmax(saturate(a["acc"], INT32), ratio, profile=profile, mask=a["mask"] == 1)
        case "gelu" if not hasattr(profile.gelu, "output_shift"):
            return ops.gelu(saturate(a["x"], profile.gelu.input_range), profile=profile)
        case "exp" | "gelu" | "tanh" | "sigmoid" | "silu":
            return getattr(ops, name)(saturate(a["x"], INT16), profile=profile)
        case "isqrt":
            return isqrt(a["n"])
        case _:  # layer_norm, rms_norm
            shift = np.repeat(a["shift"], len(a["x"]))
            params = ops.LayerNormParams(weight=Dyadic(a["multiplier"], shift), bias=a["bias"], eps=int(a["eps"][0]))
            codes = INT16 if name == "layer_norm" else INT32
            return getattr(ops, name)(saturate(a["x"], codes)[None], params, to=INT8, profile=profile)


def _operands(name: str, profile: Profile) -> Sequence[Operands]:
    match name:
        case "requantize":
            return _requantizations(profile.requantization)
        case "softmax":
            return _rows(profile)
        case "gelu":
            byte = profile.gelu.input_range == INT8
            rows = (
                ([-100, -7, 0, 20, 127], [1, -1, 2, -2], [-128, 64])
                if byte
                else ([-3000, -1, 0, 512, 30000], [1, -1, 2, -2], [-32768, 1024])
            )
            return [{"x": list(row)} for row in rows]
        case "layer_norm":
            return _norms(profile, [[1000, 2000, 3000, 6000], [-5, 905, 1, -901], [4096, -4096, 4095, -32768]])
        case "rms_norm":
            return _norms(profile, [[1000, 2000, -3000, 6000], [100000, -1, 65535, -2000000], [0, 0, 0, 0]])
        case _:
            return FIXED[name]


def _requantizations(rule: Requantization) -> list[Operands]:
    scale = rule.ratio(0.75), rule.ratio(1583594044 / 2**40)
    m, t = (int(part) for part in (scale[0].multiplier, scale[0].shift))
    n, u = (int(part) for part in (scale[1].multiplier, scale[1].shift))
    return [
        {"acc": -10, "multiplier": m, "shift": t, "zero_point": 0},  # -7.5, a negative tie
        {"acc": 7984, "multiplier": n, "shift": u, "zero_point": 3},  # 11.499: two roundings give 12
        {"acc": 5000, "multiplier": m, "shift": t, "zero_point": -100},  # saturates, after the zero point
        {"acc": -3, "multiplier": 5, "shift": 0, "zero_point": 1},  # shift 0: nothing is dropped, nothing is added
    ]


def _rows(profile: Profile) -> list[Operands]:
    shift = 1 if isinstance(profile.softmax, Softmax) else 4 if isinstance(profile.softmax, CodeSoftmax) else 6
    ratio: Operands = {"multiplier": 96, "shift": shift}
    return [
        {"acc": [40, 25, 1, -90], "mask": [1, 1, 1, 1], **ratio},
        {"acc": [25, 40, 1, -90], "mask": [1, 0, 1, 1], **ratio},  # the largest is masked
        {"acc": [30000, 0, 0, 0], "mask": [1, 1, 1, 0], **ratio},  # one takes all
        {"acc": [3, 2, 1, 0], "mask": [0, 0, 0, 0], **ratio},  # nothing counts
    ]


def _norms(profile: Profile, rows: list[list[int]]) -> list[Operands]:
    unit = float(profile.layer_norm.squared_unit(CHANNELS)) ** 0.5
    weight = Dyadic.from_real(np.array([40.0, -40.0, 40.0, 40.0]) * unit)
    shift = int(weight.shift[0])
    bias = [code << shift for code in (0, -5, 10, -128)]
    constants: Operands = {"multiplier": weight.multiplier.tolist(), "bias": bias, "shift": shift, "eps": 16}
    return [{"x": row, **constants} for row in rows]


FIXED: Final[Mapping[str, Sequence[Operands]]] = {
    "matmul": [
        {"x": [1, -2, 3, 127, -128, 5], "w": [7, 0, -7, -127, 127, 2], "depth": 3, "stored_bias": [1000, -1000]},
        # zero point 3 of x: its bias is [20, -4] less 3 times the row sums [0, 2] of w
        {"x": [3, 4, 2], "w": [7, 0, -7, -127, 127, 2], "depth": 3, "stored_bias": [20, -10]},
        {"x": [-128, -128], "w": [-128, -128], "depth": 2, "stored_bias": [0]},
    ],
    "add": [
        {
            "x_1": 1,
            "x_2": 1,
            **dict.fromkeys(("multiplier_1", "multiplier_2", "shift_1", "shift_2"), 1),
            "zero_point": 0,
        },
        {
            "x_1": -3,
            "x_2": 0,
            **dict.fromkeys(("multiplier_1", "multiplier_2", "shift_1", "shift_2"), 1),
            "zero_point": 0,
        },
        {
            "x_1": 30000,
            "x_2": -100,
            "multiplier_1": 805306368,
            "multiplier_2": 536870913,
            "shift_1": 29,
            "shift_2": 29,
            "zero_point": -7,
        },
    ],
    "multiply": [
        {"a": -3, "b": 5, "multiplier": 1, "shift": 1, "a_zero_point": 0, "b_zero_point": 0, "zero_point": 0},
        {"a": 100, "b": -7, "multiplier": 3, "shift": 3, "a_zero_point": 2, "b_zero_point": -1, "zero_point": 4},
        {"a": 32767, "b": 32767, "multiplier": 1, "shift": 10, "a_zero_point": 0, "b_zero_point": 0, "zero_point": 0},
    ],
    "rotary": [
        {"x": [100, 200, 300, 400], "cos": [16384, 0], "sin": [0, 16384], "neighbours": 0},
        {"x": [1, -1, 1, 3], "cos": [8192, 8192], "sin": [8192, -8192], "neighbours": 1},
        {"x": [-32768, 7, -32768, 9], "cos": [11585], "sin": [-11585], "neighbours": 0},
    ],
    "exp": [{"x": 0}, {"x": -1420}, {"x": -12345}, {"x": -32768}],
    "tanh": [{"x": 0}, {"x": -4096}, {"x": 32767}],
    "sigmoid": [{"x": 0}, {"x": -2048}, {"x": 32767}],
    "silu": [{"x": 0}, {"x": -512}, {"x": 32767}],
    "isqrt": [{"n": 0}, {"n": 1105030547}, {"n": 67108865**2 - 1}],
}
