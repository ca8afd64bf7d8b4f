# SPDX-License-Identifier: Apache-2.0
"""LiteRT's element-wise operators, held against ``intsim.kernels.litert_elementwise``."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from kernels.litert_flatbuffer import OPTIMIZED, REFERENCE, XNNPACK, Tensor, model, run, scale_tuples
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, IntRange, Rounding
from intsim.kernels import litert, litert_elementwise
from intsim.verify.witness import Witness

Array = NDArray[Any]
SEEDS: Final = st.integers(0, 2**32 - 1)
ELEMENTS: Final = 403
POOL: Final = 8192
ODD: Final = [(3 / 8, 7 / 8, 1 / 2), (7 / 8, 5 / 8, 1.0), (13 / 8, 11 / 8, 1 / 4)]  # sums of these meet ties inexactly


def fractions(scales: tuple[float, ...]) -> tuple[Fraction, ...]:
    return tuple(Fraction(scale) for scale in scales)


def zero_points(to: IntRange) -> st.SearchStrategy[int]:
    return st.just(0) if to is INT16 else st.integers(to.min, to.max)


def witness(operator: str, kernel: str, rule: str, operands: Any, device: Any, golden: Any, neighbours: Any) -> Witness:
    return Witness(
        operator=operator,
        kernel=kernel,
        package="ai-edge-litert",
        rule=f"kernels.litert_elementwise.{rule}",
        operands=operands,
        device=device,
        golden=golden,
        neighbours=neighbours,
        note="x86-64",
    )


def rounded(kernel: Callable[..., Array], rounding: Rounding) -> Callable[..., Array]:
    """Return the kernel with the second of gemmlowp's roundings another one."""
    return partial(kernel, mbqm=partial(litert.multiply_by_quantized_multiplier, rounding=rounding))


def unrounded(kernel: Callable[..., Array], bits: int) -> Callable[..., Array]:
    """Return the kernel with ratios of scales that are not rounded to a float of so many bits."""

    def neighbour(*operands: Any) -> Array:
        def nearest(x: Fraction, to: int) -> Fraction:
            return x if to == bits else litert.nearest(x, to)

        with patch.object(litert_elementwise, "nearest", nearest):
            return kernel(*operands)

    return neighbour


# two operands


