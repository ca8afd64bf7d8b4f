# SPDX-License-Identifier: Apache-2.0
"""The cases of test vectors: results of the oracle, and the same bytes forever."""

import hashlib
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Final

import numpy as np
import oracle
import pytest
from edges import both_presets, edge_integers
from hypothesis import given
from hypothesis import strategies as st
from verify.vector_files import SIZES, call, every_binding, every_operator, generated, sample, split

from intsim.errors import IntsimError
from intsim.profile import INTSIM, Softmax
from intsim.verify.vectors import bind, generate, minimum
from intsim.verify.vectors.cases import SCALAR, UNARY
from intsim.verify.vectors.cases.edges import edge_table
from intsim.verify.vectors.draw import Draw
from intsim.verify.vectors.operators import RANGES, parse_size

# SHA-256 of the cases of seed 1, first 16 digits. These never change: users keep the files.
GOLDEN: Final = {
    ("requantize", "intsim", 1): "7e84e8b3031773b0",
    ("requantize", "intsim", 2): "a7464b462811164e",
    ("requantize", "ibert", 1): "066c3c304ffb8d2f",
    ("requantize", "ibert", 2): "cfaaf9f08044c454",
    ("add", "intsim", 1): "dff1b117624513ce",
    ("add", "intsim", 2): "c2912856cb37bb1a",
    ("add", "ibert", 1): "d42fc6060f69cf4a",
    ("add", "ibert", 2): "09298c8628f8f22e",
    ("exp", "intsim", 1): "49c9b94e68356e23",
    ("exp", "intsim", 2): "2a113bf9c1fac562",
    ("exp", "ibert", 1): "c3dea0367c2e005a",
    ("exp", "ibert", 2): "d686fe7de2d1aeb6",
    ("softmax", "intsim", 1): "56337da194898be5",
    ("softmax", "intsim", 2): "51812710fef94a92",
    ("softmax", "ibert", 1): "b52943d778783e0c",
    ("softmax", "ibert", 2): "b089320811220e1f",
    ("gelu", "intsim", 1): "ba6faaf33b260145",
    ("gelu", "intsim", 2): "01810867b368bd5e",
    ("gelu", "ibert", 1): "53837e56e4bcac27",
    ("gelu", "ibert", 2): "d7f500fc840e0afd",
    ("tanh", "intsim", 1): "104bac774c1e6eff",
    ("tanh", "intsim", 2): "62149e6307b0b220",
    ("tanh", "ibert", 1): "63d08577d739cb08",
    ("tanh", "ibert", 2): "a4e2b35579e1a64d",
    ("sigmoid", "intsim", 1): "e8c6199d32248200",
    ("sigmoid", "intsim", 2): "02b13f4bc1d50c1a",
    ("sigmoid", "ibert", 1): "a636e86137e7f3b1",
    ("sigmoid", "ibert", 2): "ba7d3bb268a8e568",
    ("silu", "intsim", 1): "faad1b9aab939240",
    ("silu", "intsim", 2): "bc2af83c5318f5a3",
    ("silu", "ibert", 1): "fbd4f8d6de895086",
    ("silu", "ibert", 2): "307f71eb89c7fd32",
    ("gelu_tanh", "intsim", 1): "697e58e9f0e46115",
    ("gelu_tanh", "intsim", 2): "01810867b368bd5e",
    ("gelu_tanh", "ibert", 1): "2f1797cd9e54ac4d",
    ("gelu_tanh", "ibert", 2): "d7f500fc840e0afd",
    ("exp", "intsim-wide", 1): "9f85065bb886a7c6",
    ("exp", "intsim-wide", 2): "3dbc0aa844cb03cd",
    ("gelu", "intsim-wide", 1): "5275336642ea0824",
    ("gelu", "intsim-wide", 2): "e75bcf12f9bf9c27",
    ("gelu_tanh", "intsim-wide", 1): "40a01f04f841c64d",
    ("gelu_tanh", "intsim-wide", 2): "6e669d375741040f",
    ("tanh", "intsim-wide", 1): "ccea589613488510",
    ("tanh", "intsim-wide", 2): "ad273b5205278bf6",
    ("sigmoid", "intsim-wide", 1): "fac5717951a8c911",
    ("sigmoid", "intsim-wide", 2): "a91c0dbc6282a07a",
    ("silu", "intsim-wide", 1): "910c90174039b994",
    ("silu", "intsim-wide", 2): "540caf9ddf2ee07b",
    ("isqrt", "intsim", 1): "00aa35e13191cbc2",
    ("isqrt", "intsim", 2): "91e61f7b74620eff",
    ("isqrt", "ibert", 1): "be7ba8a92bf88b59",
    ("isqrt", "ibert", 2): "d212ab25ba432de3",
    ("layer_norm", "intsim", 1): "6b5f38cd4e20c916",
    ("layer_norm", "intsim", 2): "7449c541b50a6824",
    ("layer_norm", "ibert", 1): "b912a0790500d678",
    ("layer_norm", "ibert", 2): "bbd261fe8f3fba9c",
    ("rms_norm", "intsim", 1): "62cbcbdd25b3a814",
    ("rms_norm", "intsim", 2): "4e54f4a4d478fcbb",
    ("rms_norm", "ibert", 1): "cd6c522db82cfc0b",
    ("rms_norm", "ibert", 2): "cf101c90cd944059",
    ("l2_normalize", "intsim", 1): "26ecf6493f8f5fed",
    ("l2_normalize", "intsim", 2): "b4fdc92a822985bb",
    ("l2_normalize", "ibert", 1): "360988e9fa77c5a6",
    ("l2_normalize", "ibert", 2): "502e7b66824a6df3",
    ("rotary", "intsim", 1): "a96324e97b0d3f2e",
    ("rotary", "intsim", 2): "24b7739354e20782",
    ("rotary", "ibert", 1): "eb0bf6d9d93cc0f6",
    ("rotary", "ibert", 2): "29397f41f2b9febd",
    ("multiply", "intsim", 1): "3b604055b158548d",
    ("multiply", "intsim", 2): "756419e61a02bf5c",
    ("multiply", "ibert", 1): "bd65d411e6129895",
    ("multiply", "ibert", 2): "e324693c027d019d",
    ("matmul", "intsim", 1): "f15bdd2484e64602",
    ("matmul", "intsim", 2): "0dfc3560cc052575",
    ("matmul", "ibert", 1): "313a93269101fbee",
    ("matmul", "ibert", 2): "304131f272af14fd",
    ("linear", "intsim", 1): "c19b7e4ce4487cd6",
    ("linear", "intsim", 2): "a44d02a7cc3fe42a",
    ("linear", "ibert", 1): "7adbf1a3b562d766",
    ("linear", "ibert", 2): "e6c2210d4acf0570",
    ("linear_add_norm", "intsim", 1): "4ebe233d73cc1c18",
    ("linear_add_norm", "intsim", 2): "d919eb855c825ac4",
    ("linear_add_norm", "ibert", 1): "7abfd3908d36e5d3",
    ("linear_add_norm", "ibert", 2): "6e61e773f16db067",
    ("quantize", "intsim", 1): "465fb179f78ac9da",
    ("quantize", "intsim", 2): "27435cf0db639bbe",
    ("quantize", "ibert", 1): "80d27df2c34547de",
    ("quantize", "ibert", 2): "8cd6316f3ccd48af",
}


