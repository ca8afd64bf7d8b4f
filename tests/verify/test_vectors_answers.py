# SPDX-License-Identifier: Apache-2.0
"""Judging whatever comes back: other files, answers alone, cases out of place, simulators that talk, X and Z."""

import io
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from verify.vector_files import call, generated, split

from intsim.cli.checking import diagnose
from intsim.errors import IntsimError
from intsim.profile import INTSIM, PROFILES
from intsim.verify.bugs import CONTROL, changes_of_operator
from intsim.verify.diagnose import diagnose_answers, diagnose_files
from intsim.verify.kill import EQUIVALENT
from intsim.verify.vectors import OPERATORS, bind, generate, judge, minimum, read_answers
from intsim.verify.vectors.operators import RANGES

FORMS = [("text", None), ("memh", 32), ("memh", 8), ("memh", 128), ("npz", None), ("npz", 32), ("safetensors", None)]
NAMES = ("requantize", "softmax", "isqrt", "quantize")  # lanes of 1, 6, 8, 32 and 62 bits
RIGHT = {name: generated(name) for name in NAMES}


def written(name, form, word_bits, path, *options):
    packing = [] if word_bits is None else ["--word-bits", word_bits]
    status, _, err = call("gen", name, "--format", form, *packing, "-o", path, *options)
    assert status == 0, err
    return path


def texts(name):
    """Return header and lines of a right file."""
    return split(RIGHT[name])


@pytest.mark.parametrize(("form", "word_bits"), FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_form_that_is_written_is_read(name, form, word_bits, tmp_path):
    path = written(name, form, word_bits, tmp_path / "file", "--level", 0)
    status, out, err = call("verify", name, path)
    assert (status, out) == (0, b""), err
    assert f"0 of {minimum(bind(name, INTSIM), 0)} cases differ" in err
    assert call("verify", name, data=path.read_bytes())[0] == 0
    assert diagnose_files(str(path), str(path)).mismatches == 0


@pytest.mark.parametrize(("form", "word_bits"), FORMS)
def test_what_is_judged_in_parts_is_what_is_judged_at_once(form, word_bits, tmp_path, monkeypatch):
    path = written("softmax", form, word_bits, tmp_path / "file", "--level", 0)
    whole = call("verify", "softmax", path)
    operator = bind("softmax", INTSIM)
    for size in (1, operator.line_bytes, 7 * operator.line_bytes):
        monkeypatch.setattr(judge, "BATCH_BYTES", size)
        assert call("verify", "softmax", path) == whole
        with path.open("rb") as file:
            assert read_answers(file).operands.shape == (minimum(operator, 0), operator.words)


@pytest.mark.parametrize("name", NAMES)
def test_answers_alone_are_judged_by_the_cases_of_the_seed(name, tmp_path):
    operator = bind(name, INTSIM)
    header, lines = texts(name)
    alone = [b" ".join(line.split()[operator.words :]) + b"\n" for line in lines]
    assert call("verify", name, data=b"".join(header + alone))[0] == 0
    assert call("verify", name, data=b"".join(alone))[0] == 0
    other = generated(name, "--seed", 2, "--level", 0)
    short = b"".join(b" ".join(line.split()[operator.words :]) + b"\n" for line in split(other)[1])
    assert call("verify", name, "--seed", 2, "--level", 0, data=short)[0] == 0
    assert "cases of seed 1 at least" in call("verify", name, data=short)[2]
    with np.load(written(name, "npz", None, tmp_path / "all.npz")) as arrays:
        result = arrays[f"outputs.{operator.result.name}"].astype(np.float64)
    np.savez(tmp_path / "alone.npz", **{operator.result.name: result})
    assert call("verify", name, tmp_path / "alone.npz")[0] == 0
    result[7] += 1
    np.savez(tmp_path / "alone.npz", **{operator.result.name: result})
    status, out, _ = call("verify", name, tmp_path / "alone.npz")
    assert status == 1
    assert b"case: 8\n" in out


def test_a_memory_of_results_alone_is_read_as_writememh_prints_it():
    lines = texts("requantize")[1]
    words = [f"000000{line.split()[-1].decode()}" for line in lines]
    memory = "\n".join(["// 0x00000000", *words[:9], "", f"@{9:08x} {words[9]}", *words[10:], ""])
    assert call("verify", "requantize", data=memory.encode())[0] == 0
    unwritten = memory.replace(words[3], "xxxxxxxx", 1)
    status, out, _ = call("verify", "requantize", data=unwritten.encode())
    assert status == 1
    assert b"=> xx  expected: " in out


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("doubled", "operands must be those of case 22 of seed 1, got those of case 21"),
        ("missing", "operands must be those of case 22 of seed 1, got those of case 23"),
        ("exchanged", "operands must be those of case 22 of seed 1, got those of case 23"),
        ("other", "operands must be those of case 22 of seed 1, got others"),
    ],
)
@pytest.mark.parametrize("form", ["text", "npz"])
def test_a_case_in_another_place_is_seen(change, complaint, form, tmp_path):
    if form == "text":
        header, rows = split(generated("exp"))
        rows = np.array(rows)
    else:
        with np.load(written("exp", "npz", None, tmp_path / "right.npz")) as file:
            header, rows = file["header"], np.column_stack([file["inputs.x"], file["outputs.y"]]).astype(np.int64)
    order = list(range(len(rows)))
    match change:
        case "doubled":
            order[21] = 20
        case "missing":
            order[21:] = [*order[22:], order[-1]]
        case "exchanged":
            order[21:23] = [22, 21]
    rows = rows[order]
    if change == "other":
        rows[21] = rows[21].replace(rows[21][:4], b"8123") if form == "text" else (-32477, 0)
    if form == "text":
        data = b"".join([*header, *rows.tolist()])
    else:
        file = io.BytesIO()
        np.savez(file, header=header, **{"inputs.x": rows[:, 0], "outputs.y": rows[:, 1]})
        data = file.getvalue()
    status, out, err = call("verify", "exp", data=data)
    assert (status, out) == (3, b"")
    assert complaint in err


