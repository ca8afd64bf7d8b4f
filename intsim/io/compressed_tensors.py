# SPDX-License-Identifier: Apache-2.0
"""Reads what compressed-tensors quantized to 8 bits: integers and scales of weights, and how their layers' inputs are.

``quantization_config`` in config.json says the scheme. A quantized layer has a ``weight`` of int8 and ``weight_scale``,
``input_scale`` where its input is static, and zero points beside the scales, which may be left out where they are 0.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from operator import gt
from typing import Any, Final, Literal, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from intsim.errors import CheckpointError
from intsim.fixedpoint import IntRange
from intsim.io.stored_tensor import STORED_DTYPES, StoredTensor
from intsim.quantizers import AffineParams

__all__ = ["QuantizedTensor", "quantized_tensors"]

InputKind: TypeAlias = Literal["static", "token", "open"]

Allowed: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Key -> the values it may have, the first of them where it is left out."""

NEEDED: Final = {"quant_method": "compressed-tensors", "format": "int-quantized"}
CONFIG: Final[Allowed] = {
    **{name: (None, needed) for name, needed in NEEDED.items()},
    "quantization_status": ("compressed",),
    "kv_cache_scheme": (None,),
    "transform_config": (None, {}),
}
GROUP: Final[Allowed] = {"format": (None, "int-quantized"), "output_activations": (None,)}
WEIGHTS: Final[Allowed] = {
    "num_bits": (8,),
    "type": ("int",),
    "symmetric": (True,),
    "strategy": ("tensor", "channel", "group"),
    "dynamic": (False,),
    "actorder": (
        None,
        False,
        "weight",
        "static",
    ),  # the last two order rows while rounding, and store them as they were
}
INPUTS: Final[Allowed] = {
    "num_bits": (8,),
    "type": ("int",),
    "symmetric": (True, False),
    "strategy": ("tensor", "token"),
    "dynamic": (False, True),
}
LONGEST, GROUPS, REPEATS = 300, 20, 5  # of a pattern: those in use have 50 characters, 2 groups and 3 repeats
REPEAT: Final = re.compile(r"(?<!\()[*+?{]")
GROUP_REPEATS: Final = re.compile(r"\)[*+{]")
PARTS: Final = ("weight_scale", "weight_zero_point", "input_scale", "input_zero_point")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedTensor(StoredTensor):
    """An int8 weight (N, K), and its scale: one, one ``per_row``, or one for each of ``groups`` of a row's columns.

    ``input`` says what its layer reads: ``static``, of ``input_scale`` and ``input_zero_point``; ``token``, quantized
    while running; or ``open``, as the recipe says.
    """

    scale: StoredTensor
    per_row: bool
    groups: int
    input: InputKind
    input_scale: StoredTensor | None = None
    input_zero_point: StoredTensor | None = None

    def codes(self) -> NDArray[np.int8]:
        """Return the stored integers."""
        return _integers(self)

    def scales(self) -> NDArray[np.float64]:
        """Return the stored scale: (), (N, 1), or (N, K) with those of groups repeated."""
        scale = _positive(self.scale)
        if not self.per_row:
            return scale.reshape(())
        columns = self.shape[1] // self.groups if self.groups > 1 else 1
        return np.repeat(scale.reshape(len(scale), -1), columns, axis=1)

    def read(self) -> NDArray[np.float64]:
        """Return the reals that the integers stand for, exactly."""
        return self.codes() * self.scales()

    def input_params(self) -> AffineParams:
        """Return the scale, zero point and codes of the layer's static input."""
        zero = 0 if self.input_zero_point is None else _integers(self.input_zero_point).item()
        scale = _positive(cast("StoredTensor", self.input_scale)).reshape(())
        return AffineParams(scale=scale, zero_point=np.array(zero, np.int64), range=IntRange(8))


