# SPDX-License-Identifier: Apache-2.0
r"""A simulator behind ``replay``: the units of ``intsim vectors bench`` run on the operands of a model's own calls.

From a text to the verdict, with Icarus Verilog, on the command line::

    intsim run DIR --text "a quiet and powerful film" --trace trace.safetensors --level steps
    intsim vectors replay trace.safetensors --layer "encoder.layer.0.*" --out device.npz --work sim
    intsim compare trace.safetensors device.npz
    intsim diagnose trace.safetensors device.npz

and in Python::

    from intsim.verify.replay import replay
    from intsim.verify.simulator import simulated

    print(replay("trace.safetensors", simulated("sim"), layer="encoder.layer.0.*").first)

With ``intsim export DIR --memh w`` and ``vectors replay --weights w`` the units read the weights and constants of those
files, and activations of the trace.

``sim`` has a folder a call, with the bench, its vectors, its answers and a Makefile. Your own units, in a folder with
the names of the reference's files, take their place by ``--units FOLDER`` and ``units=``.
"""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.errors import IntsimError
from intsim.fixedpoint import INT16, Dyadic, IntRange
from intsim.io.atomic import Kind
from intsim.io.trace_file import repeated
from intsim.ops.layer_norm import LayerNormParams
from intsim.profile import INTSIM
from intsim.verify.bench import BENCHES, write_bench
from intsim.verify.replay import NotComputedError
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.formats import system_verilog_package
from intsim.verify.vectors.operators import Operator, bind
from intsim.verify.vectors.text import format_lines

__all__ = ["RESULTS", "simulated"]


def _is_npz(file: BinaryIO) -> bool:
    return file.read(2) == b"PK"


RESULTS: Final = Kind("an npz", _is_npz)
TILE: Final = 4  # rows and columns that the product unit computes at a time
WORD_BITS: Final = 32  # of the package, whose layout the benches do not use


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """A call as cases of test vectors, and the way back: rows of results to the array of the call."""

    operator: Operator
    operands: Int64  # (cases, operand words)
    results: Int64  # (cases, result words), the expected ones
    back: Callable[[Int64], Int64]


def simulated(
    folder: str | Path, *, units: str | Path | None = None, stall: int = 0, resets: int = 0
) -> Mapping[str, Callable[..., NDArray[np.integer]]]:
    """Return kernels of ``replay`` that run each call in Icarus Verilog.

    Parameters
    ----------
    folder
        A new or empty one for the benches, one a call.
    units
        A folder with RTL in the place of the reference's files of the same names.
    stall, resets
        Percent of stalled cycles, and number of resets, in each call.

    Raises
    ------
    IntsimError
        If Icarus is not installed; from a kernel, if a unit does not compile or does not answer every case.
    NotComputedError
        From a kernel, if the units do not compute the call: of another profile's rules, or of formats beyond theirs.
    """
    if shutil.which("iverilog") is None:
        msg = "simulator must be installed to replay calls in it, got no iverilog; install the package iverilog"
        raise IntsimError(msg)
    numbers = count()

    def kernel(name: str, *operands: Any, **constants: Any) -> NDArray[np.integer]:
        expected = repeated(getattr(ops, name), operands, constants)
        cases = CASES[name](expected, *operands, **constants)
        place = Path(folder) / f"{next(numbers):03}-{name}"
        write_bench(name, place)
        for path in [] if units is None else sorted(Path(units).glob("*.sv")):
            if path.name in BENCHES[name]:
                shutil.copyfile(path, place / path.name)
        _write(cases, place)
        _simulate(cases, place, f"+stall={stall}", f"+resets={resets}")
        return cases.back(_answers(cases, place)).astype(expected.dtype).reshape(expected.shape)

    return {name: partial(kernel, name) for name in BENCHES}


def _write(cases: Cases, place: Path) -> None:
    operator = cases.operator
    fields = [*operator.operands, operator.result]
    header = [f"operator: {operator.name}", f"cases: {len(cases.operands)}", *(f"field: {field}" for field in fields)]
    lines = format_lines(fields, np.concatenate([cases.operands, cases.results], axis=1))
    text = "".join(f"# {line}\n" for line in header).encode()
    (place / "vectors.txt").write_bytes(text + lines.tobytes())
    package = system_verilog_package(operator, header, cases.operands, cases.results, word_bits=WORD_BITS)
    (place / f"intsim_{operator.name}_pkg.sv").write_text(package)


