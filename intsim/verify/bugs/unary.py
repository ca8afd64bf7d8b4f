# SPDX-License-Identifier: Apache-2.0
"""i-exp, i-GELU, tanh, sigmoid and SiLU with one rule changed; correctly rounded, with one of a table's."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from intsim.fixedpoint import INT16, MAX_SHIFT, Rounding, round_fraction, rounding_divide, rounding_right_shift
from intsim.profile import INTSIM, NATIVE, Exp, Gelu, Profile, Sigmoid, Tanh, native
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh
from intsim.verify.bugs import rounded
from intsim.verify.bugs.parts import (
    AS_INT16,
    AS_INT32,
    CONTROL,
    Changes,
    Divider,
    Int64,
    Part,
    Shifter,
    clamps,
    dividers,
    inputs,
    keep,
    nonzero,
    prefixed,
    reciprocals,
    registers,
    replaced,
    shifters,
    wraps,
)

__all__ = ["UNARY", "exp_inside"]

Constants: TypeAlias = tuple[int, ...]
Rule = TypeVar("Rule", Exp, Gelu)
LAST_BITS: Final = ("rounding", "half added", "logical shift", "q_b", "q_c", "entries")


def exp_rule(
    x: Int64,
    *,
    constants: Constants,
    guard_bits: int,
    output_shift: int,
    shifted: Shifter,
    q_of: Part = keep,
    z_of: Callable[[Int64, int], Int64] = lambda q, q_ln2: -q // q_ln2,
    z_shift: Part = keep,
    square: Part = keep,
    polynomial: Part = keep,
    narrow: Part = AS_INT32,
) -> Int64:
    """Return RND(((q + z q_ln2 + q_b)**2 + q_c) / 2**(z + output_shift)), z = floor(-q / q_ln2)."""
    q_ln2, q_b, q_c = constants
    q = q_of(x) << guard_bits
    z = z_of(q, q_ln2)
    value = polynomial(square((q + z * q_ln2 + q_b) ** 2) + q_c)
    return narrow(shifted(value, (z_shift(z.clip(0)) + output_shift).clip(0, MAX_SHIFT)))


def exp(profile: Profile) -> Changes:
    """Return exp on (x,), and every change of it."""
    if isinstance(profile.exp, RoundedExp):
        return rounded_exp(profile.exp)
    own, rounding = profile.exp, profile.step_rounding
    constants, shifting = own.constants(rounding), shifters(rounding)
    golden = partial(
        exp_rule,
        constants=constants,
        guard_bits=own.guard_bits,
        output_shift=own.output_shift,
        shifted=shifting[CONTROL],
    )
    others: dict[str, Constants] = {
        f"{name} {step:+d}": tuple(value + step * (j == k) for j, value in enumerate(constants))
        for k, name in enumerate(("q_ln2", "q_b", "q_c"))
        for step in (-1, 1)
    }
    others["q_c left out"] = (*constants[:2], 0)
    others |= {
        f"polynomial of profile {name}": replace(own, a=other.a, b=other.b, c=other.c).constants(rounding)
        for name, other in _polynomials(Exp).items()
    }
    others |= {f"constants rounded {other}": own.constants(other) for other in Rounding}
    others["constants rounded ceiling"] = tuple(value + 1 for value in own.constants(Rounding.FLOOR))
    coarse = replace(own, guard_bits=0, output_shift=max(own.output_shift - 2 * own.guard_bits, 0))
    without_guard = partial(
        golden, constants=coarse.constants(rounding), guard_bits=0, output_shift=coarse.output_shift
    )
    return {
        **replaced(
            golden,
            shifted=shifting,
            constants={name: other for name, other in others.items() if other != constants},
            z_shift={
                "shift at most 15": clamps(0, 15),
                "shift by z left out": np.zeros_like,
                "shift modulo 16": lambda z: z % 16,
            },
            z_of={
                "quotient rounded up": lambda q, q_ln2: -(q // q_ln2),
                "quotient rounded to nearest": lambda q, q_ln2: (-q + q_ln2 // 2) // q_ln2,
            },
            narrow=registers("result", 16),
            square={**registers("square", 16), **registers("square", 16, signed=False)},
            polynomial=registers("polynomial", 16, 24),
            q_of={
                "lowest input bit ignored": lambda x: x >> 1 << 1,
                "input of 15 bits wraps": lambda x: np.minimum(wraps(15)(x), 0),
            },
        ),
        **({"guard bits left out": without_guard} if own.guard_bits else {}),
    }


def rounded_exp(own: RoundedExp) -> Changes:
    """Return exp, correctly rounded, and every change of it."""

    def by(other: Exp) -> Part:
        ratio = other.output_scale * (1 << own.output_fraction)
        profile = replace(INTSIM, exp=other)

        def approximate(x: Int64) -> Int64:
            y = exp(profile)[CONTROL](x)
            return rounding_divide(y * ratio.numerator, np.array(ratio.denominator), Rounding.HALF_UP)

        return approximate

    polynomials = {f"polynomial of profile {name}": by(other) for name, other in _polynomials(Exp).items()}
    same_input = all(other.input_fraction == own.input_fraction for other in _polynomials(Exp).values())
    return rounded.changes("exp", own.input_fraction, own.output_fraction, polynomials if same_input else {})


def _polynomials(kind: type[Rule]) -> dict[str, Rule]:
    """Return the polynomials of the presets, by their names."""
    rules = {name: getattr(preset, kind.__name__.lower()) for name, preset in NATIVE.items()}
    return {name: rule for name, rule in rules.items() if isinstance(rule, kind)}


def exp_inside(profile: Profile) -> Changes:
    """Return exp and its changes, less those of its last bits where softmax, tanh and sigmoid do not show them."""
    every = exp(profile)
    is_wide = int(every[CONTROL](np.zeros((), np.int64))) >> 16 > 0
    return {name: change for name, change in every.items() if not (is_wide and name.startswith(LAST_BITS))}


def gelu_rule(
    x: Int64,
    *,
    constants: Constants,
    output_shift: int,
    shifted: Shifter,
    x_of: Part = keep,
    beyond: int = 0,
    sign: Part = np.sign,
    square: Part = keep,
    product: Part = keep,
    narrow: Part = AS_INT32,
) -> Int64:
    """Return RND(-x (sgn x ((min(|x|, -q_b + beyond) + q_b)**2 + q_c) + q_1) / 2**output_shift)."""
    x, (q_b, q_c, q_1) = x_of(x), constants
    magnitude = np.minimum(np.abs(x), beyond - q_b)
    q_erf = sign(x) * (square((magnitude + q_b) ** 2) + q_c)
    return narrow(shifted(product(-x * (q_erf + q_1)), np.array(output_shift)))


def gelu(profile: Profile) -> Changes:
    """Return gelu on (x,), and every change of it."""
    if isinstance(profile.gelu, RoundedGelu):
        return rounded.changes("gelu", profile.gelu.input_fraction, profile.gelu.output_fraction, {})
    own, rounding = native(profile.gelu, Gelu), profile.step_rounding
    (q_b, q_1), shifting = own.constants(rounding), shifters(rounding)
    constants = (q_b, q_1, q_1)
    golden = partial(gelu_rule, constants=constants, output_shift=own.output_shift, shifted=shifting[CONTROL])
    pairs = {f"constants rounded {other}": own.constants(other) for other in Rounding}
    floor_b, floor_1 = own.constants(Rounding.FLOOR)
    pairs["constants rounded ceiling"] = (floor_b + 1, floor_1 + 1)
    for name, other in _polynomials(Gelu).items():
        pairs[f"polynomial of profile {name}"] = replace(own, a=other.a, b=other.b).constants(rounding)
    others: dict[str, Constants] = {name: (b, c, c) for name, (b, c) in pairs.items()}
    for step in (-1, 1):
        others[f"q_b {step:+d}"] = (q_b + step, q_1, q_1)
        others[f"q_c {step:+d}"] = (q_b, q_1 + step, q_1)
        others[f"q_1 {step:+d}"] = (q_b, q_1, q_1 + step)
    others["q_1 left out"] = (q_b, q_1, 0)
    return replaced(
        golden,
        shifted=shifting,
        constants={name: other for name, other in others.items() if other != constants},
        beyond={"clip left out": 1 << 16, "clip one too high": 1, "clip one too low": -1},
        square={**registers("square", 16), **registers("square", 16, signed=False)},
        sign={
            "sign left out": np.ones_like,
            "sign reversed": lambda x: -np.sign(x),
            "sign of 0 is +1": lambda x: np.where(x >= 0, 1, -1),
        },
        x_of={**inputs(), "magnitude of the input": np.abs},
        product=registers("product", 32),
        narrow=registers("result", 8, 16),
    )


def gelu_tanh(profile: Profile) -> Changes:
    """Return gelu_tanh on (x,), and every change of it."""
    if isinstance(profile.gelu, RoundedGelu):
        return rounded.changes("gelu_tanh", profile.gelu.input_fraction, profile.gelu.output_fraction, {})
    return gelu(profile)


def tanh_rule(
    x: Int64,
    *,
    fraction: int,
    divided: Divider,
    exp: Part,
    x_of: Part = keep,
    one_of: Part = keep,
    sign: Part = np.sign,
    sign_first: bool = False,
    denominator: Divider = np.add,
    narrow: Part = AS_INT16,
) -> Int64:
    """Return sgn x P((one - e) 2**fraction / (one + e)), e = exp(-|x|), one = exp(0), each part replaceable."""
    x = x_of(x)
    one, e = one_of(exp(np.zeros(1, np.int64))), exp(-np.abs(x))
    dividend, total = (one - e) << fraction, nonzero(denominator(one, e))
    if sign_first:
        return narrow(divided(sign(x) * dividend, total))
    return narrow(sign(x) * divided(dividend, total))


def tanh(profile: Profile) -> Changes:
    """Return tanh on (x,), and every change of it."""
    if isinstance(profile.tanh, RoundedTanh):
        return rounded.changes(
            "tanh", profile.exp.input_fraction + 1, profile.tanh.output_fraction, _by_i_exp(profile, tanh)
        )
    dividing, exps = dividers(profile.step_rounding), exp_inside(profile)
    fraction, one = profile.tanh.output_fraction, round_fraction(1 / profile.exp.output_scale, Rounding.HALF_UP)
    return replaced(
        partial(tanh_rule, fraction=fraction, divided=dividing[CONTROL], exp=exps[CONTROL]),
        divided={**dividing, **reciprocals()},
        sign_first={"rounded after the sign": True},
        fraction={"one fraction bit too many": fraction + 1, "one fraction bit too few": fraction - 1},
        sign={"sign left out": np.ones_like},
        x_of={**inputs(), "argument not doubled": lambda x: np.sign(x) * (np.abs(x) // 2)},
        one_of={"one the nearest code of 1": lambda y: np.full_like(y, one)},
        denominator={"denominator e alone": lambda _, e: e},
        narrow=registers("result", 8),
        exp=prefixed("exp", exps),
    )


def sigmoid_rule(
    x: Int64,
    *,
    fraction: int,
    divided: Divider,
    exp: Part,
    x_of: Part = keep,
    is_complement: bool = True,
    narrow: Part = AS_INT16,
) -> Int64:
    """Return y = P(one 2**fraction / (one + e)) for x >= 0, else 2**fraction - y, with e = exp(-|x|), one = exp(0)."""
    x = x_of(x)
    one, e = exp(np.zeros(1, np.int64)), exp(-np.abs(x))
    total = nonzero(one + e)
    y = divided(one << fraction, total)
    below = (1 << fraction) - y if is_complement else divided(e << fraction, total)
    return narrow(np.where(x >= 0, y, below))


def sigmoid(profile: Profile) -> Changes:
    """Return sigmoid on (x,), and every change of it."""
    if isinstance(profile.sigmoid, RoundedSigmoid):
        return rounded.changes(
            "sigmoid", profile.exp.input_fraction, profile.sigmoid.output_fraction, _by_i_exp(profile, sigmoid)
        )
    fraction, exps = profile.sigmoid.output_fraction, exp_inside(profile)
    dividing = dividers(profile.step_rounding)
    return replaced(
        partial(sigmoid_rule, fraction=fraction, divided=dividing[CONTROL], exp=exps[CONTROL]),
        divided={**dividing, **reciprocals()},
        fraction={"one fraction bit too many": fraction + 1, "one fraction bit too few": fraction - 1},
        is_complement={"negative side divided by itself": False},
        x_of={"negative side is the positive one": np.abs},
        narrow={"one saturates one code below": clamps(0, (1 << fraction) - 1)},
        exp=prefixed("exp", exps),
    )


def _by_i_exp(profile: Profile, function: Callable[[Profile], Changes]) -> dict[str, Part]:
    """Return what a function of the exponential is by the presets' i-exp, where that has the input format of ours."""
    tanh_fraction, fraction = profile.tanh.output_fraction, profile.sigmoid.output_fraction
    own: dict[str, Any] = {"tanh": Tanh(output_fraction=tanh_fraction), "sigmoid": Sigmoid(output_fraction=fraction)}
    return {
        f"by i-exp of profile {name}": function(replace(profile, exp=other, **own))[CONTROL]
        for name, other in _polynomials(Exp).items()
        if other.input_fraction == profile.exp.input_fraction
    }


