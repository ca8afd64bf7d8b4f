// SPDX-License-Identifier: Apache-2.0
// The sum of an accumulator and a residual of another scale, rounded once:
//
//   y = saturate(RHU((acc * acc_multiplier + residual * residual_multiplier) / 2**shift) + zero_point)
//
// RHU: to nearest, halves toward plus infinity. Four pipeline stages, a result a cycle; a stage moves on when the next one
// is empty or moves on itself.
module add #(
    parameter int ZERO_POINT_BITS = 16,
    parameter int Y_BITS = 16,
    parameter bit NARROW = 1'b0  // symmetric codes: -127 is the lowest of 8 bits, not -128
) (
    input  logic clk,
    input  logic rst,  // synchronous, active high
    input  logic in_valid,
    output logic in_ready,
    input  logic signed [31:0] acc,
    input  logic signed [15:0] residual,  // less its zero point
    input  logic signed [31:0] acc_multiplier,  // both brought to one shift, so that there is one rounding
    input  logic signed [31:0] residual_multiplier,
    input  logic [5:0] shift,  // 0 .. 62
    input  logic signed [ZERO_POINT_BITS-1:0] zero_point,
    output logic out_valid,
    input  logic out_ready,
    output logic signed [Y_BITS-1:0] y
);
  logic valid_1, valid_2, valid_3;
  logic signed [63:0] product_1, sum_2, rounded_3;
  logic signed [47:0] skip_1;
  logic [5:0] shift_1, shift_2;
  logic signed [ZERO_POINT_BITS-1:0] zero_point_1, zero_point_2, zero_point_3;

  wire ready_4 = !out_valid || out_ready;
  wire ready_3 = !valid_3 || ready_4;
  wire ready_2 = !valid_2 || ready_3;
  assign in_ready = !valid_1 || ready_2;

  // 1: the whole products, |acc * acc_multiplier| <= 2**62 and |residual * residual_multiplier| <= 2**46
  always_ff @(posedge clk)
    if (rst) valid_1 <= 1'b0;
    else if (in_ready) begin
      valid_1 <= in_valid;
      product_1 <= 64'(acc) * 64'(acc_multiplier);
      skip_1 <= 48'(residual) * 48'(residual_multiplier);
      shift_1 <= shift;
      zero_point_1 <= zero_point;
    end

  // 2: their sum, before any bit is dropped
  always_ff @(posedge clk)
    if (rst) valid_2 <= 1'b0;
    else if (ready_2) begin
      valid_2 <= valid_1;
      sum_2 <= product_1 + 64'(skip_1);
      shift_2 <= shift_1;
      zero_point_2 <= zero_point_1;
    end

  // 3: one rounding. Adding half and shifting arithmetically floors, so -2.5 gives -2 and 2.5 gives 3. Shift 0 drops no
  // bits and adds no half. half <= 2**61, so the sum stays within 64 bits.
  wire signed [63:0] half = (64'sd1 <<< shift_2) >>> 1;
  always_ff @(posedge clk)
    if (rst) valid_3 <= 1'b0;
    else if (ready_3) begin
      valid_3 <= valid_2;
      rounded_3 <= (sum_2 + half) >>> shift_2;
      zero_point_3 <= zero_point_2;
    end

  // 4: the zero point comes after the rounding and before the only saturation
  localparam logic signed [63:0] LOWEST = -(64'sd1 <<< (Y_BITS - 1)) + 64'(NARROW);
  localparam logic signed [63:0] HIGHEST = (64'sd1 <<< (Y_BITS - 1)) - 64'sd1;
  wire signed [63:0] moved = rounded_3 + 64'(zero_point_3);
  always_ff @(posedge clk)
    if (rst) out_valid <= 1'b0;
    else if (ready_4) begin
      out_valid <= valid_3;
      y <= moved < LOWEST ? LOWEST[Y_BITS-1:0] : moved > HIGHEST ? HIGHEST[Y_BITS-1:0] : moved[Y_BITS-1:0];
    end
endmodule