@st.composite
def pairs(
    draw: st.DrawFn, *, to: IntRange, rules: list[Callable[..., Array]], low: float, high: float
) -> tuple[Any, ...]:
    """Draw operands, half of them where the rules disagree; 3 elements are left over after blocks of 16."""
    rng = np.random.default_rng(draw(SEEDS))
    usual = scale_tuples((2**-3, 2), (2**-3, 2), (low, high))
    scales = draw(st.one_of(usual, st.sampled_from(ODD)) if high < 2**4 else usual)
    points = tuple(draw(zero_points(to)) for _ in range(3))
    small = to.max >> draw(st.sampled_from([0, 0, to.bits // 2]))
    a_q, b_q = (rng.integers(-small - 1, small + 1, POOL).astype(to.dtype) for _ in range(2))
    a_q[:4], b_q[:4] = [to.min, to.min, to.max, to.max], [to.min, to.max, to.min, to.max]
    first, *others = [rule(a_q, b_q, scales, points) for rule in rules]
    telling = np.flatnonzero(np.any([other != first for other in others], axis=0))[: ELEMENTS // 2]
    chosen = rng.permutation(np.concatenate([telling, np.arange(ELEMENTS - telling.size)]))
    return a_q[chosen], b_q[chosen], scales, points


def binary(operator: str, a_q: Array, b_q: Array, scales: Any, points: Any, *, resolver: Any) -> Array:
    options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[operator]()
    if operator != "MUL":
        options.potScaleInt16 = False
    a, b, y = (Tensor(a_q.shape, a_q.dtype, *each) for each in zip(scales, points, strict=True))
    return run(model(operator, [a, b], y, options, version=2), a_q, b_q, resolver=resolver)


def added(a_q: Array, b_q: Array, scales: Any, points: Any, **settings: Any) -> Array:
    to = INT8 if a_q.dtype == np.int8 else INT16
    return litert_elementwise.add(a_q, b_q, scales=fractions(scales), zero_points=points, to=to, **settings)


def added_optimized(a_q: Array, b_q: Array, scales: Any, points: Any) -> Array:
    to = INT8 if a_q.dtype == np.int8 else INT16
    return litert_elementwise.add_optimized(a_q, b_q, scales=fractions(scales), zero_points=points, to=to)


def added_xnnpack(a_q: Array, b_q: Array, scales: Any, points: Any, *, sign: Any = 1) -> Array:
    return litert_elementwise.add_xnnpack(a_q, b_q, scales=fractions(scales), zero_points=points, sign=sign)


def multiplied(a_q: Array, b_q: Array, scales: Any, points: Any, **settings: Any) -> Array:
    to = INT8 if a_q.dtype == np.int8 else INT16
    return litert_elementwise.multiply(a_q, b_q, scales=fractions(scales), zero_points=points, to=to, **settings)


def multiplied_optimized(a_q: Array, b_q: Array, scales: Any, points: Any) -> Array:
    return litert_elementwise.multiply_optimized(a_q, b_q, scales=fractions(scales), zero_points=points)


def multiplied_xnnpack(a_q: Array, b_q: Array, scales: Any, points: Any) -> Array:
    return litert_elementwise.multiply_xnnpack(a_q, b_q, scales=fractions(scales), zero_points=points)


def binary_witness(
    operator: str,
    kernel: str,
    rule: str,
    resolver: Any,
    to: IntRange,
    golden: Any,
    neighbours: Any,
    low: float,
    high: float,
) -> Witness:
    operands = pairs(to=to, rules=[golden, *neighbours.values()], low=low, high=high)
    device = partial(binary, operator, resolver=resolver)
    name = {"ADD": "add", "SUB": "subtract", "MUL": "multiply"}[operator]
    return witness(name, f"{operator}, {kernel}", rule, operands, device, golden, neighbours)


def near(golden: Callable[..., Array]) -> dict[str, Callable[..., Array]]:
    return {
        "second rounding up": rounded(golden, Rounding.HALF_UP),
        "second rounding to even": rounded(golden, Rounding.HALF_EVEN),
    }


def added_witnesses(operator: str, sign: int) -> list[Witness]:
    """The five kernels of ADD or SUB."""
    gemmlowp, xnnpack = partial(added, sign=sign), partial(added_xnnpack, sign=sign)
    plain = near(gemmlowp)
    if operator == "ADD":
        optimized, fast, plain = (
            ("add_optimized", added_optimized),
            {"add": added},
            plain | {"add_optimized": added_optimized},
        )
    else:
        optimized, fast = ("add", gemmlowp), plain
    made = partial(binary_witness, operator)
    eight, sixteen = {"low": 2**-4, "high": 2**3}, {"low": 2**-8, "high": 2**2}
    return [
        made("int8, reference resolver", "add", REFERENCE, INT8, gemmlowp, plain | {"add_xnnpack": xnnpack}, **eight),
        made("int8, optimized resolver", optimized[0], OPTIMIZED, INT8, optimized[1], fast, **eight),
        made("int8, XNNPACK", "add_xnnpack", XNNPACK, INT8, xnnpack, {"add": gemmlowp}, **eight),
        made("int16, reference resolver", "add", REFERENCE, INT16, gemmlowp, plain, **sixteen),
        made("int16, optimized resolver", optimized[0], OPTIMIZED, INT16, optimized[1], fast, **sixteen),
    ]


def multiplied_witnesses() -> list[Witness]:
    """The five kernels of MUL."""
    plain, wraps = near(multiplied), {"multiply": multiplied}
    float32 = {"ratio not rounded to float32": unrounded(multiplied, litert.FLOAT32)}
    eight, sixteen = {"low": 2**-8, "high": 2**6}, {"low": 2**3, "high": 2**12}
    made = partial(binary_witness, "MUL")
    return [
        made(
            "int8, reference resolver",
            "multiply",
            REFERENCE,
            INT8,
            multiplied,
            plain | {"multiply_optimized": multiplied_optimized},
            **eight,
        ),
        made("int8, optimized resolver", "multiply_optimized", OPTIMIZED, INT8, multiplied_optimized, wraps, **eight),
        made("int8, XNNPACK", "multiply_xnnpack", XNNPACK, INT8, multiplied_xnnpack, wraps, low=2**-5, high=2**6),
        made("int16, reference resolver", "multiply", REFERENCE, INT16, multiplied, plain | float32, **sixteen),
        made("int16, optimized resolver", "multiply", OPTIMIZED, INT16, multiplied, plain | float32, **sixteen),
    ]


WITNESSES: Final = [*added_witnesses("ADD", 1), *added_witnesses("SUB", -1), *multiplied_witnesses()]
