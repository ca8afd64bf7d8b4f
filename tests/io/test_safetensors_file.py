# SPDX-License-Identifier: Apache-2.0
"""Anyone's safetensors file, read without the package that wrote it."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from intsim.errors import CheckpointError
from intsim.io.safetensors_file import read_any

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]


def test_the_arrays_of_the_package_are_read_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        f"{dtype}.{shape}": rng.integers(0, 2, shape).astype(dtype) for dtype in DTYPES for shape in [(), 3, (2, 5)]
    }
    tensors["empty"] = np.zeros((0, 4), np.int16)
    save_file(tensors, tmp_path / "x", metadata={"intsim": "words", "format": "np"})
    read, text = read_any(tmp_path / "x")
    assert text == "words"
    assert list(read) == sorted(tensors)
    for name, values in tensors.items():
        assert read[name].dtype == values.dtype
        assert read[name].shape == values.shape
        assert np.array_equal(read[name], values)


def write(path, header, data=b"\x01\x02"):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    return path


def entry(start, end, shape=(2,), dtype="I8"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_a_header_by_hand_is_read(tmp_path):
    tensors, text = read_any(write(tmp_path / "x", {"b": entry(0, 1, (1,)), "a": entry(1, 2, ())}))
    assert {name: values.tolist() for name, values in tensors.items()} == {"a": 2, "b": [1]}
    assert text is None


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(0, 3, (3,))},  # behind the end
        {"a": entry(0, 2**50, (2**50,))},  # more than there is memory
        {"a": entry(0, 1, (1,))},  # not all of it
        {"a": entry(1, 2, (1,))},  # not from the start
        {"a": entry(0, 2), "b": entry(1, 2, (1,))},  # twice
        {"a": entry(0, 2, (3,))},  # another shape
        {"a": entry(0, 2, (-1, -2))},
        {"a": entry(0, 2, (0.5,))},
        {"a": entry(0, 2, "2")},
        {"a": entry(0, 2, dtype="BF16")},
        {"a": {"dtype": "I8"}},
        {"a": {"dtype": "I8", "shape": [2], "data_offsets": []}},
        {"a": 5},
        {"__metadata__": 5, "a": entry(0, 2)},
        [],
        b"{",
        b"\xff\xff",
        b"",
    ],
    ids=str,
)
def test_a_damaged_header_is_refused_in_a_sentence(tmp_path, header):
    with pytest.raises(CheckpointError, match="must be a readable safetensors file, got: "):
        read_any(write(tmp_path / "x", header))


def test_a_header_longer_than_any_is_not_read(tmp_path):
    (tmp_path / "x").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="got: a file that begins otherwise"):
        read_any(tmp_path / "x")


def test_a_file_that_ends_early_says_how_far_it_would_go(tmp_path):
    (tmp_path / "x").write_bytes(write(tmp_path / "y", {"a": entry(0, 2)}).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"1 bytes of tensors where 'a' ends at 2"):
        read_any(tmp_path / "x")
    write(tmp_path / "y", {"a": entry(1, 3)}, data=b"\x01\x02\x03")
    with pytest.raises(CheckpointError, match=r"tensor 'a' at \[1, 3\] instead of \[0, 2\]"):
        read_any(tmp_path / "y")
