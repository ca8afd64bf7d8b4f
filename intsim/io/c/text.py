# SPDX-License-Identifier: Apache-2.0
"""The text of the files: what stands around the calls of a program."""

from typing import Final

from intsim.io.c.program import Program, array_text, functions, words
from intsim.io.c.rules import defines, profile_tables
from intsim.io.c.values import Value
from intsim.models.constants import Constants

__all__ = ["WEIGHTS_MAGIC", "header", "source"]


WEIGHTS_MAGIC: Final = b"intsim weights  "
"""What weights.bin begins with; the digest of the model follows, then the weights."""


def _title(model: Constants) -> str:
    return (
        f"/* Written by intsim: the integer model {model.digest}\n"
        f"   ({model.model_type}, head {model.head}, profile {model.profile.name} {model.profile.hash[:16]})"
    )


def header(model: Constants, program: Program, output: Value, *, in_file: bool) -> str:
    """Return model.h."""
    scale, config = model.output_format.scale, model.config
    rows = "1" if output.rows == 1 else "MODEL_LONGEST"
    by_step = bool(program.caches)
    load = _LOAD if in_file else ""
    return f"""{_title(model)}. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#define MODEL_DIGEST "{model.digest}"
#define MODEL_LONGEST {config.longest} /* tokens that a text may have */
#define MODEL_VOCABULARY {config.vocab_size} /* token ids are below */
#define MODEL_TYPES {config.type_vocab_size} /* segment ids are below */
#define MODEL_ROWS {rows} /* of the output, at most */
#define MODEL_COLUMNS {output.columns} /* integers of a row */
#define MODEL_VALUES (MODEL_ROWS * MODEL_COLUMNS)

/* A value stands for value * MODEL_SCALE_MULTIPLIER / 2**MODEL_SCALE_SHIFT. */
#define MODEL_SCALE_MULTIPLIER {int(scale.multiplier)}
#define MODEL_SCALE_SHIFT {int(scale.shift)}

#ifdef __cplusplus
extern "C" {{
#endif

{load}{_STEP if by_step else _RUN}
{_REQUANTIZE}
#ifdef __cplusplus
}}
#endif

#endif
"""


_LOAD: Final = """\
/* Read the weights from a file, weights.bin; return 0, or -1 if it is not that of this model.
   import "DPI-C" function int model_load(input string path); */
int32_t model_load(const char *path);

"""
_RUN: Final = """\
/* Run the model on the tokens of one text: token ids, segment ids, both below the limits above, and how many they are.
   Return how many values it wrote, or -1 if it refuses the input.
   import "DPI-C" function int model_run(input int input_ids[MODEL_LONGEST], input int token_type_ids[MODEL_LONGEST],
                                         input int tokens, output int values[MODEL_VALUES]); */
int32_t model_run(const int32_t *input_ids, const int32_t *token_type_ids, int32_t tokens, int32_t *values);
"""
_STEP: Final = """\
/* Forget all tokens: a new text begins.
   import "DPI-C" function void model_start(); */
void model_start(void);

/* Read the next token of the text; its keys and values are kept. Return how many values it wrote, or -1 if it refuses
   the token, or one more.
   import "DPI-C" function int model_step(input int token, output int values[MODEL_VALUES]); */
int32_t model_step(int32_t token, int32_t *values);
"""
_REQUANTIZE: Final = """\
/* The requantization of the profile by itself: saturate(RND((acc * multiplier + addend) / 2**shift) + zero_point).
   import "DPI-C" function int model_requantize(input longint acc, input int multiplier, input int shift,
                                                input longint addend, input int zero_point, input int low,
                                                input int high); */
int32_t model_requantize(int64_t acc, int32_t multiplier, int32_t shift, int64_t addend, int32_t zero_point,
                         int32_t low, int32_t high);
"""


def source(model: Constants, program: Program, output: Value, *, in_file: bool) -> str:
    """Return model.c."""
    scratch, calls = program.body(output.buffer)
    by_step = bool(program.caches)
    constants = "\n".join(program.constants)
    macros = {**defines(model.profile), "kept": f"{program.kept} /* a key or a value */"}
    tables = profile_tables(model.profile)
    defined, operators = functions({*words(calls), *words(constants), *words(_EXPORTED)}, macros)
    fails = "failed" in words(operators)
    forward = (_STEP_BODY if by_step else _RUN_BODY).format(
        calls=calls,
        reset="    failed = 0;\n" if fails else "",
        refused="failed ? -1 : " if fails else "",
        rows=output.rows,
        columns=output.columns,
    )
    main = (_STEP_MAIN if by_step else _RUN_MAIN).format(weights=_FIND if in_file else _NO_ARGUMENTS)
    _, helpers = functions({*words(main)}, {})
    caches = [f"static kept {cache.name}[{cache.rows} * {cache.columns}];" for cache in program.caches]
    parts = [
        f'{_title(model)}.\n{_USE}*/\n\n#include "model.h"\n\n#include <stddef.h>\n',
        "#include <stdio.h>\n#include <string.h>\n" if in_file else "",
        f"{_PROFILE}\n{defined}\n",
        *(array_text(name, table, "int32_t") for name, table in tables.items() if name in words(defined)),
        operators,
        f"{_CONSTANTS}\n{_weights(program, in_file=in_file)}{constants}\n",
        "\n".join(["/* ---- the memory */\n", *caches, scratch, ""]),
        _EXPORTED,
        _LOAD_BODY if in_file else "",
        forward,
        f"#ifndef MODEL_NO_MAIN\n\n{_MAIN_INCLUDES}\n{helpers}\n{main}\n#endif\n",
    ]
    return "\n".join(part for part in parts if part)


