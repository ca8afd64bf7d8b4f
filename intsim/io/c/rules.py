# SPDX-License-Identifier: Apache-2.0
"""A profile as macros of a C program: which function is each of its rules, and with which constants."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, Literal

from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.fixedpoint import Rounding
from intsim.kernels import ibert, ita, rules
from intsim.profile import Exp, Gelu, LayerNorm, Profile, Silu, Softmax
from intsim.requantization import Requantization
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, table

__all__ = ["defines", "gelu_table", "profile_tables", "require_supported"]

SUPPORTED: Final[Mapping[str, tuple[type[Any], ...]]] = {
    "softmax": (Softmax, rules.CodeSoftmax, rules.Shiftmax, rules.ItaSoftmax, rules.Ita2024Softmax),
    "gelu": (Gelu, RoundedGelu, rules.CodeGelu, rules.ShiftGelu, rules.ItaGelu, rules.GeluTable),
    "layer_norm": (LayerNorm, rules.CodeLayerNorm, rules.VitLayerNorm),
    "rms_norm": (LayerNorm,),
}


def require_supported(name: str, operator: str, rule: object) -> None:
    """Refuse a rule that has no function in C.

    Raises
    ------
    IntsimError
        Naming the operator.
    """
    if not isinstance(rule, SUPPORTED[operator]):
        known = ", ".join(kind.__name__ for kind in SUPPORTED[operator])
        msg = f"{operator} of '{name}' must follow one of {known} to be exported as C, got {type(rule).__name__}"
        raise IntsimError(msg)


def defines(profile: Profile) -> dict[str, str]:
    """Return name -> text of every macro that the functions of a profile may use."""
    return {
        "ROUNDING": _rounding(profile.rounding),
        "STEP_ROUNDING": _rounding(profile.step_rounding),
        **_requantization(profile.requantization),
        **_exp(profile),
        **_softmax(profile),
        **_gelu(profile),
        **_sigmoid(profile),
        "TANH_FRACTION": str(profile.tanh.output_fraction),
        **_layer_norm(profile),
    }


def profile_tables(profile: Profile) -> dict[str, NDArray[Any]]:
    """Return name -> int32 of every table that the macros name."""
    found = dict[str, NDArray[Any]]()
    if isinstance(profile.exp, RoundedExp):
        found["exp_table"] = table("exp", profile.exp.input_fraction, profile.exp.output_fraction)
    if isinstance(profile.sigmoid, RoundedSigmoid):
        found["sigmoid_table"] = table("sigmoid", profile.exp.input_fraction, profile.sigmoid.output_fraction)
    return found


def gelu_table(function: Literal["gelu", "gelu_tanh"], rule: Any) -> tuple[str, NDArray[Any]]:
    """Return the name and the entries of the table that holds a correctly rounded GELU."""
    return function, table(function, rule.input_fraction, rule.output_fraction)


def _rounding(rounding: Rounding) -> str:
    return f"round_{rounding.value.replace('-', '_')}"


def _requantization(rule: Requantization) -> dict[str, str]:
    clipped, before = rule.accumulator_bits < 64, rule.zero_point == "before"
    match rule.arithmetic, clipped, before:
        case "one-rounding", False, False:
            function = "requantized"
        case "one-rounding", True, False if rule.accumulator_bits <= 31:
            function = "requantized_clipped"
        case "one-rounding", False, True:
            function = "requantized_before"
        case "two-roundings", False, False:
            function = "requantized_twice"
        case "binary32", False, False:
            function = "requantized_binary32"
        case _:
            msg = (
                f"requantization rule must be one of intsim.requantization.RULES to be exported as C, got "
                f"{rule.arithmetic} with {rule.accumulator_bits}-bit accumulators and zero point {rule.zero_point}"
            )
            raise IntsimError(msg)
    return {
        "REQUANTIZED": function,
        "REQUANTIZATION_ROUNDING": _rounding(rule.rounding),
        "ACCUMULATOR_BITS": str(rule.accumulator_bits),
    }


def _exp(profile: Profile) -> dict[str, str]:
    rule = profile.exp
    if not isinstance(rule, Exp):
        return {"EXP": "rounded_exp", "EXP_TABLE": "exp_table"}
    q_ln2, q_b, q_c = rule.constants(profile.step_rounding)
    return {
        "EXP": "i_exp",
        "EXP_GUARD_BITS": str(rule.guard_bits),
        "EXP_LN2": _said(q_ln2, f"ln 2 * 2**{rule.fraction}"),
        "EXP_B": _said(q_b, f"{rule.b} * 2**{rule.fraction}"),
        "EXP_C": _said(q_c, f"{rule.c} / {rule.a} * 2**{2 * rule.fraction}"),
        "EXP_OUTPUT_SHIFT": str(rule.output_shift),
    }


def _softmax(profile: Profile) -> dict[str, str]:
    match profile.softmax:
        case Softmax() as rule:
            return {
                "SOFTMAX": "softmax",
                "SOFTMAX_ONE": str(rule.one),
                "PROBABILITY_MAX": str(rule.output_range.max),
            }
        case rules.CodeSoftmax() as rule:
            x_0, q_b, q_c = ibert.exp_constants(rule.input_scale)
            ratio = rule.exp_ratio
            return {
                "SOFTMAX": "ibert_softmax",
                "IBERT_EXP_0": _said(x_0, f"-0.6931 * 2**{rule.input_fraction}"),
                "IBERT_EXP_B": str(q_b),
                "IBERT_EXP_C": str(q_c),
                "IBERT_EXP_MULTIPLIER": str(int(ratio.multiplier)),
                "IBERT_EXP_SHIFT": str(int(ratio.shift)),
            }
        case rules.Shiftmax() as rule:
            return {
                "SOFTMAX": "shiftmax",
                "SHIFTMAX_0": f"({-1 // rule.input_scale})",
                "SHIFTMAX_BITS": str(rule.bits),
            }
        case rules.ItaSoftmax() | rules.Ita2024Softmax() as rule:
            return {
                "SOFTMAX": "ita_softmax",
                "ITA_SOFTMAX_SHIFT": str(ita.SHIFT if isinstance(rule, rules.ItaSoftmax) else ita.SHIFT_2024),
                "ITA_COLUMNS": str(ita.COLUMNS) if rule.streaming else "MODEL_LONGEST",
            }
        case _:
            return {}


def _gelu(profile: Profile) -> dict[str, str]:
    match profile.gelu:
        case Gelu() as rule:
            q_b, q_1 = rule.constants(profile.step_rounding)
            return {
                "GELU_B": _said(q_b, f"{rule.b} * sqrt 2 * 2**{rule.input_fraction}"),
                "GELU_1": _said(q_1, f"2 / {rule.a} * 2**{2 * rule.input_fraction}"),
                "GELU_OUTPUT_SHIFT": str(rule.output_shift),
            }
        case rules.CodeGelu() as rule:
            q_b, q_c, q_1 = ibert.gelu_constants(Fraction(1, 1 << rule.input_fraction))
            return {"GELU_B": f"({q_b})", "GELU_C": f"({q_c})", "GELU_1": f"({q_1})"}
        case rules.ShiftGelu() as rule:
            slope = Fraction(1, 1 << rule.input_fraction) * Fraction("1.702")
            return {"SHIFTGELU_0": f"({-1 // slope})", "SHIFTGELU_BITS": str(rule.bits)}
        case rules.ItaGelu() as rule:
            q_b, q_1 = ita.gelu_constants(Fraction(1, 1 << rule.input_fraction))
            return {"GELU_B": f"({q_b})", "GELU_1": f"({q_1})"}
        case _:
            return {}


def _sigmoid(profile: Profile) -> dict[str, str]:
    found = {"SIGMOID": "sigmoid_exp", "SIGMOID_FRACTION": str(profile.sigmoid.output_fraction)}
    if isinstance(profile.sigmoid, RoundedSigmoid):
        found = {"SIGMOID": "rounded_sigmoid", "SIGMOID_TABLE": "sigmoid_table"}
    if isinstance(profile.silu, Silu):
        finer = profile.exp.input_fraction - profile.silu.input_fraction
        found |= {"SILU_FINER": str(finer), "SILU_COARSER": str(-finer)}
    return found


def _layer_norm(profile: Profile) -> dict[str, str]:
    match profile.layer_norm:
        case LayerNorm() as rule:
            return {"NORM_FRACTION": str(rule.output_fraction)}
        case rules.CodeLayerNorm() as rule:
            return {"NORM_SHIFT": str(rule.shift)}
        case _:
            return {}


def _said(value: int, real: str) -> str:
    """Return a constant beside the real number that it stands for."""
    return f"{value if value >= 0 else f'({value})'} /* {real} */"