def _simulate(cases: Cases, place: Path, *options: str) -> None:
    name = cases.operator.name
    units = [file for file in BENCHES[name] if file.endswith(".sv") and not file.startswith("tb_")]
    sources = [f"intsim_{name}_pkg.sv", *units, "bench.sv", f"tb_{name}.sv"]
    _run(place, "iverilog", "-g2012", "-s", f"tb_{name}", "-o", "icarus.vvp", *sources)
    _run(place, "vvp", "-n", "icarus.vvp", "+answers=answers_icarus.txt", *options, may_differ=True)


def _run(place: Path, *command: str, may_differ: bool = False) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)  # noqa: S603
    told = (done.stdout + done.stderr).splitlines() or ["nothing was said"]
    if done.returncode and not (may_differ and any(" 0 handshake errors" in line for line in told)):
        verdict = next((line for line in told if "bench: failed" in line), told[0])
        msg = f"{command[0]} must succeed in {place}, got: {verdict}"
        raise IntsimError(msg)


def _answers(cases: Cases, place: Path) -> Int64:
    result = cases.operator.result
    lines = (place / "answers_icarus.txt").read_text().splitlines()
    rows = [line.split()[-result.count :] for line in lines if not line.startswith("#")]
    try:
        words = np.array([[int(word, 16) for word in row] for row in rows], np.int64)
    except ValueError:
        msg = f"unit must answer with 0 and 1 alone, got X or Z in {place / 'answers_icarus.txt'}"
        raise IntsimError(msg) from None
    sign = 1 << 4 * result.digits - 1 if result.signed else 0
    return (words ^ sign) - sign


# A call -> its cases, one function an operator


def _require(name: str, is_computed: bool, what: object) -> None:  # noqa: FBT001
    if not is_computed:
        msg = f"{name} must be a call that the reference units compute, got {what}"
        raise NotComputedError(msg)


def _given_as(operator: Operator, to: IntRange) -> Operator:
    """Return the operator with a result in the codes ``to``, as wide as its zero point, if it has one."""
    _require(operator.name, to.signed and to.bits in (8, 16, 32), to)
    operands = [replace(each, bits=to.bits) if each.name == "zero_point" else each for each in operator.operands]
    result = replace(operator.result, bits=to.bits)
    return replace(operator, operands=tuple(operands), result=result, formats=operator.formats._replace(to=to))


def _rows(*fields: Any) -> Int64:
    """Return fields (cases, words) or (words,) as the columns of cases."""
    most = max(len(field) for field in fields if field.ndim > 1)
    return np.concatenate(
        [np.broadcast_to(np.atleast_2d(field), (most, np.atleast_2d(field).shape[1])) for field in fields], axis=1
    ).astype(np.int64)


def _requantize(
    expected: Any, acc: Any, ratio: Dyadic, *, to: IntRange, rounding: Any, zero_point: Any = 0, addend: Any = None
) -> Cases:
    _require("requantize", rounding in (INTSIM.requantization, INTSIM.rounding), rounding)
    _require("requantize", addend is None, "an addend")
    return _of_elements(
        _given_as(bind("requantize", INTSIM), to), expected, acc, ratio.multiplier, ratio.shift, zero_point
    )


def _of_elements(operator: Operator, expected: Any, *fields: Any) -> Cases:
    """Return a case for each element; fields broadcast to the shape of the first."""
    words = [np.broadcast_to(field, expected.shape).reshape(-1).astype(np.int64) for field in fields]
    results = expected.reshape(-1, 1).astype(np.int64)
    return Cases(operator=operator, operands=np.stack(words, axis=1), results=results, back=lambda y: y)


def _add(expected: Any, terms: Any, ratios: Any, *, to: IntRange, profile: Any, zero_point: Any = 0) -> Cases:
    _require("add", profile == INTSIM, f"profile {profile.name}")
    _require("add", len(terms) == 2, f"{len(terms)} terms")
    acc, residual = terms
    reach = int(residual.min(initial=0)), int(residual.max(initial=0))
    _require("add", INT16.min <= reach[0] and reach[1] <= INT16.max, f"a residual from {reach[0]} to {reach[1]}")
    multipliers, shift = [ratio.multiplier for ratio in ratios], ratios[0].shift
    return _of_elements(_given_as(bind("add", profile), to), expected, acc, residual, *multipliers, shift, zero_point)


