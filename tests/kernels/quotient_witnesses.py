# SPDX-License-Identifier: Apache-2.0
"""The quantizers of Qualcomm's code and of DeepSpeed, as the torch expressions that they are."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st
from kernels.draws import bits, float32, generators, numbers
from kernels.torch_engine import Array

from intsim.fixedpoint import IntRange
from intsim.float32 import Float32, encode
from intsim.kernels import deepspeed, qualcomm
from intsim.quantizers import AffineParams, quantize
from intsim.verify.witness import Witness

EPS: Final = 1e-8

NOT_CLAIMED: Final = [
    (
        "quantize",
        "Qualcomm's and DeepSpeed's quantizers on a GPU",
        "torch",
        "a division by a Python number may be a product with its reciprocal there; not run",
    ),
]


@st.composite
def reals(draw: st.DrawFn, *, signs: bool = False) -> tuple[Any, ...]:
    """Draw (x, bits): numbers next to the ties of the steps that their own range leads to; a few of one sign."""
    rng, width = draw(generators()), draw(st.sampled_from([4, 8, 8]))
    scale = np.float32(np.ldexp(1 + rng.random(), int(rng.integers(-12, 4))))
    top = 2 ** (width - 1)
    x = numbers(rng, 200, scale, reach=top)
    x = np.clip(x, -scale * np.float32(top), scale * np.float32(top))
    if draw(st.booleans()) and signs:
        x = np.abs(x)
    ends = np.array([-x.min() if draw(st.booleans()) else x.max(), x.max()], np.float32)
    return near_own_ties(rng, np.concatenate([x, np.abs(ends) if signs else ends]), width), width


def near_own_ties(rng: Any, x: Array, width: int) -> Array:
    """Move half of x next to the ties of symmetric and asymmetric steps of its range, and within it."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    top = 2 ** (width - 1)
    steps = [max(-low, high) / (top - 1), max(-low, high) / top, (high - low) / (2 * top - 1), (high - low) / (2 * top)]
    steps += [max(-low, high) / (2 * top - 1)]
    halves = rng.integers(-top, 2 * top, x.size) + 0.5
    ties = (halves * rng.choice(steps, x.size)).astype(np.float32)
    ties = np.where(rng.random(x.size) < 0.6, np.nextafter(ties, rng.choice([-np.inf, np.inf], x.size)), ties)
    inside = (ties >= x.min()) & (ties <= x.max()) & (rng.random(x.size) < 0.6)
    inside[[x.argmin(), x.argmax()]] = False
    return np.where(inside, ties, x).astype(np.float32)


def shown(codes: Any, *reals: Any) -> Array:
    """Codes, then the bits of what they stand for."""
    parts = [np.asarray(codes, np.int64).ravel()]
    parts += [(encode(x) if isinstance(x, Float32) else bits(x)).astype(np.int64).ravel() for x in reals]
    return np.concatenate(parts)


# Qualcomm


def asymmetric_torch(x: Array, width: int) -> Array:
    t, q_max = torch.from_numpy(x), 2.0**width - 1
    low, high = torch.min(t.min(), torch.zeros(())), torch.max(t.max(), torch.ones(()) * EPS)
    delta = (high - low) / q_max
    zero_point = torch.clamp(torch.round(-low / delta), 0.0, q_max)
    scale = torch.clamp(delta, min=EPS)
    codes = torch.clamp(torch.round(t / scale) + zero_point, 0.0, q_max)
    return shown(np.append(codes.numpy(), zero_point), scale.numpy())


def asymmetric_golden(x: Array, width: int) -> Array:
    scale, zero_point = qualcomm.asymmetric(float32(x.min()), float32(x.max()), bits=width)
    codes = qualcomm.quantize(float32(x), scale, zero_point=zero_point, to=IntRange(width, signed=False))
    return shown(np.append(codes, zero_point), scale)


def symmetric_torch(x: Array, width: int) -> Array:
    t = torch.from_numpy(x)
    low, high = torch.min(t.min(), torch.zeros(())), torch.max(t.max(), torch.ones(()) * EPS)
    signed = bool(low < 0)
    q_min, q_max = (-(2.0 ** (width - 1)) if signed else 0), 2.0 ** (width - signed) - 1
    scale = torch.clamp(torch.max(low.abs(), high) / q_max, min=EPS)
    return shown(torch.clamp(torch.round(t / scale), q_min, q_max).numpy(), scale.numpy())


