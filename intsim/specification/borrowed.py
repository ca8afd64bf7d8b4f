# SPDX-License-Identifier: Apache-2.0
"""The rules of other projects, as equations with their constants."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from intsim.kernels import ibert, ita, ivit
from intsim.kernels.rules import (
    CodeGelu,
    CodeLayerNorm,
    CodeSoftmax,
    GeluTable,
    Ita2024Softmax,
    ItaGelu,
    ItaSoftmax,
    LitertSoftmax,
    ShiftGelu,
    Shiftmax,
)

__all__ = ["equations"]

FROM_SCORES: Final = "from the scores by the requantization of this profile"


def equations(rule: object) -> Sequence[str]:
    """Return the equations of a rule."""
    match rule:
        case CodeSoftmax():
            scale = rule.input_scale
            x_0, q_b, q_c = ibert.exp_constants(scale)
            shift = 15 + q_c.bit_length()
            multiplier = ((32767 << shift + 1) + q_c) // (2 * q_c)
            return [
                f"x: int16 codes of S = 2**-{rule.input_fraction}, {FROM_SCORES}",
                f"d = max(x - max x, 30 x_0),   x_0 = floor(-0.6931 / S) = {x_0}",
                "z = floor(d / x_0),   r = d - x_0 z,   L = (r + q_b) r + q_c",
                f"q_b = floor(b / (a S)) = {q_b},   q_c = floor(1 / (a S**2)) = {q_c}",
                "a = 0.35815147,   b = 0.96963238",
                f"e = min(RHE(L * {multiplier} / 2**({shift} + z)), 32767), the shift at most 62; 0 where masked",
                "factor = floor(2**32 / max(sum e, 1)),   probs = min(floor(e * factor / 2**24), 255)",
            ]
        case Shiftmax():
            return [
                f"x: int16 codes of S = 2**-{rule.input_fraction}, {FROM_SCORES}",
                "d = x - max x, the maximum over what is not masked",
                *_shift_exp("d", rule.input_scale, rule.bits),
                "e = 0 where masked",
                "factor = floor((2**31 - 1) / min(max(sum e, 1), 2**31 - 1))",
                "probs = min(floor(e * factor / 2**24), 255)",
            ]
        case ItaSoftmax() | Ita2024Softmax():
            drop = ita.SHIFT if isinstance(rule, ItaSoftmax) else ita.SHIFT_2024
            s = f"floor((m - x + {1 << drop - 1}) / {1 << drop})" if drop else "m - x"
            lines = [
                f"x: int8 codes of ln 2 / {1 << drop}, {FROM_SCORES}",
                f"h(x, m) = {s}: the halvings from the maximum m; a shift of 62 or more leaves 0",
            ]
            lines += (
                [
                    "m = -128, total = 0; for each 16 columns: m' = max(m, those not masked)",
                    "    total = floor(total / 2**h(m, m')) + sum of floor(256 / 2**h(x, m')) over those not masked",
                    "    m = m'",
                ]
                if rule.streaming
                else ["total = sum of floor(256 / 2**h(x, m)), m the maximum; over what is not masked"]
            )
            return [
                *lines,
                "probs = min(floor(floor(65280 / max(total, 1)) / 2**h(x, m)), 255); 0 where masked",
            ]
        case LitertSoftmax():
            return [
                f"x: int8 codes of 2**-{rule.input_fraction}, {FROM_SCORES}",
                "LiteRT's reference kernel: d = x - max x in Q5.26, exp of gemmlowp in Q0.31, the sum in Q12.19,",
                "one_over_one_plus_x of gemmlowp, the product rounded half away; uint8 codes of 1 / 256, saturated",
            ]
        case GeluTable():
            return [
                f"x: int16 codes of 2**-{rule.input_fraction}; a table of 2**16 entries:",
                f"y: the int32 nearest to x Phi(x) * 2**{rule.output_fraction}",
            ]
        case CodeGelu():
            q_b, q_c, q_1 = ibert.gelu_constants(Fraction(1, 1 << rule.input_fraction))
            return [
                f"x: int16 codes of S = 2**-{rule.input_fraction};   a = -0.2888, b = -1.769, k = 1.4142",
                f"q_b = floor(b k / S) = {q_b},   q_c = floor(k**2 / (a S**2)) = {q_c},",
                f"q_1 = floor(k**2 / (a S**2 2**14)) = {q_1}",
                f"q_erf = floor(sgn(x) * ((min(|x|, {-q_b}) + q_b)**2 + q_c) / 2**14): toward minus infinity",
                "y = sat32(x * (q_erf + q_1)); a code stands for a negative number",
            ]
        case ShiftGelu():
            slope = Fraction(1, 1 << rule.input_fraction) * ivit.SIGMOID_SLOPE
            enough = (32 - rule.bits) * -(-1 // slope)
            return [
                f"x: int16 codes of 2**-{rule.input_fraction}; a result depends on its row, whose maximum is m",
                *_shift_exp("d", slope, rule.bits),
                f"S = 1.702 * 2**-{rule.input_fraction};   e_x = e of d = x - m,   e_m = e of d = min(-m, {enough})",
                "factor = floor((2**31 - 1) / min(e_x + e_m, 2**31 - 1)),   sigmoid = floor(e_x * factor / 2**24)",
                "y = sat32(x * sigmoid)",
            ]
        case ItaGelu():
            q_b, q_1 = ita.gelu_constants(Fraction(1, 1 << rule.input_fraction))
            return [
                f"x: int8 codes of S = 2**-{rule.input_fraction};   a = -0.2888, b = -1.769",
                f"q_b = RHU(b sqrt(2) / S) = {q_b},   q_1 = q_c = RHU(2 / (a S**2)) = {q_1}, both saturated to 16 bits",
                f"q_erf = sgn(x) * ((min(|x|, {-q_b}) + q_b)**2 + q_c),   y = x * (q_erf + q_1), 26 bits",
                "a code of y stands for a negative number",
            ]
        case CodeLayerNorm():
            return [
                "c = x - RHE(sum x / N)",
                f"v = sum floor(c / 2**{rule.shift})**2; a row with v = 0 is refused",
                f"std = isqrt(v) * 2**{rule.shift}",
                "factor = floor(2**31 / std),   n = floor(c * factor / 2), toward minus infinity; no eps",
            ]
        case _:  # VitLayerNorm
            return [
                "c = x - RHE(sum x / N),   v = sum c**2",
                "k = 2**16, then ten times k = floor((k + floor(v / k)) / 2): no square root below about 180 000",
                "factor = floor((2**31 - 1) / k),   n = floor(c * factor / 2), toward minus infinity; no eps",
            ]


def _shift_exp(d: str, scale: Fraction, bits: int) -> list[str]:
    x_0 = -1 // scale
    return [
        f"p = max({d} + floor({d} / 2) - floor({d} / 16), {bits} x_0),   x_0 = floor(-1 / S) = {x_0}",
        f"q = floor(p / x_0),   r = p - x_0 q,   e = floor((r / 2 - x_0) * 2**({bits} - q))",
    ]
