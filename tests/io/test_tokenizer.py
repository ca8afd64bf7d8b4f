# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.io.tokenizer."""

import json
import pickle
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
from intsim.io.tokenizer import (
    Encoding,
    Line,
    encode,
    encode_words,
    pad,
    parse_tokenizer,
    read_lines,
    read_tokenizer,
    running,
    windows,
)

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
        offsets=[(0, 0), (0, 1), (2, 6), (7, 12), (12, 13), (0, 0)],
        word_ids=[None, 0, 1, 2, 3, None],
        sequence_ids=[None, 0, 0, 0, 0, None],
    )


def test_tab_separates_a_pair(tokenizer: "Tokenizer") -> None:
    encoding = encode(tokenizer, "good plot\tnot bad", longest=32)
    assert encoding.tokens == ["[CLS]", "good", "plot", "[SEP]", "not", "bad", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1, 1]
    assert encoding.sequence_ids == [None, 0, 0, None, 1, 1, None]
    assert encoding.word_ids == [None, 0, 1, None, 0, 1, None]
    assert encoding.offsets == [(0, 0), (0, 4), (5, 9), (0, 0), (0, 3), (4, 7), (0, 0)]


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
    assert str(caught.value) == "text must be at most 32 tokens long, got 33; --truncate shortens it"


@given(text=st.text(st.characters(exclude_categories=[])))
def test_every_text_is_encoded_or_refused(tokenizer: "Tokenizer", text: str) -> None:
    try:
        encoding = encode(tokenizer, text, longest=512)
    except IntsimError:
        return
    assert len(encoding.ids) == len(encoding.type_ids) == len(encoding.tokens) >= 2


@pytest.mark.parametrize(
    ("text", "longest", "tokens"),
    [
        ("good " * 9, 5, "[CLS] good good good [SEP]"),
        ("good " * 9 + "\tbad", 7, "[CLS] good good good [SEP] bad [SEP]"),
        ("good\t" + "bad " * 9, 7, "[CLS] good [SEP] bad bad bad [SEP]"),
        ("good " * 9 + "\t" + "bad " * 9, 8, "[CLS] good good [SEP] bad bad bad [SEP]"),
        ("good", 3, "[CLS] good [SEP]"),
    ],
)
def test_a_long_text_is_shortened_and_keeps_its_special_tokens(
    tokenizer: "Tokenizer", text: str, longest: int, tokens: str
) -> None:
    assert encode(tokenizer, text, longest=longest, truncate=True).tokens == tokens.split()


@pytest.mark.parametrize(("text", "longest"), [("good", 1), ("good\tbad", 2)])
def test_a_length_below_the_special_tokens_is_refused(tokenizer: "Tokenizer", text: str, longest: int) -> None:
    with pytest.raises(IntsimError, match=f"text must be at most {longest} tokens long, got [0-9]+$"):
        encode(tokenizer, text, longest=longest, truncate=True)


def test_shortening_one_text_leaves_the_next_alone(tokenizer: "Tokenizer") -> None:
    encode(tokenizer, "good " * 9, longest=4, truncate=True)
    assert len(encode(tokenizer, "good " * 9, longest=32).ids) == 11
    assert tokenizer.truncation is None


