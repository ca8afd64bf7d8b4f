// SPDX-License-Identifier: Apache-2.0
// A case is a beat: x -> y.
module tb_gelu;
  import intsim_gelu_pkg::*;

  logic clk, rst, in_valid, in_ready, out_valid, out_ready;
  logic [63:0] words;
  logic [Y_BITS-1:0] y;

  bench #(
      .CASES(CASES),
      .OPERANDS(1),
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

  gelu #(
      .Q_B(Q_B),
      .Q_1(Q_1),
      .OUTPUT_SHIFT(OUTPUT_SHIFT)
  ) unit (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .x(words[15:0]),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .y(y)
  );

  initial if (STEP_ROUNDING != "half-up") $fatal(1, "gelu.sv rounds half up, the vectors do not");
endmodule
