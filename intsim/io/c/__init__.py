# SPDX-License-Identifier: Apache-2.0
"""Integer models as C: one self-contained C99 file that computes the integers of the golden model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from intsim._progress import counting
from intsim._trace import interpreted_by
from intsim.errors import IntsimError
from intsim.io.atomic import Kind, check_writable, complete_file
from intsim.io.c.operators import EMITTERS, pick_token
from intsim.io.c.program import Buffer, Program
from intsim.io.c.text import WEIGHTS_MAGIC, header, source
from intsim.io.c.values import Mask, Value
from intsim.models.cache import Cache
from intsim.models.constants import Constants
from intsim.models.integers import advance, run
from intsim.models.widths import widths

__all__ = ["WEIGHTS_FILE", "check_folder", "export"]

WEIGHTS_FILE: Final = "weights.bin"
MAX_INLINE: Final = 1 << 22  # bytes of weights in the source text


def _begins(text: bytes) -> Callable[[BinaryIO], bool]:
    return lambda file: file.read(len(text)) == text


CODE: Final = Kind("C that intsim wrote", _begins(b"/* Written by intsim"))
WEIGHTS: Final = Kind("weights that intsim wrote", _begins(WEIGHTS_MAGIC))


def check_folder(folder: Path) -> None:
    """Refuse a folder that ``export`` could not write to.

    Raises
    ------
    IntsimError
        If a file cannot be written, or there is another of its name.
    """
    for name, kind in (("model.c", CODE), ("model.h", CODE), (WEIGHTS_FILE, WEIGHTS)):
        check_writable(folder / name, kind)


def export(model: Constants, folder: str | Path) -> list[str]:
    """Write ``model`` as C99 that computes ``model(...).values`` of one text without padding, to the bit.

    ``model.c`` and ``model.h`` need the standard library for ``main`` alone: the forward pass has no float, allocates
    nothing and calls nothing but itself. ``cc -std=c99 -O2 model.c -o model`` makes a program that reads token ids, a
    line a text, and prints the output integers of each on a line; with -DMODEL_NO_MAIN it is a library, whose functions
    model.h declares, for DPI-C too. Weights of more than 4 MB go into ``weights.bin`` beside them.

    An encoder is one function of all tokens of a text, and so is a decoder that finds ranges for each text. Any other
    decoder is a function of one token, which keeps keys and values; its program prints the output of the last token.

    Parameters
    ----------
    model
        The model.
    folder
        Where to write: each file is complete, or not there.

    Returns
    -------
    list of str
        The names of the files.

    Raises
    ------
    IntsimError
        If the model has an operator or a rule that has no function in C, or a file cannot be written.
    """
    folder = Path(folder)
    check_folder(folder)
    program, output = _walked(model)
    in_file = sum(values.nbytes for values in program.weights.values()) > MAX_INLINE
    files: dict[str, tuple[Kind, list[bytes]]] = {
        "model.h": (CODE, [header(model, program, output, in_file=in_file).encode()]),
        "model.c": (CODE, [source(model, program, output, in_file=in_file).encode()]),
    }
    if in_file:
        parts = [WEIGHTS_MAGIC + model.digest.encode(), *(values.tobytes() for values in program.weights.values())]
        files[WEIGHTS_FILE] = (WEIGHTS, parts)
    for name, (kind, parts) in files.items():
        with complete_file(folder / name, kind) as file:
            file.writelines(parts)
    return list(files)


def _walked(model: Constants) -> tuple[Program, Value]:
    """Walk over the model; return its program and its output."""
    outline, longest = model.outline, model.config.longest
    by_step = bool(outline.cached) and all(how.per == "token" for how in model.dynamic.values())
    program = Program(
        tensors=model.tensors,
        longest=longest,
        past="past" if by_step else "0",
        widths={name: width.bits for name, width in widths(model).items() if ".acc" in name},
    )

    def interpret(
        name: str, operator: Callable[..., Any], operands: tuple[Any, ...], constants: Mapping[str, Any]
    ) -> Any:
        program.scope = name
        if operator not in EMITTERS:
            msg = f"operator of '{name}' must be one of those that can be exported as C, got {operator.__name__}"
            raise IntsimError(msg)
        return EMITTERS[operator](*operands, **constants)

    tokens = 1 if by_step else "tokens"
    ids, types = (
        Value(program, Buffer(name, "int32_t", tokens, 1), (1, tokens), np.dtype(np.int64))
        for name in ("input_ids", "token_type_ids")
    )
    inputs: dict[str, Any] = {"input_ids": ids, "mask": Mask(program, tokens), "token_type_ids": types}
    with counting("exporting", unit="product"), interpreted_by(interpret):
        if by_step:
            output: Any = advance(model, cache=_cache(model, program), **inputs)[0]
        else:
            output = run(model, **inputs)
    if outline.cached and output.rows != 1:  # the hidden states of all tokens
        program.scope = "last_token"
        output = pick_token(output, None, which="last")
    return program, output


def _cache(model: Constants, program: Program) -> Any:
    """Return a cache of as many tokens as ``past`` says."""
    dtypes = {name: model.formats[name].range.dtype for name in model.outline.cached}
    program.kept = f"{np.result_type(*dtypes.values())}_t"
    codes = dict[str, Any]()
    for name, dtype in dtypes.items():
        channels = model.outline.activations[name].channels
        cache = program.buffer(f"{name}.kept", program.longest, channels, program.kept)
        program.caches.append(cache)
        codes[name] = Value(program, cache, (1, "columns", channels), dtype)
    mask: Any = Mask(program, "past")
    return Cache(model=model.digest, mask=mask, codes=codes)
