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
from intsim.io.dumps import Dump, read_dump
from intsim.io.layout import Layout, arrange
from intsim.io.memh import Words, format_memh, parse_memh
from intsim.io.trace_file import write_trace
from intsim.verify.compare import compare, parse_slice
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


def test_a_single_number_that_differs_is_a_difference_at_no_index():
    found = compare({"eps": np.array(7, np.int64)}, {"eps": np.array(5, np.int64)})
    assert found.first is not None
    assert (found.first.count, found.first.largest, found.first.mismatches[0].index) == (1, 2, ())
    unknown = np.ma.MaskedArray(np.array(7, np.int64), np.array(True))
    found = compare({"eps": np.array(7, np.int64)}, {"eps": unknown})
    assert found.first is not None
    assert (found.first.unknown, found.first.mismatches[0].actual) == (1, None)


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


# ---- by value


ARRAY = np.array([[-3, 2, 127], [-128, 0, 1]], np.int8)


def _words(text: str) -> dict[str, Words]:
    return {"x": parse_memh(text.encode())}


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (ARRAY.astype(np.int64), "int64 where int8 is expected"),
        (ARRAY.astype(np.float16), "float16 where int8 is expected"),
        (ARRAY.astype(">i2"), "its bytes the highest first"),
        (ARRAY.reshape(3, 2), "shape (3, 2) where (2, 3) is expected"),
        (ARRAY.reshape(-1), None),
        (ARRAY[None], None),
    ],
)
def test_how_a_tensor_is_written_is_said_and_makes_no_difference(values, note):
    result = compare({"x": ARRAY}, {"x": values})
    assert result.first is None
    assert note is None or note in [each.note for each in result.notes]
    wrong = values.copy()
    wrong[wrong == 2] = 3
    first = compare({"x": ARRAY}, {"x": wrong}).first
    assert (first.count, first.mismatches[0].difference) == (1, 1)


def test_uint64_is_compared_with_negative_numbers_exactly():
    first = compare({"x": np.array([-1, 5])}, {"x": np.array([2**64 - 1, 5], np.uint64)}).first
    assert (first.count, first.largest) == (1, 2**64)
    assert compare({"x": np.array([2**64 - 1], np.uint64)}, {"x": np.array([2**64 - 1], np.uint64)}).first is None


@pytest.mark.parametrize(
    "text",
    [
        "fd 02 7f 80 00 01",
        "fffd 0002 007f ff80 0000 0001",  # wider, the sign repeated
        "fd02 // six bytes would be another\n 007f 0080 0000 0001" if False else "00fd 0002 007f 0080 0000 0001",
        "@0 fd 02 7f\n@3 80 00 01",
        "7f02fd 010080",
        "0100807f02fd",
        "fd 02 7f 80 00 01 xx xx",
    ],
)
def test_words_are_read_as_the_expected_elements(text):
    assert compare({"x": ARRAY}, _words(text)).first is None
    assert compare(_words(text), {"x": ARRAY}).first is None
    wrong = compare({"x": ARRAY + np.int8(1)}, _words(text)).first
    assert wrong.count == 6


def test_words_narrower_than_their_dtype_have_the_true_width():
    values = np.array([-5, 2**25 - 1, -(2**25), 7], np.int32)
    text = " ".join(f"{int(value) & 0x3FFFFFF:07x}" for value in values)
    golden = Dump()
    golden["x"], golden.bits["x"] = values, 26
    assert compare(golden, _words(text)).first is None
    golden.bits["x"] = 32
    assert compare(golden, _words(text)).first.count == 2
    assert compare({"x": values.astype(np.int64)}, _words("fffffffb 1ffffff fe000000 7")).first is None


def test_an_unsigned_code_is_not_read_as_a_signed_one():
    codes = np.array([200, 3], np.int64)
    assert compare({"x": codes}, _words("c8 03")).first is None
    assert compare({"x": codes.astype(np.uint8)}, _words("c8 03")).first is None
    assert compare({"x": np.array([-56, 3], np.int8)}, _words("c8 03")).first is None


def test_an_element_of_several_words_has_its_lowest_word_first():
    values = np.array([-2, 2**40 + 5])
    assert compare({"x": values}, _words("fffffffe ffffffff 00000005 00000100")).first is None


def test_an_x_is_a_mismatch_of_its_element_alone():
    first = compare({"x": ARRAY}, _words("fd x2 7f 80 00 01")).first
    (mismatch,) = first.mismatches
    assert (first.count, first.unknown, first.largest) == (1, 1, 0)
    assert (mismatch.index, mismatch.expected, mismatch.actual, mismatch.difference) == ((0, 1), 2, None, None)
    assert (mismatch.actual_hex, mismatch.expected_hex) == ("xx", "02")
    assert compare({"x": ARRAY}, _words("7f02xx 010080")).first.mismatches[0].index == (0, 0)
    assert compare({"x": ARRAY}, _words("fd 02 7f 80 00 xx")).first.unknown == 1
    assert compare({"x": ARRAY}, _words("@0 fd 02 7f @4 00 01")).first.mismatches[0].index == (1, 0)


def test_a_layout_says_how_words_are_packed():
    layout = Layout(word_bits=16, tile=(2, 2), transposed=True)
    words = {"x": Words(arrange(ARRAY, layout)[0], None, 16)}
    assert compare({"x": ARRAY}, words, layout=layout).first is None
    assert compare({"x": ARRAY}, words).first is not None
    with pytest.raises(IntsimError, match="words of tensor 'x' must have 32 bits, got 16"):
        compare({"x": ARRAY}, words, layout=Layout(word_bits=32))


