# SPDX-License-Identifier: Apache-2.0
"""RMSNorm, and LayerNorm of wide codes, with one rule changed."""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from intsim.carrier.rowwise import eps_by_shift
from intsim.fixedpoint import IntRange, Rounding, bit_length, rounding_divide, rounding_right_shift
from intsim.profile import LayerNorm, Profile, native
from intsim.verify.bugs import isqrt as isqrt_bugs
from intsim.verify.bugs.parts import (
    AS_INT32,
    CONTROL,
    Changes,
    Divider,
    Finish,
    Int64,
    Part,
    Shifter,
    carried,
    dividers,
    finishes,
    keep,
    late,
    multipliers,
    next_channel,
    prefixed,
    previous_channel,
    product_shifters,
    reciprocals,
    registers,
    replaced,
    reversed_lanes,
    shifters,
)

__all__ = ["changes", "changes_of_wide_layer_norm"]

TOP: Final = (1 << 62) - 1  # what isqrt takes
MAX_ROW_SHIFT: Final = 31

EpsOf: TypeAlias = Callable[[Int64, Int64], Int64]  # eps, the shifts of rows -> the eps of each


def rule(
    x: Int64,
    multiplier: Int64,
    bias: Int64,
    shift: Int64,
    eps: Int64,
    *,
    fraction: int,
    bits: int,
    eps_of: EpsOf,
    row_shifted: Shifter,
    divided: Divider,
    shifted: Shifter,
    finish: Finish,
    root: Part,
    least: int = 0,
    centre: Part = keep,
    largest: Part = np.abs,
    k_of: Part = keep,
    code_of: Part = keep,
    squares: Part = np.square,
    added: Part = keep,
    sum_of_squares: Part = keep,
    fewer: int = 0,
    variance: Part = keep,
    normalised: Part = AS_INT32,
    m: Part = keep,
    offset: Part = keep,
    bias_alone: bool = False,
) -> Int64:
    """Return saturate(R((P(N x' 2**fraction / isqrt(N sum x'**2 + eps')) * multiplier + bias) / 2**shift)).

    Each part is replaceable; x' and eps' are shifted by k = max(least, bits(max |x|) - ``bits``).
    """
    c, channels = centre(x), x.shape[-1] - fewer
    k = k_of(np.maximum(bit_length(largest(c).max(axis=-1, keepdims=True)) - bits, least)).clip(0, MAX_ROW_SHIFT)
    c = code_of(row_shifted(c, k))
    total = sum_of_squares(added(squares(c)).sum(axis=-1, keepdims=True))
    std = np.maximum(root(variance(channels * total + eps_of(eps, k)).clip(0, TOP)), 1)
    y = normalised(divided(channels * c << fraction, std)) * m(multiplier)
    none = np.zeros((), np.int64)
    if bias_alone:
        return finish(shifted(y, shift) + shifted(offset(bias), shift), none)
    return finish(shifted(y + offset(bias), shift), none)


