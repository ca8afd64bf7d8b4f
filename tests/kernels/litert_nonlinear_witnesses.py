# SPDX-License-Identifier: Apache-2.0
"""LiteRT's integer nonlinear operators, held against ``intsim.kernels.litert_nonlinear``."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from kernels.litert_flatbuffer import OPTIMIZED, REFERENCE, Tensor, constant, float32_scales, model, run, scale_tuples
from numpy.typing import NDArray

from intsim.fixedpoint import INT8, INT16, IntRange, Rounding
from intsim.kernels import gemmlowp, litert, litert_nonlinear
from intsim.verify.witness import Witness

Array = NDArray[Any]
SEEDS: Final = st.integers(0, 2**32 - 1)
RESOLVERS: Final = {"reference resolver": REFERENCE, "optimized resolver": OPTIMIZED}

NOT_CLAIMED: Final = [
    (
        "softmax",
        "SOFTMAX, int8, optimized resolver",
        "ai-edge-litert",
        "divides float32 exponentials of the C library by their float32 sum; no rule on integers is written",
    ),
    (
        "mean",
        "MEAN, int8, XNNPACK",
        "ai-edge-litert",
        (
            "rounds to even after adding the zero point, in float32 steps not found: "
            "of 20 orders of operations the nearest misses 141 of 180_000 outputs next to ties"
        ),
    ),
    (
        "gelu",
        "GELU, int8",
        "ai-edge-litert",
        (
            "a table made with the C library's erff or tanhf when the model is loaded; correctly rounded ones gave all "
            "of 384_000 codes, but no rule on integers is written"
        ),
    ),
    (
        "logistic",
        "LOGISTIC, int8, XNNPACK",
        "ai-edge-litert",
        "a table of its own: 3 of 128_000 codes differ from the resolvers', next to ties",
    ),
]


def witness_of(
    module: str,
    kernel: str,
    resolver: str,
    rule: str,
    operands: Any,
    device: Any,
    golden: Any,
    near: Mapping[str, Callable[..., Array]],
) -> Witness:
    return Witness(
        operator=kernel.partition(",")[0].lower(),
        kernel=f"{kernel}, {resolver}",
        package="ai-edge-litert",
        rule=f"kernels.{module}.{rule}",
        operands=operands,
        device=partial(device, resolver=RESOLVERS[resolver]),
        golden=golden,
        neighbours=near,
        note="x86-64",
    )


witness = partial(witness_of, "litert_nonlinear")


def changed(
    golden: Callable[..., Array], name: str, other: Any, *, module: Any = litert_nonlinear
) -> Callable[..., Array]:
    """Return the rule with one function of its module another one."""

    def neighbour(*operands: Any) -> Array:
        with patch.object(module, name, other):
            return golden(*operands)

    return neighbour


def mbqm(rounding: Rounding) -> Any:
    return partial(litert.multiply_by_quantized_multiplier, rounding=rounding)


# SOFTMAX


@st.composite
def rows(draw: st.DrawFn, *, of: IntRange) -> tuple[Any, ...]:
    """Draw rows of any spread, one-hot and equal ones among them."""
    rng = np.random.default_rng(draw(SEEDS))
    low, high = (2**-8, 1) if of is INT8 else (2**-14, 2**-9)
    depth = draw(st.sampled_from([1, 2, 3, 10, 64]))
    spread = of.max >> draw(st.integers(0, 5))
    x_q = rng.integers(-spread - 1, spread + 1, (400 // depth, depth))
    x_q[0], x_q[-1] = of.max, of.min
    x_q[-1, 0] = of.max
    beta = draw(st.sampled_from([1.0, 1.0, 0.5, float(np.float32(0.3))]))
    return x_q.astype(of.dtype), draw(float32_scales(low, high)), beta


def softmax(x_q: Array, scale: float, beta: float, *, resolver: Any, to: IntRange) -> Array:
    unit, zero_point = (2.0**-15, 0) if x_q.dtype == np.int16 else (2.0**-to.bits, to.min)
    x, y = Tensor(x_q.shape, x_q.dtype, scale), Tensor(x_q.shape, to.dtype, unit, zero_point)
    return run(model("SOFTMAX", [x], y, schema.SoftmaxOptionsT(beta=beta), version=3), x_q, resolver=resolver)


def softmax_of(x_q: Array, scale: float, beta: float, *, rule: Any, **settings: Any) -> Array:
    return rule(x_q, scale=Fraction(scale), beta=Fraction(beta), **settings)


def softmax_witnesses() -> list[Witness]:
    made = []
    for to in (INT8, INT16):
        golden = partial(softmax_of, rule=litert_nonlinear.softmax, to=to)
        near = {
            "1 / (1 + x) not iterated": changed(golden, "one_over_one_plus_x_for_x_in_0_1", divided, module=gemmlowp),
            "shifts floor": changed(golden, "rounding_divide_by_pot", floor, module=gemmlowp),
        }
        if to is INT8:  # the difference is of 16 bits
            del near["1 / (1 + x) not iterated"]
            near["exp rounded to 16 bits"] = changed(golden, "exp_on_negative_values", coarse_exp, module=gemmlowp)
        kernel = f"SOFTMAX, int8 to int{to.bits}"
        made.append(
            witness(kernel, "reference resolver", "softmax", rows(of=INT8), partial(softmax, to=to), golden, near)
        )
    golden = partial(softmax_of, rule=litert_nonlinear.softmax_int16)
    near = {
        "differences rounded up": partial(golden, mbqm=mbqm(Rounding.HALF_UP)),
        "table not interpolated": changed(golden, "lookup", nearest_entry),
    }
    return made + [
        witness("SOFTMAX, int16", resolver, "softmax_int16", rows(of=INT16), partial(softmax, to=INT16), golden, near)
        for resolver in RESOLVERS
    ]


def divided(a: Array) -> Array:
    return (1 << 62) // (a + (1 << 31))


def floor(x: Array, exponent: Any) -> Array:
    return litert.rounding_right_shift(x, exponent, Rounding.FLOOR)


EXP: Final = gemmlowp.exp_on_negative_values


def coarse_exp(a: Array, integer_bits: int) -> Array:
    return litert.rounding_right_shift(EXP(a, integer_bits), 16, Rounding.HALF_UP) << 16


def nearest_entry(x: Array, table: Array) -> Array:
    return table[(x + 2**15 + 64) // 128]


# RSQRT, L2_NORMALIZATION, MEAN


@st.composite
def positive(draw: st.DrawFn) -> tuple[Any, ...]:
    zero_point = draw(st.integers(-128, 100))
    x_q = np.arange(zero_point, 128).astype(np.int8)
    return x_q, draw(scale_tuples((2**-8, 4), (2**-7, 1))), (zero_point, draw(st.integers(-128, 127)))


def rsqrt(x_q: Array, scales: Any, zero_points: Any, *, resolver: Any) -> Array:
    x, y = (Tensor(x_q.shape, np.int8, *each) for each in zip(scales, zero_points, strict=True))
    return run(model("RSQRT", [x], y, version=2), x_q, resolver=resolver)


def rsqrt_of(x_q: Array, scales: Any, zero_points: Any) -> Array:
    return litert_nonlinear.rsqrt(x_q, scales=tuple(map(Fraction, scales)), zero_points=zero_points)


def rsqrt_exactly(x_q: Array, scales: Any, zero_points: Any) -> Array:
    x = np.maximum(x_q.astype(np.int64) - zero_points[0], 1e-9) * scales[0]
    return (np.floor(1 / np.sqrt(x) / scales[1] + 0.5) + zero_points[1]).clip(-128, 127).astype(np.int8)


@st.composite
def vectors(draw: st.DrawFn) -> tuple[Any, ...]:
    rng = np.random.default_rng(draw(SEEDS))
    depth, spread, zero_point = (
        draw(st.sampled_from([1, 2, 3, 8, 100, 400])),
        draw(st.sampled_from([3, 256])),
        draw(st.integers(-128, 127)),
    )
    return (zero_point + rng.integers(-spread, spread, (400 // depth, depth))).clip(-128, 127).astype(
        np.int8
    ), zero_point


def l2_normalization(x_q: Array, zero_point: int, *, resolver: Any) -> Array:
    x, y = Tensor(x_q.shape, np.int8, 0.5, zero_point), Tensor(x_q.shape, np.int8, 2.0**-7)
    return run(model("L2_NORMALIZATION", [x], y, schema.L2NormOptionsT(), version=2), x_q, resolver=resolver)


def l2_normalization_of(x_q: Array, zero_point: int) -> Array:
    return litert_nonlinear.l2_normalization(x_q, zero_point=zero_point)


@st.composite
def averages(draw: st.DrawFn, *, of: IntRange, rules: list[Callable[..., Array]]) -> tuple[Any, ...]:
    """Draw rows to average, half of them such that the rules disagree."""
    rng = np.random.default_rng(draw(SEEDS))
    scales = draw(scale_tuples((2**-3, 1), (2**-3, 1)))
    points = (0, 0) if of is INT16 else (draw(st.integers(-128, 127)), draw(st.integers(-128, 127)))
    x_q = rng.integers(of.min, of.max + 1, (2000, draw(st.sampled_from([1, 2, 3, 4, 6, 16, 33])))).astype(of.dtype)
    first, *others = [rule(x_q, scales, points) for rule in rules]
    telling = np.flatnonzero(np.any([other != first for other in others], axis=0))[:200]
    return np.concatenate([x_q[telling], x_q[: 400 - telling.size]]), scales, points


def mean(x_q: Array, scales: Any, zero_points: Any, *, resolver: Any) -> Array:
    x = Tensor(x_q.shape, x_q.dtype, scales[0], zero_points[0])
    y = Tensor(x_q.shape[:1], x_q.dtype, scales[1], zero_points[1])
    axes = constant(np.array([1], np.int32))
    return run(model("MEAN", [x, axes], y, schema.ReducerOptionsT(keepDims=False), version=2), x_q, resolver=resolver)


def mean_of(x_q: Array, scales: Any, zero_points: Any, *, rule: Any, **settings: Any) -> Array:
    to = INT8 if x_q.dtype == np.int8 else INT16
    return rule(x_q, scales=tuple(map(Fraction, scales)), zero_points=zero_points, to=to, **settings)


def mean_in_float32(x_q: Array, scales: Any, zero_points: Any) -> Array:
    """The sum divided, then scaled, in float32: what the optimized resolver did before."""
    info, ratio = np.iinfo(x_q.dtype), np.float32(scales[0]) / np.float32(scales[1])
    mean = x_q.sum(axis=-1, dtype=np.int64).astype(np.float32) / np.float32(x_q.shape[-1])
    y = mean * ratio + np.float32(-zero_points[0]) * ratio
    return (np.sign(y) * np.floor(np.abs(y) + 0.5) + zero_points[1]).clip(info.min, info.max).astype(x_q.dtype)


def mean_witnesses() -> list[Witness]:
    golden = partial(mean_of, rule=litert_nonlinear.mean)
    near = {
        "float32": mean_in_float32,
        "second rounding up": partial(golden, mbqm=mbqm(Rounding.HALF_UP)),
    }
    return [
        witness(
            f"MEAN, int{of.bits}", resolver, "mean", averages(of=of, rules=[golden, *near.values()]), mean, golden, near
        )
        for of in (INT8, INT16)
        for resolver in RESOLVERS
    ]


WITNESSES: Final = [
    *softmax_witnesses(),
    *(
        each
        for resolver in RESOLVERS
        for each in (
            witness("RSQRT, int8", resolver, "rsqrt", positive(), rsqrt, rsqrt_of, {"1 / sqrt(x)": rsqrt_exactly}),
            witness(
                "L2_NORMALIZATION, int8",
                resolver,
                "l2_normalization",
                vectors(),
                l2_normalization,
                l2_normalization_of,
                {
                    "second rounding floors": changed(
                        l2_normalization_of, "multiply_by_quantized_multiplier", mbqm(Rounding.FLOOR)
                    )
                },
            ),
        )
    ),
    *mean_witnesses(),
]
