# SPDX-License-Identifier: Apache-2.0
"""LayerNorm with one rule changed."""

import re
from functools import partial
from typing import Final

import numpy as np

from intsim.fixedpoint import IntRange, Rounding
from intsim.profile import Profile
from intsim.verify.bugs import isqrt as isqrt_bugs
from intsim.verify.bugs.parts import (
    AS_INT16,
    AS_INT32,
    CONTROL,
    Changes,
    Divider,
    Finish,
    Int64,
    Part,
    Shifter,
    channel_0,
    dividers,
    finishes,
    keep,
    multipliers,
    next_channel,
    prefixed,
    product_shifters,
    reciprocals,
    saturates,
    wraps,
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
        v = (channels * moment - about(total) ** 2) * channels // population
    else:
        c = x - centre(mean(total, np.array(channels)))
        v = sum_of_squares(squares(c * c).sum(axis=-1, keepdims=True)) // population
    std = np.maximum(root(variance(v + eps_of(eps)).clip(0, TOP)), 1)
    y = normalised(divided(c << fraction, std)) * m(multiplier)
    none = np.zeros((), np.int64)
    if bias_alone:
        return finish(shifted(y, shift) + shifted(offset(bias), shift), none)
    return finish(shifted(y + offset(bias), shift), none)


def changes(profile: Profile, to: IntRange) -> Changes:
    """Return layer_norm on (x, multiplier, bias, shift, eps), and every change of it."""
    exact, fraction = profile.layer_norm.centring == "exact", profile.layer_norm.output_fraction
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
    # the zero point is inside the bias; float64 and a scaled value beyond 16 bits show at sizes no layer has
    finishing = {name: other for name, other in finishing.items() if not re.search("zero point|scaled value", name)}
    roots.pop("float64 square root")
    whole: Changes = {
        "variance about 0": partial(golden, about=np.zeros_like),
        **{f"mean rounded {mode}": partial(golden, whole=dividers(mode)[CONTROL]) for mode in Rounding},
    }
    means: Changes = {name: partial(golden, mean=other) for name, other in averaging.items()}
    return {
        **{name: partial(golden, shifted=other) for name, other in shifting.items()},
        **{name: partial(golden, finish=other) for name, other in finishing.items()},
        **prefixed("division", {name: partial(golden, divided=other) for name, other in dividing.items()}),
        **{name: partial(golden, divided=other) for name, other in reciprocals().items()},
        **(whole if exact else prefixed("mean", means)),
        "rounded mean subtracted" if exact else "exact centring": partial(golden, exact=not exact),
        "eps left out": partial(golden, eps_of=np.zeros_like),
        "eps 1": partial(golden, eps_of=np.ones_like),
        "variance over N - 1": partial(golden, fewer=1),
        "variance saturates at 31 bits": partial(golden, variance=AS_INT32),
        "variance wraps at 32 signed bits": partial(golden, variance=wraps(32)),
        "sum wraps at 16 bits": partial(golden, total_of=wraps(16)),
        "sum saturates at 16 bits": partial(golden, total_of=AS_INT16),
        "sum without the last channel": partial(golden, added=lambda x: x[..., :-1]),
        "sum of squares wraps at 32 signed bits": partial(golden, sum_of_squares=wraps(32)),
        "sum of squares wraps at 32 bits": partial(golden, sum_of_squares=wraps(32, signed=False)),
        "sum of squares saturates at 31 bits": partial(golden, sum_of_squares=AS_INT32),
        "sum left out": partial(golden, total_of=np.zeros_like),
        "mean not subtracted": partial(golden, centre=np.zeros_like),
        "variance wraps at 32 bits": partial(golden, variance=wraps(32, signed=False)),
        "squares wrap at 16 bits": partial(golden, squares=wraps(16)),
        **{name: partial(golden, root=other) for name, other in roots.items() if name != CONTROL},
        "normalised value wraps at 16 bits": partial(golden, normalised=wraps(16)),
        "normalised value saturates at 18 bits": partial(golden, normalised=saturates(IntRange(18))),
        "normalised value saturates at 16 bits": partial(golden, normalised=AS_INT16),
        "one fraction bit too few": partial(golden, fraction=fraction - 1),
        "one fraction bit too many": partial(golden, fraction=fraction + 1),
        **{name: partial(golden, m=other) for name, other in multipliers().items()},
        "weight of the next channel": partial(golden, m=next_channel),
        "weight of channel 0": partial(golden, m=channel_0),
        "bias of the next channel": partial(golden, offset=next_channel),
        "weight's sign dropped": partial(golden, m=np.abs),
        "bias left out": partial(golden, offset=np.zeros_like),
        "bias subtracted": partial(golden, offset=np.negative),
        "bias rounded by itself": partial(golden, bias_alone=True),
        "bias saturates at 32 bits": partial(golden, offset=AS_INT32),
    }
