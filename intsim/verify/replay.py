# SPDX-License-Identifier: Apache-2.0
"""A user's own kernels, run on every recorded call of an operator."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from intsim._trace import Trace
from intsim.errors import IntsimError
from intsim.io.trace_file import read_trace
from intsim.models.constants import Constants
from intsim.verify.compare import Comparison, compare

__all__ = ["replay"]


def replay(
    trace: Trace | str | Path, kernels: Mapping[str, Callable[..., Any]], *, model: Constants | None = None
) -> Comparison:
    """Run ``kernels`` on the recorded calls of their operators and compare bit for bit.

    Parameters
    ----------
    trace
        A trace of this process, or the file of one taken at level ``steps``.
    kernels
        Operator name (``softmax``, ``requantize``, ...) -> a function that takes the operands and constants of
        ``intsim.ops`` and returns what NumPy can view as integers.
    model
        The model that the kernels were made for.

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
    calls = [call for call in recorded.calls.values() if call.operator.__name__ in kernels]
    if not calls:
        msg = f"trace must hold calls of {', '.join(sorted(kernels))}, got none; take it at level steps"
        raise IntsimError(msg)
    expected, actual = Trace(recorded.level), Trace(recorded.level)
    expected.model_digest = recorded.model_digest
    actual.model_digest = None if model is None else model.digest
    for call in calls:
        expected[call.name] = call.result
        actual[call.name] = np.asarray(kernels[call.operator.__name__](*call.operands, **call.constants))
    return compare(expected, actual)
