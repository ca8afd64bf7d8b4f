# SPDX-License-Identifier: Apache-2.0
"""How wide the integers of a model can get: its forward pass over intervals."""

from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import numpy as np

from intsim import ops
from intsim._progress import counting
from intsim._trace import call, interpreted_by, trace
from intsim.carrier.exact import Integers
from intsim.errors import CheckpointError
from intsim.fixedpoint import IntRange
from intsim.models import intervals
from intsim.models.constants import Constants
from intsim.models.integers import run as forward
from intsim.models.intervals import Run, Steps

__all__ = ["Width", "check_widths", "recorded", "signed_bits", "widths"]


def signed_bits(low: int, high: int) -> int:
    """Return the width of the narrowest two's complement that holds [low, high]."""
    return max(~low, high).bit_length() + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """What one intermediate can hold over all texts, all its channels together.

    Parameters
    ----------
    min, max
        No value is outside.
    dtype
        Where the implementation keeps it.
    given
        Bits of its declared range, or of the dtype where none is declared.
    """

    min: int
    max: int
    dtype: np.dtype[Any]
    given: int

    @property
    def bits(self) -> int:
        """Bits that [min, max] needs: in two's complement, or without a sign where the dtype has none."""
        return signed_bits(self.min, self.max) - (self.dtype.kind == "u")


def widths(model: Constants) -> dict[str, Width]:
    """Return the width of every intermediate of ``model``: the names of a trace of level ``steps``, in its order.

    Raises
    ------
    CheckpointError
        As ``check_widths``.
    """
    found: dict[str, Width] = {}

    def see(name: str, steps: Steps, to: IntRange | None) -> None:
        for step, ends in steps.items():
            given = to.bits if to is not None and not step else 8 * ends.dtype.itemsize
            found[name + step] = Width(min=int(ends.min()), max=int(ends.max()), dtype=ends.dtype, given=given)

    def run(operator: Callable[..., Integers], *operands: Any, **constants: Any) -> Steps:
        return recorded("", operator, *operands, **constants)

    _walk(model, run, see)
    return found


def check_widths(model: Constants) -> None:
    """Refuse a model whose constants could overflow an operator on some text.

    Raises
    ------
    CheckpointError
        Naming the first result that is not proved to fit.
    """

    def run(operator: Callable[..., Integers], *operands: Any, **constants: Any) -> Steps:
        return {"": operator(*operands, **constants)}

    _walk(model, run)


def recorded(name: str, operator: Callable[..., Integers], *operands: Any, **constants: Any) -> Steps:
    """Return the steps of one call and its result, named as in a trace, whatever interprets or records the caller."""

    def run() -> Steps:
        with trace("steps") as steps:
            call(name, operator, *operands, **constants)
        return dict(steps)

    return Context().run(run)


def _walk(model: Constants, run: Run, see: Callable[[str, Steps, IntRange | None], None] | None = None) -> None:
    """Take the forward pass over intervals; show ``see`` every call's steps and the range it declares."""
    tokens = model.config.longest
    probs: Integers | None = None

    def transfer(operator: Callable[..., Integers], operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Steps:
        nonlocal probs
        if operator is ops.embedding:
            return intervals.embedding(*operands)
        if operator is ops.position_ids:
            return intervals.position_ids(*operands, longest=tokens, **constants)
        if operator is ops.neighbours:
            return intervals.neighbours(*operands, **constants)
        if operator is ops.matmul and operands[0] is probs:
            zero_point = constants.get("w_zero_point", 0)
            return intervals.attend(*operands, tokens=tokens, profile=model.profile, w_zero_point=zero_point)
        if operator is ops.matmul:
            return intervals.matmul(*operands, **constants)
        if operator is ops.add:
            return intervals.add(run, *operands, **constants)
        if operator is ops.softmax:
            steps = intervals.softmax(run, *operands, tokens=tokens, profile=model.profile)
            probs = steps[""]
            return steps
        if operator is ops.multiply:
            return intervals.multiply(run, *operands, **constants)
        if operator is ops.rotary:
            return intervals.rotary(*operands, **constants)
        if operator is ops.l2_normalize:
            return intervals.l2_normalize(run, *operands, **constants)
        if operator is ops.layer_norm:
            return intervals.layer_norm(run, *operands, **constants)
        if operator is ops.rms_norm:
            return intervals.rms_norm(run, *operands, **constants)
        if operator is ops.dynamic_bound:
            return intervals.dynamic_bound(*operands, **constants)
        if operator is ops.quantize_dynamic:
            return intervals.quantize_dynamic(*operands, **constants)
        if operator is ops.scale_rows:
            return intervals.scale_rows(*operands)
        if operator is ops.token_positions:
            return intervals.token_positions(longest=tokens, **constants)
        if operator in (ops.gelu, ops.gelu_tanh, ops.sigmoid, ops.silu, ops.tanh):
            return intervals.tabulated(run, operator, *operands, **constants)
        return intervals.monotone(run, operator, *operands, **constants)

    def interpret(
        name: str, operator: Callable[..., Integers], operands: tuple[Any, ...], constants: Mapping[str, Any]
    ) -> Integers:
        if operator is ops.causal_mask:  # tokens are alike, and any may be masked
            return operator(*operands, **constants)
        try:
            steps = transfer(operator, operands, constants)
        except (TypeError, ValueError) as error:
            msg = f"'{name}' must stay within the bounds of {operator.__name__}, got: {error}"
            raise CheckpointError(msg) from None
        if see is not None:
            see(name, steps, constants.get("to"))
        return steps[""]

    token = np.zeros((2, 1), np.int64)
    with counting("checking", unit="product"), interpreted_by(interpret):
        forward(model, token, mask=np.ones((2, 1), np.bool_), token_type_ids=token)
