// SPDX-License-Identifier: Apache-2.0
// A row of N = CHANNELS codes, one a beat with the constants of its channel, to as many codes:
//
//   s = sum x,  c = N x - s,  v = N sum x**2 - s**2 + eps,  std = floor(sqrt(v))
//   n = RHU(c * 2**FRACTION / std),  y = saturate(RHU((n * multiplier + bias) / 2**shift))
//
// RHU: to nearest, halves toward plus infinity. Centring is exact: N times everything, so that no mean is rounded; the
// zero point of x cancels, and that of y is inside the bias. Sequential: a row is loaded, its root taken, then divided.
module layer_norm #(
    parameter int CHANNELS = 16,  // at most 2**14
    parameter int FRACTION = 16,
    parameter int Y_BITS = 8,
    parameter bit NARROW = 1'b0  // symmetric codes: -127 is the lowest of 8 bits, not -128
) (
    input  logic clk,
    input  logic rst,  // synchronous, active high
    input  logic in_valid,
    output logic in_ready,
    input  logic signed [15:0] x,
    input  logic signed [31:0] multiplier,
    input  logic signed [63:0] bias,  // (beta / output scale + zero point) * 2**shift: added before the shift
    input  logic [5:0] shift,  // constants of a row are taken with its first code
    input  logic [60:0] eps,  // in units of v, at least 1: the divisor is never 0
    output logic out_valid,
    input  logic out_ready,
    output logic out_last,
    output logic signed [Y_BITS-1:0] y
);
  localparam int INDEX_BITS = CHANNELS > 1 ? $clog2(CHANNELS) : 1;
  localparam int SUM_BITS = 16 + $clog2(CHANNELS) + 1;  // |s| <= 2**15 N; as many hold c, |c| < 2**16 N
  localparam int SQUARES_BITS = 31 + $clog2(CHANNELS) + 1;  // sum x**2 <= 2**30 N
  localparam int N_BITS = 25;  // |n| <= 2**FRACTION sqrt(3 N) < 2**24 for N up to 2**14
  localparam int DIVIDEND_BITS = SUM_BITS + FRACTION;
  localparam logic [2:0] LOAD = 3'd0, VARIANCE = 3'd1, ROOT = 3'd2, DIVIDE = 3'd3, SCALE = 3'd4, GIVE = 3'd5;

  logic [2:0] state;
  logic [INDEX_BITS-1:0] index;
  logic signed [15:0] codes[CHANNELS];
  logic signed [31:0] multipliers[CHANNELS];
  logic signed [63:0] biases[CHANNELS];
  logic signed [SUM_BITS-1:0] sum;
  logic [SQUARES_BITS-1:0] squares;
  logic [5:0] row_shift;
  logic [60:0] row_eps;

  // --- load
  assign in_ready = state == LOAD;
  wire take = in_valid && in_ready;
  wire first = index == '0;
  wire last = index == INDEX_BITS'(CHANNELS - 1);
  wire signed [SUM_BITS-1:0] sum_before = first ? '0 : sum;
  wire [SQUARES_BITS-1:0] squares_before = first ? '0 : squares;
  wire signed [31:0] square = 32'(x) * 32'(x);

  // --- variance: N sum x**2 - s**2 <= 2**58, with eps below 2**62; never negative
  logic [61:0] variance;
  wire signed [63:0] sum_wide = 64'(sum);
  wire signed [63:0] spread = 64'(CHANNELS) * $signed(64'(squares)) - sum_wide * sum_wide;

  // --- root
  wire root_busy, root_done;
  wire [30:0] std;
  logic root_started;
  isqrt #(
      .ROOT_BITS(31)
  ) root_of_variance (
      .clk(clk),
      .rst(rst),
      .start(state == ROOT && !root_started),
      .n(variance),
      .busy(root_busy),
      .done(root_done),
      .root(std)
  );

  // --- divide: magnitudes, the sign put back with the rounding
  wire signed [SUM_BITS-1:0] centred = SUM_BITS'(CHANNELS) * SUM_BITS'(codes[index]) - sum;
  wire negative = centred[SUM_BITS-1];
  wire [SUM_BITS-1:0] magnitude = negative ? -centred : centred;
  wire busy, done;
  wire [N_BITS-2:0] quotient;
  wire [30:0] remainder;
  logic started;
  divide #(
      .DIVIDEND_BITS(DIVIDEND_BITS),
      .DIVISOR_BITS(31),
      .QUOTIENT_BITS(N_BITS - 1)
  ) divide_by_std (
      .clk(clk),
      .rst(rst),
      .start(state == DIVIDE && !started),
      .dividend(DIVIDEND_BITS'(magnitude) << FRACTION),
      .divisor(std),
      .busy(busy),
      .done(done),
      .quotient(quotient),
      .remainder(remainder)
  );
  // a half goes toward plus infinity: up in magnitude for a positive quotient, down for a negative one
  wire raise = negative ? {remainder, 1'b0} > {1'b0, std} : {remainder, 1'b0} >= {1'b0, std};
  wire [N_BITS-1:0] rounded = N_BITS'(quotient) + N_BITS'(raise);
  logic signed [N_BITS-1:0] normalised;

  // --- scale: |n * multiplier| < 2**55; the bias is such that the sum stays below 2**62
  localparam logic signed [63:0] LOWEST = -(64'sd1 <<< (Y_BITS - 1)) + 64'(NARROW);
  localparam logic signed [63:0] HIGHEST = (64'sd1 <<< (Y_BITS - 1)) - 64'sd1;
  wire signed [63:0] scaled = 64'(normalised) * 64'(multipliers[index]) + biases[index];
  wire signed [63:0] half = (64'sd1 <<< row_shift) >>> 1;  // 0 for shift 0
  wire signed [63:0] shifted = (scaled + half) >>> row_shift;

  always_ff @(posedge clk)
    if (rst) begin
      state <= LOAD;
      index <= '0;
      root_started <= 1'b0;
      started <= 1'b0;
      out_valid <= 1'b0;
    end else
      case (state)
        LOAD:
        if (take) begin
          codes[index] <= x;
          multipliers[index] <= multiplier;
          biases[index] <= bias;
          sum <= sum_before + SUM_BITS'(x);
          squares <= squares_before + SQUARES_BITS'($unsigned(square));
          if (first) begin
            row_shift <= shift;
            row_eps <= eps;
          end
          index <= last ? '0 : index + 1'b1;
          if (last) state <= VARIANCE;
        end
        VARIANCE: begin
          variance <= spread[61:0] + 62'(row_eps);
          state <= ROOT;
        end
        ROOT: begin
          root_started <= !root_done;
          if (root_done) state <= DIVIDE;
        end
        DIVIDE: begin
          started <= !done;
          if (done) begin
            normalised <= negative ? -$signed(rounded) : $signed(rounded);
            state <= SCALE;
          end
        end
        SCALE: begin
          y <= shifted < LOWEST ? LOWEST[Y_BITS-1:0] : shifted > HIGHEST ? HIGHEST[Y_BITS-1:0] : shifted[Y_BITS-1:0];
          out_last <= last;
          out_valid <= 1'b1;
          state <= GIVE;
        end
        default:  // GIVE
        if (out_ready) begin
          out_valid <= 1'b0;
          index <= out_last ? '0 : index + 1'b1;
          state <= out_last ? LOAD : DIVIDE;
        end
      endcase
endmodule
