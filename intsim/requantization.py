# SPDX-License-Identifier: Apache-2.0
"""The requantization rules in the field: how a real ratio of scales becomes a multiplier, and an accumulator a code.

A rule is a point on a few independent axes; ``RULES`` names the points that kernels and chips sit on. Every ratio is a
``Dyadic``, float32 ones too, whose 24-bit significands it holds exactly, so that no rule needs a float to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from intsim._checked import Checked, check_kind, check_range, made
from intsim.fixedpoint import MULTIPLIER_BITS, Dyadic, Rounding, rounding_right_shift

__all__ = ["RULES", "Requantization"]

FLOAT32_BITS: Final = 24


@dataclass(frozen=True, kw_only=True)
class Requantization(Checked):
    """From an accumulator to a code.

    Parameters
    ----------
    name
        What the rule is called.
    multiplier_bits
        Width of the multiplier m in ratio = m / 2**t.
    multiplier_from
        What is rounded to that width, halves up: ``real`` the ratio itself, ``binary32`` the float32 nearest to it,
        ``31-bit`` its 31-bit multiplier, saturated instead of renormalised.
    accumulator_bits
        Width that the accumulator is saturated to first; 64 for none.
    arithmetic
        ``one-rounding``: acc * m / 2**t rounded once. ``two-roundings``: to a multiple of 2**-(t - 31) half up, then by
        ``rounding``, as gemmlowp does. ``binary32``: the accumulator rounded to 24 significant bits, its product with m
        likewise, ties to even, as float32 does, then by ``rounding``.
    rounding
        Rounding to an integer.
    zero_point
        ``after`` or ``before`` that rounding: 2.5 + 3 rounds half to even as 2 + 3 or as 5.5.
    """

    name: str
    multiplier_bits: int = MULTIPLIER_BITS
    multiplier_from: Literal["real", "binary32", "31-bit"] = "real"
    accumulator_bits: int = 64
    arithmetic: Literal["one-rounding", "two-roundings", "binary32"] = "one-rounding"
    rounding: Rounding
    zero_point: Literal["after", "before"] = "after"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("multiplier_bits", self.multiplier_bits, 4, MULTIPLIER_BITS)
        check_range("accumulator_bits", self.accumulator_bits, 8, 64)
        if self.arithmetic == "binary32" and self.multiplier_bits > FLOAT32_BITS:
            msg = f"multiplier_bits must be at most 24 for float32 arithmetic, got {self.multiplier_bits}"
            raise ValueError(msg)

    @property
    def is_one_rounding(self) -> bool:
        """Whether the rule is one exact rounding of any accumulator, the zero point added after it."""
        return self.arithmetic == "one-rounding" and self.zero_point == "after" and self.accumulator_bits == 64

    def ratio(self, real: ArrayLike) -> Dyadic:
        """Return the dyadic that the rule multiplies by for a real ratio of scales.

        Raises
        ------
        ValueError
            As ``Dyadic.from_real``.
        """
        if self.multiplier_from == "real":
            return Dyadic.from_real(real, bits=self.multiplier_bits)
        if self.multiplier_from == "binary32":
            return Dyadic.from_real(np.asarray(real, np.float32), bits=self.multiplier_bits)
        wide, drop = Dyadic.from_real(real), MULTIPLIER_BITS - self.multiplier_bits
        narrow = rounding_right_shift(wide.multiplier, drop, Rounding.HALF_UP)
        return Dyadic(np.minimum(narrow, (1 << self.multiplier_bits) - 1), wide.shift - drop)

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the rule that ``to_json`` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a field is missing, unknown or wrong.
        """
        check_kind("requantization", data, dict)
        fields: dict[str, Any] = {name: data[name] for name in cls.__dataclass_fields__}
        return made(cls, {**data, "rounding": Rounding(fields["rounding"])})


_RULES: Final = (
    # ours, and what I-BERT, HAWQ and I-ViT compute (Yao et al. 2021, as exact integers)
    Requantization(name="dyadic", rounding=Rounding.HALF_UP),
    Requantization(name="hawq", rounding=Rounding.HALF_EVEN),
    # gemmlowp's SaturatingRoundingDoublingHighMul then RoundingDivideByPOT; TOSA's double_round is the same function
    Requantization(name="tflite-double", arithmetic="two-roundings", rounding=Rounding.HALF_AWAY),
    # ruy, LiteRT's matrix library: halves up both times
    Requantization(name="ruy", arithmetic="two-roundings", rounding=Rounding.HALF_UP),
    # with TFLITE_SINGLE_ROUNDING; CMSIS-NN's single rounding; TVM's UPWARD
    Requantization(name="tflite-single", rounding=Rounding.HALF_UP),
    Requantization(name="tvm-tonearest", rounding=Rounding.HALF_AWAY),
    # 16-bit activations with an int64 accumulator
    Requantization(name="tflite-int64", multiplier_bits=15, multiplier_from="31-bit", rounding=Rounding.HALF_UP),
    # chips of the PULP family: ITA's 26-bit accumulator, for ratios of at least 2**-29, since its circuit floors from
    # shift 36 on (kernels.ita.requantize); Deeploy's RequantShift; pulp-nn
    Requantization(name="ita", multiplier_bits=7, accumulator_bits=26, rounding=Rounding.HALF_UP),
    Requantization(name="pulp-rqs", rounding=Rounding.HALF_UP),
    Requantization(name="pulp-nn", multiplier_bits=15, rounding=Rounding.FLOOR),
    # float32 scales
    Requantization(
        name="onnx-qlinear",
        multiplier_bits=24,
        multiplier_from="binary32",
        rounding=Rounding.HALF_EVEN,
        zero_point="before",
    ),
    *(
        Requantization(
            name=name,
            multiplier_bits=24,
            multiplier_from="binary32",
            arithmetic="binary32",
            rounding=Rounding.HALF_EVEN,
        )
        for name in ("xnnpack-fp32", "gemmini")
    ),
    Requantization(name="xnnpack-rndnu", multiplier_bits=24, multiplier_from="binary32", rounding=Rounding.HALF_UP),
)

RULES: Final[Mapping[str, Requantization]] = {rule.name: rule for rule in _RULES}
