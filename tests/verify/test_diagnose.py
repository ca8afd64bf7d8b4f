# SPDX-License-Identifier: Apache-2.0
"""Diagnose: the planted change is named, on traces of a model and on the vectors of an operator."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from click.testing import CliRunner
from verify.vector_files import every_binding

import intsim
from intsim import ops
from intsim._status import run_command
from intsim._trace import Call, Trace
from intsim.cli import cli
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import INT8, Dyadic
from intsim.io.trace_file import write_trace
from intsim.profile import IBERT, INTSIM
from intsim.requantization import RULES
from intsim.verify.bugs import CONTROL, changes_of_call, changes_of_operator
from intsim.verify.diagnose import diagnose, diagnose_answers
from intsim.verify.kill import EQUIVALENT
from intsim.verify.vectors import bind, generate, minimum, read_answers
from intsim.verify.vectors.cases import SCALAR, UNARY
from intsim.verify.vectors.text import format_header, format_lines

MODEL = intsim.load(resources.files("intsim.embedded"))
with intsim.trace("steps") as TRACE:
    MODEL([[2, 187, 1194, 16, 994, 3], [2, 187, 994, 3, 0, 0]], attention_mask=[[1] * 6, [1] * 4 + [0] * 2])
RESULTS = {name: TRACE[name] for name in TRACE.calls}


def run(*arguments, stdin=None):
    command = [sys.executable, "-c", "from intsim.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "trace.safetensors"
    write_trace(path, TRACE, MODEL)
    return path


# Traces


@pytest.mark.parametrize("one_in", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_every_planted_change_is_named(one_in):
    planted = alone = 0
    pairs = [(name, change) for name, call in TRACE.calls.items() for change in changes_of_call(call).items()]
    for name, (change, device) in pairs[::one_in]:
        values = device()
        if np.array_equal(values, RESULTS[name]):
            continue  # these operands do not show this bug
        result = diagnose(TRACE, RESULTS | {name: values})
        assert result.comparison.first is not None
        assert (result.comparison.first.name, result.operator) == (name, TRACE.calls[name].operator.__name__)
        assert change in result.explain_all, (name, change)
        planted += 1
        alone += result.explain_all == (change,)
    assert planted > 500 // one_in
    print(f"{planted} planted, {alone} named alone")


def test_a_difference_that_no_change_explains_has_no_cause():
    name = "encoder.layer.0.attention.self.query"
    values = RESULTS[name].copy()
    values[0, 0, 0] ^= 64
    result = diagnose(TRACE, RESULTS | {name: values})
    assert (result.operator, result.mismatches, result.explain_all) == ("requantize", 1, ())


def test_a_copy_has_no_causes():
    name = "embeddings.word_embeddings"
    result = diagnose(TRACE, RESULTS | {name: -RESULTS[name]})
    assert (result.operator, result.explain_all, result.explain_some) == ("embedding", (), ())


def test_a_later_difference_does_not_hide_the_first_cause():
    first, second = "encoder.layer.0.output.sum", "encoder.layer.1.output.sum"
    spoiled = {name: values + values.dtype.type(1) for name, values in RESULTS.items() if name.startswith(second)}
    actual = RESULTS | {first: changes_of_call(TRACE.calls[first])["rounded each"]()} | spoiled
    result = diagnose(TRACE, actual)
    assert result.operator == "add"
    assert result.explain_all == ("rounded each",)


def test_two_bugs_at_once_are_explained_in_part():
    name = "encoder.layer.0.intermediate"
    changes = changes_of_call(TRACE.calls[name])
    values = changes["rounding floor"]()
    values.reshape(-1)[:5] += np.int8(9)
    result = diagnose(TRACE, RESULTS | {name: values})
    assert result.explain_all == ()
    assert result.explain_some[0].change == "rounding floor"
    assert 0 < result.explain_some[0].explained < result.mismatches


def test_a_trace_without_calls_cannot_be_diagnosed():
    with pytest.raises(IntsimError, match="level steps"):
        diagnose(Trace(), RESULTS)


def test_a_trace_that_records_what_no_operator_gives_cannot_be_diagnosed():
    name = "encoder.layer.0.intermediate"
    for recorded in (RESULTS[name] ^ 1, RESULTS[name][0]):
        trace = Trace("steps")
        trace[name], trace.calls[name] = recorded, replace(TRACE.calls[name], result=recorded)
        with pytest.raises(CheckpointError, match=rf"^expected must record at {name} what its operator gives, got "):
            diagnose(trace, {name: recorded ^ 2})


def test_another_arithmetic_is_told_by_the_rule_it_is():
    acc = np.arange(-(2**15), 2**15, 7, dtype=np.int32)
    ratio, constants = Dyadic(1_583_594_044, 40), {"to": INT8, "zero_point": 3}
    trace = Trace("steps")
    trace["y"] = ops.requantize(acc, ratio, rounding=RULES["tflite-double"], **constants)
    constants["rounding"] = RULES["tflite-double"]
    trace.calls["y"] = Call(
        name="y", operator=ops.requantize, operands=(acc, ratio), constants=constants, result=trace["y"]
    )
    floored = ops.requantize(acc, ratio, **constants | {"rounding": RULES["pulp-nn"]})
    assert diagnose(trace, {"y": floored}).explain_all == ("rule pulp-nn",)
    assert diagnose(trace, dict(trace)).comparison.first is None


@pytest.mark.parametrize("expected_by_stdin", [False, True])
def test_the_command_names_the_change_of_a_trace(golden, tmp_path, expected_by_stdin):
    name, change = "encoder.layer.0.intermediate", "shift one too small"
    np.savez(tmp_path / "bad.npz", **RESULTS | {name: changes_of_call(TRACE.calls[name])[change]()})
    np.savez(tmp_path / "same.npz", **RESULTS)

    def command(actual, *options):
        if expected_by_stdin:
            return run("diagnose", "-", actual, *options, stdin=golden.read_bytes())
        return run("diagnose", golden, "-", *options, stdin=actual.read_bytes())

    done = command(tmp_path / "bad.npz", "--json")
    assert done.returncode == 1, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["operator"], shown["explain_all"]) == ("requantize", [change])
    assert shown["mismatches"] == shown["comparison"]["first"]["count"] > 0
    assert {"change", "explained", "spoiled"} == set(shown["explain_some"][0])
    lines = command(tmp_path / "bad.npz").stdout.decode().splitlines()
    assert [line for line in lines if line.startswith("explains all")] == [
        f"explains all {shown['mismatches']}: {change}"
    ]
    assert command(tmp_path / "same.npz").returncode == 0


# Vectors


def text_of(operator, results=None, *, level=1):
    """Return a file of vectors, with the results of a device if they are given."""
    cases = np.concatenate(list(generate(operator, seed=1, level=level, cases=minimum(operator, level))))
    words = np.concatenate([cases, (operator if results is None else results).results(cases)], axis=1)
    header = format_header(operator, seed=1, level=level, cases=len(cases))
    fields = [*operator.operands, operator.result]
    return "".join(f"# {line}\n" for line in header).encode() + format_lines(fields, words).tobytes()


@every_binding
def test_a_change_is_named_from_vectors_with_those_equal_on_all_of_them(profile, name):
    operator = bind(name, profile)
    level = 1 if name in (*SCALAR, *UNARY) else 0  # of rows a few: what is equal on them is found on them
    expected = read_answers(io.BytesIO(text_of(operator, level=level)))
    results = {
        change: device.results(expected.operands)
        for change, device in changes_of_operator(operator).items()
        if (name, change, profile.name) not in EQUIVALENT
    }
    step = len(results) // 3
    for change in list(results)[step // 2 if profile is IBERT else 0 :: step]:
        result = diagnose_answers(expected, replace(expected, observed=results[change]))
        equal = [other for other, values in results.items() if np.array_equal(values, results[change])]
        assert (result.operator, list(result.explain_all)) == (name, equal)


def test_the_command_names_the_change_of_vectors(tmp_path):
    operator = bind("softmax", INTSIM)
    expected, actual = tmp_path / "expected", tmp_path / "actual"
    expected.write_bytes(text_of(operator))
    actual.write_bytes(text_of(operator, changes_of_operator(operator)["mask left out"]))
    done = run("diagnose", expected, actual)
    assert done.returncode == 1
    causes = [line for line in done.stdout.decode().splitlines() if line.startswith("explains all")]
    assert [cause.partition(": ")[2] for cause in causes] == ["mask left out"]

    def here(*arguments, stdin=None):
        return CliRunner().invoke(cli, ["diagnose", *map(str, arguments)], input=stdin)

    for arguments, stdin in (((expected, "-"), actual), (("-", actual), expected)):
        piped = here(*arguments, "--json", stdin=stdin.read_bytes())
        assert piped.exit_code == 1, piped.output
        assert json.loads(piped.stdout)["explain_all"] == ["mask left out"]
    without_header = b"".join(line for line in actual.read_bytes().splitlines(keepends=True) if line[:1] != b"#")
    assert here(expected, "-", stdin=without_header).stdout_bytes == done.stdout
    answers_alone = b"".join(b" ".join(line.split()[-16:]) + b"\n" for line in without_header.splitlines())
    assert here(expected, "-", stdin=answers_alone).stdout_bytes == done.stdout
    assert here(expected, expected).exit_code == 0


def test_a_failing_verdict_points_to_diagnose():
    operator = bind("exp", INTSIM)
    wrong = text_of(operator, changes_of_operator(operator)["shift one too small"])
    assert b"intsim diagnose EXPECTED FILE" in run("vectors", "verify", "exp", stdin=wrong).stderr
    assert b"intsim diagnose" not in run("vectors", "verify", "exp", stdin=text_of(operator)).stderr


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("vectors and a dump", "must both be vectors or both be dumps, got vectors and a dump"),
        ("a trace and vectors", "must both be vectors or both be dumps, got a dump and vectors"),
        ("another operator", "operator of the vectors must be 'exp', got 'gelu'"),
        ("another profile", "profile of the vectors must be 'intsim"),
        ("fewer cases", "cases as their header says, got"),
        ("another order", "of expected, got those of case 1"),
        ("the device's first", "expected must be what intsim vectors gen prints, got"),
        ("no header", "must name their operator in a header"),
        ("operands only", "the result is missing"),
        ("nothing", "must name their operator in a header"),
        ("missing", "must be a readable file"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused_in_one_sentence(golden, tmp_path, monkeypatch, capsys, kind, complaint):
    operator, paths = bind("exp", INTSIM), [tmp_path / "expected", tmp_path / "actual"]
    right = text_of(operator)
    lines = right.splitlines(keepends=True)
    head = [line for line in lines if line.startswith(b"#")]
    files = {
        "another operator": (right, text_of(bind("gelu", INTSIM))),
        "another profile": (right, right.replace(INTSIM.hash.encode(), b"0" * 64)),
        "fewer cases": (right, b"".join(lines[:-1])),
        "another order": (right, b"".join([*head, *lines[len(head) :][::-1]])),
        "the device's first": (text_of(operator, changes_of_operator(operator)["q_b +1"]), right),
        "no header": (b"".join(lines[len(head) :]), right),
        "operands only": (right.replace(right, b"# operator: exp\n0000\n"), right),
        "nothing": (b"", right),
        "missing": (right, None),
        "vectors and a dump": (right, golden.read_bytes()),
        "a trace and vectors": (golden.read_bytes(), right),
    }[kind]
    for path, content in zip(paths, files, strict=True):
        if content is not None:
            path.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["intsim", "diagnose", *map(str, paths)])
    assert run_command(cli) == 3
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert "Traceback" not in told


def test_both_from_standard_input_is_wrong_usage():
    assert run("diagnose", "-", "-", stdin=b"").returncode == 2


def test_the_control_is_no_cause():
    operator = bind("isqrt", INTSIM)
    answers = read_answers(io.BytesIO(text_of(operator, changes_of_operator(operator)["5 Newton updates"])))
    result = diagnose_answers(read_answers(io.BytesIO(text_of(operator))), answers)
    assert CONTROL not in (*result.explain_all, *(cause.change for cause in result.explain_some))


def test_the_command_line_brings_the_bugs_only_when_they_are_asked_for():
    code = "import sys, intsim.cli; print(*(name for name in sys.modules if name.startswith('intsim.verify')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert "intsim.verify.vectors" in loaded
    assert not [name for name in loaded if name.startswith(("intsim.verify.bugs", "intsim.verify.kill"))]
    assert "intsim.verify.diagnose" not in loaded
