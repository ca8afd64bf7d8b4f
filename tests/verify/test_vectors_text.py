# SPDX-License-Identifier: Apache-2.0
"""The text of test vectors: what is written, and what is refused."""

import re
from typing import Final

import numpy as np
import pytest
from edges import edge_integers
from hypothesis import given
from hypothesis import strategies as st
from verify.vector_files import bounds, call, every_operator, fields, generated, split

from intsim.profile import IBERT, INTSIM, PROFILES
from intsim.verify.vectors import bind
from intsim.verify.vectors.text import format_lines, parse_lines


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
        formats=operator.formats,
        operands=tuple(layout[:-1]),
        result=layout[-1],
        evaluate=operator.evaluate,
        constants={},
    )
    for written in (lines, [line[:-1].upper().replace(b" ", b" \t") + b"  // read\r\n" for line in lines]):
        parsed = parse_lines(operator, range(len(lines)), written)
        assert parsed.error is None
        assert list(parsed.places) == list(range(len(lines)))
        assert not parsed.unknown.any()
        assert np.array_equal(np.concatenate([parsed.operands, parsed.observed], axis=1), cases)


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
        (b"0000000g 00000001 01 00 05", "acc must be 8 hex digits, got '0000000g'; the line is '0000000g 00000001"),
        (b"-0000006 00000001 01 00 05", "acc must be 8 hex digits"),
        (b"6 00000001 01 00 03", "acc must be 8 hex digits, got '6'"),
        (b"00000006 00000001 1 000 03", "shift must be 2 hex digits, got '1'"),
        (b"00000006 00000001 01 00 3", "y must be 2 hex digits"),
        (b"00000006 00000001 01 00 \xff3", "y must be 2 hex digits"),
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
        (
            "profile",
            "theirs 00",
            f"profile must be one of {', '.join(PROFILES)}, got 'theirs'",
        ),
        ("intsim vectors", "2", "intsim vectors of the vectors must be '1', got '2'"),
        ("size", "17", "field of softmax must be 'operand acc int32[17]', got 'operand acc int32[16]'"),
        ("size", "x", "size must be positive numbers"),
        ("size", "0", "size must be positive numbers"),
        ("size", "4x4", "size of softmax must have 1 numbers"),
        ("size", "99999", "size of softmax must make operands of at most 16384 words, got 99999"),
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
    if complaint[:9] not in ("field of ", "size of s", "size of soft"[:9]):
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
    for part, got in ((lines[:-1], len(lines) - 1), (lines + lines[:1], "more")):
        status, _, err = call("verify", "gelu", data=b"".join(header + part))
        assert status == 3
        assert f"must have {len(lines)} cases as their header says, got {got}" in err
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
