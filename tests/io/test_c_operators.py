# SPDX-License-Identifier: Apache-2.0
"""The C functions of operators one by one: every input where it has 16 bits, else edges, against the operators."""

import ctypes
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import edges
import numpy as np
import pytest
from c_programs import compiled
from numpy.typing import NDArray

from intsim import ops
from intsim.carrier.rowwise import eps_by_shift
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, IntRange
from intsim.io.c.program import SNIPPETS, array_text, functions
from intsim.io.c.rules import defines, profile_tables
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, PROFILES, Exp, LayerNorm, Profile, Silu
from intsim.rounded import RoundedTanh
from intsim.testing import assert_bit_exact

Integers = NDArray[Any]
FINER: Final = dataclasses.replace(
    INTSIM, name="finer", silu=dataclasses.replace(INTSIM.silu, input_fraction=13)
)  # than exp
TURNED: Final = [edges.CROSSED[25 * preset + 5 * i + (i + 1 + preset) % 5] for preset in range(2) for i in range(5)]
GELUS: Final = {"Gelu": "i_gelu", "CodeGelu": "ibert_gelu", "ShiftGelu": "shiftgelu", "ItaGelu": "ita_gelu"}
TRAPPED: Final = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")  # needs no library of the sanitizer
each_profile = pytest.mark.parametrize(
    "profile", [*PROFILES.values(), FINER, *TURNED], ids=lambda profile: profile.name
)


class CDyadic(ctypes.Structure):
    _fields_ = [("multiplier", ctypes.c_void_p), ("shift", ctypes.c_void_p), ("step", ctypes.c_int)]


class CFormat(ctypes.Structure):
    _fields_ = [
        ("low", ctypes.c_int32),
        ("high", ctypes.c_int32),
        ("zero_point", ctypes.c_void_p),
        ("step", ctypes.c_int),
    ]


class CNorm(ctypes.Structure):
    _fields_ = [
        ("multiplier", ctypes.c_void_p),
        ("shift", ctypes.c_int),
        ("bias", ctypes.c_void_p),
        ("eps", ctypes.c_void_p),
        ("least", ctypes.c_int),
        ("low", ctypes.c_int32),
        ("high", ctypes.c_int32),
    ]


def library(profile: Profile, folder: Path, *names: str) -> ctypes.CDLL:
    """Compile functions of a profile, each of which can be called."""
    defined, text = functions(set(names), {**defines(profile), "kept": "int32_t"})
    tables = "".join(array_text(name, table, "int32_t") for name, table in profile_tables(profile).items())
    given = "#include <stddef.h>\n#include <stdint.h>\n#define MODEL_LONGEST 64\n"
    (folder / "some.c").write_text(
        given + defined + "\n" + tables + "\n" + re.sub(r"^static (?=int|void)", "", text, flags=re.MULTILINE)
    )
    options = ("-O1", "-shared", "-fPIC", "-Wno-unused-const-variable", *TRAPPED)
    return ctypes.CDLL(str(compiled(folder / "some.c", folder / "some.so", *options)))


def at(values: Integers) -> ctypes.c_void_p:
    """Return where an array lies, which must live on."""
    assert values.flags.c_contiguous
    return values.ctypes.data_as(ctypes.c_void_p)


def int32(values: Any) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, np.int32)


def c_dyadic(ratio: Dyadic) -> tuple[CDyadic, list[Integers]]:
    """Return a ratio as C has it, and the arrays it points to."""
    arrays = [int32(ratio.multiplier), np.ascontiguousarray(ratio.shift, np.uint8)]
    return CDyadic(*(array.ctypes.data for array in arrays), int(ratio.multiplier.size > 1)), arrays


def c_format(to: IntRange, zero_point: Any) -> tuple[CFormat, Integers]:
    array = int32(np.atleast_1d(zero_point))
    return CFormat(to.min, to.max, array.ctypes.data, int(array.size > 1)), array


def over(function: Callable[..., Any], x: Integers, *constants: Any) -> NDArray[np.int32]:
    """Return what a function of (rows, columns) gives."""
    x, y = int32(x), np.empty(x.shape, np.int32)
    function(at(y), at(x), ctypes.c_int32(x.shape[0]), ctypes.c_int32(x.shape[1]), *constants)
    return y


