# SPDX-License-Identifier: Apache-2.0
"""Validation that frozen parameters share."""

from collections.abc import Sequence
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

__all__ = ["Checked", "check_choice", "check_kind", "check_range", "made"]

T = TypeVar("T")


class Checked:
    """A dataclass whose fields have the types they are declared with, to the letter: no bool for an int."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is ClassVar:
                continue
            value, kinds = getattr(self, name), get_args(kind) if isinstance(kind, UnionType) else (kind,)
            if value not in get_args(kind) if get_origin(kind) is Literal else type(value) not in kinds:
                names = " or ".join(getattr(each, "__name__", str(each)) for each in get_args(kind) or kinds)
                msg = f"{name} must be {names}, got {value!r:.60}"
                raise TypeError(msg)


def check_range(name: str, value: int, lowest: int, highest: int) -> None:
    """Refuse a value outside [lowest, highest].

    Raises
    ------
    ValueError
        Naming it.
    """
    if not lowest <= value <= highest:
        msg = f"{name} must be in [{lowest}, {highest}], got {value}"
        raise ValueError(msg)


def check_kind(name: str, value: object, kind: type) -> None:
    """Refuse a value of another type, to the letter: no bool for an int.

    Raises
    ------
    TypeError
        Naming it.
    """
    if type(value) is not kind:
        msg = f"{name} must be of type {kind.__name__}, got {value!r:.60}"
        raise TypeError(msg)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises
    ------
    ValueError
        Naming it.
    """
    if value not in choices:
        msg = f"{name} must be one of {', '.join(choices)}, got {value!r:.60}"
        raise ValueError(msg)


def made(kind: type[T], values: object) -> T:
    """Return ``kind(**values)``, where ``values`` is what a file gives for the fields of the dataclass ``kind``.

    Raises
    ------
    TypeError, ValueError
        If it is no object, a field is missing or unknown, or as ``kind`` does.
    """
    if not isinstance(values, dict):
        msg = f"fields of {kind.__name__} must be an object, got {values!r:.60}"
        raise TypeError(msg)
    given, known = cast("dict[str, Any]", values), {each.name: each for each in fields(cast("Any", kind)) if each.init}
    for name in given:
        if name not in known:
            msg = f"fields must be among {', '.join(known)}, got {name!r}"
            raise ValueError(msg)
    for name, each in known.items():
        if name not in given and each.default is MISSING and each.default_factory is MISSING:
            msg = f"{name} must be given, got nothing"
            raise ValueError(msg)
    return kind(**given)
