# SPDX-License-Identifier: Apache-2.0
"""Requantization: a wide integer of one scale to a narrow one of another."""

import numpy as np

from intsim._trace import step
from intsim.carrier.blocks import in_blocks
from intsim.carrier.exact import Integers, magnitude, require_integers, rescale
from intsim.fixedpoint import Dyadic, IntRange, Rounding, round_to_significant, rounding_right_shift, saturate
from intsim.requantization import FLOAT32_BITS, Requantization

__all__ = ["requantize"]


def requantize(
    acc: Integers,
    ratio: Dyadic,
    *,
    to: IntRange,
    rounding: Rounding | Requantization,
    zero_point: int | Integers = 0,
    addend: Integers | None = None,
) -> Integers:
    """Return saturate(RND((acc * multiplier + addend) / 2**shift) + zero_point), RND as ``rounding`` says.

    Parameters
    ----------
    acc
        (..., C) integers, usually the int32 accumulator.
    ratio
        Input scale over output scale, per tensor, or per channel with shape (C,).
    to
        Range of the result.
    rounding
        How the dropped bits are rounded: one exact rounding, or a whole rule of ``intsim.requantization.RULES``.
    zero_point
        Code of the result that stands for 0, one or one per channel.
    addend
        Integers in units of the product, () or (C,): the ``add`` of PULP's RequantShift, 0 by default.

    Returns
    -------
    ndarray
        Codes in the dtype of ``to``.

    Raises
    ------
    TypeError
        If ``acc`` or ``addend`` is not an integer array.
    ValueError
        If acc * multiplier + addend could leave int64, or a float32 rule gets an addend.

    Bounds
    ------
    |acc| <= 2**31 with any multiplier and shift of a ``Dyadic``.

    Source
    ------
    Jacob et al. 2018, section 2.2, with a single rounding; Yao et al. 2021 (HAWQ-V3) for dyadic numbers; the other
    rules as ``intsim.requantization`` says.

    Examples
    --------
    >>> import numpy as np
    >>> from intsim import ops
    >>> from intsim.fixedpoint import INT8, Dyadic, Rounding
    >>> acc = np.array([-100_000, 16_384, 100_000], np.int32)
    >>> ops.requantize(acc, Dyadic(97, 15), to=INT8, rounding=Rounding.HALF_UP, zero_point=3)
    array([-128,   52,  127], dtype=int8)
    """
    require_integers("acc", acc)
    operands, ratios = [acc], [ratio]
    if addend is not None:
        require_integers("addend", addend)
        operands.append(addend)
        ratios.append(Dyadic(np.ones_like(ratio.shift), ratio.shift))
    if isinstance(rounding, Rounding):
        return rescale(operands, ratios, zero_point=zero_point, to=to, rounding=rounding)
    if rounding.is_one_rounding:
        return rescale(operands, ratios, zero_point=zero_point, to=to, rounding=rounding.rounding)
    return _by_rule(acc, ratio, rule=rounding, to=to, zero_point=zero_point, addend=addend)


def _by_rule(
    acc: Integers,
    ratio: Dyadic,
    *,
    rule: Requantization,
    to: IntRange,
    zero_point: int | Integers,
    addend: Integers | None,
) -> Integers:
    if rule.arithmetic == "binary32" and addend is not None:
        msg = f"addend must be left out under rule {rule.name}, whose product is a float32"
        raise ValueError(msg)
    bound = magnitude(acc) * int(np.abs(ratio.multiplier).max()) + (0 if addend is None else magnitude(addend))
    if bound >= 1 << 62:
        msg = f"acc * multiplier + addend must stay below 2**62, got a bound of {bound}"
        raise ValueError(msg)
    limit = 1 << rule.accumulator_bits - 1
    inside, outside = (zero_point, 0) if rule.zero_point == "before" else (0, zero_point)

    def rows(acc: Integers, multiplier: Integers, shift: Integers, addend: Integers) -> Integers:
        x = acc.astype(np.int64).clip(-limit, limit - 1)
        match rule.arithmetic:
            case "one-rounding":
                product = x * multiplier + addend
            case "two-roundings":  # gemmlowp: the high half of twice the product, then a rounding shift of the rest
                first = np.minimum(shift, 31)
                product = rounding_right_shift(x * multiplier + addend, first, Rounding.HALF_UP)
                shift = shift - first
            case "binary32":
                product = round_to_significant(round_to_significant(x, FLOAT32_BITS) * multiplier, FLOAT32_BITS)
        rounded = rounding_right_shift(product, shift, rule.rounding, offset=inside) + outside
        step("product", product)
        step("rounded", rounded)
        return saturate(rounded, to)

    none = np.zeros((), np.int64)
    return in_blocks(rows, acc, ratio.multiplier, ratio.shift, none if addend is None else addend)
