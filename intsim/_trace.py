# SPDX-License-Identifier: Apache-2.0
"""Recording the intermediates of a forward pass."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trace", "record", "trace"]

Trace: TypeAlias = dict[str, NDArray[Any]]

_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)


@contextmanager
def trace() -> Generator[Trace, None, None]:
    """Collect every intermediate of the models run inside the ``with`` block.

    Yields
    ------
    dict
        Name -> integer array, in forward order. Names are Hugging Face module paths plus the step; a model that runs
        twice replaces the entries of its first run.
    """
    collected: Trace = {}
    token = _current.set(collected)
    try:
        yield collected
    finally:
        _current.reset(token)


def record(name: str, values: NDArray[Any]) -> None:
    """Add an intermediate to the current trace, if there is one.

    Raises
    ------
    TypeError
        If ``values`` are not integers or booleans: a float in the integer world is a defect.
    """
    current = _current.get()
    if current is None:
        return
    if values.dtype.kind not in "iub":
        msg = f"{name} must be integers, got {np.dtype(values.dtype)}"
        raise TypeError(msg)
    current[name] = values
