# SPDX-License-Identifier: Apache-2.0
"""The numerics profile: every convention that decides a bit, as one frozen, hashable value.

An operator takes its rounding, constants and output format from here and nowhere else, so a profile's hash names the
integers a model computes. Constants are decimal strings, exactly the number they show; ``Fraction`` makes integers of
them, never a float. The presets are data at the end of the file.

An entry ``rule`` names another rule than the one in this file: of another project, from ``intsim.kernels.rules``, for
softmax, gelu and layer_norm, or ``rounded``, from ``intsim.rounded``, for the functions of one code.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, get_args, get_type_hints

from intsim._checked import Checked, check_kind, check_range, made
from intsim.errors import IntsimError, said
from intsim.fixedpoint import INT16, MAX_SHIFT, UINT8, UINT16, IntRange, Rounding, round_fraction
from intsim.kernels import rules
from intsim.requantization import RULES, Requantization
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh

__all__ = [
    "IBERT",
    "INTSIM",
    "INTSIM_WIDE",
    "NATIVE",
    "PROFILES",
    "Exp",
    "Gelu",
    "LayerNorm",
    "Profile",
    "Sigmoid",
    "Silu",
    "Softmax",
    "Tanh",
    "find_profile",
    "native",
]

Rule = TypeVar("Rule")

LN2: Final = Fraction("0.69314718055994530941723212145817656808")
DECIMAL: Final = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,40})?")
SQRT2: Final = Fraction("1.41421356237309504880168872420969807857")


def _constant(value: Fraction, fraction_bits: int, rounding: Rounding) -> int:
    return round_fraction(value * 2**fraction_bits, rounding)


def _check_decimals(**decimals: str) -> None:
    for name, decimal in decimals.items():
        if not DECIMAL.fullmatch(decimal):
            msg = f"{name} must be a decimal of at most 9 digits before and 40 behind the point, got {decimal!r:.40}"
            raise ValueError(msg)


def _check_positive(name: str, decimal: str) -> None:
    if Fraction(decimal) <= 0:
        msg = f"{name} must be positive, got {decimal}"
        raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Exp(Checked):
    """i-exp (Kim et al. 2021, Algorithm 2): e**p ~ a(p + b)**2 + c on (-ln 2, 0], shifted right by z.

    Real values: the input is x * 2**-input_fraction, the output e * output_scale.
    """

    input_fraction: int
    guard_bits: int
    a: str
    b: str
    c: str
    output_shift: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decimals(a=self.a, b=self.b, c=self.c)
        check_range("guard_bits", self.guard_bits, 0, 28)
        check_range("fraction bits of exp", self.fraction, 1, 28)
        _check_positive("a", self.a)
        q_ln2, q_b, q_c = self.constants(Rounding.FLOOR)
        z = (1 << (15 + self.guard_bits)) // max(q_ln2, 1)
        if self.output_shift < 0 or self.output_shift + z > MAX_SHIFT:
            msg = f"exp must shift by at most 62 bits, got output_shift={self.output_shift} and up to {z} more"
            raise ValueError(msg)
        if q_ln2 < 1 or max(q_b**2, (q_b - q_ln2) ** 2) + abs(q_c) >= (1 << 31 << self.output_shift):
            msg = f"exp must give results below 2**31, got a={self.a}, b={self.b}, c={self.c}"
            raise ValueError(msg)
        if (q_b**2 + q_c) >> self.output_shift < 1:
            msg = f"exp must give at least 1 at 0, got output_shift={self.output_shift}"
            raise ValueError(msg)

    @property
    def fraction(self) -> int:
        """Fraction bits of the range reduction."""
        return self.input_fraction + self.guard_bits

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code."""
        return Fraction(self.a) * Fraction(2) ** (self.output_shift - 2 * self.fraction)

    def constants(self, rounding: Rounding) -> tuple[int, int, int]:
        """Return q_ln2, q_b and q_c."""
        q_ln2 = _constant(LN2, self.fraction, rounding)
        q_b = _constant(Fraction(self.b), self.fraction, rounding)
        q_c = _constant(Fraction(self.c) / Fraction(self.a), 2 * self.fraction, rounding)
        return q_ln2, q_b, q_c


@dataclass(frozen=True, kw_only=True)
class Softmax(Checked):
    """Probabilities are codes of 1 / one: uint8, saturated at 255, for ``one`` up to 256, uint16 beyond."""

    one: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("one", self.one, 1, UINT16.max)

    @property
    def output_range(self) -> IntRange:
        """Range of the codes."""
        return UINT8 if self.one <= UINT8.max + 1 else UINT16


