# SPDX-License-Identifier: Apache-2.0
"""LiteRT's QUANTIZE, DEQUANTIZE, LEAKY_RELU and ABS, held against ``intsim.kernels.litert_conversion``."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from hypothesis import strategies as st
from kernels.litert_flatbuffer import OPTIMIZED, REFERENCE, XNNPACK, Tensor, float32_scales, model, run, scale_tuples
from numpy.typing import NDArray

from intsim import float32
from intsim.fixedpoint import INT8, INT16, IntRange
from intsim.kernels import litert_conversion as conversion
from intsim.verify.witness import Witness

Array = NDArray[Any]
Neighbours = Mapping[str, Callable[..., Array]]
SEEDS: Final = st.integers(0, 2**32 - 1)
LEFT_OVER: Final = 7  # elements after the last whole block of 8 or 16
RESOLVERS: Final = {"reference resolver": REFERENCE, "optimized resolver": OPTIMIZED, "XNNPACK": XNNPACK}


def witness(
    kernel: str, resolver: str, rule: str, operands: Any, device: Any, golden: Callable[..., Array], near: Neighbours
) -> Witness:
    return Witness(
        operator=kernel.partition(",")[0].lower(),
        kernel=f"{kernel}, {resolver}",
        package="ai-edge-litert",
        rule=f"kernels.litert_conversion.{rule}",
        operands=operands,
        device=partial(device, resolver=RESOLVERS[resolver]),
        golden=golden,
        neighbours=near,
        note="x86-64",
    )


def points(to: IntRange) -> st.SearchStrategy[int]:
    return st.just(0) if to is INT16 else st.integers(to.min, to.max)


def range_of(dtype: Any) -> IntRange:
    return INT8 if np.dtype(dtype) == np.int8 else INT16


# float32 and back


@st.composite
def reals(draw: st.DrawFn, *, to: IntRange) -> tuple[Any, ...]:
    """Draw halves of the scale, their neighbours in float32, and anything."""
    rng = np.random.default_rng(draw(SEEDS))
    scale = draw(float32_scales(2**-6, 4))
    halves = (rng.integers(2 * to.min, 2 * to.max, 300) / 2 * scale).astype(np.float32)
    beside = np.nextafter(halves[:100], np.float32(np.inf) * rng.choice([-1, 1], 100).astype(np.float32))
    anything = (rng.standard_normal(100) * scale * to.max).astype(np.float32)
    return rng.permutation(np.concatenate([halves, beside, anything, halves[:LEFT_OVER]])), scale, draw(points(to))


def quantize(x: Array, scale: float, zero_point: int, *, resolver: Any, to: IntRange) -> Array:
    output = Tensor(x.shape, to.dtype, scale, zero_point)
    return run(model("QUANTIZE", [Tensor(x.shape, x.dtype)], output, version=2), x, resolver=resolver)


def quantized(x: Array, scale: float, zero_point: int, *, to: IntRange, rule: Any) -> Array:
    return rule(float32.decode(x.view(np.uint32)), scale=Fraction(scale), zero_point=zero_point, to=to)


def quantize_witnesses(to: IntRange) -> list[Witness]:
    rules = {name: getattr(conversion, name) for name in ("quantize", "quantize_optimized", "quantize_xnnpack")}
    goldens = {name: partial(quantized, to=to, rule=rule) for name, rule in rules.items()}
    said = {"reference resolver": "quantize", "optimized resolver": "quantize_optimized"}
    if to is INT8:
        said["XNNPACK"] = "quantize_xnnpack"
    return [
        witness(
            f"QUANTIZE, float32 to int{to.bits}",
            resolver,
            rule,
            reals(to=to),
            partial(quantize, to=to),
            goldens[rule],
            {name: golden for name, golden in goldens.items() if name != rule},
        )
        for resolver, rule in said.items()
    ]


@st.composite
def codes(draw: st.DrawFn, *, to: IntRange) -> tuple[Any, ...]:
    x_q = np.arange(to.min, to.max + 1)
    x_q = x_q if to is INT8 else np.random.default_rng(draw(SEEDS)).choice(x_q, 500)
    return np.concatenate([x_q, x_q[:LEFT_OVER]]).astype(to.dtype), draw(float32_scales(2**-8, 4)), draw(points(to))


def dequantize(x_q: Array, scale: float, zero_point: int, *, resolver: Any) -> Array:
    x = Tensor(x_q.shape, x_q.dtype, scale, zero_point)
    y = run(model("DEQUANTIZE", [x], Tensor(x_q.shape, np.float32), version=2), x_q, resolver=resolver)
    return (y + np.float32(0)).view(np.uint32)  # -0 is 0


def dequantized(x_q: Array, scale: float, zero_point: int, *, rule: Any) -> Array:
    return float32.encode(rule(x_q, scale=Fraction(scale), zero_point=zero_point))


def real_product(x_q: Array, scale: float, zero_point: int) -> Array:
    """The product floored to float32 instead."""
    exact = (x_q.astype(np.int64) - zero_point) * np.float64(scale)
    near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32).view(np.uint32)


def dequantize_witnesses() -> list[Witness]:
    goldens = {
        name: partial(dequantized, rule=getattr(conversion, name)) for name in ("dequantize", "dequantize_optimized")
    }
    near = {name: {other: goldens[other] for other in goldens if other != name} for name in goldens}
    return [
        *(
            witness("DEQUANTIZE, int8", resolver, rule, codes(to=INT8), dequantize, goldens[rule], near[rule])
            for resolver, rule in zip(RESOLVERS, ["dequantize", "dequantize_optimized", "dequantize"], strict=True)
        ),
        witness(
            "DEQUANTIZE, int16",
            "optimized resolver",
            "dequantize",
            codes(to=INT16),
            dequantize,
            goldens["dequantize"],
            {"floored": real_product},
        ),
    ]


# codes to codes


@st.composite
def code_pairs(
    draw: st.DrawFn, *, of: IntRange, to: IntRange, ratio: tuple[float, float] = (2**-6, 2**5), slope: Any = None
) -> tuple[Any, ...]:
    """Draw every code of 8 bits, 16-bit ones next to the ties, and scales of any such ratio that XNNPACK takes."""
    rng = np.random.default_rng(draw(SEEDS))
    low, high = ratio
    y_scale, quotient = draw(scale_tuples((1, 2), (low, high)))
    quotient = quotient * to.max / of.max
    x_scale = float(np.float32(y_scale * quotient))
    x_q = np.arange(of.min, of.max + 1)
    if of is INT16:
        ties = (rng.integers(2 * to.min, 2 * to.max, 400) / 2 / quotient + rng.integers(-1, 2, 400)).clip(
            of.min, of.max
        )
        x_q = np.concatenate([np.rint(ties), rng.choice(x_q, 100)])
    x_q = np.concatenate([x_q, x_q[:LEFT_OVER]]).astype(of.dtype)
    operands = x_q, (x_scale, y_scale), (draw(points(of)), draw(points(to)))
    return operands if slope is None else (*operands, draw(slope))


def unary(
    operator: str, x_q: Array, scales: Any, zero_points: Any, *, resolver: Any, to: IntRange, options: Any = None
) -> Array:
    x = Tensor(x_q.shape, x_q.dtype, scales[0], zero_points[0])
    y = Tensor(x_q.shape, to.dtype, scales[1], zero_points[1])
    return run(model(operator, [x], y, options, version=2), x_q, resolver=resolver)


def leaky(x_q: Array, scales: Any, zero_points: Any, alpha: float, **settings: Any) -> Array:
    return unary("LEAKY_RELU", x_q, scales, zero_points, options=schema.LeakyReluOptionsT(alpha=alpha), **settings)


def called(x_q: Array, scales: Any, zero_points: Any, *slope: float, rule: Any, **settings: Any) -> Array:
    alpha = {"alpha": Fraction(slope[0])} if slope else {}
    return rule(x_q, scales=tuple(map(Fraction, scales)), zero_points=zero_points, **alpha, **settings)


def exact(x_q: Array, scales: Any, zero_points: Any, *slope: float, to: IntRange, magnitude: bool = False) -> Array:
    """One rounding, halves up, of the exact product."""
    x = x_q.astype(np.int64) - zero_points[0]
    if magnitude:
        x = np.abs(x)
    ratio = np.float64(scales[0]) / scales[1] * np.where(x < 0, slope[0] if slope else 1, 1)
    return (np.floor(x * ratio + 0.5) + zero_points[1]).clip(to.min, to.max).astype(to.dtype)


def code_witnesses() -> list[Witness]:
    to8, to16 = partial(called, to=INT8), partial(called, to=INT16)
    rounds = partial(to8, rule=conversion.requantize)
    blocks, short = (
        partial(called, rule=rule) for rule in (conversion.requantize_optimized, conversion.requantize_xnnpack)
    )
    up8, up16 = {"one rounding": partial(exact, to=INT8)}, {"one rounding": partial(exact, to=INT16)}
    eight, narrow, sixteen = code_pairs(of=INT8, to=INT8), code_pairs(of=INT16, to=INT8), code_pairs(of=INT16, to=INT16)
    quantize8, quantize16 = partial(unary, "QUANTIZE", to=INT8), partial(unary, "QUANTIZE", to=INT16)
    same = "requantize"
    made = [
        witness(
            "QUANTIZE, int8 to int8", "reference resolver", same, eight, quantize8, rounds, up8 | {"blocks": blocks}
        ),
        witness(
            "QUANTIZE, int8 to int8",
            "optimized resolver",
            "requantize_optimized",
            eight,
            quantize8,
            blocks,
            {same: rounds},
        ),
        witness(
            "QUANTIZE, int8 to int8", "XNNPACK", "requantize_xnnpack", eight, quantize8, short, up8 | {same: rounds}
        ),
        witness("QUANTIZE, int16 to int8", "reference resolver", same, narrow, quantize8, rounds, up8),
        witness("QUANTIZE, int16 to int8", "optimized resolver", same, narrow, quantize8, rounds, up8),
        witness(
            "QUANTIZE, int16 to int16",
            "optimized resolver",
            same,
            sixteen,
            quantize16,
            partial(to16, rule=conversion.requantize),
            up16,
        ),
    ]
    alphas = st.integers(16, 64).map(lambda n: n / 64) | float32_scales(2**-2, 1)
    leaky8, leaky16 = partial(to8, rule=conversion.leaky_relu), partial(to16, rule=conversion.leaky_relu)
    leaky_short = partial(called, rule=conversion.leaky_relu_xnnpack)
    bent8, bent16 = code_pairs(of=INT8, to=INT8, slope=alphas), code_pairs(of=INT16, to=INT16, slope=alphas)
    made += [
        witness("LEAKY_RELU, int8", resolver, "leaky_relu", bent8, partial(leaky, to=INT8), leaky8, up8)
        for resolver in ("reference resolver", "optimized resolver")
    ]
    made += [
        witness(
            "LEAKY_RELU, int8",
            "XNNPACK",
            "leaky_relu_xnnpack",
            bent8,
            partial(leaky, to=INT8),
            leaky_short,
            up8 | {"leaky_relu": leaky8},
        ),
        witness(
            "LEAKY_RELU, int16", "optimized resolver", "leaky_relu", bent16, partial(leaky, to=INT16), leaky16, up16
        ),
    ]
    for of, operands in ((INT8, eight), (INT16, sixteen)):
        golden, near = (
            partial(called, rule=conversion.absolute, to=of),
            {"one rounding": partial(exact, to=of, magnitude=True)},
        )
        made.append(
            witness(
                f"ABS, int{of.bits}",
                "optimized resolver",
                "absolute",
                operands,
                partial(unary, "ABS", to=of),
                golden,
                near,
            )
        )
    return made


WITNESSES: Final = [*quantize_witnesses(INT8), *quantize_witnesses(INT16), *dequantize_witnesses(), *code_witnesses()]
