// SPDX-License-Identifier: Apache-2.0
// DPI-C: LANES units take an accumulator a cycle each, every result is compared with the C model's. Verilator only;
// Icarus has no DPI.
//   +first=N +count=N   accumulators   +multiplier=N +shift=N +zero_point=N   constants of the channel
module tb_requantize_dpi #(
    parameter int LANES = 16  // a cycle costs the simulator more than a unit does
);
  import "DPI-C" function int intsim_requantize(
    input int acc,
    input int multiplier,
    input int shift,
    input int zero_point
  );

  logic clk = 1'b0, rst = 1'b1;
  longint first, count, sent = 0, got = 0;
  int multiplier, shift, zero_point, acc, expected;
  logic [LANES-1:0] in_ready, out_valid;
  logic signed [7:0] y[LANES];
  wire in_valid = !rst && sent < count;

  for (genvar lane = 0; lane < LANES; lane = lane + 1) begin : channel
    requantize unit (
        .clk(clk),
        .rst(rst),
        .in_valid(in_valid),
        .in_ready(in_ready[lane]),
        .acc(32'(first + sent) + lane),
        .multiplier(multiplier),
        .shift(shift[5:0]),
        .zero_point(zero_point[7:0]),
        .out_valid(out_valid[lane]),
        .out_ready(1'b1),
        .y(y[lane])
    );
  end

  initial begin
    if ($value$plusargs("first=%d", first) == 0) first = -64'd2147483648;
    if ($value$plusargs("count=%d", count) == 0) count = 64'd4294967296;
    if ($value$plusargs("multiplier=%d", multiplier) == 0) multiplier = 1583594044;
    if ($value$plusargs("shift=%d", shift) == 0) shift = 40;
    if ($value$plusargs("zero_point=%d", zero_point) == 0) zero_point = -3;
    forever #1 clk = ~clk;
  end

  always @(posedge clk) begin
    rst <= 1'b0;
    if (in_valid && in_ready[0]) sent <= sent + 64'(LANES);
    if (!rst && out_valid[0]) begin
      for (int lane = 0; lane < LANES; lane = lane + 1) begin
        acc = 32'(first + got) + lane;
        expected = intsim_requantize(acc, multiplier, shift, zero_point);
        if ((int'(y[lane]) != expected || !out_valid[lane]) && got + 64'(lane) < count)
          $fatal(1, "dpi: requantize(%0d) gives %0d, expected %0d", acc, y[lane], expected);
      end
      got <= got + 64'(LANES);
      if (got + 64'(LANES) >= count) begin
        $display("dpi: passed: %0d accumulators from %0d", count, first);
        $finish;
      end
    end
  end
endmodule
