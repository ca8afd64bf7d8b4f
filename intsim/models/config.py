# SPDX-License-Identifier: Apache-2.0
"""Configurations: the fields of config.json that decide a family's shapes and arithmetic, each with its rule."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    NoReturn,
    Self,
    TypeAlias,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from intsim._checked import check_kind, made
from intsim.errors import CheckpointError
from intsim.models.world import Pooling

__all__ = ["Config", "Count", "Real", "Size", "refuse"]

Size: TypeAlias = Annotated[int, "a positive integer"]
Labels: TypeAlias = tuple[str, ...]
Count: TypeAlias = Annotated[int, "how often a layer is there: a positive integer of at most MAX_COUNT"]
Problem: TypeAlias = Literal["regression", "single_label_classification", "multi_label_classification"]
Real: TypeAlias = Annotated[float, "a positive, finite number"]

BESIDE: Final = ("pooling", "normalize")  # fields that config.json does not have
MAX_SIZE: Final = 2**31 - 1
"""Of a dimension or an id: int32 indexes both in every program that reads a checkpoint."""
MAX_LABELS: Final = 1 << 20
"""Of labels that have no names and get some."""
MAX_COUNT: Final = 1000
"""Of layers: a model is walked layer by layer before anything else is known of it."""


def refuse(name: str, rule: str, value: object) -> NoReturn:
    """Refuse the field ``name`` of config.json, which breaks ``rule``.

    Raises
    ------
    CheckpointError
        Always.
    """
    got = "nothing" if value is None else repr(value)
    msg = f"{name} in config.json must be {rule}, got {got}"
    raise CheckpointError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What every family has of config.json, under its names; a family adds what it uses.

    ``labels`` are the class names of ``id2label`` in index order. ``pooling`` and ``normalize`` say how hidden states
    become the embedding of a sentence: ``intsim.io.sentence_transformers`` reads them from files beside config.json.

    Raises
    ------
    CheckpointError
        If a field breaks its rule; the message names the field.
    """

    FIXED: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Field -> the values it may have, if it is there: what else they select is not implemented."""
    ALIASES: ClassVar[Mapping[str, str]] = {}
    """Name in config.json -> the field, where they differ."""

    vocab_size: Size
    max_position_embeddings: Size
    type_vocab_size: Size = 1
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    problem_type: Problem | None = None
    labels: Labels = ("LABEL_0", "LABEL_1")
    pooling: Pooling = "mean"
    normalize: bool = False

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            _check(field.name, getattr(self, field.name), hints[field.name])
        if self.pad_token_id >= self.vocab_size:
            refuse("pad_token_id", f"below vocab_size, {self.vocab_size}", self.pad_token_id)

    @property
    def longest(self) -> int:
        """How many tokens a text may have."""
        return self.max_position_embeddings

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration in a config.json, the fields that it leaves out at transformers' defaults."""
        values = {**values, **{ours: values[name] for name, ours in cls.ALIASES.items() if name in values}}
        for name, allowed in cls.FIXED.items():
            if name in values and values[name] not in (None, *allowed):
                refuse(name, " or ".join(map(repr, allowed)), values[name])
        given: dict[str, Any] = {
            field.name: None if field.default is MISSING else field.default for field in fields(cls)
        }
        taken = given.keys() & values.keys() - set(BESIDE)
        given |= {name: values[name] for name in taken if values[name] is not None}
        given["labels"] = _labels(values)
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values, BESIDE only where they are not the default."""
        usual = {field.name: field.default for field in fields(self) if field.name in BESIDE}
        values = {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}
        return {**values, "labels": list(self.labels)}

    def in_full(self) -> dict[str, Any]:
        """Return the configuration with what a config.json may leave out as if it had not."""
        return self.to_json()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the configuration that ``to_json`` wrote."""
        check_kind("a configuration", values, dict)
        labels: Any = values["labels"]
        given: dict[str, Any] = {
            **values,
            "labels": tuple(cast("list[Any]", labels)) if type(labels) is list else labels,
        }
        return made(cls, given)


def _check(name: str, value: Any, hint: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if hint in (Size, Count) and not (whole and value > 0):
        refuse(name, "a positive integer", value)
    if hint is int and not (whole and value >= 0):
        refuse(name, "an integer of at least 0", value)
    if hint in (Size, Count, int) and value > (most := MAX_COUNT if hint == Count else MAX_SIZE):
        refuse(name, f"at most {most}", value)
    if hint == Real and not (isinstance(value, float) and 0 < value < math.inf):
        refuse(name, "a positive, finite number", value)
    if get_origin(hint) is Literal and value not in get_args(hint):
        refuse(name, f"one of {', '.join(get_args(hint))}", value)
    if hint is bool and not isinstance(value, bool):
        refuse(name, "true or false", value)
    if hint == Problem | None and value not in (None, *get_args(Problem)):
        refuse(name, f"one of {', '.join(get_args(Problem))}", value)
    if hint == Labels and not _are_labels(value):
        refuse(name, "one text or more", value)


def _are_labels(value: object) -> bool:
    return type(value) is tuple and {*map(type, cast("tuple[object]", value))} == {str}


def _labels(values: Mapping[str, Any]) -> tuple[str, ...]:
    id2label, num_labels = values.get("id2label"), values.get("num_labels")
    if id2label is None:
        count = 2 if num_labels is None else num_labels
        _check("num_labels", count, Size)
        if count > MAX_LABELS:
            refuse("num_labels", f"at most {MAX_LABELS} without id2label", count)
        return tuple(f"LABEL_{index}" for index in range(count))
    try:
        labels = tuple(id2label[str(index)] for index in range(len(id2label)))
    except (LookupError, TypeError):
        labels = ()
    if not labels or not all(isinstance(label, str) for label in labels):
        refuse("id2label", "an object that names the labels '0', '1', …", id2label)
    if num_labels not in (None, len(labels)):
        refuse("num_labels", f"{len(labels)}, the size of id2label", num_labels)
    return labels
