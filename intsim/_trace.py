# SPDX-License-Identifier: Apache-2.0
"""Recording the intermediates of a forward pass."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Call",
    "Interpreter",
    "Level",
    "Trace",
    "call",
    "interpreted_by",
    "observed",
    "recording_steps",
    "step",
    "trace",
]

Integers: TypeAlias = NDArray[np.integer]
Level: TypeAlias = Literal["tensors", "steps"]
Interpreter: TypeAlias = Callable[[str, Callable[..., Integers], tuple[Any, ...], Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an operator: ``operator(*operands, **constants)`` gave ``result``."""

    name: str
    operator: Callable[..., Integers]
    operands: tuple[Any, ...]
    constants: Mapping[str, Any]
    result: Integers


class Trace(dict[str, NDArray[Any]]):
    """Name -> integers, in forward order.

    Parameters
    ----------
    level
        ``tensors``: the result of every operator; ``steps``: also what happens inside, as ``NAME:STEP``.

    Attributes
    ----------
    calls
        Name -> the call that gave the result of that name.
    model_digest
        The model's, where the trace was read from a file that tells.
    bits
        Name -> true width, likewise.

    Raises
    ------
    ValueError
        If there is no such level.
    """

    def __init__(self, level: Level = "tensors") -> None:
        if level not in get_args(Level):
            msg = f"level must be one of {', '.join(get_args(Level))}, got {level!r}"
            raise ValueError(msg)
        super().__init__()
        self.level: Final = level
        self.model_digest: str | None = None
        self.bits: dict[str, int] = {}
        self.calls: dict[str, Call] = {}


_trace: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)
_scope: Final[ContextVar[str | None]] = ContextVar("scope", default=None)
_interpreter: Final[ContextVar[Interpreter | None]] = ContextVar("interpreter", default=None)


@contextmanager
def trace(level: Level = "tensors") -> Generator[Trace, None, None]:
    """Collect the intermediates of the models run inside the ``with`` block.

    Of a thread started in it, only what runs in a copy of the block's context is collected:
    ``Thread(target=contextvars.copy_context().run, args=(model, ids))``.

    Parameters
    ----------
    level
        ``tensors`` keeps the result of every operator; ``steps`` keeps its internal steps too, under ``NAME:STEP``,
        and takes the plain integer path of every operator, since only it has them.

    Raises
    ------
    ValueError
        If there is no such level.

    Yields
    ------
    Trace
        Name -> integer array, in forward order. Names are Hugging Face module paths plus the step; a second run
        replaces the entries of the first.
    """
    collected = Trace(level)
    token = _trace.set(collected)
    try:
        yield collected
    finally:
        _trace.reset(token)


@contextmanager
def interpreted_by(interpreter: Interpreter) -> Generator[None, None, None]:
    """Let ``interpreter(name, operator, operands, constants)`` stand for every call of an operator in the block.

    A model's forward pass then walks over whatever the interpreter returns in place of arrays: intervals, graph nodes.
    """
    token = _interpreter.set(interpreter)
    try:
        yield
    finally:
        _interpreter.reset(token)


def call(name: str, operator: Callable[..., Integers], *operands: Any, **constants: Any) -> Integers:
    """Return operator(*operands, **constants), and add it to the current trace under ``name``, if there is one.

    A mask is no result: it is returned and not added.

    Raises
    ------
    TypeError
        If the result is not made of integers: a float in the integer world is a defect.
    """
    if (interpreter := _interpreter.get()) is not None:
        return interpreter(name, operator, operands, constants)
    current = _trace.get()
    if current is None:
        return operator(*operands, **constants)
    token = _scope.set(name)
    try:
        result = operator(*operands, **constants)
    finally:
        _scope.reset(token)
    if result.dtype == np.bool_:
        return result
    if result.dtype.kind not in "iu":
        msg = f"{name} must be integers, got {result.dtype}"
        raise TypeError(msg)
    current[name] = result
    current.calls[name] = Call(name=name, operator=operator, operands=operands, constants=constants, result=result)
    return result


def observed() -> bool:
    """Say whether somebody looks at every call: a trace or an interpreter."""
    return _trace.get() is not None or _interpreter.get() is not None


def recording_steps() -> bool:
    """Say whether internal steps are wanted."""
    current = _trace.get()
    return current is not None and current.level == "steps" and _scope.get() is not None


def step(name: str, values: Integers) -> None:
    """Add an internal step of the operator that is running to the current trace, if it is wanted there."""
    current, scope = _trace.get(), _scope.get()
    if current is not None and current.level == "steps" and scope is not None:
        current[f"{scope}:{name}"] = values