def silu_rule(
    x: Int64,
    *,
    sigmoid: Part,
    brought: Part,
    x_of: Part = keep,
    argument: Part = keep,
    gate: Part = keep,
    factor: Part = keep,
    narrow: Part = AS_INT32,
) -> Int64:
    """Return x sigmoid(x), each part replaceable; ``brought`` is x in the input format of exp."""
    x = x_of(x)
    return narrow(factor(x) * gate(sigmoid(brought(argument(x)))))


def silu(profile: Profile) -> Changes:
    """Return silu on (x,), and every change of it."""
    own = profile.silu
    if isinstance(own, RoundedSilu):
        return rounded.changes("silu", own.input_fraction, own.output_fraction, {})
    finer = profile.exp.input_fraction - own.input_fraction

    def in_format(x: Int64) -> Int64:
        if finer >= 0:
            return x << finer
        return rounding_right_shift(x, np.array(-finer), profile.step_rounding)

    sigmoids, fraction = sigmoid(profile), profile.sigmoid.output_fraction
    three, dropped = 3 << profile.exp.input_fraction, np.array(max(fraction - 8, 0))

    def shifted(rounding: Rounding) -> Part:
        return lambda product: rounding_right_shift(product, np.array(fraction), rounding)

    def of_8_bits(rounding: Rounding) -> Part:
        return lambda y: clamps(0, 255)(rounding_right_shift(y, dropped, rounding)) << dropped

    return replaced(
        partial(silu_rule, sigmoid=sigmoids[CONTROL], brought=lambda x: AS_INT16(in_format(x))),
        sigmoid={
            CONTROL: sigmoids[CONTROL],
            **prefixed("sigmoid", sigmoids),
            "hard sigmoid": lambda x: ((x + three).clip(0, 2 * three) << fraction) // (2 * three),
        },
        argument={"sigmoid of 1.702 x": lambda x: x * 1743 >> 10},
        brought={"input of sigmoid wraps": lambda x: wraps(16)(in_format(x)), "input of sigmoid as it is": keep}
        if finer
        else {},
        gate={
            "sigmoid cut to 8 bits": of_8_bits(Rounding.FLOOR),
            "sigmoid rounded to 8 bits": of_8_bits(Rounding.HALF_UP),
        },
        factor={"sign of x left out": np.abs, "negative x as 0": clamps(0, INT16.max)},
        x_of=inputs(),
        narrow={
            **registers("product", 16, 24),
            **{f"product shifted to the input's fraction, {r}": shifted(r) for r in (Rounding.FLOOR, Rounding.HALF_UP)},
        },
    )


UNARY: Final[Mapping[str, Callable[[Profile], Changes]]] = {
    "exp": exp,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
}
