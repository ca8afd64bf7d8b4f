# SPDX-License-Identifier: Apache-2.0
"""The nonlinear modules of transformers' I-BERT in float64, held against ``intsim.kernels.ibert``.

In float64 the integers that they carry as multiples of a scale stay exact on the domains drawn here. As shipped, in
float32, they do not: ``test_ibert.py`` shows where each fails.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from hypothesis import strategies as st
from kernels.draws import generators
from kernels.ibert_tensors import integers, nearest, scales, tensor
from numpy.typing import NDArray
from transformers.models.ibert import quant_modules

from intsim.fixedpoint import INT16, Dyadic, Rounding, isqrt, rounding_divide, rounding_right_shift, saturate
from intsim.kernels import ibert
from intsim.verify.witness import Witness

Int64: TypeAlias = NDArray[np.int64]

FLOOR, HALF_EVEN = Rounding.FLOOR, Rounding.HALF_EVEN
DYADIC_SCALE: Final = float.fromhex("0x1.abc42e1c2256p-2")  # 0.35815147 times its square is 2**-4 in float64


# softmax


@st.composite
def softmax_operands(draw: st.DrawFn, *, dyadic: bool) -> tuple[Int64, float, float]:
    """Draw (1, 4, T) codes, their scale, and the scale of the 16-bit activation inside."""
    rng = draw(generators())
    scale = DYADIC_SCALE * 2.0 ** -draw(st.integers(0, 8)) if dyadic else draw(scales(2**-10, 0.5))
    codes = np.arange(-math.ceil(draw(st.sampled_from([1, 4, 25])) / scale), 1)
    codes = codes[(codes * scale) / scale == codes]
    x_q = rng.choice(codes, (1, 4, draw(st.sampled_from([1, 2, 17, 64]))))
    x_q[:, 0, 1:] = codes[0]  # close to a one-hot row
    _, _, q_c = ibert.exp_constants(Fraction(scale))
    return x_q, scale, nearest(q_c * 2**15 * draw(st.one_of(st.just(1.0), st.floats(0.6, 4))))


def int_softmax(x_q: Int64, scale: float, activation_scale: float) -> Int64:
    module = quant_modules.IntSoftmax(8, quant_mode=True).double().eval()
    module.act.x_max = tensor([32767 * activation_scale])
    module.act.x_min = -module.act.x_max
    probs, probs_scale = module(tensor(x_q * scale), tensor([scale]))
    return integers(probs / probs_scale)


def softmax(x_q: Int64, scale: float, activation_scale: float) -> Int64:
    return ibert.softmax(x_q, scale=Fraction(scale), ratio=Dyadic.from_real(2.0**30 / activation_scale))


def softmax_by_any_scale(x_q: Int64, scale: float, activation_scale: float) -> Int64:
    """The quotient exp / (scale of exp) that the module forms has 80 bits: here it is a rational."""
    polynomial, z = ibert.exp(x_q - x_q.max(axis=-1, keepdims=True), scale=Fraction(scale))
    exp_scale = 0.35815147 * scale**2 / 2**30
    mantissa, exponent = math.frexp(exp_scale / activation_scale)
    ratio = Fraction(math.floor(mantissa * 2**31 + 0.5), 2**31) * Fraction(2) ** exponent / Fraction(exp_scale)
    e = [min(round(ratio * p * 2 ** (30 - n)), 32767) for p, n in zip(polynomial.flat, z.flat, strict=True)]
    return ibert.normalise(np.array(e, np.int64).reshape(x_q.shape))


def softmax_variant(
    x_q: Int64,
    scale: float,
    activation_scale: float,
    *,
    reduction: Callable[[float], int] = math.ceil,
    paper: bool = False,
    rounding: Rounding = HALF_EVEN,
    divided: bool = False,
) -> Int64:
    """Released rules but one: ln2 / S rounded otherwise, the paper's polynomial, another rounding, one division."""
    ln2 = reduction(0.6931 / scale)
    d = np.maximum(x_q - x_q.max(axis=-1, keepdims=True), -30 * ln2)
    z, r = -d // ln2, -(-d % ln2)
    a, b, c = (0.3585, 1.353 / scale, 0.344 / 0.3585) if paper else (0.35815147, 0.96963238 / 0.35815147 / scale, 0)
    if paper:
        polynomial = (r + math.floor(b)) ** 2 + math.floor(c / scale**2)
    else:
        polynomial = (r + math.floor(b)) * r + math.floor(1 / a / scale**2)
    ratio = Dyadic.from_real(2.0**30 / activation_scale)
    shift = np.minimum(ratio.shift + z, 62)
    e = saturate(rounding_right_shift(polynomial * ratio.multiplier, shift, rounding), INT16).astype(np.int64)
    return e * 256 // e.sum(axis=-1, keepdims=True) if divided else ibert.normalise(e)


