// SPDX-License-Identifier: Apache-2.0
// DPI-C: an accumulator a cycle, each result compared with the C model's. Verilator only; Icarus has no DPI.
//   +first=N +count=N   accumulators   +multiplier=N +shift=N +zero_point=N   constants of the channel
module tb_requantize_dpi;
  import "DPI-C" function int intsim_requantize(
    input int acc,
    input int multiplier,
    input int shift,
    input int zero_point
  );

  logic clk = 1'b0, rst = 1'b1, in_ready, out_valid;
  longint first, count, sent = 0, got = 0;
  int multiplier, shift, zero_point, expected;
  logic signed [7:0] y;

  requantize unit (
      .clk(clk),
      .rst(rst),
      .in_valid(!rst && sent < count),
      .in_ready(in_ready),
      .acc(32'(first + sent)),
      .multiplier(multiplier),
      .shift(shift[5:0]),
      .zero_point(zero_point[7:0]),
      .out_valid(out_valid),
      .out_ready(1'b1),
      .y(y)
  );

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
    if (!rst && sent < count && in_ready) sent <= sent + 1;
    if (!rst && out_valid) begin
      expected = intsim_requantize(int'(first + got), multiplier, shift, zero_point);
      if (int'(y) != expected) $fatal(1, "dpi: requantize(%0d) gives %0d, expected %0d", first + got, y, expected);
      got <= got + 1;
      if (got + 1 == count) begin
        $display("dpi: passed: %0d accumulators from %0d", count, first);
        $finish;
      end
    end
  end
endmodule