def _weights(program: Program, *, in_file: bool) -> str:
    """Return the weights, or where they are in the memory that the file is read into."""
    if not in_file:
        return "".join(f"{array_text(name, values, 'int8_t')}\n" for name, values in program.weights.items())
    lines, offset = list[str](), 0
    for name, values in program.weights.items():
        lines.append(f"#define {name} (weights + {offset})\n")
        offset += values.size
    return f"static int8_t weights[{offset}]; /* of weights.bin */\n{''.join(lines)}"


_USE: Final = """
   A C99 file that needs nothing but model.h beside it:
       cc -std=c99 -O2 model.c -o model
       echo "2 14 7 3" | ./model
   reads token ids, a line a text, and prints the output integers of each on a line, of a decoder the last token's.
   -DMODEL_NO_MAIN leaves out main: the functions that model.h declares are a library then, for a simulator by DPI-C, or
   for firmware.

   Every value between ids and output is an integer. Codes lie in int32_t whatever their width, products and sums that
   pass 32 bits in int64_t; the bits said beside a product are those that no input makes it pass. RND(x) is a rational
   rounded to an integer, floor(x) toward minus infinity.
"""
_INCLUDES: Final = '#include "model.h"\n\n#include <stddef.h>\n'
_PROFILE: Final = """\
/* ---- the profile: R rounds as ROUNDING says, P as STEP_ROUNDING; RHE is round_half_even, RHU round_half_up */
"""
_CONSTANTS: Final = "/* ---- the constants, under the names of the checkpoint */\n"
_EXPORTED: Final = """\
/* ---- the model */

int32_t model_requantize(int64_t acc, int32_t multiplier, int32_t shift, int64_t addend, int32_t zero_point,
                         int32_t low, int32_t high)
{
    return REQUANTIZED(acc, multiplier, shift, addend, zero_point, low, high);
}
"""
_LOAD_BODY: Final = """\
int32_t model_load(const char *path)
{
    static const char expected[] = "intsim weights  " MODEL_DIGEST;
    char head[sizeof expected - 1];
    FILE *file = fopen(path, "rb");
    int complete;
    if (file == NULL)
        return -1;
    complete = fread(head, 1, sizeof head, file) == sizeof head && memcmp(head, expected, sizeof head) == 0 &&
               fread(weights, 1, sizeof weights, file) == sizeof weights && fgetc(file) == EOF;
    fclose(file);
    return complete ? 0 : -1;
}
"""
_RUN_BODY: Final = """\
int32_t model_run(const int32_t *input_ids, const int32_t *token_type_ids, int32_t tokens, int32_t *values)
{{
    if (tokens < 1 || tokens > MODEL_LONGEST)
        return -1;
    for (int32_t i = 0; i < tokens; i++)
        if (input_ids[i] < 0 || input_ids[i] >= MODEL_VOCABULARY || token_type_ids[i] < 0 ||
            token_type_ids[i] >= MODEL_TYPES)
            return -1;
{reset}{calls}
    return {refused}{rows} * {columns};
}}
"""
_STEP_BODY: Final = """\
static int32_t past; /* how many tokens were read */

void model_start(void)
{{
    past = 0;
}}

int32_t model_step(int32_t token, int32_t *values)
{{
    const int32_t *const input_ids = &token;
    if (past >= MODEL_LONGEST || token < 0 || token >= MODEL_VOCABULARY)
        return -1;
{reset}{calls}

    past++;
    return {refused}{rows} * {columns};
}}
"""
_MAIN_INCLUDES: Final = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
_NO_ARGUMENTS: Final = """\
    if (argc > 1) {
        fprintf(stderr, "%s takes no arguments: token ids come from the standard input\\n", argv[0]);
        return 2;
    }
"""
_FIND: Final = "    find_weights(argc, argv);\n"
_RUN_MAIN: Final = """\
int main(int argc, char **argv)
{{
    static int32_t ids[MODEL_LONGEST], types[MODEL_LONGEST], values[MODEL_VALUES];
    int32_t tokens;
{weights}    for (long line = 1; (tokens = read_ids(ids, line)) >= 0; line++) {{
        const int32_t count = model_run(ids, types, tokens, values);
        if (count < 0)
            refuse(line, "be a text that the golden model takes");
        print_values(values, count);
    }}
    return 0;
}}
"""
_STEP_MAIN: Final = """\
int main(int argc, char **argv)
{{
    static int32_t ids[MODEL_LONGEST], values[MODEL_VALUES];
    int32_t tokens;
{weights}    for (long line = 1; (tokens = read_ids(ids, line)) >= 0; line++) {{
        int32_t count = 0;
        model_start();
        for (int32_t i = 0; i < tokens && count >= 0; i++)
            count = model_step(ids[i], values);
        if (count < 0)
            refuse(line, "be a text that the golden model takes");
        print_values(values, count);
    }}
    return 0;
}}
"""
