# SPDX-License-Identifier: Apache-2.0
"""Test vectors: their text, their bytes, their cases, what verify says, and the other formats."""

import hashlib
import io
import re
import shutil
import struct
import subprocess
from fractions import Fraction
from itertools import chain, islice
from typing import Final

import numpy as np
import oracle
import pytest
from click.testing import CliRunner
from edges import both_presets, edge_integers
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import IntsimError
from intsim.io.safetensors_file import read
from intsim.profile import IBERT, INTSIM, NATIVE
from intsim.verify.mutants import CONTROL, EQUIVALENT, kill_matrix, mutants
from intsim.verify.vectors import OPERATORS, Field, Mismatch, Verdict, bind, generate, minimum, verify
from intsim.verify.vectors.cases import SCALAR, UNARY, edge_table
from intsim.verify.vectors.cli import vectors
from intsim.verify.vectors.draw import Draw
from intsim.verify.vectors.operators import parse_size
from intsim.verify.vectors.text import format_lines, parse_lines

every_operator = pytest.mark.parametrize("name", OPERATORS)
SIZES: Final = {"softmax": ["1", "2", "7", "33"], "layer_norm": ["1", "2", "5", "48"], "matmul": ["1x1x1", "3x2x5"]}

# SHA-256 of the text of seed 1, first 16 digits. These never change: users keep the files.
GOLDEN: Final = {
    ("requantize", "intsim", 1): "689ff698fb85e0b5",
    ("requantize", "intsim", 2): "6ce1004de6ca0290",
    ("requantize", "ibert", 1): "004754be7291700d",
    ("requantize", "ibert", 2): "f0e0561197571b77",
    ("add", "intsim", 1): "562242d6bce903a7",
    ("add", "intsim", 2): "c4e286017775ae69",
    ("add", "ibert", 1): "48a380e1c3067a42",
    ("add", "ibert", 2): "294e267e745e4357",
    ("exp", "intsim", 1): "9cf5d555e317de03",
    ("exp", "intsim", 2): "685c488eaba79c40",
    ("exp", "ibert", 1): "a864f7cb75dc06cd",
    ("exp", "ibert", 2): "c5ed885840c73d5d",
    ("softmax", "intsim", 1): "6c705f02cd44bdbc",
    ("softmax", "intsim", 2): "e9b0d1e8d61f20fc",
    ("softmax", "ibert", 1): "92a84b67d9727a58",
    ("softmax", "ibert", 2): "958c08ac57e0af6c",
    ("gelu", "intsim", 1): "cc506d3d76c900c3",
    ("gelu", "intsim", 2): "6794adfb3b6e2b41",
    ("gelu", "ibert", 1): "397bf3514dfa0dbe",
    ("gelu", "ibert", 2): "ad42c6839a7f188a",
    ("tanh", "intsim", 1): "63a659e8b8b41eb7",
    ("tanh", "intsim", 2): "240998c976e0b088",
    ("tanh", "ibert", 1): "9cbc9fff5e9c5ac2",
    ("tanh", "ibert", 2): "006d13b396617e18",
    ("sigmoid", "intsim", 1): "0a2fce008eb9c2fe",
    ("sigmoid", "intsim", 2): "cfbb0fec04084b7e",
    ("sigmoid", "ibert", 1): "0a07051c417a9f4a",
    ("sigmoid", "ibert", 2): "48b7d6631dd9d3df",
    ("isqrt", "intsim", 1): "eeb61e0e8f30fef3",
    ("isqrt", "intsim", 2): "bc173cbef586ff9b",
    ("isqrt", "ibert", 1): "0841a9eb8497a492",
    ("isqrt", "ibert", 2): "a3b8e9a9a4881a6b",
    ("layer_norm", "intsim", 1): "c0078b1963395e10",
    ("layer_norm", "intsim", 2): "95d828955068fb0f",
    ("layer_norm", "ibert", 1): "a76ec1daa4ccb385",
    ("layer_norm", "ibert", 2): "b7a5101fbb30c900",
    ("matmul", "intsim", 1): "93672a019ac57f38",
    ("matmul", "intsim", 2): "9055f9f6f1d530a4",
    ("matmul", "ibert", 1): "c2e7c025b5c436ef",
    ("matmul", "ibert", 2): "da3077dc262c6204",
    ("quantize", "intsim", 1): "3f654099f4a5b349",
    ("quantize", "intsim", 2): "3474b5b8af3f7702",
    ("quantize", "ibert", 1): "ad08dd5728098266",
    ("quantize", "ibert", 2): "3e0cecdcdb0fb5cc",
}


