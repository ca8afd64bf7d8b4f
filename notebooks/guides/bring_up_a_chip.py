# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# SPDX-License-Identifier: Apache-2.0

# %% [markdown]
# # Bring up a chip
#
# You have RTL, or are about to write it, and an integer checkpoint that it shall compute. This page takes one unit from
# the rule to a passing testbench; [the next one](bring_up_a_layer.py) takes a whole layer, and the files that a chip
# team needs. Everything below is typed in a shell, as it stands.
#
# Two simulators, and cocotb for benches in Python (any of the three may be left out). On Debian and Ubuntu that is a
# download of 100 MB; `pip` is typed where intsim was installed, in its repository and virtual environment:
#
#     sudo apt-get install iverilog verilator make g++ libpython3-dev
#     pip install '.[rtl]'
#
# ## A checkpoint
#
# Any [integer checkpoint](quantize.py) serves. This one is small, and made in seconds in intsim's repository:

# %% tags=["remove-cell"]
import shell

# %% language="bash"
# chip=$(mktemp -d)
# intsim quantize tests/data/embedded-float -o $chip/film
# cd $chip

# %% [markdown]
# ## The rule
#
# What does the unit have to compute? The specification of a [profile](../reference/numerics.md) has every rule of it
# as equations, with the width of each intermediate, rounding at negative ties, constants as integers and worked
# examples: what hardware is built from, without Python.

# %% language="bash"
# intsim profiles intsim --spec spec.md
# grep -A 24 '^## Requantization' spec.md | fold -s -w 94

# %% [markdown]
# (On this site: [the whole of it](../reference/numerics-intsim.md). `--spec spec.html` writes a page.)
#
# ## A bench that passes
#
# `vectors bench` writes a folder to start from: reference RTL of a unit (requantize, add, gelu, softmax, layer_norm or
# matmul), what drives it, and a Makefile. Source and sink stall at random, resets fall into the middle of rows. Icarus
# takes seconds; Verilator compiles C++ first, which takes ten or twenty of them.

# %% language="bash"
# intsim vectors bench requantize --out requantize
# cd requantize

# %% magic_args="iverilog" language="bash"
# make icarus

# %% magic_args="verilator" language="bash"
# make verilator 2>&1 | tail -5

# %% magic_args="iverilog cocotb-config" language="bash"
# make cocotb 2>&1 | tail -2

# %% [markdown]
# The vectors in `vectors.txt` are edges and ties first, then random cases; the same bytes for the same seed for ever.
# `make cocotb` runs 200 of them, for Python is slow. `PLUSARGS="+stall=80 +resets=100 +dump=waves.vcd"` stalls more and
# writes waves; the Makefile's first lines say what else there is.
#
# ## Your unit in its place
#
# Ports and handshake are the first lines of `requantize.sv`. Here is a unit of one stage instead of three, and with a
# mistake in it, so that `make` fails:

# %% language="bash"
# cat > requantize.sv <<'END'
# module requantize #(
#     parameter int ZERO_POINT_BITS = 8,
#     parameter int Y_BITS = 8,
#     parameter bit NARROW = 1'b0
# ) (
#     input  logic clk, rst,
#     input  logic in_valid,
#     output logic in_ready,
#     input  logic signed [31:0] acc, multiplier,
#     input  logic [5:0] shift,
#     input  logic signed [ZERO_POINT_BITS-1:0] zero_point,
#     output logic out_valid,
#     input  logic out_ready,
#     output logic signed [Y_BITS-1:0] y
# );
#   wire signed [63:0] product = 64'(acc) * 64'(multiplier);
#   wire [63:0] half = (64'd1 << shift) >> 1;
#   wire signed [63:0] rounded = (product + half) >>> shift;
#   wire signed [63:0] moved = rounded + 64'(zero_point);
#   localparam logic signed [63:0] HIGHEST = (64'sd1 <<< (Y_BITS - 1)) - 64'sd1;
#   localparam logic signed [63:0] LOWEST = -HIGHEST - 64'(!NARROW);
#   assign in_ready = !out_valid || out_ready;
#   always_ff @(posedge clk)
#     if (rst) out_valid <= 1'b0;
#     else if (in_ready) begin
#       out_valid <= in_valid;
#       y <= moved < LOWEST ? LOWEST[Y_BITS-1:0]
#          : moved > HIGHEST ? HIGHEST[Y_BITS-1:0] : moved[Y_BITS-1:0];
#     end
# endmodule
# END

