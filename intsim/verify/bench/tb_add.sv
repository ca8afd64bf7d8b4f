// SPDX-License-Identifier: Apache-2.0
// A case is a beat: acc, residual, acc_multiplier, residual_multiplier, shift, zero_point -> y.
module tb_add;
  import intsim_add_pkg::*;

  logic clk, rst, in_valid, in_ready, out_valid, out_ready;
  logic [64*6-1:0] words;
  logic [Y_BITS-1:0] y;

  bench #(
      .CASES(CASES),
      .OPERANDS(6),
      .DIGITS(Y_BITS / 4)
  ) bench (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .in_beat(),
      .in_last(),
      .words(words),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .out_last(1'b1),
      .result(y)
  );

  add #(
      .ZERO_POINT_BITS(ZERO_POINT_BITS),
      .Y_BITS(Y_BITS),
      .NARROW(NARROW)
  ) unit (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .acc(words[0+:32]),
      .residual(words[64+:16]),
      .acc_multiplier(words[128+:32]),
      .residual_multiplier(words[192+:32]),
      .shift(words[256+:6]),
      .zero_point(words[320+:ZERO_POINT_BITS]),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .y(y)
  );

  initial begin
    if (SUM != "once" || ROUNDING != "half-up") $fatal(1, "add.sv rounds once, half up, the vectors do not");
    if (!Y_SIGNED) $fatal(1, "add.sv gives signed codes, the vectors do not");
  end
endmodule