def call(*arguments, data=b""):
    """Run ``intsim vectors`` as its main does: exit status, bytes of stdout, text of stderr."""
    result = CliRunner().invoke(vectors, [str(argument) for argument in arguments], input=data)
    if isinstance(result.exception, IntsimError):
        return 3, result.stdout_bytes, f"intsim: {result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout_bytes, result.stderr


def generated(*arguments):
    status, out, err = call("gen", *arguments)
    assert status == 0, err
    return out


def split(text):
    """Return the header lines and the case lines of a file of vectors."""
    lines = text.splitlines(keepends=True)
    header = [line for line in lines if line.startswith(b"#")]
    assert lines[: len(header)] == header
    return header, lines[len(header) :]


def sample(name, profile, *, size=None, level=1, every=1):
    """Return an operator and an even sample of its cases, the random ones included."""
    operator = bind(name, profile, size)
    cases = np.concatenate(list(generate(operator, seed=1, level=level, cases=minimum(operator, level))))
    return operator, cases[::every]


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
            return [oracle.requantize(acc, m, t, zero_point=zero_point, **int8, rounding=profile.rounding)]
        case "add":
            acc, residual, m, n, *shifts, zero_point = scalars
            once = profile.sum == "once"
            dyadics = [(m, shifts[0]), (n, shifts[-1])]
            return [
                oracle.add(
                    [acc, residual], dyadics, zero_point=zero_point, **int16, rounding=profile.rounding, once=once
                )
            ]
        case "exp" | "gelu" | "tanh" | "sigmoid":
            return [getattr(oracle, operator.name)(scalars[0], numbers)]
        case "isqrt":
            return [oracle.isqrt(scalars[0])]
        case "softmax":
            acc, mask, (m,), (t,) = values
            return oracle.softmax(acc, m, t, [bool(bit) for bit in mask], numbers)
        case "layer_norm":
            x, multiplier, bias, (shift,), (eps,) = values
            return oracle.layer_norm(x, multiplier, bias, shift, eps, -128, 127, numbers)
        case "matmul":
            _, _, depth = operator.size
            x, w, bias = values
            x_rows, w_rows = ([row[i : i + depth] for i in range(0, len(row), depth)] for row in (x, w))
            return [acc for row in oracle.matmul(x_rows, w_rows, bias) for acc in row]
        case "quantize":
            x, scale = (Fraction(struct.unpack("<f", struct.pack("<I", bits))[0]) for bits in scalars[:2])
            return [oracle.quantize(x, scale, scalars[2], -128, 127)]
    raise AssertionError(operator.name)


def assert_as_the_oracle(operator, cases):
    for case, result in zip(cases.tolist(), operator.results(cases).tolist(), strict=True):
        assert result == expected(operator, case), case


@both_presets
@every_operator
def test_results_are_those_of_the_oracle(profile, name):
    assert_as_the_oracle(*sample(name, profile, every=1 if name in UNARY else 5))


@pytest.mark.slow
@both_presets
@every_operator
def test_results_of_level_2_are_those_of_the_oracle(profile, name):
    assert_as_the_oracle(*sample(name, profile, level=2, every=1 if name in UNARY else 37))


@both_presets
@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_results_of_other_sizes_are_those_of_the_oracle(profile, name, size):
    operator, cases = sample(name, profile, size=parse_size(size), every=23)
    assert operator.size == parse_size(size)
    assert_as_the_oracle(operator, cases)


# Bytes


def digest(name, profile, level):
    return hashlib.sha256(generated(name, "--profile", profile.name, "--level", level)).hexdigest()[:16]


@both_presets
@every_operator
def test_the_bytes_of_level_1_never_change(profile, name):
    assert digest(name, profile, 1) == GOLDEN[name, profile.name, 1]


