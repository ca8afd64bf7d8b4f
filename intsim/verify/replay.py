# SPDX-License-Identifier: Apache-2.0
"""A user's own kernels, run on every recorded call of an operator."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from intsim._progress import watched
from intsim._trace import Trace
from intsim.errors import IntsimError
from intsim.io.trace_file import read_trace
from intsim.models.constants import Constants
from intsim.verify.compare import Comparison, compare

__all__ = ["replay", "run_calls"]


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
    """
    recorded = trace if isinstance(trace, Trace) else read_trace(trace)[0]
    actual = run_calls(recorded, kernels, layer=layer)
    actual.model_digest = None if model is None else model.digest
    expected = Trace(recorded.level)
    expected.update((name, recorded[name]) for name in actual)
    expected.model_digest = recorded.model_digest
    return compare(expected, actual)


def run_calls(
    recorded: Trace, kernels: Mapping[str, Callable[..., Any]], *, layer: str = "*", progress: bool = False
) -> Trace:
    """Return what ``kernels`` make of the recorded calls of their operators, in forward order.

    Raises
    ------
    IntsimError
        As ``replay``.
    """
    calls = {name: call for name, call in recorded.calls.items() if call.operator.__name__ in kernels}
    calls = {name: call for name, call in calls.items() if fnmatchcase(name, layer)}
    if not calls:
        msg = f"trace must hold calls of {', '.join(sorted(kernels))} named {layer}, got none; take it at level steps"
        raise IntsimError(msg)
    actual = Trace(recorded.level)
    for name, call in watched(calls.items(), "replaying", unit="call", shown=progress):
        actual[name] = np.asarray(kernels[call.operator.__name__](*call.operands, **call.constants))
    return actual
