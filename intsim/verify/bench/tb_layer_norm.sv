// SPDX-License-Identifier: Apache-2.0
// A case is a row, a channel a beat: x[N], multiplier[N], bias[N], shift, eps -> y[N].
module tb_layer_norm;
  import intsim_layer_norm_pkg::*;
  localparam int CHANNELS = X_LANES;

  logic clk, rst, in_valid, in_ready, out_valid, out_ready, out_last;
  int in_beat;
  logic [64*(3*CHANNELS+2)-1:0] words;
  logic [Y_BITS-1:0] y;

  bench #(
      .CASES(CASES),
      .OPERANDS(3 * CHANNELS + 2),
      .IN_BEATS(CHANNELS),
      .OUT_BEATS(CHANNELS),
      .DIGITS(Y_BITS / 4)
  ) bench (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .in_beat(in_beat),
      .in_last(),
      .words(words),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .out_last(out_last),
      .result(y)
  );

  layer_norm #(
      .CHANNELS(CHANNELS),
      .FRACTION(OUTPUT_FRACTION),
      .Y_BITS(Y_BITS),
      .NARROW(NARROW)
  ) unit (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .x(words[64*in_beat+:16]),
      .multiplier(words[64*(CHANNELS+in_beat)+:32]),
      .bias(words[64*(2*CHANNELS+in_beat)+:64]),
      .shift(words[64*3*CHANNELS+:6]),
      .eps(words[64*(3*CHANNELS+1)+:61]),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .out_last(out_last),
      .y(y)
  );

  initial begin
    if (CENTRING != "exact") $fatal(1, "layer_norm.sv centres exactly, the vectors do not");
    if (ROUNDING != "half-up" || STEP_ROUNDING != "half-up") $fatal(1, "layer_norm.sv rounds half up, the vectors do not");
    if (!Y_SIGNED) $fatal(1, "layer_norm.sv gives signed codes, the vectors do not");
  end
endmodule