def _gelu(expected: Any, x: Any, *, profile: Any) -> Cases:
    _require("gelu", profile == INTSIM, f"profile {profile.name}")
    return _of_elements(bind("gelu", profile), expected, x)


def _softmax(expected: Any, acc: Any, ratio: Dyadic, *, profile: Any, mask: Any = None) -> Cases:
    _require("softmax", profile == INTSIM, f"profile {profile.name}")
    length = acc.shape[-1]
    kept = np.ones(acc.shape, np.int64) if mask is None else np.broadcast_to(mask, acc.shape)
    operands = _rows(
        acc.reshape(-1, length), kept.reshape(-1, length), *map(np.atleast_1d, (ratio.multiplier, ratio.shift))
    )
    results = expected.reshape(-1, length).astype(np.int64)
    return Cases(operator=bind("softmax", profile, (length,)), operands=operands, results=results, back=lambda y: y)


def _layer_norm(expected: Any, x: Any, params: LayerNormParams, *, to: IntRange, profile: Any) -> Cases:
    what = f"{x.dtype} to {to} in profile {profile.name}"
    _require("layer_norm", profile == INTSIM and x.dtype.itemsize <= 2, what)
    channels = x.shape[-1]
    weight, eps = params.weight, np.array([params.eps])
    operands = _rows(x.reshape(-1, channels), weight.multiplier, params.bias, weight.shift[:1], eps)
    operator = _given_as(bind("layer_norm", profile, (channels,)), to)
    results = expected.reshape(-1, channels).astype(np.int64)
    return Cases(operator=operator, operands=operands, results=results, back=lambda y: y)


def _matmul(
    expected: Any,
    x: Any,
    w: Any,
    *,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
    bias: Any = None,
    carrier: Any = None,  # noqa: ARG001  how ours is carried
) -> Cases:
    what = f"{x.dtype} times {w.dtype} of zero points {x_zero_point} and {w_zero_point}"
    _require("matmul", x_zero_point == w_zero_point == 0 and x.dtype.itemsize == 1 and w.dtype == np.int8, what)
    rows, depth, columns = x.shape[-2], x.shape[-1], w.shape[-2]
    offset = np.zeros(columns, np.int64) if bias is None else bias
    operands: list[Int64] = []
    results: list[Int64] = []
    spans = [_spans(rows), _spans(columns)]
    stacks = np.broadcast_to(w, (*x.shape[:-2], columns, depth)).reshape(-1, columns, depth)
    for a, b, acc in zip(x.reshape(-1, rows, depth), stacks, expected.reshape(-1, rows, columns), strict=True):
        for m in spans[0]:
            for n in spans[1]:
                operands.append(np.concatenate([a[m].reshape(-1), b[n].reshape(-1), offset[n]]).astype(np.int64))
                results.append(acc[np.ix_(m, n)].reshape(-1).astype(np.int64))

    def back(tiles: Int64) -> Int64:
        acc, tile = np.empty((len(stacks), rows, columns), np.int64), iter(tiles)
        for each in acc:
            for m in spans[0]:
                for n in spans[1]:
                    each[np.ix_(m, n)] = next(tile).reshape(TILE, TILE)
        return acc

    operator = bind("matmul", INTSIM, (TILE, TILE, depth))
    first, *others = operator.operands
    operator = replace(operator, operands=(replace(first, signed=x.dtype == np.int8), *others))
    return Cases(operator=operator, operands=np.stack(operands), results=np.stack(results), back=back)


def _spans(length: int) -> list[NDArray[np.intp]]:
    """Return the indices of tiles; the last repeats the last row or column where there are too few."""
    return list(np.minimum(np.arange(-(-length // TILE) * TILE), length - 1).reshape(-1, TILE))


CASES: Final[Mapping[str, Callable[..., Cases]]] = {
    "requantize": _requantize,
    "add": _add,
    "gelu": _gelu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "matmul": _matmul,
}