# The oracle


def expected(operator, case):
    """Return the result of one case as Python integers compute it."""
    profile, numbers = operator.profile, operator.profile.to_json()
    words = iter(case)
    values = [list(islice(words, field.count)) for field in operator.operands]
    scalars = [value[0] for value in values]
    int8, int16 = {"lo": -128, "hi": 127}, {"lo": -(2**15), "hi": 2**15 - 1}
    match operator.name:
        case "requantize":
            acc, m, t, zero_point = scalars
            rounding = profile.requantization.rounding
            return [oracle.requantize(acc, m, t, zero_point=zero_point, **int8, rounding=rounding)]
        case "add":
            acc, residual, m, n, *shifts, zero_point = scalars
            once = profile.sum == "once"
            dyadics = [(m, shifts[0]), (n, shifts[-1])]
            return [
                oracle.add(
                    [acc, residual], dyadics, zero_point=zero_point, **int16, rounding=profile.rounding, once=once
                )
            ]
        case "exp" | "gelu" | "gelu_tanh" | "tanh" | "sigmoid" | "silu":
            return [getattr(oracle, operator.name)(scalars[0], numbers)]
        case "isqrt":
            return [oracle.isqrt(scalars[0])]
        case "softmax":
            acc, mask, (m,), (t,) = values
            return oracle.softmax(acc, m, t, [bool(bit) for bit in mask], numbers)
        case "multiply":
            a, b, m, t, *zero_points = scalars
            names = ("a_zero_point", "b_zero_point", "zero_point")
            how = dict(zip(names, zero_points, strict=True))
            return [oracle.multiply(a, b, m, t, **how, **int16, mode=profile.rounding)]
        case "rotary":
            x, cos, sin, (neighbours,) = values
            pairing = "neighbours" if neighbours else "halves"
            return oracle.rotary(x, cos, sin, pairing=pairing, mode=profile.rounding)
        case "l2_normalize":
            return oracle.l2_normalize(values[0], numbers)
        case "layer_norm" | "rms_norm":
            x, multiplier, bias, (shift,), (eps,) = values
            return getattr(oracle, operator.name)(x, multiplier, bias, shift, eps, -128, 127, numbers)
        case "matmul":
            _, _, depth = operator.size
            x, w, bias = values
            x_rows, w_rows = ([row[i : i + depth] for i in range(0, len(row), depth)] for row in (x, w))
            return [acc for row in oracle.matmul(x_rows, w_rows, bias) for acc in row]
        case "linear":
            rows, columns, depth = operator.size
            x, w, bias, (x_zero_point,), m, t, (zero_point,) = values
            to = operator.formats.to
            x_rows, w_rows = ([row[i : i + depth] for i in range(0, len(row), depth)] for row in (x, w))
            acc = oracle.matmul([[code - x_zero_point for code in row] for row in x_rows], w_rows, bias)
            return [
                oracle.requantize(
                    acc[i][j],
                    m[j],
                    t[j],
                    zero_point=zero_point,
                    lo=to.min,
                    hi=to.max,
                    rounding=profile.requantization.rounding,
                )
                for i in range(rows)
                for j in range(columns)
            ]
        case "linear_add_norm":
            rows, columns, depth = operator.size
            x, w, bias, residual, m, (n,), *shifts, (zero,), gain, offset, (shift,), (eps,) = values
            x_rows, w_rows = ([row[i : i + depth] for i in range(0, len(row), depth)] for row in (x, w))
            acc, ((t,), (s,)) = oracle.matmul(x_rows, w_rows, bias), (shifts[0], shifts[-1])
            how = {"zero_point": zero, **int16, "rounding": profile.rounding, "once": profile.sum == "once"}
            sums = [
                [oracle.add([acc[i][j], residual[i * columns + j]], [(m[j], t), (n, s)], **how) for j in range(columns)]
                for i in range(rows)
            ]
            to = operator.formats.to
            of_norm = gain, offset, shift, eps, to.min, to.max, numbers
            return [code for row in sums for code in oracle.layer_norm(row, *of_norm)]
        case "quantize":
            x, scale = (Fraction(struct.unpack("<f", struct.pack("<I", bits))[0]) for bits in scalars[:2])
            return [oracle.quantize(x, scale, scalars[2], -128, 127)]
    raise AssertionError(operator.name)


