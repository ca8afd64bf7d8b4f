# SPDX-License-Identifier: Apache-2.0
"""A trace on disk: its arrays, what each of them is and, at level ``steps``, how to compute it again."""

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._checked import check_choice, check_kind, check_range
from intsim._trace import Call, Level, Trace
from intsim.errors import CheckpointError, IntsimError, said
from intsim.fixedpoint import Dyadic, IntRange, Rounding
from intsim.io.safetensors_file import carrying, read, write
from intsim.models.constants import Constants
from intsim.models.functions import function_rule
from intsim.ops import LayerNormParams
from intsim.profile import Profile
from intsim.requantization import Requantization

__all__ = ["TRACE", "check_manifest", "describe_trace", "parse_trace", "read_trace", "repeated", "write_trace"]

FORMAT_VERSION: Final = 1
RATIONAL: Final = re.compile(r"-?(\d{1,300})(?:/([1-9]\d{0,299}))?", re.ASCII)
LARGEST: Final = 40  # decimal digits of a scale before the point: float32 has none beyond, and squares fit float64
TRACE: Final = carrying("trace", "a trace of intsim")


def write_trace(path: Path, trace: Trace, model: Constants) -> None:
    """Write ``trace``, taken of ``model``, as one safetensors file.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    tensors, manifest = describe_trace(trace, model)
    metadata = {
        "format_version": FORMAT_VERSION,
        "level": trace.level,
        "profile": model.profile.to_json(),
        "profile_hash": model.profile.hash,
        "model_digest": model.digest,
        "trace": manifest,
    }
    write(path, tensors, metadata, TRACE)


def describe_trace(trace: Trace, model: Constants) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
    """Return the arrays of a trace, taken of ``model``, and its manifest.

    The manifest lists the arrays in forward order: index, name, operator (``step`` for what happens inside one), dtype,
    shape, bits, and what a code stands for, real = (code - zero_point) * scale: the scale is an exact rational,
    ``"p/q"``, and scale and zero point are one, or one per channel. At level ``steps`` each operator's operands and
    constants go with it, as values or as ``{"tensor": NAME}``, so that its call can be repeated from them alone.
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
            case Requantization():
                return {"requantization": value.to_json()}
            case _:
                return value

    scales = _scales(trace, model)
    manifest: list[dict[str, Any]] = []
    for index, (name, values) in enumerate(trace.items()):
        call, out = trace.calls.get(name), model.formats.get(name)
        scale = scales.get(name)
        zero_point = 0 if out is None else np.asarray(out.offset(values.shape[-1])).tolist()
        entry: dict[str, Any] = {
            "index": index,
            "name": name,
            "operator": "step" if call is None else call.operator.__name__,
            "dtype": str(values.dtype),
            "shape": list(values.shape),
            "bits": _bits(values, call, model.profile) if out is None else out.range.bits,
            "scale": None if scale is None else [str(s) for s in scale] if scale.ndim else str(scale),
            "zero_point": None if scale is None else zero_point,
        }
        if call is not None and trace.level == "steps":
            entry["operands"] = [encode(value, f"{name}@{i}") for i, value in enumerate(call.operands)]
            entry["constants"] = {
                key: encode(value, f"{name}@{key}") for key, value in call.constants.items() if key != "carrier"
            }
        manifest.append(entry)
    return tensors, manifest


def _bits(values: NDArray[Any], call: Call | None, profile: Profile) -> int:
    """Return the true width of a result that no format gives: an accumulator's where requantization saturates it."""
    bits, narrow = 8 * values.dtype.itemsize, profile.requantization.accumulator_bits
    if call is None or call.operator is not ops.matmul or narrow >= bits or not values.size:
        return bits
    low, high = int(values.min()), int(values.max())
    return narrow if -(1 << narrow - 1) <= low <= high < 1 << narrow - 1 else bits


