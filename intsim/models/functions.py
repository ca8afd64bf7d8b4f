# SPDX-License-Identifier: Apache-2.0
"""Activation functions and poolings: the operator that each runs as, and what its codes stand for."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple

from intsim import ops
from intsim.carrier.exact import Integers
from intsim.fixedpoint import INT16, IntRange
from intsim.models.world import Function, Pooling
from intsim.profile import Profile
from intsim.rounded import RoundedGelu

__all__ = ["FunctionRule", "function_rule", "pooling_operator"]

STRETCH: Final = Fraction("1.702")
"""quick_gelu(x) = x sigmoid(1.702 x) = silu(1.702 x) / 1.702 (Hendrycks & Gimpel 2016)."""


BY_TANH: Final = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


class FunctionRule(NamedTuple):
    """An operator, the codes it reads, and the real value of 1 in its input and its output."""

    operator: Callable[..., Integers]
    input_range: IntRange
    input_scale: Fraction
    output_scale: Fraction


def function_rule(function: Function, profile: Profile) -> FunctionRule:
    """Return how ``profile`` computes an activation function.

    All forms of GELU run as i-GELU: they differ by at most 5e-4, i-GELU from each by thirty times that. Correctly
    rounded, those by tanh are a function of their own.
    """
    match function:
        case "relu":
            fraction = _bits(profile.gelu.input_fraction)
            return FunctionRule(ops.relu, INT16, fraction, fraction)
        case "tanh":
            input_scale = _bits(profile.exp.input_fraction + 1)
            return FunctionRule(ops.tanh, INT16, input_scale, _bits(profile.tanh.output_fraction))
        case "silu":
            return FunctionRule(ops.silu, INT16, _bits(profile.silu.input_fraction), profile.silu_scale)
        case "quick_gelu":
            scale = _bits(profile.silu.input_fraction) * STRETCH**-1
            return FunctionRule(ops.silu, INT16, scale, profile.silu_scale * STRETCH**-1)
        case _:
            rule = profile.gelu
            by_tanh = isinstance(rule, RoundedGelu) and function in BY_TANH
            operator = ops.gelu_tanh if by_tanh else ops.gelu
            return FunctionRule(operator, rule.input_range, _bits(rule.input_fraction), rule.output_scale)


def pooling_operator(mode: Pooling, profile: Profile) -> tuple[Callable[..., Integers], dict[str, Any]]:
    """Return the operator on hidden states and their mask that pools them, and its constants."""
    match mode:
        case "mean":
            return ops.mean_pooling, {"profile": profile}
        case "cls":
            return ops.pick_token, {"which": "first"}
        case "last":
            return ops.pick_token, {"which": "last"}


def _bits(fraction: int) -> Fraction:
    return Fraction(1, 1 << fraction)
