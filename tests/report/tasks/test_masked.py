# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.tasks.masked: every token is guessed from all others, and what that makes together."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from intsim.errors import IntsimError
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.report.evaluate import evaluate_runner, prepare, read_task
from intsim.report.tasks import masked
from intsim.report.tasks.inquiry import Reader

TinyBert = Callable[..., Path]
TEXTS: Final = ["a good movie .", "bad", "the plot is not good , not bad .", "xyz", "good\tbad movie"]
SPECIAL: Final = ("[CLS]", "[SEP]")


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: TinyBert) -> Tokenizer:
    return parse_tokenizer((tiny_bert() / "tokenizer.json").read_text())


def _reader(tokenizer: Tokenizer, **changes: Any) -> Reader:
    values: dict[str, Any] = {"head": "masked-lm", "labels": [], "tokenizer": tokenizer, "longest": 16}
    return Reader(**(values | changes))


def _logit(ids: list[int], types: list[int], place: int, token: int) -> int:
    """Return what the model of these tests thinks of a token, from all others and where they are."""
    others = sum(7 ** (abs(place - i) % 4) * (each + 3 * types[i]) for i, each in enumerate(ids) if i != place)
    return (others + token * token * 13) % 41 - 20


def _runner(size: int, seen: list[Any], factor: float = 1) -> Any:
    def run(ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
        assert mask.all()
        seen.append(ids)
        values = [
            [
                [factor * _logit(row.tolist(), kinds.tolist(), place, token) for token in range(size)]
                for place in range(len(row))
            ]
            for row, kinds in zip(ids, types, strict=True)
        ]
        return np.array(values)

    return run


def _by_hand(tokenizer: Tokenizer, texts: list[str], unit: float) -> tuple[float, int]:
    size, total, count = tokenizer.get_vocab_size(), 0.0, 0
    for text in texts:
        encoding = encode(tokenizer, text, longest=16)
        ids, types = list(encoding.ids), list(encoding.type_ids)
        for place, token in enumerate(encoding.tokens):
            if token in SPECIAL:
                continue
            logits = [unit * _logit(ids, types, place, each) for each in range(size)]
            total -= logits[ids[place]] - math.log(math.fsum(math.exp(logit) for logit in logits))
            count += 1
    return math.exp(total / count), count


@pytest.mark.parametrize(("tokens", "copies"), [(1, 1), (35, 3), (1024, 9)])
def test_the_perplexity_is_that_by_hand(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tokens: int, copies: int
) -> None:
    monkeypatch.setattr(masked, "TOKENS", tokens)
    seen: list[Any] = []
    inquiry = prepare("mlm", TEXTS, _reader(tokenizer))
    result = evaluate_runner("mlm", TEXTS, inquiry, _runner(tokenizer.get_vocab_size(), seen), unit=0.125)
    perplexity, count = _by_hand(tokenizer, TEXTS, 0.125)
    assert result.metrics == {"perplexity": pytest.approx(perplexity, rel=1e-13), "tokens": count}
    assert type(result.metrics["tokens"]) is int
    assert result.n == len(TEXTS)
    assert max(len(ids) for ids in seen if ids.shape[1] == 11) == copies
    assert sum(len(ids) for ids in seen) == count


def test_each_token_is_masked_alone_and_special_ones_never(tokenizer: Tokenizer) -> None:
    seen: list[Any] = []
    inquiry = prepare("mlm", ["a good movie"], _reader(tokenizer))
    evaluate_runner("mlm", ["a good movie"], inquiry, _runner(tokenizer.get_vocab_size(), seen))
    copies = [[tokenizer.id_to_token(each) for each in ids] for ids in seen[0].tolist()]
    assert copies == [
        ["[CLS]", "[MASK]", "good", "movie", "[SEP]"],
        ["[CLS]", "a", "[MASK]", "movie", "[SEP]"],
        ["[CLS]", "a", "good", "[MASK]", "[SEP]"],
    ]


def test_an_unknown_word_is_a_token_as_any_other(tokenizer: Tokenizer) -> None:
    inquiry = prepare("mlm", ["good \u4e00"], _reader(tokenizer))
    assert inquiry.encodings[0].tokens == ["[CLS]", "good", "[UNK]", "[SEP]"]
    result = evaluate_runner("mlm", ["x"], inquiry, _runner(tokenizer.get_vocab_size(), []))
    assert result.metrics["tokens"] == 2


def test_equal_logits_give_the_size_of_the_vocabulary(tokenizer: Tokenizer) -> None:
    def run(ids: NDArray[Any], _mask: Any, _types: Any) -> NDArray[Any]:
        return np.full((*ids.shape, 66), -(2**31), np.int32)

    inquiry = prepare("mlm", TEXTS, _reader(tokenizer))
    assert evaluate_runner("mlm", TEXTS, inquiry, run).metrics["perplexity"] == pytest.approx(66)


def test_large_logits_do_not_overflow(tokenizer: Tokenizer) -> None:
    def run(ids: NDArray[Any], _mask: Any, _types: Any) -> NDArray[Any]:
        logits = np.zeros((*ids.shape, 66), np.int32)
        logits[..., tokenizer.token_to_id("good")] = 2**30
        return logits

    for text, expected in (("good", 1.0), ("bad", math.inf)):
        inquiry = prepare("mlm", [text], _reader(tokenizer))
        with np.errstate(over="ignore"):
            assert evaluate_runner("mlm", [text], inquiry, run).metrics["perplexity"] == expected


def test_the_float_model_is_scored_beside_it(tokenizer: Tokenizer) -> None:
    size = tokenizer.get_vocab_size()
    inquiry = prepare("mlm", TEXTS, _reader(tokenizer))
    result = evaluate_runner(
        "mlm", TEXTS, inquiry, _runner(size, []), unit=0.25, reference=_runner(size, [], factor=0.125)
    )
    assert result.metrics["perplexity"] == pytest.approx(_by_hand(tokenizer, TEXTS, 0.25)[0])
    assert result.reference == {
        "perplexity": pytest.approx(_by_hand(tokenizer, TEXTS, 0.125)[0]),
        "tokens": result.metrics["tokens"],
    }
    assert result.cosine == pytest.approx(1)


def test_the_digest_is_that_of_every_texts_digest_in_the_order_of_the_data(tokenizer: Tokenizer) -> None:
    run = _runner(tokenizer.get_vocab_size(), [])
    inquiry = prepare("mlm", TEXTS, _reader(tokenizer))
    digests = b""
    for encoding in inquiry.encodings:
        ids, types = np.array([encoding.ids]), np.array([encoding.type_ids])
        rows = []
        for place, token in enumerate(encoding.tokens):
            if token not in SPECIAL:
                copy = ids.copy()
                copy[0, place] = tokenizer.token_to_id("[MASK]")
                rows.append(run(copy, np.ones(ids.shape, bool), types)[0, place])
        digests += hashlib.sha256(np.array(rows, "<i4").tobytes()).digest()
    found = evaluate_runner("mlm", TEXTS, inquiry, run)
    assert found.digest == hashlib.sha256(digests).hexdigest()


def test_texts_are_read_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes("\ufeffa good \u2028 movie\r\n\r\n \nbad\tgood\n".encode())
    assert read_task("mlm", tmp_path / "texts") == ["a good \u2028 movie", "bad\tgood"]


def test_a_text_that_is_refused_is_named_by_its_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text(f"good\n\n{'bad ' * 20}\n")
    with pytest.raises(IntsimError) as caught:
        prepare("mlm", read_task("mlm", tmp_path / "texts"), _reader(tokenizer))
    assert str(caught.value).startswith(f"{tmp_path / 'texts'} line 3: text must be at most 16 tokens long, got 22")


def test_a_file_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("\n \n")
    with pytest.raises(IntsimError, match="must hold a text on a line, got none"):
        masked.read(tmp_path / "texts")


def test_the_mask_may_be_that_of_roberta(tokenizer: Tokenizer) -> None:
    json = tokenizer.to_str().replace("[MASK]", "<mask>")
    assert masked.mask_id(Tokenizer.from_str(json)) == tokenizer.token_to_id("[MASK]")


@pytest.mark.parametrize(
    ("changes", "text", "complaint"),
    [
        ({"head": "none"}, "good", "model must have a masked language model's head for mlm, got no head"),
        ({}, "\u200b", "text must have a token to mask, got none in '\\u200b'"),
        ({}, "good " * 20, "text must be at most 16 tokens long, got 22"),
    ],
)
def test_what_does_not_fit_is_refused(tokenizer: Tokenizer, changes: dict[str, Any], text: str, complaint: str) -> None:
    with pytest.raises(IntsimError) as caught:
        prepare("mlm", ["good", text], _reader(tokenizer, **changes))
    assert str(caught.value).startswith(complaint)


def test_a_text_that_is_cut_off_counts_the_tokens_it_has_left(tokenizer: Tokenizer) -> None:
    inquiry = prepare("mlm", ["good " * 20], _reader(tokenizer, truncate=True))
    result = evaluate_runner("mlm", ["x"], inquiry, _runner(tokenizer.get_vocab_size(), []))
    assert result.metrics["tokens"] == 14


def test_a_tokenizer_without_mask_is_refused(tokenizer: Tokenizer) -> None:
    other = Tokenizer.from_str(tokenizer.to_str().replace("[MASK]", "[HIDE]"))
    with pytest.raises(IntsimError) as caught:
        prepare("mlm", ["good"], _reader(other))
    rule = "tokenizer must have a token for what is masked, [MASK] or <mask>"
    assert str(caught.value) == f"{rule}, got neither"
