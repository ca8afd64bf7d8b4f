// SPDX-License-Identifier: Apache-2.0
// y = x Phi(x) by i-GELU, a polynomial in the place of erf, which is constant from |x| = -Q_B on:
//
//   r = min(|x|, -Q_B) + Q_B,  q_erf = sgn(x) * (r**2 + Q_1),  y = RHU(-x * (q_erf + Q_1) / 2**OUTPUT_SHIFT)
//
// RHU: to nearest, halves toward plus infinity; sgn(0) = 0. Four pipeline stages, a result a cycle; a stage moves on when
// the next one is empty or moves on itself.
module gelu #(
    parameter int Q_B = -2651,  // b sqrt(2) and 2 / a of the profile, rounded once: negative
    parameter int Q_1 = -8144280,
    parameter int OUTPUT_SHIFT = 24  // from 8 on y needs no saturation: |product| < 2**39
) (
    input  logic clk,
    input  logic rst,  // synchronous, active high
    input  logic in_valid,
    output logic in_ready,
    input  logic signed [15:0] x,
    output logic out_valid,
    input  logic out_ready,
    output logic signed [31:0] y
);
  logic valid_1, valid_2, valid_3;
  logic signed [15:0] x_1, x_2;
  logic [15:0] below_1;  // -r, 0 .. -Q_B
  logic signed [24:0] erf_2;  // q_erf + Q_1: q_erf is within Q_1 .. -Q_1, so it is within 2 Q_1 .. 0
  logic signed [40:0] product_3;

  wire ready_4 = !out_valid || out_ready;
  wire ready_3 = !valid_3 || ready_4;
  wire ready_2 = !valid_2 || ready_3;
  assign in_ready = !valid_1 || ready_2;

  // 1: the magnitude of -2**15 is 2**15, which takes 16 bits without a sign
  localparam logic [15:0] LIMIT = 16'(-Q_B);
  wire [15:0] magnitude = x[15] ? -x : x;
  always_ff @(posedge clk)
    if (rst) valid_1 <= 1'b0;
    else if (in_ready) begin
      valid_1 <= in_valid;
      x_1 <= x;
      below_1 <= magnitude < LIMIT ? LIMIT - magnitude : 16'd0;
    end

  // 2: the polynomial with the sign of x, which is odd
  wire signed [24:0] polynomial = $signed(25'(32'(below_1) * 32'(below_1))) + 25'(Q_1);
  wire signed [24:0] q_erf = x_1 == 0 ? 25'sd0 : x_1 < 0 ? -polynomial : polynomial;
  always_ff @(posedge clk)
    if (rst) valid_2 <= 1'b0;
    else if (ready_2) begin
      valid_2 <= valid_1;
      x_2 <= x_1;
      erf_2 <= q_erf + 25'(Q_1);
    end

  // 3: the whole product
  always_ff @(posedge clk)
    if (rst) valid_3 <= 1'b0;
    else if (ready_3) begin
      valid_3 <= valid_2;
      product_3 <= -41'(x_2) * 41'(erf_2);
    end

  // 4: one rounding. Adding half and shifting arithmetically floors, so -2.5 gives -2 and 2.5 gives 3.
  localparam logic signed [40:0] HALF = (41'sd1 <<< OUTPUT_SHIFT) >>> 1;
  wire signed [40:0] rounded = (product_3 + HALF) >>> OUTPUT_SHIFT;
  always_ff @(posedge clk)
    if (rst) out_valid <= 1'b0;
    else if (ready_4) begin
      out_valid <= valid_3;
      y <= rounded[31:0];
    end
endmodule
