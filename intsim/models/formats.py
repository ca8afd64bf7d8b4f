# SPDX-License-Identifier: Apache-2.0
"""What the integers of a model stand for: the formats of its activations, fixed or found while running."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from intsim._checked import check_choice, check_kind, made
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT32, Dyadic, IntRange

__all__ = ["GROUPED", "Dynamic", "Format"]

Granularity: TypeAlias = Literal["token", "sequence"]

MAX_BITS: Final = 8  # of what is quantized while running
GROUPED: Final = IntRange(26)
"""What groups of input channels of a product are together, whose input is quantized while running: half of it holds the
sum of 1,024 products of int8 codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What the codes of an activation stand for: real = (code - zero_point) * scale.

    Parameters
    ----------
    range
        The codes.
    zero_point
        Code that stands for 0, of int32; one for each group of consecutive channels, where there are several.
    scale
        Real step, as an exact dyadic rational; 0-d, or one for each group. The integer model never uses it; whoever
        reads its integers does.
    """

    range: IntRange
    zero_point: int | tuple[int, ...]
    scale: Dyadic

    def __post_init__(self) -> None:
        shape = (len(self.zero_point),) if isinstance(self.zero_point, tuple) else ()
        if self.scale.multiplier.shape != shape:
            msg = f"scale must be one for each zero point, got shape {self.scale.multiplier.shape} for {shape}"
            raise ValueError(msg)
        highest = min(self.range.max, INT32.max)
        for zero_point in self.zero_point if isinstance(self.zero_point, tuple) else (self.zero_point,):
            if type(zero_point) is not int or not self.range.min <= zero_point <= highest:
                msg = f"zero_point must be an integer in [{self.range.min}, {highest}], got {zero_point}"
                raise ValueError(msg)

    @property
    def groups(self) -> int:
        """How many groups of channels have a scale and a zero point of their own."""
        return len(self.zero_point) if isinstance(self.zero_point, tuple) else 1

    def offset(self, channels: int) -> "int | Integers":
        """Return the zero point, (channels,) of them if there are groups."""
        if isinstance(self.zero_point, int):
            return self.zero_point
        return np.repeat(np.array(self.zero_point, np.int32), channels // self.groups)

    def reals(self, codes: Integers) -> NDArray[np.float64]:
        """Return what ``codes`` (..., C) stand for, channels in the order of the codes.

        Raises
        ------
        ValueError
            If the channels do not divide into the groups.

        Examples
        --------
        >>> import intsim
        >>> form = intsim.Format(range=intsim.IntRange(8), zero_point=3, scale=intsim.Dyadic(1, 2))
        >>> form.reals(np.array([-1, 3, 7], np.int8))
        array([-1.,  0.,  1.])
        """
        if codes.shape[-1:] and codes.shape[-1] % self.groups:
            msg = f"codes must have channels of {self.groups} groups, got shape {codes.shape}"
            raise ValueError(msg)
        offset, steps = np.asarray(self.zero_point), self.scale.to_real()
        if self.groups > 1:
            offset, steps = (np.repeat(each, codes.shape[-1] // self.groups) for each in (offset, steps))
        return (codes.astype(np.int64) - offset) * steps

    def to_json(self) -> dict[str, Any]:
        """Return the format as plain JSON values."""
        return {
            "bits": self.range.bits,
            "signed": self.range.signed,
            "narrow": self.range.narrow,
            "zero_point": list(self.zero_point) if isinstance(self.zero_point, tuple) else self.zero_point,
            "scale": {"multiplier": self.scale.multiplier.tolist(), "shift": self.scale.shift.tolist()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Format":
        """Return the format that ``to_json`` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a field is missing, unknown or wrong.
        """
        check_kind("a format", data, dict)
        given = dict(data)
        zero_point, scale = given.pop("zero_point"), given.pop("scale")
        return cls(
            zero_point=tuple(cast("list[Any]", zero_point)) if type(zero_point) is list else zero_point,
            scale=made(Dyadic, scale),
            range=made(IntRange, given),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """How the input of a product is quantized while running: symmetric codes whose scale is ``dynamic_bound``.

    Parameters
    ----------
    range
        The codes.
    per
        ``token`` or ``sequence``.
    clip
        Whether the bound is clipped by TM-IQR; per sequence only.
    """

    range: IntRange
    per: Granularity
    clip: bool

    def __post_init__(self) -> None:
        check_choice("per", self.per, get_args(Granularity))
        check_kind("clip", self.clip, bool)
        if self.range.min != -self.range.max or self.range.bits > MAX_BITS:
            msg = f"range must be symmetric and of at most {MAX_BITS} bits, got [{self.range.min}, {self.range.max}]"
            raise ValueError(msg)
        if self.clip and self.per == "token":
            msg = "clip must go with per 'sequence', got 'token'"
            raise ValueError(msg)

    @property
    def unit(self) -> int:
        """What 1 is in the bound."""
        return 8 if self.clip else 1

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"bits": self.range.bits, "per": self.per, "clip": self.clip}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Dynamic":
        """Return what ``to_json`` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a field is missing, unknown or wrong.
        """
        check_kind("a dynamic format", data, dict)
        given = dict(data)
        return made(cls, {"range": IntRange(given.pop("bits"), narrow=True), **given})
