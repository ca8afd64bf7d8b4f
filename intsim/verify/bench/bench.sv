// SPDX-License-Identifier: Apache-2.0
// The common part of the benches: clock, reset, a source and a sink that stall at random, checks of the handshake, and
// the files. A tb_*.sv maps the words of a case onto the ports of its unit.
//
//   +vectors=FILE   what `intsim vectors gen OP` wrote (vectors.txt)
//   +answers=FILE   the same lines with the unit's results, for `intsim vectors verify OP FILE` (answers.txt)
//   +stall=PERCENT  of the cycles in which the source has nothing to give, or the sink takes nothing (30)
//   +resets=COUNT   resets, spread over the run and in the middle of rows; what they threw away is sent again (10)
//   +seed=NUMBER    of the stalls and the cycles of the resets (1)
//   +dump=FILE.vcd  waves
module bench #(
    parameter int CASES = 1,
    parameter int OPERANDS = 1,  // words of a case
    parameter int IN_BEATS = 1,  // of a case
    parameter int OUT_BEATS = 1,
    parameter int LANES = 1,  // results of a beat
    parameter int DIGITS = 2  // hexadecimal digits of a result
) (
    output logic clk,
    output logic rst,  // synchronous, active high
    output logic in_valid,
    input  logic in_ready,
    output int in_beat,
    output logic in_last,
    output logic [64*OPERANDS-1:0] words,  // of this case, 64 bits each, the first lowest; inverted while not valid
    input  logic out_valid,
    output logic out_ready,
    input  logic out_last,
    input  logic [4*DIGITS*LANES-1:0] result  // lane 0 lowest
);
  localparam int RESULTS = OUT_BEATS * LANES;
  localparam int BITS = 4 * DIGITS;
  localparam int PATIENCE = 20000;  // cycles without a handshake
  localparam int SHOWN = 10;  // mismatches

  string vectors, answers, waves;
  int character, header, line;  // one; lines of the header; characters of a case
  int file, copy, code, stall, resets, seed;
  logic [63:0] word;
  logic [64*OPERANDS-1:0] operands[CASES];
  logic [BITS*RESULTS-1:0] expected[CASES];
  logic [BITS*RESULTS-1:0] observed[CASES];

  int unsigned random;
  int sent, got, got_beat, lane;  // cases; beats of the case being taken
  int reset_number, reset_delay, reset_left, idle, surplus, problems, mismatches;
  logic held, held_last, advance, was_rst;
  logic [BITS*LANES-1:0] held_result;

  function automatic int unsigned next_random(input int unsigned x);  // xorshift: the same in every simulator
    int unsigned y;
    y = x ^ (x << 13);
    y = y ^ (y >> 17);
    next_random = y ^ (y << 5);
  endfunction

  // ---------------------------------------------------------------------------------------------------------- files
  task automatic open_vectors;
    file = $fopen(vectors, "r");
    if (file == 0) $fatal(1, "bench: cannot read %s", vectors);
  endtask

  task automatic pass_lines(input int count, input int to);  // copied to an open file, if there is one
    repeat (count) begin
      character = 0;
      while (character != "\n" && character != -1) begin
        character = $fgetc(file);
        if (to != 0 && character != -1) $fwrite(to, "%c", character[7:0]);
      end
    end
  endtask

  task automatic read_vectors;
    header = 0;
    line = 1;
    open_vectors;
    character = $fgetc(file);
    while (character == "#") begin
      pass_lines(1, 0);
      header = header + 1;
      character = $fgetc(file);
    end
    while (character != "\n" && character != -1) begin
      character = $fgetc(file);
      line = line + 1;
    end
    $fclose(file);
    open_vectors;
    pass_lines(header, 0);
    for (int i = 0; i < CASES; i = i + 1) begin
      for (int j = 0; j < OPERANDS; j = j + 1) begin
        code = $fscanf(file, "%h", word);
        operands[i][64*j+:64] = word;
      end
      for (int j = 0; j < RESULTS; j = j + 1) begin
        code = $fscanf(file, "%h", word);
        expected[i][BITS*j+:BITS] = word[BITS-1:0];
      end
      if (code != 1) $fatal(1, "bench: %s must have %0d cases with their results, got %0d", vectors, CASES, i);
    end
    $fclose(file);
  endtask

  task automatic write_answers;
    open_vectors;
    copy = $fopen(answers, "w");
    pass_lines(header, copy);
    for (int i = 0; i < CASES; i = i + 1) begin
      for (int j = 0; j < line; j = j + 1) begin
        character = $fgetc(file);
        if (j < line - 1 - RESULTS * (DIGITS + 1)) $fwrite(copy, "%c", character[7:0]);  // the operands
      end
      for (int j = 0; j < RESULTS; j = j + 1)
        if (i < got) $fwrite(copy, " %h", observed[i][BITS*j+:BITS]);
        else $fwrite(copy, " %s", {DIGITS{"x"}});  // never answered
      $fwrite(copy, "\n");
    end
    $fclose(file);
    $fclose(copy);
  endtask

  task automatic problem(input string what);
    if (problems < SHOWN) $display("bench: time %0t: case %0d: %s", $time, got, what);
    problems = problems + 1;
  endtask

  task automatic finish;
    write_answers;
    if (problems == 0 && mismatches == 0 && got == CASES) begin
      $display("bench: passed: %0d cases, %0d resets, at time %0t", CASES, reset_number, $time);
      $finish;
    end else
      $fatal(1, "bench: failed: %0d of %0d cases answered, %0d wrong, %0d handshake errors", got, CASES, mismatches,
             problems);
  endtask

  task automatic show_mismatch;
    for (int j = RESULTS - 1; j >= 0; j = j - 1) if (observed[got][BITS*j+:BITS] !== expected[got][BITS*j+:BITS]) lane = j;
    $display("bench: time %0t: case %0d (line %0d of %0s), result %0d: %h, expected %h", $time, got, header + 1 + got, vectors,
             lane, observed[got][BITS*lane+:BITS], expected[got][BITS*lane+:BITS]);
  endtask

  // ---------------------------------------------------------------------------------------------------- the stimulus
  initial begin
    if ($value$plusargs("vectors=%s", vectors) == 0) vectors = "vectors.txt";
    if ($value$plusargs("answers=%s", answers) == 0) answers = "answers.txt";
    if ($value$plusargs("stall=%d", stall) == 0) stall = 30;
    if ($value$plusargs("resets=%d", resets) == 0) resets = 10;
    if ($value$plusargs("seed=%d", seed) == 0) seed = 1;
    if ($value$plusargs("dump=%s", waves) != 0) begin
      $dumpfile(waves);
      $dumpvars;
    end
    random = 32'h9e3779b9 ^ seed;
    {sent, got, got_beat, in_beat, reset_number, idle, surplus, problems, mismatches} = '0;
    {in_valid, out_ready, held, was_rst} = '0;
    rst = 1'b1;
    reset_left = 3;
    reset_delay = -1;
    read_vectors;
    clk = 1'b0;
    forever #5 clk = ~clk;
  end

  assign words = in_valid ? operands[sent] : ~operands[sent < CASES ? sent : 0];
  assign in_last = in_beat == IN_BEATS - 1;

  always @(posedge clk) begin
    random = next_random(random);
    idle = idle + 1;

    // what the unit did in the cycle that ends now
    if (rst) begin
      if (was_rst && out_valid !== 1'b0) problem("out_valid must be low while rst is high");
    end else begin
      if (in_ready !== 1'b0 && in_ready !== 1'b1) problem("in_ready must be 0 or 1");
      if (out_valid !== 1'b0 && out_valid !== 1'b1) problem("out_valid must be 0 or 1");
      if (held && out_valid !== 1'b1) problem("out_valid must stay until out_ready");
      if (held && out_valid === 1'b1 && (result !== held_result || out_last !== held_last))
        problem("results must not change before out_ready");
    end
    was_rst = rst;
    held = !rst && out_valid === 1'b1 && !out_ready;
    held_result = result;
    held_last = out_last;
    if (!rst && out_valid === 1'b1 && out_ready) take;

    // what it is given in the next one
    advance = !rst && in_valid && in_ready === 1'b1;
    if (advance) begin
      idle = 0;
      sent <= in_last ? sent + 1 : sent;
      in_beat <= in_last ? 0 : in_beat + 1;
    end
    if (!in_valid || advance)
      in_valid <= 32'(random[7:0]) % 100 >= stall && (advance && in_last ? sent + 1 : sent) < CASES;
    out_ready <= 32'(random[15:8]) % 100 >= stall;

    // resets: after a share of the results, and some cycles more
    if (reset_left > 0) begin
      reset_left = reset_left - 1;
      if (reset_left == 0) rst <= 1'b0;
    end else if (reset_delay >= 0) begin
      reset_delay = reset_delay - 1;
      if (reset_delay < 0) begin
        reset_left = 1 + int'(random[25:24]);
        reset_number = reset_number + 1;
        rst <= 1'b1;
        in_valid <= 1'b0;
        sent <= got;
        in_beat <= 0;
        got_beat = 0;
        held = 1'b0;
        idle = 0;
      end
    end else if (reset_number < resets && got * (resets + 1) >= (reset_number + 1) * CASES && got < CASES)
      reset_delay = int'(random[31:24]);

    if (got == CASES) surplus = surplus + 1;  // wait for results that nobody asked for
    if (idle == PATIENCE) begin
      problem("nothing moves any more");
      finish;
    end else if (surplus == 500) finish;
  end

  task automatic take;
    idle = 0;
    if (got >= sent) problem("a result before its operands");
    else begin
      observed[got][BITS*LANES*got_beat+:BITS*LANES] = result;
      if (out_last !== (got_beat == OUT_BEATS - 1)) problem("out_last must come with the last result");
      got_beat = got_beat + 1;
      if (got_beat == OUT_BEATS) begin
        if (observed[got] !== expected[got]) begin
          if (mismatches < SHOWN) show_mismatch;
          mismatches = mismatches + 1;
        end
        got = got + 1;
        got_beat = 0;
      end
    end
  endtask
endmodule
