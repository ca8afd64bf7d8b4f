# SPDX-License-Identifier: Apache-2.0
"""Text to token ids: a checkpoint's own tokenizer.json, and batches of what it returns."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

import numpy as np
from numpy.typing import NDArray

from intsim.errors import CheckpointError, IntsimError, said
from intsim.io.bounded import MAX_DATA, MAX_JSON, MAX_LINE, parse_json, read_text
from intsim.io.gguf_file import find_gguf, read_gguf
from intsim.io.gguf_tokenizer import build_tokenizer
from intsim.io.sentence_transformers import read_text_config
from intsim.io.tokenizer_config import FOLDED, fold_config, fold_text_config
from intsim.models.world import Head

if TYPE_CHECKING:
    from tokenizers import Encoding as Tokens
    from tokenizers import Tokenizer

__all__ = [
    "WINDOW",
    "Encoding",
    "Line",
    "cut",
    "decoded",
    "encode",
    "encode_words",
    "has_tokenizer",
    "pad",
    "parse_tokenizer",
    "read_lines",
    "read_tokenizer",
    "running",
    "windows",
]


WINDOW: Final = 512
"""Tokens that a decoder reads of a text at a time, where its context has as many."""
VOCABULARY: Final = "tokenizer.ggml.model"  # in a GGUF file that holds one
MAX_IDS: Final = 1 << 22
"""Ids of a vocabulary, gaps included, for each of which tokenizers takes memory: the largest in use have a million."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A text as T tokens, special tokens included.

    Parameters
    ----------
    ids, type_ids, tokens
        Of each token its id, its segment id, and what it looks like.
    offsets
        Of each token the characters it stands for in its own text: the first, and the one past the last.
    word_ids, sequence_ids
        Of each token the number of its word in its own text, and of its text, 0 or 1; None for special tokens.
    """

    ids: Sequence[int]
    type_ids: Sequence[int]
    tokens: Sequence[str]
    offsets: Sequence[tuple[int, int]] = ()
    word_ids: Sequence[int | None] = ()
    sequence_ids: Sequence[int | None] = ()


class Line(str):
    """A text that knows the line it was read from, which its refusal then names."""

    __slots__ = ("place",)
    place: str

    def __new__(cls, text: str, place: str) -> Self:
        """Return ``text``, read from ``place``."""
        line = super().__new__(cls, text)
        line.place = place
        return line

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes it again in another process."""
        return type(self), (str(self), self.place)


def read_lines(path: str | Path, *, blank: bool = False) -> list[Line]:
    """Return the lines of a file that hold a text, or all of them where ``blank`` ones belong to it.

    Raises
    ------
    IntsimError
        If it cannot be read as UTF-8.
    """
    try:
        lines = read_text(path, most=MAX_DATA, longest_line=MAX_LINE).split("\n")
    except (OSError, ValueError) as error:
        msg = f"{path} must be a readable UTF-8 file, got {said(error)}"
        raise IntsimError(msg) from None
    numbered = enumerate(lines, start=1)
    return [Line(line, f"{path} line {number}") for number, line in numbered if blank or line.strip()]


def read_tokenizer(path: str | Path, *, head: Head = "none") -> str:
    """Return the text of tokenizer.json in the directory ``path``, with what the files beside it change of it.

    The text alone gives the ids, types and tokens of transformers' fast tokenizer, see ``fold_config``. Of a GGUF file
    it is made from the vocabulary there, see ``build_tokenizer``; the files beside it are read where it holds none.

    Parameters
    ----------
    path
        Of the checkpoint.
    head
        Of the model that reads: one that embeds sentences reads them as sentence-transformers does.

    Raises
    ------
    CheckpointError
        If there is none, it cannot be read, or tokenizer_config.json contradicts it in a way that is not known.
    """
    folder = Path(path)
    if (gguf := find_gguf(folder)) is not None:
        folder, read = gguf.parent, read_gguf(gguf)
        if VOCABULARY in read.metadata or not (folder / "tokenizer.json").exists():
            with _one_sentence(f"{gguf} must hold a whole vocabulary to read text", CheckpointError):
                return build_tokenizer(read)
    file = folder / "tokenizer.json"
    try:
        text = read_text(file, most=MAX_JSON, newline="")
    except FileNotFoundError:
        msg = f"checkpoint {path} must have tokenizer.json in it to read text, got none"
        raise CheckpointError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{file} must be a readable text file, got {said(error)}"
        raise CheckpointError(msg) from None
    tokenizer = parse_tokenizer(text)
    if (largest := max(tokenizer.get_vocab(with_added_tokens=False).values(), default=0)) >= MAX_IDS:
        msg = f"{file} must number its tokens below {MAX_IDS}, got {largest}"
        raise CheckpointError(msg)
    try:
        folded = fold_config(text, tokenizer.to_str(), folder)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        msg = f"{file} must have a tokenizer_config.json beside it as transformers writes it, got {said(error)}"
        raise CheckpointError(msg) from None
    return fold_text_config(folded, *read_text_config(path)) if head == "sentence-embedding" else folded


