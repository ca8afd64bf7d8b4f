# SPDX-License-Identifier: Apache-2.0
"""37 bugs of RTL, each an edit of the reference units: what was there, what is there now, what diagnose may call it.

Of a bug without a name the answers show that something is wrong, not what: results that were dropped or never came.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class RtlBug:
    """An edit of a unit; ``names`` are changes that give the same integers."""

    unit: str
    what: str
    old: str
    new: str
    names: tuple[str, ...] = ()
    file: str = ""


BUGS: Final = [
    # rounding and widths
    RtlBug(
        unit="requantize",
        what="no half added",
        old="(product_1 + half) >>> shift_1",
        new="product_1 >>> shift_1",
        names=("rounding floor",),
    ),
    RtlBug(
        unit="requantize",
        what="halves away from zero",
        old="(product_1 + half) >>> shift_1",
        new="(product_1 + half - (product_1 < 0 && shift_1 != 0 ? 64'sd1 : 64'sd0)) >>> shift_1",
        names=("rounding half-away",),
    ),
    RtlBug(
        unit="requantize",
        what="unsigned shift",
        old="(product_1 + half) >>> shift_1",
        new="(product_1 + half) >> shift_1",
        names=("logical shift",),
    ),
    RtlBug(
        unit="requantize",
        what="wraps instead of saturating",
        old="y <= moved < LOWEST ? LOWEST[Y_BITS-1:0] : moved > HIGHEST ? HIGHEST[Y_BITS-1:0] : moved[Y_BITS-1:0];",
        new="y <= moved[Y_BITS-1:0];",
        names=("result wraps",),
    ),
    RtlBug(
        unit="requantize",
        what="product of 48 bits",
        old="product_1 <= 64'(acc) * 64'(multiplier);",
        new="product_1 <= 64'($signed(48'(64'(acc) * 64'(multiplier))));",
        names=("product wraps at 48 bits",),
    ),
    RtlBug(
        unit="requantize",
        what="the last stage does not wait",
        old="wire ready_3 = !out_valid || out_ready;",
        new="wire ready_3 = 1'b1;",
    ),
    RtlBug(
        unit="add",
        what="no half added",
        old="(sum_2 + half) >>> shift_2",
        new="sum_2 >>> shift_2",
        names=("rounding floor",),
    ),
    RtlBug(
        unit="add",
        what="the accumulator's multiplier for both",
        old="48'(residual) * 48'(residual_multiplier)",
        new="48'(residual) * 48'(acc_multiplier)",
        names=("first multiplier for all",),
    ),
    RtlBug(
        unit="add",
        what="each product rounded before the sum",
        old="sum_2 <= product_1 + 64'(skip_1);",
        new="sum_2 <= (((product_1 + ((64'sd1 <<< shift_1) >>> 1)) >>> shift_1)"
        " + ((64'(skip_1) + ((64'sd1 <<< shift_1) >>> 1)) >>> shift_1)) <<< shift_1;",
        names=("rounded each",),
    ),
    RtlBug(
        unit="add",
        what="a residual of 8 bits",
        old="48'(residual) *",
        new="(residual > 127 ? 48'sd127 : residual < -128 ? -48'sd128 : 48'(residual)) *",
        names=("operand 1 saturates at 8 bits",),
    ),
    RtlBug(
        unit="add",
        what="wraps instead of saturating",
        old="y <= moved < LOWEST ? LOWEST[Y_BITS-1:0] : moved > HIGHEST ? HIGHEST[Y_BITS-1:0] : moved[Y_BITS-1:0];",
        new="y <= moved[Y_BITS-1:0];",
        names=("result wraps",),
    ),
    RtlBug(
        unit="add",
        what="the second stage does not wait",
        old="wire ready_2 = !valid_2 || ready_3;",
        new="wire ready_2 = 1'b1;",
    ),
    RtlBug(
        unit="gelu",
        what="no half added",
        old="(product_3 + HALF) >>> OUTPUT_SHIFT",
        new="product_3 >>> OUTPUT_SHIFT",
        names=("rounding floor",),
    ),
    RtlBug(
        unit="gelu",
        what="the polynomial not clipped",
        old="magnitude < LIMIT ? LIMIT - magnitude : 16'd0",
        new="magnitude < LIMIT ? LIMIT - magnitude : magnitude - LIMIT",
        names=("clip left out",),
    ),
    RtlBug(
        unit="gelu",
        what="the sign of x left out",
        old="x_1 < 0 ? -polynomial : polynomial",
        new="polynomial",
        names=("sign left out",),
    ),
    RtlBug(
        unit="gelu",
        what="the constant one too low",
        old="erf_2 <= q_erf + 25'(Q_1);",
        new="erf_2 <= q_erf + 25'(Q_1 - 1);",
        names=("q_1 -1",),
    ),
    RtlBug(
        unit="gelu",
        what="a product of 32 bits",
        old="product_3 <= -41'(x_2) * 41'(erf_2);",
        new="product_3 <= 41'($signed(32'(-41'(x_2) * 41'(erf_2))));",
        names=("product wraps at 32 bits",),
    ),
    RtlBug(
        unit="gelu",
        what="x of the case behind",
        old="x_2 <= x_1;",
        new="x_2 <= x;",
    ),
    RtlBug(
        unit="softmax",
        what="the maximum is the last row's too",
        old="wire signed [31:0] peak_before = first ? LOWEST : peak;",
        new="wire signed [31:0] peak_before = first && $isunknown(peak) ? LOWEST : peak;",
        names=("maximum not cleared between rows",),
    ),
    RtlBug(
        unit="softmax",
        what="the sum is the last row's too",
        old="total <= '0;",
        new="if ($isunknown(total)) total <= '0;",
        names=("sum of 28 bits not cleared between rows", "sum of 32 bits not cleared between rows"),
    ),
    RtlBug(
        unit="softmax",
        what="masked scores in the maximum",
        old="peak <= mask && acc > peak_before",
        new="peak <= acc > peak_before",
        names=("masked positions in the maximum",),
    ),
    RtlBug(
        unit="softmax",
        what="quotients floored",
        old="+ (PROB_BITS + 2)'({remainder, 1'b0} >= {1'b0, total});",
        new=";",
        names=("probabilities: rounding floor",),
    ),
    RtlBug(
        unit="softmax",
        what="one is 256",
        old="SCALED_BITS'(ONE);",
        new="SCALED_BITS'(ONE + 1);",
        names=("one = 256",),
    ),
    RtlBug(
        unit="softmax",
        what="the exponential's input of 12 bits",
        old="x < -64'sd32768 ? 16'd32768 :",
        new="x < -64'sd2048 ? 16'd2048 :",
        names=("input of exp saturates at 12 bits",),
    ),
    RtlBug(
        unit="softmax",
        what="scaled scores floored",
        old="x = (product + half) >>> row_shift;",
        new="x = product >>> row_shift;",
        names=("rounding floor",),
    ),
    RtlBug(
        unit="softmax",
        what="i-exp's constant one too high",
        old="32'(Q_B) - 32'(rest)",
        new="32'(Q_B + 1) - 32'(rest)",
        names=("exp: q_b +1",),
        file="i_exp.sv",
    ),
    RtlBug(
        unit="softmax",
        what="stuck after a reset in the middle of a division",
        old="      started <= 1'b0;\n      out_valid",
        new="      out_valid",
    ),
    RtlBug(
        unit="layer_norm",
        what="biases of 32 bits",
        old="biases[index] <= bias;",
        new="biases[index] <= 64'($signed(bias[31:0]));",
        names=("bias wraps at 32 bits",),
    ),
    RtlBug(
        unit="layer_norm",
        what="a variance of 32 bits",
        old="variance <= spread[61:0] + 62'(row_eps);",
        new="variance <= 62'(32'(spread[61:0] + 62'(row_eps)));",
        names=("variance wraps at 32 unsigned bits",),
    ),
    RtlBug(
        unit="layer_norm",
        what="halves of negative quotients away from zero",
        old="negative ? {remainder, 1'b0} > {1'b0, std} :",
        new="negative ? {remainder, 1'b0} >= {1'b0, std} :",
        names=("division: rounding half-away",),
    ),
    RtlBug(
        unit="layer_norm",
        what="eps left out",
        old="spread[61:0] + 62'(row_eps)",
        new="spread[61:0]",
        names=("eps left out",),
    ),
    RtlBug(
        unit="layer_norm",
        what="the bias of the next channel",
        old="biases[index];",
        new="biases[last ? 0 : index + 1];",
        names=("bias of the next channel",),
    ),
    RtlBug(
        unit="matmul",
        what="activations unsigned",
        old="{X_SIGNED && x[8*m+7], x[8*m+:8]}",
        new="{1'b0, x[8*m+:8]}",
        names=("activations read as unsigned",),
    ),
    RtlBug(
        unit="matmul",
        what="the tile transposed",
        old="acc[32*(m*COLUMNS+n)+:32] = result;",
        new="acc[32*(n*ROWS+m)+:32] = result;",
        names=("result transposed",),
    ),
    RtlBug(
        unit="matmul",
        what="the last product left out",
        old="if (last) result <= next;",
        new="if (last) result <= partial;",
        names=("last product left out",),
    ),
    RtlBug(
        unit="matmul",
        what="the accumulators are the last tile's too",
        old="first ? bias[32*n+:32] : partial;",
        new="first ? bias[32*n+:32] + ($isunknown(partial) ? '0 : partial) : partial;",
        names=("accumulator not cleared between tiles",),
    ),
    RtlBug(
        unit="matmul",
        what="the lanes of the result reversed",
        old="acc[32*(m*COLUMNS+n)+:32] = result;",
        new="acc[32*(m*COLUMNS+COLUMNS-1-n)+:32] = result;",
        names=("lanes reversed",),
    ),
]
