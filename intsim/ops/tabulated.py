# SPDX-License-Identifier: Apache-2.0
"""Run a function of one int16 as a table of its definition over all 2**16 inputs."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from intsim._trace import recording_steps
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers
from intsim.profile import Profile

__all__ = ["tabulated"]


class UnaryOperator(Protocol):
    """An element-wise operator on int16."""

    def __call__(self, x_q: Integers, *, profile: Profile) -> Integers: ...


def tabulated(definition: Callable[[NDArray[np.int64], Profile], Integers]) -> UnaryOperator:
    """Return the operator that looks x_q up in the table of ``definition``, built once per profile."""

    @lru_cache(maxsize=16)
    def table(profile: Profile) -> Integers:
        return definition(np.arange(2**16).astype(np.int16).astype(np.int64), profile)

    @wraps(definition)
    def operator(x_q: Integers, *, profile: Profile) -> Integers:
        if x_q.dtype != np.int16:
            msg = f"x_q must have dtype int16, got {x_q.dtype}"
            raise TypeError(msg)
        if recording_steps():
            return definition(x_q.astype(np.int64), profile)
        values = table(profile)

        def look_up(x_q: Integers) -> Integers:
            return values.take(x_q.view(np.uint16), mode="wrap")  # negative inputs stand behind the others

        return in_blocks(look_up, x_q)

    return operator