def test_too_few_words_are_another_shape():
    first = compare({"x": ARRAY}, _words("fd 02")).first
    assert (first.kind, first.actual, first.expected) == ("shape", "2 words of 8 bits", "(2, 3)")


def test_names_of_the_device_are_mapped_and_must_be_known():
    actual = {"theirs": ARRAY, "other": ARRAY[0]}
    result = compare({"x": ARRAY, "y": ARRAY + np.int8(1)}, actual, names={"theirs": "y"})
    assert (result.first.name, result.only_actual, result.only_expected) == ("y", ("other",), ("x",))
    with pytest.raises(IntsimError, match="names must be those of expected tensors, got 'z' for 'theirs'"):
        compare({"x": ARRAY}, actual, names={"theirs": "z"})
    with pytest.raises(IntsimError, match="names must be of one tensor each, got two for 'x'"):
        compare({"x": ARRAY}, actual, names={"theirs": "x", "other": "x"})


def test_a_tensor_of_another_name_is_recognised_by_its_values_or_asked_for():
    golden = {"x:step": ARRAY, "x": ARRAY, "y": ARRAY * np.int8(0)}
    result = compare(golden, {"theirs": ARRAY.astype(np.int64)})
    assert (result.first, result.only_expected) == (None, ("x:step", "y"))
    assert result.notes[0].note == "called 'theirs' there, and recognised by its values"
    assert result.notes[0].names == ("x",)
    wrong = ARRAY.copy()
    wrong[1, 1] = 9
    with pytest.raises(IntsimError, match=r"got none; 'theirs' is most like 'x', 1 values apart; .* --names"):
        compare({"y": golden["y"], "x": ARRAY}, {"theirs": wrong})


def test_a_beginning_is_compared_if_it_is_said_to_be_one():
    first = compare({"x": ARRAY}, {"x": ARRAY[:1]}).first
    assert (first.kind, first.slice) == ("shape", ":1")
    first = compare({"x": ARRAY}, {"x": ARRAY[:, :2]}).first
    assert (first.kind, first.slice) == ("shape", ":, :2")
    assert compare({"x": ARRAY}, {"x": ARRAY[:, 1:]}).first.slice is None
    assert compare({"x": ARRAY}, {"x": ARRAY[:, :2]}, slices={"*": parse_slice(":, :2")}).first is None
    assert compare({"x": ARRAY}, {"x": ARRAY[:, 1:]}, slices={"x": parse_slice("[:, 1:3]")}).first is None
    assert compare({"x": ARRAY}, {"x": ARRAY[1]}, slices={"x": parse_slice("1")}).first is None
    assert compare({"x": ARRAY}, {"x": -ARRAY[:1]}, slices={"x": parse_slice(":1")}).first.kind == "values"
    with pytest.raises(IntsimError, match="slice of tensor 'x' must be of its 2 axes, got one of 3"):
        compare({"x": ARRAY}, {"x": ARRAY}, slices={"x": parse_slice(":,:,:1")})


@pytest.mark.parametrize("text", ["", "a", ":-1", "1:2:3", ",".join([":"] * 33)])
def test_what_is_no_slice_is_refused(text):
    with pytest.raises(IntsimError, match="slice must be like ':, :3'"):
        parse_slice(text)


def test_differences_are_counted_by_size_and_sign():
    actual = ARRAY + np.array([[1, 1, -5], [0, -4, 100]])
    first = compare({"x": ARRAY}, {"x": actual}).first
    assert [(each.lowest, each.highest, each.count) for each in first.histogram] == [
        (-7, -4, 2),
        (1, 1, 2),
        (64, 127, 1),
    ]
    assert first.order is None


def test_right_values_in_another_order_are_named():
    assert compare({"x": ARRAY}, {"x": ARRAY.T}).first.order == "transposed: columns outside, rows inside"


def test_the_command_maps_names_cuts_slices_and_takes_layouts(tmp_path):
    query = "encoder.layer.0.attention.self.query"
    values = RESULTS[query]
    np.savez(tmp_path / "golden.npz", **{query: values})
    layout = Layout(word_bits=32, lanes=4, tile=(2, 16))
    words = format_memh(arrange(values[:, :4], layout)[0], 32)
    (tmp_path / "q.memh").write_bytes(words)
    (tmp_path / "names.json").write_text(json.dumps({"q": query}))
    options = (
        "--names",
        tmp_path / "names.json",
        "--slice",
        ":, :4",
        "--word-bits",
        32,
        "--lanes",
        4,
        "--tile",
        "2x16",
    )
    command = ("compare", tmp_path / "golden.npz", tmp_path / "q.memh")
    done = _cli(*command, *options)
    assert (done.returncode, done.stdout.decode()) == (0, "equal: 1 tensors, to the bit\n")
    (tmp_path / "q.memh").write_bytes(words[:-9] + b"xxxxxxxx\n")
    done = _cli(*command, *options)
    assert done.returncode == 1
    assert "4 of 512 elements, largest difference 0 LSB, 4 of them x or z" in done.stdout.decode()
    (tmp_path / "q.memh").write_bytes(words)
    done = _cli(*command, *options[:4])
    assert done.returncode == 1
    assert "right values in another order: tiles of 2x16" in done.stdout.decode()
    assert _cli(*command, "--tile", "2").returncode == 2
    assert _cli(*command, "--lanes", 0).returncode == 2
    (tmp_path / "names.json").write_text("[1]")
    assert _cli(*command, *options).returncode == 3