def test_a_line_of_a_file_is_named_where_it_is_refused(tokenizer: "Tokenizer", tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("good\n \n\na\tb\tc\n")
    lines = read_lines(file)
    assert lines == ["good", "a\tb\tc"]
    assert encode(tokenizer, lines[0], longest=9) == encode(tokenizer, "good", longest=9)
    for line in (lines[1], pickle.loads(pickle.dumps(lines[1]))):  # noqa: S301 - our own
        with pytest.raises(IntsimError) as caught:
            encode(tokenizer, line, longest=9)
        assert str(caught.value) == f"{file} line 4: text must have at most one TAB, which separates a pair, got 2"
    with pytest.raises(IntsimError, match=r"^here: text must be valid Unicode"):
        encode(tokenizer, Line("\udcff", "here"), longest=9)


def test_words_are_encoded_as_they_are_split(tokenizer: "Tokenizer") -> None:
    encoding = encode_words(tokenizer, ["not-bad", "a good", "plot"], longest=32)
    assert encoding.tokens == ["[CLS]", "not", "[UNK]", "bad", "a", "good", "plot", "[SEP]"]
    assert encoding.word_ids == [None, 0, 0, 0, 1, 1, 2, None]
    assert encode_words(tokenizer, ["good"] * 9, longest=4, truncate=True).word_ids == [None, 0, 1, None]
    for words, complaint in (
        ([], "text must have at least one word, got none"),
        (["good"] * 9, "text must be at most 4 tokens long, got 11; --truncate shortens it"),
        (["good", "\udcff"], "word must be valid Unicode, got a lone surrogate at character 0"),
    ):
        with pytest.raises(IntsimError) as caught:
            encode_words(tokenizer, words, longest=4)
        assert str(caught.value) == complaint


def test_windows_share_the_stride(tokenizer: "Tokenizer") -> None:
    context = "a good movie . the plot is not bad ."
    found = windows(tokenizer, "is the plot bad", context, longest=12, stride=2)
    starts = [
        [token for token, text in zip(each.tokens, each.sequence_ids, strict=True) if text == 1] for each in found
    ]
    assert starts == [
        ["a", "good", "movie", ".", "the"],
        [".", "the", "plot", "is", "not"],
        ["is", "not", "bad", "."],
    ]
    assert [context[slice(*each.offsets[6])] for each in found] == ["a", ".", "is"]
    assert all(each.tokens[:6] == ["[CLS]", "is", "the", "plot", "bad", "[SEP]"] for each in found)
    assert len(windows(tokenizer, "is the plot bad", context, longest=17, stride=2)) == 1


@pytest.mark.parametrize(
    ("question", "context", "stride", "complaint"),
    [
        ("is the plot bad", "good " * 99, 5, "question must leave more than 5 of 12 tokens to its context, got 5"),
        ("bad " * 40, "good", 0, "question must leave more than 0 of 12 tokens to its context, got -31"),
        (" ", "good", 0, "question must have more than white space, got ' '"),
        ("bad", "", 0, "context must have more than white space, got ''"),
        ("bad", "\ud800", 0, "context must be valid Unicode, got a lone surrogate at character 0"),
    ],
)
def test_windows_that_cannot_be_are_refused(
    tokenizer: "Tokenizer", question: str, context: str, stride: int, complaint: str
) -> None:
    with pytest.raises(IntsimError) as caught:
        windows(tokenizer, question, context, longest=12, stride=stride)
    assert str(caught.value) == complaint


# ---- tokenizers that fail


def _broken(tiny_bert: TinyBert, **parts: object) -> "Tokenizer":
    values = json.loads((tiny_bert() / "tokenizer.json").read_text())
    return parse_tokenizer(json.dumps({**values, **parts}))


def test_a_tokenizer_without_its_unknown_token_is_refused_where_it_is_missed(tiny_bert: TinyBert) -> None:
    vocabulary = {"a": 0, "[CLS]": 1, "[SEP]": 2}
    wordpiece = {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    unigram = {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": None, "byte_fallback": False}
    for model in ({**wordpiece, "max_input_chars_per_word": 100}, unigram):
        tokenizer = _broken(tiny_bert, model=model, added_tokens=[])
        assert "a" in encode(tokenizer, "a", longest=9).tokens
        for fail in (
            lambda: encode(tokenizer, "\u4f8b", longest=9),  # noqa: B023 - called here
            lambda: encode_words(tokenizer, ["\u4f8b"], longest=9),  # noqa: B023
            lambda: windows(tokenizer, "a", "\u4f8b", longest=9, stride=1),  # noqa: B023
        ):
            with pytest.raises(IntsimError) as caught:
                fail()
            assert str(caught.value).startswith("tokenizer must read every text, got ")
            assert "\n" not in str(caught.value)


def test_a_panic_of_the_package_is_one_sentence(tiny_bert: TinyBert) -> None:
    post = json.loads((tiny_bert() / "tokenizer.json").read_text())["post_processor"]
    tokenizer = _broken(tiny_bert, post_processor={**post, "special_tokens": {}})
    with pytest.raises(IntsimError, match=r"^tokenizer must read every text, got no entry found for key$"):
        encode(tokenizer, "a", longest=9)
    with pytest.raises(CheckpointError, match="must describe a tokenizer of the tokenizers package, got Precompiled"):
        _broken(tiny_bert, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})


@pytest.mark.parametrize("as_lists", [True, False])
def test_merges_that_would_end_the_process_are_refused(tiny_bert: TinyBert, as_lists: bool) -> None:
    def read(prefix: str | None, second: str, vocabulary: dict[str, int]) -> "Tokenizer":
        merges = [["a", second] if as_lists else f"a {second}"]
        model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "continuing_subword_prefix": prefix}
        return _broken(tiny_bert, model=model, post_processor=None, pre_tokenizer=None, decoder=None, added_tokens=[])

    assert read("#", "#b", {"a": 0, "#b": 1, "ab": 2}).encode("ab").tokens == ["ab"]
    for none in (None, ""):
        assert read(none, "b", {"a": 0, "b": 1, "ab": 2}).encode("ab").tokens == ["ab"]
    for prefix, second in {"#": "é", "##": "b", "é": "b"}.items():  # the first leaves half a character
        with pytest.raises(CheckpointError, match=f"a merge with '{second}', .* begins with '{prefix}'$"):
            read(prefix, second, {"a": 0, second: 1, "ab": 2})


def test_a_text_without_a_token_is_refused(tiny_bert: TinyBert) -> None:
    silent = _broken(
        tiny_bert, post_processor=None, normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    )
    for read in (
        lambda: encode(silent, "good", longest=9),
        lambda: encode_words(silent, ["good"], longest=9),
        lambda: windows(silent, "is it", "good", longest=9, stride=2),
        lambda: running(silent, "good"),
    ):
        with pytest.raises(IntsimError, match=r"^text must have a token, got none$"):
            read()


def test_an_interrupt_is_none_of_the_tokenizers_errors() -> None:
    class Interrupted:
        truncation = None

        def no_truncation(self) -> None: ...

        def encode(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Interrupted(), "a", longest=9)  # type: ignore[arg-type]


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


def test_pad_fills_with_the_id_it_is_told() -> None:
    rows = [Encoding(ids=[0] * length, type_ids=[1] * length, tokens=["<s>"] * length) for length in (1, 3)]
    input_ids, attention_mask, token_type_ids = pad(rows, pad_id=1)
    assert input_ids.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert attention_mask.tolist() == [[True, False, False], [True, True, True]]
    assert token_type_ids.tolist() == [[1, 0, 0], [1, 1, 1]]


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