@pytest.mark.slow
@both_presets
@every_operator
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


# Text

fields = st.builds(
    Field,
    name=st.sampled_from(["a", "b"]),
    bits=st.sampled_from([1, 6, 8, 16, 31, 32, 61, 62, 64]),
    count=st.integers(1, 5),
).map(lambda field: Field(name=field.name, bits=field.bits, signed=field.bits % 4 == 0, count=field.count))


def bounds(field):
    return (-(2 ** (field.bits - 1)), 2 ** (field.bits - 1) - 1) if field.signed else (0, 2**field.bits - 1)


@given(layout=st.lists(fields, min_size=2, max_size=5), data=st.data())
def test_text_round_trips(layout, data):
    row = st.tuples(*(edge_integers(*bounds(field)) for field in layout for _ in range(field.count)))
    cases = np.array(data.draw(st.lists(row, min_size=1, max_size=5)), np.int64)
    text = format_lines(layout, cases).tobytes()
    lines = text.splitlines(keepends=True)
    for line, case in zip(lines, cases.tolist(), strict=True):
        words = [
            f"{value & (1 << field.bits) - 1:0{field.digits}x}"
            for field, value in zip([field for field in layout for _ in range(field.count)], case, strict=True)
        ]
        assert line.decode() == " ".join(words) + "\n"
    operator = bind("isqrt", INTSIM)
    operator = type(operator)(
        name="test",
        profile=INTSIM,
        size=(),
        operands=tuple(layout[:-1]),
        result=layout[-1],
        evaluate=operator.evaluate,
        constants={},
    )
    operands, results, error = parse_lines(operator, range(len(lines)), lines)
    assert error is None
    assert np.array_equal(np.concatenate([operands, results], axis=1), cases)


@every_operator
def test_a_line_is_operands_then_the_result_in_fixed_width_lower_case_hex(name):
    header, lines = split(generated(name))
    operator = bind(name, INTSIM)
    digits = [field.digits for field in [*operator.operands, operator.result] for _ in range(field.count)]
    pattern = re.compile(" ".join(f"[0-9a-f]{{{count}}}" for count in digits).encode() + b"\n")
    assert all(pattern.fullmatch(line) for line in lines)
    only_header, only = split(generated(name, "--operands-only"))
    width = len(only[0]) - 1
    assert [line[:width] + b"\n" for line in lines] == only
    assert header[:-1] == only_header[:-1]  # the command differs


@every_operator
def test_the_header_says_what_is_needed_to_make_the_file_again(name):
    text = generated(name, "--profile", "ibert", "--seed", 7, "--level", 1)
    header = dict(line.decode()[2:].rstrip("\n").split(": ", 1) for line in split(text)[0])
    assert header["operator"] == name
    assert header["profile"] == f"ibert {IBERT.hash}"
    assert header["seed"] == "7"
    assert header["level"] == "1"
    assert header["command"].startswith("intsim vectors gen ")
    assert generated(*header["command"].split()[3:]) == text


# Judging


@both_presets
@every_operator
def test_what_gen_writes_verify_passes(profile, name):
    text = generated(name, "--profile", profile.name)
    status, out, err = call("verify", name, data=text)
    assert (status, out) == (0, b"")
    assert err == f"{name}: 0 of {len(split(text)[1])} cases differ; profile {profile.name} {profile.hash[:12]}\n"


@pytest.mark.slow
@both_presets
@every_operator
def test_what_gen_writes_at_level_2_verify_passes(profile, name):
    assert call("verify", name, data=generated(name, "--profile", profile.name, "--level", 2))[:2] == (0, b"")


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_a_size_is_read_from_the_header(name, size):
    text = generated(name, "--size", size)
    assert call("verify", name, data=text)[0] == 0
    assert call("verify", name, "--size", size, data=text)[0] == 0
    without = b"".join(split(text)[1])
    assert call("verify", name, "--size", size, data=without)[0] == 0
    status, _, err = call("verify", name, data=without)
    assert status == 3
    assert err.startswith("intsim: line 1: ")


