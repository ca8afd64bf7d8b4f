# SPDX-License-Identifier: Apache-2.0
"""Whatever a file says, it is refused in one sentence before memory is taken."""

import io
import json
import resource
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from intsim.errors import IntsimError
from intsim.io import bounded
from intsim.io.bounded import MAX_DEPTH, MAX_DIGITS, MAX_LINE, parse_json, read_text
from intsim.io.dumps import MAX_INFLATED, read_dump
from intsim.io.huggingface import open_checkpoint
from intsim.io.memh import MAX_WORD, Words
from intsim.io.safetensors_file import read_any
from intsim.io.tokenizer import read_lines
from intsim.profile import INTSIM
from intsim.recipes import load_recipe
from intsim.report.tasks import squad
from intsim.report.tasks.inquiry import data_lines
from intsim.verify.vectors.cases import generate, minimum
from intsim.verify.vectors.judge import MAX_HEADER_LINES, read_answers
from intsim.verify.vectors.operators import bind
from intsim.verify.vectors.text import format_lines

ROOT: Final = Path(__file__).resolve().parents[2]
MODEL: Final = str(resources.files("intsim.embedded"))
ZERO: Final = "/dev/zero"
COMMANDS: Final = [
    ("run", ZERO, "--text", "good"),
    ("run", MODEL, "--ids", ZERO),
    ("eval", MODEL, "--task", "sst2", "--data", ZERO),
    ("quantize", "tests/data/embedded-float", "-o", "DIR", "--calibration", ZERO),
    ("quantize", "tests/data/embedded-float", "-o", "DIR", "--recipe", ZERO),
    ("inspect", MODEL, "--widths", "--observe", ZERO),
    ("inspect", ZERO),
    ("compare", ZERO, ZERO),
    ("compare", "-", ZERO),
    ("diagnose", ZERO, ZERO),
    ("vectors", "verify", "requantize", ZERO),
    ("vectors", "verify", "requantize"),
]


def test_lists_and_objects_may_be_nested_so_deep_and_no_deeper() -> None:
    for opening, closing in ("[]", ('{"a":', "}")):
        assert parse_json(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH) is not None
        for depth in (MAX_DEPTH + 1, 100_000):
            with pytest.raises(ValueError, match=f"^lists or objects nested deeper than {MAX_DEPTH}$"):
                parse_json(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize("text", ["{}", "[-{}]", '{{"a": {{"b": [1, {}]}}}}'])
def test_whole_numbers_may_be_so_long_and_no_longer(text: str) -> None:
    parse_json(text.format("9" * MAX_DIGITS))
    for digits in (MAX_DIGITS + 1, 5000):
        with pytest.raises(ValueError, match=f"^a number of more than {MAX_DIGITS} digits$"):
            parse_json(text.format("9" * digits))


def test_lists_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_CONTAINERS", 10)
    assert len(parse_json(f"[{','.join(['[]'] * 9)}]")) == 9
    with pytest.raises(ValueError, match=r"^JSON of more than 10 lists and objects$"):
        parse_json(f"[{','.join(['{}'] * 10)}]")


def test_a_text_may_be_so_long_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345\r\n78\r")
    assert read_text(path, most=10) == "12345\n78\n"
    assert read_text(path, most=10, longest_line=7, newline="") == "12345\r\n78\r"
    with pytest.raises(ValueError, match=r"^more than 9 bytes$"):
        read_text(path, most=9)
    with pytest.raises(ValueError, match=r"^a line 1 of more than 6 bytes$"):
        read_text(path, most=10, longest_line=6)


@pytest.mark.parametrize("read", [read_lines, data_lines, load_recipe])
def test_a_line_of_100_mb_is_refused(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"good\n" + b"x" * 100_000_000)
    with pytest.raises(
        IntsimError, match=f"a line 2 of more than {MAX_LINE} bytes|more than {bounded.MAX_RECIPE} bytes"
    ):
        read(path)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: " ".join(each).replace(MODEL, "MODEL"))
