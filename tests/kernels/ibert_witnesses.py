# SPDX-License-Identifier: Apache-2.0
"""Quantizer, requantization and linear layers of transformers' I-BERT, held against intsim's.

Those that round what they read are exact as shipped, in float32; QuantLinear does not, and is in float64 here.
"""

from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from hypothesis import strategies as st
from kernels.draws import float32, generators
from kernels.ibert_tensors import integers, nearest, scales, tensor
from numpy.typing import NDArray
from transformers.models.ibert import quant_modules

from intsim.fixedpoint import Dyadic, IntRange, Rounding, saturate
from intsim.float32 import divide, from_integer, multiply, to_integer
from intsim.kernels import ibert
from intsim.ops import add, matmul, requantize
from intsim.profile import IBERT
from intsim.verify.witness import Witness

Int64: TypeAlias = NDArray[np.int64]

FLOOR, HALF_EVEN = Rounding.FLOOR, Rounding.HALF_EVEN
SHIPPED: Final = "as shipped, in float32"


# requantization and residual


@st.composite
def requantize_operands(draw: st.DrawFn) -> tuple[Int64, NDArray[np.float32], np.float32, int]:
    """Draw (1, T, C) accumulators below 2**22, their scales by channel, the scale and width of the result."""
    rng = draw(generators())
    bits = draw(st.sampled_from([8, 16]))
    channels = 8
    to = np.float32(draw(scales(2**-6, 1)))
    drop = rng.integers(1, 23 - bits, channels)
    scale = np.ldexp(to, -drop) * draw(st.sampled_from([np.ones(8), rng.uniform(0.5, 1, channels)]))
    acc = rng.integers(-(2**21), 2**21, (1, 30, channels))
    return np.where(rng.random(acc.shape) < 0.3, acc >> drop << drop - 1, acc), scale.astype(np.float32), to, bits


def act(
    x: list[tuple[Int64, NDArray[np.float32]]],
    to: np.float32,
    bits: int,
) -> Int64:
    """Run FixedPointMul on the codes and scales of one operand or two."""
    (acc, scale), *identity = [(torch.tensor((q * s).astype(np.float32)), torch.tensor(s)) for q, s in x]
    arguments = (acc, scale, bits, torch.tensor([to]), *(identity[0] if identity else ()))
    return integers(quant_modules.FixedPointMul.apply(*arguments))


def ratio(scale: NDArray[np.float32], to: np.float32) -> Dyadic:
    return Dyadic.from_real(scale.astype(np.float64) / np.float64(to))


def requantized(
    acc: Int64, scale: NDArray[np.float32], to: np.float32, bits: int, *, rule: Any = HALF_EVEN, multiplier: int = 31
) -> Int64:
    real = scale.astype(np.float64) / np.float64(to)
    dyadic = Dyadic.from_real(real, bits=multiplier)
    return requantize(acc.astype(np.int32), dyadic, to=IntRange(bits), rounding=rule).astype(np.int64)


@st.composite
def residual_operands(draw: st.DrawFn) -> tuple[Any, ...]:
    acc, scale, to, bits = draw(requantize_operands())
    rng = draw(generators())
    identity_scale = np.array([to], np.float32) * np.float32(draw(st.sampled_from([0.5, 0.25, 1.5, 0.37])))
    return acc, scale, rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), acc.shape), identity_scale, to, bits


def residual(acc: Int64, scale: Any, identity: Int64, identity_scale: Any, to: np.float32, bits: int) -> Int64:
    operands, ratios = [acc, identity], [ratio(scale, to), ratio(identity_scale[0], to)]
    return add(operands, ratios, to=IntRange(bits), profile=IBERT).astype(np.int64)


def residual_rounded_once(acc: Int64, scale: Any, identity: Int64, identity_scale: Any, to: Any, bits: int) -> Int64:
    real = acc * (scale.astype(np.float64) / np.float64(to)) + identity * float(identity_scale[0]) / float(to)
    return saturate(np.rint(real).astype(np.int64), IntRange(bits)).astype(np.int64)


# quantizer, linear, embedding


@st.composite
def quantize_operands(draw: st.DrawFn) -> tuple[NDArray[np.float32], np.float32, int]:
    rng = draw(generators())
    bits, scale = draw(st.sampled_from([4, 8, 16])), np.float32(draw(scales(2**-20, 2)))
    codes = rng.integers(-(2 ** (bits - 1)) - 2, 2 ** (bits - 1) + 2, 300)
    x = (codes + rng.choice([0, 0.5, -0.5, 0.25], 300)) * scale
    return np.nextafter(x, rng.choice([-np.inf, 0, np.inf], 300)).astype(np.float32), scale, bits


def symmetric_quantize(x: NDArray[np.float32], scale: np.float32, bits: int) -> Int64:
    function = quant_modules.SymmetricQuantFunction
    return integers(function.apply(torch.tensor(x), bits, False, torch.tensor([scale])))


def quantize(x: NDArray[np.float32], scale: np.float32, bits: int) -> Int64:
    return ibert.quantize(float32(x), float32([scale]), bits=bits)


def quantize_variant(
    x: NDArray[np.float32],
    scale: np.float32,
    bits: int,
    *,
    reciprocal: bool = True,
    lost: int = 1,
    ties: Any = HALF_EVEN,
) -> Int64:
    n, divisor = 2 ** (bits - 1) - 1, float32(np.full(x.shape, scale))
    one = from_integer(np.ones(x.shape, np.int64))
    quotient = multiply(float32(x), divide(one, divisor)) if reciprocal else divide(float32(x), divisor)
    return to_integer(quotient, ties).clip(-n, n - lost)