@dataclass(frozen=True, kw_only=True)
class Gelu(Checked):
    """i-GELU (Kim et al. 2021, Algorithm 3) with erf(x) ~ sgn(x) [a(min(|x|, -b) + b)**2 + 1].

    Real values: the input is x * 2**-input_fraction, the output y * output_scale.
    """

    input_fraction: int
    a: str
    b: str
    output_shift: int

    input_range: ClassVar[IntRange] = INT16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_decimals(a=self.a, b=self.b)
        check_range("input_fraction of gelu", self.input_fraction, 0, 15)
        check_range("output_shift of gelu", self.output_shift, 0, MAX_SHIFT)
        _check_positive("-a", f"-{self.a}".removeprefix("--"))
        _check_positive("-b", f"-{self.b}".removeprefix("--"))
        q_b, q_1 = self.constants(Rounding.FLOOR)
        if 2**15 * max(q_b**2, 2 * abs(q_1)) >= (1 << 31 << self.output_shift):
            msg = f"gelu must give results below 2**31, got a={self.a}, b={self.b}, output_shift={self.output_shift}"
            raise ValueError(msg)

    @property
    def output_scale(self) -> Fraction:
        """Real value of one output code: the paper's S S_erf / 2 with its sign put right, S_erf = a (S / sqrt 2)**2."""
        return -Fraction(self.a) / 4 * Fraction(2) ** (self.output_shift - 3 * self.input_fraction)

    def constants(self, rounding: Rounding) -> tuple[int, int]:
        """Return q_b and q_c = q_1, both negative because a and b are."""
        q_b = _constant(Fraction(self.b) * SQRT2, self.input_fraction, rounding)
        q_c = _constant(2 / Fraction(self.a), 2 * self.input_fraction, rounding)
        return q_b, q_c


@dataclass(frozen=True, kw_only=True)
class Tanh(Checked):
    """Tanh from i-exp, whose input is one bit coarser, since tanh needs e**-2|x|."""

    output_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("output_fraction of tanh", self.output_fraction, 0, 14)


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Checked):
    """Sigmoid from i-exp, whose input format it shares."""

    output_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("output_fraction of sigmoid", self.output_fraction, 0, 14)


@dataclass(frozen=True, kw_only=True)
class Silu(Checked):
    """x times its sigmoid, which saturates where its own input is finer. Real values: x * 2**-input_fraction."""

    input_fraction: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("input_fraction of silu", self.input_fraction, 0, 15)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Checked):
    """LayerNorm by exact integer square root.

    ``exact`` centring subtracts sum(x) from N x, ``rounded-mean`` subtracts the rounded mean from x.
    ``output_fraction`` counts the fraction bits of (x - mean) / std. Rows of wide integers, and all rows that RMSNorm
    reads, are shifted to ``row_bits`` bits first.
    """

    centring: Literal["exact", "rounded-mean"]
    output_fraction: int

    row_bits: ClassVar[int] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("output_fraction of layer_norm", self.output_fraction, 0, 16)

    def squared_unit(self, channels: int) -> Fraction:  # noqa: ARG002  only others' units depend on it
        """Return the square of what one code of (x - mean) / std stands for."""
        return Fraction(1, 1 << 2 * self.output_fraction)


SILU: Final = Silu(input_fraction=9)  # gates of decoders reach 60
OPERATORS: Final = ("exp", "softmax", "gelu", "tanh", "sigmoid", "layer_norm", "silu")


