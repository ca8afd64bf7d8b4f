# SPDX-License-Identifier: Apache-2.0
"""Models of one operator for LiteRT, and the three ways LiteRT runs them."""

from dataclasses import dataclass
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import strategies as st
from numpy.typing import NDArray

REFERENCE: Final = OpResolverType.BUILTIN_REF
OPTIMIZED: Final = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
XNNPACK: Final = OpResolverType.BUILTIN  # the default: delegates what XNNPACK supports

TYPES: Final = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
}


@dataclass(frozen=True)
class Tensor:
    """What a tensor stands for, scale * (code - zero_point), and its codes where they are part of the model."""

    shape: tuple[int, ...]
    dtype: Any
    scale: Any = None  # one, or one per index of the axis
    zero_point: int = 0
    axis: int = 0
    data: NDArray[Any] | None = None


def constant(data: NDArray[Any], scale: Any = None, zero_point: int = 0, axis: int = 0) -> Tensor:
    return Tensor(data.shape, data.dtype, scale, zero_point, axis, data)


def model(operator: str, inputs: list[Tensor], output: Tensor, options: Any = None, version: int = 1) -> bytes:
    """Return the flatbuffer of ``output = operator(inputs)``; tensors without data are the model's inputs."""
    tensors = [*inputs, output]
    made = schema.ModelT(version=3, description="", buffers=[schema.BufferT(data=[])])
    graph = schema.SubGraphT(name="main", tensors=[], operators=[])
    for index, tensor in enumerate(tensors):
        buffer = 0
        if tensor.data is not None:
            buffer = len(made.buffers)
            made.buffers.append(schema.BufferT(data=np.frombuffer(tensor.data.tobytes(), np.uint8)))
        quantization = None
        if tensor.scale is not None:
            scales = np.atleast_1d(np.asarray(tensor.scale, np.float32))
            quantization = schema.QuantizationParametersT(
                scale=scales,
                zeroPoint=np.full(scales.shape, tensor.zero_point, np.int64),
                quantizedDimension=tensor.axis,
            )
        graph.tensors.append(
            schema.TensorT(
                shape=np.array(tensor.shape, np.int32),
                type=TYPES[np.dtype(tensor.dtype)],
                buffer=buffer,
                name=f"t{index}",
                quantization=quantization,
            )
        )
    code = getattr(schema.BuiltinOperator, operator)
    made.operatorCodes = [schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)]
    kind = type(options).__name__.removesuffix("T") if options is not None else "NONE"
    graph.operators.append(
        schema.OperatorT(
            opcodeIndex=0,
            inputs=list(range(len(inputs))),
            outputs=[len(inputs)],
            builtinOptionsType=getattr(schema.BuiltinOptions, kind),
            builtinOptions=options,
        )
    )
    graph.inputs = [index for index, tensor in enumerate(inputs) if tensor.data is None]
    graph.outputs = [len(inputs)]
    made.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(model: bytes, *inputs: NDArray[Any], resolver: OpResolverType) -> NDArray[Any]:
    """Return the output of the model on one thread."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    for details, codes in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], codes)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()


def delegated(model: bytes) -> bool:
    """Say whether XNNPACK takes the operator."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=XNNPACK, num_threads=1)
    interpreter.allocate_tensors()
    return any(details["op_name"] == "DELEGATE" for details in interpreter._get_ops_details())


def float32_scales(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw float32 scales of [low, high], often a small integer times a power of two: quotients of these make ties."""
    # drawn integers and floats prefer simple ones, whose products are exact
    drawn = st.integers(0, 2**32 - 1).map(lambda seed: low * (high / low) ** np.random.default_rng(seed).random())
    return st.one_of(_small_integers(low, high), drawn.map(lambda scale: float(np.float32(scale))))


def scale_tuples(*ranges: tuple[float, float]) -> st.SearchStrategy[tuple[float, ...]]:
    """Draw one scale from each range, in half of the draws all of them small integers times powers of two."""
    return st.one_of(
        st.tuples(*(_small_integers(*each) for each in ranges)), st.tuples(*(float32_scales(*each) for each in ranges))
    )


def _small_integers(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw n * 2**k with n of 1, 3, ... 13."""
    found = [n * 2.0**k for n in range(1, 15, 2) for k in range(-20, 20) if low <= n * 2.0**k <= high]
    return st.sampled_from(found)
