# SPDX-License-Identifier: Apache-2.0
"""Run one node of ONNX Runtime on the CPU, graph optimizations off, one thread."""

from functools import cache
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from intsim.requantization import RULES
from intsim.verify.witness import Witness

Array = NDArray[Any]
CONTRIB: Final = "com.microsoft"
VNNI: Final = (
    "holds for CPUs whose int8 products accumulate in 32 bits (VNNI, AMX); without, MLAS multiplies uint8 x int8 with "
    "vpmaddubsw, which saturates sums of two products to 16 bits"
)
FMA: Final = "holds where MLAS uses its AVX2 and FMA kernels; the SSE2 ones round products and sums apart"


@cache
def _session(
    op: str, domain: str, inputs: tuple[Any, ...], outputs: tuple[str, ...], attributes: tuple[tuple[str, Any], ...]
) -> onnxruntime.InferenceSession:
    node = helper.make_node(
        op,
        [f"x{i}" if given else "" for i, given in enumerate(inputs)],
        [f"y{i}" for i in range(len(outputs))],
        domain=domain,
        **dict(attributes),
    )
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(
                f"x{i}", helper.np_dtype_to_tensor_dtype(np.dtype(given[0])), [None] * given[1]
            )
            for i, given in enumerate(inputs)
            if given
        ],
        [
            helper.make_tensor_value_info(f"y{i}", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
            for i, kind in enumerate(outputs)
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)], ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def node(op: str, *operands: Any, to: tuple[Any, ...], domain: str = "", **attributes: Any) -> list[Array]:
    """Run one node on arrays; None leaves an optional input out."""
    arrays = [None if x is None else np.asarray(x) for x in operands]
    inputs = tuple(None if x is None else (x.dtype.str, x.ndim) for x in arrays)
    outputs = tuple(np.dtype(kind).str for kind in to)
    session = _session(op, domain, inputs, outputs, tuple(sorted(attributes.items())))
    return session.run(None, {f"x{i}": x for i, x in enumerate(arrays) if x is not None})


def integers(x: Any) -> Array:
    return np.asarray(x).astype(np.int64)


def row(operator: str, kernel: str, rule: str, operands: Any, device: Any, function: Any, **options: Any) -> Witness:
    return Witness(
        operator=operator,
        kernel=kernel,
        package="onnxruntime",
        rule=rule if rule in RULES else f"kernels.onnxruntime.{rule}",
        operands=operands,
        device=device,
        golden=function,
        **options,
    )