def symmetric_golden(x: Array, width: int) -> Array:
    scale, to = qualcomm.symmetric(float32(x.min()), float32(x.max()), bits=width)
    return shown(qualcomm.quantize(float32(x), scale, zero_point=0, to=to), scale)


def float64_quotients(golden: Callable[..., Array], *, signed: bool) -> Callable[..., Array]:
    """Return the rule with its quotients rounded to float64 instead: ``intsim.quantizers.quantize``."""

    def neighbour(x: Array, width: int) -> Array:
        found = golden(x, width)
        scale = real(found[-1])
        zero_point = 0 if signed else int(found[x.size])
        to = qualcomm.symmetric(float32(x.min()), float32(x.max()), bits=width)[1] if signed else None
        to = to or IntRange(width, signed=False)
        found[: x.size] = quantize(x, AffineParams(scale=scale, zero_point=np.array(zero_point), range=to))
        return found

    return neighbour


# DeepSpeed


def deepspeed_symmetric_torch(x: Array, width: int) -> Array:
    t, q_range = torch.from_numpy(x), 2**width
    scale = 2 * torch.amax(torch.abs(t)) / q_range
    return shown((t / scale).round().clamp(-q_range // 2, q_range // 2 - 1).numpy(), scale.numpy())


def deepspeed_symmetric_golden(x: Array, width: int) -> Array:
    return shown(*deepspeed.quantize_symmetric(float32(x), float32(np.abs(x).max()), bits=width))


def deepspeed_asymmetric_torch(x: Array, width: int) -> Array:
    t, q_range = torch.from_numpy(x), 2**width
    scale = (t.amax() - t.amin()) / q_range
    zero_point = (t.amin() / scale).round() * scale
    codes = ((t - zero_point) / scale).round().clamp(0, q_range - 1)
    return shown(codes.numpy(), scale.numpy(), zero_point.numpy())


def deepspeed_asymmetric_golden(x: Array, width: int) -> Array:
    return shown(*deepspeed.quantize_asymmetric(float32(x), float32(x.min()), float32(x.max()), bits=width))


def witness(kernel: str, rule: str, device: Any, golden: Any, near: Any, **drawn: Any) -> Witness:
    return Witness(
        operator="quantize",
        kernel=f"{kernel}, expressions in float32",
        package="torch",
        rule=f"kernels.{rule}",
        operands=reals(**drawn),
        device=device,
        golden=golden,
        neighbours=near,
        note="CPU",
    )


def deepspeed_symmetric_double(x: Array, width: int) -> Array:
    """The codes of float64 quotients by the same step."""
    found, top = deepspeed_symmetric_torch(x, width), 2 ** (width - 1)
    found[: x.size] = np.rint(x / real(found[-1])).clip(-top, top - 1)
    return found


def deepspeed_asymmetric_double(x: Array, width: int) -> Array:
    """The codes of float64 differences and quotients by the same step and zero."""
    found = deepspeed_asymmetric_torch(x, width)
    found[: x.size] = np.rint((x - real(found[-1])) / real(found[-2])).clip(0, 2**width - 1)
    return found


def real(word: Any) -> np.float64:
    return np.float64(np.array([word]).astype(np.uint32).view(np.float32)[0])


WITNESSES: Final = [
    witness(
        "Qualcomm's asymmetric quantizer",
        "qualcomm.asymmetric",
        asymmetric_torch,
        asymmetric_golden,
        {"quotients of float64": float64_quotients(asymmetric_golden, signed=False)},
    ),
    witness(
        "Qualcomm's symmetric quantizer",
        "qualcomm.symmetric",
        symmetric_torch,
        symmetric_golden,
        {"quotients of float64": float64_quotients(symmetric_golden, signed=True)},
        signs=True,
    ),
    witness(
        "DeepSpeed's SymQuantizer",
        "deepspeed.quantize_symmetric",
        deepspeed_symmetric_torch,
        deepspeed_symmetric_golden,
        {"quotients of float64": deepspeed_symmetric_double},
    ),
    witness(
        "DeepSpeed's AsymQuantizer",
        "deepspeed.quantize_asymmetric",
        deepspeed_asymmetric_torch,
        deepspeed_asymmetric_golden,
        {"quotients of float64": deepspeed_asymmetric_double},
    ),
]
