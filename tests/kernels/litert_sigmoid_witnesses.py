# SPDX-License-Identifier: Apache-2.0
"""LiteRT's LOGISTIC and TANH, held against ``intsim.kernels.litert_sigmoid``."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from kernels.litert_flatbuffer import Tensor, float32_scales, model, run
from kernels.litert_nonlinear_witnesses import RESOLVERS, SEEDS, Array, changed, witness_of

from intsim.kernels import litert_sigmoid
from intsim.verify.witness import Witness

changed = partial(changed, module=litert_sigmoid)
witness = partial(witness_of, "litert_sigmoid")


# LOGISTIC and TANH of 16 bits


@st.composite
def sixteen_bits(draw: st.DrawFn) -> tuple[Any, ...]:
    x_q = np.random.default_rng(draw(SEEDS)).integers(-(2**15), 2**15, 509)
    scale = draw(
        st.one_of(st.sampled_from([2.0**-12, 2.0**-11]), float32_scales(2**-16, 2**-13), float32_scales(2**-10, 1))
    )
    return np.concatenate([x_q, [0, 1, -1, 2**15 - 1, -(2**15), 1 - 2**15]]).astype(np.int16), scale


def sixteen(operator: str, x_q: Array, scale: float, *, resolver: Any) -> Array:
    x, y = Tensor(x_q.shape, np.int16, scale), Tensor(x_q.shape, np.int16, 2.0**-15)
    return run(model(operator, [x], y, version=3), x_q, resolver=resolver)


def sixteen_of(x_q: Array, scale: float, *, rule: Any) -> Array:
    return rule(x_q, scale=Fraction(scale))


def unraised_table() -> Array:
    """Sigmoid at the points, not raised for interpolation."""
    return np.rint(2**16 / (1 + np.exp(-np.arange(256) / 24))).astype(np.int64)


def sixteen_witnesses() -> list[Witness]:
    made = []
    for operator, name in (("LOGISTIC", "logistic_int16"), ("TANH", "tanh_int16")):
        plain, fast = (partial(sixteen_of, rule=getattr(litert_sigmoid, rule)) for rule in (name, f"{name}_optimized"))
        device = partial(sixteen, operator)
        near = {"table of the function itself": changed(plain, "sigmoid_table", unraised_table)}
        made += [
            witness(
                f"{operator}, int16",
                "reference resolver",
                name,
                sixteen_bits(),
                device,
                plain,
                near | {"gemmlowp": fast},
            ),
            witness(
                f"{operator}, int16",
                "optimized resolver",
                f"{name}_optimized",
                sixteen_bits(),
                device,
                fast,
                {name: plain},
            ),
        ]
    return made


# LOGISTIC and TANH of 8 bits


@st.composite
def eight_bits(draw: st.DrawFn, *, unit: float | None) -> tuple[Any, ...]:
    scales = draw(float32_scales(2**-8, 1)), unit or draw(float32_scales(2**-8, 2**-5))
    points = draw(st.integers(-128, 127)), -128 if unit else draw(st.integers(-128, 127))
    return np.arange(-128, 128).astype(np.int8), scales, points


def eight(operator: str, x_q: Array, scales: Any, zero_points: Any, *, resolver: Any) -> Array:
    x, y = (Tensor(x_q.shape, np.int8, *each) for each in zip(scales, zero_points, strict=True))
    return run(model(operator, [x], y, version=2), x_q, resolver=resolver)


def logistic_of(x_q: Array, scales: Any, zero_points: Any) -> Array:
    return litert_sigmoid.logistic(x_q, scale=Fraction(scales[0]), zero_point=zero_points[0])


def tanh_of(x_q: Array, scales: Any, zero_points: Any) -> Array:
    return litert_sigmoid.tanh(x_q, scales=tuple(map(Fraction, scales)), zero_points=zero_points)


def not_rounded(golden: Callable[..., Array]) -> Callable[..., Array]:
    """Return the rule with its last rounding toward zero."""
    return changed(golden, "round_fraction", lambda x, _: int(x))


def eight_witnesses() -> list[Witness]:
    made = []
    for operator, rule, golden, unit in (("LOGISTIC", "logistic", logistic_of, 2**-8), ("TANH", "tanh", tanh_of, None)):
        near = {"truncated": not_rounded(golden)}
        made += [
            witness(f"{operator}, int8", resolver, rule, eight_bits(unit=unit), partial(eight, operator), golden, near)
            for resolver in RESOLVERS
        ]
    return made


WITNESSES: Final = [*sixteen_witnesses(), *eight_witnesses()]
