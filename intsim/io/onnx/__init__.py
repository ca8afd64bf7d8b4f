# SPDX-License-Identifier: Apache-2.0
"""Integer models as ONNX files: another engine runs the golden model, on standard integer operators alone."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intsim._progress import counting, watched
from intsim._trace import interpreted_by
from intsim.errors import IntsimError
from intsim.io.atomic import Kind, complete_file, is_regular
from intsim.io.onnx.graph import TENSOR_TYPES, Graph, Value
from intsim.io.onnx.operators import EMITTERS
from intsim.models.constants import Constants
from intsim.models.integers import run

__all__ = ["KIND", "export"]

OPSET: Final = 18  # the first that has BitwiseAnd
IR_VERSION: Final = 8  # that of opset 18
PRODUCER: Final = b"\x12\x06intsim"  # field 2 of the message, behind the version


def _is_ours(file: BinaryIO) -> bool:
    return file.read(2 + len(PRODUCER))[2:] == PRODUCER


KIND: Final = Kind("an ONNX model that intsim wrote", _is_ours)

MOST_INSIDE: Final = 1 << 30  # bytes of constants: a protobuf message holds less than 2**31
PAGE: Final = 4096  # what constants in a file of their own are aligned to
SIGNATURE: Final = b"constants of an ONNX model by intsim\n".ljust(PAGE, b"\0")


def _are_ours(file: BinaryIO) -> bool:
    return file.read(PAGE) == SIGNATURE


DATA_KIND: Final = Kind("constants that intsim wrote", _are_ours)
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


def export(model: Constants, path: str | Path) -> int:
    """Write ``model`` as an ONNX file that computes ``model(...).values`` to the bit.

    Its inputs are input_ids, attention_mask and token_type_ids, int64 of shape (batch, tokens), within the ranges that
    ``IntegerModel.__call__`` checks. Every result that a trace shows is the node output of that name. The metadata give
    the profile, its hash, the model's digest, and the scale of the output, output_multiplier / 2**output_shift.

    A decoder computes the logits of every token, as without a cache; what follows padding, on either side, are the
    tokens of a text all the same. Beyond 1 GiB of constants those of a page or more go to a second file, external data
    of ONNX, which is named NAME.HASH.data after ``path`` and its content and has to stay beside it.

    ONNX Runtime should be 1.25 or newer: older ones are reported to multiply uint8 matrices wrongly on CPUs with AMX or
    VNNI (its pull request 27671). Its session of a deep model takes minutes to plan which results may share memory, in
    time that grows with the square of their number; ``SessionOptions.enable_mem_reuse = False`` leaves that out.

    Parameters
    ----------
    model
        The model.
    path
        File to write: complete, or not at all.

    Returns
    -------
    int
        Bytes written, to both files.

    Raises
    ------
    IntsimError
        If the package onnx is missing, the model has a rule that integers of ONNX cannot follow, or a file cannot be
        written.
    """
    model.profile.require_native("profile of a model to export")
    try:
        import onnx  # noqa: PLC0415  an extra
    except ImportError:
        msg = "package onnx must be installed to export, got none; pip install 'intsim[export]'"
        raise IntsimError(msg) from None

    graph = Graph(longest=model.config.longest)

    def interpret(
        name: str, operator: Callable[..., Any], operands: tuple[Any, ...], constants: Mapping[str, Any]
    ) -> Value:
        graph.scope = name
        if operator not in EMITTERS:
            msg = f"operator of '{name}' must be one of those that can be exported, got {operator.__name__}"
            raise IntsimError(msg)
        return graph.rename(EMITTERS[operator](*operands, **constants), name)

    ids, mask, types = (graph.input(name, np.int64, ("batch", "tokens")) for name in INPUTS)
    inputs: dict[str, Any] = {"input_ids": ids, "mask": mask.astype(np.bool_), "token_type_ids": types}
    with counting("exporting", unit="product"), interpreted_by(interpret):
        output: Any = run(model, **inputs)
    path = Path(path)
    is_large = sum(x.nbytes for x in graph.constants.values()) > MOST_INSIDE
    outside, size = _written_beside(path, graph) if is_large else ({}, 0)
    proto = _proto(onnx, graph, [ids, mask, types], output, _metadata(model), outside)
    data: bytes = proto.SerializeToString(deterministic=True)
    with complete_file(path, KIND) as file:
        file.write(data)
    return len(data) + size


class _Place(NamedTuple):
    """Where the bytes of a constant are, in which file beside the model."""

    file: str
    offset: int
    length: int


def _written_beside(path: Path, graph: Graph) -> tuple[dict[str, _Place], int]:
    """Write the large constants into a file of their own, and return where each is and the bytes of all."""
    if not is_regular(path):
        msg = f"{path} must be a file, beside which a second one can be, got a model of more than {MOST_INSIDE} bytes"
        raise IntsimError(msg)
    large = {
        name: array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        for name, array in graph.constants.items()
        if array.nbytes >= PAGE
    }
    content = sha256()
    for array in large.values():
        content.update(array.data)
    beside = path.with_name(f"{path.name}.{content.hexdigest()[:16]}.data")
    places = dict[str, _Place]()
    with complete_file(beside, DATA_KIND) as file:
        end = file.write(SIGNATURE)
        for name, array in large.items():
            places[name] = _Place(beside.name, end, array.nbytes)
            end += file.write(array.tobytes().ljust(-(-array.nbytes // PAGE) * PAGE, b"\0"))
    return places, end


def _metadata(model: Constants) -> dict[str, str]:
    scale = model.output_format.scale
    return {
        "profile": model.profile.name,
        "profile_hash": model.profile.hash,
        "model_digest": model.digest,
        "output_multiplier": str(scale.multiplier),
        "output_shift": str(scale.shift),
    }


def _proto(
    onnx: Any,
    graph: Graph,
    inputs: Sequence[Value],
    output: Value,
    metadata: Mapping[str, str],
    outside: Mapping[str, _Place] = MappingProxyType({}),
) -> Any:
    helper = onnx.helper

    def described(value: Value) -> Any:
        return helper.make_tensor_value_info(value.name, TENSOR_TYPES[value.dtype.name], value.shape)

    def constant(name: str, array: NDArray[Any]) -> Any:
        if name not in outside:
            return onnx.numpy_helper.from_array(array, name)
        tensor = onnx.TensorProto(name=name, data_type=TENSOR_TYPES[array.dtype.name], dims=array.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in zip(("location", "offset", "length"), outside[name], strict=True):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    nodes = [
        helper.make_node(
            node.kind,
            node.inputs,
            node.outputs,
            name=node.outputs[0],
            **node.attributes,
        )
        for node in graph.nodes
    ]
    constants = [constant(name, array) for name, array in watched(graph.constants.items(), "writing", unit="constant")]
    proto = helper.make_model(
        helper.make_graph(nodes, "intsim", [*map(described, inputs)], [described(output)], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="intsim",
    )
    helper.set_model_props(proto, metadata)
    return proto
