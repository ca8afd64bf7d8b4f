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
# # Bring up a whole layer
#
# [Each unit passes](bring_up_a_chip.py). Now a sentence goes through a whole layer of RTL, the weights into the memories
# of a testbench, and the model into UVM and firmware as C. All of it is typed in a shell, but for a few lines of Python
# in the same folder; the first lines make a small integer checkpoint, which yours may replace.

# %% tags=["remove-cell"]
import shell

# %% language="bash"
# layer=$(mktemp -d)
# intsim quantize tests/data/embedded-float -o $layer/film
# cd $layer

# %% [markdown]
# ## A layer in the simulator
#
# A trace of level `steps` holds every intermediate, and what it takes to compute each operator again: operands and
# constants. `vectors replay` puts a simulator behind it: for every call of a layer that there is a unit for, it writes a
# bench with the operands of that call, runs it in Icarus, and collects what the RTL answered (half a minute to two).

# %% language="bash"
# intsim run film --text "a nice day" --trace trace.safetensors --level steps

# %% magic_args="iverilog" language="bash"
# intsim vectors replay trace.safetensors --layer 'encoder.layer.0.*' \
#     --out device.npz --work sim
# intsim compare trace.safetensors device.npz

# %% [markdown]
# The whole layer is equal to the bit: eight matmuls, six requantizations, softmax, GELU, both residual sums and both
# norms. What no unit computes is skipped, and said. With `--weights FOLDER`, of `export --memh --word-bits 64`, weights
# and constants come from those files, as they do in your chip. Your own RTL takes the place of the reference's files by
# `--units FOLDER`; `--stall 30 --resets 2` disturbs it. Here is a softmax whose divider does not round:

# %% magic_args="iverilog" language="bash"
# mkdir units
# sed "s/{remainder, 1'b0} >= {1'b0, total}/1'b0/" sim/007-softmax/softmax.sv > units/softmax.sv
# intsim vectors replay trace.safetensors --layer '*.layer.0.*.probs' --units units \
#     --out wrong.npz --work sim-wrong

# %% magic_args="iverilog fails" language="bash"
# intsim compare trace.safetensors wrong.npz --max-errors 3

# %% magic_args="iverilog fails" language="bash"
# intsim diagnose trace.safetensors wrong.npz | tail -4

# %% [markdown]
# `compare` names the first tensor in forward order that differs, its indices, both values and the difference in LSB.
# `diagnose` runs that tensor's operator again from the golden operands, so that an earlier difference does not hide the
# cause of this one. Several changes may give the same integers here; a longer text tells them apart.
#
# ## What your bench or board writes
#
# A partial dump is enough, in the form that you have: npz, `.npy`, raw bytes, decimal text, `$writememh` with
# `@address`, x and z, packed lanes and tiles. Values are compared, not dtypes. This board gave its tensors names of its
# own, wrote the first two tokens of one as big-endian 64-bit words, and the channels of the other from the last to the
# first:

# %%
import numpy as np

from intsim.io.trace_file import read_trace

trace, _ = read_trace("trace.safetensors")
query, key = (trace[f"encoder.layer.0.attention.self.{name}"] for name in ("query", "key"))
np.savez("board.npz", q0=query[0, :2].astype(">i8"), k0=key[..., ::-1].astype(float))

# %% magic_args="fails" language="bash"
# cat > names.json <<'END'
# {"q0": "encoder.layer.0.attention.self.query", "k0": "encoder.layer.0.attention.self.key"}
# END
# intsim compare trace.safetensors board.npz --names names.json --slice '*.query=:, :2' \
#     --max-errors 2

# %% [markdown]
# The query is equal; of the key it says *right values in another order: columns reversed*, which a column of
# differences would not have told. The trace itself can be written as the files that you want to compare with in a
# bench: `intsim run film --text "a nice day" --trace golden/` makes a folder of memh files, `--trace golden.npz` an npz.
#
# ## Weights in your memories
#
# `export --memh` writes weights, biases, multipliers, shifts, zero points, ranges and tables, a file each, with a manifest
# and a SystemVerilog package of their sizes. The [layout](../reference/formats.md#layouts) is yours: here tiles of 4 x 4,
# four lanes a word.

# %% language="bash"
# intsim export film --memh weights --layer encoder.layer.0.attention.self.query \
#     --tile 4x4 --lanes 4
# ls weights
# head -4 weights/encoder.layer.0.attention.self.query.weight.memh

