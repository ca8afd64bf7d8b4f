# SPDX-License-Identifier: Apache-2.0
"""The rules of a profile, one section each: what is computed, from what, how wide, and worked examples."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from intsim.fixedpoint import INT8, INT16, IntRange, Rounding
from intsim.profile import Gelu, LayerNorm, Profile, Softmax
from intsim.requantization import Requantization
from intsim.rounded import Rounded, RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh, table
from intsim.specification.borrowed import equations
from intsim.specification.document import Block, Code, Heading, Table, Text
from intsim.specification.examples import examples

__all__ = ["blocks"]

NAMES: Final = {
    Rounding.FLOOR: "FLR",
    Rounding.TOWARD_ZERO: "RTZ",
    Rounding.HALF_UP: "RHU",
    Rounding.HALF_AWAY: "RHA",
    Rounding.HALF_EVEN: "RHE",
}
MEANINGS: Final = {
    Rounding.FLOOR: "toward minus infinity",
    Rounding.TOWARD_ZERO: "toward zero",
    Rounding.HALF_UP: "to nearest, halves toward plus infinity",
    Rounding.HALF_AWAY: "to nearest, halves away from zero",
    Rounding.HALF_EVEN: "to nearest, halves to the even neighbour",
}
SHIFTS: Final = {
    Rounding.FLOOR: "p >>> t",
    Rounding.TOWARD_ZERO: "(p + (p < 0 ? 2**t - 1 : 0)) >>> t",
    Rounding.HALF_UP: "(p + 2**(t-1)) >>> t, and p itself for t = 0",
    Rounding.HALF_AWAY: "(p + 2**(t-1) - (p < 0 ? 1 : 0)) >>> t, and p itself for t = 0",
    Rounding.HALF_EVEN: "(p + 2**(t-1) - 1 + bit t of p) >>> t, and p itself for t = 0",
}
HALVES: Final = (-7, -5, -3, -1, 1, 3, 5, 7)


def blocks(profile: Profile, title: str) -> list[Block]:
    """Return the whole document."""
    return [
        Heading(1, title),
        Text(
            f"Version {profile.version}, SHA-256 `{profile.hash}`. All values are integers; `/` is exact, `>>>` an "
            "arithmetic shift, `**` a power, `sat` a clip into the range of the result. Every number here is "
            "computed from the profile; vectors of the same operators come from `intsim vectors gen OP`."
        ),
        Text(
            "In the examples of a rule the operands come first, then, moved in, what happens inside (`rounded` is "
            "before saturation, with the zero point), last the result."
        ),
        *_roundings(profile),
        *_formats(profile),
        *_matmul(profile),
        *_requantize(profile),
        *_add(profile),
        *_multiply(profile),
        *_rotary(profile),
        *_exp(profile),
        *_softmax(profile),
        *_gelu(profile),
        *_from_exp(profile),
        *_norms(profile),
    ]


def _examples(name: str, profile: Profile) -> Block:
    return Code([line for example in examples(name, profile) for line in example.lines()])


def _section(title: str, lines: Sequence[str], *rest: Block) -> Iterator[Block]:
    yield Heading(2, title)
    yield Code(lines)
    yield from rest


def _roundings(profile: Profile) -> Iterator[Block]:
    used = list(dict.fromkeys((profile.rounding, profile.step_rounding, profile.requantization.rounding)))
    yield Heading(2, "Rounding")
    yield Text(
        f"`R` is {NAMES[profile.rounding]}, {profile.rounding}: sums of several scales, what softmax reads and norms "
        f"write. `P` is {NAMES[profile.step_rounding]}, {profile.step_rounding}: everything else that drops bits, "
        f"constants among it. Requantization has its own, {NAMES[profile.requantization.rounding]}."
    )
    yield Table(
        ["rounding", "meaning", "of `p / 2**t` in hardware", *(f"{half}/2" for half in HALVES)],
        [
            [NAMES[mode], MEANINGS[mode], f"`{SHIFTS[mode]}`", *(_rounded(half, mode) for half in HALVES)]
            for mode in (*used, *([] if Rounding.FLOOR in used else [Rounding.FLOOR]))
        ],
    )
    yield Text(
        "A shift of 0 drops no bits: no half is added. The half of a shift by t is `2**(t-1)`, before the shift."
    )
    yield Text(
        "A quotient a / b with b > 0 has the same rules by its remainder: with q = floor(a / b) and r = a - q b, "
        "halves go up where 2 r >= b; away from zero where 2 r >= b for q >= 0 and 2 r > b for q < 0; to even where "
        "2 r > b, or 2 r = b and q is odd."
    )


def _rounded(half: int, mode: Rounding) -> int:
    floor = half >> 1
    up = {Rounding.FLOOR: 0, Rounding.TOWARD_ZERO: half < 0, Rounding.HALF_UP: 1, Rounding.HALF_AWAY: half > 0}
    return floor + int(up.get(mode, floor & 1))


def _range(codes: IntRange) -> str:
    return f"[{codes.min}, {codes.max}]"


def _formats(profile: Profile) -> Iterator[Block]:
    narrow = IntRange(8, narrow=True), IntRange(16, narrow=True)
    yield Heading(2, "Formats and layouts")
    yield Table(
        ["format", "range", "where"],
        [
            ["int8", _range(INT8), "activations whose recipe is asymmetric, results of the vectors"],
            [
                "int8, narrow",
                _range(narrow[0]),
                "weights, and activations whose recipe is symmetric: -128 does not occur",
            ],
            ["int16", _range(INT16), "inputs of functions, residuals; narrow where symmetric: " + _range(narrow[1])],
            [f"uint{profile.probability_range.bits}", _range(profile.probability_range), "probabilities"],
            ["int32", "[-2147483648, 2147483647]", "accumulators, which never wrap; biases"],
        ],
    )
    yield Text("Saturation is to the range of the result, a narrow one to its own limits, once, after the zero point.")
    for item in (
        (
            "An activation is (rows, channels), rows first. A weight is (N, K): a row an output channel, as in Hugging "
            "Face files."
        ),
        (
            "A stored bias holds the zero point of the input: "
            "`stored_bias[n] = bias[n] - x_zero_point * sum_k w[n][k]`, so that the codes are multiplied as "
            "they are, without subtracting it."
        ),
        "The bias of a norm holds the zero point of its result: `(beta / output_scale + zero_point) * 2**shift`.",
        (
            "Multipliers are per tensor or per output channel; a shift belongs to its multiplier. All channels of a "
            "norm, and all operands of a sum rounded once, share one shift."
        ),
        (
            "In a `$readmemh` file each field starts a word of its own, lane 0 in the lowest bits of its first word; a "
            "lane has 1, 8, 16, 32 or 64 bits, and one wider than a word has its low word first. Two's complement."
        ),
        (
            "In a text of vectors a case is a line: operands in the order of the header, then the result, each word in "
            "fixed-width lower-case hexadecimal, two's complement."
        ),
    ):
        yield Text(item, item=True)


def _matmul(profile: Profile) -> Iterator[Block]:
    yield from _section(
        "Matrix product (matmul)",
        [
            "acc[m][n] = sum_k x[m][k] * w[n][k] + stored_bias[n]",
            "x: int8 or uint8 (int16 for some recipes), w: int8, acc: int32; no rounding",
        ],
        Text(
            "int8 times int8 is at most `2**14` in magnitude: 131071 of them fit int32 with no bias. Converted models "
            "are checked for this, row by row. In the examples x, w and acc are rows first, of `depth` columns for x "
            "and w."
        ),
        _examples("matmul", profile),
    )


def _requantize(profile: Profile) -> Iterator[Block]:
    rule, mode = profile.requantization, NAMES[profile.requantization.rounding]
    m = f"m of {rule.multiplier_bits} bits"
    lines: list[str] = []
    if rule.accumulator_bits < 64:
        lines.append(f"acc is saturated to {rule.accumulator_bits} bits first")
    inside = " + zero_point" if rule.zero_point == "before" else ""
    after = "" if inside else " + zero_point"
    match rule.arithmetic:
        case "one-rounding":
            lines.append(f"y = sat({mode}(acc * multiplier / 2**shift{inside}){after})")
        case "two-roundings":
            lines += [
                "h = RHU(acc * multiplier / 2**min(shift, 31))",
                f"y = sat({mode}(h / 2**(shift - min(shift, 31)){inside}){after})",
            ]
        case "binary32":
            lines += [
                "p = RHE24(RHE24(acc) * multiplier), RHE24 to 24 significant bits, ties to even: float32 arithmetic",
                f"y = sat({mode}(p / 2**shift{inside}){after})",
            ]
    yield from _section(
        f"Requantization (requantize), rule {rule.name}",
        lines,
        Text(
            f"From a real ratio M of scales: {_multiplier_from(rule)}; {m}, so `2**{rule.multiplier_bits - 1} <= m < "
            f"2**{rule.multiplier_bits}` where the shift allows, `0 <= shift <= 62`."
        ),
        _widths(
            [
                ("acc", 32 if rule.accumulator_bits == 64 else rule.accumulator_bits, "signed"),
                ("multiplier", rule.multiplier_bits + 1, "signed; positive but for the weights of norms"),
                ("product and half", min(rule.accumulator_bits, 32) + rule.multiplier_bits + 1, "signed"),
            ]
        ),
        *(
            [
                Text(
                    "For ratios of at least `2**-29`: from shift 36 on, the circuit of ITA gives -1 for negative "
                    "products."
                )
            ]
            if rule.name == "ita"
            else []
        ),
        Text("The anchor: `7984 * 1583594044 / 2**40` is 11.499...; rounding in two steps gives 12."),
        _examples("requantize", profile),
    )


def _multiplier_from(rule: Requantization) -> str:
    match rule.multiplier_from:
        case "real":
            return "`m = floor(M * 2**shift + 1/2)`, renormalised if it reaches the next power of two"
        case "binary32":
            return "M is rounded to float32, whose significand is m"
        case _:
            return "the 31-bit multiplier of M, its low bits dropped half up, saturated instead of renormalised"


def _widths(rows: Sequence[tuple[str, int, str]]) -> Block:
    return Table(["signal", "bits", ""], rows)


def _add(profile: Profile) -> Iterator[Block]:
    mode = NAMES[profile.rounding]
    yield from _section(
        "Sum of several scales (add)",
        [
            f"y = sat({mode}((x_1 * multiplier_1 + x_2 * multiplier_2) / 2**shift) + zero_point)",
            "shift = shift_1 = shift_2",
        ]
        if profile.sum == "once"
        else [
            f"t_i = sat32({mode}(x_i * multiplier_i / 2**shift_i)), every operand by itself",
            "y = sat(t_1 + t_2 + zero_point)",
        ],
        Text(
            "Operands come without their zero points. "
            + (
                "Products are added, then rounded once; multipliers have 30 bits, so that two products of int32 fit "
                "63 bits."
                if profile.sum == "once"
                else "Every operand is rounded before the sum."
            )
        ),
        _examples("add", profile),
    )


def _multiply(profile: Profile) -> Iterator[Block]:
    mode = NAMES[profile.rounding]
    yield from _section(
        "Product of two activations (multiply)",
        [f"y = sat({mode}((a - a_zero_point) * (b - b_zero_point) * multiplier / 2**shift) + zero_point)"],
        _examples("multiply", profile),
    )


def _rotary(profile: Profile) -> Iterator[Block]:
    mode = NAMES[profile.rounding]
    yield from _section(
        "Rotary embedding (rotary)",
        [
            f"y_a = {mode}((x_a * cos - x_b * sin) / 2**14),   y_b = {mode}((x_b * cos + x_a * sin) / 2**14)",
            "pairs (a, b): k and k + R/2 of the first R channels (halves), or 2k and 2k + 1 (neighbours)",
            "the other channels pass",
        ],
        Text("x is int16, cos and sin int16 with 14 fraction bits, the sum has 32 bits. y is not saturated: 17 bits."),
        _examples("rotary", profile),
    )


def _table(function: Rounded, input_fraction: int, output_fraction: int) -> list[Block]:
    entries = table(function, input_fraction, output_fraction)
    digest = hashlib.sha256(entries.astype("<i4").tobytes()).hexdigest()
    order = "0, -1 ... -32768" if function == "exp" else "0 ... 32767, then of -32768 ... -1"
    return [
        Text(
            f"Correctly rounded: x is `x_q / 2**{input_fraction}`, y_q the integer nearest to the real value times "
            f"`2**{output_fraction}`. No value but that of x = 0 lies on a tie, so any arithmetic that is precise "
            f"enough gives the same table: {len(entries)} entries, of {order}, as little-endian int32 of SHA-256 "
            f"`{digest}`."
        )
    ]


def _exp(profile: Profile) -> Iterator[Block]:
    rule, mode = profile.exp, NAMES[profile.step_rounding]
    if isinstance(rule, RoundedExp):
        yield from _section(
            "Exponential (exp)",
            [f"e = nearest integer to exp(x / 2**{rule.input_fraction}) * 2**{rule.output_fraction}, -2**15 <= x <= 0"],
            *_table("exp", rule.input_fraction, rule.output_fraction),
            _examples("exp", profile),
        )
        return
    q_ln2, q_b, q_c = rule.constants(profile.step_rounding)
    most = (1 << 15 + rule.guard_bits) // q_ln2
    yield from _section(
        "Exponential (exp)",
        [
            f"-2**15 <= x <= 0, a code of 2**-{rule.input_fraction};   q = x * 2**{rule.guard_bits}",
            "z = floor(-q / q_ln2),   p = q + z * q_ln2",
            "polynomial = (p + q_b)**2 + q_c",
            f"e = {mode}(polynomial / 2**(z + {rule.output_shift}))",
        ],
        _constants(
            [
                ("q_ln2", f"`{mode}(ln 2 * 2**{rule.fraction})`", q_ln2),
                ("q_b", f"`{mode}({rule.b} * 2**{rule.fraction})`", q_b),
                ("q_c", f"`{mode}({rule.c} / {rule.a} * 2**{2 * rule.fraction})`", q_c),
            ]
        ),
        _widths(
            [
                ("q", 16 + rule.guard_bits, "signed"),
                ("z", most.bit_length(), f"0 ... {most}"),
                ("p", q_ln2.bit_length() + 1, "signed, -q_ln2 < p <= 0"),
                ("polynomial", (q_b**2 + q_c).bit_length(), "unsigned"),
                ("e", ((q_b**2 + q_c) >> rule.output_shift).bit_length(), "unsigned"),
            ]
        ),
        _examples("exp", profile),
    )


def _constants(rows: Sequence[tuple[str, str, int]]) -> Block:
    return Table(["constant", "is", "value"], rows)


def _softmax(profile: Profile) -> Iterator[Block]:
    rule, r, p = profile.softmax, NAMES[profile.rounding], NAMES[profile.step_rounding]
    masks = Text(
        "A masked position (mask = 0) counts in neither maximum nor sum, and its probability is 0; a row that is "
        "masked throughout is all 0. A row need not sum to one."
    )
    if not isinstance(rule, Softmax):
        yield from _section(
            f"Softmax (softmax), rule {rule.rule}", [*equations(rule)], masks, _examples("softmax", profile)
        )
        return
    yield from _section(
        "Softmax (softmax)",
        [
            "d_j = acc_j - max acc, the maximum over what is not masked;   d_j <= 0",
            f"x_j = max({r}(d_j * multiplier / 2**shift), -2**15),   e_j = exp(x_j)",
            f"probs_j = min({p}(e_j * {rule.one} / max(sum e, 1)), {rule.output_range.max})",
        ],
        masks,
        Text(
            f"A probability is a code of 1 / {rule.one}. `multiplier / 2**shift` is positive: the scale of the scores "
            "over the scale of x; 1 / sqrt(D) of attention is in it."
        ),
        _widths(
            [
                ("d", 33, "signed"),
                ("product", 64, "signed"),
                ("sum e", 24, "and log2 of the tokens more"),
                ("`e * one`", 24 + rule.one.bit_length(), "unsigned"),
            ]
        ),
        _examples("softmax", profile),
    )


def _gelu(profile: Profile) -> Iterator[Block]:
    rule, mode = profile.gelu, NAMES[profile.step_rounding]
    match rule:
        case RoundedGelu():
            yield from _section(
                "GELU (gelu)",
                [f"y = nearest integer to x Phi(x) * 2**{rule.output_fraction}, x a code of 2**-{rule.input_fraction}"],
                *_table("gelu", rule.input_fraction, rule.output_fraction),
                Text(
                    "Its form by tanh, `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))`, is a table of its own "
                    "(gelu_tanh):"
                ),
                *_table("gelu_tanh", rule.input_fraction, rule.output_fraction),
                _examples("gelu", profile),
            )
        case Gelu():
            q_b, q_1 = rule.constants(profile.step_rounding)
            yield from _section(
                "GELU (gelu)",
                [
                    f"x: int16, a code of 2**-{rule.input_fraction}",
                    f"q_erf = sgn(x) * ((min(|x|, {-q_b}) + q_b)**2 + q_1),   sgn(0) = 0",
                    "product = -x * (q_erf + q_1)",
                    f"y = sat32({mode}(product / 2**{rule.output_shift}))",
                ],
                _constants(
                    [
                        ("q_b", f"`{mode}({rule.b} * sqrt(2) * 2**{rule.input_fraction})`", q_b),
                        ("q_1", f"`{mode}(2 / {rule.a} * 2**{2 * rule.input_fraction})`", q_1),
                    ]
                ),
                _widths([("product", (2**15 * max(q_b**2, -2 * q_1)).bit_length() + 1, "signed")]),
                Text(f"y is a code of {rule.output_scale}. |-32768| is 32768, which 16 bits do not hold."),
                _examples("gelu", profile),
            )
        case _:
            yield from _section(f"GELU (gelu), rule {rule.rule}", [*equations(rule)], _examples("gelu", profile))


def _from_exp(profile: Profile) -> Iterator[Block]:
    mode, x = NAMES[profile.step_rounding], profile.exp.input_fraction
    tanh, sigmoid, silu = profile.tanh, profile.sigmoid, profile.silu
    f, g = tanh.output_fraction, sigmoid.output_fraction
    if isinstance(tanh, RoundedTanh):
        yield from _section(
            "Tanh (tanh)",
            [f"y = nearest integer to tanh(x) * 2**{f}, x a code of 2**-{x + 1}"],
            *_table("tanh", x + 1, f),
        )
    else:
        yield from _section(
            "Tanh (tanh)",
            [
                f"x: int16, a code of 2**-{x + 1}, one bit finer than that of exp, so exp(-|x|) is e**-2|x|",
                f"e = exp(-|x|),   one = exp(0),   y = sgn(x) * {mode}((one - e) * 2**{f} / (one + e))",
            ],
        )
    yield _examples("tanh", profile)
    if isinstance(sigmoid, RoundedSigmoid):
        lines = [f"y = nearest integer to 2**{g} / (1 + exp(-x)), x a code of 2**-{x}"]
        yield from _section("Sigmoid (sigmoid)", lines, *_table("sigmoid", x, g))
    else:
        yield from _section(
            "Sigmoid (sigmoid)",
            [
                f"x: int16, a code of 2**-{x};   e = exp(-|x|),   one = exp(0),   h = {mode}(one * 2**{g} / (one + e))",
                f"y = h where x >= 0, {1 << g} - h where x < 0",
            ],
        )
    yield _examples("sigmoid", profile)
    if isinstance(silu, RoundedSilu):
        lines = [
            f"y = nearest integer to x sigmoid(x) * 2**{silu.output_fraction}, x a code of 2**-{silu.input_fraction}"
        ]
        yield from _section("SiLU (silu)", lines, *_table("silu", silu.input_fraction, silu.output_fraction))
    else:
        finer = x - silu.input_fraction
        moved = f"sat16(x * 2**{finer})" if finer >= 0 else f"{mode}(x / 2**{-finer})"
        yield from _section(
            "SiLU (silu)",
            [
                f"x: int16, a code of 2**-{silu.input_fraction}",
                f"y = x * sigmoid({moved}), exact: 31 bits, a code of 2**-{silu.input_fraction + g}",
            ],
        )
    yield _examples("silu", profile)


def _norms(profile: Profile) -> Iterator[Block]:
    rule, r, p = profile.layer_norm, NAMES[profile.rounding], NAMES[profile.step_rounding]
    yield from _section(
        "Square root (isqrt)",
        [
            "root = floor(sqrt(n)), exact for 0 <= n < 2**62",
            "a bit of the root a cycle, or Newton from above until it stops falling",
        ],
        _examples("isqrt", profile),
    )
    affine = f"y = sat({r}((n * multiplier + bias) / 2**shift))"
    about = Text(
        "multiplier (31 bits and sign, negative where gamma is), bias (64 bits, holding the zero point of y) by "
        "channel; one shift."
    )
    if not isinstance(rule, LayerNorm):
        yield from _section(
            f"LayerNorm (layer_norm), rule {rule.rule}",
            [*equations(rule), affine],
            about,
            _examples("layer_norm", profile),
        )
        yield Text("RMSNorm is not defined in this profile.")
        return
    f = rule.output_fraction
    yield from _section(
        "LayerNorm (layer_norm)",
        [
            *(
                ["s = sum x,   c = N x - s,   v = N sum x**2 - s**2 + eps: no mean is rounded"]
                if rule.centring == "exact"
                else [f"c = x - {r}(sum x / N),   v = floor(sum c**2 / N) + eps"]
            ),
            f"std = isqrt(v),   n = {p}(c * 2**{f} / std)",
            affine,
        ],
        about,
        Text(
            "x is int16; its zero point cancels. eps is in units of v, at least 1, so std is never 0. N is at most "
            "`2**14`. Wider codes are shifted by row as in RMSNorm."
        ),
        _widths(
            [
                ("s, c", 31, "signed, for `N = 2**14`"),
                ("v", 62, "unsigned"),
                ("std", 31, "unsigned"),
                ("n", 25, "signed"),
            ]
        ),
        _examples("layer_norm", profile),
    )
    yield from _section(
        "RMSNorm (rms_norm)",
        [
            f"k = max(0, bits(max |x|) - {rule.row_bits - 1})",
            f"x' = {p}(x / 2**k),   eps' = max(1, {p}(eps / 2**(2 k)))",
            f"v = N sum x'**2 + eps',   n = {p}(N x' * 2**{f} / isqrt(v))",
            affine,
        ],
        Text("bits(0) = 0, bits(1) = 1, bits(2) = 2: the position of the highest one. x is int32 with zero point 0."),
        _examples("rms_norm", profile),
    )