def test_an_endless_file_is_refused_by_every_command(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    given = [argument.replace("DIR", str(tmp_path / "out")) for argument in arguments]
    program = "import sys; from intsim.cli import main; main()"
    with Path(ZERO).open("rb") as zero:
        done = subprocess.run(
            [sys.executable, "-c", program, *given],
            cwd=ROOT,
            stdin=zero,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31)),
        )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("intsim: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) <= 501


def test_vectors_end_where_their_header_says_so() -> None:
    operator = bind("requantize", INTSIM, None)
    batch = next(generate(operator, seed=1, level=1, cases=minimum(operator, 1)))
    fields = [*operator.operands, operator.result]
    lines = format_lines(fields, np.concatenate([batch, operator.results(batch)], axis=1)).tobytes()
    header = b"# operator: requantize\n# cases: 2\n"
    with pytest.raises(IntsimError, match=r"^the vectors must have 2 cases as their header says, got more$"):
        read_answers(io.BytesIO(header + lines * 1000))
    with pytest.raises(IntsimError, match=f"at most {MAX_HEADER_LINES} lines before their first case, got more"):
        read_answers(io.BytesIO(b"# a remark\n" * 10_000_000))
    with pytest.raises(IntsimError, match=f"must be lines of text, got a line 3 of more than {MAX_LINE} bytes"):
        read_answers(io.BytesIO(header + b"0" * 2 * MAX_LINE))


def _npy(shape: tuple[int, ...], content: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def _archive(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def test_an_npz_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.asfortranarray(np.eye(3, dtype=np.int8)), "c": np.uint8(3)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "dump.npz", **arrays)
        found = read_dump(tmp_path / "dump.npz")
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values, strict=True)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.txt", b"text", "member 'x.txt', which is no .npy file"),
        ("x.npy", b"a longer text", "member 'x.npy' whose header is not NumPy's"),
        ("x.npy", _npy((10**12,), b""), r"member 'x.npy' of \d+ bytes for int32 \(1000000000000,\)"),
        ("x.npy", _npy((-1,), b""), r"member 'x.npy' of \d+ bytes for int32 \(-1,\)"),
        ("x.npy", b"\0" * (MAX_INFLATED + (1 << 21)), r"\d+ bytes in \d+"),
    ],
    ids=["no array", "no magic", "more than there is", "negative", "bomb"],
)
def test_a_member_of_an_npz_that_is_no_array_is_refused(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = _archive(tmp_path / "dump.npz", name, content)
    with pytest.raises(IntsimError, match=f"dump.npz must be a complete npz of plain arrays, got: .*{complaint}"):
        read_dump(path)


def test_an_encrypted_npz_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "dump.npz", "x.npy", _npy((1,), b"\0\0\0\0"))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(IntsimError, match=r"got: member 'x.npy' encrypted$"):
        read_dump(path)


def test_a_memh_word_may_be_so_long_and_no_longer(tmp_path: Path) -> None:
    (tmp_path / "x.memh").write_text("f" * MAX_WORD)
    words = read_dump(tmp_path)["x"]
    assert isinstance(words, Words)
    assert (words.word_bits, words.data.tolist()) == (4 * MAX_WORD, [[255] * (MAX_WORD // 2)])
    (tmp_path / "x.memh").write_text("0\n" + "f" * (MAX_WORD + 1))
    with pytest.raises(IntsimError, match=f"in line 2, a word of {MAX_WORD + 1} digits, more than {MAX_WORD}"):
        read_dump(tmp_path)


@pytest.mark.parametrize("size", [0, 100_000_001, 2**64 - 1])
def test_the_size_of_a_safetensors_header_is_bounded(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(size.to_bytes(8, "little") + b"{}")
    with pytest.raises(IntsimError, match="must be a readable safetensors file, got: "):
        read_any(path)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("num_labels", 10**9, "num_labels in config.json must be at most 1048576 without id2label, got 1000000000"),
        ("num_labels", 10**30, "num_labels in config.json must be at most 2147483647, got 10"),
        ("vocab_size", 2**31, "vocab_size in config.json must be at most 2147483647, got 2147483648"),
        ("pad_token_id", 2**63, "pad_token_id in config.json must be at most 2147483647, got 9223372036854775808"),
    ],
)
def test_a_count_of_a_billion_is_refused(tiny_bert: Any, field: str, value: int, complaint: str) -> None:
    path = tiny_bert()
    config = json.loads((path / "config.json").read_text()) | {field: value}
    if field == "num_labels":
        del config["id2label"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(IntsimError, match=complaint):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "nul\0", "n" * 300, "line\nfeed", "", ".", "s/x", 5, None])
def test_a_shard_must_be_a_file_beside_the_index(tiny_bert: Any, name: object) -> None:
    path = tiny_bert()
    (path / "model.safetensors").rename(path / "other")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"tensor": name}}))
    with pytest.raises(IntsimError, match="must be a file beside it, got none"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer_config.json", "modules.json", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": ', "", "\x00" * 100])
def test_json_beside_a_checkpoint_is_refused_in_a_sentence(tiny_bert: Any, file: str, content: str) -> None:
    from intsim.io.sentence_transformers import read_embedding  # noqa: PLC0415
    from intsim.io.tokenizer import read_tokenizer  # noqa: PLC0415

    path = tiny_bert()
    (path / "model.safetensors").rename(path / "model-1.safetensors")
    (path / file).write_text(content)
    read = {"tokenizer_config.json": read_tokenizer, "modules.json": read_embedding}.get(file, open_checkpoint)
    with pytest.raises(IntsimError, match=f"{file} must be .*got ") as raised:
        read(path)
    assert "Error" not in str(raised.value)


@pytest.mark.parametrize("content", ["a = " + "[" * 10_000, "a = " + "9" * 5000, ".".join("a" * 10_000) + " = 1", "x"])
def test_a_recipe_is_refused_in_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(content)
    with pytest.raises(IntsimError, match="must follow the form of the presets, got"):
        load_recipe(path)


def test_questions_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    for content in ("[" * 100_000, '{"data": 5}', "{}", "[]"):
        path.write_text(content)
        with pytest.raises(IntsimError, match=r"must be JSON in the layout of SQuAD v1.1, got"):
            squad.read(path)


def test_a_piped_dump_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "dump.npz", x=np.arange(3))
    program = "from intsim.io.dumps import read_dump; print(read_dump('/dev/stdin')['x'].tolist())"
    piped = subprocess.run(
        [sys.executable, "-c", program],
        input=(tmp_path / "dump.npz").read_bytes(),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert piped.stdout == b"[0, 1, 2]\n"