def _scales(trace: Trace, model: Constants) -> dict[str, NDArray[Any]]:
    """Return the exact scale of every result whose scale its model fixes, () or (C,).

    An activation has that of its format, softmax and activation functions that of their profile. Whatever is rescaled
    next, an accumulator above all, has the scale that its reader takes it for: ratio times the scale of the reader's
    result. That of attention scores includes 1 / sqrt(D).
    """
    profile = model.profile
    scales = {
        name: np.repeat(scale, trace[name].shape[-1] // out.groups) if out.groups > 1 else scale
        for name, out in model.formats.items()
        if name in trace
        for scale in [_rational(out.scale)]
    }
    names = {id(call.result): name for name, call in trace.calls.items()}
    previous = {after: before for before, after in pairwise(trace.calls)}
    for name, call in reversed(trace.calls.items()):  # readers first
        scale, before = scales.get(name), None
        match call.operator.__name__:
            case "add":
                read = zip(*call.operands, strict=True)
            case "requantize":  # heads that were put side by side on the way are another array: the result before
                read = [call.operands]
                before = previous.get(name)
            case "softmax":
                scales[name] = np.array(Fraction(1, profile.softmax.one))
                scale, read = np.array(profile.score_scale), [call.operands]
            case _ if (function := model.outline.functions.get(name.rpartition(".")[0])) is not None:
                rule = function_rule(function, profile)
                if call.operator is not rule.operator:  # what reads or follows the function is named likewise
                    continue
                scales[name] = np.array(rule.output_scale)
                scale, read = np.array(rule.input_scale), [(*call.operands, Dyadic(1, 0))]
            case _:
                continue
        for values, ratio in read:
            source = names.get(id(values), before)
            if source is not None and scale is not None:
                scales.setdefault(source, np.asarray(_rational(ratio) * scale))
    return scales


def _rational(dyadic: Dyadic) -> NDArray[Any]:
    return np.asarray(dyadic.multiplier.astype(object) * Fraction(1) / (1 << dyadic.shift.astype(object)))


def check_manifest(path: str, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> Profile:
    """Return the profile of the trace in the file ``path`` if its arrays are those of its manifest.

    Raises
    ------
    CheckpointError
        If it is not a whole trace of this format version.
    """
    if (version := metadata.get("format_version")) != FORMAT_VERSION or "trace" not in metadata:
        msg = f"{path} must be a trace of format version {FORMAT_VERSION}, got another file, version {version}"
        raise CheckpointError(msg)
    try:
        profile = Profile.from_json(metadata["profile"])
        manifest = [_checked_entry(entry) for entry in metadata["trace"]]
        expected_hash = metadata["profile_hash"]
        check_choice("level", metadata["level"], get_args(Level))
        check_kind("model_digest", metadata.get("model_digest", ""), str)
    except (AttributeError, IntsimError, LookupError, TypeError, ValueError) as error:
        msg = f"{path} must carry a profile and a manifest, got damaged ones: {said(error)}; run the model again"
        raise CheckpointError(msg) from None
    if profile.hash != expected_hash:
        msg = f"{path} must carry the hash of its profile, {profile.hash}, got {expected_hash}"
        raise CheckpointError(msg)
    for name, dtype, shape in manifest:
        if (values := tensors.get(name)) is None:
            msg = f"{path} must hold every tensor of its manifest, got none for '{name}'"
            raise CheckpointError(msg)
        if (str(values.dtype), list(values.shape)) != (dtype, shape):
            msg = f"tensor '{name}' of {path} must be {dtype} {shape}, got {values.dtype} {list(values.shape)}"
            raise CheckpointError(msg)
    return profile


def _check_scale(entry: Mapping[str, Any]) -> None:
    """Refuse a scale that is not one rational or one a channel, and zero points that are no such integers."""
    for key, is_one in (("scale", _is_scale), ("zero_point", _is_zero_point)):
        value: Any = entry[key]
        if value is None and entry["scale"] is None:
            continue
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        if len(values) not in (1, *entry["shape"][-1:]) or not all(map(is_one, values)):
            rule = "a rational p/q of at most 300 digits" if key == "scale" else "an integer of 32 bits"
            msg = f"{key} must be {rule}, or one a channel, got {value!r:.60}"
            raise ValueError(msg)


def _is_scale(value: object) -> bool:
    found = RATIONAL.fullmatch(value) if isinstance(value, str) else None
    return found is not None and len(found[1]) - len(found[2] or "1") <= LARGEST


def _is_zero_point(value: object) -> bool:
    return type(value) is int and abs(value) < 1 << 32


def _checked_entry(entry: Mapping[str, Any]) -> tuple[str, str, list[int]]:
    """Return name, dtype and shape of an entry of a manifest, whose fields have the types that ``write_trace`` gives.

    Raises
    ------
    KeyError, TypeError, ValueError
        If they have not.
    """
    for key, kind in {"name": str, "dtype": str, "shape": list, "operator": str, "bits": int}.items():
        check_kind(key, entry[key], kind)
    check_range("bits", entry["bits"], 1, 64)
    _check_scale(entry)
    if "operands" in entry:
        check_kind("operands", entry["operands"], list)
        check_kind("constants", entry["constants"], dict)
        check_choice("operator", entry["operator"], [name for name in ops.__all__ if name.islower()])
    return entry["name"], entry["dtype"], entry["shape"]


def read_trace(path: str | Path) -> tuple[Trace, Profile]:
    """Return the trace in the file ``path``, its calls included where it was taken at level ``steps``, and its profile.

    Raises
    ------
    CheckpointError
        If the file is not a whole trace of this format version.
    """
    return parse_trace(str(path), *read(Path(path)))


def parse_trace(path: str, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> tuple[Trace, Profile]:
    """Return the same of what ``safetensors_file.read`` gave.

    Raises
    ------
    CheckpointError
        As ``read_trace``.
    """
    profile = check_manifest(path, tensors, metadata)

    def decode(value: Any) -> Any:
        match value:
            case {"tensor": name}:
                return tensors[name]
            case {"dyadic": [multiplier, shift]}:
                return Dyadic(decode(multiplier), decode(shift))
            case {"layer_norm_params": [weight, bias, eps]}:
                return LayerNormParams(weight=decode(weight), bias=decode(bias), eps=eps)
            case {"range": [bits, signed, narrow]}:
                return IntRange(bits, signed, narrow)
            case {"list": list()}:
                return [decode(item) for item in cast("list[object]", value["list"])]
            case {"requantization": rule}:
                return Requantization.from_json(rule)
            case {"profile": _}:
                return profile
            case dict():
                msg = f"an operand {cast('object', value)!r:.60}"
                raise ValueError(msg)
            case _:
                return value

    try:
        trace = Trace(metadata["level"])
        trace.model_digest = metadata.get("model_digest")
        trace.bits = {entry["name"]: entry["bits"] for entry in metadata["trace"]}
        for entry in cast("Sequence[Mapping[str, Any]]", metadata["trace"]):
            name = entry["name"]
            trace[name] = tensors[name]
            if "operands" in entry:
                constants = {key: decode(value) for key, value in entry["constants"].items()}
                if isinstance(rounding := constants.get("rounding"), str):
                    constants["rounding"] = Rounding(rounding)
                trace.calls[name] = Call(
                    name=name,
                    operator=getattr(ops, entry["operator"]),
                    operands=tuple(decode(value) for value in entry["operands"]),
                    constants=constants,
                    result=trace[name],
                )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} must hold what its calls need, got {said(error)}; run the model again"
        raise CheckpointError(msg) from None
    return trace, profile


def repeated(operator: Callable[..., Any], operands: Sequence[Any], constants: Mapping[str, Any]) -> NDArray[Any]:
    """Return what a recorded call gives.

    Raises
    ------
    CheckpointError
        If it is none of the operator.
    """
    try:
        with np.errstate(all="ignore"):
            return operator(*operands, **constants)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = str(error) if ", got " in str(error) else "a value of another kind"  # in words of Python or NumPy
        msg = f"trace must hold what its calls of {operator.__name__} need, got: {reason}; run the model again"
        raise CheckpointError(msg) from None
