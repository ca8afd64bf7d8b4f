# SPDX-License-Identifier: Apache-2.0
"""Four units as an RTL engineer builds them from the published rules of profile ``intsim``, and what goes wrong there.

A unit reads the operands of text vectors case after case, keeps its registers from one to the next, and knows nothing
of intsim. ``BUGS`` has for each unit what was planted, and the names, as patterns, under which a diagnosis may tell it:
a register that is never cleared may have any width.
"""

from collections.abc import Callable, Iterator, Sequence
from math import isqrt
from typing import Any, Final, TypeAlias

Case: TypeAlias = dict[str, Any]  # operand -> its words
Unit: TypeAlias = Callable[[Sequence[Case], str], Iterator[list[int]]]

# exp of profile intsim: q_ln2, q_b, q_c, guard bits, output shift; LayerNorm's fraction bits
Q_LN2, Q_B, Q_C, GUARD, EXP_SHIFT, ONE = 11357, 22431, 260479546, 3, 14, 255
FRACTION: Final = 16


def half_up(n: int, shift: int) -> int:
    return n if shift == 0 else (n + (1 << shift - 1)) >> shift


def toward_zero(n: int, d: int) -> int:
    return abs(n) // d * (1 if n >= 0 else -1)


def wrap(n: int, bits: int) -> int:
    return (n + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def clamp(n: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, n))


def requantize(cases: Sequence[Case], bug: str) -> Iterator[list[int]]:
    before = 0
    for case in cases:
        acc, m, t, zero_point = case["acc"], case["multiplier"], case["shift"], case["zero_point"]
        if bug == "accumulator bus of 28 bits":
            acc = wrap(acc, 28)
        product = acc * m
        if bug == "product bus of 56 bits":
            product = wrap(product, 56)
        y = half_up(product, t)
        if bug == "ties away from zero":
            y = half_up(abs(product), t) * (1 if product >= 0 else -1)
        if bug == "bits cut off":
            y = product >> t
        if bug == "half added, quotient by /":
            y = toward_zero(product + (1 << t >> 1), 1 << t)
        if bug == "zero point forgotten":
            zero_point = 0
        y += zero_point
        out = wrap(y, 8) if bug == "no saturation" else clamp(y, 8)
        if bug == "symmetric clamp":
            out = max(out, -127)
        yield [before if bug == "output register one cycle behind" else out]
        before = out


def exponential(x: int) -> int:
    q = x << GUARD
    z = -q // Q_LN2
    return half_up((q + z * Q_LN2 + Q_B) ** 2 + Q_C, z + EXP_SHIFT)