SOFTMAX_NEIGHBOURS: Final = {
    "ln 2 / S floored": partial(softmax_variant, reduction=lambda x: max(math.floor(x), 1)),
    "the paper's polynomial": partial(softmax_variant, paper=True),
    "exp floored to 16 bits": partial(softmax_variant, rounding=FLOOR),
    "one division per element": partial(softmax_variant, divided=True),
}


# GELU


@st.composite
def gelu_operands(draw: st.DrawFn) -> tuple[Int64, float]:
    scale = draw(scales(2**-16, 0.25))
    rng = draw(generators())
    bound = math.ceil(8 / scale)
    edge = [0, 1, -1, bound, -bound, *(s * (math.floor(1.769 * 1.4142 / scale) + i) for s in (1, -1) for i in range(3))]
    return np.concatenate([edge, rng.integers(-bound, bound, 200)]), scale


def int_gelu(x_q: Int64, scale: float) -> Int64:
    y, y_scale = quant_modules.IntGELU()(tensor(x_q * scale), tensor([scale]))
    return integers(y / y_scale)


def gelu(x_q: Int64, scale: float) -> Int64:
    return ibert.gelu(x_q, scale=Fraction(scale))


def gelu_variant(
    x_q: Int64,
    scale: float,
    *,
    sqrt2: float = 1.4142,
    constant: Callable[[float], int] = math.floor,
    rounding: Rounding = FLOOR,
) -> Int64:
    inner = scale / sqrt2
    q_b, q_c = constant(-1.769 / inner), constant(1 / -0.2888 / inner**2)
    q_1 = constant(1 / (-0.2888 * inner**2 * 2**14))
    parabola = np.sign(x_q) * ((np.minimum(np.abs(x_q), -q_b) + q_b) ** 2 + q_c)
    return x_q * (rounding_right_shift(parabola, 14, rounding) + q_1)


# LayerNorm


@st.composite
def layer_norm_operands(draw: st.DrawFn) -> tuple[Int64, Int64, float, int]:
    rng = draw(generators())
    channels, bits = draw(st.sampled_from([2, 8, 60, 128])), draw(st.integers(3, 21))
    x_q = rng.integers(-(2**bits), 2**bits, (1, 4, channels))
    x_q[..., :2] = [-(2**bits), 2**bits]  # never a row of one value
    # v stays below 2**32, as training sees to, or at least far from 0
    shift = draw(st.integers(max(bits - 12, 0), max(bits - 3, 0)))
    return x_q, rng.integers(-(2**27), 2**27, channels), draw(scales(2**-12, 1)), shift


def int_layer_norm(x_q: Int64, bias: Int64, scale: float, shift: int) -> Int64:
    channels = x_q.shape[-1]
    module = quant_modules.IntLayerNorm(channels, 1e-5, 32, quant_mode=True).double().eval()
    weight = np.where(np.arange(channels) % 3 == 0, -0.5, 2.0)
    unit = nearest(np.sqrt(np.float32(channels))) / 2**30
    module.weight.data, module.bias.data = tensor(weight), tensor(bias * unit * weight)
    module.shift = tensor([shift])
    y, y_scale = module(tensor(x_q * scale), tensor([scale]))
    return integers(y / y_scale)


def layer_norm(x_q: Int64, bias: Int64, _: float, shift: int) -> Int64:
    return ibert.layer_norm(x_q, bias=bias, shift=shift)


