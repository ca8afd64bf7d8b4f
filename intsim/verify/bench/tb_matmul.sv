// SPDX-License-Identifier: Apache-2.0
// A case is a tile, a column of x and of w a beat: x[M K], w[N K], bias[N] -> acc[M N].
module tb_matmul;
  import intsim_matmul_pkg::*;
  localparam int COLUMNS = BIAS_LANES;
  localparam int TILE_DEPTH = W_LANES / COLUMNS;
  localparam int ROWS = X_LANES / TILE_DEPTH;

  logic clk, rst, in_valid, in_ready, out_valid, out_ready;
  int in_beat;
  logic [64*(X_LANES+W_LANES+COLUMNS)-1:0] words;
  logic [8*ROWS-1:0] x;
  logic [8*COLUMNS-1:0] w;
  logic [32*COLUMNS-1:0] bias;
  logic [32*ROWS*COLUMNS-1:0] acc;

  // rows first: x[m][k] is word m K + k
  for (genvar m = 0; m < ROWS; m = m + 1) assign x[8*m+:8] = words[64*(m*TILE_DEPTH+in_beat)+:8];
  for (genvar n = 0; n < COLUMNS; n = n + 1) begin
    assign w[8*n+:8] = words[64*(X_LANES+n*TILE_DEPTH+in_beat)+:8];
    assign bias[32*n+:32] = words[64*(X_LANES+W_LANES+n)+:32];
  end

  bench #(
      .CASES(CASES),
      .OPERANDS(X_LANES + W_LANES + COLUMNS),
      .IN_BEATS(TILE_DEPTH),
      .LANES(ROWS * COLUMNS),
      .DIGITS(ACC_BITS / 4)
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
      .out_last(1'b1),
      .result(acc)
  );

  matmul #(
      .ROWS(ROWS),
      .COLUMNS(COLUMNS),
      .DEPTH(TILE_DEPTH),
      .X_SIGNED(X_SIGNED)
  ) unit (
      .clk(clk),
      .rst(rst),
      .in_valid(in_valid),
      .in_ready(in_ready),
      .x(x),
      .w(w),
      .bias(bias),
      .out_valid(out_valid),
      .out_ready(out_ready),
      .acc(acc)
  );
endmodule
