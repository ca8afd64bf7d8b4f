# SPDX-License-Identifier: Apache-2.0
"""Texts as decoders read them: open at the end, in windows, and back to text as tokens come."""

from importlib import resources

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import intsim
from intsim.errors import IntsimError
from intsim.io.tokenizer import cut, decoded, parse_tokenizer, running

STORIES = parse_tokenizer(intsim.load(resources.files("intsim.embedded") / "stories").tokenizer or "")
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("éü猫🙂\n  ab"), min_size=1)


def words(template: str | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[A]": 0, "[B]": 1, "a": 2, "b": 3, "[U]": 4}, unk_token="[U]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        special = [("[A]", 0), ("[B]", 1)]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, pair="$A $B", special_tokens=special)
    return tokenizer


@pytest.mark.parametrize(
    ("template", "before"), [(None, []), ("$A [B]", []), ("[A] $A", [0]), ("[A] [B] $A [B] [A]", [0, 1])]
)
def test_what_stands_in_front_of_any_text_is_told_apart_and_what_stands_behind_is_left_out(template, before):
    tokenizer = words(template)
    assert running(tokenizer, "b a\tb\nc") == (before, [3, 2, 3, 4])


def test_the_tokenizers_own_truncation_cuts_no_running_text():
    tokenizer = words("[A] $A")
    tokenizer.enable_truncation(3)
    assert running(tokenizer, "a " * 50) == ([0], [2] * 50)
    assert tokenizer.truncation["max_length"] == 3


@pytest.mark.parametrize(("text", "message"), [("", "text must have a character"), ("a\ud800", "lone surrogate")])
def test_what_is_no_text_is_refused(text, message):
    with pytest.raises(IntsimError, match=message):
        running(STORIES, text)


@given(
    ids=st.lists(st.integers(0, 9), max_size=40),
    before=st.lists(st.integers(10, 12), max_size=2),
    room=st.integers(2, 12),
    data=st.data(),
)
def test_windows_begin_a_stride_apart_and_the_last_one_ends_with_the_text(ids, before, room, data):
    stride = data.draw(st.none() | st.integers(1, room))
    found = cut(before, ids, window=room + len(before), stride=stride)
    expected, start = [], 0
    while True:
        expected.append([*before, *ids[start : start + room]])
        if start + room >= len(ids):
            break
        start += stride or room
    assert [each.ids for each in found] == expected
    assert all(each.type_ids == [0] * len(each.ids) for each in found)


@pytest.mark.parametrize(
    ("before", "window", "stride", "message"),
    [
        ([], 1, None, "window must have at least 2 tokens, got 1"),
        ([1, 2], 2, None, "window must have at least 3 tokens, got 2"),
        ([1], 5, 5, r"stride must be in \[1, 4\], what a window holds of a text, got 5"),
        ([1], 5, 0, r"stride must be in \[1, 4\]"),
    ],
)
def test_windows_that_would_leave_tokens_out_are_refused(before, window, stride, message):
    with pytest.raises(IntsimError, match=message):
        cut(before, [1, 2, 3], window=window, stride=stride)


@given(text=TEXTS, place=st.integers(0, 30))
@example(text="a 🙂 猫\n\n b", place=2)
@example(text=" </s> a<s>b", place=0)
@example(text="  a", place=0)
def test_pieces_are_whole_characters_and_make_the_text(text, place):
    before, ids = running(STORIES, text)
    ids = [*before, *ids]
    first, rest = ids[:place], ids[place:]
    pieces = list(decoded(STORIES, first, rest))
    assert len(pieces) == len(rest) + 1
    known = STORIES.decode(first)
    if not known.endswith("\ufffd"):  # what goes on in the middle of a character begins with it
        assert known + "".join(pieces) == STORIES.decode(ids)
        if "\ufffd" not in text and not pieces[-1]:
            assert "\ufffd" not in "".join(pieces)


def test_a_character_comes_with_the_last_of_its_bytes_and_what_never_becomes_one_at_the_end():
    _, ids = running(STORIES, "a🙂b")
    assert list(decoded(STORIES, ids[:1], ids[1:])) == ["", "", "", "🙂", "b", ""]
    assert list(decoded(STORIES, ids[:1], ids[1:3])) == ["", "", "\ufffd\ufffd"]
