# SPDX-License-Identifier: Apache-2.0
"""A trace on disk: its arrays, what each of them is and, at level ``steps``, how to compute it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import Call, Trace
from intsim.errors import CheckpointError
from intsim.fixedpoint import Dyadic, IntRange, Rounding
from intsim.io.safetensors_file import read, write
from intsim.models.integer_model import IntegerModel
from intsim.ops import LayerNormParams
from intsim.profile import Profile

__all__ = ["read_trace", "write_trace"]

FORMAT_VERSION: Final = 1


def write_trace(path: Path, trace: Trace, model: IntegerModel) -> None:
    """Write ``trace``, taken of ``model``, as one safetensors file.

    The manifest lists the arrays in forward order: name, operator (``step`` for what happens inside one), dtype, shape,
    and bits, scale and zero point where the activation has a format. At level ``steps`` each operator's operands and
    constants go with it, so that its call can be repeated from the file alone.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = dict(trace)
    names = {id(values): name for name, values in trace.items()}

    def encode(value: object, name: str) -> Any:
        match value:
            case np.ndarray():
                if id(value) in names:
                    return {"tensor": names[id(value)]}
                tensors[name] = value
                return {"tensor": name}
            case Dyadic():
                parts = (encode(value.multiplier, f"{name}.multiplier"), encode(value.shift, f"{name}.shift"))
                return {"dyadic": parts}
            case LayerNormParams():
                weight, bias = encode(value.weight, f"{name}.weight"), encode(value.bias, f"{name}.bias")
                return {"layer_norm_params": [weight, bias, value.eps]}
            case IntRange():
                return {"range": [value.bits, value.signed, value.narrow]}
            case list():
                items = cast("list[object]", value)
                return {"list": [encode(item, f"{name}.{i}") for i, item in enumerate(items)]}
            case Profile():
                return {"profile": value.hash}
            case _:
                return value

    manifest: list[dict[str, Any]] = []
    for name, values in trace.items():
        call = trace.calls.get(name)
        entry: dict[str, Any] = {
            "name": name,
            "operator": "step" if call is None else call.operator.__name__,
            "dtype": str(values.dtype),
            "shape": list(values.shape),
        }
        if name in model.formats:
            entry |= model.formats[name].to_json()
        if call is not None and trace.level == "steps":
            entry["operands"] = [encode(value, f"{name}@{i}") for i, value in enumerate(call.operands)]
            entry["constants"] = {
                key: encode(value, f"{name}@{key}") for key, value in call.constants.items() if key != "carrier"
            }
        manifest.append(entry)
    metadata = {
        "format_version": FORMAT_VERSION,
        "level": trace.level,
        "profile": model.profile.to_json(),
        "profile_hash": model.profile.hash,
        "trace": manifest,
    }
    write(path, tensors, metadata)


def read_trace(path: str | Path) -> tuple[Trace, Profile]:
    """Return the trace in the file ``path``, its calls included where it was taken at level ``steps``, and its profile.

    Raises
    ------
    CheckpointError
        If the file is not a whole trace of this format version.
    """
    tensors, metadata = read(Path(path))
    if (version := metadata.get("format_version")) != FORMAT_VERSION or "trace" not in metadata:
        msg = f"{path} must be a trace of format version {FORMAT_VERSION}, got version {version}; run the model again"
        raise CheckpointError(msg)
    profile = Profile.from_json(metadata["profile"])
    if profile.hash != metadata["profile_hash"]:
        msg = f"{path} must carry the hash of its profile, got {metadata['profile_hash']}"
        raise CheckpointError(msg)

    def decode(value: object) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = cast("dict[str, Any]", value).items()
        match kind:
            case "tensor":
                return tensors[content]
            case "dyadic":
                return Dyadic(*map(decode, content))
            case "layer_norm_params":
                weight, bias, eps = content
                return LayerNormParams(weight=decode(weight), bias=decode(bias), eps=eps)
            case "range":
                return IntRange(*content)
            case "list":
                return [decode(item) for item in content]
            case _:
                return profile

    trace = Trace(metadata["level"])
    try:
        for entry in cast("Sequence[Mapping[str, Any]]", metadata["trace"]):
            name = entry["name"]
            trace[name] = tensors[name]
            if "operands" in entry:
                constants = {key: decode(value) for key, value in entry["constants"].items()}
                if "rounding" in constants:
                    constants["rounding"] = Rounding(constants["rounding"])
                trace.calls[name] = Call(
                    name=name,
                    operator=getattr(ops, entry["operator"]),
                    operands=tuple(decode(value) for value in entry["operands"]),
                    constants=constants,
                    result=trace[name],
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} must hold every tensor and constant of its manifest, got none for {error}"
        raise CheckpointError(msg) from None
    return trace, profile