@each_profile
def test_every_input_of_every_function_gives_the_operators_integer(tmp_path, profile):
    gelu = GELUS.get(type(profile.gelu).__name__)
    is_silu = isinstance(profile.silu, Silu)
    silu = "silu_finer" if profile.exp.input_fraction >= profile.silu.input_fraction else "silu_coarser"
    names = [*filter(None, [gelu, silu if is_silu else None]), "EXP", "SIGMOID", "tanh_exp", "relu", "tabulated"]
    made = library(profile, tmp_path, *names)
    x = np.arange(-(2**15), 2**15).astype(np.int16)
    macros = defines(profile)
    exp, negative = getattr(made, macros["EXP"]), x[: 2**15 + 1]
    assert_bit_exact(int32([exp(int(each)) for each in negative]), ops.exp(negative, profile=profile), name="exp")
    sigmoid = getattr(made, macros["SIGMOID"])
    found = int32([sigmoid(int(each)) for each in x])
    assert_bit_exact(found, ops.sigmoid(x, profile=profile).astype(np.int32), name="sigmoid")
    if gelu is not None:
        inputs = x[x == x.astype(profile.gelu.input_range.dtype)].astype(profile.gelu.input_range.dtype)
        rows = np.sort(inputs).reshape(2, -1)
        assert_bit_exact(over(getattr(made, gelu), rows), ops.gelu(rows, profile=profile), name="gelu")
    if is_silu:
        assert_bit_exact(over(getattr(made, silu), x[None]), ops.silu(x[None], profile=profile), name="silu")
    if not isinstance(profile.tanh, RoundedTanh):
        expected = ops.tanh(x[None], profile=profile).astype(np.int32)
        assert_bit_exact(over(made.tanh_exp, x[None]), expected, name="tanh")
    if not isinstance(profile.exp, Exp):
        entries = ops.silu(np.arange(2**16).astype(np.int16), profile=profile)
        found = over(made.tabulated, x[None], at(entries))
        assert_bit_exact(found, ops.silu(x[None], profile=profile), name="silu by table")
    assert_bit_exact(over(made.relu, x[None], ctypes.c_int32(-3)), np.maximum(x[None], -3).astype(np.int32))


