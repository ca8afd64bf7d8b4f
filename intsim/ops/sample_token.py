# SPDX-License-Identifier: Apache-2.0
"""A token drawn from logits, the same one everywhere for the same seed."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers, require_integers, rescale
from intsim.fixedpoint import INT16, Dyadic
from intsim.ops.exp import exp
from intsim.profile import Profile

__all__ = ["sample_token"]


def sample_token(
    logits: Integers, ratio: Dyadic, *, top_k: int, seed: int, draw: int, profile: Profile
) -> NDArray[np.int64]:
    """Draw a token in proportion to exp(logit / temperature), on integers alone: (B, V) -> (B,).

    With R = profile.rounding::

        d_v = logit_v - max logit,   x_v = R(d_v * multiplier / 2**shift) saturated at -2**15,   e_v = exp(x_v)

    for the ``top_k`` largest logits, of equal ones those of the lower id, and e_v = 0 for all others. The text b gets
    the least v for which e_0 + ... + e_v > u, where u is the SHA-256 of "SEED:DRAW:b" as a big-endian number, modulo
    the sum of all e_v: its remainders differ in probability by less than 2**-190.

    Parameters
    ----------
    logits
        (B, V) of up to 32 bits.
    ratio
        Positive: the scale of the logits over the temperature and over the input scale of exp.
    top_k
        At least 1.
    seed, draw
        What the number depends on; ``draw`` counts the tokens of a text.
    profile
        The rule ``profile.exp``.

    Raises
    ------
    TypeError
        If ``logits`` is not an integer array.
    ValueError
        If ``top_k`` is not positive, or ``ratio`` not one positive dyadic.

    Bounds
    ------
    |d| < 2**32, times a multiplier below 2**30; e < 2**31, so that V < 2**32 of them fit int64.
    """
    require_integers("logits", logits)
    if top_k < 1:
        msg = f"top_k must be at least 1, got {top_k}"
        raise ValueError(msg)
    if ratio.multiplier.ndim or ratio.multiplier <= 0:
        msg = f"ratio must be one positive dyadic, got multiplier {ratio.multiplier}"
        raise ValueError(msg)
    difference = logits.astype(np.int64) - logits.max(axis=-1, keepdims=True)
    e = exp(rescale([difference], [ratio], zero_point=0, to=INT16, rounding=profile.rounding), profile=profile)
    order = np.argsort(-difference, axis=-1, kind="stable")
    e = e.astype(np.int64)
    np.put_along_axis(e, order[:, top_k:], 0, axis=-1)
    sums = e.cumsum(axis=-1)
    tokens = np.empty(len(sums), np.int64)
    for b, row in enumerate(sums):
        number = int.from_bytes(hashlib.sha256(f"{seed}:{draw}:{b}".encode()).digest())
        tokens[b] = np.searchsorted(row, number % int(row[-1]), side="right")
    return tokens