def assert_as_the_oracle(operator, cases):
    for case, result in zip(cases.tolist(), operator.results(cases).tolist(), strict=True):
        assert result == expected(operator, case), case


@every_binding
def test_results_are_those_of_the_oracle(profile, name):
    assert_as_the_oracle(*sample(name, profile, every=3 if name in UNARY else 5))


@pytest.mark.slow
@every_binding
def test_results_of_level_2_are_those_of_the_oracle(profile, name):
    assert_as_the_oracle(*sample(name, profile, level=2, every=1 if name in UNARY else 37))


@both_presets
@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_results_of_other_sizes_are_those_of_the_oracle(profile, name, size):
    operator, cases = sample(name, profile, size=parse_size(size), every=23)
    assert operator.size == parse_size(size)
    assert_as_the_oracle(operator, cases)


@pytest.mark.parametrize("to", RANGES)
def test_results_of_other_ranges_are_those_of_the_oracle(to):
    operator = bind("linear", INTSIM, to=to, activations="uint8")
    cases = np.concatenate(list(generate(operator, seed=1, level=1, cases=minimum(operator, 1))))[::7]
    assert_as_the_oracle(operator, cases)


def test_probabilities_of_16_bits_are_those_of_the_oracle():
    fine = replace(INTSIM, name="fine", softmax=Softmax(one=65535))
    operator, cases = sample("softmax", fine, every=3)
    assert str(operator.result) == "probs uint16[16]"
    assert operator.results(cases).max() == 65535
    assert_as_the_oracle(operator, cases)