def norm_rows(rng: np.random.Generator, bits: int, columns: int) -> Integers:
    """Return rows of every size up to the width, constant ones, and the ends."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    rows = [rng.integers(-(1 << k), 1 << k, columns).clip(low, high) for k in range(bits)]
    rows += [np.full(columns, value) for value in (0, 1, low, high)]
    rows += [np.where(np.arange(columns) % 2, low, high), np.arange(columns) - 1]
    return np.array(rows).astype(np.int16 if bits <= 16 else np.int32)


@pytest.mark.parametrize("profile", [INTSIM, IBERT, INTSIM_WIDE, *TURNED], ids=lambda profile: profile.name)
def test_norms_are_the_operators_of_rows_of_every_size(tmp_path, profile):
    assert isinstance(profile.layer_norm, LayerNorm)
    exact = profile.layer_norm.centring == "exact"
    name = "layer_norm" if exact else "layer_norm_rounded_mean"
    made, rng = library(profile, tmp_path, name, f"{name}_wide", "rms_norm"), np.random.default_rng(1)
    for columns in (1, 2, 7, 64):
        weight = Dyadic(rng.integers(-(2**30), 2**30, columns), np.full(columns, 38))
        for eps in (1, 1 << 20, 1 << 60):
            params = ops.LayerNormParams(weight=weight, bias=rng.integers(-(2**42), 2**42, columns), eps=eps)
            multiplier, bias = int32(weight.multiplier), np.ascontiguousarray(params.bias)
            for function, operator, bits, unit in (
                (name, ops.layer_norm, 16, None),
                (f"{name}_wide", ops.layer_norm, 32, columns**2),
                ("rms_norm", ops.rms_norm, 32, 1),
            ):
                least, table = (0, np.array([eps])) if unit is None else eps_by_shift(unit * eps, profile.step_rounding)
                places = multiplier.ctypes.data, 38, bias.ctypes.data, table.ctypes.data
                constants = CNorm(*places, least, INT8.min, INT8.max)
                x = norm_rows(rng, bits, columns)
                expected = operator(x, params, to=INT8, profile=profile).astype(np.int32)
                found = over(getattr(made, function), x, ctypes.byref(constants))
                assert_bit_exact(found, expected, name=f"{function} of {columns}, eps {eps}")


@pytest.mark.parametrize("profile", [*PROFILES.values(), *TURNED], ids=lambda profile: profile.name)
def test_softmax_is_the_operators_of_rows_of_every_length(tmp_path, profile):
    made, rng = library(profile, tmp_path, "SOFTMAX"), np.random.default_rng(2)
    softmax = getattr(made, defines(profile)["SOFTMAX"])
    for multiplier, shift in ((1, 0), (100, 6), (90, 9), (1 << 30, 36), (77_777_777, 40)):
        if multiplier >> profile.requantization.multiplier_bits:
            continue
        ratio, alive = c_dyadic(Dyadic(multiplier, shift))
        for columns in (1, 2, 17, 40, 64):
            for spread in (0, 3, 500, 1 << 14, 1 << 24):
                acc = int32(np.sort(rng.integers(-spread, spread + 1, columns)))  # maxima come late
                for first in (0, columns // 2, columns // 3):
                    mask = np.arange(columns) >= first
                    expected = ops.softmax(acc, Dyadic(multiplier, shift), profile=profile, mask=mask)
                    probs = np.zeros(columns, np.int32)
                    softmax(at(probs), at(acc), first, columns, ctypes.byref(ratio))
                    assert_bit_exact(probs, expected.astype(np.int32), name=f"{multiplier} / 2**{shift}, {spread}")
        del alive


@pytest.mark.parametrize("profile", [INTSIM, IBERT, *TURNED], ids=lambda profile: profile.name)
def test_what_is_done_element_by_element_is_the_operators(tmp_path, profile):
    names = "add", "add_each", "rescale", "multiply", "centre", "quantize_dynamic", "turned"
    made, rng = library(profile, tmp_path, *names), np.random.default_rng(3)
    rows, columns = 40, 6
    shape = ctypes.c_int32(rows), ctypes.c_int32(columns)
    a, b = (int32(rng.integers(-(2**15), 2**15, (rows, columns))) for _ in range(2))
    offsets, y = int32(rng.integers(-20, 20, columns)), np.empty((rows, columns), np.int32)
    made.centre(at(y), at(a), *shape, at(offsets), 1)
    assert_bit_exact(y, a - offsets)
    for shift in (0, 1, 14, 20, 33):
        ratio = Dyadic(1 << rng.integers(10, 20, columns), np.full(columns, shift))  # dense in ties
        one = Dyadic(1 << 13, shift)
        ratios, target = (CDyadic * 2)(), c_format(INT16, offsets)
        kept = [c_dyadic(ratio), c_dyadic(one)]
        ratios[0], ratios[1] = kept[0][0], kept[1][0]
        to = ctypes.byref(target[0])
        terms = (ctypes.c_void_p * 2)(a.ctypes.data, b.ctypes.data)
        for function, rule in (("add", "once"), ("add_each", "each")):
            summed = dataclasses.replace(profile, sum=rule)
            getattr(made, function)(at(y), *shape, 2, terms, ratios, to)
            both = [ratio, Dyadic(np.full(columns, 1 << 13), ratio.shift)]
            expected = ops.add([a, b], both, to=INT16, profile=summed, zero_point=offsets)
            assert_bit_exact(y, expected.astype(np.int32), name=function)
        addend = rng.integers(-(2**30), 2**30, columns)
        made.rescale(at(y), at(a), *shape, ratios, at(addend), to)
        how: dict[str, Any] = {"to": INT16, "rounding": profile.rounding}
        expected = ops.requantize(a, ratio, addend=addend, zero_point=offsets, **how)
        assert_bit_exact(y, expected.astype(np.int32), name="rescale")
        made.multiply(at(y), at(a), at(b), *shape, ratios, 5, -9, to)
        zero_points = {"a_zero_point": 5, "b_zero_point": -9, "zero_point": offsets}
        expected = ops.multiply(a.astype(np.int16), b.astype(np.int16), ratio, **zero_points, **how)
        assert_bit_exact(y, expected.astype(np.int32), name="multiply")
    for unit, zero_point in ((1, 0), (1, 7), (8, -3)):
        bound = np.ascontiguousarray(rng.integers(0, 2**12, (rows, 1)) * (rng.random((rows, 1)) > 0.2))
        made.quantize_dynamic(at(y), at(a), at(bound), 1, *shape, unit, zero_point, -127, 127)
        to8 = IntRange(8, narrow=True)
        expected = ops.quantize_dynamic(a, bound, unit=unit, to=to8, rounding=profile.rounding, zero_point=zero_point)
        assert_bit_exact(y, expected.astype(np.int32), name=f"quantize_dynamic {unit}")


def test_bounds_are_the_operators(tmp_path):
    names = "token_bound", "sequence_bound", "clipped_bound"
    made, rng = library(INTSIM, tmp_path, *names), np.random.default_rng(4)
    for rows in (1, 2, 3, 4, 5, 9, 64):
        for dtype, ends in ((np.int16, INT16), (np.int32, INT32)):
            x = rng.integers(ends.min, ends.max + 1, (rows, 5)).astype(dtype)
            x //= np.where(rng.random((rows, 1)) < 0.2, 1, 100).astype(dtype)  # few are far out
            for zero_point in (0, 11):
                for name, how in zip(
                    names, ({"per": "token"}, {"per": "sequence"}, {"per": "sequence", "clip": True}), strict=True
                ):
                    bound = np.empty(rows if name == "token_bound" else 1, np.int64)
                    getattr(made, name)(at(bound), at(int32(x)), rows, 5, zero_point)
                    expected: Any = ops.dynamic_bound(x, zero_point=zero_point, **how)
                    assert_bit_exact(bound, expected.ravel().astype(np.int64), name=f"{name} of {rows}")


def test_every_function_of_the_operators_has_a_comment_that_says_its_rule():
    assert all(text.startswith("/* ") for text in SNIPPETS.values())