def test_what_a_simulator_says_is_skipped_and_counted():
    header, lines = texts("requantize")
    talk = [b"VCD info: dumpfile dump.vcd opened for output.\n", b"\n", b"- file.sv:15: Verilog $finish\n"]
    data = b"".join([talk[0], *header, talk[1], *lines[:9], b"// 9 done\n", *lines[9:], talk[2], b"# bye\n"])
    status, out, err = call("verify", "requantize", data=data)
    assert (status, out) == (0, b"")
    assert err.startswith("skipped as no cases: 5 of the lines, first line 1: 'VCD info: dumpfile")
    assert call("verify", "requantize", data=b"".join([*header, talk[2]]))[0] == 3


def test_x_and_z_are_mismatches_of_their_case(tmp_path):
    header, lines = texts("requantize")
    wrong = [*lines]
    wrong[4] = wrong[4][:-3] + b"Xx\n"
    wrong[6] = b"zzzzzzzz" + wrong[6][8:]
    status, out, err = call("verify", "requantize", data=b"".join(header + wrong))
    assert status == 1
    first, second = out.decode().splitlines()
    assert "=> xx  expected: " in first
    assert "difference: X LSB  line:" in first
    assert first.endswith(f"line: {len(header) + 5}")
    assert second.startswith("xxxxxxxx ")
    assert "2 of" in err
    (tmp_path / "right").write_bytes(RIGHT["requantize"])
    (tmp_path / "wrong").write_bytes(b"".join(header + wrong))
    found = diagnose_files(str(tmp_path / "right"), str(tmp_path / "wrong"))
    assert (found.mismatches, found.unknown, found.explain_all) == (0, 2, ())


def test_operands_in_place_of_results_are_not_passed():
    for name in ("tanh", "exp"):
        status, _, err = call("verify", name, data=generated(name, "--operands-only"))
        assert status == 3
        assert "the result is missing" in err


def test_what_is_no_vectors_file_is_refused_in_one_sentence(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.arange(3))
    np.savez(tmp_path / "b.npz", **{"outputs.y": np.arange(3), "inputs.acc": np.arange(3)})
    np.savez(tmp_path / "c.npz", **{"outputs.y": np.arange(3) + 0.5})
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:99])
    (tmp_path / "e.memh").write_text("// memory\n00000000\n0000000g\n11111111 2222222g 33333333\n")
    complaints = {
        "a.npz": "must have an array outputs.y, got other",
        "b.npz": "must have an array inputs.multiplier beside the other operands",
        "c.npz": "array outputs.y must be integers, a row a case, got float64",
        "d.npz": "the file must be a readable safetensors file",
        "e.memh": "line 4: a word must be hexadecimal, got '2222222g'",
    }
    for file, complaint in complaints.items():
        status, out, err = call("verify", "requantize", tmp_path / file)
        assert (status, out) == (3, b""), file
        assert complaint in err
        assert err.count("\n") == 0


# Diagnose


def test_diagnose_says_first_whether_any_change_explains_all(tmp_path):
    operator = bind("requantize", INTSIM)
    expected = read_answers(io.BytesIO(RIGHT["requantize"]))
    two = changes_of_operator(operator)["zero point left out"].results(expected.operands)
    two[::2] = changes_of_operator(operator)["rounding floor"].results(expected.operands)[::2]
    found = diagnose_answers(expected, read_answers(io.BytesIO(alone(two)), like=expected))
    assert found.explain_all == ()
    gains = [cause.explained - cause.spoiled for cause in found.explain_some]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0
    (tmp_path / "right").write_bytes(RIGHT["requantize"])
    (tmp_path / "wrong").write_bytes(alone(two))
    shown = CliRunner().invoke(diagnose, [str(tmp_path / "right"), str(tmp_path / "wrong")]).output.splitlines()
    verdict = next(k for k, line in enumerate(shown) if line.startswith("operator")) + 1
    assert shown[verdict] == f"no single change of its rules explains all {found.mismatches} mismatches"
    assert shown[verdict + 1].startswith("explains ")


