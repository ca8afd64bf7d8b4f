# SPDX-License-Identifier: Apache-2.0
"""Integer arrays that are nodes of an ONNX graph: an operation on a ``Value`` appends a node of a standard operator."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from intsim.errors import IntsimError

__all__ = ["TENSOR_TYPES", "Graph", "Node", "Shape", "Value"]

Shape: TypeAlias = tuple[int | str, ...]  # a name is an axis whose length is known at run time
Operand: TypeAlias = "Value | int | NDArray[Any] | np.generic"
Dtype: TypeAlias = np.dtype[Any]

FLOAT64_EXACT: Final = 1 << 53
# ONNX's numbers for the dtypes of a model, onnx.TensorProto.DataType
TENSOR_TYPES: Final = {"uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9}


class Node(NamedTuple):
    """One operator; the node is called like its first output, the only one that is read."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(slots=True)
class Graph:
    """A list of nodes in execution order, and the constants they read.

    Parameters
    ----------
    longest
        Largest length of an axis that only has a name.
    nodes, constants
        Filled by the operations on the graph's values; equal constants are stored once.
    scope
        Prefix of the names that come next.
    """

    longest: int
    nodes: list[Node] = field(default_factory=list[Node])
    constants: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    scope: str = "input"
    _names: dict[tuple[str, tuple[int, ...], bytes], str] = field(
        default_factory=dict[tuple[str, tuple[int, ...], bytes], str]
    )

    def input(self, name: str, dtype: DTypeLike, shape: Shape) -> "Value":
        """Return a value that is given at run time."""
        return _value(self, name, np.dtype(dtype), shape)

    def constant(self, array: NDArray[Any] | np.generic) -> "Value":
        """Return a value that is part of the file."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.name, array.shape, sha256(array.data).digest())
        if key not in self._names:
            label = f"{array.dtype}({array})" if array.ndim == 0 else f"{self.scope}/constant_{len(self.constants)}"
            self._names[key] = label
            self.constants[label] = array
        value = _value(self, self._names[key], array.dtype, array.shape)
        return value.bounded(int(np.abs(array, dtype=np.int64).max(initial=0)))

    def add(
        self,
        kind: str,
        *inputs: "Value",
        dtype: DTypeLike,
        shape: Iterable[int | str],
        unread: Sequence[str] = (),
        **attributes: Any,
    ) -> "Value":
        """Append a node and return its first output; ``unread`` are the others."""
        name = f"{self.scope}/{kind}_{len(self.nodes)}"
        outputs = (name, *(f"{name}/{other}" for other in unread))
        self.nodes.append(Node(kind, tuple(value.name for value in inputs), outputs, attributes))
        return _value(self, name, np.dtype(dtype), tuple(shape))

    def rename(self, value: "Value", name: str) -> "Value":
        """Give the output of the last node another name."""
        last = self.nodes[-1]
        assert last.outputs == (value.name,)  # noqa: S101  every operator ends with the node of its result
        self.nodes[-1] = last._replace(outputs=(name,))
        return replace(value, name=name)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """An integer or boolean array of a graph, with the part of NumPy's interface that an integer model uses.

    Parameters
    ----------
    graph, name, dtype, shape
        Where it is, what it is called there, and what it looks like.
    magnitude
        A bound on its magnitude.
    row_sum
        A bound on the sum of a row of the last axis, where one was proved, of values that are not negative.
    """

    __array_ufunc__ = None  # arrays leave the arithmetic to Value

    graph: Graph
    name: str
    dtype: Dtype
    shape: Shape
    magnitude: int
    row_sum: int | None = None

    def bounded(self, magnitude: int) -> "Value":
        """Return the same value under a bound that was proved."""
        return replace(self, magnitude=magnitude)

    def proved(self, magnitude: int, limit: int | None = None) -> "Value":
        """Return the same value under a bound that must not pass the dtype's, or ``limit``.

        Raises
        ------
        IntsimError
            If it does.
        """
        if magnitude > (limit or np.iinfo(self.dtype).max):
            msg = f"'{self.name}' must be proved to fit {self.dtype} to be exported, got a bound of {magnitude}"
            raise IntsimError(msg)
        return self.bounded(magnitude)

    def _operand(self, other: Operand) -> "Value":
        """Return a constant of the dtype of this value for a number or an array."""
        return other if isinstance(other, Value) else self.graph.constant(np.asarray(other, self.dtype))

    def _elementwise(self, kind: str, *others: Operand, dtype: DTypeLike | None = None) -> "Value":
        operands = [self, *map(self._operand, others)]
        shape = _broadcast(*(value.shape for value in operands))
        return self.graph.add(kind, *operands, dtype=dtype or self.dtype, shape=shape)

    def __add__(self, other: Operand) -> "Value":
        if _is_nothing(other):
            return self
        other = self._operand(other)
        return self._elementwise("Add", other).proved(self.magnitude + other.magnitude)

    def __sub__(self, other: Operand) -> "Value":
        if _is_nothing(other):
            return self
        other = self._operand(other)
        return self._elementwise("Sub", other).proved(self.magnitude + other.magnitude)

    def __mul__(self, other: Operand) -> "Value":
        other = self._operand(other)
        return self._elementwise("Mul", other).proved(self.magnitude * other.magnitude)

    def __floordiv__(self, other: Operand) -> "Value":
        """Return the quotient by a positive divisor. ONNX truncates: the dividend is at least 0, or a multiple."""
        least = 1 if isinstance(other, Value) else int(np.min(other))
        return self._elementwise("Div", other).bounded(self.magnitude // least)

    def __and__(self, other: Operand) -> "Value":
        other = self._operand(other)
        both = self._elementwise("And" if self.dtype == np.bool_ else "BitwiseAnd", other)
        return both.bounded(min(both.magnitude, self.magnitude + other.magnitude))

    def __xor__(self, other: Operand) -> "Value":
        return self if _is_nothing(other) else self._elementwise("BitwiseXor", other)

    def __abs__(self) -> "Value":
        return self._elementwise("Abs").proved(self.magnitude)

    def __lt__(self, other: Operand) -> "Value":
        return self._elementwise("Less", other, dtype=np.bool_)

    def __ge__(self, other: Operand) -> "Value":
        return self._elementwise("GreaterOrEqual", other, dtype=np.bool_)

    def clip(self, low: int, high: int) -> "Value":
        """Return the value within [low, high].

        Two selections for int64: on x86, ONNX Runtime's Clip, Min and Max compare such integers wrongly where the
        difference passes 32 bits (onnxruntime#25280), int32 never.
        """
        if self.dtype != np.int64:
            return self._elementwise("Clip", low, high)
        raised = self.where(self >= low, low)
        return raised.where(raised < high + 1, high)

    def where(self, mask: "Value", other: Operand) -> "Value":
        """Return the value where ``mask`` is true, ``other`` elsewhere."""
        other = self._operand(other)
        shape = _broadcast(mask.shape, self.shape, other.shape)
        chosen = self.graph.add("Where", mask, self, other, dtype=self.dtype, shape=shape)
        return chosen.bounded(max(self.magnitude, other.magnitude))

    def astype(self, dtype: DTypeLike) -> "Value":
        """Return the low bits as ``dtype``: ONNX says that the high ones are discarded."""
        if self.dtype == dtype:
            return self
        narrow = self.graph.add("Cast", self, dtype=dtype, shape=self.shape, to=TENSOR_TYPES[np.dtype(dtype).name])
        return narrow.bounded(min(self.magnitude, narrow.magnitude)) if narrow.dtype.kind == "i" else narrow

    def _reduce(self, kind: str) -> "Value":
        axes = self.graph.constant(np.array([-1]))
        return self.graph.add(kind, self, axes, dtype=self.dtype, shape=(*self.shape[:-1], 1), keepdims=1)

    @property
    def depth(self) -> int:
        """Largest length of the last axis."""
        last = self.shape[-1]
        return self.graph.longest if isinstance(last, str) else last

    def sum(self) -> "Value":
        """Return the sum along the last axis, which stays with length 1.

        Bounds
        ------
        The sum is at most 2**53: ONNX Runtime adds int64 in float64.
        """
        return self._reduce("ReduceSum").proved(self.magnitude * self.depth, FLOAT64_EXACT)

    def max(self) -> "Value":
        """Return the maximum along the last axis, which stays with length 1, of at most 32 bits."""
        return self._reduce("ReduceMax").bounded(self.magnitude)

    def sort(self) -> "Value":
        """Return the values along the last axis in rising order."""
        length = self.graph.add("Shape", self, dtype=np.int64, shape=(1,), start=-1)
        ordered = self.graph.add(
            "TopK", self, length, dtype=self.dtype, shape=self.shape, unread=("indices",), largest=0
        )
        return ordered.bounded(self.magnitude)

    def cumsum(self) -> "Value":
        """Return the sums of values of the last axis up to each of them."""
        axis = self.graph.constant(np.array(len(self.shape) - 1))
        return self.graph.add("CumSum", self, axis, dtype=self.dtype, shape=self.shape).proved(
            self.magnitude * self.graph.longest
        )

    def shifted(self, by: int, value: int) -> "Value":
        """Return (B, T, C) with tokens one place to the right (1) or to the left (-1), ``value`` at the open end."""
        pads = np.array([0, 1, 0, 0, 0, 0] if by > 0 else [0, 0, 0, 0, 1, 0])
        padded = self.graph.add(
            "Pad",
            self,
            self.graph.constant(pads),
            self.graph.constant(np.array(value, self.dtype)),
            dtype=self.dtype,
            shape=(self.shape[0], "tokens_and_one", self.shape[2]),
        )
        start, stop = ([0], [-1]) if by > 0 else ([1], [np.iinfo(np.int64).max])
        bounds = (self.graph.constant(np.array(bound)) for bound in (start, stop, [1]))
        return self.graph.add("Slice", padded, *bounds, dtype=self.dtype, shape=self.shape).bounded(self.magnitude)

    def beside(self, *others: "Value") -> "Value":
        """Return the values side by side along the last axis."""
        values = (self, *others)
        shape = (*self.shape[:-1], sum(value.depth for value in values))
        joined = self.graph.add("Concat", *values, dtype=self.dtype, shape=shape, axis=len(shape) - 1)
        return joined.bounded(max(value.magnitude for value in values))

    def take_along(self, indices: "Value") -> "Value":
        """Return, in each row of the last axis, the values at the row's own indices."""
        last = len(self.shape) - 1
        taken = self.graph.add("GatherElements", self, indices, dtype=self.dtype, shape=indices.shape, axis=last)
        return taken.bounded(self.magnitude)

    def matmul(self, other: "Value", *zero_points: "Value") -> "Value":
        """Return the product of (..., M, K) and (..., K, N): int8 and uint8 less their zero points, or int32."""
        kind = "MatMulInteger" if zero_points else "MatMul"
        return self.graph.add(
            kind, self, other, *zero_points, dtype=np.int32, shape=(*self.shape[:-1], other.shape[-1])
        )

    def gather(self, indices: "Value", axis: int = 0) -> "Value":
        """Return the slices along ``axis`` named by ``indices``; a negative one counts from the end."""
        shape = (*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :])
        return self.graph.add("Gather", self, indices, dtype=self.dtype, shape=shape, axis=axis).bounded(self.magnitude)

    def reshape(self, *shape: Any) -> "Value":
        """Return the same integers in another shape; axes of unknown length stay where they are."""
        lengths = cast("Shape", shape[0] if type(shape[0]) is tuple else shape)
        # 0 copies the length of the same axis, -1 takes what is left
        target = self.graph.constant(np.array([0 if isinstance(length, str) else length for length in lengths]))
        size, known = (math.prod(n for n in shape if isinstance(n, int)) for shape in (self.shape, lengths))
        new = tuple(size // -known if length == -1 else length for length in lengths)
        return self.graph.add("Reshape", self, target, dtype=self.dtype, shape=new).bounded(self.magnitude)

    def repeat(self, times: int, axis: int) -> "Value":
        """Return the value with every slice along ``axis`` several times."""
        return self.gather(self.graph.constant(np.repeat(np.arange(self.shape[axis]), times)), axis=axis)

    def swapaxes(self, a: int, b: int) -> "Value":
        """Return the value with two axes exchanged."""
        order = list(range(len(self.shape)))
        order[a], order[b] = order[b], order[a]
        shape = [self.shape[axis] for axis in order]
        return self.graph.add("Transpose", self, dtype=self.dtype, shape=shape, perm=order).bounded(self.magnitude)

    def __getitem__(self, key: tuple[Any, ...]) -> "Value":
        """Return ``x[:, i]``, ``x[..., start:stop]``, or ``x`` with an axis of length 1 at every None of the key."""
        if key[0] is Ellipsis:
            named = sum(part is not None for part in key[1:])
            key = (slice(None),) * (len(self.shape) - named) + key[1:]
        *_, index = key
        if isinstance(index, int):
            return self.gather(self.graph.constant(np.array(index)), axis=len(key) - 1)
        if index is not None and index != slice(None):
            bounds = (self.graph.constant(np.array([bound])) for bound in (index.start, index.stop, -1))
            shape = (*self.shape[:-1], index.stop - index.start)
            return self.graph.add("Slice", self, *bounds, dtype=self.dtype, shape=shape).bounded(self.magnitude)
        axes = [axis for axis, part in enumerate(key) if part is None]
        shape = list(self.shape)
        for axis in axes:
            shape.insert(axis, 1)
        longer = self.graph.add("Unsqueeze", self, self.graph.constant(np.array(axes)), dtype=self.dtype, shape=shape)
        return longer.bounded(self.magnitude)

    def __array_function__(self, function: Any, _types: Any, args: tuple[Any, ...], _kwargs: Any) -> "Value":
        """Return ``numpy.arange(x.shape[i], like=x)``."""
        if function is not np.arange:
            return NotImplemented
        lengths = self.graph.add("Shape", self, dtype=np.int64, shape=(len(self.shape),))
        stop = lengths.gather(self.graph.constant(np.array(self.shape.index(args[0]))))
        start, step = (self.graph.constant(np.array(number)) for number in (0, 1))
        return self.graph.add("Range", start, stop, step, dtype=np.int64, shape=args)


def _value(graph: Graph, name: str, dtype: Dtype, shape: Shape) -> Value:
    if dtype == np.bool_:
        return Value(graph, name, dtype, shape, 1)
    info = np.iinfo(dtype)
    return Value(graph, name, dtype, shape, max(-int(info.min), int(info.max)))


def _is_nothing(other: Operand) -> bool:
    """Say whether a number, or an array of no more axes than its partner, is 0 and needs no node."""
    return not isinstance(other, Value) and not np.any(other)


def _broadcast(*shapes: Shape) -> Shape:
    """Return the shape that NumPy's rule gives; axes of one name have one length."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((length for length in lengths if length != 1), 1) for lengths in zip(*padded, strict=True))