# %% [markdown]
# A testbench reads them by the names in the package, and this one writes them back, as a memory dump would:

# %% language="bash"
# cat > read.sv <<'END'
# module read;
#   import intsim_model_pkg::*;
#   logic [ENCODER_LAYER_0_ATTENTION_SELF_QUERY_WEIGHT_WORD_BITS-1:0]
#       memory[0:ENCODER_LAYER_0_ATTENTION_SELF_QUERY_WEIGHT_DEPTH-1];
#   initial begin
#     $readmemh({"weights/", ENCODER_LAYER_0_ATTENTION_SELF_QUERY_WEIGHT_FILE}, memory);
#     $writememh({"back/", ENCODER_LAYER_0_ATTENTION_SELF_QUERY_WEIGHT_FILE}, memory);
#   end
# endmodule
# END

# %% magic_args="iverilog" language="bash"
# mkdir back
# iverilog -g2012 -o read.vvp weights/intsim_model_pkg.sv read.sv
# vvp read.vvp
# intsim compare film back --tile 4x4 --lanes 4

# %% [markdown]
# Without the layout, `compare` would have said *right values in another order: tiles of 4x4*. And do the files hold what
# the RTL needs? With `--weights` its units read weights and constants from them, and only activations from the trace:

# %% magic_args="iverilog" language="bash"
# intsim vectors replay trace.safetensors --layer '*.layer.0.attention.self.query*' \
#     --weights weights --out loaded.npz --work sim-weights
# intsim compare trace.safetensors loaded.npz

# %% [markdown]
# ## The model in C
#
# `export --c` writes the whole model as one C99 file, without floats and allocations in its forward pass, each operator
# a function commented with its rule. It reads token ids, a line a text, and prints integers:

# %% language="bash"
# intsim export film --c c
# cc -std=c99 -O2 c/model.c -o model
# echo "2 43 1397 1280 3" | ./model
# grep -B 2 -A 5 '^static int32_t requantized' c/model.c

# %% [markdown]
# The two numbers are the `output` that `intsim run` printed for these `ids`. `-DMODEL_NO_MAIN` makes a library of it,
# whose functions `c/model.h` declares, for firmware, and for UVM by DPI-C: no Python in the bench. Verilator takes ten to
# twenty seconds to build this one.

# %% language="bash"
# cat > dpi.sv <<'END'
# module dpi;
#   import "DPI-C" function int model_run(input int input_ids[128], input int token_type_ids[128],
#                                         input int tokens, output int values[2]);
#   int ids[128], types[128], values[2];
#   initial begin
#     ids[0:4] = '{2, 43, 1397, 1280, 3};
#     if (model_run(ids, types, 5, values) != 2) $fatal(1, "refused");
#     $display("%0d %0d", values[0], values[1]);
#     $finish;
#   end
# endmodule
# END

# %% magic_args="verilator" language="bash"
# verilator --binary -CFLAGS -DMODEL_NO_MAIN --top-module dpi --Mdir obj -o dpi \
#     dpi.sv c/model.c > log
# obj/dpi

# %% [markdown]
# `make dpi` in the folder of `vectors bench requantize` holds the RTL unit against C for every one of $2^{32}$ accumulators;
# that this C is intsim's rule for all of them is a test of its own, of half an hour: `INTSIM_ALL_ACCUMULATORS=1 pytest -m
# slow tests/verify/test_bench.py -k every_accumulator`.
# Of weights beyond 4 MB there is a binary file beside the program; decoders are a function of one token.
#
# ## Which model was it?
#
# An integer checkpoint carries a digest, the SHA-256 of its tensors, formats, configuration, profile, recipe and
# tokenizer, which loading verifies. `intsim inspect` and the JSON of `run`, `eval` and `report` show it, traces, exports
# and vectors of a layer carry it, and `compare` and `diagnose` say when a trace is of another model.
#
# From Python, {py:func}`intsim.verify.replay.replay` runs any function of yours on every recorded call:
# `replay(trace, {"softmax": my_kernel})` ([hold a kernel](hold_a_kernel.py)). What tracing costs is under
# [time and memory](../reference/speed.md). A thread that you start inside `intsim.trace()` is traced if it runs in a copy
# of the block's context: `asyncio.to_thread(model, ids)`, or `Thread(target=contextvars.copy_context().run, args=(model,
# ids))`.