@both_presets
def test_lines_without_a_header_are_judged_by_the_options(profile):
    lines = b"".join(split(generated("add", "--profile", profile.name))[1])
    assert call("verify", "add", "--profile", profile.name, data=lines)[0] == 0


def test_a_file_is_read_as_stdin_is(tmp_path):
    text = generated("exp")
    path = tmp_path / "exp.txt"
    path.write_bytes(text)
    assert call("verify", "exp", path)[0] == 0
    assert call("verify", "exp", "-", data=text)[0] == 0
    status, _, err = call("verify", "exp", tmp_path / "none")
    assert status == 3
    assert "must be a readable file" in err


def test_lines_of_windows_and_a_last_line_without_a_newline_are_read():
    text = generated("exp")
    assert call("verify", "exp", data=text.replace(b"\n", b"\r\n"))[0] == 0
    assert call("verify", "exp", data=text[:-1])[0] == 0
    assert call("verify", "exp", data=text[:-1] + b"\r\r\n")[0] == 0


def test_remarks_between_cases_are_passed_over_and_counted():
    header, lines = split(generated("exp"))
    lines[5:5] = [b"# the device was reset\n"]
    assert call("verify", "exp", data=b"".join(header + lines))[0] == 0
    lines[9] = lines[9][:-2] + (b"1" if lines[9][-2:-1] == b"0" else b"0") + b"\n"
    status, out, _ = call("verify", "exp", data=b"".join(header + lines))
    assert status == 1
    assert out.decode().endswith(f"line: {len(header) + 10}\n")


@pytest.fixture(scope="module")
def texts():
    return {(name, profile): generated(name, "--profile", profile) for name in OPERATORS for profile in NATIVE}


@given(name=st.sampled_from(list(OPERATORS)), profile=st.sampled_from(list(NATIVE)), data=st.data())
def test_any_flipped_bit_of_a_result_is_reported_at_its_line(texts, name, profile, data):
    header, lines = split(texts[name, profile])
    header = [line for line in header if not line.startswith(b"# cases")]
    start = data.draw(st.integers(0, len(lines) - 1))
    lines = lines[start : start + 20]
    index = data.draw(st.integers(0, len(lines) - 1))
    operator = bind(name, NATIVE[profile])
    field = operator.result
    word = data.draw(st.integers(0, field.count - 1))
    bit = data.draw(st.integers(0, 4 * field.digits - 1))
    words = lines[index].decode().split()
    position = operator.words + word
    right = words[position]
    words[position] = f"{int(right, 16) ^ 1 << bit:0{field.digits}x}"
    wrong = [*lines[:index], (" ".join(words) + "\n").encode(), *lines[index + 1 :]]
    *mismatches, verdict = verify(io.BytesIO(b"".join(header + wrong)), name)
    assert isinstance(verdict, Verdict)
    assert (verdict.cases, verdict.mismatches) == (len(lines), 1)
    (mismatch,) = mismatches
    assert isinstance(mismatch, Mismatch)
    assert mismatch.line == len(header) + index + 1
    assert (np.flatnonzero(mismatch.observed != mismatch.expected)).tolist() == [word]
    assert abs(mismatch.observed - mismatch.expected)[word] == 1 << bit
    observed, answer = " ".join(words[operator.words :]), lines[index].decode().split()[operator.words :]
    head = f"{' '.join(words[: operator.words])}  => {observed}  expected: {' '.join(answer)}  difference: "
    assert str(mismatch).startswith(head)


def test_a_mismatch_shows_the_signed_difference():
    status, out, err = call("verify", "requantize", data=b"00000006 00000001 01 00 7f\n0000000a 00000001 01 00 84\n")
    assert status == 1
    assert out.decode().splitlines() == [
        "00000006 00000001 01 00  => 7f  expected: 03  difference: +124 LSB  line: 1",
        "0000000a 00000001 01 00  => 84  expected: 05  difference: -129 LSB  line: 2",
    ]
    assert err.startswith("requantize: 2 of 2 cases differ;")


def test_a_mismatch_of_a_row_names_its_lanes():
    row = b"00000000 00000000 1 1 00000001 00 81 7f\n"
    status, out, _ = call("verify", "softmax", "--size", "2", data=row)
    assert status == 1
    assert out.decode().endswith("=> 81 7f  expected: 80 80  difference: [0] +1, [1] -1 LSB  line: 1\n")


