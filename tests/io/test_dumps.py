# SPDX-License-Identifier: Apache-2.0
"""Dumps of a device in the files that programs write."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.io.dumps import Dump, read_dump
from intsim.io.layout import Layout, arrange
from intsim.io.memh import Words, format_memh
from intsim.io.safetensors_file import write
from intsim.verify.compare import compare
from intsim.verify.vectors.formats import VECTORS, write_npz

X: np.ndarray = np.arange(-6, 6, dtype=np.int16).reshape(3, 4)


def _equal(path: Path, **options: Layout) -> bool:
    return compare({"x": X}, read_dump(path, **options), layout=options.get("layout")).first is None


def test_an_array_of_numpy_is_the_tensor_of_its_files_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype(">i8"))
    assert _equal(tmp_path / "x.npy")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "x.npy", np.asfortranarray(X))
    assert _equal(tmp_path / "folder")
    (tmp_path / "y.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(IntsimError, match=r"y.npy must be a complete .npy of a plain array, got: "):
        read_dump(tmp_path / "y.npy")


def test_an_array_may_come_from_standard_input() -> None:
    file = io.BytesIO()
    np.save(file, X)
    program = "from intsim.io.dumps import read_dump; print([v.tolist() for v in read_dump('-').values()])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=file.getvalue(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == str([X.tolist()])


@pytest.mark.parametrize("form", ["%d", "%.18e", "%.1f"])
@pytest.mark.parametrize("delimiter", [" ", ",", "\n", ", "])
def test_decimal_text_is_read_in_any_arrangement(form: str, delimiter: str, tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.txt", X, fmt=form, delimiter=delimiter, header="a dump")
    assert _equal(tmp_path / "x.txt")


def test_decimal_text_has_unknown_numbers_and_remarks(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1 x // no\n# 4\nZ,-3\n")
    found = read_dump(tmp_path / "x.txt")["x"]
    assert isinstance(found, np.ma.MaskedArray)
    assert (found.mask.tolist(), found.data[[0, 3]].tolist()) == ([False, True, True, False], [1, -3])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1\n0a\n", "'0a' in line 2, where a decimal integer"),
        ("1.5", "'1.5' in line 1"),
        ("1e300", "'1e300' in line 1"),
    ],
)
def test_other_text_is_refused_by_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(IntsimError, match=f"x.txt must be a readable file of one tensor, got: {complaint}"):
        read_dump(tmp_path / "x.txt")


def test_raw_bytes_are_little_endian_elements_or_the_words_of_a_layout(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(X.astype("<i2").tobytes())
    assert _equal(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(X.astype("<i4").tobytes())
    assert _equal(tmp_path / "x.bin")
    layout = Layout(word_bits=64, tile=(2, 2))
    (tmp_path / "x.bin").write_bytes(arrange(X, layout).tobytes())
    assert not _equal(tmp_path / "x.bin")
    assert _equal(tmp_path / "x.bin", layout=layout)


def test_banks_of_a_device_are_joined(tmp_path: Path) -> None:
    layout = Layout(word_bits=32, banks=2, transposed=True)
    for number, words in enumerate(arrange(X, layout)):
        (tmp_path / f"x.bank{number}.memh").write_bytes(format_memh(words, 32))
    assert _equal(tmp_path, layout=layout)
    with pytest.raises(IntsimError, match="x must be 3 banks of hexadecimal words, as many in each, got others"):
        read_dump(tmp_path, layout=Layout(banks=3))


def test_a_folder_is_of_one_kind_and_one_file_a_tensor(tmp_path: Path) -> None:
    (tmp_path / "x.mem").write_text("01 02")
    (tmp_path / "log.txt").write_text("anything")
    assert list(read_dump(tmp_path)) == ["x"]
    (tmp_path / "x.hex").write_text("01 02")
    with pytest.raises(IntsimError, match="must have one file a tensor, got two of 'x'"):
        read_dump(tmp_path)


def test_floats_that_hold_no_integers_are_refused_by_their_place(tmp_path: Path) -> None:
    for wrong, name in ((0.5, "0.5"), (np.nan, "nan"), (2.0**63, r"9.2\S+"), (np.inf, "inf")):
        np.savez(tmp_path / "x.npz", x=np.array([[1.0, 2.0], [wrong, -3.0]]))
        with pytest.raises(IntsimError, match=rf"must be integers, got float64, {name} at \(1, 0\)"):
            read_dump(tmp_path / "x.npz")


def test_vectors_are_dumps_whatever_file_they_are_in(tmp_path: Path) -> None:
    arrays = {"inputs.a": np.arange(3), "outputs.y": np.arange(3, dtype=np.uint8)}
    with (tmp_path / "v.npz").open("wb") as file:
        write_npz(file, ["intsim vectors: 1"], arrays)
    write(tmp_path / "v.st", arrays, {"vectors": ["intsim vectors: 1"]}, VECTORS)
    for name in ("v.npz", "v.st"):
        found = read_dump(tmp_path / name)
        assert isinstance(found, Dump)
        assert compare(arrays, found).first is None


def test_words_keep_what_their_file_says(tmp_path: Path) -> None:
    (tmp_path / "x.memh").write_text("0a 1x\n")
    words = read_dump(tmp_path / "x.memh")["x"]
    assert isinstance(words, Words)
    assert (words.word_bits, words.data.tolist()) == (8, [[10], [16]])
