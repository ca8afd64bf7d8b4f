# SPDX-License-Identifier: Apache-2.0
"""What verify says of the answers of a device."""

import io

import numpy as np
import pytest
from edges import both_presets
from hypothesis import given
from hypothesis import strategies as st
from verify.vector_files import SIZES, call, every_operator, generated, split

from intsim.profile import NATIVE
from intsim.verify.vectors import OPERATORS, Mismatch, Verdict, bind, verify


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
    text = generated(name, "--size", size, "--level", 0)
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
    return {
        (name, profile): generated(name, "--profile", profile, "--level", 0) for name in OPERATORS for profile in NATIVE
    }


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
    assert mismatch.place == f"line: {len(header) + index + 1}"
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