@pytest.mark.parametrize(("errors", "shown"), [([], 20), (["--errors", 3], 3), (["--errors", 0], 50)])
def test_mismatches_are_capped_but_all_are_counted(errors, shown):
    data = b"".join(b"%08x 00000001 00 00 7f\n" % k for k in range(50))
    status, out, err = call("verify", "requantize", *errors, data=data)
    assert status == 1
    assert out.count(b"\n") == shown
    assert err.startswith("requantize: 50 of 50 cases differ")
    assert (f"({shown} shown)" in err) == (shown < 50)


GOOD: Final = b"00000006 00000001 01 00 03\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            b"00000006 00000001 01 00",
            "a case of requantize must have 5 words (acc multiplier shift zero_point y), got 4",
        ),
        (b"00000006 00000001 01 00", "the result is missing"),
        (b"00000006 00000001 01 00 03 00", "must have 5 words"),
        (b"", "must have 5 words"),
        (b"00000006  00000001 01 00 03", "must have 5 words"),
        (b" 00000006 00000001 01 00 03", "must have 5 words"),
        (b"00000006 00000001 01 00 03 ", "must have 5 words"),
        (b"00000006\t00000001 01 00 03", "must have 5 words"),
        (b"0000000A 00000001 01 00 05", "acc must be 8 lower-case hex digits, got '0000000A'"),
        (b"0000000g 00000001 01 00 05", "acc must be 8 lower-case hex digits"),
        (b"-0000006 00000001 01 00 05", "acc must be 8 lower-case hex digits"),
        (b"6 00000001 01 00 03", "acc must be 8 lower-case hex digits, got '6'"),
        (b"00000006 00000001 1 000 03", "shift must be 2 lower-case hex digits, got '1'"),
        (b"00000006 00000001 01 00 x3", "y must be 2 lower-case hex digits"),
        (b"00000006 00000001 01 00 \xff3", "y must be 2 lower-case hex digits"),
        (b"00000006 00000001 40 00 03", "shift must fit 6 bits, got '40'"),
        (b"00000006 00000001 3f 00 03", "shift must be in [0, 62], got [63, 63]"),
        (b"00000006 80000000 01 00 03", "multiplier must be below 2**31 in magnitude"),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 7])
def test_a_malformed_line_is_named(line, complaint, before):
    data = b"# operator: requantize\n" + GOOD * before + line + b"\n" + GOOD * 3
    status, out, err = call("verify", "requantize", data=data)
    assert (status, out) == (3, b"")
    assert err.startswith(f"intsim: line {before + 2}: ")
    assert complaint in err
    assert "\n" not in err.rstrip("\n")


def test_mismatches_before_a_malformed_line_are_shown():
    bad = b"00000006 00000001 01 00 04\n"
    for broken in (b"00000006\n", b"00000006 00000001 3f 00 03\n"):
        status, out, err = call("verify", "requantize", data=GOOD + bad + broken + bad)
        assert status == 3
        assert out.count(b"\n") == 1
        assert err.startswith("intsim: line 3: ")


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        ("exp", "0001 00000000", "x_q must be at most 0"),
        ("isqrt", "4000000000000000 00000000", "n must fit 62 bits"),
        ("quantize", "7fc00000 3f800000 00 00", "x must be finite"),
        ("quantize", "7f800000 3f800000 00 00", "x must be finite"),
        ("quantize", "3f800000 00000000 00 00", "scale must be finite and at least"),
        ("quantize", "3f800000 bf800000 00 00", "scale must be finite and at least"),
        ("layer_norm", "0000 00000001 0000000000000000 00 0000000000000000 00", "eps must be in [1, 2**61)"),
        ("layer_norm", "0000 00000001 8000000000000000 00 0000000000000001 00", "must stay below 2**63"),
        ("softmax", "80000000 7fffffff 1 1 7fffffff 3e 00 00", "must stay below 2**63"),
        ("softmax", "00000000 00000001 1 1 ffffffff 00 00 00", "must"),
        ("matmul", "00 00 7fffffff 00000000", "bias must be at most"),
    ],
)
def test_operands_outside_an_operators_domain_are_named(name, line, complaint):
    size = {"layer_norm": ["--size", 1], "softmax": ["--size", 2], "matmul": ["--size", "1x1x1"]}.get(name, [])
    good = b"".join(split(generated(name, *size))[1][:5])
    status, out, err = call("verify", name, *size, data=good + line.encode() + b"\n" + good)
    assert (status, out) == (3, b"")
    assert err.startswith("intsim: line 6: ")
    assert complaint in err


