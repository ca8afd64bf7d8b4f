// SPDX-License-Identifier: Apache-2.0
// Unsigned restoring division, a quotient bit a cycle: dividend = quotient * divisor + remainder.
// The quotient must be known to fit: dividend < divisor * 2**QUOTIENT_BITS. `start` is ignored while it runs.
module divide #(
    parameter int DIVIDEND_BITS = 32,
    parameter int DIVISOR_BITS = 32,
    parameter int QUOTIENT_BITS = 8
) (
    input  logic clk,
    input  logic rst,
    input  logic start,
    input  logic [DIVIDEND_BITS-1:0] dividend,
    input  logic [DIVISOR_BITS-1:0] divisor,
    output logic busy,
    output logic done,  // for one cycle, with the results, which then stay
    output logic [QUOTIENT_BITS-1:0] quotient,
    output logic [DIVISOR_BITS-1:0] remainder
);
  localparam int COUNT_BITS = $clog2(QUOTIENT_BITS + 1);
  logic [COUNT_BITS-1:0] left;
  logic [DIVISOR_BITS-1:0] by;

  // the quotient register holds the dividend's low bits, which leave it at the top as quotient bits enter below
  wire [DIVISOR_BITS:0] shifted = {remainder, quotient[QUOTIENT_BITS-1]};
  wire [DIVISOR_BITS:0] difference = shifted - {1'b0, by};
  wire fits = shifted >= {1'b0, by};

  assign busy = left != '0;
  always_ff @(posedge clk) begin
    done <= 1'b0;
    if (rst) left <= '0;
    else if (busy) begin
      remainder <= fits ? difference[DIVISOR_BITS-1:0] : shifted[DIVISOR_BITS-1:0];
      quotient <= {quotient[QUOTIENT_BITS-2:0], fits};
      left <= left - 1'b1;
      done <= left == COUNT_BITS'(1);
    end else if (start) begin
      remainder <= DIVISOR_BITS'(dividend >> QUOTIENT_BITS);
      quotient <= dividend[QUOTIENT_BITS-1:0];
      by <= divisor;
      left <= COUNT_BITS'(QUOTIENT_BITS);
    end
  end
endmodule