def changes(profile: Profile, to: IntRange) -> Changes:
    """Return rms_norm on (x, multiplier, bias, shift, eps), and every change of it."""

    def eps_of(eps: Int64, k: Int64, *, times: int = 2) -> Int64:
        return np.maximum(rounding_right_shift(eps, times * k, profile.step_rounding), 1)

    return _changes(
        profile,
        to,
        eps_of=eps_of,
        eps={"eps not shifted": partial(eps_of, times=0), "eps shifted by k": partial(eps_of, times=1)},
        centre={"mean subtracted": lambda x: x - x.sum(axis=-1, keepdims=True) // x.shape[-1]},
    )


def changes_of_wide_layer_norm(profile: Profile, to: IntRange, *, eps: int, channels: int) -> Changes:
    """Return layer_norm on wide codes (x, multiplier, bias, shift, _), and every change of it."""
    exact = native(profile.layer_norm, LayerNorm).centring == "exact"
    least, eps_at = eps_by_shift(channels**2 * eps, profile.step_rounding)

    def total(x: Int64) -> Int64:
        return x.sum(axis=-1, keepdims=True)

    def centred(x: Int64) -> Int64:
        return channels * x - total(x)

    def centred_by(rounding: Rounding) -> Part:
        return lambda x: x - rounding_divide(total(x), np.array(channels), rounding)

    others = {f"mean rounded {mode}": centred_by(mode) for mode in Rounding if exact or mode != profile.rounding}
    return _changes(
        profile,
        to,
        eps_of=lambda _, k: eps_at[np.maximum(k, least)],
        eps={"eps not shifted": lambda _, k: np.full_like(k, eps_at[least])},
        centre={"mean not subtracted": keep, **others},
        least=least,
        centred=centred if exact else centred_by(profile.rounding),
    )


def _changes(
    profile: Profile,
    to: IntRange,
    *,
    eps_of: EpsOf,
    eps: dict[str, EpsOf],
    centre: dict[str, Part],
    least: int = 0,
    centred: Part = keep,
) -> Changes:
    own = native(profile.layer_norm, LayerNorm)
    fraction, bits = own.output_fraction, own.row_bits - 1
    shifting, finishing, roots = product_shifters(profile.rounding), finishes(to), isqrt_bugs.changes()
    dividing, row_shifting = dividers(profile.step_rounding), shifters(profile.step_rounding)
    golden = partial(
        rule,
        fraction=fraction,
        bits=bits,
        eps_of=eps_of,
        row_shifted=row_shifting[CONTROL],
        divided=dividing[CONTROL],
        shifted=shifting[CONTROL],
        finish=finishing[CONTROL],
        root=roots[CONTROL],
        least=least,
        centre=centred,
    )
    unseen = re.compile("zero point|scaled value|of 32 bits|float64")  # as for layer_norm
    finishing, roots = (
        {name: part for name, part in parts.items() if not unseen.search(name)} for parts in (finishing, roots)
    )
    row_shifting = {name: part for name, part in row_shifting.items() if not name.startswith("shift one too")}
    return replaced(
        golden,
        shifted=shifting,
        finish=finishing,
        row_shifted=prefixed("row shift", row_shifting),
        k_of={
            "row not shifted": np.zeros_like,
            "row shift one too small": lambda k: k - 1,
            "row shift one too large": lambda k: k + 1,
        },
        largest={
            "row shift by the largest positive": keep,
            "row shift by two's complement": lambda x: np.maximum(x, ~x),
        },
        code_of=registers("shifted value", 12, 16),
        divided={**prefixed("division", dividing), **reciprocals()},
        root=roots,
        eps_of={
            **eps,
            "eps left out": lambda _, k: np.zeros_like(k),
            "eps 1": lambda _, k: np.ones_like(k),
        },
        centre=centre,
        fewer={"mean over N - 1": 1},
        variance={**registers("variance", 32), **registers("variance", 32, signed=False)},
        added={"sum without the last channel": lambda x: x[..., :-1]},
        sum_of_squares={
            **registers("sum of squares", 32),
            **registers("sum of squares", 32, signed=False),
            **carried("sum of squares", 40, signed=False),
            "sum of squares of the row before": late,
        },
        squares={
            "magnitudes in place of squares": np.abs,
            **{name: partial(_squared, register=part) for name, part in registers("square", 16).items()},
        },
        normalised=registers("normalised value", 16, 18),
        fraction={"one fraction bit too few": fraction - 1, "one fraction bit too many": fraction + 1},
        m={**multipliers(per_channel=True), "weight's sign dropped": np.abs, "weight in reverse order": reversed_lanes},
        offset={
            "bias left out": np.zeros_like,
            "bias subtracted": np.negative,
            **registers("bias", 32),
            "bias of the next channel": next_channel,
            "bias of the channel before": previous_channel,
            "bias in reverse order": reversed_lanes,
        },
        bias_alone={"bias rounded by itself": True},
    )


def _squared(x: Int64, *, register: Part) -> Int64:
    return register(np.square(x))
