// SPDX-License-Identifier: Apache-2.0
// A case is a beat: acc, multiplier, shift, zero_point -> y.
module tb_requantize;
  import intsim_requantize_pkg::*;

  logic clk, rst, in_valid, in_ready, out_valid, out_ready;
  logic [64*4-1:0] words;
  logic [Y_BITS-1:0] y;

  bench #(
      .CASES(CASES),
      .OPERANDS(4),
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

  requantize #(
      .ZERO_POINT_BITS(ZERO_POINT_BITS),
      .Y_BITS(Y_BITS),
      .NARROW(NARROW)
  ) unit (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .acc(words[0+:32]),
      .multiplier(words[64+:32]),
      .shift(words[128+:6]),
      .zero_point(words[192+:ZERO_POINT_BITS]),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .y(y)
  );

  initial begin
    if (ROUNDING != "half-up") $fatal(1, "requantize.sv rounds half up, the vectors do not");
    if (!Y_SIGNED) $fatal(1, "requantize.sv gives signed codes, the vectors do not");
  end
endmodule