def has_tokenizer(path: str | Path) -> bool:
    """Say whether the checkpoint ``path`` can read text: by tokenizer.json, or the vocabulary in a GGUF file."""
    gguf = find_gguf(Path(path))
    folder = Path(path) if gguf is None else gguf.parent
    return (folder / "tokenizer.json").exists() or (gguf is not None and VOCABULARY in read_gguf(gguf).metadata)


def parse_tokenizer(text: str) -> "Tokenizer":
    """Return the tokenizer that a tokenizer.json describes, its padding switched off.

    Its ``truncation`` is None, or what ``read_tokenizer`` found in tokenizer_config.json, which ``encode`` heeds.

    Raises
    ------
    CheckpointError
        If it is not a tokenizer.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy, and many commands have no text

    with _one_sentence("tokenizer.json must describe a tokenizer of the tokenizers package", CheckpointError):
        _check_merges(parse_json(text))
        tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    if FOLDED not in text:
        tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: "Tokenizer", text: str, *, longest: int, truncate: bool = False) -> Encoding:
    """Return the tokens of a text.

    Parameters
    ----------
    tokenizer
        As ``parse_tokenizer`` returns it.
    text
        One text, or two with a TAB between them.
    longest
        How many tokens there may be: the length of the model's position table. A smaller ``model_max_length`` of the
        checkpoint stands instead.
    truncate
        Whether a longer text is shortened, the longer one of a pair first, special tokens kept, as transformers'
        ``truncation=True`` does it. Else it is refused.

    Raises
    ------
    IntsimError
        If there are more than two texts, one of them is empty or not valid Unicode, there are too many tokens or none,
        or the tokenizer fails.
    """
    what = f"{text.place}: text" if isinstance(text, Line) else "text"
    first, *second = text.split("\t")
    if len(second) > 1:
        msg = f"{what} must have at most one TAB, which separates a pair, got {len(second)}"
        raise IntsimError(msg)
    if not all(part.strip() for part in (first, *second)):
        where = " on both sides of its TAB" if second else ""
        msg = f"{what} must have more than white space{where}, got {text!r}"
        raise IntsimError(msg)
    _check_unicode(what, text)
    pair = second[0] if second else None
    with _reading(tokenizer, longest) as (limit, side):
        tokens = tokenizer.encode(first, pair)
        if truncate and len(tokens) > limit:
            tokenizer.enable_truncation(limit, direction=side)
            tokens = tokenizer.encode(first, pair)
    return _checked(what, tokens, limit, truncate=truncate)


def encode_words(tokenizer: "Tokenizer", words: Sequence[str], *, longest: int, truncate: bool = False) -> Encoding:
    """Return the tokens of a text that comes as words, as data for token classification does; see ``encode``.

    ``word_ids`` number ``words``.
    """
    if not words:
        msg = "text must have at least one word, got none"
        raise IntsimError(msg)
    for word in words:
        _check_unicode("word", word)
    with _reading(tokenizer, longest) as (limit, side):
        tokens = tokenizer.encode(list(words), is_pretokenized=True)
        if truncate and len(tokens) > limit:
            tokenizer.enable_truncation(limit, direction=side)
            tokens = tokenizer.encode(list(words), is_pretokenized=True)
    return _checked("text", tokens, limit, truncate=truncate)


def windows(tokenizer: "Tokenizer", question: str, context: str, *, longest: int, stride: int) -> list[Encoding]:
    """Return a question with each window of its context, as question answering reads a context that is too long.

    Parameters
    ----------
    tokenizer
        As ``parse_tokenizer`` returns it.
    question, context
        The first text, whole in each encoding, and the second one, cut into windows.
    longest
        How many tokens an encoding may have, see ``encode``.
    stride
        How many tokens two neighbouring windows share.

    Returns
    -------
    list of Encoding
        One where all of it fits; those of transformers' ``truncation="only_second"`` with overflowing tokens.

    Raises
    ------
    IntsimError
        If a text is empty or not valid Unicode, the question leaves no more than ``stride`` tokens of room, or the
        tokenizer fails.
    """
    for what, text in (("question", question), ("context", context)):
        if not text.strip():
            msg = f"{what} must have more than white space, got {text!r}"
            raise IntsimError(msg)
        _check_unicode(what, text)
    with _reading(tokenizer, longest) as (limit, side):
        tokens = tokenizer.encode(question, context)
        if len(tokens) <= limit:
            return [_checked("text", tokens, limit, truncate=False)]
        room = limit - sum(sequence != 1 for sequence in tokens.sequence_ids)
        if room <= stride:
            msg = f"question must leave more than {stride} of {limit} tokens to its context, got {room}"
            raise IntsimError(msg)
        tokenizer.enable_truncation(limit, stride=stride, strategy="only_second", direction=side)
        tokens = tokenizer.encode(question, context)
    found = [_encoding(each) for each in (tokens, *tokens.overflowing)]
    if any(found[0].type_ids):
        return found
    return [replace(each, type_ids=[0] * len(each.ids)) for each in found]  # the package types the first one alone


def running(tokenizer: "Tokenizer", text: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a text as a decoder reads it: open at its end, of any length.

    Parameters
    ----------
    tokenizer
        As ``parse_tokenizer`` returns it.
    text
        One text; a TAB is a character as any other.

    Returns
    -------
    before : list of int
        What the tokenizer puts in front of any text.
    ids : list of int
        Those of the text. What the tokenizer puts behind it is left out.

    Raises
    ------
    IntsimError
        If the text is empty or not valid Unicode, it has no token, or the tokenizer fails.
    """
    if not text:
        msg = "text must have a character, got none"
        raise IntsimError(msg)
    _check_unicode("text", text)
    with _reading(tokenizer, 0):
        tokens = tokenizer.encode(text)
    own = [place for place, sequence in enumerate(tokens.sequence_ids) if sequence is not None]
    if not own:
        msg = "text must have a token, got none"
        raise IntsimError(msg)
    return tokens.ids[: own[0]], tokens.ids[own[0] : own[-1] + 1]