@st.composite
def linear_operands(draw: st.DrawFn) -> tuple[Any, ...]:
    rng = draw(generators())
    depth, per_channel = draw(st.sampled_from([1, 16, 96, 1200])), draw(st.booleans())
    w_q = rng.integers(-127, 128, (9, depth))
    w_q[:, 0] = rng.choice([127, -127], 9)  # the largest weight decides the scale
    w_scale = nearest(rng.uniform(2**-12, 2**-4, 9 if per_channel else 1))
    bias = rng.integers(-(2**31), 2**31, 9) >> draw(st.sampled_from([0, 8]))
    bias //= 2 if depth < 1200 else 4
    return rng.integers(-128, 128, (20, depth)).astype(np.int8), w_q, bias, draw(scales(2**-8, 1)), w_scale


def quant_linear(x_q: Any, w_q: Int64, bias: Int64, scale: float, w_scale: NDArray[Any]) -> Int64:
    module = quant_modules.QuantLinear(w_q.shape[1], 9, per_channel=len(w_scale) > 1, quant_mode=True).double()
    module.weight.data = tensor(w_q * w_scale[:, None])
    module.bias.data = tensor(bias * (w_scale * scale))
    acc, acc_scale = module(tensor(x_q * scale), tensor([scale]))
    return integers(acc / acc_scale)


def linear(x_q: Any, w_q: Int64, bias: Int64, *_: Any, largest: int = 126) -> Int64:
    return matmul(x_q, w_q.clip(-127, largest).astype(np.int8), bias=bias).astype(np.int64)


@st.composite
def embedding_operands(draw: st.DrawFn) -> tuple[Int64, NDArray[np.float32], int]:
    rng = draw(generators())
    table = rng.normal(size=(12, 10)).astype(np.float32) * np.float32(draw(st.floats(2**-20, 2**10, width=32)))
    return rng.integers(0, 12, (2, 9)), table, draw(st.sampled_from([8, 16]))


def quant_embedding(ids: Int64, table: NDArray[np.float32], bits: int) -> Int64:
    module = quant_modules.QuantEmbedding(*table.shape, weight_bit=bits, quant_mode=True)
    module.weight.data = torch.tensor(table)
    rows, scale = module(torch.tensor(ids))
    return integers(rows.double() / scale.double())


def embedding(ids: Int64, table: NDArray[np.float32], bits: int, *, levels: int = 0) -> Int64:
    n = np.array([2 ** (bits - 1) - 1 + levels])
    scale = divide(float32([np.abs(table).max()]), from_integer(n))
    return ibert.quantize(float32(table), scale, bits=bits)[ids]


WITNESSES: Final[list[Witness]] = [
    Witness(
        operator="requantize",
        kernel="I-BERT FixedPointMul",
        package="transformers",
        rule="hawq",
        operands=requantize_operands(),
        device=lambda acc, scale, to, bits: act([(acc, scale)], to, bits),
        golden=requantized,
        neighbours={
            "half up": partial(requantized, rule=Rounding.HALF_UP),
            "half away": partial(requantized, rule=Rounding.HALF_AWAY),
            "15-bit multiplier": partial(requantized, multiplier=15),
        },
        note=f"{SHIPPED}, |acc| < 2**22: q * s / s is rounded back to q, and q times 31 bits fits 53; 8 and 16 bits",
    ),
    Witness(
        operator="add",
        kernel="I-BERT FixedPointMul with identity",
        package="transformers",
        rule='hawq, each operand rounded (Profile.sum "each")',
        operands=residual_operands(),
        device=lambda acc, scale, identity, identity_scale, to, bits: act(
            [(acc, scale), (identity, identity_scale)], to, bits
        ),
        golden=residual,
        neighbours={"the sum rounded once": residual_rounded_once},
        note=f"{SHIPPED}, |acc| < 2**22; 8 and 16 bits",
    ),
    Witness(
        operator="quantize",
        kernel="I-BERT SymmetricQuantFunction",
        package="transformers",
        rule="kernels.ibert.quantize",
        operands=quantize_operands(),
        device=symmetric_quantize,
        golden=quantize,
        neighbours={
            "divided by the scale": partial(quantize_variant, reciprocal=False),
            "codes up to n": partial(quantize_variant, lost=0),
            "half away": partial(quantize_variant, ties=Rounding.HALF_AWAY),
        },
        note=SHIPPED,
    ),
    Witness(
        operator="embedding",
        kernel="I-BERT QuantEmbedding",
        package="transformers",
        rule="kernels.ibert.quantize of the table, rows taken",
        operands=embedding_operands(),
        device=quant_embedding,
        golden=embedding,
        neighbours={"scale max / (n + 1)": partial(embedding, levels=1)},
        note=SHIPPED,
    ),
    Witness(
        operator="matmul",
        kernel="I-BERT QuantLinear, float64",
        package="transformers",
        rule="ops.matmul, weights in [-127, 126]",
        operands=linear_operands(),
        device=quant_linear,
        golden=linear,
        neighbours={"weights up to 127": partial(linear, largest=127)},
        note="in float64, codes and weights of float32 scales",
    ),
]

NOT_CLAIMED: Final = [
    (
        "matmul",
        "I-BERT QuantLinear, float32",
        "transformers",
        "x / scale is not rounded, and sums beyond 2**24, possible from depth 1041, lose their last bits",
    ),
    (
        "requantize",
        "I-BERT FixedPointMul, 22 and 32 bits",
        "transformers",
        "stored as float32, its product rounded to 53 bits: 369103149 * 1450639673 / 2**36 gives 7791614, not 7791615",
    ),
]