@dataclass(frozen=True, kw_only=True)
class Profile(Checked):
    """Every convention that decides a bit.

    Parameters
    ----------
    name, version
        What the profile is called. A change of any other field makes a new version.
    requantization
        From an accumulator to codes.
    rounding
        Rounding of sums of several scales, and of what softmax reads and LayerNorm writes.
    step_rounding
        Rounding of everything else that drops bits: constants, shifts and quotients inside nonlinear operators.
    sum
        ``once``: products are added, then rounded once; ``each``: every operand is rounded, then they are added.
    exp, softmax, gelu, tanh, sigmoid, layer_norm, silu
        The nonlinear operators.
    """

    name: str
    version: int
    requantization: Requantization
    rounding: Rounding
    step_rounding: Rounding
    sum: Literal["once", "each"]
    exp: Exp | RoundedExp
    softmax: (
        Softmax | rules.CodeSoftmax | rules.Shiftmax | rules.ItaSoftmax | rules.Ita2024Softmax | rules.LitertSoftmax
    )
    gelu: Gelu | RoundedGelu | rules.CodeGelu | rules.ShiftGelu | rules.ItaGelu | rules.GeluTable
    tanh: Tanh | RoundedTanh
    sigmoid: Sigmoid | RoundedSigmoid
    layer_norm: LayerNorm | rules.CodeLayerNorm | rules.VitLayerNorm
    silu: Silu | RoundedSilu = SILU

    @property
    def score_scale(self) -> Fraction:
        """Real value of one input code of softmax."""
        rule = self.softmax
        return Fraction(1, 1 << self.exp.input_fraction) if isinstance(rule, Softmax) else rule.input_scale

    @property
    def probability_range(self) -> IntRange:
        """Range of what softmax gives."""
        return self.softmax.output_range if isinstance(self.softmax, Softmax) else UINT8

    def row_sum(self, tokens: int) -> int:
        """Return the most that a row of ``tokens`` probabilities sums to.

        Reals r >= 0 of sum ``one`` become P(r), at most r if P rounds down; to nearest, at most r + 1/2, and at most
        2 r, since nothing below 1/2 rounds up: 510 probabilities of 1/2 reach it with one = 255.
        """
        rule = self.softmax
        if not isinstance(rule, Softmax):
            return rule.row_sum(tokens)
        if self.step_rounding in (Rounding.FLOOR, Rounding.TOWARD_ZERO):
            return rule.one
        return min(2 * rule.one, rule.one + (tokens >> 1))

    @property
    def silu_scale(self) -> Fraction:
        """Real value of one output code of silu."""
        rule = self.silu
        product = rule.input_fraction + self.sigmoid.output_fraction
        return Fraction(1, 1 << (product if isinstance(rule, Silu) else rule.output_fraction))

    @property
    def borrowed(self) -> tuple[str, ...]:
        """Names of the operators that follow another project's rule."""
        return tuple(name for name in OPERATORS if getattr(getattr(self, name), "rule", "rounded") != "rounded")

    def require_native(self, what: str) -> None:
        """Refuse a profile with borrowed rules for something that knows none.

        Raises
        ------
        IntsimError
            Naming the operators.
        """
        if self.borrowed:
            others = ", ".join(self.borrowed)
            msg = f"{what} must have intsim's own rules only, got another project's {others} in '{self.name}'"
            raise IntsimError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return the profile as plain JSON values: ``silu`` only where it is not the default."""
        data = dataclasses.asdict(self)
        if self.silu == SILU:
            del data["silu"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the profile that ``to_json`` wrote.

        Raises
        ------
        IntsimError
            If a field is missing or unknown, or a rounding has an unknown name.
        """
        hints = get_type_hints(cls)
        try:
            check_kind("a profile", data, dict)
            fields = dict(data)
            for name in [name for name in OPERATORS if name in fields or name != "silu"]:
                kinds = get_args(hints[name]) or (hints[name],)
                by_rule: dict[str | None, type[Any]] = {getattr(kind, "rule", None): kind for kind in kinds}
                check_kind(name, entries := fields[name], dict)
                fields[name] = made(by_rule[entries.get("rule")], entries)
            fields["requantization"] = Requantization.from_json(fields["requantization"])
            for name in ("rounding", "step_rounding"):
                fields[name] = Rounding(fields[name])
            return made(cls, fields)
        except (LookupError, TypeError, ValueError) as error:
            msg = f"profile must have exactly the fields of intsim's profiles, got {said(error)}"
            raise IntsimError(msg) from error

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON form, in hex."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


# Ours. The polynomials have I-BERT's form and cost; their coefficients minimise the largest error, relative for exp
# (softmax divides the scale away), absolute for GELU.
INTSIM: Final = Profile(
    name="intsim",
    version=2,
    requantization=RULES["dyadic"],
    rounding=Rounding.HALF_UP,
    step_rounding=Rounding.HALF_UP,
    sum="once",
    exp=Exp(input_fraction=11, guard_bits=3, a="0.3509", b="1.3691", c="0.3405", output_shift=14),
    softmax=Softmax(one=255),
    gelu=Gelu(input_fraction=10, a="-0.2575", b="-1.8306", output_shift=24),
    tanh=Tanh(output_fraction=14),
    sigmoid=Sigmoid(output_fraction=14),
    layer_norm=LayerNorm(centring="exact", output_fraction=16),
)

