// SPDX-License-Identifier: Apache-2.0
// A tile acc[m][n] = sum over k of x[m][k] * w[n][k], plus bias[n], in int32 accumulators that never wrap: int8 times
// int8 fits up to DEPTH = 131071. Output stationary: beat k brings column k of x and of w, and every accumulator adds one
// product. Tiles follow each other without a gap while the one before waits in the output register.
module matmul #(
    parameter int ROWS = 4,
    parameter int COLUMNS = 4,
    parameter int DEPTH = 16,
    parameter bit X_SIGNED = 1'b1  // probabilities are uint8
) (
    input  logic clk,
    input  logic rst,  // synchronous, active high
    input  logic in_valid,
    output logic in_ready,
    input  logic [8*ROWS-1:0] x,  // x[m][k] in bits 8 m + 7 .. 8 m
    input  logic [8*COLUMNS-1:0] w,  // w[n][k] in bits 8 n + 7 .. 8 n
    input  logic [32*COLUMNS-1:0] bias,  // taken with the first beat; holds the zero point of x: b[n] - z * sum w[n]
    output logic out_valid,
    input  logic out_ready,
    output logic [32*ROWS*COLUMNS-1:0] acc  // acc[m][n] in bits 32 (m COLUMNS + n) + 31 .. 32 (m COLUMNS + n)
);
  localparam int INDEX_BITS = DEPTH > 1 ? $clog2(DEPTH) : 1;
  logic [INDEX_BITS-1:0] index;
  wire first = index == '0;
  wire last = index == INDEX_BITS'(DEPTH - 1);
  wire held = out_valid && !out_ready;

  assign in_ready = !(last && held);
  wire take = in_valid && in_ready;

  for (genvar m = 0; m < ROWS; m = m + 1) begin : row
    for (genvar n = 0; n < COLUMNS; n = n + 1) begin : column
      wire signed [8:0] a = {X_SIGNED && x[8*m+7], x[8*m+:8]};
      wire signed [7:0] b = w[8*n+:8];
      wire signed [16:0] product = 17'(a) * 17'(b);  // |product| < 2**15
      logic signed [31:0] partial, result;
      wire signed [31:0] start = first ? bias[32*n+:32] : partial;
      wire signed [31:0] next = start + 32'(product);
      always_ff @(posedge clk)
        if (take) begin
          partial <= next;
          if (last) result <= next;
        end
      assign acc[32*(m*COLUMNS+n)+:32] = result;
    end
  end

  always_ff @(posedge clk)
    if (rst) begin
      index <= '0;
      out_valid <= 1'b0;
    end else begin
      if (take) index <= last ? '0 : index + 1'b1;
      if (take && last) out_valid <= 1'b1;
      else if (out_ready) out_valid <= 1'b0;
    end
endmodule