def test_more_pairs_than_channels_hold_are_refused():
    with pytest.raises(IntsimError, match="at least 2 channels for each pair, got 7x4"):
        bind("rotary", INTSIM, (7, 4))


# Bytes


def digest(name, profile, level):
    _, lines = split(generated(name, "--profile", profile.name, "--level", level))
    return hashlib.sha256(b"".join(lines)).hexdigest()[:16]


@every_binding
def test_the_bytes_of_level_1_never_change(profile, name):
    assert digest(name, profile, 1) == GOLDEN[name, profile.name, 1]


@pytest.mark.slow
@every_binding
def test_the_bytes_of_level_2_never_change(profile, name):
    assert digest(name, profile, 2) == GOLDEN[name, profile.name, 2]


@every_operator
def test_a_seed_changes_the_random_cases_and_nothing_else(name):
    one, other = (split(generated(name, "--seed", seed))[1] for seed in (1, 2))
    assert split(generated(name, "--seed", 1))[1] == one
    operator = bind(name, INTSIM)
    edges = minimum(operator, 1) - (1000 if name in UNARY else 4000 if name in SCALAR else 512)
    assert one[:edges] == other[:edges]
    assert one[edges:] != other[edges:]


@every_operator
def test_a_longer_file_begins_with_the_shorter_one(name):
    few = minimum(bind(name, INTSIM), 1)
    short, longer = split(generated(name))[1], split(generated(name, "-n", few + 5000))[1]
    assert len(short) == few
    assert len(longer) == few + 5000
    assert longer[:few] == short


def test_n_never_reduces_below_the_level():
    status, out, err = call("gen", "gelu", "-n", 3)
    assert status == 0
    assert out == generated("gelu")
    assert f"needs {minimum(bind('gelu', INTSIM), 1)} cases at least" in err


@pytest.mark.parametrize(("name", "inputs"), [("exp", 2**15 + 1), *((name, 2**16) for name in UNARY if name != "exp")])
def test_level_2_tries_every_input_of_a_unary_operator(name, inputs):
    operator, cases = sample(name, INTSIM, level=2)
    assert operator.words == 1
    assert len(cases) == len(np.unique(cases)) == inputs


def test_random_words_are_those_of_shake_256():
    words = np.frombuffer(hashlib.shake_256(b"key 1").digest(32), "<u8").tolist()
    draw = Draw("key")
    draw.integers(0, 1, 5)
    assert draw.integers(-100, 100, 4).tolist() == [word % 201 - 100 for word in words]


@given(low=edge_integers(-(2**62), 0), high=edge_integers(0, 2**62), seed=st.integers(0, 9))
def test_drawn_integers_stay_in_their_range(low, high, seed):
    draw = Draw(f"test {seed}")
    for values in (draw.integers(low, high, 50), draw.any_width(low, high, 50)):
        assert low <= values.min()
        assert values.max() <= high


def test_edge_tables_hold_walking_ones_and_zeros_and_the_bounds():
    table = set(edge_table(-(2**15), 2**15 - 1))
    for k in range(16):
        for bits in (1 << k, 0xFFFF ^ (1 << k), 0xFFFF << k & 0xFFFF, (1 << k) - 1):
            assert (bits ^ 0x8000) - 0x8000 in table
    assert {-(2**15), 2**15 - 1, 0, -1} <= table
