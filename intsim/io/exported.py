# SPDX-License-Identifier: Apache-2.0
"""What there is to export: every integer of a model, or the results, operands and constants of a trace's calls.

Beside the tensors of an integer checkpoint, under their own names, a model has

- ``NAME.zero_point`` and ``NAME.range`` (lowest and highest code) of each activation;
- ``FUNCTION.table`` of each function of one code that it runs: entry i belongs to the code whose two's complement is i,
  of ``exp.table`` to the code -i; and ``FUNCTION.constants``, the rounded constants of those that are polynomials, in
  the order in which ``intsim profiles`` names them: exp q_ln2, q_b, q_c; gelu q_b, q_1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.carrier.exact import Integers
from intsim.errors import IntsimError
from intsim.fixedpoint import INT16, IntRange
from intsim.io.packing import packed_bits
from intsim.models.constants import Constants
from intsim.models.functions import function_rule
from intsim.profile import Exp, Gelu, Softmax

__all__ = ["Contents", "Exported", "describe", "model_contents", "trace_contents"]

MULTIPLIER_BITS: Final = 32  # with the sign
SHIFT_BITS: Final = 6
CONSTANT_BITS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A tensor to be written.

    Parameters
    ----------
    values
        The integers.
    bits, signed
        True width of an element.
    scale, zero_point
        What a code stands for, real = (code - zero_point) * scale, where that is fixed: an exact rational, ``"p/q"``.
    """

    values: Integers
    bits: int
    signed: bool
    scale: Any = None
    zero_point: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest says of it, but where it is stored."""
        return {
            "shape": list(self.values.shape),
            "dtype": self.values.dtype.name,
            "bits": self.bits,
            "signed": self.signed,
            "scale": self.scale,
            "zero_point": self.zero_point,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Tensors in order, and what else a manifest says as plain JSON values."""

    tensors: Mapping[str, Exported]
    about: Mapping[str, Any]


def model_contents(model: Constants, *, layer: str | None = None) -> Contents:
    """Return every tensor of a model.

    Parameters
    ----------
    model
        The model.
    layer
        Pattern of names: those tensors alone, and what is beneath such a name.

    Raises
    ------
    IntsimError
        If no name is of the pattern.
    """
    tensors = {name: _stored(name, values) for name, values in model.tensors.items()}
    for name, found in model.formats.items():
        zero_point = np.array(found.zero_point, np.int32)
        tensors[f"{name}.zero_point"] = Exported(values=zero_point, bits=found.range.bits, signed=found.range.signed)
        tensors[f"{name}.range"] = _range(found.range)
    tensors.update((f"{name}.range", _range(found.range)) for name, found in model.dynamic.items())
    tensors.update(_tables(model))
    contents = {key: value for key, value in model.contents().items() if key not in {"recipe", "tokenizer"}}
    return Contents(
        tensors=_matching(tensors, layer),
        about={"contents": "model", **contents, "profile_hash": model.profile.hash, "model_digest": model.digest},
    )


def _stored(name: str, values: Integers) -> Exported:
    """Return a tensor whose name or dtype tells its width."""
    if values.dtype == np.bool_:
        return Exported(values=values.view(np.uint8), bits=1, signed=False)
    if name.endswith(".shift"):
        return Exported(values=values, bits=SHIFT_BITS, signed=False)
    bits, signed = 8 * values.dtype.itemsize, values.dtype.kind == "i"
    if name.endswith(".multiplier"):
        bits = MULTIPLIER_BITS
    elif values.dtype == np.int8:
        bits = packed_bits(values)
    return Exported(values=values, bits=bits, signed=signed)


def _range(found: IntRange) -> Exported:
    return Exported(values=np.array([found.min, found.max]), bits=found.bits, signed=found.signed)


def _tables(model: Constants) -> dict[str, Exported]:
    profile, tables = model.profile, dict[str, Exported]()

    def constants(name: str, values: Sequence[int]) -> None:
        tables[f"{name}.constants"] = Exported(values=np.array(values, np.int64), bits=CONSTANT_BITS, signed=True)

    if isinstance(profile.softmax, Softmax):
        codes = np.arange(0, INT16.min - 1, -1).astype(np.int16)
        tables["exp.table"] = _table(ops.exp(codes, profile=profile), profile.exp.output_scale)
        if isinstance(profile.exp, Exp):
            constants("exp", profile.exp.constants(profile.step_rounding))
    for function in dict.fromkeys(model.outline.functions.values()):
        rule = function_rule(function, profile)
        if rule.operator is ops.relu:
            continue
        size = 1 << rule.input_range.bits
        codes = np.arange(size).astype(rule.input_range.dtype)
        tables[f"{function}.table"] = _table(rule.operator(codes, profile=profile), rule.output_scale)
        if rule.operator is ops.gelu and isinstance(profile.gelu, Gelu):
            constants(function, profile.gelu.constants(profile.step_rounding))
    return tables


def _table(values: Integers, scale: Any) -> Exported:
    return Exported(values=values, bits=8 * values.dtype.itemsize, signed=values.dtype.kind == "i", scale=str(scale))


def trace_contents(
    tensors: Mapping[str, NDArray[Any]],
    manifest: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    layer: str | None = None,
) -> Contents:
    """Return the results of a trace, and of its calls, if it is of level steps, the operands and constants.

    Parameters
    ----------
    tensors, manifest
        As ``describe_trace`` returns them, or a trace's file holds them.
    about
        What its file says of the model.
    layer
        Pattern of names: those results alone, those beneath such a name, and what their calls read.

    Raises
    ------
    IntsimError
        If no name is of the pattern.
    """
    entries = {entry["name"]: entry for entry in manifest}
    wanted = _matching(entries, layer)
    calls = [
        {key: entry[key] for key in ("name", "operator", "operands", "constants")}
        for entry in wanted.values()
        if "operands" in entry
    ]
    read = [name for call in calls for name in _named([call["operands"], list(call["constants"].values())])]
    names = dict.fromkeys([*wanted, *read])
    found = {
        name: _result(entries[name], tensors[name]) if name in entries else _stored(name, tensors[name])
        for name in names
    }
    return Contents(tensors=found, about={"contents": "trace", **about, "calls": calls})


def _result(entry: Mapping[str, Any], values: NDArray[Any]) -> Exported:
    signed = values.dtype.kind == "i"
    return Exported(
        values=values, bits=entry["bits"], signed=signed, scale=entry.get("scale"), zero_point=entry.get("zero_point")
    )


def _named(value: Any) -> list[str]:
    """Return the names of the tensors that encoded operands speak of."""
    match value:
        case {"tensor": str() as name}:
            return [name]
        case dict():
            return [name for each in cast("dict[str, Any]", value).values() for name in _named(each)]
        case list() | tuple():
            return [name for each in cast("list[Any]", value) for name in _named(each)]
        case _:
            return []


def _matching(named: Mapping[str, Any], pattern: str | None) -> dict[str, Any]:
    if pattern is None:
        return dict(named)
    found = {
        name: value
        for name, value in named.items()
        if fnmatchcase(name, pattern) or any(fnmatchcase(name, f"{pattern}{mark}*") for mark in ".:")
    }
    if not found:
        msg = f"layer must be the name or a pattern of something that is exported, got {pattern!r}"
        raise IntsimError(msg)
    return found


def describe(values: Exported) -> str:
    """Return what a tensor is in a few words."""
    shape = "x".join(map(str, values.values.shape)) or "one"
    return f"{shape}, {values.bits} bits, {'signed' if values.signed else 'unsigned'}"
