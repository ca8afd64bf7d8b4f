# SPDX-License-Identifier: Apache-2.0
"""A user's own kernels, run on every recorded call of an operator."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np

from intsim import ops
from intsim._progress import watched
from intsim._trace import Call, Trace
from intsim.errors import IntsimError, said
from intsim.fixedpoint import Dyadic
from intsim.io.dumps import Dump
from intsim.io.trace_file import read_trace
from intsim.models.constants import Constants
from intsim.models.world import tensor_name, term_name
from intsim.verify.compare import Comparison, compare

__all__ = ["NotComputedError", "replay", "run_calls"]


class NotComputedError(IntsimError):
    """A kernel does not compute this call of its operator."""


def replay(
    trace: Trace | str | Path,
    kernels: Mapping[str, Callable[..., Any]],
    *,
    model: Constants | None = None,
    layer: str = "*",
) -> Comparison:
    """Run ``kernels`` on the recorded calls of their operators and compare bit for bit.

    With a simulator behind it: ``intsim.verify.simulator``.

    Parameters
    ----------
    trace
        A trace of this process, or the file of one taken at level ``steps``.
    kernels
        Operator name (``softmax``, ``requantize``, ...) -> a function that takes the operands and constants of
        ``intsim.ops`` and returns what NumPy can view as integers.
    model
        The model that the kernels were made for.
    layer
        Pattern of the names of the calls, such as ``encoder.layer.0.*``.

    Returns
    -------
    Comparison
        Over the results of those operators, in forward order. Its ``models`` tells when the file is of another model
        than ``model``.

    Raises
    ------
    IntsimError
        If no call of the trace is of such an operator.
    NotComputedError
        If a kernel raises it.
    """
    recorded = trace if isinstance(trace, Trace) else read_trace(trace)[0]
    actual = run_calls(recorded, kernels, layer=layer)
    actual.model_digest = None if model is None else model.digest
    expected = Trace(recorded.level)
    expected.update((name, recorded[name]) for name in actual)
    expected.model_digest = recorded.model_digest
    return compare(expected, actual)


def run_calls(
    recorded: Trace,
    kernels: Mapping[str, Callable[..., Any]],
    *,
    layer: str = "*",
    weights: Dump | None = None,
    skipped: dict[str, str] | None = None,
) -> Trace:
    """Return what ``kernels`` make of the recorded calls of their operators, in forward order.

    Parameters
    ----------
    recorded, kernels, layer
        As for ``replay``.
    weights
        What ``intsim.io.dumps.read_dump`` reads of the folder that ``intsim export DIR --memh`` wrote: weights, tables,
        biases, multipliers, shifts, zero points and eps that the kernels get in the place of the recorded ones.
        Activations stay those of the trace.
    skipped
        Where it is given, it gets the calls of ``layer`` without a result, name -> why: no kernel is of their operator,
        or the kernel raises NotComputedError, which otherwise is raised on.

    Raises
    ------
    IntsimError
        As ``replay``, or if the export is of another model, or without what a call reads.
    """
    if weights is not None:
        _check_model(recorded, weights)
    named = {name: call for name, call in recorded.calls.items() if fnmatchcase(name, layer)}
    calls = {name: call for name, call in named.items() if call.operator.__name__ in kernels}
    without: dict[str, str] = {} if skipped is None else skipped
    without.update(
        (name, f"no kernel of {call.operator.__name__}") for name, call in named.items() if name not in calls
    )
    if not calls:
        hint = "" if recorded.calls else "; take it at level steps"
        msg = f"trace must hold calls of {', '.join(sorted(kernels))} named {layer}, got none{hint}"
        raise IntsimError(msg)
    actual = Trace(recorded.level)
    gave = {id(call.result): name for name, call in recorded.calls.items()}
    tables = {
        f"{name}.weight": call.operands[1] for name, call in recorded.calls.items() if call.operator is ops.embedding
    }
    for name, own in watched(calls.items(), "replaying", unit="call"):
        try:
            call = own if weights is None else _with_weights(own, weights, gave, tables)
        except (LookupError, TypeError, ValueError) as error:
            msg = f"weights must be what {name} can read, got: {said(error)}"
            raise IntsimError(msg) from None
        try:
            actual[name] = np.asarray(kernels[call.operator.__name__](*call.operands, **call.constants))
        except NotComputedError as refused:
            if skipped is None:
                raise
            skipped[name] = str(refused)
    if not actual:
        msg = f"trace must hold calls named {layer} that are computed, got none: {without[next(iter(calls))]}"
        raise IntsimError(msg)
    return actual


def _check_model(recorded: Trace, weights: Dump) -> None:
    if weights.model_digest is None or weights.model_digest != recorded.model_digest:
        digests = [str(digest)[:12] for digest in (recorded.model_digest, weights.model_digest)]
        msg = f"weights must be an export of the trace's model, {digests[0]}, got one of {digests[1]}"
        raise IntsimError(msg)


def _with_weights(call: Call, weights: Dump, gave: Mapping[int, str], tables: Mapping[str, Any]) -> Call:
    """Return the call with what it reads of the export.

    ``gave`` says which call a term of a sum is the result of; ``tables`` are those recorded, one of which a layer reads
    that has no weight of its own.
    """

    def read(name: str) -> Any:
        if name not in weights:
            msg = f"weights must hold what {call.name} reads, got no {name}; export them without --layer"
            raise IntsimError(msg)
        return weights[name]

    def ratio(name: str, group: int | EllipsisType = ...) -> Dyadic:
        return Dyadic(read(f"{name}.multiplier")[group], read(f"{name}.shift")[group])

    def ratio_of_term(term: str) -> Dyadic:
        layer, group = _product(term.removesuffix(".wide"))
        return ratio(name if name == f"{layer}.acc" else layer, group)

    def codes(weight: str) -> Any:
        if weight not in weights:
            tied = (name for name, table in tables.items() if np.array_equal(table, operands[1]))
            weight = next(tied, weight)
        return read(weight)

    name, constants = call.name, dict(call.constants)
    operands: tuple[Any, ...] = call.operands
    operator = call.operator.__name__
    if operator in {"requantize", "add", "multiply"} and np.any(constants.get("zero_point", 0)):
        found = read(f"{name}.zero_point")
        constants["zero_point"] = np.repeat(found, call.result.shape[-1] // found.size) if found.ndim else found
    match operator:
        case "embedding":
            operands = (operands[0], read(name if name in weights else f"{name}.weight"))
        case "matmul" if operands[1].ndim == 2:  # not one of two activations
            layer, group = _product(name)
            weight, columns = codes(f"{tensor_name(layer)}.weight"), operands[1].shape[1]
            if isinstance(group, int):
                weight = weight[:, group * columns : (group + 1) * columns]
            operands = (operands[0], weight)
            if constants.get("bias") is not None:
                constants["bias"] = read(f"{layer}.bias")[group]
        case "requantize":
            operands = (operands[0], ratio(name))
            if constants.get("addend") is not None:
                constants["addend"] = read(f"{name.removesuffix('.wide')}.bias")
        case "add":
            terms = [gave.get(id(term), term_name(name)) for term in operands[0]]
            operands = (operands[0], [ratio_of_term(term) for term in terms])
        case "multiply":
            operands = (*operands[:2], ratio(name))
        case "softmax":
            operands = (operands[0], ratio(f"{name.removesuffix('.probs')}.scores"))
        case "layer_norm" | "rms_norm":
            eps = int(read(f"{name}.eps"))
            params = ops.LayerNormParams(weight=ratio(name), bias=read(f"{name}.bias"), eps=eps)
            operands = (operands[0], params)
        case "permute":
            operands = (operands[0], read("order"))
        case _:
            pass
    return replace(call, operands=operands, constants=constants)


def _product(name: str) -> tuple[str, int | EllipsisType]:
    """Return the layer whose product is called ``name``, and the group of input channels that it is of, or all."""
    layer, _, group = name.rpartition(".acc.")
    return (layer, int(group)) if layer else (name.removesuffix(".acc"), ...)
