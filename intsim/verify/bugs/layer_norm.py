# SPDX-License-Identifier: Apache-2.0
"""LayerNorm with one rule changed."""

import re
from functools import partial
from typing import Final

import numpy as np

from intsim.fixedpoint import IntRange, Rounding
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
)

__all__ = ["changes"]

TOP: Final = (1 << 62) - 1  # what isqrt takes


def rule(
    x: Int64,
    multiplier: Int64,
    bias: Int64,
    shift: Int64,
    eps: Int64,
    *,
    fraction: int,
    exact: bool,
    mean: Divider,
    divided: Divider,
    shifted: Shifter,
    finish: Finish,
    root: Part,
    added: Part = keep,
    total_of: Part = keep,
    whole: Divider | None = None,
    centre: Part = keep,
    about: Part = keep,
    squares: Part = keep,
    sum_of_squares: Part = keep,
    fewer: int = 0,
    variance: Part = keep,
    eps_of: Part = keep,
    deviation: Part = keep,
    normalised: Part = AS_INT32,
    m: Part = keep,
    offset: Part = keep,
    bias_alone: bool = False,
) -> Int64:
    """Return saturate(R((P(c 2**fraction / isqrt(v + eps)) * multiplier + bias) / 2**shift)), each part replaceable.

    Centring ``exact`` is c = N x - sum x and v = N sum x**2 - (sum x)**2; else c = x - mean x, v = floor(sum c**2 / N).
    """
    channels = x.shape[-1]
    population = max(channels - fewer, 1)
    total = total_of(added(x).sum(axis=-1, keepdims=True))
    if whole is not None:
        c = channels * (x - whole(total, np.array(channels)))
        v = (c * c).sum(axis=-1, keepdims=True) // channels
    elif exact:
        c, moment = channels * x - centre(total), sum_of_squares(squares(x * x).sum(axis=-1, keepdims=True))
        v = channels * moment - about(total) ** 2
        v = v + v // population if fewer else v  # N / (N - 1) of it
    else:
        c = x - centre(mean(total, np.array(channels)))
        v = sum_of_squares(squares(c * c).sum(axis=-1, keepdims=True)) // population
    std = np.maximum(deviation(root(variance(v + eps_of(eps)).clip(0, TOP))), 1)
    y = normalised(divided(c << fraction, std)) * m(multiplier)
    none = np.zeros((), np.int64)
    if bias_alone:
        return finish(shifted(y, shift) + shifted(offset(bias), shift), none)
    return finish(shifted(y + offset(bias), shift), none)


def changes(profile: Profile, to: IntRange) -> Changes:
    """Return layer_norm on (x, multiplier, bias, shift, eps), and every change of it."""
    own = native(profile.layer_norm, LayerNorm)
    exact, fraction = own.centring == "exact", own.output_fraction
    shifting, finishing, roots = product_shifters(profile.rounding), finishes(to), isqrt_bugs.changes()
    averaging, dividing = dividers(profile.rounding), dividers(profile.step_rounding)
    golden = partial(
        rule,
        fraction=fraction,
        exact=exact,
        mean=averaging[CONTROL],
        divided=dividing[CONTROL],
        shifted=shifting[CONTROL],
        finish=finishing[CONTROL],
        root=roots[CONTROL],
    )
    # the zero point is inside the bias, the square root's operand is the variance; float64 and a scaled value beyond
    # 16 bits show at sizes no layer has
    unseen = re.compile("zero point|scaled value|of 32 bits|float64")
    finishing, roots = (
        {name: part for name, part in parts.items() if not unseen.search(name)} for parts in (finishing, roots)
    )
    whole = {f"mean rounded {mode}": dividers(mode)[CONTROL] for mode in Rounding}
    return replaced(
        golden,
        shifted=shifting,
        finish=finishing,
        divided={**prefixed("division", dividing), **reciprocals()},
        root=roots,
        whole=whole if exact else {},
        about={"variance about 0": np.zeros_like} if exact else {},
        mean={} if exact else prefixed("mean", averaging),
        exact={"rounded mean subtracted" if exact else "exact centring": not exact},
        eps_of={"eps left out": np.zeros_like, "eps 1": np.ones_like},
        fewer={"variance over N - 1": 1},
        variance={**registers("variance", 32), **registers("variance", 32, signed=False)},
        total_of={
            **registers("sum", 16),
            "sum left out": np.zeros_like,
            **carried("sum", 32),
            "sum of the row before": late,
        },
        added={"sum without the last channel": lambda x: x[..., :-1]},
        sum_of_squares={
            **registers("sum of squares", 32),
            **registers("sum of squares", 32, signed=False),
            **carried("sum of squares", 40, signed=False),
            "sum of squares of the row before": late,
        },
        deviation={"deviation of the row before": late},
        squares=registers("square", 16),
        centre={"mean not subtracted": np.zeros_like},
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
