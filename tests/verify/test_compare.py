# SPDX-License-Identifier: Apache-2.0
"""Compare and replay on traces of the embedded model."""

import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import intsim
from intsim.errors import IntsimError
from intsim.fixedpoint import Rounding
from intsim.io.dumps import read_dump
from intsim.io.trace_file import write_trace
from intsim.verify.compare import compare
from intsim.verify.replay import replay

MODEL = intsim.load(resources.files("intsim.embedded"))
with intsim.trace("steps") as TRACE:
    MODEL([[2, 187, 1194, 16, 994, 3]])
RESULTS = {name: TRACE[name] for name in TRACE.calls}


def _cli(*arguments, stdin=None):
    command = [sys.executable, "-c", "from intsim.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def _write_memh(folder, tensors):
    folder.mkdir()
    for name, values in tensors.items():
        bits = 8 * values.dtype.itemsize
        words = [f"{int(value) % (1 << bits):0{bits // 4}x}" for value in values.flat]
        (folder / f"{name}.memh").write_text("// a device's dump\n" + "\n".join(words) + "\n")


@given(st.data())
def test_any_flipped_bit_is_found_at_its_tensor_and_index(data):
    name = data.draw(st.sampled_from(list(RESULTS)))
    values = RESULTS[name].copy()
    place = data.draw(st.integers(0, values.size - 1))
    bit = data.draw(st.integers(0, 8 * values.dtype.itemsize - 1))
    unsigned = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    unsigned[place] ^= np.array(1 << bit).astype(unsigned.dtype)
    first = compare(RESULTS, RESULTS | {name: values}).first
    assert first is not None
    assert (first.name, first.count) == (name, 1)
    (mismatch,) = first.mismatches
    assert mismatch.index == np.unravel_index(place, values.shape)
    assert (mismatch.expected, mismatch.actual) == (int(RESULTS[name].flat[place]), int(values.flat[place]))
    assert mismatch.difference == mismatch.actual - mismatch.expected
    assert first.largest == abs(mismatch.difference)


def test_the_first_difference_is_the_first_in_forward_order_not_by_name():
    late, early = "classifier", "encoder.layer.0.output.sum"
    actual = RESULTS | {late: RESULTS[late] + np.int32(1), early: RESULTS[early] + np.int16(1)}
    result = compare(RESULTS, dict(reversed(actual.items())))
    assert result.first is not None
    assert result.first.name == early
    assert result.differing == (early, late)


def test_values_are_compared_whatever_their_dtype_and_order_of_axes_of_one() -> None:
    name = "pooler"
    for values in (
        RESULTS[name].astype(np.int16),
        RESULTS[name].astype(">i4"),
        RESULTS[name].astype(np.float32),
        RESULTS[name].reshape(-1),
        RESULTS[name][None],
    ):
        assert compare(RESULTS, RESULTS | {name: values}).first is None
    for values, kind in ((RESULTS[name][:, :-1], "shape"), (-RESULTS[name], "values")):
        first = compare(RESULTS, RESULTS | {name: values}).first
        assert first is not None
        assert first.kind == kind


def test_int8_extremes_differ_by_255():
    first = compare({"x": np.array([-128], np.int8)}, {"x": np.array([127], np.int8)}).first
    assert first is not None
    assert first.largest == first.mismatches[0].difference == 255
    assert (first.mismatches[0].expected_hex, first.mismatches[0].actual_hex) == ("80", "7f")


def test_partial_dumps_are_compared_by_what_both_have():
    part = {name: RESULTS[name] for name in list(RESULTS)[3:6]} | {"mine": np.zeros(1, np.int8)}
    result = compare(RESULTS, part)
    assert (result.compared, result.first, result.only_actual) == (3, None, ("mine",))
    assert len(result.only_expected) == len(RESULTS) - 3


def test_nothing_in_common_is_refused():
    with pytest.raises(IntsimError, match="in common"):
        compare(RESULTS, {"mine": np.zeros(1, np.int8)})


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dumps")
    write_trace(folder / "trace.safetensors", TRACE, MODEL)
    np.savez(folder / "dump.npz", **RESULTS)
    _write_memh(folder / "memh", RESULTS)
    return folder


@pytest.mark.parametrize("kind", ["trace.safetensors", "dump.npz", "memh"])
def test_every_kind_of_dump_equals_the_trace(dumps, kind):
    assert compare(read_dump(dumps / "trace.safetensors"), read_dump(dumps / kind)).first is None
    assert compare(read_dump(dumps / kind), read_dump(dumps / "trace.safetensors")).first is None


def test_memh_on_both_sides_has_no_dtype(dumps):
    with pytest.raises(IntsimError, match="must have a dtype on one side"):
        compare(read_dump(dumps / "memh"), read_dump(dumps / "memh"))


def test_the_command_finds_the_difference_and_says_so(dumps, tmp_path):
    name = "encoder.layer.1.output.LayerNorm"
    np.savez(tmp_path / "bad.npz", **RESULTS | {name: np.where(RESULTS[name] == 3, 4, RESULTS[name]).astype(np.int8)})
    assert _cli("compare", dumps / "trace.safetensors", dumps / "dump.npz").returncode == 0
    done = _cli("compare", dumps / "trace.safetensors", tmp_path / "bad.npz", "--json", "--max-errors", 2)
    assert done.returncode == 1
    first = json.loads(done.stdout)["first"]
    assert (first["name"], first["count"], first["largest"]) == (name, int((RESULTS[name] == 3).sum()), 1)
    assert len(first["mismatches"]) == 2
    piped = _cli("compare", dumps / "trace.safetensors", "-", stdin=(tmp_path / "bad.npz").read_bytes())
    assert piped.returncode == 1
    assert f"first {name}" in piped.stdout.decode()


@pytest.mark.parametrize("damage", ["missing", "truncated npz", "truncated trace", "floats", "not hexadecimal"])
def test_damaged_dumps_are_refused_in_one_sentence(dumps, tmp_path, damage):
    path = tmp_path / "dump"
    if damage == "truncated npz":
        path.write_bytes((dumps / "dump.npz").read_bytes()[:-2000])
    elif damage == "truncated trace":
        path.write_bytes((dumps / "trace.safetensors").read_bytes()[:-1])
    elif damage == "floats":
        np.savez(tmp_path / "floats.npz", pooler=np.array([1.0, 0.5]))
        path = tmp_path / "floats.npz"
    elif damage == "not hexadecimal":
        path.mkdir()
        (path / "pooler.memh").write_text("0a\nxyz\n")
    done = _cli("compare", dumps / "trace.safetensors", path)
    assert done.returncode == 3
    assert done.stderr.decode().count("\n") == 1
    assert b"Traceback" not in done.stderr


def test_replay_runs_a_users_kernel_on_every_call(dumps):
    calls = []

    def kernel(acc, ratio, *, to, rounding, zero_point=0):
        calls.append(acc.shape)
        return intsim.ops.requantize(acc, ratio, to=to, rounding=rounding, zero_point=zero_point)

    result = replay(dumps / "trace.safetensors", {"requantize": kernel})
    assert result.first is None
    assert result.compared == len(calls) > 10


def test_replay_finds_a_kernel_that_truncates():
    def kernel(acc, ratio, *, to, rounding, zero_point=0):
        del rounding
        return intsim.ops.requantize(acc, ratio, to=to, rounding=Rounding.TOWARD_ZERO, zero_point=zero_point)

    assert replay(TRACE, {"requantize": kernel}).first is not None


def test_replay_of_an_operator_that_was_not_called_is_refused():
    with pytest.raises(IntsimError, match="must hold calls of sigmoid"):
        replay(TRACE, {"sigmoid": intsim.ops.sigmoid})