# %% magic_args="iverilog fails" language="bash"
# make icarus > log 2>&1

# %% magic_args="iverilog" language="bash"
# grep -m 4 '^bench' log
# tail -4 log

# %% [markdown]
# The bench says which cases, `diagnose` says why: it computes the operator again under each of 56 changes that
# hardware has been seen to make of it, and *logical shift* gives every integer that this unit gave. In SystemVerilog one
# unsigned operand, `half`, makes the whole expression unsigned, and `>>>` a logical shift. One word:

# %% magic_args="iverilog" language="bash"
# sed -i 's/wire \[63:0\] half/wire signed [63:0] half/' requantize.sv
# make icarus 2>&1 | tail -3

# %% [markdown]
# ## Your own bench
#
# Nothing here needs ours. `vectors gen` writes the cases, each line with the result in its last place, which your bench
# or board replaces by its own; `--operands-only` leaves it out, to be appended. `verify` judges: text, memh as
# `$writememh` prints it, npz, safetensors, with operands or without. What a simulator prints of itself is skipped, x and
# z are mismatches of their case, and a case that is missing, doubled or elsewhere is noticed. Here the answer of line 15
# is lost, and a simulator speaks at the end. `--level 0` is a smoke test of at most 200 cases, 1 finds every known bug
# that any input can show, 2 is thorough.

# %% language="bash"
# intsim vectors gen requantize --level 0 -o golden.txt
# sed -n '10,18p' golden.txt
# sed '15s/ [0-9a-f]*$/ xx/' golden.txt > answers.txt
# echo '- bench.sv:131: Verilog $finish' >> answers.txt

# %% magic_args="fails" language="bash"
# intsim vectors verify requantize answers.txt

# %% [markdown]
# The same in one line: `intsim vectors gen requantize --operands-only | ./device | intsim vectors verify requantize`.
# `--format memh -o FILE` writes words for `$readmemh` with a SystemVerilog package beside them, `c-header` and `npz`
# arrays ([formats](../reference/formats.md)). `--profile ita` (or `ivit`, `ibert-code`) takes that project's rules;
# `--to int16` other codes, and `--activations uint8` others to multiply, in matrix products. Units that are fused have
# vectors as a whole: `linear` is a product with its bias and its requantization, `linear_add_norm` that, its sum with a
# residual and LayerNorm.
#
# ## The constants of your model
#
# A unit seldom has to be right for every constant: it has to be right for those of your layers. `--from` and `--layer`
# take profile, formats, shapes and constants of a layer, by its name in a [trace](../reference/formats.md) (of
# `linear_add_norm` the norm's). `make` hands them on, and the package sets the parameters of the unit. For another layer,
# level or range the vectors are made anew:

# %% language="bash"
# cd ..
# intsim vectors bench softmax --out softmax
# cd softmax
# intsim vectors gen softmax --from ../film --layer encoder.layer.0.attention.self.probs \
#     --level 0 --size 8 | grep '^#'

# %% magic_args="iverilog" language="bash"
# make icarus FROM=../film LAYER=encoder.layer.0.attention.self.probs \
#     LEVEL=0 SIZE=8 2>&1 | tail -3

# %% [markdown]
# ## What have the vectors seen?
#
# `kill` makes each known bug and says which vectors catch it; `kill --coverage` counts the ties, saturations, masks and
# shifts that level 1 reaches, as a table, or as a covergroup for your own bench. An operator takes seconds, all of them
# (`kill` without a name) a minute.

# %% language="bash"
# cd ..
# intsim vectors kill requantize | head -6
# intsim vectors kill requantize --coverage table | grep -v ' shift '
# intsim vectors kill requantize --coverage covergroup | cut -c 1-92

# %% [markdown]
# ## How wide must every register be?
#
# `inspect --widths` walks the forward pass over intervals instead of arrays and prints, for every intermediate of a
# trace of level `steps`, the range that no text can leave: the bits it needs, and the bits it has. The accumulators:

# %% language="bash"
# intsim inspect film --widths | grep -E '^name|acc ' | cut -c 1-95

# %% [markdown]
# In this model the widest accumulator takes 24 of its 32 bits and a context sum 17, because 128 probabilities sum to at
# most 319. The same walk runs when a model is built: an operator that could overflow on some text is refused, by
# name. `--observe texts.txt` sets the ranges that texts reach beside it.
#
# Go on with [a whole layer](bring_up_a_layer.py).
