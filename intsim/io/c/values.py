# SPDX-License-Identifier: Apache-2.0
"""What the walk of a C program computes with: arrays that lie somewhere in memory, with the part of NumPy it uses."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike

from intsim.fixedpoint import Dyadic
from intsim.io.c.program import Buffer, Program, Rows

__all__ = ["Causal", "Mask", "Probabilities", "Scaled", "Scores", "Value"]

Shape: TypeAlias = tuple[Rows, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Integers of a shape, one row of memory for each token; heads are parts of a row, whatever the order of axes.

    Parameters
    ----------
    program, buffer
        Where they lie.
    shape, dtype
        As the golden model sees them.
    start
        The first column, where they are some columns of the rows.
    """

    __array_ufunc__ = None  # arrays leave the arithmetic to Value

    program: Program
    buffer: Buffer
    shape: Shape
    dtype: np.dtype[Any]
    start: int = 0

    def __str__(self) -> str:
        return f"{self.buffer.name} + {self.start}" if self.start else self.buffer.name

    @property
    def rows(self) -> Rows:
        """How many rows: variable or number."""
        return self.shape[0] if len(self.shape) == 1 else self.buffer.rows if self.shape[-2:-1] != (1,) else 1

    @property
    def columns(self) -> int:
        """Length of a row."""
        return self.buffer.columns

    def astype(self, dtype: DTypeLike) -> "Value":
        """Return the same integers: the dtype is a fact about them, and all lie in int32."""
        return replace(self, dtype=np.dtype(dtype))

    def __sub__(self, offset: Any) -> "Value":
        if not np.any(offset):
            return self
        name = f"{self.buffer.name}.centred{'' if self.rows == self.buffer.rows else '.first'}"
        if name in self.program.centred:
            return replace(self, buffer=self.program.centred[name])
        target = self.program.centred[name] = self.program.buffer(name, self.rows, self.columns)
        zero_point, step = self.program.zero_point(name, offset)
        self.program.call(
            "centre", target, target.name, self, self.rows, self.columns, zero_point, step, reads=(self.buffer,)
        )
        return replace(self, buffer=target)

    def reshape(self, *shape: Any) -> "Value":
        """Return heads split or joined: rows stay as they lie."""
        lengths = cast("tuple[Any, ...]", shape[0] if isinstance(shape[0], tuple) else shape)
        if len(lengths) > len(self.shape):  # (..., T, C) -> (..., T, H, D)
            lengths = (*lengths[:-1], self.columns // lengths[-2])
        else:
            lengths = (*lengths[:-1], self.columns)
        return replace(self, shape=lengths)

    def swapaxes(self, a: int, b: int) -> "Value":
        """Return the same rows under another order of axes."""
        shape = list(self.shape)
        shape[a], shape[b] = shape[b], shape[a]
        return replace(self, shape=tuple(shape))

    def repeat(self, times: int, axis: int) -> "Value":  # noqa: ARG002  attention knows its heads by their rows
        """Return heads that serve several others."""
        return self

    def __getitem__(self, key: tuple[Any, ...]) -> "Value":
        """Return ``x[:, 0]``, or ``x[..., start:stop]``."""
        *_, index = key
        if index == 0 and key[0] == slice(None):
            return replace(self, shape=(self.shape[0], self.columns))
        assert isinstance(index, slice) and key[0] is Ellipsis  # noqa: PT018, S101  the walk takes nothing else
        return replace(self, shape=(*self.shape[:-1], index.stop - index.start), start=index.start)

    def __array_function__(self, function: Any, _types: Any, args: tuple[Any, ...], _kwargs: Any) -> "Value":
        """Return ``numpy.arange(x.shape[i], like=x)``."""
        if function is not np.arange:
            return NotImplemented
        return counted(self.program, "token_positions", args[0], "0")


def counted(program: Program, name: str, tokens: Rows, first: str) -> Value:
    """Return first, first + 1, ... for every token."""
    target = program.buffer(name, tokens, 1)
    program.call("positions", target, target.name, tokens, first, reads=())
    return Value(program, target, (tokens,), np.dtype(np.int64))


class Mask:
    """The mask of texts without padding: true everywhere."""

    def __init__(self, program: Program, columns: Rows) -> None:
        self.program = program
        self.shape: Shape = (1, columns)

    def __getitem__(self, key: Any) -> "Mask":
        return self

    def __array_function__(self, function: Any, _types: Any, _args: Any, _kwargs: Any) -> "Mask":
        """Return ``numpy.concatenate([past, mask])``."""
        return self if function is np.concatenate else NotImplemented


class Causal(NamedTuple):
    """A mask by which tokens see themselves and those before, or the last so many."""

    window: int | None


class Scaled(NamedTuple):
    """Accumulators whose rows are to be multiplied by bounds."""

    acc: Value
    bound: Value

    @property
    def shape(self) -> Shape:
        """That of the accumulators."""
        return self.acc.shape


class Scores(NamedTuple):
    """Query times key, of which attention makes one row at a time."""

    query: Value
    key: Value
    query_zero_point: int
    key_zero_point: int


class Probabilities(NamedTuple):
    """Softmax of scores, a row at a time."""

    scores: Scores
    name: str
    ratio: Dyadic
    mask: Any