def replaced(key, value, name="softmax"):
    header, lines = split(generated(name))
    number, found = next((k, line) for k, line in enumerate(header) if line.startswith(f"# {key}: ".encode()))
    header[number] = f"# {key}: {value}\n".encode()
    assert header[number] != found
    return number + 1, b"".join(header + lines)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("operator", "gelu", "operator of the vectors must be 'softmax', got 'gelu'"),
        ("profile", f"intsim {IBERT.hash}", "profile of the vectors must be 'intsim "),
        ("profile", "theirs 00", "profile must be one of intsim, ibert, ibert-code, ivit, ita, got 'theirs'"),
        ("intsim vectors", "2", "intsim vectors of the vectors must be '1', got '2'"),
        ("size", "17", "field of softmax must be 'operand acc int32[17]', got 'operand acc int32[16]'"),
        ("size", "x", "size must be positive numbers"),
        ("size", "0", "size must be positive numbers"),
        ("size", "4x4", "size of softmax must have 1 numbers"),
        ("size", "99999", "must multiply to at most"),
        ("operand", "acc int16[16]", "field of softmax must be 'operand acc int32[16]'"),
        ("result", "probs uint16[16]", "field of softmax must be 'result probs uint8[16]'"),
        ("cases", "many", "cases must be a number"),
    ],
)
def test_a_header_of_other_vectors_is_refused(key, value, complaint):
    number, data = replaced(key, value)
    status, out, err = call("verify", "softmax", data=data)
    assert (status, out) == (3, b"")
    assert complaint in err
    if complaint[:9] not in ("field of ", "size of s", "must mult"):
        assert err.startswith(f"intsim: line {number}: ")


def test_a_header_with_a_field_missing_is_refused():
    header, lines = split(generated("add"))
    result = next(line for line in header if line.startswith(b"# result"))
    header.remove(result)
    status, _, err = call("verify", "add", data=b"".join(header + lines))
    assert status == 3
    assert "fields of add must be 7, got 6 declared" in err


def test_options_that_contradict_the_header_are_refused():
    text = generated("softmax")
    assert "profile of the vectors must be" in call("verify", "softmax", "--profile", "ibert", data=text)[2]
    assert call("verify", "softmax", "--profile", "ibert", data=text)[0] == 3
    assert call("verify", "softmax", "--size", "8", data=text)[0] == 3
    assert call("verify", "tanh", data=text)[0] == 3


