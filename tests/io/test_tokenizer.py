# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.io.tokenizer."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsim.errors import CheckpointError, IntsimError
from intsim.io.tokenizer import Encoding, encode, pad, parse_tokenizer, read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TinyBert = Callable[..., Path]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: TinyBert) -> "Tokenizer":
    return parse_tokenizer(read_tokenizer(tiny_bert()))


# ---- loading


def test_the_file_is_read_as_it_is(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    text = (path / "tokenizer.json").read_text(encoding="utf-8")
    assert read_tokenizer(path) == read_tokenizer(str(path)) == text


def test_padding_and_truncation_of_the_file_are_off(tokenizer: "Tokenizer") -> None:
    assert len(encode(tokenizer, "good", longest=99).ids) == 3
    assert len(encode(tokenizer, "good " * 50, longest=99).ids) == 52


def test_missing_tokenizer_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert(tokenizer=False)
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(path)
    assert str(caught.value) == f"checkpoint {path} must have tokenizer.json in it to read text, got none"


def test_tokenizer_that_is_not_text_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    (path / "tokenizer.json").write_bytes(b'"\xff"')
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(path)
    assert str(caught.value).startswith(f"{path / 'tokenizer.json'} must be a readable text file, got ")


def test_tokenizer_that_is_a_directory_is_refused(tiny_bert: TinyBert) -> None:
    path = tiny_bert(tokenizer=False)
    (path / "tokenizer.json").mkdir()
    with pytest.raises(CheckpointError, match="must be a readable text file, got "):
        read_tokenizer(path)


@pytest.mark.parametrize("text", ["", "{}", "[", '{"model": 1}'])
def test_invalid_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_tokenizer(text)
    start = "tokenizer.json must describe a tokenizer of the tokenizers package, got "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_importing_the_module_does_not_import_tokenizers() -> None:
    program = "import intsim.io.tokenizer, sys; print('tokenizers' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# ---- encoding


def test_text_is_encoded_with_special_tokens(tokenizer: "Tokenizer") -> None:
    assert encode(tokenizer, "A good movie!", longest=32) == Encoding(
        ids=[2, 5, 6, 8, 1, 3],
        type_ids=[0] * 6,
        tokens=["[CLS]", "a", "good", "movie", "[UNK]", "[SEP]"],
    )


def test_tab_separates_a_pair(tokenizer: "Tokenizer") -> None:
    encoding = encode(tokenizer, "good plot\tnot bad", longest=32)
    assert encoding.tokens == ["[CLS]", "good", "plot", "[SEP]", "not", "bad", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("text", ["", " ", "\n", "\u3000\r\n"])
def test_empty_text_is_refused(tokenizer: "Tokenizer", text: str) -> None:
    with pytest.raises(IntsimError) as caught:
        encode(tokenizer, text, longest=32)
    assert str(caught.value) == f"text must have more than white space, got {text!r}"


@pytest.mark.parametrize("text", ["\t", "good\t", "\tgood", " \tgood", "good\t\n"])
def test_empty_half_of_a_pair_is_refused(tokenizer: "Tokenizer", text: str) -> None:
    with pytest.raises(IntsimError) as caught:
        encode(tokenizer, text, longest=32)
    assert str(caught.value) == f"text must have more than white space on both sides of its TAB, got {text!r}"


@pytest.mark.parametrize("text", ["a\tb\tc", "a\t\tb", "\t\t"])
def test_second_tab_is_refused(tokenizer: "Tokenizer", text: str) -> None:
    with pytest.raises(IntsimError) as caught:
        encode(tokenizer, text, longest=32)
    assert str(caught.value) == "text must have at most one TAB, which separates a pair, got 2"


def test_lone_surrogate_is_refused(tokenizer: "Tokenizer") -> None:
    with pytest.raises(IntsimError) as caught:
        encode(tokenizer, "bad \udcff", longest=32)
    assert str(caught.value) == "text must be valid Unicode, got a lone surrogate at character 4"


def test_longest_counts_the_special_tokens(tokenizer: "Tokenizer") -> None:
    assert len(encode(tokenizer, "a " * 30, longest=32).ids) == 32
    with pytest.raises(IntsimError) as caught:
        encode(tokenizer, "a " * 31, longest=32)
    assert str(caught.value) == "text must be at most 32 tokens long, got 33"


@given(text=st.text(st.characters(exclude_categories=[])))
def test_every_text_is_encoded_or_refused(tokenizer: "Tokenizer", text: str) -> None:
    try:
        encoding = encode(tokenizer, text, longest=512)
    except IntsimError:
        return
    assert len(encoding.ids) == len(encoding.type_ids) == len(encoding.tokens) >= 2


# ---- batches


def test_pad_fills_with_zeros_on_the_right() -> None:
    input_ids, attention_mask, token_type_ids = pad(
        [
            Encoding(ids=[2, 7, 3], type_ids=[0, 0, 1], tokens=["[CLS]", "bad", "[SEP]"]),
            Encoding(ids=[2, 3], type_ids=[0, 1], tokens=["[CLS]", "[SEP]"]),
        ]
    )
    assert input_ids.tolist() == [[2, 7, 3], [2, 3, 0]]
    assert attention_mask.tolist() == [[True, True, True], [True, True, False]]
    assert token_type_ids.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert (input_ids.dtype, attention_mask.dtype, token_type_ids.dtype) == (np.int64, np.bool_, np.int64)


@given(st.lists(st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 1)), min_size=1, max_size=9), min_size=1))
def test_pad_keeps_every_sequence_under_its_mask(batch: list[list[tuple[int, int]]]) -> None:
    encodings = [
        Encoding(
            ids=[token for token, _ in row],
            type_ids=[segment for _, segment in row],
            tokens=["?"] * len(row),
        )
        for row in batch
    ]
    input_ids, attention_mask, token_type_ids = pad(encodings)
    shape = (len(batch), max(map(len, batch)))
    assert input_ids.shape == attention_mask.shape == token_type_ids.shape == shape
    for row, mask in enumerate(attention_mask):
        assert input_ids[row, mask].tolist() == encodings[row].ids
        assert token_type_ids[row, mask].tolist() == encodings[row].type_ids
        assert not np.any(mask[1:] & ~mask[:-1])
    assert not input_ids[~attention_mask].any()
    assert not token_type_ids[~attention_mask].any()


# ---- real tokenizers


def test_minilm(minilm: Path) -> None:
    encoding = encode(parse_tokenizer(read_tokenizer(minilm)), "a good movie\tnot bad", longest=512)
    assert encoding.ids == [101, 1037, 2204, 3185, 102, 2025, 2919, 102]
    assert encoding.tokens == ["[CLS]", "a", "good", "movie", "[SEP]", "not", "bad", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 0, 1, 1, 1]


def test_minilm_sst2(shared: Path) -> None:
    tokenizer = parse_tokenizer(read_tokenizer(shared / "models" / "minilm-sst2"))
    assert encode(tokenizer, "a good movie", longest=512).ids == [101, 1037, 2204, 3185, 102]