def softmax(cases: Sequence[Case], bug: str) -> Iterator[list[int]]:
    peak, total, late = -(1 << 40), 0, [0] * 16
    for case in cases:
        acc, mask, m, t = case["acc"], case["mask"], case["multiplier"], case["shift"]
        if bug == "mask bits in the other order":
            mask = mask[::-1]
        if bug != "maximum kept from the last row":
            peak = -(1 << 40)
        for score, keep in zip(acc, mask, strict=True):
            if keep or bug == "masked scores enter the maximum":
                peak = max(peak, score)
        if bug == "difference bus of 20 bits":
            codes = [
                half_up(wrap(score - peak, 20) * m, t) if keep else 0 for score, keep in zip(acc, mask, strict=True)
            ]
            codes = [min(code, 0) for code in codes]
        else:
            codes = [half_up((score - peak) * m, t) if keep else 0 for score, keep in zip(acc, mask, strict=True)]
        e = [exponential(max(code, -(1 << 15))) if keep else 0 for code, keep in zip(codes, mask, strict=True)]
        if bug != "sum kept from the last row":
            total = 0
        for value in e:
            total += value
        if bug == "sum register of 19 bits":
            total %= 1 << 19
        d = max(total, 1)
        probs = [(2 * value * ONE + d) // (2 * d) for value in e]
        if bug == "quotient truncated":
            probs = [value * ONE // d for value in e]
        if bug == "reciprocal of 20 bits, truncated":
            probs = [value * ONE * ((1 << 20) // d) >> 20 for value in e]
        probs = [min(p, 255) for p in probs]
        if bug == "lanes out in the other order":
            probs.reverse()
        if bug == "row register one row behind":
            probs, late = late, probs
        yield probs


def layer_norm(cases: Sequence[Case], bug: str) -> Iterator[list[int]]:
    total = squares = 0
    late = [0] * 16
    for case in cases:
        x, n = case["x"], len(case["x"])
        if bug != "sum not cleared":
            total = 0
        if bug != "sum of squares not cleared":
            squares = 0
        for value in x:
            total += value
            squares += value * value
        if bug == "squares summed in 33 bits":
            squares %= 1 << 33
        variance = max(n * squares - total * total, 0) + (0 if bug == "eps not wired" else case["eps"])
        root = max(isqrt(variance), 1)
        if bug == "root stops one bit early":
            root = max(isqrt(variance) >> 1 << 1, 1)
        if bug == "root rounded":
            root = max(root + (variance - root * root > root), 1)
        out = []
        for j, value in enumerate(x):
            dividend = (n * value - (0 if bug == "mean not taken off" else total)) << FRACTION
            y = (2 * dividend + root) // (2 * root)
            if bug == "half added, quotient by /":
                y = toward_zero(dividend + root // 2, root)
            if bug == "normalised value of 17 bits":
                y = clamp(y, 17)
            bias = case["bias"][j]
            if bug == "bias bus of 32 bits":
                bias = wrap(bias, 32)
            if bug == "bias one channel off":
                bias = case["bias"][(j + 1) % n]
            out.append(clamp(half_up(y * case["multiplier"][j] + bias, case["shift"]), 8))
        if bug == "row register one row behind":
            out, late = late, out
        yield out


def matmul(cases: Sequence[Case], bug: str) -> Iterator[list[int]]:
    kept = [[0] * 4 for _ in range(4)]
    for case in cases:
        x = [case["x"][i * 16 : i * 16 + 16] for i in range(4)]
        w = [case["w"][i * 16 : i * 16 + 16] for i in range(4)]
        if bug == "bytes of each 32-bit word swapped":
            x = [[row[k ^ 3] for k in range(16)] for row in x]
        if bug == "operands wired the other way round":
            x, w = w, x
        last = 12 if bug == "last tile of 4 not fetched" else 16
        out = []
        for i in range(4):
            for j in range(4):
                acc = case["bias"][j]
                if bug == "tile accumulators not cleared":
                    acc += kept[i][j]
                for k in range(last):
                    a = x[i][k] % 256 if bug == "activations zero-extended" else x[i][k]
                    acc += a * w[j][k]
                    if bug == "accumulator of 21 bits":
                        acc = wrap(acc, 21)
                    if bug == "accumulator saturates at 19 bits":
                        acc = clamp(acc, 19)
                if bug == "bias forgotten":
                    acc -= case["bias"][j]
                kept[i][j] = acc = wrap(acc, 32)
                out.append(acc)
        if bug == "result columns reversed":
            out = [out[4 * i + 3 - j] for i in range(4) for j in range(4)]
        yield out


UNITS: Final[dict[str, Unit]] = {
    "requantize": requantize,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "matmul": matmul,
}
BUGS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "requantize": {
        "ties away from zero": ("rounding half-away",),
        "bits cut off": ("rounding floor",),
        "half added, quotient by /": ("half added, then truncated",),
        "zero point forgotten": ("zero point left out",),
        "no saturation": ("result wraps",),
        "symmetric clamp": (r"clamped to \[-127, 127\]",),
        "accumulator bus of 28 bits": ("accumulator wraps at 28 bits",),
        "product bus of 56 bits": ("product wraps at 56 bits",),
        "output register one cycle behind": ("one row late",),
    },
    "softmax": {
        "mask bits in the other order": ("mask lanes reversed",),
        "maximum kept from the last row": ("maximum not cleared between rows",),
        "masked scores enter the maximum": ("masked positions in the maximum",),
        "difference bus of 20 bits": ("difference wraps at 20 bits",),
        "sum kept from the last row": (r"sum of \d+ bits not cleared between rows",),
        "sum register of 19 bits": ("sum wraps at 19 unsigned bits",),
        "quotient truncated": ("probabilities: rounding floor", "probabilities: rounding toward-zero"),
        "reciprocal of 20 bits, truncated": ("reciprocal of 20 bits",),
        "lanes out in the other order": ("lanes reversed",),
        "row register one row behind": ("one row late",),
    },
    "layer_norm": {
        "sum not cleared": (r"sum of \d+ bits not cleared between rows",),
        "sum of squares not cleared": (r"sum of squares of \d+ bits not cleared between rows",),
        "squares summed in 33 bits": ("sum of squares wraps at 33 unsigned bits",),
        "eps not wired": ("eps left out",),
        "root stops one bit early": ("last bit of the square root left out",),
        "root rounded": ("square root rounded to nearest",),
        "mean not taken off": ("mean not subtracted",),
        "half added, quotient by /": ("division: half added, then truncated",),
        "normalised value of 17 bits": ("normalised value saturates at 17 bits",),
        "bias bus of 32 bits": ("bias wraps at 32 bits",),
        "bias one channel off": ("bias of the next channel",),
        "row register one row behind": ("one row late",),
    },
    "matmul": {
        "bytes of each 32-bit word swapped": ("lanes of each word of 4 of one operand reversed",),
        "operands wired the other way round": ("operands exchanged",),
        "last tile of 4 not fetched": ("last tile of 4 products left out",),
        "tile accumulators not cleared": ("accumulator not cleared between tiles",),
        "activations zero-extended": ("activations read as unsigned",),
        "accumulator of 21 bits": ("accumulator wraps at 21 bits",),
        "accumulator saturates at 19 bits": ("partial sums from the bias saturate at 19 bits",),
        "bias forgotten": ("bias left out",),
        "result columns reversed": ("lanes reversed",),
    },
}
