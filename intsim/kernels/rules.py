# SPDX-License-Identifier: Apache-2.0
"""Rules of other projects that a profile can hold in place of intsim's own: a kernel, and what a model must know of it.

A rule is called on rows of codes. Where the original takes a scale that differs from layer to layer, the codes have one
fixed scale, so that its constants are the same in all of them. No int16 that ``input_range`` holds can overflow a rule.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from intsim._checked import Checked, check_range
from intsim.carrier.exact import Integers
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, saturate
from intsim.kernels import ibert, ita, ivit, litert_nonlinear
from intsim.rounded import table

__all__ = [
    "CodeGelu",
    "CodeLayerNorm",
    "CodeSoftmax",
    "GeluTable",
    "Ita2024Softmax",
    "ItaGelu",
    "ItaSoftmax",
    "LitertSoftmax",
    "ShiftGelu",
    "Shiftmax",
    "VitLayerNorm",
]

Mask = NDArray[np.bool_]

LN2: Final = Fraction("0.69314718055994530941723212145817656808")
CODE_EXP_MAX: Final = (1 << 15) - 1  # of I-BERT's 16-bit activation
VIT_SUM: Final = 1 << 31  # what I-ViT clamps sums of exponentials to


@dataclass(frozen=True, kw_only=True)
class CodeSoftmax(Checked):
    """I-BERT's released code: ``kernels.ibert.softmax``; exp(0) fills its 16-bit activation."""

    rule: Literal["ibert-code"] = "ibert-code"
    input_fraction: int

    input_range: ClassVar[IntRange] = INT16
    one: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of softmax", self.input_fraction, 1, 13)

    @property
    def input_scale(self) -> Fraction:
        """Real value of one input code."""
        return Fraction(1, 1 << self.input_fraction)

    @property
    def exp_ratio(self) -> Dyadic:
        """From what its exp gives to the 16-bit activation."""
        _, _, q_c = ibert.exp_constants(self.input_scale)
        shift = 15 + q_c.bit_length()
        return Dyadic(((CODE_EXP_MAX << shift + 1) + q_c) // (2 * q_c), shift)

    def row_sum(self, tokens: int) -> int:  # noqa: ARG002  only others' sums depend on it
        """Return the most that a row of ``tokens`` probabilities sums to."""
        return self.one

    def __call__(self, x_q: Integers, mask: Mask | None = None) -> Integers:
        """Return rows of uint8 codes of 1 / one."""
        probs = ibert.softmax(x_q.astype(np.int64), scale=self.input_scale, ratio=self.exp_ratio, mask=mask)
        return saturate(probs, UINT8)


@dataclass(frozen=True, kw_only=True)
class Shiftmax(Checked):
    """I-ViT: ``kernels.ivit.shiftmax``."""

    rule: Literal["ivit"] = "ivit"
    input_fraction: int
    bits: int

    input_range: ClassVar[IntRange] = INT16
    one: ClassVar[int] = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of softmax", self.input_fraction, 0, 14)
        check_range("bits of softmax", self.bits, 1, 31 - self.input_fraction)  # exp(0) is at most what sums go to

    @property
    def input_scale(self) -> Fraction:
        """Real value of one input code."""
        return Fraction(1, 1 << self.input_fraction)

    def row_sum(self, tokens: int) -> int:
        """Return the most that a row of ``tokens`` probabilities sums to: beyond ``one`` if sums are clamped."""
        return max(self.one, (tokens << self.input_fraction + self.bits) * self.one // VIT_SUM)

    def __call__(self, x_q: Integers, mask: Mask | None = None) -> Integers:
        """Return rows of uint8 codes of 1 / one."""
        probs = ivit.shiftmax(x_q.astype(np.int64), scale=self.input_scale, bits=self.bits, mask=mask)
        return saturate(probs, UINT8)


@dataclass(frozen=True, kw_only=True)
class ItaSoftmax(Checked):
    """ITA up to commit 40564cf: ``kernels.ita.streaming_softmax`` as its circuit, or ``softmax``, of base-2 codes."""

    rule: Literal["ita"] = "ita"
    streaming: bool

    input_range: ClassVar[IntRange] = INT8
    input_scale: ClassVar[Fraction] = LN2 * Fraction(1, 1 << ita.SHIFT)
    one: ClassVar[int] = 256

    def row_sum(self, tokens: int) -> int:
        """Return the most that a row of ``tokens`` probabilities sums to: a sum is floored where it is shifted."""
        return _ita_row_sum(tokens, streaming=self.streaming)

    def __call__(self, x_q: Integers, mask: Mask | None = None) -> Integers:
        """Return rows of uint8 codes of 1 / one."""
        return _ita_softmax(x_q, mask, streaming=self.streaming, shift=ita.SHIFT)


@dataclass(frozen=True, kw_only=True)
class Ita2024Softmax(Checked):
    """ITA since commit 39236c9, November 2024: as ``ItaSoftmax``, every code a halving."""

    rule: Literal["ita-2024"] = "ita-2024"
    streaming: bool

    input_range: ClassVar[IntRange] = INT8
    input_scale: ClassVar[Fraction] = LN2 * Fraction(1, 1 << ita.SHIFT_2024)
    one: ClassVar[int] = 256

    def row_sum(self, tokens: int) -> int:
        """Return the most that a row of ``tokens`` probabilities sums to, as ``ItaSoftmax``."""
        return _ita_row_sum(tokens, streaming=self.streaming)

    def __call__(self, x_q: Integers, mask: Mask | None = None) -> Integers:
        """Return rows of uint8 codes of 1 / one."""
        return _ita_softmax(x_q, mask, streaming=self.streaming, shift=ita.SHIFT_2024)


def _ita_row_sum(tokens: int, *, streaming: bool) -> int:
    return UINT8.max * tokens if streaming else UINT8.max


def _ita_softmax(x_q: Integers, mask: Mask | None, *, streaming: bool, shift: int) -> Integers:
    kernel = ita.streaming_softmax if streaming else ita.softmax
    return kernel(x_q.astype(np.int8, copy=False), shift=shift, mask=mask)


@dataclass(frozen=True, kw_only=True)
class LitertSoftmax(Checked):
    """LiteRT's reference kernel: ``kernels.litert_nonlinear.softmax`` of int8 codes, in gemmlowp's fixed point."""

    rule: Literal["litert"] = "litert"
    input_fraction: int

    input_range: ClassVar[IntRange] = INT8
    one: ClassVar[int] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of softmax", self.input_fraction, 0, 7)

    @property
    def input_scale(self) -> Fraction:
        """Real value of one input code."""
        return Fraction(1, 1 << self.input_fraction)

    def row_sum(self, tokens: int) -> int:
        """Return the most that a row of ``tokens`` probabilities sums to: each is rounded."""
        return UINT8.max * tokens

    def __call__(self, x_q: Integers, mask: Mask | None = None) -> Integers:
        """Return rows of uint8 codes of 1 / one.

        Raises
        ------
        IntsimError
            If the exponentials of a row sum to 512 or more, where LiteRT aborts: only rows of 512 positions can.
        """
        try:
            probs = litert_nonlinear.softmax(
                x_q.astype(np.int8, copy=False), scale=self.input_scale, to=INT8, mask=mask
            )
        except ValueError as error:
            raise IntsimError(str(error)) from error
        return saturate(probs.astype(np.int64) - INT8.min, UINT8)


@dataclass(frozen=True, kw_only=True)
class GeluTable(Checked):
    """A table: x Phi(x) of codes of 2**-input_fraction, each entry the nearest code of 2**-output_fraction."""

    rule: Literal["table"] = "table"
    input_fraction: int
    output_fraction: int

    input_range: ClassVar[IntRange] = INT16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of gelu", self.input_fraction, 0, 11)
        check_range("output_fraction of gelu", self.output_fraction, self.input_fraction, self.input_fraction + 15)

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code."""
        return Fraction(1, 1 << self.output_fraction)

    def __call__(self, x_q: Integers) -> Integers:
        """Return int32 codes of output_scale."""
        entries = table("gelu", self.input_fraction, self.output_fraction)
        return entries.take(x_q, mode="wrap")  # a negative index counts from the end, where its value stands


@dataclass(frozen=True, kw_only=True)
class CodeGelu(Checked):
    """I-BERT's released code: ``kernels.ibert.gelu`` of codes of S = 2**-input_fraction."""

    rule: Literal["ibert-code"] = "ibert-code"
    input_fraction: int

    input_range: ClassVar[IntRange] = INT16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of gelu", self.input_fraction, 0, 12)  # 2**15 * 2 |q_1| < 2**30

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code, S * 2**14 a (S / k)**2 / 2: negative."""
        scale = Fraction(1, 1 << self.input_fraction)
        return ibert.ERF_A * scale**3 * (1 << ibert.ERF_SHIFT - 1) * ibert.SQRT2**-2

    def __call__(self, x_q: Integers) -> Integers:
        """Return int32 codes of output_scale."""
        return saturate(ibert.gelu(x_q.astype(np.int64), scale=Fraction(1, 1 << self.input_fraction)), INT32)


@dataclass(frozen=True, kw_only=True)
class ShiftGelu(Checked):
    """I-ViT: ``kernels.ivit.shiftgelu`` of codes of 2**-input_fraction. A result depends on its row."""

    rule: Literal["ivit"] = "ivit"
    input_fraction: int
    bits: int

    input_range: ClassVar[IntRange] = INT16
    one: ClassVar[int] = 128  # of its sigmoid, in [0, one]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of gelu", self.input_fraction, 0, 8)
        check_range("bits of gelu", self.bits, 1, 31 - self.input_fraction)  # exp(0) is at most what sums go to

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code."""
        return Fraction(1, self.one << self.input_fraction)

    def __call__(self, x_q: Integers) -> Integers:
        """Return int32 codes of output_scale."""
        scale = Fraction(1, 1 << self.input_fraction)
        return saturate(ivit.shiftgelu(x_q.astype(np.int64), scale=scale, bits=self.bits), INT32)


@dataclass(frozen=True, kw_only=True)
class ItaGelu(Checked):
    """ITA: ``kernels.ita.gelu`` of codes of S = 2**-input_fraction."""

    rule: Literal["ita"] = "ita"
    input_fraction: int

    input_range: ClassVar[IntRange] = INT8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of gelu", self.input_fraction, 0, 6)  # its constant saturates beyond

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code, a S**3 / 4: negative."""
        return ita.ERF_A * Fraction(1, 4 << 3 * self.input_fraction)

    def __call__(self, x_q: Integers) -> Integers:
        """Return int32 codes of output_scale."""
        scale = Fraction(1, 1 << self.input_fraction)
        return saturate(ita.gelu(x_q.astype(np.int8, copy=False), scale=scale), INT32)


@dataclass(frozen=True, kw_only=True)
class CodeLayerNorm(Checked):
    """I-BERT's released code: ``kernels.ibert.layer_norm``; its bias and its weight are in the affine part.

    It has no eps: a row whose variance is 0 after the shift is refused, where the code gives NaN.
    """

    rule: Literal["ibert-code"] = "ibert-code"
    shift: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("shift of layer_norm", self.shift, 0, 16)

    def squared_unit(self, channels: int) -> Fraction:
        """Return the square of what one code of (x - mean) / std stands for."""
        return Fraction(channels, 1 << 60)

    def __call__(self, x_q: Integers) -> Integers:
        """Return int32 codes of (x - mean) / std."""
        return saturate(ibert.layer_norm(x_q.astype(np.int64), bias=np.zeros(1, np.int64), shift=self.shift), INT32)


@dataclass(frozen=True, kw_only=True)
class VitLayerNorm(Checked):
    """I-ViT: ``kernels.ivit.layer_norm``, without eps; its bias and its weight are in the affine part."""

    rule: Literal["ivit"] = "ivit"

    def squared_unit(self, channels: int) -> Fraction:
        """Return the square of what one code of (x - mean) / std stands for."""
        return Fraction(channels, 1 << 60)

    def __call__(self, x_q: Integers) -> Integers:
        """Return int32 codes of (x - mean) / std."""
        return saturate(ivit.layer_norm(x_q.astype(np.int64), bias=np.zeros(1, np.int64)), INT32)
