// SPDX-License-Identifier: Apache-2.0
// root = floor(sqrt(n)), exact for every n: digit by digit from the top, a bit of the root a cycle.
module isqrt #(
    parameter int ROOT_BITS = 31
) (
    input  logic clk,
    input  logic rst,
    input  logic start,
    input  logic [2*ROOT_BITS-1:0] n,
    output logic busy,
    output logic done,  // for one cycle, with the root, which then stays
    output logic [ROOT_BITS-1:0] root
);
  localparam int COUNT_BITS = $clog2(ROOT_BITS + 1);
  logic [COUNT_BITS-1:0] left;
  logic [2*ROOT_BITS-1:0] rest;  // the bits of n not used yet, at the top
  logic [ROOT_BITS+1:0] remainder;  // of the root so far: at most 2 * root

  // two more bits of n; the next bit of the root is 1 if (2 root + 1) 2**k fits what remains
  wire [ROOT_BITS+3:0] brought = {remainder, rest[2*ROOT_BITS-1-:2]};
  wire [ROOT_BITS+3:0] tried = {2'b00, root, 2'b01};
  wire fits = brought >= tried;
  wire [ROOT_BITS+3:0] difference = brought - tried;

  assign busy = left != '0;
  always_ff @(posedge clk) begin
    done <= 1'b0;
    if (rst) left <= '0;
    else if (busy) begin
      remainder <= fits ? difference[ROOT_BITS+1:0] : brought[ROOT_BITS+1:0];
      root <= {root[ROOT_BITS-2:0], fits};
      rest <= rest << 2;
      left <= left - 1'b1;
      done <= left == COUNT_BITS'(1);
    end else if (start) begin
      remainder <= '0;
      root <= '0;
      rest <= n;
      left <= COUNT_BITS'(ROOT_BITS);
    end
  end
endmodule