# Kim et al. 2021 as published: its polynomials, floored constants, L >> z, floored quotients, rounded mean, HAWQ's
# requantization (ties to even, residual operands rounded one by one). Removed hazards: exp and GELU take a 16-bit input
# with a power-of-two scale, so that b**2 and c / (a S**2) are the same small constants in every layer; the GELU product
# drops 8 bits to fit 32; the one-hot probability 256 saturates at 255; LayerNorm adds eps of at least one unit.
IBERT: Final = Profile(
    name="ibert",
    version=2,
    requantization=RULES["hawq"],
    rounding=Rounding.HALF_EVEN,
    step_rounding=Rounding.FLOOR,
    sum="each",
    exp=Exp(input_fraction=11, guard_bits=0, a="0.3585", b="1.353", c="0.344", output_shift=0),
    softmax=Softmax(one=256),
    gelu=Gelu(input_fraction=10, a="-0.2888", b="-1.769", output_shift=8),
    tanh=Tanh(output_fraction=14),
    sigmoid=Sigmoid(output_fraction=14),
    layer_norm=LayerNorm(centring="rounded-mean", output_fraction=16),
)

# intsim with 16-bit probabilities, and every function of one code correctly rounded, as lookup tables hold it. GELU and
# SiLU reach from -64 to 64, what the gates and hidden layers of decoders need; the smallest exponential, e**-16, is 1.
INTSIM_WIDE: Final = dataclasses.replace(
    INTSIM,
    name="intsim-wide",
    version=1,
    exp=RoundedExp(input_fraction=11, output_fraction=23),
    softmax=Softmax(one=65535),
    gelu=RoundedGelu(input_fraction=9, output_fraction=15),
    tanh=RoundedTanh(output_fraction=14),
    sigmoid=RoundedSigmoid(output_fraction=14),
    silu=RoundedSilu(input_fraction=9, output_fraction=15),
)

NATIVE: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (INTSIM, IBERT, INTSIM_WIDE)}

# I-BERT as its authors released it. The shift keeps its variance below 2**32 for up to 1024 channels of 16-bit codes.
IBERT_CODE: Final = dataclasses.replace(
    IBERT,
    name="ibert-code",
    version=1,
    softmax=rules.CodeSoftmax(input_fraction=8),
    gelu=rules.CodeGelu(input_fraction=10),
    layer_norm=rules.CodeLayerNorm(shift=5),
)

# Li & Gu 2023 (I-ViT): shifts for exponentials, ten Newton steps for roots.
IVIT: Final = dataclasses.replace(
    IBERT,
    name="ivit",
    version=1,
    softmax=rules.Shiftmax(input_fraction=4, bits=15),
    gelu=rules.ShiftGelu(input_fraction=4, bits=23),
    layer_norm=rules.VitLayerNorm(),
)

# Islamoglu et al. 2023 (ITA): requantizer, softmax and GELU of its circuit up to commit 40564cf (November 2024) of
# github.com/pulp-platform/ITA. What is no part of it: LayerNorm as in I-BERT, and sums by one rounding, whose ratios
# from 8 bits to 16 its multipliers do not reach.
ITA: Final = dataclasses.replace(
    IBERT,
    name="ita",
    version=1,
    requantization=RULES["ita"],
    rounding=Rounding.HALF_UP,
    sum="once",
    softmax=rules.ItaSoftmax(streaming=True),
    gelu=rules.ItaGelu(input_fraction=5),
)

# The same since commit 39236c9 (November 2024): SoftmaxShift = 0, so that a code of softmax's input is a halving, ln 2.
ITA_2024: Final = dataclasses.replace(ITA, name="ita-2024", softmax=rules.Ita2024Softmax(streaming=True))

PROFILES: Final[Mapping[str, Profile]] = {
    **NATIVE,
    **{profile.name: profile for profile in (IBERT_CODE, IVIT, ITA, ITA_2024)},
}


def native(rule: object, kind: type[Rule]) -> Rule:
    """Return a rule of a profile, which must be intsim's own: ``native(profile.gelu, Gelu)``.

    Raises
    ------
    IntsimError
        If it is another project's.
    """
    if not isinstance(rule, kind):
        msg = f"rule must be intsim's own {kind.__name__}, got {rule}"
        raise IntsimError(msg)
    return rule


def find_profile(name: str) -> Profile:
    """Return a preset by its name.

    Raises
    ------
    IntsimError
        If there is no such preset.
    """
    if name not in PROFILES:
        msg = f"profile must be one of {', '.join(PROFILES)}, got {name!r}"
        raise IntsimError(msg)
    return PROFILES[name]
