// SPDX-License-Identifier: Apache-2.0
// A row of up to LENGTH scores, one a beat, to as many probabilities, codes of 1 / ONE:
//
//   d_j = acc_j - max acc,  x_j = max(RHU(d_j * multiplier / 2**shift), -2**15),  e_j = exp(x_j)
//   prob_j = min(RHU(e_j * ONE / max(sum e, 1)), 2**PROB_BITS - 1)
//
// RHU: to nearest, halves toward plus infinity. A masked position counts in neither maximum nor sum, and gives 0; a row
// that is masked throughout gives zeros. Sequential: a row is loaded, then read for its exponentials, then divided.
module softmax #(
    parameter int LENGTH = 16,
    parameter int ONE = 255,
    parameter int PROB_BITS = 8,
    parameter int Q_LN2 = 11357,
    parameter int Q_B = 22431,
    parameter int Q_C = 260479546,
    parameter int GUARD_BITS = 3,
    parameter int OUTPUT_SHIFT = 14
) (
    input  logic clk,
    input  logic rst,  // synchronous, active high
    input  logic in_valid,
    output logic in_ready,
    input  logic in_last,  // the last score of the row
    input  logic signed [31:0] acc,
    input  logic mask,  // 1: this position counts
    input  logic signed [31:0] multiplier,  // positive; constants of a row are taken with its first score
    input  logic [5:0] shift,
    output logic out_valid,
    input  logic out_ready,
    output logic out_last,
    output logic [PROB_BITS-1:0] prob
);
  localparam int ADDRESS_BITS = LENGTH > 1 ? $clog2(LENGTH) : 1;
  localparam int INDEX_BITS = $clog2(LENGTH + 2);  // counts to LENGTH + 1, the two stages of the exponentials
  localparam int SUM_BITS = 24 + $clog2(LENGTH);  // every e is below 2**24
  localparam int SCALED_BITS = 24 + PROB_BITS + 1;  // e * ONE
  localparam logic signed [31:0] LOWEST = 32'sh8000_0000;
  localparam logic [1:0] LOAD = 2'd0, EXPONENTIALS = 2'd1, DIVIDE = 2'd2, GIVE = 2'd3;

  logic [1:0] state;
  logic [INDEX_BITS-1:0] index, count;  // position in the row; scores of the row
  logic signed [31:0] scores[LENGTH];
  logic [LENGTH-1:0] kept;
  logic [23:0] exponentials[LENGTH];
  logic signed [31:0] peak, row_multiplier;
  logic [5:0] row_shift;
  logic [SUM_BITS-1:0] total;

  // --- load: the largest score among those that count
  assign in_ready = state == LOAD;
  wire take = in_valid && in_ready;
  wire first = index == '0;
  wire [ADDRESS_BITS-1:0] at_in = index[ADDRESS_BITS-1:0];
  wire signed [31:0] peak_before = first ? LOWEST : peak;

  // --- exponentials: two stages, x then e, so two more cycles than scores
  // d is at most 0 and has 33 bits. |d * multiplier| < 2**63. A masked score may lie above the peak: its d is not used.
  logic valid_x, kept_x;
  logic [ADDRESS_BITS-1:0] index_x;
  logic [15:0] below_x;  // -x, at most 2**15
  wire [ADDRESS_BITS-1:0] at = index < count ? index[ADDRESS_BITS-1:0] : '0;
  wire signed [32:0] difference = kept[at] ? 33'(scores[at]) - 33'(peak) : 33'sd0;
  wire signed [63:0] product = 64'(difference) * 64'(row_multiplier);
  wire signed [63:0] half = (64'sd1 <<< row_shift) >>> 1;  // 0 for shift 0
  wire signed [63:0] x = (product + half) >>> row_shift;
  wire [23:0] e;
  i_exp #(
      .Q_LN2(Q_LN2),
      .Q_B(Q_B),
      .Q_C(Q_C),
      .GUARD_BITS(GUARD_BITS),
      .OUTPUT_SHIFT(OUTPUT_SHIFT)
  ) i_exp_of_x (
      .below(below_x),
      .e(e)
  );
  wire [23:0] e_kept = kept_x ? e : 24'd0;

  // --- divide: e <= total, so e * ONE / total <= ONE < 2**PROB_BITS + 1, and saturation takes care of 2**PROB_BITS
  wire [SCALED_BITS-1:0] dividend = SCALED_BITS'(exponentials[at]) * SCALED_BITS'(ONE);
  wire busy, done;
  wire [PROB_BITS:0] quotient;
  wire [SUM_BITS-1:0] remainder;
  logic started;
  divide #(
      .DIVIDEND_BITS(SCALED_BITS),
      .DIVISOR_BITS(SUM_BITS),
      .QUOTIENT_BITS(PROB_BITS + 1)
  ) divide_by_sum (
      .clk(clk),
      .rst(rst),
      .start(state == DIVIDE && !started),
      .dividend(dividend),
      .divisor(total),
      .busy(busy),
      .done(done),
      .quotient(quotient),
      .remainder(remainder)
  );
  // a remainder of exactly half the sum rounds up
  wire [PROB_BITS+1:0] rounded = (PROB_BITS + 2)'(quotient) + (PROB_BITS + 2)'({remainder, 1'b0} >= {1'b0, total});

  always_ff @(posedge clk)
    if (rst) begin
      state <= LOAD;
      index <= '0;
      valid_x <= 1'b0;
      started <= 1'b0;
      out_valid <= 1'b0;
    end else
      case (state)
        LOAD:
        if (take) begin
          scores[at_in] <= acc;
          kept[at_in] <= mask;
          peak <= mask && acc > peak_before ? acc : peak_before;
          total <= '0;
          if (first) begin
            row_multiplier <= multiplier;
            row_shift <= shift;
          end
          index <= in_last ? '0 : index + 1'b1;
          count <= index + 1'b1;
          if (in_last) state <= EXPONENTIALS;
        end
        EXPONENTIALS: begin
          valid_x <= index < count;
          index_x <= at;
          kept_x <= kept[at];
          below_x <= x < -64'sd32768 ? 16'd32768 : 16'(-x);
          if (index <= count) index <= index + 1'b1;
          if (valid_x) begin
            exponentials[index_x] <= e_kept;
            total <= total + SUM_BITS'(e_kept);
          end
          if (index > count) begin
            if (total == '0) total <= SUM_BITS'(1);  // nothing counts: 0 / 1
            index <= '0;
            state <= DIVIDE;
          end
        end
        DIVIDE: begin
          started <= !done;
          if (done) begin
            prob <= rounded >= (PROB_BITS + 2)'(1 << PROB_BITS) ? '1 : rounded[PROB_BITS-1:0];
            out_last <= index + 1'b1 == count;
            out_valid <= 1'b1;
            state <= GIVE;
          end
        end
        default:  // GIVE
        if (out_ready) begin
          out_valid <= 1'b0;
          index <= out_last ? '0 : index + 1'b1;
          state <= out_last ? LOAD : DIVIDE;
        end
      endcase
endmodule
