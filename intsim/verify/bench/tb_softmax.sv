// SPDX-License-Identifier: Apache-2.0
// A case is a row, a score a beat: acc[T], mask[T], multiplier, shift -> probs[T].
module tb_softmax;
  import intsim_softmax_pkg::*;
  localparam int LENGTH = ACC_LANES;

  logic clk, rst, in_valid, in_ready, in_last, out_valid, out_ready, out_last;
  int in_beat;
  logic [64*(2*LENGTH+2)-1:0] words;
  logic [PROBS_BITS-1:0] prob;

  bench #(
      .CASES(CASES),
      .OPERANDS(2 * LENGTH + 2),
      .IN_BEATS(LENGTH),
      .OUT_BEATS(LENGTH),
      .DIGITS(PROBS_BITS / 4)
  ) bench (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .in_beat(in_beat),
      .in_last(in_last),
      .words(words),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .out_last(out_last),
      .result(prob)
  );

  softmax #(
      .LENGTH(LENGTH),
      .ONE(ONE),
      .PROB_BITS(PROBS_BITS),
      .Q_LN2(Q_LN2),
      .Q_B(Q_B),
      .Q_C(Q_C),
      .GUARD_BITS(GUARD_BITS),
      .OUTPUT_SHIFT(OUTPUT_SHIFT)
  ) unit (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .in_last(in_last),
      .acc(words[64*in_beat+:32]),
      .mask(words[64*(LENGTH+in_beat)]),
      .multiplier(words[64*2*LENGTH+:32]),
      .shift(words[64*(2*LENGTH+1)+:6]),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .out_last(out_last),
      .prob(prob)
  );

  initial if (ROUNDING != "half-up" || STEP_ROUNDING != "half-up") $fatal(1, "softmax.sv rounds half up, the vectors do not");
endmodule
