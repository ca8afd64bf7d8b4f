// SPDX-License-Identifier: Apache-2.0
// e**x for x <= 0, x = -below * 2**-11: e = RHU(((p + Q_B)**2 + Q_C) / 2**(z + OUTPUT_SHIFT)), combinational, with
// q = -below * 2**GUARD_BITS = p - z * Q_LN2, -Q_LN2 < p <= 0. The constants are the profile's, rounded once.
module i_exp #(
    parameter int Q_LN2 = 11357,
    parameter int Q_B = 22431,
    parameter int Q_C = 260479546,
    parameter int GUARD_BITS = 3,
    parameter int OUTPUT_SHIFT = 14
) (
    input  logic [15:0] below,  // -x, 0 .. 2**15
    output logic [23:0] e  // e**0 is 46605 for the constants above
);
  localparam int Z_BITS = 5;  // z <= 2**(15 + GUARD_BITS) / Q_LN2 < 32
  localparam int REST_BITS = 17 + GUARD_BITS;

  // z = floor(-q / Q_LN2) by subtracting Q_LN2 * 16, 8, 4, 2, 1 where it fits: exact, and no divider
  logic [REST_BITS+Z_BITS-1:0] rest;
  logic [Z_BITS-1:0] z;
  always_comb begin
    rest = (REST_BITS + Z_BITS)'(below) << GUARD_BITS;
    z = '0;
    for (int k = Z_BITS - 1; k >= 0; k = k - 1)
      if (rest >= (REST_BITS + Z_BITS)'(Q_LN2) << k) begin
        rest = rest - ((REST_BITS + Z_BITS)'(Q_LN2) << k);
        z[k] = 1'b1;
      end
  end

  // p = -rest; Q_B > Q_LN2, so the sum is positive; the polynomial is below 2**31
  wire [31:0] sum = 32'(Q_B) - 32'(rest);
  wire [63:0] polynomial = 64'(sum) * 64'(sum) + 64'(Q_C);
  wire [5:0] drop = 6'(z) + 6'(OUTPUT_SHIFT);  // at least 1, so there is a half
  wire [63:0] rounded = (polynomial + (64'd1 << (drop - 6'd1))) >> drop;
  assign e = rounded[23:0];
endmodule