def alone(results):
    return "".join(" ".join(f"{value & 255:02x}" for value in row) + "\n" for row in results.tolist()).encode()


@pytest.mark.parametrize("bits", [19, 23, 27, 29])
def test_a_register_of_any_width_is_named(bits):
    expected = read_answers(io.BytesIO(RIGHT["requantize"]))
    operands = expected.operands.copy()
    half = 1 << bits - 1
    operands[:, 0] = (operands[:, 0] + half) % (2 * half) - half
    results = expected.operator.results(operands)
    found = diagnose_answers(expected, read_answers(io.BytesIO(alone(results)), like=expected))
    assert found.explain_all == (f"accumulator wraps at {bits} bits",)


# What can be generated


OPTIONS = [("requantize", "to", to) for to in RANGES] + [
    ("layer_norm", "to", to) for to in ("narrow", "uint8", "int16")
]
OPTIONS += [
    ("add", "to", "int8"),
    ("add", "to", "uint8"),
    ("rms_norm", "to", "uint8"),
    ("matmul", "activations", "uint8"),
]


@pytest.mark.parametrize(("name", "option", "value"), OPTIONS)
def test_level_1_kills_every_bug_of_other_formats(name, option, value):
    operator = bind(name, INTSIM, **{option: value})
    caught, seen = dict.fromkeys(devices := changes_of_operator(operator), 0), set()
    for batch in generate(operator, seed=1, level=1, cases=minimum(operator, 1)):
        right = operator.results(batch)
        seen |= {int(right.min()), int(right.max()), int(batch[:, : operator.operands[0].count].max())}
        for bug, device in devices.items():
            caught[bug] += int((device.results(batch) != right).any())
    below_0 = {"rounding half-away", "half added, then truncated"} if value == "uint8" and "norm" in name else set()
    same = {bug for of, bug, profile in EQUIVALENT if (of, profile) == (name, "intsim")}
    assert {bug for bug, count in caught.items() if not count} - below_0 - same == set()
    assert caught[CONTROL] == 0
    assert seen >= ({255} if name == "matmul" else {operator.formats.to.min, operator.formats.to.max})
    text = generated(name, f"--{option}", value)
    assert call("verify", name, data=text)[0] == 0
    default = bind(name, INTSIM)
    assert (f"# {option}: {value}\n".encode() in text) == (operator.formats != default.formats)


@pytest.mark.parametrize("profile", ["ita", "ita-2024", "ivit", "ibert-code"])
@pytest.mark.parametrize("name", ["requantize", "softmax", "gelu", "layer_norm"])
def test_the_borrowed_rules_have_vectors(profile, name):
    operator = bind(name, PROFILES[profile])
    text = generated(name, "--profile", profile, "--level", 0)
    assert call("verify", name, data=text)[0] == 0
    expected = read_answers(io.BytesIO(text))
    devices = changes_of_operator(operator)
    assert np.array_equal(devices[CONTROL].results(expected.operands), expected.expected)
    wrong = "rule pulp-nn" if name == "requantize" and profile.startswith("ita") else "one row late"
    late = devices[wrong].results(expected.operands)
    assert wrong in diagnose_answers(expected, replace(expected, observed=late)).explain_all


def test_a_borrowed_norm_has_no_rms_norm():
    with pytest.raises(IntsimError, match="profile of rms_norm must have intsim's own layer_norm"):
        bind("rms_norm", PROFILES["ivit"])


@pytest.mark.parametrize("name", OPERATORS)
def test_level_0_is_a_few_cases_of_level_1(name):
    operator = bind(name, INTSIM)
    few, many = (
        np.concatenate(list(generate(operator, seed=1, level=level, cases=minimum(operator, level))))
        for level in (0, 1)
    )
    assert 100 < len(few) <= 200
    assert {*map(tuple, few.tolist())} <= {*map(tuple, many.tolist())}


@pytest.mark.parametrize(
    ("name", "size"), [("layer_norm", (4096,)), ("rms_norm", (4096,)), ("softmax", (4096,)), ("matmul", (64, 64, 64))]
)
def test_level_1_of_long_rows_stays_below_50_mb(name, size):
    operator = bind(name, INTSIM, size)
    cases = minimum(operator, 1)
    assert cases > 150
    assert cases * operator.line_bytes < 50_000_000
    batch = next(generate(operator, seed=1, level=1, cases=cases))[::8]
    assert (operator.results(batch) == changes_of_operator(operator)[CONTROL].results(batch)).all()
    column = 0
    for field in operator.operands:
        words = batch[:, column : column + field.count]
        low = -(1 << field.bits - 1) if field.signed else 0
        assert low <= words.min()
        assert words.max() <= low + (1 << field.bits) - 1
        column += field.count