def cut(before: Sequence[int], ids: Sequence[int], *, window: int, stride: int | None = None) -> list[Encoding]:
    """Return a text in windows, the last one as long as what is left.

    Parameters
    ----------
    before, ids
        As ``running`` returns them; ``before`` stands in front of every window.
    window
        Tokens of a window.
    stride
        How many tokens the next window begins later; by default each begins where the last one ends.

    Raises
    ------
    IntsimError
        If a window has no room for two tokens or one of the text, or a stride would leave tokens out.
    """
    room = window - len(before)
    if window < 2 or room < 1:
        msg = f"window must have at least {max(2, len(before) + 1)} tokens, got {window}"
        raise IntsimError(msg)
    step = room if stride is None else stride
    if not 1 <= step <= room:
        msg = f"stride must be in [1, {room}], what a window holds of a text, got {step}"
        raise IntsimError(msg)
    count = 1 + max(0, -((room - len(ids)) // step))
    parts = ([*before, *ids[start : start + room]] for start in range(0, count * step, step))
    return [Encoding(ids=part, type_ids=[0] * len(part), tokens=()) for part in parts]


def decoded(tokenizer: "Tokenizer", before: Sequence[int], tokens: Iterable[int]) -> Generator[str]:
    """Yield what each of ``tokens`` adds to the text of those ``before``, "" until its characters are whole.

    Bytes that make no character by the end become U+FFFD. Special tokens have no text.
    """
    ids, start, read = list(before), 0, len(before)
    shown: str = tokenizer.decode(ids)
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids[start:])
        if text.endswith("\ufffd"):
            yield ""
            continue
        yield text[len(shown) :]
        if last := tokenizer.decode(ids[read:]):  # else what follows would stand at the beginning of a text
            start, text = read, last
        shown, read = text, len(ids)
    yield tokenizer.decode(ids[start:])[len(shown) :]


def _check_merges(tree: Any) -> None:
    """Check what tokenizers does not, which cuts as many bytes off: where half a character is left the process ends."""
    match tree:
        case {"model": {"continuing_subword_prefix": str(prefix), "merges": [*merges]}}:
            for merge in merges:
                match merge.split(" ") if isinstance(merge, str) else merge:
                    case [*_, str(second)] if not second.startswith(prefix):
                        msg = f"a merge with {second!r}, which does not continue a word: that begins with {prefix!r}"
                        raise ValueError(msg)
                    case _:
                        pass
        case _:
            pass


@contextmanager
def _one_sentence(rule: str, error: type[IntsimError]) -> Generator[None]:
    """Raise what the tokenizers package raises, panics included, as an error of this one."""
    try:
        yield
    except IntsimError:
        raise
    except BaseException as raised:
        # the package raises nothing narrower than Exception, and a panic of its Rust code is none
        if not isinstance(raised, Exception) and type(raised).__name__ != "PanicException":
            raise
        msg = f"{rule}, got {said(raised)}"
        raise error(msg) from None


@contextmanager
def _reading(tokenizer: "Tokenizer", longest: int) -> Generator[tuple[int, str]]:
    """Yield how many tokens a text may have and the side it loses, and leave the tokenizer's truncation as it was."""
    own = cast("dict[str, Any] | None", tokenizer.truncation)
    tokenizer.no_truncation()
    try:
        with _one_sentence("tokenizer must read every text", IntsimError):
            yield (longest, "right") if own is None else (min(longest, own["max_length"]), own["direction"])
    finally:
        if own is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(**own)


def _check_unicode(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"{what} must be valid Unicode, got a lone surrogate at character {error.start}"
        raise IntsimError(msg) from None


def _checked(what: str, tokens: "Tokens", limit: int, *, truncate: bool) -> Encoding:
    if len(tokens) == 0:
        msg = f"{what} must have a token, got none"
        raise IntsimError(msg)
    if len(tokens) > limit:  # where truncated, special tokens alone are more
        hint = "" if truncate else "; --truncate shortens it"
        msg = f"{what} must be at most {limit} tokens long, got {len(tokens)}{hint}"
        raise IntsimError(msg)
    return _encoding(tokens)


def _encoding(tokens: "Tokens") -> Encoding:
    return Encoding(
        ids=tokens.ids,
        type_ids=tokens.type_ids,
        tokens=tokens.tokens,
        offsets=tokens.offsets,
        word_ids=tokens.word_ids,
        sequence_ids=tokens.sequence_ids,
    )


def pad(
    encodings: Sequence[Encoding], *, pad_id: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return one batch of B sequences, padded on the right to the longest, T tokens.

    Parameters
    ----------
    encodings
        The sequences.
    pad_id
        The id to pad with: that of the model's padding token, where positions are counted over the other ids.

    Returns
    -------
    input_ids : ndarray
        (B, T) int64.
    attention_mask : ndarray
        (B, T) bool, true where there is a token.
    token_type_ids : ndarray
        (B, T) int64, 0 where there is none.
    """
    lengths = [len(encoding.ids) for encoding in encodings]
    attention_mask = np.arange(max(lengths)) < np.array(lengths, dtype=np.int64)[:, None]
    input_ids = np.full(attention_mask.shape, pad_id, np.int64)
    token_type_ids = np.zeros_like(input_ids)
    for row, encoding in enumerate(encodings):
        input_ids[row, : lengths[row]] = encoding.ids
        token_type_ids[row, : lengths[row]] = encoding.type_ids
    return input_ids, attention_mask, token_type_ids