def quantized_tensors(config: object, tensors: Mapping[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    """Return the tensors with those of each quantized layer made one.

    Parameters
    ----------
    config
        ``quantization_config`` in config.json.
    tensors
        All of the checkpoint, by their names here.
    prefix
        Of the names that ``config`` speaks of.

    Raises
    ------
    CheckpointError
        If it is quantized in another way, or a layer in another way than ``config`` says.
    """
    values = _checked("quantization_config", config, CONFIG)
    for name, needed in NEEDED.items():
        if values.get(name) is None:
            _refuse(f"{name} of quantization_config", repr(needed), None)
    groups: Any = values.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        _refuse("config_groups of quantization_config", "an object with one group or more", cast("object", groups))
    named = cast("dict[str, object]", groups).items()
    schemes = [_checked(f"group {name} of quantization_config", each, GROUP) for name, each in named]
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(".weight") and tensor.dtype == "I8" and f"{name}_scale" not in tensors:
            msg = f"tensor {name!r} of {tensor.file} must come with {name}_scale, being I8, got no such tensor"
            raise CheckpointError(msg)
        if not name.endswith(".weight_scale"):
            continue
        layer = name.removesuffix(".weight_scale")
        parts = {part: found.pop(f"{layer}.{part}") for part in PARTS if f"{layer}.{part}" in tensors}
        if (weight := tensors.get(f"{layer}.weight")) is None:
            file = parts["weight_scale"].file
            msg = f"tensor {name!r} of {file} must be the scale of {layer}.weight, got no such tensor"
            raise CheckpointError(msg)
        found[f"{layer}.weight"] = _quantized(layer, weight, parts, _scheme(layer, prefix, schemes))
    return found


def _scheme(layer: str, prefix: str, schemes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the scheme whose targets name the layer, or match it, or are all linear layers."""

    def matches(target: str, name: str) -> bool:
        return _pattern(target).match(name) is not None if target.startswith("re:") else target == name

    for names in ((prefix + layer, layer), ("Linear",)):
        for scheme in schemes:
            targets: Any = scheme.get("targets")
            if isinstance(targets, list) and any(
                matches(str(target), name) for target in cast("list[Any]", targets) for name in names
            ):
                return scheme
    msg = f"quantization_config in config.json must have a group for layer {layer!r}, got none"
    raise CheckpointError(msg)


def _pattern(target: str) -> re.Pattern[str]:
    """Return the pattern of names that a target is; with many repeats it could take for ever to match."""
    text = target.removeprefix("re:")
    counts = len(text), text.count("("), len(REPEAT.findall(text))
    if any(map(gt, counts, (LONGEST, GROUPS, REPEATS))) or GROUP_REPEATS.search(text):
        most = f"{LONGEST} characters, {GROUPS} groups and {REPEATS} repeats, none of a group"
        _refuse("targets of quantization_config", f"names, or patterns of at most {most}", target)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at sets like [[a], which mean what they always did
            return re.compile(text)
    except (OverflowError, re.error) as error:
        msg = f"targets of quantization_config in config.json must be names or patterns, got {target!r}: {error}"
        raise CheckpointError(msg) from None


def _quantized(
    layer: str, weight: StoredTensor, parts: Mapping[str, StoredTensor], scheme: Mapping[str, Any]
) -> QuantizedTensor:
    how = _checked(f"weights of the group of {layer!r}", scheme.get("weights"), WEIGHTS)
    if weight.dtype != "I8" or len(weight.shape) != 2:
        msg = f"tensor '{layer}.weight' of {weight.file} must be an I8 matrix, got {weight.dtype} {weight.shape}"
        raise CheckpointError(msg)
    rows, columns = weight.shape
    shapes: tuple[tuple[int, ...], ...] = ((), (1,), (1, 1))
    groups = 1
    if how["strategy"] == "channel":
        shapes = ((rows, 1), (rows,))
    if how["strategy"] == "group":
        size = how.get("group_size")
        if type(size) is not int or size < 1 or columns % size:
            _refuse(f"group_size of {layer!r}", f"a divisor of its {columns} columns", size)
        groups = columns // size
        shapes = ((rows, groups),)
    _check(f"{layer}.weight_scale", parts["weight_scale"], shapes, tuple(STORED_DTYPES))
    if (zero := parts.get("weight_zero_point")) is not None:
        _check(f"{layer}.weight_zero_point", zero, shapes, ("I8",))
        if _integers(zero).any():
            msg = f"tensor '{layer}.weight_zero_point' of {zero.file} must be 0, as of symmetric weights, got others"
            raise CheckpointError(msg)
    kind: InputKind = "open"
    if (given := scheme.get("input_activations")) is not None:
        read = _checked(f"input_activations of the group of {layer!r}", given, INPUTS)
        kind = "token" if read["dynamic"] else "static"
        if (read["strategy"] == "token") != read["dynamic"] or (read["dynamic"] and not read["symmetric"]):
            rule = "of one static range, or symmetric and dynamic by token"
            got = ", ".join(f"{name} {read[name]}" for name in ("strategy", "dynamic", "symmetric"))
            msg = f"input_activations of the group of {layer!r} in config.json must be {rule}, got {got}"
            raise CheckpointError(msg)
    inputs = {name: parts.get(name) for name in ("input_scale", "input_zero_point")}
    if kind == "static":
        if inputs["input_scale"] is None:
            msg = f"layer {layer!r} of {weight.file} must have an input_scale, being static, got none"
            raise CheckpointError(msg)
        for name, dtypes in (("input_scale", tuple(STORED_DTYPES)), ("input_zero_point", ("I8",))):
            if (part := inputs[name]) is not None:
                _check(f"{layer}.{name}", part, ((), (1,)), dtypes)
    elif name := next((name for name, part in inputs.items() if part is not None), ""):
        msg = f"layer {layer!r} of {weight.file} must have no {name}, its input being {kind}, got one"
        raise CheckpointError(msg)
    return QuantizedTensor(
        file=weight.file,
        dtype=weight.dtype,
        shape=weight.shape,
        offset=weight.offset,
        scale=parts["weight_scale"],
        per_row=how["strategy"] != "tensor",
        groups=groups,
        input=kind,
        **inputs,
    )


def _checked(what: str, value: object, allowed: Allowed) -> dict[str, Any]:
    """Return an object of config.json, what it leaves out at the first value allowed."""
    if not isinstance(value, dict):
        _refuse(what, "an object", value)
    given = cast("dict[str, Any]", value)
    for name, values in allowed.items():
        if name in given and not any(given[name] == each and type(given[name]) is type(each) for each in values):
            rule = " or ".join(repr(each) for each in values if each is not None)
            _refuse(f"{name} of {what}", rule or "left out", given[name])
    return {name: values[0] for name, values in allowed.items()} | given


def _check(name: str, stored: StoredTensor, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]) -> None:
    if stored.shape not in shapes or stored.dtype not in dtypes:
        rule = f"{' or '.join(dtypes)} of shape {' or '.join(map(str, shapes))}"
        msg = f"tensor {name!r} of {stored.file} must be {rule} by config.json, got {stored.dtype} {stored.shape}"
        raise CheckpointError(msg)


def _integers(stored: StoredTensor) -> NDArray[np.int8]:
    count = int(np.prod(stored.shape, dtype=np.int64))
    return np.fromfile(stored.file, np.int8, count, offset=stored.offset).reshape(stored.shape)


def _positive(stored: StoredTensor) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # at signalling NaN
        scale = stored.read().astype(np.float64)
    if not (np.isfinite(scale) & (scale > 0)).all():
        msg = f"scales in {stored.file} must be positive, finite numbers, got {scale.min()}"
        raise CheckpointError(msg)
    return scale


def _refuse(what: str, rule: str, value: object) -> NoReturn:
    got = "nothing" if value is None else repr(value)
    msg = f"{what} in config.json must be {rule}, got {got}"
    raise CheckpointError(msg)