def test_vectors_that_end_early_or_are_empty_are_not_passed():
    header, lines = split(generated("gelu"))
    for part in (lines[:-1], lines + lines[:1]):
        status, _, err = call("verify", "gelu", data=b"".join(header + part))
        assert status == 3
        assert f"must have {len(lines)} cases as their header says, got {len(part)}" in err
    for nothing in (b"", b"# operator: gelu\n"):
        status, _, err = call("verify", "gelu", data=nothing)
        assert status == 3
        assert "nothing was verified" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["gen", "dequantize"],
        ["gen", "exp", "--profile", "theirs"],
        ["gen", "exp", "--level", "3"],
        ["gen", "exp", "-n", "0"],
        ["gen", "exp", "--size", "4"],
        ["gen", "softmax", "--size", "4x4"],
        ["gen", "softmax", "--size", "many"],
        ["gen", "exp", "--format", "safetensors"],
        ["gen", "exp", "--format", "memh", "--word-bits", "7"],
        ["verify", "dequantize"],
        ["verify", "exp", "--errors", "-1"],
        ["verify", "exp", "--size", "4"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert call(*arguments)[0] == 2


# Formats


@pytest.fixture(params=[True, False], ids=["whole", "operands-only"])
def results(request):
    return request.param


def columns(name, *, results):
    """Return the integers of the text, one array per field, and the operator."""
    operator = bind(name, INTSIM)
    lines = [line.decode().split() for line in split(generated(name))[1]]
    arrays, start = {}, 0
    for field in [*operator.operands, *([operator.result] if results else [])]:
        words = [[int(word, 16) for word in line[start : start + field.count]] for line in lines]
        signs = 1 << field.bits - 1 if field.signed else 0
        arrays[field.name] = [[(word ^ signs) - signs for word in row] for row in words]
        start += field.count
    return operator, arrays


def options(*, results):
    return [] if results else ["--operands-only"]


def assert_equal_to_text(arrays, name, *, results):
    operator, expected_arrays = columns(name, results=results)
    sides = {field.name: "inputs" for field in operator.operands} | {operator.result.name: "outputs"}
    assert set(arrays) == {f"{sides[field]}.{field}" for field in expected_arrays}
    for field, values in expected_arrays.items():
        array = arrays[f"{sides[field]}.{field}"]
        assert array.dtype.kind in "iu"
        assert array.reshape(len(values), -1).tolist() == values


@every_operator
def test_npz_holds_what_the_text_holds(name, tmp_path, results):
    path = tmp_path / "vectors.npz"
    assert call("gen", name, "--format", "npz", "-o", path, *options(results=results))[:2] == (0, b"")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    header = arrays.pop("header")
    assert f"operator: {name}" in header.tolist()
    assert_equal_to_text(arrays, name, results=results)
    first = path.read_bytes()
    assert generated(name, "--format", "npz", *options(results=results)) == first


@every_operator
def test_safetensors_hold_what_the_text_holds(name, tmp_path, results):
    path = tmp_path / "vectors.safetensors"
    assert call("gen", name, "--format", "safetensors", "-o", path, *options(results=results))[:2] == (0, b"")
    arrays, metadata = read(path)
    assert f"operator: {name}" in metadata["vectors"]
    assert_equal_to_text(arrays, name, results=results)


def parameters(package):
    return {key: int(value) for key, value in re.findall(r"localparam (?:int|bit) (\w+) = (-?\d+);", package)}


def decoded(memory, package, field):
    """Read a field of every case from the memory as the package says, little-endian lanes."""
    number, name = parameters(package), field.name.upper()
    word_bits, lanes, lane_bits = number["WORD_BITS"], number[f"{name}_LANES"], number[f"{name}_LANE_BITS"]
    rows = []
    for case in range(number["CASES"]):
        start = case * number["CASE_WORDS"] + number[f"{name}_OFFSET"]
        words = memory[start : start + number[f"{name}_WORDS"]]
        whole = sum(word << word_bits * k for k, word in enumerate(words))
        values = [whole >> lane_bits * lane & (1 << lane_bits) - 1 for lane in range(lanes)]
        sign = 1 << lane_bits - 1 if number[f"{name}_SIGNED"] else 0
        rows.append([(value ^ sign) - sign for value in values])
    return rows


@pytest.mark.parametrize(
    ("name", "word_bits"),
    [*((name, 32) for name in OPERATORS), *((name, bits) for name in ("softmax", "isqrt") for bits in (8, 64, 256))],
)
def test_memh_holds_what_the_text_holds(name, word_bits, tmp_path, results):
    path = tmp_path / "vectors.memh"
    arguments = ["gen", name, "--format", "memh", "--word-bits", word_bits, *options(results=results)]
    assert call(*arguments, "-o", path)[:2] == (0, b"")
    package = (tmp_path / "vectors_pkg.sv").read_text()
    text = path.read_text()
    words = [word for line in text.splitlines() if not line.startswith("//") for word in line.split()]
    assert {len(word) for word in words} == {word_bits // 4}
    operator, arrays = columns(name, results=results)
    number = parameters(package)
    assert f"package intsim_{name}_pkg;" in package
    assert package.rstrip().endswith("endpackage")
    assert len(words) == number["CASES"] * number["CASE_WORDS"]
    memory = [int(word, 16) for word in words]
    for field in [*operator.operands, operator.result]:
        if field.name in arrays:
            assert decoded(memory, package, field) == arrays[field.name]
    assert generated(*arguments[1:]).decode() == text
    for key, value in operator.constants.items():
        if isinstance(value, int):
            assert number[key.upper()] == value


def test_lanes_are_packed_little_endian():
    rows = generated("matmul", "--format", "memh", "--size", "1x1x4").decode().splitlines()
    lines = split(generated("matmul", "--size", "1x1x4"))[1]
    for row, line in zip([row for row in rows if not row.startswith("//")], lines, strict=True):
        *lanes, bias, acc = line.decode().split()
        assert row.split() == ["".join(reversed(lanes[:4])), "".join(reversed(lanes[4:])), bias, acc]


def test_wide_lanes_have_their_low_word_first():
    rows = generated("isqrt", "--format", "memh").decode().splitlines()
    lines = split(generated("isqrt"))[1]
    for row, line in zip([row for row in rows if not row.startswith("//")], lines, strict=True):
        n, root = line.decode().split()
        assert row.split() == [n[8:], n[:8], root]


@every_operator
def test_a_c_header_compiles_and_holds_what_the_text_holds(name, tmp_path, results):
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    path = tmp_path / "vectors.h"
    assert call("gen", name, "--format", "c-header", "-o", path, *options(results=results))[:2] == (0, b"")
    operator, arrays = columns(name, results=results)
    loops = "".join(
        f"""
    {{ const unsigned count = sizeof intsim_{name}_{field} / INTSIM_{name.upper()}_CASES / sizeof *FIRST({field});
      for (unsigned k = 0; k < count; k++) printf("%lld ", (long long)FIRST({field})[i * count + k]); }}"""
        for field in arrays
    )
    first = {
        field.name: f"(&intsim_{name}_{field.name}[0]{'[0]' if field.count > 1 else ''})"
        for field in [*operator.operands, operator.result]
    }
    for field, address in first.items():
        loops = loops.replace(f"FIRST({field})", address)
    source = tmp_path / "main.c"
    source.write_text(
        f"""#include "vectors.h"
#include <stdio.h>
int main(void) {{
  for (unsigned i = 0; i < INTSIM_{name.upper()}_CASES; i++) {{{loops}
    putchar('\\n');
  }}
  return 0;
}}
"""
    )
    program = tmp_path / "program"
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
    subprocess.run([gcc, *warnings, str(source), "-o", str(program)], check=True)
    out = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    rows = [[int(word) for word in line.split()] for line in out.splitlines()]
    assert rows == [list(chain.from_iterable(row)) for row in zip(*arrays.values(), strict=True)]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for form in ("text", "npz", "memh", "safetensors"):
        status, _, err = call("gen", "exp", "--format", form, "-o", tmp_path / "file" / "below")
        assert status == 3
        assert "must be writable" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# What the vectors are worth


@both_presets
@every_operator
def test_level_1_kills_every_mutant_that_some_input_shows(profile, name):
    fates = list(kill_matrix(profile, 1, names=(name,)))
    assert len(fates) > 5
    assert [fate.mutant for fate in fates if not fate.caught and fate.equivalent is None] == []
    assert [fate.mutant for fate in fates if fate.caught and fate.equivalent is not None] == []
    assert (CONTROL, 0) in [(fate.mutant, fate.caught) for fate in fates]


@pytest.mark.slow
@both_presets
@every_operator
def test_level_2_kills_no_mutant_that_is_called_equivalent(profile, name):
    for fate in kill_matrix(profile, 2, names=(name,)):
        assert bool(fate.caught) == (fate.equivalent is None), fate.mutant


def test_every_equivalence_is_of_a_mutant_that_exists():
    for name, mutant, profile in EQUIVALENT:
        assert mutant in mutants(bind(name, NATIVE[profile]))


def test_the_kill_matrix_is_a_markdown_table():
    status, out, err = call("kill", "tanh")
    lines = out.decode().splitlines()
    assert (status, err) == (0, "")
    assert lines[0] == "| operator | bug | caught at | cases |"
    assert all(line.count("|") == 5 for line in lines)
    assert any(line.startswith("| tanh | one fraction bit too many | level 1 | ") for line in lines)