def layer_norm_variant(
    x_q: Int64,
    bias: Int64,
    _: float,
    shift: int,
    *,
    mean: Rounding = HALF_EVEN,
    shifted: Rounding = FLOOR,
    root: Callable[[Int64], Int64] = isqrt,
    factor: Rounding = FLOOR,
    half: Rounding = FLOOR,
) -> Int64:
    y = x_q - rounding_divide(x_q.sum(axis=-1, keepdims=True), np.array(x_q.shape[-1]), mean)
    std = root((rounding_right_shift(y, shift, shifted) ** 2).sum(axis=-1, keepdims=True)) << shift
    return rounding_right_shift(y * rounding_divide(np.int64(2**31), std, factor), 1, half) + bias


WITNESSES: Final[list[Witness]] = [
    Witness(
        operator="softmax",
        kernel="I-BERT IntSoftmax, float64",
        package="transformers",
        rule="kernels.ibert.softmax",
        operands=softmax_operands(dyadic=True),
        device=int_softmax,
        golden=softmax,
        neighbours=SOFTMAX_NEIGHBOURS,
        note="in float64, input scales 0.41774 / 2**k, which make the scale of exp a power of two: everything the "
        "module forms then has at most 53 bits",
    ),
    Witness(
        operator="softmax",
        kernel="I-BERT IntSoftmax, float64, any scale",
        package="transformers",
        rule="kernels.ibert.exp, an exact 16-bit quotient, kernels.ibert.normalise",
        operands=softmax_operands(dyadic=False),
        device=int_softmax,
        golden=softmax_by_any_scale,
        neighbours=SOFTMAX_NEIGHBOURS,
        note="in float64, float32 scales; exp over its own scale takes 80 bits and is rounded to 53, which shows only "
        "within 2**-36 of a tie",
    ),
    Witness(
        operator="gelu",
        kernel="I-BERT IntGELU, float64",
        package="transformers",
        rule="kernels.ibert.gelu",
        operands=gelu_operands(),
        device=int_gelu,
        golden=gelu,
        neighbours={
            "the square root of 2": partial(gelu_variant, sqrt2=math.sqrt(2)),
            "constants truncated": partial(gelu_variant, constant=math.trunc),
            "erf truncated": partial(gelu_variant, rounding=Rounding.TOWARD_ZERO),
            "erf rounded": partial(gelu_variant, rounding=Rounding.HALF_UP),
        },
        note="in float64, codes of a float32 scale, |x| < 8: products below 2**52",
    ),
    Witness(
        operator="layer_norm",
        kernel="I-BERT IntLayerNorm, float64",
        package="transformers",
        rule="kernels.ibert.layer_norm",
        operands=layer_norm_operands(),
        device=int_layer_norm,
        golden=layer_norm,
        neighbours={
            "mean half away": partial(layer_norm_variant, mean=Rounding.HALF_AWAY),
            "mean floored": partial(layer_norm_variant, mean=FLOOR),
            "shift toward zero": partial(layer_norm_variant, shifted=Rounding.TOWARD_ZERO),
            "square root rounded": partial(layer_norm_variant, root=lambda v: isqrt(4 * v) + 1 >> 1),
            "reciprocal rounded": partial(layer_norm_variant, factor=Rounding.HALF_UP),
            "half rounded": partial(layer_norm_variant, half=Rounding.HALF_EVEN),
        },
        note="in float64, codes of a float32 scale, sums of squares below 2**52",
    ),
]

NOT_CLAIMED: Final = [
    (
        "softmax",
        "I-BERT IntSoftmax, float32",
        "transformers",
        "a one-hot row gives 256, not 255: 32767 * (2**32 // 32767) rounds to 2**32 in 24 bits",
    ),
    (
        "gelu",
        "I-BERT IntGELU, float32",
        "transformers",
        "x / scale is not rounded: at 0.01, 32 of 256 int8 codes become no integers; at 2e-4 the square of b is lost",
    ),
    (
        "layer_norm",
        "I-BERT IntLayerNorm, float32",
        "transformers",
        "floor(sqrt(v)) gives k for v = k**2 - 1 from k = 4097 on",
    ),
]
